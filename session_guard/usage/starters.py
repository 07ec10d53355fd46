"""Which calls start coroutines, and whether those of a file may have a session among them.

It imports no LibCST.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.names.bindings import (
    Attribute,
    Await,
    Display,
    Either,
    Ref,
    Sequence,
    Star,
    method_of,
)
from session_guard.names.evaluation import class_member
from session_guard.names.held import annotated_parameter, held
from session_guard.names.values import External, LocalClass, LocalFunction, Result
from session_guard.usage.bodies import LOCAL_METHODS, Bodies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.names.bindings import Call, Expr, Place, Scope
    from session_guard.names.values import Namespace, Value

GATHER = frozenset(
    {"asyncio.gather", "asyncio.tasks.gather"}
    | {"tqdm.asyncio.tqdm.gather", "tqdm.asyncio.tqdm_asyncio.gather"}
)
GATHER_ITERABLE = frozenset({"asyncio.wait", "asyncio.as_completed"})
CREATE = frozenset(
    {"asyncio.create_task", "asyncio.ensure_future", "asyncio.Task"}
    | {"asyncio.tasks.create_task", "asyncio.tasks.ensure_future", "asyncio.tasks.Task"}
)
LOOPS = frozenset(
    {"asyncio.get_event_loop", "asyncio.get_running_loop", "asyncio.new_event_loop"}
    | {"asyncio.AbstractEventLoop", "asyncio.events.AbstractEventLoop"}
)
GROUPS = frozenset({"asyncio.TaskGroup", "anyio.create_task_group", "anyio.abc.TaskGroup"})
BACKGROUND = frozenset(
    {"fastapi.BackgroundTasks", "fastapi.background.BackgroundTasks"}
    | {"starlette.background.BackgroundTasks"}
)
BACKGROUND_TASK = frozenset(
    {"starlette.background.BackgroundTask", "fastapi.background.BackgroundTask"}
    | {"litestar.background_tasks.BackgroundTask"}
)
SCHEDULERS = "apscheduler."
_METHODS = frozenset("create_task start_soon add_task run_in_executor add_job add_schedule".split())


def may_share(names: Namespace) -> bool:
    """Return whether tasks that a module starts may have a session in common.

    It may say yes too often: what is started is taken to be any call of the function round it, of
    the module outside of functions, or of a function that binds names of the module.
    """
    starting = {
        id(_outermost(place.scope))
        for call, place in names.scope.calls
        if _starts(call, place, names)
    }
    bodies = Bodies(lambda _: frozenset())
    return bool(starting) and any(
        _uses_session(call, place, names, bodies)
        for call, place in names.scope.calls
        if (outermost := _outermost(place.scope)) is None
        or id(outermost) in starting
        or any(one.globals for one in _around(place.scope))
    )


def _outermost(scope: Scope) -> Scope | None:
    """Return the outermost function that a scope is in, if it is in any."""
    return next(
        (one for one in reversed(list(_around(scope))) if one.kind in ("function", "lambda")), None
    )


def _around(scope: Scope) -> Iterator[Scope]:
    """Yield a scope, and those that it is in."""
    yield scope
    if scope.parent is not None:
        yield from _around(scope.parent)


def _starts(call: Call, place: Place, names: Namespace) -> bool:
    """Return whether a call starts a task, or hands over what is run later."""
    called = {v.dotted for v in names.evaluate(call.function, place) if isinstance(v, External)}
    if called & (GATHER | GATHER_ITERABLE | CREATE | BACKGROUND_TASK):
        return True
    owner = _owner(call.function) if method_of(call) in _METHODS else None
    kinds = _kinds(owner, place, names) if owner is not None else set()
    return bool(kinds & (GROUPS | LOOPS | BACKGROUND)) or any(
        kind.startswith(SCHEDULERS) for kind in kinds
    )


def _owner(function: Expr) -> Expr | None:
    """Return what an expression is an attribute of."""
    match function:
        case Attribute(value):
            return value
        case Ref((*parts, _)) if parts:
            return Ref(tuple(parts))
    return None


def _kinds(owner: Expr, place: Place, names: Namespace) -> set[str]:
    """Return the dotted names of what made an object, or of its annotation."""
    made = (v.function for v in names.evaluate(owner, place) if isinstance(v, Result))
    kinds = (*made, *_annotated(owner, place, names))
    return {value.dotted for value in kinds if isinstance(value, External)}


def _annotated(owner: Expr, place: Place, names: Namespace) -> list[Value]:
    if not isinstance(owner, Ref) or len(owner.parts) > 1:
        return []
    return annotated_parameter(owner.parts[0], place, names)


def _uses_session(call: Call, place: Place, names: Namespace, bodies: Bodies) -> bool:
    """Return whether a call may use a session, or have what it is given use one."""
    given = (*call.arguments, *(value for _, value in call.keywords))
    return _may_be_used(call.function, place, names, bodies) or any(
        held(expr, place, names) is not None or _may_be_used(expr, place, names, bodies)
        for argument in given
        for expr in _parts(argument)
    )


def _may_be_used(function: Expr, place: Place, names: Namespace, bodies: Bodies) -> bool:
    """Return whether a function uses a session that it is not given when it is called."""
    owner, called = _owner(function), [*names.evaluate(function, place)]
    if owner is not None:
        name = function.parts[-1] if isinstance(function, Ref) else ""
        name = function.name if isinstance(function, Attribute) else name
        if name not in LOCAL_METHODS and held(owner, place, names) is not None:
            return True
        for of in _annotated(owner, place, names):
            called += class_member(of, name) if isinstance(of, LocalClass) else ()
    return any(isinstance(one, LocalFunction) and bodies.uses(one, 0) for one in called)


def _parts(expr: Expr) -> Iterator[Expr]:
    """Yield an argument, or what it is a choice or a display of."""
    match expr:
        case Star(value) | Await(value):
            yield from _parts(value)
        case Either(inner) | Sequence(inner):
            yield expr
            for part in inner:
                yield from _parts(part)
        case Display(items):
            for _, value in items:
                yield from _parts(value)
        case _:
            yield expr
