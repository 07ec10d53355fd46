"""Which sessions a coroutine uses when it runs, as far as its code can be followed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.bindings import (
    Ref,
    calls_in,
)
from session_guard.names.evaluation import class_member
from session_guard.names.from_libcst import walk
from session_guard.names.held import Held, annotated_parameter
from session_guard.names.values import (
    LocalClass,
    LocalFunction,
    Partial,
    Result,
)
from session_guard.usage.bodies import LOCAL_METHODS, Bodies, Used, is_receiver, mark
from session_guard.usage.locks import under_lock
from session_guard.usage.objects import given_to_maker
from session_guard.usage.started import Started, Starting
from session_guard.usage.starters import CREATE, GATHER, GATHER_ITERABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from session_guard.module import Module
    from session_guard.names.bindings import Expr
    from session_guard.names.held import Key
    from session_guard.names.values import Value

# What runs what it is given first.
_WRAPPERS = CREATE | {
    "asyncio.wait_for",
    "asyncio.shield",
    "asyncio.timeout",
    "anyio.fail_after",
}
_REPEATING = frozenset({"itertools.repeat"})
_DEEPEST = 5

Uses = dict["Key", "Held"]


class Coroutines:
    """Follows the coroutines that one module starts."""

    def __init__(self, module: Module, starting: Starting | None = None) -> None:
        self._module = module
        self._starting = starting or Starting(module)
        self._bodies = Bodies(under_lock)

    # -- what a coroutine uses ----------------------------------------------------------------

    def uses(self, node: cst.CSTNode, depth: int = 0) -> Uses:
        """Return the sessions that the awaitable `node` uses while it runs."""
        if depth > _DEEPEST:
            return {}
        match node:
            case cst.Call():
                return self._call(node, depth)
            case cst.IfExp():
                return self.uses(node.body, depth) | self.uses(node.orelse, depth)
            case cst.Name():
                found: Uses = {}
                for made in self.made(node):
                    if not self._starting.is_task(made):
                        found |= self.uses(made, depth + 1)
                return found
        return {}

    def made(self, node: cst.Name) -> Iterator[cst.Call]:
        """Yield the calls in this file that a name got its value from."""
        for binding in self._module.bindings(self._module.expr(node), self._module.place(node)):
            made = getattr(binding.value, "node", None)
            if isinstance(made, cst.Call) and self._module.parent(made) is not None:
                yield made

    def _call(self, call: cst.Call, depth: int) -> Uses:
        names, args = self._starting.names(call.func), call.args
        if names & GATHER:
            return self._all(self._starting.expanded(args), depth)
        if names & GATHER_ITERABLE:
            return self._all(self._starting.items(args[0].value), depth) if args else {}
        method = self._starting.method(call.func)
        if names & _WRAPPERS or method == "create_task":
            return self.uses(args[0].value, depth + 1) if args else {}
        if "asyncio.to_thread" in names and args:
            return self.calling(args[0].value, args[1:], depth)
        if method == "run_in_executor" and len(args) > 1:
            return self.calling(args[1].value, args[2:], depth)
        return self.calling(call.func, args, depth)

    def _all(self, started: Iterable[Started], depth: int) -> Uses:
        found: Uses = {}
        for item in started:
            found |= self.used_by(item, depth + 1)
        return found

    def used_by(self, started: Started, depth: int = 0) -> Uses:
        """Return the sessions that what a call starts uses."""
        if started.mapped is not None:
            return self.calling(started.node, started.mapped, depth)
        return self.uses(started.node, depth)

    def calling(
        self, function: cst.BaseExpression, args: Sequence[cst.Arg], depth: int = 0
    ) -> Uses:
        """Return the sessions that calling `function` with `args` uses."""
        if depth > _DEEPEST:
            return {}
        found: Uses = {}
        match function:
            case cst.Attribute():
                owner = self._module.held(function.value)
                if owner is not None:
                    return {} if function.attr.value in LOCAL_METHODS else {owner.key: owner}
            case cst.Lambda():
                for part in walk(function.body):
                    if isinstance(part, cst.Call):
                        found |= self.uses(part, depth + 1)
            case cst.Call(args=[first, *given]) if self.is_partial(function):
                return self.calling(first.value, (*given, *args), depth + 1)
            case cst.Name():
                for made in self.made(function):
                    if self.is_partial(made):
                        found |= self.calling(made, args, depth + 1)
        callees = [v for v in self.callees(function) if isinstance(v, LocalFunction)]
        for number, argument in enumerate(args):
            for session in self._given(argument.value):
                if all(self._may_use(callee, number, argument, depth) for callee in callees):
                    found[session.key] = session
        for callee in callees:
            for inner in self._bodies.uses(callee, depth + 1):
                own = self._as_seen_from_here(inner, function)
                if own is not None:
                    found[own.key] = own
        return found

    def is_partial(self, node: cst.Call) -> bool:
        """Return whether a call is one of `functools.partial`."""
        return any(isinstance(value, Partial) for value in self._module.evaluate(node))

    def _as_seen_from_here(self, used: Used, function: cst.BaseExpression) -> Held | None:
        """Return which session of the caller's a method's `self.session` is; None if none."""
        session = used.session
        if not isinstance(function, cst.Attribute):
            return None if used.must_be_given else session
        expr, place = self._module.expr(function.value), self._module.place(function)
        if is_receiver(expr, place):
            return None if used.must_be_given else session
        given = given_to_maker(expr, place, self._module.names).get(session.key)
        if given is not None or used.must_be_given:
            return given
        # Another object of the class may hold another session.
        text = self._module.tree.code_for_node(function.value)
        return replace(
            session,
            key=(session.key[0], f"{text}.{session.name}"),
            path=f"{self._module.code(function.value)}.{used.attribute or session.name}",
        )

    def callees(self, function: cst.BaseExpression) -> tuple[Value, ...]:
        """Return what is called; methods of parameters are looked up in the annotated class."""
        if isinstance(function, cst.Attribute) and isinstance(function.value, cst.Name):
            place = self._module.place(function)
            classes = annotated_parameter(function.value.value, place, self._module.names)
            if classes:
                return tuple(
                    member
                    for owner in classes
                    if isinstance(owner, LocalClass)
                    for member in class_member(owner, function.attr.value)
                )
        return self._module.evaluate(function)

    def _given(self, node: cst.BaseExpression) -> Iterator[Held]:
        """Yield the sessions that an argument is, or that an object made for it holds."""
        session = self._module.held(node)
        if session is not None:
            yield session
        elif isinstance(node, cst.Call) and (
            self._starting.names(node.func) & _REPEATING
            or any(
                isinstance(value, Result) and isinstance(value.function, LocalClass)
                for value in self._module.evaluate(node)
            )
        ):
            for argument in node.args:
                yield from self._given(argument.value)

    def _may_use(self, callee: LocalFunction, number: int, argument: cst.Arg, depth: int) -> bool:
        names = callee.definition.given_by_position
        if argument.star:
            return True
        if argument.keyword is not None:
            name = argument.keyword.value
        elif number < len(names):
            name = names[number]
        else:
            return True
        return self._uses_parameter(callee, name, depth + 1)

    def _uses_parameter(self, callee: LocalFunction, name: str, depth: int) -> bool:
        """Return whether a known function may use a session it is given, other than one by one."""
        definition = callee.definition
        if depth > _DEEPEST:
            return True
        locked = self._bodies.under_lock(callee)
        for call, place in calls_in(definition):
            if mark(call.node) in locked:
                continue
            if isinstance(call.function, Ref) and call.function.parts[0] == name:
                if len(call.function.parts) > 2 or call.function.parts[-1] not in LOCAL_METHODS:
                    return True
                continue
            for position, given in enumerate(call.arguments):
                if not _is_name(given, name):
                    continue
                inner = [
                    v
                    for v in callee.home.evaluate(call.function, place)
                    if isinstance(v, LocalFunction)
                ]
                names = [f.definition.given_by_position for f in inner]
                if not inner or any(
                    position >= len(own) or self._uses_parameter(f, own[position], depth + 1)
                    for f, own in zip(inner, names, strict=True)
                ):
                    return True
            if any(_is_name(given, name) for _, given in call.keywords):
                return True
        return False


def _is_name(expr: Expr, name: str) -> bool:
    return isinstance(expr, Ref) and expr.parts == (name,)
