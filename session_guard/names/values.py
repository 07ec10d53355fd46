"""What an expression stands for: a session class, a session factory, an engine, a session.

Nothing is imported or run. An expression is followed through imports, assignments, classes and
functions of the files that are known; what cannot be followed is `UNKNOWN`, which is neither a
yes nor a no.
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import TYPE_CHECKING

from session_guard.names.bindings import (
    Call,
    Class,
    Constant,
    Display,
    Expr,
    Function,
    Place,
    Ref,
    Scope,
    Sequence,
    lookup,
)
from session_guard.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class External:
    """Something outside the files that are known, by its canonical dotted name."""

    dotted: str


@dataclass(frozen=True, slots=True, eq=False)
class LocalClass:
    """A class whose definition is known."""

    definition: Class
    home: Namespace

    @property
    def key(self) -> tuple[Path, str]:
        """What tells it from others, by whichever front end it was read."""
        return self.home.path, self.definition.name


@dataclass(frozen=True, slots=True, eq=False)
class LocalFunction:
    """A function whose definition is known."""

    definition: Function
    home: Namespace


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """An object of a known class, of which it is not known where it was made."""

    of: LocalClass


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """A tuple or a list as it was made."""

    sequence: Sequence
    place: Place
    home: Namespace


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A call with arguments through which something was reached: others may give another."""

    call: Call
    place: Place
    home: Namespace
    function: LocalFunction | LocalClass
    """What was called."""

    def is_same(self, other: Step) -> bool:
        """Return whether both are one call, or have the same constants for arguments."""
        if _is_one_call(self.call, self.home, other.call, other.home):
            return True
        given = _constants(self.call)
        return (
            given is not None
            and given == _constants(other.call)
            and self.function.definition is other.function.definition
        )


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What a call gives back, where the callee is not followed further: an instance, mostly."""

    function: Value
    call: Call
    place: Place
    home: Namespace
    through: tuple[Step, ...] = ()
    """The calls of known functions and classes that gave it, from the inside out."""

    def is_made_where(self, other: Result) -> bool:
        """Return whether one call in the source makes both, by whatever way it is reached."""
        return _is_one_call(self.call, self.home, other.call, other.home)

    def is_of_the_same_call(self, other: Result) -> bool:
        """Return whether both are what one and the same call in the source gives back."""
        return (
            self.is_made_where(other)
            and len(self.through) == len(other.through)
            and all(a.is_same(b) for a, b in zip(self.through, other.through, strict=True))
        )


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """`functools.partial(function, ...)`; `call` is the call of `partial`."""

    function: Value
    call: Call
    place: Place
    home: Namespace


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """An attribute of an instance, such as `factory.begin`."""

    owner: Value
    name: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A literal value."""

    value: object


@dataclass(frozen=True, slots=True)
class Beginning:
    """A string of which the beginning is known."""

    text: str
    pieces: tuple[str | Expr, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class Dictionary:
    """A dictionary as it was made, and the names that it was reached by since."""

    display: Display
    place: Place
    home: Namespace
    names: tuple[tuple[tuple[str, ...], Place, Namespace], ...] = ()


@dataclass(frozen=True, slots=True)
class Unknown:
    """What could not be followed."""


UNKNOWN = Unknown()
Value = (
    External
    | LocalClass
    | LocalFunction
    | Instance
    | Items
    | Result
    | Partial
    | Method
    | Literal
    | Beginning
    | Dictionary
    | Unknown
)


def class_of(value: Value) -> LocalClass | None:
    """Return the class that a value is or is an object of, or None where it is not known."""
    match value:
        case LocalClass():
            return value
        case Instance(LocalClass() as of) | Result(LocalClass() as of):
            return of
    return None


class Elsewhere:
    """What the files of a project do with a name; where there is no project, nothing."""

    def in_state(self, name: str) -> tuple[Located, ...]:
        """Return what is assigned to the attribute of `app.state` and its like."""
        return ()

    def set_outside(self, name: str) -> tuple[tuple[Located, Located], ...]:
        """Return the objects that an attribute is set on from outside of them, and to what."""
        return ()

    def calls(self, name: str) -> tuple[Located, ...]:
        """Return the calls of what has a name."""
        return ()

    def subclasses(self, name: str, attribute: str) -> tuple[LocalClass, ...]:
        """Return the classes that may derive from one of a name and have an attribute of a name."""
        return ()

    def is_mentioned(self, name: str, besides: Path) -> bool:
        """Return whether a file other than `besides` may have a name anywhere in its text."""
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Namespace:
    """One module's names, and the way from them to other modules."""

    scope: Scope
    package: tuple[str, ...]
    """The parts of the package that holds the module, from the project's root down."""
    path: Path
    find_module: Callable[[str], tuple[Namespace, tuple[str, ...]] | None] = field(
        default=lambda _: None
    )
    """From a dotted name to the known module it starts with and what is left of the name."""
    elsewhere: Elsewhere = field(default_factory=Elsewhere)
    """What other modules do with names."""
    known: dict[object, tuple[Value, ...]] = field(default_factory=dict)
    """What was found out of the module's bindings, functions and classes."""
    _ordinals: dict[int, int] = field(default_factory=dict)
    """The number of each call, by the `id` of its node."""

    def absolute(self, target: str) -> str:
        """Return an import's target without leading dots."""
        name = target.lstrip(".")
        level = len(target) - len(name)
        if level == 0:
            return target
        base = self.package[: len(self.package) - (level - 1)]
        return ".".join((*base, name)) if name else ".".join(base)

    def ordinal(self, call: Call) -> int | None:
        """Return a call's number among those of its module, the same from either front end."""
        if not self._ordinals:
            for number, (own, _) in enumerate(self.scope.calls):
                self._ordinals.setdefault(id(own.node), number)
        return self._ordinals.get(id(call.node))

    def evaluate(self, expr: Expr, place: Place) -> tuple[Value, ...]:
        """Return the values that `expr` may have at `place`; `UNKNOWN` stands for any other."""
        from session_guard.names.evaluation import Evaluation

        found = self.known.get((expr, place))
        return Evaluation().expr(expr, place, self) if found is None else found


@dataclass(frozen=True, slots=True)
class Located:
    """An expression with the place it is evaluated at, in one module or another."""

    expr: Expr
    place: Place
    home: Namespace
    through: tuple[Step, ...] = ()
    """The calls of known functions and classes that it is evaluated in, from the inside out."""

    def values(self) -> tuple[Value, ...]:
        """Return what it may stand for."""
        given = self.as_given()
        found = given.home.evaluate(given.expr, given.place)
        for step in given.through:
            found = through_step(found, step)
        return found

    def as_given(self) -> Located:
        """Return the argument that a call gave, for a parameter of the function it is called in."""
        located = self
        for number, step in enumerate(self.through):
            argument = _argument(located, step)
            if argument is None:
                break
            rest = self.through[number + 1 :]
            located = Located(argument, step.place, step.home, rest)
        return located


def _argument(parameter: Located, step: Step) -> Expr | None:
    """Return what a call gives for a parameter of the function that it calls, or None."""
    expr, function = parameter.expr, step.function
    if not isinstance(expr, Ref) or len(expr.parts) != 1:
        return None
    if isinstance(function, LocalClass):
        made = function.definition.scope.bindings.get("__init__", ())
        definition = made[-1].value if made else None
    else:
        definition = function.definition
    if not isinstance(definition, Function):
        return None
    bindings = lookup(expr.parts[0], parameter.place) or ()
    if not any(b.kind == "parameter" and b.place.scope is definition.scope for b in bindings):
        return None
    given = dict(zip(definition.given_by_position, step.call.arguments, strict=False))
    given.update((key, value) for key, value in step.call.keywords if key is not None)
    return given.get(expr.parts[0])


def through_step(found: Iterable[Value], step: Step) -> tuple[Value, ...]:
    """Return what a call gave, with the call where its arguments may have made a difference."""
    if not step.call.arguments and not step.call.keywords:
        return tuple(found)
    return tuple(_with_step(value, step) for value in found)


def through_object(found: Iterable[Value], owner: Value) -> tuple[Value, ...]:
    """Return what an object of a known class holds or gives, with the calls that made the object.

    Another object's may be another.
    """
    if not isinstance(owner, Result) or not isinstance(owner.function, LocalClass):
        return tuple(found)
    for step in (Step(owner.call, owner.place, owner.home, owner.function), *owner.through):
        found = through_step(found, step)
    return tuple(found)


def _with_step(value: Value, step: Step) -> Value:
    match value:
        case Result():
            return replace(value, through=(*value.through, step))
        case Method():
            return replace(value, owner=_with_step(value.owner, step))
    return value


def _is_one_call(one: Call, home: Namespace, other: Call, other_home: Namespace) -> bool:
    """Return whether two calls are the same in the source, whichever front end read it."""
    if one.node is not None and one.node is other.node:
        return True
    number = home.ordinal(one) if home.path == other_home.path else None
    return number is not None and number == other_home.ordinal(other)


def _constants(call: Call) -> tuple[object, ...] | None:
    """Return the arguments of a call where all are constants."""
    given = [(None, argument) for argument in call.arguments] + list(call.keywords)
    if not all(isinstance(value, Constant) for _, value in given):
        return None
    return tuple((key, value.value) for key, value in given if isinstance(value, Constant))
