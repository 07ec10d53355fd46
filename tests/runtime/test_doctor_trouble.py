"""`session-guard doctor` where servers are down, hang, refuse, ask for TLS or have no room."""

import asyncio
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path

import asyncpg
import pytest

from session_guard.doctor import processes, trial
from session_guard.doctor.diagnosis import diagnose_engine
from session_guard.doctor.engine import probed
from session_guard.doctor.target import Target, TargetError

from .doctoring import SAFE, UNKNOWN, doctor, report, said_of
from .proxy import running_proxy
from .servers import (
    PASSWORD,
    SERVER_CONNECTIONS,
    PgBouncer,
    Postgres,
    free_port,
    made_certificate,
    running_pgbouncer,
)


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
        (("/postgres", "9/postgres"), "there is no such port; ports are 1 to 65535"),
    ],
)
def test_url_that_is_wrong(postgres: Postgres, change: tuple[str, str], said: str) -> None:
    assert said in said_of(postgres.dsn.replace(*change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((PASSWORD, "wrong"), "the password is wrong, or the user is not known there"),
        (("guard:", "nobody:"), "the password is wrong, or the user is not known there"),
        (("/postgres", "/nothing"), "there is no such database"),
    ],
)
def test_url_that_is_wrong_for_a_pooler(
    pgbouncer: PgBouncer, change: tuple[str, str], said: str
) -> None:
    assert said in said_of(pgbouncer.dsn.replace(*change))


def test_pooler_before_a_server_that_is_down() -> None:
    down = Postgres(free_port(), restart=lambda: None)
    with running_pgbouncer(down, query_wait_timeout="2", server_login_retry="1") as pooler:
        assert "the pooler does not reach PostgreSQL, or has no room" in said_of(pooler.dsn)


def test_engine_whose_import_hangs_in_a_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trial, "SPARE_SECONDS", 2.0)
    attempt = trial.attempt_in_processes(
        partial(probed, "hangs:engine", 1), "hangs:engine", trial.Load(processes=2, seconds=0.1)
    )
    with pytest.raises(TargetError, match=r"hangs:engine: a process .* was killed"):
        asyncio.run(attempt)
    assert not multiprocessing.active_children()


def test_engine_whose_import_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trial, "SPARE_SECONDS", 2.0)
    with pytest.raises(TargetError, match=r"hangs:engine: importing it .* was ended"):
        diagnose_engine(None, "hangs:engine", "off", None, deep=False, progress=print)
    assert not multiprocessing.active_children()


def test_process_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stays.py").write_text(
        "import threading, time\n"
        "def begin():\n    threading.Thread(target=time.sleep, args=(600,)).start()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(processes, "END_SECONDS", 0.5)
    with processes.running(1, print) as pool:
        pool.submit(import_module("stays").begin).result()
        [process] = multiprocessing.active_children()
    assert process.exitcode == -signal.SIGKILL


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


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://guard:s3cret@Pa55word@127.0.0.1:1/postgres",
        "postgresql://guard:s3cret/x@Pa55word/y@127.0.0.1:1/postgres",
        "postgresql://guard:s3cret@Pa55word/y?z@127.0.0.1:1/postgres",
        "postgresql://guard:s3cret@127.0.0.1:1/Pa55word?x@127.0.0.1:1/postgres",
        "postgresql://guard/Pa55word@127.0.0.1:1/postgres",
        "postgresql://guard:s3cret@Pa55word:1/postgres",
    ],
)
@pytest.mark.parametrize("output", [(), ("--json",)])
def test_no_part_of_a_password_is_shown(url: str, output: tuple[str, ...]) -> None:
    said = said_of(url, *output)
    assert "percent-encode special characters in its password" in said
    assert "Pa55" not in said


def test_server_whose_connections_are_all_taken(pgbouncer: PgBouncer) -> None:
    async def while_taken() -> str:
        others = [
            await asyncpg.connect(pgbouncer.dsn, ssl=False, statement_cache_size=0)
            for _ in range(SERVER_CONNECTIONS)
        ]
        try:
            for other in others:
                await other.execute("BEGIN")
            return await asyncio.to_thread(said_of, pgbouncer.dsn)
        finally:
            for other in others:
                await other.close()

    assert "connected, but no answer within 10 s" in asyncio.run(while_taken())


def test_statements_of_an_earlier_setting_are_not_counted_for_another(pgbouncer: PgBouncer) -> None:
    async def attempt() -> int | None:
        # As naive leaves it on a connection that another program holds until then.
        client = await asyncpg.connect(pgbouncer.dsn, ssl=False, statement_cache_size=0)
        await client.execute('PREPARE "__session_guard_naive_1" AS SELECT 1')
        await client.close()
        target = Target.parse(pgbouncer.dsn, "off")
        load = trial.Load(clients=SERVER_CONNECTIONS, turns=1)
        return (await trial.attempt(target, "anonymous+0+0", load, lambda _: None)).left

    assert asyncio.run(attempt()) == 0
    assert asyncio.run(pgbouncer.named_statements()) == [0, 0, 0]


def test_pooler_without_room_proves_nothing(start_pgbouncer: Callable[..., PgBouncer]) -> None:
    found = report(start_pgbouncer(max_client_conn="4").dsn)
    assert found["verdict"] == "unknown"
    assert "lost connections (ProtocolViolationError)" in found["conclusion"]


def test_connections_that_are_cut_prove_nothing(pgbouncer: PgBouncer) -> None:
    with running_proxy(pgbouncer.port) as proxy:
        dsn = pgbouncer.dsn.replace(str(pgbouncer.port), str(proxy.port))
        command = [sys.executable, "-m", "session_guard", "doctor", "--tls", "off"]
        with subprocess.Popen(
            command,
            env={**os.environ, "DATABASE_URL": dsn},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            for step in process.stderr:
                if "trying anonymous+0+0: AUTOCOMMIT" in step:
                    proxy.cut()
            said = process.stdout.read()
    assert process.returncode == UNKNOWN
    assert "for which no setting is to blame" in said
