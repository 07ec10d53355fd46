"""Which sessions an object was given where it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.names.bindings import Call, Function, Ref, class_of_receiver, lookup
from session_guard.names.held import held
from session_guard.names.openings import lineage
from session_guard.names.values import LocalClass, LocalFunction, Located, Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from session_guard.names.bindings import Binding, Expr, Place
    from session_guard.names.held import Held, Key
    from session_guard.names.values import Namespace

_DEEPEST = 3


def given_to_maker(expr: Expr, place: Place, home: Namespace, depth: int = 0) -> dict[Key, Held]:
    """Return the sessions that an object was given where it was made, by its class's own keys.

    Those of the objects that it was given are among them.
    """
    known: dict[Key, Held] = {}
    for call, at in _made_by(expr, place):
        for value in home.evaluate(call, at):
            if not isinstance(value, Result) or not isinstance(value.function, LocalClass):
                continue
            parameters = _parameters(value.function)
            given = dict(zip(parameters, value.call.arguments, strict=False))
            given.update((key, value) for key, value in value.call.keywords if key is not None)
            for name in parameters.keys() & given.keys():
                session = _held(given[name], value)
                if session is not None:
                    known[parameters[name]] = session
                elif depth < _DEEPEST:
                    known |= given_to_maker(given[name], value.place, value.home, depth + 1)
    return known


def handed_in(expr: Expr, place: Place, home: Namespace) -> Key | None:
    """Return the parameter of a class's maker that an attribute of `self` was set to, or None."""
    if not isinstance(expr, Ref) or len(expr.parts) != 2:
        return None
    receiver, attribute = expr.parts
    scope = class_of_receiver(receiver, place)
    if scope is None or scope.definition is None:
        return None
    for owner in lineage(LocalClass(scope.definition, home)):
        for binding in owner.definition.scope.attributes.get(attribute, ()):
            if isinstance(binding.value, Ref) and len(binding.value.parts) == 1:
                [name] = binding.value.parts
                for given in lookup(name, binding.place) or ():
                    if given.kind == "parameter" and given.place.scope is binding.place.scope:
                        return id(given.place.scope), name
    return None


def _held(given: Expr, made: Result) -> Held | None:
    """Return the session that the maker was given, as those call it who asked for the object."""
    outside = Located(given, made.place, made.home, made.through).as_given()
    session = held(outside.expr, outside.place, outside.home)
    inner = {
        id(step.function.definition.scope)
        for step in made.through
        if isinstance(step.function, LocalFunction)
    }
    # A name of a function between may stand for another session each time.
    return session if session is not None and session.key[0] not in inner else None


def _parameters(owner: LocalClass) -> dict[str, Key]:
    """Return what a class is called with: its parameters, or its fields where it has no maker."""
    maker = _initializer(owner)
    if maker is not None:
        kinds = maker.scope.bindings.items()
        names = [name for name, bindings in kinds if bindings[0].kind == "parameter"]
        return {name: (id(maker.scope), name) for name in names[1:]}
    fields: dict[str, Key] = {}
    for base in _bases(owner):
        fields |= _parameters(base)
    scope = owner.definition.scope
    return fields | {name: (id(scope), name) for name in scope.annotations}


def _initializer(owner: LocalClass) -> Function | None:
    """Return the `__init__` of a class or of the first base that has one."""
    found = owner.definition.scope.bindings.get("__init__")
    if found and isinstance(found[-1].value, Function):
        return found[-1].value
    return next(filter(None, map(_initializer, _bases(owner))), None)


def _bases(owner: LocalClass) -> Iterator[LocalClass]:
    for base in owner.definition.bases:
        for value in owner.home.evaluate(base, owner.definition.place):
            if isinstance(value, LocalClass) and value.definition is not owner.definition:
                yield value


def _made_by(expr: Expr, place: Place) -> Iterator[tuple[Call, Place]]:
    """Yield the calls that an object may have come from."""
    if isinstance(expr, Call):
        yield expr, place
    if not isinstance(expr, Ref):
        return
    bindings: Iterable[Binding] = ()
    if len(expr.parts) == 1:
        bindings = lookup(expr.parts[0], place) or ()
    elif len(expr.parts) == 2:
        owner = class_of_receiver(expr.parts[0], place)
        bindings = owner.attributes.get(expr.parts[1], ()) if owner is not None else ()
    for binding in bindings:
        if isinstance(binding.value, Call):
            yield binding.value, binding.place
