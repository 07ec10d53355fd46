"""What is known of an engine: its URL, its driver, its pooler and what is in `connect_args`."""

from __future__ import annotations

import textwrap
from pathlib import Path

import libcst as cst
import pytest

from session_guard import sources
from session_guard.config import Settings
from session_guard.engine.advice import other_answers, verdict
from session_guard.engine.facts import Engine, engine_of
from session_guard.module import Module
from session_guard.names.bindings import Display, Scope
from session_guard.names.from_ast import build_table
from session_guard.names.from_libcst import index_tree
from session_guard.output.json import render
from session_guard.project.project import Project
from session_guard.runner import Options, Run
from session_guard.standard import Names

HEAD = "from sqlalchemy.ext.asyncio import create_async_engine, async_engine_from_config\n"
ASYNCPG = '"postgresql+asyncpg://db/app"'
FIXTURE = Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py"


def engine_in(root: Path, code: str, **settings: str) -> Engine:
    """Return the last engine that a file `jobs.py` builds."""
    return engines_in(root, code, **settings)[-1]


def engines_in(root: Path, code: str, **settings: str) -> list[Engine]:
    """Return the engines that a file `jobs.py` builds."""
    text = HEAD + textwrap.dedent(code)
    project = Project(Settings(root=root, **settings))  # type: ignore[arg-type]
    decoded = sources.decode(text.encode())
    module = Module(root / "jobs.py", decoded, project, frozenset({"Call", "Name"}))
    calls = [call for call in module.nodes("Call") if isinstance(call, cst.Call)]
    return [engine for call in calls if (engine := engine_of(call, module)) is not None]


OFF = [
    f'create_async_engine({ASYNCPG}, connect_args={{"statement_cache_size": 0}})',
    f"create_async_engine({ASYNCPG}, connect_args=dict(statement_cache_size=0))",
    f'A = {{"statement_cache_size": 0}}\ncreate_async_engine({ASYNCPG}, connect_args=A)',
    f'A: dict = {{}}\nA["statement_cache_size"] = 0\n'
    f"create_async_engine({ASYNCPG}, connect_args=A)",
    f"A = {{}}\nA.update(statement_cache_size=0)\ncreate_async_engine({ASYNCPG}, connect_args=A)",
    f'A = {{}}\nA.update({{"statement_cache_size": 0}})\n'
    f"create_async_engine({ASYNCPG}, connect_args=A)",
    f'A = {{}}\nA |= {{"statement_cache_size": 0}}\ncreate_async_engine({ASYNCPG}, connect_args=A)',
    f'A = {{}}\nA.setdefault("statement_cache_size", 0)\n'
    f"create_async_engine({ASYNCPG}, connect_args=A)",
    f'A = {{"statement_cache_size": 0}}\n'
    f'create_async_engine({ASYNCPG}, connect_args={{"ssl": True, **A}})',
    f'A = {{"statement_cache_size": 0}}\ncreate_async_engine({ASYNCPG}, connect_args=A | {{}})',
    f'A = {{"statement_cache_size": 9}}\nB = A.copy()\nB["statement_cache_size"] = 0\n'
    f"create_async_engine({ASYNCPG}, connect_args=B)",
    f'A = {{"statement_cache_size": 9}}\nB = A\nB["statement_cache_size"] = 0\n'
    f"create_async_engine({ASYNCPG}, connect_args=B)",
    f'K = "statement_cache_size"\ncreate_async_engine({ASYNCPG}, connect_args={{K: 0}})',
    f"ZERO = 0\ncreate_async_engine({ASYNCPG}, connect_args=dict(statement_cache_size=ZERO))",
    f'def f():\n    a = {{"ssl": True}}\n    a["statement_cache_size"] = 0\n    return a\n'
    f"create_async_engine({ASYNCPG}, connect_args=f())",
    f'O = {{"connect_args": {{"statement_cache_size": 0}}}}\ncreate_async_engine({ASYNCPG}, **O)',
    f'O = {{"pool_size": 5}}\nO["connect_args"] = {{"statement_cache_size": 0}}\n'
    f"create_async_engine({ASYNCPG}, **O)",
    f'A = {{"statement_cache_size": 0}}\ndef f():\n'
    f"    return create_async_engine({ASYNCPG}, connect_args=A)",
    f'class C:\n    args = {{"statement_cache_size": 0}}\n'
    f"create_async_engine({ASYNCPG}, connect_args=C.args)",
    f'if x:\n    A = {{"statement_cache_size": 0}}\nelse:\n'
    f'    A = {{"ssl": True, "statement_cache_size": 0}}\n'
    f"create_async_engine({ASYNCPG}, connect_args=A)",
]


@pytest.mark.parametrize("code", OFF)
def test_a_key_that_is_there(code: str, tmp_path: Path) -> None:
    engine = engine_in(tmp_path, code)
    assert engine.is_off("statement_cache_size") is True
    assert engine.is_off("prepared_statement_cache_size") is False
    assert engine.names is Names.DEFAULT


UNKNOWN = [
    f"create_async_engine({ASYNCPG}, connect_args=other())",
    f"create_async_engine({ASYNCPG}, **options)",
    f"create_async_engine({ASYNCPG}, connect_args={{**options}})",
    f"create_async_engine({ASYNCPG}, connect_args={{key: 0}})",
    f"def f(a):\n    return create_async_engine({ASYNCPG}, connect_args=a)",
    f"def f(a=None):\n    return create_async_engine({ASYNCPG}, connect_args=a or {{}})",
    f'A = {{}}\nif x:\n    A["statement_cache_size"] = 0\n'
    f"create_async_engine({ASYNCPG}, connect_args=A)",
    f"A = {{}}\nfor k in y:\n    A[k] = 0\ncreate_async_engine({ASYNCPG}, connect_args=A)",
    f"A = {{}}\nfill(A)\ncreate_async_engine({ASYNCPG}, connect_args=A)",
    f"A = {{}}\nA.update(other())\ncreate_async_engine({ASYNCPG}, connect_args=A)",
    f'A = {{"statement_cache_size": 0}}\nA.pop(key)\n'
    f"create_async_engine({ASYNCPG}, connect_args=A)",
    f'A = {{"statement_cache_size": 0}} if x else {{}}\n'
    f"create_async_engine({ASYNCPG}, connect_args=A)",
    f'create_async_engine({ASYNCPG}, connect_args={{"statement_cache_size": size}})',
    f'A = {{}}\ndef fill():\n    A["statement_cache_size"] = 0\nfill()\n'
    f"create_async_engine({ASYNCPG}, connect_args=A)",
    f'class C:\n    args = {{}}\nC.args["statement_cache_size"] = 0\n'
    f"create_async_engine({ASYNCPG}, connect_args=C.args)",
    'async_engine_from_config({"sqlalchemy.url": "postgresql+asyncpg://db/app"})',
]


@pytest.mark.parametrize("code", UNKNOWN)
def test_a_key_that_is_neither_there_nor_missing(code: str, tmp_path: Path) -> None:
    assert engine_in(tmp_path, code).is_off("statement_cache_size") is None


MISSING = [
    f"create_async_engine({ASYNCPG})",
    f"create_async_engine({ASYNCPG}, connect_args={{}})",
    f"create_async_engine({ASYNCPG}, connect_args=None)",
    f'create_async_engine({ASYNCPG}, **{{"pool_size": 5}})',
    f'A = {{"statement_cache_size": 0}}\ndel A["statement_cache_size"]\n'
    f"create_async_engine({ASYNCPG}, connect_args=A)",
    f'A = {{"statement_cache_size": 0}}\nA.pop("statement_cache_size")\n'
    f"create_async_engine({ASYNCPG}, connect_args=A)",
    f"A = {{}}\nlog(len(A), dict(A))\ncreate_async_engine({ASYNCPG}, connect_args={{**A}})",
    f'A = {{}}\ncreate_async_engine({ASYNCPG}, connect_args=A)\nA["statement_cache_size"] = 0',
    f'create_async_engine({ASYNCPG}, connect_args={{"statement_cache_size": 100}})',
    f'create_async_engine({ASYNCPG}, connect_args={{"statement_cache_size": False}})',
    f'create_async_engine({ASYNCPG}, connect_args={{"statement_cache_size": None}})',
]


@pytest.mark.parametrize("code", MISSING)
def test_a_key_that_is_missing(code: str, tmp_path: Path) -> None:
    assert engine_in(tmp_path, code).is_off("statement_cache_size") is False


@pytest.mark.parametrize(
    ("url", "args", "off"),
    [
        ("", '{"prepared_statement_cache_size": 0}', True),
        ("", '{"prepared_statement_cache_size": None}', True),
        ("", '{"prepared_statement_cache_size": False}', True),
        ("", '{"prepared_statement_cache_size": 100}', False),
        ("", "{}", False),
        ("?prepared_statement_cache_size=0", "{}", True),
        ("?prepared_statement_cache_size=00", "None", True),
        ("?prepared_statement_cache_size=50", "{}", False),
        ("?prepared_statement_cache_size={size}", "{}", None),
        ("?prepared_statement_cache_size=0", '{"prepared_statement_cache_size": 100}', False),
        ("?prepared_statement_cache_size=0", "other()", None),
        ("?{query}", "{}", None),
    ],
)
def test_sqlalchemys_own_cache(url: str, args: str, off: bool | None, tmp_path: Path) -> None:
    code = f'create_async_engine(f"postgresql+asyncpg://db/app{url}", connect_args={args})'
    assert engine_in(tmp_path, code).is_off("prepared_statement_cache_size") is off


@pytest.mark.parametrize(
    ("query", "off"),
    [
        ('{"prepared_statement_cache_size": "0"}', True),
        ('{"prepared_statement_cache_size": "9"}', False),
        ('{"prepared_statement_cache_size": size}', None),
        ("{**other}", None),
        ('{"prepared_statement_cache_size": "0"} if x else {}', None),
        ('{"ssl": "require"}', False),
    ],
)
def test_sqlalchemys_own_cache_in_the_query(query: str, off: bool | None, tmp_path: Path) -> None:
    code = f"""
    from sqlalchemy import URL
    create_async_engine(URL.create("postgresql+asyncpg", host="db", query={query}))
    """
    assert engine_in(tmp_path, code).is_off("prepared_statement_cache_size") is off


def test_settings_from_another_module(tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text(
        'ARGS = {"statement_cache_size": 0}\nARGS["prepared_statement_cache_size"] = 0\n'
        'def name() -> str:\n    return ""\n'
    )
    code = f"""
    from settings import ARGS, name
    ARGS["prepared_statement_name_func"] = name
    create_async_engine({ASYNCPG}, connect_args=ARGS)
    """
    engine = engine_in(tmp_path, code)
    assert engine.is_off("statement_cache_size") is True
    assert engine.is_off("prepared_statement_cache_size") is True
    assert engine.names is Names.ANONYMOUS


ON_6432 = ("postgresql+asyncpg", "h", 6432)
SETTINGS_OF_PYDANTIC = """
from pydantic import PostgresDsn, computed_field
from pydantic_core import MultiHostUrl
from pydantic_settings import BaseSettings

FORMAT = "postgresql+asyncpg://{}:6432/a"

class Settings(BaseSettings):
    host: str = "h"

    @computed_field
    @property
    def computed(self) -> PostgresDsn:
        return MultiHostUrl.build(scheme="postgresql+asyncpg", host=self.host, port=6432)

    @property
    def written(self) -> str:
        return str(PostgresDsn.build(scheme="postgresql+asyncpg", host=self.host, port=6432))

settings = Settings()
"""


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port"),
    [
        ('"postgresql+asyncpg://u:p@db.example:6543/a"', "postgresql+asyncpg", "db.example", 6543),
        ('"postgresql+asyncpg:///app"', "postgresql+asyncpg", None, None),
        ('"sqlite+aiosqlite:///:memory:"', "sqlite+aiosqlite", None, None),
        ('"POSTGRESQL+asyncpg://DB/a"', "postgresql+asyncpg", "db", None),
        ('f"postgresql+asyncpg://{u}:{p}@{h}:6432/{d}"', "postgresql+asyncpg", "\0", 6432),
        ('"postgresql+asyncpg://" + rest', "postgresql+asyncpg", "\0", None),
        ('f"{scheme}://db:6432/a"', None, "db", 6432),
        ('os.getenv("U", "sqlite+aiosqlite:///a.db")', "sqlite+aiosqlite", None, None),
        ('os.environ["U"].replace("x", "postgresql+asyncpg")', "postgresql+asyncpg", None, None),
        ('make_url("mysql+asyncmy://db/a")', "mysql+asyncmy", "db", None),
        ('str(make_url("mysql+asyncmy://db/a"))', "mysql+asyncmy", "db", None),
        ('URL.create("postgresql+asyncpg", host="h", port=6432)', "postgresql+asyncpg", "h", 6432),
        (
            'make_url(os.environ["U"]).set(drivername="postgresql+asyncpg", port=6432)',
            "postgresql+asyncpg",
            None,
            6432,
        ),
        (
            'make_url("postgresql+asyncpg://h/a").render_as_string(hide_password=False)',
            "postgresql+asyncpg",
            "h",
            None,
        ),
        ("URL.create(drivername=driver, host=h)", None, None, None),
        ("settings.url", None, None, None),
        (
            '"postgresql+asyncpg://a/b" if x else "postgresql+asyncpg://c/d"',
            "postgresql+asyncpg",
            None,
            None,
        ),
        ('os.environ["U"]', None, None, None),
        ('"postgresql+asyncpg://{}@{}:{}/a".format(u, "h", 6432)', *ON_6432),
        ('"postgresql+asyncpg://{user}@{host}:6432/{0}".format(db, user=u, host="h")', *ON_6432),
        ('"{}://u@h:6432/{{a}}{}".format("postgresql+asyncpg", rest)', *ON_6432),
        ('"{".format(a)', None, None, None),
        ('FORMAT.format("h")', *ON_6432),
        ('"postgresql+asyncpg://%s@%s:%d/a" % (u, "h", 6432)', *ON_6432),
        ('"postgresql+asyncpg://u%%40@h:6432/%s" % name', *ON_6432),
        ('"postgresql+asyncpg://%(user)s@h:6432/a" % parts', None, None, None),
        ('"".join(["postgresql+asyncpg://", u, "@h:6432/a"])', *ON_6432),
        ('"://".join(("postgresql+asyncpg", "h:6432"))', *ON_6432),
        ('"".join(parts)', None, None, None),
        ('PostgresDsn.build(scheme="postgresql+asyncpg", host="h", port="6432")', *ON_6432),
        ('str(MultiHostUrl.build(scheme="postgresql+asyncpg", host="h", port=6432))', *ON_6432),
        (
            'PostgresDsn.build(scheme="postgresql+asyncpg", host="h", port=6432).unicode_string()',
            *ON_6432,
        ),
        ('str(PostgresDsn("postgresql+asyncpg://h:6432/a"))', *ON_6432),
        ("str(settings.computed)", *ON_6432),
        ("settings.written", *ON_6432),
        ("PostgresDsn.build(**parts)", None, None, None),
    ],
)
def test_urls(
    url: str, scheme: str | None, host: str | None, port: int | None, tmp_path: Path
) -> None:
    code = (
        f"import os\nfrom sqlalchemy import URL, make_url\n{SETTINGS_OF_PYDANTIC}\n"
        f"create_async_engine({url})"
    )
    found = engine_in(tmp_path, code).url
    assert (found.scheme, found.host, found.port) == (scheme, host, port)


def test_a_url_is_read_by_keyword_and_from_a_class(tmp_path: Path) -> None:
    code = """
    class Settings:
        url: str = "sqlite+aiosqlite:///app.db"
    settings = Settings()
    create_async_engine(url=settings.url)
    """
    assert engine_in(tmp_path, code).is_another_database


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('"postgresql+asyncpg://db/a?ssl=require&x=1"', {"ssl": "require", "x": "1"}),
        ('f"{base}?statement_cache_size=0"', {"statement_cache_size": "0"}),
        ('base + "&timeout=5"', {"timeout": "5"}),
        ('"{}?timeout={}".format(base, 5)', {"timeout": "5"}),
        ('PostgresDsn.build(scheme="postgresql+asyncpg", query="ssl=require")', {"ssl": "require"}),
        ('f"postgresql+asyncpg://db/a?ssl={mode}"', {"ssl": "\0"}),
        ('f"postgresql+asyncpg://db/a?{query}"', {}),
        ('"postgresql+asyncpg://db/a"', {}),
        ('URL.create("postgresql+asyncpg", query={"ssl": "require"})', {"ssl": "require"}),
        ('URL.create("postgresql+asyncpg", query=dict(timeout="5"))', {"timeout": "5"}),
        ("URL.create(driver, None, None, h, 1, db, QUERY)", {"a": "1", "b": "\0"}),
        ('URL.create("postgresql+asyncpg", query=other())', {}),
        ('make_url("postgresql+asyncpg://db/a?a=1").set(query={"b": "2"})', {"b": "2"}),
        (
            'make_url("postgresql+asyncpg://db/a?a=1&b=1").update_query_dict({"b": "2"})',
            {"a": "1", "b": "2"},
        ),
    ],
)
def test_queries(query: str, expected: dict[str, str], tmp_path: Path) -> None:
    code = (
        "from pydantic import PostgresDsn\nfrom sqlalchemy import URL, make_url\n"
        'QUERY = {"a": "1", "b": ("1", "2")}\n'
        f"create_async_engine({query})"
    )
    assert engine_in(tmp_path, code).url.query == expected


@pytest.mark.parametrize(
    ("url", "pooler", "session_mode"),
    [
        ("postgresql+asyncpg://u.r:p@aws-0-eu.pooler.supabase.com:6543/p", "supavisor", False),
        ("postgresql+asyncpg://u.r:p@aws-0-eu.pooler.supabase.com:5432/p", "supavisor", True),
        ("postgresql+asyncpg://u.r:p@aws-0-eu.pooler.supabase.com/p", "supavisor", True),
        ("postgresql+asyncpg://u:p@db.ref.supabase.co:6543/p", "pgbouncer", False),
        ("postgresql+asyncpg://u:p@db.ref.supabase.co:5432/p", "auto", False),
        ("postgresql+asyncpg://u:p@ep-x-pooler.eu.aws.neon.tech/p", "pgbouncer", False),
        ("postgresql+asyncpg://u:p@localhost:6543/p", "supavisor", False),
        ("postgresql+asyncpg://u:p@10.0.0.1:6432/p", "pgbouncer", False),
        ("postgresql+asyncpg://u:p@localhost/p", "auto", False),
    ],
)
def test_the_pooler_is_told_from_the_url(
    url: str, pooler: str, session_mode: bool, tmp_path: Path
) -> None:
    code = f'create_async_engine("{url}")'
    engine = engine_in(tmp_path, code)
    assert (engine.pooler, engine.is_in_session_mode) == (pooler, session_mode)
    configured = engine_in(tmp_path, code, pooler="direct")
    assert (configured.pooler, configured.is_in_session_mode) == ("direct", False)


@pytest.mark.parametrize(
    ("code", "on_asyncpg", "another"),
    [
        (f"create_async_engine({ASYNCPG})", True, False),
        ('create_async_engine("postgresql+psycopg://db/a")', False, False),
        ('create_async_engine("postgresql://db/a")', False, False),
        ('create_async_engine("sqlite+aiosqlite://")', False, True),
        ("create_async_engine(url)", False, False),
        ('create_async_engine(url, connect_args={"statement_cache_size": 0})', True, False),
        (
            'A = {}\nif x:\n    A["server_settings"] = {}\n'
            "create_async_engine(url, connect_args=A)",
            False,
            False,
        ),
        ('create_async_engine(url, connect_args={"check_same_thread": False})', False, True),
        ('create_async_engine(url)\nX = "postgresql+asyncpg"', True, False),
        ('create_async_engine(url)\nX = "postgresql+asyncpg", "sqlite+aiosqlite"', False, False),
    ],
)
def test_the_driver(code: str, on_asyncpg: bool, another: bool, tmp_path: Path) -> None:
    engine = engine_in(tmp_path, code)
    assert (engine.is_on_asyncpg, engine.is_another_database) == (on_asyncpg, another)


# What a function of another module makes of a URL, and settings that one arm alone gives.
CONFIGURED = """
from sqlalchemy import make_url

def config(url, ssl=False):
    base = url.set(drivername="postgresql+asyncpg", query={**url.query})
    if ssl:
        args = {"ssl": True}
    else:
        args = {}
    return base, args

async def config_later(url):
    return config(url)

def async_url(text):
    url = make_url(text)
    if url.get_backend_name() == "sqlite":
        return url.set(drivername="sqlite+aiosqlite")
    return url.set(drivername="postgresql+asyncpg")

def one_of(url):
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+asyncpg")
    return url

def lite_url(url):
    return url.set(drivername="sqlite+aiosqlite")

def scheme_of(text, provider):
    if provider == "postgres":
        return "postgresql+asyncpg://" + text
    return f"sqlite+aiosqlite:///{text}?mode=ro"

def timeouts(url):
    if url.startswith("postgresql"):
        return {"command_timeout": 5}
    return {}

def kept(args, name):
    print(name, args.get("ssl"), len(args))
    return connect(**args)

def kept_later(args):
    async def creator():
        return await connect(**args)
    return creator

def passed_on(args):
    kept(args, "other")

def changed(args):
    args["statement_cache_size"] = 0

def updated(args):
    def inner():
        args.update(statement_cache_size=0)
    inner()

def handed_on(args):
    changed(args)

def given_back(args):
    return args

def aliased(args):
    other = args
    other["statement_cache_size"] = 0
"""
UNPACKED = "url, args = {}\ncreate_async_engine(url, connect_args=args)"
SEVERAL_STEPS = {
    "a tuple": (UNPACKED.format("config(given)"), True, True),
    "a tuple that is awaited": (UNPACKED.format("await config_later(given)"), True, True),
    "a tuple of what is not known": (UNPACKED.format("other(given)"), False, False),
    "one of two drivers": ("create_async_engine(async_url(given))", False, True),
    "a driver on a condition": ("create_async_engine(one_of(given))", False, True),
    "another driver": ("create_async_engine(lite_url(given))", False, False),
    "one of two schemes": ("create_async_engine(scheme_of(given, name))", False, True),
    "settings of one arm": (
        "create_async_engine(given, connect_args=timeouts(given))",
        False,
        True,
    ),
    "settings of another driver's engine": (
        'create_async_engine("sqlite+aiosqlite://", connect_args=timeouts(given))',
        False,
        False,
    ),
    "settings that any driver may have": (
        "create_async_engine(given, connect_args={'timeout': 5})",
        False,
        False,
    ),
}


@pytest.mark.parametrize(
    ("code", "is_on_asyncpg", "may_be"), SEVERAL_STEPS.values(), ids=SEVERAL_STEPS.keys()
)
def test_the_driver_in_several_steps(
    code: str, is_on_asyncpg: bool, may_be: bool, tmp_path: Path
) -> None:
    (tmp_path / "configured.py").write_text(CONFIGURED)
    engine = engine_in(tmp_path, f"from configured import *\n{code}")
    assert (engine.is_on_asyncpg, engine.may_be_on_asyncpg) == (is_on_asyncpg, may_be)
    assert (verdict(engine) is not None) or not may_be


@pytest.mark.parametrize(
    ("call", "is_missing"),
    [
        ('kept(ARGS, "it")', True),
        ("kept(name='it', args=ARGS)", True),
        ("kept_later(ARGS)", True),
        ("passed_on(ARGS)", True),
        ("changed(ARGS)", False),
        ("changed(args=ARGS)", False),
        ("updated(ARGS)", False),
        ("handed_on(ARGS)", False),
        ("given_back(ARGS)", False),
        ("aliased(ARGS)", False),
        ("unknown(ARGS)", False),
        ("kept(*names, ARGS)", False),
    ],
)
def test_a_dictionary_that_a_function_is_given(call: str, is_missing: bool, tmp_path: Path) -> None:
    (tmp_path / "configured.py").write_text(CONFIGURED)
    code = f"from configured import *\nARGS = {{}}\n{call}\n"
    engine = engine_in(tmp_path, f"{code}create_async_engine({ASYNCPG}, connect_args=ARGS)")
    assert engine.connect_args.is_absent("statement_cache_size") is is_missing


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({}, "leaves asyncpg's statement cache on"),
        ({"statement_cache_size": 100}, "`statement_cache_size` other than 0 alone"),
        ({"statement_cache_size": 0}, None),
    ],
)
def test_a_query_that_is_not_known_matters_where_asyncpgs_cache_is_off(
    args: dict[str, int], said: str | None, tmp_path: Path
) -> None:
    code = f'create_async_engine(f"postgresql+asyncpg://db/app?{{query}}", connect_args={args})'
    found = verdict(engine_in(tmp_path, code))
    assert said in found if found is not None and said is not None else found is said


@pytest.mark.parametrize(
    ("query", "off"),
    [('{"prepared_statement_cache_size": "0"}', True), ("{**given.query}", None), ("{}", False)],
)
def test_the_query_that_comes_with_the_driver(query: str, off: bool | None, tmp_path: Path) -> None:
    url = f'given.set(drivername="postgresql+asyncpg", query={query})'
    engine = engine_in(tmp_path, f"create_async_engine({url})")
    assert engine.is_off("prepared_statement_cache_size") is off


def test_a_setting_that_is_there_on_a_condition_is_not_said_to_be_given(tmp_path: Path) -> None:
    code = f"""
    A = {{}}
    if x:
        A["prepared_statement_cache_size"] = 0
    create_async_engine({ASYNCPG}, connect_args=A)
    """
    said = verdict(engine_in(tmp_path, code))
    assert said is not None
    assert said.startswith("this engine leaves asyncpg's statement cache on")


def test_the_projects_only_driver_is_an_engines(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("asyncpg==0.30.0\n")
    assert engine_in(tmp_path, "create_async_engine(url)").is_on_asyncpg


@pytest.mark.parametrize(
    ("function", "names"),
    [
        ('lambda: ""', Names.ANONYMOUS),
        ('lambda: "x"', Names.CONSTANT),
        ('lambda: f"__asyncpg_{uuid4()}__"', Names.UNIQUE),
        ('lambda: f"{uuid4()}"', Names.UNIQUE),
        ("lambda: str(uuid4())", Names.UNIQUE),
        ("lambda: uuid4().hex", Names.UNIQUE),
        ('lambda: f"stmt_{uuid4().hex[:8]}"', Names.UNIQUE),
        ('lambda: "p_%s" % uuid4()', Names.UNIQUE),
        ('lambda: "p_" + uuid4().hex', Names.UNIQUE),
        ('lambda: "p_{}".format(uuid4())', Names.UNIQUE),
        ("by_def", Names.UNIQUE),
        ("by_local_name", Names.UNIQUE),
        ("empty", Names.ANONYMOUS),
        ("lambda: ONCE", Names.CONSTANT),
        ('lambda: f"s{next(counter)}"', Names.COUNTED),
        ("numbered", Names.COUNTED),
        ("lambda: other()", Names.UNKNOWN),
        ("other", Names.UNKNOWN),
        ('lambda: "" if x else f"{uuid4()}"', Names.UNKNOWN),
        ("None", Names.DEFAULT),
        ("False", Names.DEFAULT),
        ('lambda: f"{ONCE}_{next(counter)}"', Names.UNIQUE),
        ('lambda: f"s{next(counter)}_" + ONCE', Names.UNIQUE),
        ('lambda: f"{ONCE}"', Names.CONSTANT),
        ('lambda: f"{PREFIX}"', Names.CONSTANT),
        ('lambda: f"{PREFIX}_{next(counter)}"', Names.COUNTED),
        ('lambda: f"{other.prefix}_{next(counter)}"', Names.UNKNOWN),
        ('lambda: f"{os.getpid()}_{next(counter)}"', Names.COUNTED_BY_PROCESS),
        ('lambda: f"{PID}_{next(counter)}"', Names.COUNTED_BY_PROCESS),
        ('lambda: "s%d_%d" % (os.getpid(), next(counter))', Names.COUNTED_BY_PROCESS),
        ('lambda: f"{os.getpid()}_{next(counter)}_{uuid4()}"', Names.UNIQUE),
        ('lambda: f"{socket.gethostname()}_{os.getpid()}_{next(counter)}"', Names.UNKNOWN),
        ('lambda: f"s{os.getpid()}"', Names.CONSTANT),
        ('lambda: f"s{next(ids)}"', Names.UNKNOWN),
        ('lambda: f"s{counter.__next__()}"', Names.COUNTED),
        ("by_global", Names.COUNTED),
        ("by_sum", Names.COUNTED),
        ("by_global_and_prefix", Names.UNIQUE),
        ("by_nonlocal()", Names.COUNTED),
        ("by_imported_number", Names.CONSTANT),
        ("Numbered()", Names.COUNTED),
        ("Numbered().name", Names.COUNTED),
        ("Prefixed()", Names.UNIQUE),
        ('lambda: f"s{state[0]}"', Names.UNKNOWN),
        ("lambda: by_def()", Names.UNIQUE),
        ("lambda: numbered()", Names.COUNTED),
    ],
)
def test_name_functions(function: str, names: Names, tmp_path: Path) -> None:
    code = f"""
    import os
    from itertools import count
    from uuid import uuid4
    ONCE = f"s{{uuid4()}}"
    PREFIX = "stmt"
    PID = os.getpid()
    counter = count()
    ids = iter(other)
    state = [0]
    n = number = 0
    number += 1
    def by_global():
        global n
        n += 1
        return f"s{{n}}"
    def by_sum():
        global n
        n = n + 1
        return "s" + str(n)
    def by_global_and_prefix():
        global n
        n += 1
        return f"{{ONCE}}_{{n}}"
    def by_nonlocal():
        m = 0
        def name():
            nonlocal m
            m += 1
            return f"s{{m}}"
        return name
    def by_imported_number():
        return f"s{{number}}"
    class Numbered:
        def __init__(self):
            self.n = 0
        def name(self):
            self.n += 1
            return f"s{{self.n}}"
        __call__ = name
    class Prefixed:
        def __init__(self):
            self.prefix = uuid4().hex
            self.numbers = count()
        def __call__(self):
            return f"{{self.prefix}}_{{next(self.numbers)}}"
    def by_def():
        return f"__{{uuid4()}}__"
    def by_local_name():
        suffix = uuid4().hex
        return "s" + suffix
    def numbered():
        return f"s{{next(counter)}}"
    empty = lambda: ""
    create_async_engine({ASYNCPG}, connect_args={{"prepared_statement_name_func": {function}}})
    """
    assert engine_in(tmp_path, code).names is names


def test_the_standard_of_2025(tmp_path: Path) -> None:
    engine = engine_in(tmp_path, FIXTURE.read_text())
    assert engine.is_on_asyncpg
    assert engine.names is Names.UNIQUE
    assert engine.is_off("statement_cache_size") is True
    assert engine.is_off("prepared_statement_cache_size") is True
    assert engine.server_settings.literal("statement_cache_size") == "0"
    assert engine.isolation_level == "READ COMMITTED"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("# DEALLOCATE ALL and do_ping\nX = 'do_ping'", []),
        ('connection.exec_driver_sql("deallocate all;")', ["drops what a cache"]),
        ("del engine.sync_engine.dialect.do_ping", ["the pool's ping alone"]),
        ("engine.dialect.do_ping = lambda connection: True", ["the pool's ping alone"]),
        ("class D(Dialect):\n    def do_ping(self, c): ...", ["the pool's ping alone"]),
    ],
)
def test_other_answers(code: str, said: list[str], tmp_path: Path) -> None:
    found = other_answers(engine_in(tmp_path, f"{code}\ncreate_async_engine({ASYNCPG})"))
    assert len(found) == len(said)
    assert all(part in text for part, text in zip(said, found, strict=True))


TLS = """
import ssl

def weak(cafile=None):
    context = ssl.create_default_context(cafile=cafile)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

def strong():
    return ssl.create_default_context()

def either(development):
    context = ssl.create_default_context()
    if development:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context

class Contexts:
    weak = ssl.create_default_context()
    weak.check_hostname = False

WEAK = weak()
CHANGED = ssl.create_default_context()

def relax():
    CHANGED.verify_mode = ssl.CERT_NONE
"""


@pytest.mark.parametrize(
    ("code", "line", "said"),
    [
        ('connect_args={"ssl": tls.weak("ca.pem")}', 5, "no certificate"),
        ('connect_args={"ssl": tls.WEAK}', 5, "no certificate"),
        ('connect_args={"ssl": CONTEXT}', 5, "no certificate"),
        ("connect_args=dict(ssl=tls.Contexts.weak)", 5, "no host name"),
        ('connect_args={"ssl": OWN}', 4, "no host name"),
        ('connect_args={"ssl": tls.strong()}', 0, ""),
        ('connect_args={"ssl": tls.either(True)}', 0, ""),
        ('connect_args={"ssl": tls.CHANGED}', 0, ""),
        ('connect_args={"ssl": tls.other()}', 0, ""),
    ],
)
def test_a_context_of_another_module(code: str, line: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.session-guard]\nselect = ["SG207"]\n')
    (tmp_path / "tls.py").write_text(TLS)
    file = tmp_path / "jobs.py"
    head = "import tls\nfrom tls import WEAK as CONTEXT, strong; OWN = strong()\n"
    weaken = "OWN.check_hostname = False\n"
    file.write_text(f"{HEAD}{head}{weaken}create_async_engine({ASYNCPG}, {code})\n")
    found = [item for batch in Run(Options((str(file),))).check() for item in batch]
    assert [item.line for item in found] == ([line] if line else [])
    assert all(said in item.message for item in found)


def test_alembics_environment_has_no_engine_of_ours(tmp_path: Path) -> None:
    text = f"from alembic import context\n{HEAD}create_async_engine({ASYNCPG})\n"
    decoded = sources.decode(text.encode())
    project = Project(Settings(root=tmp_path))
    for name, expected in (("env.py", True), ("db.py", False)):
        module = Module(tmp_path / name, decoded, project, frozenset({"Call"}))
        (call,) = module.nodes("Call")
        assert isinstance(call, cst.Call)
        assert (engine_of(call, module) is None) is expected


BOTH = """
A = {"a": 1, **b, c: {}}
A["x"] = A["y"] = f"{u}-{v}" + "w"
A["z"] += 1
C += "x"
del A["x"], A[key]
B = A | {"q": "%s" % r}
B |= dict(a=1)
C = "x" f"y{z}" + t
"""


def described(scope: Scope) -> list[object]:
    found: list[object] = []
    for name, bindings in sorted(scope.bindings.items()):
        for binding in bindings:
            value = binding.value
            pieces = getattr(value, "pieces", ())
            text = [p if isinstance(p, str) else type(p).__name__ for p in pieces]
            found.append((name, type(value).__name__, text))
            if isinstance(value, Display):
                found.extend((type(k).__name__, type(v).__name__) for k, v in value.items)
    for store in scope.stores:
        parts = [type(x).__name__ for x in (store.owner, store.key, store.value)]
        found.append((*parts, store.place.order > 0))
    return found


def test_both_front_ends_see_the_same_dictionaries() -> None:
    one = described(build_table(BOTH))
    assert one == described(index_tree(cst.parse_module(BOTH), frozenset()).scope)
    assert len([item for item in one if isinstance(item, tuple) and len(item) == 4]) == 5


@pytest.mark.parametrize(
    "call",
    [
        'create_async_engine("postgresql+asyncpg://app:hunter2@db/app")',
        'create_async_engine("postgresql+asyncpg://app:hunter2@db", connect_args={"ssl": True})',
        'create_async_engine("postgresql+asyncpg://app:hunter2@db/app?statement_cache_size=0")',
        'create_async_engine("postgresql+asyncpg://app:hunter2@db/app", statement_cache_size=0)',
    ],
)
def test_no_edit_repeats_a_password(call: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.session-guard]\nselect = ["SG2"]\n')
    file = tmp_path / "jobs.py"
    file.write_text(f"{HEAD}engine = {call}\n")
    found = [item for batch in Run(Options((str(file),))).check() for item in batch]
    assert any(item.fix is not None for item in found)
    assert "hunter2" not in "".join(render(found))


LISTENING = """
from sqlalchemy import event
engine = create_async_engine("postgresql+asyncpg://db/app", connect_args={"timeout": 5})
other = create_async_engine("postgresql+asyncpg://db/other")
"""
OF_ENGINE = '@event.listens_for(engine.sync_engine, "do_connect")\n'
DEF = "def connect(dialect, record, cargs, cparams):\n"
NO_CACHE = '    cparams["statement_cache_size"] = 0\n'
LISTENERS = {
    "an item": (f"{OF_ENGINE}{DEF}{NO_CACHE}", True),
    "an update": (f"{OF_ENGINE}{DEF}    cparams.update(statement_cache_size=0)\n", True),
    "under any name": (
        f"{OF_ENGINE}def set_up(_d, _r, _a, kw):\n    kw['statement_cache_size'] = 0\n",
        True,
    ),
    "without a decorator": (
        f'{DEF}{NO_CACHE}event.listen(engine.sync_engine, "do_connect", connect)\n',
        True,
    ),
    "bound anew": (f"{OF_ENGINE}{DEF}    cparams |= {{'statement_cache_size': 0}}\n", None),
    "a password": (f'{OF_ENGINE}{DEF}    cparams["password"] = token()\n', False),
    "of another engine": (f"{OF_ENGINE.replace('engine.', 'other.')}{DEF}{NO_CACHE}", False),
    "another event": (f"{OF_ENGINE.replace('do_connect', 'connect')}{DEF}{NO_CACHE}", False),
    "of every engine": (
        f"from sqlalchemy.engine import Engine\n{OF_ENGINE.replace('engine.sync_engine', 'Engine')}"
        f"{DEF}{NO_CACHE}",
        None,
    ),
    "of an engine that is given": (
        "def listen(engine):\n" + textwrap.indent(f"{OF_ENGINE}{DEF}{NO_CACHE}", "    "),
        None,
    ),
    "on a condition": (f"{OF_ENGINE}{DEF}    if pooled:\n    {NO_CACHE}", None),
    "it connects": (f"{OF_ENGINE}{DEF}{NO_CACHE}    return dial(cparams)\n", None),
    "handed on": (f"{OF_ENGINE}{DEF}    settle(cparams)\n", None),
    "by names": (
        '@event.listens_for(engine.sync_engine, "do_connect", named=True)\n'
        'def connect(**kw):\n    kw["cparams"]["statement_cache_size"] = 0\n',
        None,
    ),
    "a function that is not known": (
        'from hooks import connect\nevent.listen(engine.sync_engine, "do_connect", connect)\n',
        None,
    ),
}


@pytest.mark.parametrize(("code", "off"), LISTENERS.values(), ids=LISTENERS.keys())
def test_listeners_have_the_last_word_on_connecting(
    code: str, off: bool | None, tmp_path: Path
) -> None:
    engine, _ = engines_in(tmp_path, f"{LISTENING}{code}")
    assert engine.is_off("statement_cache_size") is off
    assert engine.connect_args.is_present("timeout")


def test_a_listener_of_another_module(tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(
        f"from sqlalchemy import event\nfrom jobs import engine\n{OF_ENGINE}{DEF}{NO_CACHE}"
    )
    (tmp_path / "jobs.py").write_text(f"{HEAD}{LISTENING}")
    first, second = engines_in(tmp_path, LISTENING)
    assert first.is_off("statement_cache_size") is True
    assert second.is_off("statement_cache_size") is False
