"""Whether what listens to a session that only reads, or to its connection, may write through it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from session_guard.names import events
from session_guard.names.bindings import Ref, end_of
from session_guard.names.values import Beginning, External, LocalFunction
from session_guard.project.besides import is_logger, parsed_function

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.names.bindings import Call, Place
    from session_guard.names.values import Namespace, Value

# What of a session, a connection or a cursor runs SQL, or has it run later.
_RUNS = frozenset(
    """
    add add_all begin begin_nested bulk_insert_mappings bulk_save_objects bulk_update_mappings
    callproc commit connection copy cursor delete driver_connection exec_driver_sql execute
    executemany flush get invoke_statement merge query run_async run_sync scalar scalars
    """.split()
)
_LOOKS = frozenset(
    """
    bool dir getattr hasattr id int isinstance len max min print repr round setattr sorted str
    sum type
    """.split()
)
# Parameters that listeners are given as values: the text of a statement, and what is bound to it.
_VALUES = frozenset({"statement", "parameters", "executemany", "multiparams", "params"})
# What begins a transaction, or sets a variable for it, changes nothing that is kept.
_SETTINGS = ("set ", "begin", "select set_config(", "select pg_catalog.set_config(")


def may_write(call: Call, place: Place, home: Namespace) -> bool:
    """Return whether what a call has run at an event may write; what is not known may."""
    listeners = list(_listeners(call, place, home))
    return not listeners or any(map(_may_write, listeners))


def _listeners(call: Call, place: Place, home: Namespace) -> Iterator[Value]:
    """Yield the functions that a call to `listen` is given, or that the decorator stands over."""
    given = call.arguments[2] if len(call.arguments) > 2 else call.keyword("fn")
    if given is not None:
        yield from home.evaluate(given, place)
    else:
        yield from events.decorated(call, place, home)


def _may_write(listener: Value) -> bool:
    if isinstance(listener, External):
        return listener.dotted not in _LOOKS
    if not isinstance(listener, LocalFunction):
        return True
    function = parsed_function(listener.definition.node)
    if function is None:
        return True
    live = _given(function)
    calls = (part for part in ast.walk(function) if isinstance(part, ast.Call))
    return any(_runs(call, live) and not _only_sets(call, listener) for call in calls)


def _given(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Return the names of what a listener is given, and has of that."""
    given = function.args
    parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    parameters += [one for one in (given.vararg, given.kwarg) if one is not None]
    live = {one.arg for one in parameters} - _VALUES
    while True:
        found = set(live)
        for part in ast.walk(function):
            if isinstance(part, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and _leads(
                part.value, live
            ):
                targets = part.targets if isinstance(part, ast.Assign) else [part.target]
                found.update(one.id for one in targets if isinstance(one, ast.Name))
        if found == live:
            return live
        live = found


def _leads(node: ast.expr | None, live: set[str]) -> bool:
    """Return whether an expression is what a listener is given, or has been had of it.

    What is in the `info` of a connection or a session the program has put there.
    """
    while True:
        match node:
            case ast.Name(name):
                return name in live
            case ast.Attribute(attr="info"):
                return False
            case ast.Attribute(value=inner) | ast.Subscript(value=inner) | ast.Call(func=inner):
                node = inner
            case ast.Await(inner):
                node = inner
            case _:
                return False


def _runs(call: ast.Call, live: set[str]) -> bool:
    """Return whether a call may run SQL by one of some names, or hands that on."""
    match call.func:
        case ast.Attribute(owner, method):
            if method in _RUNS and _leads(owner, live):
                return True
            if is_logger(owner):
                return False
        case ast.Name(name) if name in _LOOKS:
            return False
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(isinstance(one, ast.Name) and one.id in live for one in arguments)


def _only_sets(call: ast.Call, listener: LocalFunction) -> bool:
    """Return whether a call only sets a variable: `execute(text("SET LOCAL …"))`."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in _RUNS:
        return False
    statement = call.args[0] if call.args else None
    if isinstance(statement, ast.Call) and len(statement.args) == 1:
        statement = statement.args[0]
    if isinstance(statement, ast.JoinedStr) and statement.values:
        statement = statement.values[0]
    texts: list[object] = []
    match statement:
        case ast.Constant(value):
            texts = [value]
        case ast.Name(name):
            found = listener.home.evaluate(Ref((name,)), end_of(listener.definition.scope))
            texts = [
                one.text if isinstance(one, Beginning) else getattr(one, "value", None)
                for one in found
            ]
    return bool(texts) and all(
        isinstance(one, str) and one.lower().startswith(_SETTINGS) for one in texts
    )
