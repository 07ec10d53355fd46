import os

import dramatiq
from dramatiq.asyncio import get_event_loop_thread
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO, CurrentMessage, Middleware
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from orders import WarehouseBusyError, place

from session_guard.async_session import dispose, get_background_session


class DisposeEngine(Middleware):
    """Closes the connections when the last job is done. It must come after AsyncIO."""

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        get_event_loop_thread().run_coroutine(dispose())


broker = RedisBroker(url=os.environ["REDIS_URL"])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["REDIS_URL"])))
broker.add_middleware(CurrentMessage())
broker.add_middleware(AsyncIO())
broker.add_middleware(DisposeEngine())
dramatiq.set_broker(broker)


def may_work_later(retries: int, error: BaseException) -> bool:
    return retries < 3 and isinstance(error, WarehouseBusyError)


@dramatiq.actor(retry_when=may_work_later, min_backoff=10, max_backoff=100, store_results=True)
async def place_order(number: int) -> None:
    attempt = CurrentMessage.get_current_message().options.get("retries", 0) + 1
    async with get_background_session() as session:
        await place(session, number, attempt)
    # committed here
