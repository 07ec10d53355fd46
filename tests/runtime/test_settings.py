"""Settings, their secrets, and what the module needs and does when it is imported."""

import asyncio
import logging
import subprocess
import sys
import venv
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import session_guard
from session_guard import async_session
from session_guard.async_session import (
    SessionSettings,
    build_connect_args,
    configure,
    dispose,
    get_background_session,
    get_background_task_session_factory,
)

from .servers import PASSWORD, USER, PgBouncer

SOURCE = Path(async_session.__file__)


def use(url: str, **settings: Any) -> Exception | None:
    """Use the handler once; gives the error."""

    async def work() -> None:
        try:
            async with get_background_session() as session:
                await session.execute(text("SELECT 1"))
        finally:
            await dispose()

    try:
        configure(SessionSettings(url=url, **settings))
        asyncio.run(work())
    except Exception as error:
        return error
    finally:
        configure(SessionSettings())
    return None


def test_caches_are_off_behind_every_pooler() -> None:
    for pooler in ("auto", "pgbouncer", "supavisor"):
        connect_args = build_connect_args(SessionSettings(pooler=pooler, connection_timeout=7))
        name = connect_args.pop("prepared_statement_name_func")
        tls = connect_args.pop("ssl")
        assert (name(), tls.check_hostname) == ("", True)
        supavisor = {"server_settings": {"statement_cache_size": "0"}}
        assert connect_args == {
            "timeout": 7,
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            **(supavisor if pooler == "supavisor" else {}),
        }


def test_direct_leaves_the_statement_settings_alone() -> None:
    connect_args = build_connect_args(SessionSettings(pooler="direct", tls="off"))
    assert connect_args == {"ssl": False, "timeout": 30.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooler": "pgpool"}, "pooler must be one of auto, supavisor, pgbouncer, direct"),
        ({"statement_names": "named"}, "statement_names must be one of anonymous, unique"),
        ({"tls": "require"}, "tls must be one of verify, off"),
        ({"pooler": "direct", "statement_names": "unique"}, "is for poolers"),
        ({"tls": "off", "tls_ca_file": "ca.pem"}, 'tls is "off"'),
        ({"prepared_statement_cache_size": -1}, "cannot be negative"),
        ({"prepared_statement_cache_size": 9, "pooler": "direct"}, "is for poolers"),
        ({"prepared_statement_cache_size": 9, "statement_names": "unique"}, "anonymous names"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SessionSettings(**settings)


def test_statement_cache_needs_a_driver_that_is_right_with_it() -> None:
    """What an older one does is shown in `test_load.py`."""
    installed = version("asyncpg")
    if tuple(map(int, installed.split(".")[:2])) >= (0, 32):
        connect_args = build_connect_args(SessionSettings(prepared_statement_cache_size=100))
        assert connect_args["prepared_statement_name_func"]() == ""
        assert connect_args["statement_cache_size"] == 0
        assert connect_args["prepared_statement_cache_size"] == 100
    else:
        with pytest.raises(ValueError, match=f"needs asyncpg 0.32 or newer: {installed}"):
            SessionSettings(prepared_statement_cache_size=100)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_database_url_of_the_environment_is_read_at_first_use(
    pgbouncer: PgBouncer, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    async def work() -> str:
        monkeypatch.setenv("DATABASE_URL", pgbouncer.dsn.replace("postgresql", scheme))
        try:
            async with get_background_session() as session:
                user: str = (await session.execute(text("SELECT current_user"))).scalar_one()
                return user
        finally:
            await dispose()
            configure(SessionSettings())

    configure(SessionSettings(tls="off"))
    assert asyncio.run(work()) == USER


def test_settings_come_before_the_first_use(pgbouncer: PgBouncer) -> None:
    configure(SessionSettings(url=pgbouncer.dsn, tls="off"))
    engine = async_session.engine
    assert get_background_task_session_factory().kw["bind"] is engine
    with pytest.raises(RuntimeError, match="built already"):
        configure(SessionSettings())
    asyncio.run(dispose())
    configure(SessionSettings())


def test_engine_and_pool_are_built_from_the_settings(pgbouncer: PgBouncer) -> None:
    configure(
        SessionSettings(
            url=pgbouncer.dsn,
            tls="off",
            pool_size=2,
            max_overflow=3,
            pool_recycle=4,
            connection_timeout=5,
        )
    )
    engine = async_session.engine
    pool: Any = engine.pool
    assert (pool.size(), pool._max_overflow, pool._recycle, pool._timeout) == (2, 3, 4, 5)
    assert engine.get_execution_options() == {"isolation_level": "READ COMMITTED"}
    assert engine.sync_engine.hide_parameters is True
    assert engine.echo is False
    asyncio.run(dispose())
    configure(SessionSettings())


def test_no_database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(RuntimeError, match="set DATABASE_URL or call configure"):
        get_background_task_session_factory()


def test_public_names() -> None:
    assert set(async_session.__all__) - {"engine"} <= set(vars(async_session))
    with pytest.raises(AttributeError, match="no attribute 'engines'"):
        async_session.engines  # noqa: B018


# --- the password stands in no repr, log or message


UNUSABLE_URLS = {
    "no port": f"postgresql://user:{PASSWORD}@localhost:{PASSWORD}/database",
    "at sign in the password": f"postgresql://user:secret@{PASSWORD}@localhost/database",
    "no URL": f"user={PASSWORD}",
    "another driver": f"postgresql+psycopg://user:{PASSWORD}@localhost/database",
    "no driver": f"{PASSWORD}://user@localhost/database",
    "query": f"postgresql://user:{PASSWORD}@localhost/database?password={PASSWORD}",
}


@pytest.mark.parametrize("url", UNUSABLE_URLS.values(), ids=UNUSABLE_URLS)
def test_url_that_is_no_use_is_not_repeated(url: str) -> None:
    error = use(url)
    assert type(error) is ValueError
    assert "database URL" in str(error)
    assert PASSWORD not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


def test_password_is_in_no_repr_log_or_message(
    pgbouncer: PgBouncer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    dsn = pgbouncer.dsn
    assert use(dsn, tls="off") is None
    wrong = "not-the-" + PASSWORD
    errors = [
        use(dsn.replace(PASSWORD, wrong), tls="off"),
        use(dsn.replace(str(pgbouncer.port), "1"), tls="off"),
        use(dsn.replace("/postgres", "/no-such-database"), tls="off"),
        use(dsn),
    ]
    assert None not in errors
    settings = SessionSettings(url=dsn)
    configure(settings)
    shown = [repr(settings), str(settings), repr(async_session.engine), str(async_session.engine)]
    asyncio.run(dispose())
    configure(SessionSettings())

    messages = [*map(str, errors), *map(repr, errors), *shown, caplog.text, *capfd.readouterr()]
    assert " rolled back after " in caplog.text
    assert [message for message in messages if PASSWORD in message] == []


# --- importing


def run_python(python: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )


def test_nothing_happens_at_import() -> None:
    code = (
        "import gc\n"
        "from session_guard.async_session import *\n"
        "from sqlalchemy.ext.asyncio import AsyncEngine\n"
        "print([o for o in gc.get_objects() if isinstance(o, AsyncEngine)])"
    )
    path = str(Path(session_guard.__file__).parents[1])
    result = run_python(Path(sys.executable), code, PYTHONPATH=path, DATABASE_URL="not a URL")
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_driver_that_a_test_has_put_a_module_in_the_place_of() -> None:
    """It has no `__spec__`, which `find_spec` refuses."""
    code = (
        "import sys, types\nsys.modules['asyncpg'] = types.ModuleType('asyncpg')\n"
        "import session_guard.async_session"
    )
    path = str(Path(session_guard.__file__).parents[1])
    assert run_python(Path(sys.executable), code, PYTHONPATH=path).returncode == 0


@pytest.mark.parametrize("missing", ["sqlalchemy", "asyncpg", "greenlet"])
def test_missing_package_names_the_extra(tmp_path: Path, missing: str) -> None:
    """In an environment that has the others, and this module as a copy on its own."""
    environment = tmp_path / "venv"
    venv.create(environment, symlinks=True)
    [site_packages] = environment.glob("lib/python*/site-packages")
    for package in {"sqlalchemy", "asyncpg", "greenlet"} - {missing}:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        (site_packages / package).symlink_to(Path(spec.origin).parent)
    extensions = find_spec("typing_extensions")
    assert extensions is not None
    assert extensions.origin is not None
    (site_packages / "typing_extensions.py").symlink_to(extensions.origin)
    (site_packages / "copied.py").write_text(SOURCE.read_text())

    result = run_python(environment / "bin/python", "import copied")
    assert result.returncode == 1
    last_line = result.stderr.splitlines()[-1]
    assert last_line.startswith("ImportError: copied needs SQLAlchemy")
    assert last_line.endswith('pip install "session-guard[runtime]"')
