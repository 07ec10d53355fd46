"""What is known of one engine: where it leads, on which driver, and with which settings.

What cannot be followed is neither "missing" nor "there": rules then say nothing.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from session_guard import standard, versions
from session_guard.engine import listeners
from session_guard.engine.statement_names import names_of, names_of_connections
from session_guard.names import database_url, databases, dictionaries, openings, values
from session_guard.names.bindings import Attribute, Await, Call, Ref, lookup
from session_guard.names.dictionaries import Contents
from session_guard.names.held import gives_session
from session_guard.names.values import Located
from session_guard.project.project import is_migration_environment
from session_guard.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import libcst as cst

    from session_guard.module import Module
    from session_guard.names.database_url import DatabaseUrl
    from session_guard.names.values import Result, Value
    from session_guard.project.project import Project
    from session_guard.standard import Names
    from session_guard.versions import Versions

_NULL_POOL = frozenset({"sqlalchemy.pool.NullPool", "sqlalchemy.NullPool"})
_OTHER_ASYNC_DRIVERS = (
    "+aiosqlite",
    "+psycopg",
    "+aiomysql",
    "+asyncmy",
    "+aioodbc",
    "+oracledb",
    "sqlite://",
)


_DEEPEST = 8


@dataclass(frozen=True)
class Engine:
    """An engine, by the call that builds it."""

    result: Result
    project: Project
    path: Path
    """The file that is checked, whose versions it runs on."""
    text: str
    """The text of the module that builds it."""

    @property
    def call(self) -> cst.Call:
        """The call, as the node of its front end."""
        return self.result.call.node  # type: ignore[return-value]

    @cached_property
    def arguments(self) -> Contents:
        """The keyword arguments of the call; those of `**options` where these can be followed."""
        result = self.result
        return dictionaries.keywords(result.call, result.place, result.home)

    @cached_property
    def is_from_config(self) -> bool:
        """Whether `async_engine_from_config` builds it, whose settings are not looked into."""
        return openings.derives_from(
            self.result.function, frozenset({"sqlalchemy.ext.asyncio.async_engine_from_config"})
        )

    @cached_property
    def connect_args(self) -> Contents:
        """What it connects with: what is in `connect_args`, and what listeners make of it."""
        if self.is_from_config:
            return Contents(is_open=True)
        found = Contents()
        found.merge([self._given_connect_args], None, is_certain=True)
        home = self.result.home
        others = [other for other in self.project.listening if other.path != home.path]
        listeners.apply(found, self.result, (home, *others))
        return found

    @cached_property
    def _given_connect_args(self) -> Contents:
        return self._dictionary("connect_args")

    @cached_property
    def set_by_listeners(self) -> frozenset[str]:
        """The keys of `connect_args` that listeners have the last word on."""
        given, found = self._given_connect_args.entries, self.connect_args.entries
        return frozenset(key for key, entries in found.items() if entries != given.get(key))

    def _dictionary(self, name: str) -> Contents:
        """Return what is in the dictionary that an argument is; nothing where it is not given."""
        found = Contents()
        options = [
            dictionaries.contents(entry.value)
            if entry.value is not None
            else Contents(is_open=True)
            for entry in self.arguments.entries.get(name, ())
        ]
        if not self.arguments.is_present(name):
            options.append(Contents(is_open=self.arguments.is_open))
        found.merge(options, None, is_certain=True)
        return found

    @cached_property
    def url(self) -> DatabaseUrl:
        """What can be read of its URL."""
        given = self.result.call.arguments
        if self.is_from_config:
            return database_url.UNREAD
        if given:
            return database_url.read(Located(given[0], self.result.place, self.result.home))
        entries = self.arguments.entries.get("url", ())
        if len(entries) == 1 and entries[0].value is not None:
            return database_url.read(entries[0].value)
        return database_url.UNREAD

    @cached_property
    def is_another_database(self) -> bool:
        """Whether it is known not to be PostgreSQL's."""
        scheme = self.url.scheme
        if scheme is not None:
            return not scheme.startswith("postgres")
        return (
            databases.is_other_engine(self.result)
            or "check_same_thread" in self.connect_args.certain
        )

    @cached_property
    def is_on_asyncpg(self) -> bool:
        """Whether it is known to be PostgreSQL's, on asyncpg.

        Where the URL does not tell, a setting does that only asyncpg has, or the module, or the
        project, that knows of no other driver for async engines.
        """
        if self.url.scheme is not None:
            return self.url.is_on_asyncpg
        if self.is_from_config or self.is_another_database:
            return False
        given = self.connect_args.certain | self.arguments.certain
        # What may be there is for the asyncpg arm of a project that knows other drivers as well.
        perhaps = self.connect_args.entries.keys() & set(standard.POOLER_SETTINGS)
        if perhaps or standard.ONLY_ASYNCPG & given:
            return True
        if any(driver in self.text for driver in _OTHER_ASYNC_DRIVERS):
            return False
        return "+asyncpg" in self.text or self.versions.only_driver_is_asyncpg

    @cached_property
    def may_be_on_asyncpg(self) -> bool:
        """Whether it is, or one of several that it may be is: by the URL, or by what it sets."""
        if self.is_on_asyncpg or self.url.may_be_on_asyncpg:
            return True
        is_told = self.url.scheme is not None or self.is_another_database
        return not is_told and bool(self.connect_args.entries.keys() & standard.CONNECTS_BY_ASYNCPG)

    @cached_property
    def versions(self) -> Versions:
        """What the file that is checked runs on."""
        return versions.of(self.project, self.path)

    @cached_property
    def pooler(self) -> str:
        """`supavisor`, `pgbouncer`, `direct` or `auto`: as configured, or as the URL tells."""
        configured = self.project.settings.pooler
        return configured if configured != "auto" else _told(self.url)

    @cached_property
    def is_in_session_mode(self) -> bool:
        """Whether the URL tells that Supavisor gives each client one connection for its life."""
        return (
            self.project.settings.pooler == "auto"
            and _is_supavisor_host(self.url.host)
            and (self.url.port == 5432 or self.url.has_default_port)
        )

    @cached_property
    def needs_no_settings(self) -> bool:
        """Whether no transaction pooler stands before its database."""
        return self.pooler == "direct" or self.is_in_session_mode

    # -- its settings -----------------------------------------------------------------------

    def is_off(self, key: str) -> bool | None:
        """Return whether the cache that `key` sizes is off, or None where that is not known."""
        if self.connect_args.is_absent(key):
            return self._is_off_in_url(key)
        off = {
            standard.turns_off(key, value.value) if isinstance(value, values.Literal) else None
            for value in self.connect_args.values(key) or ()
        }
        return off.pop() if len(off) == 1 else None

    def _is_off_in_url(self, key: str) -> bool | None:
        """Return whether the URL turns a cache off: of asyncpg's settings it reads none."""
        if key != standard.DIALECT_CACHE:
            return False
        if key not in self.url.query:
            return None if self.url.may_have_more else False
        text = self.url.value(key)
        return None if text is None else text.isdecimal() and int(text) == 0

    @cached_property
    def names(self) -> Names | None:
        """What its statements are called, or None where it is not known whether that is set."""
        given = self._names_by_function
        return self._names_by_class if given is standard.Names.DEFAULT else given

    @cached_property
    def is_named_by_class(self) -> bool:
        """Whether it is `connection_class` that names its statements."""
        names = (standard.Names.DEFAULT, None)
        return self._names_by_function is names[0] and self._names_by_class not in names

    @cached_property
    def _names_by_function(self) -> Names | None:
        key = standard.NAME_FUNC
        if self.connect_args.is_absent(key):
            return standard.Names.DEFAULT
        found = self.connect_args.values(key)
        if found is None:
            return None
        kinds = {
            standard.Names.DEFAULT
            if isinstance(value, values.Literal) and not value.value
            else names_of(value)
            for value in found
        }
        return kinds.pop() if len(kinds) == 1 else standard.Names.UNKNOWN

    @cached_property
    def _names_by_class(self) -> Names | None:
        key = "connection_class"
        if self.connect_args.is_absent(key):
            return standard.Names.DEFAULT
        found = self.connect_args.values(key)
        if found is None:
            return None
        driver_off = self.is_off(standard.DRIVER_CACHE) is True
        return names_by_class(found, self.versions, driver_off=driver_off)

    @cached_property
    def keeps_connections(self) -> bool:
        """Whether its pool may keep connections, which `NullPool` does not."""
        found = self.arguments.values("poolclass") or ()
        return not found or not all(
            isinstance(value, values.External) and value.dotted in _NULL_POOL for value in found
        )

    @cached_property
    def server_settings(self) -> Contents:
        """What is in `connect_args["server_settings"]`."""
        found = Contents(is_open=not self.connect_args.is_absent(standard.SERVER_SETTINGS))
        entries = self.connect_args.entries.get(standard.SERVER_SETTINGS, [])
        if len(entries) == 1 and entries[0].value is not None:
            found = dictionaries.contents(entries[0].value)
        return found

    @cached_property
    def execution_options(self) -> Contents:
        """What is in `execution_options`."""
        return self._dictionary("execution_options")

    @cached_property
    def isolation_level(self) -> object | None:
        """The isolation level that is set on the engine, where it is a literal."""
        level = self.arguments.literal("isolation_level")
        return self.execution_options.literal("isolation_level") if level is None else level


def names_by_class(classes: tuple[Value, ...], versions: Versions, *, driver_off: bool) -> Names:
    """Return what connections of one of some classes call what no name function names.

    `driver_off` says whether asyncpg's statement cache is off.
    """
    if (
        driver_off
        and versions.asyncpg is not None
        and versions.asyncpg.is_surely_at_least(*standard.UNNAMED_SINCE)
    ):
        return standard.Names.DEFAULT  # the class is not asked
    kinds = {names_of_connections(value) for value in classes}
    return kinds.pop() if len(kinds) == 1 else standard.Names.UNKNOWN


_engines: WeakKeyDictionary[Module, dict[int, Engine | None]] = WeakKeyDictionary()


def engine_of(call: cst.Call, module: Module) -> Engine | None:
    """Return the engine that this very call builds, or None where it builds none."""
    known = _engines.setdefault(module, {})
    if id(call) not in known:
        known[id(call)] = _engine_of(call, module)
    return known[id(call)]


def _engine_of(call: cst.Call, module: Module) -> Engine | None:
    if is_migration_environment(module.names):
        return None
    for value in module.results(call):
        if isinstance(value, values.Result) and openings.is_engine(value):
            # Lambdas in the arguments are only followed in the form that the table of names has.
            own = next((c for c, _ in module.names.scope.calls if c.node is call), value.call)
            result = values.Result(value.function, own, value.place, value.home)
            return Engine(result, module.project, module.path, module.text)
    for result in filter(openings.is_engine, module.provided(call)):
        return Engine(result, module.project, module.path, module.text)
    return None


def engine_behind(node: cst.BaseExpression, module: Module) -> Engine | None:
    """Return the engine that an engine, a connection or a session comes from, or None."""
    located = Located(module.expr(node), module.place(node), module.names)
    result = _engine_behind(located, module.project)
    return Engine(result, module.project, module.path, module.text) if result is not None else None


def _engine_behind(located: Located, project: Project, depth: int = 0) -> Result | None:
    if depth > _DEEPEST:
        return None
    for awaited in _awaited(located):
        found = _engine_behind(awaited, project, depth + 1)
        if found is not None:
            return found
    for value in (*located.values(), *_engines_of_handler(located, project)):
        found = _engine_of_value(value)
        if found is not None:
            return found
    return None


def _awaited(located: Located) -> Iterator[Located]:
    """Yield what is awaited to get what an expression stands for, or is a method of."""
    expr, place, home = located.expr, located.place, located.home
    match expr:
        case Await(value) | Attribute(value) | Call(function=Attribute(value)):
            yield Located(value, place, home)
        case Call(function=Ref(parts=(*owner, _))) if owner:
            yield Located(Ref(tuple(owner)), place, home)
        case Ref(parts=(name,)):
            for binding in lookup(name, place) or ():
                if isinstance(binding.value, (Await, Call)):
                    yield Located(binding.value, binding.place, home)


def _engine_of_value(value: Value) -> Result | None:
    while True:
        if isinstance(value, values.Result):
            if openings.is_engine(value):
                return value
            session = openings.opening(value)
            if session is not None and session.bind is not None:
                binds = map(_engine_of_value, session.bind.values())
                return next((engine for engine in binds if engine is not None), None)
            value = value.function
        elif isinstance(value, values.Method):
            value = value.owner
        else:
            return None


def _engines_of_handler(located: Located, project: Project) -> list[Value]:
    """Return what the handler's sessions may be bound to, where it gives what is asked about."""
    handler, expr = project.handler, located.expr
    if handler is None or not isinstance(expr, Call):
        return []
    is_its_own = any(
        isinstance(value, values.LocalFunction)
        and value.home.path == handler.path
        and gives_session(value)
        for value in located.home.evaluate(expr.function, located.place)
    )
    return handler.engines() if is_its_own else []


def _is_supavisor_host(host: str | None) -> bool:
    return host is not None and host.endswith(".pooler.supabase.com")


def _told(url: DatabaseUrl) -> str:
    """Return the pooler that a URL's host and port tell of, `auto` where they tell of none."""
    if _is_supavisor_host(url.host):
        return "supavisor"
    host = url.host or ""
    if host.endswith(".neon.tech") and "-pooler" in host:
        return "pgbouncer"
    if url.port == 6432 or (url.port == 6543 and host.endswith(".supabase.co")):
        return "pgbouncer"
    return "supavisor" if url.port == 6543 else "auto"


def builds_partially(call: cst.Call, module: Module) -> bool:
    """Return whether a call is `functools.partial` of what builds engines."""
    return any(
        isinstance(value, values.Partial)
        and openings.derives_from(value.function, openings.ENGINE_BUILDERS)
        for value in module.results(call)
    )
