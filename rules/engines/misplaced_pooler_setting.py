"""SG203: a setting of the driver where it does nothing, or makes every connect fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.gate import ASYNC_SESSION_WORDS
from session_guard.rule import Applicability, Invalid, Rewrite, Rule, Subject, Valid, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.engine.facts import Engine
    from session_guard.module import Module


# Any call may be given some, and a dictionary of them may come from another file.
_OPTIONS = b"execution_options"


class MisplacedPoolerSetting(Rule):
    code = "SG203"
    name = "misplaced-pooler-setting"
    summary = "a setting of asyncpg's that stands elsewhere than in `connect_args`"
    why = """\
Settings of asyncpg and of its dialect have one place, the engine's `connect_args`.

- As an argument of `create_async_engine` they raise `TypeError: Invalid argument(s) … sent to
  create_engine()`.
- In the URL, and in the `query` of `URL.create`, `statement_cache_size` is a string, and every
  connect fails, unless `connect_args` has it too; only `prepared_statement_cache_size` works there,
  and covers SQLAlchemy's cache alone.
- As execution options, of an engine, a connection, a statement or a session's call, they are
  accepted and do nothing: the engine looks safe, and is not.

Dictionaries are followed to what is in them, by name and through `**`.

Options of factories and sessions themselves are SG104's."""
    fix_safety = """\
- Moving an argument of the call, or a `statement_cache_size` of a literal URL, to `connect_args`
  is *safe*: nothing worked before. `server_settings` are put beside those that are there.
- Removing an execution option that does nothing is *safe*. Where it is an engine's, and
  `connect_args` has no such key, it moves there, which is *unsafe*: it then takes effect.
- *Absent* where what is to be changed is not written in the call itself, or where `connect_args`
  has another value for it, may have other server settings, or has them in a dictionary that
  others use."""
    since = "0.1.0"
    references = (
        "https://docs.sqlalchemy.org/en/20/dialects/postgresql.html#prepared-statement-cache",
    )
    project_words = (*ASYNC_SESSION_WORDS, b"execution_options")
    tokens = (b"create_async_engine", _OPTIONS)
    project_names = True
    subject = Subject.MAKERS
    in_handler = True
    node_types = ("Call",)

    valid = (
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app?prepared_statement_cache_size=0",
    connect_args={"statement_cache_size": 0},
    execution_options={"isolation_level": "READ COMMITTED"},
)
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("mysql+asyncmy://db/app?charset=utf8mb4", pool_size=5)
"""),
        Valid("""\
import asyncpg

async def pool(url):
    return await asyncpg.create_pool(url, statement_cache_size=0, server_settings={"jit": "off"})
"""),
        Valid("""\
from sqlalchemy import select

async def rows(session, table):
    statement = select(table).execution_options(yield_per=100, populate_existing=True)
    return await session.stream(statement, execution_options={"stream_results": True})
"""),
        Valid("""\
def connect(url, **options):
    return Connector(url, **options)

connector = connect("db", statement_cache_size=0)
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import options

engine = create_async_engine("postgresql+asyncpg://db/app", execution_options=options)
"""),
        Valid("""\
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app?statement_cache_size=100",
    connect_args={"statement_cache_size": 0},
)
other = create_async_engine(
    URL.create("postgresql+asyncpg", host="db", query={"prepared_statement_cache_size": "0"})
)

def build(is_async: bool):
    args = {"statement_cache_size": 0} if is_async else {"sslmode": "require"}
    return create_async_engine(
        "postgresql+asyncpg://db/app?statement_cache_size=0", connect_args=args
    )
"""),
        Valid("""\
class Options:
    def execution_options(self, **options):
        self.options = options

DEFAULTS = {"statement_cache_size": 0}
Options().execution_options(**DEFAULTS)
Options().execution_options(server_settings={})
"""),
    )
    invalid = (
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    statement_cache_size=0,
    pool_size=5,
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args={"statement_cache_size": 0},
    pool_size=5,
)
""",
            because="raises a `TypeError`",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import ARGS

engine = create_async_engine(
    "postgresql+asyncpg://db/app", connect_args=ARGS, prepared_statement_name_func=lambda: ""
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import ARGS

engine = create_async_engine(
    "postgresql+asyncpg://db/app", connect_args={
        **ARGS,
        "prepared_statement_name_func": lambda: "",
    }
)
""",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app?ssl=require&statement_cache_size=0",
    connect_args={"timeout": 5},
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://app@db/app?ssl=require",
    connect_args={"timeout": 5, "statement_cache_size": 0},
)
""",
            because="is a string in the URL",
        ),
        Invalid(
            """\
import os
from sqlalchemy.ext.asyncio import create_async_engine

URL = f"{os.environ['DATABASE_URL']}?statement_cache_size=0"
engine = create_async_engine(URL, connect_args={"prepared_statement_cache_size": 0})
""",
            because="its URL is not a literal in the call",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    execution_options={"isolation_level": "READ COMMITTED", "statement_cache_size": 0},
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    execution_options={"isolation_level": "READ COMMITTED"},
    connect_args={"statement_cache_size": 0},
)
""",
            unsafe=True,
            because="does nothing",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args={"statement_cache_size": 0},
    execution_options={"no_prepare": True, "statement_cache_size": 0},
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args={"statement_cache_size": 0},
)
""",
            count=2,
        ),
        Invalid(
            """\
from sqlalchemy import text

async def load(session):
    statement = text("SELECT 1").execution_options(prepared_statement_cache_size=0)
    await session.execute(statement, execution_options={"statement_cache_size": 0})
""",
            fixed="""\
from sqlalchemy import text

async def load(session):
    statement = text("SELECT 1")
    await session.execute(statement)
""",
            count=2,
        ),
        Invalid(
            """\
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine

OPTIONS = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
engine = create_async_engine("postgresql+asyncpg://db/app", execution_options=OPTIONS)
other = create_async_engine(
    "postgresql+asyncpg://db/app", execution_options=dict(statement_cache_size=0)
)

async def load(session):
    await session.execute(select(1), execution_options=OPTIONS)
    await session.execute(select(1).execution_options(**OPTIONS))
    await session.execute(select(1), execution_options={**OPTIONS, "yield_per": 5})
""",
            count=9,
            because="not fixed: it is not written in the call as an item",
        ),
        Invalid(
            """\
from app.config import table

NO_CACHE = dict(max_cached_statement_lifetime=0)

async def load(session):
    return await session.execute(table.select(), execution_options={"yield_per": 1} | NO_CACHE)
""",
            because="does nothing",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

KW = {"pool_size": 5, "statement_cache_size": 0}
engine = create_async_engine("postgresql+asyncpg://db/app", **KW)
""",
            because="not fixed: it comes with `**`",
        ),
        Invalid(
            """\
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import create_async_engine

url = URL.create("postgresql+asyncpg", host="db", query={"statement_cache_size": "0"})
engine = create_async_engine(url)
""",
            because="is a string in the URL",
        ),
    )

    def subject_in(self, source: bytes) -> Subject | None:
        return Subject.OPTIONS if _OPTIONS in source else self.subject

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import Call

        from session_guard.engine.facts import engine_of
        from session_guard.execution_options import takes_session_options

        assert isinstance(node, Call)
        engine = engine_of(node, module)
        if engine is not None and not engine.is_another_database:
            yield from _arguments(engine, module)
            yield from _url(engine, module)
        if (engine is None or engine.is_on_asyncpg) and not takes_session_options(node, module):
            yield from _options(node, engine, module)


_HELP = "give it in the engine's `connect_args`"
_NOT_HERE = "not fixed: it is not written in the call as an item of its own"


def _arguments(engine: Engine, module: Module) -> Iterator[Violation]:
    from session_guard.engine.connect_args import moved
    from session_guard.rewriting.arguments import NotFixableError, argument, unpacked
    from session_guard.standard import ONLY_ASYNCPG

    call = engine.call
    for key in sorted(ONLY_ASYNCPG & engine.arguments.certain):
        message = (
            f"`{key}` is no argument of `{module.code(call.func)}`, which raises a `TypeError`"
        )
        given = argument(call, key)
        if given is None:
            where = unpacked(call) or call
            yield Violation(where, message, f"{_HELP}; not fixed: it comes with `**`")
            continue
        try:
            edits = moved(engine, given, key, module)
        except NotFixableError as error:
            yield Violation(given, message, f"{_HELP}; not fixed: {error}")
        else:
            rewrite = Rewrite(Applicability.SAFE, f"move `{key}` to `connect_args`", edits)
            yield Violation(given, message, _HELP, rewrite)


def _url(engine: Engine, module: Module) -> Iterator[Violation]:
    from session_guard.engine.connect_args import out_of_url, url_argument
    from session_guard.rewriting.arguments import NotFixableError
    from session_guard.standard import DRIVER_CACHE, NAME_FUNC, SERVER_SETTINGS

    if not engine.is_on_asyncpg:
        return
    for key in (DRIVER_CACHE, NAME_FUNC, SERVER_SETTINGS):
        # What `connect_args` has is used in the place of the URL's.
        if key not in engine.url.query or key in engine.connect_args.entries:
            continue
        where = url_argument(engine.call) or engine.call
        message = f"`{key}` is a string in the URL: every connect fails"
        try:
            edits = out_of_url(engine, key, engine.url.query[key], module)
        except NotFixableError as error:
            yield Violation(where, message, f"{_HELP}; not fixed: {error}")
        else:
            rewrite = Rewrite(Applicability.SAFE, f"move `{key}` to `connect_args`", edits)
            yield Violation(where, message, _HELP, rewrite)


def _options(call: cst.Call, engine: Engine | None, module: Module) -> Iterator[Violation]:
    """Yield what does nothing among the execution options that a call is given."""
    from libcst import Attribute

    from session_guard.names.values import LocalFunction

    if isinstance(call.func, Attribute) and call.func.attr.value == "execution_options":
        if not any(isinstance(f, LocalFunction) for f in module.evaluate(call.func)):
            yield from _options_of_method(call, module)
    elif engine is not None:
        yield from _options_of_engine(engine, module)
    else:
        yield from _options_of_call(call, module)


_MESSAGE = "as an execution option `{}` does nothing"


def _options_of_method(call: cst.Call, module: Module) -> Iterator[Violation]:
    from session_guard.engine.connect_args import without_method_option as without
    from session_guard.execution_options import of_keywords
    from session_guard.rewriting.arguments import unpacked
    from session_guard.standard import ONLY_ASYNCPG

    given = {arg.keyword.value: arg for arg in call.args if arg.keyword is not None}
    for key in sorted(ONLY_ASYNCPG & of_keywords(call, module).entries.keys()):
        if key in given:
            edits = without(call, given[key], is_awaited=_is_awaited(call, module))
            rewrite = Rewrite(Applicability.SAFE, f"remove `{key}`", edits)
            yield Violation(given[key], _MESSAGE.format(key), _HELP, rewrite)
        else:
            where = unpacked(call) or call
            yield Violation(where, _MESSAGE.format(key), f"{_HELP}; {_NOT_HERE}")


def _options_of_call(call: cst.Call, module: Module) -> Iterator[Violation]:
    from session_guard.engine.connect_args import without_option
    from session_guard.execution_options import of_expression
    from session_guard.rewriting.arguments import NotFixableError, argument
    from session_guard.standard import ONLY_ASYNCPG

    given = argument(call, "execution_options")
    if given is None:
        return
    for key in sorted(ONLY_ASYNCPG & of_expression(given.value, module).entries.keys()):
        item = _item(given, key)
        if item is None:
            yield Violation(given, _MESSAGE.format(key), f"{_HELP}; {_NOT_HERE}")
            continue
        try:
            edits = without_option(given, item)
        except NotFixableError as error:
            yield Violation(item, _MESSAGE.format(key), f"{_HELP}; not fixed: {error}")
        else:
            rewrite = Rewrite(Applicability.SAFE, f"remove `{key}`", edits)
            yield Violation(item, _MESSAGE.format(key), _HELP, rewrite)


def _options_of_engine(engine: Engine, module: Module) -> Iterator[Violation]:
    from session_guard.engine.connect_args import option_moved, without_option
    from session_guard.rewriting.arguments import NotFixableError, argument, unpacked
    from session_guard.standard import NEVER_ARGUMENTS, ONLY_ASYNCPG

    call = engine.call
    given = argument(call, "execution_options")
    known = ONLY_ASYNCPG | NEVER_ARGUMENTS
    for key in sorted(known & engine.execution_options.entries.keys()):
        help_text = _HELP if key in ONLY_ASYNCPG else "remove it: nothing has such a setting"
        item = _item(given, key) if given is not None else None
        if given is None or item is None:
            where = given or unpacked(call) or call
            yield Violation(where, _MESSAGE.format(key), f"{help_text}; {_NOT_HERE}")
            continue
        what, applicability = f"remove `{key}`", Applicability.SAFE
        try:
            edits = without_option(given, item)
            if key in ONLY_ASYNCPG and not engine.connect_args.is_present(key):
                edits = option_moved(engine, given, item, module)
                what = f"move `{key}` to `connect_args`, where it takes effect"
                applicability = Applicability.UNSAFE
        except NotFixableError as error:
            yield Violation(item, _MESSAGE.format(key), f"{help_text}; not fixed: {error}")
        else:
            rewrite = Rewrite(applicability, what, edits)
            yield Violation(item, _MESSAGE.format(key), help_text, rewrite)


def _item(given: cst.Arg, key: str) -> cst.DictElement | None:
    """Return the item with a key of the dictionary display that an argument is, or None."""
    from libcst import Dict

    from session_guard.engine.connect_args import element

    return element(given.value, key) if isinstance(given.value, Dict) else None


def _is_awaited(call: cst.Call, module: Module) -> bool:
    from libcst import Await

    return isinstance(module.parent(call), Await)
