"""The handler's contract on real rows: commit, roll back, close, and no error swallowed unheard."""

import asyncio
import logging
import os
import re
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any

import pytest
from asyncpg import DivisionByZeroError
from sqlalchemy import event, text
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InvalidRequestError,
    PendingRollbackError,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from session_guard import async_session
from session_guard.async_session import (
    SessionSettings,
    TransactionAbortedError,
    configure,
    dispose,
    get_background_session,
    get_background_task_session_factory,
    get_session,
    get_session_dependency,
)

from .servers import PASSWORD, PgBouncer, Postgres

OpenSession = Callable[[], AbstractAsyncContextManager[AsyncSession]]

BROKEN = text("SELECT 1/0")


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class ProjectSession(AsyncSession):
    """A project's own session class, whose closing takes a moment."""

    closed = False

    async def close(self) -> None:
        await asyncio.sleep(0.1)
        await super().close()
        self.closed = True


class Database:
    """The handler, configured for a fresh PgBouncer; and what PostgreSQL itself says of it."""

    def __init__(self, pooler: PgBouncer, server: Postgres) -> None:
        self.pooler = pooler
        self.server = server

    def run(self, work: Callable[[], Awaitable[None]], **settings: Any) -> None:
        """Run one event loop with the handler, at whose end nothing may be left behind."""

        async def in_loop() -> None:
            try:
                await work()
            finally:
                in_use, idle = self.connections_in_use(), await self.idle_in_transaction()
                await dispose()
                assert (in_use, idle) == (0, 0)

        configure(SessionSettings(url=self.pooler.dsn, tls="off", **settings))
        asyncio.run(in_loop())

    def stored(self) -> list[int]:
        rows = asyncio.run(self.server.fetch("SELECT id FROM items ORDER BY id"))
        return [row["id"] for row in rows]

    async def idle_in_transaction(self) -> int:
        [row] = await self.server.fetch(
            "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        )
        count: int = row["count"]
        return count

    @staticmethod
    def connections_in_use() -> int:
        pool: Any = async_session.engine.pool
        return int(pool.checkedout())


@pytest.fixture
def database(pgbouncer: PgBouncer, postgres: Postgres, items: None) -> Iterator[Database]:
    yield Database(pgbouncer, postgres)
    configure(SessionSettings())


FORMS = pytest.mark.parametrize(
    "open_session",
    [get_background_session, get_session, asynccontextmanager(get_session_dependency)],
    ids=["background", "request", "dependency"],
)


async def insert(session: AsyncSession, item: int) -> None:
    await session.execute(text("INSERT INTO items VALUES (:id, 'item')"), {"id": item})


# --- commit on success, roll back and raise on error, close always


@FORMS
def test_success_is_committed_and_closed(database: Database, open_session: OpenSession) -> None:
    async def work() -> None:
        async with open_session() as session:
            session.add(Item(id=1, name="one"))
            await insert(session, 2)
        assert isinstance(session, ProjectSession)
        assert session.closed

    database.run(work, session_class=ProjectSession)
    assert database.stored() == [1, 2]


@FORMS
@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError, KeyboardInterrupt])
def test_error_is_rolled_back_and_raised(
    database: Database, open_session: OpenSession, kind: type[BaseException]
) -> None:
    async def work() -> None:
        try:
            async with open_session() as session:
                await insert(session, 1)
                raise kind("out of the block")
        finally:
            assert isinstance(session, ProjectSession)
            assert session.closed

    with pytest.raises(kind, match="out of the block"):
        database.run(work, session_class=ProjectSession)
    assert database.stored() == []


def test_failed_commit_is_rolled_back_and_raised(database: Database) -> None:
    async def work() -> None:
        async with get_background_session() as session:
            await insert(session, 1)
            session.add(Item(id=1, name="again"))  # autoflush is off: the commit sends it

    with pytest.raises(IntegrityError):
        database.run(work)
    assert database.stored() == []


def test_error_of_the_block_is_raised_when_the_rollback_fails_too(database: Database) -> None:
    async def work() -> None:
        async with get_background_session() as session:
            pid = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await database.server.fetch("SELECT pg_terminate_backend($1)", pid)
            await asyncio.sleep(0.1)
            raise ValueError("out of the block")

    with pytest.raises(ValueError, match="out of the block"):
        database.run(work)


def test_factory_is_the_standards(database: Database) -> None:
    async def work() -> None:
        factory = get_background_task_session_factory()
        assert get_background_task_session_factory() is factory
        assert factory.kw["bind"] is async_session.engine
        async with get_background_session() as session:
            assert isinstance(session, ProjectSession)
            assert session.sync_session.expire_on_commit is False
            assert session.sync_session.autoflush is False
            level = await session.execute(text("SHOW transaction_isolation"))
            assert level.scalar_one() == "read committed"

    database.run(work, session_class=ProjectSession)


# --- an error that the block swallowed never ends in a commit that stored nothing


async def insert_and_swallow(session: AsyncSession) -> None:
    await insert(session, 1)
    with suppress(DBAPIError):
        await session.execute(BROKEN)


def assert_names_the_broken_statement(
    raised: pytest.ExceptionInfo[TransactionAbortedError],
) -> None:
    assert "DBAPIError (SQLSTATE 22012)" in str(raised.value)
    assert isinstance(raised.value.__cause__, DBAPIError)
    assert "division by zero" in str(raised.value.__cause__)


@FORMS
def test_swallowed_error_is_raised_on_leaving(
    database: Database, open_session: OpenSession
) -> None:
    async def work() -> None:
        async with open_session() as session:
            await insert_and_swallow(session)
            with suppress(DBAPIError):
                await insert(session, 2)  # refused, and not the error to be named

    with pytest.raises(TransactionAbortedError) as raised:
        database.run(work)
    assert_names_the_broken_statement(raised)
    assert database.stored() == []


def test_swallowed_error_is_raised_by_an_explicit_commit(database: Database) -> None:
    async def work() -> None:
        async with get_background_session() as session:
            await insert_and_swallow(session)
            await session.commit()
            pytest.fail("the commit returned")

    with pytest.raises(TransactionAbortedError) as raised:
        database.run(work)
    assert_names_the_broken_statement(raised)
    assert database.stored() == []


def test_error_of_a_transaction_that_was_rolled_back_is_not_named(database: Database) -> None:
    async def work() -> None:
        async with async_session.engine.connect() as connection:
            with suppress(DBAPIError):
                await connection.execute(text("SELECT 1/0"))
            await connection.rollback()
            with suppress(DBAPIError):
                await connection.execute(text("SELECT no_such_column"))
            await connection.commit()

    with pytest.raises(TransactionAbortedError, match="SQLSTATE 42703"):
        database.run(work)


def test_others_who_listen_hear_of_no_commit_that_is_none(database: Database) -> None:
    committing: list[object] = []

    async def work() -> None:
        event.listen(async_session.engine.sync_engine, "commit", committing.append)
        async with get_background_session() as session:
            await insert_and_swallow(session)

    with pytest.raises(TransactionAbortedError) as raised:
        database.run(work)
    assert_names_the_broken_statement(raised)
    assert committing == []
    assert database.stored() == []


def test_swallowed_commit_is_raised_on_leaving(database: Database) -> None:
    async def work() -> None:
        async with get_background_session() as session:
            await insert_and_swallow(session)
            with suppress(TransactionAbortedError):
                await session.commit()

    with pytest.raises(PendingRollbackError):
        database.run(work)
    assert database.stored() == []


@pytest.mark.parametrize("tries_again", [False, True])
def test_going_on_after_a_swallowed_commit_stores_nothing(
    database: Database, tries_again: bool
) -> None:
    async def work() -> None:
        async with get_background_session() as session:
            await insert_and_swallow(session)
            with suppress(TransactionAbortedError):
                await session.commit()
            with suppress(InvalidRequestError):  # SQLAlchemy refuses until it is rolled back
                await insert(session, 2)
                pytest.fail("it was written into a transaction that has ended")
            if tries_again:
                await session.commit()
                pytest.fail("the commit returned")

    with pytest.raises(PendingRollbackError):
        database.run(work)
    assert database.stored() == []


def test_after_a_swallowed_commit_and_a_rollback_another_transaction_begins(
    database: Database,
) -> None:
    async def work() -> None:
        async with get_background_session() as session:
            await insert_and_swallow(session)
            try:
                await session.commit()
            except TransactionAbortedError:
                await session.rollback()
            await insert(session, 2)

    database.run(work)
    assert database.stored() == [2]


def test_swallowed_flush_is_raised_on_leaving(database: Database) -> None:
    async def work() -> None:
        async with get_background_session() as session:
            await insert(session, 1)
            session.add(Item(id=1, name="again"))
            with suppress(IntegrityError):
                await session.flush()

    with pytest.raises(PendingRollbackError):
        database.run(work)
    assert database.stored() == []


def test_swallowed_error_of_a_stream_is_raised_on_leaving(database: Database) -> None:
    async def work() -> None:
        fails_late = text("SELECT 1/(2000 - n) FROM generate_series(1, 3000) AS n")
        async with get_background_session() as session:
            await insert(session, 1)
            with suppress(DivisionByZeroError):  # not translated: rows are fetched by then
                async for _ in await session.stream(fails_late):
                    pass

    with pytest.raises(TransactionAbortedError) as raised:
        database.run(work)
    assert isinstance(raised.value.__cause__, DivisionByZeroError)
    assert database.stored() == []


def test_swallowed_timeout_is_raised_on_leaving(database: Database) -> None:
    async def work() -> None:
        async with get_background_session() as session:
            await insert(session, 1)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await session.execute(text("SELECT pg_sleep(5)"))

    with pytest.raises((TransactionAbortedError, PendingRollbackError)):
        database.run(work)
    assert database.stored() == []


def test_error_rolled_back_to_its_savepoint_is_no_loss(database: Database) -> None:
    async def work() -> None:
        async with get_background_session() as session:
            await insert(session, 1)
            with suppress(DBAPIError):
                async with session.begin_nested():
                    await insert(session, 2)
                    await session.execute(BROKEN)
            await insert(session, 3)

    database.run(work)
    assert database.stored() == [1, 3]


def test_error_rolled_back_to_its_savepoint_is_not_named(database: Database) -> None:
    async def work() -> None:
        async with get_background_session() as session:
            await insert(session, 1)
            with suppress(IntegrityError):
                async with session.begin_nested():
                    await insert(session, 1)
            with suppress(DBAPIError):
                await session.execute(BROKEN)

    with pytest.raises(TransactionAbortedError) as raised:
        database.run(work)
    assert_names_the_broken_statement(raised)
    assert database.stored() == []


def test_error_before_an_explicit_rollback_is_no_loss(database: Database) -> None:
    async def work() -> None:
        async with get_background_session() as session:
            await insert_and_swallow(session)
            await session.rollback()
            await insert(session, 2)

    database.run(work)
    assert database.stored() == [2]


def test_error_that_never_reached_the_server_is_no_loss(database: Database) -> None:
    async def work() -> None:
        async with get_background_session() as session:
            await insert(session, 1)
            with suppress(DBAPIError):
                await session.execute(text("SELECT CAST(:n AS integer)"), {"n": "not a number"})

    database.run(work)
    assert database.stored() == [1]


def test_swallowed_error_is_not_held_against_the_next_session(database: Database) -> None:
    async def work() -> None:
        for swallow in (True, False):
            with suppress(TransactionAbortedError, DBAPIError):
                async with get_background_session() as session:
                    await insert(session, 1)
                    with suppress(DBAPIError) if swallow else nullcontext():
                        await session.execute(BROKEN)
        statements = await statements_of_a_session()
        assert statements == ["INSERT INTO items VALUES ($1, 'item')"]

    database.run(work)
    assert database.stored() == [7]


def test_proof_costs_no_statement_where_nothing_failed(database: Database) -> None:
    async def work() -> None:
        assert await statements_of_a_session() == ["INSERT INTO items VALUES ($1, 'item')"]

    database.run(work)


async def statements_of_a_session() -> list[str]:
    statements: list[str] = []

    def record(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(async_session.engine.sync_engine, "before_cursor_execute", record)
    async with get_background_session() as session:
        await insert(session, 7)
    event.remove(async_session.engine.sync_engine, "before_cursor_execute", record)
    return statements


# --- cancellation


def test_cancelled_statement_is_rolled_back(database: Database) -> None:
    async def block() -> None:
        async with get_background_session() as session:
            await insert(session, 1)
            await session.execute(text("SELECT pg_sleep(30)"))

    async def work() -> None:
        task = asyncio.create_task(block())
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    database.run(work)
    assert database.stored() == []


def test_cancellation_in_a_savepoint_goes_on_to_the_caller(database: Database) -> None:
    async def block(entered: asyncio.Event) -> None:
        async with get_background_session() as session, session.begin_nested():
            await insert(session, 1)
            entered.set()
            await session.execute(text("SELECT pg_sleep(30)"))

    async def work() -> None:
        entered = asyncio.Event()
        task = asyncio.create_task(block(entered))
        await entered.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await block(asyncio.Event())
        assert database.connections_in_use() == 0

    database.run(work)
    assert database.stored() == []


def test_cancellation_at_an_engines_first_connection_goes_on_to_the_caller(
    database: Database,
) -> None:
    """SQLAlchemy asks PostgreSQL for its version and more before it gives the connection away."""

    async def block() -> None:
        async with get_background_session() as session:
            await insert(session, 1)
            await session.execute(text("SELECT pg_sleep(30)"))

    async def work() -> None:
        for moment in range(60):
            task = asyncio.create_task(block())
            await asyncio.sleep(moment * 0.0005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await dispose()

    database.run(work)
    assert database.stored() == []


def test_cancellation_at_any_moment_stores_all_or_nothing(database: Database) -> None:
    moments = 60

    async def block(number: int) -> None:
        async with get_background_session() as session:
            await insert(session, 2 * number)
            await asyncio.sleep(0.002)
            await insert(session, 2 * number + 1)

    async def work() -> None:
        await block(moments)  # the pool is warm and the dialect knows its server
        for number in range(moments):
            task = asyncio.create_task(block(number))
            await asyncio.sleep(number * 0.0002)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert database.connections_in_use() == 0

    database.run(work, log_level=logging.DEBUG)
    stored = database.stored()
    assert [item for item in stored if item ^ 1 not in stored] == []
    assert 2 <= len(stored) < 2 * moments + 2  # some were stopped in time


def test_task_cancelled_over_and_over_still_closes_its_session(database: Database) -> None:
    """As anyio's cancel scopes do, in which web frameworks run their requests."""

    async def block() -> None:
        async with get_background_session() as session:
            await insert(session, 1)
            await asyncio.sleep(30)

    async def work() -> None:
        task = asyncio.create_task(block())
        await asyncio.sleep(0.2)
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        assert task.cancelled()
        assert database.connections_in_use() == 0

    database.run(work)
    assert database.stored() == []


def test_cancellation_while_closing_waits_for_the_close(database: Database) -> None:
    sessions: list[AsyncSession] = []

    async def block(leaving: asyncio.Event) -> None:
        async with get_background_session() as session:
            sessions.append(session)
            await insert(session, 1)
            await session.commit()
            leaving.set()

    async def work() -> None:
        leaving = asyncio.Event()
        task = asyncio.create_task(block(leaving))
        await leaving.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        [session] = sessions
        assert isinstance(session, ProjectSession)
        assert session.closed

    database.run(work, session_class=ProjectSession)
    assert database.stored() == [1]


def test_task_is_not_held_by_a_pooler_that_no_longer_answers(database: Database) -> None:
    async def block() -> None:
        async with get_background_session() as session:
            await insert(session, 1)
            os.kill(database.pooler.pid, signal.SIGSTOP)
            await asyncio.sleep(30)

    async def work() -> None:
        task = asyncio.create_task(block())
        await asyncio.sleep(0.2)
        task.cancel()
        try:
            async with asyncio.timeout(10):
                with pytest.raises(asyncio.CancelledError):
                    await task
        finally:
            os.kill(database.pooler.pid, signal.SIGCONT)
        for _ in range(200):  # the pooler has to see first that its client has gone
            if await database.idle_in_transaction() == 0:
                break
            await asyncio.sleep(0.05)

    database.run(work, connection_timeout=1)
    assert database.stored() == []


# --- what is logged


def test_log_has_the_level_asked_for_and_no_secret(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "bound-parameter"

    async def work() -> None:
        async with get_background_session() as session:
            await session.execute(
                text("SELECT CAST(CAST(:value AS text) AS integer)"), {"value": secret}
            )

    caplog.set_level(logging.DEBUG)
    with pytest.raises(DBAPIError) as raised:
        database.run(work, log_level=logging.WARNING)
    # PostgreSQL's message quotes the value, which is why the log may not repeat it.
    assert secret in str(raised.value.orig)
    opened, rolled_back = (r for r in caplog.records if r.name == "session_guard.async_session")
    assert opened.levelno == logging.DEBUG
    assert rolled_back.levelno == logging.WARNING
    assert re.fullmatch(
        r"session \d+ rolled back after \d\.\d{3} s: DBAPIError \(SQLSTATE 22P02\) \(database\)",
        rolled_back.getMessage(),
    )
    for secret_part in (secret, PASSWORD, database.pooler.dsn):
        assert secret_part not in caplog.text
