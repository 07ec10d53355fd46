"""SG205: a name function that gives statements of two connections, or of two cursors, one name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.gate import ASYNC_SESSION_WORDS
from session_guard.rule import Invalid, Rule, Subject, Valid, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.engine.facts import Engine
    from session_guard.module import Module


class UnsafeStatementNames(Rule):
    code = "SG205"
    name = "unsafe-statement-names"
    summary = "a `prepared_statement_name_func` whose names meet those of other statements"
    why = """\
- A constant other than `""` names every statement alike: the second that is prepared on a
  connection fails with `prepared statement … already exists`, without a pooler too. A name that the
  module makes once, with `uuid4()` or without, is a constant as well.
- A counter is unique in one process. Behind a pooler the next process counts from one as well,
  and its statement of the same name may be the one that runs. With a prefix that each process makes
  with `uuid4()` beside it the names are unique, unless processes are forked after it was made. The
  process id is no such prefix: it is 1 in every container, and one that was is given again, while
  the pooler's connections go on.
- `""`, the unnamed statement, is right where nothing remembers it: with `statement_cache_size=0`
  and `prepared_statement_cache_size=0`. What remembers it finds another statement in its place.
  - With both caches on rows of another query come back, or `unnamed prepared statement does not
    exist`: on every version, without any pooler too.
  - With SQLAlchemy's alone that happens to a statement that is run while another's `stream()` is
    open, without any pooler too; before asyncpg 0.29 to any. From asyncpg 0.32 on it is right.
  - With asyncpg's alone all is right without a pooler. Behind one asyncpg's own statements fail,
    which then have names: those that look types up, and `executemany`.

A name function that cannot be followed is no finding."""
    fix_safety = """\
The standard's settings are completed in `connect_args`, as for SG202, which is *safe*: anonymous
names with both caches off were right wherever it was measured. A dictionary
that others use as well is unpacked into a new one. *Absent* where `connect_args` comes with
`**`."""
    since = "0.1.0"
    references = (
        "https://docs.sqlalchemy.org/en/20/dialects/postgresql.html#prepared-statement-name-with-pgbouncer",
    )
    project_words = ASYNC_SESSION_WORDS
    tokens = (b"create_async_engine",)
    project_names = True
    in_handler = True
    subject = Subject.MAKERS
    node_types = ("Call",)

    valid = (
        Valid("""\
from uuid import uuid4
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args={"prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__"},
)
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine

def anonymous() -> str:
    return ""

connect_args = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
connect_args["prepared_statement_name_func"] = anonymous
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args=connect_args)
"""),
        Valid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args={"prepared_statement_name_func": lambda: "", "statement_cache_size": 0},
)
""",
            config='asyncpg-version = "0.32.0"',
        ),
        Valid("""\
import uuid
from sqlalchemy.ext.asyncio import create_async_engine

def unique_name() -> str:
    suffix = uuid.uuid4().hex
    return "stmt_" + suffix

engine = create_async_engine(
    "postgresql+asyncpg://db/app", connect_args={"prepared_statement_name_func": unique_name}
)
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine
from app.naming import statement_name

engine = create_async_engine(
    "postgresql+asyncpg://db/app", connect_args={"prepared_statement_name_func": statement_name}
)
"""),
        Valid(
            """\
from itertools import count
from sqlalchemy.ext.asyncio import create_async_engine

numbers = count()
engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args={"prepared_statement_name_func": lambda: f"s{next(numbers)}"},
)
""",
            config='pooler = "direct"',
        ),
        Valid("""\
from sqlalchemy.ext.asyncio import create_async_engine
from app.config import settings

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args={"prepared_statement_name_func": lambda: "", **settings.caches},
)
"""),
        Valid("""\
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import create_async_engine

url = URL.create(
    "postgresql+asyncpg", host="db", port=6432, query={"prepared_statement_cache_size": "0"}
)
engine = create_async_engine(
    url, connect_args={"prepared_statement_name_func": lambda: "", "statement_cache_size": 0}
)
"""),
        Valid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

ARGS = {"prepared_statement_name_func": lambda: "", "prepared_statement_cache_size": 0}
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args=ARGS)
""",
            config='pooler = "direct"',
        ),
        Valid(
            """\
import itertools
import uuid
from sqlalchemy.ext.asyncio import create_async_engine

_PREFIX = uuid.uuid4().hex
_numbers = itertools.count()
engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args={
        "prepared_statement_name_func": lambda: f"__asyncpg_{_PREFIX}_{next(_numbers)}__",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    },
)
""",
            config='pooler = "pgbouncer"',
        ),
    )
    invalid = (
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args={
        "prepared_statement_name_func": lambda: "",
        "statement_cache_size": 0,
    },
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args={
        "prepared_statement_name_func": lambda: "",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    },
)
""",
            because="which asyncpg this project runs is not known",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

def nameless():
    return ""

engine = create_async_engine(
    "postgresql+asyncpg://db/app", connect_args={"prepared_statement_name_func": nameless}
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

def nameless():
    return ""

engine = create_async_engine(
    "postgresql+asyncpg://db/app", connect_args={
        "prepared_statement_name_func": nameless,
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    }
)
""",
            config='pooler = "direct"',
            because="with caches left on returns rows of other queries",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

ARGS = {"prepared_statement_name_func": lambda: "", "prepared_statement_cache_size": 0}
engine = create_async_engine("postgresql+asyncpg://db:6432/app", connect_args=ARGS)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

ARGS = {
    "prepared_statement_name_func": lambda: "",
    "prepared_statement_cache_size": 0,
    "statement_cache_size": 0,
}
engine = create_async_engine("postgresql+asyncpg://db:6432/app", connect_args=ARGS)
""",
            config='asyncpg-version = "0.32.0"',
            because="it runs for itself, for types and for `executemany`, behind PgBouncer",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args={
        "prepared_statement_name_func": lambda: "stmt",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    },
)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args={
        "prepared_statement_name_func": lambda: "",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    },
)
""",
            because="one name",
        ),
        Invalid(
            """\
import itertools
from sqlalchemy.ext.asyncio import create_async_engine

_numbers = itertools.count()

def numbered() -> str:
    return f"__asyncpg_stmt_{next(_numbers)}__"

ARGS = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": numbered,
}
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args=ARGS)
""",
            fixed="""\
import itertools
from sqlalchemy.ext.asyncio import create_async_engine

_numbers = itertools.count()

def numbered() -> str:
    return f"__asyncpg_stmt_{next(_numbers)}__"

ARGS = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args=ARGS)
""",
            because="counts in one process alone",
        ),
        Invalid(
            """\
import os
from itertools import count
from sqlalchemy.ext.asyncio import create_async_engine

numbers = count()
engine = create_async_engine(
    "postgresql+asyncpg://db:6432/app",
    connect_args={
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": lambda: f"s{os.getpid()}_{next(numbers)}",
    },
)
""",
            fixed="""\
from itertools import count
from sqlalchemy.ext.asyncio import create_async_engine

numbers = count()
engine = create_async_engine(
    "postgresql+asyncpg://db:6432/app",
    connect_args={
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": lambda: "",
    },
)
""",
            because="since the process id is 1 in every container",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

_n = 0

def name() -> str:
    global _n
    _n += 1
    return f"__asyncpg_stmt_{_n}__"

ARGS = {"prepared_statement_name_func": name, "statement_cache_size": 0}
engine = create_async_engine("postgresql+asyncpg://db:6432/app", connect_args=ARGS)
""",
            fixed="""\
from sqlalchemy.ext.asyncio import create_async_engine

_n = 0

def name() -> str:
    global _n
    _n += 1
    return f"__asyncpg_stmt_{_n}__"

ARGS = {
    "prepared_statement_name_func": lambda: "",
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
}
engine = create_async_engine("postgresql+asyncpg://db:6432/app", connect_args=ARGS)
""",
            because="counts in one process alone",
        ),
        Invalid(
            """\
from uuid import uuid4
from sqlalchemy.ext.asyncio import create_async_engine

NAME = f"__asyncpg_{uuid4()}__"
engine = create_async_engine(
    "postgresql+asyncpg://db/app", connect_args={"prepared_statement_name_func": lambda: NAME}
)
""",
            fixed="""\
from uuid import uuid4
from sqlalchemy.ext.asyncio import create_async_engine

NAME = f"__asyncpg_{uuid4()}__"
engine = create_async_engine(
    "postgresql+asyncpg://db/app", connect_args={
        "prepared_statement_name_func": lambda: "",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    }
)
""",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import create_async_engine

options = {"connect_args": {"prepared_statement_name_func": lambda: "", "statement_cache_size": 0}}
engine = create_async_engine("postgresql+asyncpg://db/app", **options)
""",
            config='asyncpg-version = "0.31"',
            because="its `connect_args` come with `**`",
        ),
    )

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        from libcst import Call

        from session_guard.engine.advice import completion
        from session_guard.engine.connect_args import node_of
        from session_guard.engine.facts import engine_of
        from session_guard.rewriting.arguments import NotFixableError
        from session_guard.standard import NAME_FUNC

        assert isinstance(node, Call)
        engine = engine_of(node, module)
        said = _verdict(engine) if engine is not None and engine.is_on_asyncpg else None
        if engine is None or said is None:
            return
        where = node_of(engine.connect_args, NAME_FUNC, module) or node
        help_text = 'name no statement (`lambda: ""`) and turn both caches off'
        try:
            yield Violation(where, said, help_text, completion(engine, module))
        except NotFixableError as error:
            yield Violation(where, said, f"{help_text}; not fixed: {error}")


def _verdict(engine: Engine) -> str | None:
    """Return what is wrong with an engine's statement names, or None where nothing is known."""
    from session_guard.engine.advice import behind
    from session_guard.standard import DIALECT_CACHE, DRIVER_CACHE, Names, worth

    names = engine.names
    if names is Names.CONSTANT:
        return "this name function gives every statement one name: the second fails"
    if names is Names.COUNTED and not engine.needs_no_settings:
        return "this name function counts in one process alone: another gives the same names"
    if names is Names.COUNTED_BY_PROCESS and not engine.needs_no_settings:
        return (
            "this name function counts in one process alone: another gives the same names, since "
            "the process id is 1 in every container, and is given again"
        )
    driver_off, dialect_off = engine.is_off(DRIVER_CACHE), engine.is_off(DIALECT_CACHE)
    if names is not Names.ANONYMOUS or driver_off is None or dialect_off is None:
        return None
    value = worth(names, driver_off=driver_off, dialect_off=dialect_off, versions=engine.versions)
    if value.is_right or (value.needs_pooler and engine.needs_no_settings):
        return None
    left_on = "SQLAlchemy's cache" if driver_off else "asyncpg's cache" if dialect_off else "caches"
    where = behind(engine) if value.needs_pooler else ""
    return f"the unnamed statement with {left_on} left on {value.verdict}{where}"
