"""What a FastAPI client is told when the commit at the end of its request fails."""

import asyncio
from collections.abc import Iterator
from typing import Annotated

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from httpx import ASGITransport, AsyncClient, Response
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from session_guard.async_session import (
    SessionSettings,
    configure,
    dispose,
    get_background_session,
    get_session,
    get_session_dependency,
)

from .servers import Postgres

# A deferred constraint is checked when the transaction is committed, and not before.
TABLES = """\
DROP TABLE IF EXISTS children, parents;
CREATE TABLE parents (id integer PRIMARY KEY);
CREATE TABLE children (
    id integer PRIMARY KEY,
    parent integer REFERENCES parents DEFERRABLE INITIALLY DEFERRED
);
INSERT INTO parents VALUES (1)
"""

app = FastAPI()


async def add_child(session: AsyncSession, parent: int) -> None:
    await session.execute(text("INSERT INTO children VALUES (1, :parent)"), {"parent": parent})


async def own_dependency():
    async with get_session() as session:
        yield session


AfterResponse = Annotated[AsyncSession, Depends(get_session_dependency)]
BeforeResponse = Annotated[AsyncSession, Depends(get_session_dependency, scope="function")]
OwnAfterResponse = Annotated[AsyncSession, Depends(own_dependency)]
OwnBeforeResponse = Annotated[AsyncSession, Depends(own_dependency, scope="function")]


@app.post("/after")
async def after(parent: int, session: AfterResponse) -> str:
    await add_child(session, parent)
    return "stored"


@app.post("/own-after")
async def own_after(parent: int, session: OwnAfterResponse) -> str:
    await add_child(session, parent)
    return "stored"


@app.post("/before")
async def before(parent: int, session: BeforeResponse) -> str:
    await add_child(session, parent)
    return "stored"


@app.post("/own-before")
async def own_before(parent: int, session: OwnBeforeResponse) -> str:
    await add_child(session, parent)
    return "stored"


@app.post("/explicit")
async def explicit(parent: int, session: AfterResponse) -> str:
    await add_child(session, parent)
    await session.commit()
    return "stored"


seen_by_task: list[int] = []


async def look_for_children() -> None:
    async with get_background_session() as session:
        seen_by_task.extend(await session.scalars(text("SELECT id FROM children")))


@app.post("/after-with-task")
async def after_with_task(parent: int, session: AfterResponse, tasks: BackgroundTasks) -> str:
    await add_child(session, parent)
    tasks.add_task(look_for_children)
    return "stored"


@app.post("/before-with-task")
async def before_with_task(parent: int, session: BeforeResponse, tasks: BackgroundTasks) -> str:
    await add_child(session, parent)
    tasks.add_task(look_for_children)
    return "stored"


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Postgres]:
    for statement in TABLES.split(";"):
        asyncio.run(postgres.fetch(statement))
    configure(SessionSettings(url=postgres.dsn, tls="off"))
    yield postgres
    configure(SessionSettings())


def posted(path: str, parent: int) -> Response:
    async def post() -> Response:
        try:
            transport = ASGITransport(app, raise_app_exceptions=False)
            async with AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.post(path, params={"parent": parent})
        finally:
            await dispose()

    return asyncio.run(post())


def stored(server: Postgres) -> int:
    return len(asyncio.run(server.fetch("SELECT id FROM children")))


PATHS = ["/after", "/own-after", "/before", "/own-before", "/explicit"]


@pytest.mark.parametrize("path", PATHS)
def test_what_is_right_is_stored(database: Postgres, path: str) -> None:
    response = posted(path, parent=1)
    assert (response.status_code, response.json()) == (200, "stored")
    assert stored(database) == 1


@pytest.mark.parametrize("path", ["/after", "/own-after"])
def test_a_commit_behind_the_response_fails_unheard(database: Postgres, path: str) -> None:
    response = posted(path, parent=99)
    assert (response.status_code, response.json()) == (200, "stored")
    assert stored(database) == 0


@pytest.mark.parametrize("path", ["/before", "/own-before", "/explicit"])
def test_a_commit_before_the_response_is_an_error(database: Postgres, path: str) -> None:
    assert posted(path, parent=99).status_code == 500
    assert stored(database) == 0


@pytest.mark.parametrize(("path", "seen"), [("/after-with-task", []), ("/before-with-task", [1])])
def test_a_background_task_sees_only_what_was_committed_before_the_response(
    database: Postgres, path: str, seen: list[int]
) -> None:
    seen_by_task.clear()
    assert posted(path, parent=1).status_code == 200
    assert seen_by_task == seen
    assert stored(database) == 1
