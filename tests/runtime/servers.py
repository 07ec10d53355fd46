"""Starts a real PostgreSQL, PgBouncers and Redis on free ports of 127.0.0.1, and stops them."""

import asyncio
import io
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import asyncpg
import pytest

USER = "guard"
PASSWORD = "s3cret-Pa55word"
SERVER_CONNECTIONS = 3

_START_SECONDS = 30
_SEARCHED = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL, spoken to without a pooler."""

    port: int
    restart: Callable[[], None]
    """Stop it, whoever is connected, and start it again on the same port."""

    @property
    def dsn(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.dsn, ssl=False)
        try:
            return await connection.fetch(query, *args)
        finally:
            await connection.close()


@dataclass(frozen=True)
class PgBouncer:
    """A running PgBouncer in transaction mode with SERVER_CONNECTIONS server connections."""

    port: int
    pid: int
    restart: Callable[[], None]
    """Kill it and start it again on the same port; `pid` remains that of the first."""
    messages: Callable[[], str]
    """What it logged so far."""

    @property
    def dsn(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    async def named_statements(self, containing: str = "") -> list[int]:
        """Count the prepared statements left on each server connection, or those with a text."""
        clients = [
            await asyncpg.connect(self.dsn, ssl=False, statement_cache_size=0)
            for _ in range(SERVER_CONNECTIONS)
        ]
        try:
            for client in clients:  # all transactions open at once: each holds another connection
                await client.execute("BEGIN")
            counts = dict([await self._count_statements(client, containing) for client in clients])
            for client in clients:
                await client.execute("ROLLBACK")
        finally:
            for client in clients:
                await client.close()
        assert len(counts) == SERVER_CONNECTIONS
        return list(counts.values())

    @staticmethod
    async def _count_statements(client: Any, containing: str) -> tuple[int, int]:
        # COPY goes by the simple protocol: the count must not prepare a statement itself.
        answer = io.BytesIO()
        await client.copy_from_query(
            "SELECT pg_backend_pid(), count(*) FROM pg_prepared_statements "
            f"WHERE strpos(statement, '{containing}') > 0",
            output=answer,
        )
        pid, count = answer.getvalue().split()
        return int(pid), int(count)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    initdb, postgres = _postgres_binary("initdb"), _postgres_binary("postgres")
    with _server_directory() as directory:
        data, password_file = directory / "data", directory / "password"
        _write(password_file, PASSWORD)
        initialised = subprocess.run(
            [
                *(initdb, "--pgdata", data, "--username", USER, "--pwfile", password_file),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            cwd=directory,
            capture_output=True,
            text=True,
            **_unprivileged(),
        )
        if initialised.returncode != 0:
            pytest.fail(f"initdb failed:\n{initialised.stderr}", pytrace=False)
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        command = [postgres, "-D", data]
        command += [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        with _running(directory, lambda port: [*command, "-p", str(port)], signal.SIGINT) as found:

            def restart() -> None:
                found.restart(signal.SIGINT)
                _wait_until_answering(server.dsn)

            server = Postgres(found.port, restart)
            _wait_until_answering(server.dsn)
            yield server


@contextmanager
def running_pgbouncer(server: Postgres, **options: str) -> Iterator[PgBouncer]:
    """Start a PgBouncer before this server; `options` are added to its `[pgbouncer]` section."""
    binary = _pgbouncer()
    with _server_directory() as directory:
        _write(directory / "users", f'"{USER}" "{PASSWORD}"\n')

        def configured(port: int) -> list[str | Path]:
            settings = {
                "listen_addr": "127.0.0.1",
                "listen_port": str(port),
                "unix_socket_dir": "",
                "auth_type": "scram-sha-256",
                "auth_file": str(directory / "users"),
                "pool_mode": "transaction",
                "default_pool_size": str(SERVER_CONNECTIONS),
                "max_client_conn": "200",
                **options,
            }
            # Fatal below 1.21; from 1.24 on the default hides what is tested.
            if pgbouncer_version(binary) >= (1, 21):
                settings.setdefault("max_prepared_statements", "0")
            lines = [f"{key} = {value}" for key, value in settings.items()]
            ini = [
                "[databases]",
                f"* = host=127.0.0.1 port={server.port}",
                "[pgbouncer]",
                *lines,
            ]
            _write(directory / "pgbouncer.ini", "\n".join(ini) + "\n")
            return [binary, directory / "pgbouncer.ini"]

        with _running(directory, configured, signal.SIGTERM) as found:
            yield PgBouncer(
                found.port, found.pid, lambda: found.restart(signal.SIGKILL), found.messages
            )


@contextmanager
def running_redis() -> Iterator[str]:
    """Start a Redis that keeps everything in memory, and give its URL."""
    binary = shutil.which("redis-server", path=_SEARCHED)
    if binary is None:
        _fail_not_installed("redis-server", package="redis")
    options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with (
        _server_directory() as directory,
        _running(
            directory, lambda port: [binary, "--port", str(port), *options], signal.SIGTERM
        ) as found,
    ):
        yield f"redis://127.0.0.1:{found.port}/0"


@contextmanager
def made_certificate() -> Iterator[tuple[Path, Path]]:
    """Make a certificate for 127.0.0.1, which is its own authority, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        _fail_not_installed("openssl")
    with _server_directory() as directory:
        certificate, key = directory / "server.crt", directory / "server.key"
        subprocess.run(
            [
                *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", "/CN=session-guard-test", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", key, "-out", certificate),
            ],
            check=True,
            capture_output=True,
        )
        _give_away(key)
        yield certificate, key


def _fail_not_installed(program: str, package: str | None = None) -> NoReturn:
    package = package or program
    fedora = "postgresql-server" if package == "postgresql" else package
    pytest.fail(
        f"{program} was not found: run scripts/provision, or install it: apt-get install {package} "
        f"(Debian, Ubuntu), dnf install {fedora} (Fedora), pacman -S {package} (Arch), "
        f"brew install {package} (macOS)",
        pytrace=False,
    )


def _pgbouncer() -> str:
    binary = shutil.which("pgbouncer", path=_SEARCHED)
    if binary is None:
        _fail_not_installed("pgbouncer")
    return binary


def _postgres_binary(name: str) -> str:
    """Find a program of the PostgreSQL server, which Debian keeps off the PATH."""
    folders: list[str] = []
    if pg_config := shutil.which("pg_config"):
        asked = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True)
        folders.append(asked.stdout.strip())
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    newest_first = sorted(versions, key=lambda folder: float(folder.parent.name), reverse=True)
    folders += [*map(str, newest_first), os.environ["PATH"]]
    for folder in folders:
        if found := shutil.which(name, path=folder):
            return found
    _fail_not_installed(name, package="postgresql")


def pgbouncer_version(binary: str | None = None) -> tuple[int, int]:
    """Return the version of PgBouncer: of the one that is found where none is given."""
    shown = subprocess.run(
        [binary or _pgbouncer(), "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", shown)
    assert found is not None, shown
    return int(found[1]), int(found[2])


def _account() -> pwd.struct_passwd | None:
    """The user to run servers as, which refuse to run as root; None is the present one."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _unprivileged() -> dict[str, Any]:
    account = _account()
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _give_away(path: Path) -> None:
    if account := _account():
        os.chown(path, account.pw_uid, account.pw_gid)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)
    _give_away(path)


@contextmanager
def _server_directory() -> Iterator[Path]:
    # pytest's own temporary folders are closed to other users than the one that runs it.
    with tempfile.TemporaryDirectory(prefix="session-guard-") as name:
        _give_away(Path(name))
        yield Path(name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class _Server:
    """A server in the foreground, with what it was started by."""

    def __init__(self, directory: Path, command_for: Callable[[int], list[str | Path]]) -> None:
        self.port = free_port()
        self._directory = directory
        self._command = command_for(self.port)
        self._start()

    def _start(self) -> None:
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                stdout=output,
                stderr=output,
                **_unprivileged(),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def _log(self) -> Path:
        return self._directory / "log"

    def messages(self) -> str:
        return self._log.read_text()

    def listens(self) -> bool:
        end = time.monotonic() + _START_SECONDS
        while self._process.poll() is None and time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
            time.sleep(0.02)
        return False

    def stop(self, stop_signal: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(stop_signal)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def restart(self, stop_signal: signal.Signals) -> None:
        self.stop(stop_signal)
        self._start()
        assert self.listens(), self.messages()


@contextmanager
def _running(
    directory: Path,
    command_for: Callable[[int], list[str | Path]],
    stop_signal: signal.Signals,
) -> Iterator[_Server]:
    """Run a server in the foreground until it is left."""
    for _ in range(5):
        server = _Server(directory, command_for)
        try:
            if server.listens():
                yield server
                return
        finally:
            server.stop(stop_signal)
        if "in use" not in server.messages():  # another program took the port: try again
            break
    pytest.fail(f"{command_for(0)} did not start:\n{server.messages()}", pytrace=False)


def _wait_until_answering(dsn: str) -> None:
    """PostgreSQL listens before it takes connections."""

    async def answering() -> None:
        async with asyncio.timeout(_START_SECONDS):
            while True:
                try:
                    await (await asyncpg.connect(dsn, ssl=False)).close()
                except asyncpg.CannotConnectNowError:
                    await asyncio.sleep(0.05)
                else:
                    return

    asyncio.run(answering())
