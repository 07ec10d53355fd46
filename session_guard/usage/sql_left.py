"""What SQL leaves on the server's connection by its text, and whether a file may execute such SQL.

LibCST is not needed for it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from session_guard.names import sql
from session_guard.names.bindings import Star, method_of
from session_guard.names.sql import EXECUTING, Reading
from session_guard.names.values import Located

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.names.bindings import Call, Place
    from session_guard.names.values import Namespace

# The methods of asyncpg's connection that are given SQL.
ASYNCPG = frozenset({"execute", "executemany", "fetch", "fetchval", "fetchrow", "cursor"})
_GIVEN_SQL = EXECUTING | ASYNCPG
# Settings of MySQL, MariaDB and SQL Server, which are set in the same words.
_OTHER_DIALECTS = re.compile(
    r"set\s+(session\s+|global\s+)?(@|foreign_key_checks|unique_checks|sql_mode|sql_log_bin|"
    r"autocommit|innodb_|group_concat|character_set|collation_|identity_insert|nocount|"
    r"max_execution_time|wait_timeout)",
    re.IGNORECASE,
)
LISTENING = (
    "`LISTEN` belongs to the connection",
    "a connection of its own, straight to PostgreSQL",
)
TEMPORARY_TABLE = (
    "a temporary table belongs to the connection",
    "`ON COMMIT DROP`, or a common table expression",
)
# What each statement is, and what of it stays; matched at its beginning, literals blanked out.
_STATES = (
    (
        re.compile(
            r"set\s+(?!local\b|transaction\b|constraints\b)(session\s+)?"
            r"(time\s+zone\b|role\b|authorization\b|characteristics\b|names\b|schema\b|"
            r"[\w.\"]+\s*(=|to\b))"
        ),
        "`SET` without `LOCAL` holds for the connection",
        "`SET LOCAL`, which ends with the transaction",
    ),
    (
        re.compile(r".*\bset_config\s*\([^()]*,\s*false\s*\)"),
        "`set_config(…, false)` holds for the connection",
        "`set_config(…, true)`, which ends with the transaction",
    ),
    (
        re.compile(r"listen\s+[\w\".]+$"),
        *LISTENING,
    ),
    (
        re.compile(r".*\bpg_(try_)?advisory_lock(_shared)?\s*\("),
        "an advisory lock of the session is held by the connection",
        "`pg_advisory_xact_lock()`, which ends with the transaction",
    ),
    (
        re.compile(
            r"create\s+(or\s+replace\s+)?((local|global)\s+)?temp(orary)?\s+"
            r"(table|view|sequence|recursive)\b(?!.*\bon\s+commit\s+drop\b)"
            r"|select\b.*\binto\s+(local\s+|global\s+)?temp(orary)?\b"
        ),
        *TEMPORARY_TABLE,
    ),
    (
        re.compile(r"prepare\s+(?!transaction\b)\w+\s*(\(|as\b)"),
        "`PREPARE` makes a statement of the connection",
        "bound parameters, which the driver prepares by itself",
    ),
    (
        re.compile(r"declare\b.*\bwith\s+hold\b"),
        "a cursor `WITH HOLD` belongs to the connection",
        "a cursor that ends with the transaction (`session.stream()`)",
    ),
    (
        re.compile(r"load\s+''"),
        "`LOAD` loads a library into the connection",
        "`session_preload_libraries` of the role or the database",
    ),
)
_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_LITERALS = re.compile(r"'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$", re.DOTALL)
# What `%` and `format()` put something in for.
_PLACEHOLDERS = re.compile(r"%(\(\w*\))?[sdr]|\{\w*\}")


def state_of(text: str) -> tuple[str, str] | None:
    """Return what of some SQL outlives the transaction, and what to use instead, or None."""
    blanked = _LITERALS.sub("''", _COMMENTS.sub(" ", _PLACEHOLDERS.sub("_", text)))
    for statement in blanked.split(";"):
        words = " ".join(statement.split()).lower()
        if _OTHER_DIALECTS.match(words):
            continue
        for pattern, what, instead in _STATES:
            if pattern.match(words):
                return what, instead
    return None


def may_write_state(names: Namespace) -> bool:
    """Return whether a module may make a statement that outlives its transaction.

    It may say yes too often: who executes it is not looked at.
    """
    return any(
        method_of(call) == "add_listener"
        or call.keyword("prefixes") is not None
        or any(map(state_of, Reading().statements(Located(call, place, names))))
        for call, place in names.scope.calls
    )


def may_be_given_state(names: Namespace) -> bool:
    """Return whether SQL that outlives its transaction may be executed where its name stands."""
    return any(
        state_of(found) is not None
        for call, place in names.scope.calls
        if method_of(call) in _GIVEN_SQL
        for found in _given(call, place, names)
    )


def _given(call: Call, place: Place, names: Namespace) -> Iterator[str]:
    """Yield the SQL that a call may be given, or what its arguments were bound to."""
    for expr in (*call.arguments, *(value for _, value in call.keywords)):
        given = Located(expr.value if isinstance(expr, Star) else expr, place, names)
        yield from Reading().statements(given)
        yield from sql.strings(given)
