"""One program of several that use a database at once, on the versions of its environment.

It prints `ready`; then each line of standard input is a request, and each line that it prints the
outcome, as JSON.
"""

import asyncio
import json
import multiprocessing
import os
import sys
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from session_guard.doctor.trial import (
    MODES,
    SETTINGS,
    Counts,
    Load,
    Outcome,
    attempt_engine,
    count,
    query,
)

CONNECT_ARGS: dict[str, dict[str, Any]] = {
    **SETTINGS,
    # The names are asyncpg's own here: the database is nobody else's.
    "naive": {},
    "cache0": {"statement_cache_size": 0},
    "anonymous+0": {"prepared_statement_name_func": lambda: "", "statement_cache_size": 0},
}
CONNECT_ATTEMPTS = 3
ROWS = 120
"""Rows of a stream that is left open: more than the dialect fetches at once."""


async def executemany(engine: AsyncEngine, number: int, turn: int, counts: Counts) -> None:
    # Where another program's statement ran instead, that one's label was stored, or nothing.
    key, label, values = f"{os.getpid()} {number} {turn}", "stored", range(3)
    insert = text(f"INSERT INTO session_guard_matrix SELECT :key, row.* FROM ({query(label)}) row")
    select = text("SELECT value, label FROM session_guard_matrix WHERE key = :key ORDER BY value")
    delete = text("DELETE FROM session_guard_matrix WHERE key = :key")
    async with engine.begin() as connection:
        await connection.execute(delete, {"key": key})
        await connection.execute(insert, [{"key": key, "value": value} for value in values])
        rows = (await connection.execute(select, {"key": key})).all()
    for value, row in zip(values, rows, strict=False):
        count(row, label, value, counts)
    counts.wrong += abs(len(values) - len(rows))


async def open_stream(engine: AsyncEngine, number: int, turn: int, counts: Counts) -> None:
    value = 1000 * number + turn
    streamed = text(f"{query('a stream')} FROM generate_series(1, {ROWS})")
    async with engine.begin() as connection:
        rows = 0
        async for row in await connection.stream(streamed, {"value": value}):
            count(row, "a stream", value, counts)
            if rows % 40 == 0:
                label = f"a query at row {rows}"
                result = await connection.execute(query(label), {"value": value})
                count(result.one(), label, value, counts)
            rows += 1
    counts.wrong += abs(ROWS - rows)


WORK = {
    "execute": MODES["transactions"],
    "executemany": executemany,
    "stream twice": MODES["cursors"],
    "query in a stream": open_stream,
    "AUTOCOMMIT": MODES["AUTOCOMMIT"],
}


async def attempt(request: dict[str, Any]) -> Outcome:
    mode, clients = request["mode"], request["clients"]
    load = Load(clients=clients, turns=request["turns"], seconds=60)
    for _ in range(CONNECT_ATTEMPTS):  # settings that are no good can fail on connecting too
        engine = create_async_engine(
            make_url(request["dsn"]).set(drivername="postgresql+asyncpg"),
            connect_args={"ssl": request["ssl"], **CONNECT_ARGS[request["settings"]]},
            pool_size=clients,
            max_overflow=0,
        )
        outcome = await attempt_engine(
            engine, request["settings"], load, lambda _: None, {mode: WORK[mode]}
        )
        if not outcome.refusal:
            break
    return outcome


def answer(request: dict[str, Any]) -> None:
    outcome = asyncio.run(attempt(request))
    counts = outcome.modes.get(request["mode"], Counts())
    counted = ("right", "wrong", "failed", "errors", "is_cut_short")
    told = {name: getattr(counts, name) for name in counted}
    print(json.dumps({"refusal": outcome.refusal or outcome.trouble, **told}), flush=True)


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        # asyncpg counts its names from a process's start on, and those of programs that were
        # started together meet: each load has a process of its own.
        process = multiprocessing.get_context("fork").Process(
            target=answer, args=(json.loads(line),)
        )
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(process.exitcode)


if __name__ == "__main__":
    main()
