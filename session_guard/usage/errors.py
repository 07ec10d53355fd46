"""Errors of the database that a handler's block catches, and goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.bindings import Await, Call, Ref, Sequence
from session_guard.names.values import External, LocalFunction
from session_guard.safety.loaded import tracked_names
from session_guard.safety.ways_out import always_raises
from session_guard.usage.blocks import (
    handler_blocks,
    may_leave,
    mentions,
    surely_only_reads,
    within,
)
from session_guard.usage.coroutines import Coroutines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.module import Module
    from session_guard.names.held import Key
    from session_guard.usage.blocks import Block

# Exceptions that are, or may be, an error of the database; not `NoResultFound`, which is none.
_DATABASE_ERRORS = frozenset(
    {"Exception", "BaseException", "sqlalchemy.orm.exc.StaleDataError"}
    | {"sqlalchemy.orm.exc.FlushError", "sqlalchemy.orm.exc.ConcurrentModificationError"}
    | {
        f"sqlalchemy.exc.{name}"
        for name in """
        SQLAlchemyError StatementError DBAPIError DatabaseError DataError IntegrityError
        InterfaceError InternalError OperationalError NotSupportedError ProgrammingError
        PendingRollbackError
        """.split()
    }
)
_ENDINGS = frozenset({"sys.exit", "exit", "quit", "os._exit", "pytest.fail", "pytest.skip"})
_UNDOING = frozenset({"rollback", "close", "aclose", "invalidate", "reset"})
# Methods of a session that give what its transaction ends with.
_OWN = frozenset(
    {"connection", "begin", "begin_nested", "get_transaction", "get_nested_transaction"}
)
# Methods of a session that cannot fail in the database, or end what failed.
_QUIET = _UNDOING | {"begin_nested"}


def swallowed_errors(statement: cst.With, module: Module) -> Iterator[tuple[cst.CSTNode, str, str]]:
    """Yield what swallows errors in a handler's block: the node, what it catches, the session."""
    for block in handler_blocks(statement, module):
        if block.commits:
            yield from _Search(block, module).found()


class _Search:
    def __init__(self, block: Block, module: Module) -> None:
        self._block = block
        self._module = module
        self._body = block.statement.body
        self._coroutines = Coroutines(module)
        assert block.item.asname is not None
        first = next(
            (p for p in within(self._body) if isinstance(p, cst.Name) and p.value == block.name),
            None,
        )
        held = module.held(first) if first is not None else None
        self._key: Key | None = held.key if held is not None else None

    def found(self) -> Iterator[tuple[cst.CSTNode, str, str]]:
        if self._key is None:
            return
        found = list(self._candidates())
        if not found:
            return
        tracked = tracked_names(self._module, self._body, self._block.name)
        if not surely_only_reads(self._module, self._block, tracked):
            yield from found

    def _candidates(self) -> Iterator[tuple[cst.CSTNode, str, str]]:
        for part in within(self._body):
            if isinstance(part, (cst.Try, cst.TryStar)):
                for handler in part.handlers:
                    caught = self._caught(handler.type)
                    if caught is None or not self._fails(part.body):
                        continue
                    if not self._ends_well(handler, part):
                        yield (
                            handler,
                            f"`except {caught}`" if caught else "`except:`",
                            self._block.name,
                        )
                if self._ends_in_finally(part):
                    assert part.finalbody is not None
                    yield part.finalbody, "a way out in `finally`", self._block.name
            elif isinstance(part, cst.With):
                for item in part.items:
                    caught = self._suppressed(item.item)
                    if caught is not None and self._fails(part.body):
                        yield item.item, f"`suppress({caught})`", self._block.name

    # -- what is caught -------------------------------------------------------------------------

    def _caught(self, node: cst.BaseExpression | None) -> str | None:
        """Return the text of what is caught where it may be the database's error."""
        if node is None:
            return ""
        options: list[cst.BaseExpression] = [node]
        if isinstance(node, cst.Tuple):
            options = [element.value for element in node.elements]
        return self._module.code(node) if any(map(self._is_database_error, options)) else None

    def _is_database_error(self, node: cst.BaseExpression) -> bool:
        found = list(self._module.evaluate(node))
        expr = self._module.expr(node)
        for binding in self._module.bindings(expr, self._module.place(node)):
            if isinstance(binding.value, Sequence):
                for item in binding.value.items:
                    found.extend(self._module.names.evaluate(item, binding.place))
        return any(isinstance(v, External) and v.dotted in _DATABASE_ERRORS for v in found)

    def _suppressed(self, node: cst.BaseExpression) -> str | None:
        if not isinstance(node, cst.Call) or not any(
            value == External("contextlib.suppress") for value in self._module.evaluate(node.func)
        ):
            return None
        caught = [a for a in node.args if self._is_database_error(a.value)]
        return ", ".join(self._module.code(a.value) for a in node.args) if caught else None

    # -- what may fail, and what becomes of it ----------------------------------------------------

    def _fails(self, node: cst.CSTNode) -> bool:
        """Return whether a statement of the session may fail in `node`, outside a savepoint."""
        if isinstance(node, (cst.FunctionDef, cst.ClassDef, cst.Lambda)):
            return False
        if isinstance(node, cst.With) and any(self._protects(item.item) for item in node.items):
            return False
        if isinstance(node, (cst.Try, cst.TryStar)) and any(
            self._caught(handler.type) is not None and not always_raises(handler.body)
            for handler in node.handlers
        ):
            # What that `except` lets pass is its own finding, or was rolled back.
            rest = [*node.handlers, node.orelse, node.finalbody]
            return any(self._fails(part) for part in rest if part is not None)
        if isinstance(node, cst.Await) and isinstance(node.expression, cst.Call):
            call = node.expression
            method = call.func.attr.value if isinstance(call.func, cst.Attribute) else ""
            if method not in _QUIET and self._key in self._coroutines.uses(call):
                return True
        return any(self._fails(child) for child in node.children)

    def _protects(self, node: cst.BaseExpression) -> bool:
        """Return whether a context manager rolls back by itself, or may as one of the project's."""
        if not isinstance(node, cst.Call):
            return False
        if isinstance(node.func, cst.Attribute) and node.func.attr.value in (
            "begin_nested",
            "begin",
        ):
            return True
        return any(
            isinstance(argument.value, cst.Name) and argument.value.value == self._block.name
            for argument in node.args
        )

    def _ends_well(
        self, handler: cst.ExceptHandler | cst.ExceptStarHandler, node: cst.Try | cst.TryStar
    ) -> bool:
        """Return whether what is caught is raised on, or the transaction is rolled back."""
        body = handler.body
        return (
            always_raises(body)
            or self._exits(body)
            or self._is_undone(body)
            or self._raised_later(handler, node)
        )

    def _ends_in_finally(self, node: cst.Try | cst.TryStar) -> bool:
        """Return whether a `return` or its like in a `finally` ends what failed in the `try`."""
        last = node.finalbody
        return (
            last is not None
            and may_leave(last.body)
            and self._fails(node.body)
            and not any(self._is_undone(part) for part in (last, *node.handlers))
        )

    def _is_undone(self, body: cst.CSTNode) -> bool:
        """Return whether the transaction is rolled back in a suite, or may be."""
        for part in within(body):
            if not isinstance(part, cst.Call):
                continue
            if isinstance(part.func, cst.Attribute) and self._undoes(part.func):
                return True
            if any(mentions(a.value, frozenset({self._block.name})) for a in part.args) and (
                self._may_undo(part)
            ):
                return True
        return False

    def _undoes(self, function: cst.Attribute) -> bool:
        """Return whether a method ends what failed: of the session, or of what was made of it."""
        if function.attr.value not in _UNDOING:
            return False
        owner: cst.BaseExpression = function.value
        held = self._module.held(owner)
        if held is not None:
            return held.key == self._key
        if function.attr.value == "rollback":
            return True  # of a transaction, or of an object that holds the session
        while isinstance(owner, cst.Attribute):
            owner = owner.value
        expr = self._module.expr(owner)
        return mentions(owner, frozenset({self._block.name})) or any(
            self._is_made_of_it(binding.value)
            for binding in self._module.bindings(expr, self._module.place(owner))
        )

    def _is_made_of_it(self, value: object) -> bool:
        """Return whether an object was given the session, or is its connection or transaction."""
        if isinstance(value, Await):
            value = value.value
        if not isinstance(value, Call):
            return False
        name = self._block.name
        if isinstance(value.function, Ref) and value.function.parts[0] == name:
            return value.function.parts[-1] in _OWN
        given = (*value.arguments, *(argument for _, argument in value.keywords))
        return any(isinstance(item, Ref) and item.parts[0] == name for item in given)

    def _exits(self, body: cst.BaseSuite) -> bool:
        last = body.body[-1] if body.body else None
        if isinstance(last, cst.SimpleStatementLine):
            last = last.body[-1]
        return (
            isinstance(last, cst.Expr)
            and isinstance(last.value, cst.Call)
            and any(
                isinstance(value, External) and value.dotted in _ENDINGS
                for value in self._module.evaluate(last.value.func)
            )
        )

    def _may_undo(self, call: cst.Call) -> bool:
        """Return whether a function that is given the session may roll it back."""
        if isinstance(call.func, cst.Attribute) and mentions(
            call.func.value, frozenset({self._block.name})
        ):
            return False
        found = self._module.evaluate(call.func)
        return any(
            not isinstance(value, LocalFunction)
            or any(
                isinstance(inner.function, Ref) and inner.function.parts[-1] in _UNDOING
                for inner, _ in value.definition.calls
            )
            for value in found
        )

    def _raised_later(
        self, handler: cst.ExceptHandler | cst.ExceptStarHandler, node: cst.Try | cst.TryStar
    ) -> bool:
        """Return whether the error is kept, and something is raised behind the `try`."""
        if handler.name is None or not isinstance(handler.name.name, cst.Name):
            return False
        name = frozenset({handler.name.name.value})
        kept = any(
            (isinstance(part, cst.Assign) and mentions(part.value, name))
            or (
                isinstance(part, cst.Call)
                and isinstance(part.func, cst.Attribute)
                and part.func.attr.value in ("append", "add", "put_nowait", "set_exception")
                and any(mentions(a.value, name) for a in part.args)
            )
            for part in within(handler.body)
        )
        behind = False
        inside = {id(part) for part in within(node)}
        for part in within(self._body):
            behind = behind or part is node
            if behind and isinstance(part, cst.Raise) and id(part) not in inside:
                return kept
        return False
