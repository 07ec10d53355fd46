"""SG304: an error of the database caught inside the handler's block, and not raised on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.gate import ASYNC_SESSION_WORDS
from session_guard.rule import Invalid, Rule, Subject, Valid, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.module import Module
    from session_guard.rule import ProjectNames


class SwallowedErrorInHandler(Rule):
    code = "SG304"
    name = "swallowed-error-in-handler"
    summary = "an error of the database caught inside the handler's block, and not raised on"
    why = """\
The handler commits when its block ends well, and a block that has caught an error ends well. But
PostgreSQL has aborted the transaction: after a failed `flush()` the handler's commit raises
`PendingRollbackError`; after a failed `execute()` PostgreSQL answers COMMIT with a rollback, and
everything the block wrote is gone without a word (the reference handler notices, and raises). Where
the error came between two writes, the first half is committed.

Found is an `except` (or `contextlib.suppress`) that catches `Exception`, `SQLAlchemyError` or
another error of the database round an awaited use of the session, and neither raises nor rolls
back; and a `finally` with a `return`, a `break` or a `continue`, which ends any error. It is right
to

- catch it outside the block, where the handler has rolled back;
- wrap each step that may fail in `async with session.begin_nested():`, and catch round that;
- `await session.rollback()` first in the `except`: then the block begins anew, knowingly;
- keep the error, and raise behind the loop.

`NoResultFound` and `MultipleResultsFound` come from a query that succeeded: the transaction is
alive. A block that surely only reads has nothing to lose. An `except` that hands the session to
code which may roll back, and a `try` round nothing but `add()`, are no findings either; where the
handler does not commit there are none at all."""
    fix_safety = (
        "There is no fix: what shall become of the work before the error, only the author knows."
    )
    since = "0.1.0"
    references = (
        "https://docs.sqlalchemy.org/en/20/faq/sessions.html#this-session-s-transaction-has-been-rolled-back-due-to-a-previous-exception-during-flush-or-similar",
        "https://docs.sqlalchemy.org/en/20/orm/session_transaction.html#using-savepoint",
    )
    needs_handler = True
    project_words = ASYNC_SESSION_WORDS
    tokens = (b"except", b"finally", b"suppress")
    subject = Subject.HANDLER
    node_types = ("With",)

    valid = (
        Valid("""\
import logging
from sqlalchemy.exc import IntegrityError
from app.db import get_background_session
from app.models import User

async def load(rows):
    async with get_background_session() as session:
        for row in rows:
            try:
                async with session.begin_nested():
                    session.add(User(**row))
                    await session.flush()
            except IntegrityError:
                logging.info("%s is there already", row["name"])
"""),
        Valid("""\
from sqlalchemy.exc import IntegrityError
from app.db import get_background_session
from app.models import User

async def create(name):
    try:
        async with get_background_session() as session:
            session.add(User(name=name))
            await session.flush()
    except IntegrityError:
        return None
"""),
        Valid("""\
import logging
from sqlalchemy import update
from app.db import get_background_session
from app.models import Job

async def run(job_id):
    async with get_background_session() as session:
        try:
            await session.execute(update(Job).values(tries=0))
        except Exception:
            logging.exception("job %s", job_id)
            await session.rollback()
            return False
        return True
"""),
        Valid("""\
from sqlalchemy import select
from sqlalchemy.exc import NoResultFound
from app.db import get_background_session
from app.models import User

async def get_or_create(name):
    async with get_background_session() as session:
        try:
            user = (await session.scalars(select(User).where(User.name == name))).one()
        except NoResultFound:
            user = User(name=name)
            session.add(user)
            await session.flush()
        return user
"""),
        Valid("""\
import logging
from app.db import get_background_session
from app.models import Job
from app.work import process

async def run(job_id):
    async with get_background_session() as session:
        job = await session.get(Job, job_id)
        try:
            await process(job.url)
            session.add(Job(parent=job_id))
        except Exception as error:
            job.status = "failed"
            job.error = str(error)
"""),
        Valid("""\
from sqlalchemy import text
from app.db import get_background_session

async def healthy() -> bool:
    async with get_background_session() as session:
        try:
            await session.execute(text("SELECT 1"))
        except Exception:
            return False
        return True
"""),
        Valid("""\
from app.db import get_background_session
from app.work import save

async def run(rows):
    errors = []
    async with get_background_session() as session:
        for row in rows:
            try:
                await save(session, row)
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("rows", errors)
"""),
        Valid("""\
from sqlalchemy.exc import IntegrityError
from app.db import get_background_session
from app.errors import Conflict
from app.work import save

async def run(row):
    async with get_background_session() as session:
        try:
            await save(session, row)
        except IntegrityError as error:
            raise Conflict(row) from error
        except Conflict:
            return None
"""),
        Valid(
            """\
from app.db import get_background_session
from app.work import save

async def run(row):
    async with get_background_session() as session:
        try:
            await save(session, row)
        except Exception:
            return None
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
import logging
from app.db import get_background_session
from app.work import save

async def load(rows):
    async with get_background_session() as session:
        for row in rows:
            try:
                await save(session, row)
            except Exception:
                logging.exception("row %s failed", row)
""",
            because="`except Exception` catches an error of `session`",
        ),
        Invalid(
            """\
from sqlalchemy.exc import IntegrityError
from app.db import get_background_session
from app.models import User

async def create(name):
    async with get_background_session() as session:
        try:
            session.add(User(name=name))
            await session.flush()
        except IntegrityError:
            return None
""",
            because="IntegrityError",
        ),
        Invalid(
            """\
import sqlalchemy as sa
from app import db
from app.models import Job

async def run(job_id):
    async with db.get_background_session() as s:
        job = await s.get(Job, job_id)
        try:
            await s.execute(sa.text("UPDATE jobs SET tries = tries + 1"))
        except (ValueError, sa.exc.SQLAlchemyError) as error:
            job.error = str(error)
            await s.commit()
""",
        ),
        Invalid(
            """\
from contextlib import suppress
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from app.db import get_background_session

async def drop(tables):
    async with get_background_session() as session:
        for table in tables:
            with suppress(ProgrammingError):
                await session.execute(text(f"DROP TABLE {table}"))
""",
            because="`suppress(ProgrammingError)`",
        ),
        Invalid(
            """\
from app.db import get_background_session

async def run(rows):
    async with get_background_session() as session:
        try:
            for row in rows:
                await session.merge(row)
        except:
            pass
""",
            because="`except:`",
        ),
        Invalid(
            """\
from sqlalchemy.exc import DBAPIError
from app.db import get_background_session as open_session
from app.work import save

async def run(row, retry):
    async with open_session() as session:
        try:
            await save(session=session, row=row)
        except DBAPIError as error:
            if not retry:
                raise
            print(error)
""",
        ),
    )

    def gate(self, source: bytes, names: ProjectNames) -> bool:
        from session_guard.usage import may_use_handler

        return super().gate(source, names) and may_use_handler(source, names)

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import With

        from session_guard.usage.errors import swallowed_errors

        assert isinstance(node, With)
        for swallowing, what, session in swallowed_errors(node, module):
            yield Violation(
                swallowing,
                f"{what} catches an error of `{session}` and goes on, and the handler commits",
                f"raise it on, roll back first (`await {session}.rollback()`), or wrap what may "
                f"fail in `async with {session}.begin_nested():`",
            )
