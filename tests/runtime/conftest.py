"""Fixtures: one PostgreSQL for the whole run, fresh PgBouncers and a fresh Redis for each test."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from .servers import PgBouncer, Postgres, running_pgbouncer, running_postgres, running_redis


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL; `.dsn` reaches it without a pooler."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def start_pgbouncer(postgres: Postgres) -> Iterator[Callable[..., PgBouncer]]:
    """Starts PgBouncers with further options of their `[pgbouncer]` section; stopped at the end.

    Each is new, since statements left on server connections by one test would fail the next.
    """
    with ExitStack() as stack:

        def start(**options: str) -> PgBouncer:
            return stack.enter_context(running_pgbouncer(postgres, **options))

        yield start


@pytest.fixture
def pgbouncer(start_pgbouncer: Callable[..., PgBouncer]) -> PgBouncer:
    """A running PgBouncer in transaction mode with three server connections; `.dsn` reaches it."""
    return start_pgbouncer()


@pytest.fixture
def redis_url() -> Iterator[str]:
    """The URL of a running Redis with nothing in it."""
    with running_redis() as url:
        yield url


@pytest.fixture
def items(postgres: Postgres) -> None:
    """An empty table `items (id integer primary key, name text)`."""
    asyncio.run(postgres.fetch("DROP TABLE IF EXISTS items"))
    asyncio.run(postgres.fetch("CREATE TABLE items (id integer PRIMARY KEY, name text)"))
