"""Where to connect, and what an attempt that fails means."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import asyncpg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Tls = Literal["verify", "off"]

CONNECT_SECONDS = 10.0
"""How long one attempt to connect may take, and how long a query may wait for its answer."""

_HOST = re.compile(r"[\w.:%-]+|/[\w./-]+")


class TargetError(Exception):
    """The probe cannot be run there; the message says what failed and what to do."""


@dataclass(frozen=True)
class TlsAdvice:
    """What to do about TLS, which depends on who asked for it."""

    missing: str
    """Where the server asks for it."""
    unknown: str
    """Where the server does not speak it."""
    authority: str
    """Where the certificate cannot be verified."""


OF_OPTIONS = TlsAdvice(
    "leave --tls off away",
    "--tls off connects without it",
    "give the certificate of its authority with --tls-ca-file",
)
OF_ENGINE = TlsAdvice(
    'give the engine an `SSLContext` as "ssl" in its connect_args',
    'the engine asks for it with "ssl"',
    'give the certificate of its authority to the `SSLContext` that the engine has as "ssl"',
)


@dataclass(frozen=True)
class Target:
    """A server to be probed. Its `repr` and its name leave user and password out."""

    name: str
    """Host, port and database, as far as no part of a password can be among them."""
    arguments: Mapping[str, Any] = field(repr=False)
    """What `asyncpg.connect` takes to get there: place, user and TLS."""
    advice: TlsAdvice = field(repr=False)
    recipe: Callable[[], Target] = field(repr=False)
    """Makes it again in another process."""

    def __post_init__(self) -> None:
        port = self.arguments.get("port")
        if isinstance(port, int) and not 0 < port < 65536:  # some resolvers cut it to 16 bits
            raise TargetError(f"{self}: there is no such port; ports are 1 to 65535")

    @classmethod
    def parse(cls, written: str, tls: Tls, ca_file: str | None = None) -> Target:
        """Read a URL.

        Raises TargetError, whose message repeats no part of the URL but its name.
        """
        try:
            url = make_url(written)
        except (ArgumentError, ValueError):
            raise TargetError(f"the database URL cannot be parsed; {_ENCODE}") from None
        if url.drivername.partition("+")[0] not in ("postgresql", "postgres") or not url.host:
            raise TargetError(
                "the database URL must begin with postgresql:// or postgresql+asyncpg:// and name "
                "a host"
            )
        port = url.port or 5432
        name = name_of(url.host, port, url.database)
        if name is None or written.count("@") > 1:
            raise TargetError(
                f"the database URL can be read in more than one way; {_ENCODE}, `@` as %40"
            )
        try:
            context = tls != "off" and ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise TargetError(f"--tls-ca-file {ca_file}: {error}") from error
        arguments = {
            "host": url.host,
            "port": port,
            "user": url.username,
            "password": url.password,
            "database": url.database,
            "ssl": context,
        }
        return cls(name, arguments, OF_OPTIONS, partial(cls.parse, written, tls, ca_file))

    def __str__(self) -> str:
        return self.name

    async def connect(
        self, server_settings: Mapping[str, str] | None = None
    ) -> asyncpg.Connection[Any]:
        """Open a connection of the driver's own, without any statement cache.

        Raises what asyncpg does; `explain` says what that means.
        """
        connection: asyncpg.Connection[Any] = await asyncpg.connect(
            **self.arguments,
            timeout=CONNECT_SECONDS,
            command_timeout=CONNECT_SECONDS,
            statement_cache_size=0,
            server_settings=dict(server_settings or {}),
        )
        return connection

    def explain(self, error: BaseException) -> str:
        """Say why a connection could not be opened, and what to do."""
        if isinstance(error, socket.gaierror):
            # What stands in the host's place may be the end of a password: it is not repeated.
            return f"the host name is not known; check the URL's host, and {_ENCODE}"
        return f"{self}: {self._reason(error)}"

    def explain_loss(self, error: BaseException) -> str:
        """Say why a connection that was open gave no answer, and what to do."""
        if isinstance(error, TimeoutError) or "query_wait_timeout" in str(error):
            return (
                f"{self}: connected, but no answer within {CONNECT_SECONDS:.0f} s; all of the "
                "pooler's server connections are taken, or the server hangs: try again under less "
                "load, or give the pool more (default_pool_size)"
            )
        return (
            f"{self}: the connection broke while it was asked ({type(error).__name__}); try again"
        )

    def _reason(self, error: BaseException) -> str:
        text = str(error).strip()
        match error:
            case ConnectionRefusedError():
                return (
                    "nothing listens there; check that the server is up, the host, and the port "
                    "(by default 5432 is PostgreSQL or Supavisor's session mode, 6543 Supavisor's "
                    "transaction mode, 6432 PgBouncer)"
                )
            case ssl.SSLCertVerificationError():
                return (
                    f"its TLS certificate cannot be verified ({error.verify_message}); "
                    f"{self.advice.authority} (Supabase: Project Settings, Database, SSL "
                    "configuration)"
                )
            case ssl.SSLError():
                return f"TLS failed ({error.reason}); is TLS spoken at that port?"
            case TimeoutError() | asyncio.TimeoutError():
                return (
                    f"no answer within {CONNECT_SECONDS:.0f} s; check host, port and firewall, and "
                    "of a pooler whether it reaches PostgreSQL and has room"
                )
            case asyncpg.InvalidPasswordError():
                return "the password is wrong, or the user is not known there"
            case asyncpg.InvalidCatalogNameError():
                return "there is no such database"
            case asyncpg.TooManyConnectionsError():
                return "it takes no more connections; try again when there is less load"
        # PgBouncer gives one SQLSTATE for everything, its server's answers too.
        if "query_wait_timeout" in text:
            return "the pooler does not reach PostgreSQL, or has no room; its log says which"
        if re.search("no such database|database .* does not exist", text):
            return "there is no such database"
        if re.search("authentication failed|no such user", text):
            return (
                "the password is wrong, or the user is not known there, or the pooler's own login "
                "at PostgreSQL is refused; its log says which"
            )
        if "rejected SSL upgrade" in text or "does not support SSL" in text:
            return f"the server does not speak TLS; {self.advice.unknown}"
        if "SSL required" in text:
            return f"the server asks for TLS; {self.advice.missing}"
        if "no encryption" in text or "SSL off" in text:
            return (
                "the server refuses this user, database or address without TLS, and maybe with "
                f"it; {self.advice.missing}"
            )
        if "Tenant or user not found" in text:
            return (
                "Supavisor knows no such tenant; its user name is `postgres.` and the project's "
                "reference, and host and port must be those of the same project"
            )
        if "MaxClientsInSessionMode" in text:
            return (
                "Supavisor's session mode has no place left: there each client keeps one; its "
                "transaction mode is at port 6543"
            )
        if "no more connections allowed" in text or "max client" in text.lower():
            return "the pooler takes no more clients (max_client_conn); try again under less load"
        if "startup parameter" in text:
            return f"it refuses a startup parameter ({type(error).__name__}); see server_settings"
        if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
            return "the server refuses this user, database or address"
        if isinstance(error, asyncpg.PostgresError) and not isinstance(
            error, asyncpg.PostgresConnectionError
        ):
            return (
                f"it refused the connection with SQLSTATE {error.sqlstate} ({type(error).__name__})"
            )
        if isinstance(error, (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)):
            return (
                f"the connection broke while it was opened ({type(error).__name__}); is that a "
                "PostgreSQL or a pooler?"
            )
        return f"{type(error).__name__}"


_ENCODE = "percent-encode special characters in its password"


def name_of(host: object, port: object, database: object) -> str | None:
    """Return what a server is called, or None where a part of a password may be among it.

    A URL whose password holds an `@` is cut there, and what follows taken for host and database.
    """
    if not isinstance(host, str) or not _HOST.fullmatch(host) or "@" in f"{database}":
        return None
    return f"{host}:{port}/{database or ''}"
