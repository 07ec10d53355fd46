"""What a name function calls prepared statements, as far as its source tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.names.bindings import (
    Attribute,
    Call,
    Opaque,
    Ref,
    Subscript,
    TextBeginning,
    lookup,
)
from session_guard.names.values import External, Literal, LocalFunction
from session_guard.standard import Names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.names.bindings import Expr, Place
    from session_guard.names.values import Namespace, Value

# What differs between processes each time it is called.
_UNIQUE = frozenset(
    {"uuid.uuid1", "uuid.uuid4", "uuid.uuid7", "os.urandom"}
    | {"secrets.token_hex", "secrets.token_urlsafe", "secrets.token_bytes", "secrets.randbits"}
    | {"uuid6.uuid7", "uuid_utils.uuid4", "uuid_utils.uuid7", "ulid.ULID", "nanoid.generate"}
)


def names_of(value: Value) -> Names:
    """Return what the name function `value` gives."""
    if not isinstance(value, LocalFunction) or value.definition.is_async:
        return Names.UNKNOWN
    kinds = {_kind(expr, place, value.home) for expr, place in value.definition.returns}
    return kinds.pop() if len(kinds) == 1 else Names.UNKNOWN


def _kind(expr: Expr, place: Place, home: Namespace) -> Names:
    if _is_made_once(expr, place):
        return Names.CONSTANT
    functions = [
        function
        for call in _calls(expr, place)
        for function in home.evaluate(call.function, place)
        if isinstance(function, External)
    ]
    if any(function.dotted in _UNIQUE for function in functions):
        return Names.UNIQUE
    if any(function.dotted == "next" for function in functions):
        return Names.COUNTED
    found = home.evaluate(expr, place)
    if all(isinstance(value, Literal) and isinstance(value.value, str) for value in found):
        is_anonymous = {value == Literal("") for value in found}
        if len(is_anonymous) == 1:
            return Names.ANONYMOUS if is_anonymous.pop() else Names.CONSTANT
    return Names.UNKNOWN


def _is_made_once(expr: Expr, place: Place) -> bool:
    """Return whether a name is returned that the module sets once, when it is imported."""
    if not isinstance(expr, Ref) or len(expr.parts) != 1:
        return False
    bindings = lookup(expr.parts[0], place) or []
    return (
        len(bindings) == 1
        and bindings[0].kind == "assign"
        and bindings[0].place.scope.kind == "module"
        and isinstance(bindings[0].value, (Call, TextBeginning))
    )


def _calls(expr: Expr, place: Place, depth: int = 0) -> Iterator[Call]:
    """Yield the calls that a returned expression is put together of, through local names."""
    if depth > 8:
        return
    parts: list[Expr] = []
    if isinstance(expr, Call):
        yield expr
        parts = [expr.function, *expr.arguments, *(value for _, value in expr.keywords)]
    elif isinstance(expr, (TextBeginning, Opaque)):
        parts = [piece for piece in expr.pieces if not isinstance(piece, str)]
    elif isinstance(expr, (Attribute, Subscript)):
        parts = [expr.value]
    elif isinstance(expr, Ref):
        for binding in lookup(expr.parts[0], place) or ():
            if binding.place.scope is place.scope and isinstance(
                binding.value, (Call, TextBeginning, Opaque, Ref, Attribute)
            ):
                parts.append(binding.value)
    for part in parts:
        yield from _calls(part, place, depth + 1)
