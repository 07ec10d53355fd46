"""Who runs a function that opens a session: a web framework, for a request, or other code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names import values

if TYPE_CHECKING:
    from session_guard.module import Module

_ROUTE_METHODS = frozenset(
    "get post put patch delete head options route websocket api_route trace".split()
)
_NO_FRAMEWORKS = ("unittest.", "mock.")  # `@patch("app.jobs.send")`
_WEB_FRAMEWORKS = frozenset({"fastapi", "litestar"})


def is_request_dependency(function: cst.FunctionDef, module: Module) -> bool | None:
    """Return whether a web framework runs a generator for a request's parameter.

    False where another framework does, for a task or a message. None where nothing in the project
    tells a framework to.
    """
    if module.place(function).scope.kind != "module" or function.decorators:
        return None
    packages = module.project.frameworks_calling(function.name.value, module.names)
    return bool(packages & _WEB_FRAMEWORKS) if packages else None


def is_request_handler(function: cst.FunctionDef, module: Module) -> bool:
    """Return whether a function is decorated like a web framework's route."""
    for decorator in function.decorators:
        call = decorator.decorator
        if not isinstance(call, cst.Call):
            continue
        names = [v.dotted for v in module.evaluate(call.func) if isinstance(v, values.External)]
        if any(name.startswith(_NO_FRAMEWORKS) for name in names):
            continue
        if isinstance(call.func, cst.Attribute) and call.func.attr.value in _ROUTE_METHODS:
            return True
        # Litestar's are plain functions: `@get("/users")`
        if any(name.rpartition(".")[2] in _ROUTE_METHODS for name in names):
            return True
    return False
