"""Follows an expression to what it stands for, through assignments, imports, classes and calls.

Nothing is imported or run; what cannot be followed is `UNKNOWN`.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from types import NoneType
from typing import TYPE_CHECKING

from session_guard.names.bindings import (
    Attribute,
    Await,
    Binding,
    Call,
    Class,
    Constant,
    Display,
    Either,
    Element,
    Expr,
    Function,
    Item,
    LambdaExpr,
    Opaque,
    Place,
    Ref,
    Scope,
    Sequence,
    Star,
    Store,
    Subscript,
    TextBeginning,
    class_of_receiver,
    end_of,
    joined_by,
    lookup,
    with_braces,
)
from session_guard.names.from_ast import unquoted
from session_guard.names.values import (
    UNKNOWN,
    Beginning,
    Dictionary,
    External,
    Instance,
    Items,
    Literal,
    LocalClass,
    LocalFunction,
    Located,
    Method,
    Namespace,
    Partial,
    Result,
    Step,
    Value,
    through_object,
    through_step,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# Where SQLAlchemy and SQLModel define what they also export from a shorter path.
_PUBLIC_NAMES = {
    "sqlalchemy.ext.asyncio.session.AsyncSession": "sqlalchemy.ext.asyncio.AsyncSession",
    "sqlalchemy.ext.asyncio.session.async_sessionmaker": (
        "sqlalchemy.ext.asyncio.async_sessionmaker"
    ),
    "sqlalchemy.ext.asyncio.scoping.async_scoped_session": (
        "sqlalchemy.ext.asyncio.async_scoped_session"
    ),
    "sqlalchemy.ext.asyncio.engine.create_async_engine": (
        "sqlalchemy.ext.asyncio.create_async_engine"
    ),
    "sqlalchemy.ext.asyncio.engine.async_engine_from_config": (
        "sqlalchemy.ext.asyncio.async_engine_from_config"
    ),
    "sqlalchemy.orm.session.sessionmaker": "sqlalchemy.orm.sessionmaker",
    # A package that chat bots have SQLAlchemy's class from.
    "nonebot_plugin_orm.AsyncSession": "sqlalchemy.ext.asyncio.AsyncSession",
}
# Modules whose `import *` is understood, and what it brings that matters here.
_STAR_EXPORTS = {
    "sqlalchemy.ext.asyncio": {
        "AsyncSession",
        "async_sessionmaker",
        "async_scoped_session",
        "create_async_engine",
        "async_engine_from_config",
    },
    "sqlalchemy.orm": {"sessionmaker"},
    "sqlmodel.ext.asyncio.session": {"AsyncSession"},
}
_ANNOTATED = frozenset(
    {"typing.Annotated", "typing_extensions.Annotated", "typing.ClassVar", "typing.Final"}
)
_UNIONS = frozenset({"typing.Optional", "typing.Union"})
_TYPE_VARIABLES = frozenset({"typing.TypeVar", "typing_extensions.TypeVar"})
_CLASS_TYPES = frozenset({"type", "typing.Type"})
_TRANSPARENT_DECORATORS = frozenset(
    {"functools.lru_cache", "functools.cache", "staticmethod", "classmethod"}
)
_FACTORIES = frozenset({"sqlalchemy.ext.asyncio.async_sessionmaker"})
_SESSION_CLASSES = frozenset(
    {"sqlalchemy.ext.asyncio.AsyncSession", "sqlmodel.ext.asyncio.session.AsyncSession"}
)
_RUNNING_LOOP = (External("asyncio.get_running_loop"), External("asyncio.get_event_loop"))
_MADE_BY_PARTIAL = frozenset(
    {"sqlalchemy.ext.asyncio.create_async_engine", "sqlalchemy.orm.sessionmaker"} | _FACTORIES
)
# `Depends` and its kin of FastAPI and of those that took it over.
_INJECTING = frozenset(
    {"fastapi", "fast_depends", "faststream", "taskiq", "taskiq_dependencies", "litestar"}
)
_DEPENDS = frozenset({"Depends", "Security", "TaskiqDepends", "Provide"})
_DATABASE_LIBRARIES = ("sqlalchemy.", "sqlmodel.")
# Methods of strings whose results are looked into.
_OF_TEXTS = frozenset({"format", "join"})
# dependency-injector's providers, which call what they are given when they are called themselves.
_PROVIDERS = frozenset(
    f"dependency_injector.providers.{name}"
    for name in ("Singleton", "ThreadSafeSingleton", "Factory", "Callable", "Resource")
)
# What gives the items of its first argument.
_SAME_ITEMS = frozenset({"iter", "list", "reversed", "set", "sorted", "tuple"})
_PROVIDER = "<provider>"
_PROVIDE = "dependency_injector.wiring.Provide"
_CHAINED = (Result, Method, Partial)
"""What calls and attributes of are told apart by where their chain began."""
_CHAINED_BY_METHODS = (*_CHAINED, Dictionary)
_DEEPEST = 40
_MOST_NAMES = 12
_MOST_VALUES = 50


class Evaluation:
    """One question; what it has found out, since names meet again and can go round in circles."""

    def __init__(self) -> None:
        self.depth = 0
        self._asked: dict[object, tuple[int, tuple[Value, ...]]] = {}
        """By binding, function or member: what was found, and the number of the outermost question
        in progress that it hangs on. What is being found out is nothing until it is known."""
        self._in_progress = 0
        self._hangs_on: float = math.inf

    def once(
        self, key: object, home: Namespace, find: Callable[[], Iterable[Value]]
    ) -> tuple[Value, ...]:
        """Return what `find` says of a part of `home`, which is asked once.

        What was cut short, in a circle or by its depth, holds for this question alone.
        """
        if key in home.known:
            return home.known[key]
        if key in self._asked:
            number, found = self._asked[key]
            self._hangs_on = min(self._hangs_on, number)
            return found
        number, outer = self._in_progress, self._hangs_on
        self._in_progress, self._hangs_on = number + 1, math.inf
        self._asked[key] = (number, ())
        found = _distinct(find())
        if self._hangs_on >= number:
            del self._asked[key]
            home.known[key] = found
            self._hangs_on = outer
        else:
            self._asked[key] = (int(self._hangs_on), found)
            self._hangs_on = min(self._hangs_on, outer)
        self._in_progress = number
        return found

    def _kept(
        self,
        key: object,
        home: Namespace,
        find: Callable[..., tuple[Value, ...]],
        *asked: object,
    ) -> tuple[Value, ...]:
        """Return what `find` says of what is asked, and keep it where nothing cut it short."""
        found = home.known.get(key)
        if found is None:
            outer, self._hangs_on = self._hangs_on, math.inf
            found = find(*asked)
            if self._hangs_on == math.inf:
                home.known[key] = found
            self._hangs_on = min(self._hangs_on, outer)
        return found

    def expr(self, expr: Expr, place: Place, home: Namespace) -> tuple[Value, ...]:
        if self.depth >= _DEEPEST:
            self._hangs_on = -1
            return (UNKNOWN,)
        self.depth += 1
        try:
            match expr:
                case Ref():
                    return self._kept((expr, place), home, self._ref, expr, place, home)
                case Call():
                    return self._kept((expr, place), home, self._call, expr, place, home)
                case Attribute():
                    owners = self.expr(expr.value, place, home)
                    return self._attribute(owners, expr.name, home)
                case Subscript():
                    return self._subscript(expr, place, home)
                case Constant():
                    return (Literal(expr.value),)
                case TextBeginning():
                    return (Beginning(expr.text, expr.pieces),)
                case Opaque() if any(isinstance(piece, str) for piece in expr.pieces):
                    return tuple(self._text(expr.pieces, place, home))
                case Display():
                    return (Dictionary(expr, place, home),)
                case Sequence():
                    return (Items(expr, place, home),)
                case Item():
                    return self._item(expr, place, home)
                case Element():
                    return tuple(self._elements(expr.value, place, home))
                case Await(Call() as call):
                    return self._call(call, place, home, awaited=True)
                case Either():
                    return tuple(
                        value for option in expr.options for value in self.expr(option, place, home)
                    )
                case LambdaExpr():
                    function = Function("<lambda>", False, 0, (), expr.scope, place, expr)
                    function.returns.append((expr.body, end_of(expr.scope)))
                    return (LocalFunction(function, home),)
                case _:
                    return (UNKNOWN,)
        finally:
            self.depth -= 1

    def _text(
        self, pieces: tuple[str | Expr, ...], place: Place, home: Namespace
    ) -> Iterator[Value]:
        """Yield what is known of a string that begins with an expression."""
        first, *rest = pieces
        found = self.expr(first, place, home) if not isinstance(first, str) else ()
        for value in found:
            match value:
                case Literal(str(text)):
                    yield Beginning(text, (text, *rest))
                case Beginning(text, begun) if text and begun:
                    yield Beginning(text, (*begun, *rest))
                case _:
                    yield Beginning("", pieces)

    def _subscript(self, expr: Subscript, place: Place, home: Namespace) -> tuple[Value, ...]:
        """Return what `X[...]` stands for: of `Annotated` and unions, the classes in it."""
        found = self.expr(expr.value, place, home)
        names = {value.dotted for value in found if isinstance(value, External)}
        if names & _UNIONS or any(map(_is_annotated, names)):
            items = expr.items if names & _UNIONS else expr.items[:1]
            return tuple(
                value for item in items for value in self.expr(unquoted(item), place, home)
            )
        values: list[Value] = []
        for value in _distinct(found):
            match value:
                case External(dotted) if dotted in _CLASS_TYPES:
                    values.append(
                        Result(value, Call(expr.value, expr.items, (), expr), place, home)
                    )
                case External() | LocalClass():  # `AsyncSession[...]` is the class
                    values.append(value)
                case Dictionary() if self._is_kept_by_loop(value, expr.value, home):
                    pass  # what statements put there, and nothing else
                case Dictionary():
                    values.extend(self._looked_up(value, expr.items))
                case Items() if len(expr.items) == 1 and isinstance(expr.items[0], Constant):
                    values.extend(self._at(value, expr.items[0].value))
                case _:
                    values.append(UNKNOWN)
        if isinstance(expr.value, Ref):
            values.extend(self._stored(found, expr.value, expr.items, home))
        return _distinct(values)

    def _item(self, item: Item, place: Place, home: Namespace) -> tuple[Value, ...]:
        values: list[Value] = []
        for value in self.expr(item.value, place, home):
            if isinstance(value, Items) and len(value.sequence.items) == item.count:
                values.extend(self._at(value, item.index))
            else:
                values.append(UNKNOWN)
        return tuple(values)

    def _elements(self, expr: Expr, place: Place, home: Namespace) -> Iterator[Value]:
        """Yield what the elements of what can be iterated over may be."""
        for value in self.expr(expr, place, home):
            match value:
                case Items():
                    for item in value.sequence.items:
                        yield from self.expr(item, value.place, value.home)
                    for item, at in self._appended(value):
                        yield from self.expr(item, at, value.home)
                case Result(Method(Dictionary() as held, "items" | "values" as view), Call(owner)):
                    for key, entry in self._entries(held, owner, value.home):
                        if view == "values":
                            yield from self._located(entry)
                        else:
                            yield Items(Sequence((key, entry.expr)), entry.place, entry.home)
                case Result(External("enumerate"), Call(arguments=(inner, *_))):
                    yield Items(Sequence((Opaque(), Element(inner))), value.place, value.home)
                case Result(External("zip"), Call(arguments=every)):
                    yield Items(Sequence(tuple(map(Element, every))), value.place, value.home)
                case Result(External(dotted), Call(arguments=(inner, *_))) if dotted in _SAME_ITEMS:
                    find = functools.partial(self._elements, inner, value.place, value.home)
                    # `xs = sorted(xs)` in a loop leads back to itself.
                    yield from self.once(("elements", value.call), value.home, find)
                case _:
                    yield UNKNOWN
        for function in self.expr(expr.function, place, home) if isinstance(expr, Call) else ():
            if isinstance(function, LocalFunction):
                for item, at in function.definition.yields:
                    yield from self.expr(item, at, function.home)

    def _entries(
        self, found: Dictionary, view: Expr, home: Namespace
    ) -> Iterator[tuple[Expr, Located]]:
        """Yield the keys and values of a dictionary, by whose method it is iterated over."""
        for key, value in found.display.items:
            if key is not None:
                yield key, Located(value, found.place, found.home)
        owner = Ref(view.parts[:-1] if isinstance(view, Ref) else ())
        for store, of in self._stores((found,), owner, home):
            if store.value is not None:
                yield store.key, Located(store.value, store.place, of)

    def _appended(self, items: Items) -> Iterator[tuple[Expr, Place]]:
        """Yield what the function that made a list appends to it, under the name it gave it."""
        scope = items.place.scope
        names = [
            name
            for name, bindings in scope.bindings.items()
            if any(binding.value is items.sequence for binding in bindings)
        ]
        calls = scope.function.calls if scope.function is not None else scope.calls
        for call, at in calls if names else ():
            if (
                isinstance(call.function, Ref)
                and call.function.parts in [(name, "append") for name in names]
                and call.arguments
            ):
                yield call.arguments[0], at

    def _at(self, items: Items, index: object) -> tuple[Value, ...]:
        """Return what stands at an index of a tuple or list."""
        given = items.sequence.items
        if items.sequence.has_star or not isinstance(index, int) or not 0 <= index < len(given):
            return (UNKNOWN,)
        return self.expr(given[index], items.place, items.home)

    def _looked_up(self, found: Dictionary, keys: tuple[Expr, ...]) -> tuple[Value, ...]:
        """Return what a dictionary may hold under a key; it may have changed since."""
        wanted = keys[0] if len(keys) == 1 else None
        asked = (repr(wanted.value) if isinstance(wanted, Constant) else None, found.display)
        return self.once(asked, found.home, lambda: self._under(found, wanted))

    def _under(self, found: Dictionary, wanted: Expr | None) -> Iterator[Value]:
        yield UNKNOWN
        for key, value in found.display.items:
            if (
                isinstance(key, Constant)
                and isinstance(wanted, Constant)
                and key.value != wanted.value
            ):
                continue
            if key is not None:
                yield from self.expr(value, found.place, found.home)

    def _is_kept_by_loop(self, found: Dictionary, owner: Expr, home: Namespace) -> bool:
        """Return whether a module keeps in a dictionary of its own one thing for each event loop.

        To a program, which is in one loop at a time, that is one thing.
        """
        if not isinstance(owner, Ref) or len(owner.parts) != 1 or found.home is not home:
            return False
        keys = [
            (store.key, store.place)
            for store in home.scope.stores
            if isinstance(store.owner, Ref) and store.owner.parts == owner.parts
        ]
        return (
            owner.parts[0].startswith("_")
            and not found.display.items
            and bool(keys)
            and all(
                value == Literal(None)
                or (isinstance(value, Result) and value.function in _RUNNING_LOOP)
                for key, place in keys
                for value in (self.expr(key, place, home) if key is not None else (UNKNOWN,))
            )
        )

    def _stored(
        self, found: Iterable[Value], owner: Ref, keys: tuple[Expr, ...], home: Namespace
    ) -> Iterator[Value]:
        """Yield what statements put into a dictionary under a key, by any name that it had."""
        wanted = keys[0] if len(keys) == 1 else None
        for store, of in self._stores(found, owner, home):
            if store.value is None or (
                isinstance(store.key, Constant)
                and isinstance(wanted, Constant)
                and store.key.value != wanted.value
            ):
                continue
            value, at = store.value, store.place
            yield from self.once(store, of, functools.partial(self.expr, value, at, of))

    def _stores(
        self, found: Iterable[Value], owner: Ref, home: Namespace
    ) -> Iterator[tuple[Store, Namespace]]:
        """Yield the assignments to items of a dictionary, by any name that it had."""
        named = [(owner.parts, home)]
        for dictionary in found:
            if isinstance(dictionary, Dictionary):
                named.extend((parts, of) for parts, _, of in dictionary.names)
        for parts, of in dict.fromkeys(named):
            for store in of.scope.stores:
                if isinstance(store.owner, Ref) and store.owner.parts == parts:
                    yield store, of

    def _ref(self, ref: Ref, place: Place, home: Namespace) -> tuple[Value, ...]:
        bindings = lookup(ref.parts[0], place)
        if home.scope.star_imports:
            found = self._resolved(ref.parts, bindings, place, home)
        else:
            # Wherever the same bindings reach it, a name stands for the same.
            key = (ref.parts, None if bindings is None else tuple(bindings))
            found = self._kept(key, home, self._resolved, ref.parts, bindings, place, home)
        return _named(found, ref.parts, place, home)

    def _resolved(
        self,
        parts: tuple[str, ...],
        bindings: list[Binding] | None,
        place: Place,
        home: Namespace,
    ) -> tuple[Value, ...]:
        first, *rest = parts
        values: list[Value] = []
        if bindings is None:
            values.extend(self._starred(first, home))
        else:
            for binding in bindings:
                match binding.value:
                    case _ if binding.kind == "import":
                        values.extend(self._follow(home.absolute(binding.target), home))
                    case Class():
                        values.append(LocalClass(binding.value, home))
                    case Function():
                        values.append(LocalFunction(binding.value, home))
                    case None if binding.kind == "parameter":
                        values.extend(self._parameter(binding.place.scope, first, home, rest))
                    case None:
                        values.append(UNKNOWN)
                    case _:
                        values.extend(self._bound(binding, home))
            values.extend(self._hidden_by_star(first, bindings, place, home))
        for name in rest:
            values = list(self._attribute(tuple(values), name, home))
        if (len(parts) > 2 and parts[-2] == "state") or parts[:-1] == ("state",):
            values.extend(self._in_state(parts[-1], home))
        assigned = home.scope.assigned_attributes
        if any(parts[:end] in assigned for end in range(2, len(parts) + 1)):
            values.append(UNKNOWN)
        return _distinct(values)

    def _in_state(self, name: str, home: Namespace) -> Iterator[Value]:
        for located in home.elsewhere.in_state(name):
            yield from self._located(located)

    def _located(self, located: Located) -> tuple[Value, ...]:
        expr, place, home = located.expr, located.place, located.home
        return self.once(expr, home, lambda: self.expr(expr, place, home))

    def _bound(self, binding: Binding, home: Namespace) -> tuple[Value, ...]:
        value = binding.value
        assert value is not None
        assert not isinstance(value, (Function, Class))
        at = end_of(binding.place.scope) if binding.deferred else binding.place
        return self.once(binding, home, lambda: self.expr(value, at, home))

    def _parameter(
        self, scope: Scope, name: str, home: Namespace, rest: list[str]
    ) -> Iterator[Value]:
        """Yield what a parameter may be: what a framework injects, or an object of its class.

        `self` stands for its class, where an attribute of it is asked for; `cls` does always.
        """
        if scope.receiver == name and scope.parent is not None and scope.parent.definition:
            is_class = scope.function is not None and scope.function.is_decorated("classmethod")
            yield LocalClass(scope.parent.definition, home) if rest or is_class else UNKNOWN
            return
        found = list(self._injected(scope, name, home))
        for annotation, place in scope.annotations.get(name, ()) if not found else ():
            found.extend(self._instances(annotation, place, home))
        yield UNKNOWN
        yield from found

    def _injected(self, scope: Scope, name: str, home: Namespace) -> Iterator[Value]:
        """Yield what a framework gives for a parameter: what its dependency returns."""
        for function in self.dependencies(scope, name, home):
            yield from self.returned(function, awaited=function.definition.is_async)

    def dependencies(self, scope: Scope, name: str, home: Namespace) -> Iterator[LocalFunction]:
        """Yield the functions that a framework asks for what a parameter is given."""
        stated = [self._alias(*found, home) for found in scope.annotations.get(name, ())]
        given = [
            (item, at, of)
            for annotation, at, of in stated
            if isinstance(annotation, Subscript)
            for item in annotation.items[1:]
        ]
        if name in scope.defaults:
            given.append((*scope.defaults[name], home))
        for item, place, of in given:
            at = end_of(place.scope)
            wanted: Expr | None = item
            if isinstance(item, Call):
                is_asked = any(map(is_depends, self.expr(item.function, at, of)))
                wanted = dependency(item) if is_asked else None
            if isinstance(wanted, Subscript):
                is_asked = External(_PROVIDE) in self.expr(wanted.value, at, of)
                wanted = wanted.items[0] if is_asked else None
            elif wanted is item:
                continue
            for function in self.expr(wanted, at, of) if wanted is not None else ():
                if isinstance(function, LocalFunction):
                    yield function

    def _alias(
        self, annotation: Expr, place: Place, home: Namespace
    ) -> tuple[Expr, Place, Namespace]:
        """Return what an annotation is a name of, here or in another module; or else itself."""
        for _ in range(_MOST_NAMES):
            if not isinstance(annotation, Ref) or len(annotation.parts) != 1:
                break
            bindings = lookup(annotation.parts[0], end_of(place.scope)) or ()
            for binding in bindings:
                if binding.kind == "import":
                    found = home.find_module(home.absolute(binding.target))
                    if found is not None and len(found[1]) == 1:
                        home, place = found[0], end_of(found[0].scope)
                        annotation = Ref(found[1])
                        break
                elif binding.value is not None and not isinstance(binding.value, (Function, Class)):
                    annotation, place = binding.value, binding.place
                    break
            else:
                break
        return annotation, place, home

    def _starred(self, name: str, home: Namespace) -> tuple[Value, ...]:
        """Return what a name that nothing binds stands for: an `import *`, or a builtin."""
        if not home.scope.star_imports:
            return (External(name),)
        key = home, name  # which many a module may have from another by a star
        return self.once(key, home, lambda: self._from_stars(name, home)) or (UNKNOWN,)

    def _from_stars(self, name: str, home: Namespace) -> tuple[Value, ...]:
        for target, _ in reversed(home.scope.star_imports):
            values = self._from_star(name, home.absolute(target), home)
            if values not in ((), (UNKNOWN,)):
                return values
        return (External(name),)

    def _from_star(self, name: str, module: str, home: Namespace) -> tuple[Value, ...]:
        """Return what `from module import *` binds `name` to; nothing if it does not."""
        if module in _STAR_EXPORTS:
            return (External(f"{module}.{name}"),) if name in _STAR_EXPORTS[module] else ()
        found = home.find_module(module)
        if found is None or found[1]:
            return (UNKNOWN,)  # a module outside the project may have any name
        if not self._exports(found[0], name):
            return ()
        return self._member(found[0], name) or ()

    def _exports(self, module: Namespace, name: str) -> bool:
        """Return whether `import *` brings a name of a module along."""
        listed = self._listed(module)
        if name in listed:
            return True
        if listed and None not in listed:
            return False
        return not name.startswith("_") and (
            name in module.scope.bindings or bool(module.scope.star_imports)
        )

    def _listed(self, module: Namespace) -> frozenset[str | None]:
        """Return the names in a module's `__all__`; None where there may be others.

        Nothing where it has none.
        """
        if "__all__" not in module.scope.bindings:
            return frozenset()
        found = self.once(("__all__", module), module, lambda: (Literal(self._in_all(module)),))
        return next(
            (v.value for v in found if isinstance(v, Literal) and isinstance(v.value, frozenset)),
            frozenset({None}),  # while it is being found out
        )

    def _in_all(self, module: Namespace) -> frozenset[str | None]:
        names = set(self._names(Ref(("__all__",)), end_of(module.scope), module, frozenset()))
        for call, place in module.scope.calls:
            match call:
                case Call(function=Ref(("__all__", "append")), arguments=(item,)):
                    names.update(self._names(Sequence((item,)), place, module, frozenset()))
                case Call(function=Ref(("__all__", "extend")), arguments=(items,)):
                    names.update(self._names(items, place, module, frozenset()))
        return frozenset(names)

    def _names(
        self, expr: Expr, place: Place, home: Namespace, seen: frozenset[Binding]
    ) -> Iterator[str | None]:
        """Yield the strings in a list or a tuple; None where there may be others."""
        match expr:
            case Ref(("__all__",)):
                for binding in lookup("__all__", place) or ():
                    if binding in seen or isinstance(binding.value, (Function, Class, NoneType)):
                        yield None
                    else:
                        yield from self._names(binding.value, binding.place, home, seen | {binding})
            case Ref((*owner, "__all__")):
                for value in self.expr(Ref(tuple(owner)), place, home):
                    dotted = value.dotted if isinstance(value, External) else ""
                    found = home.find_module(dotted)
                    known = self._listed(found[0]) if found is not None and not found[1] else None
                    yield from known or (None,)
            case Opaque(pieces) if pieces:  # of `a + b`
                for piece in pieces:
                    yield from (
                        (None,) if isinstance(piece, str) else self._names(piece, place, home, seen)
                    )
            case Sequence(items):
                for item in items:
                    match item:
                        case Constant(str(name)):
                            yield name
                        case Star(value=starred):
                            yield from self._names(starred, place, home, seen)
                        case _:
                            yield None
            case _:
                for value in self.expr(expr, place, home):
                    if isinstance(value, Items):
                        yield from self._names(value.sequence, value.place, value.home, seen)
                    else:
                        yield None

    def _hidden_by_star(
        self, name: str, bindings: list[Binding], place: Place, home: Namespace
    ) -> tuple[Value, ...]:
        """Return what an `import *` behind a module's own binding may have put in its place."""
        own = [b.place.order for b in bindings if b.place.scope is home.scope]
        return tuple(
            value
            for target, star in home.scope.star_imports
            if own
            and star.order > min(own)
            and (place.scope is not home.scope or star.order < place.order)
            for value in self._from_star(name, home.absolute(target), home)
        )

    def _follow(self, dotted: str, home: Namespace) -> tuple[Value, ...]:
        """Return what an absolute dotted name stands for, inside the project where it is there."""
        found = home.find_module(dotted)
        if found is None:
            return (External(_PUBLIC_NAMES.get(dotted, dotted)),)
        module, rest = found
        if not rest:
            return (External(dotted),)
        first, *attributes = rest
        values = self._member(module, first)
        if values is None:
            return (External(dotted),)
        for name in attributes:
            values = self._attribute(values, name, module)
        return values

    def _member(self, module: Namespace, name: str) -> tuple[Value, ...] | None:
        """Return what a known module holds under `name`, or None where it binds no such name."""
        at = end_of(module.scope)
        if name in module.scope.bindings or module.scope.star_imports:
            values = self.expr(Ref((name,)), at, module)
            if values != (External(name),):
                return values
        getter = module.scope.bindings.get("__getattr__")
        if getter and isinstance(getter[-1].value, Function):
            return self.returned(LocalFunction(getter[-1].value, module))
        return None

    def _attribute(
        self, owners: tuple[Value, ...], name: str, home: Namespace
    ) -> tuple[Value, ...]:
        values: list[Value] = []
        for owner in owners:
            match owner:
                case External():
                    values.extend(self._follow(f"{owner.dotted}.{name}", home))
                case LocalClass():
                    values.extend(self.class_member(owner, name))
                case Instance(of):
                    values.extend(self.class_member(of, name))
                case Result(function=LocalClass() as definition):
                    found = through_object(self.class_member(definition, name), owner)
                    values.extend((Method(owner, name),) if found == (UNKNOWN,) else found)
                case Result() | Partial() | Dictionary():
                    values.append(Method(owner, name))
                case Literal(str()) if name in _OF_TEXTS:
                    values.append(Method(owner, name))
                case Literal(None):
                    pass  # which has none: it is set before
                case _:
                    values.append(UNKNOWN)
        return tuple(values)

    def class_member(self, owner: LocalClass, name: str) -> tuple[Value, ...]:
        """Return what a class, or an instance of it, holds under `name`; bases are asked too."""
        key = owner.definition, name
        found = self.once(key, owner.home, lambda: self._class_member(owner, name))
        return found or (UNKNOWN,)

    def _class_member(self, owner: LocalClass, name: str) -> Iterator[Value]:
        values = [*self._own_member(owner, name)]
        is_own = bool(values)
        if _is_unset(values):
            values.extend(self._set_outside(owner, name))
        if not is_own:
            for base in owner.definition.bases:
                for value in self.expr(base, owner.definition.place, owner.home):
                    if isinstance(value, LocalClass):
                        values.extend(v for v in self.class_member(value, name) if v != UNKNOWN)
        if _is_unset(values):
            values.extend(self._set_below(owner, name))
        yield from values
        if not values:
            for annotation, place in owner.definition.scope.annotations.get(name, ()):
                yield UNKNOWN
                yield from self._instances(annotation, place, owner.home)
                if any(self._factories(annotation, place, owner.home)):
                    yield from self._given(owner, name)

    def _own_member(self, owner: LocalClass, name: str) -> Iterator[Value]:
        """Yield what the body and the methods of a class bind a name of it to."""
        scope = owner.definition.scope
        for binding in scope.bindings.get(name, ()):
            match binding.value:
                case Function(is_property=True):
                    yield from self.returned(LocalFunction(binding.value, owner.home))
                case Function():
                    yield LocalFunction(binding.value, owner.home)
                case Class():
                    yield LocalClass(binding.value, owner.home)
                case None:
                    yield UNKNOWN
                case _:
                    yield from self._bound(binding, owner.home)
        for binding in scope.attributes.get(name, ()):
            receiver = binding.place.scope.receiver or "self"
            found = self._bound(binding, owner.home)
            yield from _named(found, (receiver, name), binding.place, owner.home)

    def _set_outside(self, owner: LocalClass, name: str) -> Iterator[Value]:
        """Yield what code outside of a class sets an attribute of it, or of its objects, to."""
        for target, value in owner.home.elsewhere.set_outside(name):
            if any(_is_of_class(found, owner) for found in self._located(target)):
                yield UNKNOWN
                yield from self._located(value)

    def _set_below(self, owner: LocalClass, name: str) -> Iterator[Value]:
        """Yield what the subclasses of a class set an attribute to, which it has none of itself."""
        for subclass in owner.home.elsewhere.subclasses(owner.definition.name, name):
            if self._derives(subclass, owner):
                yield UNKNOWN
                yield from self._own_member(subclass, name)

    def _derives(self, value: LocalClass, owner: LocalClass) -> bool:
        """Return whether a class has another among its bases or theirs."""
        waiting, seen = [value], set[Class]()
        while waiting:
            current = waiting.pop()
            if current.definition in seen:
                continue
            seen.add(current.definition)
            for base in current.definition.bases:
                located = Located(base, current.definition.place, current.home)
                for found in self._located(located):
                    if isinstance(found, LocalClass):
                        if _is_of_class(found, owner):
                            return True
                        waiting.append(found)
        return False

    def _given(self, owner: LocalClass, name: str) -> Iterator[Value]:
        """Yield what calls of a class give for a field of it, as a dataclass has them."""
        for located in owner.home.elsewhere.calls(owner.definition.name):
            call = located.expr
            given = call.keyword(name) if isinstance(call, Call) else None
            if not isinstance(call, Call) or given is None:
                continue
            called = self.expr(call.function, located.place, located.home)
            if any(isinstance(v, LocalClass) and _is_of_class(v, owner) for v in called):
                yield from self._located(replace(located, expr=given))

    def _call(
        self, call: Call, place: Place, home: Namespace, *, awaited: bool = False
    ) -> tuple[Value, ...]:
        values: list[Value] = []
        for function in _distinct(self.expr(call.function, place, home)):
            match function:
                case External("functools.partial") if call.arguments:
                    values.extend(
                        Partial(target, call, place, home)
                        for target in self.expr(call.arguments[0], place, home)
                    )
                case External(dotted) if dotted in _PROVIDERS and call.arguments:
                    values.append(self._provider(call, place, home))
                case External("typing.cast") if len(call.arguments) == 2:
                    stated, cast = call.arguments
                    found = self.expr(cast, place, home)
                    values.extend(found)
                    if not any(map(_is_of_database, found)):
                        values.extend(self._instances(stated, place, home))
                        values.extend(self._factories(stated, place, home))
                case External("staticmethod" | "classmethod") if len(call.arguments) == 1:
                    values.extend(self.expr(call.arguments[0], place, home))
                case External("getattr" | "super" | "type" as name):
                    known = self._looked_at(name, call, place, home)
                    is_known = any(value != UNKNOWN for value in known)
                    values.extend(known if is_known else (Result(function, call, place, home),))
                case External("dict") if "dict" not in home.scope.bindings:
                    given = tuple((None, argument) for argument in call.arguments)
                    named = tuple(
                        (None if key is None else Constant(key), value)
                        for key, value in call.keywords
                    )
                    display = Display((*given, *named), call.node)
                    values.append(Dictionary(display, place, home))
                case Method(Dictionary(), "copy") if isinstance(call.function, Ref):
                    original = Ref(call.function.parts[:-1])
                    copied = Display(((None, original),), call.node)
                    values.append(Dictionary(copied, place, home))
                case Method(Dictionary() as found, "get" | "pop") if call.arguments:
                    owner = Ref(call.function.parts[:-1] if isinstance(call.function, Ref) else ())
                    if not self._is_kept_by_loop(found, owner, home):
                        values.extend(self._looked_up(found, call.arguments[:1]))
                    values.extend(self._stored((found,), owner, call.arguments[:1], home))
                case Method(Literal(str(text)), "format"):
                    values.extend(self.expr(with_braces(text, call), place, home))
                case Method(Literal(str(text)), "join"):
                    items = call.arguments[0] if call.arguments else None
                    if isinstance(items, Sequence) and not items.has_star:
                        values.extend(self.expr(joined_by(text, items.items), place, home))
                    else:
                        values.append(UNKNOWN)
                case Partial(External() as target, made) if target.dotted in _MADE_BY_PARTIAL:
                    values.append(Result(target, _merged(made, call), place, home))
                case External() | LocalClass() | Partial() | Result() | Method() if not awaited:
                    values.append(Result(function, call, place, home))
                case LocalFunction():
                    step = Step(call, place, home, function)
                    returned = through_step(self.returned(function, awaited=awaited), step)
                    values.extend(self._of_objects(call.function, returned, place, home))
                case Literal(None):
                    pass  # which cannot be called: it is set before
                case _:
                    values.append(UNKNOWN)
        return _distinct(values)

    def _of_objects(
        self, method: Expr, given: tuple[Value, ...], place: Place, home: Namespace
    ) -> Iterator[Value]:
        """Yield what a function gives; of a method, as what that of its own object gives."""
        owners: tuple[Value, ...] = ()
        match method:
            case Ref((*parts, _)) if parts:
                owners = self.expr(Ref(tuple(parts)), place, home)
            case Attribute(value):
                owners = self.expr(value, place, home)
        for owner in owners or (UNKNOWN,):
            yield from through_object(given, owner)

    def _looked_at(
        self, builtin: str, call: Call, place: Place, home: Namespace
    ) -> tuple[Value, ...]:
        """Return what `getattr(x, "name")` gives; for `super()` and `type(self)`, known classes."""
        match builtin, call.arguments:
            case "getattr", (Ref(parts), Constant(str(name)), *default):
                found = self.expr(Ref((*parts, name)), place, home)
                return (*found, *(v for expr in default for v in self.expr(expr, place, home)))
            case "getattr", (owner, Constant(str(name)), *_):
                return self._attribute(self.expr(owner, place, home), name, home)
            case "type", (Ref((name,)),):
                scope = class_of_receiver(name, place)
            case "super", () if place.scope.receiver is not None:
                scope = class_of_receiver(place.scope.receiver, place)
            case _:
                return ()
        if scope is None or scope.definition is None:
            return ()
        own = scope.definition
        if builtin == "type":
            return (LocalClass(own, home),)
        bases = (value for base in own.bases for value in self.expr(base, own.place, home))
        return tuple(value for value in bases if isinstance(value, LocalClass))

    def _provider(self, call: Call, place: Place, home: Namespace) -> Value:
        """Return the function that a provider is, or the partial of a session class.

        Other providers among what it is given stand for what they give.
        """
        target, *given = call.arguments
        arguments = tuple(self._given_by_provider(item, call, place, home) for item in given)
        keywords = tuple(
            (key, self._given_by_provider(item, call, place, home)) for key, item in call.keywords
        )
        for function in self.expr(target, place, home):
            if isinstance(function, External) and function.dotted in _SESSION_CLASSES:
                made = Call(call.function, (target, *arguments), keywords, call.node)
                return Partial(function, made, place, home)
        scope = Scope("lambda", place.scope, place)
        provider = Function(_PROVIDER, False, 0, (), scope, place, call.node)
        provider.returns.append((Call(target, arguments, keywords, call.node), place))
        return LocalFunction(provider, home)

    def _given_by_provider(self, item: Expr, call: Call, place: Place, home: Namespace) -> Expr:
        if isinstance(item, Ref) and item.parts[-1] in ("provided", "provider"):
            owner = Ref(item.parts[:-1]) if len(item.parts) > 1 else item
            if any(map(_is_provider, self.expr(owner, place, home))):
                return Call(owner, (), (), call.node) if item.parts[-1] == "provided" else owner
        if any(map(_is_provider, self.expr(item, place, home))):
            return Call(item, (), (), call.node)
        return item

    def returned(self, function: LocalFunction, *, awaited: bool = False) -> tuple[Value, ...]:
        stated = function.definition.returned_type
        found = self._returned(function, awaited=awaited)
        if (
            stated is None
            or function.definition.is_async != awaited
            or function.definition.is_generator
        ):
            return found
        place, home = function.definition.place, function.home
        values = list(found)
        if all(map(_is_foreign, found)):
            values.extend(self._instances(stated, place, home))
        # A function round a factory may be given for one.
        if all(_is_foreign(value) or isinstance(value, LocalFunction) for value in found):
            values.extend(self._factories(stated, place, home))
        return tuple(values)

    def _instances(self, annotation: Expr, place: Place, home: Namespace) -> Iterator[Value]:
        """Yield what an annotation says of an object: that it is one of a known class, or one."""
        for value in self.annotated(annotation, place, home):
            match value:
                case LocalClass():
                    yield Instance(value)
                case Result(External(dotted), call, at, of) if dotted in _CLASS_TYPES:
                    for item in call.arguments:
                        named = self.annotated(item, at, of)
                        yield from (v for v in named if isinstance(v, LocalClass))

    def _factories(self, annotation: Expr, place: Place, home: Namespace) -> Iterator[Value]:
        """Yield a session factory of which nothing is known, where an annotation tells of one."""
        for value in self.annotated(annotation, place, home):
            if isinstance(value, External) and value.dotted in _FACTORIES:
                arguments = ((None, Opaque()),)  # as if they were unpacked
                yield Result(value, Call(annotation, (), arguments, None), place, home)

    def annotated(self, annotation: Expr, place: Place, home: Namespace) -> Iterator[Value]:
        waiting = list(self.expr(unquoted(annotation), end_of(place.scope), home))
        while waiting:
            value = waiting.pop()
            match value:
                case Dictionary(display, at, of) if all(key is None for key, _ in display.items):
                    for _, option in display.items:  # `C | None`
                        waiting.extend(self.expr(unquoted(option), at, of))
                case Result(External("typing.NewType"), Call(arguments=(_, made)), at, of):
                    waiting.extend(self.expr(made, at, of))
                case Result(External(dotted), call, at, of) if dotted in _TYPE_VARIABLES:
                    bound = call.keyword("bound")
                    for option in (*call.arguments[1:], *([bound] if bound is not None else ())):
                        waiting.extend(self.expr(unquoted(option), at, of))
                case _:
                    yield value

    def _returned(self, function: LocalFunction, *, awaited: bool) -> tuple[Value, ...]:
        definition = function.definition
        if definition.is_async != awaited or definition.is_generator or not definition.returns:
            return (UNKNOWN,)
        for decorator in () if definition.is_property else definition.decorators:
            target = decorator.function if isinstance(decorator, Call) else decorator
            for value in self.expr(target, definition.place, function.home):
                if not (isinstance(value, External) and value.dotted in _TRANSPARENT_DECORATORS):
                    return (UNKNOWN,)
        return self.once(
            definition,
            function.home,
            lambda: tuple(
                value
                for expr, place in definition.returns
                for value in self.expr(expr, place, function.home)
            ),
        )


def _is_unset(values: Iterable[Value]) -> bool:
    """Return whether an attribute has no value yet, or one that is to be replaced.

    That is None, or a method which is annotated to return something and does not.
    """
    return all(
        value == Literal(None) or (isinstance(value, LocalFunction) and _is_abstract(value))
        for value in values
    )


def _is_abstract(function: LocalFunction) -> bool:
    definition, stated = function.definition, function.definition.returned_type
    return not (definition.returns or definition.is_generator or stated is None) and not (
        isinstance(stated, Constant) and stated.value is None
    )


def _is_of_class(value: Value, owner: LocalClass) -> bool:
    """Return whether a value is a class, or an object of it, by whichever front end it was read."""
    match value:
        case LocalClass():
            found = value
        case Instance(of=found) | Result(function=LocalClass() as found):
            pass
        case _:
            return False
    return found.definition is owner.definition or found.key == owner.key


def _is_provider(value: Value) -> bool:
    return isinstance(value, Partial) or (
        isinstance(value, LocalFunction) and value.definition.name == _PROVIDER
    )


def provided(call: Call, found: Iterable[Value]) -> Iterator[Result]:
    """Yield what the provider that a call makes gives, where it is one."""
    for value in found:
        if isinstance(value, LocalFunction) and value.definition.node is call.node:
            for given in returned(value):
                if isinstance(given, Result) and given.call.node is call.node:
                    yield given


def _is_foreign(value: Value) -> bool:
    """Return whether a value comes from code that is not known, or is None."""
    root = _root(value)
    return root in (UNKNOWN, Literal(None)) or (
        isinstance(root, External) and not _is_of_database(root)
    )


def _is_of_database(value: Value) -> bool:
    """Return whether a value comes from SQLAlchemy or SQLModel."""
    root = _root(value)
    return isinstance(root, External) and root.dotted.startswith(_DATABASE_LIBRARIES)


def _root(value: Value) -> Value:
    while isinstance(value, (Result, Partial, Method)):
        value = value.owner if isinstance(value, Method) else value.function
    return value


def _named(
    found: Iterable[Value], parts: tuple[str, ...], place: Place, home: Namespace
) -> tuple[Value, ...]:
    """Return values, with the name that they were reached by where they are dictionaries."""
    found = tuple(found)
    if not any(isinstance(value, Dictionary) for value in found):
        return found
    step = (parts, place, home)
    return tuple(
        replace(v, names=(*v.names, step)) if isinstance(v, Dictionary) else v for v in found
    )


def is_depends(value: Value) -> bool:
    """Return whether a function tells a framework to give a parameter what another returns."""
    return injecting_package(value) is not None


def injecting_package(value: Value) -> str | None:
    """Return the package of the framework that a function tells what to call for a parameter."""
    if not isinstance(value, External):
        return None
    package, _, name = value.dotted.partition(".")
    is_known = package in _INJECTING and name.rpartition(".")[2] in _DEPENDS
    return package if is_known else None


def _distinct(found: Iterable[Value]) -> tuple[Value, ...]:
    """Return one of the values that differ in nothing but the way from where both come from.

    `query = query.where(...)` in one branch after the other would double them with each.
    """
    distinct = tuple(found)
    if len(distinct) > 1:
        distinct = tuple({_origin(value): value for value in distinct}.values())
    if len(distinct) > _MOST_VALUES:
        return (*distinct[:_MOST_VALUES], UNKNOWN)
    return distinct


def _origin(value: Value) -> object:
    """Return what tells a value from others: the call it came of, and where its chain began."""
    last = value
    while True:  # by type, since little is asked more often
        inner: Value
        chained: tuple[type, ...]
        if type(value) is Result:
            inner, chained = value.function, _CHAINED
        elif type(value) is Method:
            inner, chained = value.owner, _CHAINED_BY_METHODS
        else:
            break
        if type(inner) not in chained:
            break
        value = inner
    if value is last:
        return _made(value) if type(value) in (Result, Dictionary) else value
    return (_made(last), _made(value))


def _made(value: Value) -> object:
    if type(value) is Result:
        steps = [id(step.call.node) for step in value.through]
        if type(value.function) is External:
            return (value.function.dotted, id(value.call.node), *steps)
        return (id(value.call.node), *steps)
    if type(value) is Method:
        return value.name
    if type(value) is Dictionary:
        return (id(value.display.node), *(parts for parts, _, _ in value.names))
    return value


def dependency(call: Call) -> Expr | None:
    """Return what `Depends(...)` is given to call, or None."""
    return call.arguments[0] if call.arguments else call.keyword("dependency")


def _merged(made: Call, call: Call) -> Call:
    """Return the call that a call of `functools.partial(...)` comes to."""
    own = {key for key, _ in call.keywords}
    kept = tuple((key, value) for key, value in made.keywords if key is None or key not in own)
    arguments = (*made.arguments[1:], *call.arguments)
    return Call(call.function, arguments, (*kept, *call.keywords), call.node)


def _is_annotated(dotted: str) -> bool:
    """Return whether `X[C, ...]` is `C` with something said of it."""
    return dotted in _ANNOTATED or (dotted.startswith("dishka.") and dotted.endswith(".FromDishka"))


def annotated(annotation: Expr, place: Place, home: Namespace) -> Iterator[Value]:
    """Yield the classes that an annotation names, `None` and what goes with them left out."""
    return Evaluation().annotated(annotation, place, home)


def class_member(owner: LocalClass, name: str) -> tuple[Value, ...]:
    """Return what a class, or an instance of it, holds under `name`."""
    return Evaluation().class_member(owner, name)


def dependencies(scope: Scope, name: str, home: Namespace) -> tuple[LocalFunction, ...]:
    """Return the functions that a framework asks for what a parameter of a function is given."""
    return tuple(Evaluation().dependencies(scope, name, home))


def returned(function: LocalFunction, *, awaited: bool = False) -> tuple[Value, ...]:
    """Return what calling a known function gives back, or awaiting that call."""
    return Evaluation().returned(function, awaited=awaited)
