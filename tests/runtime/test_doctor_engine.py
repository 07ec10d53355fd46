"""`session-guard doctor --engine`: engines of a project, tried at real servers."""

from pathlib import Path

import pytest

from .doctoring import UNKNOWN, doctor, report
from .servers import PgBouncer

ENGINE = """
import os
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

url = make_url(os.environ["APP_DATABASE"]).set(drivername="postgresql+asyncpg")
naive = create_async_engine(url, connect_args={"ssl": False})

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

not_an_engine = 7
broken = property()
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pgbouncer: PgBouncer) -> Path:
    """A project with engines of its own."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app/db.py").write_text(ENGINE)
    (tmp_path / "app/broken.py").write_text("raise LookupError('s3cret-Pa55word')\n")
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
    ("reference", "said"),
    [
        ("app.db", "write it as package.module:name"),
        ("app.nowhere:engine", "app.nowhere cannot be imported (ModuleNotFoundError)"),
        ("app.broken:engine", "app.broken cannot be imported (LookupError)"),
        ("app.db:nothing", "app.db has no nothing"),
        ("app.db:not_an_engine", "that is no AsyncEngine: int"),
        ("app.db:broken", "that is no AsyncEngine: property"),
    ],
)
def test_engine_that_cannot_be_had(app: Path, reference: str, said: str) -> None:
    run = doctor(None, "--engine", reference, folder=app)
    assert run.returncode == UNKNOWN
    assert said in run.stderr
