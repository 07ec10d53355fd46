"""Blocks whose session comes from the handler: what is in them, and what the handler does after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.bindings import Ref
from session_guard.names.from_libcst import children, walk
from session_guard.project.handler import context_manager, managed, shortfall_of
from session_guard.records import dataclass
from session_guard.safety.loaded import READS
from session_guard.safety.statements import statement_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.module import Module
    from session_guard.names.values import LocalFunction
    from session_guard.project.handler import Handler

_CONTEXT_MANAGERS = frozenset({"get_background_session", "get_session"})
_INNER = (cst.FunctionDef, cst.ClassDef, cst.Lambda)


@dataclass(frozen=True, slots=True)
class Block:
    """An `async with get_background_session() as name:`."""

    statement: cst.With
    item: cst.WithItem
    name: str
    handler: Handler
    manager: LocalFunction

    @property
    def commits(self) -> bool:
        """Whether the handler commits somewhere when the block ends well."""
        opening = self.handler.opening
        return (opening is not None and opening.begins) or any(
            isinstance(call.function, Ref) and call.function.parts[-1] == "commit"
            for function in (self.manager, *self._passed_on())
            for call, _ in function.definition.calls
        )

    @property
    def keeps_the_contract(self) -> bool:
        """Whether the handler commits, rolls back and closes as the standard asks."""
        own = context_manager(self.handler.namespace)
        if own is not None and own.definition in [f.definition for f in self._passed_on()]:
            return self.handler.shortfall is None
        return shortfall_of(self.manager) is None

    def _passed_on(self) -> list[LocalFunction]:
        """Return the functions that the handler's context manager calls."""
        return [
            function
            for call, place in self.manager.definition.calls
            for value in self.manager.home.evaluate(call.function, place)
            if (function := managed(value)) is not None
        ]

    @property
    def is_innermost(self) -> bool:
        """Whether nothing is left between the end of the block and the handler's commit."""
        return self.item is self.statement.items[-1]


def handler_blocks(statement: cst.With, module: Module) -> Iterator[Block]:
    """Yield the sessions that a `with` has from the handler, where they have a name."""
    if statement.asynchronous is None:
        return
    for item in statement.items:
        if (
            not isinstance(item.item, cst.Call)
            or item.asname is None
            or not isinstance(item.asname.name, cst.Name)
        ):
            continue
        for value in module.evaluate(item.item.func):
            for handler in module.project.handlers:
                function = handler.function_of(value)
                if function is not None and _is_manager(function, handler):
                    yield Block(statement, item, item.asname.name.value, handler, function)
                    return


def _is_manager(function: LocalFunction, handler: Handler) -> bool:
    """Return whether a function of the handler is a context manager of sessions by its name."""
    own = context_manager(handler.namespace)
    return function.definition.name in _CONTEXT_MANAGERS or (
        own is not None and function.definition is own.definition
    )


def method_call(node: cst.CSTNode, name: str) -> str | None:
    """Return the method that `node` calls on the session `name`, awaited or not, or None."""
    if isinstance(node, cst.Await):
        node = node.expression
    if (
        isinstance(node, cst.Call)
        and isinstance(node.func, cst.Attribute)
        and isinstance(node.func.value, cst.Name)
        and node.func.value.value == name
    ):
        return node.func.attr.value
    return None


def within(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield what runs when `node` runs: all in it but the bodies of functions defined there."""
    yield node
    for child in children(node):
        if not isinstance(child, _INNER):
            yield from within(child)


def may_leave(node: cst.CSTNode) -> bool:
    """Return whether a suite may be left by a `return`, or by a `break` of a loop round it."""
    if isinstance(node, (cst.Return, cst.Break, cst.Continue)):
        return True
    if isinstance(node, (cst.For, cst.While)):
        return any(isinstance(part, cst.Return) for part in within(node))
    return not isinstance(node, _INNER) and any(map(may_leave, node.children))


def mentions(node: cst.CSTNode, names: frozenset[str]) -> bool:
    """Return whether an expression or a statement has one of some names in it."""
    return any(isinstance(part, cst.Name) and part.value in names for part in walk(node))


def surely_only_reads(module: Module, block: Block, tracked: frozenset[str]) -> bool:
    """Return whether every use of the block's session is a known read, and no object is changed."""
    body = block.statement.body
    reads = 0
    for part in within(body):
        match part:
            case cst.Call() if (method := method_call(part, block.name)) is not None:
                is_read = method in ("get", "get_one", "in_transaction") or (
                    method in READS
                    and bool(part.args)
                    and statement_kind(module, part.args[0].value) in ("read", "plain read")
                )
                if not is_read:
                    return False
                reads += 1
            case cst.AssignTarget(target=cst.Attribute(value=owner)) if mentions(owner, tracked):
                return False
            case cst.AugAssign(target=cst.Attribute(value=owner)) if mentions(owner, tracked):
                return False
    uses = sum(isinstance(part, cst.Name) and part.value == block.name for part in walk(body))
    return uses == reads
