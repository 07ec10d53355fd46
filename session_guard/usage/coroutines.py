"""Which sessions a coroutine uses when it runs, as far as its code can be followed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.bindings import (
    Attribute,
    Call,
    Function,
    LambdaExpr,
    Ref,
    calls_in,
    class_of_receiver,
    is_inside,
)
from session_guard.names.evaluation import class_member
from session_guard.names.from_libcst import walk
from session_guard.names.held import Held, annotated_parameter, held
from session_guard.names.values import (
    LocalClass,
    LocalFunction,
    Partial,
    Result,
)
from session_guard.records import dataclass
from session_guard.usage.locks import Mark, mark, under_lock
from session_guard.usage.objects import given_to_maker, handed_in
from session_guard.usage.started import CREATE, GATHER, GATHER_ITERABLE, Started, Starting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from session_guard.module import Module
    from session_guard.names.bindings import Expr, Place
    from session_guard.names.held import Key
    from session_guard.names.values import Namespace, Value

CLOSING = frozenset({"close", "aclose", "invalidate", "reset"})
# What a session does without a query; closing it late is a clean-up.
_LOCAL_METHODS = CLOSING | frozenset(
    """
    add add_all expunge expunge_all expire expire_all is_modified get_bind in_transaction
    in_nested_transaction get_transaction get_nested_transaction sync_session identity_key
    """.split()
)
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


@dataclass(frozen=True, slots=True)
class _Used:
    """A session that a function uses and was not given."""

    session: Held
    must_be_given: bool = False
    """Whether it is one only if the object whose attribute it is was made with a session."""
    attribute: str = ""
    """The attribute of the object that holds it; of an object in that, with its own before."""


class Coroutines:
    """Follows the coroutines that one module starts."""

    def __init__(self, module: Module, starting: Starting | None = None) -> None:
        self._module = module
        self._starting = starting or Starting(module)
        self._bodies: dict[tuple[int, int], list[_Used]] = {}
        self._locked: dict[int, frozenset[Mark]] = {}

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
                    return {} if function.attr.value in _LOCAL_METHODS else {owner.key: owner}
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
            for inner in self._body(callee, depth + 1):
                own = self._as_seen_from_here(inner, function)
                if own is not None:
                    found[own.key] = own
        return found

    def is_partial(self, node: cst.Call) -> bool:
        """Return whether a call is one of `functools.partial`."""
        return any(isinstance(value, Partial) for value in self._module.evaluate(node))

    def _as_seen_from_here(self, used: _Used, function: cst.BaseExpression) -> Held | None:
        """Return which session of the caller's a method's `self.session` is; None if none."""
        session = used.session
        if not isinstance(function, cst.Attribute):
            return None if used.must_be_given else session
        expr, place = self._module.expr(function.value), self._module.place(function)
        if _is_receiver(expr, place):
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
        locked = self._under_lock(callee)
        for call, place in calls_in(definition):
            if mark(call.node) in locked:
                continue
            if isinstance(call.function, Ref) and call.function.parts[0] == name:
                if len(call.function.parts) > 2 or call.function.parts[-1] not in _LOCAL_METHODS:
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

    def _body(self, callee: LocalFunction, depth: int) -> list[_Used]:
        """Return the sessions that a known function uses and was not given, as `self.session`."""
        if depth > _DEEPEST:
            return []
        key = (id(callee.definition.scope), depth)
        if key not in self._bodies:
            self._bodies[key] = list(dict.fromkeys(self._used_in(callee, depth)))
        return self._bodies[key]

    def _used_in(self, callee: LocalFunction, depth: int) -> Iterator[_Used]:
        definition, home = callee.definition, callee.home
        locked = self._under_lock(callee)
        for call, place in (*definition.calls, *_of_lambda(definition)):
            if mark(call.node) in locked:
                continue
            used: list[Expr] = [*call.arguments, *(value for _, value in call.keywords)]
            if (
                isinstance(call.function, Ref)
                and len(call.function.parts) > 1
                and call.function.parts[-1] not in _LOCAL_METHODS
            ):
                used.append(Ref(call.function.parts[:-1]))
            for expr in used:
                used_one = held(expr, place, home)
                attribute = _attribute(expr)
                if used_one and not is_inside(used_one.place.scope, definition.scope):
                    yield _Used(used_one, attribute=attribute)
                key = handed_in(expr, place, home) if used_one is None else None
                if key is not None:
                    session = Held(key, place, is_parameter=True)
                    yield _Used(session, must_be_given=True, attribute=attribute)
            for value in home.evaluate(call.function, place):
                if isinstance(value, LocalFunction) and value.definition is not definition:
                    for inner in self._inner(value, call.function, place, home, depth):
                        if inner.must_be_given or not is_inside(
                            inner.session.place.scope, definition.scope
                        ):
                            yield inner

    def _inner(
        self, callee: LocalFunction, function: Expr, place: Place, home: Namespace, depth: int
    ) -> Iterator[_Used]:
        """Yield what a function called in a followed one uses; of objects, what they were given."""
        owner: Expr | None = None
        if isinstance(function, Attribute):
            owner = function.value
        elif isinstance(function, Ref) and len(function.parts) > 1:
            owner = Ref(function.parts[:-1])
        known = None
        if owner is not None and callee.definition.scope.receiver is not None:
            known = None if _is_receiver(owner, place) else given_to_maker(owner, place, home)
        # An object that was handed in was made by others, who may know what it was given.
        is_handed_in = owner is not None and handed_in(owner, place, home) is not None
        for used in self._body(callee, depth + 1):
            if known is None:
                yield used
            elif used.session.key in known:
                yield _Used(known[used.session.key])
            elif is_handed_in and owner is not None:
                attribute = f"{_attribute(owner)}.{used.attribute}"
                yield replace(used, must_be_given=True, attribute=attribute)

    def _under_lock(self, function: LocalFunction) -> frozenset[Mark]:
        key = id(function.definition.scope)
        if key not in self._locked:
            self._locked[key] = under_lock(function)
        return self._locked[key]


def _of_lambda(function: Function) -> Iterator[tuple[Call, Place]]:
    """Yield the call that a lambda comes to."""
    for expr, place in function.returns if isinstance(function.node, LambdaExpr) else ():
        if isinstance(expr, Call):
            yield expr, place


def _is_receiver(expr: Expr, place: Place) -> bool:
    """Return whether an expression is the `self` of the method that it stands in."""
    return (
        isinstance(expr, Ref)
        and len(expr.parts) == 1
        and class_of_receiver(expr.parts[0], place) is not None
    )


def _attribute(expr: Expr) -> str:
    """Return the name of an attribute of `self`, or nothing."""
    return expr.parts[1] if isinstance(expr, Ref) and len(expr.parts) == 2 else ""


def _is_name(expr: Expr, name: str) -> bool:
    return isinstance(expr, Ref) and expr.parts == (name,)
