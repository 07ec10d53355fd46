"""What a `try` that closes its session becomes where someone else closes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.rewriting.imports import has_comment
from session_guard.safety.spelling import method_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_CLOSING = frozenset({"close", "aclose"})
COMMITTING = frozenset({"commit"})
_ROLLING_BACK = frozenset({"rollback"})


def is_close(node: cst.CSTNode, name: str) -> bool:
    """Return whether a statement is `await name.close()`, be it where the name is not None."""
    if isinstance(node, cst.If) and node.orelse is None and _is_bound(node.test, name):
        steps = _statements(node.body)
        return len(steps) == 1 and not has_comment(node) and is_close(steps[0], name)
    return _is_call_of(node, name, _CLOSING)


def _is_bound(test: cst.BaseExpression, name: str) -> bool:
    """Return whether a test is `name` or `name is not None`."""
    match test:
        case cst.Comparison(
            left=left,
            comparisons=[
                cst.ComparisonTarget(operator=cst.IsNot(), comparator=cst.Name(value="None"))
            ],
        ):
            return _is_bound(left, name)
    return isinstance(test, cst.Name) and test.value == name


def last_steps(statement: cst.Try | cst.TryStar) -> list[cst.CSTNode]:
    """Return the statements of a `finally`."""
    return _statements(statement.finalbody.body) if statement.finalbody is not None else []


def without_finally(
    before: Sequence[cst.BaseStatement],
    statement: cst.Try | cst.TryStar,
    name: str,
    suite: cst.IndentedBlock,
) -> cst.BaseSuite:
    """Return the block of a `try`, behind `before`, whose session someone else closes.

    An `except` that only rolls back and raises on is what the handler does; any other stays, in a
    `try` inside the block.
    """
    if not all(_only_rolls_back(handler, name) for handler in statement.handlers):
        return cst.IndentedBlock(
            [*before, statement.with_changes(finalbody=None)], indent=suite.indent
        )
    body = statement.body
    if statement.orelse is None and not before:
        return body
    lines = [*before, *_lines(body)]
    last = body
    if statement.orelse is not None:
        last = statement.orelse.body
        lines.extend(_lines(last))
    # What stands between two that are joined is written nowhere: a comment there would be lost.
    return cst.IndentedBlock(
        lines,
        header=body.header if isinstance(body, cst.IndentedBlock) else cst.TrailingWhitespace(),
        indent=suite.indent,
        footer=last.footer if isinstance(last, cst.IndentedBlock) else (),
    )


def _lines(suite: cst.BaseSuite) -> list[cst.BaseStatement]:
    """Return the lines of a block; that of a block on one line as one of its own."""
    if isinstance(suite, cst.SimpleStatementSuite):
        return [cst.SimpleStatementLine(suite.body, trailing_whitespace=suite.trailing_whitespace)]
    assert isinstance(suite, cst.IndentedBlock)
    return list(suite.body)


def _only_rolls_back(handler: cst.ExceptHandler | cst.ExceptStarHandler, name: str) -> bool:
    *steps, raised = _statements(handler.body)
    if (
        not isinstance(handler, cst.ExceptHandler)
        or has_comment(handler)
        or not all(_is_call_of(step, name, _ROLLING_BACK) for step in steps)
        or not isinstance(raised, cst.Raise)
        or raised.cause is not None
    ):
        return False
    own = handler.name.name if handler.name is not None else None
    return raised.exc is None or (
        isinstance(raised.exc, cst.Name)
        and isinstance(own, cst.Name)
        and raised.exc.value == own.value
    )


def _statements(suite: cst.BaseSuite) -> list[cst.CSTNode]:
    """Return the statements of a block, of each line all of them."""
    found: list[cst.CSTNode] = []
    for line in _lines(suite):
        found.extend(line.body if isinstance(line, cst.SimpleStatementLine) else [line])
    return found


def _is_call_of(node: cst.CSTNode, name: str, methods: frozenset[str]) -> bool:
    """Return whether a statement is `await name.method()`, for one of some methods."""
    match node:
        case cst.SimpleStatementLine(body=[statement]):
            return _is_call_of(statement, name, methods)
        case cst.Expr(cst.Await(call)):
            return calls_one(call, name, methods)
    return False


def calls_one(node: cst.CSTNode, name: str | None, methods: frozenset[str]) -> bool:
    """Return whether an expression is `name.method()`, for one of some methods."""
    return isinstance(node, cst.Call) and not node.args and method_of(node, name) in methods


def without_last_commit(block: cst.BaseSuite, name: str) -> cst.BaseSuite:
    """Return a block without the `commit()` that ends it; one with a comment stays."""
    if (
        isinstance(block, cst.IndentedBlock)
        and len(block.body) > 1
        and _is_call_of(block.body[-1], name, COMMITTING)
        and not has_comment(block.body[-1])
        and not any(line.comment for line in block.footer)
    ):
        return block.with_changes(body=block.body[:-1])
    return block
