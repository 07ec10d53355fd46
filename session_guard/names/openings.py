"""Which values make sessions: session classes, session factories, and the engines behind them."""

from __future__ import annotations

import builtins
from dataclasses import replace
from typing import TYPE_CHECKING

from session_guard.names import dictionaries
from session_guard.names.bindings import Attribute, Call, Constant, Ref, end_of, lookup
from session_guard.names.evaluation import class_member
from session_guard.names.values import (
    UNKNOWN,
    External,
    LocalClass,
    Located,
    Method,
    Partial,
    Result,
)
from session_guard.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.names.bindings import Expr, Place
    from session_guard.names.values import Namespace, Value

SQLALCHEMY_SESSION = "sqlalchemy.ext.asyncio.AsyncSession"
SQLMODEL_SESSION = "sqlmodel.ext.asyncio.session.AsyncSession"
SESSION_CLASSES = frozenset({SQLALCHEMY_SESSION, SQLMODEL_SESSION})
ASYNC_FACTORY_CLASS = "sqlalchemy.ext.asyncio.async_sessionmaker"
SYNC_FACTORY_CLASS = "sqlalchemy.orm.sessionmaker"
FACTORY_CLASSES = frozenset({ASYNC_FACTORY_CLASS, SYNC_FACTORY_CLASS})
SCOPED_SESSION_CLASS = frozenset({"sqlalchemy.ext.asyncio.async_scoped_session"})
_SYNC_MAKERS = frozenset({SYNC_FACTORY_CLASS, "sqlalchemy.orm.scoped_session"})
ENGINE_BUILDERS = frozenset(
    {
        "sqlalchemy.ext.asyncio.create_async_engine",
        "sqlalchemy.ext.asyncio.async_engine_from_config",
    }
)
_SESSION_ARGUMENTS = frozenset({"bind", "binds", "class_", "expire_on_commit", "autoflush"})
_OF_FACTORIES = frozenset({"kw", "class_"})
"""The attributes of a factory that say what it opens."""
_ABOUT_SESSIONS = SESSION_CLASSES | FACTORY_CLASSES | SCOPED_SESSION_CLASS | ENGINE_BUILDERS
MAKERS = frozenset(name.rpartition(".")[2] for name in _ABOUT_SESSIONS)
"""The names under which SQLAlchemy and SQLModel export what makes sessions and engines."""

LIBRARIES = frozenset(name.partition(".")[0] for name in _ABOUT_SESSIONS)
"""The packages that have them."""


def derives_from(value: Value, names: frozenset[str]) -> bool:
    """Return whether `value` is one of the classes (or functions) `names`, or a subclass."""
    return bool(ancestry(value) & names)


def ancestry(value: Value) -> frozenset[str]:
    """Return the dotted names of the external classes that a class is or inherits from.

    SQLModel's session class is known to be a subclass of SQLAlchemy's.
    """
    names: set[str] = set()
    waiting, seen = [value], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, External):
            names.add(value.dotted)
            if value.dotted == SQLMODEL_SESSION:
                names.add(SQLALCHEMY_SESSION)
        elif isinstance(value, LocalClass) and id(value.definition) not in seen:
            seen.add(id(value.definition))
            for base in value.definition.bases:
                waiting.extend(value.home.evaluate(base, value.definition.place))
    return frozenset(names)


def lineage(owner: LocalClass) -> Iterator[LocalClass]:
    """Yield a class and those that it inherits from, as far as known, the nearest first."""
    waiting, seen = [owner], set[int]()
    while waiting:
        current = waiting.pop(0)
        if id(current.definition) in seen:
            continue
        seen.add(id(current.definition))
        yield current
        for base in current.definition.bases:
            found = current.home.evaluate(base, current.definition.place)
            waiting.extend(value for value in found if isinstance(value, LocalClass))


def is_same_or_subclass(value: Value, of: Value) -> bool:
    """Return whether the class `value` is the class `of` or known to be a subclass of it."""
    if isinstance(of, External):
        return of.dotted in ancestry(value)
    return (
        isinstance(of, LocalClass)
        and isinstance(value, LocalClass)
        and any(one.definition is of.definition for one in lineage(value))
    )


@dataclass(frozen=True, slots=True)
class Opening:
    """How a session is opened: its class, its engine and its options, as far as they are known."""

    session_class: Value
    bind: Located | None
    options: dict[str, Located]
    """Keyword arguments in force, but for the engine and the class."""
    unknown_arguments: bool
    """Whether `*args` or `**kwargs` may have set anything."""
    from_factory: bool
    begins: bool = False
    """Whether it is `factory.begin()`, which commits on leaving."""
    scoped: bool = False
    """Whether the session is shared by all that ask an `async_scoped_session` in its scope."""


def _merged(opening: Opening, call: Call, made: Result | Partial) -> Opening:
    """Return `opening` with the arguments of the call of `made` laid over it."""
    place, home = made.place, made.home
    through = made.through if isinstance(made, Result) else ()
    bind, options = opening.bind, dict(opening.options)
    arguments = call.arguments
    if arguments:
        bind = Located(arguments[0], place, home, through)
    for key, value in call.keywords:
        located = Located(value, place, home, through)
        if key == "bind":
            bind = located
        elif key not in (None, "class_"):
            options[key] = located
    unknown = opening.unknown_arguments or call.unpacks or len(arguments) > 1
    return replace(opening, bind=bind, options=options, unknown_arguments=unknown)


def factory(value: Value) -> Opening | None:
    """Return how a session factory opens sessions, or None where `value` is no async factory.

    `async_sessionmaker`, `sessionmaker` with an async class, `async_scoped_session` over one of
    them, `functools.partial` of a session class, and subclasses of these are factories.
    """
    if isinstance(value, Partial):
        target = _opened_by(value.function)
        if target is None:
            return None
        call = Call(
            value.call.function, value.call.arguments[1:], value.call.keywords, value.call.node
        )
        return _merged(target, call, value)
    if not isinstance(value, Result):
        return None
    names = ancestry(value.function)
    call = value.call
    if names & SCOPED_SESSION_CLASS:
        expr = call.arguments[0] if call.arguments else call.keyword("session_factory")
        if expr is not None:
            for inner in Located(expr, value.place, value.home, value.through).values():
                found = factory(inner)
                if found is not None:
                    return replace(found, scoped=True)
        return Opening(UNKNOWN, None, {}, True, True, scoped=True)
    if not names & FACTORY_CLASSES:
        return None
    given = call.keyword("class_")
    classes = value.home.evaluate(given, value.place) if given is not None else ()
    if given is None and call.unpacks:
        unpacked = dictionaries.keywords(call, value.place, value.home)
        classes = unpacked.values("class_") or ()
    if classes:
        session_class = next((c for c in classes if is_session_class(c)), None)
        if session_class is None and ASYNC_FACTORY_CLASS in names:
            # Whatever it is, `async_sessionmaker` takes nothing but a subclass of this.
            session_class = External(SQLALCHEMY_SESSION)
    else:
        session_class = External(SQLALCHEMY_SESSION) if ASYNC_FACTORY_CLASS in names else None
    if session_class is None:
        return None
    # A subclass with a way of its own to open sessions may give them anything.
    is_own = isinstance(value.function, LocalClass) and any(
        class_member(value.function, name) != (UNKNOWN,)
        for name in ("__init__", "__call__", "begin", "configure")
    )
    return _merged(Opening(session_class, None, {}, is_own, True), call, value)


def _opened_by(function: Value) -> Opening | None:
    """Return how calling `function` opens a session, before the call's own arguments."""
    if is_session_class(function):
        return Opening(function, None, {}, False, False)
    found = factory(function)
    if found is not None:
        return found
    if isinstance(function, Method) and function.name == "begin":
        found = factory(function.owner)
        if found is not None:
            return replace(found, begins=True)
    return None


def opening(value: Value) -> Opening | None:
    """Return how the call that `value` is the result of opens a session, or None if it doesn't."""
    if not isinstance(value, Result):
        return None
    found = _opened_by(value.function)
    if found is None:
        return None
    if found.from_factory and value.call.arguments:
        return None  # a factory takes keywords alone
    return _merged(found, value.call, value)


def is_sync_session(value: Value) -> bool:
    """Return whether `value` is a session of a sync factory, or the product of its registry."""
    while isinstance(value, Result):
        names = ancestry(value.function)
        if names & _SYNC_MAKERS:
            return factory(value) is None
        value = value.function
    return False


def is_session_class(value: Value) -> bool:
    """Return whether `value` is SQLAlchemy's or SQLModel's `AsyncSession` or a subclass."""
    return derives_from(value, SESSION_CLASSES)


def reconfigured_factories(names: Namespace) -> Iterator[Value]:
    """Yield the factories that a module gives another engine or other options later.

    `factory.configure(...)` and changes of `factory.kw` do. Where the factory is not known,
    `UNKNOWN` is yielded for a call of `configure` with arguments of sessions, and for such an entry
    of a `kw`.
    """
    for call, place in names.scope.calls:
        for owner in _configured(call.function, names, place):
            unsure = owner == UNKNOWN and {key for key, _ in call.keywords} & _SESSION_ARGUMENTS
            if factory(owner) is not None or unsure:
                yield owner
        # What is handed to a function may be changed there: `monkeypatch.setitem(factory.kw, ...)`.
        is_reading = _is_builtin(call.function, place)
        for given in (*call.arguments, *(value for key, value in call.keywords if key)):
            if not is_reading:
                yield from filter(factory, _owners(given, "kw", names, place))
            if isinstance(given, Constant) and isinstance(given.value, str):
                yield from _named_in(given.value, call, names, place)
    for store in names.scope.stores:
        yield from (
            owner
            for owner in _dictionaries(store.owner, names, store.place)
            if factory(owner) is not None or (owner == UNKNOWN and _may_be_argument(store.key))
        )
    for parts, every in names.scope.assigned_attributes.items():
        if parts[-1] in _OF_FACTORIES:
            for assigned in every:
                yield from filter(factory, names.evaluate(Ref(parts[:-1]), assigned.place))


def _is_builtin(function: Expr, place: Place) -> bool:
    """Return whether a function is one of Python's own, none of which changes a dictionary."""
    return (
        isinstance(function, Ref)
        and len(function.parts) == 1
        and hasattr(builtins, function.parts[0])
        and lookup(function.parts[0], place) is None
    )


def _may_be_argument(key: Expr) -> bool:
    """Return whether the key of an entry may be the name of a session's argument."""
    return not isinstance(key, Constant) or key.value in _SESSION_ARGUMENTS


def _configured(function: Expr, names: Namespace, place: Place) -> Iterator[Value]:
    """Yield whose `configure` a call runs, or of whose `kw` it changes entries."""
    match function:
        case Ref((*_, "configure")) | Attribute(_, "configure"):
            for value in names.evaluate(function, place):
                yield value.owner if isinstance(value, Method) else value
        case Ref((*owner, "update" | "setdefault" | "__setitem__")) if owner:
            yield from _dictionaries(Ref(tuple(owner)), names, place)
        case Attribute(value, "update" | "setdefault" | "__setitem__"):
            yield from _dictionaries(value, names, place)


def _dictionaries(expr: Expr, names: Namespace, place: Place) -> Iterator[Value]:
    """Yield the objects whose `kw` an expression, or what it is a name of, may be."""
    yield from _owners(expr, "kw", names, place)
    if isinstance(expr, Ref) and len(expr.parts) == 1:
        for binding in lookup(expr.parts[0], place) or ():
            if isinstance(binding.value, (Ref, Attribute)) and binding.kind == "assign":
                yield from _owners(binding.value, "kw", names, binding.place)


def _owners(expr: Expr, name: str, names: Namespace, place: Place) -> tuple[Value, ...]:
    """Return whose attribute of a name an expression is: nobody's where it is another."""
    match expr:
        case Ref((*owner, last)) if owner and last == name:
            return names.evaluate(Ref(tuple(owner)), place)
        case Attribute(owner, last) if last == name:
            return names.evaluate(owner, place)
    return ()


def _named_in(text: str, call: Call, names: Namespace, place: Place) -> Iterator[Value]:
    """Yield the factory that a string means: `patch("app.db.SessionLocal.kw")`, or beside it."""
    dotted, _, name = text.rpartition(".")
    if name not in _OF_FACTORIES:
        return
    if dotted:
        found = names.find_module(dotted)
        if found is not None and found[1]:
            yield from filter(factory, found[0].evaluate(Ref(found[1]), end_of(found[0].scope)))
    else:
        for given in call.arguments:
            yield from filter(factory, names.evaluate(given, place))


def is_maker(value: Value) -> bool:
    """Return whether `value` is what makes sessions, factories or engines, by whatever name."""
    if isinstance(value, Partial):
        value = value.function
    return bool(ancestry(value) & _ABOUT_SESSIONS)


def concerns_sessions(value: Value) -> bool:
    """Return whether `value` is what makes sessions, factories or engines, or came of that."""
    while True:
        match value:
            case Result() | Partial():
                value = value.function
            case Method():
                value = value.owner
            case _:
                return bool(ancestry(value) & _ABOUT_SESSIONS)


def is_engine(value: Value) -> bool:
    """Return whether `value` is what `create_async_engine` or its kin gave back."""
    return isinstance(value, Result) and derives_from(value.function, ENGINE_BUILDERS)
