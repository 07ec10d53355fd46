"""What a transaction pooler does to naive sessions, and what it does not do to the handler's."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from session_guard.async_session import SessionSettings, build_connect_args

from .load import QUERIES, Outcome, plain_engine, run_handler, run_load
from .servers import PgBouncer, Postgres

DRIVER = tuple(map(int, version("asyncpg").split(".")[:2]))
ATTEMPTS = 5
ONE_PROCESS = {"tasks": 20, "transactions": 15}
SEVERAL_PROCESSES = {"processes": 4, "tasks": 8, "transactions": 40}


def run_processes(
    sessions: str, dsn: str, *, processes: int, tasks: int, transactions: int
) -> Outcome:
    """Run the load in so many processes at once and add up what came out."""
    command = [sys.executable, "-P", str(Path(__file__).with_name("load.py")), sessions]
    environment = {**os.environ, "DATABASE_URL": dsn}
    with ExitStack() as stack:
        workers = []
        for number in range(processes):
            process = subprocess.Popen(
                [*command, f"worker {number}", str(tasks), str(transactions)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            workers.append(process)
        for process in workers:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in workers:  # all of them start together
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        outcomes = [json.loads(process.communicate(timeout=120)[0]) for process in workers]
    return Outcome(
        transactions=sum(outcome["transactions"] for outcome in outcomes),
        right=sum(outcome["right"] for outcome in outcomes),
        wrong=sum(outcome["wrong"] for outcome in outcomes),
        errors=sum((Counter(outcome["errors"]) for outcome in outcomes), Counter()),
    )


def test_naive_sessions_lose_their_statements(start_pgbouncer: Callable[..., PgBouncer]) -> None:
    for _ in range(ATTEMPTS):
        # In a process of its own: it leaves broken connections behind.
        outcome = run_processes("naive", start_pgbouncer().dsn, processes=1, **ONE_PROCESS)
        if outcome.errors["InvalidSQLStatementNameError"]:
            return
    pytest.fail(f"the known error did not appear in {ATTEMPTS} attempts: {outcome}")


def test_naive_sessions_answer_with_rows_of_other_processes(
    start_pgbouncer: Callable[..., PgBouncer],
) -> None:
    for _ in range(ATTEMPTS):
        outcome = run_processes("naive", start_pgbouncer().dsn, **SEVERAL_PROCESSES)
        if outcome.wrong:
            return
    pytest.fail(f"no wrong row appeared in {ATTEMPTS} attempts: {outcome}")


def test_handler_is_right_in_one_process(pgbouncer: PgBouncer) -> None:
    outcome = asyncio.run(run_handler(pgbouncer.dsn, "handler", **ONE_PROCESS))
    assert outcome == Outcome(transactions=20 * 15, right=20 * 15 * QUERIES)
    assert asyncio.run(pgbouncer.named_statements()) == [0, 0, 0]


def test_handler_is_right_in_several_processes(pgbouncer: PgBouncer) -> None:
    outcome = run_processes("handler", pgbouncer.dsn, **SEVERAL_PROCESSES)
    expected = 4 * 8 * 40
    assert outcome == Outcome(transactions=expected, right=expected * QUERIES)
    assert asyncio.run(pgbouncer.named_statements()) == [0, 0, 0]


def test_statement_cache_is_right_and_leaves_nothing_on_the_server(pgbouncer: PgBouncer) -> None:
    if DRIVER <= (0, 31):
        pytest.skip("refused on asyncpg below 0.32; its wrong rows are shown below")
    connect_args = build_connect_args(SessionSettings(tls="off", prepared_statement_cache_size=100))

    async def load() -> Outcome:
        engine = plain_engine(pgbouncer.dsn, **connect_args)
        outcome = await run_load(lambda: AsyncSession(engine), "cached", **ONE_PROCESS)
        await engine.dispose()
        return outcome

    assert asyncio.run(load()) == Outcome(transactions=20 * 15, right=20 * 15 * QUERIES)
    assert asyncio.run(pgbouncer.named_statements()) == [0, 0, 0]


def test_unique_names_are_right_but_stay_on_the_server(pgbouncer: PgBouncer) -> None:
    """The counter-proof for the zeros above: what is left behind is seen."""
    unique = SessionSettings(tls="off", statement_names="unique")

    async def load() -> Outcome:
        engine = plain_engine(pgbouncer.dsn, **build_connect_args(unique))
        outcome = await run_load(lambda: AsyncSession(engine), "unique", **ONE_PROCESS)
        await engine.dispose()
        return outcome

    assert asyncio.run(load()) == Outcome(transactions=20 * 15, right=20 * 15 * QUERIES)
    assert all(asyncio.run(pgbouncer.named_statements()))


SQLALCHEMY_CACHE_ON = {
    "prepared_statement_name_func": lambda: "",
    "statement_cache_size": 0,
}
HANDLER = build_connect_args(SessionSettings(tls="off"))


def third_answer(driver: tuple[int, ...], settings: str) -> str:
    """What asyncpg answers when the first of two cursors is opened again."""
    wrong = {
        "caches of asyncpg off": driver == (0, 31),
        "SQLAlchemy's cache on": driver <= (0, 31),
        "handler": False,
    }
    return "hunter2" if wrong[settings] else "alice"


@pytest.mark.parametrize(
    ("settings", "connect_args"),
    [
        ("caches of asyncpg off", {"statement_cache_size": 0}),
        ("SQLAlchemy's cache on", SQLALCHEMY_CACHE_ON),
        ("handler", HANDLER),
    ],
)
def test_cursor_answers_for_another_query_even_without_a_pooler(
    postgres: Postgres, settings: str, connect_args: dict[str, Any]
) -> None:
    async def answers() -> list[str]:
        engine = plain_engine(postgres.dsn, **connect_args)
        name, password = text("SELECT 'alice' AS value"), text("SELECT 'hunter2' AS value")
        async with AsyncSession(engine) as session:
            first = [row.value async for row in await session.stream(name)]
            second = (await session.execute(password)).scalars().all()
            third = [row.value async for row in await session.stream(name)]
        await engine.dispose()
        return [*first, *second, *third]

    expected = third_answer(DRIVER, settings)
    assert asyncio.run(answers()) == ["alice", "hunter2", expected]
