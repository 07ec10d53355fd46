"""Fetches the pages of a batch's domains."""

import httpx
import sqlalchemy.ext.asyncio as sa_async
from sqlalchemy import select, update

from src.models import Domain
from src.session.async_session import background_task_session_factory, engine


async def process_domain(domain_id: int) -> None:
    async with (
        httpx.AsyncClient(timeout=20) as client,
        sa_async.AsyncSession(engine) as session,
    ):
        name = (await session.scalars(select(Domain.name).where(Domain.id == domain_id))).one()
        response = await client.get(f"https://{name}/")
        status = "done" if response.is_success else "failed"
        await session.execute(update(Domain).where(Domain.id == domain_id).values(status=status))
        await session.commit()


async def pending_domains(batch_id: int) -> list[int]:
    async with background_task_session_factory() as session:
        found = await session.scalars(
            select(Domain.id).where(Domain.batch_id == batch_id, Domain.status == "pending")
        )
        return list(found)
