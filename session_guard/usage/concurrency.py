"""Which sessions a coroutine uses when it runs, as far as its code can be followed."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.bindings import Attribute, Call, Function, Ref, lookup
from session_guard.names.from_libcst import walk
from session_guard.names.held import annotated_parameter, held
from session_guard.names.values import (
    External,
    LocalClass,
    LocalFunction,
    Partial,
    Result,
    class_member,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from session_guard.module import Module
    from session_guard.names.bindings import Binding, Expr, Place, Scope
    from session_guard.names.held import Held, Key
    from session_guard.names.values import Namespace, Value

# What a session does without a query; closing it late is a clean-up.
_LOCAL_METHODS = frozenset(
    """
    add add_all expunge expunge_all expire expire_all is_modified get_bind in_transaction
    in_nested_transaction get_transaction get_nested_transaction sync_session identity_key
    close aclose
    """.split()
)
_WRAPPERS = frozenset(
    {"asyncio.create_task", "asyncio.ensure_future", "asyncio.wait_for", "asyncio.shield"}
    | {"asyncio.tasks.create_task", "asyncio.timeout", "anyio.fail_after"}
)
_LOCK = re.compile(r"(?<![a-z])(?:lock|mutex)|(?:Lock|Mutex)\b")
_DEEPEST = 5

Uses = dict["Key", "Held"]


@dataclass(frozen=True, slots=True)
class Started:
    """A coroutine that is started, with whether more than one may be started there."""

    node: cst.BaseExpression
    is_many: bool


class Coroutines:
    """Follows the coroutines that one module starts."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._bodies: dict[tuple[int, int], list[Held]] = {}
        self._locked: dict[int, frozenset[int]] = {}

    @cached_property
    def _assigned(self) -> dict[Key, list[cst.BaseExpression]]:
        """What statements of the module assign to names, by scope and name."""
        found: dict[Key, list[cst.BaseExpression]] = {}
        for node in walk(self._module.tree):
            match node:
                case cst.Assign(value=value):
                    targets = [target.target for target in node.targets]
                case cst.AnnAssign(value=cst.BaseExpression() as value):
                    targets = [node.target]
                case _:
                    continue
            for target in targets:
                if isinstance(target, cst.Name):
                    key = (id(self._module.place(node).scope), target.value)
                    found.setdefault(key, []).append(value)
        return found

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
                for binding in self._module.bindings(
                    self._module.expr(node), self._module.place(node)
                ):
                    made = getattr(binding.value, "node", None)
                    if (
                        isinstance(made, cst.Call)
                        and self._module.parent(made) is not None
                        and not self.starts_task(made)
                    ):
                        found |= self.uses(made, depth + 1)
                return found
        return {}

    def starts_task(self, call: cst.Call) -> bool:
        """Return whether a call starts a task of its own, and is looked at by itself."""
        names = {v.dotted for v in self._module.evaluate(call.func) if isinstance(v, External)}
        return bool(names & {"asyncio.create_task", "asyncio.ensure_future"}) or (
            isinstance(call.func, cst.Attribute) and call.func.attr.value == "create_task"
        )

    def _call(self, call: cst.Call, depth: int) -> Uses:
        names = {v.dotted for v in self._module.evaluate(call.func) if isinstance(v, External)}
        if names & _WRAPPERS or (
            isinstance(call.func, cst.Attribute) and call.func.attr.value == "create_task"
        ):
            return self.uses(call.args[0].value, depth + 1) if call.args else {}
        return self.calling(call.func, call.args, depth)

    def calling(
        self, function: cst.BaseExpression, args: Sequence[cst.Arg], depth: int = 0
    ) -> Uses:
        """Return the sessions that calling `function` with `args` uses."""
        module = self._module
        found: Uses = {}
        if isinstance(function, cst.Attribute):
            owner = self._module.held(function.value)
            if owner is not None:
                return {} if function.attr.value in _LOCAL_METHODS else {owner.key: owner}
        elif isinstance(function, cst.Call):
            made = module.evaluate(function)
            if any(isinstance(value, Partial) for value in made) and function.args:
                return self.calling(function.args[0].value, (*function.args[1:], *args), depth + 1)
        callees = [v for v in self._callees(function) if isinstance(v, LocalFunction)]
        for number, argument in enumerate(args):
            for given in self._given(argument.value):
                if all(self._may_use(callee, number, argument, depth) for callee in callees):
                    found[given.key] = given
        for callee in callees:
            for inner in self._body(callee, depth + 1):
                own = self._as_seen_from_here(inner, function)
                found[own.key] = own
        return found

    def _as_seen_from_here(self, session: Held, function: cst.BaseExpression) -> Held:
        """Return which session of the caller's a method's `self.session` is."""
        if not isinstance(function, cst.Attribute):
            return session
        expr, place = self._module.expr(function.value), self._module.place(function)
        if _is_receiver(expr, place):
            return session
        given = self._given_to_maker(expr, place, self._module.names).get(session.key)
        if given is not None:
            return given
        # Another object of the class may hold another session.
        return replace(
            session,
            key=(session.key[0], f"{self._module.code(function.value)}.{session.name}"),
        )

    def _callees(self, function: cst.BaseExpression) -> tuple[Value, ...]:
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
        elif isinstance(node, cst.Call) and any(
            isinstance(value, Result) and isinstance(value.function, LocalClass)
            for value in self._module.evaluate(node)
        ):
            for argument in node.args:
                yield from self._given(argument.value)

    def _may_use(self, callee: LocalFunction, number: int, argument: cst.Arg, depth: int) -> bool:
        names = callee.definition.positional
        if callee.definition.scope.receiver is not None:
            names = names[1:]
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
        locked = self._under_lock(definition)
        for call, place in self._calls(definition, callee.home):
            if id(call.node) in locked:
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
                names = [
                    f.definition.positional[1 if f.definition.scope.receiver else 0 :]
                    for f in inner
                ]
                if not inner or any(
                    position >= len(own) or self._uses_parameter(f, own[position], depth + 1)
                    for f, own in zip(inner, names, strict=True)
                ):
                    return True
            if any(_is_name(given, name) for _, given in call.keywords):
                return True
        return False

    def _calls(self, definition: Function, home: Namespace) -> Iterator[tuple[Call, Place]]:
        """Yield the calls in a function, and in the functions defined in it."""
        for call, place in home.scope.calls:
            scope: Scope | None = place.scope
            while scope is not None:
                if scope is definition.scope:
                    yield call, place
                    break
                scope = scope.parent

    def _body(self, callee: LocalFunction, depth: int) -> list[Held]:
        """Return the sessions that a known function uses and was not given, as `self.session`."""
        if depth > _DEEPEST:
            return []
        key = (id(callee.definition), depth)
        if key not in self._bodies:
            self._bodies[key] = list(dict.fromkeys(self._used_in(callee, depth)))
        return self._bodies[key]

    def _used_in(self, callee: LocalFunction, depth: int) -> Iterator[Held]:
        definition, home = callee.definition, callee.home
        locked = self._under_lock(definition)
        for call, place in definition.calls:
            if id(call.node) in locked:
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
                if used_one and not _is_inside(used_one.place.scope, definition.scope):
                    yield used_one
            for value in home.evaluate(call.function, place):
                if isinstance(value, LocalFunction) and value.definition is not definition:
                    for inner in self._inner(value, call.function, place, home, depth):
                        if not _is_inside(inner.place.scope, definition.scope):
                            yield inner

    def _inner(
        self, callee: LocalFunction, function: Expr, place: Place, home: Namespace, depth: int
    ) -> Iterator[Held]:
        """Yield what a function called in a followed one uses; of objects, what they were given."""
        owner: Expr | None = None
        if isinstance(function, Attribute):
            owner = function.value
        elif isinstance(function, Ref) and len(function.parts) > 1:
            owner = Ref(function.parts[:-1])
        known = None
        if owner is not None and callee.definition.scope.receiver is not None:
            known = None if _is_receiver(owner, place) else self._given_to_maker(owner, place, home)
        for session in self._body(callee, depth + 1):
            if known is None:
                yield session
            elif session.key in known:
                yield known[session.key]

    def _given_to_maker(self, expr: Expr, place: Place, home: Namespace) -> dict[Key, Held]:
        """Return the sessions that an object was given where it was made, by its own names."""
        known: dict[Key, Held] = {}
        for call, at in _made_by(expr, place):
            for value in home.evaluate(call, at):
                if not isinstance(value, Result) or not isinstance(value.function, LocalClass):
                    continue
                maker = _initializer(value.function)
                if maker is None:
                    continue
                names = maker.positional[1:]
                pairs = [*zip(names, call.arguments, strict=False)]
                pairs.extend((key, given) for key, given in call.keywords if key is not None)
                for name, given in pairs:
                    session = held(given, at, home)
                    if session is not None:
                        known[id(maker.scope), name] = session
        return known

    def _under_lock(self, function: Function) -> frozenset[int]:
        if id(function) not in self._locked:
            self._locked[id(function)] = _under_lock(function)
        return self._locked[id(function)]

    # -- what is started together ---------------------------------------------------------------

    def expanded(self, args: Sequence[cst.Arg]) -> Iterator[Started]:
        """Yield the awaitables that `gather(*args)` starts."""
        for argument in args:
            if argument.keyword is not None:
                continue
            if argument.star == "*":
                yield from self.items(argument.value)
            else:
                yield Started(argument.value, is_many=False)

    def items(self, node: cst.CSTNode, depth: int = 0) -> Iterator[Started]:
        """Yield the awaitables that an iterable holds, whether built here or before."""
        if depth > _DEEPEST:
            return
        match node:
            case cst.ListComp() | cst.GeneratorExp() | cst.SetComp():
                yield Started(node.elt, is_many=True)
            case cst.DictComp():
                yield Started(node.value, is_many=True)
            case cst.List() | cst.Tuple() | cst.Set():
                for element in node.elements:
                    if isinstance(element, cst.StarredElement):
                        yield from self.items(element.value, depth + 1)
                    else:
                        yield Started(element.value, is_many=False)
            case cst.Dict():
                for item in node.elements:
                    if isinstance(item, cst.DictElement):
                        yield Started(item.value, is_many=False)
            case cst.BinaryOperation(operator=cst.Add()):
                yield from self.items(node.left, depth + 1)
                yield from self.items(node.right, depth + 1)
            case cst.IfExp():
                yield from self.items(node.body, depth + 1)
                yield from self.items(node.orelse, depth + 1)
            case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value="values"))):
                yield from self.items(owner, depth + 1)
            case cst.Call(func=cst.Name(value="list" | "tuple" | "set")) if node.args:
                yield from self.items(node.args[0].value, depth + 1)
            case cst.Name():
                yield from self._built(node, depth)

    def _built(self, node: cst.Name, depth: int) -> Iterator[Started]:
        """Yield what a list that was built before holds: as assigned, and what was appended."""
        place = self._module.place(node)
        scopes = {id(b.place.scope): b.place.scope for b in lookup(node.value, place) or ()}
        for scope in scopes.values():
            for value in self._assigned.get((id(scope), node.value), ()):
                for item in self.items(value, depth + 1):
                    if not self._is_task(item.node):
                        yield item
            body = scope.function.node if scope.function is not None else None
            for part in walk(body) if isinstance(body, cst.FunctionDef) else ():
                match part:
                    case cst.Call(
                        func=cst.Attribute(value=cst.Name(value=owner), attr=cst.Name(value=method))
                    ) if owner == node.value and part.args:
                        given = part.args[0].value
                        if method == "extend":
                            added = list(self.items(given, depth + 1))
                        elif method in ("append", "add"):
                            added = [Started(given, is_many=False)]
                        else:
                            continue
                    case cst.AugAssign(target=cst.Name(value=owner)) if owner == node.value:
                        added = list(self.items(part.value, depth + 1))
                    case cst.Assign(
                        targets=[
                            cst.AssignTarget(target=cst.Subscript(value=cst.Name(value=owner)))
                        ]
                    ) if owner == node.value:
                        added = [Started(part.value, is_many=False)]
                    case _:
                        continue
                for item in added:
                    if not self._is_task(item.node):
                        yield Started(item.node, item.is_many or self.loop_of(part) is not None)

    def _is_task(self, node: cst.BaseExpression) -> bool:
        return isinstance(node, cst.Call) and self.starts_task(node)

    def loop_of(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """Return the innermost loop of the same function that runs `node` again and again."""
        inner = node
        for ancestor in self._module.ancestors(node):
            if isinstance(ancestor, (cst.FunctionDef, cst.Lambda)):
                return None
            if isinstance(ancestor, (cst.For, cst.While)) and inner is ancestor.body:
                return ancestor
            if isinstance(ancestor, (cst.ListComp, cst.SetComp, cst.GeneratorExp, cst.DictComp)):
                return ancestor
            inner = ancestor
        return None

    def is_new_each_time(self, session: Held, node: cst.CSTNode) -> bool:
        """Return whether the loop round `node` opens the session anew on each of its rounds."""
        loop = self.loop_of(node)
        if loop is None:
            return False
        return any(
            isinstance(part, (cst.AsName, cst.AssignTarget))
            and any(
                isinstance(name, cst.Name) and name.value == session.name for name in walk(part)
            )
            for part in walk(loop)
        )


def _is_receiver(expr: Expr, place: Place) -> bool:
    """Return whether an expression is the `self` of the method that it stands in."""
    scope: Scope | None = place.scope
    while scope is not None and isinstance(expr, Ref) and len(expr.parts) == 1:
        if scope.receiver == expr.parts[0]:
            return True
        scope = scope.parent
    return False


def _made_by(expr: Expr, place: Place) -> Iterator[tuple[Call, Place]]:
    """Yield the calls that an object may have come from."""
    if isinstance(expr, Call):
        yield expr, place
    if not isinstance(expr, Ref):
        return
    bindings: Iterable[Binding] = ()
    if len(expr.parts) == 1:
        bindings = lookup(expr.parts[0], place) or ()
    elif len(expr.parts) == 2:
        scope: Scope | None = place.scope
        while scope is not None and scope.receiver != expr.parts[0]:
            scope = scope.parent
        if scope is not None and scope.parent is not None:
            bindings = scope.parent.attributes.get(expr.parts[1], ())
    for binding in bindings:
        if isinstance(binding.value, Call):
            yield binding.value, binding.place


def _is_name(expr: Expr, name: str) -> bool:
    return isinstance(expr, Ref) and expr.parts == (name,)


def _is_inside(scope: Scope, outer: Scope) -> bool:
    current: Scope | None = scope
    while current is not None:
        if current is outer:
            return True
        current = current.parent
    return False


def _initializer(owner: LocalClass) -> Function | None:
    """Return the `__init__` of a class or of the first base that has one."""
    found = owner.definition.scope.bindings.get("__init__")
    if found and isinstance(found[-1].value, Function):
        return found[-1].value
    for base in owner.definition.bases:
        for value in owner.home.evaluate(base, owner.definition.place):
            if isinstance(value, LocalClass) and value.definition is not owner.definition:
                return _initializer(value)
    return None


def _under_lock(function: Function) -> frozenset[int]:
    """Return the ids of a function's nodes that run while a lock is held: one task at a time."""
    node = function.node
    locked: set[int] = set()
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        for part in ast.walk(node):
            if isinstance(part, ast.AsyncWith) and any(
                _LOCK.search(ast.unparse(item.context_expr)) for item in part.items
            ):
                locked.update(id(inner) for inner in ast.walk(part))
    elif isinstance(node, cst.FunctionDef):
        empty = cst.Module([])
        for step in walk(node.body):
            if isinstance(step, cst.With) and any(
                _LOCK.search(empty.code_for_node(item.item)) for item in step.items
            ):
                locked.update(id(inner) for inner in walk(step))
    return frozenset(locked)
