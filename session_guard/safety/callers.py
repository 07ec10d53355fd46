"""Who runs a function that opens a session: a web framework, for a request, or other code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names import values
from session_guard.names.bindings import Attribute, Call, Ref, lookup
from session_guard.project.routes import ROUTE_METHODS

if TYPE_CHECKING:
    from session_guard.module import Module
    from session_guard.names.bindings import Expr, Place
    from session_guard.names.values import Namespace

_DEEPEST = 4
_RESOLVERS = frozenset({"field", "mutation", "subscription"})
_ENDPOINTS = frozenset(
    {"starlette.endpoints.HTTPEndpoint", "aiohttp.web.View", "tornado.web.RequestHandler"}
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
    """Return whether a web framework runs a function for a request.

    It is decorated like a route, handed to what adds one, or a method of a class that is one.
    """
    if any(_is_route(decorator.decorator, module) for decorator in function.decorators):
        return True
    if module.project.is_handed_to_routes(function.name.value, module.names):
        return True
    owner = module.place(function).scope.definition
    return (
        owner is not None
        and function.name.value in ROUTE_METHODS
        and any(
            isinstance(value, values.External) and value.dotted in _ENDPOINTS
            for base in owner.bases
            for value in module.names.evaluate(base, owner.place)
        )
    )


def _is_route(decorator: cst.BaseExpression, module: Module) -> bool:
    function = decorator.func if isinstance(decorator, cst.Call) else decorator
    names = [v.dotted for v in module.evaluate(function) if isinstance(v, values.External)]
    if any(name.startswith("strawberry.") for name in names):
        return any(name.rpartition(".")[2] in _RESOLVERS for name in names)
    if not isinstance(decorator, cst.Call) or any(n.startswith(_NO_FRAMEWORKS) for n in names):
        return False
    if isinstance(function, cst.Attribute) and function.attr.value in ROUTE_METHODS:
        return True
    # Litestar's are plain functions: `@get("/users")`
    return any(name.rpartition(".")[2] in ROUTE_METHODS for name in names) or _gives_route(
        module.expr(function), module.place(function), module.names
    )


def _gives_route(expr: Expr, place: Place, names: Namespace, depth: int = 0) -> bool:
    """Return whether a function is a router's by another name, or returns what a router gives.

    `register = router.post` and `def register(path): return router.post(path)` are.
    """
    match expr:
        case Ref((_, *_, name)) | Attribute(_, name) if name in ROUTE_METHODS:
            return True
        case Ref((name,)) if depth < _DEEPEST:
            for binding in lookup(name, place) or ():
                if isinstance(binding.value, (Attribute, Ref)) and _gives_route(
                    binding.value, binding.place, names, depth + 1
                ):
                    return True
    return depth < _DEEPEST and any(
        isinstance(returned, Call) and _gives_route(returned.function, at, value.home, depth + 1)
        for value in names.evaluate(expr, place)
        if isinstance(value, values.LocalFunction)
        for returned, at in value.definition.returns
    )
