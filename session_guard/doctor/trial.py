"""Which settings are right at the other end, found by trying them.

Every row says which query it answers, so that a row of another query is seen. Only constants are
read, in few connections and for a limited time.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from threading import BrokenBarrierError
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine

from session_guard.doctor import processes
from session_guard.doctor.server import MARK, PREFIX, ask, close, remove_statements
from session_guard.doctor.target import CONNECT_SECONDS, TargetError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from threading import Barrier

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from session_guard.doctor.target import Target

QUERIES = 3

SPARE_SECONDS = 60.0
"""How long a process may take to import an engine and to end, beside what it tries."""


@dataclass(frozen=True)
class Load:
    """How much is asked of the server with each of the settings."""

    clients: int = 6
    """Connections of each process at once."""
    processes: int = 1
    """Programs at once. Names of statements are only unique inside one."""
    generations: int = 1
    """How often that many programs follow those before them on the same server connections."""
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
    lost: int = 0
    """Those of them whose connection was lost, or could not be had: no setting is to blame."""
    errors: Counter[str] = field(default_factory=Counter)
    """Errors by the name of the driver's class."""
    is_cut_short: bool = False
    """Whether the time was over before all was asked."""
    served: dict[int, set[str]] = field(default_factory=dict)
    """The clients that were seen on each server process."""

    def add(self, other: Counts) -> None:
        """Count what came of another process too."""
        self.right += other.right
        self.wrong += other.wrong
        self.failed += other.failed
        self.lost += other.lost
        self.errors += other.errors
        self.is_cut_short |= other.is_cut_short
        for process, clients in other.served.items():
            self.served.setdefault(process, set()).update(clients)

    @property
    def is_right(self) -> bool:
        """Whether nothing went wrong."""
        return self.right > 0 and not self.wrong and not self.failed

    @property
    def is_wrong(self) -> bool:
        """Whether something went wrong for which the settings are to blame."""
        return self.wrong > 0 or self.failed > self.lost

    @property
    def is_shared(self) -> bool:
        """Whether clients met on a server connection, at once or one after the other."""
        return any(len(clients) > 1 for clients in self.served.values())

    @property
    def is_mixed(self) -> bool:
        """Whether they met, and there was another server connection to go to."""
        return self.is_shared and len(self.served) > 1


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
    trouble: str = ""
    """Why none could be opened for which no setting is to blame."""

    @property
    def is_right(self) -> bool:
        """Whether it was right in every mode."""
        is_tried = bool(self.modes) and not self.refusal and not self.trouble
        return is_tried and all(counts.is_right for counts in self.modes.values())


class _CountedNames(asyncpg.Connection):  # type: ignore[misc]
    """Names statements as asyncpg does, by a counter, but so that the probe's can be told apart.

    asyncpg's own names would meet those of the programs that run there.
    """

    _counter = 0
    _setting = "naive"

    def _get_unique_id(self, prefix: str) -> str:
        _CountedNames._counter += 1
        return f"{_prefix_of(self._setting)}{prefix}_{self._counter:x}"


class _CountedNamesWithoutCache(_CountedNames):
    _setting = "cache0"


def _prefix_of(setting: str) -> str:
    """Return what the names of a setting's statements begin with, which tells whose they are."""
    return f"{PREFIX}{setting}_"


def _unique(setting: str) -> dict[str, Any]:
    return {
        # PostgreSQL cuts names to 63 characters.
        "prepared_statement_name_func": lambda: f"{_prefix_of(setting)}{uuid4().hex}",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    }


SETTINGS: dict[str, dict[str, Any]] = {
    "naive": {"connection_class": _CountedNames},
    "cache0": {"connection_class": _CountedNamesWithoutCache, "statement_cache_size": 0},
    "unique+0+0": _unique("unique+0+0"),
    "standard-2025": {
        **_unique("standard-2025"),
        "server_settings": {"statement_cache_size": "0"},
    },
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
    if load.processes == 1 and load.generations == 1:
        outcome = await attempt_engine(_engine(target, name, load), name, load, progress)
    else:
        progress(f"trying {name} in {load.processes * load.generations} processes")
        make = partial(_remade_engine, target.recipe, name, load)
        outcome = await attempt_in_processes(make, name, load)
    removed = await take_away(target, load)
    # Where others held some of the connections, what an earlier setting left may come up now.
    if removed is not None:
        outcome.left = sum(one.startswith(_prefix_of(name)) for one in removed)
    return outcome


def _engine(target: Target, name: str, load: Load) -> AsyncEngine:
    return create_async_engine(
        "postgresql+asyncpg://",
        connect_args={**target.arguments, "timeout": CONNECT_SECONDS, **SETTINGS[name]},
        pool_size=load.clients,
        max_overflow=0,
        hide_parameters=True,
    )


def _remade_engine(recipe: Callable[[], Target], name: str, load: Load) -> AsyncEngine:
    return _engine(recipe(), name, load)


async def attempt_in_processes(make: Callable[[], AsyncEngine], name: str, load: Load) -> Outcome:
    """Try the engine that `make` gives in each of several processes at the same time.

    Where a load has generations, others follow them. Raises TargetError where one does not end.
    """
    generations = [await _attempt_together(make, name, load) for _ in range(load.generations)]
    return _joined(generations)


async def _attempt_together(make: Callable[[], AsyncEngine], name: str, load: Load) -> Outcome:
    loop = asyncio.get_running_loop()
    start = processes.SPAWN.Barrier(load.processes)
    with processes.running(load.processes, _starts_with, start) as pool:
        runs = [
            loop.run_in_executor(pool, _attempt_alone, make, name, load)
            for _ in range(load.processes)
        ]
        limit = SPARE_SECONDS + (2 + len(MODES)) * load.seconds  # a barrier, a connection, modes
        try:
            async with asyncio.timeout(limit):
                return _joined(await asyncio.gather(*runs))
        except TimeoutError:
            raise TargetError(
                f"{name}: a process that imported and tried it did not end within "
                f"{limit:.0f} s and was killed; see what its module waits for"
            ) from None


_start: Barrier
"""Where each process waits until all of them are ready."""


def _starts_with(start: Barrier) -> None:
    global _start
    _start = start


def _attempt_alone(make: Callable[[], AsyncEngine], name: str, load: Load) -> Outcome:
    """Try an engine in a process of its own."""
    try:
        engine = make()
    except BaseException:
        _start.abort()
        raise
    with suppress(BrokenBarrierError):  # another one raises, and is heard
        _start.wait(load.seconds)
    return asyncio.run(attempt_engine(engine, name, load, lambda _: None))


def _joined(outcomes: Iterable[Outcome]) -> Outcome:
    first, *others = outcomes
    for other in others:
        first.refusal = first.refusal or other.refusal
        first.trouble = first.trouble or other.trouble
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
            async with asyncio.timeout(load.seconds), engine.connect() as connection:
                is_autocommit = await is_in_autocommit(connection)
        except Exception as error:
            if is_trouble(error):
                outcome.trouble = driver_error(error)
            else:
                outcome.refusal = driver_error(error)
            return outcome
        for mode, work in (modes or (IN_AUTOCOMMIT if is_autocommit else MODES)).items():
            progress(f"trying {name}: {mode}")
            outcome.modes[mode] = await _run(engine, work, load, notes_servers=modes is None)
    finally:
        with suppress(Exception):
            async with asyncio.timeout(CONNECT_SECONDS):
                await engine.dispose()
    return outcome


async def is_in_autocommit(connection: AsyncConnection) -> bool:
    """Return whether a connection opens no transactions; PostgreSQL itself cannot tell that."""
    raw: Any = (await connection.get_raw_connection()).dbapi_connection
    return bool(raw.autocommit)


async def take_away(target: Target, load: Load) -> list[str] | None:
    """Remove the probe's statements from all server connections in reach; return their names.

    None where that could not be done.
    """
    connections = []
    try:
        for _ in range(load.clients * load.processes):
            connections.append(await target.connect())  # noqa: PERF401 - all are to be closed
        return await remove_statements(*connections)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None
    finally:
        for connection in connections:
            await close(connection)


def driver_error(error: BaseException) -> str:
    """Return the class name of the driver's error under one of SQLAlchemy's."""
    return type(of_driver(error)).__name__


def of_driver(error: BaseException) -> BaseException:
    """Return the driver's error under one of SQLAlchemy's."""
    driver = getattr(error, "orig", None)
    return (driver and driver.__cause__) or driver or error


def is_trouble(error: BaseException) -> bool:
    """Return whether an error comes of the network or of a server without room, not of settings."""
    cause = of_driver(error)
    text = str(cause)
    match cause:
        case asyncpg.ProtocolViolationError():
            # PgBouncer says everything with this one.
            return not re.search(r"statement|parameter|portal|bind|protocol", text)
        case asyncpg.InterfaceError():
            return "closed" in text
        case OSError() | TimeoutError() | PoolTimeoutError():
            return True
        case asyncpg.PostgresConnectionError() | asyncpg.InsufficientResourcesError():
            return True
        case asyncpg.OperatorInterventionError():
            return True
    return "max client" in text.lower()


async def _run(engine: AsyncEngine, work: Mode, load: Load, *, notes_servers: bool) -> Counts:
    counts = Counts()

    async def client(number: int) -> None:
        for turn in range(load.turns):
            try:
                if notes_servers:
                    await _note_server(engine, counts)
                await work(engine, number, turn, counts)
            except TargetError:
                raise
            except Exception as error:  # settings that are no good fail in many ways
                counts.failed += 1
                counts.lost += is_trouble(error)
                counts.errors[driver_error(error)] += 1

    try:
        async with asyncio.timeout(load.seconds):
            await asyncio.gather(*map(client, range(load.clients)))
    except TimeoutError:
        counts.is_cut_short = True
    return counts


_RUN = uuid4().hex


def query(label: str) -> Any:
    """Return a query of one row, `value` and `label`, that takes `value` as its parameter."""
    # The label stands in the text: each query asks for another thing in the same shape.
    return text(f"SELECT CAST(:value AS integer) AS value, '{_own(label)}' AS label")


def _own(label: str) -> str:
    """Tell apart what two processes and two runs ask for, and others from the probe's."""
    return f"{label} of {MARK}, process {os.getpid()} of {_RUN}"


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
    # On an engine whose own options have a level, SQLAlchemy does not heed another engine's.
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        if not await is_in_autocommit(connection):
            raise TargetError(
                "AUTOCOMMIT cannot be tried: something keeps the engine's connections at another "
                "isolation level; see its listeners"
            )
        await _queries(connection, number, turn, counts)


async def _as_it_is(engine: AsyncEngine, number: int, turn: int, counts: Counts) -> None:
    async with engine.connect() as connection:
        await _queries(connection, number, turn, counts)


async def _note_server(engine: AsyncEngine, counts: Counts) -> None:
    """Note which server process serves a client."""
    async with engine.connect() as connection:
        client: Any = (await connection.get_raw_connection()).driver_connection
        [[process, _]] = await ask(client, _BUSY_SERVER)
    name = f"{os.getpid()} {id(client)} {client.get_server_pid()}"
    counts.served.setdefault(int(process), set()).add(name)


# Meanwhile others have to go to another server connection, if there is one.
_BUSY_SERVER = "SELECT pg_backend_pid(), pg_sleep(0.003)"


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

IN_AUTOCOMMIT: dict[str, Mode] = {"AUTOCOMMIT": _as_it_is}
"""The same for one that is in AUTOCOMMIT itself, where PostgreSQL refuses server-side cursors."""
