"""SG102: a session factory built outside the handler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.rule import Invalid, Rule, Valid, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.module import Module


class SessionFactoryOutsideHandler(Rule):
    code = "SG102"
    name = "session-factory-outside-handler"
    summary = "`async_sessionmaker`, or a kin of it, built outside the handler"
    why = """\
The handler has one factory, with options that the whole code base can rely on: nothing expires on
commit, nothing is flushed behind one's back. A second factory has options and perhaps an engine of
its own, and whatever is opened from it is neither committed nor rolled back by anyone.

`async_sessionmaker(...)`, `sessionmaker(class_=AsyncSession)` and `async_scoped_session(...)` are
found, by whatever name they go. A `sessionmaker` of sync sessions is not."""
    fix_safety = """\
None: where the factory is used is to be changed first. SG103 finds these places."""
    since = "0.1.0"
    references = (
        "https://docs.sqlalchemy.org/en/20/orm/extensions/asyncio.html#sqlalchemy.ext.asyncio.async_sessionmaker",
    )
    tokens = (b"sessionmaker", b"async_scoped_session", b"sqlalchemy.ext.asyncio")
    project_names = True
    node_types = ("Call",)

    valid = (
        Valid("""\
from sqlalchemy.orm import sessionmaker
from app.sync import engine

Session = sessionmaker(engine)
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

class Repository:
    def __init__(self, factory: async_sessionmaker[AsyncSession]) -> None:
        self.factory = factory
"""),
        Valid("""\
from app.db import get_background_task_session_factory

async def job(run):
    await run(get_background_task_session_factory())
"""),
        Valid("""\
async def job(async_sessionmaker, engine):
    return async_sessionmaker(engine)
"""),
        Valid("""\
from app.factories import async_sessionmaker

Session = async_sessionmaker("worker")
"""),
        Valid("""\
from sqlalchemy.orm import scoped_session, sessionmaker

Session = scoped_session(sessionmaker())
"""),
    )
    invalid = (
        Invalid("""\
from sqlalchemy.ext.asyncio import async_sessionmaker
from app.db import engine

SessionLocal = async_sessionmaker(engine, expire_on_commit=False)
"""),
        Invalid("""\
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import sessionmaker
from app.db import engine

SessionLocal = sessionmaker(engine, class_=AsyncSession)
"""),
        Invalid("""\
import sqlalchemy.ext.asyncio
from app.db import engine

def factory():
    return sqlalchemy.ext.asyncio.async_sessionmaker(bind=engine)
"""),
        Invalid("""\
from asyncio import current_task
from sqlalchemy.ext.asyncio import async_scoped_session
from app.db import get_background_task_session_factory

Session = async_scoped_session(get_background_task_session_factory(), scopefunc=current_task)
"""),
        Invalid("""\
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker as make
from app.db import engine

class Worker:
    def __init__(self) -> None:
        self.sessions = make[AsyncSession](engine)
"""),
        Invalid("""\
try:
    from sqlalchemy.ext.asyncio import async_sessionmaker
except ImportError:
    from sqlalchemy.orm import sessionmaker as async_sessionmaker
from app.db import engine

SessionLocal = async_sessionmaker(engine)
"""),
    )

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import Call

        from session_guard import values

        assert isinstance(node, Call)
        if module.is_handler:
            return
        for value in module.evaluate(node):
            if (
                isinstance(value, values.Result)
                and value.call.node is node
                and values.factory(value) is not None
            ):
                yield Violation(
                    node,
                    f"`{module.code(node.func)}(…)` builds a session factory outside the handler",
                    "open sessions with the handler's `get_background_session()`; not fixed: what "
                    "opens sessions from this factory is to be changed first",
                )
                return
