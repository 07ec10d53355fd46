"""Where to connect, and what an attempt that fails means."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import asyncpg
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

Tls = Literal["verify", "off"]
Recipe = tuple[str, Tls, str | None]
"""What a target is made of: URL, TLS, and the file of the authority's certificate."""

CONNECT_SECONDS = 10.0
"""How long one attempt to connect may take."""


class TargetError(Exception):
    """The probe cannot be run there; the message says what failed and what to do."""


@dataclass(frozen=True)
class Target:
    """A server to be probed. Its `repr` and its name leave user and password out."""

    url: URL = field(repr=False)
    tls: ssl.SSLContext | bool
    recipe: Recipe = field(repr=False)

    @classmethod
    def parse(cls, written: str, tls: Tls, ca_file: str | None = None) -> Target:
        """Read a URL.

        Raises TargetError, whose message repeats no part of the URL.
        """
        try:
            url = make_url(written)
        except (ArgumentError, ValueError):
            raise TargetError(
                "the database URL cannot be parsed; percent-encode special characters in its "
                "password"
            ) from None
        if url.drivername.partition("+")[0] not in ("postgresql", "postgres") or not url.host:
            raise TargetError(
                "the database URL must begin with postgresql:// or postgresql+asyncpg:// and name "
                "a host"
            )
        url = url.set(drivername="postgresql+asyncpg", query={}, port=url.port or 5432)
        recipe: Recipe = (written, tls, ca_file)
        if tls == "off":
            return cls(url, tls=False, recipe=recipe)
        try:
            return cls(url, ssl.create_default_context(cafile=ca_file), recipe)
        except (OSError, ssl.SSLError) as error:
            raise TargetError(f"--tls-ca-file {ca_file}: {error}") from error

    def __str__(self) -> str:
        return f"{self.url.host}:{self.url.port}/{self.url.database or ''}"

    async def connect(
        self, server_settings: Mapping[str, str] | None = None, **arguments: Any
    ) -> asyncpg.Connection[Any]:
        """Open a connection of the driver's own, without any statement cache.

        Raises what asyncpg does; `explain` says what that means.
        """
        connection: asyncpg.Connection[Any] = await asyncpg.connect(
            host=self.url.host,
            port=self.url.port,
            user=self.url.username,
            password=self.url.password,
            database=self.url.database,
            ssl=self.tls,
            timeout=CONNECT_SECONDS,
            statement_cache_size=0,
            server_settings=dict(server_settings or {}),
            **arguments,
        )
        return connection

    def explain(self, error: BaseException) -> str:
        """Say why a connection failed, and what to do."""
        return f"{self}: {_reason(error, is_encrypted=self.tls is not False)}"


def _reason(error: BaseException, *, is_encrypted: bool) -> str:
    text = str(error).strip()
    match error:
        case socket.gaierror():
            return "the host name is not known; check the URL's host"
        case ConnectionRefusedError():
            return "nothing listens there; check host and port, and that the server is up"
        case ssl.SSLCertVerificationError():
            return (
                f"its TLS certificate cannot be verified ({error.verify_message}); give the "
                "certificate of its authority with --tls-ca-file (Supabase: Project Settings, "
                "Database, SSL configuration)"
            )
        case ssl.SSLError():
            return f"TLS failed ({error.reason}); --tls off is for servers without it"
        case TimeoutError() | asyncio.TimeoutError():
            return (
                f"no answer within {CONNECT_SECONDS:.0f} s; check host, port and firewall, and "
                "whether its pool is exhausted"
            )
        case asyncpg.InvalidPasswordError():
            return "the password is wrong, or the user is not known there"
        case asyncpg.InvalidCatalogNameError():
            return "there is no such database"
        case asyncpg.TooManyConnectionsError():
            return "it takes no more connections; try again when there is less load"
    if "rejected SSL upgrade" in text or "does not support SSL" in text:
        return "the server does not speak TLS; --tls off connects without it"
    if "no encryption" in text or "SSL required" in text or "SSL off" in text:
        return "the server asks for TLS; leave --tls off away"
    if "Tenant or user not found" in text:
        return (
            "Supavisor knows no such tenant; its user name is `postgres.` and the project's "
            "reference, and host and port must be those of the same project"
        )
    if "no more connections allowed" in text or "max client" in text.lower():
        return "the pooler takes no more clients (max_client_conn); try again under less load"
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return "the server refuses this user from here" + _tls_hint(is_encrypted=is_encrypted)
    if isinstance(error, asyncpg.PostgresError) and not isinstance(
        error, asyncpg.PostgresConnectionError
    ):
        return f"it refused the connection with SQLSTATE {error.sqlstate} ({type(error).__name__})"
    if isinstance(error, (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)):
        return (
            f"the connection broke while it was opened ({type(error).__name__}); is that a "
            "PostgreSQL or a pooler?" + _tls_hint(is_encrypted=is_encrypted)
        )
    return f"{type(error).__name__}"


def _tls_hint(*, is_encrypted: bool) -> str:
    return "" if is_encrypted else "; it may ask for TLS: leave --tls off away"
