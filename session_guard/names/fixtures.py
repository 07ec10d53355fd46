"""Which functions are fixtures of pytest: tests, wherever their file stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.names.bindings import Call
from session_guard.names.values import External, Partial, Result

if TYPE_CHECKING:
    from session_guard.names.bindings import Expr, Function, Place
    from session_guard.names.values import Namespace

_DECORATORS = (External("pytest.fixture"), External("pytest_asyncio.fixture"))


def is_in_fixture(place: Place, home: Namespace) -> bool:
    """Return whether code stands in a fixture, or in a function within one."""
    scope = place.scope
    while scope.parent is not None:
        if scope.function is not None and is_fixture(scope.function, home):
            return True
        scope = scope.parent
    return False


def is_fixture(function: Function, home: Namespace) -> bool:
    """Return whether pytest calls a function for what its tests ask for."""
    return any(_is_of_pytest(decorator, function.place, home) for decorator in function.decorators)


def _is_of_pytest(decorator: Expr, place: Place, home: Namespace) -> bool:
    target = decorator.function if isinstance(decorator, Call) else decorator
    for value in home.evaluate(target, place):
        # `fixture = pytest_asyncio.fixture(scope="session")`, to be used as `@fixture`
        made = value.function if isinstance(value, (Partial, Result)) else value
        if made in _DECORATORS:
            return True
    return False
