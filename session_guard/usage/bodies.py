"""Which sessions a known function uses that it was not given, as far as its code can be followed.

It imports no LibCST.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from session_guard.names.bindings import (
    Attribute,
    Call,
    Function,
    LambdaExpr,
    Ref,
    class_of_receiver,
    is_inside,
)
from session_guard.names.from_ast import Spot
from session_guard.names.held import Held, held
from session_guard.names.values import LocalFunction
from session_guard.records import dataclass
from session_guard.usage.objects import given_to_maker, handed_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from session_guard.names.bindings import Expr, Place
    from session_guard.names.values import Namespace

CLOSING = frozenset({"close", "aclose", "invalidate", "reset"})
# What a session does without a query; closing it late is a clean-up.
LOCAL_METHODS = CLOSING | frozenset(
    """
    add add_all expunge expunge_all expire expire_all is_modified get_bind in_transaction
    in_nested_transaction get_transaction get_nested_transaction sync_session identity_key
    """.split()
)
_DEEPEST = 5

Mark = int | tuple[int, int]


def mark(node: object) -> Mark:
    """Return what a node is known by: where it begins, if `ast` read it, or else its id."""
    return (node.line, node.column) if isinstance(node, Spot) else id(node)


@dataclass(frozen=True, slots=True)
class Used:
    """A session that a function uses and was not given."""

    session: Held
    must_be_given: bool = False
    """Whether it is one only if the object whose attribute it is was made with a session."""
    attribute: str = ""
    """The attribute of the object that holds it; of an object in that, with its own before."""


class Bodies:
    """Follows the bodies of known functions, each once.

    `under_lock` says which calls of a function are left out, since one task at a time makes them.
    """

    def __init__(self, under_lock: Callable[[LocalFunction], frozenset[Mark]]) -> None:
        self._under_lock = under_lock
        self._uses: dict[tuple[int, int], list[Used]] = {}
        self._locked: dict[int, frozenset[Mark]] = {}

    def uses(self, callee: LocalFunction, depth: int) -> list[Used]:
        """Return the sessions that a known function uses and was not given, as `self.session`."""
        if depth > _DEEPEST:
            return []
        key = (id(callee.definition.scope), depth)
        if key not in self._uses:
            self._uses[key] = list(dict.fromkeys(self._used_in(callee, depth)))
        return self._uses[key]

    def _used_in(self, callee: LocalFunction, depth: int) -> Iterator[Used]:
        definition, home = callee.definition, callee.home
        locked = self.under_lock(callee)
        for call, place in (*definition.calls, *_of_lambda(definition)):
            if mark(call.node) in locked:
                continue
            used: list[Expr] = [*call.arguments, *(value for _, value in call.keywords)]
            if (
                isinstance(call.function, Ref)
                and len(call.function.parts) > 1
                and call.function.parts[-1] not in LOCAL_METHODS
            ):
                used.append(Ref(call.function.parts[:-1]))
            for expr in used:
                used_one = held(expr, place, home)
                attribute = _attribute(expr)
                if used_one and not is_inside(used_one.place.scope, definition.scope):
                    yield Used(used_one, attribute=attribute)
                key = handed_in(expr, place, home) if used_one is None else None
                if key is not None:
                    session = Held(key, place, is_parameter=True)
                    yield Used(session, must_be_given=True, attribute=attribute)
            for value in home.evaluate(call.function, place):
                if isinstance(value, LocalFunction) and value.definition is not definition:
                    for inner in self._inner(value, call.function, place, home, depth):
                        if inner.must_be_given or not is_inside(
                            inner.session.place.scope, definition.scope
                        ):
                            yield inner

    def _inner(
        self, callee: LocalFunction, function: Expr, place: Place, home: Namespace, depth: int
    ) -> Iterator[Used]:
        """Yield what a function called in a followed one uses; of objects, what they were given."""
        owner: Expr | None = None
        if isinstance(function, Attribute):
            owner = function.value
        elif isinstance(function, Ref) and len(function.parts) > 1:
            owner = Ref(function.parts[:-1])
        known = None
        if owner is not None and callee.definition.scope.receiver is not None:
            known = None if is_receiver(owner, place) else given_to_maker(owner, place, home)
        # An object that was handed in was made by others, who may know what it was given.
        is_handed_in = owner is not None and handed_in(owner, place, home) is not None
        for used in self.uses(callee, depth + 1):
            if known is None:
                yield used
            elif used.session.key in known:
                yield Used(known[used.session.key])
            elif is_handed_in and owner is not None:
                attribute = f"{_attribute(owner)}.{used.attribute}"
                yield replace(used, must_be_given=True, attribute=attribute)

    def under_lock(self, function: LocalFunction) -> frozenset[Mark]:
        """Return the marks of the calls of a function that are left out."""
        key = id(function.definition.scope)
        if key not in self._locked:
            self._locked[key] = self._under_lock(function)
        return self._locked[key]


def _of_lambda(function: Function) -> Iterator[tuple[Call, Place]]:
    """Yield the call that a lambda comes to."""
    for expr, place in function.returns if isinstance(function.node, LambdaExpr) else ():
        if isinstance(expr, Call):
            yield expr, place


def is_receiver(expr: Expr, place: Place) -> bool:
    """Return whether an expression is the `self` of the method that it stands in."""
    return (
        isinstance(expr, Ref)
        and len(expr.parts) == 1
        and class_of_receiver(expr.parts[0], place) is not None
    )


def _attribute(expr: Expr) -> str:
    """Return the name of an attribute of `self`, or nothing."""
    return expr.parts[1] if isinstance(expr, Ref) and len(expr.parts) == 2 else ""
