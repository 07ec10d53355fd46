import os
from typing import Annotated

from orders import WarehouseBusyError, place
from taskiq import Context, SimpleRetryMiddleware, TaskiqDepends, TaskiqEvents, TaskiqState
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from session_guard.async_session import dispose, get_background_session

broker = (
    RedisStreamBroker(os.environ["REDIS_URL"], consumer_id="0")
    .with_result_backend(RedisAsyncResultBackend(os.environ["REDIS_URL"]))
    .with_middlewares(SimpleRetryMiddleware(types_of_exceptions=[WarehouseBusyError]))
)


@broker.task(retry_on_error=True, max_retries=3)
async def place_order(number: int, context: Annotated[Context, TaskiqDepends()]) -> None:
    attempt = int(context.message.labels.get("_retries", 0)) + 1
    async with get_background_session() as session:
        await place(session, number, attempt)
    # committed here


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def shutdown(state: TaskiqState) -> None:
    await dispose()
