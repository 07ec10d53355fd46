"""What a module makes of sessions, factories and engines, and the names that lead to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.names import databases, evaluation, fixtures, openings, values
from session_guard.names.bindings import Call, Ref, end_of
from session_guard.project.handler import CONTEXT_MANAGER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from session_guard.names.bindings import Place
    from session_guard.names.values import Namespace, Result

_HANDLER_NAMES = frozenset({CONTEXT_MANAGER, "get_session"})


def built_in(names: Namespace) -> Iterator[Result]:
    """Yield the engines and factories built in a module that may be PostgreSQL's."""
    for call, place in names.scope.calls:
        if fixtures.is_in_fixture(place, names):
            continue
        for value in made_or_provided(call, place, names):
            if not isinstance(value, values.Result) or value.call.node is not call.node:
                continue
            factory = openings.factory(value)
            if databases.may_be_postgresqls(value) or (
                factory is not None and not databases.is_on_another_database(factory.bind)
            ):
                yield value


def making_names(names: Namespace, known: frozenset[str]) -> Iterator[str]:
    """Yield the names of a module, and of attributes in it, that lead to what makes sessions.

    `known` are such names of other modules.
    """
    yield from _renamed(names, known | openings.MAKERS)
    for name, found in _stored_names(names):
        if any(map(_makes_sessions, found)) or any(
            _gives_maker(value)
            # SQLAlchemy's own names open the gates by themselves.
            or (name not in openings.MAKERS and openings.is_maker(value))
            for value in _led_to(found)
        ):
            yield name


def handler_names(names: Namespace, known: frozenset[str]) -> Iterator[str]:
    """Yield the names of a module that lead to functions with the names of the handler's."""
    yield from _renamed(names, known | _HANDLER_NAMES)
    for name, found in _stored_names(names):
        if any(
            isinstance(value, values.LocalFunction) and value.definition.name in _HANDLER_NAMES
            for value in _led_to(found)
        ):
            yield name


def _renamed(names: Namespace, known: frozenset[str]) -> Iterator[str]:
    """Yield the other names under which a module imports known ones."""
    for name, bindings in names.scope.bindings.items():
        targets = [b.target.rpartition(".")[2] for b in bindings if b.kind == "import"]
        if any(target != name and target in known for target in targets):
            yield name


def _stored_names(names: Namespace) -> Iterator[tuple[str, tuple[values.Value, ...]]]:
    """Yield the names that a module puts something under, and what each may stand for.

    They are those that it binds otherwise than by importing, the attributes of its classes and of
    `app.state`, and what it puts items into.
    """
    scope = names.scope
    for name, bindings in scope.bindings.items():
        if any(binding.kind != "import" for binding in bindings):
            yield name, tuple(evaluation.annotated(Ref((name,)), end_of(scope), names))
    for definition in scope.classes:
        owner = values.LocalClass(definition, names)
        held = definition.scope
        for name in {**held.attributes, **held.bindings, **held.annotations}:
            yield name, evaluation.class_member(owner, name)
    for name, stated in scope.state.items():
        for value, place in stated:
            yield name, names.evaluate(value, place)
    for parts, every in scope.assigned_attributes.items():
        for assigned in every:
            if assigned.value is not None:
                yield parts[-1], names.evaluate(assigned.value, assigned.place)
    for store in scope.stores:
        if isinstance(store.owner, Ref) and store.value is not None:
            yield store.owner.parts[-1], names.evaluate(store.value, store.place)


def _led_to(found: Iterable[values.Value]) -> Iterator[values.Value]:
    """Yield values, what functions among them give back, and what tuples and dictionaries hold."""
    waiting, seen = list(found), set[object]()
    while waiting:
        value = waiting.pop()
        yield value
        match value:
            case values.LocalFunction(definition) if definition not in seen:
                seen.add(definition)
                waiting.extend(evaluation.returned(value, awaited=definition.is_async))
            case values.Items(sequence, place, home) if sequence not in seen:
                seen.add(sequence)
                waiting.extend(v for item in sequence.items for v in home.evaluate(item, place))
            case values.Dictionary(display, place, home) if display not in seen:
                seen.add(display)
                waiting.extend(v for _, item in display.items for v in home.evaluate(item, place))


def _gives_maker(value: values.Value) -> bool:
    return openings.factory(value) is not None or (
        isinstance(value, values.LocalClass) and openings.is_session_class(value)
    )


def _makes_sessions(value: values.Value) -> bool:
    """Return whether calling a function gives a session that it opened."""
    return isinstance(value, values.LocalFunction) and any(
        openings.opening(result) is not None
        for result in evaluation.returned(value, awaited=value.definition.is_async)
    )


def made_or_provided(call: Call, place: Place, names: Namespace) -> Iterator[values.Value]:
    """Yield what a call gives, and what the provider gives that it makes."""
    found = names.evaluate(call, place)
    yield from found
    yield from evaluation.provided(call, found)
