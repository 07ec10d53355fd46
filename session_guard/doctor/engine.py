"""The user's own engine: imported, and its settings read back from what it connects with."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import ssl
import sys
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from session_guard.doctor.target import CONNECT_SECONDS, OF_ENGINE, Target, TargetError, name_of
from session_guard.standard import NOT_OF_THE_SERVER, POOLER_SETTINGS, SERVER_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


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
                f"--engine {reference}: building it failed ({_kind(error)})"
            ) from error
    if callable(found) and not isinstance(found, AsyncEngine):
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise TargetError(f"--engine {reference}: {name}() failed ({_kind(error)})") from error
    if not isinstance(found, AsyncEngine):
        raise TargetError(f"--engine {reference}: that is no AsyncEngine: {type(found).__name__}")
    if found.dialect.driver != "asyncpg":
        raise TargetError(
            f"--engine {reference}: it runs on {found.dialect.driver}; the doctor knows asyncpg"
        )
    return found


def _kind(error: BaseException) -> str:
    return "it calls sys.exit()" if isinstance(error, SystemExit) else type(error).__name__


@dataclass(frozen=True)
class EngineSettings:
    """What an engine connects with, in words that hold no secret."""

    names: str
    """`asyncpg's own`, `anonymous`, `unique` or `constant`."""
    statement_cache_size: str
    prepared_statement_cache_size: str
    server_settings: tuple[str, ...]
    """The names of its startup parameters."""
    tls: str
    timeout: str
    isolation_level: str
    pool: str
    kept: dict[str, str]
    """What of its `connect_args` is right with any names, as code; `...` for what may be secret."""

    def shown(self) -> dict[str, Any]:
        """Return what there is to be told."""
        return {key: value for key, value in asdict(self).items() if key != "kept"}


_PLACE = (
    *("dsn", "host", "port", "user", "password", "passfile", "service", "servicefile", "database"),
    *("ssl", "direct_tls", "target_session_attrs", "krbsrvname", "gsslib"),
)
"""What of the arguments of `asyncpg.connect` says where to connect, and as whom."""

_OF_URL = frozenset({"host", "port", "user", "password", "database"})


def connect_arguments(engine: AsyncEngine) -> dict[str, Any] | None:
    """Return what the engine connects with, URL and listeners included, without connecting.

    None where it connects by a function of its own.
    """
    seen: list[dict[str, Any]] = []

    def remember(_dialect: Any, _record: Any, _arguments: Any, given: dict[str, Any]) -> None:
        seen.append(dict(given))
        raise _SeenError

    event.listen(engine.sync_engine, "do_connect", remember)
    pool = engine.sync_engine.pool.recreate()  # its own stays as it is
    try:
        pool.connect()
    except Exception:
        if not seen:
            return None
    finally:
        event.remove(engine.sync_engine, "do_connect", remember)
    return None if "async_creator_fn" in seen[0] else seen[0]


class _SeenError(Exception):
    """Ends an attempt to connect before anything is sent."""


def target_of(engine: AsyncEngine, reference: str) -> Target:
    """Return where an engine connects to.

    Raises TargetError where that cannot be told.
    """
    given = connect_arguments(engine)
    if given is None:
        raise TargetError(
            f"--engine {reference}: it connects by a function of its own, which does not tell "
            "where to; give the URL of the same database with --url"
        )
    place = {name: given[name] for name in _PLACE if name in given}
    name = name_of(place.get("host"), place.get("port", 5432), place.get("database"))
    return Target(
        name or f"the server of {reference}", place, OF_ENGINE, partial(_found_again, reference)
    )


def _found_again(reference: str) -> Target:
    return target_of(load(reference), reference)


def probed(reference: str, clients: int) -> AsyncEngine:
    """Import an engine to be tried with that many connections, which stand for as many programs.

    A smaller pool would never have two clients meet, as those of two programs do.
    """
    engine = load(reference)
    pool: Any = engine.sync_engine.pool
    if isinstance(pool, QueuePool):
        model: Any = pool.recreate()
        model._pool.maxsize = max(clients, model._pool.maxsize)
        engine.sync_engine.pool = model.recreate()  # which makes its size of that
    return engine


async def read_back(engine: AsyncEngine, target: Target) -> EngineSettings:
    """Connect once and return what the engine connects with.

    Raises TargetError where it cannot connect.
    """
    level = "not told: its first statement fails"
    try:
        async with asyncio.timeout(CONNECT_SECONDS), engine.connect() as connection:
            level = await connection.get_isolation_level()
    except DBAPIError:
        pass  # it connects; what its statements are worth is tried next
    except Exception as error:
        raise TargetError(target.explain(error)) from error
    finally:
        await engine.dispose()
    return _settings(engine, connect_arguments(engine) or {}, level)


def _settings(engine: AsyncEngine, given: Mapping[str, Any], level: str) -> EngineSettings:
    pool: Any = engine.pool
    size = f"({pool.size()} + {pool._max_overflow})" if hasattr(pool, "_max_overflow") else ""
    return EngineSettings(
        names=_names(given.get("prepared_statement_name_func")),
        statement_cache_size=str(given.get("statement_cache_size", "asyncpg's default, 100")),
        prepared_statement_cache_size=str(
            given.get("prepared_statement_cache_size", "SQLAlchemy's default, 100")
        ),
        server_settings=tuple(given.get("server_settings") or ()),
        tls=_tls(given.get("ssl")),
        timeout=str(given.get("timeout", "asyncpg's default, 60")),
        isolation_level=level,
        pool=f"{type(pool).__name__}{size}",
        kept=dict(_kept(given)),
    )


def _kept(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in given.items():
        if name == SERVER_SETTINGS:
            own = [json.dumps(key) for key in value or () if key not in NOT_OF_THE_SERVER]
            if own:
                yield name, "{" + ", ".join(f"{key}: ..." for key in own) + "}"
        elif name not in _OF_URL and name not in POOLER_SETTINGS:
            is_plain = value is None or isinstance(value, (bool, int, float))
            yield name, f"{value}" if is_plain else "..."


def _names(function: Any) -> str:
    if function is None:
        return "asyncpg's own"
    first, second = function(), function()
    if first != second:
        return "unique"
    return "anonymous" if first == "" else "constant"


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
