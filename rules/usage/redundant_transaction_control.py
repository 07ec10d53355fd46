"""SG303: `commit()`, `rollback()` or `close()` that the handler does anyway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.gate import ASYNC_SESSION_WORDS
from session_guard.rule import Applicability, Invalid, Rule, Subject, Valid, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.module import Module
    from session_guard.rule import ProjectNames


class RedundantTransactionControl(Rule):
    code = "SG303"
    name = "redundant-transaction-control"
    summary = "a closing `commit()`, `rollback()` or `close()` that the handler does anyway"
    why = """\
`get_background_session()` commits when its block ends well, rolls back when an error leaves it,
and closes. A `commit()` as the block's last statement, a `rollback()` in an `except` that raises
on, and a `close()` say it twice: whoever reads the block must find out which of the two holds, and
the next way out that is added has no `commit()`. A `close()` without a commit before it is worse:
it throws the work away, and the handler then commits nothing. So is `if not dry_run:` round the
last `commit()`: the handler commits in either case.

A `commit()` with something behind it that wants it done (a message, a task that is queued, a
`refresh()`, a `return` that reads the row's new key) is no finding. Nor is one inside a `try`,
which catches its error, nor an endpoint's, which decides before the response is sent whether the
client is told of success; where a decorator that is not known may make an endpoint of the function,
it counts as one. A `rollback()` after which the block goes on is none either. Where the
handler does not keep the standard's contract there are none at all."""
    fix_safety = """\
The line is removed.

- *Safe* for a `commit()` that is the last statement on a way out, where nothing or a plain name or
  constant is returned behind it; for a `close()` right behind such a `commit()`; and for a
  `rollback()` with nothing but the `raise` and what awaits nothing behind it, in a `finally` too:
  until the handler rolls back, the transaction keeps its locks.
- *Unsafe* for a `close()` that nothing was committed before, where a call is returned, where
  something is awaited between the `rollback()` and the end of the block, or where the `with` enters
  something else behind the session.
- *Absent* where nothing would be left of the block, and where a comment stands at the line."""
    since = "0.1.0"
    references = (
        "https://docs.sqlalchemy.org/en/20/orm/session_transaction.html",
        "https://fastapi.tiangolo.com/tutorial/dependencies/dependencies-with-yield/",
    )
    needs_handler = True
    project_words = ASYNC_SESSION_WORDS
    tokens = (b"commit", b"rollback", b"close")
    subject = Subject.HANDLER
    node_types = ("With",)

    valid = (
        Valid("""\
import logging
from app.db import get_background_session
from app.models import Job

async def run(job, queue):
    async with get_background_session() as session:
        row = Job(name=job)
        session.add(row)
        await session.commit()
        await session.refresh(row)
    async with get_background_session() as session:
        session.add(row)
        await session.commit()
        logging.info("stored")
    async with get_background_session() as session:
        session.add(row)
        await session.commit()
        return row.id
"""),
        Valid("""\
from fastapi import APIRouter
from app.db import get_background_session
from app.models import Job

router = APIRouter()

@router.post("/jobs")
async def create(name: str):
    async with get_background_session() as session:
        session.add(Job(name=name))
        await session.commit()
"""),
        Valid("""\
from app.db import get_background_session
from app.work import save

async def run(rows):
    async with get_background_session() as session:
        for row in rows:
            await save(session, row)
            await session.commit()
        for row in rows:
            try:
                await save(session, row)
                await session.commit()
            except ValueError:
                await session.rollback()
                continue
"""),
        Valid("""\
from app.db import get_background_session
from app.work import save

async def dry_run(rows):
    async with get_background_session() as session:
        await save(session, rows)
        await session.rollback()
"""),
        Valid("""\
from app.db import get_background_session
from app.models import Failure
from app.work import save

async def run(rows):
    async with get_background_session() as session:
        try:
            await save(session, rows)
        except Exception as error:
            await session.rollback()
            session.add(Failure(text=str(error)))
            await session.commit()
            raise
        try:
            await save(session, rows)
        except ValueError:
            await session.rollback()
            raise
        finally:
            session.add(Failure(text="done"))
"""),
        Valid(
            """\
from app.db import get_background_session
from app.work import save

async def run(rows):
    async with get_background_session() as session:
        await save(session, rows)
        await session.commit()
""",
            handler="""\
from contextlib import asynccontextmanager
from sqlalchemy.ext.asyncio import async_sessionmaker

factory = async_sessionmaker()

@asynccontextmanager
async def get_background_session():
    async with factory() as session:
        yield session
""",
        ),
    )
    invalid = (
        Invalid(
            """\
from app.db import get_background_session
from app.models import Job

async def run(name):
    async with get_background_session() as session:
        job = Job(name=name)
        session.add(job)
        if not name:
            await session.commit()
            return None
        await session.commit()
        return job
""",
            fixed="""\
from app.db import get_background_session
from app.models import Job

async def run(name):
    async with get_background_session() as session:
        job = Job(name=name)
        session.add(job)
        if not name:
            return None
        return job
""",
            count=2,
            because="`session.commit()` is what the handler does",
        ),
        Invalid(
            """\
from app import db
from app.work import save

async def run(rows):
    async with db.get_background_session() as session:
        try:
            await save(session, rows)
        except Exception:
            await session.rollback()
            raise
""",
            fixed="""\
from app import db
from app.work import save

async def run(rows):
    async with db.get_background_session() as session:
        try:
            await save(session, rows)
        except Exception:
            raise
""",
            because="rollback",
        ),
        Invalid(
            """\
from app.db import get_background_session
from app.work import save

async def run(rows):
    async with get_background_session() as session:
        await save(session, rows)
        await session.commit()
        await session.close()
""",
            fixed="""\
from app.db import get_background_session
from app.work import save

async def run(rows):
    async with get_background_session() as session:
        await save(session, rows)
""",
            count=2,
        ),
        Invalid(
            """\
from app.db import get_background_session
from app.work import load

async def run(rows):
    async with get_background_session() as session:
        found = await load(session, rows)
        await session.close()
        return found
""",
            fixed="""\
from app.db import get_background_session
from app.work import load

async def run(rows):
    async with get_background_session() as session:
        found = await load(session, rows)
        return found
""",
            unsafe=True,
            because="throws away",
        ),
        Invalid(
            """\
from app.db import get_background_session
from app.work import save, summary

async def run(rows):
    async with get_background_session() as session:
        await save(session, rows)
        await session.commit()
        return summary(rows)
""",
            fixed="""\
from app.db import get_background_session
from app.work import save, summary

async def run(rows):
    async with get_background_session() as session:
        await save(session, rows)
        return summary(rows)
""",
            unsafe=True,
            because="would be worked out before the commit",
        ),
        Invalid(
            """\
from app.db import get_background_session
from app.work import save

async def run(rows):
    async with get_background_session() as session:
        try:
            await save(session, rows)
        finally:
            await session.close()
""",
            because="nothing would be left of the block",
        ),
    )

    def gate(self, source: bytes, names: ProjectNames) -> bool:
        from session_guard.usage import may_use_handler

        return super().gate(source, names) and may_use_handler(source, names)

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import With

        from session_guard.usage.control import redundant_control

        assert isinstance(node, With)
        for found in redundant_control(node, module):
            help_text = "leave it to the handler"
            if found.rewrite is None:
                help_text = f"{help_text}; not fixed: {found.reason}"
            elif found.rewrite.applicability is Applicability.UNSAFE:
                help_text = found.rewrite.message
            yield Violation(
                found.node,
                f"`{found.session}.{found.method}()` is what the handler does when the block ends",
                help_text,
                found.rewrite,
            )
