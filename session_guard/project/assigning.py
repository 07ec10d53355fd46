"""Who sets attributes of modules, and of objects by names that are no part of the source."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from session_guard.names.bindings import (
    Attribute,
    Call,
    Constant,
    Ref,
    Star,
    Subscript,
    class_of_receiver,
    lookup,
)
from session_guard.names.values import LocalClass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from session_guard.names.bindings import Expr, Place, Store
    from session_guard.names.values import Namespace

_FILLING = frozenset({"update", "setdefault", "__setitem__"})
ANY = ""
"""Stands for an attribute whose name is only known when the code runs."""
SETS_BY_NAME = re.compile(rb"setattr|__dict__|__globals__|\bvars\s*\(|\bglobals\s*\(|\bexec\s*\(")
_GLOBALS = Call(Ref(("globals",)), (), (), None)
# Functions that only read what they get the name of.
_READING = frozenset({"getattr", "hasattr"})
# What has to do with replacing what one string names, as `patch("app.crud.load")` does.
_REPLACING = re.compile(r"patch|wrap")


def set_by_name(names: Namespace) -> Iterator[tuple[Expr, str, Place]]:
    """Yield what `setattr` and writes to `__dict__` set: the object, the attribute's name, where.

    The name is `ANY` where it is not written out.
    """
    for call, place in names.scope.calls:
        match call:
            case Call(Ref((*inner, "__setattr__")), (key, value)) if inner and not isinstance(
                value, Star
            ):
                yield Ref(tuple(inner)), _text(key), place
            case Call(Ref(parts), (owner, key, *_)) if parts[-1] in ("setattr", "__setattr__"):
                yield owner, _text(key), place
            case Call(Attribute(Call(Ref(("super",))), "__setattr__"), (key, *_)):
                if place.scope.receiver is not None:
                    yield Ref((place.scope.receiver,)), _text(key), place
            case Call(Ref(("exec",)), (_,)):
                yield _GLOBALS, ANY, place
            case Call(Ref(("exec",)), (_, *_, namespace)):
                for owner in _whose_dictionary(namespace, place):
                    yield owner, ANY, place
            case Call(Ref((*inner, method))) if inner and method in _FILLING:
                for updated in _whose_dictionary(Ref(tuple(inner)), place):
                    yield from _updated(updated, method, call, place)
            case Call(Attribute(inner, method)) if method in _FILLING:
                for updated in _whose_dictionary(inner, place):
                    yield from _updated(updated, method, call, place)
    for store in names.scope.stores:
        if _fills_in(store):
            continue
        for stored in _whose_dictionary(store.owner, store.place):
            yield stored, _text(store.key), store.place
    for definition in names.scope.classes:
        for binding in definition.scope.attributes.get("__dict__", ()):
            receiver = binding.place.scope.receiver
            if receiver is not None:
                yield Ref((receiver,)), ANY, binding.place


def _fills_in(store: Store) -> bool:
    """Return whether a module's own `__getattr__` keeps what it gives: a name that is not there."""
    scope = store.place.scope
    return (
        scope.function is not None
        and scope.function.qualified_name == ("__getattr__",)
        and isinstance(store.key, Ref)
        and store.key.parts == scope.function.positional
    )


def _updated(
    owner: Expr, method: str, call: Call, place: Place
) -> Iterator[tuple[Expr, str, Place]]:
    if method == "update":
        if call.arguments or call.unpacks:
            yield owner, ANY, place
    elif call.arguments:
        yield owner, _text(call.arguments[0]), place
    for name, _ in call.keywords if method == "update" else ():
        yield owner, name or ANY, place


def _whose_dictionary(expr: Expr, place: Place) -> Iterator[Expr]:
    """Yield the object whose attributes `expr`, or what it is a name of, is the dictionary of.

    `globals()` is the file's own, and is yielded as it is.
    """
    match expr:
        case Ref((*owner, "__dict__")) if owner:
            yield Ref(tuple(owner))
        case Ref((_, *_, "__globals__")) | Attribute(_, "__globals__"):
            yield expr
        case Attribute(value, "__dict__") | Call(Ref(("vars",)), (value,)):
            yield value
        case Call(Ref(("globals" | "vars",)), ()):
            yield expr
        case Ref((name,)):
            for binding in lookup(name, place) or ():
                match binding.value:
                    case (
                        Call(Ref(("globals" | "vars",)))
                        | Ref((_, *_, "__dict__" | "__globals__"))
                        | Attribute(_, "__dict__" | "__globals__")
                    ) as value:
                        yield from _whose_dictionary(value, binding.place)


def _text(key: Expr) -> str:
    return key.value if isinstance(key, Constant) and isinstance(key.value, str) else ANY


def assigns_in_modules(names: Namespace, name: str) -> bool:
    """Return whether a file assigns to `name` of another module."""
    return any(
        parts[-1] == name and any(_is_imported(Ref(parts[:-1]), a.place) for a in every)
        for parts, every in names.scope.assigned_attributes.items()
    )


def named_to_others(names: Namespace) -> Iterator[tuple[str, Expr, Place]]:
    """Yield the names that calls get in a string, each with what may be the module that has it.

    So `wrapt.wrap_function_wrapper("app.crud", "load", ...)` puts another in the place of a
    function; a name of a class has it before the dot.
    """
    for call, place in names.scope.calls:
        of = call.function.parts[-1] if isinstance(call.function, Ref) else ANY
        if of in _READING:
            continue
        given = (*call.arguments, *(value for _, value in call.keywords))
        for number, argument in enumerate(given):
            text = _text(argument).replace(":", ".")
            *before, name = text.rsplit(".", 1)
            if before and _REPLACING.search(of):
                yield name, Constant(before[0]), place
            for module in given[:number] if name.isidentifier() else ():
                yield text, module, place


def names_of_module(names: Namespace, name: str, named: Iterable[tuple[str, Expr, Place]]) -> bool:
    """Return whether `name` of a module, or of a class in it, is what `named_to_others` yields."""
    for text, module, place in named:
        first, *rest = text.split(".")
        if name == (first, *rest)[-1] and (
            _is_named_module(module, first, names)
            if isinstance(module, Constant)
            else isinstance(module, Ref) and _is_module_with(module, first, place, names)
        ):
            return True
    return False


def _is_named_module(module: Constant, name: str, names: Namespace) -> bool:
    """Return whether a string is the name of a module that binds `name`, or of a class that has."""
    found = names.find_module(module.value) if isinstance(module.value, str) else None
    if found is None:
        return False
    return bool(found[1]) or name in found[0].scope.bindings


def sets_in_modules(
    names: Namespace, name: str, by_name: Iterable[tuple[Expr, str, Place]]
) -> bool:
    """Return whether a file sets `name` of another module, or may, by what `set_by_name` yields."""
    for owner, attribute, place in by_name:
        if attribute == name or (attribute == ANY and _is_module_with(owner, name, place, names)):
            return True
    return False


def sets_any_global(names: Namespace) -> bool:
    """Return whether a file may set any of its own globals, by names that are not written out."""
    return any(
        attribute == ANY and _is_own_globals(owner) for owner, attribute, _ in set_by_name(names)
    )


def _is_own_globals(expr: Expr) -> bool:
    return (
        isinstance(expr, Call)
        and isinstance(expr.function, Ref)
        and expr.function.parts in (("globals",), ("vars",))
        and not expr.arguments
    )


def _is_imported(expr: Expr, place: Place) -> bool:
    """Return whether an expression leads through an import, or is a module had by its name."""
    return _is_had_by_name(expr, place) or (
        isinstance(expr, Ref)
        and any(b.kind == "import" for b in lookup(expr.parts[0], place) or ())
    )


def _is_module_with(expr: Expr, name: str, place: Place, names: Namespace) -> bool:
    """Return whether an expression may be a module that binds `name`."""
    if _is_had_by_name(expr, place):
        return True
    match expr:
        case Call(Ref(("globals" | "vars",)), ()):
            # What a file only imports is another's; its own use of it is the caller's affair.
            return any(b.kind != "import" for b in names.scope.bindings.get(name, ()))
        case Ref((_, *_, "__globals__")) | Attribute(_, "__globals__"):
            return True  # those of whatever module the function is of
        case Ref((first, *rest)):
            pass
        case _:
            return False
    for binding in lookup(first, place) or ():
        if binding.kind == "import":
            found = names.find_module(names.absolute(".".join((binding.target, *rest))))
            if found is not None and not found[1] and name in found[0].scope.bindings:
                return True
    return False


def _is_had_by_name(expr: Expr, place: Place) -> bool:
    """Return whether an expression is `sys.modules[…]` or `import_module(…)`, or a name of one."""
    match expr:
        case Subscript(Ref((*_, "modules"))) | Call(Ref((*_, "import_module" | "__import__"))):
            return True
        case Attribute(owner):
            return _is_had_by_name(owner, place)  # `__import__("app").db`
        case Ref((name, *_)):
            return any(
                isinstance(binding.value, (Attribute, Subscript, Call))
                and _is_had_by_name(binding.value, binding.place)
                for binding in lookup(name, place) or ()
            )
    return False


def classes_set_by_name(names: Namespace) -> Iterator[LocalClass]:
    """Yield the classes whose methods set attributes of their object by names not written out."""
    of_scopes = {id(definition.scope): definition for definition in names.scope.classes}
    for owner, attribute, place in set_by_name(names):
        if attribute == ANY and isinstance(owner, Ref) and len(owner.parts) == 1:
            scope = class_of_receiver(owner.parts[0], place)
            if scope is not None and id(scope) in of_scopes:
                yield LocalClass(of_scopes[id(scope)], names)
