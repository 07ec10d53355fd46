"""The session standard as data: what an asyncpg engine needs, and what its settings are worth.

Everything here was measured (docs/poolers.md); rules ask here and keep no copy of it.
"""

from __future__ import annotations

import enum
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from session_guard.names.values import Literal
from session_guard.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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

UNNAMED_SINCE = (0, 31)
"""The first asyncpg that names no statement by itself where its cache is off."""

CURSORS_RIGHT_SINCE = (0, 32)
"""The first asyncpg on which SQLAlchemy's cache left on alone is right, cursors included."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A keyword argument of a connect call."""

    takes: Callable[[object], bool] = lambda _: True
    """Whether connects work with a literal value."""
    expects: str = ""
    """What it takes, in words; empty where it takes any literal."""
    refuses_text: bool = False
    """Whether no string is right, and so nothing that a URL can say."""
    since: tuple[int, ...] = ()
    """The first version that knows it; empty where all do."""
    before: tuple[int, ...] = ()
    """The first version that no longer knows it; empty where all do."""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_text(value: object) -> bool:
    """Return whether a literal is a string."""
    return isinstance(value, str)


def _is_size(value: object) -> bool:
    return isinstance(value, (int, float)) and _is_number(value) and value >= 0


def _is_connect_timeout(value: object) -> bool:
    # `True` is a second; with 0 the time is over before anything is sent.
    return value is None or (isinstance(value, (int, float)) and value > 0)


def _is_command_timeout(value: object) -> bool:
    if isinstance(value, str):
        try:
            return float(value) > 0
        except ValueError:
            return False
    return value is None or (_is_number(value) and _is_connect_timeout(value))


def _is_mode_of_tls(value: object) -> bool:
    return not isinstance(value, str) or value.replace("_", "-") in _MODES_OF_TLS


def _is_dialect_cache_size(value: object) -> bool:
    return not value or isinstance(value, (int, float))


def _one_of(*values: str | None) -> Argument:
    named = [f"`{value}`" for value in values]
    expects = f"{', '.join(named[:-1])} or {named[-1]}"
    return Argument(lambda value: value in values, expects)


_MODES_OF_TLS = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SIZE = Argument(_is_size, "a number, 0 or more", refuses_text=True)
_TEXT = Argument(lambda value: value is None or is_text(value), "`None` or a string")
_TEXT_OR_EMPTY = Argument(lambda value: not value or is_text(value), "`None` or a string")
_NO_LITERAL = Argument(lambda _: False, "a function or a class", refuses_text=True)
ASYNCPG_ARGUMENTS = {
    "dsn": _TEXT_OR_EMPTY,
    "host": _TEXT_OR_EMPTY,
    "port": Argument(),
    "user": _TEXT,
    "password": Argument(),
    "passfile": _TEXT,
    "service": Argument(since=(0, 31)),
    "servicefile": Argument(since=(0, 31)),
    "database": _TEXT,
    "loop": Argument(lambda value: value is None, "`None` or an event loop"),
    "timeout": Argument(
        _is_connect_timeout, "`None` or a number of seconds above 0", refuses_text=True
    ),
    "statement_cache_size": _SIZE,
    "max_cached_statement_lifetime": _SIZE,
    "max_cacheable_statement_size": _SIZE,
    "command_timeout": Argument(_is_command_timeout, "`None` or a number of seconds above 0"),
    "ssl": Argument(
        _is_mode_of_tls,
        f"{', '.join(f'`{mode}`' for mode in _MODES_OF_TLS)}, a boolean or an `SSLContext`",
    ),
    "direct_tls": Argument(),
    "connection_class": _NO_LITERAL,
    "record_class": _NO_LITERAL,
    "server_settings": Argument(
        lambda value: value is None, "`None` or a dictionary of strings", refuses_text=True
    ),
    "target_session_attrs": replace(
        _one_of(
            *("any", "primary", "standby", "read-write", "read-only", "prefer-standby"),
            None,
        ),
        since=(0, 28),
    ),
    "krbsrvname": Argument(since=(0, 30)),
    "gsslib": replace(_one_of("gssapi", "sspi", None), since=(0, 30)),
}
"""What `asyncpg.connect` takes: names read from its signature in 0.27 to 0.32, values tried on 0.29
to 0.32."""

DIALECT_ARGUMENTS = {
    "prepared_statement_cache_size": Argument(_is_dialect_cache_size, "`None` or a number"),
    "prepared_statement_name_func": Argument(
        lambda value: not value, "`None` or a function", refuses_text=True, since=NAME_FUNC_SINCE
    ),
    "async_creator_fn": replace(_NO_LITERAL, since=(2, 0, 16)),
    "async_fallback": Argument(before=(2, 1)),
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

CONNECTS_BY_ASYNCPG = ONLY_ASYNCPG | {"command_timeout"}
"""Names that mean asyncpg in `connect_args`."""

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
"""Startup parameters that PgBouncer keeps for each client (`intervalstyle` from 1.20 on), by
themselves or, from 1.20 on, in `options`; it refuses all others by default."""

PGBOUNCER_CAN_TRACK = {"search_path": 18, "default_transaction_read_only": 14}
"""What it keeps where `track_extra_parameters` names it, with the first PostgreSQL that reports it:
it takes what the server does not report, and drops it."""

_OPTION = re.compile(r"(?:^|\s)(?:-c\s*|--)([\w.-]+)=")

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
    COUNTED_BY_PROCESS = "counted, with the process id"
    """Which is 1 in every container, and given again."""
    UNKNOWN = "unknown"


REPEATED = frozenset({Names.CONSTANT, Names.COUNTED, Names.COUNTED_BY_PROCESS})
"""Names that are given more than once."""


@dataclass(frozen=True, slots=True)
class Worth:
    """What a way of setting an engine up for a transaction pooler is worth."""

    is_right: bool
    verdict: str = ""
    """What goes wrong, as the end of a sentence that begins with the settings."""
    needs_pooler: bool = True
    """Whether that takes a transaction pooler; without one all is right then."""


_RIGHT = Worth(True)


def worth(
    names: Names,
    *,
    driver_off: bool,
    dialect_off: bool,
    versions: Versions,
    keeps_connections: bool = True,
) -> Worth:
    """Return what settings are worth behind a transaction pooler on a project's versions.

    `driver_off` and `dialect_off` say whether asyncpg's and SQLAlchemy's statement cache is off,
    `keeps_connections` whether the engine's pool does more than open and close them.
    """
    asyncpg = versions.asyncpg
    if names is Names.ANONYMOUS:
        return _worth_of_anonymous(asyncpg, driver_off=driver_off, dialect_off=dialect_off)
    if names in REPEATED:
        return Worth(False, "gives statements of two connections one name")
    if names is not Names.DEFAULT:
        if driver_off and dialect_off:
            return _RIGHT
        second = " when a connection runs a second transaction"
        return Worth(
            False,
            "fails with `prepared statement … does not exist`"
            + (second if driver_off and not keeps_connections else ""),
        )
    if not driver_off:
        return Worth(
            False,
            "fails with `prepared statement … does not exist` or returns rows of other queries",
        )
    right_since = UNNAMED_SINCE if dialect_off else CURSORS_RIGHT_SINCE
    if asyncpg is not None and asyncpg.is_surely_at_least(*right_since):
        return _RIGHT
    needs_pooler = True
    if dialect_off:
        wrong = "still gives statements names that another process uses too, before asyncpg 0.31"
    elif asyncpg is not None and asyncpg.is_surely_at_least(*UNNAMED_SINCE):
        wrong = "returns rows of other queries from `stream()` on asyncpg 0.31"
        needs_pooler = not asyncpg.is_surely_below(*CURSORS_RIGHT_SINCE)
    elif asyncpg is not None and asyncpg.is_surely_below(*UNNAMED_SINCE):
        wrong = "returns rows of other queries on asyncpg 0.30 and before"
    else:
        wrong = (
            "returns rows of other queries on asyncpg 0.30 and before, and from `stream()` on 0.31"
        )
    return Worth(False, f"{wrong} ({_known(asyncpg)})", needs_pooler=needs_pooler)


def _worth_of_anonymous(asyncpg: Version | None, *, driver_off: bool, dialect_off: bool) -> Worth:
    """Return what anonymous statements are worth: what remembers one finds another in its place."""
    if driver_off and dialect_off:
        return _RIGHT
    if dialect_off:
        return Worth(
            False,
            "fails with `prepared statement … does not exist`: asyncpg names the statements that "
            "it runs for itself, for types and for `executemany`",
        )
    if not driver_off:
        return Worth(
            False,
            "returns rows of other queries, or fails with `unnamed prepared statement does not "
            "exist`",
            needs_pooler=False,
        )
    if asyncpg is not None and asyncpg.is_surely_at_least(*CURSORS_RIGHT_SINCE):
        return _RIGHT
    is_old = asyncpg is None or not asyncpg.is_surely_at_least(0, 29)
    wrong = "returns rows of other queries from `stream()` before asyncpg 0.32"
    wrong += ", and without it before 0.29" if is_old else ""
    return Worth(False, f"{wrong} ({_known(asyncpg)})", needs_pooler=False)


def _known(asyncpg: Version | None) -> str:
    return str(asyncpg) if asyncpg is not None else "which asyncpg this project runs is not known"


def set_by_options(text: str) -> list[str]:
    """Return the settings in the startup parameter `options`: `-c jit=off --work_mem=8MB`."""
    return [name.replace("-", "_") for name in _OPTION.findall(text)]


def near_argument(name: str) -> str | None:
    """Return the argument of `asyncpg.connect` that was most likely meant, or None."""
    import difflib

    if name in OTHER_NAMES:
        return OTHER_NAMES[name]
    near = difflib.get_close_matches(name, CONNECT_ARGUMENTS, n=1, cutoff=0.8)
    return near[0] if near else None


def turns_off(key: str, value: object) -> bool:
    """Return whether a literal turns off the cache that `key` sizes.

    asyncpg refuses `False` and `None`, which SQLAlchemy takes for its own cache.
    """
    return not value if key == DIALECT_CACHE else _is_number(value) and value == 0


def wrong_literal(takes: Callable[[object], bool], found: Iterable[Value]) -> str | None:
    """Return the literal that stands where others are taken, in words, or None where it fits.

    What is no literal fits, and so does what may be another value that fits. The text of a string,
    which may be a secret, is not repeated.
    """
    values = tuple(found)
    literals = [value.value for value in values if isinstance(value, Literal)]
    if not literals or len(literals) != len(values) or any(map(takes, literals)):
        return None
    first = literals[0]
    if isinstance(first, (str, bytes)):
        return "a string"
    return f"`{first}`" if first is None or isinstance(first, (int, float)) else "a literal"
