"""The one module that builds the engine and opens sessions: the handler."""

import logging
import os
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

logger = logging.getLogger(__name__)

connection_timeout = float(os.environ.get("DB_CONNECTION_TIMEOUT", "30"))

engine = create_async_engine(
    os.environ["DATABASE_URL"],
    connect_args={
        "ssl": ssl.create_default_context(),
        "timeout": connection_timeout,
        # Anonymous statements and no cache: right behind every pooler, and nothing is left there.
        "prepared_statement_name_func": lambda: "",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    },
    pool_size=10,
    max_overflow=20,
    pool_timeout=connection_timeout,
    pool_recycle=1800,
    execution_options={"isolation_level": "READ COMMITTED"},
)


def get_background_task_session_factory() -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine, expire_on_commit=False, autoflush=False, autocommit=False)


background_task_session_factory = get_background_task_session_factory()


@asynccontextmanager
async def get_background_session() -> AsyncGenerator[AsyncSession, None]:
    session = background_task_session_factory()
    try:
        yield session
        await session.commit()
    except Exception:
        await session.rollback()
        logger.exception("background task session rolled back")
        raise
    finally:
        await session.close()
