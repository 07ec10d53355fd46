"""SG105: a session that is made, and not closed on every way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.gate import ASYNC_SESSION_WORDS
from session_guard.rule import Invalid, Rule, Subject, Valid, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.module import Module


class SessionNeverClosed(Rule):
    code = "SG105"
    name = "session-never-closed"
    summary = "a session that is made, and not closed on every way out"
    why = """\
A session that has run a query holds a connection until it is committed, rolled back or closed. One
that nobody closes keeps its connection, with an open transaction, until the garbage collector finds
it: SQLAlchemy then warns of a "non-checked-in connection" and terminates it, since it cannot wait
for asyncpg there. Until then the pool has one connection less, and behind a transaction pooler a
server connection is held `idle in transaction`. Under load the pool runs dry, and the error
(`QueuePool limit … reached`) is raised far from the cause. A `close()` at the end is not reached
when something before it raises, and one without `await` closes nothing: it only makes a coroutine.

Sessions in `async with` (also later: `async with session:`), with an awaited `close()`, `reset()`
or `invalidate()` in `finally`, in `contextlib.aclosing` or an `AsyncExitStack` are closed. One that
is returned, stored, or handed to other code is that code's to close, unless this function closes it
too. A generator for a context manager, a fixture or a dependency closes what it yields. Sessions of
`async_scoped_session` belong to its registry; one that only has `add()` called holds no
connection."""
    fix_safety = """\
There is no fix: `async with` needs a block round the uses of the session, which only the author can
draw."""
    since = "0.1.0"
    references = (
        "https://docs.sqlalchemy.org/en/20/orm/session_basics.html#closing",
        "https://docs.sqlalchemy.org/en/20/orm/extensions/asyncio.html#using-asyncio-scoped-session",
    )
    project_words = ASYNC_SESSION_WORDS
    tokens = (b"AsyncSession", b"sessionmaker")
    project_names = True
    in_handler = True
    subject = Subject.MAKERS
    node_types = ("Call",)

    valid = (
        Valid("""\
from app.db import background_task_session_factory as Session

async def run(job):
    async with Session() as session:
        await session.commit()
    later = Session()
    async with later:
        await later.commit()
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import engine

async def run(job):
    session = AsyncSession(engine)
    try:
        await session.merge(job)
        await session.commit()
    except Exception:
        await session.rollback()
        raise
    finally:
        await session.close()
"""),
        Valid("""\
from contextlib import AsyncExitStack, aclosing
from app.db import background_task_session_factory

async def run(job):
    async with AsyncExitStack() as stack:
        session = background_task_session_factory()
        stack.push_async_callback(session.close)
        other = await stack.enter_async_context(background_task_session_factory())
        await session.merge(job)
    third = background_task_session_factory()
    async with aclosing(third):
        await third.merge(job)
"""),
        Valid("""\
from contextlib import AsyncExitStack, aclosing
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import engine

async def run(job, other):
    async with (session := AsyncSession(engine)):
        await session.merge(job)
    async with aclosing(second := AsyncSession(engine) if job else AsyncSession(engine)):
        await second.merge(job)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(third := AsyncSession(engine))
        await third.merge(job)
"""),
        Valid("""\
from app.db import background_task_session_factory

class UnitOfWork:
    def __init__(self):
        self.session = background_task_session_factory()

    async def __aenter__(self):
        session = background_task_session_factory()
        self.other = session
        return self

def make():
    session = background_task_session_factory()
    session.info["made"] = True
    return session
"""),
        Valid("""\
from app.db import background_task_session_factory

async def run(job, session=None):
    own = session is None
    if session is None:
        session = background_task_session_factory()
    try:
        await session.merge(job)
    finally:
        if own:
            await session.close()
"""),
        Valid("""\
from asyncio import current_task
from sqlalchemy.ext.asyncio import async_scoped_session
from app.db import background_task_session_factory

Session = async_scoped_session(background_task_session_factory, current_task)

async def run(job):
    session = Session()
    await session.merge(job)
    await Session.remove()
"""),
        Valid("""\
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from app.db import engine

@pytest_asyncio.fixture
async def session():
    connection = await engine.connect()
    session = AsyncSession(bind=connection)
    yield session
    await connection.close()

async def load(connection: AsyncConnection, job):
    session = AsyncSession(connection)
    await session.merge(job)
"""),
        Valid("""\
from app.db import background_task_session_factory
from app.work import Repository

async def run(job):
    session = background_task_session_factory()
    repository = Repository(session)
    return repository
"""),
        Valid("""\
from app.db import background_task_session_factory

async def run(job):
    session = background_task_session_factory()
    try:
        await session.merge(job)
    except Exception:
        await session.close()
        raise
    await session.close()
"""),
    )
    invalid = (
        Invalid(
            """\
from app.db import background_task_session_factory
from app.models import Job

async def run(job_id):
    session = background_task_session_factory()
    job = await session.get(Job, job_id)
    return job.name
""",
            because="`session` is never closed",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import engine

async def run(job):
    session = AsyncSession(engine)
    await session.merge(job)
    await session.commit()
    await session.close()
""",
            because="not closed when something raises",
        ),
        Invalid(
            """\
from sqlalchemy import select
from app.db import background_task_session_factory
from app.models import Job

async def count():
    return (await background_task_session_factory().scalars(select(Job))).all()
""",
            because="never closed",
        ),
        Invalid(
            """\
from collections.abc import AsyncGenerator
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import background_task_session_factory

async def get_db() -> AsyncGenerator[AsyncSession, None]:
    db = background_task_session_factory()
    yield db
    await db.close()
""",
            because="`db` is not closed when something raises",
        ),
        Invalid(
            """\
from contextlib import asynccontextmanager
from app.db import background_task_session_factory

@asynccontextmanager
async def session_scope():
    session = background_task_session_factory()
    try:
        yield session
        await session.commit()
    except Exception:
        await session.rollback()
        raise
""",
            because="`session` is never closed",
        ),
        Invalid(
            """\
from sqlalchemy import text
from app.db import background_task_session_factory

async def run():
    session = background_task_session_factory()
    try:
        await session.execute(text("SELECT 1"))
    finally:
        session.close()
""",
            because="`session.close()` is not awaited",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import engine

async def run(job):
    (session := AsyncSession(engine))
    await session.merge(job)
    if (other := AsyncSession(engine)) is not None:
        await other.merge(job)
""",
            count=2,
            because="never closed",
        ),
        Invalid(
            """\
from app.db import background_task_session_factory
from app.work import process

async def run(job):
    session = background_task_session_factory()
    try:
        await process(session, job)
        await session.commit()
    except ValueError:
        await session.rollback()
    await session.close()
""",
            because="not closed when something raises",
        ),
    )

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import Call

        from session_guard.usage.closing import left_open

        assert isinstance(node, Call)
        found = left_open(node, module)
        if found is None:
            return
        what = "is not closed when something raises" if found.is_ever_closed else "is never closed"
        if found.unawaited is not None:
            what += f": `{found.unawaited}` is not awaited, so that nothing is closed"
        yield Violation(
            node,
            f"`{found.name}` {what}",
            "open it with `async with`, or await its `close()` in a `finally`",
        )
