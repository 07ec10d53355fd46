"""What can be seen of sessions from outside: events, their causes, the log, and the pool."""

import asyncio
import logging
import os
import signal
import socket
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, suppress
from typing import Any

import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession

from session_guard import async_session
from session_guard.async_session import (
    PoolFigures,
    SessionEvent,
    SessionSettings,
    TransactionAbortedError,
    configure,
    dispose,
    get_background_session,
    get_pool_figures,
)

from .servers import PASSWORD, PgBouncer, Postgres

Block = Callable[[AsyncSession], Awaitable[object]]


class Observed:
    """The handler with a hook that keeps its events."""

    def __init__(self, pooler: PgBouncer, server: Postgres) -> None:
        self.pooler = pooler
        self.server = server
        self.events: list[SessionEvent] = []

    def run(self, work: Callable[[], Awaitable[object]], **settings: Any) -> None:
        settings = {"url": self.pooler.dsn, "on_session_event": self.events.append, **settings}
        configure(SessionSettings(tls="off", **settings))

        async def in_loop() -> None:
            try:
                await work()
            finally:
                await dispose()

        asyncio.run(in_loop())

    def run_block(self, block: Block, **settings: Any) -> None:
        async def work() -> None:
            async with get_background_session() as session:
                await block(session)

        self.run(work, **settings)

    @property
    def story(self) -> list[tuple[str, str | None]]:
        return [(event.outcome, event.cause) for event in self.events]


@pytest.fixture
def observed(pgbouncer: PgBouncer, postgres: Postgres, items: None) -> Iterator[Observed]:
    yield Observed(pgbouncer, postgres)
    configure(SessionSettings())


async def insert(session: AsyncSession) -> None:
    await session.execute(text("INSERT INTO items VALUES (1, 'one')"))


def test_success_is_opened_and_committed(observed: Observed) -> None:
    async def block(session: AsyncSession) -> None:
        assert [event.outcome for event in observed.events] == ["opened"]
        await insert(session)
        await asyncio.sleep(0.05)

    observed.run_block(block)
    opened, committed = observed.events
    assert observed.story == [("opened", None), ("committed", None)]
    assert opened.number == committed.number
    assert opened.seconds < 0.05 <= committed.seconds


def test_sessions_are_told_apart(observed: Observed) -> None:
    async def work() -> None:
        async with get_background_session() as outer, get_background_session() as inner:
            await outer.execute(text("SELECT 1"))
            await inner.execute(text("SELECT 1"))

    observed.run(work)
    first, second, *ends = (event.number for event in observed.events)
    assert first != second
    assert ends == [second, first]


async def fail_in_domain(session: AsyncSession) -> None:
    await insert(session)
    raise LookupError("no such user")


async def fail_on_a_file(session: AsyncSession) -> None:
    await insert(session)
    raise FileNotFoundError("report.csv")


async def fail_for_want_of_a_row(session: AsyncSession) -> None:
    (await session.execute(text("SELECT 1 WHERE false"))).scalar_one()


async def fail_in_tasks(session: AsyncSession) -> None:
    await insert(session)
    async with asyncio.TaskGroup() as group:
        group.create_task(fail_in_another_session())


async def fail_in_another_session() -> None:
    async with async_session.get_background_task_session_factory()() as session:
        await session.execute(text("SELECT 1/0"))


async def fail_in_database(session: AsyncSession) -> None:
    await session.execute(text("SELECT 1/0"))


async def fail_in_a_stream(session: AsyncSession) -> None:
    fails_late = text("SELECT 1/(2000 - n) FROM generate_series(1, 3000) AS n")
    async for _ in await session.stream(fails_late):  # SQLAlchemy does not translate this one
        pass


async def be_cancelled(session: AsyncSession) -> None:
    await insert(session)
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("block", "cause"),
    [
        (fail_in_domain, "domain"),
        (fail_on_a_file, "domain"),
        (fail_for_want_of_a_row, "domain"),
        (fail_in_database, "database"),
        (fail_in_tasks, "database"),
        (fail_in_a_stream, "database"),
        (be_cancelled, "cancelled"),
    ],
)
def test_cause_of_a_rollback(observed: Observed, block: Block, cause: str) -> None:
    with suppress(Exception, asyncio.CancelledError):
        observed.run_block(block)
    assert observed.story == [("opened", None), ("rolled back", cause)]
    assert observed.events[-1].error is not None


def test_generator_that_is_closed_early_is_cancelled(
    observed: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    async def rows() -> AsyncGenerator[object, None]:
        async with get_background_session() as session:
            async for row in await session.stream(text("SELECT generate_series(1, 3000)")):
                yield row

    async def read_one() -> None:
        async with aclosing(rows()) as some:
            await anext(some)

    observed.run(read_one)
    assert observed.story == [("opened", None), ("rolled back", "cancelled")]
    assert "GeneratorExit (cancelled)" in caplog.text


async def sleep_in_a_session() -> None:
    async with get_background_session() as session:
        await insert(session)
        await anyio.sleep(30)


async def time_out() -> None:
    with anyio.move_on_after(0.3):
        await sleep_in_a_session()


async def be_cancelled_with_the_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(sleep_in_a_session)
        await anyio.sleep(0.3)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("work", [time_out, be_cancelled_with_the_group])
def test_cancel_scope_is_heard_of(
    observed: Observed, caplog: pytest.LogCaptureFixture, work: Callable[[], Awaitable[None]]
) -> None:
    """It cancels again and again until its task has ended, during the rollback too."""
    observed.run(work)
    assert observed.story == [("opened", None), ("rolled back", "cancelled")]
    assert " rolled back after " in caplog.text


def test_error_is_heard_of_when_its_rollback_is_cancelled(observed: Observed) -> None:
    failing = asyncio.Event()

    async def fail() -> None:
        async with get_background_session() as session:
            await insert(session)
            failing.set()
            raise LookupError("no such user")

    async def work() -> None:
        task = asyncio.create_task(fail())
        await failing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    observed.run(work)
    assert observed.story == [("opened", None), ("rolled back", "domain")]
    assert isinstance(observed.events[-1].error, LookupError)


def test_lost_connection_is_its_cause(observed: Observed) -> None:
    async def block(session: AsyncSession) -> None:
        pid = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await observed.server.fetch("SELECT pg_terminate_backend($1)", pid)
        await session.execute(text("SELECT 1"))

    with pytest.raises(DBAPIError):
        observed.run_block(block)
    assert observed.story == [("opened", None), ("rolled back", "connection")]


@pytest.mark.parametrize("password", [None, "wrong-password"])
def test_connection_that_is_refused_is_its_cause(observed: Observed, password: str | None) -> None:
    dsn = observed.server.dsn
    if password is None:
        dsn = dsn.replace(f":{observed.server.port}/", ":1/")  # nothing listens there
    else:
        dsn = dsn.replace(PASSWORD, password)

    async def block(session: AsyncSession) -> None:
        await session.execute(text("SELECT 1"))

    with pytest.raises(Exception) as raised:  # noqa: PT011 - the system's, or asyncpg's
        observed.run_block(block, url=dsn)
    assert observed.story == [("opened", None), ("rolled back", "connection")]
    assert observed.events[-1].error is raised.value


def test_full_pool_is_a_matter_of_the_connection(observed: Observed) -> None:
    async def work() -> None:
        async with get_background_session() as first:
            await first.execute(text("SELECT 1"))
            figures = get_pool_figures()
            assert (figures.size, figures.in_use, figures.idle, figures.overflow) == (1, 1, 0, 0)
            with pytest.raises(PoolTimeoutError):
                async with get_background_session() as second:
                    await second.execute(text("SELECT 1"))
        figures = get_pool_figures()
        assert (figures.size, figures.in_use, figures.idle, figures.overflow) == (1, 0, 1, 0)

    observed.run(work, pool_size=1, max_overflow=0, connection_timeout=0.5)
    assert observed.story == [
        ("opened", None),
        ("opened", None),
        ("rolled back", "connection"),
        ("committed", None),
    ]


async def wait_in_a_statement(session: AsyncSession) -> None:
    await session.execute(text("SELECT pg_sleep(30)"))


async def wait_in_a_stream(session: AsyncSession) -> None:
    query = text("SELECT pg_sleep(n / 100) FROM generate_series(1, 3000) AS n")
    async for _ in await session.stream(query):
        pass


async def wait_for_another_program(session: AsyncSession) -> None:
    await session.execute(text("SELECT 1"))
    await asyncio.sleep(30)


@pytest.mark.parametrize(
    ("wait", "cause"),
    [
        (wait_in_a_statement, "connection"),
        (wait_in_a_stream, "connection"),
        (wait_for_another_program, "domain"),
    ],
)
def test_limit_of_time_that_cuts_off_the_server_is_a_matter_of_the_connection(
    observed: Observed, wait: Block, cause: str
) -> None:
    async def within_a_limit(session: AsyncSession) -> None:
        async with asyncio.timeout(0.3):
            await wait(session)

    async def by_another_task(session: AsyncSession) -> None:
        await asyncio.wait_for(wait(session), 0.3)

    for block in (within_a_limit, by_another_task):
        with pytest.raises(TimeoutError):
            observed.run_block(block)
    assert observed.story == 2 * [("opened", None), ("rolled back", cause)]


def test_limit_of_time_that_cuts_off_a_wait_for_the_pool_is_a_matter_of_the_connection(
    observed: Observed,
) -> None:
    async def block(session: AsyncSession) -> None:
        await session.execute(text("SELECT 1"))
        async with get_background_session() as second:
            async with asyncio.timeout(0.3):
                await second.execute(text("SELECT 1"))

    with pytest.raises(TimeoutError):
        observed.run_block(block, pool_size=1, max_overflow=0)
    assert observed.story[-2:] == 2 * [("rolled back", "connection")]


def test_limit_of_time_that_cuts_off_connecting_is_a_matter_of_the_connection(
    observed: Observed,
) -> None:
    async def block(session: AsyncSession) -> None:
        async with asyncio.timeout(0.3):
            await session.execute(text("SELECT 1"))

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://guard:x@127.0.0.1:{silent.getsockname()[1]}/postgres"
        with pytest.raises(TimeoutError):
            observed.run_block(block, url=url)
    assert observed.story == [("opened", None), ("rolled back", "connection")]


def test_commit_that_fails_is_told_from_a_block_that_does(observed: Observed) -> None:
    async def block(session: AsyncSession) -> None:
        await session.execute(text("CREATE TEMPORARY TABLE t (i int UNIQUE DEFERRABLE)"))
        await session.execute(text("SET CONSTRAINTS ALL DEFERRED"))
        await session.execute(text("INSERT INTO t VALUES (1), (1)"))

    with pytest.raises(IntegrityError):
        observed.run_block(block)
    assert observed.story == [("opened", None), ("commit failed", "database")]


def test_commit_of_an_aborted_transaction_failed(observed: Observed) -> None:
    async def block(session: AsyncSession) -> None:
        with suppress(DBAPIError):
            await session.execute(text("SELECT 1/0"))

    with pytest.raises(TransactionAbortedError):
        observed.run_block(block)
    assert observed.story == [("opened", None), ("commit failed", "database")]


def test_swallowed_loss_of_the_connection_is_named(observed: Observed) -> None:
    async def block(session: AsyncSession) -> None:
        await insert(session)
        with suppress(DBAPIError):  # a failure before is not what ended the transaction
            async with session.begin_nested():
                await session.execute(text("SELECT 1/0"))
        pid = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await observed.server.fetch("SELECT pg_terminate_backend($1)", pid)
        with suppress(DBAPIError):
            await session.execute(text("SELECT 1"))

    with pytest.raises(TransactionAbortedError) as raised:
        observed.run_block(block)
    lost = raised.value.__cause__
    assert isinstance(lost, DBAPIError)
    assert lost.connection_invalidated
    assert observed.story == [("opened", None), ("commit failed", "connection")]


def test_swallowed_loss_of_a_connection_in_autocommit_is_no_lost_transaction(
    observed: Observed,
) -> None:
    async def block(session: AsyncSession) -> None:
        await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        pid = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await observed.server.fetch("SELECT pg_terminate_backend($1)", pid)
        with suppress(DBAPIError):
            await session.execute(text("SELECT 1"))

    observed.run_block(block)
    assert observed.story == [("opened", None), ("committed", None)]


def test_aborted_transaction_that_is_its_own_cause_is_told_of(observed: Observed) -> None:
    async def block(session: AsyncSession) -> None:
        error = TransactionAbortedError("of another session")
        raise error from ExceptionGroup("its task", [error])

    with pytest.raises(TransactionAbortedError):
        observed.run_block(block)
    assert observed.story == [("opened", None), ("rolled back", "database")]


def test_swallowed_timeout_of_a_statement_is_named(observed: Observed) -> None:
    async def block(session: AsyncSession) -> None:
        await insert(session)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await session.execute(text("SELECT pg_sleep(30)"))

    with pytest.raises(TransactionAbortedError) as raised:
        observed.run_block(block)
    assert isinstance(raised.value.__cause__, asyncio.CancelledError)
    assert observed.story == [("opened", None), ("commit failed", "cancelled")]


def test_connection_lost_after_an_error_is_no_aborted_transaction(observed: Observed) -> None:
    async def block(session: AsyncSession) -> None:
        await insert(session)
        with suppress(DBAPIError):  # of asyncpg: it never reaches the server
            await session.execute(text("SELECT CAST(:n AS integer)"), {"n": "not a number"})
        pid = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await observed.server.fetch("SELECT pg_terminate_backend($1)", pid)

    with pytest.raises(DBAPIError) as raised:
        observed.run_block(block)
    assert raised.value.connection_invalidated
    assert observed.story == [("opened", None), ("commit failed", "connection")]


def test_pooler_that_dies_before_the_commit(observed: Observed) -> None:
    async def block(session: AsyncSession) -> None:
        await insert(session)
        os.kill(observed.pooler.pid, signal.SIGKILL)

    with pytest.raises(DBAPIError):
        observed.run_block(block)
    assert observed.story == [("opened", None), ("commit failed", "connection")]


def test_hook_that_fails_changes_nothing(
    observed: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(event: SessionEvent) -> None:
        raise LookupError(event.outcome)

    async def block(session: AsyncSession) -> None:
        await insert(session)

    observed.run_block(block, on_session_event=hook)
    assert asyncio.run(observed.server.fetch("SELECT id FROM items")) == [(1,)]
    failed = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(failed) == 2
    for message in failed:
        assert message.startswith("on_session_event failed: LookupError\n")
        assert "raise LookupError(event.outcome)" in message  # where


def test_hook_that_fails_quotes_no_row(
    observed: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(event: SessionEvent) -> None:
        raise LookupError(str(event.error)) from event.error

    with pytest.raises(IntegrityError) as raised:
        observed.run_block(insert_again, on_session_event=hook)
    row = "one of a kind"
    assert row in "".join(traceback.format_exception(raised.value))
    assert "on_session_event failed" in caplog.text
    assert row not in caplog.text


async def insert_again(session: AsyncSession) -> None:
    await session.execute(text("CREATE UNIQUE INDEX unique_name ON items (name)"))
    for number in range(2):
        await session.execute(text(f"INSERT INTO items VALUES ({number}, 'one of ' || 'a kind')"))


def test_hook_that_is_interrupted_does_not_undo_a_commit(observed: Observed) -> None:
    def hook(event: SessionEvent) -> None:
        observed.events.append(event)
        if event.outcome == "committed":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        observed.run_block(insert, on_session_event=hook)
    assert observed.story == [("opened", None), ("committed", None)]


def test_figures_of_all_loops_are_seen_from_a_thread_without_one(observed: Observed) -> None:
    async def in_other_loop() -> None:
        async with get_background_session() as session:
            await session.execute(text("SELECT 1"))
            figures.append(await asyncio.to_thread(get_pool_figures))
        await dispose()

    async def work() -> None:
        figures.append(await asyncio.to_thread(get_pool_figures))
        async with get_background_session() as session:
            await session.execute(text("SELECT 1"))
            await asyncio.to_thread(lambda: asyncio.run(in_other_loop()))

    figures: list[PoolFigures] = []
    observed.run(work)
    assert figures == [
        PoolFigures(size=0, idle=0, in_use=0, overflow=0),
        PoolFigures(size=20, idle=0, in_use=2, overflow=0),
    ]


def test_figures_build_no_engine(observed: Observed) -> None:
    async def work() -> None:
        get_pool_figures()
        await asyncio.to_thread(get_pool_figures)
        configure(SessionSettings())  # which is refused once there is one

    observed.run(work)
