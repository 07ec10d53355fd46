"""The one module that builds the engine and opens sessions, safe behind a transaction pooler.

SQLAlchemy's asyncio on asyncpg. It imports nothing of this package, so that it can be copied into a
project whole. Nothing happens when it is imported: the engine is built, and its URL read, when
either is first needed.

    async with get_background_session() as session:
        session.add(row)

Every session commits when its block ends well, rolls back, logs and raises when it does not, and is
closed in any case.

Connections belong to the event loop that opened them, so each loop has an engine of its own. When a
loop shuts down as `asyncio.run` does it, its connections are closed, and the next loop takes its
engine over: jobs that run one `asyncio.run` after the other share one engine and connect anew each
time. Loops that run side by side in threads have one pool each, of up to `pool_size + max_overflow`
connections. A loop that is dropped without being closed keeps its connections until the handler is
used in another one, and that costs a new engine and a collection of all garbage. One of uvloop's,
or one dropped in the middle of a session, may keep them until the process ends: close loops.
After a fork the child begins with an empty pool and leaves the parent's sockets alone.

Sources:
    https://docs.sqlalchemy.org/en/20/dialects/postgresql.html#prepared-statement-cache
    https://magicstack.github.io/asyncpg/current/faq.html (PgBouncer)
    https://www.pgbouncer.org/config.html (ignore_startup_parameters, max_prepared_statements)
"""

import asyncio
import gc
import itertools
import logging
import os
import ssl
import sys
import threading
import time
import traceback
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, cast, get_args
from uuid import uuid4
from weakref import WeakSet

try:
    from sqlalchemy import event, exc
    from sqlalchemy.engine import URL, Connection, ExceptionContext, make_url
    from sqlalchemy.ext.asyncio import (
        AsyncEngine,
        AsyncSession,
        async_sessionmaker,
        create_async_engine,
    )
    from sqlalchemy.pool import ConnectionPoolEntry

    # SQLAlchemy imports these two only when an engine connects, which is late to hear of it.
    for _name in ("asyncpg", "greenlet"):
        # Tests put a module without a spec in the place of the driver.
        if _name not in sys.modules and not find_spec(_name):
            raise ImportError(_name)
except ImportError as error:
    raise ImportError(
        f"{__name__} needs SQLAlchemy with asyncio and asyncpg: "
        'pip install "session-guard[runtime]"'
    ) from error

__all__ = [
    "Cause",
    "Outcome",
    "PoolFigures",
    "Pooler",
    "SessionEvent",
    "SessionSettings",
    "StatementNames",
    "Tls",
    "TransactionAbortedError",
    "build_connect_args",
    "configure",
    "dispose",
    "get_background_session",
    "get_background_task_session_factory",
    "get_pool_figures",
    "get_session",
    "get_session_dependency",
]

logger = logging.getLogger(__name__)

Pooler = Literal["auto", "supavisor", "pgbouncer", "direct"]
StatementNames = Literal["anonymous", "unique"]
Tls = Literal["verify", "off"]
Outcome = Literal["opened", "committed", "rolled back", "commit failed"]
Cause = Literal["domain", "database", "connection", "cancelled"]


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """What happened to a session, as `SessionSettings.on_session_event` is told of it."""

    number: int
    """Of the session, in this process: events of the same session have the same number."""

    outcome: Outcome
    """`opened` comes first, and exactly one of the others after it, however the session ends.
    `rolled back` is an error of the block. After `commit failed` nothing is stored; but where its
    cause is `connection` or `cancelled`, nobody knows whether PostgreSQL had committed."""

    seconds: float = 0.0
    """Seconds since the session was opened."""

    error: BaseException | None = None
    """The error that ended the session, which is raised on; where the task is cancelled while it
    rolls back, the cancellation is. Its message may quote rows, so do not log it as it is."""

    cause: Cause | None = None
    """Where the error came from: the block's own code, or a row that is not there (`domain`), a
    statement that PostgreSQL or SQLAlchemy refused (`database`), the way there (`connection`:
    refused, lost, no free place in the pool, no answer in the time that `asyncio.timeout()` gave),
    or a cancellation (`cancelled`), as which counts that a generator is closed before its end."""


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

    prepared_statement_cache_size: int = 0
    """Prepared statements that SQLAlchemy keeps for each connection. 0 is right on every version of
    asyncpg. More is faster by a fifth to a third and needs anonymous names and asyncpg 0.32: older
    ones answer with rows of other queries. Its price, as with `direct`: after `ALTER COLUMN … TYPE`
    statements that use the column fail until their connection is replaced."""

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
    """Keep bound parameters out of SQLAlchemy's messages and logs.

    What PostgreSQL and asyncpg say themselves is part of an error's message all the same, and they
    quote values: `Key (email)=(…) already exists`, `invalid input for query argument $1: …`.
    """

    log_level: int = logging.ERROR
    """Level (of `logging`) at which a session that was rolled back is logged."""

    on_session_event: Callable[[SessionEvent], None] | None = None
    """Called with what happens to each session, in the task that uses it. An error of its own is
    logged without its message, and changes nothing for the session."""

    def __post_init__(self) -> None:
        choices = {"pooler": Pooler, "statement_names": StatementNames, "tls": Tls}
        for name, allowed in choices.items():
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}")
        if self.pooler == "direct" and self.statement_names == "unique":
            raise ValueError('statement_names="unique" is for poolers: pooler is "direct"')
        if self.tls == "off" and self.tls_ca_file is not None:
            raise ValueError('tls_ca_file is given, but tls is "off"')
        if self.prepared_statement_cache_size:
            self._check_statement_cache()

    def _check_statement_cache(self) -> None:
        name = f"prepared_statement_cache_size={self.prepared_statement_cache_size}"
        if self.prepared_statement_cache_size < 0:
            raise ValueError(f"{name}: it cannot be negative")
        if self.pooler == "direct":
            raise ValueError(f'{name} is for poolers: "direct" keeps the caches of both libraries')
        if self.statement_names == "unique":
            raise ValueError(f"{name}: cached statements need anonymous names")
        installed = version("asyncpg")
        if tuple(map(int, installed.split(".")[:2])) < (0, 32):
            raise ValueError(
                f"{name} needs asyncpg 0.32 or newer: {installed}, which is installed, would "
                "answer with rows of other queries"
            )


class TransactionAbortedError(exc.InvalidRequestError):
    """A statement failed, its error was caught, and the transaction that it aborted was committed.

    PostgreSQL answers such a COMMIT with a rollback, which no driver reports: without this error
    everything written would be gone without a word. Nothing was stored. `__cause__` is the error
    of the statement that aborted it; catch such errors round `session.begin_nested()` instead,
    which rolls back to its savepoint and keeps the transaction alive. Where it was the connection
    that was lost, or a statement that was cancelled, nothing does: SQLAlchemy drops the connection.

    Where `commit()` raised it, the session takes nothing more until it is rolled back.

    A `flush()` whose error was caught ends in SQLAlchemy's own `PendingRollbackError` instead.
    Statements sent through asyncpg's connection itself, past SQLAlchemy, are not seen.
    """


_settings = SessionSettings()

engine: AsyncEngine
"""The engine of the running event loop, built when it is first asked for.

Imported by its name where no loop runs yet, it is the one that the first loop to use it takes over.
Programs that run several loops side by side ask for `async_session.engine` each time. Not in
`__all__`, since `import *` would build it.
"""

# Hidden from type checkers, to which it would make every misspelt name an engine.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> AsyncEngine:
        if name == "engine":
            return _slot().get_engine()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def configure(settings: SessionSettings) -> None:
    """Set what the engine will be built from, in place of the defaults and `DATABASE_URL`.

    Raises:
        RuntimeError: the engine exists already; `await dispose()` first.
    """
    global _settings
    with _lock:
        if any(slot.engine is not None for slot in _slots.values()):
            raise RuntimeError("the engine is built already: configure() it before its first use")
        _settings = settings


async def dispose() -> None:
    """Close the connections of this event loop and forget its engine; the next use builds another.

    A session that is still open keeps its connection, which is closed when the session is.
    """
    loop = asyncio.get_running_loop()
    with _lock:
        _leave_closed_loops()
        slot = _slots.pop(loop, None) or _slots.pop(None, None)
    if slot is None:
        return
    slot.is_left = True
    if slot.closer is not None:
        await slot.closer.aclose()
    else:
        await slot.close_connections()


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """Connections of a pool, or of several together, at one moment."""

    size: int
    """Connections that are kept open at most, `pool_size` for each pool."""
    idle: int
    """Connections that wait for a session."""
    in_use: int
    """Connections that a session holds."""
    overflow: int
    """Connections open beyond `size`, of `max_overflow` at most for each pool."""


def get_pool_figures() -> PoolFigures:
    """Give the figures of the running event loop's pool, for gauges and health checks.

    Where no loop runs, as in a thread that collects gauges, they are those of all pools in this
    process together. No engine is built for it: without one all figures are 0.
    """
    loop = _running_loop()
    with _lock:
        slots = [slot for of, slot in _slots.items() if loop is None or of is loop]
    pools: list[Any] = [slot.engine.pool for slot in slots if slot.engine is not None]
    return PoolFigures(
        size=sum(pool.size() for pool in pools),
        idle=sum(pool.checkedin() for pool in pools),
        in_use=sum(pool.checkedout() for pool in pools),
        overflow=sum(max(0, pool.overflow()) for pool in pools),
    )


def build_connect_args(settings: SessionSettings) -> dict[str, Any]:
    """Give the `connect_args` of `create_async_engine` for these settings.

    Both caches are off behind a pooler, if not asked for: asyncpg's with `statement_cache_size`,
    SQLAlchemy's with `prepared_statement_cache_size`. With anonymous names either one alone returns
    rows of other queries on some version of asyncpg (measured on 0.28 to 0.32).

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
    connect_args["prepared_statement_cache_size"] = settings.prepared_statement_cache_size
    return connect_args


def get_background_task_session_factory() -> async_sessionmaker[AsyncSession]:
    """Give the factory of this event loop's sessions, request and background alike.

    Open sessions with `get_background_session` or `get_session`: a session made from the factory
    itself neither commits nor rolls back.

    Raises:
        RuntimeError, ValueError: no database URL, or one that is no use.
    """
    return _slot().get_factory()


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
    history, steps = _History(), _Steps()
    session = get_background_task_session_factory()()
    try:
        history.log("opened")
        yield session
        history.log("committing")
        await session.commit()
    except BaseException as error:
        try:
            await steps.complete(session.rollback())
        except Exception as rollback_error:  # noqa: BLE001
            # The connection is lost and the transaction with it: the block's error is raised.
            logger.log(_settings.log_level, "rollback failed: %s", _describe(rollback_error))
        finally:
            history.log("failed", error)  # if this task was cancelled meanwhile, too
        raise
    else:
        history.log("committed")
    finally:
        await steps.complete(session.close())


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


class _Slot:
    """What an event loop has: its engine, the factory on it, and what closes its connections."""

    def __init__(self) -> None:
        self.engine: AsyncEngine | None = None
        self.factory: async_sessionmaker[AsyncSession] | None = None
        self.closer: AsyncGenerator[None, None] | None = None
        self.is_left = False

    def get_engine(self) -> AsyncEngine:
        if self.engine is None:
            settings = _settings
            self.engine = create_async_engine(
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
            event.listen(self.engine.sync_engine, "handle_error", _remember_first_error)
            event.listen(self.engine.sync_engine, "checkin", _forget_first_error)
            event.listen(self.engine.sync_engine, "checkin", self._close_if_left)
        if self.closer is None:
            self.closer = _begun_closer(self)
        return self.engine

    def get_factory(self) -> async_sessionmaker[AsyncSession]:
        engine = self.get_engine()
        if self.factory is None:
            self.factory = async_sessionmaker(
                engine,
                class_=_settings.session_class,
                expire_on_commit=False,
                autoflush=False,
                autocommit=False,
            )
        return self.factory

    async def close_connections(self) -> None:
        """Close them together, so that each has its time where the network is silent.

        Raises:
            TimeoutError: some did not answer within `connection_timeout` seconds, and were cut.
        """
        if self.engine is None:
            return
        pool: Any = self.engine.pool
        closing = [_Steps().complete(self.engine.dispose()) for _ in range(pool.checkedin() or 1)]
        try:
            ends = await asyncio.gather(*closing, return_exceptions=True)
        finally:
            self.drop_connections()
        errors = [end for end in ends if end is not None]
        if cut := sum(isinstance(error, TimeoutError) for error in errors):
            seconds = _settings.connection_timeout
            raise TimeoutError(
                f"{cut} of {len(closing)} connections were not closed in {seconds:g} s, and cut"
            )
        if errors:
            raise errors[0]

    def drop_connections(self) -> None:
        """Give the engine a new pool, and leave the connections of the old one as they are."""
        if self.engine is not None:
            self.engine.sync_engine.dispose(close=False)
            _let_tasks_wait(self.engine)

    def _close_if_left(self, dbapi_connection: object, record: ConnectionPoolEntry) -> None:
        """Close what comes back to a pool that nobody closes any more."""
        if self.is_left:
            record.close()


def _let_tasks_wait(engine: AsyncEngine) -> None:
    """Have tasks wait for one another in a new pool, where SQLAlchemy before 2.0.25 blocks threads.

    Listening gives the pool a lock for tasks: https://github.com/sqlalchemy/sqlalchemy/issues/10813
    """
    event.listen(engine.sync_engine, "connect", _do_nothing)


def _do_nothing(dbapi_connection: object, record: ConnectionPoolEntry) -> None:
    pass


_lock = threading.RLock()
_slots: dict[asyncio.AbstractEventLoop | None, _Slot] = {}
"""The slot of each event loop; under None one that the next loop is to take over."""
_SLOT = f"{__name__}.slot"
"""The attribute by which a loop holds its slot, while it is seen whether anybody holds the loop."""
_inherited: list[object] = []
"""What a forked child has of its parent's connections, kept from being collected and closed."""


def _slot() -> _Slot:
    """Give the slot of the running event loop, or of the next one where none runs."""
    loop = _running_loop()
    with _lock:
        if loop not in _slots:
            _leave_closed_loops()
            if None not in _slots:
                _collect_dropped_loops()
            _slots[loop] = _slots.pop(None) if None in _slots else _Slot()
            _slots[loop].is_left = False
        return _slots[loop]


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _begun_closer(slot: _Slot) -> AsyncGenerator[None, None] | None:
    """Have the running event loop, if there is one, close its connections when it ends.

    It has no hook for that, but it closes the asynchronous generators that were begun in it:
    https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.loop.shutdown_asyncgens
    """
    loop = _running_loop()
    if loop is None:
        return None

    async def closer() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            slot.is_left = True
            if steps := [step for step in list(_unattended) if step.get_loop() is loop]:
                await asyncio.wait(steps)
            await slot.close_connections()
            with _lock:
                if _slots.get(loop) is slot:  # none, or the next one, after `dispose()`
                    _leave(loop)

    begun = closer()
    with suppress(StopIteration):  # runs it to its `yield`
        begun.asend(None).send(None)
    return begun


def _leave_closed_loops() -> None:
    """Take their slots from loops that were closed without `shutdown_asyncgens()`.

    Their connections can no longer be closed in order; collecting them closes their sockets.
    """
    closed = [loop for loop in _slots if loop is not None and loop.is_closed()]
    for loop in closed:
        _slots[loop].drop_connections()
        _leave(loop)
    if closed:
        gc.collect()  # they are parts of cycles


def _collect_dropped_loops() -> None:
    """Have the loops collected that were dropped without being closed; that closes their sockets.

    For this long a loop at rest holds its slot itself, so that both go if nobody else has the loop.
    """
    resting = WeakSet(loop for loop in _slots if loop is not None and not loop.is_running())
    if resting:
        _hand_slots_to(resting)
        gc.collect()
        for loop in resting:
            _slots.setdefault(loop, vars(loop).pop(_SLOT))


def _hand_slots_to(loops: WeakSet[asyncio.AbstractEventLoop]) -> None:
    for loop in loops:
        setattr(loop, _SLOT, _slots.pop(loop))


def _leave(loop: asyncio.AbstractEventLoop) -> None:
    """Leave the slot of an ended loop, which has no connections, to the next one."""
    slot = _slots.pop(loop, None)
    if slot is not None:
        slot.closer = None
        _slots.setdefault(None, slot)


def _begin_anew_in_child() -> None:
    """After a fork: give every engine an empty pool, and never touch the parent's sockets."""
    global _lock
    _lock = threading.RLock()  # another thread of the parent's may have held it
    for loop, slot in list(_slots.items()):
        if slot.engine is not None:
            _inherited.append((loop, slot.closer, slot.engine.pool))
            slot.drop_connections()
        if loop is not None:
            _leave(loop)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)


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
    except (exc.ArgumentError, ValueError):
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
_IN_FAILED_TRANSACTION = "25P02"


def _remember_first_error(context: ExceptionContext) -> None:
    connection = context.connection
    if connection is not None and not connection.closed and not connection.invalidated:
        failure = context.sqlalchemy_exception or context.original_exception
        try:
            connection.info.setdefault(_FIRST_ERROR, failure)
        except NotImplementedError:
            # An engine looks at its first connection through one that keeps nothing.
            return
        # Not on the engine, where one listener makes every statement look for more.
        event.listen(connection, "commit", _prove_transaction_alive)
        if context.is_disconnect:
            vars(connection)[_FIRST_ERROR] = failure  # its `info` goes with what was lost
            event.listen(connection, "commit", _refuse_if_lost)
        event.listen(connection, "rollback", _forget_errors)
        event.listen(connection, "rollback_savepoint", _forget_errors_before_savepoint)


def _forget_errors(connection: Connection) -> None:
    """Before a ROLLBACK: after it another transaction may begin."""
    vars(connection).pop(_FIRST_ERROR, None)
    _forget_errors_before_savepoint(connection)


def _forget_errors_before_savepoint(
    connection: Connection, name: str = "", context: None = None
) -> None:
    """Before a ROLLBACK TO SAVEPOINT: after it the transaction is alive, or it fails itself."""
    if not connection.closed and not connection.invalidated:  # as a cancellation leaves it
        connection.info.pop(_FIRST_ERROR, None)


def _prove_transaction_alive(connection: Connection) -> None:
    """Before a COMMIT, and only after a statement failed: see whether PostgreSQL takes another.

    It does after errors that never reached the server, for example.
    """
    if connection.invalidated:
        return
    first_error = connection.info.pop(_FIRST_ERROR, None)
    if first_error is None:
        return
    try:
        connection.exec_driver_sql("SELECT 1")
    except exc.DBAPIError as error:
        if _sqlstate(error) != _IN_FAILED_TRANSACTION:
            raise  # the connection was lost, for example
        raise TransactionAbortedError(
            f"nothing was stored: {_describe(first_error)} aborted the transaction, was caught, "
            "and the transaction was committed; catch such errors round session.begin_nested()"
        ) from first_error


def _refuse_if_lost(connection: Connection) -> None:
    """Before a COMMIT of what went with its connection."""
    failure: BaseException | None = vars(connection).pop(_FIRST_ERROR, None)
    is_autocommit = connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
    if failure is not None and connection.invalidated and not is_autocommit:
        raise TransactionAbortedError(
            f"nothing was stored: {_describe(failure)} ended the connection, was caught, and the "
            "transaction was committed; let such errors leave the session's block"
        ) from failure


def _forget_first_error(dbapi_connection: object, record: ConnectionPoolEntry) -> None:
    record.info.pop(_FIRST_ERROR, None)


_numbers = itertools.count(1)


class _History:
    """Tells the log and the hook what happens to a session."""

    def __init__(self) -> None:
        self._settings = _settings
        self._number = next(_numbers)
        self._opened_at = 0.0
        self._is_committing = False

    def log(
        self,
        step: Literal["opened", "committing", "committed", "failed"],
        error: BaseException | None = None,
    ) -> None:
        """Note the next step; after `failed`, `error` says of what."""
        outcome: Outcome
        if step == "committing":
            self._is_committing = True
            return
        if step == "opened":
            self._opened_at = time.monotonic()
        if step == "failed":
            outcome = "commit failed" if self._is_committing else "rolled back"
        else:
            outcome = step
        seconds = time.monotonic() - self._opened_at
        cause = _cause(error) if error is not None else None
        if error is None:
            logger.debug("session %d %s after %.3f s", self._number, outcome, seconds)
        else:
            logger.log(
                self._settings.log_level,
                "session %d %s after %.3f s: %s (%s)",
                self._number,
                outcome,
                seconds,
                _describe(error),
                cause,
            )
        hook = self._settings.on_session_event
        if hook is not None:
            try:
                hook(SessionEvent(self._number, outcome, seconds, error, cause))
            except Exception as failure:  # noqa: BLE001
                # Neither its message nor `error`, its context, which may quote rows.
                where = "".join(traceback.format_tb(failure.__traceback__))
                logger.error("on_session_event failed: %s\n%s", _describe(failure), where)


# SQLSTATE classes and codes that are about the connection: connection exceptions, authorization,
# resources, a server that shuts down or starts up, and PgBouncer's own errors (08P01).
_CONNECTION_SQLSTATES = ("08", "28", "53", "57P01", "57P02", "57P03", "57P05")


_WEIGHTIEST_FIRST: tuple[Cause, ...] = ("connection", "database", "domain", "cancelled")


def _cause(error: BaseException) -> Cause:
    """Tell where an error came from; of a group, where the weightiest of its errors did."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        causes = {_cause(one) for one in group.exceptions}
        return next(cause for cause in _WEIGHTIEST_FIRST if cause in causes)
    # Whoever reads from a generator with a session in it may close it before its end.
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return "cancelled"
    first = error.__cause__ if isinstance(error, TransactionAbortedError) else None
    # Whoever raises it on may have made it its own cause, or a group with it.
    if first and not isinstance(first, (BaseExceptionGroup, TransactionAbortedError)):
        return _cause(first)
    if isinstance(error, (exc.NoResultFound, exc.MultipleResultsFound)):
        return "domain"
    if isinstance(error, exc.TimeoutError):
        return "connection"
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return "connection"
    sqlstate = _sqlstate(error)
    if sqlstate is not None or isinstance(error, exc.SQLAlchemyError):
        is_lost = sqlstate is not None and sqlstate.startswith(_CONNECTION_SQLSTATES)
        return "connection" if is_lost else "database"
    # SQLAlchemy lets through what happens while connecting: the system's errors, and timeouts.
    if _comes_through(error, "asyncpg."):
        return "connection"
    # A limit of time comes of what it cut off: here a wait for the server or for the pool. Python
    # 3.11.2 has that as its context alone.
    cut_off = error.__cause__ or error.__context__ if isinstance(error, TimeoutError) else None
    is_wait = isinstance(cut_off, asyncio.CancelledError) and _comes_through(cut_off, "sqlalchemy.")
    return "connection" if is_wait else "domain"


def _comes_through(error: BaseException, package: str) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return any(f.f_globals.get("__name__", "").startswith(package) for f, _ in frames)


def _sqlstate(error: BaseException) -> str | None:
    """Give what PostgreSQL or the pooler calls an error, if it is theirs."""
    sqlstate: str | None = getattr(getattr(error, "orig", error), "sqlstate", None)
    return sqlstate


def _describe(error: BaseException) -> str:
    """Name an error by class and SQLSTATE: its message may quote rows, parameters or the URL."""
    sqlstate = _sqlstate(error)
    return type(error).__name__ + (f" (SQLSTATE {sqlstate})" if sqlstate else "")


class _Steps:
    """The steps that end a session: each is awaited to its end, one after the other."""

    def __init__(self) -> None:
        self._unattended: asyncio.Task[None] | None = None
        """The last one that nothing waits for."""

    async def complete(self, step: Coroutine[Any, Any, None]) -> None:
        """Await `step` to its end, however often this task is cancelled meanwhile; then be so.

        A shield alone would return at the first cancellation and leave the connection to a task
        that nobody awaits. A step that takes longer than `connection_timeout` is cancelled itself.
        Where this task may not wait, the end of its loop does.

        Raises:
            TimeoutError: the step was cancelled.
        """
        if _may_not_wait():
            self._unattended = asyncio.create_task(_complete_after(self._unattended, step))
            _unattended.add(self._unattended)
            self._unattended.add_done_callback(_hear_of)
        else:
            await _end_of(asyncio.create_task(step))


async def _end_of(task: asyncio.Task[None]) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _settings.connection_timeout
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        if loop.time() >= deadline:
            # Again each time: asyncpg to 0.30 waits without end to close what does not answer.
            task.cancel()
            deadline += _settings.connection_timeout
        try:
            await asyncio.sleep(0)  # enough where a step waits for nothing, and cheaper
            if not task.done():
                await asyncio.wait({task}, timeout=deadline - loop.time())
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    if task.cancelled():
        raise TimeoutError
    task.result()


def _may_not_wait() -> bool:
    """Tell whether this task closes a generator and was cancelled.

    Where that was before it had begun, as at the end of a loop, Python before 3.13 throws the
    cancellation into the generator, and later another error into what that waits for by then: the
    generators behind it would never come to their ends.
    """
    task = asyncio.current_task()
    return (
        sys.version_info < (3, 13)
        and task is not None
        and task.cancelling() > 0
        and type(task.get_coro()).__name__ == "async_generator_athrow"  # of `aclose()` too
    )


_unattended: set[asyncio.Task[None]] = set()
"""The steps of all loops that nothing waits for but the ends of their loops."""


async def _complete_after(
    other: asyncio.Task[None] | None, step: Coroutine[Any, Any, None]
) -> None:
    if other is not None:
        with suppress(Exception, asyncio.CancelledError):
            await _end_of(other)
    await _end_of(asyncio.create_task(step))


def _hear_of(step: asyncio.Task[None]) -> None:
    _unattended.discard(step)
    if not step.cancelled():
        step.exception()  # the error that the session failed with is the one raised
