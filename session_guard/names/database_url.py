"""What an engine's URL tells of where it leads, as far as it can be read; it is never printed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from session_guard.names.bindings import (
    Attribute,
    Call,
    Constant,
    Either,
    Ref,
    TextBeginning,
    class_of_receiver,
    lookup,
)
from session_guard.names.values import Beginning, External, Literal, Located, Result

if TYPE_CHECKING:
    from session_guard.names.values import Value

_HOLE = "\0"
"""Stands in a URL's text for an expression in it."""

_URL = re.compile(
    r"(?P<scheme>[\w+\0]+)://"
    r"(?:[^:/]*(?::[^@]*)?@)?"
    r"(?:\[[^]/]+\]|(?P<host>[^/:?]*))?"
    r"(?::(?P<port>[^/?]*))?"
    r"(?:/[^?]*)?"
    r"(?:\?(?P<query>.*))?$",
    re.DOTALL,
)
_CONSTRUCTORS = frozenset({"sqlalchemy.engine.URL.create", "sqlalchemy.URL.create"})
_CONVERSIONS = frozenset(
    {"str", "sqlalchemy.make_url", "sqlalchemy.engine.make_url", "sqlalchemy.engine.url.make_url"}
)
_ENVIRONMENT = (External("os.getenv"), External("os.environ.get"))
_DEEPEST = 6


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """Parts of a URL; None is what could not be read."""

    scheme: str | None = None
    host: str | None = None
    """With a hole for each expression in it."""
    port: int | None = None
    has_default_port: bool = False
    """Whether it is known that no port is given."""
    query: dict[str, str] = field(default_factory=dict)
    """Those of its parameters that can be read; a hole stands for a value that cannot."""


UNREAD = DatabaseUrl()


def read(url: Located, depth: int = 0) -> DatabaseUrl:
    """Return what can be read of the URL that an expression stands for."""
    found = [_of_value(value, depth) for value in _chosen(url.values())]
    default = _default_of(url)
    if default is not None:
        found = [item for item in found if item != UNREAD] + [default]
    if not found or UNREAD in found:
        replaced = _of_expression(url, depth)
        if replaced is not None:
            return replaced
    if len(found) == 1:
        return found[0]
    schemes = {item.scheme for item in found}
    common = [set(item.query.items()) for item in found]
    return DatabaseUrl(
        schemes.pop() if len(schemes) == 1 else None,
        query=dict(set.intersection(*common)) if common else {},
    )


def _of_value(value: Value, depth: int) -> DatabaseUrl:
    match value:
        case Literal(str(text)):
            return _parsed(text)
        case Beginning(text, pieces):
            whole = "".join(p if isinstance(p, str) else _HOLE for p in pieces)
            return _parsed(whole or f"{text}{_HOLE}")
        case Result(function=External(dotted)) if dotted in _CONSTRUCTORS:
            return _created(value)
        case Result(function=External(dotted)) if dotted in _CONVERSIONS and depth < _DEEPEST:
            if value.call.arguments:
                inner = Located(value.call.arguments[0], value.place, value.home)
                return read(inner, depth + 1)
        case Result():
            return _replaced(value.call) or _default(value)
    return UNREAD


def _chosen(found: tuple[Value, ...]) -> list[Value]:
    """Return the values that tell of a URL: not None, nor the environment's beside a default."""
    rest = [value for value in found if value != Literal(None)]
    told = [v for v in rest if not (isinstance(v, Result) and v.function in _ENVIRONMENT)]
    return told if any(isinstance(v, (Literal, Beginning)) for v in told) else rest


def _default_of(url: Located) -> DatabaseUrl | None:
    """Return what a URL is where nobody sets another: `… or "sqlite://"`, or a default."""
    expr, place = url.expr, url.place
    if isinstance(expr, Ref) and len(expr.parts) == 2:
        owner = class_of_receiver(expr.parts[0], place)
        set_to = owner.attributes.get(expr.parts[1], ()) if owner is not None else ()
        if len(set_to) == 1 and isinstance(set_to[0].value, (Ref, Either)):
            expr, place = set_to[0].value, set_to[0].place
    name = expr.parts[0] if isinstance(expr, Ref) and len(expr.parts) == 1 else None
    if name is not None:
        for binding in lookup(name, place) or ():
            if binding.kind == "parameter":
                given = binding.place.scope.defaults.get(name)
                if given is not None:
                    return _of_default(Located(*given, url.home))
            elif isinstance(binding.value, Either):
                expr, place = binding.value, binding.place
    if isinstance(expr, Either):
        return _of_default(Located(expr.options[-1], place, url.home))
    return None


def _of_default(default: Located) -> DatabaseUrl | None:
    """Return the database of a default, where it is not PostgreSQL's."""
    for value in default.values():
        read_text = value.value if isinstance(value, Literal) else None
        if isinstance(read_text, str) and "://" in read_text:
            scheme = read_text.partition("://")[0].lower()
            return DatabaseUrl(scheme)
    return None


def _parsed(text: str) -> DatabaseUrl:
    match = _URL.match(text)
    if match is None:
        # `f"{url}?ssl=require"`: what is added to a URL that is not known
        return DatabaseUrl(query=_query(re.split(r"[?&]", text, maxsplit=1)[1:]))
    scheme, host, port, query = match["scheme"], match["host"], match["port"], match["query"]
    return DatabaseUrl(
        scheme=None if _HOLE in scheme else scheme.lower(),
        host=host.lower() if host else None,
        port=int(port) if port is not None and port.isdecimal() else None,
        has_default_port=port is None and host is not None and _HOLE not in host,
        query=_query([query or ""]),
    )


def _query(texts: list[str]) -> dict[str, str]:
    """Return the parameters of a query that can be read."""
    pairs = [pair.partition("=") for text in texts for pair in text.split("&")]
    return {
        name: value if _HOLE not in value else _HOLE
        for name, equal, value in pairs
        if equal and _HOLE not in name
    }


def _created(value: Result) -> DatabaseUrl:
    """Return what `URL.create(...)` makes."""
    names = ("drivername", "username", "password", "host", "port", "database", "query")
    given = dict(zip(names, value.call.arguments, strict=False))
    given |= {key: item for key, item in value.call.keywords if key is not None}

    def literal(name: str) -> object:
        expr = given.get(name)
        found = value.home.evaluate(expr, value.place) if expr is not None else ()
        return found[0].value if len(found) == 1 and isinstance(found[0], Literal) else None

    scheme, host, port = literal("drivername"), literal("host"), literal("port")
    return DatabaseUrl(
        scheme=scheme.lower() if isinstance(scheme, str) else None,
        host=host.lower() if isinstance(host, str) else None,
        port=port if isinstance(port, int) else None,
        has_default_port="port" not in given and not value.call.unpacks,
    )


def _default(value: Result) -> DatabaseUrl:
    """Return how the default begins of a call that reads a setting: `getenv`, `Field` and so on."""
    call = value.call
    for expr in (*call.arguments, *(item for key, item in call.keywords if key == "default")):
        for found in value.home.evaluate(expr, value.place):
            if isinstance(found, (Literal, Beginning)):
                text = found.value if isinstance(found, Literal) else found.text
                if isinstance(text, str) and "://" in text:
                    return DatabaseUrl(text.partition("://")[0].lower())
    return UNREAD


def _of_expression(url: Located, depth: int) -> DatabaseUrl | None:
    """Follow a name to `….replace("postgresql://", "postgresql+asyncpg://")`."""
    expr = url.expr
    if isinstance(expr, Ref) and len(expr.parts) == 1 and depth < _DEEPEST:
        for binding in lookup(expr.parts[0], url.place) or ():
            if isinstance(binding.value, (Call, Ref)):
                inner = Located(binding.value, binding.place, url.home)
                replaced = _of_expression(inner, depth + 1)
                if replaced is not None:
                    return replaced
    if not isinstance(expr, Call):
        return None
    return _replaced(expr) or _passed_on(expr)


def _passed_on(call: Call) -> DatabaseUrl | None:
    """Return the database of a URL that a function is given to change, where that is another's."""
    for argument in call.arguments:
        text = argument.text if isinstance(argument, TextBeginning) else None
        if isinstance(argument, Constant) and isinstance(argument.value, str):
            text = argument.value
        if text is not None and "://" in text and not text.startswith("postgres"):
            return DatabaseUrl(text.partition("://")[0].lower())
    return None


def _replaced(call: Call) -> DatabaseUrl | None:
    match call:
        case Call(
            function=Attribute(name="replace") | Ref(parts=(*_, "replace")),
            arguments=(_, Constant(str(text)), *_),
        ) if "+asyncpg" in text:
            return DatabaseUrl("postgresql+asyncpg")
    return None
