"""Patterns as in `.gitignore`, matched as git does: one entry after the other, from the top down.

pathspec matches whole paths at once, and so takes `!/a` to bring back all that is in `a`.
"""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import NamedTuple


def verdict(patterns: tuple[str, ...], path: str) -> bool | None:
    """Return True where `patterns` name `path` itself, False where a `!` takes it back, else None.

    `path` is relative to the patterns' folder, with `/` between its parts; a folder's ends in `/`.
    A pattern that means nothing names nothing.
    """
    name = path[path.rfind("/", 0, -1) + 1 :]
    for group in _compiled(patterns):
        if group.by_name.fullmatch(name) or group.by_path.fullmatch(path):
            return not group.takes_back
    return None


def covers(patterns: tuple[str, ...], path: str) -> bool:
    """Return whether one of `patterns`, none with a `!`, names the file `path` or a folder above.

    `path` is relative to the patterns' folder, with `/` between its parts.
    """
    return _covers_folder(patterns, path[: path.rfind("/") + 1]) or bool(verdict(patterns, path))


@cache
def _covers_folder(patterns: tuple[str, ...], folder: str) -> bool:
    """Return whether one of `patterns` names a folder, which ends in `/`, or one above it."""
    if not folder:
        return False
    above = folder[: folder.rfind("/", 0, -1) + 1]
    return _covers_folder(patterns, above) or bool(verdict(patterns, folder))


class _Group(NamedTuple):
    """Patterns that stand together and mean the same: all with a `!`, or all without."""

    takes_back: bool
    by_name: re.Pattern[str]
    by_path: re.Pattern[str]


@cache
def _compiled(patterns: tuple[str, ...]) -> tuple[_Group, ...]:
    """Return the groups in the order in which they are asked: the last pattern decides."""
    groups = []
    for takes_back, group in itertools.groupby(patterns, key=lambda line: line.startswith("!")):
        by_name: list[str] = []
        by_path: list[str] = []
        for line in group:
            pattern = _without_trailing_spaces(line.removeprefix("!"))
            is_folder = pattern.endswith("/")
            pattern = pattern.removesuffix("/")
            expression = _expression(pattern.removeprefix("/"))
            if expression is not None:
                into = by_path if "/" in pattern else by_name
                # The look-behind: the `*` of `a/*` is not the empty name in `a/`.
                into.append(f"{expression}(?<!/)/{'' if is_folder else '?'}")
        groups.append(_Group(takes_back, _any_of(by_name), _any_of(by_path)))
    return tuple(reversed(groups))


def _any_of(expressions: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(expressions) if expressions else r"(?!)", re.DOTALL)


def _without_trailing_spaces(pattern: str) -> str:
    stripped = pattern.rstrip(" ")
    escapes = len(stripped) - len(stripped.rstrip("\\"))
    return pattern[: len(stripped) + 1] if escapes % 2 else stripped


_PIECE = r"""(?xs)
        (?P<deep> (?:(?<=/)|\A) \*\*+ (?:/|\Z) )
      | (?P<stars> \*+ )
      | (?P<one> \? )
      | \[ (?P<not> [!^]? )
        (?P<members> (?:\\.|\[:[a-z]+:\]|[^\\]) (?:\\.|\[:[a-z]+:\]|[^\]\\])* ) \]
      | \\ (?P<escaped> . )
      | (?P<literal> [^\\\[] )
    """
_MEMBER = r"(?s)\[:(?P<kind>[a-z]+):\]|(?P<low>\\.|.)(?:-(?P<high>\\.|[^\]]))?"
_KINDS = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "digit": "0-9",
    "lower": "a-z",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\s",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


def _expression(pattern: str) -> str | None:
    """Translate a pattern without the slashes at its ends; None where it can match nothing."""
    if not pattern:
        return None
    # Compiled here: most projects have no patterns but the default ones.
    next_token = re.compile(_PIECE).match
    parts, position = [], 0
    while position < len(pattern):
        token = next_token(pattern, position)
        if token is None:
            return None
        position = token.end()
        if token["deep"]:
            parts.append("(?:.*/)?" if token["deep"].endswith("/") else ".+")
        elif token["stars"]:
            parts.append("[^/]*")
        elif token["one"]:
            parts.append("[^/]")
        elif token["members"]:
            parts.append(_set(token["not"], token["members"]))
        else:
            parts.append(re.escape(token["escaped"] or token["literal"]))
    return "".join(parts)


def _set(negation: str, members: str) -> str:
    inside = ""
    for member in re.finditer(_MEMBER, members):
        if member["kind"]:
            inside += _KINDS.get(member["kind"], "")
            continue
        low = member["low"][-1]
        high = member["high"][-1] if member["high"] else low
        # To git `[b-a]` is the letter b.
        inside += f"{re.escape(low)}-{re.escape(max(low, high))}"
    if negation:
        return f"[^/{inside}]"
    return f"(?!/)[{inside}]" if inside else "(?!)"
