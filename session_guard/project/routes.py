"""Which calls hand a function to a web framework, to be run for requests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from session_guard.names.bindings import Attribute, Call, Ref
from session_guard.names.values import External, LocalFunction, Partial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.names.bindings import Place
    from session_guard.names.values import Namespace, Value

ROUTE_METHODS = frozenset(
    "get post put patch delete head options route websocket api_route trace".split()
)
HANDS_OVER = re.compile(
    rb"\badd_(\w*route|url_rule|get|post|put|patch|delete|head|view)\b"
    rb"|Route\b|\baiohttp\b|\.\w+\([^()\n]*\)\("
)
_ADDING = frozenset(
    {"add_api_route", "add_route", "add_api_websocket_route", "add_websocket_route"}
    | {"add_url_rule", "add_view", *(f"add_{method}" for method in ROUTE_METHODS)}
)
_ROUTES = frozenset({"Route", "WebSocketRoute", "APIRoute", "APIWebSocketRoute"})


def handed_to_routes(names: Namespace) -> Iterator[LocalFunction]:
    """Yield the functions that a module hands to what runs them for requests."""
    for call, place in names.scope.calls:
        if _adds_route(call, place, names):
            for argument in (*call.arguments, *(value for _, value in call.keywords)):
                for value in names.evaluate(argument, place):
                    if (function := _function(value)) is not None:
                        yield function


def _adds_route(call: Call, place: Place, names: Namespace) -> bool:
    match call.function:
        case Ref((_, *_, name)) | Attribute(_, name) if name in _ADDING:
            return True
        # `app.get("/users")(users)`
        case Call(Ref((_, *_, name))) if name in ROUTE_METHODS:
            return True
    for value in names.evaluate(call.function, place):
        if isinstance(value, External):
            name = value.dotted.rpartition(".")[2]
            if name in _ROUTES or (value.dotted.startswith("aiohttp.") and name in ROUTE_METHODS):
                return True
    return False


def _function(value: Value) -> LocalFunction | None:
    if isinstance(value, Partial):
        value = value.function
    return value if isinstance(value, LocalFunction) else None
