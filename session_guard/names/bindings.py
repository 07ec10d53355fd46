"""What the names of one module are bound to, and which binding a use of a name reaches.

The table is the same whether it was built from `ast` or from LibCST: both front ends turn
expressions into the small forms below and report bindings in source order.
"""

from __future__ import annotations

import math
import re
import string
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from session_guard.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True, eq=False)
class Ref:
    """A dotted reference such as `db.engine`."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call; `node` is the front end's own node, and its identity tells calls apart."""

    function: Expr
    arguments: tuple[Expr, ...]
    keywords: tuple[tuple[str | None, Expr], ...]
    node: object

    def keyword(self, name: str) -> Expr | None:
        """Return the value of a keyword argument, or None where it is not given by name."""
        return next((value for key, value in self.keywords if key == name), None)

    @property
    def unpacks(self) -> bool:
        """Whether `*args` or `**kwargs` make the arguments unknown."""
        return any(key is None for key, _ in self.keywords) or any(
            isinstance(argument, Star) for argument in self.arguments
        )


@dataclass(frozen=True, slots=True, eq=False)
class Attribute:
    """An attribute of something that is not a plain name: `make().engine`."""

    value: Expr
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Subscript:
    """`value[items]`; for a class, its generic form."""

    value: Expr
    items: tuple[Expr, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Await:
    """`await value`."""

    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """What one of several targets takes from `value`."""

    value: Expr
    index: int
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Element:
    """What `for` takes from `value`."""

    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class AsyncItem:
    """What `async for` takes from `value`."""

    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A literal string, number, bool or None."""

    value: object


@dataclass(frozen=True, slots=True, eq=False)
class TextBeginning:
    """A string of which the beginning is known: an f-string, or a literal with something added."""

    text: str
    pieces: tuple[str | Expr, ...] = ()
    """All of it in order: texts, and the expressions between them."""


@dataclass(frozen=True, slots=True, eq=False)
class Either:
    """A conditional expression, or the operands of `or`."""

    options: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LambdaExpr:
    """`lambda: body`."""

    body: Expr
    scope: Scope


@dataclass(frozen=True, slots=True, eq=False)
class Star:
    """`*value` in a call or a display."""

    value: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """The items of a tuple or list display."""

    items: tuple[Expr, ...]

    @property
    def has_star(self) -> bool:
        """Whether an item stands for any number of them."""
        return any(isinstance(item, Star) for item in self.items)


@dataclass(frozen=True, slots=True, eq=False)
class Display:
    """A dictionary display or `a | b`; what is unpacked into it has no key."""

    items: tuple[tuple[Expr | None, Expr], ...]
    node: object


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """Anything else."""

    pieces: tuple[str | Expr, ...] = ()
    """Of a string that begins with an expression: all of it in order."""


Expr = (
    Ref
    | Call
    | Attribute
    | Subscript
    | Await
    | Item
    | Element
    | AsyncItem
    | Constant
    | TextBeginning
    | Either
    | LambdaExpr
    | Sequence
    | Display
    | Star
    | Opaque
)


_OTHER_DATABASES = ("sqlite", "mysql", "mariadb", "mssql", "oracle", "duckdb")
_POSTGRESQL = ("postgres", "asyncpg", "pgsql")

_DOTTED = re.compile(r"[^\W\d][\w.]*")
_NAMES_AND_ATTRIBUTES = re.compile(r"[\w.\s]+|[\w.\s]+[!=]=\s*[\"'\w.]+")


def mentions_another_database(text: str) -> bool:
    """Return whether a text has the name of another database than PostgreSQL in it."""
    lowered = text.lower()
    return any(name in lowered for name in _OTHER_DATABASES)


def mentions_postgresql(text: str) -> bool:
    """Return whether a text has PostgreSQL's name in it."""
    lowered = text.lower()
    return any(name in lowered for name in _POSTGRESQL)


def tells_of_another_database(text: str) -> bool:
    """Return whether a name, or the test of a branch, speaks of another database alone."""
    return mentions_another_database(text) and not mentions_postgresql(text)


def tells_of_postgresql(text: str) -> bool:
    """Return whether the test of a branch speaks of PostgreSQL alone."""
    return mentions_postgresql(text) and not mentions_another_database(text)


# A conversion of `%`; what it is given is the next item.
_PERCENT = re.compile(r"(?<!%)(?:%%)*%[sdir]")


def joined(value: Expr, rest: Expr) -> Expr:
    """Return what is known of `value` with `rest` added to it."""
    return formatted((*_pieces(value), *_pieces(rest)))


def joined_by(separator: str, items: Iterable[Expr]) -> Expr:
    """Return what is known of `separator.join(items)`."""
    pieces: list[str | Expr] = []
    for number, item in enumerate(items):
        pieces += (*((separator,) if number else ()), *_pieces(item))
    return formatted(pieces)


def with_percent(value: Expr, given: Expr) -> Expr:
    """Return what is known of `value % given`."""
    items = given.items if isinstance(given, Sequence) else (given,)
    text = value.value if isinstance(value, Constant) else None
    first, *rest = _PERCENT.split(text) if isinstance(text, str) else ("",)
    if not rest or len(rest) != len(items) or isinstance(given, Display):
        return Opaque((value, given))
    pieces: list[str | Expr] = [first.replace("%%", "%")]
    for item, behind in zip(items, rest, strict=True):
        pieces += (*_pieces(_as_text(item)), behind.replace("%%", "%"))
    return formatted(pieces)


def with_braces(text: str, call: Call) -> Expr:
    """Return what is known of `text.format(...)`, of which `call` is the call."""
    pieces: list[str | Expr] = []
    waiting = iter(call.arguments)
    try:
        for before, name, _, _ in string.Formatter().parse(text):
            pieces.append(before)
            if name is None:
                continue
            item = call.keyword(name) if name else next(waiting, None)
            if name.isdecimal():
                item = next(iter(call.arguments[int(name) :]), None)
            pieces += _pieces(_as_text(item) if item is not None else Opaque())
    except ValueError:
        return Opaque()
    return formatted(pieces)


def _as_text(value: Expr) -> Expr:
    if isinstance(value, Constant) and isinstance(value.value, int):
        return Constant(str(value.value))
    return value


def formatted(pieces: Iterable[str | Expr]) -> TextBeginning | Opaque:
    """Return what is known of a string that is put together of `pieces`, as f-strings are."""
    merged: list[str | Expr] = []
    for piece in pieces:
        last = merged[-1] if merged else None
        if isinstance(piece, str) and isinstance(last, str):
            merged[-1] = last + piece
        else:
            merged.append(piece)
    if merged and isinstance(merged[0], str):
        return TextBeginning(merged[0], tuple(merged))
    return Opaque(tuple(merged))


def _pieces(value: Expr) -> tuple[str | Expr, ...]:
    if isinstance(value, Constant) and isinstance(value.value, str):
        return (value.value,)
    if isinstance(value, (TextBeginning, Opaque)) and value.pieces:
        return value.pieces
    return (value,)


def unpacked(value: Expr, count: int) -> tuple[Expr, ...]:
    """Return what `count` targets take from `value`, each on its own where that is known."""
    if isinstance(value, Sequence) and len(value.items) == count and not value.has_star:
        return value.items
    if isinstance(value, (Call, Await, Ref, Attribute, Either, Element)):
        return tuple(Item(value, index, count) for index in range(count))
    return (Opaque(),) * count


# The arm of a loop's body: it runs again and again.
LOOP = -1
# (number of the branching statement, number of its arm) from the scope's top down to a place.
Branches = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where an expression is evaluated: the scope, and how far into it."""

    scope: Scope
    order: float
    branches: Branches


@dataclass(frozen=True, slots=True, eq=False)
class Store:
    """`owner[key] = value`; of `del owner[key]` the value is None."""

    owner: Expr
    key: Expr
    value: Expr | None
    place: Place
    node: object


@dataclass(frozen=True, slots=True, eq=False)
class Assigned:
    """`….name = value`; of `del ….name` the value is None."""

    value: Expr | None
    place: Place
    node: object


@dataclass(slots=True, eq=False)
class Function:
    """What is known of a `def`: how it is called, and what it gives back."""

    name: str
    is_async: bool
    required_parameters: int
    decorators: tuple[Expr, ...]
    scope: Scope
    place: Place
    node: object
    positional: tuple[str, ...] = ()
    """The names of the parameters that can be given by position, a method's `self` among them."""
    returned_type: Expr | None = None
    """What it is annotated to give back."""
    is_generator: bool = False
    yields: list[tuple[Expr, Place]] = field(default_factory=list)
    returns: list[tuple[Expr, Place]] = field(default_factory=list)
    calls: list[tuple[Call, Place]] = field(default_factory=list)

    @property
    def given_by_position(self) -> tuple[str, ...]:
        """The names of the parameters that a caller gives by position; no `self`."""
        is_bound = self.scope.receiver is not None and not self.is_decorated("staticmethod")
        return self.positional[1:] if is_bound else self.positional

    @property
    def is_property(self) -> bool:
        """Whether a method is read like an attribute."""
        return any(
            isinstance(decorator, Ref) and decorator.parts[-1] in ("property", "cached_property")
            for decorator in self.decorators
        )

    @property
    def qualified_name(self) -> tuple[str, ...]:
        """Its name behind those of the classes and functions that it stands in."""
        return (*self.place.scope.qualified_name, self.name)

    def is_decorated(self, name: str) -> bool:
        """Return whether a builtin decorator stands over it."""
        return any(isinstance(d, Ref) and d.parts == (name,) for d in self.decorators)


@dataclass(slots=True, eq=False)
class Class:
    """What is known of a `class`."""

    name: str
    bases: tuple[Expr, ...]
    place: Place
    scope: Scope
    is_made_over: bool = False
    """Whether it has a decorator or a keyword, such as a metaclass, that may change what it is."""


@dataclass(slots=True, eq=False)
class Binding:
    """One way in which a name gets its value."""

    kind: Literal["import", "assign", "class", "function", "parameter", "other"]
    place: Place
    target: str = ""
    """For an import: the dotted name, with leading dots where it is relative."""
    value: Expr | Function | Class | None = None
    type_checking: bool = False
    """Whether it stands under `if TYPE_CHECKING`."""
    entered: bool = False
    """Whether the name is what a `with` got from entering the value."""
    deferred: bool = False
    """Whether the value is worked out when the name is used: that of a `type` statement is."""


ScopeKind = Literal["module", "class", "function", "lambda", "comprehension"]


@dataclass(slots=True, eq=False)
class Scope:
    """One scope: the names bound in it, in source order."""

    kind: ScopeKind
    parent: Scope | None
    place: Place | None = None
    """Where, in the parent, it stands."""
    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    globals: set[str] = field(default_factory=set)
    nonlocals: set[str] = field(default_factory=set)
    star_imports: list[tuple[str, Place]] = field(default_factory=list)
    receiver: str | None = None
    """Of a method's scope: its first parameter, `self` mostly."""
    definition: Class | None = None
    """Of a class's scope: the class."""
    attributes: dict[str, list[Binding]] = field(default_factory=dict)
    """Of a class's scope: what its methods assign to attributes of the receiver."""
    annotations: dict[str, list[tuple[Expr, Place]]] = field(default_factory=dict)
    """What its names are annotated with; of a class, those of its instances' attributes too."""
    defaults: dict[str, tuple[Expr, Place]] = field(default_factory=dict)
    """Of a function's scope: the defaults of its parameters."""
    function: Function | None = None
    """Of a function's scope: the function."""
    classes: list[Class] = field(default_factory=list)
    """Of a module's scope alone: every class in it."""
    annotated: list[tuple[Expr, Place]] = field(default_factory=list)
    """Of a module's scope alone: every annotation in it."""
    calls: list[tuple[Call, Place]] = field(default_factory=list)
    """Of a module's scope alone: every call in it."""
    assigned_attributes: dict[tuple[str, ...], list[Assigned]] = field(default_factory=dict)
    """Of a module's scope alone: the dotted names that are assigned to, but for a receiver's."""
    elsewhere: set[tuple[int, int]] = field(default_factory=set)
    """Of a module's scope alone: the arms of branches that are for another database."""
    tests: dict[int, str] = field(default_factory=dict)
    """Of a module's scope alone: the tests of its `if` statements as they are written."""
    state: dict[str, list[tuple[Expr, Place]]] = field(default_factory=dict)
    """Of a module's scope alone: what it assigns to attributes of `app.state` and its like."""
    stores: list[Store] = field(default_factory=list)
    """Of a module's scope alone: every assignment to an item."""
    end: Place = field(init=False)
    """The place behind its last statement."""

    def __post_init__(self) -> None:
        self.end = Place(self, math.inf, ())

    @property
    def module(self) -> Scope:
        """The module's scope."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    @property
    def qualified_name(self) -> tuple[str, ...]:
        """The names of the classes and functions that it is in; of a module's, none."""
        owner = self.definition or self.function
        outer = self.parent.qualified_name if self.parent is not None else ()
        return (*outer, owner.name) if owner is not None else outer

    def bind(self, name: str, binding: Binding) -> None:
        """Record a binding, in the scope that `global` or `nonlocal` send it to."""
        scope = self
        if name in self.globals:
            scope = self.module
        elif name in self.nonlocals and self.parent is not None:
            scope = self.parent
            while name not in scope.bindings and scope.parent is not None:
                scope = scope.parent
        scope.bindings.setdefault(name, []).append(binding)


def end_of(scope: Scope) -> Place:
    """Return the place behind the scope's last statement."""
    return scope.end


def is_inside(scope: Scope, outer: Scope) -> bool:
    """Return whether a scope is another, or stands in it."""
    current: Scope | None = scope
    while current is not None:
        if current is outer:
            return True
        current = current.parent
    return False


def calls_in(definition: Function) -> Iterator[tuple[Call, Place]]:
    """Yield the calls in a function, and in the functions defined in it."""
    for call, place in definition.scope.module.calls:
        if is_inside(place.scope, definition.scope):
            yield call, place


def method_of(call: Call) -> str:
    """Return the name of the attribute that is called, or nothing."""
    match call.function:
        case Attribute(name=name) | Ref((_, *_, name)):
            return name
    return ""


def class_of_receiver(name: str, place: Place) -> Scope | None:
    """Return the scope of the class whose `self` a name is, in a method or a function in it."""
    scope: Scope | None = place.scope
    while scope is not None:
        if scope.receiver == name:
            return scope.parent
        if name in scope.bindings:
            return None
        scope = scope.parent
    return None


def lookup(name: str, place: Place) -> list[Binding] | None:
    """Return the bindings of `name` that may reach `place`, or None where nothing binds it.

    A use inside a nested function sees what its outer scope holds in the end; class bodies and
    comprehensions run where they stand. Class scopes are not seen from functions inside them.
    """
    scope: Scope | None = place.scope
    at = place
    first, deferred = True, False
    while scope is not None:
        if name in scope.globals:
            scope, at = scope.module, end_of(scope.module)
        visible = first or scope.kind != "class"
        found = scope.bindings.get(name) if visible else None
        if found:
            own = [binding for binding in found if binding.place.scope is scope]
            reaching = _reaching(own, at)
            # What a function assigns through `global` may have happened before any use.
            reaching.extend(binding for binding in found if binding.place.scope is not scope)
            if reaching:
                return reaching
            if scope.kind in ("function", "lambda", "comprehension"):
                return list(found)  # used before it is bound: a loop, or an error
        if scope.parent is None:
            return None
        # What a function does comes later, in whatever class the function stands.
        deferred = deferred or scope.kind in ("function", "lambda")
        at = end_of(scope.parent) if deferred or scope.place is None else scope.place
        scope, first = scope.parent, False
    return None


def _reaching(bindings: list[Binding], at: Place) -> list[Binding]:
    """Return those of a scope's bindings that no later one surely hides at `at`."""
    reaching: list[Binding] = []
    for binding in reversed(bindings):
        if not compatible(binding.place.branches, at.branches):
            continue
        if binding.place.order >= at.order:
            if _in_one_loop(binding.place.branches, at.branches):
                reaching.append(binding)
            continue
        reaching.append(binding)
        if binding.place.branches == at.branches[: len(binding.place.branches)]:
            break
    return reaching


def excludes(one: Place, other: Place) -> bool:
    """Return whether two `if` with the same test keep a run from passing through both places.

    The test must be of names and attributes alone, and nothing may set one of them in between.
    """
    tests = one.scope.module.tests
    return one.scope is other.scope and any(
        arm != other_arm
        and statement in tests
        and tests[statement] == tests.get(other_statement)
        and _is_settled(tests[statement], *sorted((one, other), key=lambda place: place.order))
        for statement, arm in one.branches
        for other_statement, other_arm in other.branches
        if statement != other_statement
    )


def _is_settled(test: str, begin: Place, end: Place) -> bool:
    """Return whether a test of names and attributes comes out the same at two places."""
    if _NAMES_AND_ATTRIBUTES.fullmatch(test) is None:
        return False
    scope = begin.scope
    owner = scope.parent.attributes if scope.receiver is not None and scope.parent else {}
    for parts in (tuple(dotted.split(".")) for dotted in _DOTTED.findall(test)):
        changes = [binding.place for binding in scope.bindings.get(parts[0], ())]
        if parts[0] == scope.receiver and len(parts) > 1:
            changes += [binding.place for binding in owner.get(parts[1], ())]
        for assigned, ways in scope.module.assigned_attributes.items():
            changes += [way.place for way in ways if assigned == parts[: len(assigned)]]
        # A method may set what it likes.
        changes += [
            place
            for call, place in scope.module.calls
            if isinstance(call.function, Ref) and call.function.parts[:-1] == parts[:1]
        ]
        if any(p.scope is scope and begin.order <= p.order < end.order for p in changes):
            return False
    return True


def _in_one_loop(one: Branches, other: Branches) -> bool:
    """Return whether a loop holds both places, so that the later one comes before the earlier."""
    return any(a == b and a[1] == LOOP for a, b in zip(one, other, strict=False))


def compatible(one: Branches, other: Branches) -> bool:
    """Return whether one run can pass through both: not through two arms of one statement."""
    for (statement, arm), (other_statement, other_arm) in zip(one, other, strict=False):
        if statement != other_statement:
            return True
        if arm != other_arm:
            return False
    return True
