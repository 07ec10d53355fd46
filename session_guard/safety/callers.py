"""Who runs a function that opens a session: a web framework, for a request, or other code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.names import openings, values
from session_guard.project.handing import Use, decorated_by
from session_guard.project.routes import RUN_BY_BASE
from session_guard.records import dataclass
from session_guard.safety.forms import yields

if TYPE_CHECKING:
    import libcst as cst

    from session_guard.module import Module

_WEB_FRAMEWORKS = frozenset({"fastapi", "litestar"})
_ASGI = ("scope", "receive", "send")
# What leaves a method a plain function to whoever calls it.
_OF_METHODS = frozenset({"classmethod", "staticmethod"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who runs a function, and why that is not known where it is not."""

    use: Use
    reason: str = ""
    keeps_its_commit: bool = False
    """Whether its own `commit()` stays: it may come before the response is sent."""

    @property
    def is_request(self) -> bool:
        """Whether a web framework runs it for requests, as a handler or for a parameter."""
        return self.use is Use.REQUESTS


def is_request_dependency(function: cst.FunctionDef, module: Module) -> bool | None:
    """Return whether a web framework runs a generator for a request's parameter.

    False where another framework does, for a task or a message. None where nothing in the project
    tells a framework to.
    """
    for decorator in function.decorators:
        for value in module.evaluate(decorator.decorator):
            if not (isinstance(value, values.External) and value.dotted in _OF_METHODS):
                return None
    packages = module.project.frameworks_calling(_qualified(function, module), module.names).known
    return bool(packages & _WEB_FRAMEWORKS) if packages else None


def caller_of(function: cst.FunctionDef, module: Module) -> Caller:
    """Return who runs a function.

    A web framework does where it is decorated like a route, is handed to what adds one or to
    `Depends`, or is a method that the framework calls by its name.
    """
    name, project = _qualified(function, module), module.project
    place = module.place(function)
    if _is_run_by_name(function, module):
        return _for_requests()
    unknown = ""
    for decorator in function.decorators:
        use = decorated_by(module.expr(decorator.decorator), place, module.names)
        if use is Use.REQUESTS:
            return _for_requests()
        if use is Use.UNKNOWN:
            shown = module.code(decorator.decorator)
            unknown = f"`@{shown}` may have a web framework run it for requests"
    handed = project.handed_to_routes(name, module.names)
    calling = project.frameworks_calling(name, module.names)
    if handed is Use.REQUESTS:
        return _for_requests()
    if calling.known & _WEB_FRAMEWORKS:
        # What a generator does behind its `yield` comes when the handler commits.
        return Caller(Use.REQUESTS, keeps_its_commit=not yields(function.body))
    if handed is Use.UNKNOWN or calling.possible & _WEB_FRAMEWORKS:
        unknown = f"a web framework is told to run a `{name[-1]}()` of an object that is not known"
    return Caller(Use.UNKNOWN, unknown, keeps_its_commit=True) if unknown else Caller(Use.OTHER)


def _for_requests() -> Caller:
    return Caller(Use.REQUESTS, keeps_its_commit=True)


def _qualified(function: cst.FunctionDef, module: Module) -> tuple[str, ...]:
    return (*module.place(function).scope.qualified_name, function.name.value)


def _is_run_by_name(function: cst.FunctionDef, module: Module) -> bool:
    """Return whether a method is one that a web framework runs of objects of its class."""
    owner, name = module.place(function).scope.definition, function.name.value
    if owner is None:
        return False
    if name == "__call__":
        parameters = [*function.params.posonly_params, *function.params.params]
        return tuple(p.name.value for p in parameters[1:]) == _ASGI
    return any(
        isinstance(value, values.External) and name in RUN_BY_BASE.get(value.dotted, ())
        for one in openings.lineage(values.LocalClass(owner, module.names))
        for base in one.definition.bases
        for value in one.home.evaluate(base, one.definition.place)
    )
