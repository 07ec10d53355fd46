import asyncio
import os

from celery import Celery, Task
from celery.signals import worker_init
from orders import WarehouseBusyError, place
from sqlalchemy import text

from session_guard.async_session import get_background_session

app = Celery("shop", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1


@worker_init.connect
def check_database(**_: object) -> None:  # in the parent, before it forks
    asyncio.run(ping())


async def ping() -> None:
    async with get_background_session() as session:
        await session.execute(text("SELECT 1"))


@app.task(bind=True, autoretry_for=(WarehouseBusyError,), default_retry_delay=0, max_retries=3)
def place_order(self: Task, number: int) -> None:
    asyncio.run(store_order(number, attempt=self.request.retries + 1))


async def store_order(number: int, attempt: int) -> None:
    async with get_background_session() as session:
        await place(session, number, attempt)
    # committed here


@app.task
def place_orders(numbers: list[int]) -> None:
    asyncio.run(store_orders(numbers))


async def store_orders(numbers: list[int]) -> None:
    async with asyncio.TaskGroup() as group:
        for number in numbers:
            group.create_task(store_order(number, attempt=1))
