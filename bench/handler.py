"""What each way to set an engine up costs, and what the handler adds to a bare session.

    python -m bench.handler

starts a PostgreSQL and a PgBouncer of its own, takes a few minutes, and writes
docs/handler-performance.md. Runs that are compared take turns, each first as often as the other,
since other programs on the machine disturb them; processor time is disturbed least.
"""

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from bench.comparing import spread, table, turns
from session_guard.async_session import (
    SessionSettings,
    build_connect_args,
    configure,
    dispose,
    get_background_session,
)
from tests.runtime.matrix.worker import CONNECT_ARGS
from tests.runtime.servers import running_pgbouncer, running_postgres

PAGE = Path(__file__).parents[1] / "docs/handler-performance.md"
CONNECTIONS = 8
QUERIES = 4
STATEMENTS = [
    text(f"SELECT CAST(:value AS integer) AS value, {number} AS number")
    for number in range(QUERIES)
]
SETTINGS = ("naive", "cache0", "unique+0+0", "anonymous+0", "anonymous+0+0")
WRONG_POOLED = ("naive",)
NONE = "\N{EN DASH}"

Statements = Sequence[TextClause]
OpenSession = Callable[[], AbstractAsyncContextManager[AsyncSession]]


@dataclass(frozen=True)
class Run:
    """What a number of transactions took."""

    transactions: int
    seconds: float
    processor_seconds: float
    """Of this process alone, without the servers."""

    @property
    def rate(self) -> float:
        """Transactions a second."""
        return self.transactions / self.seconds


async def run(open_session: OpenSession, transactions: int, statements: Statements) -> Run:
    async def client() -> None:
        for number in range(transactions // CONNECTIONS):
            async with open_session() as session:
                for statement in statements:
                    row = (await session.execute(statement, {"value": number})).one()
                    assert row.value == number

    gc.collect()
    seconds, processor_seconds = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return Run(
        transactions // CONNECTIONS * CONNECTIONS,
        time.perf_counter() - seconds,
        time.process_time() - processor_seconds,
    )


async def in_turn(
    sessions: Mapping[str, OpenSession],
    rounds: int,
    transactions: int,
    statements: Statements = STATEMENTS,
) -> dict[str, list[Run]]:
    """Run each in every round, by turns."""
    runs: dict[str, list[Run]] = {name: [] for name in sessions}
    for number, name in turns(list(sessions), rounds):
        print(f"round {number} of {rounds}: {name}", file=sys.stderr, flush=True)
        done = await run(sessions[name], transactions, statements)
        if number:
            runs[name].append(done)
    return runs


def bare_engine(dsn: str, connect_args: dict[str, Any], **arguments: Any) -> AsyncEngine:
    return create_async_engine(
        make_url(dsn).set(drivername="postgresql+asyncpg"),
        connect_args={"ssl": False, **connect_args},
        pool_size=CONNECTIONS,
        **arguments,
    )


def bare_sessions(engine: AsyncEngine) -> OpenSession:
    factory = async_sessionmaker(engine, expire_on_commit=False, autoflush=False)

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncSession]:
        async with factory() as session:
            yield session
            await session.commit()

    return opened


async def compare_settings(dsn: str, names: list[str], rounds: int, size: int) -> dict[str, str]:
    engines = {name: bare_engine(dsn, CONNECT_ARGS[name]) for name in names}
    try:
        sessions = {name: bare_sessions(engine) for name, engine in engines.items()}
        runs = await in_turn(sessions, rounds, size)
    finally:
        for engine in engines.values():
            await engine.dispose()
    return {name: spread([one.rate for one in found], "{:,.0f}") for name, found in runs.items()}


async def compare_handler(dsn: str, rounds: int, size: int) -> list[str]:
    """Return what the handler adds to a bare session in processor time and time.

    The third figure is the processor time that it adds to a session in which nothing happens, and
    the fourth what the standard's isolation level adds to an engine without it.
    """
    settings = SessionSettings(url=dsn, tls="off", pool_size=CONNECTIONS)
    configure(settings)
    connect_args = build_connect_args(settings)
    options = {"isolation_level": "READ COMMITTED"}
    standard = bare_engine(dsn, connect_args, execution_options=options)
    plain = bare_engine(dsn, connect_args)
    try:
        sessions = {
            "handler": get_background_session,
            "standard": bare_sessions(standard),
            "plain": bare_sessions(plain),
        }
        runs = await in_turn(sessions, rounds, size)
        del sessions["plain"]
        empty = await in_turn(sessions, rounds, size, statements=())
    finally:
        await plain.dispose()
        await standard.dispose()
        await dispose()
        configure(SessionSettings())
    processor, clock = attrgetter("processor_seconds"), attrgetter("seconds")
    return [
        added(runs["handler"], runs["standard"], processor),
        added(runs["handler"], runs["standard"], clock),
        spread(
            [
                (processor(handler) - processor(bare)) * 1e6 / handler.transactions
                for handler, bare in zip(empty["handler"], empty["standard"], strict=True)
            ],
            "{:+.0f} µs",
        ),
        added(runs["standard"], runs["plain"], processor),
    ]


def added(more: list[Run], less: list[Run], took: Callable[[Run], float]) -> str:
    """Write what the first of each pair took beyond the second, in per cent."""
    pairs = zip(more, less, strict=True)
    return spread([100 * (took(one) / took(other) - 1) for one, other in pairs], "{:+.1f}%")


TEXT = """\
# What the handler costs

Written by `python -m bench.handler`; do not edit. SQLAlchemy {sqlalchemy}, asyncpg {asyncpg}, one
process with {connections} connections, {queries} queries a transaction, {rounds} rounds of {size}
transactions in which all that is compared takes turns. Each figure is the median, with the bounds
of the middle half. Ratios hold elsewhere, rates do not: servers and program shared one machine.

## Transactions a second

`naive` is faster than what is safe, and answers with rows of other queries behind a transaction
pooler: [compatibility.md](compatibility.md).

{settings}

## What the handler adds to a bare session

`async with get_background_session() as session:` against `async with factory() as session:` with an
`await session.commit()` at its end, on an engine with the same arguments. Processor time is that of
the program alone; so it is in the last two columns. In an empty session there is no query, and no
connection. The last column is what an argument of both engines that the standard asks for,
`execution_options={{"isolation_level": "READ COMMITTED"}}`, adds to an engine without it.

{handler}
"""


def measured(rounds: int, size: int) -> str:
    with running_postgres() as server, running_pgbouncer(server) as pgbouncer:
        pooled = [name for name in SETTINGS if name not in WRONG_POOLED]
        direct_rates = asyncio.run(compare_settings(server.dsn, list(SETTINGS), rounds, size))
        pooled_rates = asyncio.run(compare_settings(pgbouncer.dsn, pooled, rounds, size))
        # The difference is small: many short runs, which others disturb seldom.
        handler = [
            [name, *asyncio.run(compare_handler(dsn, 10 * rounds, size // 10))]
            for name, dsn in (("PostgreSQL", server.dsn), ("PgBouncer", pgbouncer.dsn))
        ]
    rates = [[f"`{name}`", direct_rates[name], pooled_rates.get(name, NONE)] for name in SETTINGS]
    return TEXT.format(
        sqlalchemy=version("sqlalchemy"),
        asyncpg=version("asyncpg"),
        connections=CONNECTIONS,
        queries=QUERIES,
        rounds=rounds,
        size=size,
        settings=table([["settings", "PostgreSQL", "PgBouncer, transaction"], *rates]),
        handler=table(
            [["through", "processor time", "time", "an empty session", "isolation level"], *handler]
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="of each comparison")
    parser.add_argument("--transactions", type=int, default=800, help="of each run")
    arguments = parser.parse_args()
    PAGE.write_text(measured(arguments.rounds, arguments.transactions))


if __name__ == "__main__":
    main()
