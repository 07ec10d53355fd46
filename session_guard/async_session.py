"""The one module that builds the engine and opens sessions, safe behind a transaction pooler.

SQLAlchemy's asyncio on asyncpg. It imports nothing of this package, so that it can be copied into a
project whole. Nothing happens when it is imported: the engine is built, and its URL read, when
either is first needed.

    async with get_background_session() as session:
        session.add(row)

Every session commits when its block ends well, rolls back, logs and raises when it does not, and is
closed in any case. One event loop at a time: `await dispose()` before the loop ends.

Sources:
    https://docs.sqlalchemy.org/en/20/dialects/postgresql.html#prepared-statement-cache
    https://magicstack.github.io/asyncpg/current/faq.html (PgBouncer)
    https://www.pgbouncer.org/config.html (ignore_startup_parameters, max_prepared_statements)
"""

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, get_args
from uuid import uuid4

try:
    from sqlalchemy import event
    from sqlalchemy.engine import URL, Connection, ExceptionContext, make_url
    from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidRequestError
    from sqlalchemy.ext.asyncio import (
        AsyncEngine,
        AsyncSession,
        async_sessionmaker,
        create_async_engine,
    )
    from sqlalchemy.pool import ConnectionPoolEntry
except ImportError as error:
    _missing: Exception | None = error
else:
    # SQLAlchemy imports these two only when an engine connects, which is late to hear of it.
    _missing = next((ImportError(n) for n in ("asyncpg", "greenlet") if not find_spec(n)), None)
if _missing is not None:
    raise ImportError(
        f"{__name__} needs SQLAlchemy with asyncio and asyncpg: "
        'pip install "session-guard[runtime]"'
    ) from _missing

__all__ = [
    "Pooler",
    "SessionSettings",
    "StatementNames",
    "Tls",
    "TransactionAbortedError",
    "build_connect_args",
    "configure",
    "dispose",
    "engine",
    "get_background_session",
    "get_background_task_session_factory",
    "get_session",
    "get_session_dependency",
]

logger = logging.getLogger(__name__)

Pooler = Literal["auto", "supavisor", "pgbouncer", "direct"]
StatementNames = Literal["anonymous", "unique"]
Tls = Literal["verify", "off"]


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """What the engine and its sessions are built from. Its `repr` leaves the URL out.

    Raises:
        ValueError: a value is not one of those listed, or two of them contradict each other.
    """

    url: str | None = field(default=None, repr=False)
    """`postgresql://`, `postgres://` or `postgresql+asyncpg://`; None reads `DATABASE_URL` when the
    engine is built. Of query parameters only `host` and `port` are taken (SQLAlchemy's way to write
    a Unix socket or several hosts); everything else is a setting of this class."""

    pooler: Pooler = "auto"
    """What stands between the program and PostgreSQL. `auto` is right behind every pooler and
    without one; `pgbouncer` gives the same settings under the name of what is there. `supavisor`
    adds the startup parameter of the 2025 standard, which Supavisor ignores and which PgBouncer and
    PostgreSQL refuse. `direct` is for no pooler at all: asyncpg and SQLAlchemy keep their statement
    caches, which is faster and fails or answers with other queries' rows behind a pooler."""

    statement_names: StatementNames = "anonymous"
    """`anonymous` statements leave nothing on the server. `unique` ones stay for as long as the
    server connection lives and fail in AUTOCOMMIT; they need a pooler."""

    tls: Tls = "verify"
    """`verify` checks certificate and host name; `off` speaks plain text."""

    tls_ca_file: str | None = None
    """Path of a PEM file with the certificate authorities to trust in place of the system's."""

    connection_timeout: float = 30.0
    """Seconds to wait for a new connection, for a free place in the pool, and for rolling back or
    closing at the end of a session."""

    pool_size: int = 10
    """Connections kept open."""

    max_overflow: int = 20
    """Connections opened beyond `pool_size` under load."""

    pool_recycle: int = 1800
    """Seconds after which a connection is replaced."""

    session_class: type[AsyncSession] = AsyncSession
    """The class of every session; `AsyncSession` or a subclass of it."""

    hide_parameters: bool = True
    """Keep bound parameters out of SQLAlchemy's messages and logs."""

    log_level: int = logging.ERROR
    """Level (of `logging`) at which a session that was rolled back is logged."""

    def __post_init__(self) -> None:
        choices = {"pooler": Pooler, "statement_names": StatementNames, "tls": Tls}
        for name, allowed in choices.items():
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}")
        if self.pooler == "direct" and self.statement_names == "unique":
            raise ValueError('statement_names="unique" is for poolers: pooler is "direct"')
        if self.tls == "off" and self.tls_ca_file is not None:
            raise ValueError('tls_ca_file is given, but tls is "off"')


class TransactionAbortedError(InvalidRequestError):
    """A statement failed, its error was caught, and the transaction that it aborted was committed.

    PostgreSQL answers such a COMMIT with a rollback, which no driver reports: without this error
    everything written would be gone without a word. Nothing was stored. `__cause__` is the error
    of the statement that failed first; catch such errors round `session.begin_nested()` instead,
    which rolls back to its savepoint and keeps the transaction alive.

    A `flush()` whose error was caught ends in SQLAlchemy's own `PendingRollbackError` instead.
    Statements sent through asyncpg's connection itself, past SQLAlchemy, are not seen.
    """


_settings = SessionSettings()
_engine: AsyncEngine | None = None
_factory: async_sessionmaker[AsyncSession] | None = None

engine: AsyncEngine
"""The engine, built when it is first asked for."""

# Hidden from type checkers, to which it would make every misspelt name an engine.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> AsyncEngine:
        if name == "engine":
            return _get_engine()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def configure(settings: SessionSettings) -> None:
    """Set what the engine will be built from, in place of the defaults and `DATABASE_URL`.

    Raises:
        RuntimeError: the engine exists already; `await dispose()` first.
    """
    global _settings
    if _engine is not None:
        raise RuntimeError("the engine is built already: configure() it before its first use")
    _settings = settings


async def dispose() -> None:
    """Close the pool's connections and forget the engine; the next use builds a new one.

    Sessions still open keep their connection until they are closed.
    """
    global _engine, _factory
    disposed, _engine, _factory = _engine, None, None
    if disposed is not None:
        await _to_completion(disposed.dispose())


def build_connect_args(settings: SessionSettings) -> dict[str, Any]:
    """Give the `connect_args` of `create_async_engine` for these settings.

    Both caches are off behind a pooler: asyncpg's with `statement_cache_size`, SQLAlchemy's with
    `prepared_statement_cache_size`. With anonymous names either one alone returns rows of other
    queries on some version of asyncpg (measured on 0.28 to 0.32).

    Raises:
        OSError: `tls_ca_file` cannot be read.
        ssl.SSLError: `tls_ca_file` holds no certificate.
    """
    connect_args: dict[str, Any] = {
        "ssl": (
            ssl.create_default_context(cafile=settings.tls_ca_file)
            if settings.tls == "verify"
            else False
        ),
        "timeout": settings.connection_timeout,
    }
    if settings.pooler == "direct":
        return connect_args
    if settings.statement_names == "unique":
        connect_args["prepared_statement_name_func"] = lambda: f"__asyncpg_{uuid4()}__"
    else:
        connect_args["prepared_statement_name_func"] = lambda: ""
    if settings.pooler == "supavisor":
        connect_args["server_settings"] = {"statement_cache_size": "0"}
    connect_args["statement_cache_size"] = 0
    connect_args["prepared_statement_cache_size"] = 0
    return connect_args


def get_background_task_session_factory() -> async_sessionmaker[AsyncSession]:
    """Give the factory of all sessions, request and background alike.

    Open sessions with `get_background_session` or `get_session`: a session made from the factory
    itself neither commits nor rolls back.

    Raises:
        RuntimeError, ValueError: no database URL, or one that is no use.
    """
    global _factory
    if _factory is None:
        engine = _get_engine()
        _factory = async_sessionmaker(
            engine,
            class_=_settings.session_class,
            expire_on_commit=False,
            autoflush=False,
            autocommit=False,
        )
    return _factory


@asynccontextmanager
async def get_background_session() -> AsyncGenerator[AsyncSession, None]:
    """Open a session for a background task: commits on success, rolls back on error, always closes.

    Cancellation is an error like any other. The error is logged by class and SQLSTATE alone, since
    PostgreSQL's messages quote the values of rows, and raised on.

    Raises:
        TransactionAbortedError: the block caught the error of a statement that aborted the
            transaction; nothing was stored.
        sqlalchemy.exc.PendingRollbackError: the same, where it was a flush.
        RuntimeError, ValueError: no database URL, or one that is no use.
    """
    session = get_background_task_session_factory()()
    try:
        yield session
        await session.commit()
    except BaseException as error:
        try:
            await _to_completion(session.rollback())
        except Exception as rollback_error:
            # The connection is lost and the transaction with it: the block's error is raised.
            logger.log(_settings.log_level, "rollback failed: %s", _describe(rollback_error))
        logger.log(_settings.log_level, "session rolled back: %s", _describe(error))
        raise
    finally:
        await _to_completion(session.close())


@asynccontextmanager
async def get_session() -> AsyncGenerator[AsyncSession, None]:
    """Open a session for a request handler, with the contract of `get_background_session`."""
    async with get_background_session() as session:
        yield session


async def get_session_dependency() -> AsyncGenerator[AsyncSession, None]:
    """Open a session as a FastAPI dependency, with the contract of `get_session`.

    FastAPI runs the end of a dependency after the response was sent: a commit that fails there is
    a success for the client. Either commit in the endpoint, or end the dependency before the
    response with `Depends(get_session_dependency, scope="function")`, which makes it a 500.
    https://fastapi.tiangolo.com/tutorial/dependencies/dependencies-with-yield/
    """
    async with get_session() as session:
        yield session


def _get_engine() -> AsyncEngine:
    global _engine
    if _engine is None:
        settings = _settings
        engine = create_async_engine(
            _database_url(settings),
            echo=False,
            hide_parameters=settings.hide_parameters,
            connect_args=build_connect_args(settings),
            pool_size=settings.pool_size,
            max_overflow=settings.max_overflow,
            pool_timeout=settings.connection_timeout,
            pool_recycle=settings.pool_recycle,
            execution_options={"isolation_level": "READ COMMITTED"},
        )
        event.listen(engine.sync_engine, "handle_error", _remember_first_error)
        event.listen(engine.sync_engine, "commit", _prove_transaction_alive)
        event.listen(engine.sync_engine, "checkin", _forget_first_error)
        _engine = engine
    return _engine


def _project_url() -> object:
    """Give the URL where `SessionSettings` has none: SQLAlchemy's, or what `str` makes one.

    `session-guard init` writes this function for the project: its own setting is read here.
    """
    return os.environ.get("DATABASE_URL")


def _database_url(settings: SessionSettings) -> URL:
    """Give the URL for asyncpg. No message here repeats any part of what was written."""
    written = settings.url or _project_url()
    if not written:
        raise RuntimeError(
            "no database URL: set DATABASE_URL or call configure(SessionSettings(url=...))"
        )
    try:
        url = written if isinstance(written, URL) else make_url(str(written))
    except (ArgumentError, ValueError):
        url = None
    # An "@" that was not escaped in the password leaves the password's rest in the host name.
    if url is None or "@" in (url.host or ""):
        raise ValueError(
            "the database URL cannot be parsed; percent-encode special characters in its password"
        )
    if url.drivername not in ("postgres", "postgresql", "postgresql+asyncpg"):
        raise ValueError("the database URL must begin with postgresql:// or postgresql+asyncpg://")
    if not url.query.keys() <= {"host", "port"}:
        raise ValueError(
            "the database URL may have no query parameters but host and port: "
            "TLS, timeouts and statement settings belong in SessionSettings"
        )
    return url.set(drivername="postgresql+asyncpg")


_FIRST_ERROR = f"{__name__}.first_error"


def _remember_first_error(context: ExceptionContext) -> None:
    connection = context.connection
    if connection is not None and not connection.closed and not connection.invalidated:
        failure = context.sqlalchemy_exception or context.original_exception
        connection.info.setdefault(_FIRST_ERROR, failure)


def _prove_transaction_alive(connection: Connection) -> None:
    """Before a COMMIT, and only after a statement failed: see whether PostgreSQL takes another.

    It does after a rollback to a savepoint, and after errors that never reached the server.
    """
    first_error = connection.info.pop(_FIRST_ERROR, None)
    if first_error is None:
        return
    try:
        connection.exec_driver_sql("SELECT 1")
    except DBAPIError:
        raise TransactionAbortedError(
            f"nothing was stored: {_describe(first_error)} aborted the transaction, was caught, "
            "and the transaction was committed; catch such errors round session.begin_nested()"
        ) from first_error


def _forget_first_error(dbapi_connection: object, record: ConnectionPoolEntry) -> None:
    record.info.pop(_FIRST_ERROR, None)


def _describe(error: BaseException) -> str:
    """Name an error by class and SQLSTATE: its message may quote rows, parameters or the URL."""
    sqlstate = getattr(getattr(error, "orig", error), "sqlstate", None)
    return type(error).__name__ + (f" (SQLSTATE {sqlstate})" if sqlstate else "")


async def _to_completion(step: Coroutine[Any, Any, None]) -> None:
    """Await `step` to its end, however often this task is cancelled meanwhile; then be cancelled.

    A shield alone would return at the first cancellation and leave the connection to a task that
    nobody awaits. A step that takes longer than `connection_timeout` is cancelled itself.

    Raises:
        TimeoutError: the step was cancelled.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(step)
    deadline = loop.time() + _settings.connection_timeout
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        if loop.time() >= deadline:
            # Again each time: asyncpg to 0.30 waits without end to close what no longer answers.
            task.cancel()
            deadline += _settings.connection_timeout
        try:
            await asyncio.wait({task}, timeout=deadline - loop.time())
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    if task.cancelled():
        raise TimeoutError
    task.result()
