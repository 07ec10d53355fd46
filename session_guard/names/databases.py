"""Which database an engine leads to: PostgreSQL, or surely another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.names import database_url
from session_guard.names.bindings import Call, Ref, lookup, tells_of_another_database
from session_guard.names.openings import is_engine
from session_guard.names.values import External, Literal, LocalFunction, Located, Result, Step

if TYPE_CHECKING:
    from session_guard.names.bindings import Place
    from session_guard.names.database_url import DatabaseUrl
    from session_guard.names.values import Value

_DEEPEST = 6
_CREATORS = ("async_creator", "creator")
_OTHER_DRIVERS = ("aiosqlite.", "sqlite3.", "asyncmy.", "aiomysql.", "aioodbc.", "oracledb.")


def is_on_another_database(bind: Located | None, depth: int = 0) -> bool:
    """Return whether every engine that `bind` may stand for is known not to be PostgreSQL's."""
    if bind is None or depth > _DEEPEST:
        return False
    if is_for_another_database(bind.place):
        return True
    given = _given(bind)
    if given:
        return all(is_on_another_database(argument, depth + 1) for argument in given)
    found = [value for value in bind.values() if value != Literal(None)]
    return bool(found) and all(
        isinstance(value, Result) and is_engine(value) and is_other_engine(value) for value in found
    )


def _given(bind: Located) -> list[Located]:
    """Return what each call gives for a parameter, where its own module alone calls the function.

    What is not known of a call is the parameter itself.
    """
    expr, home = bind.expr, bind.home
    if bind.through or not isinstance(expr, Ref) or len(expr.parts) != 1:
        return []
    bindings = lookup(expr.parts[0], bind.place) or []
    function = bindings[0].place.scope.function if len(bindings) == 1 else None
    if function is None or bindings[0].kind != "parameter":
        return []
    if function.decorators or home.elsewhere.is_mentioned(function.name, home.path):
        return []
    return [
        Located(expr, bind.place, home, (Step(call, place, home, value),)).as_given()
        for call, place in home.scope.calls
        for value in home.evaluate(call.function, place)
        if isinstance(value, LocalFunction) and value.definition is function
    ]


def may_be_postgresqls(value: Value) -> bool:
    """Return whether a value is an engine, and not known to be another database's."""
    return isinstance(value, Result) and is_engine(value) and not is_other_engine(value)


def is_other_engine(engine: Result) -> bool:
    """Return whether an engine is known not to be PostgreSQL's."""
    scheme = _url(engine).scheme
    if scheme is not None:
        return not scheme.startswith("postgres")
    return _is_made_by_another_driver(engine) or is_for_another_database(engine.place)


def _url(engine: Result) -> DatabaseUrl:
    call = engine.call
    expr = call.arguments[0] if call.arguments else call.keyword("url")
    if expr is None:
        return database_url.UNREAD
    return database_url.read(Located(expr, engine.place, engine.home, engine.through).as_given())


def _is_made_by_another_driver(engine: Result) -> bool:
    """Return whether the function that connects for an engine calls another driver."""
    creators = [engine.call.keyword(name) for name in _CREATORS]
    return any(
        isinstance(called, External) and called.dotted.startswith(_OTHER_DRIVERS)
        for expr in creators
        if expr is not None
        for creator in engine.home.evaluate(expr, engine.place)
        if isinstance(creator, LocalFunction)
        for call, place in (*creator.definition.calls, *creator.definition.returns)
        if isinstance(call, Call)
        for called in creator.home.evaluate(call.function, place)
    )


def is_for_another_database(place: Place) -> bool:
    """Return whether code runs for another database alone.

    That is said by the test of the branch that it stands in, or by the name of its function or
    class.
    """
    scope = place.scope
    if not scope.module.elsewhere.isdisjoint(place.branches):
        return True
    names = [
        *([scope.function.name] if scope.function is not None else ()),
        *([scope.definition.name] if scope.definition is not None else ()),
    ]
    if any(map(tells_of_another_database, names)):
        return True
    return scope.place is not None and is_for_another_database(scope.place)
