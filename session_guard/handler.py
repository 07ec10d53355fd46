"""What is read from the source of a handler: what it opens, and where it falls short."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from session_guard.contract import passed_on, shortfall
from session_guard.names import openings, values
from session_guard.names.bindings import Function, Ref
from session_guard.names.values import External

if TYPE_CHECKING:
    from pathlib import Path

    from session_guard.names.openings import Opening
    from session_guard.names.values import Located, Namespace, Value

CONTEXT_MANAGER = "get_background_session"
REQUEST_MANAGER = "get_session"


@dataclass(frozen=True, slots=True)
class Handler:
    """The module that builds the engine and opens sessions, as far as its source tells."""

    path: Path
    dotted: str
    """The name by which the project's modules import it."""
    namespace: Namespace
    opening: Opening | None
    """What its context manager opens; None where that could not be followed."""
    shortfall: str | None
    """What its context manager does not do as the standard asks; None where it does all."""
    manager: str = CONTEXT_MANAGER
    """The name of the context manager that this is about."""

    @property
    def engine(self) -> Located | None:
        """The engine that its sessions are bound to."""
        return self.opening.bind if self.opening is not None else None

    def for_requests(self) -> Handler | None:
        """Return the handler as `get_session()` opens sessions; None if that cannot be entered.

        `get_session` may be a plain generator, or missing.
        """
        names = self.namespace
        function = context_manager(names, REQUEST_MANAGER)
        if function is None or not is_context_manager(names, REQUEST_MANAGER):
            return None
        node = _syntax_of(function)
        inner = passed_on(node) if node is not None else None
        own = context_manager(names, CONTEXT_MANAGER)
        if inner is not None and any(
            isinstance(value, values.LocalFunction) and value.definition is own
            for value in names.evaluate(Ref((inner,)), function.place)
        ):
            return replace(self, manager=REQUEST_MANAGER)
        return replace(
            self,
            manager=REQUEST_MANAGER,
            opening=opening_of(names, function),
            shortfall=shortfall_of(function),
        )

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


def context_manager(namespace: Namespace, name: str = CONTEXT_MANAGER) -> Function | None:
    """Return the function of a module that is to be its context manager, or None."""
    bindings = namespace.scope.bindings.get(name, [])
    value = bindings[-1].value if bindings else None
    return value if isinstance(value, Function) else None


def is_context_manager(namespace: Namespace, name: str = CONTEXT_MANAGER) -> bool:
    """Return whether a module defines it as an async context manager without arguments."""
    function = context_manager(namespace, name)
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
    node = _syntax_of(function)
    if node is None:
        return "is written in syntax that this Python does not know"
    return shortfall(node)


def _syntax_of(function: Function) -> ast.AsyncFunctionDef | None:
    """Return a function as `ast` has it, or None where this Python does not know its syntax."""
    node = function.node
    if not isinstance(node, ast.AST):  # LibCST's, where the module's syntax is too new for `ast`
        import libcst as cst

        assert isinstance(node, cst.FunctionDef)
        try:
            node = ast.parse(cst.Module([node]).code.strip()).body[0]
        except SyntaxError:
            return None
    assert isinstance(node, ast.AsyncFunctionDef)
    return node
