"""SG206: `server_settings` that the pooler refuses, or drops in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.gate import ASYNC_SESSION_WORDS
from session_guard.rule import Applicability, Invalid, Rewrite, Rule, Subject, Valid, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.engine.facts import Engine
    from session_guard.module import Module


class StartupParameterLost(Rule):
    code = "SG206"
    name = "startup-parameter-lost"
    summary = "`server_settings` that this pooler refuses at connect or drops in silence"
    why = """\
`server_settings` are sent when a connection starts, and to whom depends on what is there.

- **PgBouncer** keeps a few (`application_name`, `client_encoding`, `DateStyle`,
  `standard_conforming_strings`, `TimeZone`; from 1.20 on `IntervalStyle`, and `options` where these
  are all that it sets) and refuses any other: `unsupported startup parameter`. Where its
  `ignore_startup_parameters` names one, it is dropped. Where its `track_extra_parameters` does, it
  is kept if the server reports it, as `search_path` from PostgreSQL 18 on, and dropped if not.
- **Supavisor** drops all but `search_path` without a word: a `statement_timeout` set here never
  was.
- **PostgreSQL** itself refuses what it has no setting for: `unrecognized configuration
  parameter`.

`statement_cache_size` is a setting of the driver. In `server_settings`, where the standard of
2025 put it, nothing can connect through PgBouncer or to PostgreSQL; Supavisor ignores it, so
that there it is accepted. Where neither `pooler` nor the URL tells what is there, nothing is
reported: a project that runs with such a setting is on Supavisor. `application_name` is not
reported on Supavisor, though it always reads `Supavisor` there: no query depends on it."""
    fix_safety = """\
Removing a setting of the driver from `server_settings` is *safe*: nothing could connect with it, or
it was dropped. It is *absent* where others than asyncpg's engines use the dictionary.
There is no fix for settings of the server: they belong to the role or the database
(`ALTER ROLE … SET`), or to the transaction (`SET LOCAL`)."""
    since = "0.1.0"
    references = (
        "https://www.pgbouncer.org/config.html#ignore_startup_parameters",
        "https://www.postgresql.org/docs/current/sql-alterrole.html",
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
    "postgresql+asyncpg://app@db/app",
    connect_args={"server_settings": {"statement_cache_size": "0", "jit": "off"}},
)
"""),
        Valid(
            """\
import os
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    os.environ["DATABASE_URL"],
    connect_args={
        "statement_cache_size": 0,
        "server_settings": {"statement_cache_size": "0", "search_path": "app"},
    },
)
""",
            config='pooler = "supavisor"',
        ),
        Valid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app",
    connect_args={"server_settings": {"application_name": "worker", "TimeZone": "UTC"}},
)
""",
            config='pooler = "pgbouncer"',
        ),
        Valid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app",
    connect_args={"server_settings": {"jit": "off", "statement_timeout": "5000"}},
)
""",
            config='pooler = "direct"',
        ),
        Valid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app",
    connect_args={"server_settings": settings.server_settings},
)
""",
            config='pooler = "pgbouncer"',
        ),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://postgres.ref:pw@aws-0-eu.pooler.supabase.com:6543/postgres",
    connect_args={"server_settings": {"application_name": "api", "statement_cache_size": "0"}},
)
"""),
        Valid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

SERVER = {"IntervalStyle": "iso_8601", "options": "-c timezone=UTC --intervalstyle=iso_8601"}
engine = create_async_engine(
    "postgresql+asyncpg://app@db/app", connect_args={"server_settings": SERVER}
)
other = create_async_engine(
    "postgresql+asyncpg://app@db/app",
    connect_args={"server_settings": {"options": settings.options}},
)
""",
            config='pooler = "pgbouncer"',
        ),
        Valid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

connect_args = {"statement_cache_size": 0}
if settings.pooler == "supavisor":
    connect_args["server_settings"] = {"statement_cache_size": "0"}
engine = create_async_engine("postgresql+asyncpg://app@db/app", connect_args=connect_args)
""",
            config='pooler = "pgbouncer"',
        ),
    )
    invalid = (
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app",
    connect_args={
        "statement_cache_size": 0,
        "server_settings": {"statement_cache_size": "0", "application_name": "api"},
    },
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app",
    connect_args={
        "statement_cache_size": 0,
        "server_settings": {"application_name": "api"},
    },
)
""",
            config='pooler = "pgbouncer"',
            because="PgBouncer refuses",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

SERVER = {"statement_cache_size": "0"}
engine = create_async_engine(
    "postgresql+asyncpg://app@db/app", connect_args={"server_settings": SERVER}
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

SERVER = {}
engine = create_async_engine(
    "postgresql+asyncpg://app@db/app", connect_args={"server_settings": SERVER}
)
""",
            config='pooler = "direct"',
            because="PostgreSQL refuses",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db:6432/app", connect_args={"server_settings": {"jit": "off"}}
)
""",
            because="as the URL says",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://postgres.ref:pw@aws-0-eu.pooler.supabase.com:6543/postgres",
    connect_args={"server_settings": {"statement_timeout": "5000", "search_path": "app"}},
)
""",
            because="Supavisor drops",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

connect_args = {"timeout": 5}
connect_args["server_settings"] = {"search_path": "app", "lock_timeout": "2s"}
engine = create_async_engine("postgresql+asyncpg://app@db/app", connect_args=connect_args)
""",
            count=2,
            config='pooler = "pgbouncer"',
            because="ALTER ROLE",
        ),
        Invalid(
            """\
import os
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import create_async_engine

url = URL.create("postgresql+asyncpg", host=os.environ["DB_HOST"], port=6432)
engine = create_async_engine(
    url, connect_args=dict(server_settings=dict(prepared_statement_cache_size="0"))
)
""",
            fixed="""\
import os
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import create_async_engine

url = URL.create("postgresql+asyncpg", host=os.environ["DB_HOST"], port=6432)
engine = create_async_engine(
    url, connect_args=dict(server_settings=dict())
)
""",
            because="a setting of the driver",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app",
    connect_args={"server_settings": {"options": f"-c statement_timeout={settings.timeout}"}},
)
""",
            config='pooler = "pgbouncer"',
            because="`statement_timeout` in the startup parameter `options`",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app",
    connect_args={"server_settings": {"search_path": "app", "options": "-c jit=off"}},
)
""",
            config='pooler = "pgbouncer"',
            count=2,
            because="unless `track_extra_parameters` names it",
        ),
    )

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import Call

        from session_guard.engine.connect_args import node_of, removal
        from session_guard.engine.facts import engine_of
        from session_guard.rewriting.arguments import NotFixableError
        from session_guard.standard import NOT_OF_THE_SERVER, SERVER_SETTINGS

        assert isinstance(node, Call)
        engine = engine_of(node, module)
        if engine is None or not engine.is_on_asyncpg:
            return
        settings = engine.server_settings
        is_given = engine.connect_args.is_present(SERVER_SETTINGS)
        for key in sorted(settings.certain) if is_given else ():
            said = _loss(engine, key)
            if said is None:
                continue
            where = node_of(settings, key, module) or node
            if key not in NOT_OF_THE_SERVER:
                yield Violation(
                    where,
                    said,
                    "set it for the role or the database (`ALTER ROLE … SET`), or in the "
                    "transaction (`SET LOCAL`); not fixed: the connection has no place for it",
                )
                continue
            help_text = f"`{key}` is a setting of the driver: it belongs beside `server_settings`"
            try:
                edits = removal(engine, settings, key, module)
            except NotFixableError as error:
                yield Violation(where, said, f"{help_text}; not fixed: {error}")
            else:
                message = f"remove `{key}` from `server_settings`, where it does no good"
                rewrite = Rewrite(Applicability.SAFE, message, edits)
                yield Violation(where, said, help_text, rewrite)


def _loss(engine: Engine, key: str) -> str | None:
    """Return what becomes of a startup parameter, or None where it is known to do what it says."""
    from session_guard import standard
    from session_guard.engine.advice import known_by

    how = known_by(engine)
    if engine.pooler == "pgbouncer":
        what = f"the startup parameter `{key}`"
        if key == "options":
            lost = [name for name in _options(engine) if not _is_tracked(name)]
            if not lost:
                return None
            what, key = f"`{lost[0]}` in {what}", lost[0]
        if _is_tracked(key):
            return None
        server = standard.PGBOUNCER_CAN_TRACK.get(key.lower())
        unless = f", unless `track_extra_parameters` names it, from PostgreSQL {server} on"
        return f"PgBouncer refuses {what}, or is set to drop it{unless if server else ''}{how}"
    if engine.pooler == "direct" and key in standard.NOT_OF_THE_SERVER:
        return f"PostgreSQL refuses the startup parameter `{key}`: nothing can connect{how}"
    if engine.pooler == "supavisor":
        passes = {*standard.SUPAVISOR_KEEPS, standard.DRIVER_CACHE, "application_name"}
        if key.lower() not in passes:
            return f"Supavisor drops the startup parameter `{key}` without a word{how}"
    return None


def _is_tracked(key: str) -> bool:
    from session_guard.standard import PGBOUNCER_TRACKS

    return key.lower() in PGBOUNCER_TRACKS


def _options(engine: Engine) -> list[str]:
    """Return what the startup parameter `options` sets, as far as that can be read."""
    from session_guard.names.values import Beginning, Literal
    from session_guard.standard import set_by_options

    match engine.server_settings.values("options"):
        case (Literal(str(text)),):
            return set_by_options(text)
        case (Beginning(text, pieces),):
            whole = "".join(piece if isinstance(piece, str) else "…" for piece in pieces)
            return set_by_options(whole or text)
    return []
