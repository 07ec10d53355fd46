import asyncio
import os

from celery import Celery, Task
from celery.signals import worker_process_init, worker_process_shutdown
from orders import WarehouseBusyError, place

from session_guard.async_session import get_background_session

app = Celery("shop", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
runner: asyncio.Runner


@worker_process_init.connect
def open_runner(**_: object) -> None:
    global runner
    runner = asyncio.Runner()


@worker_process_shutdown.connect
def close_runner(**_: object) -> None:
    runner.close()  # closes the connections too


@app.task(bind=True, autoretry_for=(WarehouseBusyError,), default_retry_delay=0, max_retries=3)
def place_order(self: Task, number: int) -> None:
    runner.run(store_order(number, attempt=self.request.retries + 1))


async def store_order(number: int, attempt: int) -> None:
    async with asyncio.timeout(60), get_background_session() as session:
        await place(session, number, attempt)
