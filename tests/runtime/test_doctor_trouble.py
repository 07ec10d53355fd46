"""`session-guard doctor` where servers are down, hang, refuse, ask for TLS or have no room."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from .doctoring import SAFE, doctor, said_of
from .servers import PASSWORD, PgBouncer, Postgres, made_certificate


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
