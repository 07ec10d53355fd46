"""Which names hold an async session, and where each got it from.

A parameter is known by its annotation or its `Depends`, a local name by what it is bound to, an
attribute of `self` by what the class's methods assign to it.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from session_guard.names import evaluation, openings, values
from session_guard.names.bindings import (
    AsyncItem,
    Attribute,
    Await,
    Call,
    Class,
    Either,
    Function,
    Ref,
    Subscript,
    class_of_receiver,
    end_of,
    lookup,
)
from session_guard.names.from_ast import unquoted
from session_guard.names.values import External, LocalClass, LocalFunction
from session_guard.records import dataclass

if TYPE_CHECKING:
    from session_guard.names.bindings import Binding, Expr, Place, Scope
    from session_guard.names.values import Namespace, Value

_MANAGER_DECORATORS = frozenset({"contextlib.asynccontextmanager"})
# Functions of libraries that give sessions and have no home in a project's code.
_LIBRARIES_GIVING = frozenset({"nonebot_plugin_orm.get_session"})
_ENTERING = frozenset({"enter_async_context", "enter_context"})
# What a generator or a context manager is annotated to be.
_GIVING = ("Generator", "Iterator", "Iterable", "ContextManager")
_DEEPEST = 12

Key = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Held:
    """A session that an expression stands for."""

    key: Key
    """The same for every name of the same session: the scope and the name that first held it."""
    place: Place
    """Where that name is bound."""
    is_parameter: bool
    """Whether it was handed in from outside."""
    path: str = field(default="", compare=False)
    """How code reaches it that has it as an attribute of an object."""

    @property
    def text(self) -> str:
        """What a message calls it."""
        return self.path or self.name

    @property
    def name(self) -> str:
        """The name that first held it."""
        return self.key[1]


def held(expr: Expr, place: Place, home: Namespace, depth: int = 0) -> Held | None:
    """Return the session that `expr` stands for at `place`; None also where it is new."""
    if depth > _DEEPEST:
        return None
    match expr:
        case Ref(parts=(name,)):
            for binding in lookup(name, place) or ():
                found = _bound(name, binding, home, depth + 1)
                if found is not None:
                    return found
        case Ref(parts=(receiver, attribute)):
            owner = class_of_receiver(receiver, place)
            if owner is not None:
                return held_by_instances(owner, attribute, home, depth + 1)
        case Either():
            for option in expr.options:
                found = held(option, place, home, depth + 1)
                if found is not None:
                    return found
    return None


def _bound(name: str, binding: Binding, home: Namespace, depth: int) -> Held | None:
    scope = binding.place.scope
    found = Held((id(scope), name), binding.place, is_parameter=binding.kind == "parameter")
    if binding.kind == "parameter":
        return found if _is_parameter_session(name, scope, home, depth) else None
    if binding.kind == "import":
        imported = home.evaluate(Ref((name,)), end_of(scope))
        return found if any(map(_is_new_session, imported)) else None
    if binding.kind != "assign" or isinstance(binding.value, (Function, Class)):
        return None
    if binding.value is not None:
        alias = held(binding.value, binding.place, home, depth)
        if alias is not None:
            return alias
        if _gives_session(binding.value, binding, home, depth):
            return found
    stated = scope.annotations.get(name, ())
    own = any(
        annotates_session(annotation, place, home)
        for annotation, place in stated
        if place.scope is scope  # and not as the parameter that it was
    )
    return found if own else None


def _is_annotated(name: str, scope: Scope, home: Namespace) -> bool:
    return any(
        annotates_session(annotation, place, home)
        for annotation, place in scope.annotations.get(name, ())
    )


def _gives_session(value: Expr, binding: Binding, home: Namespace, depth: int) -> bool:
    """Return whether what a name is bound to is a session that had no name before."""
    options = value.options if isinstance(value, Either) else (value,)
    for option in options:
        match option:
            case Call():
                if any(map(_is_new_session, home.evaluate(option, binding.place))):
                    return True
                if binding.entered and _entering_gives(option, binding.place, home, depth):
                    return True
            case Await(Call() as call):
                if _awaiting_gives(call, binding.place, home, depth):
                    return True
            case AsyncItem():
                if _is_generator_of_sessions(option.value, binding.place, home, depth):
                    return True
    return False


def _is_new_session(value: Value) -> bool:
    """Return whether a value is a session that was opened by the call that gave it."""
    return openings.opening(value) is not None or (
        isinstance(value, values.Result) and _is_giver(value.function)
    )


def _is_giver(function: Value) -> bool:
    return isinstance(function, External) and function.dotted in _LIBRARIES_GIVING


def _entering_gives(call: Call, place: Place, home: Namespace, depth: int) -> bool:
    """Return whether entering what a call gives back gives a session."""
    for function in home.evaluate(call.function, place):
        match function:
            case LocalFunction():
                if yields_session(function, depth):
                    return True
            case External("contextlib.aclosing") if call.arguments:
                argument = call.arguments[0]
                if held(argument, place, home, depth) is not None or any(
                    map(_is_new_session, home.evaluate(argument, place))
                ):
                    return True
            case values.Result(function=External(dotted), call=made) if (
                dotted in _MANAGER_DECORATORS and made.arguments
            ):
                managed = function.home.evaluate(made.arguments[0], function.place)
                if any(isinstance(v, LocalFunction) and yields_session(v, depth) for v in managed):
                    return True
    return False


def _awaiting_gives(call: Call, place: Place, home: Namespace, depth: int) -> bool:
    """Return whether awaiting a call gives a session."""
    function = call.function
    name = function.parts[-1] if isinstance(function, Ref) else None
    if name in _ENTERING and call.arguments:
        entered = call.arguments[0]
        if held(entered, place, home, depth) is not None:
            return True
        return isinstance(entered, Call) and (
            any(map(_is_new_session, home.evaluate(entered, place)))
            or _entering_gives(entered, place, home, depth)
        )
    if isinstance(function, Attribute) and function.name == "__anext__":
        return _is_generator_of_sessions(function.value, place, home, depth)
    functions = home.evaluate(function, place)
    if functions == (External("anext"),) and call.arguments:
        return _is_generator_of_sessions(call.arguments[0], place, home, depth)
    return any(
        isinstance(f, LocalFunction) and f.definition.is_async and _returns_session(f, depth)
        for f in functions
    )


def _is_generator_of_sessions(expr: Expr, place: Place, home: Namespace, depth: int) -> bool:
    return isinstance(expr, Call) and any(
        isinstance(function, LocalFunction) and yields_session(function, depth)
        for function in home.evaluate(expr.function, place)
    )


# -- classes ------------------------------------------------------------------------------------


def held_by_instances(
    owner: LocalClass | Scope, name: str, home: Namespace, depth: int = 0
) -> Held | None:
    """Return the session that instances of a class hold under `name`, or None."""
    if depth > _DEEPEST:
        return None
    if isinstance(owner, LocalClass):
        home, owner = owner.home, owner.definition.scope
    for binding in owner.attributes.get(name, ()):
        if binding.value is None or isinstance(binding.value, (Function, Class)):
            continue
        found = held(binding.value, binding.place, home, depth + 1)
        if found is not None:
            return found
        if _gives_session(binding.value, binding, home, depth + 1):
            return Held((id(owner), name), binding.place, is_parameter=False)
    if _is_annotated(name, owner, home):
        place = owner.annotations[name][0][1]
        return Held((id(owner), name), place, is_parameter=True)
    for binding in owner.bindings.get(name, ()):
        if isinstance(binding.value, Function) and binding.value.is_property:
            for expr, place in binding.value.returns:
                found = held(expr, place, home, depth + 1)
                if found is not None:
                    return found
    for base in owner.definition.bases if owner.definition is not None else ():
        for value in home.evaluate(base, end_of(owner.parent or owner)):
            if isinstance(value, LocalClass):
                found = held_by_instances(value, name, value.home, depth + 1)
                if found is not None:
                    return found
    return None


# -- functions ----------------------------------------------------------------------------------


def yields_session(function: LocalFunction, depth: int = 0) -> bool:
    """Return whether a function is a generator of sessions."""
    definition, home = function.definition, function.home
    stated = definition.returned_type and unquoted(definition.returned_type)
    if (
        isinstance(stated, Subscript)
        and stated.items
        and isinstance(stated.value, Ref)
        and stated.value.parts[-1].endswith(_GIVING)
        and annotates_session(stated.items[0], definition.place, home)
    ):
        return True
    return any(_is_session(expr, place, home, depth + 1) for expr, place in definition.yields)


def gives_session(function: LocalFunction, depth: int = 0) -> bool:
    """Return whether a function gives a session: yielded, or returned by it or by awaiting it."""
    return yields_session(function, depth) or _returns_session(function, depth)


def _returns_session(function: LocalFunction, depth: int = 0) -> bool:
    definition, home = function.definition, function.home
    stated = definition.returned_type
    if stated is not None and annotates_session(stated, definition.place, home):
        return True
    return any(_is_session(expr, place, home, depth + 1) for expr, place in definition.returns)


def _is_session(expr: Expr, place: Place, home: Namespace, depth: int) -> bool:
    return held(expr, place, home, depth) is not None or any(
        map(_is_new_session, home.evaluate(expr, place))
    )


def _is_parameter_session(name: str, scope: Scope, home: Namespace, depth: int) -> bool:
    if name in scope.annotations:
        return _is_annotated(name, scope, home)
    if name not in scope.defaults:
        return False
    default, outside = scope.defaults[name]
    return isinstance(default, Call) and depends_on_session(default, outside, home, depth)


def depends_on_session(call: Call, place: Place, home: Namespace, depth: int = 0) -> bool:
    """Return whether a call is a framework's `Depends(get_session)`."""
    depends = home.evaluate(call.function, end_of(place.scope))
    given = evaluation.dependency(call)
    if given is None or not any(map(evaluation.is_depends, depends)):
        return False
    return any(
        isinstance(v, LocalFunction) and gives_session(v, depth)
        for v in home.evaluate(given, end_of(place.scope))
    )


def annotated_parameter(name: str, place: Place, home: Namespace) -> list[Value]:
    """Return the classes that a name is annotated with, where it is a parameter."""
    return [
        value
        for binding in lookup(name, place) or ()
        if binding.kind == "parameter"
        for annotation, outside in binding.place.scope.annotations.get(name, ())
        for value in evaluation.annotated(annotation, outside, home)
    ]


def annotates_session(annotation: Expr, place: Place, home: Namespace) -> bool:
    """Return whether an annotation says that something is an async session, or may be None."""
    return any(map(openings.is_session_class, evaluation.annotated(annotation, place, home)))


# -- modules ------------------------------------------------------------------------------------


class Holders:
    """Which modules and classes hold sessions, or may: each is looked at once."""

    def __init__(self) -> None:
        self._classes: dict[Class, bool] = {}

    def has_any(self, names: Namespace) -> bool:
        """Return whether code of a module may hold a session; it may say yes too often."""
        scope = names.scope
        return (
            any(
                openings.is_session_class(value) or self._holds(value)
                for annotation, place in scope.annotated
                for value in evaluation.annotated(annotation, place, names)
            )
            or any(self._gives(call, place, names) for call, place in scope.calls)
            or any(
                self._holds(value)
                for definition in scope.classes
                for base in definition.bases
                for value in names.evaluate(base, definition.place)
            )
        )

    def _gives(self, call: Call, place: Place, names: Namespace) -> bool:
        """Return whether a call may give a session, or be given one that was imported."""
        functions = names.evaluate(call.function, place)
        return (
            any(
                openings.concerns_sessions(function)
                or _is_giver(function)
                or self._holds(function)
                or (isinstance(function, LocalFunction) and gives_session(function))
                for function in functions
            )
            or (
                any(map(evaluation.is_depends, functions))
                and depends_on_session(call, place, names)
            )
            or any(
                openings.opening(value) is not None
                for argument in call.arguments
                for value in _imported(argument, place, names)
            )
        )

    def _holds(self, value: Value) -> bool:
        """Return whether a class, its instance or its method is of a class that holds sessions."""
        while isinstance(value, (values.Result, values.Method)):
            value = value.function if isinstance(value, values.Result) else value.owner
        return isinstance(value, LocalClass) and self.is_holder(value)

    def is_holder(self, owner: LocalClass) -> bool:
        """Return whether instances of a class hold a session, or an object that holds one."""
        definition = owner.definition
        if definition not in self._classes:
            self._classes[definition] = False  # while it is being found out
            self._classes[definition] = self._is_holder(owner)
        return self._classes[definition]

    def _is_holder(self, owner: LocalClass) -> bool:
        scope, home = owner.definition.scope, owner.home
        names = {*scope.annotations, *scope.attributes, *scope.bindings}
        if any(held_by_instances(owner, name, home) is not None for name in names):
            return True
        stated = (item for name in scope.annotations for item in scope.annotations[name])
        return (
            any(
                self._holds(value)
                for annotation, place in stated
                for value in evaluation.annotated(annotation, place, home)
            )
            or any(
                self._holds(value)
                for name in scope.attributes
                for value in evaluation.class_member(owner, name)
            )
            or any(
                self._holds(value)
                for base in owner.definition.bases
                for value in home.evaluate(base, owner.definition.place)
            )
        )


def _imported(argument: Expr, place: Place, names: Namespace) -> tuple[Value, ...]:
    """Return what an argument stands for, where it is a name that was imported."""
    if not isinstance(argument, Ref):
        return ()
    bindings = lookup(argument.parts[0], place) or ()
    if not any(binding.kind == "import" for binding in bindings):
        return ()
    return names.evaluate(argument, place)
