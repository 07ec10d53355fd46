"""Which names hold a session, and what becomes of the sessions: the traps of each, decided."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import libcst as cst
import pytest

from session_guard.config import Settings
from session_guard.linter import lint
from session_guard.module import Module
from session_guard.names.from_libcst import walk
from session_guard.project.project import Project
from session_guard.registry import load_rules
from session_guard.rule import Applicability
from session_guard.sources import decode
from session_guard.usage.sql_state import state_of

if TYPE_CHECKING:
    from session_guard.names.held import Held
    from session_guard.rule import Finding

STANDARD = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()
HEADER = """\
import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, NewType, Optional, TypeVar
from fastapi import BackgroundTasks, Depends
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from app.db import background_task_session_factory as Session, get_background_session
from app.deps import SessionDep, get_db, Repo
from app.work import load, save

"""
DEPENDENCIES = """\
from typing import Annotated
from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import background_task_session_factory

async def get_db():
    async with background_task_session_factory() as session:
        yield session

SessionDep = Annotated[AsyncSession, Depends(get_db)]

class Repo:
    def __init__(self, db: AsyncSession) -> None:
        self.db = db

    async def count(self):
        return await self.db.scalar("select 1")

    async def fetch(self):
        return 1
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("")
    (tmp_path / "app" / "db.py").write_text(STANDARD)
    (tmp_path / "app" / "deps.py").write_text(DEPENDENCIES)
    return Project(Settings(root=tmp_path))


def used(project: Project, code: str) -> list[Held | None]:
    """Return what each argument of `use(…)` in `code` holds."""
    path = project.settings.root / "app" / "jobs.py"
    data = (HEADER + textwrap.dedent(code)).encode()
    module = Module(path, decode(data), project, frozenset({"Name", "Import", "ImportFrom"}))
    return [
        module.held(argument.value)
        for part in walk(module.tree)
        if isinstance(part, cst.Call) and isinstance(part.func, cst.Name)
        if part.func.value == "use"
        for argument in part.args
    ]


HELD = {
    "a parameter": "async def f(s: AsyncSession): use(s)",
    "a parameter that may be None": "async def f(s: AsyncSession | None = None): use(s)",
    "an optional one": "async def f(*, s: Optional[AsyncSession]): use(s)",
    "in quotes": "async def f(s: 'AsyncSession | None'): use(s)",
    "annotated": "async def f(s: Annotated[AsyncSession, Depends(get_db)]): use(s)",
    "an alias here": "Dep = Annotated[AsyncSession, Depends(get_db)]\nasync def f(s: Dep): use(s)",
    "an alias of another file": "async def f(s: SessionDep): use(s)",
    "by its dependency": "async def f(s=Depends(get_db)): use(s)",
    "a subclass": "class Own(AsyncSession): pass\nasync def f(s: Own): use(s)",
    "a new type": "Own = NewType('Own', AsyncSession)\nasync def f(s: Own): use(s)",
    "from a factory": "async def f():\n    async with Session() as s: use(s)",
    "from a factory's begin": "async def f():\n    async with Session.begin() as s: use(s)",
    "from the class": "async def f(e):\n    async with AsyncSession(e) as s: use(s)",
    "of a type variable": "T = TypeVar('T', bound=AsyncSession)\nasync def f(s: T): use(s)",
    "from a library that gives them": """
        from nonebot_plugin_orm import get_session
        async def f():
            async with get_session() as s:
                use(s)
        """,
    "from a library that gives them, imported": """
        import nonebot_plugin_orm as orm
        async def f():
            s = orm.get_session()
            use(s)
        """,
    "from the handler": "async def f():\n    async with get_background_session() as s: use(s)",
    "from a generator": "async def f():\n    async for s in get_db(): use(s)",
    "the next of a generator": "async def f():\n    s = await anext(get_db())\n    use(s)",
    "from a managed generator": """
        async def f():
            async with contextlib.asynccontextmanager(get_db)() as s:
                use(s)
        """,
    "entered on a stack": """
        async def f(stack):
            s = await stack.enter_async_context(Session())
            t = await stack.enter_async_context(get_background_session())
            u = await stack.enter_async_context(s)
            use(s, t, u)
        """,
    "assigned": "async def f():\n    s = Session()\n    use(s)",
    "either": "async def f(given=None):\n    s = given or Session()\n    use(s)",
    "by another name": "async def f(s: AsyncSession):\n    t = s\n    use(t)",
    "by its annotation": "async def f(uow):\n    s: AsyncSession = await uow.session()\n    use(s)",
    "of a closure": "async def f(s: AsyncSession):\n    def g(): use(s)",
    "of self": """
        class A:
            def __init__(self, s: AsyncSession): self.s = s
            async def f(self): use(self.s)
        """,
    "of a base": """
        class A:
            def __init__(self, s: AsyncSession): self.s = s
        class B(A):
            async def f(self): use(self.s)
        """,
    "of a dataclass": "class A:\n    s: AsyncSession\n    async def f(self): use(self.s)",
    "of a property": """
        class A:
            def __init__(self, s: AsyncSession): self._s = s
            @property
            def s(self): return self._s
            async def f(self): use(self.s)
        """,
    "of a function that opens one": """
        async def make() -> AsyncSession:
            return Session()
        async def f():
            s = await make()
            use(s)
        """,
}
NOT_HELD = {
    "a factory": "async def f(s: async_sessionmaker[AsyncSession]): use(s, Session)",
    "another's session": "import aiohttp\nasync def f(s: aiohttp.ClientSession): use(s)",
    "anything": "async def f(s, session, db): use(s, session, db)",
    "a list of them": "async def f(s: list[AsyncSession]): use(s)",
    "the manager itself": "async def f():\n    s = get_background_session()\n    use(s)",
    "bound again": "async def f(s: AsyncSession):\n    s = 1\n    use(s)",
    "of another class": """
        class A:
            def __init__(self, s: AsyncSession): self.s = s
        class B:
            async def f(self): use(self.s)
        """,
    "a generator of its own items": """
        async def walk(node):
            async for item in walk(node.parent):
                yield item
        async def f(node):
            async for s in walk(node):
                use(s)
            t = await twice(node)
            use(t)
        async def twice(node):
            return await twice(node)
        """,
    "of a type variable of something else": (
        "T = TypeVar('T', bound=int)\nasync def f(s: T): use(s)"
    ),
    "from a library's function of the same name": """
        from requests import get_session
        async def f():
            async with get_session() as s:
                use(s)
        """,
    "a result": "async def f(s: AsyncSession):\n    r = await s.get(1)\n    use(r)",
}


@pytest.mark.parametrize("code", HELD.values(), ids=HELD.keys())
def test_holds_a_session(project: Project, code: str) -> None:
    found = used(project, code)
    assert found
    assert None not in found


@pytest.mark.parametrize("code", NOT_HELD.values(), ids=NOT_HELD.keys())
def test_holds_none(project: Project, code: str) -> None:
    found = used(project, code)
    assert found
    assert set(found) == {None}


def test_one_session_has_one_key_under_all_its_names(project: Project) -> None:
    code = """
    class A:
        def __init__(self, s: AsyncSession, t: AsyncSession):
            self.s = s
            self.t = t
            use(s, self.s, t)
    """
    first, second, other = used(project, code)
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.key == second.key != other.key


def findings(project: Project, code: str, rule: str, name: str = "app/jobs.py") -> list[Finding]:
    """Return what a rule reports in a file of that name, which has the header before `code`."""
    path = project.settings.root / name
    rules = [r for r in load_rules() if r.code == rule]
    text = HEADER + textwrap.dedent(code).lstrip("\n")
    assert rules[0].gate(text.encode(), project.exported_names)
    return lint("jobs.py", path, text.encode(), project, rules)


def lines(project: Project, code: str, rule: str, name: str = "app/jobs.py") -> list[int]:
    """Return the lines, counted in `code`, that a rule reports in a file of that name."""
    return [item.line - HEADER.count("\n") for item in findings(project, code, rule, name)]


SHARED = {
    "tasks that are made by their class": """
        async def f(db: AsyncSession, xs):
            tasks = [asyncio.Task(db.merge(x)) for x in xs]
            await asyncio.wait(tasks)
        """,
    "several at a time, by a semaphore": """
        async def f(db: AsyncSession, items):
            two = asyncio.Semaphore(2)
            async def one(item):
                async with two:
                    await db.merge(item)
            await asyncio.gather(*[one(item) for item in items])
        """,
    "behind what a lock was held for": """
        async def f(db: AsyncSession, items):
            turn = asyncio.Lock()
            async def one(item):
                await turn.acquire()
                try:
                    items.remove(item)
                finally:
                    turn.release()
                await db.merge(item)
            await asyncio.gather(*[one(item) for item in items])
        """,
    "two of one repository": """
        async def f(db: AsyncSession):
            repo = Repo(db)
            await asyncio.gather(repo.count(), repo.count())
        """,
    "two repositories over one session": """
        async def f(db: AsyncSession):
            users, orders = Repo(db), Repo(db)
            await asyncio.gather(users.count(), orders.count())
        """,
    "a repository that is a dependency": """
        async def f(repo: Repo):
            await asyncio.gather(repo.count(), repo.count())
        """,
    "coroutines with names": """
        async def f(db: AsyncSession):
            a, b = load(db, 1), load(db, 2)
            c = load(db, 3)
            d = load(db, 4)
            await asyncio.gather(c, d)
        """,
    "a dictionary of them": """
        async def f(db: AsyncSession, ids):
            jobs = {i: load(db, i) for i in ids}
            await asyncio.gather(*jobs.values())
        """,
    "as they are completed": """
        async def f(db: AsyncSession, ids):
            for done in asyncio.as_completed([load(db, i) for i in ids]):
                await done
        """,
    "wrapped": """
        async def f(db: AsyncSession):
            await asyncio.gather(asyncio.wait_for(load(db), 5), asyncio.shield(save(db)))
        """,
    "in tasks of a loop": """
        async def f(db: AsyncSession, ids):
            tasks = []
            for i in ids:
                tasks.append(asyncio.create_task(load(db, i)))
            await asyncio.gather(*tasks)
        """,
    "beside its task": """
        async def f(db: AsyncSession):
            task = asyncio.create_task(load(db))
            await db.commit()
            await task
        """,
    "through a helper that takes it on": """
        async def inner(db):
            await db.flush()
        async def outer(db, x):
            await inner(db)
        async def f(db: AsyncSession, xs):
            await asyncio.gather(*(outer(db, x) for x in xs))
        """,
    "a bound method in the background": """
        async def f(tasks: BackgroundTasks, db: AsyncSession):
            tasks.add_task(Repo(db).count)
        """,
    "by keyword in the background": """
        async def f(tasks: BackgroundTasks, db: SessionDep):
            tasks.add_task(load, session=db)
        """,
}
SHARED |= {
    "methods that call methods": """
        class Stats:
            def __init__(self, s: AsyncSession): self.s = s
            async def read(self): return await self.s.scalar("select 1")
            async def users(self): return await self.read()
            async def orders(self): return await self.read()
            async def all(self): return await asyncio.gather(self.users(), self.orders())
        """,
    "unpacked arguments": """
        async def one(*given):
            return await given[0].commit()
        async def f(db: AsyncSession, xs):
            await asyncio.gather(*[one(db, *xs) for x in xs])
        """,
}
SHARED |= {
    "tasks that are awaited one by one": """
        async def f(db: AsyncSession):
            first = asyncio.create_task(load(db))
            second = asyncio.create_task(save(db))
            return {"first": await first, "second": await second}
        """,
    "tasks that are gathered": """
        async def f(db: AsyncSession):
            first = asyncio.create_task(load(db))
            second = asyncio.create_task(save(db))
            await asyncio.gather(first, second)
        """,
    "tasks in a list": """
        async def f(db: AsyncSession):
            tasks = [asyncio.create_task(load(db)), asyncio.create_task(save(db))]
            await asyncio.gather(*tasks)
        """,
    "tasks in a list, of closures": """
        async def f(db: AsyncSession):
            async def a():
                await db.scalar("select 1")
            async def b():
                await db.scalar("select 1")
            tasks = [asyncio.create_task(a()), asyncio.create_task(b())]
            done, pending = await asyncio.wait(tasks)
        """,
    "tasks right in what waits for them": """
        async def f(db: AsyncSession):
            await asyncio.wait([asyncio.create_task(load(db)), asyncio.create_task(save(db))])
        """,
    "tasks of two names in one line": """
        async def f(db: AsyncSession):
            first, second = asyncio.create_task(load(db)), asyncio.create_task(save(db))
            await first
            await second
        """,
    "a task and a coroutine that are gathered": """
        async def f(db: AsyncSession):
            first = asyncio.create_task(load(db))
            await asyncio.gather(first, save(db))
        """,
    "a task beside what is gathered": """
        async def f(db: AsyncSession):
            first = asyncio.create_task(load(db))
            await asyncio.gather(asyncio.sleep(1), save(db))
            await first
        """,
    "a task beside a transaction": """
        async def f(db: AsyncSession):
            first = asyncio.create_task(load(db))
            async with db.begin():
                pass
            await first
        """,
    "a task beside a transaction, kept for later": """
        class A:
            async def f(self, db: AsyncSession):
                self.task = asyncio.create_task(load(db))
                await db.commit()
        """,
    "tasks of the loop": """
        async def f(db: AsyncSession):
            loop = asyncio.get_running_loop()
            first = loop.create_task(load(db))
            await db.commit()
            await first
        """,
    "tasks of the loop, which has no name": """
        async def f(db: AsyncSession):
            asyncio.get_event_loop().create_task(load(db))
            await db.commit()
        """,
    "tasks of a loop that is a parameter": """
        async def f(db: AsyncSession, loop: asyncio.AbstractEventLoop):
            loop.create_task(load(db))
        """,
    "a thread beside a coroutine": """
        async def f(db: AsyncSession, work):
            await asyncio.gather(asyncio.to_thread(work, db), load(db))
        """,
    "an executor beside a coroutine": """
        async def f(db: AsyncSession, work):
            future = asyncio.get_running_loop().run_in_executor(None, work, db)
            await load(db)
            await future
        """,
    "a map": """
        class A:
            def __init__(self, db: AsyncSession): self.db = db
            async def one(self, i): return await self.db.get(dict, i)
            async def many(self, ids): return await asyncio.gather(*map(self.one, ids))
        """,
    "a map of a partial": """
        from functools import partial
        async def f(db: AsyncSession, ids):
            await asyncio.gather(*(map(partial(load, db), ids)))
        """,
    "a map of a lambda": """
        async def f(db: AsyncSession, ids):
            await asyncio.gather(*map(lambda i: load(db, i), ids))
        """,
    "a map with the same for each": """
        from itertools import repeat
        async def f(db: AsyncSession, ids):
            for done in asyncio.as_completed(list(map(load, repeat(db), ids))):
                await done
        """,
    "a map of tasks": """
        async def f(db: AsyncSession):
            await asyncio.gather(*map(asyncio.create_task, [load(db), save(db)]))
        """,
    "a lambda in the background": """
        async def f(tasks: BackgroundTasks, db: SessionDep):
            tasks.add_task(lambda: save(db))
        """,
    "a lambda with a name in the background": """
        async def f(tasks: BackgroundTasks, db: SessionDep):
            job = lambda: save(db)
            tasks.add_task(job)
        """,
    "a partial in the background": """
        from functools import partial
        async def f(tasks: BackgroundTasks, db: SessionDep):
            tasks.add_task(partial(save, db))
        """,
    "a partial with a name in the background": """
        from functools import partial
        async def f(tasks: BackgroundTasks, db: SessionDep):
            job = partial(save, session=db)
            tasks.add_task(job)
        """,
    "by keyword alone in the background": """
        async def f(tasks: BackgroundTasks, db: SessionDep):
            tasks.add_task(func=load, db=db)
        """,
    "a task of Starlette": """
        from starlette.background import BackgroundTask
        from starlette.responses import JSONResponse
        async def f(db: SessionDep):
            return JSONResponse({}, background=BackgroundTask(lambda: save(db)))
        """,
    "a block's session in the background": """
        async def f(tasks: BackgroundTasks):
            async with Session() as db:
                tasks.add_task(load, db)
        """,
    "a job of a scheduler": """
        from apscheduler.schedulers.asyncio import AsyncIOScheduler
        scheduler = AsyncIOScheduler()
        async def f(db: SessionDep):
            scheduler.add_job(load, "interval", seconds=5, args=[db])
        """,
    "a job of a scheduler, by keywords": """
        from apscheduler.schedulers.asyncio import AsyncIOScheduler
        async def f(scheduler: AsyncIOScheduler, db: SessionDep):
            scheduler.add_job(func=load, kwargs={"db": db})
        """,
    "a repository that a class makes": """
        class Own(Repo):
            @classmethod
            def of(cls, session):
                return cls(session)
        async def f(db: AsyncSession):
            users, orders = Own.of(db), Own.of(db)
            await asyncio.gather(users.count(), orders.count())
        """,
    "repositories that a function makes": """
        def repository(session: AsyncSession, name):
            return Repo(db=session)
        async def f(db: AsyncSession):
            await asyncio.gather(repository(db, "a").count(), repository(db, "b").count())
        """,
    "a repository as a dataclass": """
        from dataclasses import dataclass
        @dataclass
        class Own:
            session: AsyncSession
            async def count(self): return await self.session.scalar("select 1")
        async def f(db: AsyncSession):
            first, second = Own(db), Own(session=db)
            await asyncio.gather(first.count(), second.count())
        """,
    "a service over a repository": """
        class Service:
            def __init__(self, repo: Repo): self.repo = repo
            async def all(self): return await asyncio.gather(self.repo.count(), self.repo.count())
        """,
    "a session that the framework closes, and the task too": """
        async def finish(db):
            try:
                await db.commit()
            finally:
                await db.close()
        async def f(db: SessionDep):
            asyncio.create_task(finish(db))
        """,
    "a block's session that the task closes": """
        async def finish(db):
            await db.commit()
            await db.close()
        async def f():
            async with Session() as db:
                asyncio.create_task(finish(db))
        """,
    "a session that is closed here and by the task": """
        async def finish(db):
            await db.commit()
            await db.close()
        async def f():
            db = Session()
            try:
                asyncio.create_task(finish(db))
            finally:
                await db.close()
        """,
    "a loop's session that the task closes": """
        async def finish(db):
            await db.commit()
            await db.close()
        async def f():
            async for db in get_db():
                asyncio.create_task(finish(db))
        """,
    "a stack's session that the task closes": """
        async def finish(db):
            await db.commit()
            await db.close()
        async def f(stack):
            db = await stack.enter_async_context(Session())
            asyncio.create_task(finish(db))
        """,
    "a task that closes another session": """
        async def finish(db, other):
            await db.commit()
            await other.close()
        async def f(db: AsyncSession, other: AsyncSession):
            asyncio.create_task(finish(db, other))
        """,
    "tasks in a gathering for the caller": """
        def f(db: AsyncSession):
            return asyncio.gather(asyncio.create_task(load(db)), asyncio.create_task(save(db)))
        """,
    "a task of a group beside one that is waited for later": """
        async def f(db: AsyncSession):
            async with asyncio.TaskGroup() as group:
                first = group.create_task(load(db))
                group.create_task(save(db))
                await first
        """,
    "a set of the module keeps it": """
        running = set()
        async def f(db: SessionDep):
            task = asyncio.create_task(load(db))
            running.add(task)
            task.add_done_callback(running.discard)
        """,
    "the project's own create_task": """
        class Jobs:
            async def create_task(self, db, name):
                await db.get(dict, name)
        async def f(db: AsyncSession, jobs: Jobs):
            await asyncio.gather(jobs.create_task(db, "a"), jobs.create_task(db, "b"))
        """,
    "one of two arms": """
        async def f(db: AsyncSession, x):
            if x:
                task = asyncio.create_task(load(db))
                await db.commit()
            else:
                task = asyncio.create_task(save(db))
            await task
        """,
    "tasks of a group under one condition": """
        async def f(db: AsyncSession, x):
            async with asyncio.TaskGroup() as group:
                group.create_task(load(db))
                if x:
                    group.create_task(save(db))
        """,
}
NOT_SHARED = {
    "one at a time, by a semaphore": """
        import anyio
        async def f(db: AsyncSession, items):
            one_by_one, limit = asyncio.Semaphore(1), anyio.CapacityLimiter(1)
            async def save_one(item):
                async with one_by_one:
                    await save(db, item)
            async def load_one(item):
                async with limit:
                    await load(db, item)
            await asyncio.gather(*[save_one(item) for item in items])
            await asyncio.gather(*[load_one(item) for item in items])
        """,
    "one at a time, by a semaphore of the object": """
        import anyio
        class Store:
            def __init__(self, db: AsyncSession):
                self.db = db
                self._turn = anyio.Semaphore(initial_value=1)
            async def one(self, item):
                async with self._turn:
                    await self.db.merge(item)
            async def many(self, items):
                await asyncio.gather(*[self.one(item) for item in items])
        """,
    "one at a time, by a lock that is taken and given back": """
        class Store:
            def __init__(self, db: AsyncSession):
                self.db = db
                self._turn = asyncio.Lock()
            async def one(self, item):
                await self._turn.acquire()
                try:
                    await self.db.merge(item)
                finally:
                    self._turn.release()
            async def many(self, items):
                await asyncio.gather(*[self.one(item) for item in items])
        """,
    "only one of the methods uses it": """
        async def f(db: AsyncSession):
            repo = Repo(db)
            await asyncio.gather(repo.count(), repo.fetch())
        """,
    "a session each": """
        async def f(db: AsyncSession, other: AsyncSession):
            await asyncio.gather(load(db), load(other))
        """,
    "repositories with a session each": """
        async def f(db: AsyncSession, other: AsyncSession):
            await asyncio.gather(Repo(db).count(), Repo(other).count())
        """,
    "a session in each round": """
        async def f(ids):
            tasks = []
            for i in ids:
                async with Session() as db:
                    tasks.append(load(db, i))
            await asyncio.gather(*tasks)
        """,
    "a repository in each coroutine": """
        async def f(ids):
            async def one(i):
                async with Session() as db:
                    return await Repo(db).count()
            await asyncio.gather(*[one(i) for i in ids], one(1))
        """,
    "either the one or the other": """
        async def f(db: AsyncSession, x):
            await asyncio.gather(load(db, 1) if x else save(db, 2), asyncio.sleep(1))
        """,
    "awaited before": """
        async def f(db: AsyncSession):
            await asyncio.gather(asyncio.sleep(await load(db)), asyncio.sleep(await load(db)))
        """,
    "a task that is waited for": """
        async def f(db: AsyncSession):
            task = asyncio.create_task(load(db))
            await asyncio.sleep(0)
            result = await task
            await db.commit()
        """,
    "each awaited before the next is started": """
        async def f(db: AsyncSession, ids):
            task = None
            for i in ids:
                if task is not None:
                    await task
                task = asyncio.create_task(load(db, i))
        """,
    "a coroutine with a name that takes the session over": """
        async def finish(db):
            await db.commit()
            await db.close()
        async def f(db: AsyncSession):
            job = finish(db)
            asyncio.create_task(job)
        """,
    "a task at a time": """
        async def f(db: AsyncSession, ids):
            for i in ids:
                task = asyncio.create_task(load(db, i))
                await task
        """,
    "a task for the caller, by its name": """
        def f(db: AsyncSession):
            task = asyncio.create_task(load(db))
            return task, 1
        """,
    "a task for whoever iterates": """
        def f(db: AsyncSession):
            task = asyncio.create_task(load(db))
            yield task
        """,
    "a task in an attribute's list": """
        def f(db: AsyncSession, state):
            loop = asyncio.get_running_loop()
            task = loop.create_task(load(db))
            state.cleanup_tasks.append(task)
        """,
    "a task in an attribute's dictionary": """
        class A:
            def f(self, db: AsyncSession, key):
                self.tasks[key] = asyncio.create_task(load(db))
        """,
    "a task in the caller's list": """
        def f(db: AsyncSession, tasks):
            tasks.append(asyncio.create_task(load(db)))
        """,
    "a task in the list of the function round it": """
        async def f(db: AsyncSession):
            tasks = []
            def start():
                tasks.append(asyncio.create_task(load(db)))
            start()
            await asyncio.gather(*tasks)
        """,
    "a task given on": """
        def f(db: AsyncSession, track):
            track(asyncio.create_task(load(db)))
        """,
    "a task that an inner function waits for": """
        def f(db: AsyncSession):
            async def stop():
                await task
            task = asyncio.create_task(load(db))
            return stop
        """,
    "a task in an attribute, waited for": """
        class A:
            async def f(self, db: AsyncSession):
                self.task = asyncio.create_task(load(db))
                await self.task
                await db.commit()
        """,
    "a task in an attribute, which others may wait for": """
        class A:
            async def f(self, db: AsyncSession):
                self.task = asyncio.create_task(load(db))
                await self.stop()
                await db.commit()
        """,
    "tasks in either arm": """
        async def f(db: AsyncSession, x):
            if x:
                task = asyncio.create_task(load(db))
            else:
                task = asyncio.create_task(save(db))
            await task
        """,
    "a task in an arm that leaves": """
        class A:
            async def f(self, db: AsyncSession, x):
                if x:
                    self.task = asyncio.create_task(load(db))
                    return
                await db.commit()
        """,
    "a task of the last round": """
        async def f(db: AsyncSession, ids):
            for i in ids:
                if i:
                    task = asyncio.create_task(load(db, i))
                    break
            await task
        """,
    "tasks one behind the other": """
        async def f(db: AsyncSession):
            first = asyncio.create_task(load(db))
            await first
            second = asyncio.create_task(save(db))
            await second
        """,
    "used by a function that runs later": """
        async def f(db: AsyncSession):
            task = asyncio.create_task(load(db))
            async def later():
                await db.commit()
            await task
            await later()
        """,
    "tasks of a group one behind the other": """
        async def f(db: AsyncSession):
            async with asyncio.TaskGroup() as group:
                first = group.create_task(load(db))
                await first
                group.create_task(save(db))
        """,
    "tasks of a group in either arm": """
        async def f(db: AsyncSession, x):
            async with asyncio.TaskGroup() as group:
                if x:
                    group.create_task(load(db))
                else:
                    group.create_task(save(db))
        """,
    "a session that is handed over": """
        async def finish(db):
            try:
                await db.commit()
            finally:
                await asyncio.gather(db.aclose(), asyncio.sleep(0))
        async def f(db: AsyncSession):
            asyncio.create_task(finish(db))
        """,
    "a session of its own that the task closes": """
        async def done(db):
            await db.close()
        async def finish(db):
            await db.commit()
            await done(db)
        async def f():
            db = Session()
            await db.execute(text("select 1"))
            asyncio.create_task(finish(db))
        """,
    "a session that a helper of the task closes": """
        async def done(db):
            await db.close()
        async def finish(db, x):
            await db.commit()
            await done(db)
        async def f(db: AsyncSession):
            asyncio.create_task(finish(x=1, db=db))
        """,
    "a session that is handed over in a partial": """
        from functools import partial
        async def finish(x, db):
            await db.commit()
            await db.close()
        async def f(tasks: BackgroundTasks, db: AsyncSession):
            tasks.add_task(partial(finish, 1), db)
        """,
    "a session that a closure takes over": """
        async def f(db: AsyncSession):
            async def finish():
                await db.commit()
                await db.close()
            asyncio.create_task(finish())
        """,
    "a dependency that may be left open": """
        async def maybe(keep):
            db = Session()
            try:
                yield db
            finally:
                if not keep:
                    await db.close()
        async def finish(db):
            await db.commit()
            await db.close()
        async def f(db: AsyncSession = Depends(maybe)):
            asyncio.create_task(finish(db))
        """,
    "a session of its own in the background": """
        async def finish(db):
            await db.commit()
            await db.close()
        async def f(tasks: BackgroundTasks):
            db = Session()
            tasks.add_task(finish, db)
        """,
    "only closed by the task": """
        async def consume(items, session: AsyncSession):
            try:
                await anext(items)
            finally:
                await session.close()
        async def f(items, db: AsyncSession):
            asyncio.create_task(consume(items, db))
        """,
    "a scheduler that keeps its own": """
        from apscheduler.schedulers.asyncio import AsyncIOScheduler
        class Jobs:
            def __init__(self, db: AsyncSession):
                self.db = db
                self.scheduler = AsyncIOScheduler()
            async def run(self): await self.db.commit()
            async def start(self): self.scheduler.add_job(self.run, "interval")
        """,
    "another's add_job": """
        async def f(queue, db: AsyncSession):
            queue.add_job(load, args=[db])
        """,
    "a map of what opens its own": """
        async def one(i):
            async with Session() as db:
                await db.get(dict, i)
        async def f(db: AsyncSession, ids):
            await asyncio.gather(*map(one, ids))
        """,
    "an object for each": """
        async def f(a: AsyncSession, b: AsyncSession):
            await asyncio.gather(*[repo.count() for repo in (Repo(a), Repo(b))])
        """,
    "repositories that a function makes, with a session each": """
        def repository(session):
            return Repo(session)
        async def f(a: AsyncSession, b: AsyncSession):
            await asyncio.gather(repository(a).count(), repository(b).count())
        """,
    "one thread alone": """
        async def f(db: AsyncSession, work):
            await asyncio.to_thread(work, db)
            await db.commit()
        """,
    "a task for the caller": """
        def f(db: AsyncSession):
            return asyncio.create_task(load(db))
        """,
    "closing late": """
        async def f(db: AsyncSession):
            asyncio.create_task(db.close())
        """,
    "only add": """
        async def one(db, x):
            db.add(await load(x))
        async def f(db: AsyncSession, xs):
            await asyncio.gather(*[one(db, x) for x in xs])
        """,
    "a worker of its own": """
        class Worker:
            def __init__(self):
                self.db = Session()
                self.task = asyncio.create_task(self.run())
            async def run(self):
                await self.db.commit()
        """,
    "an argument that is not used": """
        async def one(db, x):
            return x
        async def f(db: AsyncSession, xs):
            await asyncio.gather(*[one(db, x) for x in xs])
        """,
}


@pytest.mark.parametrize("code", SHARED.values(), ids=SHARED.keys())
def test_shared(project: Project, code: str) -> None:
    assert len(lines(project, code, "SG301")) == 1


def test_a_session_is_called_what_the_code_calls_it(project: Project) -> None:
    code = """
        class Users:
            def __init__(self, session: AsyncSession):
                self._session = session
            async def get(self, i):
                return await self._session.get(object, i)
        class Unit:
            async def __aenter__(self):
                self.session = Session()
                self.users = Users(self.session)
                return self
            async def __aexit__(self, *args):
                await self.session.close()
        async def f(unit: Unit):
            await asyncio.gather(unit.users.get(1), unit.users.get(2))
        """
    [finding] = findings(project, code, "SG301")
    assert "`unit.users._session`" in finding.message


@pytest.mark.parametrize("code", NOT_SHARED.values(), ids=NOT_SHARED.keys())
def test_not_shared(project: Project, code: str) -> None:
    assert lines(project, code, "SG301") == []


@pytest.mark.parametrize(
    "call",
    [
        "asyncio.gather(*x)",
        "asyncio.create_task(x)",
        "asyncio.Task(x)",
        "loop.create_task(x)",
        "loop.run_in_executor(None, x, db)",
        "group.start_soon(x)",
        "asyncio.wait(x)",
        "asyncio.as_completed(x)",
        "tasks.add_task(x, db)",
        "BackgroundTask(x, db)",
        "scheduler.add_job(x, args=[db])",
        "scheduler.add_schedule(x, args=[db])",
    ],
)
def test_what_starts_tasks_opens_the_gate(project: Project, call: str) -> None:
    [rule] = [rule for rule in load_rules() if rule.code == "SG301"]
    code = f"from sqlalchemy.ext import AsyncSession\n{call}\n".encode()
    assert rule.gate(code, project.exported_names)
    assert not rule.gate(code.replace(call.encode(), b"x(db)"), project.exported_names)


SWALLOWED = {
    "another object is closed": """
        async def f(x, client):
            async with get_background_session() as s:
                try:
                    await s.merge(x)
                except Exception:
                    await client.close()
        """,
    "a cache is invalidated": """
        async def f(x, cache):
            async with get_background_session() as s:
                try:
                    await s.merge(x)
                except Exception:
                    cache.users.invalidate(x)
        """,
    "a result is closed": """
        async def f(x, query):
            async with get_background_session() as s:
                s.add(x)
                rows = await s.stream(query)
                try:
                    await s.merge(x)
                except Exception:
                    await rows.close()
        """,
    "another session is rolled back": """
        async def f(x, other: AsyncSession):
            async with get_background_session() as s:
                try:
                    await s.merge(x)
                except Exception:
                    await other.rollback()
        """,
    "a way out in finally": """
        async def f(x):
            async with get_background_session() as s:
                try:
                    await s.merge(x)
                finally:
                    return x
        """,
    "a way out of a loop in finally": """
        async def f(xs):
            async with get_background_session() as s:
                for x in xs:
                    try:
                        await s.merge(x)
                    finally:
                        continue
        """,
    "in a class that says no types": """
        class Store:
            def __init__(self, db):
                self.db = db
            async def save(self, x):
                self.db.add(x)
                await self.db.flush()
        async def f(x):
            async with get_background_session() as s:
                store = Store(s)
                try:
                    await store.save(x)
                except Exception:
                    pass
        """,
    "in the base of a class that says no types": """
        class Base:
            def __init__(self, db):
                self.db = db
            async def flush(self):
                await self.db.flush()
        class Store(Base):
            async def save(self, x):
                await self.flush()
        async def f(x):
            async with get_background_session() as s:
                try:
                    await Store(db=s).save(x)
                except Exception:
                    pass
        """,
    "two objects deep": """
        class Service:
            def __init__(self, repo: Repo):
                self.repo = repo
            async def run(self):
                return await self.repo.count()
        async def f(x):
            async with get_background_session() as s:
                s.add(x)
                service = Service(Repo(s))
                try:
                    await service.run()
                except Exception:
                    pass
        """,
    "followed into a repository": """
        async def f():
            async with get_background_session() as s:
                repo = Repo(s)
                try:
                    await repo.count()
                except Exception:
                    pass
                s.add(1)
        """,
    "a tuple with a name": """
        ERRORS = (ValueError, IntegrityError)
        async def f(x):
            async with get_background_session() as s:
                try:
                    await s.merge(x)
                except ERRORS:
                    return
        """,
    "in a group": """
        async def f(x):
            async with get_background_session() as s:
                try:
                    await s.merge(x)
                except* IntegrityError:
                    pass
        """,
    "the outer of two": """
        async def f(x):
            async with get_background_session() as s:
                try:
                    try:
                        await s.merge(x)
                    except ValueError:
                        pass
                except IntegrityError:
                    pass
        """,
    "kept, and nothing raised": """
        async def f(xs):
            errors = []
            async with get_background_session() as s:
                for x in xs:
                    try:
                        await s.merge(x)
                    except Exception as error:
                        errors.append(error)
            return errors
        """,
    "given to what does not roll back": """
        async def note(s, x):
            s.add(x)
        async def f(x):
            async with get_background_session() as s:
                try:
                    await s.merge(x)
                except Exception:
                    await note(s, x)
        """,
}
NOT_SWALLOWED = {
    "its connection is closed": """
        async def f(x):
            async with get_background_session() as s:
                connection = await s.connection()
                try:
                    await s.merge(x)
                except Exception:
                    await connection.invalidate()
        """,
    "an object of it is reset": """
        async def f(x):
            async with get_background_session() as s:
                repo = Repo(s)
                try:
                    await s.merge(x)
                except Exception:
                    await repo.reset()
        """,
    "rolled back before a way out in finally": """
        async def f(x):
            async with get_background_session() as s:
                try:
                    await s.merge(x)
                except Exception:
                    await s.rollback()
                    raise
                finally:
                    return x
        """,
    "a loop in finally": """
        async def f(x, steps):
            async with get_background_session() as s:
                try:
                    await s.merge(x)
                finally:
                    for step in steps:
                        if step():
                            break
        """,
    "an object that was given something else": """
        class Store:
            def __init__(self, db):
                self.db = db
            async def save(self, x):
                await self.db.flush()
        async def f(x, client):
            async with get_background_session() as s:
                s.add(x)
                try:
                    await Store(client).save(x)
                except Exception:
                    pass
        """,
    "another session": """
        async def f(x, other: AsyncSession):
            async with get_background_session() as s:
                s.add(x)
                try:
                    await other.flush()
                except Exception:
                    pass
        """,
    "no error of the database": """
        async def f(x):
            async with get_background_session() as s:
                try:
                    await s.merge(x)
                except (ValueError, NoResultFound):
                    pass
        """,
    "rolled back by what it is given to": """
        async def undo(s):
            await s.rollback()
        async def f(x):
            async with get_background_session() as s:
                try:
                    await s.merge(x)
                except Exception:
                    await undo(s)
        """,
    "given to what is not known": """
        async def f(x):
            async with get_background_session() as s:
                try:
                    await s.merge(x)
                except Exception:
                    await save(s, x)
        """,
    "exits": """
        import sys
        async def f(x):
            async with get_background_session() as s:
                try:
                    await s.merge(x)
                except Exception:
                    sys.exit(1)
        """,
    "an inner function": """
        async def f(x):
            async with get_background_session() as s:
                async def g():
                    try:
                        await s.merge(x)
                    except Exception:
                        pass
        """,
    "another function's context manager": """
        async def f(x, manager):
            async with manager() as s:
                try:
                    await s.merge(x)
                except Exception:
                    pass
        """,
    "a savepoint that is rolled back by hand": """
        async def f(x):
            async with get_background_session() as s:
                point = await s.begin_nested()
                try:
                    await s.merge(x)
                except Exception:
                    await point.rollback()
        """,
}


@pytest.mark.parametrize("code", SWALLOWED.values(), ids=SWALLOWED.keys())
def test_swallowed(project: Project, code: str) -> None:
    assert len(lines(project, code, "SG304")) == 1


@pytest.mark.parametrize("code", NOT_SWALLOWED.values(), ids=NOT_SWALLOWED.keys())
def test_not_swallowed(project: Project, code: str) -> None:
    assert lines(project, code, "SG304") == []


@pytest.mark.parametrize(
    "sql",
    [
        "SET search_path TO x",
        "set\n  statement_timeout=5",
        'SET "app.tenant" = 1',
        "SET SESSION x = 1",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET SESSION AUTHORIZATION x",
        "SET ROLE reader",
        "SET TIME ZONE 'UTC'",
        "-- first\nSET x = 1",
        "/* ; */ SELECT 1; SET x = 1",
        "SELECT set_config('a.b', 'c', false)",
        "LISTEN jobs",
        'LISTEN "Jobs";',
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock_shared(1, 2)",
        "select case when pg_try_advisory_lock (1) then 1 end",
        "CREATE TEMP TABLE x (id int)",
        "create local temporary table x on commit delete rows as select 1",
        "CREATE OR REPLACE TEMP VIEW x AS SELECT 1",
        "SELECT * INTO TEMP x FROM y",
        "PREPARE find (int) AS SELECT 1",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "LOAD 'age'",
        "SET %s = %s",
        "SET {} TO {}",
    ],
)
def test_stays_on_the_connection(sql: str) -> None:
    assert state_of(sql) is not None


@pytest.mark.parametrize(
    "sql",
    [
        "SET LOCAL search_path TO x",
        "SET TRANSACTION READ ONLY",
        "SET CONSTRAINTS ALL DEFERRED",
        "UPDATE x SET y = 1",
        "INSERT INTO x VALUES ('SET y = 1; SET z TO 2')",
        "CREATE FUNCTION f() RETURNS int AS $$ BEGIN; SET x = 1; END $$ LANGUAGE plpgsql",
        "Set the table for two",
        "Listen to the radio",
        "SELECT set_config('a.b', 'c', true)",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_advisory_unlock(1)",
        "SELECT 'pg_advisory_lock(1)'",
        "CREATE TEMP TABLE x (id int) ON COMMIT DROP",
        "CREATE TABLE temp (id int)",
        "PREPARE TRANSACTION 'x'",
        "DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1",
        "SET FOREIGN_KEY_CHECKS = 0",
        "SET @x = 1",
        "SET SESSION sql_mode = 'ANSI'",
        "",
    ],
)
def test_ends_with_the_transaction(sql: str) -> None:
    assert state_of(sql) is None


def test_functions_of_sql_are_read_with_their_arguments(project: Project) -> None:
    code = """
    from sqlalchemy import func
    async def f(s, last):
        await s.execute(select(func.set_config("a", "b", True)))
        await s.execute(select(func.set_config("a", "b", False)))
        await s.execute(select(func.set_config("a", "b", last)))
        s.execute(select(func.set_config("a", "b", False)))
        await s.execute(select(1).where(func.pg_try_advisory_lock(1) == True))
        await s.execute(select(1).where(func.pg_try_advisory_xact_lock(1) == True))
    """
    assert lines(project, code, "SG302") == [4, 7]


STATEMENTS = """\
from textwrap import dedent
from sqlalchemy import text

SET_ROLE = "SET ROLE reader"
READ = "SELECT 1"
LOCK = text(dedent("SELECT pg_advisory_lock(:key)"))
SETTINGS = [("SET a.b = :x", 1), ("SELECT 1", 2)]

class Locks:
    lock = text("SELECT pg_advisory_lock(:key)")
    read = text("SELECT 1")

    @property
    def shared(self):
        return text("SELECT pg_advisory_lock_shared(:key)")

    def pair(self, key):
        return self.lock.bindparams(key=key), self.read

async def find(key):
    return LOCK
"""
STATE = {
    "on a cursor of a listener": """
        from sqlalchemy import event
        from app.db import engine
        @event.listens_for(engine.sync_engine, "connect")
        def on_connect(dbapi_connection, record):
            cursor = dbapi_connection.cursor()
            cursor.execute("SET search_path TO tenant")
            cursor.close()
        """,
    "on a cursor that is entered, of a listener to the pool": """
        from sqlalchemy.event import listens_for
        from app.db import engine
        @listens_for(engine.sync_engine.pool, "checkout")
        def on_checkout(connection, record, proxy):
            with connection.cursor() as c:
                c.execute("SET app.tenant = 'x'")
        """,
    "by a listener that is registered": """
        from sqlalchemy import event
        from app.db import engine
        def on_connect(connection, record):
            connection.cursor().execute("SET ROLE reader")
        event.listen(engine.sync_engine, "connect", on_connect)
        """,
    "by a listener to SQLAlchemy's connections": """
        from sqlalchemy import event
        from app.db import engine
        @event.listens_for(engine.sync_engine, "begin")
        def on_begin(connection):
            connection.exec_driver_sql("SET ROLE reader")
        """,
    "on the driver's connection": """
        async def f(conn):
            raw = await conn.get_raw_connection()
            await raw.driver_connection.execute("LISTEN jobs")
        """,
    "by the driver's connection": """
        async def f(conn, told):
            raw = (await conn.get_raw_connection()).driver_connection
            await raw.add_listener("jobs", told)
        """,
    "in a lambda that is run": """
        async def f(s):
            await s.run_sync(lambda sync: sync.execute(text("SET a.b = 1")))
        """,
    "in a function that is run": """
        def use(sync):
            sync.execute(text("SET a.b = 1"))
        async def f(s):
            await s.run_sync(use)
        """,
    "a table": """
        from sqlalchemy import MetaData, Table
        incoming = Table("incoming", MetaData(), prefixes=["TEMPORARY"])
        """,
    "a class's attribute": """
        class Jobs:
            _lock = text("SELECT pg_advisory_lock(:k)")
            async def f(self, s):
                await s.execute(self._lock, {"k": 1})
        """,
    "another class's attribute": """
        class Builder:
            _lock = text("SELECT pg_advisory_lock(:k)")
        async def f(s):
            await s.execute(Builder._lock)
        """,
    "another file's text": """
        from app.sql import LOCK
        async def f(s):
            await s.execute(LOCK, {"key": 1})
        """,
    "another file's string": """
        from app import sql
        async def f(s):
            await s.execute(text(sql.SET_ROLE))
        """,
    "another file's string, with more behind it": """
        from app import sql
        async def f(conn):
            await conn.exec_driver_sql(f"{sql.SET_ROLE}_only")
        """,
    "another file's class": """
        from app.sql import Locks
        async def f(s):
            await s.execute(Locks.lock)
        """,
    "a property": """
        from app.sql import Locks
        class Jobs:
            def __init__(self):
                self.locks = Locks()
            async def f(self, s):
                await s.execute(self.locks.shared)
        """,
    "one of two that a method returns": """
        from app.sql import Locks
        async def f(s):
            lock, read = Locks().pair(1)
            await s.execute(read)
            await s.execute(lock)
        """,
    "of a base": """
        from app.sql import Locks
        class Jobs(Locks):
            async def f(self, s):
                await s.execute(self.lock)
        """,
    "awaited": """
        from app.sql import find
        async def f(s):
            await s.execute(await find(1))
        """,
    "each of a tuple": """
        async def f(s):
            for sql in ("SET a.b = 1", "SELECT 1"):
                await s.execute(text(sql))
        """,
    "each of some texts": """
        async def f(s):
            return [await s.execute(sql) for sql in (text("SELECT 1"), text("SET a.b = 1"))]
        """,
    "each of another file's pairs": """
        from app.sql import SETTINGS
        async def f(s):
            for sql, value in SETTINGS:
                await s.execute(text(sql), {"x": value})
        """,
    "each that a method has put into a list": """
        class Store:
            def _settings(self, n):
                settings = []
                if n:
                    settings.append(("SET ivfflat.probes = :n", {"n": n}))
                return settings
            async def f(self, s, n):
                for sql, params in self._settings(n):
                    await s.execute(text(sql), params)
        """,
    "each that a method yields": """
        class Store:
            def _settings(self, n):
                yield "SET ivfflat.probes = :n", {"n": n}
            async def f(self, s, n):
                for sql, params in self._settings(n):
                    await s.execute(text(sql), params)
        """,
    "put together before": """
        async def f(s, schema):
            sql = "SET search_path TO {}".format(schema).strip()
            await s.execute(text(sql))
        """,
    "put together with percent signs": """
        async def f(s, role):
            sql = "SET ROLE %s" % role
            await s.execute(text(sql))
        """,
    "given to what makes a text of it": """
        def statement(sql):
            return text(sql)
        async def f(s):
            await s.execute(statement("SELECT 1"))
            await s.execute(statement("SET a.b = 1"))
        """,
    "one of two drivers, by its name": """
        async def f(s, dialect):
            if dialect == "sqlite":
                return
            await s.execute(text("SET a.b = 1"))
        """,
}
NOT_STATE = {
    "a listener to what is not known to be PostgreSQL": """
        from sqlalchemy import event
        from sqlalchemy.engine import Engine
        from sqlalchemy.ext.asyncio import create_async_engine
        lite = create_async_engine("mysql+asyncmy://db/app")
        @event.listens_for(Engine, "connect")
        def on_any(connection, record):
            connection.cursor().execute("SET search_path TO tenant")
        @event.listens_for(lite.sync_engine, "connect")
        def on_mysql(connection, record):
            connection.cursor().execute("SET ROLE reader")
        def on_nothing(connection, record):
            connection.cursor().execute("SET ROLE reader")
        """,
    "a listener that sets for its transaction": """
        from sqlalchemy import event
        from app.db import engine
        @event.listens_for(engine.sync_engine, "begin")
        def on_begin(connection):
            connection.exec_driver_sql("SET LOCAL search_path TO tenant")
        @event.listens_for(engine.sync_engine, "connect")
        def on_connect(connection, record):
            client = make()
            client.execute("SET search_path TO tenant")
        """,
    "a listener to something else": """
        async def f(bus, told):
            await bus.add_listener("jobs", told)
            await bus.connection.execute("LISTEN")
        """,
    "a sync session": """
        def use(sync):
            sync.execute(text("SET a.b = 1"))
        def f(s):
            s.run_sync(use)
        """,
    "tables that stay or go with their transaction": """
        from sqlalchemy import MetaData, Table
        meta = MetaData()
        kept = Table("a", meta, prefixes=["UNLOGGED"])
        gone = Table("b", meta, prefixes=["TEMPORARY"], postgresql_on_commit="DROP")
        class Table: ...
        own = Table("c", prefixes=["TEMPORARY"])
        """,
    "reads": """
        from app.sql import Locks, READ
        async def f(s):
            await s.execute(Locks.read)
            await s.execute(text(READ))
        """,
    "a class for another database": """
        class SqliteIndex:
            async def f(self, s: AsyncSession):
                await s.execute(text("CREATE TEMP TABLE x AS SELECT rowid FROM y"))
        """,
    "a function for another database": """
        async def _create_mysql_tables(s):
            await s.execute(text("CREATE TEMPORARY TABLE x (id int)"))
        """,
    "a branch for another database": """
        async def f(s, dialect):
            if dialect == "sqlite":
                await s.execute(text("CREATE TEMP TABLE x (id int)"))
        """,
    "a match for another database": """
        async def f(s, dialect):
            match dialect:
                case "mssql":
                    await s.execute(text("SET a.b = 1"))
        """,
}


@pytest.mark.parametrize("code", STATE.values(), ids=STATE.keys())
def test_leaves_state(project: Project, code: str) -> None:
    (project.settings.root / "app" / "sql.py").write_text(STATEMENTS)
    assert len(lines(project, code, "SG302")) == 1


@pytest.mark.parametrize("code", NOT_STATE.values(), ids=NOT_STATE.keys())
def test_leaves_no_state(project: Project, code: str) -> None:
    (project.settings.root / "app" / "sql.py").write_text(STATEMENTS)
    assert lines(project, code, "SG302") == []


def test_a_module_for_another_database_leaves_no_state(project: Project) -> None:
    code = 'async def f(s):\n    await s.execute(text("CREATE TEMP TABLE x (id int)"))\n'
    assert lines(project, code, "SG302", "app/jobs.py") == [2]
    assert lines(project, code, "SG302", "app/sqlite_index.py") == []
    assert lines(project, code, "SG302", "app/sqlite/index.py") == []


LEFT_OPEN = {
    "a query before the try": """
        async def f(x):
            s = Session()
            y = await s.get(x, 1)
            try:
                await s.merge(y)
            finally:
                await s.close()
        """,
    "handed on, and closed at the end": """
        async def f(x):
            s = Session()
            await save(s, x)
            await s.close()
        """,
    "closed for one error alone": """
        async def f(x):
            s = Session()
            try:
                await s.merge(x)
                await s.close()
            except ValueError:
                await s.close()
        """,
    "either given or made": """
        async def f(x, s=None):
            s = s or Session()
            await s.merge(x)
        """,
    "closed without await": """
        async def f(x):
            s = Session()
            try:
                await s.merge(x)
            finally:
                s.close()
        """,
    "closed without await, as sync generators do": """
        def get():
            s = Session()
            try:
                yield s
            finally:
                s.close()
        """,
    "closed by what awaits nothing": """
        async def f(x):
            s = Session()
            with contextlib.closing(s):
                await s.merge(x)
        """,
    "closed without await for errors": """
        async def f(x):
            s = Session()
            try:
                await s.merge(x)
            except Exception:
                s.close()
                raise
            await s.close()
        """,
}
CLOSED = {
    "begins one block": """
        async def f(x):
            s = Session()
            async with s.begin():
                s.add(x)
        """,
    "given to what closes": """
        async def f(x):
            s = Session()
            try:
                await s.merge(x)
            finally:
                await asyncio.shield(save(s))
        """,
    "put into a list": """
        async def f(x):
            s = Session()
            x.append(s)
            await s.merge(x)
        """,
    "kept outside": """
        s = None
        async def f(x):
            global s
            s = Session()
            await s.merge(x)
        """,
    "on SQLite": """
        from sqlalchemy.ext.asyncio import create_async_engine
        async def f(x):
            s = AsyncSession(create_async_engine("sqlite+aiosqlite://"))
            await s.merge(x)
        """,
    "yielded to who knows whom": """
        async def f(xs):
            for x in xs:
                s = Session()
                yield s
        """,
    "closed for every error": """
        async def f(x):
            s = Session()
            try:
                await s.merge(x)
            except ValueError:
                await s.close()
                return
            except Exception:
                await s.close()
                raise
            await s.close()
        """,
    "invalidated": """
        async def f(x):
            s = Session()
            try:
                await s.merge(x)
            finally:
                await s.invalidate()
        """,
    "reset": """
        async def f(x):
            s = Session()
            try:
                await s.merge(x)
            finally:
                await s.reset()
        """,
    "closed by a task": """
        async def f(x):
            s = Session()
            try:
                await s.merge(x)
            finally:
                await asyncio.shield(s.close())
        """,
    "of one of two kinds": """
        from sqlalchemy import create_engine
        from sqlalchemy.orm import sessionmaker
        class Store:
            def __init__(self, url, is_async):
                self.maker = Session if is_async else sessionmaker(create_engine(url))
            def read(self, x):
                s = self.maker()
                try:
                    return s.get(x, 1)
                finally:
                    s.close()
        """,
    "closed by a function inside": """
        async def f(x, on_exit):
            s = Session()
            async def stop():
                await s.close()
            on_exit(stop)
            await s.merge(x)
        """,
}


@pytest.mark.parametrize("code", LEFT_OPEN.values(), ids=LEFT_OPEN.keys())
def test_left_open(project: Project, code: str) -> None:
    assert len(lines(project, code, "SG105")) == 1


@pytest.mark.parametrize("code", CLOSED.values(), ids=CLOSED.keys())
def test_closed(project: Project, code: str) -> None:
    assert lines(project, code, "SG105") == []


REDUNDANT = {
    "on each way out": """
        async def f(x):
            async with get_background_session() as s:
                if x:
                    s.add(x)
                    await s.commit()
                elif x is None:
                    await save(s, x)
                    await s.commit()
                    return
                else:
                    await save(s, x)
                    await s.commit()
        """,
    "from a loop round the block": """
        async def f(xs):
            for x in xs:
                async with get_background_session() as s:
                    if x:
                        s.add(x)
                        await s.commit()
                        continue
                    if x is None:
                        s.add(x)
                        await s.commit()
                        break
                    await save(s, x)
                    await s.commit()
                    s.add(x)
                    await s.commit()
                    return (x, 1)
        """,
    "a return from a loop inside": """
        async def f(xs):
            async with get_background_session() as s:
                for x in xs:
                    s.add(x)
                    await s.commit()
                    return None
                await s.commit()
                s.add(1)
                try:
                    await save(s, 1)
                except ValueError as error:
                    await s.rollback()
                    raise RuntimeError(str(error)) from error
                await s.commit()
        """,
}
NOT_REDUNDANT = {
    "breaks a loop inside": """
        async def f(xs):
            async with get_background_session() as s:
                for x in xs:
                    s.add(x)
                    await s.commit()
                    break
                await save(s, xs)
        """,
    "errors are swallowed round it": """
        async def f(x):
            async with get_background_session() as s:
                try:
                    try:
                        await save(s, x)
                    except ValueError:
                        await s.rollback()
                        raise
                except ValueError:
                    pass
                with contextlib.suppress(ValueError):
                    try:
                        await save(s, x)
                    except ValueError:
                        await s.rollback()
                        raise
        """,
    "another session": """
        async def f(x, other: AsyncSession):
            async with get_background_session() as s:
                s.add(x)
                await other.commit()
        """,
}


@pytest.mark.parametrize("code", REDUNDANT.values(), ids=REDUNDANT.keys())
def test_redundant(project: Project, code: str) -> None:
    assert len(lines(project, code, "SG303")) == 3


@pytest.mark.parametrize("code", NOT_REDUNDANT.values(), ids=NOT_REDUNDANT.keys())
def test_not_redundant(project: Project, code: str) -> None:
    assert lines(project, code, "SG303") == []


HELD_OPEN = {
    "the finally of the same try": """
        async def f(x, notify):
            async with get_background_session() as s:
                try:
                    await save(s, x)
                except ValueError:
                    await s.rollback()
                    raise
                finally:
                    await notify()
        """,
    "the finally of a try round it": """
        async def f(x, lock):
            async with get_background_session() as s:
                try:
                    if x:
                        try:
                            await save(s, x)
                        except ValueError:
                            await s.rollback()
                            raise
                finally:
                    async with lock:
                        pass
        """,
    "what the with enters behind the session": """
        async def f(x, lock):
            async with get_background_session() as s, lock:
                try:
                    await save(s, x)
                except ValueError:
                    await s.rollback()
                    raise
        """,
}


@pytest.mark.parametrize("code", HELD_OPEN.values(), ids=HELD_OPEN.keys())
def test_a_rollback_with_something_awaited_behind_it_is_not_safe_to_remove(
    project: Project, code: str
) -> None:
    [finding] = findings(project, code, "SG303")
    assert finding.fix is not None
    assert finding.fix.applicability is Applicability.UNSAFE
    alone = code.replace("await notify()", "notify()").replace("async with lock", "if lock")
    [safe] = findings(project, alone.replace(", lock:", ":"), "SG303")
    assert safe.fix is not None
    assert safe.fix.applicability is Applicability.SAFE


def test_a_rollback_of_an_error_that_a_finally_swallows_is_needed(project: Project) -> None:
    code = """
        async def f(x):
            async with get_background_session() as s:
                try:
                    await save(s, x)
                except ValueError:
                    await s.rollback()
                    raise
                finally:
                    return x
        """
    assert lines(project, code, "SG303") == []
