"""Where the nodes of a file's tree stand in its text, worked out for one statement at a time.

LibCST writes a whole file anew to find out, and visits each node besides: twice what parsing costs.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from libcst import Module as Tree
from libcst import SimpleStatementLine
from libcst._nodes.internal import CodegenState
from libcst.metadata import CodePosition, CodeRange

from session_guard.names.from_ast import parse_quietly

if TYPE_CHECKING:
    from types import TracebackType

    from libcst import CSTNode

_NEWLINE = re.compile(r"\r\n?|\n")
_Range = tuple[int, int, int, int]
"""Line and column of the begin, line and column of the end."""


class Positions:
    """The positions in a file: lines count from 1, columns from 0, in characters."""

    def __init__(self, tree: Tree, text: str) -> None:
        self._tree = tree
        self._text = text
        self._own: dict[int, _Range] = {}
        """By `id` of the nodes, which the tree keeps alive."""
        self._whole: dict[int, _Range] = {}
        self._laid: set[int] = set()

    def of(self, node: CSTNode, statement: CSTNode | None) -> CodeRange:
        """Return where a node is, by the top-level statement that it is in, if that is known."""
        return self._range(self._own, node, statement)

    def whole(self, node: CSTNode, statement: CSTNode | None) -> CodeRange:
        """Return where a node is with its layout: the lines above, and what is behind it."""
        return self._range(self._whole, node, statement)

    def _range(
        self, ranges: dict[int, _Range], node: CSTNode, statement: CSTNode | None
    ) -> CodeRange:
        if id(node) not in ranges and self.lines is not None and id(statement) in self.lines:
            assert statement is not None
            self._lay_statement(statement, self.lines[id(statement)])
        if id(node) not in ranges:
            self._lay_all()
        line, column, end_line, end_column = ranges[id(node)]
        return CodeRange(CodePosition(line, column), CodePosition(end_line, end_column))

    @cached_property
    def lines(self) -> dict[int, int] | None:
        """The first line of each top-level statement, by its `id`.

        Of a definition that is the line of its name. None where this interpreter cannot parse the
        file.
        """
        try:
            parsed = parse_quietly(self._text).body
        except (SyntaxError, ValueError, RecursionError):
            return None
        found, done = dict[int, int](), 0
        for statement in self._tree.body:
            if done >= len(parsed):
                return None
            found[id(statement)] = parsed[done].lineno
            done += len(statement.body) if isinstance(statement, SimpleStatementLine) else 1
        return found if done == len(parsed) else None

    def _lay_statement(self, statement: CSTNode, line: int) -> None:
        if id(statement) in self._laid:
            return
        self._laid.add(id(statement))
        state = _State(self._tree)
        statement._codegen(state)
        self._take(state, line - state.own[id(statement)][0])

    def _lay_all(self) -> None:
        """Work out all that is not known yet, layout that belongs to no statement with it."""
        if id(self._tree) not in self._laid:
            self._laid.add(id(self._tree))
            state = _State(self._tree)
            self._tree._codegen(state)
            self._take(state, 0)

    def _take(self, state: _State, lines: int) -> None:
        for known, found in ((self._own, state.own), (self._whole, state.whole)):
            for key, (line, column, end_line, end_column) in found.items():
                known.setdefault(key, (line + lines, column, end_line + lines, end_column))


class _State(CodegenState):
    """Takes note of where each node begins and ends while LibCST writes it."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(tree.default_indent, tree.default_newline)
        self.own: dict[int, _Range] = {}
        self.whole: dict[int, _Range] = {}
        self.line, self.column = 1, 0
        self._begun: list[tuple[int, int]] = []

    def add_indent_tokens(self) -> None:
        for token in self.indent_tokens:
            self.add_token(token)

    def add_token(self, value: str) -> None:
        self.tokens.append(value)
        if "\n" in value or "\r" in value:
            *before, last = _NEWLINE.split(value)
            self.line += len(before)
            self.column = len(last)
        else:
            self.column += len(value)

    def before_codegen(self, node: CSTNode) -> None:
        self._begun.append((self.line, self.column))

    def after_codegen(self, node: CSTNode) -> None:
        found = self.whole[id(node)] = (*self._begun.pop(), self.line, self.column)
        self.own.setdefault(id(node), found)

    def record_syntactic_position(  # type: ignore[override]  # which of the two it is is the same
        self,
        node: CSTNode,
        *,
        start_node: CSTNode | None = None,
        end_node: CSTNode | None = None,
    ) -> _Recording:
        return _Recording(self, node, start_node, end_node)


class _Recording:
    """Takes note of where a node is without its layout."""

    __slots__ = ("_begin", "_end_node", "_node", "_start_node", "_state")

    def __init__(
        self,
        state: _State,
        node: CSTNode,
        start_node: CSTNode | None,
        end_node: CSTNode | None,
    ) -> None:
        self._state, self._node = state, node
        self._start_node, self._end_node = start_node, end_node

    def __enter__(self) -> None:
        self._begin = self._state.line, self._state.column

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        own = self._state.own
        begin, end = self._begin, (self._state.line, self._state.column)
        if self._start_node is not None:
            begin = own[id(self._start_node)][:2]
        if self._end_node is not None:
            end = own[id(self._end_node)][2:]
        own[id(self._node)] = (*begin, *end)
