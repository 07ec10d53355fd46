"""What executing a statement does: whether it surely only reads, and whether objects come of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.bindings import Constant
from session_guard.names.from_libcst import dotted_parts, walk
from session_guard.names.values import External

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.module import Module

# Methods of selects, columns and results of SQL functions: they build SQL, and run nothing.
CONSTRUCT_METHODS = frozenset(
    """
    where filter filter_by join outerjoin select_from order_by group_by having limit
    offset distinct options correlate union union_all subquery cte label in_ not_in notin_
    like ilike is_ is_not isnot desc asc nulls_last nulls_first between contains
    startswith endswith any has op cast astext join_from over bindparams columns alias
    returning values execution_options with_only_columns add_columns exists
    scalar_subquery set with_for_update params on_conflict_do_nothing
    on_conflict_do_update excluded
    """.split()
)
# Any other function of SQL may write: `nextval`, `pg_notify`, one of the project's own.
_PURE_SQL_FUNCTIONS = frozenset(
    """
    count sum avg min max coalesce lower upper length now current_timestamp current_date
    date_trunc extract abs round random concat array_agg string_agg json_agg jsonb_agg
    json_build_object jsonb_build_object to_char greatest least nullif row_number rank
    dense_rank generate_series unnest version current_database current_setting
    pg_backend_pid trim replace substring substr split_part char_length date_part age
    floor ceil distinct cast any all in exists values over filter and or not as on using
    """.split()
)
_SELECTS = frozenset(
    {
        "sqlalchemy.select",
        "sqlalchemy.sql.select",
        "sqlalchemy.future.select",
        "sqlalchemy.sql.expression.select",
        "sqlmodel.select",
        "sqlmodel.sql.expression.select",
    }
)
_WRITES = frozenset(
    {
        "sqlalchemy.insert",
        "sqlalchemy.update",
        "sqlalchemy.delete",
        "sqlalchemy.dialects.postgresql.insert",
        "sqlmodel.insert",
        "sqlmodel.update",
        "sqlmodel.delete",
    }
)
_KINDS = ("other", "read", "write", "plain read")  # the first that a statement may be is taken
_TEXTS = frozenset({"sqlalchemy.text", "sqlalchemy.sql.text", "sqlalchemy.sql.expression.text"})
_WRITE_METHODS = CONSTRUCT_METHODS - {"returning", "cte"}
_SELECT_METHODS = CONSTRUCT_METHODS - {"with_for_update", "returning", "cte", "values", "set"}


def statement_kind(module: Module, node: cst.CSTNode) -> str:
    """Return what executing an expression does.

    "plain read" gives rows of columns alone, which no session keeps; "read" loads objects, or may;
    "write" writes and loads nothing; "other" may do anything.
    """
    kinds = set(_statement_kinds(module, node, [], (node,)))
    return next((kind for kind in _KINDS if kind in kinds), "other")


def _statement_kinds(
    module: Module, node: cst.CSTNode, methods: list[str], pieces: tuple[cst.CSTNode, ...]
) -> Iterator[str]:
    """Yield the kind of each statement that `node` may be.

    `methods` are called on it; `pieces` are the expressions, assigned one to the next, that the
    whole statement was put together in.
    """
    if isinstance(node, cst.Name):
        bindings = module.bindings(module.expr(node), module.place(node))
        for binding in bindings:
            source = getattr(binding.value, "node", None)
            if (
                binding.kind == "assign"
                and isinstance(source, cst.Call)
                and all(source is not piece for piece in pieces)
                and module.parent(source) is not None
            ):
                yield from _statement_kinds(module, source, methods, (*pieces, source))
            else:
                yield "other"
        return
    if not isinstance(node, cst.Call):
        yield "other"
        return
    found = module.evaluate(node.func)
    names = {value.dotted for value in found if isinstance(value, External)}
    name = names.pop() if len(names) == 1 and len(found) == 1 else None
    if isinstance(node.func, cst.Attribute) and (
        name is None or isinstance(node.func.value, cst.Call)
    ):
        method = node.func.attr.value
        yield from _statement_kinds(module, node.func.value, [*methods, method], pieces)
    elif name in _TEXTS:
        yield "plain read" if _reads_only(node, methods) else "other"
    elif name in _WRITES and set(methods) <= _WRITE_METHODS:
        yield "write"
    elif (
        name in _SELECTS
        and set(methods) <= _SELECT_METHODS
        and not any(_may_write(piece) for piece in pieces)
    ):
        plain = bool(node.args) and all(_is_column(module, a.value) for a in node.args)
        adds = {"with_only_columns", "add_columns", "options"} & set(methods)
        yield "plain read" if plain and not adds else "read"
    else:
        yield "other"


def _is_column(module: Module, node: cst.CSTNode) -> bool:
    """Return whether something selected is a column or a function, not a mapped class."""
    if isinstance(node, cst.Attribute):
        parts = dotted_parts(node)
        return parts is not None and parts[-2][:1].isupper() and not parts[-1][:1].isupper()
    if isinstance(node, cst.Call):
        parts = dotted_parts(node.func)
        if parts is not None and len(parts) > 1 and parts[-2] == "func":
            return True
        return isinstance(node.func, cst.Attribute) and (
            node.func.attr.value in ("label", "distinct", "cast")
            and _is_column(module, node.func.value)
        )
    return isinstance(module.expr(node), Constant)


def _may_write(node: cst.CSTNode) -> bool:
    """Return whether a SELECT locks, or has a function or a statement in it that may write."""
    for part in walk(node):
        if not isinstance(part, cst.Call):
            continue
        parts = dotted_parts(part.func)
        if parts is not None and len(parts) > 1 and "func" in parts[:-1]:
            if parts[-1].lower() not in _PURE_SQL_FUNCTIONS:
                return True
        elif (
            parts is not None and parts[-1] in ("with_for_update", "insert", "update", "delete")
        ) or (isinstance(part.func, cst.Attribute) and part.func.attr.value == "with_for_update"):
            return True
    return False


_TEXT_CALL = re.compile(r"([A-Za-z_][A-Za-z_0-9.]*)\s*\(")
_TEXT_WRITES = re.compile(
    r"\b(into|for\s+(no\s+key\s+)?(update|share|key\s+share))\b", re.IGNORECASE
)


def _reads_only(call: cst.Call, methods: list[str]) -> bool:
    """Return whether a `text()` is one SELECT or SHOW that calls nothing that may write."""
    if not set(methods) <= {"bindparams", "columns"} or len(call.args) != 1:
        return False
    argument = call.args[0].value
    if not isinstance(argument, (cst.SimpleString, cst.ConcatenatedString)):
        return False
    sql = argument.evaluated_value
    if not isinstance(sql, str):
        return False
    sql = re.sub(r"'[^']*'", "''", sql).strip().rstrip(";").strip()
    if ";" in sql or "--" in sql or "/*" in sql:
        return False
    if re.match(r"show\s", sql, re.IGNORECASE):
        return True
    if not re.match(r"select\s", sql, re.IGNORECASE) or _TEXT_WRITES.search(sql):
        return False
    return all(
        name.lower() in _PURE_SQL_FUNCTIONS or name.lower() in ("from", "select", "where", "join")
        for name in _TEXT_CALL.findall(sql)
    )
