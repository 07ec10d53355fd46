"""One file -> the same file with its findings mended, as far as that can be proven right."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from session_guard.linter import finding, lint, parse, unfixable, violations
from session_guard.rule import Applicability, Finding

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from session_guard.module import Module
    from session_guard.project import Project
    from session_guard.rule import Rewrite, Rule, Violation

# Each pass mends at least one finding; more passes than this mean that two fixes undo each other.
_MOST_PASSES = 100


@dataclass(frozen=True, slots=True)
class FixResult:
    """What became of one file."""

    data: bytes
    """The file's bytes after the fixes; those it came with where nothing was fixed."""
    applied: list[Finding]
    """The findings that were fixed, with the positions they had when they were."""
    remaining: list[Finding]
    """What is found in `data`; the help of each says why it was not fixed."""


def fix(
    display_path: str,
    path: Path,
    data: bytes,
    project: Project,
    rules: Sequence[Rule],
    *,
    unsafe: bool,
    fingerprints: bool = False,
) -> FixResult:
    """Apply the safe fixes, and the unsafe ones if `unsafe`, until there are none left.

    A file whose fixed form could not be parsed, or would still have the findings, is given back as
    it came.
    """

    def found_in(data: bytes) -> list[Finding]:
        return lint(display_path, path, data, project, rules, fingerprints=fingerprints)

    original, applied, before = data, list[Finding](), (0, 0)
    for _ in range(_MOST_PASSES):
        module = parse(display_path, path, data, project, rules)
        if module is None:
            return FixResult(data, applied, [])
        if isinstance(module, Finding):
            if not applied:
                return FixResult(data, [], found_in(data))
            return _given_up(original, found_in(original), "parse")
        found = violations(module, rules)
        if applied and _size(found) >= before:
            return _given_up(original, found_in(original), "be free of it")
        chosen = _chosen(module, found, unsafe=unsafe)
        if not chosen:
            remaining = [
                finding(display_path, module, *item, fingerprints=fingerprints) for item in found
            ]
            return FixResult(data, applied, remaining)
        before = _size(found)
        applied.extend(
            finding(display_path, module, *item, fingerprints=fingerprints) for item in chosen
        )
        data = _applied(module, data, chosen)
    return _given_up(original, found_in(original), "settle")


def _size(found: Sequence[tuple[Rule, Violation]]) -> tuple[int, int]:
    """Return what each pass makes smaller; what is mended may leave a suppression of no use."""
    unused = sum(rule.judges_suppressions for rule, _ in found)
    return len(found) - unused, unused


def _chosen(
    module: Module, found: Sequence[tuple[Rule, Violation]], *, unsafe: bool
) -> list[tuple[Rule, Violation]]:
    """Return the findings to mend in this pass: of those whose fixes overlap, the first."""
    from session_guard.edits import meet

    if unfixable(module) is not None:
        return []
    chosen: list[tuple[Rule, Violation]] = []
    taken: list[Rewrite] = []
    for rule, violation in found:
        rewrite = violation.rewrite
        if rewrite is None or (rewrite.applicability is Applicability.UNSAFE and not unsafe):
            continue
        if not any(meet(module, rewrite, other) for other in taken):
            chosen.append((rule, violation))
            taken.append(rewrite)
    return chosen


def _applied(module: Module, data: bytes, chosen: Sequence[tuple[Rule, Violation]]) -> bytes:
    from session_guard.edits import apply, render

    rewrites = [violation.rewrite for _, violation in chosen if violation.rewrite is not None]
    return apply(data, render(module, rewrites), module.decoded.encoding)


def _given_up(data: bytes, found: Sequence[Finding], what: str) -> FixResult:
    """Return the file as it came, its findings without the fixes that did not work."""
    remaining = [
        replace(
            item,
            fix=None,
            help=f"{item.help}; not fixed: the fixed file would not {what}; please report this",
        )
        for item in found
    ]
    return FixResult(data, [], remaining)
