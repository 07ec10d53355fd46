"""What listeners to `do_connect` make of the arguments that an engine connects with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.names import dictionaries, events, openings
from session_guard.names.bindings import Constant
from session_guard.names.values import UNKNOWN, LocalFunction, Method, Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from session_guard.names.dictionaries import Contents
    from session_guard.names.values import Namespace, Value

_EVENT = "do_connect"
# The dialect, the pool's record, the arguments by position, and those by name.
_PARAMETERS = 4


def apply(found: Contents, engine: Result, homes: Iterable[Namespace]) -> None:
    """Apply to an engine's `connect_args` what listeners in some modules do to them."""
    for home in homes:
        for target, listeners in _listening(home):
            engines = [_engine(value) for value in target]
            known = [other for other in engines if other is not None]
            is_certain = len(known) == len(engines) == 1
            if is_certain and not known[0].is_made_where(engine):
                continue
            for listener in listeners:
                _apply(found, listener, is_certain=is_certain and len(listeners) == 1)


def _listening(home: Namespace) -> Iterator[tuple[tuple[Value, ...], tuple[Value, ...]]]:
    """Yield what a module listens to, and with which functions."""
    for call, place, heard in events.listening(home):
        if _EVENT not in heard or len(call.arguments) < 2:
            continue
        target, _, *rest = call.arguments
        function = home.evaluate(call.function, place)
        listeners: tuple[Value, ...] = ()
        if function == (events.DECORATOR,):
            listeners = tuple(events.decorated(call, place, home))
        elif function == (events.CALL,) and rest:
            listeners = home.evaluate(rest[0], place)
        else:
            continue
        # With `named=True` a function is given the event's parameters by their names.
        is_known = (
            listeners
            and len(heard) == 1
            and all(key not in (None, "named") for key, _ in call.keywords)
        )
        yield home.evaluate(target, place), listeners if is_known else (UNKNOWN,)


def _engine(value: Value) -> Result | None:
    """Return the engine that is listened to, as such or as `engine.sync_engine`."""
    if isinstance(value, Method) and value.name == "sync_engine":
        value = value.owner
    return value if isinstance(value, Result) and openings.is_engine(value) else None


def _apply(found: Contents, listener: Value, *, is_certain: bool) -> None:
    definition = listener.definition if isinstance(listener, LocalFunction) else None
    if (
        not isinstance(listener, LocalFunction)
        or definition is None
        or len(definition.given_by_position) != _PARAMETERS
        or len(definition.scope.bindings[definition.given_by_position[-1]]) > 1
        or any(not isinstance(e, Constant) or e.value is not None for e, _ in definition.returns)
    ):
        found.disturb(None)  # it may connect by itself
        return
    changed = dictionaries.Contents()
    changed.merge([found], None, is_certain=True)
    dictionaries.apply_function(changed, listener, definition.given_by_position[-1])
    if not is_certain:
        found.merge([changed], None, is_certain=False)
        return
    found.entries, found.certain, found.is_open = changed.entries, changed.certain, changed.is_open
