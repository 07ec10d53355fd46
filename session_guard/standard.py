"""The session standard as data: what an asyncpg engine needs, and what its settings are worth.

Everything here was measured (docs/poolers.md); rules ask here and keep no copy of it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from session_guard.names.values import Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from session_guard.names.values import Value
    from session_guard.versions import Version, Versions

NAME_FUNC = "prepared_statement_name_func"
DRIVER_CACHE = "statement_cache_size"
DIALECT_CACHE = "prepared_statement_cache_size"
SERVER_SETTINGS = "server_settings"

POOLER_SETTINGS = (NAME_FUNC, DRIVER_CACHE, DIALECT_CACHE)
"""The keys of `connect_args` that decide whether an engine is safe behind a transaction pooler."""

ANONYMOUS_NAMES = 'lambda: ""'
"""The name function of the standard, as it is written into code."""

NAME_FUNC_SINCE = (2, 0, 10)
"""The first SQLAlchemy that knows `prepared_statement_name_func`."""

CURSORS_RIGHT_SINCE = (0, 32)
"""The first asyncpg on which one cache left on is right, cursors included."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A keyword argument of a connect call."""

    types: tuple[type, ...] | None = None
    """The types that a literal may have; None where any may be right."""
    since: tuple[int, ...] = ()
    """The first version that knows it; empty where all do."""


_NUMBER = (int, float)
ASYNCPG_ARGUMENTS = {
    "dsn": Argument((str,)),
    "host": Argument(),
    "port": Argument(),
    "user": Argument((str,)),
    "password": Argument(),
    "passfile": Argument((str,)),
    "service": Argument((str,), (0, 31)),
    "servicefile": Argument((str,), (0, 31)),
    "database": Argument((str,)),
    "loop": Argument(),
    "timeout": Argument((*_NUMBER, type(None))),
    "statement_cache_size": Argument((int,)),
    "max_cached_statement_lifetime": Argument((int,)),
    "max_cacheable_statement_size": Argument((int,)),
    "command_timeout": Argument((*_NUMBER, type(None))),
    "ssl": Argument((str, bool, type(None))),
    "direct_tls": Argument((bool, type(None))),
    "connection_class": Argument(()),
    "record_class": Argument(()),
    "server_settings": Argument((dict, type(None))),
    "target_session_attrs": Argument((str, type(None)), (0, 28)),
    "krbsrvname": Argument((str, type(None)), (0, 30)),
    "gsslib": Argument((str, type(None)), (0, 30)),
}
"""What `asyncpg.connect` takes, read from its signature in 0.27 to 0.32."""

DIALECT_ARGUMENTS = {
    "prepared_statement_cache_size": Argument((int,)),
    "prepared_statement_name_func": Argument((type(None),), NAME_FUNC_SINCE),
    "async_creator_fn": Argument(()),
    "async_fallback": Argument(),
}
"""What SQLAlchemy's asyncpg dialect takes out of `connect_args` for itself."""

CONNECT_ARGUMENTS = {**ASYNCPG_ARGUMENTS, **DIALECT_ARGUMENTS}

ONLY_ASYNCPG = frozenset(
    {
        "statement_cache_size",
        "prepared_statement_cache_size",
        "prepared_statement_name_func",
        "max_cached_statement_lifetime",
        "max_cacheable_statement_size",
        "server_settings",
    }
)
"""Names that mean asyncpg wherever they stand: no other driver of SQLAlchemy's has them."""

NEVER_ARGUMENTS = frozenset({"raw_sql", "no_prepare"})
"""Names that circulate as settings for poolers and that no version of anything knows."""

OTHER_NAMES = {
    "sslmode": "ssl",
    "connect_timeout": "timeout",
    "connection_timeout": "timeout",
    "dbname": "database",
    "username": "user",
}
"""What other drivers call an argument of asyncpg's."""

STARTUP_PARAMETERS = frozenset(
    {
        "application_name",
        "client_encoding",
        "datestyle",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "idle_in_transaction_session_timeout",
        "intervalstyle",
        "jit",
        "lock_timeout",
        "options",
        "search_path",
        "statement_timeout",
        "timezone",
        "work_mem",
    }
)
"""Settings of the server that belong in `server_settings`, never beside it."""

NOT_OF_THE_SERVER = frozenset(
    {DRIVER_CACHE, DIALECT_CACHE, NAME_FUNC, "max_cached_statement_lifetime"}
    | {"max_cacheable_statement_size", "command_timeout"}
)
"""Settings of the driver, which PostgreSQL refuses as startup parameters."""

PGBOUNCER_TRACKS = frozenset(
    {
        "application_name",
        "client_encoding",
        "datestyle",
        "intervalstyle",
        "standard_conforming_strings",
        "timezone",
    }
)
"""Startup parameters that PgBouncer keeps for each client; it refuses all others by default."""

SUPAVISOR_KEEPS = frozenset({"search_path"})
"""The one startup parameter that has an effect through Supavisor."""


class Names(enum.Enum):
    """What a name function calls statements."""

    DEFAULT = "asyncpg's own"
    """None is given: names are unique inside one process alone."""
    ANONYMOUS = "anonymous"
    UNIQUE = "unique"
    CONSTANT = "constant"
    COUNTED = "counted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Worth:
    """What a way of setting an engine up for a transaction pooler is worth."""

    is_right: bool
    verdict: str
    """What goes wrong, as the end of a sentence that begins with the settings."""


def worth(names: Names, *, driver_off: bool, dialect_off: bool, versions: Versions) -> Worth:
    """Return what settings are worth on the versions that a project runs.

    `driver_off` and `dialect_off` say whether asyncpg's and SQLAlchemy's statement cache is off.
    """
    asyncpg = versions.asyncpg
    both_off = driver_off and dialect_off
    if names in (Names.ANONYMOUS, Names.UNIQUE, Names.UNKNOWN) and both_off:
        return Worth(True, "is right on every version")
    if names in (Names.CONSTANT, Names.COUNTED):
        return Worth(False, "gives statements of two connections one name")
    if driver_off and names in (Names.DEFAULT, Names.ANONYMOUS):
        if asyncpg is not None and asyncpg.is_surely_at_least(*CURSORS_RIGHT_SINCE):
            return Worth(True, f"is right from asyncpg 0.32 on ({asyncpg})")
        return Worth(False, _one_cache_left(names, asyncpg, dialect_off=dialect_off))
    if names is Names.ANONYMOUS:
        return Worth(False, "fails with `unnamed prepared statement does not exist`")
    return Worth(
        False,
        "fails with `prepared statement … does not exist` or returns rows of other queries",
    )


def _one_cache_left(names: Names, asyncpg: Version | None, *, dialect_off: bool) -> str:
    """Return what goes wrong with `statement_cache_size=0` where something else is left as it is.

    Before 0.32 that depends on the version: 0.29 and 0.30 name each statement in a way that is
    unique inside one process alone, and 0.31 reuses the unnamed statement under an open cursor.
    """
    if names is Names.ANONYMOUS:
        wrong = "returns rows of other queries from `stream()` before asyncpg 0.32"
    elif asyncpg is not None and asyncpg.is_surely_at_least(0, 31):
        wrong = "returns rows of other queries from `stream()` on asyncpg 0.31"
    elif asyncpg is not None and asyncpg.is_surely_below(0, 31):
        wrong = "returns rows of other queries on asyncpg 0.30 and before"
    else:
        wrong = (
            "returns rows of other queries on asyncpg 0.30 and before, and from `stream()` on 0.31"
        )
    if names is Names.DEFAULT and dialect_off:
        wrong = "still gives statements names that another process uses too before asyncpg 0.32"
    known = str(asyncpg) if asyncpg is not None else "which asyncpg this project runs is not known"
    return f"{wrong} ({known})"


def near_argument(name: str) -> str | None:
    """Return the argument of `asyncpg.connect` that was most likely meant, or None."""
    import difflib

    if name in OTHER_NAMES:
        return OTHER_NAMES[name]
    near = difflib.get_close_matches(name, CONNECT_ARGUMENTS, n=1, cutoff=0.8)
    return near[0] if near else None


def wrong_type(types: tuple[type, ...] | None, found: Iterable[Value]) -> str | None:
    """Return what kind of literal stands where `types` are taken, or None where it fits.

    What is no literal fits.
    """
    values = [value.value for value in found if isinstance(value, Literal)]
    if types is None or not values or len(values) != len(tuple(found)):
        return None
    if any(isinstance(value, (*types, *((bool,) if int in types else ()))) for value in values):
        return None
    kind = type(values[0]).__name__
    return {"str": "a string", "int": "a number", "float": "a number", "NoneType": "`None`"}.get(
        kind, f"a `{kind}`"
    )
