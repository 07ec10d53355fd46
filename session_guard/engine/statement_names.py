"""What a name function calls prepared statements, as far as its source tells."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from session_guard.names.bindings import (
    Attribute,
    Call,
    Class,
    Constant,
    Either,
    Function,
    Opaque,
    Ref,
    Subscript,
    TextBeginning,
    lookup,
)
from session_guard.names.evaluation import class_member
from session_guard.names.openings import ancestry
from session_guard.names.values import (
    UNKNOWN,
    External,
    Literal,
    LocalClass,
    LocalFunction,
    Method,
    Result,
)
from session_guard.standard import Names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.names.bindings import Binding, Expr, Place
    from session_guard.names.values import Namespace, Value

# What differs between processes each time it is called.
_UNIQUE = frozenset(
    {"uuid.uuid1", "uuid.uuid4", "uuid.uuid7", "os.urandom"}
    | {"secrets.token_hex", "secrets.token_urlsafe", "secrets.token_bytes", "secrets.randbits"}
    | {"uuid6.uuid7", "uuid_utils.uuid4", "uuid_utils.uuid7", "ulid.ULID", "nanoid.generate"}
)
# What tells processes of one machine apart, and neither containers nor what ran before.
_OF_PROCESS = frozenset({"os.getpid", "os.getppid", "multiprocessing.current_process"})
# What gives its arguments, or what it is called on, in another form.
_CONVERSIONS = frozenset({"str", "int", "hex", "format", "repr"})
_METHODS = frozenset({"format", "hex", "join", "lower", "upper", "replace", "zfill", "rjust"})
_CONNECTIONS = frozenset({"asyncpg.Connection", "asyncpg.connection.Connection"})
_DEEPEST = 8


class _Part(enum.Enum):
    """What a part of a name is, each time the function is called."""

    TEXT = enum.auto()
    """A literal."""
    NEW = enum.auto()
    """Unique."""
    COUNTED = enum.auto()
    """One more than before, in this process."""
    PROCESS = enum.auto()
    """The process id."""
    KEPT = enum.auto()
    """The same for as long as the process runs, and unique to it."""
    FIXED = enum.auto()
    """The same for as long as the process runs, whatever it is."""
    UNKNOWN = enum.auto()


def names_of(value: Value) -> Names:
    """Return what the name function `value` gives."""
    if isinstance(value, Result) and isinstance(value.function, LocalClass):
        found = class_member(value.function, "__call__")
        value = found[0] if len(found) == 1 else value
    if not isinstance(value, LocalFunction) or value.definition.is_async:
        return Names.UNKNOWN
    kinds = {
        _kind(option, place, value.home)
        for expr, place in value.definition.returns
        for option in (expr.options if isinstance(expr, Either) else (expr,))
    }
    return kinds.pop() if len(kinds) == 1 else Names.UNKNOWN


def names_of_connections(connection_class: Value) -> Names:
    """Return what connections of a class name statements by that nobody else names."""
    found: tuple[Value, ...] = ()
    if isinstance(connection_class, LocalClass):
        found = class_member(connection_class, "_get_unique_id")
    if found in ((), (UNKNOWN,)):
        bases = ancestry(connection_class)
        return Names.DEFAULT if bases and bases <= _CONNECTIONS else Names.UNKNOWN
    return names_of(found[0]) if len(found) == 1 else Names.UNKNOWN


def _kind(expr: Expr, place: Place, home: Namespace) -> Names:
    parts = set(_parts(expr, place, home))
    if _Part.NEW in parts or parts >= {_Part.KEPT, _Part.COUNTED}:
        return Names.UNIQUE
    if _Part.UNKNOWN in parts:
        return Names.UNKNOWN
    if _Part.COUNTED in parts:
        if _Part.FIXED in parts:
            return Names.UNKNOWN
        return Names.COUNTED_BY_PROCESS if _Part.PROCESS in parts else Names.COUNTED
    if parts != {_Part.TEXT}:
        return Names.CONSTANT
    found = home.evaluate(expr, place)
    return Names.ANONYMOUS if found == (Literal(""),) else Names.CONSTANT


def _parts(expr: Expr, place: Place, home: Namespace, depth: int = 0) -> Iterator[_Part]:
    """Yield what a returned expression is put together of."""
    if depth > _DEEPEST:
        yield _Part.UNKNOWN
        return
    match expr:
        case Constant():
            yield _Part.TEXT
        case TextBeginning() | Opaque() if expr.pieces:
            for piece in expr.pieces:
                if isinstance(piece, str):
                    yield _Part.TEXT
                else:
                    yield from _parts(piece, place, home, depth + 1)
        case Attribute(value):
            yield from _parts(value, place, home, depth + 1)
        case Subscript(value):
            # A part of a unique text is taken for unique; what else is in a container may change.
            whole = set(_parts(value, place, home, depth + 1))
            yield from whole & {_Part.NEW, _Part.KEPT} or {_Part.UNKNOWN}
        case Call():
            yield from _parts_of_call(expr, place, home, depth + 1)
        case Ref():
            yield from _parts_of_name(expr, place, home, depth + 1)
        case _:
            yield _Part.UNKNOWN


def _parts_of_call(call: Call, place: Place, home: Namespace, depth: int) -> Iterator[_Part]:
    given = (*call.arguments, *(value for _, value in call.keywords))
    called = call.function
    if isinstance(called, Ref) and len(called.parts) > 1:
        called = Attribute(Ref(called.parts[:-1]), called.parts[-1])
    for function in home.evaluate(call.function, place):
        match function:
            case External(dotted) if dotted in _UNIQUE:
                yield _Part.NEW
                return
            case External(dotted) if dotted in _OF_PROCESS:
                yield _Part.PROCESS
                return
            case External("next") if given and _counts(home.evaluate(given[0], place)):
                yield _Part.COUNTED
                return
            case Method(owner, "__next__") if _counts((owner,)):
                yield _Part.COUNTED
                return
            case LocalFunction(definition, own) if not definition.is_async:
                for expr, at in definition.returns:
                    yield from _parts(expr, at, own, depth)
                return
            case External(dotted) if dotted in _CONVERSIONS:
                pass
            case _ if isinstance(called, Attribute) and called.name in _METHODS:
                yield from _parts(called.value, place, home, depth)
            case _:
                yield _Part.UNKNOWN
    for item in given:
        yield from _parts(item, place, home, depth)


def _counts(values: tuple[Value, ...]) -> bool:
    return any(
        isinstance(value, Result) and value.function == External("itertools.count")
        for value in values
    )


def _parts_of_name(ref: Ref, place: Place, home: Namespace, depth: int) -> Iterator[_Part]:
    bindings = _bindings(ref, place)
    if any(_is_increment(binding, ref) for binding in bindings):
        yield _Part.COUNTED
        return
    if len(bindings) != 1 or bindings[0].kind != "assign":
        found = home.evaluate(ref, place)
        yield _Part.TEXT if all(isinstance(v, Literal) for v in found) else _Part.UNKNOWN
        return
    (binding,) = bindings
    assert binding.value is not None
    assert not isinstance(binding.value, (Function, Class))
    parts = set(_parts(binding.value, binding.place, home, depth))
    if binding.place.scope is place.scope or parts <= {_Part.TEXT, _Part.PROCESS}:
        yield from parts
    else:  # it was made once, before the function was called
        yield _Part.KEPT if _Part.NEW in parts else _Part.FIXED


def _bindings(ref: Ref, place: Place) -> list[Binding]:
    """Return the bindings of a name, or of an attribute of a method's receiver."""
    first, *rest = ref.parts
    if not rest:
        return lookup(first, place) or []
    around = place.scope.parent
    if len(rest) > 1 or place.scope.receiver != first or around is None:
        return []
    return [*around.bindings.get(rest[0], ()), *around.attributes.get(rest[0], ())]


def _is_increment(binding: Binding, ref: Ref) -> bool:
    """Return whether a binding adds a number to what it binds, each time its function runs."""
    value = binding.value
    if not isinstance(value, Opaque) or binding.place.scope.kind == "module":
        return False
    is_own = any(isinstance(piece, Ref) and piece.parts == ref.parts for piece in value.pieces)
    return is_own and any(isinstance(piece, Constant) for piece in value.pieces)
