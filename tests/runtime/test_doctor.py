"""`session-guard doctor` as a process, against real servers in many states."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .servers import PASSWORD, PgBouncer, Postgres, made_certificate, pgbouncer_version

SAFE, UNSAFE, UNKNOWN = 0, 1, 2


def doctor(
    dsn: str | None, *arguments: str, folder: Path | None = None, tls: str = "off"
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATABASE_URL": dsn or ""}
    run = subprocess.run(
        [sys.executable, "-m", "session_guard", "doctor", "--tls", tls, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert PASSWORD not in run.stdout + run.stderr
    return run


def report(dsn: str | None, *arguments: str, folder: Path | None = None) -> dict[str, Any]:
    run = doctor(dsn, "--json", *arguments, folder=folder)
    assert run.stdout, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    assert run.returncode == {"safe": SAFE, "unsafe": UNSAFE, "unknown": UNKNOWN}[found["verdict"]]
    return found


def outcomes(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {outcome["name"]: outcome for outcome in found["outcomes"]}


def is_right(found: dict[str, Any], name: str, mode: str) -> bool:
    counts = outcomes(found)[name]["modes"][mode]
    return bool(counts["right"] and not counts["wrong"] and not counts["failed"])


def test_postgresql_itself(postgres: Postgres) -> None:
    found = report(postgres.dsn)
    assert (found["server"]["kind"], found["server"]["mode"]) == ("PostgreSQL", "none")
    assert found["server"]["startup"] == {
        "application_name": "kept",
        "statement_timeout": "kept",
        "search_path": "kept",
        "statement_cache_size": "refused",
        "session_guard_probe": "refused",
    }
    assert found["verdict"] == "safe"
    tried = outcomes(found)
    assert [name for name, outcome in tried.items() if not outcome["is_right"]] == ["standard-2025"]
    assert tried["standard-2025"]["refusal"] == "UndefinedObjectError"


def test_pgbouncer_in_transaction_mode(pgbouncer: PgBouncer) -> None:
    found = report(pgbouncer.dsn)
    server = found["server"]
    assert (server["kind"], server["mode"]) == ("PgBouncer", "transaction")
    assert server["named_statements"] is False
    assert server["startup"]["statement_timeout"] == "refused"
    assert found["verdict"] == "safe"
    tried = outcomes(found)
    assert not is_right(found, "naive", "transactions")
    assert tried["naive"]["modes"]["transactions"]["errors"]["InvalidSQLStatementNameError"]
    assert is_right(found, "unique+0+0", "transactions")
    assert not is_right(found, "unique+0+0", "AUTOCOMMIT")
    assert tried["unique+0+0"]["left"] > 0
    assert (tried["anonymous+0+0"]["is_right"], tried["anonymous+0+0"]["left"]) == (True, 0)
    assert tried["standard-2025"]["refusal"] == "ProtocolViolationError"
    # It took away what it left: statements of its own and of every kind.
    assert asyncio.run(pgbouncer.named_statements()) == [0, 0, 0]


def test_pgbouncer_in_session_mode(start_pgbouncer: Callable[..., PgBouncer]) -> None:
    found = report(start_pgbouncer(pool_mode="session", default_pool_size="12").dsn)
    assert (found["server"]["kind"], found["server"]["mode"]) == ("PgBouncer", "session")
    assert found["verdict"] == "safe"
    assert is_right(found, "naive", "transactions")


def test_pgbouncer_in_statement_mode(start_pgbouncer: Callable[..., PgBouncer]) -> None:
    found = report(start_pgbouncer(pool_mode="statement").dsn)
    assert (found["server"]["kind"], found["server"]["mode"]) == ("PgBouncer", "statement")
    assert found["verdict"] == "unsafe"


def test_pgbouncer_that_ignores_startup_parameters(
    start_pgbouncer: Callable[..., PgBouncer],
) -> None:
    ignored = "statement_cache_size,statement_timeout"
    found = report(start_pgbouncer(ignore_startup_parameters=ignored).dsn)
    assert found["server"]["kind"] == "PgBouncer"
    assert found["server"]["startup"]["statement_timeout"] == "dropped"
    assert found["server"]["startup"]["statement_cache_size"] == "dropped"
    assert is_right(found, "standard-2025", "transactions")


def test_pgbouncer_that_resets_after_each_transaction(
    start_pgbouncer: Callable[..., PgBouncer],
) -> None:
    found = report(start_pgbouncer(server_reset_query_always="1").dsn)
    assert found["server"]["mode"] == "transaction"
    assert not is_right(found, "naive", "transactions")
    assert outcomes(found)["unique+0+0"]["left"] == 0
    assert found["verdict"] == "safe"


@pytest.mark.skipif(
    pgbouncer_version() < (1, 21), reason="PgBouncer translates named statements from 1.21 on"
)
def test_pgbouncer_that_translates_named_statements(
    start_pgbouncer: Callable[..., PgBouncer],
) -> None:
    found = report(start_pgbouncer(max_prepared_statements="200").dsn)
    assert found["server"]["named_statements"] is True
    assert is_right(found, "naive", "transactions")


def test_deep_asks_from_several_processes(pgbouncer: PgBouncer) -> None:
    found = report(pgbouncer.dsn, "--deep")
    counts = outcomes(found)["anonymous+0+0"]["modes"]["transactions"]
    assert counts["right"] == 4 * 8 * 20 * 3
    naive = outcomes(found)["naive"]["modes"]["transactions"]
    assert naive["wrong"]  # rows of other processes, which one alone never sees
    assert asyncio.run(pgbouncer.named_statements()) == [0, 0, 0]


def test_text_says_what_was_found(pgbouncer: PgBouncer) -> None:
    run = doctor(pgbouncer.dsn)
    assert run.returncode == SAFE
    first, *_, last = run.stdout.splitlines()
    assert first.startswith(f"127.0.0.1:{pgbouncer.port}/postgres: PgBouncer in transaction mode")
    assert last == "Safe: `anonymous+0+0` was right in every mode."
    assert "trying anonymous+0+0: cursors" in run.stderr


# --- the user's own engine

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


# --- servers that are down, hang, refuse, or ask for TLS


def said_of(dsn: str, *arguments: str, tls: str = "off") -> str:
    run = doctor(dsn, *arguments, tls=tls)
    assert (run.returncode, run.stdout) == (UNKNOWN, "")
    return run.stderr


@contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    """Listen on a port, and answer whoever connects with some bytes, or never (None)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connections.append(connection)
                if answer is not None:
                    connection.recv(1024)
                    connection.sendall(answer)
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for connection in connections:
                connection.close()


def test_server_that_is_down(postgres: Postgres) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        said = said_of(postgres.dsn.replace(str(postgres.port), str(port)))
    assert f"127.0.0.1:{port}/postgres: nothing listens there" in said


def test_server_that_hangs() -> None:
    with answering(None) as port:
        said = said_of(f"postgresql://u:{PASSWORD}@127.0.0.1:{port}/db")
    assert "no answer within 10 s" in said


def test_server_that_is_no_postgresql() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        said = said_of(f"postgresql://u:{PASSWORD}@127.0.0.1:{port}/db")
    assert "is that a PostgreSQL or a pooler?" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((PASSWORD, "wrong"), "the password is wrong"),
        (("/postgres", "/nothing"), "there is no such database"),
        (("127.0.0.1", "no-such-host.invalid"), "the host name is not known"),
        (("postgresql://", "mysql://"), "must begin with postgresql://"),
    ],
)
def test_url_that_is_wrong(postgres: Postgres, change: tuple[str, str], said: str) -> None:
    assert said in said_of(postgres.dsn.replace(*change))


def test_no_url_at_all() -> None:
    assert "give --url or --engine, or set DATABASE_URL" in said_of("")


def test_server_without_tls(postgres: Postgres) -> None:
    assert "--tls off connects without it" in said_of(postgres.dsn, tls="verify")


def test_server_with_tls(start_pgbouncer: Callable[..., PgBouncer]) -> None:
    with made_certificate() as (certificate, key):
        pooler = start_pgbouncer(
            client_tls_sslmode="require",
            client_tls_cert_file=str(certificate),
            client_tls_key_file=str(key),
        )
        assert "asks for TLS" in said_of(pooler.dsn)
        said = said_of(pooler.dsn, tls="verify")
        assert "its TLS certificate cannot be verified (self-signed certificate)" in said
        run = doctor(pooler.dsn, "--tls-ca-file", str(certificate), tls="verify")
        assert run.returncode == SAFE


def test_certificate_file_that_is_not_there(postgres: Postgres) -> None:
    said = said_of(postgres.dsn, "--tls-ca-file", "nowhere.pem", tls="verify")
    assert "--tls-ca-file nowhere.pem: " in said
