import os
from typing import Any

from arq import Retry
from arq.connections import RedisSettings
from orders import WarehouseBusyError, place

from session_guard.async_session import dispose, get_background_session


async def place_order(ctx: dict[str, Any], number: int) -> None:
    try:
        async with get_background_session() as session:
            await place(session, number, attempt=ctx["job_try"])
        # committed here
    except WarehouseBusyError as error:
        raise Retry(defer=0) from error


async def shutdown(ctx: dict[str, Any]) -> None:
    await dispose()


class WorkerSettings:
    redis_settings = RedisSettings.from_dsn(os.environ["REDIS_URL"])
    functions = (place_order,)
    on_shutdown = shutdown
    max_jobs = 20
    job_completion_wait = 30
