"""The user's own engine: imported, and its settings read back from what it connects with."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import re
import ssl
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import asyncpg
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AssertionPool, QueuePool, SingletonThreadPool, StaticPool
from sqlalchemy.util import greenlet_spawn

from session_guard.doctor.server import ask, close
from session_guard.doctor.target import CONNECT_SECONDS, OF_ENGINE, Target, TargetError, name_of
from session_guard.doctor.trial import driver_error, is_in_autocommit, is_trouble, of_driver
from session_guard.standard import NAME_FUNC, NOT_OF_THE_SERVER, POOLER_SETTINGS, SERVER_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection


def load(reference: str) -> AsyncEngine:
    """Import `package.module:name` from the current folder's view of the world; return the engine.

    `name` is an engine, or a function without arguments that returns one. Raises TargetError.
    """
    module_name, colon, name = reference.partition(":")
    if not colon or not module_name or not name:
        raise TargetError(f"--engine {reference}: write it as package.module:name")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a script quits
        # Its message may quote a URL: pydantic's do.
        raise TargetError(
            f"--engine {reference}: {module_name} cannot be imported ({_kind(error)}); "
            f"`python -c 'import {module_name}'` shows why"
        ) from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise TargetError(f"--engine {reference}: {module_name} has no {name}") from None
        except (Exception, SystemExit) as error:
            raise TargetError(
                f"--engine {reference}: building it failed ({_kind(error)}); "
                f"`python -c 'import {module_name}; {module_name}.{name}'` shows why"
            ) from error
    if callable(found) and not isinstance(found, AsyncEngine):
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise TargetError(
                f"--engine {reference}: {name}() failed ({_kind(error)}); "
                f"`python -c 'import {module_name}; {module_name}.{name}()'` shows why"
            ) from error
    if not isinstance(found, (AsyncEngine, Engine)):
        if inspect.iscoroutine(found):
            found.close()
        raise TargetError(
            f"--engine {reference}: that is no AsyncEngine: {type(found).__name__}; name an "
            "engine, or a function without parameters, not `async`, that returns one"
        )
    if not isinstance(found, AsyncEngine) or found.dialect.driver != "asyncpg":
        raise TargetError(
            f"--engine {reference}: it is not PostgreSQL by asyncpg, but {found.dialect.name} by "
            f"{found.dialect.driver}; the doctor can say nothing of it"
        )
    if isinstance(found.pool, _POOLS_OF_ONE):
        raise TargetError(
            f"--engine {reference}: its {type(found.pool).__name__} has one connection for "
            "everybody, and the doctor tries several at once; give the engine that your program "
            "runs with"
        )
    return found


_POOLS_OF_ONE = (StaticPool, AssertionPool, SingletonThreadPool)


def _kind(error: BaseException) -> str:
    return "it calls sys.exit()" if isinstance(error, SystemExit) else type(error).__name__


@dataclass(frozen=True)
class Faults:
    """Why an engine cannot connect where the doctor's own settings do, or loses what it sets."""

    error: str = ""
    """The class of its error; empty where the server gave it, which trying the engine tells too."""
    remedies: dict[str, str] = field(default_factory=dict)
    """What to do, a sentence for each argument or startup parameter that is to blame or lost."""


@dataclass(frozen=True)
class EngineSettings:
    """What an engine connects with, in words that hold no secret; None is what is not known."""

    opened_by: str
    """What of the project's own opens the connections; empty where SQLAlchemy does."""
    names: str | None
    """`asyncpg's own`, `anonymous`, `unique` or `constant`."""
    statement_cache_size: str | None
    prepared_statement_cache_size: str | None
    server_settings: tuple[str, ...] | None
    """The names of its startup parameters."""
    tls: str | None
    timeout: str | None
    isolation_level: str
    pool: str
    kept: dict[str, str]
    """What else is in its `connect_args`, as code with a comment; `...` for what may be secret."""
    faults: Faults

    def shown(self) -> dict[str, Any]:
        """Return what there is to be told."""
        return {key: value for key, value in asdict(self).items() if key not in _UNTOLD}


_UNTOLD = ("kept", "faults")


_PLACE = (
    *("dsn", "host", "port", "user", "password", "passfile", "service", "servicefile", "database"),
    *("ssl", "direct_tls", "target_session_attrs", "krbsrvname", "gsslib"),
)
"""What of the arguments of `asyncpg.connect` says where to connect, and as whom."""

_OF_URL = frozenset({"host", "port", "user", "password", "database"})


@dataclass(frozen=True)
class Opening:
    """How an engine opens its connections."""

    arguments: dict[str, Any] = field(default_factory=dict, repr=False)
    """What it connects with, URL and listeners included."""
    opened_by: str = ""
    """What of the project's own opens them, so that the arguments are not known."""
    in_query: frozenset[str] = frozenset()
    """The arguments that the query of its URL has."""


async def opening(engine: AsyncEngine) -> Opening:
    """Find out how an engine opens its connections, without opening one where it can be helped."""
    pool = engine.sync_engine.pool
    creator = pool._creator
    if creator.__module__ == "sqlalchemy.ext.asyncio.engine":
        return Opening(opened_by="async_creator")
    is_pool_own = not type(pool).__module__.startswith("sqlalchemy.")
    if creator.__module__ != "sqlalchemy.engine.create" and not is_pool_own:
        return Opening(opened_by="creator")
    has_listener = bool(engine.dialect._has_events and list(engine.dialect.dispatch.do_connect))
    seen: list[dict[str, Any]] = []

    def remember(_dialect: Any, _record: Any, _arguments: Any, given: dict[str, Any]) -> None:
        seen.append(dict(given))
        raise _SeenError

    event.listen(engine.sync_engine, "do_connect", remember)  # after those that are there
    try:
        # Its own pool stays as it is; what is theirs may wait for something.
        connection = await greenlet_spawn(pool.recreate().connect)
    except Exception:  # nearly always the one above
        connection = None
    finally:
        event.remove(engine.sync_engine, "do_connect", remember)
    if connection is not None:
        connection.detach()
        await greenlet_spawn(connection.close)
    if seen and "async_creator_fn" not in seen[0]:
        return Opening(seen[0], in_query=frozenset(engine.url.query))
    if seen:
        return Opening(opened_by="async_creator_fn")
    if has_listener:
        return Opening(opened_by="do_connect listener")
    return Opening(opened_by=f"poolclass {type(pool).__name__}" if is_pool_own else "creator")


class _SeenError(Exception):
    """Ends an attempt to connect before anything is sent."""


def target_of(opened: Opening, reference: str) -> Target:
    """Return where an engine connects to.

    Raises TargetError where that cannot be told.
    """
    if opened.opened_by:
        raise TargetError(
            f"--engine {reference}: your own {opened.opened_by} opens its connections, which does "
            "not tell where to; give the URL of the same database with --url"
        )
    given = opened.arguments
    place = {name: given[name] for name in _PLACE if name in given}
    name = name_of(place.get("host"), place.get("port", 5432), place.get("database"))
    return Target(
        name or f"the server of {reference}", place, OF_ENGINE, partial(_found_again, reference)
    )


def _found_again(reference: str) -> Target:
    return target_of(asyncio.run(opening(load(reference))), reference)


def probed(reference: str, clients: int) -> AsyncEngine:
    """Import an engine to be tried with that many connections, which stand for as many programs.

    A smaller pool would never have two clients meet, as those of two programs do.
    """
    engine = load(reference)
    pool: Any = engine.sync_engine.pool
    if isinstance(pool, QueuePool):
        with suppress(TypeError):  # a class of the project's own may take other arguments
            model: Any = pool.recreate()
            model._pool.maxsize = max(clients, model._pool.maxsize)
            engine.sync_engine.pool = model.recreate()  # which makes its size of that
    return engine


async def read_back(
    engine: AsyncEngine, opened: Opening, target: Target, reference: str
) -> EngineSettings:
    """Connect once and return what the engine connects with.

    Raises TargetError where nothing connects there, or where it connects to another place than
    `target`.
    """
    level = "not told: it cannot connect, or its first statement fails"
    faults = Faults()
    try:
        async with asyncio.timeout(CONNECT_SECONDS), engine.connect() as connection:
            if opened.opened_by:
                await _compare_places(connection, target, reference)
            if await is_in_autocommit(connection):
                level = "AUTOCOMMIT"
            else:
                level = await connection.get_isolation_level()
        faults = Faults(remedies=await _remedies_for_dropped(opened, target))
    except DBAPIError as error:  # of the server; what its statements are worth is tried next
        faults = Faults(remedies=await _remedies(error, opened, target))
    except TargetError:
        raise
    except Exception as error:
        faults = await _faults(error, opened, target, reference)
    finally:
        await engine.dispose()
    return _settings(engine, opened, level, faults)


async def _faults(error: Exception, opened: Opening, target: Target, reference: str) -> Faults:
    """Return why an engine cannot connect.

    Raises TargetError where the doctor cannot either, or where no setting is known to be to blame.
    """
    begun = time.monotonic()
    try:
        connection = await target.connect()
    except Exception as same:
        raise TargetError(target.explain(same)) from error
    seconds = time.monotonic() - begun
    await close(connection)
    if isinstance(error, TimeoutError):
        limit = opened.arguments.get("timeout")
        if isinstance(limit, (int, float)) and limit < seconds:
            remedy = f"Give it a longer `timeout` than {limit} s: connecting takes more."
            return Faults(driver_error(error), {"timeout": remedy})
        raise TargetError(
            f"--engine {reference}: it did not connect in time, and the doctor's own settings did, "
            f"to {target}; see its `timeout` and its listeners, or try again"
        ) from error
    if is_trouble(error):
        raise TargetError(target.explain(error)) from error
    remedies = await _remedies(error, opened, target)
    unknown = "See its connect_args, the query of its URL and its listeners."
    if opened.opened_by:
        unknown = f"See what your own {opened.opened_by} does."
    return Faults(driver_error(error), remedies or {"": unknown})


async def _remedies(error: Exception, opened: Opening, target: Target) -> dict[str, str]:
    """Return what to do about each of an engine's arguments that keep it from connecting."""
    given = opened.arguments
    remedies = {}
    for name, value in _startup_parameters(given).items():
        try:
            await close(await target.connect({name: value}))
        except Exception as refusal:
            if not is_trouble(refusal):
                remedies[_of_startup(name)] = _belongs(name, value, "refused")
    if _names(given.get(NAME_FUNC)).startswith(_FAILS):
        remedies[NAME_FUNC] = f"Its `{NAME_FUNC}` fails when it is called."
    if not remedies and isinstance(of_driver(error), (TypeError, ValueError)):
        # Where to connect is what the doctor connects with too.
        others = [name for name in given if name not in _PLACE]
        named = [name for name in others if re.search(rf"\b{re.escape(name)}\b", str(error))]
        # All that a URL's query gives is text, which few arguments of asyncpg may be.
        for name in named or [name for name in others if name in opened.in_query]:
            place = "its connect_args"
            if name in opened.in_query:
                place = "the query of its URL, and of its connect_args if it is there"
            remedies[name] = f"Leave `{name}` out of {place}, or correct it."
    return remedies


async def _remedies_for_dropped(opened: Opening, target: Target) -> dict[str, str]:
    """Return what to do about each startup parameter that connects and is not heeded."""
    remedies = {}
    for name, value in _startup_parameters(opened.arguments).items():
        if name in NOT_OF_THE_SERVER or name in _HARMLESS_TO_LOSE:
            continue
        # What cannot be set is no setting of this server, or no user's: nothing is lost.
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection = await target.connect({name: value})
            try:
                quoted = [text.replace("'", "''") for text in (name, value)]
                [[is_kept]] = await ask(connection, _IS_KEPT.format(*quoted))
            finally:
                await close(connection)
            if is_kept == "f":
                remedies[_of_startup(name)] = _belongs(name, value, "dropped")
    return remedies


_HARMLESS_TO_LOSE = ("application_name",)
"""No query depends on it, and Supavisor has its own there."""

# Set to the end of the transaction, it is written as the server writes it.
_IS_KEPT = (
    "WITH found AS MATERIALIZED (SELECT current_setting('{0}', true) AS value) "
    "SELECT value IS NOT DISTINCT FROM set_config('{0}', '{1}', true) FROM found"
)


def _startup_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    value = given.get(SERVER_SETTINGS)
    return dict(value) if isinstance(value, dict) else {}  # asyncpg takes nothing else


def _of_startup(name: str) -> str:
    """Tell a startup parameter from an argument of the same name."""
    return f"{SERVER_SETTINGS}.{name}"


def _belongs(name: str, value: object, fate: Literal["refused", "dropped"]) -> str:
    """Say where a setting belongs that is of no use as a startup parameter."""
    if name in NOT_OF_THE_SERVER:
        return f"`{name}` is no startup parameter: it belongs in the connect_args themselves."
    if not isinstance(value, str):
        return f"The startup parameter `{name}` must be a string."
    return (
        f"The startup parameter `{name}` is {fate}: a setting of the server belongs to the role "
        "or the database (`ALTER ROLE … SET`), or to the transaction (`SET LOCAL`)."
    )


async def _compare_places(connection: AsyncConnection, target: Target, reference: str) -> None:
    """See that an engine which does not tell where it connects to leads to the server examined."""
    users: Any = (await connection.get_raw_connection()).driver_connection
    examined = await target.connect()
    try:
        is_same = await _place(users) == await _place(examined)
    finally:
        await close(examined)
    if not is_same:
        raise TargetError(
            f"--engine {reference}: its connections do not lead where --url does, {target}: to "
            "another database, or by a pooler where the other has none"
        )


async def _place(connection: asyncpg.Connection[Any]) -> tuple[list[str], bool]:
    """Return which database answers, and whether it is reached without a pooler."""
    [[pid, *database]] = await ask(connection, _PLACE_QUERY)
    return database, int(pid) == connection.get_server_pid()


_PLACE_QUERY = "SELECT pg_backend_pid(), pg_postmaster_start_time(), current_database()"


def _settings(engine: AsyncEngine, opened: Opening, level: str, faults: Faults) -> EngineSettings:
    pool: Any = engine.pool
    size = f"({pool.size()} + {pool._max_overflow})" if hasattr(pool, "_max_overflow") else ""
    shown = f"{type(pool).__name__}{size}"
    if opened.opened_by:
        unknown = (None,) * 6
        return EngineSettings(opened.opened_by, *unknown, level, shown, {}, faults)
    given = opened.arguments
    return EngineSettings(
        opened_by="",
        names=_names(given.get(NAME_FUNC)),
        statement_cache_size=str(given.get("statement_cache_size", "asyncpg's default, 100")),
        prepared_statement_cache_size=str(
            given.get("prepared_statement_cache_size", "SQLAlchemy's default, 100")
        ),
        server_settings=tuple(_startup_parameters(given)),
        tls=_tls(given.get("ssl")),
        timeout=str(given.get("timeout", "asyncpg's default, 60")),
        isolation_level=level,
        pool=shown,
        kept=dict(_kept(given, faults.remedies)),
        faults=faults,
    )


def _kept(given: Mapping[str, Any], left_out: Container[str]) -> Iterator[tuple[str, str]]:
    own = [
        json.dumps(key)
        for key in _startup_parameters(given)
        if key not in NOT_OF_THE_SERVER and _of_startup(key) not in left_out
    ]
    for name, value in given.items():
        if name in left_out:
            continue
        if name == SERVER_SETTINGS:
            if own:
                yield name, "{" + ", ".join(f"{key}: ..." for key in own) + f"}},{_NOT_TRIED}"
        elif name not in _OF_URL and name not in POOLER_SETTINGS:
            is_plain = value is None or isinstance(value, (bool, int, float))
            comment = "  # as it is now" if name in _PLACE else _NOT_TRIED
            yield name, f"{value if is_plain else '...'},{comment}"


_NOT_TRIED = "  # as it is now, not tried"


def _names(function: Any) -> str:
    if function is None:
        return "asyncpg's own"
    try:
        first, second = function(), function()
    except Exception as error:
        return f"{_FAILS} ({type(error).__name__})"
    if first != second:
        return "unique"
    return "anonymous" if first == "" else "constant"


_FAILS = "its function fails"


def _tls(given: Any) -> str:
    if isinstance(given, ssl.SSLContext):
        if given.verify_mode is ssl.CERT_NONE:
            return "encrypted, not verified"
        return "verified" if given.check_hostname else "verified, but not the host name"
    if given in (None, "prefer", "allow"):
        return "if the server offers it, not verified"
    if given in (False, "disable"):
        return "off"
    if given in ("verify-full", True):
        return "verified"
    return f"{given}"
