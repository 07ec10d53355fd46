"""Which SQL an expression stands for, as far as its text can be read; what is not known is `_`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from session_guard.names.bindings import (
    Attribute,
    Call,
    Class,
    Constant,
    Either,
    Element,
    Function,
    Item,
    Opaque,
    Ref,
    TextBeginning,
    lookup,
)
from session_guard.names.values import (
    Beginning,
    External,
    Literal,
    Located,
    Method,
    Result,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.names.bindings import Expr
    from session_guard.names.values import Value

EXECUTING = frozenset("execute scalar scalars stream stream_scalars exec exec_driver_sql".split())
"""The methods of sessions and connections that are given a statement."""
_TEXTS = frozenset(
    {"sqlalchemy.text", "sqlalchemy.sql.text", "sqlalchemy.sql.expression.text", "sqlmodel.text"}
    | {"sqlalchemy.DDL", "sqlalchemy.schema.DDL"}
)
_FUNCTION = re.compile(r"(?:sqlalchemy|sqlalchemy\.sql|sqlmodel)\.func\.(?:\w+\.)*(\w+)")
# What gives a string back that is much the same.
_SHAPING = frozenset("format strip lstrip rstrip replace".split())
_SHAPERS = frozenset({"textwrap.dedent", "inspect.cleandoc"})
_UNKNOWN_PART = "_"
_DEEPEST = 8


class Reading:
    """Reads what is executed in one place, each call in it once by whatever way it is reached."""

    def __init__(self) -> None:
        self._asked: set[int] = set()
        self._read: set[tuple[int, ...]] = set()

    def executed(self, method: str, statement: Located) -> Iterator[str]:
        """Yield the SQL that a method of a session or a connection is given."""
        return strings(statement) if method == "exec_driver_sql" else self.statements(statement)

    def statements(self, statement: Located, depth: int = 0) -> Iterator[str]:
        """Yield a statement's SQL: what `text()` was given, and a `SELECT` of each `func.…()`."""
        if depth > _DEEPEST:
            return
        if isinstance(statement.expr, Call):
            if id(statement.expr.node) in self._asked:
                return
            self._asked.add(id(statement.expr.node))
        for value in statement.values():
            yield from self._of_value(value, depth)

    def _of_value(self, value: Value, depth: int) -> Iterator[str]:
        if not isinstance(value, Result):
            return
        key = (id(value.call.node), *(id(step.call.node) for step in value.through))
        if key in self._read:
            return
        self._read.add(key)
        call, home = value.call, value.home
        match value.function:
            case External(dotted) if dotted in _TEXTS:
                given = call.arguments[0] if call.arguments else call.keyword("text")
                if given is not None:
                    yield from strings(Located(given, value.place, home, value.through).as_given())
                return
            case External(dotted) if (function := _FUNCTION.fullmatch(dotted)) is not None:
                arguments = ", ".join(map(_argument, call.arguments))
                yield f"select {function[1]}({arguments})"
            case Method(owner):
                yield from self._of_value(owner, depth)
        for argument in call.arguments:  # `select(func.…())`, `.where(func.…())`
            yield from self.statements(Located(argument, value.place, home), depth + 1)


def _argument(expr: Expr) -> str:
    return repr(expr.value) if isinstance(expr, Constant) else _UNKNOWN_PART


def strings(text: Located, depth: int = 0) -> Iterator[str]:
    """Yield the strings that an expression may be."""
    if depth > _DEEPEST:
        return
    expr, place, home = text.expr, text.place, text.home
    match expr:
        case Constant(str(written)):
            yield written
        case TextBeginning(pieces=pieces) | Opaque(pieces=pieces) if pieces:
            yield "".join(_part(piece, text, depth) for piece in pieces)
        case Call(function=Attribute(owner, name)) if name in _SHAPING:
            yield from strings(Located(owner, place, home), depth + 1)
        case Call(function=Ref((*owner, name))) if owner and name in _SHAPING:
            yield from strings(Located(Ref(tuple(owner)), place, home), depth + 1)
        case Either(options):
            for option in options:
                yield from strings(Located(option, place, home), depth + 1)
        case _:
            assigned = _assigned(expr, text) if isinstance(expr, Ref) else []
            for source in assigned:
                yield from strings(source, depth + 1)
            for value in text.values() if not assigned else ():
                yield from _of_string(value, depth)


def _part(piece: str | Expr, text: Located, depth: int) -> str:
    if isinstance(piece, str):
        return piece
    return next(strings(Located(piece, text.place, text.home), depth + 1), _UNKNOWN_PART)


def _of_string(value: Value, depth: int) -> Iterator[str]:
    match value:
        case Literal(str(written)):
            yield written
        case Beginning(text, pieces):
            known = (p if isinstance(p, str) else _UNKNOWN_PART for p in pieces or (text, None))
            yield "".join(known)
        case Result(External(dotted), call, place, home) if dotted in _SHAPERS and call.arguments:
            yield from strings(Located(call.arguments[0], place, home), depth + 1)


def _assigned(ref: Ref, text: Located) -> list[Located]:
    """Return what a name was assigned, where it got all that it may be from this module."""
    bindings = lookup(ref.parts[0], text.place) or () if len(ref.parts) == 1 else ()
    found = [
        Located(binding.value, binding.place, text.home)
        for binding in bindings
        if binding.value is not None
        and not isinstance(binding.value, (Function, Class, Element, Item))
    ]
    return found if len(found) == len(bindings) else []
