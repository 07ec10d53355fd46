"""Where functions go: whether what they are given to has a web framework run them for requests."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from session_guard.names import evaluation, openings
from session_guard.names.bindings import (
    Attribute,
    Call,
    Class,
    Display,
    Either,
    Function,
    LambdaExpr,
    Ref,
    Sequence,
    Star,
    calls_in,
    end_of,
    is_inside,
    lookup,
)
from session_guard.names.values import (
    UNKNOWN,
    Dictionary,
    External,
    Instance,
    Items,
    LocalClass,
    LocalFunction,
    Method,
    Partial,
    Result,
    Unknown,
    class_of,
)
from session_guard.project import routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from session_guard.names.bindings import Binding, Expr, Place, Scope
    from session_guard.names.values import Namespace, Value

_DEEPEST = 8
_DEEPEST_DISPLAY = 2


class Use(enum.Enum):
    """Who runs a function."""

    REQUESTS = "requests"
    OTHER = "other"
    UNKNOWN = "unknown"


def handed_to_routes(
    names: Namespace, may_add: Callable[[Path], bool]
) -> Iterator[LocalFunction | str]:
    """Yield the functions that a module hands to what runs them for requests.

    Of a method of an object that is not known, that is its name. `may_add` says of a file whether
    its functions may add routes for what they are given.
    """
    receivers = Receivers()
    for expr, place in routes.of_controllers(names):
        yield from functions_in(expr, place, names, routes.is_run_of_object)
    for call, place in names.scope.calls:
        arguments = list(_arguments(call))
        adds = bool(arguments) and routes.adds_routes(call, place, names)
        is_followed = not adds and bool(arguments) and _hands_on(call, place, names, may_add)
        for at, argument in arguments:
            is_run = adds or routes.is_of_application(at, call, place, names)
            if is_run or is_followed:
                found = tuple(functions_in(argument, place, names, routes.is_run_of_object))
                if is_run or (
                    found and receivers.given_to(call.function, place, names, at) is Use.REQUESTS
                ):
                    yield from found


def functions_in(
    expr: Expr, place: Place, home: Namespace, runs: Callable[[str], bool], depth: int = 0
) -> Iterator[LocalFunction | str]:
    """Yield the functions that an expression stands for, or holds.

    Of a class or an object those methods that what it is given to `runs`, by their names; of a
    method of an object that is not known, its name.
    """
    for value in home.evaluate(expr, place):
        match value, expr:
            case Unknown() | Method(), Attribute(_, name) | Ref((_, *_, name)):
                yield name
        if isinstance(value, Partial):
            value = value.function
        inner: Iterable[Expr] = ()
        match value:
            case LocalFunction():
                yield value
            case Items(sequence):
                inner = sequence.items
            case Dictionary(display):
                inner = (item for _, item in display.items)
            case _ if (owner := class_of(value)) is not None:
                yield from _methods(owner, runs)
        if isinstance(value, (Dictionary, Items)) and depth < _DEEPEST_DISPLAY:
            for item in inner:
                yield from functions_in(item, value.place, value.home, runs, depth + 1)


def _methods(owner: LocalClass, runs: Callable[[str], bool]) -> Iterator[LocalFunction]:
    for one in openings.lineage(owner):
        for name, bindings in one.definition.scope.bindings.items():
            for binding in bindings if runs(name) else ():
                if isinstance(binding.value, Function):
                    yield LocalFunction(binding.value, one.home)


def _hands_on(call: Call, place: Place, names: Namespace, may_add: Callable[[Path], bool]) -> bool:
    """Return whether what is called is a known function, or what a router gave, and may add one."""
    return (
        isinstance(call.function, Call)
        or bool(_sources(call.function, place, names))
        or any(
            isinstance(value, LocalFunction) and may_add(value.home.path)
            for value in names.evaluate(call.function, place)
        )
    )


def decorated_by(decorator: Expr, place: Place, home: Namespace) -> Use:
    """Return who runs a function that has a decorator, as far as that tells."""
    return Receivers().given_to(decorator, place, home, 0)


class Receivers:
    """Finds out what functions are given to; what is being asked already adds nothing new."""

    def __init__(self) -> None:
        self._seen: set[object] = set()
        self._known: dict[object, Use] = {}
        self._depth = 0

    def given_to(self, receiver: Expr, place: Place, home: Namespace, at: int | str) -> Use:
        """Return who runs a function that `receiver` is called with, at a position or a keyword."""
        if self._depth > _DEEPEST:
            return Use.UNKNOWN
        self._depth += 1
        try:
            if isinstance(receiver, Either):
                return _joined(self.given_to(o, place, home, at) for o in receiver.options)
            if isinstance(receiver, Call):
                return self._given_to_made(receiver.function, place, home)
            if sources := _sources(receiver, place, home):
                return _joined(self.given_to(*source, at) for source in sources)
            found = home.evaluate(receiver, place) or (UNKNOWN,)
            return _joined(self._of_value(value, receiver, at) for value in found)
        finally:
            self._depth -= 1

    def _given_to_made(self, maker: Expr, place: Place, home: Namespace) -> Use:
        """Return who runs a function that is given to what calling `maker` gives."""
        if isinstance(maker, Either):
            return _joined(self._given_to_made(option, place, home) for option in maker.options)
        if sources := _sources(maker, place, home):
            return _joined(self._given_to_made(*source) for source in sources)
        found = home.evaluate(maker, place) or (UNKNOWN,)
        use = _joined(self._of_maker(value, maker) for value in found)
        # A router of the project's own.
        if use is not Use.REQUESTS and any(
            routes.is_for_requests(UNKNOWN, maker, called=True)
            for value in found
            if isinstance(value, LocalFunction)
        ):
            return Use.REQUESTS
        return use

    def _of_maker(self, value: Value, maker: Expr) -> Use:
        match value:
            case LocalFunction(definition, home) if not definition.returns:
                return Use.OTHER if _is_context_manager(definition, home) else Use.UNKNOWN
            case LocalFunction(definition, home):
                return self._once(
                    definition,
                    lambda: _joined(
                        self.given_to(returned, at, home, 0)
                        for every, at in definition.returns
                        for returned in (every.options if isinstance(every, Either) else (every,))
                        if not _decorates_at_once(returned, at, value)
                    ),
                )
            case LocalClass():
                return self._called(value)
            case Partial(_, Call(arguments=(function, *_)), place, home):
                return self._given_to_made(function, place, home)
        return _use(routes.is_for_requests(value, maker, called=True))

    def _of_value(self, value: Value, receiver: Expr, at: int | str) -> Use:
        match value:
            case LocalFunction():
                return self._within(value, at)
            case Partial(LocalFunction() as function, call):
                given = len(call.arguments) - 1
                return self._within(function, at + given if isinstance(at, int) else at)
            case LocalClass():
                makers = evaluation.class_member(value, "__init__")
                return _joined(self._of_value(maker, receiver, at) for maker in makers)
            case Instance(LocalClass()) | Result(LocalClass()):
                owner = class_of(value)
                assert owner is not None
                return self._called(owner)
        return _use(routes.is_for_requests(value, receiver, called=False))

    def _called(self, owner: LocalClass) -> Use:
        """Return who runs a function that an object of a class is called with."""
        return _joined(
            self._within(method, 0) if isinstance(method, LocalFunction) else Use.UNKNOWN
            for method in evaluation.class_member(owner, "__call__")
        )

    def _within(self, function: LocalFunction, at: int | str) -> Use:
        """Return who runs what a known function is given for one of its parameters."""
        definition = function.definition
        if isinstance(definition.node, LambdaExpr):
            positions = tuple(definition.scope.bindings)
        else:
            positions = definition.given_by_position
        parameter = at if isinstance(at, str) else next(iter(positions[at : at + 1]), None)
        if parameter is None or parameter not in definition.scope.bindings:
            return Use.UNKNOWN
        return self._once((definition, parameter), lambda: _joined(self._uses(parameter, function)))

    def _uses(self, parameter: str, function: LocalFunction) -> Iterator[Use]:
        definition, home = function.definition, function.home
        carriers = _Carriers(parameter, definition)
        # What a wrapper does is done when it runs, and registers nothing.
        calls = [
            (c, at)
            for c, at in calls_in(definition)
            if not _is_in_wrapper(at.scope, definition.scope)
        ]
        if isinstance(definition.node, LambdaExpr):
            calls = [(c, at) for c, at in definition.returns if isinstance(c, Call)]
        for call, place in calls:
            for at, argument in _arguments(call):
                if carriers.are_in(argument, place):
                    if routes.adds_routes(call, place, home) or routes.is_of_application(
                        at, call, place, home
                    ):
                        yield Use.REQUESTS
                    yield self.given_to(call.function, place, home, at)
        for inner in carriers.functions:
            for decorator in inner.decorators:
                yield self.given_to(decorator, inner.place, home, 0)
        if any(carriers.are_in(value, place) for value, place in _kept(definition.scope)):
            yield Use.UNKNOWN

    def _once(self, key: object, find: Callable[[], Use]) -> Use:
        """Return what `find` says; in a circle, that nothing was found."""
        if key in self._known:
            return self._known[key]
        if key in self._seen:
            return Use.OTHER
        self._seen.add(key)
        use = find()
        self._seen.discard(key)
        if not self._seen:  # nothing that it hangs on is still being asked
            self._known[key] = use
        return use


class _Carriers:
    """The names in a function that stand for what it was given, or for what it made round that."""

    def __init__(self, parameter: str, definition: Function) -> None:
        self._bindings: set[Binding] = set()
        self.functions: list[Function] = []
        self._bindings.update(definition.scope.bindings[parameter])
        self._gather(definition.scope)

    def _gather(self, scope: Scope) -> None:
        for bindings in scope.bindings.values():
            for binding in bindings:
                value = binding.value
                if isinstance(value, Function):
                    self._gather(value.scope)
                    if self._is_used_in(value):
                        self._bindings.add(binding)
                        self.functions.append(value)
                elif isinstance(value, Call):
                    if any(self.are_in(item, binding.place) for _, item in _arguments(value)):
                        self._bindings.add(binding)
                elif not isinstance(value, (Class, type(None))) and self.are_in(
                    value, binding.place
                ):
                    self._bindings.add(binding)

    def _is_used_in(self, function: Function) -> bool:
        """Return whether an inner function calls one of them, or hands it on."""
        return any(self.are_in(item, function.place) for item in function.decorators) or any(
            self.are_in(item, place)
            for call, place in calls_in(function)
            for item in (call.function, *(value for _, value in _arguments(call)))
        )

    def are_in(self, expr: Expr, place: Place) -> bool:
        """Return whether an expression is one of them, or a display that holds one."""
        match expr:
            case Ref((name,)):
                return not self._bindings.isdisjoint(lookup(name, place) or ())
            case Sequence(items) | Either(items):
                return any(self.are_in(item, place) for item in items)
            case Display(items):
                return any(self.are_in(item, place) for _, item in items)
            case Star(value):
                return self.are_in(value, place)
            case Call():  # `partial(f)`, or `wraps(f)(wrapper)`
                return any(self.are_in(item, place) for _, item in _arguments(expr))
        return False


def _kept(scope: Scope) -> Iterator[tuple[Expr, Place]]:
    """Yield what a function puts into items and attributes, but for those of inner functions."""
    module = scope.module
    for store in module.stores:
        if store.value is not None and is_inside(store.place.scope, scope):
            yield store.value, store.place
    for (first, *_), every in module.assigned_attributes.items():
        for one in every:
            if one.value is not None and is_inside(one.place.scope, scope):
                bindings = lookup(first, one.place) or ()
                if not any(isinstance(binding.value, Function) for binding in bindings):
                    yield one.value, one.place
    owner = scope.parent
    for bindings in owner.attributes.values() if owner is not None else ():
        for binding in bindings:
            value = binding.value
            if is_inside(binding.place.scope, scope) and not isinstance(
                value, (Function, Class, type(None))
            ):
                yield value, binding.place


def _sources(
    expr: Expr, place: Place, home: Namespace, depth: int = 0
) -> list[tuple[Expr, Place, Namespace]]:
    """Return what a name is another name of, or is made by, here or in another module.

    Nothing where it may be something else too.
    """
    if not isinstance(expr, Ref) or depth > _DEEPEST:
        return []
    first, *rest = expr.parts
    bindings = lookup(first, place) or []
    found: list[tuple[Expr, Place, Namespace]] = []
    for binding in bindings:
        if binding.kind == "import":
            dotted = ".".join((home.absolute(binding.target), *rest))
            known = home.find_module(dotted)
            if known is not None and len(known[1]) == 1:
                module, names = known
                found += _sources(Ref(names), end_of(module.scope), module, depth + 1)
        elif not rest and isinstance(binding.value, (Attribute, Call, Either, Ref)):
            found.append((binding.value, binding.place, home))
    return found if len(found) >= len(bindings) else []


def _is_in_wrapper(scope: Scope, outer: Scope) -> bool:
    """Return whether a scope stands in an async function that another function defines."""
    current: Scope | None = scope
    while current is not None and current is not outer:
        if current.function is not None and current.function.is_async:
            return True
        current = current.parent
    return False


def _is_context_manager(definition: Function, home: Namespace) -> bool:
    """Return whether what a function gives is a context manager, which decorates too."""
    return any(
        isinstance(value, External) and value.dotted.startswith("contextlib.")
        for decorator in definition.decorators
        for value in home.evaluate(decorator, definition.place)
    )


def _decorates_at_once(returned: Expr, place: Place, maker: LocalFunction) -> bool:
    """Return whether a function gives what an inner one of its own makes of its argument.

    Then it was given the function itself: `return decorate(f)`, beside `return decorate`.
    """
    return isinstance(returned, Call) and any(
        isinstance(value, LocalFunction) and value.definition.place.scope is maker.definition.scope
        for value in maker.home.evaluate(returned.function, place)
    )


def _arguments(call: Call) -> Iterator[tuple[int | str, Expr]]:
    yield from enumerate(call.arguments)
    for key, value in call.keywords:
        yield key or "", value


def _use(is_for_requests: bool | None) -> Use:
    if is_for_requests is None:
        return Use.UNKNOWN
    return Use.REQUESTS if is_for_requests else Use.OTHER


def _joined(uses: Iterable[Use]) -> Use:
    """Return who may run a function that goes several ways."""
    found = set(uses)
    if Use.REQUESTS in found:
        return Use.REQUESTS
    return Use.UNKNOWN if Use.UNKNOWN in found else Use.OTHER
