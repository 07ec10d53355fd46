"""SG204: what asyncpg does not know in `connect_args`, or not in that type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.gate import ASYNC_SESSION_WORDS
from session_guard.rule import Applicability, Invalid, Rewrite, Rule, Subject, Valid, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.engine.facts import Engine
    from session_guard.module import Module


class InvalidConnectArg(Rule):
    code = "SG204"
    name = "invalid-connect-arg"
    summary = "a name in `connect_args` that asyncpg does not know, or a value of the wrong type"
    why = """\
SQLAlchemy hands `connect_args`, and the parameters of the URL's query, to `asyncpg.connect()` as
keyword arguments. One that it does not know makes every connect fail with `TypeError: connect()
got an unexpected keyword argument`, and so do names that circulate as settings for poolers
(`raw_sql`, `no_prepare`) and those of other drivers (`sslmode`, `connect_timeout`). A name that
comes in on some ways alone is reported where the URL says that it is asyncpg that gets it.

Values of the wrong type make every connect fail as well: a `statement_cache_size` or a `timeout` in
quotes, and so in a URL, where all values are strings; `False` or `None` for a size; a `timeout` or
`command_timeout` of 0. (`command_timeout` may be a string, and `prepared_statement_cache_size`
`None`, which turns that cache off.) `server_settings` takes a dictionary of strings alone. What is
in `connect_args` counts, where the URL has the same parameter.

Which names are known depends on the versions of asyncpg and SQLAlchemy; where these are not known,
every name that some version knows passes. Engines on other drivers are no findings."""
    fix_safety = """\
- *Safe*: `raw_sql` and `no_prepare` are removed, a number in quotes loses them, and a number in
  `server_settings` gets them; no connection was made before.
- *Unsafe*: a name is replaced by the one that was most likely meant.
- *Absent* for anything else, for parameters of a URL, and where the key is no item of a dictionary
  in this file, is set in more than one place of it, or others than asyncpg's engines use the
  dictionary."""
    since = "0.1.0"
    references = ("https://magicstack.github.io/asyncpg/current/api/index.html#connection",)
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
    "postgresql+asyncpg://app@db/app?ssl=require&prepared_statement_cache_size=0",
    connect_args={"timeout": 10, "command_timeout": 60.5, "server_settings": {"jit": "off"}},
)
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+psycopg://app@db/app", connect_args={"sslmode": "require", "connect_timeout": 5}
)
other = create_async_engine("sqlite+aiosqlite:///a.db", connect_args={"check_same_thread": False})
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

engine = create_async_engine(settings.url, connect_args={"sslmode": "require"})
"""),
        Valid("""\
import ssl
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

connect_args = {"ssl": ssl.create_default_context(), **settings.extra}
engine = create_async_engine("postgresql+asyncpg://app@db/app", connect_args=connect_args)
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

def build(url: str, is_sqlite: bool):
    connect_args = {"check_same_thread": False} if is_sqlite else {"statement_cache_size": 0}
    return create_async_engine(url, connect_args=connect_args)
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app",
    connect_args={
        "timeout": settings.timeout,
        "server_settings": {"application_name": settings.name, "timezone": "UTC"},
        "gsslib": "sspi",
    },
)
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

in_url = create_async_engine("postgresql+asyncpg://app@db/app?command_timeout=60&gsslib=sspi")
in_words = create_async_engine(
    "postgresql+asyncpg://app@db/app",
    connect_args={
        "command_timeout": "60",
        "prepared_statement_cache_size": None,
        "max_cached_statement_lifetime": 0.5,
        "database": None,
        "timeout": True,
        "ssl": "verify_full",
    },
)
overridden = create_async_engine(
    "postgresql+asyncpg://app@db/app?timeout=5", connect_args={"timeout": 5}
)
"""),
        Valid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app", connect_args={"async_fallback": True}
)
""",
            config='sqlalchemy-version = "2.0.46"',
        ),
        Valid("""\
import os
from sqlalchemy.ext.asyncio import create_async_engine

URL = os.getenv("DATABASE_URL", "postgresql+asyncpg://app@db/app")
args = {}
if "+psycopg" in URL:
    args["sslmode"] = "require"
engine = create_async_engine(URL, connect_args=args)
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

URL = "postgresql+asyncpg://app@db/app"
args = {}
if URL.startswith("sqlite"):
    args["check_same_thread"] = False
engine = create_async_engine(URL, connect_args=args)
"""),
    )
    invalid = (
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app",
    connect_args={
        "raw_sql": True,
        "no_prepare": True,
        "statement_cache_size": 0,
    },
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app",
    connect_args={
        "statement_cache_size": 0,
    },
)
""",
            count=2,
            because="`raw_sql`",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("postgresql+asyncpg://db/app", connect_args={"sslmode": "require"})
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("postgresql+asyncpg://db/app", connect_args={"ssl": "require"})
""",
            unsafe=True,
            because="asyncpg calls it `ssl`",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

ARGS = dict(statement_cachesize=0)
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args=ARGS)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

ARGS = dict(statement_cache_size=0)
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args=ARGS)
""",
            unsafe=True,
            because="did you mean `statement_cache_size`?",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app",
    connect_args={"statement_cache_size": "0", "server_settings": {"statement_timeout": 5000}},
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app",
    connect_args={"statement_cache_size": 0, "server_settings": {"statement_timeout": "5000"}},
)
""",
            count=2,
            because="takes strings alone",
        ),
        Invalid(
            """\
import os
from sqlalchemy.ext.asyncio import create_async_engine

HOST = os.environ["DB_HOST"]
engine = create_async_engine(f"postgresql+asyncpg://app@{HOST}/app?sslmode=require&timeout=5")
""",
            count=2,
            because="values in a URL are strings",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

connect_args = {"statement_cache_size": 0}
connect_args["application_name"] = "worker"
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args=connect_args)
""",
            because="belongs in `server_settings`",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app", connect_args={"prepared_statement_name_func": lambda: ""}
)
""",
            config='sqlalchemy-version = "2.0.9"',
            because="SQLAlchemy 2.0.9, as `sqlalchemy-version` says",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args={"statement_cache_size": False, "command_timeout": True, "timeout": 0},
)
""",
            count=3,
            because="`statement_cache_size` is `False`, with which every connect fails",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

SETTINGS = [("jit", "off")]
engine = create_async_engine(
    "postgresql+asyncpg://db/app", connect_args={"server_settings": SETTINGS}
)
""",
            because="give `None` or a dictionary of strings",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("postgresql+asyncpg://db/app?async_fallback=true")
other = create_async_engine("postgresql+asyncpg://db/app", connect_args={"async_fallback": True})
""",
            count=2,
            config='sqlalchemy-version = "2.1.9"',
            because="SQLAlchemy 2.1 no longer knows `async_fallback`",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

args = {"statement_cache_size": 0}
if settings.tls:
    args["sslmode"] = "require"
engine = create_async_engine("postgresql+asyncpg://app@db/app", connect_args=args)
""",
            because="`connect_args` may have `sslmode`",
        ),
        Invalid(
            """\
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import create_async_engine

url = URL.create("postgresql+asyncpg", host="db", query={"sslmode": "require"})
engine = create_async_engine(url)
""",
            because="asyncpg calls it `ssl`",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("postgresql+asyncpg://db/app?target_session_attrs=writer&ssl=true")
""",
            count=2,
            because="`verify-full`",
        ),
    )

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import Call

        from session_guard.engine.facts import engine_of
        from session_guard.standard import SERVER_SETTINGS

        assert isinstance(node, Call)
        engine = engine_of(node, module)
        if engine is None or not engine.is_on_asyncpg:
            return
        yield from _names(engine, module)
        yield from _literals(engine, module)
        if engine.connect_args.is_present(SERVER_SETTINGS):
            yield from _startup_parameters(engine, module)
        yield from _url_parameters(engine)


_FAILS = "every connect fails with a `TypeError`"


def _names(engine: Engine, module: Module) -> Iterator[Violation]:
    from session_guard import standard
    from session_guard.engine.connect_args import node_of, removal, renamed
    from session_guard.rewriting.arguments import NotFixableError

    given = engine.connect_args
    for key in sorted(given.entries):
        node = node_of(given, key, module) or engine.call
        if key in standard.CONNECT_ARGUMENTS:
            yield from _other_versions(key, engine, node)
            continue
        is_never = key in standard.NEVER_ARGUMENTS
        meant = standard.near_argument(key)
        if given.is_present(key):
            message = f"`connect_args` has `{key}`, which asyncpg does not know: {_FAILS}"
        elif is_never or (engine.url.host is not None and meant is not None):
            # What another database takes may stand beside a URL of asyncpg's, and never come in.
            message = f"`connect_args` may have `{key}`, which asyncpg does not know: then {_FAILS}"
        else:
            continue
        try:
            if is_never:
                help_text = "remove it: no version of asyncpg or SQLAlchemy has such a setting"
                rewrite = Rewrite(
                    Applicability.SAFE, f"remove `{key}`", removal(engine, given, key, module)
                )
            elif key in standard.STARTUP_PARAMETERS:
                help_text = f"`{key}` belongs in `server_settings`, as a string"
                raise NotFixableError("whether the pooler takes it there is to be seen first")
            elif meant is None:
                help_text = "remove it, or write the name that asyncpg has for it"
                raise NotFixableError("no name of asyncpg's is near it")
            else:
                is_other = key in standard.OTHER_NAMES
                help_text = (
                    f"asyncpg calls it `{meant}`" if is_other else f"did you mean `{meant}`?"
                )
                rewrite = Rewrite(
                    Applicability.UNSAFE,
                    f"write `{meant}` for `{key}`, which is a guess",
                    renamed(engine, given, key, meant, module),
                )
            yield Violation(node, message, help_text, rewrite)
        except NotFixableError as error:
            yield Violation(node, message, f"{help_text}; not fixed: {error}")


def _other_versions(key: str, engine: Engine, node: cst.CSTNode) -> Iterator[Violation]:
    """Yield what is wrong with an argument that only other versions know."""
    from session_guard.standard import CONNECT_ARGUMENTS, DIALECT_ARGUMENTS

    argument = CONNECT_ARGUMENTS[key]
    versions = engine.versions
    known = versions.sqlalchemy if key in DIALECT_ARGUMENTS else versions.asyncpg
    if known is None:
        return
    if argument.since and known.is_surely_below(*argument.since):
        since = ".".join(map(str, argument.since))
        yield Violation(
            node,
            f"`{key}` is only known from {known.title} {since} on: {_FAILS} ({known})",
            f"upgrade {known.title}, or do without it",
        )
    elif argument.before and known.is_surely_at_least(*argument.before):
        before = ".".join(map(str, argument.before))
        yield Violation(
            node,
            f"{known.title} {before} no longer knows `{key}`: {_FAILS} ({known})",
            "do without it",
        )


def _literals(engine: Engine, module: Module) -> Iterator[Violation]:
    from session_guard import standard
    from session_guard.engine.connect_args import node_of, number_without_quotes
    from session_guard.names.dictionaries import is_list
    from session_guard.rewriting.arguments import NotFixableError

    given = engine.connect_args
    for key in sorted(given.certain & standard.CONNECT_ARGUMENTS.keys()):
        argument = standard.CONNECT_ARGUMENTS[key]
        wrong = standard.wrong_literal(argument.takes, given.values(key) or ())
        if key == standard.SERVER_SETTINGS and is_list(given.entries[key]):
            wrong = "a list"
        if wrong is None:
            continue
        node = node_of(given, key, module)
        where = node or engine.call
        message = f"`{key}` is {wrong}, with which every connect fails"
        help_text, rewrite = f"give {argument.expects}", None
        try:
            edits = number_without_quotes(engine, node, module) if argument.takes(1) else None
            if edits is not None:
                rewrite = Rewrite(Applicability.SAFE, "take the quotes away", edits)
        except NotFixableError as error:
            help_text = f"{help_text}; not fixed: {error}"
        yield Violation(where, message, help_text, rewrite)


def _startup_parameters(engine: Engine, module: Module) -> Iterator[Violation]:
    from session_guard import standard
    from session_guard.engine.connect_args import node_of, number_in_quotes
    from session_guard.rewriting.arguments import NotFixableError

    settings = engine.server_settings
    for key in sorted(settings.certain):
        wrong = standard.wrong_literal(standard.is_text, settings.values(key) or ())
        if wrong is None:
            continue
        node = node_of(settings, key, module)
        where = node or engine.call
        message = f"`{key}` in `server_settings` is {wrong}; it takes strings alone: connects fail"
        help_text, rewrite = "write it as a string", None
        try:
            edits = number_in_quotes(engine, node, module)
            if edits is not None:
                rewrite = Rewrite(Applicability.SAFE, "put it in quotes", edits)
        except NotFixableError as error:
            help_text = f"{help_text}; not fixed: {error}"
        yield Violation(where, message, help_text, rewrite)


def _url_parameters(engine: Engine) -> Iterator[Violation]:
    from session_guard import standard

    elsewhere = {standard.DRIVER_CACHE, standard.NAME_FUNC, standard.SERVER_SETTINGS}  # SG203's
    read_as_numbers = {standard.DIALECT_CACHE, "port"}
    for key in sorted(engine.url.query.keys() - elsewhere - read_as_numbers):
        argument = standard.CONNECT_ARGUMENTS.get(key)
        if key in engine.connect_args.entries:
            continue  # which is used in the place of the URL's
        if argument is None:
            meant = standard.near_argument(key)
            yield Violation(
                engine.call,
                f"the URL has the parameter `{key}`, which asyncpg does not know: {_FAILS}",
                f"asyncpg calls it `{meant}`" if meant else "take it out of the URL",
            )
            continue
        yield from _other_versions(key, engine, engine.call)
        if argument.refuses_text:
            yield Violation(
                engine.call,
                f"the URL has the parameter `{key}`, and values in a URL are strings: every "
                "connect fails",
                f"give `{key}` in `connect_args`: {argument.expects}",
            )
        elif engine.url.value(key) is not None and not argument.takes(engine.url.value(key)):
            yield Violation(
                engine.call,
                f"the URL has the parameter `{key}` with a value with which every connect fails",
                f"give {argument.expects}",
            )
