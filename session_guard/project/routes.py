"""What web frameworks call things, and which names hand a function to one, to run for requests."""

from __future__ import annotations

import builtins
import re
import sys
from typing import TYPE_CHECKING

from session_guard.names import openings
from session_guard.names.bindings import Attribute, Call, Class, Function, Ref
from session_guard.names.values import External, LocalClass, Method, Partial, Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.names.bindings import Expr, Place
    from session_guard.names.values import Namespace, Value

ROUTE_METHODS = frozenset(
    "get post put patch delete head options route websocket api_route trace".split()
)
ADDS_ROUTES = re.compile(
    rb"\badd_(\w*routes?|url_rule|get|post|put|patch|delete|head|view)\b|Route\b"
    rb"|\.\w+\([^()\n]*\)\("
)
HANDS_OVER = re.compile(
    ADDS_ROUTES.pattern + rb"|\badd_(middleware|exception_handler)\b|Middleware\b|\baiohttp\b"
    rb"|\b(middlewares?|exception_handlers|guards|before_request|after_request|after_response)\b"
    rb"|\b(after_exception|before_send|retrieve_user_handler|revoked_token_handler)\b"
    rb"|\b(litestar|starlite)\b|Controller\b|\bresolver\s*="
)
SERVES = re.compile(
    rb"\b(fastapi|starlette|litestar|starlite|aiohttp|quart|sanic|flask|django|tornado|falcon"
    rb"|blacksheep|robyn|esmerald|strawberry)\b"
)
"""What is in a project that answers requests."""

_ADDING = frozenset(
    {"add_api_route", "add_route", "add_api_websocket_route", "add_websocket_route"}
    | {"add_url_rule", "add_view", *(f"add_{method}" for method in ROUTE_METHODS)}
    | {"add_middleware", "add_exception_handler"}
)
_ROUTES = frozenset(
    {"Route", "WebSocketRoute", "APIRoute", "APIWebSocketRoute", "Middleware", "DefineMiddleware"}
)
# By keyword, what an application, a router, a route or an authentication is made with.
_OF_APPLICATIONS = frozenset(
    """
    middleware middlewares exception_handlers guards before_request after_request after_response
    after_exception before_send retrieve_user_handler revoked_token_handler
    """.split()
)
_LITESTAR = frozenset({"litestar", "starlite"})
# Decorators of applications and routers, with or without arguments.
_RUN_FOR_REQUESTS = frozenset(
    """
    middleware exception_handler errorhandler error_handler app_errorhandler before_request
    after_request teardown_request before_app_request after_app_request
    """.split()
)
_DECORATING_ROUTES = ROUTE_METHODS | {"websocket_listener", "websocket_stream"}
_RESOLVERS = frozenset({"field", "mutation", "subscription"})
_RUN_OTHERWISE = frozenset(
    """
    task shared_task periodic_task actor job scheduled_job interval cron command
    on_event on_startup on_shutdown startup shutdown lifespan before_serving after_serving
    while_serving cli listener listens_for
    """.split()
)
# Packages that have nothing run for a web request: they wrap, or run tasks, messages, commands,
# tests and tools.
_NO_WEB_FRAMEWORKS = frozenset(
    """
    celery taskiq taskiq_dependencies dramatiq arq apscheduler huey rq procrastinate saq streaq
    repid faststream fast_depends faust prefect dagster airflow temporalio modal ray dask inngest
    hatchet_sdk docket aiojobs aiocron schedule nats aio_pika aiokafka confluent_kafka
    aiogram telegram telethon pyrogram discord disnake nextcord hikari nonebot
    nonebot_plugin_alconna nonebot_plugin_apscheduler arclet vkbottle slack_bolt socketio
    click asyncclick rich_click typer cyclopts fire invoke asyncer anyio trio
    tenacity backoff retrying retry stamina wrapt decorator deprecated typing_extensions
    cachetools aiocache async_lru cashews fastapi_cache aiobreaker pybreaker circuitbreaker
    slowapi ratelimit limits async_timeout asgiref greenlet
    typeguard beartype pydantic attr attrs numba dependency_injector injector dishka
    structlog loguru logfire opentelemetry ddtrace sentry_sdk newrelic elasticapm langfuse
    langsmith prometheus_client statsd
    pytest pytest_asyncio anyio hypothesis mock freezegun respx responses vcr aioresponses
    time_machine
    sqlalchemy sqlmodel mcp fastmcp langchain langchain_core langgraph pydantic_ai agents
    """.split()
)
_NO_REQUESTS = _NO_WEB_FRAMEWORKS | sys.stdlib_module_names | set(dir(builtins))
# By base class, the methods that are run for requests.
_HTTP_METHODS = ROUTE_METHODS - {"route", "websocket", "api_route"}
RUN_BY_BASE = {
    "starlette.endpoints.HTTPEndpoint": _HTTP_METHODS,
    "starlette.endpoints.WebSocketEndpoint": {"on_connect", "on_receive", "on_disconnect"},
    "starlette.middleware.base.BaseHTTPMiddleware": {"dispatch"},
    "aiohttp.web.View": _HTTP_METHODS,
    "tornado.web.RequestHandler": _HTTP_METHODS | {"prepare"},
    "litestar.Controller": {"before_request", "after_request", "after_response"},
    "litestar.handlers.WebsocketListener": {"on_accept", "on_receive", "on_disconnect"},
    "litestar.middleware.AbstractAuthenticationMiddleware": {"authenticate_request"},
    "litestar.middleware.ASGIMiddleware": {"handle"},
}
_CONTROLLERS = frozenset({"litestar.Controller", "litestar.controller.Controller"})


def is_run_of_object(method: str) -> bool:
    """Return whether a framework runs a method of an object or a class that is added as a route."""
    return (
        method in _HTTP_METHODS
        or method in ("__call__", "dispatch", "handle")
        or method.startswith("on_")
    )


def adds_routes(call: Call, place: Place, names: Namespace) -> bool:
    """Return whether a call hands all functions that it is given to what runs them for requests."""
    match call.function:
        case Ref((_, *_, name)) | Attribute(_, name) if name in _ADDING:
            return True
    for value in names.evaluate(call.function, place):
        if isinstance(value, External):
            package, _, rest = value.dotted.partition(".")
            name = rest.rpartition(".")[2]
            if name in _ROUTES or (package == "aiohttp" and name in ROUTE_METHODS):
                return True
            if package == "strawberry" and name in _RESOLVERS:
                return True
    return False


def is_of_application(at: int | str, call: Call, place: Place, names: Namespace) -> bool:
    """Return whether an argument's keyword gives an application what it runs for requests."""
    if at != "dependencies":
        return at in _OF_APPLICATIONS
    return any(  # FastAPI's are told by `Depends()`, and others call other things so
        isinstance(value, External) and value.dotted.partition(".")[0] in _LITESTAR
        for value in names.evaluate(call.function, place)
    )


def of_controllers(names: Namespace) -> Iterator[tuple[Expr, Place]]:
    """Yield what a module's controllers of Litestar give it, by a name, to run for requests."""
    for definition in names.scope.classes:
        if any(
            isinstance(value, External) and value.dotted in _CONTROLLERS
            for one in openings.lineage(LocalClass(definition, names))
            for base in one.definition.bases
            for value in one.home.evaluate(base, one.definition.place)
        ):
            for name in (*_OF_APPLICATIONS, "dependencies"):
                for binding in definition.scope.bindings.get(name, ()):
                    if not isinstance(binding.value, (Class, Function, type(None))):
                        yield binding.value, binding.place


def is_for_requests(value: Value, receiver: Expr, *, called: bool) -> bool | None:
    """Return whether what a function is given to has it run for requests; None where unknown.

    `value` is what the `receiver` stands for; where it is `called`, what the call gives is given
    the function, as `@router.get("/")` is.
    """
    dotted = _dotted(value)
    package = dotted.partition(".")[0]
    name = dotted.rpartition(".")[2]
    if package in _NO_REQUESTS:
        return False
    if package == "strawberry":
        return name in _RESOLVERS
    if not isinstance(value, External):  # which may be imported by another name
        match receiver:
            case Ref((*_, spelled)) | Attribute(_, spelled):
                name = spelled
    if name in _RUN_FOR_REQUESTS or (called and name in _DECORATING_ROUTES):
        return True
    return False if name in _RUN_OTHERWISE else None


def _dotted(value: Value) -> str:
    """Return the dotted name of what a value comes from outside of the project, or nothing."""
    names: list[str] = []
    while isinstance(value, (Result, Partial, Method)):
        if isinstance(value, Method):
            names.append(value.name)
            value = value.owner
        else:
            value = value.function
    return ".".join((value.dotted, *reversed(names))) if isinstance(value, External) else ""
