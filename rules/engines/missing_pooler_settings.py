"""SG202: an asyncpg engine without the settings that its pooler and versions need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.gate import ASYNC_SESSION_WORDS
from session_guard.rule import Invalid, Rule, Subject, Valid, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.module import Module


class MissingPoolerSettings(Rule):
    code = "SG202"
    name = "missing-pooler-settings"
    summary = "an asyncpg engine without, or with only some of, the settings that a pooler needs"
    why = """\
asyncpg prepares every statement under a name, and a transaction pooler gives each transaction
another server connection. The name is then unknown there (`prepared statement "__asyncpg_…__" does
not exist`) or is another process's, and the rows that come back belong to another query.

Three keys of `connect_args` together are right on every version and pooler that was measured:
`prepared_statement_name_func=lambda: ""`, `statement_cache_size=0` and
`prepared_statement_cache_size=0`. Some of them are not enough: `statement_cache_size=0` alone gives
rows of other queries on asyncpg 0.29 and 0.30, and from `stream()` on 0.31; unique names alone fail
as often as no settings do. From asyncpg 0.32 on `statement_cache_size=0` alone is right, and with
`prepared_statement_cache_size=0` beside it from 0.31 on.

With `pooler = "direct"` nothing is reported; where the pooler is not known, an engine with none of
the settings is reported as not safe behind one. An engine on another driver, or whose settings
cannot be followed, is no finding; what listeners to `do_connect` set counts. Anonymous names with a
cache left on are SG205's. One that is on asyncpg in one arm alone, as its URL or a setting that
only asyncpg has tells, is a finding. Where it is not known whether the URL sets
`prepared_statement_cache_size`, asyncpg's own cache tells.

Other answers in circulation and their worth:

- `async_creator` bypasses `connect_args`, and SQLAlchemy's own cache stays on: right from asyncpg
  0.32 on, where the function connects with `statement_cache_size=0`.
- A `connection_class` that overrides `_get_unique_id`, a private method, is worth as much as a name
  function of that kind: unique names and both caches off are right. From 0.31 on asyncpg does not
  call it where its cache is off.
- `DEALLOCATE ALL` when a transaction begins frees names for that transaction alone, and drops what
  a cache that is left on goes on using.
- `NullPool` alone changes nothing: names meet those that other clients left on the server's
  connections. With unique names and `statement_cache_size=0` beside it a connection's first
  transaction is right, and a second fails.
- Removing the dialect's `do_ping` mends the pool's ping alone."""
    fix_safety = """\
What is missing is added to `connect_args`: where it stands inline, in the dictionary that a name
stands for if nothing else of the project uses it, tests included, or unpacked into a new one.

- *Safe* where the pooler is configured or the URL tells of it, or some settings were given, and
  SQLAlchemy is known to be 2.0.10 or later, the first that knows `prepared_statement_name_func`.
- *Unsafe* where either is not known.
- *Absent* where `connect_args` comes with `**`, or an argument that the engine does not know; with
  `async_creator`; where the engine may be another database's; and where SQLAlchemy is older."""
    since = "0.1.0"
    references = (
        "https://docs.sqlalchemy.org/en/20/dialects/postgresql.html#prepared-statement-name-with-pgbouncer",
        "https://magicstack.github.io/asyncpg/current/faq.html",
        "https://github.com/sqlalchemy/sqlalchemy/issues/6467",
    )
    project_words = ASYNC_SESSION_WORDS
    tokens = (b"create_async_engine",)
    project_names = True
    in_handler = True
    subject = Subject.MAKERS
    node_types = ("Call",)

    valid = (
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db:6432/app",
    connect_args={
        "prepared_statement_name_func": lambda: "",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    },
)
"""),
        Valid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("postgresql+asyncpg://app@db/app")
""",
            config='pooler = "direct"',
        ),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("sqlite+aiosqlite:///app.db")
other = create_async_engine("postgresql+psycopg://db/app")
"""),
        Valid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db:6432/app", connect_args={"statement_cache_size": 0}
)
""",
            config='asyncpg-version = "0.32.0"',
        ),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

options = {"pool_size": 5, **settings.engine_options}
engine = create_async_engine("postgresql+asyncpg://app@db/app", **options)
"""),
        Valid("""\
from uuid import uuid4
from sqlalchemy.ext.asyncio import create_async_engine

NO_CACHES = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
connect_args = {"ssl": True, **NO_CACHES}
connect_args["prepared_statement_name_func"] = lambda: f"__asyncpg_{uuid4()}__"
engine = create_async_engine("postgresql+asyncpg://app@db/app", connect_args=connect_args)
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

def build(url: str, connect_args: dict):
    return create_async_engine(f"postgresql+asyncpg://{url}", connect_args=connect_args)
"""),
        Valid("""\
from google.cloud.sql.connector import create_async_connector
from sqlalchemy.ext.asyncio import create_async_engine

async def connect():
    connector = await create_async_connector()
    return await connector.connect_async("project:region:db", "asyncpg", user="app", db="app")

engine = create_async_engine("postgresql+asyncpg://", async_creator=connect)
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

URL = "postgresql+asyncpg://postgres.ref:pw@aws-0-eu-west-1.pooler.supabase.com:5432/postgres"
engine = create_async_engine(URL)
"""),
        Valid(
            """\
from uuid import uuid4
from asyncpg import Connection
from sqlalchemy.ext.asyncio import create_async_engine

class CConnection(Connection):
    def _get_unique_id(self, prefix: str) -> str:
        return f"__asyncpg_{prefix}_{uuid4()}__"

engine = create_async_engine(
    "postgresql+asyncpg://app@db:6432/app",
    connect_args={
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "connection_class": CConnection,
    },
)
""",
            config='asyncpg-version = "0.30.0"',
        ),
        Valid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

NO_CACHES = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
engine = create_async_engine("postgresql+asyncpg://app@db:6432/app", connect_args=NO_CACHES)
""",
            config='asyncpg-version = "0.31.0"',
        ),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine
from app.connections import CConnection

engine = create_async_engine(
    "postgresql+asyncpg://app@db:6432/app",
    connect_args={
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "connection_class": CConnection,
    },
)
"""),
    )
    invalid = (
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("postgresql+asyncpg://app@db/app")
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("postgresql+asyncpg://app@db/app", connect_args={
    "prepared_statement_name_func": lambda: "",
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
})
""",
            unsafe=True,
            because='behind a transaction pooler; set `pooler = "direct"` if there is none',
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app",
    connect_args={
        "ssl": True,  # verified
        "statement_cache_size": 0,
    },
    pool_size=5,
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app",
    connect_args={
        "ssl": True,  # verified
        "statement_cache_size": 0,
        "prepared_statement_name_func": lambda: "",
        "prepared_statement_cache_size": 0,
    },
    pool_size=5,
)
""",
            config='sqlalchemy-version = "2.0.46"\nasyncpg-version = "0.30.0"',
            because="asyncpg 0.30.0, as `asyncpg-version` says",
        ),
        Invalid(
            """\
from uuid import uuid4
from sqlalchemy.ext.asyncio import create_async_engine

connect_args = {"prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__"}
engine = create_async_engine("postgresql+asyncpg://app@db/app", connect_args=connect_args)
""",
            fixed="""\
from uuid import uuid4
from sqlalchemy.ext.asyncio import create_async_engine

connect_args = {
    "prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__",
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
}
engine = create_async_engine("postgresql+asyncpg://app@db/app", connect_args=connect_args)
""",
        ),
        Invalid(
            """\
import os
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

URL = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://")
engine = create_async_engine(URL, poolclass=NullPool)
""",
            fixed="""\
import os
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

URL = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://")
engine = create_async_engine(URL, poolclass=NullPool, connect_args={
    "prepared_statement_name_func": lambda: "",
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
})
""",
            config='pooler = "supavisor"\nsqlalchemy-version = "2.1"',
            because="`NullPool` alone does not help",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

ARGS = {"timeout": 10}
reader = create_async_engine("postgresql+asyncpg://app@reader:6432/app", connect_args=ARGS)
print(ARGS)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

ARGS = {"timeout": 10}
reader = create_async_engine("postgresql+asyncpg://app@reader:6432/app", connect_args={
    **ARGS,
    "prepared_statement_name_func": lambda: "",
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
})
print(ARGS)
""",
            unsafe=True,
            because="needs SQLAlchemy 2.0.10, and which one this project runs is not known",
        ),
        Invalid(
            """\
import asyncpg
from sqlalchemy.ext.asyncio import create_async_engine

async def connect():
    return await asyncpg.connect("postgresql://app@db/app", statement_cache_size=0)

engine = create_async_engine("postgresql+asyncpg://", async_creator=connect)
""",
            because="`async_creator` bypasses `connect_args`",
        ),
        Invalid(
            """\
from uuid import uuid4
import asyncpg
from sqlalchemy.ext.asyncio import create_async_engine

class CConnection(asyncpg.Connection):
    def _get_unique_id(self, prefix):
        return f"__asyncpg_{prefix}_{uuid4()}__"

async def connect():
    return await asyncpg.connect(
        "postgresql://app@db/app", statement_cache_size=0, connection_class=CConnection
    )

engine = create_async_engine("postgresql+asyncpg://", async_creator=connect)
""",
            config='asyncpg-version = "0.30.0"',
            because="this with `statement_cache_size=0` fails with",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app?prepared_statement_cache_size=0",
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app?prepared_statement_cache_size=0",
    connect_args={
        "prepared_statement_name_func": lambda: "",
        "statement_cache_size": 0,
    },
)
""",
            config='sqlalchemy-version = "2.0.46"',
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("postgresql+asyncpg://app@db:6543/app")
""",
            config='sqlalchemy-version = "2.0.9"',
            because="needs SQLAlchemy 2.0.10 or later (SQLAlchemy 2.0.9, as `sqlalchemy-version`",
        ),
        Invalid(
            """\
from uuid import uuid4
import asyncpg
from sqlalchemy.ext.asyncio import create_async_engine

class CConnection(asyncpg.Connection):
    def _get_unique_id(self, prefix):
        return f"__asyncpg_{prefix}_{uuid4()}__"

engine = create_async_engine(
    "postgresql+asyncpg://app@db:6432/app",
    connect_args={"statement_cache_size": 0, "connection_class": CConnection},
)
""",
            fixed="""\
from uuid import uuid4
import asyncpg
from sqlalchemy.ext.asyncio import create_async_engine

class CConnection(asyncpg.Connection):
    def _get_unique_id(self, prefix):
        return f"__asyncpg_{prefix}_{uuid4()}__"

engine = create_async_engine(
    "postgresql+asyncpg://app@db:6432/app",
    connect_args={
        "statement_cache_size": 0,
        "connection_class": CConnection,
        "prepared_statement_cache_size": 0,
    },
)
""",
            config='asyncpg-version = "0.30.0"',
            because="`connection_class` with `statement_cache_size=0` alone fails with",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

KW = dict(pool_size=5, statement_cache_size=0)
engine = create_async_engine("postgresql+asyncpg://app@db:6432/app", **KW)
""",
            config='sqlalchemy-version = "2.0.46"',
            because="no argument of the engine, which raises a `TypeError`",
        ),
        Invalid(
            """\
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db:6432/app",
    connect_args={"statement_cache_size": 0, "prepared_statement_cache_size": 0},
)

@event.listens_for(engine.sync_engine, "begin")
def begin(connection):
    connection.execute(text("DEALLOCATE ALL"))
""",
            fixed="""\
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db:6432/app",
    connect_args={
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": lambda: "",
    },
)

@event.listens_for(engine.sync_engine, "begin")
def begin(connection):
    connection.execute(text("DEALLOCATE ALL"))
""",
            config='sqlalchemy-version = "2.0.46"\nasyncpg-version = "0.30.0"',
            because="`DEALLOCATE ALL` frees names for one transaction alone",
        ),
        Invalid(
            """\
from uuid import uuid4
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

engine = create_async_engine(
    "postgresql+asyncpg://app@db:6432/app",
    poolclass=NullPool,
    connect_args={
        "prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__",
        "statement_cache_size": 0,
    },
)
""",
            fixed="""\
from uuid import uuid4
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

engine = create_async_engine(
    "postgresql+asyncpg://app@db:6432/app",
    poolclass=NullPool,
    connect_args={
        "prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    },
)
""",
            because="when a connection runs a second transaction",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

def settings_for(url):
    if url.startswith("postgresql"):
        return {"command_timeout": 60}
    return {}

def build(url):
    return create_async_engine(url, connect_args=settings_for(url))
""",
            because="it may be another database's, which takes no such keys",
        ),
    )

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import Call

        from session_guard.engine.advice import completion, creator_verdict, other_answers, verdict
        from session_guard.engine.facts import engine_of
        from session_guard.rewriting.arguments import NotFixableError
        from session_guard.standard import REPEATED, Names

        assert isinstance(node, Call)
        engine = engine_of(node, module)
        if engine is None or engine.needs_no_settings:
            return
        if not engine.may_be_on_asyncpg:
            return
        if "creator" in engine.arguments.entries:
            return  # which connects by itself, so that `connect_args` is not looked at
        if "async_creator" in engine.arguments.entries:
            bypass = creator_verdict(engine)
            if bypass is not None:
                yield Violation(
                    node,
                    bypass,
                    "let SQLAlchemy connect, and give the settings in `connect_args`; not fixed: "
                    "what the function does beside connecting is to be moved first",
                )
            return
        said = verdict(engine)
        if said is None or engine.names in {Names.ANONYMOUS, *REPEATED}:
            return  # such names are SG205's
        advice = ("give the standard's settings in `connect_args`", *other_answers(engine))
        try:
            if not engine.is_on_asyncpg:
                raise NotFixableError("it may be another database's, which takes no such keys")
            yield Violation(node, said, "; ".join(advice), completion(engine, module))
        except NotFixableError as error:
            yield Violation(node, said, f"{'; '.join(advice)}; not fixed: {error}")
