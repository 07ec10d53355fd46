"""The user's own engine: imported, and its settings read back from what it connects with."""

from __future__ import annotations

import importlib
import os
import ssl
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from session_guard.doctor.target import Target, TargetError

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    except Exception as error:
        # Its message may quote a URL: pydantic's do.
        raise TargetError(
            f"--engine {reference}: {module_name} cannot be imported ({type(error).__name__}); "
            f"`python -c 'import {module_name}'` shows why"
        ) from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise TargetError(f"--engine {reference}: {module_name} has no {name}") from None
        except Exception as error:
            raise TargetError(
                f"--engine {reference}: building it failed ({type(error).__name__})"
            ) from error
    if callable(found) and not isinstance(found, AsyncEngine):
        try:
            found = found()
        except Exception as error:
            raise TargetError(
                f"--engine {reference}: {name}() failed ({type(error).__name__})"
            ) from error
    if not isinstance(found, AsyncEngine):
        raise TargetError(f"--engine {reference}: that is no AsyncEngine: {type(found).__name__}")
    if found.dialect.driver != "asyncpg":
        raise TargetError(
            f"--engine {reference}: it runs on {found.dialect.driver}; the doctor knows asyncpg"
        )
    return found


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


async def read_back(engine: AsyncEngine) -> tuple[EngineSettings, Target]:
    """Connect once and return what the engine connects with, and where to.

    Raises TargetError where it cannot connect.
    """
    seen: dict[str, Any] = {}

    def remember(_dialect: Any, _record: Any, _arguments: Any, given: dict[str, Any]) -> None:
        seen.update(given)

    event.listen(engine.sync_engine, "do_connect", remember)
    level = "not told: its first statement fails"
    try:
        async with engine.connect() as connection:
            level = await connection.get_isolation_level()
    except DBAPIError:
        pass  # it connects; what its statements are worth is tried next
    except Exception as error:
        target = _target(engine, seen)
        raise TargetError(target.explain(error)) from error
    finally:
        event.remove(engine.sync_engine, "do_connect", remember)
    return _settings(engine, seen, level), _target(engine, seen)


def _target(engine: AsyncEngine, given: Mapping[str, Any]) -> Target:
    url = engine.url.set(drivername="postgresql+asyncpg", query={}, port=engine.url.port or 5432)
    return Target(url, given.get("ssl", False), ("", "off", None))


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
    )


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
