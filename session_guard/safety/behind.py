"""What becomes of a block's objects when it was left: who uses them behind it.

The handler rolls back on an error, which expires what the session knew; a session that is only
closed leaves it as it was loaded. And the handler's commits expire nothing, where the session's own
did: another session that takes such an object in then overwrites newer rows with it, or hides them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.bindings import Call, Constant, Ref, lookup
from session_guard.names.from_libcst import walk
from session_guard.names.openings import opening
from session_guard.safety.loaded import TAKES
from session_guard.safety.ways_out import is_quiet_context, leaves_the_function

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.module import Module
    from session_guard.safety.forms import Form


def reasons_behind(
    module: Module,
    form: Form,
    tracked: frozenset[str],
    *,
    expires: bool,
    expired: bool,
    kept: bool,
) -> list[str]:
    """Return why the objects of a form's block, by their names `tracked`, may be others behind it.

    `expires` says whether its own commits expire them, `expired` whether one may have done so, and
    `kept` whether an error that left it did not.
    """
    behind = _Behind(module, form, tracked, expires=expires)
    reasons = []
    used = next(behind.after_an_error(), None) if kept else None
    if used is not None:
        reasons.append(
            f"`{used.value}` is used where an error may have left the block "
            f"(line {behind.line(used)}), and the handler's rollback expires it"
        )
    taken = next(behind.taken_again(), None) if expired else None
    if taken is not None:
        reasons.append(
            f"`{taken.value}` goes on to another session (line {behind.line(taken)}) with values "
            "that would have expired"
        )
    return reasons


class _Behind:
    def __init__(
        self, module: Module, form: Form, tracked: frozenset[str], *, expires: bool
    ) -> None:
        self._module = module
        self._expires = expires
        self._tracked = tracked
        self._block = form.block
        self._around: list[cst.CSTNode] = [form.stands_in]
        for holder in module.ancestors(form.stands_in):
            self._around.append(holder)
            if isinstance(holder, cst.FunctionDef):
                break
        orders = [
            module.place(part).order
            for part in walk(self._block)
            if isinstance(part, (cst.BaseSmallStatement, cst.BaseCompoundStatement))
            and module.parent(part) is not None  # a rule may have made a `try` of another
        ]
        self._first, self._last = min(orders, default=0), max(orders, default=0)

    def line(self, node: cst.CSTNode) -> int:
        return self._module.position(node).start.line

    def after_an_error(self) -> Iterator[cst.Name]:
        """Yield the uses of an object after the block was left by an error."""
        for inner, holder in zip(self._around, self._around[1:], strict=False):
            if isinstance(holder, (cst.Try, cst.TryStar)):
                suites = [handler.body for handler in holder.handlers if inner is holder.body]
                goes_on = not all(map(leaves_the_function, suites))
                if holder.finalbody is not None and inner is not holder.finalbody:
                    suites.append(holder.finalbody.body)
                for suite in suites:
                    yield from filter(self._is_use, _names(suite, self._tracked))
                if goes_on:
                    yield from self._reached_after(holder)
            elif isinstance(holder, cst.With) and not all(map(self._is_quiet, holder.items)):
                yield from self._reached_after(holder)

    def taken_again(self) -> Iterator[cst.Name]:
        """Yield the objects that are handed to a session, or to a coroutine that may have one."""
        refreshed = self._refreshed()
        for part in walk(self._around[-1]):
            if not isinstance(part, cst.Call):
                continue
            takes = isinstance(part.func, cst.Attribute) and part.func.attr.value in TAKES
            if takes or isinstance(self._module.parent(part), cst.Await):
                for argument in part.args:
                    name = argument.value
                    if (
                        isinstance(name, cst.Name)
                        and name.value not in refreshed
                        and self._is_from_block(name)
                    ):
                        yield name

    def _refreshed(self) -> frozenset[str]:
        """Return the names of objects that are read anew right behind the block's only commit."""
        ends = [
            part
            for part in walk(self._block)
            if isinstance(part, cst.Attribute) and part.attr.value in ("commit", "begin")
        ]
        if len(ends) != 1 or ends[0].attr.value == "begin":
            return frozenset()
        suite = next(a for a in self._module.ancestors(ends[0]) if isinstance(a, cst.BaseSuite))
        return frozenset(
            name.value
            for line in suite.body
            for name in _refreshed_by(line)
            if self._order(name) > self._order(ends[0])
        )

    def _reached_after(self, holder: cst.CSTNode) -> Iterator[cst.Name]:
        """Yield the uses behind a statement that went on after an error, by a loop too."""
        inside = {id(part) for part in walk(holder)}
        for name in _names(self._around[-1], self._tracked):
            is_behind = id(name) not in inside or self._order(name) < self._first
            if is_behind and self._is_use(name) and self._is_from_block(name):
                yield name

    def _is_quiet(self, item: cst.WithItem) -> bool:
        """Return whether a context manager round the block, or beside it, swallows no errors."""
        if isinstance(item.item, cst.Call) and isinstance(item.item.func, cst.Attribute):
            method = item.item.func.attr.value
            if method in ("begin", "begin_nested"):
                return True
        return is_quiet_context(self._module, item.item) or any(
            opening(value) is not None for value in self._module.evaluate(item.item)
        )

    def _is_use(self, name: cst.Name) -> bool:
        """Return whether a name is read for more than a rollback leaves as it is."""
        parent = self._module.parent(name)
        if isinstance(parent, cst.Attribute) and self._is_new(name):
            return False
        if isinstance(parent, (cst.AssignTarget, cst.AsName)):
            return False
        if isinstance(parent, cst.Comparison) and len(parent.comparisons) == 1:
            return not isinstance(parent.comparisons[0].operator, (cst.Is, cst.IsNot))
        return True

    def _is_new(self, name: cst.Name) -> bool:
        """Return whether a name holds what the program made itself, and a rollback does not expire.

        It would be expired where a commit had stored it before.
        """
        if not self._expires and not self._commits_last():
            return False
        scope = self._module.place(name).scope
        return all(
            isinstance(binding.value, Constant)
            or (
                isinstance(binding.value, Call)
                and isinstance(binding.value.function, Ref)
                and binding.value.function.parts[-1][:1].isupper()
            )
            for binding in scope.bindings.get(name.value, ())
        )

    def _commits_last(self) -> bool:
        """Return whether the block's only commit is its last statement."""
        commits = [
            part
            for part in walk(self._block)
            if isinstance(part, cst.Attribute) and part.attr.value == "commit"
        ]
        last = self._block.body[-1]
        return (
            isinstance(last, cst.SimpleStatementLine)
            and len(commits) == 1
            and any(part is commits[0] for part in walk(last))
        )

    def _is_from_block(self, name: cst.Name) -> bool:
        """Return whether what a name holds may have been bound in a run of the block before."""
        if name.value not in self._tracked:
            return False
        place = self._module.place(name)
        is_inside = self._first <= place.order <= self._last
        return any(
            self._first <= binding.place.order <= self._last + 1
            and (not is_inside or binding.place.order > place.order)
            for binding in lookup(name.value, place) or ()
            if binding.place.scope is place.scope
        )

    def _order(self, node: cst.CSTNode) -> float:
        return self._module.place(node).order


def _names(node: cst.CSTNode, wanted: frozenset[str]) -> Iterator[cst.Name]:
    for part in walk(node):
        if isinstance(part, cst.Name) and part.value in wanted:
            yield part


def _refreshed_by(line: cst.CSTNode) -> Iterator[cst.Name]:
    """Yield the name of the object that a statement reads anew, all of it."""
    match line:
        case cst.SimpleStatementLine(
            body=[
                cst.Expr(
                    value=cst.Await(
                        expression=cst.Call(
                            func=cst.Attribute(attr=cst.Name(value="refresh")),
                            args=[cst.Arg(value=cst.Name() as name, keyword=None)],
                        )
                    )
                )
            ]
        ):
            yield name
