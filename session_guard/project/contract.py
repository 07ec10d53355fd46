"""Whether a handler's context manager keeps the standard's contract, read from its body.

Only a few forms are accepted; whatever else a body does is a shortfall, since what is not
understood must not be taken for the standard.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOGGING = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})


def shortfall(function: ast.AsyncFunctionDef) -> str | None:
    """Return what `get_background_session` does not do as the standard asks, or None.

    The standard: it yields the session it opened and nothing else, untouched; commits when the
    block ends well, in any case; rolls back and raises the same error on; and closes always.
    """
    body = _meaningful(function.body)
    opened = _opened(body)
    if opened is None:
        return "does not open a session in a form that is understood"
    session, rest, closes = opened
    if closes:
        return _inside(session, rest)
    if len(rest) != 1 or not isinstance(rest[0], ast.Try):
        return "does not close its session in any case"
    attempt = rest[0]
    if not any(_is_step(statement, session, "close") for statement in attempt.finalbody):
        return "does not close its session in any case"
    if not all(
        _is_step(statement, session, "close") or _is_harmless(statement, session)
        for statement in attempt.finalbody
    ):
        return "does more than to close its session in the end"
    return _attempt(session, attempt)


def passed_on(function: ast.AsyncFunctionDef) -> str | None:
    """Return the function whose session a context manager yields as it is, doing nothing else."""
    match _meaningful(function.body):
        case [
            ast.AsyncWith(
                items=[ast.withitem(ast.Call(ast.Name(id=name), [], []), ast.Name(id=session))],
                body=[statement],
            )
        ] if _is_yield_of(statement, session):
            return name
    return None


def _opened(body: list[ast.stmt]) -> tuple[str, list[ast.stmt], bool] | None:
    """Return the session's name, what follows, and whether leaving that closes the session."""
    before: list[ast.stmt] = []
    for index, statement in enumerate(body):
        match statement:
            case ast.AsyncWith(items=[ast.withitem(ast.Call(), ast.Name(id=session))]):
                return None if body[index + 1 :] else (session, statement.body, True)
            case (
                ast.Assign(targets=[ast.Name(id=session)], value=ast.Call())
                | ast.AnnAssign(target=ast.Name(id=session), value=ast.Call())
            ) if any(_mentions(later, session) for later in body[index + 1 :]):
                if any(isinstance(later, ast.Try) for later in body[index + 1 : index + 2]):
                    return session, body[index + 1 :], False
                before.append(statement)
            case _ if _is_harmless(statement, ""):
                before.append(statement)
            case _:
                return None
    return None


def _inside(session: str, body: list[ast.stmt]) -> str | None:
    body = _meaningful(body)
    if len(body) == 1 and isinstance(body[0], ast.Try):
        attempt = body[0]
        for statement in attempt.finalbody:
            is_close = _is_step(statement, session, "close")
            if not is_close and not _is_harmless(statement, session):
                return "does more than to close its session in the end"
        return _attempt(session, attempt)
    return _yields_and_commits(session, body, [])


def _attempt(session: str, attempt: ast.Try) -> str | None:
    found = _yields_and_commits(session, attempt.body, attempt.orelse)
    if found is not None:
        return found
    for handler in attempt.handlers:
        *steps, last = handler.body
        if not isinstance(last, ast.Raise) or last.exc is not None:
            return "does not raise the error of its block on"
        if not all(
            _is_step(step, session, "rollback")
            or _is_guarded_rollback(step, session)
            or _is_harmless(step, session)
            for step in steps
        ):
            return "does more on an error than to roll back, log and raise"
        if not any(
            _is_step(step, session, "rollback") or _is_guarded_rollback(step, session)
            for step in steps
        ):
            return "does not roll back on an error"
    return None


def _yields_and_commits(
    session: str, body: Iterable[ast.stmt], behind: Iterable[ast.stmt]
) -> str | None:
    steps = [
        statement
        for statement in (*_meaningful(list(body)), *behind)
        if not _is_harmless(statement, session)
    ]
    if not steps or not _is_yield_of(steps[0], session):
        return "does not yield the session it opened, as it is"
    if len(steps) == 1:
        return "does not commit"
    if len(steps) != 2 or not _is_step(steps[1], session, "commit"):
        return "does not commit in any case, or does more than that"
    return None


def _is_yield_of(statement: ast.stmt, session: str) -> bool:
    match statement:
        case ast.Expr(ast.Yield(ast.Name(id=name))):
            return name == session
    return False


def _is_step(statement: ast.stmt, session: str, method: str) -> bool:
    """Return whether a statement is `await session.method()`, by a helper of its own perhaps.

    A helper that is handed the coroutine (`await shielded(session.close())`) awaits it.
    """
    match statement:
        case ast.Expr(ast.Await(ast.Call(args=[argument], keywords=[]))) if isinstance(
            argument, ast.Call
        ):
            return _is_method(argument, session, method)
        case ast.Expr(ast.Await(ast.Call() as call)):
            return _is_method(call, session, method)
    return False


def _is_method(call: ast.Call, session: str, method: str) -> bool:
    match call:
        case ast.Call(ast.Attribute(ast.Name(id=name), attr=attr), args=[], keywords=[]):
            return name == session and attr == method
    return False


def _is_guarded_rollback(statement: ast.stmt, session: str) -> bool:
    """Return whether a statement rolls back; where that fails too, or in any case, it logs."""
    return (
        isinstance(statement, ast.Try)
        and len(statement.body) == 1
        and _is_step(statement.body[0], session, "rollback")
        and not statement.orelse
        and all(
            _is_harmless(step, session)
            for body in (*(handler.body for handler in statement.handlers), statement.finalbody)
            for step in body
        )
    )


def _is_harmless(statement: ast.stmt, session: str) -> bool:
    """Return whether a statement neither awaits, yields or leaves, nor touches the session."""
    match statement:
        case ast.Pass() | ast.Import() | ast.ImportFrom() | ast.Global():
            return True
        case ast.Expr(ast.Constant()):
            return True
        case ast.Expr(ast.Call(ast.Attribute(attr=attr))):
            is_logging = attr in _LOGGING
        case ast.Assign() | ast.AnnAssign():
            is_logging = True
        case _:
            return False
    return (
        is_logging
        and not (session and _mentions(statement, session))
        and not any(
            isinstance(part, (ast.Await, ast.Yield, ast.YieldFrom)) for part in ast.walk(statement)
        )
    )


def _mentions(node: ast.AST, name: str) -> bool:
    return any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node))


def _meaningful(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return a body without its docstring."""
    return [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
