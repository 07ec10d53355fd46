"""SG102: a session factory built outside the handler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.gate import ASYNC_SESSION_WORDS
from session_guard.rule import Applicability, Invalid, Rewrite, Rule, Subject, Valid, Violation

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
A factory that nothing uses is removed: nothing in its file names it, nor does any other file of the
project where it stands at a module's top level. That is *safe* for a local one or one whose name
begins with `_`, and *unsafe* for any other, which code outside the project may import. Where
something opens sessions
from it there is no fix; SG103 finds these places, and once its fixes have changed them all, the
factory goes in the same run."""
    since = "0.1.0"
    references = (
        "https://docs.sqlalchemy.org/en/20/orm/extensions/asyncio.html#sqlalchemy.ext.asyncio.async_sessionmaker",
    )
    project_words = ASYNC_SESSION_WORDS
    tokens = (b"sessionmaker", b"async_scoped_session")
    project_names = True
    subject = Subject.MAKERS
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
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

engine = create_async_engine("sqlite+aiosqlite:///app.db")
SessionLocal = async_sessionmaker(engine)
"""),
        Valid("""\
from sqlalchemy.orm import scoped_session, sessionmaker

Session = scoped_session(sessionmaker())
"""),
    )
    invalid = (
        Invalid(
            """\
from sqlalchemy.ext.asyncio import async_sessionmaker
from app.db import engine

SessionLocal = async_sessionmaker(engine, expire_on_commit=False)

async def ping():
    await engine.dispose()
""",
            fixed="""\
from app.db import engine

async def ping():
    await engine.dispose()
""",
            unsafe=True,
            because="code outside the project may import it (`--unsafe-fixes` does it)",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import async_sessionmaker
from app.db import engine

_left_over = async_sessionmaker(engine)  # for the jobs
""",
            because="not fixed: a comment stands beside it",
        ),
        Invalid("""\
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import sessionmaker
from app.db import engine

SessionLocal = sessionmaker(engine, class_=AsyncSession)
"""),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import async_sessionmaker
from app.db import engine, get_background_session

_left_over = async_sessionmaker(engine, expire_on_commit=False)

async def job():
    async with get_background_session() as session:
        await session.commit()
""",
            fixed="""\
from app.db import get_background_session

async def job():
    async with get_background_session() as session:
        await session.commit()
""",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from app.db import engine, get_background_session

_left_over: async_sessionmaker[AsyncSession] = async_sessionmaker(engine)

async def job():
    async with get_background_session() as session:
        await session.commit()
""",
            fixed="""\
from app.db import get_background_session

async def job():
    async with get_background_session() as session:
        await session.commit()
""",
        ),
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

        from session_guard.names import databases, openings, values
        from session_guard.rewriting.arguments import NotFixableError

        assert isinstance(node, Call)
        provided = module.provided(node)
        for value in (*module.results(node), *provided):
            factory = openings.factory(value)
            if (
                factory is not None
                and isinstance(value, values.Result)  # a partial is SG101's
                and not databases.is_on_another_database(factory.bind)
            ):
                message = (
                    f"`{module.code(node.func)}(…)` builds a session factory outside the handler"
                )
                help_text = "open sessions with the handler's `get_background_session()`"
                try:
                    if provided:
                        raise NotFixableError("what a container gives is to be changed first")
                    rewrite = _removal(node, module)
                except NotFixableError as error:
                    yield Violation(node, message, f"{help_text}; not fixed: {error}")
                else:
                    if rewrite.applicability is Applicability.UNSAFE:
                        help_text = rewrite.message
                    yield Violation(node, message, help_text, rewrite)
                return


def _removal(call: cst.Call, module: Module) -> Rewrite:
    """Return the removal of a factory that nothing uses, which SG103's fixes may have left."""
    import libcst as cst

    from session_guard.names.from_libcst import walk
    from session_guard.rewriting.arguments import NotFixableError
    from session_guard.rewriting.imports import has_comment, is_removable

    statement = module.parent(call)
    line = module.parent(statement) if statement is not None else None
    target: cst.BaseExpression | None = None
    if isinstance(statement, cst.Assign) and len(statement.targets) == 1:
        target = statement.targets[0].target
    elif isinstance(statement, cst.AnnAssign):
        target = statement.target
    if (
        statement is None
        or not isinstance(target, cst.Name)
        or not isinstance(line, cst.SimpleStatementLine)
    ):
        raise NotFixableError("what uses this factory could not be followed")
    name = target.value
    if any(use is not target for use in module.named(name)):
        raise NotFixableError("what opens sessions from this factory is to be changed first")
    if module.place(statement).scope.kind != "function" and (
        f'"{name}"' in module.text
        or f"'{name}'" in module.text
        or module.path.name == "__init__.py"
        or module.project.is_mentioned_elsewhere(name, module.path)
    ):
        raise NotFixableError("other modules may use this factory")
    if has_comment(line):
        raise NotFixableError("a comment stands beside it")
    if not is_removable(module, line) or any(
        isinstance(part, (cst.Call, cst.Await, cst.NamedExpr)) and part is not call
        for part in walk(call)
    ):
        raise NotFixableError("its statement does more than to build the factory")
    if module.place(statement).scope.kind != "function" and not name.startswith("_"):
        return Rewrite(
            Applicability.UNSAFE,
            "remove the factory, which nothing in this project uses; not safe, since code outside "
            "the project may import it",
            ((line, None),),
        )
    return Rewrite(Applicability.SAFE, "remove the factory, which nothing uses", ((line, None),))
