"""`session-guard doctor --engine`: engines of a project, tried at real servers."""

import asyncio
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from session_guard.doctor.engine import load, opening

from .doctoring import UNKNOWN, UNSAFE, doctor, outcomes, report
from .servers import PgBouncer, Postgres, made_certificate

ENGINE = """
import asyncio
import atexit
import multiprocessing
import os
import ssl
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

import asyncpg
from sqlalchemy import event
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, StaticPool
from sqlalchemy.util import await_only

from session_guard import async_session

url = make_url(os.environ["APP_DATABASE"]).set(drivername="postgresql+asyncpg")
naive = create_async_engine(url, connect_args={"ssl": False})
naive_pool_of_one = create_async_engine(
    url, pool_size=1, max_overflow=0, connect_args={"ssl": False}
)
naive_without_pool = create_async_engine(url, poolclass=NullPool, connect_args={"ssl": False})
caches_off = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
unique_pool_of_one = create_async_engine(
    url,
    pool_size=1,
    max_overflow=0,
    connect_args={
        "ssl": False,
        "prepared_statement_name_func": lambda: f"a \\"name\\" {os.urandom(8).hex()}",
        **caches_off,
    },
)
anonymous = {"prepared_statement_name_func": lambda: "", **caches_off}
all_in_arguments = create_async_engine(
    "postgresql+asyncpg://",
    connect_args={
        "host": url.host,
        "port": url.port,
        "user": url.username,
        "password": url.password,
        "database": url.database,
        "ssl": False,
        **anonymous,
    },
)
tls_if_offered = create_async_engine(url, connect_args=anonymous)
elsewhere = create_async_engine(
    "postgresql+asyncpg://guard:s3cret@Pa55word@127.0.0.1:5432/postgres", connect_args=anonymous
)

@event.listens_for(unique_pool_of_one.sync_engine, "connect")
def note(connection, record):
    with open("connections", "a") as notes:
        notes.write(f"{os.getpid()}\\n")

cut_later = create_async_engine(
    url.set(database="Pa55word@db"), connect_args={"ssl": False, **anonymous}
)

def with_much_else():
    return create_async_engine(
        url,
        connect_args={
            "ssl": ssl.create_default_context(cafile=os.environ["APP_AUTHORITY"]),
            "timeout": 7,
            "server_settings": {"application_name": "s3cret-Pa55word"},
        },
    )

async def connect():
    return await asyncpg.connect(
        host=url.host, port=url.port, user=url.username, password=url.password,
        database=url.database, ssl=False, statement_cache_size=0,
    )

by_a_function = create_async_engine(
    "postgresql+asyncpg://", async_creator=connect, pool_size=1, max_overflow=0
)
async def connect_naively():
    return await asyncpg.connect(
        host=url.host, port=url.port, user=url.username, password=url.password,
        database=url.database, ssl=False,
    )

by_a_naive_function = create_async_engine(
    "postgresql+asyncpg://", async_creator=connect_naively, connect_args=caches_off
)
as_told = create_async_engine(
    "postgresql+asyncpg://",
    creator=lambda: as_told.dialect.dbapi.connect(
        async_creator_fn=connect,
        prepared_statement_name_func=lambda: "",
        prepared_statement_cache_size=0,
    ),
)
by_a_creator = create_async_engine(
    "postgresql+asyncpg://",
    connect_args=anonymous,
    creator=lambda: by_a_creator.dialect.dbapi.connect(async_creator_fn=connect_naively),
)
by_a_listener = create_async_engine(url, connect_args=anonymous)

@event.listens_for(by_a_listener.sync_engine, "do_connect")
def open_it(dialect, record, arguments, given):
    return dialect.connect(async_creator_fn=connect_naively)

changed_by_a_listener = create_async_engine(url, connect_args=anonymous)

@event.listens_for(changed_by_a_listener.sync_engine, "do_connect")
def change_it(dialect, record, arguments, given):
    await_only(asyncio.sleep(0))  # as for a token
    given["ssl"] = False

class OwnPool(AsyncAdaptedQueuePool):
    def __init__(self, creator, **options):
        super().__init__(
            lambda: by_a_pool.dialect.dbapi.connect(async_creator_fn=connect_naively), **options
        )

by_a_pool = create_async_engine(url, poolclass=OwnPool, connect_args={"ssl": False, **anonymous})

class OtherPool(AsyncAdaptedQueuePool):
    pass  # it has nothing to do with how connections are opened

autocommit = create_async_engine(
    url, isolation_level="AUTOCOMMIT", connect_args={"ssl": False, **anonymous}
)
autocommit_in_small_letters = create_async_engine(
    url, isolation_level="autocommit", connect_args={"ssl": False, **anonymous}
)
autocommit_by_option = tls_if_offered.execution_options(isolation_level="AUTOCOMMIT")
unique_in_autocommit = create_async_engine(
    url,
    isolation_level="AUTOCOMMIT",
    connect_args={
        "ssl": False,
        "prepared_statement_name_func": lambda: f"unique {os.urandom(8).hex()}",
        **caches_off,
    },
)

def handler(**settings):
    settings = async_session.SessionSettings(url=os.environ["APP_DATABASE"], tls="off", **settings)
    async_session.configure(settings)
    return async_session.engine

def handler_with_unique_names():
    return handler(statement_names="unique")

kept_at_a_level = create_async_engine(url, connect_args={"ssl": False, **anonymous})

@event.listens_for(kept_at_a_level.sync_engine, "set_connection_execution_options")
def keep(connection, options):
    options["isolation_level"] = "READ COMMITTED"

def with_arguments(**arguments):
    return create_async_engine(url, connect_args={"ssl": False, **anonymous, **arguments})

refused_parameter = with_arguments(
    server_settings={"statement_timeout": "5000", "application_name": "app"}
)
dropped_parameters = with_arguments(
    server_settings={
        "search_path": "app", "statement_timeout": "5000", "application_name": "app",
        "TimeZone": "Asia/Tokyo", "statement_cache_size": "0", "it's not there": "1",
    }
)
parameter_as_it_is = with_arguments(server_settings={"statement_timeout": "0"})
parameter_of_driver = with_arguments(command_timeout=5, server_settings={"command_timeout": "5"})
parameter_no_string = with_arguments(server_settings={"application_name": 1})
parameters_no_dictionary = with_arguments(server_settings=7)
unknown_argument = with_arguments(raw_sql="s3cret-Pa55word")
text_in_query = create_async_engine(
    url.update_query_dict({"timeout": "5"}), connect_args={"ssl": False, **anonymous}
)
in_query = create_async_engine(
    url.update_query_dict({"sslmode": "disable"}), connect_args={"ssl": False, **anonymous}
)
no_time_for_commands = with_arguments(command_timeout=0)
no_time = with_arguments(timeout=0)
failing_names = with_arguments(prepared_statement_name_func=lambda: 1 / 0)
failing_listener = with_arguments()

@event.listens_for(failing_listener.sync_engine, "connect")
def fail(connection, record):
    raise LookupError("s3cret-Pa55word")

with_a_pool = create_async_engine(
    url, poolclass=OtherPool, connect_args={"ssl": False, **anonymous}
)
one_for_all = create_async_engine(
    url, poolclass=StaticPool, connect_args={"ssl": False, **anonymous}
)
on_sqlite = create_engine("sqlite://", poolclass=StaticPool)

def make():
    return create_async_engine(
        url,
        pool_size=3,
        connect_args={
            "ssl": False,
            "prepared_statement_name_func": lambda: "",
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "server_settings": {"application_name": "s3cret-Pa55word"},
        },
    )

def talks():
    print("hello from the module")
    atexit.register(print, "bye from the module")
    os.system("echo hello from its program")
    return create_async_engine(url, echo=True, connect_args={"ssl": False, **anonymous})

def quits_in_children():
    if multiprocessing.parent_process():
        raise SystemExit(0)
    return make()

not_an_engine = 7

async def made_later():
    return make()

broken = property()
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pgbouncer: PgBouncer) -> Path:
    """A project with engines of its own."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app/db.py").write_text(ENGINE)
    (tmp_path / "app/broken.py").write_text("raise LookupError('s3cret-Pa55word')\n")
    (tmp_path / "app/quits.py").write_text("raise SystemExit(0)\n")
    (tmp_path / "app/fails.py").write_text("raise SystemExit(1)\n")
    (tmp_path / "app/dies.py").write_text("import os\nos._exit(0)\n")
    monkeypatch.setenv("APP_DATABASE", pgbouncer.dsn)
    return tmp_path


def test_naive_engine_is_unsafe_and_told_what_to_use(app: Path) -> None:
    found = report(None, "--engine", "app.db:naive", folder=app)
    assert found["verdict"] == "unsafe"
    assert found["settings"]["names"] == "asyncpg's own"
    assert found["settings"]["statement_cache_size"] == "asyncpg's default, 100"
    assert "statement_cache_size" in found["connect_args"]
    text = doctor(None, "--engine", "app.db:naive", folder=app)
    assert "importing app.db, which runs its code" in text.stderr
    # The names that the first run left on the server are in the way of the second.
    assert "Unsafe: the engine app.db:naive " in text.stdout
    assert '"prepared_statement_name_func": lambda: ""' in text.stdout


def test_good_engine_is_safe_and_read_back(app: Path) -> None:
    found = report(None, "--engine", "app.db:make", folder=app)
    assert found["verdict"] == "safe"
    assert found["settings"] == {
        "opened_by": "",
        "names": "anonymous",
        "statement_cache_size": "0",
        "prepared_statement_cache_size": "0",
        "server_settings": ["application_name"],
        "tls": "off",
        "timeout": "asyncpg's default, 60",
        "isolation_level": "READ COMMITTED",
        "pool": "AsyncAdaptedQueuePool(3 + 10)",
    }


@pytest.mark.parametrize(
    "engine", ["autocommit", "autocommit_in_small_letters", "autocommit_by_option"]
)
def test_engine_in_autocommit_is_tried_as_it_is(app: Path, engine: str) -> None:
    found = report(None, "--engine", f"app.db:{engine}", folder=app)
    assert found["settings"]["isolation_level"] == "AUTOCOMMIT"
    assert found["verdict"] == "safe"
    # It has no transactions, and PostgreSQL refuses it cursors with any settings.
    assert list(outcomes(found)[f"app.db:{engine}"]["modes"]) == ["AUTOCOMMIT"]
    assert found["conclusion"].endswith("was right in AUTOCOMMIT, the mode it is in.")


def test_engine_in_autocommit_with_wrong_settings_is_unsafe(app: Path) -> None:
    run = doctor(None, "--engine", "app.db:unique_in_autocommit", folder=app)
    assert run.returncode == UNSAFE
    [row] = re.findall("^app.db:unique_in_autocommit  .*", run.stdout, re.MULTILINE)
    assert "InvalidSQLStatementNameError" in row
    # By chance a process fails while it connects, or all do.
    transactions, *_, cursors = re.split("  +", row)[1:4]
    assert transactions.startswith(("none in AUTOCOMMIT", "cannot connect"))
    assert transactions.startswith("cannot connect") or cursors == "none in AUTOCOMMIT"


def test_autocommit_is_tried_on_engines_with_a_level_of_their_own(app: Path) -> None:
    found = report(None, "--engine", "app.db:handler_with_unique_names", folder=app)
    assert found["settings"]["isolation_level"] == "READ COMMITTED"
    modes = outcomes(found)["app.db:handler_with_unique_names"]["modes"]
    assert modes["AUTOCOMMIT"]["errors"]["InvalidSQLStatementNameError"]
    assert found["conclusion"].endswith("unique_names was wrong or failed in AUTOCOMMIT.")
    assert report(None, "--engine", "app.db:handler", folder=app)["verdict"] == "safe"
    run = doctor(None, "--engine", "app.db:kept_at_a_level", folder=app)
    assert run.returncode == UNKNOWN
    assert "AUTOCOMMIT cannot be tried" in run.stderr


def test_what_users_code_prints_is_not_in_the_report(app: Path) -> None:
    assert report(None, "--engine", "app.db:talks", folder=app)["verdict"] == "safe"
    run = doctor(None, "--engine", "app.db:talks", folder=app)
    assert run.stdout.startswith("127.0.0.1:")
    for printed in ("hello from the module", "hello from its program", "bye from the module"):
        assert printed not in run.stdout
        assert run.stderr.count(printed) == 3  # here and in two child processes
    assert "INFO sqlalchemy.engine" not in run.stdout
    assert "INFO sqlalchemy.engine" in run.stderr


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("app.db", "write it as package.module:name"),
        ("app.nowhere:engine", "app.nowhere cannot be imported (ModuleNotFoundError)"),
        ("app.broken:engine", "app.broken cannot be imported (LookupError)"),
        ("app.quits:engine", "app.quits cannot be imported (it calls sys.exit())"),
        ("app.fails:engine", "app.fails cannot be imported (it calls sys.exit())"),
        ("app.dies:engine", "app.dies:engine: a process that imported it ended"),
        ("app.db:quits_in_children", "quits_in_children() failed (it calls sys.exit()); `python"),
        ("app.db:nothing", "app.db has no nothing"),
        (
            # Without DATABASE_URL.
            "session_guard.async_session:engine",
            "building it failed (RuntimeError); `python -c 'import session_guard.async_session; "
            "session_guard.async_session.engine'` shows why",
        ),
        ("app.db:not_an_engine", "that is no AsyncEngine: int; name an engine, or a"),
        ("app.db:made_later", "that is no AsyncEngine: coroutine"),
        ("app.db:broken", "that is no AsyncEngine: property"),
        ("app.db:on_sqlite", "it is not PostgreSQL by asyncpg, but sqlite by pysqlite"),
        ("app.db:one_for_all", "its StaticPool has one connection for everybody"),
    ],
)
def test_engine_that_cannot_be_had(app: Path, reference: str, said: str) -> None:
    run = doctor(None, "--engine", reference, folder=app)
    assert (run.returncode, run.stdout) == (UNKNOWN, "")
    assert said in run.stderr


@pytest.mark.parametrize("engine", ["naive_pool_of_one", "naive_without_pool"])
def test_naive_engine_is_unsafe_whatever_its_pool(app: Path, engine: str) -> None:
    assert report(None, "--engine", f"app.db:{engine}", folder=app)["verdict"] == "unsafe"


def test_pool_of_one_meets_the_statements_of_others(
    app: Path,
    start_pgbouncer: Callable[..., PgBouncer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Alone, the one connection would have a server connection to itself.
    pooler = start_pgbouncer(default_pool_size="20")
    monkeypatch.setenv("APP_DATABASE", pooler.dsn)
    found = report(None, "--engine", "app.db:unique_pool_of_one", folder=app)
    [outcome, _] = outcomes(found).values()
    assert outcome["modes"]["AUTOCOMMIT"]["errors"] == {
        "InvalidSQLStatementNameError": outcome["modes"]["AUTOCOMMIT"]["failed"]
    }
    assert found["verdict"] == "unsafe"
    # Once to read its settings back, and three times in each of two processes.
    connected = Counter((app / "connections").read_text().split())
    assert sorted(connected.values()) == [1, 3, 3]


def test_statements_that_an_engine_named_are_taken_away(app: Path, pgbouncer: PgBouncer) -> None:
    found = report(None, "--engine", "app.db:unique_pool_of_one", folder=app)
    [outcome, _] = outcomes(found).values()
    assert outcome["left"] > 0
    assert asyncio.run(pgbouncer.named_statements("session-guard doctor")) == [0, 0, 0]
    said = doctor(None, "--engine", "app.db:unique_pool_of_one", folder=app).stdout
    assert "not counted, and not taken away: statements with which SQLAlchemy begins" in said


def test_engine_is_examined_where_it_connects_to(
    app: Path, postgres: Postgres, pgbouncer: PgBouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_DATABASE", postgres.dsn)
    found = report(pgbouncer.dsn, "--engine", "app.db:naive", folder=app)  # DATABASE_URL
    assert (found["server"]["mode"], found["verdict"]) == ("none", "safe")
    run = doctor(None, "--engine", "app.db:naive", "--url", pgbouncer.dsn, folder=app)
    assert run.returncode == UNKNOWN
    assert f"connects to 127.0.0.1:{postgres.port}/postgres, and --url names" in run.stderr


def test_engine_that_has_all_in_its_arguments(app: Path, pgbouncer: PgBouncer) -> None:
    found = report(None, "--engine", "app.db:all_in_arguments", folder=app)
    assert found["target"] == f"127.0.0.1:{pgbouncer.port}/postgres"
    assert found["verdict"] == "safe"


def test_engine_that_connects_by_a_function_is_examined_where_url_says(
    app: Path, postgres: Postgres, pgbouncer: PgBouncer
) -> None:
    run = doctor(None, "--engine", "app.db:by_a_function", folder=app)
    assert run.returncode == UNKNOWN
    assert "your own async_creator opens its connections" in run.stderr
    found = report(None, "--engine", "app.db:by_a_function", "--url", pgbouncer.dsn, folder=app)
    assert found["target"] == f"127.0.0.1:{pgbouncer.port}/postgres"
    elsewhere = doctor(None, "--engine", "app.db:as_told", "--url", postgres.dsn, folder=app)
    assert elsewhere.returncode == UNKNOWN
    assert "its connections do not lead where --url does" in elsewhere.stderr


@pytest.mark.parametrize(
    ("engine", "opener"),
    [
        ("by_a_naive_function", "async_creator"),
        ("by_a_creator", "creator"),
        ("by_a_listener", "do_connect listener"),
        ("by_a_pool", "poolclass OwnPool"),
        # Their part in it leaves it to SQLAlchemy.
        ("changed_by_a_listener", ""),
        ("with_a_pool", ""),
    ],
)
def test_what_opens_connections_by_itself_is_told(
    app: Path, monkeypatch: pytest.MonkeyPatch, engine: str, opener: str
) -> None:
    monkeypatch.syspath_prepend(app)
    monkeypatch.chdir(app)
    try:
        opened = asyncio.run(opening(load(f"app.db:{engine}")))
    finally:
        for module in ("app", "app.db"):
            sys.modules.pop(module, None)
    assert opened.opened_by == opener
    assert opened.arguments.get("ssl", "not known") == ("not known" if opener else False)


UNREAD = ("names", "statement_cache_size", "prepared_statement_cache_size", "server_settings")


def test_nothing_is_invented_of_what_opens_connections_by_itself(
    app: Path, pgbouncer: PgBouncer
) -> None:
    where = ("--url", pgbouncer.dsn)
    found = report(None, "--engine", "app.db:by_a_listener", *where, folder=app)
    assert found["settings"]["opened_by"] == "do_connect listener"
    assert {found["settings"][name] for name in (*UNREAD, "tls", "timeout")} == {None}
    assert found["settings"]["isolation_level"] == "READ COMMITTED"
    assert found["verdict"] == "unsafe"  # whatever its connect_args say
    assert found["connect_args"] is None  # they would not be followed
    assert "ignored: your own do_connect listener opens the connections" in found["advice"]
    said = doctor(None, "--engine", "app.db:by_a_naive_function", *where, folder=app).stdout
    assert "  names: not known: your own async_creator opens the connections\n" in said
    assert "default, 100" not in said
    assert "    async_creator_fn=...,  # your async_creator" in said
    # Followed to the letter, the advice is right.
    found = report(None, "--engine", "app.db:as_told", *where, folder=app)
    assert found["verdict"] == "safe"


@pytest.mark.parametrize(
    ("engine", "error", "remedy", "kept"),
    [
        (
            "refused_parameter",
            "ProtocolViolationError",
            "`statement_timeout` is refused: a setting of the server belongs to the role or the "
            "database (`ALTER ROLE … SET`), or to the transaction (`SET LOCAL`).",
            '"server_settings": {"application_name": ...},  # as it is now, not tried',
        ),
        (
            "parameter_of_driver",
            "ProtocolViolationError",
            "`command_timeout` is no startup parameter: it belongs in the connect_args themselves.",
            '"command_timeout": 5,  # as it is now, not tried',
        ),
        (
            "parameter_no_string",
            "ClientConfigurationError",
            "The startup parameter `application_name` must be a string.",
            "",
        ),
        (
            "parameters_no_dictionary",
            "ClientConfigurationError",
            "Leave `server_settings` out of its connect_args, or correct it.",
            "",
        ),
        (
            "unknown_argument",
            "TypeError",
            "Leave `raw_sql` out of its connect_args, or correct it.",
            "",
        ),
        (
            "in_query",
            "TypeError",
            "Leave `sslmode` out of the query of its URL, and of its connect_args if it is there, "
            "or correct it.",
            "",
        ),
        (
            "text_in_query",
            "TypeError",
            "Leave `timeout` out of the query of its URL, and of its connect_args if it is there, "
            "or correct it.",
            "",
        ),
        (
            "no_time_for_commands",
            "ValueError",
            "Leave `command_timeout` out of its connect_args, or correct it.",
            "",
        ),
        (
            "no_time",
            "TimeoutError",
            "Give it a longer `timeout` than 0 s: connecting takes more.",
            "",
        ),
        (
            "failing_names",
            "ZeroDivisionError",
            "Its `prepared_statement_name_func` fails when it is called.",
            "",
        ),
        (
            "failing_listener",
            "LookupError",
            "See its connect_args, the query of its URL and its listeners.",
            "",
        ),
    ],
)
def test_engine_that_cannot_connect_by_its_own_fault(
    app: Path, engine: str, error: str, remedy: str, kept: str
) -> None:
    found = report(None, "--engine", f"app.db:{engine}", folder=app)
    assert found["verdict"] == "unsafe"
    assert found["conclusion"].startswith(
        f"Unsafe: the engine app.db:{engine} fails before its first query ({error}). "
    )
    assert found["conclusion"].endswith(remedy)
    # Nothing is advised with which it could not connect.
    lines = [line.strip() for line in found["connect_args"].splitlines()]
    assert lines[4:-1] == ['"ssl": False,  # as it is now', *([kept] if kept else [])]


def test_engine_whose_startup_parameters_are_dropped_is_unsafe(
    app: Path, start_pgbouncer: Callable[..., PgBouncer], monkeypatch: pytest.MonkeyPatch
) -> None:
    ignored = "search_path,statement_timeout,statement_cache_size,it's not there"
    pooler = start_pgbouncer(ignore_startup_parameters=ignored)
    monkeypatch.setenv("APP_DATABASE", pooler.dsn)
    found = report(None, "--engine", "app.db:dropped_parameters", folder=app)
    assert found["verdict"] == "unsafe"
    dropped = "The startup parameter `{}` is dropped: a setting of the server belongs to the role "
    assert found["conclusion"].startswith(
        "Unsafe: the engine app.db:dropped_parameters loses its settings. "
        + dropped.format("search_path")
    )
    assert dropped.format("statement_timeout") in found["conclusion"]
    assert found["conclusion"].count(" is dropped: ") == 2
    kept = '"server_settings": {"application_name": ..., "TimeZone": ..., "it\'s not there": ...},'
    assert kept in found["connect_args"]
    # The server has that value all the same.
    found = report(None, "--engine", "app.db:parameter_as_it_is", folder=app)
    assert found["verdict"] == "safe"


@pytest.mark.parametrize(
    ("engine", "said"),
    [("elsewhere", "the host name is not known"), ("cut_later", "there is no such database")],
)
def test_engine_whose_url_is_cut_in_its_password(
    app: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, engine: str, said: str
) -> None:
    monkeypatch.setenv("APP_DATABASE", postgres.dsn)
    run = doctor(None, "--engine", f"app.db:{engine}", folder=app)
    assert run.returncode == UNKNOWN
    assert said in run.stderr
    assert "Pa55" not in run.stderr


def test_engines_at_a_server_that_asks_for_tls(
    app: Path,
    start_pgbouncer: Callable[..., PgBouncer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with made_certificate() as (certificate, key):
        pooler = start_pgbouncer(
            client_tls_sslmode="require",
            client_tls_cert_file=str(certificate),
            client_tls_key_file=str(key),
        )
        monkeypatch.setenv("APP_DATABASE", pooler.dsn)
        monkeypatch.setenv("APP_AUTHORITY", str(certificate))
        found = report(None, "--engine", "app.db:tls_if_offered", folder=app)
        assert found["verdict"] == "safe"
        said = doctor(None, "--engine", "app.db:make", folder=app).stderr
        assert 'asks for TLS; give the engine an `SSLContext` as "ssl" in its connect_args' in said
        found = report(None, "--engine", "app.db:with_much_else", folder=app)
        assert found["settings"]["tls"] == "verified"
        # Whoever copies it must not lose what verifies the certificate.
        assert (
            found["connect_args"]
            == """\
connect_args={
    "prepared_statement_name_func": lambda: "",
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "ssl": ...,  # as it is now
    "timeout": 7,  # as it is now, not tried
    "server_settings": {"application_name": ...},  # as it is now, not tried
}"""
        )
