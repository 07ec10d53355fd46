"""Load on a pooler, in which every row says which query it answers.

As a program it is one of several processes: it prints `ready`, waits for a line on standard input,
works, and prints what came out as JSON. The database is that of `DATABASE_URL`.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from session_guard.async_session import SessionSettings, configure, dispose, get_background_session
from session_guard.doctor.trial import driver_error

QUERIES = 3

OpenSession = Callable[[], AbstractAsyncContextManager[AsyncSession]]


@dataclass
class Outcome:
    transactions: int = 0
    """Transactions that ended well."""
    right: int = 0
    """Rows that answer the query that was asked."""
    wrong: int = 0
    """Rows that answer another query."""
    errors: Counter[str] = field(default_factory=Counter)
    """Errors by the name of asyncpg's class."""


async def run_load(
    open_session: OpenSession, worker: str, tasks: int, transactions: int
) -> Outcome:
    outcome = Outcome()

    async def task(number: int) -> None:
        for turn in range(transactions):
            try:
                async with open_session() as session:
                    for query in range(QUERIES):
                        await ask(session, f"{worker} query {query}", number * 1000 + turn)
            except Exception as error:  # a naive session fails in many ways, on connecting too
                outcome.errors[driver_error(error)] += 1
            else:
                outcome.transactions += 1

    async def ask(session: AsyncSession, label: str, value: int) -> None:
        # The label stands in the text: each process asks for other things in the same shape.
        statement = text(f"SELECT CAST(:value AS integer) AS value, '{label}' AS label")
        row = (await session.execute(statement, {"value": value})).one()
        if (row.value, row.label) == (value, label):
            outcome.right += 1
        else:
            outcome.wrong += 1

    await asyncio.gather(*map(task, range(tasks)))
    return outcome


def plain_engine(dsn: str, **connect_args: Any) -> AsyncEngine:
    """An engine as people write it who do not think of a pooler."""
    url = make_url(dsn).set(drivername="postgresql+asyncpg")
    return create_async_engine(
        url, connect_args={"ssl": False, **connect_args}, pool_size=10, max_overflow=20
    )


async def run_naive(dsn: str, worker: str, tasks: int, transactions: int) -> Outcome:
    engine = plain_engine(dsn)
    try:
        return await run_load(lambda: AsyncSession(engine), worker, tasks, transactions)
    finally:
        await engine.dispose()


async def run_handler(dsn: str, worker: str, tasks: int, transactions: int) -> Outcome:
    configure(SessionSettings(url=dsn, tls="off"))
    try:
        return await run_load(get_background_session, worker, tasks, transactions)
    finally:
        await dispose()


def main(sessions: str, worker: str, tasks: str, transactions: str) -> None:
    run: Callable[[str, str, int, int], Awaitable[Outcome]]
    run = {"naive": run_naive, "handler": run_handler}[sessions]
    print("ready", flush=True)
    sys.stdin.readline()

    async def work() -> Outcome:
        return await run(os.environ["DATABASE_URL"], worker, int(tasks), int(transactions))

    print(json.dumps(vars(asyncio.run(work()))))


if __name__ == "__main__":
    main(*sys.argv[1:])
