"""A small real project on a real database, in which programs run before and after their fix."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import types
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg
from sqlalchemy.ext.asyncio import close_all_sessions

from session_guard.config import Settings
from session_guard.fixer import FixResult, fix
from session_guard.project.project import Project
from session_guard.registry import load_rules

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from .servers import Postgres

RULES = tuple(rule for rule in load_rules() if rule.code.startswith(("SG1", "SG3")))
PACKAGE = "shop_under_test"
MODULES = {
    "__init__.py": "",
    "models.py": """\
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    visits: Mapped[int] = mapped_column(server_default="0")
    orders: Mapped[list["Order"]] = relationship(
        back_populates="user", cascade="all, delete-orphan", order_by="Order.id"
    )


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", deferrable=True, initially="DEFERRED")
    )
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="new")
    user: Mapped[User] = relationship(back_populates="orders")
""",
    "db.py": """\
import logging
import os
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

logger = logging.getLogger(__name__)

# A session that waits for another one of its own program would wait for ever.
engine = create_async_engine(
    os.environ["SHOP_DATABASE_URL"],
    connect_args={"ssl": False, "server_settings": {"lock_timeout": "50ms"}},
)
SessionLocal = async_sessionmaker(engine, expire_on_commit=False, autoflush=False)
PlainSession = async_sessionmaker(engine)


@asynccontextmanager
async def get_background_session():
    session = SessionLocal()
    try:
        yield session
        await session.commit()
    except BaseException:
        await session.rollback()
        logger.info("rolled back")
        raise
    finally:
        await session.close()


async def store_again(user, how):
    # Takes what another session had into one of its own.
    if user is None:
        return
    async with SessionLocal() as session:
        if "merge" in how:
            user = await session.merge(user)
        else:
            session.add(user)
        if "change" in how:
            user.visits = 5
        await session.commit()
""",
}
HEADER = f"""\
import asyncio
from contextlib import AsyncExitStack, aclosing, suppress

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from {PACKAGE}.db import PlainSession, SessionLocal, engine, store_again
from {PACKAGE}.models import Order, User


class Stop(Exception):
    def __init__(self, what=None):
        self.what = what


class Swallowing:
    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, trace):
        return isinstance(error, Stop)


"""
START = """\
DELETE FROM orders; DELETE FROM users;
INSERT INTO users VALUES (1, 'ada', 10), (2, 'bob', 20), (3, 'cyd', 30);
INSERT INTO orders VALUES (1, 1, 'book', 'new'), (2, 1, 'lamp', 'paid'), (3, 2, 'pen', 'new');
ALTER SEQUENCE users_id_seq RESTART WITH 4; ALTER SEQUENCE orders_id_seq RESTART WITH 4;
"""
# What another program does meanwhile, one after the other: each time that this one sleeps.
MEANWHILE = (
    "UPDATE users SET name = name || '+', visits = visits + 1",
    "INSERT INTO orders (user_id, kind) VALUES (1, 'gift')",
    "UPDATE orders SET state = 'sent'; UPDATE users SET visits = 5 WHERE id = 2",
    "DELETE FROM orders WHERE id = 3",
)
# How a program fails at what it did not load, or what expired: it never ran.
FAILED_BEFORE = frozenset({"MissingGreenlet", "DetachedInstanceError"})


@dataclass
class Outcome:
    """What a program left behind."""

    printed: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    rows: list[tuple[object, ...]] = field(default_factory=list)
    connections: int = field(default=0, compare=False)
    """How many its calls left in use; the handler leaves none, where others may have."""

    @property
    def never_ran(self) -> bool:
        """Whether it used attributes that are not loaded, which no async session allows."""
        lines = (*self.printed, *self.results)
        return any(failure in line for line in lines for failure in FAILED_BEFORE)


class Shop:
    """The project, its database, and the loop that its programs run in."""

    def __init__(self, folder: Path, server: Postgres, runner: asyncio.Runner) -> None:
        self._folder = folder
        self._dsn = server.dsn
        self._runner = runner
        self._db = importlib.import_module(f"{PACKAGE}.db")
        self._models = importlib.import_module(f"{PACKAGE}.models")
        self._others: asyncpg.Connection = runner.run(self._connect())
        runner.run(self._create())

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(self._dsn, ssl=False, server_settings={"lock_timeout": "50ms"})

    async def _create(self) -> None:
        metadata = self._models.Base.metadata
        async with self._db.engine.begin() as connection:
            await connection.run_sync(metadata.drop_all)
            await connection.run_sync(metadata.create_all)

    def close(self) -> None:
        self._runner.run(self._others.close())
        self._runner.run(self._db.engine.dispose())

    def fixed(self, text: str, *, unsafe: bool = False) -> FixResult:
        """Do what `session-guard fix` does to a program, without writing it."""
        path = self._folder / PACKAGE / "program.py"
        path.write_text(text)
        project = Project(Settings(root=self._folder))
        return fix("program.py", path, text.encode(), project, RULES, unsafe=unsafe)

    def run(self, text: str, calls: Sequence[tuple[str, tuple[object, ...]]]) -> Outcome:
        """Run functions of a program one after the other, on the rows that each begins with."""
        return self._runner.run(self._run(text, calls))

    async def _run(self, text: str, calls: Sequence[tuple[str, tuple[object, ...]]]) -> Outcome:
        outcome = Outcome()
        await self._others.execute(START)
        changes = iter(MEANWHILE * 10)

        async def sleep(seconds: float) -> None:
            try:
                await self._others.execute(next(changes))
            except asyncpg.LockNotAvailableError:
                outcome.printed.append("(locked)")

        program: dict[str, Any] = {"__name__": "program"}
        exec(compile(text, "program.py", "exec"), program)
        program["asyncio"] = types.SimpleNamespace(
            sleep=sleep, timeout=asyncio.timeout, Lock=asyncio.Lock
        )
        program["print"] = lambda *values: outcome.printed.append(shown(values))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SQLAlchemy's, of what such programs do
            for name, arguments in calls:
                try:
                    outcome.results.append(shown(await program[name](*arguments)))
                except Exception as error:
                    outcome.results.append(f"! {type(error).__name__} {after_error(error)}")
                outcome.connections += self._db.engine.pool.checkedout()
                await close_all_sessions()  # so that none of their locks meets the next call
        outcome.rows = [
            tuple(row)
            for table in ("users", "orders")
            for row in await self._others.fetch(f"SELECT * FROM {table} ORDER BY id")
        ]
        return outcome


def shown(value: object) -> str:
    """Return what a value looks like; of an object its class, since it may have expired."""
    if isinstance(value, (tuple, list)) or type(value).__name__ == "Row":
        return f"[{', '.join(map(shown, value))}]"
    if value is None or isinstance(value, (str, int, float, bool)):
        return repr(value)
    return type(value).__name__


def after_error(error: Exception) -> str:
    """Return what a caller sees of an object that an error has with it."""
    what = getattr(error, "what", None)
    try:
        return shown(getattr(what, "name", what))
    except Exception as failure:
        return type(failure).__name__


@contextmanager
def open_shop(folder: Path, server: Postgres) -> Iterator[Shop]:
    """Write the project into a folder, import it, and create its tables."""
    (folder / PACKAGE).mkdir()
    for name, code in MODULES.items():
        (folder / PACKAGE / name).write_text(code)
    os.environ["SHOP_DATABASE_URL"] = server.dsn.replace("://", "+asyncpg://")
    sys.path.insert(0, str(folder))
    try:
        with asyncio.Runner() as runner:
            shop = Shop(folder, server, runner)
            try:
                yield shop
            finally:
                shop.close()
    finally:
        del os.environ["SHOP_DATABASE_URL"]
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]
