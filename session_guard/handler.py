"""What is read from the source of a handler: what it opens, and whether it commits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from session_guard.names import openings, values
from session_guard.names.bindings import Function, Ref
from session_guard.names.values import External

if TYPE_CHECKING:
    from pathlib import Path

    from session_guard.names.openings import Located, Opening
    from session_guard.names.values import Namespace, Value

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
    commits: bool
    """Whether `get_background_session` commits when its block ends well."""

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
    return (
        isinstance(one, External)
        and isinstance(other, External)
        and same_dotted_name(one.dotted, other.dotted)
    )


def same_dotted_name(one: str, other: str) -> bool:
    """Return whether two dotted names are one, seen from different folders of the import path."""
    return one == other or (
        "." in one and "." in other and (one.endswith(f".{other}") or other.endswith(f".{one}"))
    )


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


def read_context_manager(namespace: Namespace, function: Function) -> tuple[Opening | None, bool]:
    """Return what the context manager opens and whether it commits, helpers of its module included.

    Where two calls in it open sessions, which of them it yields is not known.
    """
    found: list[Opening] = []
    commits = False
    waiting, seen = [function], set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        for call, place in current.calls:
            commits = commits or _method(call.function) == "commit"
            for value in namespace.evaluate(call, place):
                opening = openings.opening(value)
                if opening is not None:
                    found.append(opening)
                    commits = commits or opening.begins
            waiting.extend(
                callee.definition
                for callee in namespace.evaluate(call.function, place)
                if isinstance(callee, values.LocalFunction) and callee.home is namespace
            )
    return (found[0] if len(found) == 1 else None), commits


def _method(function: object) -> str | None:
    return function.parts[-1] if isinstance(function, Ref) and len(function.parts) > 1 else None
