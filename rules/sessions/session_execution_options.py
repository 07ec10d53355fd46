"""SG104: `execution_options` on a session or a session factory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.gate import ASYNC_SESSION_WORDS
from session_guard.rule import (
    Appended,
    Applicability,
    Invalid,
    Rewrite,
    Rule,
    Subject,
    Valid,
    Violation,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.module import Module
    from session_guard.names.bindings import Place
    from session_guard.rule import Replacements
    from session_guard.versions import Version

# Arguments of asyncpg and of its dialect: as execution options they do nothing.
_DRIVER_SETTINGS = frozenset(
    {
        "statement_cache_size",
        "prepared_statement_cache_size",
        "prepared_statement_name_func",
        "max_cached_statement_lifetime",
        "max_cacheable_statement_size",
        "server_settings",
        "no_prepare",
        "raw_sql",
    }
)


class SessionExecutionOptions(Rule):
    code = "SG104"
    name = "session-execution-options"
    summary = "`execution_options` on a session or a session factory"
    why = """\
Pooler settings belong in the engine's `connect_args`, and the isolation level in the engine's
`execution_options`. On a factory or a session neither does what it says. SQLAlchemy 2.0 takes
`execution_options` when the factory is made, and raises a `TypeError` each time a session is.
SQLAlchemy 2.1 accepts it: `isolation_level` then holds for this factory's sessions alone, and
`statement_cache_size` and other arguments of the driver are ignored without a word.

The handler's own factory is held to this too."""
    fix_safety = """\
Which SQLAlchemy a project runs is read from its lock file, its requirements or `pyproject.toml`, or
set with `sqlalchemy-version`.

- On 2.0: removing the argument is *safe*, since every call raised. Where it sets `isolation_level`
  and the engine is built in the same file without one, the level moves to the engine instead, which
  is *unsafe*: it then holds for all that use the engine.
- On 2.1, or where the version is not known: removing settings of the driver is *safe*;
  `isolation_level` moves to the engine if that engine is used by this factory alone and sets none.
  There is no fix where other options stand beside them.

What comes with `**` is taken out of the dictionary, if that is in the file and this call alone uses
it."""
    since = "0.1.0"
    references = (
        "https://docs.sqlalchemy.org/en/20/orm/session_api.html#sqlalchemy.orm.Session",
        "https://docs.sqlalchemy.org/en/20/core/connections.html#setting-transaction-isolation-levels-including-dbapi-autocommit",
    )
    project_words = ASYNC_SESSION_WORDS
    tokens = (b"execution_options", b"sessionmaker", b"AsyncSession")
    project_names = True
    in_handler = True
    subject = Subject.MAKERS
    node_types = ("Call",)

    valid = (
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

level = {"isolation_level": "READ COMMITTED"}
engine = create_async_engine("postgresql+asyncpg://db", execution_options=level)
"""),
        Valid("""\
from sqlalchemy import select
from app.models import User

async def names(session):
    return await session.scalars(select(User), execution_options={"populate_existing": True})
"""),
        Valid("""\
from sqlalchemy.orm import sessionmaker
from app.sync import engine

Session = sessionmaker(engine, execution_options={"schema_translate_map": {None: "tenant"}})
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import async_sessionmaker
from app.db import engine

Session = async_sessionmaker(engine.execution_options(isolation_level="SERIALIZABLE"))
"""),
        Valid("""\
from app.client import AsyncSession

session = AsyncSession(execution_options={"retries": 3})
"""),
        Valid("""\
from sqlalchemy import select

statement = select(1).execution_options(yield_per=100)
"""),
    )
    invalid = (
        Invalid(
            """\
from sqlalchemy.ext.asyncio import async_sessionmaker
from app.db import engine

Session = async_sessionmaker(engine, execution_options={"statement_cache_size": 0})
""",
            fixed="""\
from sqlalchemy.ext.asyncio import async_sessionmaker
from app.db import engine

Session = async_sessionmaker(engine)
""",
            because="TypeError",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import sessionmaker
from app.db import engine

Session = sessionmaker(
    engine,
    class_=AsyncSession,
    execution_options={"isolation_level": "READ COMMITTED", "prepared_statement_cache_size": 0},
    expire_on_commit=False,
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import sessionmaker
from app.db import engine

Session = sessionmaker(
    engine,
    class_=AsyncSession,
    expire_on_commit=False,
)
""",
            config='sqlalchemy-version = "2.0.46"',
            because="SQLAlchemy 2.0.46",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import engine

async def job():
    async with AsyncSession(engine, execution_options={"statement_cache_size": 0}) as session:
        await session.commit()
""",
            fixed="""\
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import engine

async def job():
    async with AsyncSession(engine) as session:
        await session.commit()
""",
            because="AsyncSession",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import async_sessionmaker

Session = async_sessionmaker()
Session.configure(execution_options={"statement_cache_size": 0})
""",
            fixed="""\
from sqlalchemy.ext.asyncio import async_sessionmaker

Session = async_sessionmaker()
Session.configure()
""",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

def sessions(url):
    engine = create_async_engine(url)
    return async_sessionmaker(engine, execution_options={"isolation_level": "SERIALIZABLE"})
""",
            fixed="""\
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

def sessions(url):
    engine = create_async_engine(url, execution_options={"isolation_level": "SERIALIZABLE"})
    return async_sessionmaker(engine)
""",
            config='sqlalchemy-version = "2.1"',
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import async_sessionmaker
from app.db import engine

Session = async_sessionmaker(engine, execution_options={"isolation_level": "SERIALIZABLE"})
""",
            because="not fixed",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import async_sessionmaker
from app.db import engine

OPTIONS = {"populate_existing": True}
Session = async_sessionmaker(engine, execution_options=OPTIONS)
""",
            because="not fixed",
        ),
    )

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import Call

        from session_guard import versions
        from session_guard.engine.connect_args import argument_removed
        from session_guard.execution_options import of_keywords, takes_session_options
        from session_guard.rewriting.arguments import NotFixableError, argument, unpacked

        assert isinstance(node, Call)
        options = of_keywords(node, module)
        # What may be there of what is not known is no finding.
        if not any(entry.value for entry in options.entries.get("execution_options", ())):
            return
        if not takes_session_options(node, module):
            return
        given = argument(node, "execution_options") or unpacked(node) or node
        version = versions.of(module.project, module.path).sqlalchemy
        message = f"`execution_options` on `{module.code(node.func)}(…)` {_consequence(version)}"
        help_text = (
            "settings of the driver belong in the engine's `connect_args`, `isolation_level` in "
            "the engine's `execution_options`"
        )
        try:
            value, removal = argument_removed(node, options, "execution_options", module)
            rewrite = _rewrite(node, value, removal, module, is_2_0=_is_2_0(version))
        except NotFixableError as error:
            yield Violation(given, message, f"{help_text}; not fixed: {error}")
        else:
            yield Violation(given, message, help_text, rewrite)


def _is_2_0(version: Version | None) -> bool:
    return (
        version is not None and version.is_surely_at_least(2, 0) and version.is_surely_below(2, 1)
    )


def _consequence(version: Version | None) -> str:
    if version is not None and _is_2_0(version):
        return f"raises a TypeError when a session is made ({version})"
    if version is not None and version.is_surely_at_least(2, 1):
        return (
            "sets options for these sessions alone, and settings of the driver do nothing "
            f"({version})"
        )
    return (
        "raises a TypeError when a session is made on SQLAlchemy 2.0; 2.1 takes it, but the "
        "standard keeps it to the engine (set `sqlalchemy-version` to hear of yours alone)"
    )


def _rewrite(
    call: cst.Call,
    value: cst.BaseExpression | None,
    removal: Replacements,
    module: Module,
    *,
    is_2_0: bool,
) -> Rewrite:
    from session_guard.rewriting.arguments import NotFixableError, string_keys

    items = string_keys(value) if value is not None else None
    level = items.get("isolation_level") if items is not None else None
    if is_2_0 and level is None:
        return Rewrite(Applicability.SAFE, "remove it: every call raised", removal)
    if items is None:
        raise NotFixableError("its options are not a dictionary that can be read here")
    others = items.keys() - _DRIVER_SETTINGS - {"isolation_level"}
    if level is None:
        if others:
            raise NotFixableError(f"`{min(others)}` may be wanted for these sessions")
        return Rewrite(Applicability.SAFE, "remove settings that do nothing here", removal)
    try:
        if others:
            raise NotFixableError(f"`{min(others)}` may be wanted for these sessions")
        added, is_shared = _level_on_engine(call, level.value, module)
    except NotFixableError:
        if is_2_0:
            return Rewrite(Applicability.SAFE, "remove it: every call raised", removal)
        raise
    return Rewrite(
        Applicability.UNSAFE if is_shared or is_2_0 else Applicability.SAFE,
        "move `isolation_level` to the engine"
        + (", where it holds for all that use the engine" if is_shared or is_2_0 else ""),
        (*removal, *added),
    )


def _level_on_engine(
    call: cst.Call, level: cst.BaseExpression, module: Module
) -> tuple[Replacements, bool]:
    """Return the edits that give the factory's engine its isolation level, and whether others may
    use that engine.

    Raises NotFixableError where it is not built here, or has a level already.
    """
    import libcst as cst

    from session_guard.names import openings, values
    from session_guard.names.bindings import Ref
    from session_guard.names.from_libcst import walk
    from session_guard.rewriting.arguments import NotFixableError, argument, keyword

    opened = next(
        (
            found
            for value in module.evaluate(call)
            if (found := openings.factory(value) or openings.opening(value)) is not None
        ),
        None,
    )
    bind = opened.bind if opened is not None else None
    if bind is None or not isinstance(bind.expr, Ref) or len(bind.expr.parts) != 1:
        raise NotFixableError("its engine is not known by a name of this file")
    engines = bind.values()
    engine = engines[0].call.node if isinstance(engines[0], values.Result) else None
    if len(engines) != 1 or not openings.is_engine(engines[0]) or not isinstance(engine, cst.Call):
        raise NotFixableError("its engine is not built in this file")
    if module.parent(engine) is None:
        raise NotFixableError("its engine is built in another file")
    if not isinstance(level, cst.SimpleString) or any(given.star for given in engine.args):
        raise NotFixableError("the level is no literal, or the engine's arguments are not known")
    if argument(engine, "execution_options") or argument(engine, "isolation_level"):
        raise NotFixableError("its engine has execution options or an isolation level of its own")
    name = bind.expr.parts[0]
    uses = [
        part
        for part in module.named(name)
        if not isinstance(module.parent(part), cst.AssignTarget)
        and not any(part is inner for inner in walk(call))
    ]
    if uses:
        raise NotFixableError("its engine has other users, whose isolation level would change")
    options = cst.Dict([cst.DictElement(cst.SimpleString('"isolation_level"'), level)])
    appended = Appended(keyword("execution_options", options))
    return ((engine, appended),), _is_module_level(bind.place, name)


def _is_module_level(place: Place, name: str) -> bool:
    from session_guard.names.bindings import lookup

    return any(binding.place.scope.kind == "module" for binding in lookup(name, place) or ())
