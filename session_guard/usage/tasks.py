"""What becomes of a task: who waits for it, who keeps it, and what runs while it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.bindings import compatible, lookup
from session_guard.names.from_libcst import children, dotted_parts, walk
from session_guard.usage.blocks import within
from session_guard.usage.starters import CREATE, GATHER, GATHER_ITERABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_guard.module import Module
    from session_guard.names.held import Key
    from session_guard.usage.coroutines import Coroutines, Uses
    from session_guard.usage.started import Starting

_PUTTING = frozenset("append add extend insert appendleft put_nowait setdefault".split())
# What takes tasks and gives something that is waited for in their place.
_PASSING = CREATE | GATHER | GATHER_ITERABLE | {"asyncio.shield", "asyncio.wait_for"}
# What a task, or a collection, says of itself.
_OF_TASKS = frozenset(
    "done result exception cancelled cancel get_name set_name add_done_callback".split()
)
_LEAVING = (cst.Return, cst.Raise, cst.Break, cst.Continue)

Parts = tuple[str, ...]


class Task:
    """One task, from the call that starts it on."""

    def __init__(
        self,
        call: cst.Call,
        module: Module,
        starting: Starting,
        coroutines: Coroutines,
        body: cst.CSTNode,
    ) -> None:
        self._call = call
        self._module = module
        self._starting = starting
        self._coroutines = coroutines
        self._body = body
        self._names: set[Parts] = set()
        """The names and attributes that the task has, and the collections that it went into."""
        self.is_handed_on = False
        """Whether it is returned, or kept where others may wait for it."""
        self.waited: cst.CSTNode | None = None
        """What first waits for it in `body`."""
        self._follow()

    # -- where it goes ----------------------------------------------------------------------------

    def _follow(self) -> None:
        if self._starts_out():
            self.waited = self._call
            return
        is_behind = False
        for part in within(self._body):
            if is_behind and self._waits(part):
                self.waited = part
                return
            is_behind = is_behind or part is self._call
        if self._waits_in_next_round():
            return
        for part in walk(self._body):
            # An inner function may have it from the variable, whenever it runs.
            if isinstance(part, cst.FunctionDef) and any(
                isinstance(inner, cst.Await) and self._has(inner) for inner in walk(part.body)
            ):
                self.is_handed_on = True

    def _waits_in_next_round(self) -> bool:
        loop = self._starting.loop_of(self._call)
        for part in within(loop) if loop is not None else ():
            if part is self._call:
                break
            if isinstance(part, cst.Await) and self._has(part.expression):
                self.waited = part
                return True
        return False

    def _starts_out(self) -> bool:
        """Take down where the expression round the call puts the task; say if that waits for it."""
        inner: cst.CSTNode = self._call
        for ancestor in self._module.ancestors(self._call):
            if isinstance(ancestor, cst.Await):
                return True
            if not (isinstance(ancestor, cst.Call) and inner is ancestor.func):
                self._take_down(ancestor)
            if isinstance(ancestor, (cst.BaseSmallStatement, cst.BaseStatement)):
                return False
            inner = ancestor
        return False

    def _waits(self, part: cst.CSTNode) -> bool:
        """Return whether what is behind the call waits for the task; take down what it does."""
        if isinstance(part, cst.Await):
            return self._has(part.expression)
        if isinstance(part, cst.For) and self._has(part.iter):
            self._bind(part.target, part.iter)
            return part.asynchronous is not None
        self._take_down(part)
        return False

    def _take_down(self, part: cst.CSTNode) -> None:
        """Note what a statement or an expression does with the task, if it has to do with it."""
        match part:
            case cst.Assign(value=value) if self._has(value):
                for target in part.targets:
                    self._bind(target.target, value)
            case (
                cst.AnnAssign(target=target, value=cst.BaseExpression() as value)
                | cst.AugAssign(target=target, value=value)
                | cst.NamedExpr(target=target, value=value)
            ) if self._has(value):
                self._bind(target, value)
            case cst.Call(func=function, args=args) if any(self._has(a.value) for a in args):
                if isinstance(function, cst.Attribute) and function.attr.value in _PUTTING:
                    self._keep(function.value)
                elif not all(map(_passes_on, self._starting.names(function) or [""])):
                    self.is_handed_on = True
            case cst.Return(value=cst.BaseExpression() as value) if self._has(value):
                self.is_handed_on = True
            case cst.Yield(value=cst.BaseExpression() as value) if self._has(value):
                self.is_handed_on = True

    def _bind(self, target: cst.CSTNode, value: cst.BaseExpression) -> None:
        """Note that a target is assigned something with the task in it."""
        if isinstance(target, (cst.Tuple, cst.List)):
            given = [value] * len(target.elements)
            if isinstance(value, cst.Tuple) and len(value.elements) == len(given):
                given = [element.value for element in value.elements]
            for element, part in zip(target.elements, given, strict=True):
                if self._has(part):
                    self._bind(element.value, part)
        else:
            self._keep(target.value if isinstance(target, cst.Subscript) else target)

    def _keep(self, owner: cst.CSTNode) -> None:
        parts = dotted_parts(owner)
        if parts is not None:
            self._names.add(parts)
        if parts is None or len(parts) > 1 or self._is_of_others(parts[0]):
            self.is_handed_on = True

    def _is_of_others(self, name: str) -> bool:
        """Return whether a name is a parameter's, or that of a function round this one.

        A module's set is where tasks are kept from being collected: nobody waits for those.
        """
        place = self._module.place(self._call)
        scope = place.scope
        while scope.kind == "comprehension" and scope.parent is not None:
            scope = scope.parent
        return name in scope.globals | scope.nonlocals or any(
            binding.kind == "parameter" or binding.place.scope not in (scope, scope.module)
            for binding in lookup(name, place) or ()
        )

    def _has(self, node: cst.CSTNode) -> bool:
        """Return whether an expression has the task in it, and not only what it says of itself."""
        match node:
            case cst.Name():
                return (node.value,) in self._names
            case cst.Attribute() if (parts := dotted_parts(node)) is not None:
                return parts in self._names
            case cst.Call(func=cst.Attribute(value=owner, attr=method), args=args):
                return (
                    node is self._call
                    or (method.value not in _OF_TASKS and self._has(owner))
                    or any(map(self._has, args))
                )
        return node is self._call or any(map(self._has, children(node)))

    # -- what runs meanwhile ----------------------------------------------------------------------

    def runs_beside(self, keys: set[Key], others: Sequence[cst.CSTNode] = ()) -> bool:
        """Return whether one of some sessions is used in `body` before the task is waited for.

        What `others` do is left out.
        """
        if self.waited is self._call:
            return False
        left_out = {id(part) for node in (self._call, *others) for part in walk(node)}
        is_behind = False
        for part in within(self._region()):
            is_behind = is_behind or part is self._call
            if not is_behind or id(part) in left_out:
                continue
            used = self._used_at(part)
            if keys & used.keys() and self._may_both_run(part):
                return True
            if part is self.waited:
                return False
            # What is not understood may wait for a task that others know.
            if self.is_handed_on and isinstance(part, cst.Await) and not used:
                return False
        return False

    def runs_beside_call(self, other: cst.CSTNode) -> bool:
        """Return whether the task may still run when `other`, behind its call, does."""
        for part in within(self._body):
            if part is self.waited:
                return False
            if part is other:
                return self._may_both_run(other)
        return True

    def _region(self) -> cst.CSTNode:
        """Return the code that may run behind the call."""
        for ancestor in self._module.ancestors(self._call):
            if ancestor is self._body:
                break
            if isinstance(ancestor, cst.IndentedBlock):
                last = ancestor.body[-1] if ancestor.body else None
                if isinstance(last, cst.SimpleStatementLine) and isinstance(
                    last.body[-1], _LEAVING
                ):
                    return ancestor
        return self._body

    def _used_at(self, part: cst.CSTNode) -> Uses:
        """Return the sessions that are used where a part of the code waits or starts something."""
        uses = self._coroutines.uses
        match part:
            case cst.Await():
                return uses(part.expression)
            case cst.Call() if self._starting.is_task(part):
                return uses(part)
            case cst.For(asynchronous=cst.Asynchronous()):
                return uses(part.iter)
            case cst.With(asynchronous=cst.Asynchronous()):
                found: Uses = {}
                for item in part.items:
                    found |= uses(item.item)
                return found
        return {}

    def _may_both_run(self, part: cst.CSTNode) -> bool:
        """Return whether one run may come by the call and by `part`."""
        own, other = self._module.place(self._call), self._module.place(part)
        return own.scope is not other.scope or compatible(own.branches, other.branches)


def _passes_on(name: str) -> bool:
    """Return whether a function keeps no task that it is given, but gives it back or looks at it.

    Builtin functions have no dot in their names.
    """
    return name in _PASSING or (bool(name) and "." not in name)
