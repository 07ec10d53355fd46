"""What a module has run at SQLAlchemy's events, and the names of these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.names.bindings import Attribute, Call, Function, Ref
from session_guard.names.values import External, Literal, LocalFunction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.names.bindings import Place
    from session_guard.names.values import Namespace, Value

DECORATOR = External("sqlalchemy.event.listens_for")
CALL = External("sqlalchemy.event.listen")
_SPELLED = ("listen", "listens_for")


def listening(home: Namespace) -> Iterator[tuple[Call, Place, frozenset[str | None]]]:
    """Yield the calls that listen to events, and which: None is one that could not be followed.

    What is not known to be SQLAlchemy's is one by its name, where it is given an event's name.
    """
    for call, place in home.scope.calls:
        found = home.evaluate(call.function, place)
        is_known = DECORATOR in found or CALL in found
        if not is_known and _last_name(call) not in _SPELLED:
            continue
        event = call.arguments[1] if len(call.arguments) > 1 else call.keyword("identifier")
        values = home.evaluate(event, place) if event is not None else ()
        names = {
            value.value if isinstance(value, Literal) and isinstance(value.value, str) else None
            for value in values
        }
        if is_known:
            yield call, place, frozenset(names or {None})
        elif names - {None}:
            yield call, place, frozenset(names - {None})


def decorated(call: Call, place: Place, home: Namespace) -> Iterator[Value]:
    """Yield the functions that a decorator stands over."""
    for bindings in place.scope.bindings.values():
        for binding in bindings:
            function = binding.value
            if isinstance(function, Function) and any(
                isinstance(d, Call) and d.node is call.node for d in function.decorators
            ):
                yield LocalFunction(function, home)


def _last_name(call: Call) -> str:
    match call.function:
        case Ref((*_, name)) | Attribute(_, name):
            return name
    return ""
