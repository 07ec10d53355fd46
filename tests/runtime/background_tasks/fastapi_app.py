from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI
from orders import Request, place
from sqlalchemy.ext.asyncio import AsyncSession

from session_guard.async_session import dispose, get_background_session, get_session_dependency


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    await dispose()


app = FastAPI(lifespan=lifespan)
RequestSession = Annotated[AsyncSession, Depends(get_session_dependency, scope="function")]


@app.post("/orders/{number}", status_code=202)
async def order(number: int, session: RequestSession, background_tasks: BackgroundTasks) -> None:
    session.add(Request(number=number))
    background_tasks.add_task(place_order, number)  # the number, and never the session


async def place_order(number: int) -> None:
    async with get_background_session() as session:
        request = await session.get_one(Request, number)  # the endpoint's session is committed
        await place(session, request.number, attempt=1)
