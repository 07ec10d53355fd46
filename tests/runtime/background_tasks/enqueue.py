"""Gives a queue its jobs, as the program that uses it would, and waits for them.

A program: `enqueue.py QUEUE NUMBER...` prints as JSON what became of each order: null, or the
name of its error.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from fates import ENDLESS

SECONDS = 100
"""To wait for a job."""

Outcomes = dict[int, str | None]


def _name(error: object) -> str | None:
    return type(error).__name__ if isinstance(error, BaseException) else None


def celery(numbers: list[int]) -> Outcomes:
    import celery_app

    return _celery(celery_app.place_order, numbers)


def celery_runner(numbers: list[int]) -> Outcomes:
    import celery_runner_app

    return _celery(celery_runner_app.place_order, numbers)


def celery_naive(numbers: list[int]) -> Outcomes:
    import celery_naive_app

    return _celery(celery_naive_app.place_order, numbers)


def celery_batches(numbers: list[int]) -> Outcomes:
    """Half of the orders in each of two jobs, and one job more that never ends by itself."""
    import celery_app

    late = celery_app.place_order.apply_async((ENDLESS,), soft_time_limit=1)
    batches = [celery_app.place_orders.delay(half) for half in (numbers[::2], numbers[1::2])]
    for batch in batches:
        assert _celery_error(batch) is None
    return {**dict.fromkeys(numbers), ENDLESS: _celery_error(late)}


def _celery(task: Any, numbers: list[int]) -> Outcomes:
    results = {number: task.delay(number) for number in numbers}
    return {number: _celery_error(result) for number, result in results.items()}


def _celery_error(result: Any) -> str | None:
    _wait_until(result.ready)  # `get()` would take a second for many of them
    return _name(result.result)


def arq(numbers: list[int]) -> Outcomes:
    import arq_app
    from arq import create_pool

    async def main() -> Outcomes:
        pool = await create_pool(arq_app.WorkerSettings.redis_settings)
        jobs = [await pool.enqueue_job("place_order", number) for number in numbers]
        errors = await asyncio.gather(
            *(job.result(timeout=SECONDS) for job in jobs), return_exceptions=True
        )
        await pool.aclose()
        return dict(zip(numbers, map(_name, errors), strict=True))

    return asyncio.run(main())


def taskiq(numbers: list[int]) -> Outcomes:
    import taskiq_app

    async def main() -> Outcomes:
        await taskiq_app.broker.startup()
        tasks = [await taskiq_app.place_order.kiq(number) for number in numbers]
        results = await asyncio.gather(*(task.wait_result(timeout=SECONDS) for task in tasks))
        await taskiq_app.broker.shutdown()
        errors = [result.error for result in results]
        return dict(zip(numbers, map(_name, errors), strict=True))

    return asyncio.run(main())


def dramatiq(numbers: list[int]) -> Outcomes:
    import dramatiq_app
    from dramatiq.results import ResultFailure

    messages = [dramatiq_app.place_order.send(number) for number in numbers]
    outcomes: Outcomes = {}
    for number, message in zip(numbers, messages, strict=True):
        try:
            outcomes[number] = message.get_result(block=True, timeout=SECONDS * 1000)
        except ResultFailure as failure:
            outcomes[number] = failure.orig_exc_type
    return outcomes


def apscheduler(numbers: list[int]) -> Outcomes:
    from apscheduler_app import place_order, running_scheduler

    async def main() -> Outcomes:
        async with running_scheduler() as scheduler:
            outcomes = _outcomes_of(scheduler)
            for number in numbers:
                scheduler.add_job(place_order, args=[number], id=str(number))
            ending = {*numbers} - {ENDLESS}
            await asyncio.to_thread(_wait_until, lambda: outcomes.keys() >= ending)
        return outcomes

    return asyncio.run(main())


def apscheduler_threads(numbers: list[int]) -> Outcomes:
    from apscheduler_threads_app import place_order_in_thread, scheduler

    outcomes = _outcomes_of(scheduler)
    for number in numbers:
        scheduler.add_job(place_order_in_thread, args=[number], id=str(number))
    scheduler.start()
    _wait_until(lambda: len(outcomes) == len(numbers))
    scheduler.shutdown()
    return outcomes


def _outcomes_of(scheduler: Any) -> Outcomes:
    """What the jobs of this scheduler come to, filled in as they end."""
    from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED

    outcomes: Outcomes = {}

    def listen(event: Any) -> None:
        outcomes[int(event.job_id)] = _name(event.exception)

    scheduler.add_listener(listen, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
    return outcomes


def _wait_until(is_done: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not is_done():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


def fastapi(numbers: list[int]) -> Outcomes:
    """Nobody is told what becomes of the tasks: here a request that was accepted is a success."""
    import httpx

    async def main() -> Outcomes:
        # It tries again where the server does not listen yet. A task that fails closes the
        # connection that its request came by, even with the next request on it.
        limits = httpx.Limits(max_connections=20, max_keepalive_connections=0)
        transport = httpx.AsyncHTTPTransport(retries=10, limits=limits)
        async with httpx.AsyncClient(
            base_url=os.environ["SERVER_URL"], transport=transport, timeout=SECONDS
        ) as client:
            answers = await asyncio.gather(*(client.post(f"/orders/{n}") for n in numbers))
            for answer in answers:
                answer.raise_for_status()
        return dict.fromkeys(numbers)

    return asyncio.run(main())


if __name__ == "__main__":
    queue, *numbers = sys.argv[1:]
    print(json.dumps(globals()[queue]([int(number) for number in numbers])))
