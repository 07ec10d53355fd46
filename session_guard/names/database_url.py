"""What an engine's URL tells of where it leads, as far as it can be read; it is never printed."""

from __future__ import annotations

import re
from dataclasses import field, replace
from typing import TYPE_CHECKING

from session_guard.names import dictionaries
from session_guard.names.bindings import (
    Attribute,
    Await,
    Call,
    Class,
    Constant,
    Either,
    Function,
    Item,
    Opaque,
    Ref,
    class_of_receiver,
    excludes,
    lookup,
    unpacked,
)
from session_guard.names.values import (
    Beginning,
    External,
    Literal,
    LocalFunction,
    Located,
    Method,
    Result,
)
from session_guard.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from session_guard.names.bindings import Expr
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
_DRIVER = re.compile(r"\+(asyncpg|psycopg\w*)")
_SCHEME = re.compile(r"(\w+(?:\+\w+)?)://")
_ENVIRONMENT = (External("os.getenv"), External("os.environ.get"))
# Methods of a URL that give it back, changed or not.
_CHANGES = frozenset(
    {"set", "render_as_string", "unicode_string", "update_query_dict", "update_query_string"}
)
# Pydantic's classes of URLs, of one host and of several.
_OF_PYDANTIC = re.compile(
    r"pydantic(?:_core)?\.(?:\w+\.)*(?P<name>\w*(?:Dsn|Url))(?P<build>\.build)?"
)
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
    may_have_more: bool = False
    """Whether something is put into its query of which the names cannot be read."""
    possible_query: dict[str, str] = field(default_factory=dict)
    """Those of a default, or of one of several that it may be, as far as they can be read."""

    may_be_on_asyncpg: bool = False
    """Whether one of several that it may be is asyncpg's."""

    @property
    def is_on_asyncpg(self) -> bool:
        """Whether its driver is known to be asyncpg."""
        return self.scheme in ("postgresql+asyncpg", "postgres+asyncpg")

    def value(self, key: str) -> str | None:
        """Return the value of a parameter, or None where it cannot be read."""
        text = self.query.get(key)
        return None if text == _HOLE else text


UNREAD = DatabaseUrl()


def read(url: Located, depth: int = 0) -> DatabaseUrl:
    """Return what can be read of the URL that an expression stands for."""
    found = [_of_value(value, depth) for value in _chosen(_values(url))]
    default = _default_of(url)
    if default is not None:
        found = [item for item in found if item != UNREAD] + [default]
    if not found or UNREAD in found:
        replaced = _of_expression(url, depth) or _passed_on(url)
        if replaced is not None:
            return replaced
    if all(item == UNREAD for item in found):
        return _with_driver(url, depth) or UNREAD
    if len(found) == 1:
        return found[0]
    schemes = {item.scheme for item in found}
    may_be = any(item.is_on_asyncpg or item.may_be_on_asyncpg for item in found)
    queries = [set(item.query.items()) for item in found]
    common = set.intersection(*queries) if queries else set()
    possible = {
        key: text
        for item in found
        for key, text in (*item.possible_query.items(), *item.query.items())
    }
    return DatabaseUrl(
        schemes.pop() if len(schemes) == 1 else None,
        query=dict(common),
        may_be_on_asyncpg=may_be,
        may_have_more=any(i.may_have_more for i in found) or any(q != common for q in queries),
        possible_query=possible,
    )


def _values(url: Located) -> tuple[Value, ...]:
    """Return what a URL may be, but for what the other arm of a test that comes twice gives it."""
    expr = url.expr
    if isinstance(expr, Ref) and len(expr.parts) == 1:
        bound = [binding.place for binding in lookup(expr.parts[0], url.place) or ()]
        if any(excludes(place, url.place) for place in bound):
            return tuple(value for origin in _bound(url) for value in origin.values())
    return url.values()


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
        case Result(function=External(dotted)) if of_pydantic := _OF_PYDANTIC.fullmatch(dotted):
            if of_pydantic["build"]:
                return _built(value)
            given = value.call.arguments[0] if value.call.arguments else value.call.keyword("url")
            if given is not None and depth < _DEEPEST:
                return read(Located(given, value.place, value.home), depth + 1)
        case Result(function=Method(owner, name)) if name in _CHANGES and depth < _DEEPEST:
            return _changed(_of_value(owner, depth + 1), name, value)
        case Result():
            called = Located(value.call, value.place, value.home)
            return _replaced(called, depth) or _default(value)
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
    """Return the database of a default."""
    for value in default.values():
        scheme = _scheme(value)
        if scheme is not None:
            return DatabaseUrl(scheme, possible_query=_of_value(value, 0).query)
    return None


def _parsed(text: str) -> DatabaseUrl:
    match = _URL.match(text)
    if match is None:
        # `f"{url}?ssl=require"`: what is added to a URL that is not known
        return _with_query(UNREAD, "&".join(re.split(r"[?&]", text, maxsplit=1)[1:]))
    scheme, host, port, query = match["scheme"], match["host"], match["port"], match["query"]
    url = DatabaseUrl(
        scheme=_without_holes(scheme.lower()),
        host=host.lower() if host else None,
        port=int(port) if port is not None and port.isdecimal() else None,
        has_default_port=port is None and host is not None and _HOLE not in host,
    )
    return _with_query(url, query or "")


def _without_holes(scheme: str) -> str | None:
    """Return a scheme, or its dialect where only the driver is not known and does not matter."""
    if _HOLE not in scheme:
        return scheme
    dialect = scheme.partition("+")[0]
    return None if _HOLE in dialect or dialect.startswith("postgres") else dialect


def _with_query(url: DatabaseUrl, text: str) -> DatabaseUrl:
    """Return a URL with the parameters that a text of them adds."""
    pairs = [pair.partition("=") for pair in text.split("&")]
    query = {
        name: value if _HOLE not in value else _HOLE
        for name, equal, value in pairs
        if equal and _HOLE not in name
    }
    more = url.may_have_more or any(_HOLE in name for name, _, _ in pairs)
    return replace(url, query=url.query | query, may_have_more=more)


def _created(value: Result) -> DatabaseUrl:
    """Return what `URL.create(...)` makes."""
    names = ("drivername", "username", "password", "host", "port", "database", "query")
    given = dict(zip(names, value.call.arguments, strict=False))
    given |= {key: item for key, item in value.call.keywords if key is not None}
    url = _with_parts(UNREAD, given, value)
    unpacks = value.call.unpacks
    return replace(
        url,
        has_default_port="port" not in given and not unpacks,
        may_have_more=url.may_have_more or ("query" not in given and unpacks),
    )


def _built(value: Result) -> DatabaseUrl:
    """Return what `PostgresDsn.build(...)` makes."""
    names = {"scheme": "drivername", "host": "host", "port": "port"}
    given = {names[key]: item for key, item in value.call.keywords if key in names}
    url = _with_parts(UNREAD, given, value)
    query, unpacks = value.call.keyword("query"), value.call.unpacks
    url = replace(
        url,
        has_default_port="port" not in given and not unpacks and not value.call.keyword("hosts"),
        may_have_more=query is not None or unpacks,
    )
    found = value.home.evaluate(query, value.place) if query is not None else ()
    if len(found) == 1 and isinstance(found[0], Literal) and isinstance(found[0].value, str):
        return _with_query(replace(url, may_have_more=unpacks), found[0].value)
    return url


def _changed(url: DatabaseUrl, method: str, value: Result) -> DatabaseUrl:
    """Return what a method of a URL makes of it."""
    given: dict[str, Expr] = {key: item for key, item in value.call.keywords if key is not None}
    if method == "set":
        return _with_parts(url, given, value)
    if value.call.arguments and method.startswith("update_query"):
        added = Located(value.call.arguments[0], value.place, value.home)
        if method == "update_query_dict":
            return _with_parameters(url, added)
        text = [v.value for v in added.values() if isinstance(v, Literal)]
        if len(text) == 1 and isinstance(text[0], str):
            return _with_query(url, text[0])
        return replace(url, may_have_more=True)
    return url


def _with_parts(
    url: DatabaseUrl, given: Mapping[str, Expr], value: Result | Located
) -> DatabaseUrl:
    """Return a URL with those of its parts that a call gives by name."""

    def literal(name: str) -> object:
        found = value.home.evaluate(given[name], value.place)
        return found[0].value if len(found) == 1 and isinstance(found[0], Literal) else None

    if "drivername" in given:
        scheme = literal("drivername")
        url = replace(url, scheme=scheme.lower() if isinstance(scheme, str) else None)
    if "host" in given:
        host = literal("host")
        url = replace(url, host=host.lower() if isinstance(host, str) else None)
    if "port" in given:
        port = literal("port")
        port = int(str(port)) if str(port).isdecimal() else None
        url = replace(url, port=port, has_default_port=False)
    if "query" in given:
        query = Located(given["query"], value.place, value.home)
        url = _with_parameters(replace(url, query={}, may_have_more=False), query)
    return url


def _with_parameters(url: DatabaseUrl, given: Located) -> DatabaseUrl:
    """Return a URL with the parameters that a dictionary adds."""
    contents = dictionaries.contents(given)
    query = {}
    for key in contents.certain:
        text = contents.literal(key)
        query[key] = text if isinstance(text, str) else _HOLE
    more = contents.is_open or contents.entries.keys() != contents.certain
    return replace(url, query=url.query | query, may_have_more=url.may_have_more or more)


def _default(value: Result) -> DatabaseUrl:
    """Return how the default begins of a call that reads a setting: `getenv`, `Field` and so on."""
    call = value.call
    for expr in (*call.arguments, *(item for key, item in call.keywords if key == "default")):
        for found in value.home.evaluate(expr, value.place):
            if isinstance(found, (Literal, Beginning)):
                text = found.value if isinstance(found, Literal) else found.text
                if isinstance(text, str) and "://" in text:
                    scheme = text.partition("://")[0].lower()
                    return DatabaseUrl(scheme, possible_query=_of_value(found, 0).query)
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
    return _replaced(url, depth)


def _with_driver(url: Located, depth: int) -> DatabaseUrl | None:
    """Follow a URL of which nothing is known to `….set(drivername="postgresql+asyncpg")`."""
    match url.expr:
        case Call(function=Attribute(name="set") | Ref(parts=(*_, "set"))) as call:
            driver = call.keyword("drivername")
            if isinstance(driver, Constant) and driver.value == "postgresql+asyncpg":
                given = {key: item for key, item in call.keywords if key is not None}
                return _with_parts(UNREAD, given, url)
    origins = [*_bound(url), *_returned(url)] if depth < _DEEPEST else []
    found = [_with_driver(origin, depth + 1) for origin in origins]
    if len(found) == 1:
        return found[0]
    may_be = any(item is not None for item in found)
    return DatabaseUrl(may_be_on_asyncpg=True) if may_be else None


def _bound(url: Located) -> Iterator[Located]:
    """Yield what a name may be bound to where it is used."""
    name = url.expr.parts[0] if isinstance(url.expr, Ref) and len(url.expr.parts) == 1 else None
    for binding in (lookup(name, url.place) or ()) if name is not None else ():
        value = binding.value
        if value is None or isinstance(value, (Class, Function)):
            yield Located(Opaque(), binding.place, url.home)
        elif not excludes(binding.place, url.place):
            yield Located(value, binding.place, url.home)


def _returned(url: Located) -> Iterator[Located]:
    """Yield what the function of a call returns, or an item of the tuple that it returns."""
    item = url.expr if isinstance(url.expr, Item) else None
    call = item.value if item is not None else url.expr
    call = call.value if isinstance(call, Await) else call
    for function in url.home.evaluate(call.function, url.place) if isinstance(call, Call) else ():
        if not isinstance(function, LocalFunction):
            continue
        for returned, at in function.definition.returns:
            expr = unpacked(returned, item.count)[item.index] if item is not None else returned
            yield Located(expr, at, function.home)


def _passed_on(url: Located) -> DatabaseUrl | None:
    """Return the database of a URL that a function of the project changes, where it is another."""
    call, place = url.expr, url.place
    if isinstance(call, Ref) and len(call.parts) == 1:
        bindings = lookup(call.parts[0], place) or []
        if len(bindings) != 1 or not isinstance(bindings[0].value, Call):
            return None
        call, place = bindings[0].value, bindings[0].place
    if not isinstance(call, Call) or not any(
        isinstance(function, LocalFunction) for function in url.home.evaluate(call.function, place)
    ):
        return None
    for argument in call.arguments:
        found = url.home.evaluate(argument, place)
        schemes = {_scheme(value) for value in found}
        scheme = schemes.pop() if len(schemes) == 1 else None
        if scheme is not None and not scheme.startswith("postgres"):
            return DatabaseUrl(scheme)
    return None


def _scheme(value: Value) -> str | None:
    """Return how a text begins that is a URL."""
    text = value.value if isinstance(value, Literal) else None
    if isinstance(value, Beginning):
        text = value.text
    match = _SCHEME.match(text) if isinstance(text, str) else None
    return match[1].lower() if match is not None else None


def _replaced(url: Located, depth: int) -> DatabaseUrl | None:
    """Return what `….replace("postgresql://", "postgresql+asyncpg://")` makes of a URL."""
    match url.expr:
        case Call(function=Attribute(value=owner, name="replace"), arguments=(_, new, *_)):
            pass
        case Call(function=Ref(parts=(*parts, "replace")), arguments=(_, new, *_)):
            owner = Ref(tuple(parts))
        case _:
            return None
    found = url.home.evaluate(new, url.place)
    text = found[0].value if len(found) == 1 and isinstance(found[0], Literal) else None
    driver = _DRIVER.search(text) if isinstance(text, str) else None
    if driver is None:
        return None
    whole = read(Located(owner, url.place, url.home), depth + 1) if depth < _DEEPEST else UNREAD
    query = whole.query | whole.possible_query
    return DatabaseUrl(f"postgresql+{driver[1]}", possible_query=query)
