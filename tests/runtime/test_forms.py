"""Jobs that close their sessions by hand, before and after the safe fix: same rows, same lines."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

from session_guard import async_session
from session_guard.config import Settings
from session_guard.fixer import fix
from session_guard.project.project import Project
from session_guard.registry import load_rules

from .servers import Postgres

RULES = tuple(rule for rule in load_rules() if rule.code in ("SG101", "SG103", "SG303"))
JOBS = '''\
import contextlib
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from app.db import get_background_task_session_factory as factory
from app.models import Item


async def add(item: int, name: str):
    session = factory()()
    try:
        if name == "refused":
            raise ValueError(name)
        if name == "none":
            return None
        session.add(Item(id=item, name=name))
        await session.commit()
    except Exception:
        await session.rollback()
        raise
    finally:
        await session.close()
    return name


async def add_and_tell(item: int, name: str):
    session = factory()()
    try:
        session.add(Item(id=item, name=name))
        await session.flush()
        await session.commit()
    except IntegrityError:
        print("there already:", item)
        await session.rollback()
        raise
    else:
        print("added:", item)
    finally:
        await session.close()


async def add_or_raise_another(item: int, name: str):
    async with factory()() as session:
        try:
            session.add(Item(id=item, name=name))
            await session.commit()
        except IntegrityError as error:
            raise KeyError(item) from error
        finally:
            await session.close()


async def add_all(item: int, name: str):
    session = factory()()
    for number in range(3):
        session.add(Item(id=item + number, name=f"""{name}
  {number}"""))
        await session.commit()
    await session.close()


async def rename(item: int, name: str):
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(factory()())
        found = await session.get(Item, item)
        if found is None:
            return "none"
        found.name = name
        await session.commit()
        return found.name


async def count(item: int, name: str):
    session = factory()()
    try:
        inner = factory()()
        try:
            found = await inner.scalar(select(func.count(Item.id)))
        finally:
            await inner.close()
        return found + await session.scalar(select(func.count(Item.id)).where(Item.id > item))
    finally:
        await session.close()


async def add_in_else(item: int, name: str):
    session = factory()()
    try: session.add(Item(id=item, name=name))
    except Exception as error: await session.rollback(); raise error
    else: await session.commit()
    finally: await session.close()


JOBS = (add, add_and_tell, add_or_raise_another, add_all, rename, count, add_in_else)
'''
MODELS = """\
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
"""
PROGRAM = """\
import asyncio, sys
from app import db
from app.jobs import JOBS


async def main():
    for job in JOBS:
        for item, name in ((1, "one"), (1, "again"), (10, "ten"), (20, "refused"), (30, "none")):
            try:
                print(job.__name__, item, name, await job(item, name))
            except Exception as error:
                print(job.__name__, item, name, type(error).__name__)
    print(db.engine.pool.checkedout(), "in use")
    await db.dispose()


db.configure(db.SessionSettings(url=sys.argv[1], tls="off"))
asyncio.run(main())
"""


def run(folder: Path, postgres: Postgres) -> tuple[list[str], list[tuple[int, str]]]:
    """Run the jobs; return what they print, and the rows that are there afterwards."""
    asyncio.run(postgres.fetch("TRUNCATE items"))
    done = subprocess.run(
        [sys.executable, "program.py", postgres.dsn],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = asyncio.run(postgres.fetch("SELECT id, name FROM items ORDER BY id"))
    return done.stdout.splitlines(), [(row["id"], row["name"]) for row in rows]


def test_safe_fixes_print_and_store_the_same(
    tmp_path: Path, postgres: Postgres, items: None
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    shutil.copy(async_session.__file__, app / "db.py")
    for path, text in ((app / "__init__.py", ""), (app / "models.py", MODELS)):
        path.write_text(text)
    (tmp_path / "program.py").write_text(PROGRAM)
    jobs = app / "jobs.py"
    jobs.write_text(JOBS)
    printed, stored = run(tmp_path, postgres)

    project = Project(Settings(root=tmp_path))
    result = fix("jobs.py", jobs, jobs.read_bytes(), project, RULES, unsafe=False)
    assert result.remaining == []
    assert b"factory" not in result.data
    jobs.write_bytes(result.data)
    printed_now, stored_now = run(tmp_path, postgres)
    assert printed_now[:-1] == printed[:-1]
    assert stored_now == stored
    # What was not closed where an error came is closed now.
    assert printed[-1] != "0 in use"
    assert printed_now[-1] == "0 in use"

    assert "add_and_tell 1 one IntegrityError" in printed
    assert "add_or_raise_another 1 one KeyError" in printed
