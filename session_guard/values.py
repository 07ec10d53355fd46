"""What an expression stands for: a session class, a session factory, an engine, a session.

Nothing is imported or run. An expression is followed through imports, assignments, classes and
functions of the files that are known; what cannot be followed is `UNKNOWN`, which is neither a
yes nor a no.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from session_guard.names import (
    Attribute,
    Call,
    Class,
    Constant,
    Either,
    Expr,
    Function,
    LambdaExpr,
    Place,
    Ref,
    Scope,
    Subscript,
    TextBeginning,
    end_of,
    lookup,
)

if TYPE_CHECKING:
    from collections.abc import Callable

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
}
SQLALCHEMY_SESSION = "sqlalchemy.ext.asyncio.AsyncSession"
SQLMODEL_SESSION = "sqlmodel.ext.asyncio.session.AsyncSession"
SESSION_CLASSES = frozenset({SQLALCHEMY_SESSION, SQLMODEL_SESSION})
ASYNC_FACTORY_CLASS = "sqlalchemy.ext.asyncio.async_sessionmaker"
SYNC_FACTORY_CLASS = "sqlalchemy.orm.sessionmaker"
FACTORY_CLASSES = frozenset({ASYNC_FACTORY_CLASS, SYNC_FACTORY_CLASS})
SCOPED_SESSION_CLASS = frozenset({"sqlalchemy.ext.asyncio.async_scoped_session"})
ENGINE_BUILDERS = frozenset(
    {
        "sqlalchemy.ext.asyncio.create_async_engine",
        "sqlalchemy.ext.asyncio.async_engine_from_config",
    }
)
_ABOUT_SESSIONS = SESSION_CLASSES | FACTORY_CLASSES | SCOPED_SESSION_CLASS | ENGINE_BUILDERS
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
_TRANSPARENT_DECORATORS = frozenset({"functools.lru_cache", "functools.cache", "staticmethod"})
_MOST_STEPS = 24


@dataclass(frozen=True, slots=True)
class External:
    """Something outside the files that are known, by its canonical dotted name."""

    dotted: str


@dataclass(frozen=True, slots=True, eq=False)
class LocalClass:
    """A class whose definition is known."""

    definition: Class
    home: Namespace


@dataclass(frozen=True, slots=True, eq=False)
class LocalFunction:
    """A function whose definition is known."""

    definition: Function
    home: Namespace


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What a call gives back, where the callee is not followed further: an instance, mostly."""

    function: Value
    call: Call
    place: Place
    home: Namespace


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


@dataclass(frozen=True, slots=True)
class Unknown:
    """What could not be followed."""


UNKNOWN = Unknown()
Value = (
    External
    | LocalClass
    | LocalFunction
    | Result
    | Partial
    | Method
    | Literal
    | Beginning
    | Unknown
)


@dataclass(frozen=True, slots=True, eq=False)
class Namespace:
    """One module's names, and the way from them to other modules."""

    scope: Scope
    package: tuple[str, ...]
    """The parts of the package that holds the module, from the project's root down."""
    find_module: Callable[[str], tuple[Namespace, tuple[str, ...]] | None] = field(
        default=lambda _: None
    )
    """From a dotted name to the known module it starts with and what is left of the name."""

    def absolute(self, target: str) -> str:
        """Return an import's target without leading dots."""
        name = target.lstrip(".")
        level = len(target) - len(name)
        if level == 0:
            return target
        base = self.package[: len(self.package) - (level - 1)]
        return ".".join((*base, name)) if name else ".".join(base)

    def evaluate(self, expr: Expr, place: Place) -> tuple[Value, ...]:
        """Return the values that `expr` may have at `place`; `UNKNOWN` stands for any other."""
        return _Evaluation().expr(expr, place, self)


class _Evaluation:
    """One question; counts its steps, since names can go round in circles."""

    def __init__(self) -> None:
        self.depth = 0

    def expr(self, expr: Expr, place: Place, home: Namespace) -> tuple[Value, ...]:
        if self.depth >= _MOST_STEPS:
            return (UNKNOWN,)
        self.depth += 1
        try:
            match expr:
                case Ref():
                    return self._ref(expr, place, home)
                case Call():
                    return self._call(expr, place, home)
                case Attribute():
                    owners = self.expr(expr.value, place, home)
                    return self._attribute(owners, expr.name, home)
                case Subscript():
                    # `AsyncSession[...]` is the class; an item of a container is not known.
                    return tuple(
                        value if isinstance(value, (External, LocalClass)) else UNKNOWN
                        for value in self.expr(expr.value, place, home)
                    )
                case Constant():
                    return (Literal(expr.value),)
                case TextBeginning():
                    return (Beginning(expr.text),)
                case Either():
                    return tuple(
                        value for option in expr.options for value in self.expr(option, place, home)
                    )
                case LambdaExpr():
                    function = Function(
                        "<lambda>", False, 0, (), expr.scope, place, expr, False, []
                    )
                    function.returns.append((expr.body, end_of(expr.scope)))
                    return (LocalFunction(function, home),)
                case _:
                    return (UNKNOWN,)
        finally:
            self.depth -= 1

    def _ref(self, ref: Ref, place: Place, home: Namespace) -> tuple[Value, ...]:
        first, *rest = ref.parts
        bindings = lookup(first, place)
        values: list[Value] = []
        if bindings is None:
            values.append(self._starred(first, home))
        else:
            for binding in bindings:
                match binding.value:
                    case _ if binding.kind == "import":
                        values.extend(self._follow(home.absolute(binding.target), home))
                    case Class():
                        values.append(LocalClass(binding.value, home))
                    case Function():
                        values.append(LocalFunction(binding.value, home))
                    case None:
                        values.append(UNKNOWN)
                    case _:
                        values.extend(self.expr(binding.value, binding.place, home))
        for name in rest:
            values = list(self._attribute(tuple(values), name, home))
        return tuple(values)

    def _starred(self, name: str, home: Namespace) -> Value:
        for target in home.scope.star_imports:
            module = home.absolute(target)
            if name in _STAR_EXPORTS.get(module, ()):
                return External(f"{module}.{name}")
        return External(name)

    def _follow(self, dotted: str, home: Namespace) -> tuple[Value, ...]:
        """Return what an absolute dotted name stands for, inside the project where it is there."""
        found = home.find_module(dotted)
        if found is None:
            return (External(_PUBLIC_NAMES.get(dotted, dotted)),)
        module, rest = found
        if not rest:
            return (External(dotted),)
        first, *attributes = rest
        values = self._member(module, first, dotted)
        for name in attributes:
            values = self._attribute(values, name, module)
        return values

    def _member(self, module: Namespace, name: str, dotted: str) -> tuple[Value, ...]:
        """Return what a known module holds under `name`."""
        at = end_of(module.scope)
        if name in module.scope.bindings:
            return self.expr(Ref((name,)), at, module)
        getter = module.scope.bindings.get("__getattr__")
        if getter and isinstance(getter[-1].value, Function):
            return self.returned(LocalFunction(getter[-1].value, module))
        return (External(dotted),)

    def _attribute(
        self, owners: tuple[Value, ...], name: str, home: Namespace
    ) -> tuple[Value, ...]:
        values: list[Value] = []
        for owner in owners:
            match owner:
                case External():
                    values.extend(self._follow(f"{owner.dotted}.{name}", home))
                case LocalClass():
                    scope = owner.definition.scope
                    found = scope.bindings.get(name)
                    if found and found[-1].kind == "assign" and found[-1].value is not None:
                        values.extend(self.expr(Ref((name,)), end_of(scope), owner.home))
                    else:
                        values.append(UNKNOWN)
                case Result() | Partial():
                    values.append(Method(owner, name))
                case _:
                    values.append(UNKNOWN)
        return tuple(values)

    def _call(self, call: Call, place: Place, home: Namespace) -> tuple[Value, ...]:
        values: list[Value] = []
        for function in self.expr(call.function, place, home):
            match function:
                case External("functools.partial") if call.arguments:
                    values.extend(
                        Partial(target, call, place, home)
                        for target in self.expr(call.arguments[0], place, home)
                    )
                case External("typing.cast") if len(call.arguments) == 2:
                    values.extend(self.expr(call.arguments[1], place, home))
                case External() | LocalClass() | Partial() | Result() | Method():
                    values.append(Result(function, call, place, home))
                case LocalFunction():
                    values.extend(self.returned(function))
                case _:
                    values.append(UNKNOWN)
        return tuple(values)

    def returned(self, function: LocalFunction) -> tuple[Value, ...]:
        definition = function.definition
        if definition.is_async or definition.is_generator or not definition.returns:
            return (UNKNOWN,)
        for decorator in definition.decorators:
            target = decorator.function if isinstance(decorator, Call) else decorator
            for value in self.expr(target, definition.place, function.home):
                if not (isinstance(value, External) and value.dotted in _TRANSPARENT_DECORATORS):
                    return (UNKNOWN,)
        return tuple(
            value
            for expr, place in definition.returns
            for value in self.expr(expr, place, function.home)
        )


def returned(function: LocalFunction) -> tuple[Value, ...]:
    """Return what calling a known function gives back."""
    return _Evaluation().returned(function)


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


def is_same_or_subclass(value: Value, of: Value) -> bool:
    """Return whether the class `value` is the class `of` or known to be a subclass of it."""
    if isinstance(of, External):
        return of.dotted in ancestry(value)
    if isinstance(of, LocalClass):
        waiting, seen = [value], set()
        while waiting:
            value = waiting.pop()
            if isinstance(value, LocalClass) and id(value.definition) not in seen:
                if value.definition is of.definition:
                    return True
                seen.add(id(value.definition))
                for base in value.definition.bases:
                    waiting.extend(value.home.evaluate(base, value.definition.place))
    return False


@dataclass(frozen=True, slots=True)
class Located:
    """An expression with the place it is evaluated at, in one module or another."""

    expr: Expr
    place: Place
    home: Namespace

    def values(self) -> tuple[Value, ...]:
        """Return what it may stand for."""
        return self.home.evaluate(self.expr, self.place)


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


def _merged(opening: Opening, call: Call, place: Place, home: Namespace) -> Opening:
    """Return `opening` with the arguments of a call laid over it."""
    bind, options = opening.bind, dict(opening.options)
    arguments = call.arguments
    if arguments:
        bind = Located(arguments[0], place, home)
    for key, value in call.keywords:
        located = Located(value, place, home)
        if key == "bind":
            bind = located
        elif key not in (None, "class_"):
            options[key] = located
    return Opening(
        opening.session_class,
        bind,
        options,
        opening.unknown_arguments or call.unpacks or len(arguments) > 1,
        opening.from_factory,
        opening.begins,
    )


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
        return _merged(target, call, value.place, value.home)
    if not isinstance(value, Result):
        return None
    names = ancestry(value.function)
    call = value.call
    if names & SCOPED_SESSION_CLASS:
        expr = call.arguments[0] if call.arguments else call.keyword("session_factory")
        if expr is not None:
            for inner in value.home.evaluate(expr, value.place):
                found = factory(inner)
                if found is not None:
                    return found
        return Opening(UNKNOWN, None, {}, True, True)
    if not names & FACTORY_CLASSES:
        return None
    given = call.keyword("class_")
    if given is not None:
        classes = value.home.evaluate(given, value.place)
        session_class = next((c for c in classes if is_session_class(c)), None)
        if session_class is None and ASYNC_FACTORY_CLASS in names:
            # Whatever it is, `async_sessionmaker` takes nothing but a subclass of this.
            session_class = External(SQLALCHEMY_SESSION)
    else:
        session_class = External(SQLALCHEMY_SESSION) if ASYNC_FACTORY_CLASS in names else None
    if session_class is None:
        return None
    return _merged(Opening(session_class, None, {}, False, True), call, value.place, value.home)


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
            return Opening(
                found.session_class, found.bind, found.options, found.unknown_arguments, True, True
            )
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
    return _merged(found, value.call, value.place, value.home)


def is_session_class(value: Value) -> bool:
    """Return whether `value` is SQLAlchemy's or SQLModel's `AsyncSession` or a subclass."""
    return derives_from(value, SESSION_CLASSES)


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


def is_on_another_database(bind: Located | None) -> bool:
    """Return whether every engine that `bind` may stand for is known not to be PostgreSQL's."""
    found = [value for value in bind.values() if value != Literal(None)] if bind else []
    return bool(found) and all(
        isinstance(value, Result)
        and is_engine(value)
        and (scheme := _scheme(value)) is not None
        and not scheme.startswith("postgres")
        for value in found
    )


def _scheme(engine: Result) -> str | None:
    """Return how an engine's URL begins, up to the colon, or None where that is not known."""
    call = engine.call
    url = call.arguments[0] if call.arguments else call.keyword("url")
    if url is None:
        return None
    found: set[str | None] = set()
    for value in engine.home.evaluate(url, engine.place):
        match value:
            case Literal(str(text)) | Beginning(text) if ":" in text:
                found.add(text.split(":", 1)[0])
            case Result(
                function=External("sqlalchemy.engine.URL.create" | "sqlalchemy.URL.create")
            ):
                name = value.call.arguments[:1] or (value.call.keyword("drivername"),)
                constant = name[0]
                found.add(
                    constant.value
                    if isinstance(constant, Constant) and isinstance(constant.value, str)
                    else None
                )
            case _:
                found.add(None)
    return found.pop() if len(found) == 1 else None


def is_engine(value: Value) -> bool:
    """Return whether `value` is what `create_async_engine` or its kin gave back."""
    return isinstance(value, Result) and derives_from(value.function, ENGINE_BUILDERS)
