"""Faults under load: what was acknowledged is stored, what failed left nothing, the next one works.

Every transaction writes two rows with a pause between, so that half of one would be seen.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from itertools import count
from typing import Any

import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from session_guard.async_session import (
    SessionEvent,
    SessionSettings,
    configure,
    dispose,
    get_background_session,
    get_pool_figures,
)

from .proxy import Proxy, running_proxy
from .servers import PgBouncer, Postgres, running_pgbouncer, running_postgres

TASKS = 12
MOMENTS = int(os.environ.get("SESSION_GUARD_EXAMPLES", "1300"))

Fault = Callable[[], Awaitable[None]]

HOLDER = 0  # the number of a session that only stands in the way

_transaction: ContextVar[int] = ContextVar("_transaction")


class Ledger:
    """What became of each transaction, by its number, as the handler's hook was told."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self.ends: dict[int, SessionEvent] = {}
        self._numbers = count(1)
        asyncio.run(server.fetch("DROP TABLE IF EXISTS items"))
        asyncio.run(server.fetch("CREATE TABLE items (id integer PRIMARY KEY, name text)"))

    def note(self, event: SessionEvent) -> None:
        self.ends[_transaction.get()] = event

    async def transact(self) -> None:
        number = next(self._numbers)
        _transaction.set(number)
        async with get_background_session() as session:
            await session.execute(text(f"INSERT INTO items VALUES ({2 * number}, 'first')"))
            await asyncio.sleep(random.random() * 0.004)
            await session.execute(text(f"INSERT INTO items VALUES ({2 * number + 1}, 'second')"))

    @property
    def causes(self) -> Counter[str | None]:
        return Counter(event.cause for event in self.ends.values())

    def check(self) -> None:
        """Hold what is stored against what became of each transaction."""
        rows = asyncio.run(self.server.fetch("SELECT id / 2 AS number FROM items"))
        stored = Counter(row["number"] for row in rows)
        assert not {event.outcome for event in self.ends.values()} & {"opened"}
        for number, event in self.ends.items():
            if number == HOLDER:
                continue
            match event.outcome, event.cause:
                case "committed", _:
                    assert stored[number] == 2, event
                case "commit failed", "connection" | "cancelled":
                    assert stored[number] in (0, 2), event
                case _:
                    assert stored[number] == 0, event

    async def idle_in_transaction(self) -> int:
        """Count server connections that hold a transaction open, once they had time to end it."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        for _ in range(100):
            [row] = await self.server.fetch(query)
            if not row["count"]:
                break
            await asyncio.sleep(0.05)
        left: int = row["count"]
        return left


def run(ledger: Ledger, dsn: str, work: Callable[[], Awaitable[None]], **settings: Any) -> None:
    """Run `work` in one event loop with the handler; at its end the pool must be whole."""

    async def in_loop() -> None:
        await work()
        figures = get_pool_figures()
        assert figures.in_use == 0
        await ledger.transact()  # the next one works
        assert await ledger.idle_in_transaction() == 0
        await dispose()

    settings = {"log_level": 10, "on_session_event": ledger.note, **settings}
    configure(SessionSettings(url=dsn, tls="off", **settings))
    try:
        asyncio.run(in_loop())
    finally:
        asyncio.run(dispose())
        configure(SessionSettings())
    ledger.check()


async def under_load(ledger: Ledger, fault: Fault, *, before: int = 40, after: int = 40) -> None:
    """Have tasks make transactions; when `before` are committed, the fault; then `after` more."""

    def committed() -> int:
        return sum(event.outcome == "committed" for event in ledger.ends.values())

    async def worker(goal: int) -> None:
        while committed() < goal:
            try:
                await ledger.transact()
            except Exception:
                await asyncio.sleep(0.02)

    async with asyncio.timeout(120):
        await asyncio.gather(*(worker(before) for _ in range(TASKS)))
        second_half = [asyncio.create_task(worker(before + after)) for _ in range(TASKS)]
        await asyncio.sleep(0.02)
        await fault()
        goal = committed() + after
        await asyncio.gather(*second_half, *(worker(goal) for _ in range(TASKS)))


@pytest.fixture
def ledger(postgres: Postgres) -> Ledger:
    return Ledger(postgres)


def test_server_connections_are_killed(ledger: Ledger, pgbouncer: PgBouncer) -> None:
    async def kill() -> None:
        for _ in range(5):
            await ledger.server.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            await asyncio.sleep(0.05)

    run(ledger, pgbouncer.dsn, lambda: under_load(ledger, kill))
    assert ledger.causes.keys() == {None, "connection"}


def test_pooler_is_killed_and_starts_again(ledger: Ledger, pgbouncer: PgBouncer) -> None:
    async def restart() -> None:
        await asyncio.to_thread(pgbouncer.restart)

    run(ledger, pgbouncer.dsn, lambda: under_load(ledger, restart))
    assert ledger.causes.keys() == {None, "connection"}


@pytest.mark.parametrize("pooled", [True, False])
def test_postgresql_restarts(pooled: bool) -> None:
    with running_postgres() as server, running_pgbouncer(server, server_login_retry="1") as pooler:
        ledger = Ledger(server)

        async def restart() -> None:
            await asyncio.to_thread(server.restart)

        run(ledger, pooler.dsn if pooled else server.dsn, lambda: under_load(ledger, restart))
        assert ledger.causes.keys() == {None, "connection"}


@pytest.fixture
def proxy(pgbouncer: PgBouncer) -> Iterator[Proxy]:
    """A proxy before PgBouncer."""
    with running_proxy(pgbouncer.port) as proxy:
        yield proxy


def through(proxy: Proxy, pooler: PgBouncer) -> str:
    return pooler.dsn.replace(f":{pooler.port}/", f":{proxy.port}/")


def test_network_is_slow_and_cuts_connections(
    ledger: Ledger, pgbouncer: PgBouncer, proxy: Proxy
) -> None:
    async def cut() -> None:
        proxy.delay = 0.002
        for _ in range(5):
            await asyncio.sleep(0.05)
            proxy.cut()

    run(ledger, through(proxy, pgbouncer), lambda: under_load(ledger, cut))
    assert ledger.causes.keys() == {None, "connection"}


async def start_again_when_it_ended(pooler: PgBouncer) -> None:
    """Do what a service manager does for a PgBouncer that ends itself.

    1.18 may, where a client goes away while its query is cancelled: pgbouncer/pgbouncer#801.
    """
    while True:
        await asyncio.sleep(0.1)
        if "bad client state" in pooler.messages():
            await asyncio.to_thread(pooler.restart)


def test_network_stands_still_and_callers_give_up(
    ledger: Ledger, pgbouncer: PgBouncer, proxy: Proxy
) -> None:
    async def work() -> None:
        async def give_up() -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await ledger.transact()

        await ledger.transact()
        proxy.hold()
        await asyncio.gather(*(give_up() for _ in range(TASKS)))
        proxy.let_pass()
        manager = asyncio.create_task(start_again_when_it_ended(pgbouncer))
        await under_load(ledger, lambda: asyncio.sleep(0))
        manager.cancel()

    run(ledger, through(proxy, pgbouncer), work, connection_timeout=3)
    assert ledger.causes["cancelled"] == TASKS


def test_pool_is_exhausted(ledger: Ledger, pgbouncer: PgBouncer) -> None:
    async def hold() -> None:
        _transaction.set(HOLDER)
        while True:
            with suppress(PoolTimeoutError):  # it waits for the one connection as all do
                async with get_background_session() as session:
                    await session.execute(text("SELECT 1"))
                    await asyncio.sleep(0.6)
                return

    run(
        ledger,
        pgbouncer.dsn,
        lambda: under_load(ledger, hold),
        pool_size=1,
        max_overflow=0,
        connection_timeout=0.3,
    )
    assert ledger.causes.keys() == {None, "connection"}
    assert {type(event.error).__name__ for event in ledger.ends.values() if event.error} == {
        "TimeoutError"
    }


def test_poolers_queue_is_full(
    ledger: Ledger, start_pgbouncer: Callable[..., PgBouncer], postgres: Postgres
) -> None:
    pooler = start_pgbouncer(query_wait_timeout="1", default_pool_size="1")

    async def hold() -> None:
        async with get_background_session() as session:
            _transaction.set(HOLDER)
            await session.execute(text("SELECT pg_sleep(2.5)"))

    run(ledger, pooler.dsn, lambda: under_load(ledger, hold))
    assert ledger.causes.keys() == {None, "connection"}


def test_pooler_takes_no_more_clients(
    ledger: Ledger, start_pgbouncer: Callable[..., PgBouncer]
) -> None:
    pooler = start_pgbouncer(max_client_conn="4")
    run(ledger, pooler.dsn, lambda: under_load(ledger, lambda: asyncio.sleep(0)))
    assert ledger.causes.keys() == {None, "connection"}


@pytest.mark.parametrize("pooled", [True, False])
def test_cancelled_at_random_moments_under_load(
    ledger: Ledger, pgbouncer: PgBouncer, pooled: bool
) -> None:
    async def cancel_once(moment: float) -> None:
        task = asyncio.create_task(ledger.transact())
        await asyncio.sleep(moment)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def cancel_to_its_end(moment: float) -> None:
        with anyio.move_on_after(moment):  # cancels during the rollback too, again and again
            await ledger.transact()

    async def worker(turns: int) -> None:
        for _ in range(turns):
            if random.random() < 0.8:
                cancel = random.choice([cancel_once, cancel_to_its_end])
                await cancel(random.random() * 0.06)
            else:  # sees what those before it left
                await ledger.transact()

    async def work() -> None:
        await ledger.transact()
        await asyncio.gather(*(worker(MOMENTS // TASKS) for _ in range(TASKS)))

    run(ledger, pgbouncer.dsn if pooled else ledger.server.dsn, work)
    ended = Counter(event.outcome for event in ledger.ends.values())
    assert ledger.causes.keys() == {None, "cancelled"}
    assert ended["committed"] > MOMENTS // 20
    assert ended["rolled back"] > MOMENTS // 20
