"""Takes arguments out of calls and items out of displays, and puts them in behind the others.

What changes is the text between its neighbours; these stay as they are, with their comments.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.records import dataclass
from session_guard.rewriting.import_style import style_for
from session_guard.rewriting.spans import Change

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from session_guard.module import Module

Container = cst.Call | cst.Dict
"""A call with its arguments, or a dictionary display with its items."""

_SAME_LINE_COMMENT = re.compile(r"[ \t\f]*#[^\r\n]*")
_COMMENT_ABOVE = re.compile(r"[\r\n][ \t\f]*#[^\r\n]*(?:\r\n|\r|\n)[ \t\f]*\Z")
_LAST_COMMENT = re.compile(r"(?P<indent>[ \t\f]*)#[^\r\n]*(?=[^#]*\Z)")


class NotFixableError(Exception):
    """Why there is no fix; the text goes into the finding's help."""


def argument(call: cst.Call, name: str) -> cst.Arg | None:
    """Return the keyword argument `name` of a call, or None."""
    return next((a for a in call.args if a.keyword is not None and a.keyword.value == name), None)


def unpacked(call: cst.Call) -> cst.Arg | None:
    """Return what a call unpacks with `**`, if it is one dictionary."""
    found = [arg for arg in call.args if arg.star == "**"]
    return found[0] if len(found) == 1 else None


def keyword(name: str, value: cst.BaseExpression) -> cst.Arg:
    """Return a new keyword argument."""
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    return cst.Arg(keyword=cst.Name(name), value=value, equal=equal)


def string_keys(node: cst.BaseExpression) -> dict[str, cst.DictElement] | None:
    """Return a dictionary literal's items by key, or None where a key is not a plain string."""
    if not isinstance(node, cst.Dict):
        return None
    items: dict[str, cst.DictElement] = {}
    for element in node.elements:
        if not isinstance(element, cst.DictElement):
            return None
        if not isinstance(element.key, (cst.SimpleString, cst.ConcatenatedString)):
            return None
        key = element.key.evaluated_value
        if not isinstance(key, str):
            return None
        items[key] = element
    return items


# -- the text of a list ---------------------------------------------------------------------------


def item_changes(
    module: Module, node: Container, removed: Collection[cst.CSTNode], added: Sequence[str]
) -> list[Change]:
    """Return the changes that take `removed` out of a call or display, and put `added` behind.

    Raises NotFixableError where a comment would no longer stand with what it is about.
    """
    return list(_Listed(module, node, removed).changes(added))


@dataclass(frozen=True, slots=True)
class _Item:
    """One argument or item, by offsets."""

    start: int
    end: int
    """Behind its last character; its comma does not count."""
    behind: int
    """Behind its comma, if it has one."""
    stays: bool

    @property
    def has_comma(self) -> bool:
        return self.behind > self.end


class _Listed:
    """The arguments or items of one container, in the text."""

    def __init__(self, module: Module, node: Container, removed: Collection[cst.CSTNode]) -> None:
        self._module = module
        self._text = module.text
        self._lines = module.lines
        gone = {id(item) for item in removed}
        every = node.args if isinstance(node, cst.Call) else node.elements
        self._items = [self._item(item, stays=id(item) not in gone) for item in every]
        start, end = module.lines.span(module.position(node))
        self._is_display = isinstance(node, cst.Dict)
        if isinstance(node, cst.Call):
            start, _ = module.lines.span(module.position(node.whitespace_before_args))
        else:
            start += len("{")
        self._inside = start, end - 1

    def _item(self, item: cst.Arg | cst.BaseDictElement, *, stays: bool) -> _Item:
        start, end = self._lines.span(self._module.position(item))
        behind = end
        if isinstance(item.comma, cst.Comma):
            _, behind = self._lines.span(self._module.position(item.comma))
        return _Item(start, end, behind, stays)

    def changes(self, added: Sequence[str]) -> Iterator[Change]:
        """Yield the changes; `added` are texts. Raises NotFixableError."""
        kept = [item for item in self._items if item.stays]
        runs = self._runs()
        for first, last in runs:
            self._check_comments(first, last)
        if not self._items:
            yield self._filled(added)
            return
        if runs and runs[-1][1] == len(self._items) - 1 and added:
            # What comes last takes the place of what was last.
            first, last = runs.pop()
            start = self._items[first].start
            yield Change(start, self._items[last].end, self._separator(start).join(added))
            added = ()
        elif not kept:
            yield Change(*self._inside, "")
            return
        for first, last in runs:
            if last < len(self._items) - 1:
                yield self._without(first, last)
            else:
                yield from self._cut_off(first, last)
        if added:
            yield from self._appended(kept[-1], added)

    def _runs(self) -> list[tuple[int, int]]:
        """Return the first and last index of items that go and stand together."""
        runs: list[tuple[int, int]] = []
        for number, item in enumerate(self._items):
            if item.stays:
                continue
            if runs and runs[-1][1] == number - 1:
                runs[-1] = runs[-1][0], number
            else:
                runs.append((number, number))
        return runs

    # -- comments -----------------------------------------------------------------------------

    def _check_comments(self, first: int, last: int) -> None:
        """Raise NotFixableError where a comment is about items that go."""
        before = self._items[first - 1].behind if first else self._inside[0]
        gone = self._items[first : last + 1]
        gaps = [(one.end, other.start) for one, other in pairwise(gone)]
        gaps.append((gone[-1].end, gone[-1].behind))
        if len(gone) == len(self._items):
            gaps.extend(((before, gone[0].start), (gone[-1].behind, self._inside[1])))
        if (
            _COMMENT_ABOVE.search(self._text[before : gone[0].start])
            or _SAME_LINE_COMMENT.match(self._text, gone[-1].behind)
            or any(self._has_comment(*gap) for gap in gaps)
        ):
            raise NotFixableError("a comment stands beside it")

    def _has_comment(self, start: int, end: int) -> bool:
        """Return whether there is a comment in a text that holds layout and commas alone."""
        return "#" in self._text[start:end]

    # -- taking out ---------------------------------------------------------------------------

    def _begins_line(self, offset: int) -> bool:
        return not self._lines.before(offset).strip()

    def _ends_line(self, offset: int) -> bool:
        return not self._lines.behind(offset).strip()

    def _whole_lines(self, start: int, end: int) -> Change | None:
        if not self._begins_line(start) or not self._ends_line(end):
            return None
        first, last = self._lines.line_at(start), self._lines.line_at(end)
        return Change(self._lines.start(first), self._lines.start(last + 1), "")

    def _without(self, first: int, last: int) -> Change:
        """Take out items that others come after."""
        start, end = self._items[first].start, self._items[last].behind
        if (whole := self._whole_lines(start, end)) is not None:
            return whole
        following = self._items[last + 1].start
        if not self._ends_line(end) or (first == 0 and not self._has_comment(end, following)):
            return Change(start, following, "")
        line = self._lines.before(start)
        return Change(start - len(line) + len(line.rstrip()), end, "")

    def _cut_off(self, first: int, last: int) -> Iterator[Change]:
        """Take out the last items, and the comma before them where they had none behind."""
        before, gone = self._items[first - 1], self._items[last]
        start = self._items[first].start
        if (whole := self._whole_lines(start, gone.behind)) is not None:
            if not gone.has_comma:
                yield Change(before.behind - 1, before.behind, "")
            yield whole
        elif not self._has_comment(before.end, start):
            yield Change(before.end, gone.end, "")
        else:
            yield Change(start, gone.behind, "")

    # -- putting in ---------------------------------------------------------------------------

    def _separator(self, start: int) -> str:
        """Return what stands between items if one begins at `start`: it may begin a line."""
        if not self._begins_line(start):
            return ", "
        return f",{self._module.tree.default_newline}{self._lines.before(start)}"

    def _appended(self, last: _Item, added: Sequence[str]) -> Iterator[Change]:
        separator = self._separator(last.start)
        if separator == ", ":
            if self._is_too_long_with(added):
                yield from self._one_to_a_line(added)
            else:
                yield Change(last.end, last.end, "".join(separator + text for text in added))
            return
        at = last.behind
        if comment := _SAME_LINE_COMMENT.match(self._text, at):
            at = comment.end()
        text = separator[1:] + separator.join(added)
        if last.has_comma:
            yield Change(at, at, f"{text},")
        elif at == last.end:
            yield Change(at, at, f",{text}")
        else:
            yield Change(last.end, last.end, ",")
            yield Change(at, at, text)

    def _is_too_long_with(self, added: Sequence[str]) -> bool:
        """Return whether a display that stands on one line would make that too long."""
        start, end = self._inside
        first = self._lines.line_at(start)
        if not (self._is_display and all(item.stays for item in self._items)):
            return False
        if first != self._lines.line_at(end):
            return False
        length = len(self._lines.text(first).rstrip()) + sum(len(f", {text}") for text in added)
        return length > style_for(self._module.path, self._module.project).line_length

    def _one_to_a_line(self, added: Sequence[str]) -> Iterator[Change]:
        """Give each item a line, with a comma behind, and the bracket behind them its own.

        The items themselves stay, since they may change too.
        """
        indent = self._lines.indentation(self._lines.line_at(self._inside[0]))
        newline = self._module.tree.default_newline
        inner = f"{newline}{self._module.deeper(indent)}"
        yield Change(self._inside[0], self._items[0].start, inner)
        for one, other in pairwise(self._items):
            yield Change(one.end, other.start, f",{inner}")
        texts = "".join(f",{inner}{text}" for text in added)
        yield Change(self._items[-1].end, self._inside[1], f"{texts},{newline}{indent}")

    def _filled(self, added: Sequence[str]) -> Change:
        """Put the first items into an empty list."""
        start, end = self._inside
        comment = _LAST_COMMENT.search(self._text, start, end)
        if comment is None:
            return Change(start, end, ", ".join(added))
        indent = comment["indent"]
        if not self._begins_line(comment.start()):
            line = self._lines.line_at(comment.start())
            indent = self._module.deeper(self._lines.indentation(line))
        newline = self._module.tree.default_newline
        texts = "".join(f"{newline}{indent}{text}," for text in added)
        return Change(comment.end(), comment.end(), texts)
