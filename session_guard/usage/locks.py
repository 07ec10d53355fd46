"""What of a function runs for one task at a time, under a lock that the tasks share."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.bindings import Constant, end_of
from session_guard.names.from_ast import FunctionText, parse_expression
from session_guard.names.from_libcst import walk
from session_guard.names.values import External, Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.names.values import LocalFunction
    from session_guard.usage.bodies import Mark

_LOCK = re.compile(r"(?<![a-z])(?:lock|mutex)|(?:Lock|Mutex)\b")
_LOCKS = frozenset({"asyncio.Lock", "anyio.Lock", "threading.Lock"})
# What lets so many in as its first argument says, and how many without one.
_COUNTING = {
    "asyncio.Semaphore": 1,
    "asyncio.BoundedSemaphore": 1,
    "anyio.Semaphore": None,
    "anyio.CapacityLimiter": None,
}
_COUNTS = ("value", "initial_value", "total_tokens")


def under_lock(function: LocalFunction) -> frozenset[Mark]:
    """Return the marks of a function's calls that run while a lock is held: one task at a time."""
    node = function.definition.node
    found: Iterator[Mark] = iter(())
    if isinstance(node, FunctionText):
        found = _in_ast(node.parsed(), function)
    elif isinstance(node, cst.FunctionDef):
        found = _in_tree(node, function)
    return frozenset(found)


def _in_ast(node: ast.AST, function: LocalFunction) -> Iterator[tuple[int, int]]:
    taken = _owners((ast.unparse(part) for part in _ast_calls(node)), "acquire")
    for part in ast.walk(node):
        match part:
            case ast.AsyncWith(items):
                if any(_excludes(ast.unparse(item.context_expr), function) for item in items):
                    yield from _calls_from(part)
            case ast.Try(finalbody=last) if taken and last:
                calls = (ast.unparse(c) for line in last for c in _ast_calls(line))
                if any(_excludes(lock, function) for lock in taken & _owners(calls, "release")):
                    for line in (*part.body, *part.handlers, *part.orelse):
                        yield from _calls_from(line)


def _calls_from(node: ast.AST) -> Iterator[tuple[int, int]]:
    """Yield where the calls in a node begin; of several that begin at one place all are in it."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call):
            yield part.lineno, part.col_offset


def _ast_calls(node: ast.AST) -> Iterator[ast.expr]:
    return (part.func for part in ast.walk(node) if isinstance(part, ast.Call))


def _in_tree(node: cst.FunctionDef, function: LocalFunction) -> Iterator[int]:
    code = cst.Module([]).code_for_node
    taken = _owners(map(code, _tree_calls(node)), "acquire")
    for part in walk(node.body):
        match part:
            case cst.With(items=items):
                if any(_excludes(code(item.item), function) for item in items):
                    yield from map(id, walk(part))
            case cst.Try(finalbody=cst.Finally() as last) if taken:
                released = _owners(map(code, _tree_calls(last)), "release")
                if any(_excludes(lock, function) for lock in taken & released):
                    for inner in (part.body, *part.handlers, part.orelse):
                        yield from map(id, walk(inner)) if inner is not None else ()


def _tree_calls(node: cst.CSTNode) -> Iterator[cst.BaseExpression]:
    return (part.func for part in walk(node) if isinstance(part, cst.Call))


def _owners(functions: Iterator[str], method: str) -> set[str]:
    """Return the objects whose `method` is among some functions, as they are written."""
    return {text.removesuffix(f".{method}") for text in functions if text.endswith(f".{method}")}


def _excludes(text: str, function: LocalFunction) -> bool:
    """Return whether an expression is a lock, by its name or by what it was made as."""
    if _LOCK.search(text):
        return True
    place = end_of(function.definition.scope)
    return any(
        isinstance(value, Result) and _lets_one_in(value)
        for value in function.home.evaluate(parse_expression(text), place)
    )


def _lets_one_in(made: Result) -> bool:
    name = made.function.dotted if isinstance(made.function, External) else ""
    if name in _LOCKS or name not in _COUNTING:
        return name in _LOCKS
    call = made.call
    given = [*call.arguments[:1], *(value for key, value in call.keywords if key in _COUNTS)]
    if not given:
        return _COUNTING[name] == 1 and not call.unpacks
    return isinstance(given[0], Constant) and given[0].value == 1
