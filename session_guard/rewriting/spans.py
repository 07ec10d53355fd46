"""Changes of a text, and where its lines begin."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING

from session_guard.records import dataclass

if TYPE_CHECKING:
    from libcst.metadata import CodeRange

# Where Python's tokenizer ends a line; `str.splitlines` also ends one at a form feed.
_NEWLINE = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Change:
    """Replace the characters from `start` to `end` by `text`."""

    start: int
    end: int
    text: str

    def meets(self, other: Change) -> bool:
        """Return whether both change the same text, or one inserts at an end of the other."""
        if self.start < other.end and other.start < self.end:
            return True
        is_insertion = self.start == self.end or other.start == other.end
        return is_insertion and self.start <= other.end and other.start <= self.end

    def trimmed(self, old: str) -> Change:
        """Leave out what the new text has in common with the text `old` that it replaces."""
        new = self.text
        shorter = min(len(old), len(new))
        before = next((i for i in range(shorter) if old[i] != new[i]), shorter)
        rest = shorter - before
        behind = next((i for i in range(rest) if old[-1 - i] != new[-1 - i]), rest)
        return Change(self.start + before, self.end - behind, new[before : len(new) - behind])


class Lines:
    """A text's lines, as Python counts them."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.length = len(text)
        self._starts = [0, *(match.end() for match in _NEWLINE.finditer(text))]

    def offset(self, line: int, column: int) -> int:
        """Return the offset of a position; lines count from 1, columns from 0."""
        return self._starts[line - 1] + column

    def span(self, position: CodeRange) -> tuple[int, int]:
        """Return the offsets of a node's first character and of the one behind its last."""
        start, end = position.start, position.end
        # LibCST counts a line's end where the last line of a file has none.
        last = self.offset(end.line, end.column) if end.line <= len(self._starts) else self.length
        return self.offset(start.line, start.column), last

    def start(self, line: int) -> int:
        """Return the offset of a line's first character; of a line behind the last, the end."""
        return self._starts[line - 1] if line <= len(self._starts) else len(self._text)

    def line_at(self, offset: int) -> int:
        """Return the number of the line that holds `offset`."""
        return bisect_right(self._starts, offset)

    def text(self, line: int) -> str:
        """Return a line without its end."""
        return _NEWLINE.sub("", self._text[self.start(line) : self.start(line + 1)])

    def indentation(self, line: int) -> str:
        """Return the blanks that a line begins with."""
        text = self.text(line)
        return text[: len(text) - len(text.lstrip())]

    def before(self, offset: int) -> str:
        """Return what stands before `offset` in its line."""
        return self._text[self.start(self.line_at(offset)) : offset]

    def behind(self, offset: int) -> str:
        """Return what stands behind `offset` in its line, without the line's end."""
        return self.text(self.line_at(offset))[len(self.before(offset)) :]
