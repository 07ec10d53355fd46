"""What becomes of a block's objects when it was left: who uses them behind it.

The handler rolls back on an error, which expires what the session knew; a session that is only
closed leaves it as it was loaded. And the handler's commits expire nothing, where the session's own
did: another session that takes such an object in then overwrites newer rows with it, or hides them,
and what looks into one finds values where there were none.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

import libcst as cst

from session_guard.names.bindings import Call, Constant, Ref, lookup
from session_guard.names.from_ast import FunctionText
from session_guard.names.from_libcst import walk
from session_guard.names.openings import opening
from session_guard.names.values import LocalClass, LocalFunction
from session_guard.project.takers import parsed
from session_guard.safety.forms import around, comes_again, extent, statements
from session_guard.safety.loaded import TAKES, bound_names, classes_held, held_names
from session_guard.safety.spelling import method_of, shows
from session_guard.safety.ways_out import (
    OTHER_ERRORS,
    is_quiet_context,
    leaves_the_function,
    may_swallow,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from session_guard.module import Module
    from session_guard.names.bindings import Function
    from session_guard.safety.forms import Form


class GivenAway(NamedTuple):
    """What others get of a block's objects."""

    text: str
    where: str
    """Its line, as messages say it."""
    classes: list[LocalClass | None]
    """Which objects it may be; None stands for any."""


def reasons_behind(
    module: Module,
    form: Form,
    tracked: frozenset[str],
    taken: frozenset[str],
    *,
    expires: bool,
    expired: frozenset[str],
    read: Sequence[cst.Attribute],
    given_away: Sequence[GivenAway],
    kept: bool,
) -> list[str]:
    """Return why the objects of a form's block, by their names `tracked`, may be others behind it.

    The session was given those of the names `taken`. `expires` says whether its own commits expire
    them, `expired` which they may have, `read` which attributes of such are read in the block,
    `given_away` what others get of them there, and `kept` whether an error that left it expired
    none.
    """
    behind = _Behind(module, form, tracked, taken, expires=expires)
    reasons = []
    used = next(behind.after_an_error(), None) if kept else None
    if used is not None:
        reasons.append(
            f"`{used.value}` is used where an error may have left the block "
            f"(line {behind.line(used)}), and the handler's rollback expires it"
        )
    handed = next(behind.taken_again(expired), None)
    if handed is not None:
        reasons.append(
            f"`{handed.value}` goes on to another session (line {behind.line(handed)}) with values "
            "that would have expired"
        )
    for one in (*given_away, *behind.given_away(expired)) if handed is None else ():
        takers = filter(None, map(module.project.taker_of, one.classes))
        taker = next(takers, None)
        if taker is not None:
            reasons.append(
                f"others get `{one.text}` ({one.where}), and {taker} gives such objects to another "
                "session, with values that would have expired"
            )
            break
    shown = next(behind.shown(expired), None)
    if shown is not None and shown is not handed:
        reasons.append(
            f"what is done with `{shown.value}` (line {behind.line(shown)}) may show that it has "
            "expired, and it would no longer"
        )
    failing = next(filter(behind.is_caught, (*read, *behind.read(expired))), None)
    if failing is not None:
        reasons.append(
            f"`{module.code(failing)}` fails where errors are caught (line "
            f"{behind.line(failing)}), since it has expired, and would no longer"
        )
    return reasons


class _Behind:
    def __init__(
        self,
        module: Module,
        form: Form,
        tracked: frozenset[str],
        taken: frozenset[str],
        *,
        expires: bool,
    ) -> None:
        self._module = module
        self._expires = expires
        self._tracked = tracked
        self._block = form.block
        self._session = form.name
        self._around = around(form, module)
        self._also_called: set[str] = set()
        """What the objects are called that are bound to other names behind the block."""
        self._first, self._last = extent(form.block, module)
        self._taken_in = taken
        """The names by which the block gives objects to its session; they may be older than it."""

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

    def taken_again(self, expired: frozenset[str]) -> Iterator[cst.Name]:
        """Yield the objects that are handed to a session, or to a coroutine that may have one."""
        for part in walk(self._around[-1]):
            if not isinstance(part, cst.Call) or self._is_its_own(part):
                continue
            takes = isinstance(part.func, cst.Attribute) and part.func.attr.value in TAKES
            if takes or isinstance(self._module.parent(part), cst.Await):
                for argument in part.args:
                    name = argument.value
                    if (
                        isinstance(name, cst.Name)
                        and name.value in expired
                        and self._is_from_block(name)
                    ):
                        yield name

    def _is_its_own(self, call: cst.Call) -> bool:
        """Return whether a call is that of the block's session, which knows its own objects."""
        return (
            method_of(call, self._session) is not None
            and self._first <= self._order(call) <= self._last
            and not comes_again(self._around)
        )

    def shown(self, expired: frozenset[str]) -> Iterator[cst.Name]:
        """Yield the objects behind the block that go where their state may be looked into.

        Reading an attribute fails, and giving an object back or on to a name shows nothing of it.
        """
        for part, names in self._behind(expired):
            given: list[cst.CSTNode] = []
            match part:
                case cst.Attribute(attr=cst.Name(value="__dict__")):
                    given = [part.value]
                case cst.Call() if shows(part):
                    given = [argument.value for argument in part.args]
                    if isinstance(part.func, cst.Attribute):
                        given.append(part.func.value)
                case cst.FormattedStringExpression():
                    given = [part.expression]
                case cst.BinaryOperation():
                    given = [part.left, part.right]
            for node in given:
                yield from filter(self._may_be_expired, held_names(node, names))

    def given_away(self, expired: frozenset[str]) -> Iterator[GivenAway]:
        """Yield the objects that are given back or kept behind the block."""
        for part, names in self._behind(expired):
            match part:
                case cst.Return(value=cst.BaseExpression() as given):
                    kept = True
                case cst.Assign(value=given):
                    kept = any(self._keeps(target.target) for target in part.targets)
                case cst.AnnAssign(value=cst.BaseExpression() as given):
                    kept = self._keeps(part.target)
                case _:
                    continue
            if kept:
                for name in filter(self._may_be_expired, held_names(given, names)):
                    classes = classes_held(self._module, name, self._session)
                    yield GivenAway(name.value, f"line {self.line(name)}", classes)

    def _keeps(self, target: cst.BaseExpression) -> bool:
        """Return whether others than the function have what is assigned to a target."""
        if isinstance(target, cst.Name):
            return target.value not in self._module.place(target).scope.bindings
        return isinstance(target, (cst.Attribute, cst.Subscript))

    def read(self, expired: frozenset[str]) -> Iterator[cst.Attribute]:
        """Yield the attributes that are read of objects behind the block."""
        for part, names in self._behind(expired):
            if isinstance(part, cst.Attribute) and any(
                map(self._may_be_expired, held_names(part.value, names))
            ):
                yield part

    def is_caught(self, node: cst.CSTNode) -> bool:
        """Return whether an error of SQLAlchemy's does not leave the function from a node."""
        inner = node
        for holder in self._module.ancestors(node):
            if isinstance(holder, cst.FunctionDef):
                return any(self._may_swallow(one.decorator) for one in holder.decorators)
            if isinstance(holder, (cst.Try, cst.TryStar)) and inner is holder.body:
                if any(map(may_swallow, holder.handlers)):
                    return True
            elif isinstance(holder, cst.With) and not all(map(self._is_quiet, holder.items)):
                return True
            inner = holder
        return False

    def _may_swallow(self, decorator: cst.BaseExpression) -> bool:
        """Return whether a decorator of the project may keep an error from leaving its function."""
        made_by = decorator.func if isinstance(decorator, cst.Call) else decorator
        for value in self._module.evaluate(made_by):
            if isinstance(value, LocalClass):
                return True
            if isinstance(value, LocalFunction) and _swallows(value.definition):
                return True
        return False

    def _behind(self, expired: frozenset[str]) -> Iterator[tuple[cst.CSTNode, frozenset[str]]]:
        """Yield what of the function is outside the block, and the names of expired objects."""
        if not expired:
            return
        apart = {
            id(part) for suite in (self._block, *self._only_after_errors()) for part in walk(suite)
        }
        parts = [part for part in walk(self._around[-1]) if id(part) not in apart]
        names = expired
        while True:
            found = set(names)
            for part in parts:
                value, bound = bound_names(part)
                if value is not None and any(held_names(value, names)):
                    self._also_called.update(bound)
            found |= self._also_called
            if found == names:
                break
            names = frozenset(found)
        yield from ((part, names) for part in parts)

    def _only_after_errors(self) -> Iterator[cst.BaseSuite]:
        """Yield what runs only where an error left the block; `after_an_error()` looks at that."""
        for inner, holder in zip(self._around, self._around[1:], strict=False):
            if (
                isinstance(holder, (cst.Try, cst.TryStar))
                and inner is holder.body
                and max(map(self._order, statements(inner))) <= self._last
            ):
                yield from (handler.body for handler in holder.handlers)

    def _may_be_expired(self, name: cst.Name) -> bool:
        """Return whether a name stands where the block may have been left before, with its object.

        The object may have been made in front of the block, and added in it.
        """
        place = self._module.place(name)
        if name.value in self._also_called:
            return place.order > self._last
        if place.order < self._first:
            return self._is_from_block(name)
        found = lookup(name.value, place) or ()
        return any(binding.place.order <= self._last + 1 for binding in found)

    def _reached_after(self, holder: cst.CSTNode) -> Iterator[cst.Name]:
        """Yield the uses behind a statement that went on after an error, by a loop too."""
        inside = {id(part) for part in walk(holder)}
        again = comes_again(self._around[self._around.index(holder) + 1 :])
        for name in _names(self._around[-1], self._tracked):
            is_behind = again or id(name) not in inside or self._order(name) < self._first
            is_its_own = self._is_from_block(name, again=again) or (
                name.value in self._taken_in and (again or self._order(name) > self._last)
            )
            if is_behind and self._is_use(name) and is_its_own:
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

    def _is_from_block(self, name: cst.Name, *, again: bool = False) -> bool:
        """Return whether what a name holds may have been bound in a run of the block before.

        `again` says that what stands before the block may come after it, in a loop's next turn.
        """
        if name.value not in self._tracked:
            return False
        place = self._module.place(name)
        is_inside = self._first <= place.order <= self._last
        bindings = place.scope.bindings.get(name.value) if again else lookup(name.value, place)
        return any(
            self._first <= binding.place.order <= self._last + 1
            and (not is_inside or binding.place.order > place.order)
            for binding in bindings or ()
            if binding.place.scope is place.scope
        )

    def _order(self, node: cst.CSTNode) -> float:
        return self._module.place(node).order


def _swallows(function: Function) -> bool:
    """Return whether a function of this file or another may keep an error of SQLAlchemy's."""
    node = function.node
    if isinstance(node, FunctionText):
        tree: ast.AST | None = node.parsed()
    elif isinstance(node, cst.FunctionDef):
        tree = parsed(cst.Module([node]).code.strip())
    else:
        return False  # a lambda
    return tree is None or any(map(_goes_on, ast.walk(tree)))


def _goes_on(node: ast.AST) -> bool:
    """Return whether a part of a function may catch an error of SQLAlchemy's, and goes on."""
    match node:
        case ast.ExceptHandler(type=kind, body=[*_, last]):
            kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
            return not isinstance(last, ast.Raise) and not all(
                isinstance(one, ast.Name) and one.id in OTHER_ERRORS for one in kinds
            )
        case ast.withitem(context_expr=manager):
            return "suppress" in ast.unparse(manager)
    return False


def _names(node: cst.CSTNode, wanted: frozenset[str]) -> Iterator[cst.Name]:
    for part in walk(node):
        if isinstance(part, cst.Name) and part.value in wanted:
            yield part
