"""SG301: one session used by several tasks at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.gate import ASYNC_SESSION_WORDS
from session_guard.rule import Invalid, Rule, Subject, Valid, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.module import Module
    from session_guard.names.values import Namespace


class SessionSharedByTasks(Rule):
    code = "SG301"
    name = "session-shared-by-tasks"
    summary = "one session used by several tasks at once"
    why = """\
An `AsyncSession` is one transaction on one connection, and no two tasks may use it at once. With
`asyncio.gather(load(session, 1), load(session, 2))` the second query meets the first's, and asyncpg
raises `InterfaceError: cannot perform operation: another operation is in progress`, or SQLAlchemy
`IllegalStateChangeError`; where the timing is lucky, one task's `commit()` or `rollback()` takes
the other's work along. It often passes in tests and fails under load.

Found are sessions that reach more than one coroutine of `asyncio.gather`, `wait` or `as_completed`,
of a `TaskGroup` or of AnyIO's task group; tasks that run while the session is used by another or in
the function that started them, or that nobody waits for before it is closed; and sessions handed to
a background task (`BackgroundTasks.add_task`), which runs when the response is sent and, from
FastAPI 0.106 to 0.117, after the request's session was closed, or to a job of APScheduler.
Coroutines are followed into the project's functions, closures, lambdas and methods
(`self.session`), and into the objects that classes and functions make of a session.

One coroutine alone may use the session, whatever runs beside it. A function that uses it under a
lock, or a semaphore that lets one in, is no finding, nor one that only calls `add()`, which does
not talk to the database. A task that is returned, or kept in an attribute or by the caller, may be
waited for there. One that closes the session itself has taken it over, unless its block, its
function or its dependency surely closes it too."""
    fix_safety = """\
There is no fix: either the tasks open a session each (`async with get_background_session()` inside
the coroutine, which is another transaction), or the queries run one after the other. Only the
author knows which is meant."""
    since = "0.1.0"
    references = (
        "https://docs.sqlalchemy.org/en/20/orm/session_basics.html#is-the-session-thread-safe-is-asyncsession-safe-to-share-in-concurrent-tasks",
        "https://fastapi.tiangolo.com/tutorial/dependencies/dependencies-with-yield/",
    )
    project_words = ASYNC_SESSION_WORDS
    tokens = (
        b"gather",
        b"create_task",
        b"ensure_future",
        b"start_soon",
        b"as_completed",
        b"asyncio.wait",
        b"asyncio.Task(",
        b" asyncio import",
        b" asyncio as",
        b"run_in_executor",
        b"add_task",
        b"BackgroundTask",
        b"add_job",
        b"add_schedule",
    )
    in_handler = True
    subject = Subject.SESSIONS
    node_types = ("Call",)

    valid = (
        Valid("""\
import asyncio
from app.db import get_background_session

async def load(factory, user_id):
    async with factory() as session:
        return await session.get(dict, user_id)

async def job(db=get_background_session):
    return await asyncio.gather(load(db, 1), load(db, 2))
"""),
        Valid("""\
import asyncio
from sqlalchemy.ext.asyncio import AsyncSession
from app.http import fetch

async def page(session: AsyncSession, url: str):
    return await asyncio.gather(session.scalar("select 1"), fetch(url), asyncio.sleep(1))
"""),
        Valid("""\
from rich.progress import Progress
from app.db import get_background_session

async def job():
    with Progress() as progress:
        async with get_background_session() as session:
            task = progress.add_task("loading", session)
"""),
        Valid("""\
import asyncio
from sqlalchemy.ext.asyncio import AsyncSession

async def save(db: AsyncSession, lock: asyncio.Lock, item):
    async with lock:
        db.add(item)
        await db.flush()

async def job(db: AsyncSession, items):
    lock = asyncio.Lock()
    await asyncio.gather(*[save(db, lock, item) for item in items])
"""),
        Valid("""\
import asyncio
import aiohttp

async def job(urls):
    async with aiohttp.ClientSession() as session:
        tasks = [session.get(url) for url in urls]
        return await asyncio.gather(*tasks)
"""),
        Valid("""\
from fastapi import BackgroundTasks
from sqlalchemy.ext.asyncio import AsyncSession
from app.mail import send

async def register(db: AsyncSession, background_tasks: BackgroundTasks, mail: str):
    user_id = await db.scalar("select 1")
    background_tasks.add_task(send, mail, user_id)
"""),
        Valid("""\
import asyncio
from sqlalchemy.ext.asyncio import AsyncSession
from app.work import load

async def with_timeout(db: AsyncSession):
    task = asyncio.create_task(load(db))
    await asyncio.wait({task}, timeout=5)
    first = await load(db)
    return await asyncio.wait_for(load(db), 5)
"""),
        Valid("""\
import asyncio
from sqlalchemy.ext.asyncio import AsyncSession
from app.work import load

async def finish(db: AsyncSession):
    try:
        await db.commit()
    finally:
        await db.close()

class Worker:
    def start(self, db: AsyncSession):
        self.tasks.append(asyncio.create_task(load(db)))

    def take_over(self, db: AsyncSession):
        asyncio.create_task(finish(db))
"""),
    )
    invalid = (
        Invalid(
            """\
import asyncio
from sqlalchemy.ext.asyncio import AsyncSession
from app.work import count_users, count_orders

async def dashboard(db: AsyncSession):
    users, orders = await asyncio.gather(count_users(db), count_orders(db))
    return users, orders

async def in_tasks(db: AsyncSession):
    users = asyncio.create_task(count_users(db))
    orders = asyncio.create_task(count_orders(db))
    return await users, await orders
""",
            count=2,
            because="is used while this task, which uses it too, is running",
        ),
        Invalid(
            """\
from asyncio import gather
from typing import Annotated
from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import get_session
from app.work import enrich

router = APIRouter()
SessionDep = Annotated[AsyncSession, Depends(get_session)]

@router.get("/items")
async def items(session: SessionDep, ids: list[int]):
    return await gather(*[enrich(session, i) for i in ids])
""",
            because="any number of coroutines",
        ),
        Invalid(
            """\
import asyncio
from app.db import get_background_session

async def job(items):
    async with get_background_session() as session:
        async def one(item):
            await session.merge(item)

        tasks = []
        for item in items:
            tasks.append(one(item))
        await asyncio.gather(*tasks, return_exceptions=True)
""",
            because="`session`",
        ),
        Invalid(
            """\
import asyncio
from sqlalchemy.ext.asyncio import AsyncSession

class Stats:
    def __init__(self, session: AsyncSession | None = None) -> None:
        self.session = session

    async def users(self):
        return await self.session.scalar("select 1")

    async def orders(self, day=0):
        return await self.session.scalar("select 2")

    async def all(self):
        async with asyncio.TaskGroup() as group:
            users = group.create_task(self.users())
            orders = group.create_task(self.orders())
        return users.result(), orders.result()

    async def of(self, days):
        return await asyncio.gather(*map(self.orders, days))
""",
            count=2,
            because="task group",
        ),
        Invalid(
            """\
import asyncio
from sqlalchemy.ext.asyncio import AsyncSession
from app.work import audit

async def update(db: AsyncSession, item):
    asyncio.create_task(audit(db, item))
    await db.commit()
""",
            because="nobody waits",
        ),
        Invalid(
            """\
from fastapi import BackgroundTasks, Depends
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import get_session
from app.work import recount

async def create(tasks: BackgroundTasks, db: AsyncSession = Depends(get_session)):
    tasks.add_task(recount, db)
    tasks.add_task(lambda: recount(db))
""",
            count=2,
            because="background task",
        ),
        Invalid(
            """\
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from app.db import get_background_session
from app.work import recount

scheduler = AsyncIOScheduler()

async def start():
    async with get_background_session() as session:
        scheduler.add_job(recount, "interval", minutes=5, args=[session])
""",
            because="scheduled job",
        ),
        Invalid(
            """\
import anyio
from sqlalchemy.ext.asyncio import async_sessionmaker
from app.work import load

Session = async_sessionmaker()

async def run(ids):
    async with Session() as session, anyio.create_task_group() as group:
        for i in ids:
            group.start_soon(load, session, i)
""",
            because="task group",
        ),
    )

    def may_find_in(self, source: bytes, names: Namespace) -> bool:
        from session_guard.usage.starters import may_share

        return may_share(names)

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import Call

        from session_guard.usage.sharing import sharing

        assert isinstance(node, Call)
        message = sharing(module).problem(node)
        if message is not None:
            yield Violation(
                node,
                message,
                "open a session in each task with `async with get_background_session() as "
                "session:`, or let one wait for the other",
            )
