"""Who sets attributes of modules, and of objects by names that are no part of the source."""

from __future__ import annotations

import builtins
import re
import sys
from typing import TYPE_CHECKING

from session_guard.names import openings
from session_guard.names.bindings import (
    Attribute,
    Call,
    Constant,
    Function,
    Ref,
    Subscript,
    class_of_receiver,
    lookup,
)
from session_guard.names.values import UNKNOWN, External, LocalClass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.names.bindings import Expr, Place, Scope
    from session_guard.names.values import Namespace

_CHANGES_IN_PLACE = frozenset(
    """
    add append clear discard extend insert pop popitem remove reverse setdefault sort update
    """.split()
)
_FILLING = frozenset({"update", "setdefault", "__setitem__"})
ANY = ""
"""Stands for an attribute whose name is only known when the code runs."""
READING_METHODS = frozenset(
    """
    __str__ __repr__ __format__ __bool__ __len__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__
    __hash__ __iter__ __next__ __getitem__ __contains__ __getattr__ __getattribute__ __int__
    __float__ __index__ __neg__ __pos__ __abs__ __round__ __reversed__ __add__ __radd__
    __sub__ __rsub__ __mul__ __rmul__ __truediv__ __rtruediv__ __floordiv__ __mod__ __rmod__
    __and__ __rand__ __or__ __ror__ __xor__ __rxor__
    """.split()
)
"""The methods that Python calls where an object is only used."""
_MAPPED = frozenset({"__tablename__", "__table__", "__mapper_args__"})
_NOT_MAPPED = sys.stdlib_module_names | set(dir(builtins)) | {"pydantic", "typing_extensions"}
SETS_BY_NAME = re.compile(rb"setattr|__dict__|\bvars\s*\(|\bglobals\s*\(")


def set_by_name(names: Namespace) -> Iterator[tuple[Expr, str, Place]]:
    """Yield what `setattr` and writes to `__dict__` set: the object, the attribute's name, where.

    The name is `ANY` where it is not written out.
    """
    for call, place in names.scope.calls:
        match call:
            case Call(Ref(parts), (owner, key, *_)) if parts[-1] in ("setattr", "__setattr__"):
                yield owner, _text(key), place
            case Call(Attribute(Call(Ref(("super",))), "__setattr__"), (key, *_)):
                if place.scope.receiver is not None:
                    yield Ref((place.scope.receiver,)), _text(key), place
            case Call(Ref((*inner, method))) if inner and method in _FILLING:
                for updated in _whose_dictionary(Ref(tuple(inner)), place):
                    yield from _updated(updated, method, call, place)
            case Call(Attribute(inner, method)) if method in _FILLING:
                for updated in _whose_dictionary(inner, place):
                    yield from _updated(updated, method, call, place)
    for store in names.scope.stores:
        for stored in _whose_dictionary(store.owner, store.place):
            yield stored, _text(store.key), store.place
    for definition in names.scope.classes:
        for binding in definition.scope.attributes.get("__dict__", ()):
            receiver = binding.place.scope.receiver
            if receiver is not None:
                yield Ref((receiver,)), ANY, binding.place


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
        case Attribute(value, "__dict__") | Call(Ref(("vars",)), (value,)):
            yield value
        case Call(Ref(("globals" | "vars",)), ()):
            yield expr
        case Ref((name,)):
            for binding in lookup(name, place) or ():
                match binding.value:
                    case Call(Ref(("globals" | "vars",))) | Ref((_, *_, "__dict__")) as value:
                        yield from _whose_dictionary(value, binding.place)


def _text(key: Expr) -> str:
    return key.value if isinstance(key, Constant) and isinstance(key.value, str) else ANY


def sets_in_modules(names: Namespace, name: str) -> bool:
    """Return whether a file sets `name` of another module, or may."""
    for parts, every in names.scope.assigned_attributes.items():
        if parts[-1] == name and any(_is_imported(Ref(parts[:-1]), a.place) for a in every):
            return True
    for owner, attribute, place in set_by_name(names):
        if attribute == name or (attribute == ANY and _is_module_with(owner, name, place, names)):
            return True
    return False


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
    if not isinstance(expr, Ref):
        return False
    first, *rest = expr.parts
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


class Setters:
    """Finds the methods that set something of their object.

    Setting is assigning, changing a collection in place, and calling a method that does so.
    """

    def __init__(self) -> None:
        self._known: dict[Namespace, set[int]] = {}

    def properties(self, names: Namespace) -> Iterator[str]:
        """Yield the names of the properties of a module's classes whose getters do."""
        for definition in names.scope.classes:
            for method in self._of(LocalClass(definition, names)):
                if any(map(_is_property, method.decorators)):
                    yield method.name

    def may_set_when_read(self, names: Namespace) -> bool:
        """Return whether a method that Python calls to read an object may, of any class."""
        return any(
            id(binding.value) in self._setting(names) or any(_own_calls(binding.value))
            for definition in names.scope.classes
            for name in READING_METHODS
            for binding in definition.scope.bindings.get(name, ())
            if isinstance(binding.value, Function)
        )

    def reading_methods(self, names: Namespace) -> Iterator[str]:
        """Yield the names of the methods that do, and that Python calls to read a mapped object."""
        for definition in names.scope.classes:
            owner = LocalClass(definition, names)
            if _may_be_mapped(owner):
                yield from READING_METHODS.intersection(method.name for method in self._of(owner))

    def _of(self, owner: LocalClass) -> list[Function]:
        """Return the methods of a class, and of those it derives from, that do."""
        methods: list[Function] = []
        found: list[Function] = []
        for one in openings.lineage(owner):
            setting = self._setting(one.home)
            for bindings in one.definition.scope.bindings.values():
                for binding in bindings:
                    if isinstance(binding.value, Function):
                        into = found if id(binding.value) in setting else methods
                        into.append(binding.value)
        while found:
            called = {method.name for method in found}
            more = [method for method in methods if not called.isdisjoint(_own_calls(method))]
            if not more:
                break
            found += more
            methods = [method for method in methods if method not in more]
        return found

    def _setting(self, names: Namespace) -> set[int]:
        """Return which methods of a module's classes set something themselves."""
        if names not in self._known:
            self._known[names] = {
                id(method)
                for place, root in _changed(names)
                if (method := _method_of(place)) is not None and root == method.scope.receiver
            }
        return self._known[names]


def _may_be_mapped(owner: LocalClass) -> bool:
    """Return whether a class may be a mapped one: what it derives from is not all known."""
    for one in openings.lineage(owner):
        if not _MAPPED.isdisjoint(one.definition.scope.bindings):
            return True
        for base in one.definition.bases:
            for value in one.home.evaluate(base, one.definition.place) or (UNKNOWN,):
                if isinstance(value, External):
                    if value.dotted.partition(".")[0] not in _NOT_MAPPED:
                        return True
                elif not isinstance(value, LocalClass):
                    return True
    return False


def _changed(names: Namespace) -> Iterator[tuple[Place, str]]:
    """Yield where something is changed that is reached through a name, and that name."""
    for definition in names.scope.classes:
        for bindings in definition.scope.attributes.values():
            for binding in bindings:
                if binding.place.scope.receiver is not None:
                    yield binding.place, binding.place.scope.receiver
    for parts, every in names.scope.assigned_attributes.items():
        for assigned in every:
            yield assigned.place, parts[0]
    for store in names.scope.stores:
        if isinstance(store.owner, Ref):
            yield store.place, store.owner.parts[0]
    for owner, _, place in set_by_name(names):
        if isinstance(owner, Ref):
            yield place, owner.parts[0]
    for call, place in names.scope.calls:
        if isinstance(call.function, Ref) and len(call.function.parts) > 2:
            first, *_, method = call.function.parts
            if method in _CHANGES_IN_PLACE:
                yield place, first


def _method_of(place: Place) -> Function | None:
    """Return the method that a place is in, functions in the method left out."""
    scope: Scope | None = place.scope
    while scope is not None and scope.kind == "comprehension":
        scope = scope.parent
    return scope.function if scope is not None and scope.receiver is not None else None


def _own_calls(method: Function) -> Iterator[str]:
    """Yield the names of the methods of its object that a method calls."""
    for call, _ in method.calls:
        match call.function:
            case Ref((first, name)) if first == method.scope.receiver:
                yield name
            case Attribute(Call(Ref(("super",))), name):
                yield name


def _is_property(decorator: Expr) -> bool:
    """Return whether a decorator makes a property of a method, by its name's end."""
    return isinstance(decorator, Ref) and decorator.parts[-1].endswith("property")
