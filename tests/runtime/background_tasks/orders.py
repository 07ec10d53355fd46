"""What the jobs of every queue do: they place orders, of which some fail (fates.py)."""

from fates import ENDLESS, is_busy, is_refused
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from session_guard.async_session import SessionSettings, configure

configure(SessionSettings(tls="off"))  # the servers of the tests are on this machine


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]  # not unique: an order that is placed twice shall be seen
    attempt: Mapped[int]


class Request(Base):
    __tablename__ = "requests"

    number: Mapped[int] = mapped_column(primary_key=True)


class OrderRefusedError(Exception):
    """Comes again at every attempt."""


class WarehouseBusyError(Exception):
    """Goes away at the second attempt."""


class WrongRowsError(Exception):
    """What was written is not what is read."""


async def place(session: AsyncSession, number: int, attempt: int) -> None:
    """Write the order, read it back, and fail where its number says so, with the row written."""
    session.add(Order(number=number, attempt=attempt))
    await session.flush()
    # Long enough for others to come between.
    await session.execute(select(func.pg_sleep(60 if number == ENDLESS else 0.01)))
    found = await session.execute(select(Order.number, Order.attempt).where(Order.number == number))
    if [tuple(row) for row in found] != [(number, attempt)]:
        raise WrongRowsError(number)
    if is_refused(number):
        raise OrderRefusedError(number)
    if is_busy(number) and attempt == 1:
        raise WarehouseBusyError(number)
