"""Which methods change something of what they are read from: properties, `__str__` and the like."""

from __future__ import annotations

import builtins
import sys
from typing import TYPE_CHECKING

from session_guard.names import openings
from session_guard.names.bindings import (
    Attribute,
    Await,
    Call,
    Display,
    Either,
    Function,
    Ref,
    Sequence,
    Subscript,
    TextBeginning,
    lookup,
)
from session_guard.names.values import UNKNOWN, External, LocalClass, LocalFunction
from session_guard.project.assigning import set_by_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from session_guard.names.bindings import Binding, Expr, Place, Scope
    from session_guard.names.values import Namespace

CHANGES_IN_PLACE = frozenset(
    """
    add append clear discard extend insert pop popitem remove reverse setdefault sort update
    """.split()
)
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
_COLLECTIONS = frozenset({"Counter", "defaultdict", "deque", "dict", "list", "set"})
_LOOKS_ALONE = frozenset(
    """
    abs all any bool dict enumerate float format frozenset getattr hasattr hash id int isinstance
    issubclass iter len list max min next print range repr reversed round set sorted str sum super
    tuple type zip
    """.split()
)
"""The builtins that change nothing of what they are given."""
_Members = dict[str, list[tuple[Function, "Namespace"]]]


class Setters:
    """Finds the methods that change something where an object is only read.

    Changing is assigning to an attribute or an item, filling or emptying a collection, and calling
    what does so. A method's own new collections do not count.
    """

    def __init__(self) -> None:
        self._known: dict[Namespace, set[int]] = {}
        self._methods: dict[Namespace, set[str]] = {}

    def properties(self, names: Namespace) -> Iterator[str]:
        """Yield the names of what a module's classes have that changes something when it is read.

        These are properties, and objects and functions of the project that are made such.
        """
        for definition in names.scope.classes:
            owner = LocalClass(definition, names)
            for name, method, home in self._of(owner):
                if any(_is_property(one, method.place, home) for one in method.decorators):
                    yield name
            for name, bindings in definition.scope.bindings.items():
                if any(
                    self._is_descriptor(binding.value, binding.place, names) for binding in bindings
                ):
                    yield name

    def may_set_when_read(self, names: Namespace) -> bool:
        """Return whether a method that Python calls to read an object may, of any class."""
        return any(
            bool(method.calls) or id(method) in self._changing(home)
            for definition in names.scope.classes
            for name in READING_METHODS
            for method, home in _functions(name, definition.scope.bindings.get(name, ()), names)
        )

    def reading_methods(self, names: Namespace) -> Iterator[str]:
        """Yield the names of the methods that do, and that Python calls to read a mapped object."""
        for definition in names.scope.classes:
            owner = LocalClass(definition, names)
            if may_be_mapped(owner):
                yield from READING_METHODS.intersection(name for name, *_ in self._of(owner))

    def _of(self, owner: LocalClass) -> Iterator[tuple[str, Function, Namespace]]:
        """Yield the methods of a class, and of those it derives from, that change something.

        Of those that are called, where nothing reads them, it is not asked.
        """
        members: _Members = {}
        for one in openings.lineage(owner):
            for name, bindings in one.definition.scope.bindings.items():
                members.setdefault(name, []).extend(_functions(name, bindings, one.home))
        for name, methods in members.items():
            for method, home in methods:
                is_read = name in READING_METHODS or method.decorators
                if is_read and self._changes(method, home, members, set()):
                    yield name, method, home

    def _changes(
        self,
        function: Function,
        home: Namespace,
        members: _Members,
        seen: set[int],
    ) -> bool:
        """Return whether a function changes something, or calls what does."""
        if id(function) in seen:
            return False
        seen.add(id(function))
        if id(function) in self._changing(home):
            return True
        own = [*_own_calls(function), *_own_reads(function)]
        if any(
            self._changes(method, its_home, members, seen)
            for name in own
            for method, its_home in members.get(name, ())
        ):
            return True
        return any(
            self._hands_on(call, place, function, home, seen) for call, place in function.calls
        )

    def _hands_on(
        self, call: Call, place: Place, function: Function, home: Namespace, seen: set[int]
    ) -> bool:
        """Return whether a call may change what it is given, or what it is a method of."""
        found = home.evaluate(call.function, place)
        local = [value for value in found if isinstance(value, LocalFunction)]
        if any(self._changes(value.definition, value.home, {}, seen) for value in local):
            return True
        if isinstance(call.function, Ref) and len(call.function.parts) > 1:
            *owner, method = call.function.parts
            is_own = owner == [function.scope.receiver]
            if not is_own and method in self._changing_methods(home):
                return True
        if local or function.scope.receiver is None or _looks_alone(call):
            return False
        given = (*call.arguments, *(value for _, value in call.keywords))
        return any(
            isinstance(one, Ref) and one.parts == (function.scope.receiver,) for one in given
        )

    def _is_descriptor(self, value: object, place: Place, names: Namespace) -> bool:
        """Return whether a class attribute is an object that changes something when it is read."""
        if not isinstance(value, Call):
            return False
        if not _is_property(value.function, place, names):
            return False
        # What it is given, as in `property(f)`, and how an object of the class is read.
        getters = [found for one in value.arguments for found in names.evaluate(one, place)]
        getters += (
            LocalFunction(binding.value, one.home)
            for made in names.evaluate(value.function, place)
            if isinstance(made, LocalClass)
            for one in openings.lineage(made)
            for binding in one.definition.scope.bindings.get("__get__", ())
            if isinstance(binding.value, Function)
        )
        return any(
            isinstance(getter, LocalFunction)
            and self._changes(getter.definition, getter.home, {}, set())
            for getter in getters
        )

    def _changing(self, names: Namespace) -> set[int]:
        """Return which functions of a module change something themselves."""
        if names not in self._known:
            self._known[names] = {
                id(function)
                for place, root in _changed(names)
                if not _is_own_collection(root, place)
                for function in _functions_round(place)
            }
        return self._known[names]

    def _changing_methods(self, names: Namespace) -> set[str]:
        """Return the names of the methods of a module's classes that change something."""
        if names not in self._methods:
            changing = self._changing(names)
            self._methods[names] = {
                name
                for definition in names.scope.classes
                for name, bindings in definition.scope.bindings.items()
                if any(id(binding.value) in changing for binding in bindings)
            }
        return self._methods[names]


def _functions(
    name: str, bindings: Iterable[Binding], home: Namespace
) -> Iterator[tuple[Function, Namespace]]:
    """Yield the functions that a class has under a name, by another name of theirs too."""
    for binding in bindings:
        if isinstance(binding.value, Function):
            yield binding.value, home
        elif name in READING_METHODS and isinstance(binding.value, Ref):  # `__repr__ = show`
            for value in home.evaluate(binding.value, binding.place):
                if isinstance(value, LocalFunction):
                    yield value.definition, value.home


def may_be_mapped(owner: LocalClass) -> bool:
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
        if isinstance(call.function, Ref) and len(call.function.parts) > 1:
            first, *between, method = call.function.parts
            # What a class has by such a name of its own is a method like any other.
            if method in CHANGES_IN_PLACE and (between or first != place.scope.receiver):
                yield place, first


def _is_own_collection(name: str, place: Place) -> bool:
    """Return whether a function's name stands for a collection that it has just made."""
    bindings = lookup(name, place) or ()
    return bool(bindings) and all(
        binding.place.scope.kind != "module" and _makes_collection(binding.value)
        for binding in bindings
    )


def _makes_collection(value: object) -> bool:
    match value:
        case Sequence() | Display():
            return True
        case Call(Ref(parts)):
            return parts[-1] in _COLLECTIONS
    return False


def _functions_round(place: Place) -> Iterator[Function]:
    """Yield the functions that a place is in."""
    scope: Scope | None = place.scope
    while scope is not None:
        if scope.function is not None:
            yield scope.function
        scope = scope.parent


def _own_calls(method: Function) -> Iterator[str]:
    """Yield the names of the methods of its object that a method calls."""
    for call, _ in method.calls:
        match call.function:
            case Ref((first, name)) if first == method.scope.receiver:
                yield name
            case Attribute(Call(Ref(("super",))), name):
                yield name


def _own_reads(method: Function) -> Iterator[str]:
    """Yield the attributes of its object that a method gives back, or hands to a call."""
    waiting: list[object] = [value for value, _ in method.returns]
    for call, _ in method.calls:
        waiting += (call.function, *call.arguments, *(value for _, value in call.keywords))
    while waiting:
        match waiting.pop():
            case Ref((first, name, *_)) if first == method.scope.receiver:
                yield name
            case Attribute(inner) | Await(inner):
                waiting.append(inner)
            case Subscript(inner, items):
                waiting += (inner, *items)
            case Either(items) | Sequence(items) | TextBeginning(_, items):
                waiting += items


def _looks_alone(call: Call) -> bool:
    """Return whether a call is one of a builtin that changes nothing of what it is given."""
    return isinstance(call.function, Ref) and call.function.parts[-1] in _LOOKS_ALONE


def _is_property(decorator: Expr, place: Place, home: Namespace) -> bool:
    """Return whether a decorator may make a property of a method: by its name, or as its own."""
    if isinstance(decorator, Ref) and decorator.parts[-1].endswith("property"):
        return True
    made = home.evaluate(decorator, place)
    return any(isinstance(value, (LocalClass, LocalFunction)) for value in made)
