"""Calls that run SQL past SQLAlchemy's sessions: on the driver's connection, and in listeners."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names import databases
from session_guard.names.bindings import Attribute, Call, Ref
from session_guard.names.values import External
from session_guard.usage.sql_left import ASYNCPG

if TYPE_CHECKING:
    from session_guard.module import Module
    from session_guard.names.bindings import Expr

_EVENTS = frozenset({"connect", "first_connect", "checkout", "engine_connect", "begin"})
# What leads from an async engine to what its events are listened to on.
_OF_ENGINES = frozenset({"sync_engine", "pool"})


def is_driver_connection(node: cst.BaseExpression, module: Module) -> bool:
    """Return whether an expression is what SQLAlchemy calls the `driver_connection`."""
    expr = module.expr(node)
    return _is_driver(expr) or any(
        isinstance(binding.value, (Ref, Attribute)) and _is_driver(binding.value)
        for binding in module.bindings(expr, module.place(node))
    )


def _is_driver(expr: Expr) -> bool:
    match expr:
        case Ref((*_, name)) | Attribute(_, name):
            return name == "driver_connection"
    return False


def runs_sql_past_sqlalchemy(call: cst.Call, module: Module) -> bool:
    """Return whether a call runs its first argument, a string, on a driver's connection.

    That is asyncpg's, or in a listener the cursor of one that an engine for PostgreSQL makes.
    """
    function = call.func
    if not isinstance(function, cst.Attribute):
        return False
    if is_driver_connection(function.value, module):
        return function.attr.value in ASYNCPG
    if function.attr.value not in ("execute", "exec_driver_sql"):
        return False
    listener = next((a for a in module.ancestors(call) if isinstance(a, cst.FunctionDef)), None)
    return (
        listener is not None
        and bool(listener.params.params)
        and _is_from(function.value, listener.params.params[0].name.value, module)
        and _listens_to_postgresql(listener, module)
    )


def _is_from(node: cst.BaseExpression, connection: str, module: Module) -> bool:
    """Return whether an expression is a parameter, or a cursor that was made by it."""
    expr = module.expr(node)
    if isinstance(expr, Ref) and expr.parts == (connection,):
        return True
    made = [expr, *(b.value for b in module.bindings(expr, module.place(node)))]
    return any(
        isinstance(value, Call)
        and isinstance(value.function, Ref)
        and value.function.parts == (connection, "cursor")
        for value in made
    )


def _listens_to_postgresql(listener: cst.FunctionDef, module: Module) -> bool:
    """Return whether a function is told of the connections of a PostgreSQL engine."""
    for decorator in listener.decorators:
        call = decorator.decorator
        if isinstance(call, cst.Call) and _is(call, "listens_for", module):
            return _is_told(call, module)
    return any(
        isinstance(call, cst.Call)
        and len(call.args) > 2
        and isinstance(call.args[2].value, cst.Name)
        and call.args[2].value.value == listener.name.value
        and _is(call, "listen", module)
        and _is_told(call, module)
        for call in module.nodes("Call")
    )


def _is(call: cst.Call, name: str, module: Module) -> bool:
    return External(f"sqlalchemy.event.{name}") in module.evaluate(call.func)


def _is_told(call: cst.Call, module: Module) -> bool:
    if len(call.args) < 2:
        return False
    target, event = call.args[0].value, call.args[1].value
    if not isinstance(event, cst.SimpleString) or event.evaluated_value not in _EVENTS:
        return False
    while isinstance(target, cst.Attribute) and target.attr.value in _OF_ENGINES:
        target = target.value
    found = module.evaluate(target)
    return bool(found) and all(map(databases.may_be_postgresqls, found))


def makes_temporary_table(call: cst.Call, module: Module) -> bool:
    """Return whether a call makes a `Table` that lasts as long as the connection."""
    if not any(
        isinstance(value, External)
        and value.dotted in ("sqlalchemy.Table", "sqlalchemy.schema.Table")
        for value in module.evaluate(call.func)
    ):
        return False
    given = {a.keyword.value: a.value for a in call.args if a.keyword is not None}
    prefixes = given.get("prefixes")
    if not isinstance(prefixes, (cst.List, cst.Tuple)) or "postgresql_on_commit" in given:
        return False
    return any(
        isinstance(element.value, cst.SimpleString)
        and "temp" in str(element.value.evaluated_value).lower()
        for element in prefixes.elements
    )
