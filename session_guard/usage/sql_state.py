"""SQL that leaves something behind on the server's connection when its transaction ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names import databases, openings, sql
from session_guard.names.bindings import tells_of_another_database
from session_guard.names.from_libcst import walk
from session_guard.names.sql import Reading
from session_guard.names.values import Located, Method, Result
from session_guard.usage import driver
from session_guard.usage.sql_left import LISTENING, TEMPORARY_TABLE, state_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.module import Module

_DEEPEST = 8


def connection_state(call: cst.Call, module: Module) -> tuple[str, str] | None:
    """Return what `call` executes that outlives the transaction, and what to use instead.

    None also where nothing shows that it is an async session or connection of SQLAlchemy.
    """
    if _is_for_another_database(call, module):
        return None
    if driver.makes_temporary_table(call, module):
        return TEMPORARY_TABLE if _is_on_postgresql(module) else None
    if not isinstance(call.func, cst.Attribute) or not call.args:
        return None
    receiver, method = call.func.value, call.func.attr.value
    if method == "add_listener" and driver.is_driver_connection(receiver, module):
        return LISTENING
    statement = call.args[0].value
    found: Iterator[str] = iter(())
    if driver.runs_sql_past_sqlalchemy(call, module):
        found = sql.strings(_located(statement, module))
    elif (
        method in sql.EXECUTING
        and _is_awaited(call, module)
        and not _is_elsewhere(receiver, module)
    ):
        found = _executed(statement, method, module, Reading())
    return next(filter(None, (state_of(each) for each in found)), None)


def _is_on_postgresql(module: Module) -> bool:
    """Return whether the project's handler has an engine, and of PostgreSQL alone."""
    handler = module.handler
    engines = handler.engines() if handler is not None else ()
    return bool(engines) and all(map(databases.may_be_postgresqls, engines))


def _is_awaited(call: cst.Call, module: Module) -> bool:
    """Return whether a call is awaited, or is in a function that `run_sync()` runs."""
    for ancestor in module.ancestors(call):
        match ancestor:
            case cst.Await():
                return True
            case cst.Lambda():
                return _is_run_sync(ancestor, module)
            case cst.FunctionDef(name=name):
                return any(
                    isinstance(other, cst.Call)
                    and bool(other.args)
                    and isinstance(other.args[0].value, cst.Name)
                    and other.args[0].value.value == name.value
                    and _is_run_sync(other.args[0].value, module)
                    for other in module.nodes("Call")
                )
    return False


def _is_run_sync(function: cst.BaseExpression, module: Module) -> bool:
    """Return whether a function is what an async session or connection runs."""
    argument = module.parent(function)
    call = module.parent(argument) if isinstance(argument, cst.Arg) else None
    return (
        isinstance(call, cst.Call)
        and isinstance(call.func, cst.Attribute)
        and call.func.attr.value == "run_sync"
        and isinstance(module.parent(call), cst.Await)
        and not _is_elsewhere(call.func.value, module)
    )


def _is_for_another_database(call: cst.Call, module: Module) -> bool:
    """Return whether a branch, a function, a class or the module is another database's by name."""
    return databases.is_for_another_database(module.place(call)) or tells_of_another_database(
        module.project.module_name(module.path)
    )


def _is_elsewhere(receiver: cst.BaseExpression, module: Module) -> bool:
    """Return whether a session or connection is known to be of another database."""
    if isinstance(receiver, cst.Await):
        receiver = receiver.expression
    for value in module.evaluate(receiver):
        opening = openings.opening(value)
        if opening is not None and databases.is_on_another_database(opening.bind):
            return True
        while isinstance(value, Result) and isinstance(value.function, Method):
            value = value.function.owner
        if (
            isinstance(value, Result)
            and openings.is_engine(value)
            and databases.is_other_engine(value)
        ):
            return True
    return False


def _executed(
    node: cst.BaseExpression, method: str, module: Module, reading: Reading, depth: int = 0
) -> Iterator[str]:
    """Yield the SQL of a statement, and of the calls in parts of it that names say nothing of."""
    if depth > _DEEPEST:
        return
    yield from reading.executed(method, _located(node, module))
    for part in walk(node):
        if isinstance(part, cst.Call):
            yield from reading.statements(_located(part, module))
    if isinstance(node, cst.Name):
        for binding in module.bindings(module.expr(node), module.place(node)):
            made = getattr(binding.value, "node", None)
            if isinstance(made, cst.BaseExpression) and module.parent(made) is not None:
                yield from _executed(made, method, module, reading, depth + 1)


def _located(node: cst.BaseExpression, module: Module) -> Located:
    return Located(module.expr(node), module.place(node), module.names)
