"""Which settings are right at the other end, found by trying them.

Every row says which query it answers, so that a row of another query is seen. Only constants are
read, in few connections and for a limited time.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from session_guard.doctor.server import PREFIX, remove_statements
from session_guard.doctor.target import CONNECT_SECONDS, Recipe, Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

QUERIES = 3


@dataclass(frozen=True)
class Load:
    """How much is asked of the server with each of the settings."""

    clients: int = 6
    """Connections of each process at once."""
    processes: int = 1
    """Programs at once. Names of statements are only unique inside one."""
    turns: int = 12
    """Transactions of each client, in each mode."""
    seconds: float = 20.0
    """How long one mode may take; what is not done by then is not counted."""


DEEP = Load(clients=8, processes=4, turns=20, seconds=60.0)


@dataclass
class Counts:
    """What came of one mode."""

    right: int = 0
    """Rows that answer the query that was asked."""
    wrong: int = 0
    """Rows that answer another query."""
    failed: int = 0
    """Transactions that ended with an error."""
    errors: Counter[str] = field(default_factory=Counter)
    """Errors by the name of the driver's class."""
    is_cut_short: bool = False
    """Whether the time was over before all was asked."""

    def add(self, other: Counts) -> None:
        """Count what came of another process too."""
        self.right += other.right
        self.wrong += other.wrong
        self.failed += other.failed
        self.errors += other.errors
        self.is_cut_short |= other.is_cut_short

    @property
    def is_right(self) -> bool:
        """Whether nothing went wrong."""
        return self.right > 0 and not self.wrong and not self.failed


if TYPE_CHECKING:
    Mode = Callable[[AsyncEngine, int, int, Counts], Awaitable[None]]
    """What a client does in one turn, from its number, the turn's and what it counts in."""


@dataclass
class Outcome:
    """What came of one way to set an engine up."""

    name: str
    modes: dict[str, Counts]
    left: int | None = None
    """Prepared statements left on server connections; None where that is not known."""
    refusal: str = ""
    """Why no connection could be opened with these settings."""

    @property
    def is_right(self) -> bool:
        """Whether it was right in every mode."""
        return not self.refusal and all(counts.is_right for counts in self.modes.values())


class _CountedNames(asyncpg.Connection):  # type: ignore[misc]
    """Names statements as asyncpg does, by a counter, but so that the probe's can be told apart.

    asyncpg's own names would meet those of the programs that run there.
    """

    _counter = 0

    def _get_unique_id(self, prefix: str) -> str:
        _CountedNames._counter += 1
        return f"{PREFIX}{prefix}_{self._counter:x}"


_COUNTED = {"connection_class": _CountedNames}
_UNIQUE = {
    "prepared_statement_name_func": lambda: f"{PREFIX}{uuid4()}",
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "naive": _COUNTED,
    "cache0": {**_COUNTED, "statement_cache_size": 0},
    "unique+0+0": _UNIQUE,
    "standard-2025": {**_UNIQUE, "server_settings": {"statement_cache_size": "0"}},
    "anonymous+0+0": {
        "prepared_statement_name_func": lambda: "",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    },
}
"""Ways to set an engine up, as `connect_args`; docs/poolers.md says what each is."""


async def attempt(
    target: Target, name: str, load: Load, progress: Callable[[str], None]
) -> Outcome:
    """Try one of `SETTINGS`, and take away what it leaves on the server."""
    if load.processes == 1:
        outcome = await attempt_engine(_engine(target, name, load), name, load, progress)
    else:
        progress(f"trying {name} in {load.processes} processes")
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(load.processes, multiprocessing.get_context("spawn")) as pool:
            parts = [(target.recipe, name, load)] * load.processes
            runs = [loop.run_in_executor(pool, _attempt_alone, *part) for part in parts]
            outcome = _joined(await asyncio.gather(*runs))
    if not outcome.refusal:
        outcome.left = await _take_away(target, load.clients)
    return outcome


def _engine(target: Target, name: str, load: Load) -> AsyncEngine:
    return create_async_engine(
        target.url,
        connect_args={"ssl": target.tls, "timeout": CONNECT_SECONDS, **SETTINGS[name]},
        pool_size=load.clients,
        max_overflow=0,
        hide_parameters=True,
    )


def _attempt_alone(recipe: Recipe, name: str, load: Load) -> Outcome:
    """Try settings in a process of its own."""
    target = Target.parse(*recipe)
    return asyncio.run(attempt_engine(_engine(target, name, load), name, load, lambda _: None))


def _joined(outcomes: Iterable[Outcome]) -> Outcome:
    first, *others = outcomes
    for other in others:
        first.refusal = first.refusal or other.refusal
        for mode, counts in other.modes.items():
            first.modes.setdefault(mode, Counts()).add(counts)
    return first


async def attempt_engine(
    engine: AsyncEngine,
    name: str,
    load: Load,
    progress: Callable[[str], None],
    modes: Mapping[str, Mode] | None = None,
) -> Outcome:
    """Try an engine in every mode, or in those given, and dispose of it."""
    outcome = Outcome(name, {})
    try:
        try:
            async with engine.connect():
                pass
        except Exception as error:
            outcome.refusal = driver_error(error)
            return outcome
        for mode, work in (modes or MODES).items():
            progress(f"trying {name}: {mode}")
            outcome.modes[mode] = await _run(engine, work, load)
    finally:
        with suppress(Exception):
            await engine.dispose()
    return outcome


async def _take_away(target: Target, clients: int) -> int | None:
    """Remove the probe's statements from all server connections in reach; return how many."""
    connections = []
    try:
        for _ in range(clients):
            connections.append(await target.connect())  # noqa: PERF401 - all are to be closed
        return await remove_statements(*connections)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None
    finally:
        for connection in connections:
            with suppress(Exception):
                await connection.close(timeout=5)


def driver_error(error: BaseException) -> str:
    """Return the class name of the driver's error under one of SQLAlchemy's."""
    driver = getattr(error, "orig", None)
    return type((driver and driver.__cause__) or driver or error).__name__


async def _run(engine: AsyncEngine, work: Mode, load: Load) -> Counts:
    counts = Counts()

    async def client(number: int) -> None:
        for turn in range(load.turns):
            try:
                await work(engine, number, turn, counts)
            except Exception as error:  # settings that are no good fail in many ways
                counts.failed += 1
                counts.errors[driver_error(error)] += 1

    try:
        async with asyncio.timeout(load.seconds):
            await asyncio.gather(*map(client, range(load.clients)))
    except TimeoutError:
        counts.is_cut_short = True
    return counts


def query(label: str) -> Any:
    """Return a query of one row, `value` and `label`, that takes `value` as its parameter."""
    # The label stands in the text: each query asks for another thing in the same shape.
    return text(f"SELECT CAST(:value AS integer) AS value, '{_own(label)}' AS label")


def _own(label: str) -> str:
    """Tell apart what two processes ask for."""
    return f"{label} of process {os.getpid()}"


def count(row: Any, label: str, value: int, counts: Counts) -> None:
    """Count a row by whether it is the answer to the query of this label and value."""
    if (row.value, row.label) == (value, _own(label)):
        counts.right += 1
    else:
        counts.wrong += 1


async def _transactions(engine: AsyncEngine, number: int, turn: int, counts: Counts) -> None:
    async with engine.begin() as connection:
        await _queries(connection, number, turn, counts)


async def _autocommit(engine: AsyncEngine, number: int, turn: int, counts: Counts) -> None:
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await _queries(connection, number, turn, counts)


async def _queries(connection: AsyncConnection, number: int, turn: int, counts: Counts) -> None:
    value = 1000 * number + turn
    for number_of_query in range(QUERIES):
        label = f"query {number_of_query} of turn {turn % 4}"
        result = await connection.execute(query(label), {"value": value})
        count(result.one(), label, value, counts)
        await asyncio.sleep(random.random() * 0.003)  # noqa: S311 - others take their turn


async def _cursors(engine: AsyncEngine, number: int, turn: int, counts: Counts) -> None:
    value = 1000 * number + turn
    async with engine.begin() as connection:
        for label in ("first cursor", "a query between", "first cursor"):
            if label == "a query between":
                result = await connection.execute(query(label), {"value": value})
                rows = result.all()
            else:
                stream = await connection.stream(query(label), {"value": value})
                rows = [row async for row in stream]
            for row in rows:
                count(row, label, value, counts)


MODES: dict[str, Mode] = {
    "transactions": _transactions,
    "AUTOCOMMIT": _autocommit,
    "cursors": _cursors,
}
"""What an engine is tried with: the name of each mode, and one turn of a client."""
