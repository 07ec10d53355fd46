"""The handler in many event loops and in forked processes: connections stay where they are from."""

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from session_guard import async_session
from session_guard.async_session import (
    SessionEvent,
    SessionSettings,
    configure,
    dispose,
    get_background_session,
    get_background_task_session_factory,
    get_pool_figures,
    get_session,
    get_session_dependency,
)

from .proxy import Proxy, running_proxy
from .servers import PgBouncer, Postgres


@pytest.fixture
def handler(postgres: Postgres) -> Iterator[Postgres]:
    """The handler, without a pooler, so that the server sees its connections."""
    configure(SessionSettings(url=postgres.dsn, tls="off"))
    yield postgres
    asyncio.run(dispose())
    configure(SessionSettings())


@pytest.fixture
def not_collected() -> Iterator[None]:
    """No garbage is collected but where it is asked for: nothing else closes a connection."""
    gc.disable()
    yield
    gc.enable()


async def server_process() -> int:
    async with get_background_session() as session:
        pid: int = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        return pid


async def at_once(number: int) -> set[int]:
    return set(await asyncio.gather(*(server_process() for _ in range(number))))


def connected(server: Postgres, pids: set[int]) -> set[int]:
    """Which of these server processes still serve a connection."""

    async def ask() -> set[int]:
        rows = await server.fetch("SELECT pid FROM pg_stat_activity WHERE pid = ANY($1)", [*pids])
        return {row["pid"] for row in rows}

    for _ in range(100):
        if not (left := asyncio.run(ask())):
            break
        asyncio.run(asyncio.sleep(0.05))  # a server process takes a moment to end
    return left


def test_each_run_leaves_no_connection_behind(handler: Postgres) -> None:
    for _ in range(3):
        pids = asyncio.run(at_once(5))
        assert len(pids) == 5
        assert connected(handler, pids) == set()


def test_run_that_ends_amid_a_query_leaves_no_connection_behind(
    handler: Postgres, not_collected: None
) -> None:
    pids: set[int] = set()
    tasks: list[asyncio.Task[None]] = []

    async def query(is_running: asyncio.Event) -> None:
        async with get_background_session() as session:
            pids.add((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())
            is_running.set()
            await session.execute(text("SELECT pg_sleep(30)"))

    async def begin() -> None:
        is_running = asyncio.Event()
        tasks.append(asyncio.create_task(query(is_running)))
        await is_running.wait()
        await asyncio.sleep(0.1)

    for _ in range(3):
        asyncio.run(begin())
    assert [task.cancelled() for task in tasks] == [True, True, True]
    assert len(pids) == 3
    assert connected(handler, pids) == set()


def test_engine_imported_by_its_name_goes_from_run_to_run(handler: Postgres) -> None:
    imported = async_session.engine

    async def in_use() -> bool:
        await server_process()
        factory = get_background_task_session_factory()
        return async_session.engine is imported and factory.kw["bind"] is imported

    assert [asyncio.run(in_use()) for _ in range(3)] == [True, True, True]


def test_loops_side_by_side_have_a_pool_each(handler: Postgres) -> None:
    both_hold = threading.Barrier(2, timeout=30)

    async def hold() -> tuple[set[int], int]:
        async with get_background_session() as session:
            pid = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await asyncio.to_thread(both_hold.wait)
            in_use = get_pool_figures().in_use
            return {pid, *await at_once(3)}, in_use

    with ThreadPoolExecutor(2) as threads:
        (first, used), (second, also_used) = threads.map(lambda _: asyncio.run(hold()), "ab")
    assert first.isdisjoint(second)
    assert (used, also_used) == (1, 1)
    assert connected(handler, first | second) == set()


def test_many_loops_in_threads_through_a_pooler(pgbouncer: PgBouncer) -> None:
    async def job(number: int) -> list[int]:
        async def one(value: int) -> int:
            async with get_background_session() as session:
                query = text("SELECT CAST(:value AS integer)")
                found: int = (await session.execute(query, {"value": value})).scalar_one()
                return found

        return await asyncio.gather(*(one(100 * number + turn) for turn in range(10)))

    configure(SessionSettings(url=pgbouncer.dsn, tls="off"))
    try:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda number: asyncio.run(job(number)), range(20)))
    finally:
        asyncio.run(dispose())
        configure(SessionSettings())
    assert found == [[100 * number + turn for turn in range(10)] for number in range(20)]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_loops_closed_in_haste_leave_no_connections_behind(
    handler: Postgres, not_collected: None
) -> None:
    pids: list[set[int]] = []
    for _ in range(3):
        loop = asyncio.new_event_loop()
        pids.append(loop.run_until_complete(at_once(3)))
        loop.close()  # without `shutdown_asyncgens()`, which closes connections in order
        del loop
    others = asyncio.run(at_once(3))  # no more is asked for than that the handler is used again
    assert sum(map(len, (*pids, others))) == len(set().union(*pids, others))
    assert connected(handler, set().union(*pids, others)) == set()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_a_loop_closed_in_haste_left_can_be_disposed_of(handler: Postgres) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(at_once(1))
    loop.close()
    asyncio.run(dispose())
    configure(SessionSettings(url=handler.dsn, tls="off"))


async def rows() -> AsyncGenerator[int, None]:
    async with get_background_session() as session:
        result = await session.stream(text("SELECT pg_backend_pid() FROM generate_series(1, 3000)"))
        async for row in result:
            yield row[0]


async def leave_a_generator(moments: int) -> int:
    """Leave a generator with a session in it that many steps of the loop before it ends."""
    found = 0
    async for pid in rows():
        found = pid
        break
    for _ in range(moments):
        await asyncio.sleep(0)
    return found


@pytest.mark.parametrize("moments", [0, 1])
def test_generator_left_at_the_end_of_a_run_leaves_no_connection(
    handler: Postgres, not_collected: None, moments: int
) -> None:
    failures: list[object] = []

    async def job() -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: failures.append(context))
        return await leave_a_generator(moments)

    pids = {asyncio.run(job()) for _ in range(5)}
    assert len(pids) == 5
    assert connected(handler, pids) == set()
    assert failures == []


async def sessions_of_a_request() -> AsyncGenerator[AsyncSession, None]:
    async with get_session() as session:
        yield session


@asynccontextmanager
async def unit_of_work() -> AsyncGenerator[AsyncSession, None]:
    async with get_session() as session:
        yield session


async def sessions_of_a_unit() -> AsyncGenerator[AsyncSession, None]:
    async with unit_of_work() as session:
        yield session


@pytest.mark.parametrize("moments", [0, 1])
@pytest.mark.parametrize(
    "sessions", [get_session_dependency, sessions_of_a_request, sessions_of_a_unit]
)
def test_generator_round_others_left_at_the_end_of_a_run_leaves_no_connection(
    handler: Postgres,
    not_collected: None,
    sessions: Callable[[], AsyncGenerator[AsyncSession, None]],
    moments: int,
) -> None:
    failures: list[object] = []
    events: list[tuple[int, str]] = []

    async def job() -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: failures.append(context))
        async for session in sessions():
            pid: int = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            break
        for _ in range(moments):
            await asyncio.sleep(0)
        return pid

    def note(event: SessionEvent) -> None:
        events.append((event.number, event.outcome))

    configure(SessionSettings(url=handler.dsn, tls="off", on_session_event=note))
    pids = {asyncio.run(job()) for _ in range(5)}
    assert len(pids) == 5
    assert connected(handler, pids) == set()
    assert get_pool_figures().in_use == 0
    assert failures == []
    numbers = [number for number, outcome in events if outcome == "opened"]
    assert events == [
        (number, outcome) for number in numbers for outcome in ("opened", "rolled back")
    ]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("moments", [1, 3])
def test_loop_closed_in_the_middle_of_a_rollback_harms_no_other(
    handler: Postgres, moments: int
) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave_a_generator(moments))
    loop.close()
    for _ in range(2):
        assert len(asyncio.run(at_once(2))) == 2


def in_a_thread_of_its_own(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def call(work: Callable[[], object]) -> None:
    work()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("run", [in_a_thread_of_its_own, call])
def test_loops_that_are_never_closed_leave_no_connections_behind(
    handler: Postgres, not_collected: None, run: Callable[[Callable[[], object]], None]
) -> None:
    pids: list[set[int]] = []

    def job() -> None:
        pids.append(asyncio.new_event_loop().run_until_complete(at_once(2)))

    for _ in range(5):
        run(job)
    others = asyncio.run(at_once(2))  # no more is asked for than that the handler is used again
    assert connected(handler, set().union(*pids, others)) == set()


def test_settings_of_a_loop_at_rest_stay_while_others_are_collected(
    handler: Postgres, not_collected: None
) -> None:
    passed: list[bool] = []

    def configure_again() -> None:
        try:
            configure(SessionSettings(url=handler.dsn, tls="off"))
            passed.append(True)
        except RuntimeError:
            passed.append(False)

    thread = threading.Thread(target=configure_again)

    def during_collection(phase: str, info: dict[str, int]) -> None:
        if thread.ident is None:
            thread.start()
            thread.join(0.2)

    with asyncio.Runner() as resting:
        resting.run(server_process())
        gc.callbacks.append(during_collection)
        try:
            asyncio.run(server_process())  # looks for loops that were dropped first
        finally:
            gc.callbacks.remove(during_collection)
        thread.join()
    assert passed == [False]


def test_loop_that_rests_while_another_runs_keeps_its_sessions(handler: Postgres) -> None:
    async def begin() -> AsyncSession:
        session = get_background_task_session_factory()()
        await session.execute(text("SELECT 1"))
        return session

    async def go_on(session: AsyncSession) -> set[int]:
        pids = set()
        for _ in range(3):  # the first on the connection that it has, the others on new ones
            pids.add((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())
            await session.commit()
        return {*pids, *await at_once(3)}

    with asyncio.Runner() as runner:
        session = runner.run(begin())
        others = asyncio.run(at_once(3))
        pids = runner.run(go_on(session))
        others |= asyncio.run(at_once(3))
        runner.run(session.close())
    assert pids.isdisjoint(others)
    assert connected(handler, pids | others) == set()


def test_sessions_opened_during_dispose_are_the_next_engines(
    handler: Postgres, not_collected: None
) -> None:
    """It waits for the server to close each connection, and the loop's tasks go on meanwhile."""

    async def work(started: asyncio.Event, end: asyncio.Event) -> int:
        async with get_background_session() as session:
            pid: int = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            started.set()
            await end.wait()
            await session.commit()
            await session.execute(text("SELECT 1"))
            return pid

    async def main(proxy: Proxy) -> set[int]:
        before = await at_once(3)
        proxy.delay = 0.05
        disposing = asyncio.create_task(dispose())
        await asyncio.sleep(0)
        started, end = asyncio.Event(), asyncio.Event()
        working = asyncio.create_task(work(started, end))
        await disposing
        await started.wait()
        assert await asyncio.to_thread(lambda: asyncio.run(server_process())) not in before
        end.set()
        pid = await working
        assert async_session.engine is get_background_task_session_factory().kw["bind"]
        assert await at_once(3) >= {pid}  # its connection is in the pool of this loop
        return {pid, *before}

    with running_proxy(handler.port) as proxy:
        through = handler.dsn.replace(f":{handler.port}/", f":{proxy.port}/")
        configure(SessionSettings(url=through, tls="off"))
        pids = asyncio.run(main(proxy))
    assert connected(handler, pids) == set()


def test_connections_of_a_network_that_went_silent_are_cut_together(
    handler: Postgres, not_collected: None
) -> None:
    async def main(proxy: Proxy) -> set[int]:
        pids = await at_once(3)
        proxy.hold()
        with pytest.raises(TimeoutError, match=r"3 of 3 connections were not closed in 2 s"):
            await dispose()
        proxy.let_pass()
        return pids | await at_once(1)

    with running_proxy(handler.port) as proxy:
        through = handler.dsn.replace(f":{handler.port}/", f":{proxy.port}/")
        configure(SessionSettings(url=through, tls="off", connection_timeout=2))
        pids = asyncio.run(main(proxy))
        assert connected(handler, pids) == set()


def test_connection_that_comes_back_late_at_the_end_of_a_loop_is_closed(
    handler: Postgres, not_collected: None
) -> None:
    """All asynchronous generators of a loop are closed at once, and the handler is among them."""

    async def rows() -> AsyncGenerator[int, None]:
        async with get_background_task_session_factory()() as session:
            yield (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()

    left_open = rows()

    async def first_row() -> int:
        return await anext(left_open)

    assert connected(handler, {asyncio.run(first_row())}) == set()


def test_dispose_leaves_other_loops_alone(handler: Postgres) -> None:
    async def main() -> None:
        pid = await server_process()
        await asyncio.to_thread(lambda: asyncio.run(dispose()))
        assert await server_process() == pid
        with pytest.raises(RuntimeError, match="built already"):
            configure(SessionSettings())

    asyncio.run(main())


def test_session_that_outlives_dispose_closes_its_connection(handler: Postgres) -> None:
    async def main() -> None:
        async with get_background_session() as session:
            pid = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await dispose()
            assert await asyncio.to_thread(connected, handler, {pid}) == {pid}
        assert await asyncio.to_thread(connected, handler, {pid}) == set()

    asyncio.run(main())


def run_forking(dsn: str, moment: str) -> dict[str, list[int]]:
    """Run `forking.py`, which uses the handler before and after a fork; give what it saw."""
    program = Path(__file__).with_name("forking.py")
    run = subprocess.run(
        [sys.executable, "-P", "-W", "error", str(program), moment],
        env={**os.environ, "DATABASE_URL": dsn},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stderr) == (0, "")
    seen: dict[str, list[int]] = json.loads(run.stdout)
    return seen


@pytest.mark.parametrize(
    "moment",
    ["between runs of the loop", "and both go on with the loop", "inside the running loop"],
)
def test_forked_child_never_touches_the_parents_connections(
    postgres: Postgres, moment: str
) -> None:
    seen = run_forking(postgres.dsn, moment)
    # The parent goes on with the connections it had; the child has others.
    assert sorted(seen["parent after"]) == sorted(seen["parent before"])
    assert len(seen["child"]) == 3
    assert not {*seen["child"]} & {*seen["parent before"]}
    assert connected(postgres, {*seen["child"], *seen["parent before"]}) == set()
