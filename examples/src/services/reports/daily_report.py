"""Counts what was scraped, with a session factory of its own."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import async_sessionmaker

from src.models import Domain
from src.session.async_session import engine

_sessions = async_sessionmaker(engine, execution_options={"statement_cache_size": 0})


async def domains_by_status() -> dict[str, int]:
    async with _sessions() as session:
        rows = await session.execute(
            select(Domain.status, func.count(Domain.id)).group_by(Domain.status)
        )
        return {status: count for status, count in rows}
