"""SG103: a session opened from a factory, round the context manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.gate import ASYNC_SESSION_WORDS
from session_guard.rule import Invalid, Rule, Subject, Valid

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.module import Module
    from session_guard.rule import Violation


_WITH_GET_SESSION = """\
import logging
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

engine = create_async_engine("postgresql+asyncpg://db")
background_task_session_factory = async_sessionmaker(
    engine, expire_on_commit=False, autoflush=False
)


@asynccontextmanager
async def get_background_session():
    async with background_task_session_factory() as session:
        try:
            yield session
            await session.commit()
        except BaseException as error:
            await session.rollback()
            logging.error("rolled back: %s", type(error).__name__)
            raise


@asynccontextmanager
async def get_session():
    async with get_background_session() as session:
        yield session
"""


class RawFactorySession(Rule):
    code = "SG103"
    name = "raw-factory-session"
    summary = "a session opened from a factory, round the context manager"
    why = """\
A factory makes sessions; it does not commit them, roll them back or log what went wrong. Even the
handler's own factory has the pooler's settings and none of the rest: who forgets one `commit()`
loses the work without a word, and who catches an error goes on in a transaction that is dead.
`get_background_session()` does all of it in one place."""
    fix_safety = """\
`async with SessionLocal() as session:` and `async with SessionLocal.begin() as session:` become
`async with get_background_session() as session:`, and so do `session = SessionLocal()` with the
`try` whose `finally` closes it, and a session on an `AsyncExitStack`. In an endpoint, and in a
generator that the project's `Depends(...)` or `Provide(...)` names, it is `get_session()`.

As for SG101: *safe* where the factory is bound to the handler's engine and the block is known to
behave the same; *unsafe* where it is not known to; *absent* where the engine is another or unknown,
the class differs, or the session is opened and closed in another form.

A request dependency is *safe* where it commits behind its `yield` and its sessions have the
handler's options; else what endpoints leave uncommitted would be committed: *unsafe*. FastAPI runs
what stands behind a `yield`, the handler's commit with it, after the response was sent: a commit
that fails there is a success for the client. Commit in the endpoint, or end the dependency before
the response with `Depends(..., scope="function")`, which makes it a 500."""
    since = "0.1.0"
    references = ("https://docs.sqlalchemy.org/en/20/orm/session_basics.html#using-a-sessionmaker",)
    project_words = ASYNC_SESSION_WORDS
    tokens = (b"sessionmaker", b"async_scoped_session")
    project_names = True
    subject = Subject.MAKERS
    node_types = ("Call",)

    valid = (
        Valid("""\
from app.db import get_background_session

async def job():
    async with get_background_session() as session:
        await session.commit()
"""),
        Valid("""\
from sqlalchemy.orm import sessionmaker
from app.sync import engine

Session = sessionmaker(engine)

def job():
    with Session() as session:
        session.commit()
"""),
        Valid("""\
async def job(SessionLocal):
    async with SessionLocal() as session:
        await session.commit()
"""),
        Valid("""\
from app.db import get_background_task_session_factory

factory = get_background_task_session_factory()
"""),
        Valid("""\
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

SessionLocal = async_sessionmaker(create_async_engine(URL.create("mysql+asyncmy", host="db")))

async def job():
    async with SessionLocal() as session:
        await session.commit()
"""),
        Valid("""\
from app.http import SessionLocal

async def fetch(url):
    async with SessionLocal() as session:
        return await session.get(url)
"""),
        Valid("""\
from app.db import background_task_session_factory

def make():
    background_task_session_factory = make_client
    return background_task_session_factory()
"""),
    )
    invalid = (
        Invalid(
            """\
from sqlalchemy import select, func

from app.db import background_task_session_factory
from app.models import User

async def count() -> int:
    async with background_task_session_factory() as session:
        return await session.scalar(select(func.count()).select_from(User))
""",
            fixed="""\
from sqlalchemy import select, func

from app.db import get_background_session
from app.models import User

async def count() -> int:
    async with get_background_session() as session:
        return await session.scalar(select(func.count()).select_from(User))
""",
        ),
        Invalid(
            """\
from app.db import background_task_session_factory as Sessions
from app.models import User

async def add(name: str) -> None:
    async with Sessions.begin() as session:
        session.add(User(name=name))
""",
            fixed="""\
from app.db import get_background_session
from app.models import User

async def add(name: str) -> None:
    async with get_background_session() as session:
        session.add(User(name=name))
""",
        ),
        Invalid(
            """\
from app.db import get_background_task_session_factory

async def ping():
    async with get_background_task_session_factory()() as session:
        await session.commit()
""",
            fixed="""\
from app.db import get_background_session

async def ping():
    async with get_background_session() as session:
        await session.commit()
""",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import sessionmaker

engine = create_async_engine("postgresql+asyncpg://reports/db")
SessionLocal = sessionmaker(engine, class_=AsyncSession)

async def job():
    async with SessionLocal() as session:
        await session.commit()
""",
            because="its engine is another than the handler's",
        ),
        Invalid(
            """\
from app.db import background_task_session_factory
from app.models import User

async def rename(user_id: int, name: str) -> None:
    db = background_task_session_factory()
    try:
        user = await db.get(User, user_id)
        if user is None:
            return
        user.name = name
        await db.commit()
    finally:
        await db.close()
""",
            fixed="""\
from app.db import get_background_session
from app.models import User

async def rename(user_id: int, name: str) -> None:
    async with get_background_session() as db:
        user = await db.get(User, user_id)
        if user is None:
            return
        user.name = name
""",
        ),
        Invalid(
            """\
from app.db import background_task_session_factory

async def job():
    session = background_task_session_factory()
    await session.close()
""",
            because="the session is not opened by an `async with`",
        ),
        Invalid(
            """\
from app.db import background_task_session_factory

async def get_db():
    async with background_task_session_factory() as session:
        yield session
""",
            because="a request dependency uses `get_session()`",
        ),
        Invalid(
            """\
from fastapi import Depends

from app.db import background_task_session_factory

async def get_db():
    async with background_task_session_factory() as session:
        try:
            yield session
            await session.commit()
        except Exception:
            await session.rollback()
            raise
        finally:
            await session.close()

async def list_users(db=Depends(get_db)):
    return []
""",
            fixed="""\
from fastapi import Depends

from app.db import get_session

async def get_db():
    async with get_session() as session:
        yield session

async def list_users(db=Depends(get_db)):
    return []
""",
            handler=_WITH_GET_SESSION,
        ),
        Invalid(
            """\
from fastapi import Depends

from app.db import background_task_session_factory

async def get_db():
    async with background_task_session_factory() as session:
        yield session

async def list_users(db=Depends(get_db)):
    return []
""",
            fixed="""\
from fastapi import Depends

from app.db import get_session

async def get_db():
    async with get_session() as session:
        yield session

async def list_users(db=Depends(get_db)):
    return []
""",
            unsafe=True,
            because="who gets the session may leave changes (line 7), and nothing commits that",
            handler=_WITH_GET_SESSION,
        ),
    )

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import Call

        from session_guard.names import databases, openings
        from session_guard.safety.handover import is_no_async_session, report_opening

        assert isinstance(node, Call)
        if is_no_async_session(node, module) or databases.is_for_another_database(
            module.place(node)
        ):
            return
        for value in module.results(node):
            opening = openings.opening(value)
            if (
                opening is not None
                and opening.from_factory
                and not databases.is_on_another_database(opening.bind)
            ):
                yield report_opening(
                    node,
                    opening,
                    module,
                    f"`{module.code(node)}` opens a session round the handler's context manager",
                )
                return
