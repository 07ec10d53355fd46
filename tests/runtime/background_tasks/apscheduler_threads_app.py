import asyncio

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler_app import place_order

scheduler = BackgroundScheduler(job_defaults={"misfire_grace_time": None})


def place_order_in_thread(number: int) -> None:
    asyncio.run(place_order(number))
