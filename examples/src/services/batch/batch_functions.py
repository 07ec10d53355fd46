"""Batch jobs run in the background, long after the request that started them."""

from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from src.models import BatchJob, Domain
from src.session.async_session import engine


async def create_batch(names: list[str]) -> int:
    async with AsyncSession(engine) as session:
        batch = BatchJob()
        session.add(batch)
        await session.flush()
        batch_id = batch.id
        session.add_all(Domain(batch_id=batch_id, name=name) for name in names)
        await session.commit()
        return batch_id


async def finish_batch(batch_id: int) -> None:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        batch = await session.get_one(BatchJob, batch_id)
        batch.status = "finished"
        batch.finished_at = datetime.now(UTC)
        await session.commit()


async def count_pending(batch_id: int) -> int:
    async with AsyncSession(engine) as session:
        pending = select(func.count(Domain.id)).where(
            Domain.batch_id == batch_id, Domain.status == "pending"
        )
        return (await session.scalars(pending)).one()
