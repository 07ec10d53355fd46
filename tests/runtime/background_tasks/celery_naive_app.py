"""Celery as many write it: one engine of the module for every run and every process."""

import asyncio
import os

from celery import Celery
from orders import place
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

app = Celery("shop", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg")
sessions = async_sessionmaker(create_async_engine(url, connect_args={"ssl": False}))


@app.task
def place_order(number: int) -> None:
    asyncio.run(store_order(number))


async def store_order(number: int) -> None:
    async with sessions.begin() as session:
        await place(session, number, attempt=1)
