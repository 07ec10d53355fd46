"""What executing a statement does: whether it surely only reads, and whether objects come of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import libcst as cst

from session_guard.names.bindings import Constant, Ref, end_of
from session_guard.names.from_libcst import children, dotted_parts
from session_guard.names.values import External, Literal, LocalClass, Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from session_guard.module import Module
    from session_guard.names.bindings import Binding
    from session_guard.names.values import Value

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
_DEEPEST = 8
"""Modules that an imported constant is followed through."""
_TEXTS = frozenset(
    {"sqlalchemy.text", "sqlalchemy.sql.text", "sqlalchemy.sql.expression.text", "sqlmodel.text"}
)
_WRITE_METHODS = CONSTRUCT_METHODS - {"returning", "cte"}
_SELECT_METHODS = CONSTRUCT_METHODS - {"with_for_update", "returning", "cte", "values", "set"}

# Builtins that change nothing that they are given.
PURE_BUILTINS = frozenset(
    """
    len str int float bool repr sum isinstance issubclass hash format any all print list
    tuple set frozenset dict sorted enumerate zip reversed min max iter next range abs
    round id type
    """.split()
)
SHOWING = frozenset("str repr format print dict".split())
"""Those that show what they are given, as its class has it."""
# What builds SQL and runs nothing; anything else of SQLAlchemy's may be text, or a statement.
_CONSTRUCTS = frozenset(
    """
    select and_ or_ not_ case cast null true false desc asc nulls_last nulls_first
    nullslast nullsfirst distinct exists tuple_ between type_coerce extract over union
    union_all selectinload joinedload subqueryload contains_eager load_only defer undefer
    noload raiseload lazyload immediateload with_loader_criteria aliased bindparam any_ all_
    col
    """.split()
)
_FUNCTIONS = (
    "sqlalchemy.func.",
    "sqlalchemy.sql.func.",
    "sqlalchemy.sql.expression.func.",
    "sqlalchemy.sql.functions.func.",
    "sqlmodel.func.",
)
# Modules whose functions give plain values, and change nothing that they are given.
VALUE_MODULES = ("datetime.", "uuid.", "decimal.", "time.", "math.")
# Methods that strings, dates and the like answer with another such value.
VALUE_METHODS = frozenset(
    """
    lower upper strip lstrip rstrip split splitlines title capitalize startswith endswith
    format encode decode hex isoformat strftime timestamp date time replace removeprefix
    removesuffix zfill
    """.split()
)
_OPERATORS = (CONSTRUCT_METHODS | {"selectinload", "joinedload", "subqueryload", "load_only"}) - {
    "with_for_update",
    "returning",
    "values",
    "set",
    "excluded",
}
_TYPES = frozenset(
    """
    String Integer BigInteger SmallInteger Float Numeric Boolean Date DateTime Time Interval
    Text Unicode LargeBinary Uuid UUID JSON JSONB Enum ARRAY
    """.split()
)
# Where an expression stands: as an operand it may be SQL itself; as an owner it has columns; as a
# value it is compared with something.
_OPERAND, _OWNER, _VALUE = "operand", "owner", "value"

_Seen = set[tuple[int, str]]
"""The assigned expressions that were looked into, as what: if one fails, all do."""


def statement_kind(module: Module, node: cst.CSTNode) -> str:
    """Return what executing an expression does.

    "plain read" gives rows of columns alone, which no session keeps; "read" loads objects, or may;
    "write" writes and loads nothing; "other" may do anything.
    """
    known = module.once(_kinds_of)
    if id(node) not in known:
        kinds = set(
            _statement_kinds(module, node, _Way(is_understood=_is_sql(module, node)), set())
        )
        known[id(node)] = next((kind for kind in _KINDS if kind in kinds), "other")
    return known[id(node)]


def _kinds_of(module: Module) -> dict[int, str]:
    """Return where kinds are kept, by the `id` of nodes of the module's tree."""
    return {}


class _Way(NamedTuple):
    """How a statement goes on from an expression that it may be put together from."""

    methods: frozenset[str] = frozenset()
    """What is called on the expression."""
    is_understood: bool = True
    """Whether nothing in what was assigned on the way can write."""

    def through(self, method: str) -> _Way:
        """Return the way of what one more method is called on."""
        return self._replace(methods=self.methods | {method})


def _statement_kinds(
    module: Module, node: cst.CSTNode, way: _Way, seen: set[tuple[int, _Way]]
) -> Iterator[str]:
    """Yield the kind of each statement that `node` may be; `seen` are the assigned ones so far."""
    constant = _imported(module, node)
    if constant is not None:
        yield (
            "plain read"
            if way.methods <= _TEXT_METHODS and _is_text_that_reads(constant)
            else "other"
        )
        return
    if isinstance(node, cst.Name):
        for binding in module.bindings(module.expr(node), module.place(node)):
            source = getattr(binding.value, "node", None)
            if (
                binding.kind != "assign"
                or not isinstance(source, cst.Call)
                or module.parent(source) is None
            ):
                yield "other"
                continue
            further = way._replace(is_understood=way.is_understood and _is_sql(module, source))
            if (id(source), further) not in seen:
                seen.add((id(source), further))
                yield from _statement_kinds(module, source, further, seen)
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
        yield from _statement_kinds(
            module, node.func.value, way.through(node.func.attr.value), seen
        )
    elif name in _TEXTS:
        yield "plain read" if _reads_only(module, node, way.methods) else "other"
    elif name in _WRITES and way.methods <= _WRITE_METHODS:
        yield "write"
    elif name in _SELECTS and way.methods <= _SELECT_METHODS and way.is_understood:
        plain = bool(node.args) and all(_is_column(module, a.value) for a in node.args)
        adds = {"with_only_columns", "add_columns", "options"} & way.methods
        yield "plain read" if plain and not adds else "read"
    else:
        yield "other"


def _is_sql(module: Module, node: cst.CSTNode) -> bool:
    """Return whether nothing in a statement, or a part of one, can write."""
    known = module.once(_understood_so_far)
    if id(node) not in known:
        known[id(node)] = _understood(module, node, _OPERAND, set())
    return known[id(node)]


def _understood_so_far(module: Module) -> dict[int, bool]:
    """Return where answers are kept, by the `id` of nodes of the module's tree."""
    return {}


def builds_sql(module: Module, node: cst.CSTNode) -> bool:
    """Return whether an expression surely builds a part of a SELECT that writes nothing."""
    if not isinstance(node, cst.Call) or not _is_sql(module, node):
        return False
    root = node
    while isinstance(root.func, cst.Attribute) and isinstance(root.func.value, cst.Call):
        root = root.func.value
    parts = dotted_parts(root.func)
    if parts is not None and len(parts) > 2 and parts[-3][:1].isupper():
        return parts[-1] in _OPERATORS  # `User.id.in_(...)`: an operator of a class's column
    found = module.evaluate(root.func)
    return bool(found) and all(
        isinstance(value, External) and value.dotted.startswith(("sqlalchemy.", "sqlmodel."))
        for value in found
    )


def _understood(module: Module, node: cst.CSTNode, role: str, seen: _Seen) -> bool:
    """Return whether nothing in an expression can write; names are followed to what they hold."""
    match node:
        case cst.Name():
            return all(
                _name_understood(module, node, binding, role, seen)
                for binding in module.bindings(module.expr(node), module.place(node))
            )
        case cst.Attribute():
            return _understood(module, node.value, _OWNER, seen)
        case cst.Call():
            return _call_understood(module, node, role, seen)
        case cst.Lambda() | cst.Yield() | cst.NamedExpr():
            return False
        case cst.Await():
            return role == _VALUE
        case cst.Tuple() | cst.List() | cst.Set():
            return all(_understood(module, e.value, role, seen) for e in node.elements)
        case cst.IfExp():
            parts = (node.body, node.orelse)
            return all(_understood(module, part, role, seen) for part in parts)
        case _:
            return all(_understood(module, part, _VALUE, seen) for part in children(node))


def _name_understood(
    module: Module,
    node: cst.Name,
    binding: Binding,
    role: str,
    seen: _Seen,
) -> bool:
    if binding.kind == "class":
        return True
    if binding.kind == "import":
        # A class by its spelling, or a module; another name may hold any part of a statement.
        last = binding.target.rpartition(".")[2]
        if role == _OPERAND and not last[:1].isupper():
            return False
        values = module.evaluate(node)
        return all(isinstance(value, (External, LocalClass, Literal)) for value in values)
    source = getattr(binding.value, "node", None)
    if isinstance(source, cst.Call):
        if (id(source), role) in seen:
            return True
        seen.add((id(source), role))
        return module.parent(source) is not None and _understood(module, source, role, seen)
    if isinstance(binding.value, Constant):
        return True
    if isinstance(binding.value, Ref):
        return role == _VALUE or binding.value.parts[-1][:1].isupper()
    # A parameter or a loop's variable is a value, or an object whose attributes are.
    return role != _OPERAND


def _is_awaited(node: cst.CSTNode) -> bool:
    """Return whether an expression is a chain of methods on something that was awaited."""
    while isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        node = node.func.value
    return isinstance(node, cst.Await)


def _call_understood(module: Module, call: cst.Call, role: str, seen: _Seen) -> bool:
    found = module.evaluate(call.func)
    names = {value.dotted for value in found if isinstance(value, External)}
    name = names.pop() if len(names) == 1 and len(found) == 1 else ""
    last = name.rpartition(".")[2]
    inner = _VALUE
    if name.startswith(_FUNCTIONS):
        known = last.lower() in _PURE_SQL_FUNCTIONS
    elif name.startswith(("sqlalchemy.", "sqlmodel.")):
        known, inner = last in _CONSTRUCTS or last in _TYPES, _OPERAND
    elif isinstance(call.func, cst.Attribute) and not name.startswith(VALUE_MODULES):
        method = call.func.attr.value
        is_operator = method in _OPERATORS
        if role != _OPERAND and _is_awaited(call):
            return True  # what a query gave is no part of another, but values
        known = (is_operator or method in VALUE_METHODS) and _understood(
            module, call.func.value, _OWNER, seen
        )
        inner = _OPERAND if method in ("where", "filter", "having", "select_from") else _VALUE
        if method == "filter_by" and known:  # `**filters` are values that columns are compared with
            return all(_understood(module, a.value, _VALUE, seen) for a in call.args)
    else:
        # What a function of the project gives back may be a part of SQL.
        is_foreign = bool(found) and all(isinstance(value, External) for value in found)
        known = name.startswith(VALUE_MODULES) or (role == _VALUE and is_foreign)
    return known and all(
        _argument_understood(module, argument, inner, seen) for argument in call.args
    )


def _argument_understood(module: Module, argument: cst.Arg, role: str, seen: _Seen) -> bool:
    if argument.star == "*" and isinstance(argument.value, cst.Name):
        return _list_understood(module, argument.value, role, seen)
    return argument.star == "" and _understood(module, argument.value, role, seen)


def _list_understood(module: Module, name: cst.Name, role: str, seen: _Seen) -> bool:
    """Return whether a name is a list of the function's own, and all that is put into it is known.

    `conditions = []`, then `conditions.append(User.name == name)`.
    """

    def understood(items: Iterable[cst.CSTNode]) -> bool:
        return all(_understood(module, item, role, seen) for item in items)

    scope = module.place(name).scope
    for use in module.named(name.value):
        if module.place(use).scope is not scope:
            continue
        parent = module.parent(use)
        holder = module.parent(parent) if parent is not None else None
        match parent, holder:
            case (cst.AssignTarget(), cst.Assign(targets=[_], value=cst.List(elements=elements))):
                known = understood(element.value for element in elements)
            case (cst.AnnAssign(value=cst.List(elements=elements)), _):
                known = understood(element.value for element in elements)
            case (cst.Attribute(attr=cst.Name("append")), cst.Call(args=[argument])) if (
                holder.func is parent
            ):
                known = argument.star == "" and understood([argument.value])
            case (cst.Attribute(attr=cst.Name("extend")), cst.Call(args=[argument])) if (
                holder.func is parent
            ):
                is_display = isinstance(argument.value, (cst.List, cst.Tuple))
                known = is_display and understood([argument.value])
            case (cst.Arg(star="*"), _) | (cst.Arg(), cst.Call(func=cst.Name("len"))):
                known = True
            case _:
                known = isinstance(parent, (cst.If, cst.While, cst.UnaryOperation))
        if not known:
            return False
    bindings = scope.bindings.get(name.value, ())
    return bool(bindings) and all(binding.kind == "assign" for binding in bindings)


def _is_column(module: Module, node: cst.CSTNode) -> bool:
    """Return whether something selected is a column or a function, not a mapped class."""
    if isinstance(node, cst.Attribute):
        owners = module.evaluate(node.value)
        return (
            not node.attr.value[:1].isupper()
            and bool(owners)
            and all(
                isinstance(owner, LocalClass)
                or (isinstance(owner, External) and owner.dotted.rpartition(".")[2][:1].isupper())
                for owner in owners
            )
        )
    if isinstance(node, cst.Call):
        found = module.evaluate(node.func)
        if found and all(
            isinstance(value, External) and value.dotted.startswith(_FUNCTIONS) for value in found
        ):
            return True
        return isinstance(node.func, cst.Attribute) and (
            node.func.attr.value in ("label", "distinct", "cast")
            and _is_column(module, node.func.value)
        )
    return isinstance(module.expr(node), Constant)


_TEXT_METHODS = frozenset({"bindparams", "columns"})
_TEXT_CALL = re.compile(r"([A-Za-z_][A-Za-z_0-9.]*)\s*\(")
_TEXT_WRITES = re.compile(
    r"\b(into|for\s+(no\s+key\s+)?(update|share|key\s+share))\b", re.IGNORECASE
)


def _reads_only(module: Module, call: cst.Call, methods: frozenset[str]) -> bool:
    """Return whether a `text()` is one SELECT or SHOW that calls nothing that may write."""
    if not methods <= _TEXT_METHODS or len(call.args) != 1:
        return False
    argument = call.args[0].value
    found: tuple[Value | None, ...] = ()
    if isinstance(argument, cst.Name) and _is_own_constant(module, argument):
        found = module.evaluate(argument)
    elif isinstance(argument, (cst.Name, cst.Attribute)):
        found = (_imported(module, argument),)
    elif isinstance(argument, (cst.SimpleString, cst.ConcatenatedString)):
        found = module.evaluate(argument)
    return len(found) == 1 and isinstance(found[0], Literal) and _is_reading_sql(found[0].value)


def _is_own_constant(module: Module, name: cst.Name) -> bool:
    """Return whether a name is one of this file's, and no other file gives it another value."""
    bindings = module.bindings(module.expr(name), module.place(name))
    return (
        all(binding.kind == "assign" for binding in bindings)
        and module.project.assigned_elsewhere(name.value) is None
    )


def _imported(module: Module, node: cst.CSTNode) -> Value | None:
    """Return what a constant of another module is: `NAMES`, imported, or `queries.NAMES`.

    None where it is none, is bound more than once, or where a file assigns to it from outside.
    """
    first, *rest = dotted_parts(node) or ("",)
    bindings = module.bindings(Ref((first,)), module.place(node))
    if len(bindings) != 1 or bindings[0].kind != "import":
        return None
    binding, home = bindings[0], module.names
    for _ in range(_DEEPEST):
        found = home.find_module(home.absolute(".".join((binding.target, *rest))))
        if found is None or len(found[1]) != 1:
            return None
        home, [name] = found
        rest = []
        every = home.scope.bindings.get(name, ())
        if len(every) != 1 or module.project.assigned_elsewhere(name) is not None:
            return None
        binding = every[0]
        if binding.kind == "assign":
            values = home.evaluate(Ref((name,)), end_of(home.scope))
            return values[0] if len(values) == 1 else None
        if binding.kind != "import":
            return None
    return None


def _is_text_that_reads(value: Value) -> bool:
    """Return whether a value is a `text()` of one SELECT or SHOW, written out in its call."""
    if not isinstance(value, Result) or value.through or value.call.keywords:
        return False
    function, arguments = value.function, value.call.arguments
    return (
        isinstance(function, External)
        and function.dotted in _TEXTS
        and len(arguments) == 1
        and isinstance(arguments[0], Constant)
        and _is_reading_sql(arguments[0].value)
    )


def _is_reading_sql(sql: object) -> bool:
    """Return whether a text is one SELECT or SHOW that calls nothing that may write."""
    if not isinstance(sql, str):
        return False
    sql = re.sub(r"'[^']*'", "''", sql).strip().rstrip(";").strip()
    # Comments, escapes, dollar quotes and quoted function names are not looked into.
    if (
        any(mark in sql for mark in (";", "--", "/*", "\\", "$"))
        or not sql.isascii()
        or re.search(r'"\s*\(', sql)
    ):
        return False
    if re.match(r"show\s", sql, re.IGNORECASE):
        return True
    if not re.match(r"select\s", sql, re.IGNORECASE) or _TEXT_WRITES.search(sql):
        return False
    return all(
        name.lower() in _PURE_SQL_FUNCTIONS or name.lower() in ("from", "select", "where", "join")
        for name in _TEXT_CALL.findall(sql)
    )
