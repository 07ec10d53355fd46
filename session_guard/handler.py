"""What is read from the source of a handler: what it opens, and where it falls short."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from session_guard.contract import shortfall
from session_guard.names import openings, values
from session_guard.names.bindings import Function
from session_guard.names.values import External

if TYPE_CHECKING:
    from pathlib import Path

    from session_guard.names.openings import Opening
    from session_guard.names.values import Located, Namespace, Value

CONTEXT_MANAGER = "get_background_session"


@dataclass(frozen=True, slots=True)
class Handler:
    """The module that builds the engine and opens sessions, as far as its source tells."""

    path: Path
    dotted: str
    """The name by which the project's modules import it."""
    namespace: Namespace
    opening: Opening | None
    """What `get_background_session` opens; None where that could not be followed."""
    shortfall: str | None
    """What `get_background_session` does not do as the standard asks; None where it does all."""

    @property
    def engine(self) -> Located | None:
        """The engine that its sessions are bound to."""
        return self.opening.bind if self.opening is not None else None

    def engines(self) -> list[Value]:
        """Return what the handler's engine may be, before it is built (None) left out."""
        if self.engine is None:
            return []
        return [value for value in self.engine.values() if value != values.Literal(None)]

    def binds(self, engine: Value) -> bool:
        """Return whether `engine` is the very engine that the handler's sessions use."""
        own = self.engines()
        return bool(own) and all(_same_engine(value, engine) for value in own)


def _same_engine(one: Value, other: Value) -> bool:
    if isinstance(one, values.Result) and isinstance(other, values.Result):
        return openings.is_engine(one) and one.is_of_the_same_call(other)
    return isinstance(one, External) and isinstance(other, External) and one.dotted == other.dotted


def context_manager(namespace: Namespace) -> Function | None:
    """Return the function `get_background_session` of a module, or None."""
    bindings = namespace.scope.bindings.get(CONTEXT_MANAGER, [])
    value = bindings[-1].value if bindings else None
    return value if isinstance(value, Function) else None


def is_context_manager(namespace: Namespace) -> bool:
    """Return whether a module defines it as an async context manager without arguments."""
    function = context_manager(namespace)
    return (
        function is not None
        and function.is_async
        and function.required_parameters == 0
        and any(
            value == External("contextlib.asynccontextmanager")
            for decorator in function.decorators
            for value in namespace.evaluate(decorator, function.place)
        )
    )


def opening_of(namespace: Namespace, function: Function) -> Opening | None:
    """Return what the context manager opens, in itself or in helpers of its module.

    Where several calls in it open sessions, which of them it yields is not known.
    """
    found: list[Opening] = []
    waiting, seen = [function], set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        for call, place in current.calls:
            found.extend(
                opening
                for value in namespace.evaluate(call, place)
                if (opening := openings.opening(value)) is not None
            )
            waiting.extend(
                callee.definition
                for callee in namespace.evaluate(call.function, place)
                if isinstance(callee, values.LocalFunction) and callee.home is namespace
            )
    return found[0] if len(found) == 1 else None


def shortfall_of(function: Function) -> str | None:
    """Return where the context manager falls short of the standard, or None."""
    node = function.node
    if not isinstance(node, ast.AST):  # LibCST's, where the module's syntax is too new for `ast`
        import libcst as cst

        assert isinstance(node, cst.FunctionDef)
        try:
            node = ast.parse(cst.Module([node]).code.strip()).body[0]
        except SyntaxError:
            return "is written in syntax that this Python does not know"
    assert isinstance(node, ast.AsyncFunctionDef)
    return shortfall(node)
