"""SG101: `AsyncSession(...)` constructed outside the handler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.gate import ASYNC_SESSION_WORDS
from session_guard.rule import Invalid, Rule, Subject, Valid, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.module import Module


class DirectAsyncSession(Rule):
    code = "SG101"
    name = "direct-async-session"
    summary = "`AsyncSession(...)` constructed outside the handler"
    why = """\
A session that is constructed by hand gets whatever engine stands at hand and none of the handler's
promises: nobody commits it, rolls it back and logs the error, or sees that its engine has the
settings that a transaction pooler needs. Behind Supavisor or PgBouncer such sessions fail with
`prepared statement "__asyncpg_…__" does not exist` or, without any error, return rows that belong
to another query.

It is found by whatever name the class goes: an alias, a module's attribute, a subclass, SQLModel's
class, a `functools.partial`. Type annotations, `isinstance`, other libraries' classes of the same
name and sessions on an engine known to be another database's (SQLite, MySQL) are no findings."""
    fix_safety = """\
`async with AsyncSession(engine) as session:` becomes
`async with get_background_session() as session:`. So does `session = AsyncSession(engine)` with
the `try` whose `finally` closes it; an `except` that only rolls back and raises goes, any other
stays in a `try` inside the block. On an `AsyncExitStack` the call alone changes. An endpoint and a
request dependency get `get_session()` (see SG103).

- *Safe* where the engine is the handler's, the class is the one that the handler's sessions have or
  a base of it, and the block only reads, or commits last on every way out; where it relied neither
  on autoflush nor on attributes that expire on commit; and where it swallows no error.
- *Unsafe* where one of these is not so or could not be followed; the message says which.
- *Absent* where the engine is another or is not known to be the handler's (name it in `engines`),
  where the class differs, where the session is returned, stored, or yielded to whom is not known,
  where it is closed in none of these forms, or where a comment would be lost."""
    since = "0.1.0"
    references = (
        "https://docs.sqlalchemy.org/en/20/orm/extensions/asyncio.html",
        "https://docs.sqlalchemy.org/en/20/dialects/postgresql.html#prepared-statement-name-with-pgbouncer",
    )
    project_words = ASYNC_SESSION_WORDS
    tokens = (b"AsyncSession",)
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
from sqlalchemy.ext.asyncio import AsyncSession

async def load(session: AsyncSession) -> None:
    assert isinstance(session, AsyncSession)
"""),
        Valid("""\
from curl_cffi.requests import AsyncSession

async def fetch(url):
    async with AsyncSession() as session:
        return await session.get(url)
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import AsyncSession

class TenantSession(AsyncSession):
    tenant: str

def open_with(AsyncSession, engine):
    return AsyncSession(engine)
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

async def migrate(path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    async with AsyncSession(engine) as session:
        await session.commit()
"""),
        Valid("""\
from unittest.mock import AsyncMock
from sqlalchemy.ext.asyncio import AsyncSession

session = AsyncMock(spec=AsyncSession)
"""),
        Valid("""\
from sqlalchemy.orm import Session
from app.sync import engine

with Session(engine) as session:
    session.commit()
"""),
        Valid('''\
"""Never write async with AsyncSession(engine) as session: here."""
# async with AsyncSession(engine) as session:
TEXT = "from sqlalchemy.ext.asyncio import AsyncSession; AsyncSession(engine)"
'''),
    )
    invalid = (
        Invalid(
            """\
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import engine
from app.models import User

async def names():
    async with AsyncSession(engine) as session:
        users = (await session.scalars(select(User))).all()
    return [user.name for user in users]
""",
            fixed="""\
from sqlalchemy import select

from app.db import get_background_session
from app.models import User

async def names():
    async with get_background_session() as session:
        users = (await session.scalars(select(User))).all()
    return [user.name for user in users]
""",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import AsyncSession as Session

from app import db
from app.models import Job

async def add(name):
    async with Session(db.engine, expire_on_commit=False) as s:
        s.add(Job(name=name))
        await s.commit()
""",
            fixed="""\
from app import db
from app.models import Job

async def add(name):
    async with db.get_background_session() as s:
        s.add(Job(name=name))
        await s.commit()
""",
        ),
        Invalid(
            """\
import sqlalchemy.ext.asyncio as sa_async

from app.db import engine
from app.models import Job

async def add(name):
    async with sa_async.AsyncSession(engine) as session:
        session.add(Job(name=name))
""",
            fixed="""\
from app.db import get_background_session
from app.models import Job

async def add(name):
    async with get_background_session() as session:
        session.add(Job(name=name))
""",
            unsafe=True,
            because="it adds rows (line 8), and nothing commits that; the handler would",
        ),
        Invalid(
            """\
import logging

from sqlalchemy.ext.asyncio import AsyncSession

from app.db import engine
from app.models import Job

async def add(name: str):
    session = AsyncSession(engine)
    try:
        session.add(Job(name=name))
        await session.commit()
    except Exception:
        await session.rollback()
        raise
    finally:
        await session.close()

async def add_or_tell(name: str):
    session = AsyncSession(engine)
    try:
        session.add(Job(name=name))
        await session.commit()
    except Exception as error:
        logging.error("%s was not added: %s", name, error)
        await session.rollback()
        raise
    finally:
        await session.close()
""",
            fixed="""\
import logging

from app.db import get_background_session
from app.models import Job

async def add(name: str):
    async with get_background_session() as session:
        session.add(Job(name=name))

async def add_or_tell(name: str):
    async with get_background_session() as session:
        try:
            session.add(Job(name=name))
            await session.commit()
        except Exception as error:
            logging.error("%s was not added: %s", name, error)
            await session.rollback()
            raise
""",
            count=2,
        ),
        Invalid(
            """\
from contextlib import AsyncExitStack

from sqlalchemy.ext.asyncio import AsyncSession

from app.db import engine
from app.models import User

async def first(name):
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(AsyncSession(engine))
        return await session.get(User, name)
""",
            fixed="""\
from contextlib import AsyncExitStack

from app.db import get_background_session
from app.models import User

async def first(name):
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(get_background_session())
        return await session.get(User, name)
""",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import engine
from app.models import Job

async def add(name):
    session = AsyncSession(engine)
    session.add(Job(name=name))
    await session.close()
""",
            because="no `finally` closes the session, and it adds rows (line 8)",
        ),
        Invalid(
            """\
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import engine
from app.models import Job

async def add(name):
    async with AsyncSession(engine) as session:
        session.add(Job(name=name))
        waiting = await session.scalar(select(func.count(Job.id)))
        await session.commit()
    return waiting
""",
            fixed="""\
from sqlalchemy import func, select

from app.db import get_background_session
from app.models import Job

async def add(name):
    async with get_background_session() as session:
        session.add(Job(name=name))
        waiting = await session.scalar(select(func.count(Job.id)))
        await session.commit()
    return waiting
""",
            unsafe=True,
            because="a query runs after a change without a `flush()` between (line 10)",
        ),
        Invalid(
            """\
import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from app.db import engine
from app.models import Job

async def wait_for(job_id):
    async with AsyncSession(engine) as session:
        while not (job := await session.get(Job, job_id)).done:
            await session.commit()
            await asyncio.sleep(1)
        return job.result
""",
            fixed="""\
import asyncio

from app.db import get_background_session
from app.models import Job

async def wait_for(job_id):
    async with get_background_session() as session:
        while not (job := await session.get(Job, job_id)).done:
            await session.commit()
            await asyncio.sleep(1)
        return job.result
""",
            unsafe=True,
            because="it reads again after a commit, and would see old values (line 10)",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import engine
from app.models import Job

async def add(name):
    async with AsyncSession(engine, info={"tenant": name}) as session:
        session.add(Job(name=name))
        await session.commit()
""",
            fixed="""\
from app.db import get_background_session
from app.models import Job

async def add(name):
    async with get_background_session() as session:
        session.add(Job(name=name))
        await session.commit()
""",
            unsafe=True,
            because="the handler's sessions do not have its `info`",
        ),
        Invalid(
            """\
import logging

from sqlalchemy.ext.asyncio import AsyncSession

from app.db import engine
from app.models import Job

async def add(names):
    async with AsyncSession(engine) as session:
        for name in names:
            session.add(Job(name=name))
            try:
                await session.flush()
            except Exception:
                logging.warning("%s is there already", name)
        await session.commit()
""",
            fixed="""\
import logging

from app.db import get_background_session
from app.models import Job

async def add(names):
    async with get_background_session() as session:
        for name in names:
            session.add(Job(name=name))
            try:
                await session.flush()
            except Exception:
                logging.warning("%s is there already", name)
        await session.commit()
""",
            unsafe=True,
            because="an `except` catches errors of the session and goes on (line 14)",
        ),
        Invalid(
            """\
from sqlmodel.ext.asyncio.session import AsyncSession

from app.db import engine

async def ping():
    async with AsyncSession(engine) as session:
        await session.exec("select 1")
""",
            because="its class is not the one that the handler's sessions have",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import AsyncSession

async def run(engine):
    async with AsyncSession(engine) as session:
        await session.commit()
""",
            because='engines = ["package.module.name"]',
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

reports = create_async_engine("postgresql+asyncpg://reports/db")

async def run():
    async with AsyncSession(reports) as session:
        await session.commit()
""",
            because="its engine is another than the handler's",
        ),
        Invalid(
            """\
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from app.db import engine

make_session = partial(AsyncSession, engine)
""",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import engine

class TenantSession(AsyncSession):
    pass

Shortcut = TenantSession

async def run():
    session = Shortcut(engine)
    await session.close()
""",
            because="the session is not opened by an `async with`",
        ),
    )

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import Call

        from session_guard.names import databases, openings, values
        from session_guard.safety.handover import is_no_async_session, report_opening

        assert isinstance(node, Call)
        if is_no_async_session(node, module) or databases.is_for_another_database(
            module.place(node)
        ):
            return
        for value in module.results(node):
            if isinstance(value, values.Partial) and openings.is_session_class(value.function):
                made = openings.factory(value)
                if made is not None and databases.is_on_another_database(made.bind):
                    return
                yield Violation(
                    node,
                    f"`{module.code(node.func)}` of `AsyncSession` makes sessions outside the "
                    "handler",
                    "open sessions with `async with get_background_session() as session:`; "
                    "not fixed: where its sessions are opened is to be changed first",
                )
                return
            opening = openings.opening(value)
            if (
                opening is not None
                and not opening.from_factory
                and not databases.is_on_another_database(opening.bind)
            ):
                yield report_opening(
                    node,
                    opening,
                    module,
                    f"`{module.code(node.func)}(…)` constructs a session outside the handler",
                )
                return
