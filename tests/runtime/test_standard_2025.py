"""The session standard of 2025, word for word, and the handler's settings that stand for it."""

import asyncio
import importlib.util
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from session_guard.async_session import (
    SessionSettings,
    build_connect_args,
    configure,
    dispose,
    get_background_session,
)

from .servers import PgBouncer, Postgres, made_certificate

HANDLER_OF_2025 = Path(__file__).parents[1] / "fixtures/standard_2025/async_session.py"
# SQLAlchemy wraps what goes wrong on connecting from 2.1 on.
CONNECT_ERRORS = (asyncpg.PostgresError, DBAPIError)
REFUSED = "unsupported startup parameter: statement_cache_size"


@pytest.fixture(scope="module")
def certificate() -> Iterator[tuple[Path, Path]]:
    with made_certificate() as files:
        yield files


@pytest.fixture
def start_tls_pgbouncer(
    start_pgbouncer: Callable[..., PgBouncer], certificate: tuple[Path, Path]
) -> Callable[..., PgBouncer]:
    """Starts PgBouncers that speak TLS only, as hosted poolers do."""

    def start(**options: str) -> PgBouncer:
        crt, key = certificate
        return start_pgbouncer(
            client_tls_sslmode="require",
            client_tls_cert_file=str(crt),
            client_tls_key_file=str(key),
            **options,
        )

    return start


@pytest.fixture
def load_handler_of_2025(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], ModuleType]:
    """Imports the 2025 handler for a database, on a machine that trusts the test's certificate."""

    def load(dsn: str) -> ModuleType:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        monkeypatch.setenv("DATABASE_URL", dsn.replace("postgresql:", "postgresql+asyncpg:"))
        spec = importlib.util.spec_from_file_location("handler_of_2025", HANDLER_OF_2025)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


async def one_through(handler: ModuleType) -> int:
    try:
        async with handler.get_background_session() as session:
            answer: int = (await session.execute(text("SELECT 1"))).scalar_one()
            return answer
    finally:
        await handler.engine.dispose()


def test_pgbouncer_refuses_the_standard_of_2025(
    start_tls_pgbouncer: Callable[..., PgBouncer],
    load_handler_of_2025: Callable[[str], ModuleType],
) -> None:
    handler = load_handler_of_2025(start_tls_pgbouncer().dsn)
    with pytest.raises(CONNECT_ERRORS, match=REFUSED):
        asyncio.run(one_through(handler))


def test_pooler_that_ignores_its_parameter_accepts_the_standard_of_2025(
    start_tls_pgbouncer: Callable[..., PgBouncer],
    load_handler_of_2025: Callable[[str], ModuleType],
) -> None:
    pooler = start_tls_pgbouncer(ignore_startup_parameters="statement_cache_size")
    handler = load_handler_of_2025(pooler.dsn)
    assert asyncio.run(one_through(handler)) == 1


def test_supavisor_with_unique_names_is_the_standard_of_2025(
    load_handler_of_2025: Callable[[str], ModuleType],
) -> None:
    standard = load_handler_of_2025("postgresql://user:password@localhost/database").connect_args
    ours = build_connect_args(SessionSettings(pooler="supavisor", statement_names="unique"))

    def comparable(connect_args: dict[str, Any]) -> dict[str, Any]:
        tls, name = connect_args["ssl"], connect_args["prepared_statement_name_func"]
        names = {name() for _ in range(100)}
        assert len(names) == 100
        return connect_args | {
            "ssl": (type(tls), tls.verify_mode, tls.check_hostname),
            "prepared_statement_name_func": {re.sub("[0-9a-f]", "x", name) for name in names},
        }

    assert comparable(ours) == comparable(standard)
    assert list(ours) == list(standard)


# --- the handler's own settings, against servers


def one_through_handler(settings: SessionSettings) -> int:
    async def work() -> int:
        try:
            async with get_background_session() as session:
                answer: int = (await session.execute(text("SELECT 1"))).scalar_one()
                return answer
        finally:
            await dispose()
            configure(SessionSettings())

    configure(settings)
    return asyncio.run(work())


@pytest.mark.parametrize("pooler", ["auto", "pgbouncer", "direct"])
def test_pgbouncer_accepts_every_pooler_but_supavisor(pgbouncer: PgBouncer, pooler: Any) -> None:
    assert one_through_handler(SessionSettings(url=pgbouncer.dsn, tls="off", pooler=pooler)) == 1


@pytest.mark.parametrize("names", ["anonymous", "unique"])
def test_pgbouncer_refuses_the_settings_for_supavisor(pgbouncer: PgBouncer, names: Any) -> None:
    settings = SessionSettings(
        url=pgbouncer.dsn, tls="off", pooler="supavisor", statement_names=names
    )
    with pytest.raises(CONNECT_ERRORS, match=REFUSED):
        one_through_handler(settings)


def test_direct_keeps_the_statements_that_asyncpg_caches(postgres: Postgres) -> None:
    """asyncpg names no statement at all where its cache is off, and a cached one it names."""

    async def named() -> int:
        try:
            async with get_background_session() as session:
                await session.execute(text("SELECT 1"))
                counted = await session.execute(
                    text("SELECT count(*) FROM pg_prepared_statements WHERE NOT name = ''")
                )
                count: int = counted.scalar_one()
                return count
        finally:
            await dispose()
            configure(SessionSettings())

    configure(SessionSettings(url=postgres.dsn, tls="off", pooler="direct"))
    assert asyncio.run(named()) >= 2
    configure(SessionSettings(url=postgres.dsn, tls="off"))
    assert asyncio.run(named()) == 0


def test_certificate_is_verified_unless_told_otherwise(
    start_tls_pgbouncer: Callable[..., PgBouncer], certificate: tuple[Path, Path]
) -> None:
    dsn = start_tls_pgbouncer().dsn
    with pytest.raises(ssl.SSLCertVerificationError):
        one_through_handler(SessionSettings(url=dsn))
    assert one_through_handler(SessionSettings(url=dsn, tls_ca_file=str(certificate[0]))) == 1
    other_name = dsn.replace("127.0.0.1", "localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match="localhost"):
        one_through_handler(SessionSettings(url=other_name, tls_ca_file=str(certificate[0])))


def test_no_plain_text_unless_told_so(pgbouncer: PgBouncer) -> None:
    with pytest.raises(ConnectionError, match="rejected SSL upgrade"):
        one_through_handler(SessionSettings(url=pgbouncer.dsn))
