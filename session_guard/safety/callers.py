"""Who calls a function that opens a session: a web framework, for a request, or other code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names import values

if TYPE_CHECKING:
    from session_guard.module import Module

_ROUTE_METHODS = frozenset(
    "get post put patch delete head options route websocket api_route trace".split()
)


def is_request_handler(function: cst.FunctionDef, module: Module) -> bool:
    """Return whether a function is decorated like a web framework's route."""
    for decorator in function.decorators:
        call = decorator.decorator
        if not isinstance(call, cst.Call):
            continue
        if isinstance(call.func, cst.Attribute) and call.func.attr.value in _ROUTE_METHODS:
            return True
        if any(  # Litestar's are plain functions: `@get("/users")`
            isinstance(value, values.External) and value.dotted.rpartition(".")[2] in _ROUTE_METHODS
            for value in module.evaluate(call.func)
        ):
            return True
    return False
