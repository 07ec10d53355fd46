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
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from dramatiq.brokers.redis import RedisBroker
from redis import Redis

from .background_tasks.fates import ENDLESS, is_busy, is_refused
from .servers import USER, PgBouncer, Postgres, free_port

APPS = Path(__file__).parent / "background_tasks"
ORDERS = range(int(os.environ.get("SESSION_GUARD_EXAMPLES", "60")))

TABLES = """\
DROP TABLE IF EXISTS orders, requests;
CREATE TABLE orders (id serial PRIMARY KEY, number integer NOT NULL, attempt integer NOT NULL);
CREATE TABLE requests (number integer PRIMARY KEY)
"""
# Said of connections that went from loop to loop or process, or were left to the collector.
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
    def worker(self, *command: str) -> Iterator[int]:
        """Run a worker in the applications' folder; at the end it is told to finish its jobs.

        Gives its process group.
        """
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
                yield process.pid
                process.send_signal(signal.SIGTERM)
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
        return {int(number): error for number, error in json.loads(run.stdout).items()}

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

    def closed_connections(self) -> Counter[str]:
        """How the workers' connections to the pooler were closed, once none of them is open."""
        logged = re.compile(
            rf"C-0x\w+: postgres/{USER}@\S+ (?:(login attempt)|closing because: (.+) \(age)"
        )
        for _ in range(100):
            lines = logged.findall(self.pgbouncer.messages())
            opened = sum(login != "" for login, _ in lines)
            seen = Counter(reason for _, reason in lines if reason)
            if seen.total() == opened:
                break
            time.sleep(0.05)  # the pooler takes a moment to notice
        assert seen.total() == opened > 0
        return seen


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


WITH_RETRIES = {n: [2 if is_busy(n) else 1] for n in ORDERS if not is_refused(n)}
REFUSED = {number: "OrderRefusedError" if is_refused(number) else None for number in ORDERS}


def check_nothing_is_left(queue: Queue) -> None:
    """After the workers ended: every connection was closed in order, and nobody complained."""
    assert queue.complaints() == []
    assert queue.idle_in_transaction() == 0
    assert set(queue.closed_connections()) == {"client close request"}


def celery(app: str) -> list[str]:
    # Without what several workers tell each other, which takes a second to start.
    alone = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return ["celery", "-A", app, "worker", "--pool=prefork", "--concurrency=3", *alone]


WORKERS = {
    "celery": celery("celery_app"),
    "celery_runner": celery("celery_runner_app"),
    "arq": ["arq", "arq_app.WorkerSettings"],
    "taskiq": ["taskiq", "worker", "taskiq_app:broker", "--workers=2", "--max-async-tasks=20"],
    "dramatiq": ["dramatiq", "dramatiq_app", "--processes=2", "--threads=8"],
}


@pytest.mark.parametrize("library", WORKERS)
def test_every_order_is_placed_once_and_nothing_is_left(queue: Queue, library: str) -> None:
    with queue.worker(*WORKERS[library]):
        assert queue.enqueue(library) == REFUSED
        assert queue.idle_in_transaction() == 0
    assert queue.stored() == WITH_RETRIES
    check_nothing_is_left(queue)


def test_celery_runs_jobs_of_many_sessions_and_ends_those_that_take_too_long(queue: Queue) -> None:
    orders = [number for number in ORDERS if not (is_refused(number) or is_busy(number))]
    with queue.worker(*WORKERS["celery"]):
        outcomes = queue.enqueue("celery_batches", orders)
        assert queue.idle_in_transaction() == 0
    assert outcomes == {**dict.fromkeys(orders), ENDLESS: "SoftTimeLimitExceeded"}
    assert queue.stored() == {number: [1] for number in orders}
    check_nothing_is_left(queue)


# --- what was killed in its transaction, when its order was written

HOLD = """\
CREATE OR REPLACE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WHILE NOT EXISTS (SELECT FROM requests) LOOP PERFORM pg_sleep(0.02); END LOOP;
    RETURN NEW;
END $$
"""
"""The statement that writes an order goes on until there is a request."""
HELD = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'INSERT INTO orders%'"


@contextmanager
def held_job(queue: Queue, library: str) -> Iterator[Future[Outcomes]]:
    """Give a library a job and wait until its order is written; let it go on at the end."""
    trigger = "CREATE TRIGGER hold AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION hold()"
    for statement in (HOLD, trigger):
        asyncio.run(queue.postgres.fetch(statement))
    pool = ThreadPoolExecutor()
    outcomes = pool.submit(queue.enqueue, library, [1])
    pool.shutdown(wait=False)
    while not asyncio.run(queue.postgres.fetch(HELD)):
        assert not outcomes.done(), outcomes.result()
        time.sleep(0.05)
    yield outcomes
    asyncio.run(queue.postgres.fetch("INSERT INTO requests VALUES (1)"))


def process_of_job(queue: Queue) -> int:
    command = ["celery", "-A", "celery_app", "inspect", "active", "--json"]
    active = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=APPS,
        env=queue.environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    [[job]] = json.loads(active).values()
    pid: int = job["worker_pid"]
    return pid


@pytest.mark.parametrize("is_put_back", [True, False])
def test_celery_runs_a_job_again_whose_process_was_killed_only_where_told_to(
    queue: Queue, is_put_back: bool
) -> None:
    setting = f"task.reject_on_worker_lost={int(is_put_back)}"
    with queue.worker(*WORKERS["celery"], "--", setting):
        with held_job(queue, "celery") as outcomes:
            os.kill(process_of_job(queue), signal.SIGKILL)
        assert outcomes.result() == {1: None if is_put_back else "WorkerLostError"}
    assert queue.stored() == ({1: [1]} if is_put_back else {})
    assert queue.complaints() == []
    assert queue.idle_in_transaction() == 0


# Each library waits before it gives a dead worker's job to another, as long as the pages say. Its
# clock in the broker is put forward by just that, for a worker with the library's own settings.


def pass_an_hour_of_celery(broker: Redis) -> None:
    for tag in broker.zrange("unacked_index", 0, -1):
        broker.zincrby("unacked_index", -3600, tag)


def pass_the_time_of_a_job_of_arq(broker: Redis) -> None:
    [key] = broker.keys("arq:in-progress:*")
    assert 0 < broker.pttl(key) <= (300 + 10) * 1000
    broker.delete(key)


def pass_ten_minutes_of_taskiq(broker: Redis) -> None:
    [job] = broker.xpending_range("taskiq", "taskiq", "-", "+", 10)
    dead, number = job["consumer"], job["message_id"]
    broker.xclaim("taskiq", "taskiq", dead, 0, [number], idle=600_000)


def pass_a_minute_of_dramatiq(broker: Redis) -> None:
    for process in broker.zrange("dramatiq:__heartbeats__", 0, -1):
        broker.zincrby("dramatiq:__heartbeats__", -60_000, process)
    # What one command in a thousand does.
    every_time = RedisBroker(client=broker, middleware=[], maintenance_chance=1_000_000)
    every_time.do_qsize("default")


PASS_TIME = {
    "celery": pass_an_hour_of_celery,
    "arq": pass_the_time_of_a_job_of_arq,
    "taskiq": pass_ten_minutes_of_taskiq,
    "dramatiq": pass_a_minute_of_dramatiq,
}


@pytest.mark.parametrize("library", PASS_TIME)
def test_what_a_killed_worker_had_is_run_again(queue: Queue, library: str) -> None:
    with queue.worker(*WORKERS[library]) as group, held_job(queue, library) as outcomes:
        os.killpg(group, signal.SIGKILL)
    assert queue.stored() == {}
    with Redis.from_url(queue.environment["REDIS_URL"]) as broker:
        PASS_TIME[library](broker)
    with queue.worker(*WORKERS[library]):
        assert outcomes.result() == {1: None}
    assert queue.stored() == {
        1: [2 if library == "arq" else 1]
    }  # arq counts the one that was killed
    assert queue.complaints() == []
    assert queue.idle_in_transaction() == 0


def test_celery_with_an_engine_of_the_module_fails(queue: Queue) -> None:
    """The counter-proof: what is looked for in the log is seen where it happens."""
    with queue.worker(*celery("celery_naive_app")):
        outcomes = queue.enqueue("celery_naive")
    # The second job of a process gets a connection of the first one's event loop.
    assert set(outcomes.values()) & {"RuntimeError", "InterfaceError"}
    assert any("different loop" in line for line in queue.complaints())


@pytest.mark.parametrize("scheduler", ["apscheduler", "apscheduler_threads"])
def test_apscheduler_places_every_order_once_and_nothing_is_left(
    queue: Queue, scheduler: str
) -> None:
    assert queue.enqueue(scheduler) == REFUSED
    assert queue.stored() == WITH_RETRIES
    check_nothing_is_left(queue)


def test_apscheduler_rolls_back_what_it_cancels_at_the_end(queue: Queue) -> None:
    assert queue.enqueue("apscheduler", [ENDLESS, 1]) == {1: None, ENDLESS: "CancelledError"}
    assert queue.stored() == {1: [1]}
    assert queue.complaints() == []
    assert queue.idle_in_transaction() == 0
    # One that `asyncio.run` cancels while it rolls back is dropped.
    assert set(queue.closed_connections()) <= {"client close request", "client unexpected eof"}


def test_fastapi_finishes_the_tasks_of_every_request_that_it_accepted(queue: Queue) -> None:
    port = free_port()
    queue.environment["SERVER_URL"] = f"http://127.0.0.1:{port}"
    with queue.worker("uvicorn", "fastapi_app:app", f"--port={port}"):
        queue.enqueue("fastapi")
    # It retries nothing.
    assert queue.stored() == {n: [1] for n in WITH_RETRIES if not is_busy(n)}
    check_nothing_is_left(queue)
