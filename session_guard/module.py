"""One parsed file: its tree, the positions in it, and what its expressions stand for."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import libcst as cst

from session_guard import excerpts
from session_guard.names import openings
from session_guard.names.bindings import Expr, Place, Ref, lookup
from session_guard.names.evaluation import provided
from session_guard.names.from_libcst import Converter, index_tree
from session_guard.names.held import held
from session_guard.names.values import Partial, Result
from session_guard.positions import Positions
from session_guard.rewriting.spans import Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from libcst.metadata import CodeRange

    from session_guard.names.bindings import Binding, Call
    from session_guard.names.held import Held
    from session_guard.names.values import Value
    from session_guard.project.handler import Handler
    from session_guard.project.project import Project
    from session_guard.sources import Decoded

_LONGEST_CODE = 60
_ALWAYS_ASKED_FOR = frozenset("ConcatenatedString Import ImportFrom Name SimpleString".split())
_Found = TypeVar("_Found")


class Module:
    """What rules see of a file.

    Raises libcst.ParserSyntaxError where the text cannot be parsed.
    """

    def __init__(
        self, path: Path, decoded: Decoded, project: Project, node_types: frozenset[str]
    ) -> None:
        self.path = path
        self.decoded = decoded
        self.text = decoded.text
        self.project = project
        self.tree = cst.parse_module(decoded.text)
        self._index = index_tree(self.tree, node_types | _ALWAYS_ASKED_FOR)
        self.names = project.namespace(path, self._index.scope)
        self._converter = Converter()
        self._values: dict[int, tuple[Value, ...]] = {}
        """By `id` of the tree's nodes, which live as long: every rule asks about the same calls."""
        self._strings: dict[int, dict[int, list[tuple[int, int, cst.CSTNode]]]] = {}
        self._found: dict[Callable[[Module], Any], Any] = {}

    @property
    def handler(self) -> Handler | None:
        """The project's handler, if there is exactly one."""
        return self.project.handler

    def nodes(self, node_type: str) -> list[cst.CSTNode]:
        """Return the nodes of a type in source order; of the types asked for at the start alone."""
        return self._index.by_type[node_type]

    def named(self, name: str) -> list[cst.Name]:
        """Return the nodes of a name in source order, where nodes of `Name` are asked for."""
        return self._by_name.get(name, [])

    @cached_property
    def _by_name(self) -> dict[str, list[cst.Name]]:
        found: dict[str, list[cst.Name]] = {}
        for node in self.nodes("Name"):
            assert isinstance(node, cst.Name)
            found.setdefault(node.value, []).append(node)
        return found

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """Return the node that holds `node`, or None for the module and for layout."""
        return self._index.parents.get(id(node))

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """Yield what holds `node`, from the nearest to the module."""
        parent = self.parent(node)
        while parent is not None:
            yield parent
            parent = self.parent(parent)

    def place(self, node: cst.CSTNode) -> Place:
        """Return where an expression is evaluated."""
        current: cst.CSTNode | None = node
        while current is not None:
            place = self._index.places.get(id(current))
            if place is not None:
                return place
            current = self.parent(current)
        return Place(self._index.scope, 0, ())

    def expr(self, node: cst.CSTNode) -> Expr:
        """Return an expression in the form that the table of names knows."""
        return self._converter.expr(node)

    def evaluate(self, node: cst.CSTNode) -> tuple[Value, ...]:
        """Return what an expression may stand for."""
        if self.parent(node) is None:  # a node of no tree, whose `id` another may get
            return self.names.evaluate(self.expr(node), self.place(node))
        values = self._values.get(id(node))
        if values is None:
            values = self.names.evaluate(self.expr(node), self.place(node))
            self._values[id(node)] = values
        return values

    def held(self, node: cst.CSTNode) -> Held | None:
        """Return the async session that an expression stands for, or None; None where it is new."""
        return held(self.expr(node), self.place(node), self.names)

    def results(self, call: cst.Call) -> list[Result | Partial]:
        """Return what this very call may give back, made by it and not by a function it calls."""
        return [
            value
            for value in self.evaluate(call)
            if isinstance(value, (Result, Partial)) and value.call.node is call
        ]

    def provided(self, call: cst.Call) -> list[Result]:
        """Return what the provider of a container gives that this very call makes, if it does."""
        # Lambdas in the arguments are only followed in the form that the table of names has.
        own = self._calls.get(id(call))
        if own is None:
            return []
        return list(provided(own, self.names.evaluate(own, self.place(call))))

    @cached_property
    def _calls(self) -> dict[int, Call]:
        """The file's calls in the form of the table of names, by `id` of the tree's nodes."""
        return {id(call.node): call for call, _ in self.names.scope.calls}

    def forget(self) -> None:
        """Let go of the tree, which takes a hundred times the memory of its text.

        Scopes lead back to themselves, and garbage in circles is looked for seldom.
        """
        for scope in {id(p.scope): p.scope for p in self._index.places.values()}.values():
            scope.forget()
        self.names.known.clear()
        vars(self).clear()

    def once(self, find: Callable[[Module], _Found]) -> _Found:
        """Return what `find` says of the file, which is worked out when it is first asked for."""
        if find not in self._found:
            self._found[find] = find(self)
        found: _Found = self._found[find]
        return found

    def code(self, node: cst.CSTNode) -> str:
        """Return a node's text on one line, for a message: strings masked, and cut where long."""
        text = excerpts.code(self, node)
        return text if len(text) <= _LONGEST_CODE else f"{text[:_LONGEST_CODE]}…"

    def bindings(self, expr: Expr, place: Place) -> list[Binding]:
        """Return what the first name of a dotted reference is bound to at `place`."""
        if not isinstance(expr, Ref):
            return []
        return lookup(expr.parts[0], place) or []

    @cached_property
    def reconfigures_factories(self) -> bool:
        """Whether it gives a session factory another engine or other options after it was built."""
        return next(openings.reconfigured_factories(self.names), None) is not None

    @cached_property
    def lines(self) -> Lines:
        """The lines of its text."""
        return Lines(self.text)

    def deeper(self, indentation: str) -> str:
        """Return the indentation of what stands in a line that has one; tabs stay tabs."""
        return indentation + ("\t" if indentation.endswith("\t") else self.tree.default_indent)

    def strings(self, node: cst.CSTNode) -> dict[int, list[tuple[int, int, cst.CSTNode]]]:
        """Return the strings in each line of a node, with the offsets between which they stand."""
        holder = self.top_of(node) or self.tree
        if id(holder) not in self._strings:
            self._strings[id(holder)] = excerpts.strings_by_line(self, holder)
        return self._strings[id(holder)]

    @cached_property
    def round_trips(self) -> bool:
        """Whether LibCST gives back what it read; where it does not, its positions are off."""
        return self.tree.code == self.text

    @cached_property
    def _positions(self) -> Positions:
        return Positions(self.tree, self.text)

    def position(self, node: cst.CSTNode, top: cst.CSTNode | None = None) -> CodeRange:
        """Return a node's lines (from 1) and columns (from 0, in characters).

        Worked out for the whole statement that it is in when one in there is first asked for; of
        layout, where `top` is not given, for the whole file.
        """
        return self._positions.of(node, top or self.top_of(node))

    def parts_with(self, lines: Collection[int]) -> Iterator[cst.CSTNode]:
        """Yield, in order, the parts of the module that may have one of some lines in them.

        They are the statements of its top level, and the lines round them.
        """
        known = self._positions.lines
        firsts = [known[id(top)] for top in self.tree.body] if known is not None else []
        # A statement has the lines above it, and those of its decorators.
        behind = {bisect_right(firsts, line) for line in lines}
        wanted = behind | {number - 1 for number in behind}
        if 0 in behind or known is None:
            yield from self.tree.header
        for number, top in enumerate(self.tree.body):
            if number in wanted or known is None:
                yield top
        if len(firsts) in behind or known is None:
            yield from self.tree.footer

    def extent(self, node: cst.CSTNode) -> tuple[int, int]:
        """Return the offsets of a node with its layout: of a block, from behind the colon on."""
        return self.lines.span(self._positions.whole(node, self.top_of(node)))

    def top_of(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """Return the statement at the module's top level that holds a node; of layout, None."""
        parent = self.parent(node)
        while parent is not None and parent is not self.tree:
            node, parent = parent, self.parent(parent)
        return node if parent is not None else None
