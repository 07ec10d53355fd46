"""SG208: AUTOCOMMIT on an engine whose statements have unique names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.gate import ASYNC_SESSION_WORDS
from session_guard.rule import Applicability, Invalid, Rewrite, Rule, Subject, Valid, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.engine.facts import Engine
    from session_guard.module import Module


class AutocommitWithNamedStatements(Rule):
    code = "SG208"
    name = "autocommit-with-named-statements"
    summary = "AUTOCOMMIT and unique statement names behind a transaction pooler"
    why = """\
asyncpg prepares a statement in one message and runs it in the next. In AUTOCOMMIT each is a
transaction of its own, and a transaction pooler may give the second another server connection,
on which nothing of that name was prepared. Behind PgBouncer three quarters of the queries failed
so, on asyncpg 0.28 to 0.32; Supavisor gives the same picture.

Anonymous statements (`lambda: ""`, both caches off) were right on every version: asyncpg parses
them again in the message that runs them. SQLAlchemy's maintainers call AUTOCOMMIT on asyncpg
behind a transaction pooler unsupported all the same; leaving AUTOCOMMIT is the other way out.

The level is found on an engine, on a connection of it and on the connection of a session whose
engine is known, written in any case, in a dictionary or with `**`.

Engines with asyncpg's own names are SG202's; with `pooler = "direct"` nothing is reported."""
    fix_safety = """\
The name function becomes `lambda: ""`, and both caches are turned off where they are not: *safe*.
A dictionary that others use as well is unpacked into a new one.
*Absent* where the engine is built in another file, or `connect_args` comes with `**`."""
    since = "0.1.0"
    references = ("https://github.com/sqlalchemy/sqlalchemy/issues/12836",)
    project_words = ASYNC_SESSION_WORDS
    tokens = (b"execution_options", b"create_async_engine")
    project_names = True
    in_handler = True
    subject = Subject.MAKERS
    node_types = ("Call",)

    valid = (
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    isolation_level="AUTOCOMMIT",
    connect_args={
        "prepared_statement_name_func": lambda: "",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    },
)
"""),
        Valid(
            """\
from uuid import uuid4
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    isolation_level="AUTOCOMMIT",
    connect_args={"prepared_statement_name_func": lambda: f"s{uuid4()}"},
)
""",
            config='pooler = "direct"',
        ),
        Valid("""\
from uuid import uuid4
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    execution_options={"isolation_level": "SERIALIZABLE"},
    connect_args={"prepared_statement_name_func": lambda: f"s{uuid4()}"},
)
"""),
        Valid("""\
from uuid import uuid4
from asyncpg import Connection
from sqlalchemy.ext.asyncio import create_async_engine

class CConnection(Connection):
    def _get_unique_id(self, prefix: str) -> str:
        return f"__asyncpg_{prefix}_{uuid4()}__"

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    isolation_level="AUTOCOMMIT",
    connect_args={"connection_class": CConnection, "statement_cache_size": 0},
)
"""),
        Valid("""\
from sqlalchemy import create_engine

engine = create_engine("postgresql://db/app", isolation_level="AUTOCOMMIT")
with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
    connection.exec_driver_sql("VACUUM")
"""),
        Valid("""\
async def vacuum(engine):
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
"""),
        Valid("""\
from app.db import engine

async def report():
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("sqlite+aiosqlite:///app.db", isolation_level="AUTOCOMMIT")
"""),
        Valid("""\
from sqlalchemy import text
from app.db import engine, get_background_session

LEVEL = {"isolation_level": "SERIALIZABLE"}

async def report(session, connection):
    connection = await engine.connect()
    await connection.execution_options(**LEVEL)
    async with get_background_session() as session:
        await session.connection(execution_options=LEVEL)
        await session.execute(text("SELECT 1"), execution_options={"isolation_level": "AUTOCOMMIT"})
    await other(connection).execution_options(isolation_level="AUTOCOMMIT")
"""),
    )
    invalid = (
        Invalid(
            """\
from uuid import uuid4
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    isolation_level="AUTOCOMMIT",
    connect_args={
        "prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    },
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    isolation_level="AUTOCOMMIT",
    connect_args={
        "prepared_statement_name_func": lambda: "",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    },
)
""",
        ),
        Invalid(
            """\
import uuid
from sqlalchemy.ext.asyncio import create_async_engine

ARGS = {"prepared_statement_name_func": lambda: str(uuid.uuid4()), "statement_cache_size": 0}
engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args=ARGS,
    execution_options={"isolation_level": "AUTOCOMMIT"},
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

ARGS = {
    "prepared_statement_name_func": lambda: "",
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
}
engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args=ARGS,
    execution_options={"isolation_level": "AUTOCOMMIT"},
)
""",
        ),
        Invalid(
            """\
from app.db import engine

async def vacuum():
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
""",
            because="its engine is built in another file",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import async_sessionmaker
from app import db

autocommit_engine = db.engine.execution_options(isolation_level="AUTOCOMMIT")
""",
            because="prepared statement … does not exist",
        ),
        Invalid(
            """\
from uuid import uuid4
from sqlalchemy.ext.asyncio import create_async_engine

def name() -> str:
    return f"__asyncpg_{uuid4()}__"

engine = create_async_engine(
    "postgresql+asyncpg://db:6432/app", connect_args={"prepared_statement_name_func": name}
)
autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
""",
            fixed="""\
from uuid import uuid4
from sqlalchemy.ext.asyncio import create_async_engine

def name() -> str:
    return f"__asyncpg_{uuid4()}__"

engine = create_async_engine(
    "postgresql+asyncpg://db:6432/app", connect_args={
        "prepared_statement_name_func": lambda: "",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    }
)
autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
""",
            because="PgBouncer (as the URL says)",
        ),
        Invalid(
            """\
from uuid import uuid4
from sqlalchemy.ext.asyncio import create_async_engine

options = {
    "isolation_level": "AUTOCOMMIT",
    "connect_args": {"prepared_statement_name_func": lambda: f"s{uuid4()}"},
}
engine = create_async_engine("postgresql+asyncpg://db/app", **options)
""",
            config='pooler = "supavisor"',
            because="its `connect_args` come with `**`",
        ),
        Invalid(
            """\
from app.db import engine

OPTIONS = {"isolation_level": "autocommit"}

async def vacuum():
    connection = await engine.connect()
    connection = await connection.execution_options(isolation_level="autocommit")
    await connection.close()

async def analyze():
    async with engine.connect() as connection:
        await connection.execution_options(**OPTIONS)
    await (await engine.connect()).execution_options(**{"isolation_level": "AUTOCOMMIT"})
""",
            count=3,
            because="its engine is built in another file",
        ),
        Invalid(
            """\
from app.db import background_task_session_factory, get_background_session

OPTIONS = {"isolation_level": "AUTOCOMMIT"}

async def report():
    async with get_background_session() as session:
        await session.connection(execution_options=OPTIONS)

async def vacuum():
    async with background_task_session_factory() as session:
        connection = await session.connection()
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
""",
            count=3,
        ),
        Invalid(
            """\
from uuid import uuid4
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    isolation_level="autocommit",
    connect_args={"prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__"},
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    isolation_level="autocommit",
    connect_args={
        "prepared_statement_name_func": lambda: "",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    },
)
""",
        ),
    )

    def subject_in(self, source: bytes) -> Subject | None:
        # `session.connection(execution_options=…)`, of whatever gave the session
        given = b"connection" in source and b"execution_options" in source
        return Subject.OPTIONS if given else self.subject

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import Call

        from session_guard.engine.advice import behind, ensure_buildable, missing
        from session_guard.engine.connect_args import setting
        from session_guard.rewriting.arguments import NotFixableError
        from session_guard.standard import ANONYMOUS_NAMES, NAME_FUNC, Names

        assert isinstance(node, Call)
        engine = _engine_in_autocommit(node, module)
        if engine is None or engine.needs_no_settings or engine.names is not Names.UNIQUE:
            return
        if engine.is_named_by_class and not _class_is_asked(engine):
            return
        message = (
            "AUTOCOMMIT and unique statement names fail with `prepared statement … does not exist`"
            f"{behind(engine)}"
        )
        help_text = (
            'name no statement (`prepared_statement_name_func=lambda: ""`), or leave AUTOCOMMIT'
        )
        try:
            if module.parent(engine.call) is None:
                raise NotFixableError("its engine is built in another file")
            ensure_buildable(engine)
            wanted = {NAME_FUNC: ANONYMOUS_NAMES, **missing(engine)}
            edits = setting(engine, module, wanted)
        except NotFixableError as error:
            yield Violation(node, message, f"{help_text}; not fixed: {error}")
        else:
            rewrite = Rewrite(Applicability.SAFE, "make the statements anonymous", edits)
            yield Violation(node, message, help_text, rewrite)


def _class_is_asked(engine: Engine) -> bool:
    """Return whether asyncpg surely asks an engine's `connection_class` for names.

    From 0.31 on it does not where its cache is off.
    """
    from session_guard.standard import DRIVER_CACHE, UNNAMED_SINCE

    asyncpg = engine.versions.asyncpg
    is_old = asyncpg is not None and asyncpg.is_surely_below(*UNNAMED_SINCE)
    return is_old or engine.is_off(DRIVER_CACHE) is False


def _engine_in_autocommit(call: cst.Call, module: Module) -> Engine | None:
    """Return the engine that a call sets to AUTOCOMMIT, or a connection of it, or None."""
    import libcst as cst

    from session_guard.engine.facts import engine_behind, engine_of
    from session_guard.execution_options import of_expression, of_keywords
    from session_guard.rewriting.arguments import argument

    engine = engine_of(call, module)
    if engine is not None:
        return engine if _is_autocommit(engine.isolation_level) else None
    if not isinstance(call.func, cst.Attribute):
        return None
    method, given = call.func.attr.value, argument(call, "execution_options")
    if method == "execution_options":
        options = of_keywords(call, module)
    elif method == "connection" and given is not None:  # of a session
        options = of_expression(given.value, module)
    else:
        return None
    if not _is_autocommit(options.literal("isolation_level")):
        return None
    return engine_behind(call.func.value, module)


def _is_autocommit(level: object) -> bool:
    """Return whether an isolation level is AUTOCOMMIT, which SQLAlchemy takes in any case."""
    return isinstance(level, str) and level.upper() == "AUTOCOMMIT"
