"""SG201: an async PostgreSQL engine built outside the handler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.gate import ASYNC_SESSION_WORDS
from session_guard.rule import Invalid, Rule, Subject, Valid, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.module import Module


class EngineOutsideHandler(Rule):
    code = "SG201"
    name = "engine-outside-handler"
    summary = "an async PostgreSQL engine built outside the handler"
    why = """\
Each engine has a pool and settings of its own. One that is built beside the handler opens further
connections that no limit counts, forgets the pooler's settings sooner or later, and is disposed of
by nobody; every session on it passes the handler by.

`create_async_engine` and `async_engine_from_config` are found by whatever name they go. An engine
that is known to be another database's (SQLite, MySQL), synchronous engines, tests and Alembic's
environments are no findings."""
    fix_safety = "There is no fix: which engine is wanted is not the tool's to say."
    since = "0.1.0"
    references = (
        "https://docs.sqlalchemy.org/en/20/core/connections.html#engine-disposal",
        "https://docs.sqlalchemy.org/en/20/orm/extensions/asyncio.html",
    )
    project_words = ASYNC_SESSION_WORDS
    tokens = (b"create_async_engine", b"async_engine_from_config")
    project_names = True
    subject = Subject.MAKERS
    node_types = ("Call",)

    valid = (
        Valid("""\
from app.db import engine, get_background_session

async def size():
    return engine.pool.size()
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("sqlite+aiosqlite:///cache.db")
"""),
        Valid("""\
import os
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(os.getenv("CACHE_URL", "sqlite+aiosqlite:///:memory:"))
"""),
        Valid("""\
from sqlalchemy import create_engine, engine_from_config

engine = create_engine("postgresql://db/app")
other = engine_from_config({"sqlalchemy.url": "postgresql://db/app"})
"""),
        Valid("""\
from app.pools import create_async_engine

worker = create_async_engine("worker")
"""),
        Valid("""\
from pydantic_settings import BaseSettings
from sqlalchemy.ext.asyncio import create_async_engine

class Settings(BaseSettings):
    database_url: str = "sqlite+aiosqlite:///./app.db"

settings = Settings()
engine = create_async_engine(settings.database_url, echo=False)
"""),
        Valid("""\
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

def mysql(host: str) -> AsyncEngine:
    return create_async_engine(URL.create("mysql+asyncmy", host=host))
"""),
    )
    invalid = (
        Invalid("""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("postgresql+asyncpg://app@db/app")
"""),
        Invalid("""\
import os
import sqlalchemy.ext.asyncio as sa

def worker_engine():
    return sa.create_async_engine(os.environ["DATABASE_URL"], pool_size=2)
"""),
        Invalid("""\
from sqlalchemy.ext.asyncio import async_engine_from_config
from app.config import section

connectable = async_engine_from_config(section, prefix="sqlalchemy.")
"""),
        Invalid("""\
from sqlalchemy.ext.asyncio import create_async_engine as make
from sqlalchemy.pool import NullPool

async def ping(url: str) -> None:
    engine = make(url, poolclass=NullPool)
    await engine.dispose()
"""),
        Invalid("""\
from sqlalchemy.ext.asyncio import create_async_engine

class Repository:
    def __init__(self, settings):
        self._engine = create_async_engine(settings.dsn, echo=settings.debug)
"""),
        Invalid(
            """\
from functools import partial
from sqlalchemy.ext.asyncio import create_async_engine

make_engine = partial(create_async_engine, pool_pre_ping=True)
engine = make_engine("postgresql+psycopg://app@db/app")
""",
            count=2,
        ),
        Invalid("""\
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine

READER = create_async_engine(
    URL.create(drivername="postgresql+asyncpg", host="replica", database="app"),
)
"""),
    )

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import Call

        from session_guard.engine.facts import builds_partially, engine_of

        assert isinstance(node, Call)
        engine = engine_of(node, module)
        if builds_partially(node, module) or (engine and not engine.is_another_database):
            yield Violation(
                node,
                f"`{module.code(node.func)}(…)` builds an engine outside the handler",
                "use the handler's engine, through `get_background_session()` or `get_session()`; "
                "not fixed: which engine is wanted is not known",
            )
