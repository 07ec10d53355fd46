"""SG302: SQL that leaves something on the connection, which a transaction pooler hands on."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from session_guard.gate import SQL_WORDS
from session_guard.rule import Invalid, Rule, Valid, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.module import Module
    from session_guard.names.values import Namespace
    from session_guard.rule import ProjectNames

# Of a file in small letters: what a text may begin with, where a quote or a line's end and blanks
# stand before it, and the words that no letter stands before. Literals come first, which `re` looks
# for by themselves; it compiles them when they are first used.
_BEGINNINGS = (
    rb"set(?=\s+(session\s+)?([\w.\"]+\s*(=|to\b)|[{%\"']|names\b|schema\b))",
    rb"listen(?=\s+[\w\"{])",
    rb"load(?=\s+')",
    rb"prepare(?=\s+\w+\s*(\(|as\b))",
)
_WORDS = (
    rb"set(?<!\wset)\s+(session\s+)?(time\s+zone|role|authorization|characteristics)\b",
    rb"temp(?<!\wtemp)(orary)?\s+(table|view|sequence|recursive)\b",
    rb"into(?<!\winto)\s+(local\s+|global\s+)?temp(orary)?\b",
    rb"with(?<!\wwith)\s+hold\b",
    rb"add_listener(?<!\wadd_listener)\b",
    rb"prefixes(?<!\wprefixes)\s*=\s*[\[(][^\])]*temp",
)
# Where SQL of another file may be executed.
_EXECUTED = rb"\.[\s\\]*(execute|scalars?|stream(_scalars)?|exec(_driver_sql)?)[\s\\]*\("


@functools.lru_cache(maxsize=1)
def _has_words(source: bytes) -> bool:
    """Return whether SQL that leaves something may be written in a file."""
    lowered = source.lower()
    return (
        b"set_config" in lowered
        or b"advisory_lock" in lowered
        or any(re.search(word, lowered) is not None for word in _WORDS)
        or any(
            _is_begun(lowered, match.start())
            for beginning in _BEGINNINGS
            for match in re.finditer(beginning, lowered)
        )
    )


def _is_begun(source: bytes, at: int) -> bool:
    """Return whether nothing but blanks stands between a place and a quote or a line's end."""
    while at > 0 and source[at - 1 : at].isspace():
        at -= 1
        if source[at : at + 1] == b"\n":
            return True
    return source[at - 1 : at] in (b"'", b'"')


class SessionStateBehindPooler(Rule):
    code = "SG302"
    name = "session-state-behind-pooler"
    summary = "SQL that leaves something on a connection which the pooler hands to the next client"
    why = """\
Behind a transaction pooler a client has a server connection for one transaction. What belongs to
the connection and not to the transaction stays there, for whoever comes next: a `search_path`, a
role or a tenant's id that another request then runs with, a `statement_timeout` that fails its
queries, an advisory lock that nobody can release, since `pg_advisory_unlock()` runs on another
connection. The client that set it does not find it again, and no error says so.

Found, in SQL executed on SQLAlchemy's async sessions and connections, are `SET` without `LOCAL`
(but not `SET TRANSACTION` and `SET CONSTRAINTS`, which end with the transaction),
`set_config(…, false)`, `LISTEN`, `pg_advisory_lock()` and `pg_try_advisory_lock()` (but not the
forms with `xact`), also as `func.…`, temporary tables without `ON COMMIT DROP`, `PREPARE`, cursors
`WITH HOLD` and `LOAD`: the list in PgBouncer's documentation. Looked into is also what `run_sync()`
runs, asyncpg's own connection (`driver_connection`, with `add_listener()`), and the cursors of
listeners to an engine's `connect` and `checkout`; a `Table` with the prefix `TEMPORARY` is found
where the handler's engine is PostgreSQL's. SQL is followed through constants, attributes, methods
and loops, to other files of the project too. Sessions on other databases, code for another database
by the name of its module, class or function or by the test of its branch, listeners to what is not
known to be an engine of PostgreSQL, and text that is no SQL of this kind, are no findings.

With `pooler = "direct"` the rule is silent."""
    fix_safety = """\
There is no fix: where the setting shall hold for one transaction, `SET LOCAL` and
`pg_advisory_xact_lock()` say so, but code that relies on it after a commit must be changed."""
    since = "0.1.0"
    references = (
        "https://www.pgbouncer.org/features.html#sql-feature-map-for-pooling-modes",
        "https://www.postgresql.org/docs/current/sql-set.html",
        "https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS",
    )
    project_words = SQL_WORDS
    tokens = (
        *(b"execute", b"scalar", b"stream", b".exec(", b"exec_driver_sql"),
        *(b"add_listener", b"prefixes"),
    )
    in_handler = True
    node_types = ("Call",)

    valid = (
        Valid("""\
from sqlalchemy import text

async def run(session, tenant):
    await session.execute(text("SET LOCAL statement_timeout = '5s'"))
    await session.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY"))
    await session.execute(text("SELECT set_config('app.tenant', :t, true)"), {"t": tenant})
"""),
        Valid("""\
from sqlalchemy import func, select, text

async def run(session, key):
    await session.execute(select(func.pg_advisory_xact_lock(key)))
    await session.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": key})
"""),
        Valid("""\
from sqlalchemy import text

async def run(conn):
    await conn.execute(text("CREATE TEMP TABLE rows (id int) ON COMMIT DROP"))
    await conn.execute(text("UPDATE users SET name = 'Listen to me'"))
    await conn.exec_driver_sql("PREPARE TRANSACTION 'orders'")
"""),
        Valid("""\
async def run(client, log):
    await client.execute("Set the oven to 200 degrees")
    await log.execute("Listen carefully")
"""),
        Valid("""\
from sqlalchemy import text

def upgrade(op):
    op.execute(text("SET search_path TO tenant"))
"""),
        Valid("""\
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("mysql+asyncmy://db/app")

async def run(session):
    async with engine.begin() as conn:
        await conn.execute(text("SET time_zone = '+00:00'"))
    await session.execute(text("SET FOREIGN_KEY_CHECKS = 0"))
"""),
        Valid("""\
from sqlalchemy import text

class SqliteVectorIndex:
    async def rebuild(self, session):
        await session.execute(text("CREATE TEMP TABLE kept AS SELECT rowid FROM vectors"))
"""),
        Valid(
            """\
from sqlalchemy import text

async def run(session):
    await session.execute(text("SET search_path TO tenant"))
""",
            config='pooler = "direct"',
        ),
    )
    invalid = (
        Invalid(
            """\
from sqlalchemy import text

async def use_tenant(session, schema: str):
    await session.execute(text(f"SET search_path TO {schema}, public"))
""",
            because="`SET` without `LOCAL`",
        ),
        Invalid(
            """\
import sqlalchemy as sa
from app.db import get_background_session

LOCK = sa.text("SELECT pg_advisory_lock(:key)")

async def job(key):
    async with get_background_session() as session:
        await session.execute(LOCK, {"key": key})
""",
            because="pg_advisory_xact_lock",
        ),
        Invalid(
            """\
from sqlalchemy import func, select

async def is_leader(db, key) -> bool:
    return bool(await db.scalar(select(func.pg_try_advisory_lock(key))))
""",
        ),
        Invalid(
            """\
from app.db import engine

async def listen():
    async with engine.connect() as conn:
        await conn.exec_driver_sql("LISTEN jobs")
""",
            because="LISTEN",
        ),
        Invalid(
            '''\
from sqlalchemy import text

STATEMENT = """
    -- rows of this import
    CREATE TEMPORARY TABLE incoming AS SELECT * FROM users
"""

class Importer:
    async def run(self):
        await self.session.execute(text(STATEMENT))
''',
            because="temporary table",
        ),
        Invalid(
            """\
from sqlalchemy import text

async def run(session, tenant):
    await session.execute(
        text("SELECT 1; select set_config('app.tenant', :tenant, false)").bindparams(tenant=tenant)
    )
    (await session.connection()).info.clear()
    await (await session.connection()).exec_driver_sql("DECLARE c CURSOR WITH HOLD FOR SELECT 1")
    await session.execute(text("PREPARE find (int) AS SELECT * FROM users WHERE id = $1"))
""",
            count=3,
        ),
        Invalid(
            """\
from sqlalchemy import text

class Search:
    _unlimited = text("SET statement_timeout = 0")

    def _settings(self, probes):
        yield "SET ivfflat.probes = :probes", {"probes": probes}

    async def run(self, session, probes):
        await session.execute(self._unlimited)
        for sql, params in self._settings(probes):
            await session.execute(text(sql), params)
""",
            count=2,
        ),
        Invalid(
            """\
from sqlalchemy import text

async def slow(session, seconds):
    await session.execute(text("set statement_timeout to '%s'" % seconds))
    await session.execute(text("SET ROLE " + "reader"))
""",
            count=2,
        ),
    )

    def gate(self, source: bytes, names: ProjectNames) -> bool:
        return super().gate(source, names) and (
            _has_words(source) or (b"await" in source and re.search(_EXECUTED, source) is not None)
        )

    def may_find_in(self, source: bytes, names: Namespace) -> bool:
        from session_guard.usage.sql_left import may_be_given_state, may_write_state

        # What is not written here may be written where the file imports from.
        return may_be_given_state(names) or (_has_words(source) and may_write_state(names))

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import Call

        from session_guard.usage.sql_state import connection_state

        assert isinstance(node, Call)
        if module.project.settings.pooler == "direct":
            return
        found = connection_state(node, module)
        if found is not None:
            what, instead = found
            yield Violation(
                node,
                f"{what}, which a transaction pooler hands to the next client",
                f'use {instead}; set `pooler = "direct"` if there is no such pooler',
            )
