"""What functions that give a session factory or an engine do besides: a fix calls them no more."""

from __future__ import annotations

import ast
import textwrap
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.from_ast import FunctionText, parse_quietly
from session_guard.names.values import LocalFunction
from session_guard.project.setters import CHANGES_IN_PLACE

if TYPE_CHECKING:
    from collections.abc import Iterable

_TELLING = frozenset({"exec", "eval", "input", "open", "print"})
LOGGERS = frozenset({"log", "logger", "logging"})
"""What loggers are called."""


def does_more(function: LocalFunction, seen: frozenset[int] = frozenset()) -> bool:
    """Return whether a call may do more than to give back what is kept, or made and kept.

    It may also refuse to, before there is one: the handler needs none. What it logs is not minded.
    """
    definition = function.definition
    if id(definition) in seen:
        return False
    node = parsed_function(definition.node)
    if node is None or _suite_does_more(node.body):
        return True
    inner = seen | {id(definition)}
    return any(
        does_more(value, inner)
        for call, place in definition.calls
        for value in function.home.evaluate(call.function, place)
        if isinstance(value, LocalFunction)
    )


def parsed_function(node: object) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return a function as `ast` has it, or None where its node is none that is known."""
    if isinstance(node, FunctionText):
        return node.parsed()
    if not isinstance(node, cst.FunctionDef):
        return None
    try:
        [function] = parse_quietly(textwrap.dedent(cst.Module([node]).code)).body
    except (SyntaxError, ValueError, RecursionError):
        return None
    return function if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) else None


def _suite_does_more(body: Iterable[ast.stmt]) -> bool:
    return any(map(_does_more, body))


def _does_more(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(ast.Constant()) | ast.Pass() | ast.Global() | ast.Nonlocal():
            return False
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return False
        case ast.Expr(ast.Yield(value)) | ast.Return(value) | ast.Raise(exc=value):
            return value is not None and _tells(value)
        case ast.Expr(ast.Call(ast.Attribute(owner)) as call) if is_logger(owner):
            return any(map(_tells, call.args))
        case ast.Assign(value=value) | ast.AnnAssign(value=value):
            # Something is counted where it is worked out from what it was.
            return value is not None and (isinstance(value, ast.BinOp) or _tells(value))
        case ast.If(test, body, orelse):
            return not _asks_whether_there(test) or _suite_does_more((*body, *orelse))
        case ast.With(items, body) | ast.AsyncWith(items, body):
            is_lock = all("lock" in ast.unparse(item.context_expr).lower() for item in items)
            return not is_lock or _suite_does_more(body)
    return True


def _asks_whether_there(test: ast.expr) -> bool:
    """Return whether a condition only asks whether there is something yet."""
    match test:
        case ast.Name() | ast.Attribute():
            return True
        case ast.UnaryOp(ast.Not(), operand):
            return _asks_whether_there(operand)
        case ast.BoolOp(values=values):
            return all(map(_asks_whether_there, values))
        case ast.Compare(ops=[ast.Is() | ast.IsNot()]):
            return True
        case ast.Call(ast.Name("hasattr" | "getattr")):
            return True
    return False


def _tells(value: ast.expr) -> bool:
    """Return whether an expression may show or change something."""
    return any(
        isinstance(part, (ast.Yield, ast.YieldFrom))
        or (
            isinstance(part, ast.Call)
            and (
                (isinstance(part.func, ast.Name) and part.func.id in _TELLING)
                or (isinstance(part.func, ast.Attribute) and part.func.attr in CHANGES_IN_PLACE)
            )
        )
        for part in ast.walk(value)
    )


def is_logger(owner: ast.expr) -> bool:
    """Return whether an expression is a logger, by its name."""
    last = ast.unparse(owner).rpartition(".")[2]
    return last.lower().strip("_") in LOGGERS
