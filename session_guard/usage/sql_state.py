"""SQL that leaves something behind on the server's connection when its transaction ends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names import databases, openings
from session_guard.names.bindings import Constant
from session_guard.names.from_libcst import walk
from session_guard.names.values import External, Method, Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.module import Module

_EXECUTING = frozenset("execute scalar scalars stream stream_scalars exec exec_driver_sql".split())
_TEXTS = frozenset(
    {"sqlalchemy.text", "sqlalchemy.sql.text", "sqlalchemy.sql.expression.text", "sqlmodel.text"}
    | {"sqlalchemy.DDL", "sqlalchemy.schema.DDL"}
)
_FUNCTIONS = ("sqlalchemy.func.", "sqlalchemy.sql.func.", "sqlmodel.func.")
_LOCKS = re.compile(r"\bpg_(try_)?advisory_lock(_shared)?\b", re.IGNORECASE)
# Settings of MySQL, MariaDB and SQL Server, which are set in the same words.
_OTHER_DIALECTS = re.compile(
    r"set\s+(session\s+|global\s+)?(@|foreign_key_checks|unique_checks|sql_mode|sql_log_bin|"
    r"autocommit|innodb_|group_concat|character_set|collation_|identity_insert|nocount|"
    r"max_execution_time|wait_timeout)",
    re.IGNORECASE,
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
        "`LISTEN` belongs to the connection",
        "a connection of its own, straight to PostgreSQL",
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
        "a temporary table belongs to the connection",
        "`ON COMMIT DROP`, or a common table expression",
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
_UNKNOWN_PART = "_"
_DEEPEST = 8


def connection_state(call: cst.Call, module: Module) -> tuple[str, str] | None:
    """Return what `call` executes that outlives the transaction, and what to use instead.

    None also where nothing shows that it is an async session or connection of SQLAlchemy.
    """
    if (
        not isinstance(call.func, cst.Attribute)
        or call.func.attr.value not in _EXECUTING
        or not call.args
        or not _is_awaited(call, module)
        or _is_elsewhere(call.func.value, module)
    ):
        return None
    statement = call.args[0].value
    if call.func.attr.value == "exec_driver_sql":
        texts = _strings(statement, module)
    else:
        texts = _texts(statement, module)
    for text in texts:
        found = state_of(text)
        if found is not None:
            return found
    return None


def state_of(sql: str) -> tuple[str, str] | None:
    """Return what of some SQL outlives the transaction, and what to use instead, or None."""
    if sql.startswith("func."):
        sql = f"select {sql[5:]}("
    blanked = _LITERALS.sub("''", _COMMENTS.sub(" ", sql))
    for statement in blanked.split(";"):
        words = " ".join(statement.split()).lower()
        if _OTHER_DIALECTS.match(words):
            continue
        for pattern, what, instead in _STATES:
            if pattern.match(words):
                return what, instead
    return None


def _is_awaited(call: cst.Call, module: Module) -> bool:
    for ancestor in module.ancestors(call):
        if isinstance(ancestor, cst.Await):
            return True
        if isinstance(ancestor, (cst.BaseSmallStatement, cst.BaseStatement, cst.Lambda)):
            return False
    return False


def _is_elsewhere(receiver: cst.BaseExpression, module: Module) -> bool:
    """Return whether a session or connection is known to be of another database."""
    if isinstance(receiver, cst.Await):
        receiver = receiver.expression
    for value in module.evaluate(receiver):
        opening = openings.opening(value)
        if opening is not None and databases.is_on_another_database(opening.bind):
            return True
        while isinstance(value, Result) and isinstance(value.function, Method):
            value = value.function.owner
        if (
            isinstance(value, Result)
            and openings.is_engine(value)
            and databases.is_other_engine(value)
        ):
            return True
    return False


def _texts(node: cst.BaseExpression, module: Module, depth: int = 0) -> Iterator[str]:
    """Yield the SQL that a statement is, with the names of the functions that it calls."""
    if depth > _DEEPEST:
        return
    if isinstance(node, cst.Name):
        for made in _bound(node, module):
            yield from _texts(made, module, depth + 1)
        return
    for part in walk(node):
        if not isinstance(part, cst.Call):
            continue
        for value in module.evaluate(part.func):
            if not isinstance(value, External):
                continue
            if value.dotted in _TEXTS and part.args:
                yield from _strings(part.args[0].value, module)
            elif value.dotted.startswith(_FUNCTIONS) and _LOCKS.search(value.dotted):
                yield f"func.{value.dotted.rpartition('.')[2]}"
            elif value.dotted.startswith(_FUNCTIONS) and value.dotted.endswith(".set_config"):
                last = part.args[-1].value if len(part.args) > 2 else None
                if isinstance(last, cst.Name) and last.value == "False":
                    yield "select set_config('', '', false)"


def _bound(node: cst.Name, module: Module) -> Iterator[cst.BaseExpression]:
    """Yield the expressions of this file that a name was assigned."""
    for binding in module.bindings(module.expr(node), module.place(node)):
        made = getattr(binding.value, "node", None)
        if isinstance(made, cst.BaseExpression) and module.parent(made) is not None:
            yield made


def _strings(node: cst.BaseExpression, module: Module, depth: int = 0) -> Iterator[str]:
    """Yield the strings that an expression may be; what is not known of them is `_`."""
    match node:
        case cst.SimpleString() if isinstance(node.evaluated_value, str):
            yield node.evaluated_value
        case cst.FormattedString():
            yield "".join(
                part.value if isinstance(part, cst.FormattedStringText) else _UNKNOWN_PART
                for part in node.parts
            )
        case cst.ConcatenatedString() | cst.BinaryOperation(operator=cst.Add()):
            right = next(_strings(node.right, module, depth + 1), _UNKNOWN_PART)
            for left in _strings(node.left, module, depth + 1):
                yield left + right
        case cst.BinaryOperation(operator=cst.Modulo()):
            for left in _strings(node.left, module, depth + 1):
                yield re.sub(r"%\(?\w*\)?s|%d", _UNKNOWN_PART, left)
        case cst.Call(func=cst.Attribute(value=text, attr=cst.Name(value="format" | "strip"))):
            for left in _strings(text, module, depth + 1):
                yield re.sub(r"\{\w*\}", _UNKNOWN_PART, left)
        case cst.Call(args=[cst.Arg(value=first), *_]) if any(
            value == External("textwrap.dedent") for value in module.evaluate(node.func)
        ):
            yield from _strings(first, module, depth + 1)
        case cst.IfExp():
            yield from _strings(node.body, module, depth + 1)
            yield from _strings(node.orelse, module, depth + 1)
        case cst.Name() if depth <= _DEEPEST:
            for binding in module.bindings(module.expr(node), module.place(node)):
                if isinstance(binding.value, Constant) and isinstance(binding.value.value, str):
                    yield binding.value.value
