"""Who closes a session that others were given: the one who gave it, or they themselves."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names import evaluation
from session_guard.names.bindings import AsyncItem, Await, Call, Ref, calls_in
from session_guard.names.held import held
from session_guard.names.values import LocalFunction
from session_guard.usage.bodies import CLOSING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_guard.module import Module
    from session_guard.names.bindings import Binding, Expr, Place
    from session_guard.names.held import Held
    from session_guard.usage.coroutines import Coroutines

_ENTERING = frozenset({"enter_async_context", "enter_context"})
_DEEPEST = 5


class Ownership:
    """Finds out who closes the sessions of one module."""

    def __init__(self, module: Module, coroutines: Coroutines) -> None:
        self._module = module
        self._coroutines = coroutines

    def ends_here(self, session: Held) -> bool:
        """Return whether a session is closed by the function that holds it, or its caller."""
        scope = session.place.scope
        return (
            session.is_parameter
            or _ends_with_its_block(session)
            or (
                scope.function is not None
                and any(_is_closing(call, session.name) for call, _ in scope.function.calls)
            )
        )

    def is_taken_over(
        self, function: cst.BaseExpression, args: Sequence[cst.Arg], session: Held
    ) -> bool:
        """Return whether `function`, called with `args`, closes a session that nobody else does."""
        at = self._module.place(function)
        return (
            self._closes(function, args, session)
            and not _ends_with_its_block(session)
            and not _is_surely_closed(session.name, at)
            and not self._is_closed_by_framework(session)
        )

    # -- the one who gave it --------------------------------------------------------------------

    def _is_closed_by_framework(self, session: Held) -> bool:
        """Return whether a session is a dependency that is surely closed behind its `yield`."""
        scope = session.place.scope
        if not session.is_parameter or scope.module is not self._module.names.scope:
            return False
        return any(
            _closes_what_it_yields(dependency)
            for dependency in evaluation.dependencies(scope, session.name, self._module.names)
        )

    # -- those who were given it ----------------------------------------------------------------

    def _closes(self, function: cst.BaseExpression, args: Sequence[cst.Arg], session: Held) -> bool:
        if isinstance(function, cst.Call) and function.args:
            if self._coroutines.is_partial(function):
                first, *given = function.args
                return self._closes(first.value, (*given, *args), session)
            return False
        for callee in self._coroutines.callees(function):
            if isinstance(callee, LocalFunction):
                positions = callee.definition.given_by_position
                names = {
                    argument.keyword.value if argument.keyword is not None else position
                    for argument, position in zip_longest(args, positions)
                    if argument is not None and self._is(argument.value, session)
                }
                if _closes_in(callee, session, names):
                    return True
        return False

    def _is(self, node: cst.BaseExpression, session: Held) -> bool:
        found = self._module.held(node)
        return found is not None and found.key == session.key


def _closes_in(
    callee: LocalFunction, session: Held, names: set[str | None], depth: int = 0
) -> bool:
    """Return whether a known function closes a session, which it has under some names too."""
    if depth > _DEEPEST:
        return False
    home = callee.home

    def is_it(expr: Expr, place: Place) -> bool:
        if isinstance(expr, Ref) and len(expr.parts) == 1 and expr.parts[0] in names:
            return True
        found = held(expr, place, home)
        return found is not None and found.key == session.key

    for call, place in calls_in(callee.definition):
        if isinstance(call.function, Ref):
            *owner, method = call.function.parts
            if owner and method in CLOSING and is_it(Ref(tuple(owner)), place):
                return True
        for inner in home.evaluate(call.function, place):
            if isinstance(inner, LocalFunction):
                pairs = zip(inner.definition.given_by_position, call.arguments, strict=False)
                given: set[str | None] = {name for name, value in pairs if is_it(value, place)}
                if given and _closes_in(inner, session, given, depth + 1):
                    return True
    return False


def _ends_with_its_block(session: Held) -> bool:
    """Return whether a session is what a `with`, a loop or an exit stack closes."""
    return any(map(_is_entered, session.place.scope.bindings.get(session.name, ())))


def _is_entered(binding: Binding) -> bool:
    match binding.value:
        case Await(Call(function=Ref((*_, method)))):
            return method in _ENTERING
        case AsyncItem():
            return True
    return binding.entered


def _is_closing(call: Call, name: str) -> bool:
    return isinstance(call.function, Ref) and call.function.parts in {
        (name, method) for method in CLOSING
    }


def _is_surely_closed(name: str, at: Place) -> bool:
    """Return whether the function closes what has a name, whatever becomes of it at a place."""
    function = at.scope.function
    return function is not None and any(
        _is_closing(call, name) and place.branches == at.branches[: len(place.branches)]
        for call, place in function.calls
    )


def _closes_what_it_yields(function: LocalFunction) -> bool:
    """Return whether a generator closes what it yields, whatever becomes of it."""
    bindings = function.definition.scope.bindings
    return any(
        any(map(_is_entered, bindings.get(expr.parts[0], ())))
        or _is_surely_closed(expr.parts[0], at)
        for expr, at in function.definition.yields
        if isinstance(expr, Ref) and len(expr.parts) == 1
    )
