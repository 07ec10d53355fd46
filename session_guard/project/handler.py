"""What is read from the source of a handler: what it opens, and where it falls short."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from session_guard.names import openings, values
from session_guard.names.bindings import Attribute, Call, Function, Ref, end_of, lookup
from session_guard.names.from_ast import FunctionText
from session_guard.names.values import External, LocalFunction
from session_guard.project.contract import passed_on, shortfall
from session_guard.records import dataclass

if TYPE_CHECKING:
    from pathlib import Path

    from session_guard.names.bindings import Binding, Class, Scope
    from session_guard.names.openings import Opening
    from session_guard.names.values import Located, Namespace, Value

CONTEXT_MANAGER = "get_background_session"
_DECORATOR = "contextlib.asynccontextmanager"
_OF_METHODS = (("staticmethod",), ("classmethod",))
REQUEST_MANAGER = "get_session"


@dataclass(frozen=True, slots=True)
class Handler:
    """The module that builds the engine and opens sessions, as far as its source tells."""

    path: Path
    dotted: str
    """The name by which the project's modules import it."""
    namespace: Namespace
    opening: Opening | None
    """What its context manager opens; None where that could not be followed."""
    shortfall: str | None
    """What its context manager does not do as the standard asks; None where it does all."""
    manager: str = CONTEXT_MANAGER
    """The name of the context manager that this is about."""

    def function_of(self, value: Value) -> LocalFunction | None:
        """Return the function of the handler that a value is or is made of, or None."""
        function, manager = managed(value), context_manager(self.namespace, self.manager)
        if function is None:
            return None
        is_manager = manager is not None and function.definition is manager.definition
        return function if is_manager or function.home is self.namespace else None

    @property
    def engine(self) -> Located | None:
        """The engine that its sessions are bound to."""
        return self.opening.bind if self.opening is not None else None

    def for_requests(self) -> Handler | None:
        """Return the handler as `get_session()` opens sessions; None if that cannot be entered.

        `get_session` may be a plain generator, or missing.
        """
        names = self.namespace
        function = context_manager(names, REQUEST_MANAGER)
        if function is None or not is_context_manager(names, REQUEST_MANAGER):
            return None
        definition = function.definition
        node = _syntax_of(definition)
        inner = passed_on(node) if node is not None else None
        own = context_manager(names)
        if (
            own is not None
            and inner is not None
            and any(
                isinstance(value, LocalFunction) and value.definition is own.definition
                for value in function.home.evaluate(Ref((inner,)), definition.place)
            )
        ):
            fallen_short = self.shortfall or _decorated(function)
            return replace(self, manager=REQUEST_MANAGER, shortfall=fallen_short)
        return replace(
            self,
            manager=REQUEST_MANAGER,
            opening=opening_of(function),
            shortfall=shortfall_of(function),
        )

    def engines(self) -> list[Value]:
        """Return what the handler's engine may be, before it is built (None) left out."""
        if self.engine is None:
            return []
        return [value for value in self.engine.values() if value != values.Literal(None)]

    def binds(self, engine: Value) -> bool:
        """Return whether `engine` is the very engine that the handler's sessions use."""
        own = self.engines()
        return bool(own) and all(is_same_engine(value, engine) for value in own)


def is_same_engine(one: Value, other: Value) -> bool:
    """Return whether both are what one call builds, or one name of what is not followed."""
    if isinstance(one, values.Result) and isinstance(other, values.Result):
        return (
            openings.is_engine(one)
            and one.is_of_the_same_call(other)
            and not _may_be_of_two_objects(one)
        )
    return isinstance(one, External) and isinstance(other, External) and one.dotted == other.dotted


def _may_be_of_two_objects(engine: values.Result) -> bool:
    """Return whether a method builds an engine with what another object may have another of.

    Objects that were made with arguments are told apart by them; others by nothing.
    """
    owner = _class_round(engine)
    if owner is None or any(isinstance(s.function, values.LocalClass) for s in engine.through):
        return False
    url = engine.call.arguments[0] if engine.call.arguments else engine.call.keyword("url")
    if not isinstance(url, Ref) or not _is_of_object(url, engine):
        return False
    elsewhere, name = engine.home.elsewhere, owner.name
    if len(url.parts) > 1 and elsewhere.subclasses(name, url.parts[1]):
        return True
    made = (
        call
        for call in elsewhere.calls(name)
        if isinstance(call.expr, Call)
        for value in call.home.evaluate(call.expr.function, call.place)
        if isinstance(value, values.LocalClass) and value.key == (engine.home.path, name)
    )
    return len(list(made)) > 1


def _class_round(engine: values.Result) -> Class | None:
    """Return the class in a method of which an engine is built, or None."""
    scope: Scope | None = engine.place.scope
    while scope is not None and scope.receiver is None:
        scope = scope.parent
    return scope.parent.definition if scope is not None and scope.parent is not None else None


def _is_of_object(url: Ref, engine: values.Result) -> bool:
    """Return whether a URL is an attribute of the method's object, or given to the method."""
    bindings = lookup(url.parts[0], engine.place) or ()
    return any(binding.place.scope.kind == "function" for binding in bindings)


def context_manager(namespace: Namespace, name: str = CONTEXT_MANAGER) -> LocalFunction | None:
    """Return the function that a module's context manager is or is made of, or None.

    That is one of its own, a method under another name (`get_background_session = db.session`), or
    what `asynccontextmanager(...)` is called with. What is imported is another module's.
    """
    bindings = namespace.scope.bindings.get(name, [])
    if not bindings or bindings[-1].kind == "import":
        return None
    if isinstance(bindings[-1].value, Function):
        return LocalFunction(bindings[-1].value, namespace)
    found = [managed(value) for value in _bound(namespace, name)]
    function = found[0] if len(found) == 1 else None
    if function is None or (function.definition.name == name and function.home is not namespace):
        return None
    return None if _lacks_object(bindings[-1], namespace) else function


def _lacks_object(binding: Binding, namespace: Namespace) -> bool:
    """Return whether a name is bound to a method of a class, with no object to call it on."""
    bound = binding.value
    if isinstance(bound, Call) and bound.arguments:
        bound = bound.arguments[0]
    match bound:
        case Ref(parts=(*owner, _)) if owner:
            owners = namespace.evaluate(Ref(tuple(owner)), binding.place)
        case Attribute(value=made):
            owners = namespace.evaluate(made, binding.place)
        case _:
            return False
    return any(isinstance(value, values.LocalClass) for value in owners)


def managed(value: Value) -> LocalFunction | None:
    """Return the function that a value is, or that `asynccontextmanager(...)` made it of."""
    match value:
        case LocalFunction():
            return value
        case values.Result(External(dotted), Call(arguments=(made,))) if dotted == _DECORATOR:
            found = value.home.evaluate(made, value.place)
            if len(found) == 1 and isinstance(found[0], LocalFunction):
                return found[0]
    return None


def is_context_manager(namespace: Namespace, name: str = CONTEXT_MANAGER) -> bool:
    """Return whether a module defines it as an async context manager without arguments."""
    function = context_manager(namespace, name)
    if function is None:
        return False
    definition = function.definition
    own = len(definition.positional) - len(definition.given_by_position)
    return (
        definition.is_async
        and definition.required_parameters == own
        and (
            any(isinstance(value, values.Result) for value in _bound(namespace, name))
            or any(
                value == External(_DECORATOR)
                for decorator in definition.decorators
                for value in function.home.evaluate(decorator, definition.place)
            )
        )
    )


def _bound(namespace: Namespace, name: str) -> tuple[Value, ...]:
    return namespace.evaluate(Ref((name,)), end_of(namespace.scope))


def opening_of(function: LocalFunction) -> Opening | None:
    """Return what the context manager opens, in itself or in helpers of its module.

    Where several calls in it open sessions, which of them it yields is not known.
    """
    found: list[Opening] = []
    waiting, seen, home = [function.definition], set(), function.home
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        for call, place in current.calls:
            found.extend(
                opening
                for value in home.evaluate(call, place)
                if (opening := openings.opening(value)) is not None
            )
            waiting.extend(
                callee.definition
                for callee in home.evaluate(call.function, place)
                if isinstance(callee, LocalFunction) and callee.home is home
            )
    return found[0] if len(found) == 1 else None


def shortfall_of(function: LocalFunction) -> str | None:
    """Return where the context manager falls short of the standard, or None."""
    node = _syntax_of(function.definition)
    if node is None:
        return "is written in syntax that this Python does not know"
    return _decorated(function) or shortfall(node)


def _decorated(function: LocalFunction) -> str | None:
    """Return that a decorator may make something else of a context manager, or None."""
    definition = function.definition
    for decorator in definition.decorators:
        known = function.home.evaluate(decorator, definition.place)
        is_of_methods = isinstance(decorator, Ref) and decorator.parts in _OF_METHODS
        if known != (External(_DECORATOR),) and not is_of_methods:
            return "has a decorator that may replace what it does"
    return None


def _syntax_of(function: Function) -> ast.AsyncFunctionDef | None:
    """Return a function as `ast` has it, or None where this Python does not know its syntax."""
    node = function.node
    if isinstance(node, FunctionText):
        node = node.parsed()
    else:  # LibCST's, where the module's syntax is too new for `ast`
        import libcst as cst

        assert isinstance(node, cst.FunctionDef)
        try:
            node = ast.parse(cst.Module([node]).code.strip()).body[0]
        except SyntaxError:
            return None
    assert isinstance(node, ast.AsyncFunctionDef)
    return node
