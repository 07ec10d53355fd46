"""What each way to set an engine up costs, and what the handler adds to a bare session.

    python -m bench.handler

starts a PostgreSQL and a PgBouncer of its own, takes a few minutes, and writes
docs/handler-performance.md. Other programs on the machine disturb what is measured. So what is
compared takes turns: the settings, whose rates differ much, run by run; the handler and a bare
session, which differ little, transaction by transaction.
"""

import argparse
import asyncio
import gc
import math
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
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
WARMING_UP = 100
"""Transactions of each that are not counted."""
STATEMENTS = [
    text(f"SELECT CAST(:value AS integer) AS value, {number} AS number")
    for number in range(QUERIES)
]
SETTINGS = ("naive", "cache0", "unique+0+0", "anonymous+0", "anonymous+0+0")
WRONG_POOLED = ("naive",)
NONE = "\N{EN DASH}"

Statements = Sequence[TextClause]
OpenSession = Callable[[], AbstractAsyncContextManager[AsyncSession]]


async def rate(open_session: OpenSession, transactions: int) -> float:
    """Run transactions on all connections at once; return how many a second there were."""

    async def client() -> None:
        for number in range(transactions // CONNECTIONS):
            await transaction(open_session, STATEMENTS, number)

    gc.collect()
    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return transactions // CONNECTIONS * CONNECTIONS / (time.perf_counter() - began)


async def transaction(open_session: OpenSession, statements: Statements, value: int) -> None:
    async with open_session() as session:
        for statement in statements:
            row = (await session.execute(statement, {"value": value})).one()
            assert row.value == value


async def rates_in_turn(
    sessions: Mapping[str, OpenSession], rounds: int, transactions: int
) -> dict[str, list[float]]:
    """Run each in every round, by turns."""
    rates: dict[str, list[float]] = {name: [] for name in sessions}
    for number, name in turns(list(sessions), rounds):
        say(f"round {number} of {rounds}: {name}")
        found = await rate(sessions[name], transactions)
        if number:
            rates[name].append(found)
    return rates


@dataclass(frozen=True)
class Took:
    """Nanoseconds that each of a number of transactions took, in the order they came."""

    processor: list[int] = field(default_factory=list)
    """Of this process alone, without the servers."""
    clock: list[int] = field(default_factory=list)


async def took_in_turn(
    sessions: Mapping[str, OpenSession], rounds: int, statements: Statements
) -> dict[str, Took]:
    """Run one transaction of each in every round, in an order drawn anew."""
    took = {name: Took() for name in sessions}
    say(f"{rounds} rounds of {len(statements)} queries: {', '.join(sessions)}")
    for number in range(WARMING_UP + rounds):
        for name in random.sample(list(sessions), len(sessions)):
            clock, processor = time.perf_counter_ns(), time.process_time_ns()
            await transaction(sessions[name], statements, number)
            processor, clock = time.process_time_ns() - processor, time.perf_counter_ns() - clock
            if number >= WARMING_UP:
                took[name].processor.append(processor)
                took[name].clock.append(clock)
    return took


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
        rates = await rates_in_turn(sessions, rounds, size)
    finally:
        for engine in engines.values():
            await engine.dispose()
    return {name: spread(found, "{:,.0f}") for name, found in rates.items()}


async def compare_handler(dsn: str, rounds: int) -> list[list[str]]:
    """Return rows that say what is added, to what, and how much of processor time and time."""
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
        full = await took_in_turn(sessions, rounds, STATEMENTS)
        del sessions["plain"]  # without a connection there is no isolation level
        empty = await took_in_turn(sessions, rounds, statements=())
    finally:
        await plain.dispose()
        await standard.dispose()
        await dispose()
        configure(SessionSettings())
    compared = (
        ("the handler", f"{QUERIES} queries", full["handler"], full["standard"]),
        ("the handler", "no query", empty["handler"], empty["standard"]),
        ("the isolation level", f"{QUERIES} queries", full["standard"], full["plain"]),
    )
    return [
        [added, to, difference(more.processor, less.processor), difference(more.clock, less.clock)]
        for added, to, more, less in compared
    ]


def difference(more: list[int], less: list[int]) -> str:
    """Write the median of what the first of each pair took beyond the second, and how sure it is.

    The bounds are the order statistics between which the median lies with 95% confidence, however
    the differences are distributed.
    """
    usual = statistics.median(less)
    differences = sorted(one - other for one, other in zip(more, less, strict=True))
    middle = statistics.median(differences)
    reach = math.ceil(1.96 * math.sqrt(len(differences)) / 2)
    low, high = (differences[len(differences) // 2 + offset] for offset in (-reach, reach))
    percent = [f"{100 * each / usual:+.1f}%" for each in (middle, low, high)]
    return (
        f"{middle / 1000:+.0f} µs of {usual / 1000:,.0f} µs: "
        f"{percent[0]} ({percent[1]} to {percent[2]})"
    )


def say(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


TEXT = """\
# What the handler costs

Written by `python -m bench.handler`; do not edit. SQLAlchemy {sqlalchemy}, asyncpg {asyncpg},
{queries} queries a transaction. Ratios hold elsewhere, times and rates do not: servers and program
shared one machine.

## Transactions a second

One process with {connections} connections, {rounds} rounds of {size} transactions in which all
settings take turns: the median, with the bounds of the middle half. `naive` is faster than what is
safe, and answers with rows of other queries behind a transaction pooler:
[compatibility.md](compatibility.md).

{settings}

## What the handler adds to a bare session

`async with get_background_session() as session:` against `async with factory() as session:` with
an `await session.commit()` at its end, on an engine with the same arguments; and what one argument
of both engines that the standard asks for adds to an engine without it,
`execution_options={{"isolation_level": "READ COMMITTED"}}`. A session without a query has no
connection.

One process with one connection for each, {pairs} rounds in which each runs one transaction, in an
order drawn anew. The two of a round are compared: the median difference, the median that it is
added to, and the ratio of the two with its bounds at 95% confidence. Processor time is that of the
program alone. What comes seldom, such as collecting garbage, shows in no median.

{handler}
"""


def measured(rounds: int, size: int, pairs: int) -> str:
    with running_postgres() as server, running_pgbouncer(server) as pgbouncer:
        pooled = [name for name in SETTINGS if name not in WRONG_POOLED]
        direct_rates = asyncio.run(compare_settings(server.dsn, list(SETTINGS), rounds, size))
        pooled_rates = asyncio.run(compare_settings(pgbouncer.dsn, pooled, rounds, size))
        handler = [
            [added, to, through, *figures]
            for through, dsn in (("PostgreSQL", server.dsn), ("PgBouncer", pgbouncer.dsn))
            for added, to, *figures in asyncio.run(compare_handler(dsn, pairs))
        ]
    rates = [[f"`{name}`", direct_rates[name], pooled_rates.get(name, NONE)] for name in SETTINGS]
    return TEXT.format(
        sqlalchemy=version("sqlalchemy"),
        asyncpg=version("asyncpg"),
        connections=CONNECTIONS,
        queries=QUERIES,
        rounds=rounds,
        size=size,
        pairs=f"{pairs:,}",
        settings=table([["settings", "PostgreSQL", "PgBouncer, transaction"], *rates]),
        handler=table([["added by", "to", "through", "processor time", "time"], *handler]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="of the settings")
    parser.add_argument("--transactions", type=int, default=800, help="of each round")
    parser.add_argument("--pairs", type=int, default=5000, help="of transactions compared")
    arguments = parser.parse_args()
    PAGE.write_text(measured(arguments.rounds, arguments.transactions, arguments.pairs))


if __name__ == "__main__":
    main()
