"""Puts the worker's load on poolers, and says what came of it."""

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from ..servers import PgBouncer, Postgres, running_pgbouncer

RIGHT, FAILS, WRONG, REFUSED = "right", "fails", "wrong rows", "cannot connect"
SETTINGS = ("naive", "cache0", "unique+0+0", "standard-2025", "anonymous+0", "anonymous+0+0")
MODES = ("execute", "executemany", "stream twice", "query in a stream", "AUTOCOMMIT")
ATTEMPTS = 3
"""How often settings that fail are tried for wrong rows, which come by chance."""


@dataclass(frozen=True)
class Load:
    """How many programs there are, connections of each, and transactions of each connection."""

    processes: int
    clients: int
    turns: int


@dataclass
class Found:
    """What came of one load."""

    right: int = 0
    """Rows that answer the query that was asked."""
    wrong: int = 0
    """Rows that answer another query, or are missing."""
    failed: int = 0
    """Transactions that ended with an error."""
    errors: Counter[str] = field(default_factory=Counter)
    refusal: str = ""
    """Why no program could connect."""

    @property
    def verdict(self) -> str:
        if self.refusal:
            return REFUSED
        if self.wrong:
            return WRONG
        return RIGHT if self.right and not self.failed else FAILS


@dataclass(frozen=True)
class Pooler:
    """What stands between the programs and PostgreSQL."""

    name: str
    dsn: str = field(repr=False)
    load: Load
    """What it takes to see that settings are wrong there."""
    renew: Callable[[], None] = lambda: None
    """Replace its server connections, and the statements that were left on them."""
    ssl: str | bool = False


DIRECT, SESSION, TRANSACTION = "PostgreSQL", "PgBouncer, session", "PgBouncer, transaction"
_SHARED = Load(processes=3, clients=8, turns=10)
_OWN = Load(processes=1, clients=4, turns=10)


@contextmanager
def own_poolers(server: Postgres) -> Iterator[dict[str, Pooler]]:
    """Start the poolers of the matrix, with the table that its programs write to."""
    with (
        running_pgbouncer(server) as transaction,
        running_pgbouncer(server, pool_mode="session", default_pool_size="20") as session,
    ):
        make_table(server.dsn)
        poolers = (
            Pooler(DIRECT, server.dsn, _OWN),
            Pooler(SESSION, session.dsn, _OWN),
            pooler_of(transaction),
        )
        yield {pooler.name: pooler for pooler in poolers}


def pooler_of(transaction: PgBouncer) -> Pooler:
    return Pooler(TRANSACTION, transaction.dsn, _SHARED, transaction.restart)


def given_poolers(written: str) -> list[Pooler]:
    """Read poolers that run already: `name=DSN`, separated by blanks."""
    poolers = []
    for entry in written.split():
        name, _, dsn = entry.partition("=")
        make_table(dsn)
        poolers.append(Pooler(name, dsn, _SHARED, ssl="prefer"))
    return poolers


def make_table(dsn: str) -> None:
    async def make() -> None:
        connection = await asyncpg.connect(dsn, statement_cache_size=0)
        try:
            await connection.execute(
                "DROP TABLE IF EXISTS session_guard_matrix; "
                "CREATE TABLE session_guard_matrix (key text, value integer, label text)"
            )
        finally:
            await connection.close()

    asyncio.run(make())


class Programs:
    """Processes of one environment that work at the same time."""

    def __init__(self, python: Path) -> None:
        self._command = [str(python), "-P", str(Path(__file__).with_name("worker.py"))]
        self._stack = ExitStack()
        self._running: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "Programs":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        self._running.append(process)

    def run(self, pooler: Pooler, settings: str, mode: str, load: Load | None = None) -> Found:
        """Put a load on a pooler whose server connections are new."""
        load = load or pooler.load
        while len(self._running) < load.processes:
            self._start()
        pooler.renew()
        request = {
            "dsn": pooler.dsn,
            "ssl": pooler.ssl,
            "settings": settings,
            "mode": mode,
            "clients": load.clients,
            "turns": load.turns,
        }
        working = self._running[: load.processes]
        for process in working:
            assert process.stdin is not None
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        return _added([_answer(process) for process in working])

    def settle(self, pooler: Pooler, settings: str, mode: str) -> Found:
        """Run the load again while it fails without wrong rows, and return the worst."""
        for _ in range(ATTEMPTS):
            found = self.run(pooler, settings, mode)
            if found.verdict != FAILS:
                return found
        return found


def _answer(process: subprocess.Popen[str]) -> Found:
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    assert not said.pop("is_cut_short"), "the time was over before all was asked"
    return Found(**said | {"errors": Counter(said["errors"])})


def _added(parts: list[Found]) -> Found:
    refusals = [part.refusal for part in parts if part.refusal]
    errors = sum((part.errors for part in parts), Counter[str]())
    # A program that alone cannot connect is one more that failed: another's statement was there.
    is_refused = len(refusals) == len(parts)
    return Found(
        right=sum(part.right for part in parts),
        wrong=sum(part.wrong for part in parts),
        failed=sum(part.failed for part in parts) + (0 if is_refused else len(refusals)),
        errors=errors if is_refused else errors + Counter(refusals),
        refusal=refusals[0] if is_refused else "",
    )
