"""The handler in the engines that run background tasks, each with its own workers and broker.

`SESSION_GUARD_EXAMPLES=2000` in the environment places that many orders with each.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .background_tasks.orders import is_busy, is_refused
from .servers import USER, PgBouncer, Postgres

APPS = Path(__file__).parent / "background_tasks"
ORDERS = range(int(os.environ.get("SESSION_GUARD_EXAMPLES", "60")))
ENDLESS = -1

TABLES = """\
DROP TABLE IF EXISTS orders, requests;
CREATE TABLE orders (id serial PRIMARY KEY, number integer NOT NULL, attempt integer NOT NULL);
CREATE TABLE requests (number integer PRIMARY KEY)
"""
# What is said of sessions and connections that went from loop to loop, or were left to the collector.
COMPLAINTS = re.compile(
    "different loop|loop is closed|does not exist|already exists|InterfaceError|garbage collector"
    "|never (retrieved|awaited)|was destroyed|ResourceWarning|unclosed|WrongRowsError|SAWarning"
)
Outcomes = dict[int, str | None]


@dataclass
class Queue:
    """A broker, a pooler and a database, for workers and those who give them jobs."""

    postgres: Postgres
    pgbouncer: PgBouncer
    environment: dict[str, str]
    log: Path

    @contextmanager
    def worker(self, *command: str, ended_by: signal.Signals = signal.SIGTERM) -> Iterator[None]:
        """Run a worker in the applications' folder; at the end it is told to finish its jobs."""
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-W", "default", "-m", *command],
                cwd=APPS,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                yield
                process.send_signal(ended_by)
                process.wait(timeout=60)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def enqueue(self, queue: str, numbers: list[int] | range = ORDERS) -> Outcomes:
        """Give the queue its jobs and wait for what becomes of each: None, or an error's name."""
        program = ["-W", "default", "enqueue.py", queue, *map(str, numbers)]
        run = subprocess.run(
            [sys.executable, *program],
            cwd=APPS,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert run.returncode == 0, f"{run.stderr}\n{self.log.read_text()[-5000:]}"
        with self.log.open("a") as output:
            output.write(run.stderr)
        outcomes = json.loads(run.stdout)
        assert self.idle_in_transaction() == 0
        return {int(number): error for number, error in outcomes.items()}

    def idle_in_transaction(self) -> int:
        query = "SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        return len(asyncio.run(self.postgres.fetch(query)))

    def stored(self) -> dict[int, list[int]]:
        """The attempts that are stored of each order."""
        found: dict[int, list[int]] = {}
        for row in asyncio.run(self.postgres.fetch("SELECT number, attempt FROM orders")):
            found.setdefault(row["number"], []).append(row["attempt"])
        return found

    def complaints(self) -> list[str]:
        lines = self.log.read_text().splitlines()
        return [line for line in lines if COMPLAINTS.search(line)]

    def client_connections(self) -> Counter[str]:
        """How many connections to the pooler were opened, and how each was closed."""
        client = re.compile(rf"C-0x\w+: postgres/{USER}@\S+ (login attempt|closing because: .+?(?= \(age))")
        return Counter(client.findall(self.pgbouncer.messages()))


@pytest.fixture
def queue(postgres: Postgres, pgbouncer: PgBouncer, redis_url: str, tmp_path: Path) -> Queue:
    for statement in TABLES.split(";"):
        asyncio.run(postgres.fetch(statement))
    environment = {
        **os.environ,
        "DATABASE_URL": pgbouncer.dsn,
        "REDIS_URL": redis_url,
        "PYTHONWARNINGS": "default",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return Queue(postgres, pgbouncer, environment, tmp_path / "log")


WITHOUT_RETRIES = {number: [1] for number in ORDERS if not is_refused(number)}
WITH_RETRIES = {number: [2 if is_busy(number) else 1] for number in WITHOUT_RETRIES}
REFUSED = {number: "OrderRefusedError" if is_refused(number) else None for number in ORDERS}


def check_nothing_is_left(queue: Queue) -> None:
    """After the workers ended: every connection was closed in order, and nobody complained."""
    assert queue.complaints() == []
    assert queue.idle_in_transaction() == 0
    connections = queue.client_connections()
    opened = connections.pop("login attempt")
    assert opened > 0
    assert connections == {"closing because: client close request": opened}


WORKERS = {
    "celery": ["celery", "-A", "celery_app", "worker", "--concurrency=3", "-l", "INFO"],
    "celery_runner": ["celery", "-A", "celery_runner_app", "worker", "--concurrency=3"],
    "arq": ["arq", "arq_app.WorkerSettings"],
    "taskiq": ["taskiq", "worker", "taskiq_app:broker", "--workers=2", "--max-async-tasks=20"],
    "dramatiq": ["dramatiq", "dramatiq_app", "--processes=2", "--threads=8"],
}


@pytest.mark.parametrize("library", WORKERS)
def test_every_order_is_placed_once_and_nothing_is_left(queue: Queue, library: str) -> None:
    with queue.worker(*WORKERS[library]):
        outcomes = queue.enqueue(library)
    assert outcomes == REFUSED
    assert queue.stored() == WITH_RETRIES
    check_nothing_is_left(queue)
