"""Patterns as in `.gitignore`; pathspec is imported when there is one to match."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


def verdict(patterns: tuple[str, ...], path: str) -> bool | None:
    """Return True where `patterns` name `path`, False where a `!` takes it back, else None.

    `path` is relative to the patterns' folder, with `/` between its parts; a folder's ends in `/`.
    A pattern that means nothing names nothing, as in git.
    """
    if not patterns:
        return None
    return _compile(patterns).check_file(path).include


@cache
def _compile(patterns: tuple[str, ...]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec
    from pathspec.patterns.gitignore import GitIgnorePatternError
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    compiled = []
    for pattern in patterns:
        try:
            compiled.append(GitIgnoreSpecPattern(_as_git_means_it(pattern)))
        except GitIgnorePatternError:
            continue
    return GitIgnoreSpec(compiled, backend="simple")


def _as_git_means_it(pattern: str) -> str:
    # pathspec takes `a/**` to name the folder `a` too, and then no `!a/b` can take `a/b` back.
    return f"{pattern}/*" if pattern.endswith("/**") else pattern
