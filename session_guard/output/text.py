"""Findings for people: the place, what is wrong, the line with the spot marked, and what to do."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from click import style

from session_guard.output.masking import masked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from session_guard.rule import Finding

_WIDTH = 110
"""Terminal cells of a source line that are shown; what lies further from the spot is cut."""
_BEFORE = 30
"""Cells that are shown before the spot where a line is cut."""
_TAB = "    "
_CUT = "…"


def render(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield each finding, as soon as it is there."""
    for finding in findings:
        yield "\n".join([_headline(finding), *_excerpt(finding), ""]) + "\n"


def _headline(finding: Finding) -> str:
    place = f"{finding.path}:{finding.line}:{finding.column}:"
    code = style(finding.code, fg="red", bold=True)
    return f"{style(printable(place), bold=True)} {code} {printable(masked(finding.message))}"


def _excerpt(finding: Finding) -> Iterator[str]:
    number = str(finding.line)
    margin = " " * len(number)
    bar = style("|", fg="blue")
    if finding.source_line.strip():
        line, marks = _marked(finding)
        yield f"{margin} {bar}"
        yield f"{style(number, fg='blue')} {bar} {line}".rstrip()
        yield f"{margin} {bar} {marks}"
    for index, text in enumerate(masked(finding.help).splitlines()):
        label = f"{style('=', fg='blue')} {style('help:', bold=True)}" if not index else "       "
        yield f"{margin} {label} {printable(text)}"


def _marked(finding: Finding) -> tuple[str, str]:
    """Return the source line as it is shown, and the line of carets below it."""
    cells = _cells(finding.source_line)
    start = min(finding.spot[0], len(cells))
    end = max(min(finding.spot[1], len(cells)), start + 1)
    first, last = _window([width for _, width in cells], start, end)
    shown = "".join(text for text, _ in cells[first:last])
    before = sum(width for _, width in cells[first:start])
    marked = sum(width for _, width in cells[start : min(end, last)])
    line = (_CUT if first else "") + shown + (_CUT if last < len(cells) else "")
    carets = "^" * max(marked, 1)
    return line, " " * (before + bool(first)) + style(carets, fg="red", bold=True)


def _cells(line: str) -> list[tuple[str, int]]:
    """Return, for each character of a line, what is shown for it and how many cells that takes."""
    return [_cell(character) for character in line.rstrip()]


def _cell(character: str) -> tuple[str, int]:
    if character == "\t":
        return _TAB, len(_TAB)
    if character.isascii():
        return printable(character), 1
    import unicodedata

    if unicodedata.combining(character):
        return character, 0
    wide = unicodedata.east_asian_width(character) in "WF"
    return printable(character), 2 if wide else 1


def _window(widths: list[int], start: int, end: int) -> tuple[int, int]:
    """Return the first and last index of the cells to show, so that the spot is among them."""
    from bisect import bisect_left, bisect_right

    offsets = [0, *accumulate(widths)]
    first = 0
    if offsets[min(end, len(widths))] > _WIDTH:
        first = bisect_left(offsets, offsets[start] - _BEFORE)
    return first, bisect_right(offsets, offsets[first] + _WIDTH) - 1


def printable(text: str) -> str:
    """Replace what a terminal would act on, or hide, by a replacement character."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
