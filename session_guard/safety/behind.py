"""What becomes of a block's objects when it was left: who uses them behind it.

The handler rolls back on an error, which expires what the session knew; a session that is only
closed leaves it as it was loaded. And a commit of the handler's expires nothing, where one of the
session's own did: what another session takes in then overwrites newer rows, or hides them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.bindings import lookup
from session_guard.names.from_libcst import walk
from session_guard.safety.loaded import TAKES
from session_guard.safety.ways_out import always_raises

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.module import Module


def reasons_behind(
    module: Module, block: cst.BaseSuite, tracked: frozenset[str], *, expired: bool
) -> list[str]:
    """Return why the objects of a block, by their names `tracked`, may be others behind it.

    `expired` says whether its own commit had expired them, which the handler's does not.
    """
    behind = _Behind(module, block, tracked)
    used = next(behind.after_an_error(), None)
    taken = next(behind.taken_again(), None) if expired else None
    reasons = []
    if used is not None:
        reasons.append(
            f"`{used.value}` is used after an error of the block (line {behind.line(used)}), and "
            "the handler's rollback expires it"
        )
    if taken is not None:
        reasons.append(
            f"`{taken.value}` goes into another session (line {behind.line(taken)}) with values "
            "that a commit expired before, and would no longer"
        )
    return reasons


class _Behind:
    def __init__(self, module: Module, block: cst.BaseSuite, tracked: frozenset[str]) -> None:
        self._module = module
        self._tracked = tracked
        self._inside = {id(part) for part in walk(block)}
        self._around: list[cst.CSTNode] = [block]
        for holder in module.ancestors(block):
            self._around.append(holder)
            if isinstance(holder, cst.FunctionDef):
                break
        orders = [
            module.place(part).order
            for part in walk(block)
            if isinstance(part, (cst.BaseSmallStatement, cst.BaseCompoundStatement))
        ]
        self._first, self._last = min(orders, default=0), max(orders, default=0)

    def line(self, node: cst.CSTNode) -> int:
        return self._module.position(node).start.line

    def after_an_error(self) -> Iterator[cst.Name]:
        """Yield the uses of an object after the block was left by an error."""
        for inner, holder in zip(self._around, self._around[1:], strict=False):
            if isinstance(holder, (cst.Try, cst.TryStar)):
                suites = [handler.body for handler in holder.handlers if inner is holder.body]
                goes_on = not all(map(always_raises, suites))
                if holder.finalbody is not None and inner is not holder.finalbody:
                    suites.append(holder.finalbody.body)
                for suite in suites:
                    yield from self._uses(suite)
                if goes_on:
                    yield from self._reached()
            elif isinstance(holder, cst.With) and holder is not self._around[1]:
                yield from self._reached()

    def taken_again(self) -> Iterator[cst.Name]:
        """Yield the objects that are handed to a session, or to what may have one."""
        for part in self._outside():
            if not isinstance(part, cst.Call):
                continue
            is_session = isinstance(part.func, cst.Attribute) and part.func.attr.value in TAKES
            for argument in part.args:
                name = argument.value
                if isinstance(name, cst.Name) and self._is_from_block(name):
                    awaited = isinstance(self._module.parent(part), cst.Await)
                    if is_session or awaited:
                        yield name

    def _outside(self) -> Iterator[cst.CSTNode]:
        """Yield what stands in the function, but not in the block."""
        for part in walk(self._around[-1]):
            if id(part) not in self._inside:
                yield part

    def _reached(self) -> Iterator[cst.Name]:
        for part in self._outside():
            if isinstance(part, cst.Name) and self._is_use(part) and self._is_from_block(part):
                yield part

    def _uses(self, suite: cst.BaseSuite) -> Iterator[cst.Name]:
        for part in walk(suite):
            if isinstance(part, cst.Name) and part.value in self._tracked and self._is_use(part):
                yield part

    def _is_use(self, name: cst.Name) -> bool:
        """Return whether a name is read for more than to see whether it holds an object."""
        parent = self._module.parent(name)
        if isinstance(parent, (cst.AssignTarget, cst.AnnAssign, cst.AsName)):
            return isinstance(parent, cst.AnnAssign) and parent.value is name
        if isinstance(parent, cst.Comparison) and len(parent.comparisons) == 1:
            return not isinstance(parent.comparisons[0].operator, (cst.Is, cst.IsNot))
        return not isinstance(parent, cst.ComparisonTarget)

    def _is_from_block(self, name: cst.Name) -> bool:
        """Return whether what a name holds may have been bound in the block."""
        if name.value not in self._tracked:
            return False
        place = self._module.place(name)
        return any(
            self._first <= binding.place.order <= self._last + 1
            for binding in lookup(name.value, place) or ()
            if binding.place.scope is place.scope
        )
