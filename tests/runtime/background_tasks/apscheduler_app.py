from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from orders import WarehouseBusyError, place

from session_guard.async_session import dispose, get_background_session

ATTEMPTS = 3


async def place_order(number: int) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with get_background_session() as session:
                await place(session, number, attempt)
            return  # committed
        except WarehouseBusyError:
            if attempt == ATTEMPTS:
                raise


@asynccontextmanager
async def running_scheduler() -> AsyncIterator[AsyncIOScheduler]:
    scheduler = AsyncIOScheduler(job_defaults={"misfire_grace_time": None})
    scheduler.start()
    try:
        yield scheduler
    finally:
        scheduler.shutdown()  # cancels the jobs that still run
        await dispose()
