"""Which names hold an async session, and where each got it from.

A parameter is known by its annotation or its `Depends`, a local name by what it is bound to, an
attribute of `self` by what the class's methods assign to it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import libcst as cst

from session_guard.names import openings, values
from session_guard.names.bindings import Call, Class, Either, Function, Ref, end_of, lookup
from session_guard.names.from_libcst import Converter, walk
from session_guard.names.values import External, LocalClass, LocalFunction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from session_guard.module import Module
    from session_guard.names.bindings import Binding, Expr, Place, Scope
    from session_guard.names.values import Namespace, Value

MANAGER_DECORATORS = frozenset({"contextlib.asynccontextmanager"})
_DEPENDS = frozenset(
    {"fastapi.Depends", "fastapi.params.Depends", "fastapi.param_functions.Depends"}
    | {"fastapi.Security", "fast_depends.Depends", "taskiq.TaskiqDepends", "taskiq_dependencies"}
)
_ANNOTATED = frozenset(
    {"typing.Annotated", "typing_extensions.Annotated", "dishka.FromDishka"}
    | {"dishka.integrations.base.FromDishka", "dishka.integrations.fastapi.FromDishka"}
    | {"typing.ClassVar", "typing.Final"}
)
_UNIONS = frozenset({"typing.Optional", "typing.Union"})
_ENTERING = frozenset({"enter_async_context", "enter_context"})
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

    @property
    def name(self) -> str:
        """The name that first held it."""
        return self.key[1]


_of_modules: WeakKeyDictionary[Module, HeldSessions] = WeakKeyDictionary()


def held_sessions(module: Module) -> HeldSessions:
    """Return what is known of a module's sessions; worked out once."""
    found = _of_modules.get(module)
    if found is None:
        found = _of_modules[module] = HeldSessions(module)
    return found


class HeldSessions:
    """The sessions that names of one module hold, and of what it calls in other modules."""

    def __init__(self, module: Module) -> None:
        self._names = module.names
        self._parent = module.parent
        self._place = module.place
        self._expr = module.expr
        self._tree = module.tree

    @cached_property
    def _statements(self) -> dict[Key, list[cst.CSTNode]]:
        """What binds names in a form that the table of names has no value for."""
        found: dict[Key, list[cst.CSTNode]] = {}
        for node in walk(self._tree):
            targets: Sequence[cst.CSTNode] = ()
            match node:
                case cst.For() if node.asynchronous is not None:
                    targets = (node.target,)
                case cst.Assign():
                    targets = [target.target for target in node.targets]
                case cst.AnnAssign():
                    targets = (node.target,)
                case cst.TypeAlias():
                    targets = (node.name,)
            for target in targets:
                if isinstance(target, cst.Name):
                    key = (id(self._place(node).scope), target.value)
                    found.setdefault(key, []).append(node)
        return found

    def at(self, node: cst.CSTNode) -> Held | None:
        """Return the session that an expression of the module stands for, or None."""
        return self.held(self._expr(node), self._place(node), self._names)

    def assigned(self, scope: Scope, name: str) -> Iterator[cst.BaseExpression]:
        """Yield the values that statements of the module assign to a name of a scope."""
        for statement in self._statements.get((id(scope), name), ()):
            if isinstance(statement, (cst.Assign, cst.AnnAssign)) and statement.value is not None:
                yield statement.value

    def annotated_parameter(self, node: cst.Name) -> list[Value]:
        """Return the classes that a name is annotated with, where it is a parameter."""
        return self.annotated_name(node.value, self._place(node))

    def annotated_name(self, name: str, place: Place) -> list[Value]:
        """Return the classes that a name of this module is annotated with, as a parameter."""
        found: list[Value] = []
        for binding in lookup(name, place) or ():
            function = function_of(binding.place.scope) if binding.kind == "parameter" else None
            annotation = parameter(function, name)[0] if function is not None else None
            if function is not None and annotation is not None:
                found.extend(self.annotated(annotation, function.place, self._names))
        return found

    # -- expressions ------------------------------------------------------------------------

    def held(self, expr: Expr, place: Place, home: Namespace, depth: int = 0) -> Held | None:
        """Return the session that `expr` stands for at `place`; None also where it is new."""
        if depth > _DEEPEST:
            return None
        match expr:
            case Ref(parts=(name,)):
                for binding in lookup(name, place) or ():
                    found = self._bound(name, binding, home, depth + 1)
                    if found is not None:
                        return found
            case Ref(parts=(receiver, attribute)):
                owner = _class_of_receiver(receiver, place)
                if owner is not None:
                    return self.attribute(owner, attribute, home, depth + 1)
            case Either():
                for option in expr.options:
                    found = self.held(option, place, home, depth + 1)
                    if found is not None:
                        return found
        return None

    def _bound(self, name: str, binding: Binding, home: Namespace, depth: int) -> Held | None:
        key = (id(binding.place.scope), name)
        if binding.kind == "parameter":
            if self._is_parameter_session(name, binding.place.scope, home):
                return Held(key, binding.place, is_parameter=True)
            return None
        held = Held(key, binding.place, is_parameter=False)
        if binding.kind == "import":
            imported = home.evaluate(Ref((name,)), end_of(binding.place.scope))
            return held if any(map(openings.opening, imported)) else None
        if binding.kind != "assign" or isinstance(binding.value, (Function, Class)):
            return None
        if binding.value is not None and not isinstance(binding.value, Call):
            alias = self.held(binding.value, binding.place, home, depth)
            if alias is not None:
                return alias
        options = binding.value.options if isinstance(binding.value, Either) else (binding.value,)
        for option in options:
            if isinstance(option, Call) and self._gives_session(option, binding.place, home):
                return held
        if any(
            self._states_session(statement, home) for statement in self._statements.get(key, ())
        ):
            return held
        return None

    def _gives_session(self, call: Call, place: Place, home: Namespace) -> bool:
        """Return whether a call, or entering what it gives back, gives a session."""
        if any(map(openings.opening, home.evaluate(call, place))):
            return True
        node = call.node
        parent = self._parent(node) if isinstance(node, cst.CSTNode) else None
        if parent is not None and not isinstance(parent, cst.WithItem):
            return False
        for function in home.evaluate(call.function, place):
            match function:
                case LocalFunction():
                    if function.definition.is_generator and self.yields_session(function):
                        return True
                case External("contextlib.aclosing") if call.arguments:
                    argument = call.arguments[0]
                    if self.held(argument, place, home) is not None or any(
                        map(openings.opening, home.evaluate(argument, place))
                    ):
                        return True
                case values.Result(function=External(dotted), call=made) if (
                    dotted in MANAGER_DECORATORS and made.arguments
                ):
                    managed = function.home.evaluate(made.arguments[0], function.place)
                    if any(
                        isinstance(v, LocalFunction) and self.yields_session(v) for v in managed
                    ):
                        return True
        return False

    def _states_session(self, node: cst.CSTNode, home: Namespace) -> bool:
        """Return whether a statement binds a session in one of the forms it can be read from."""
        match node:
            case cst.AnnAssign():
                place = self._place(node)
                if self.annotates_session(node.annotation.annotation, place, home):
                    return True
                return node.value is not None and self._awaits_session(node.value, home)
            case cst.Assign():
                return self._awaits_session(node.value, home)
            case cst.For():
                return self._is_generator_of_sessions(node.iter, home)
        return False

    def _is_generator_of_sessions(self, node: cst.CSTNode, home: Namespace) -> bool:
        if not isinstance(node, cst.Call):
            return False
        functions = home.evaluate(self._expr(node.func), self._place(node))
        return any(isinstance(f, LocalFunction) and self.yields_session(f) for f in functions)

    def _awaits_session(self, node: cst.CSTNode, home: Namespace) -> bool:
        """Return whether a value is an awaited call that gives a session."""
        if not isinstance(node, cst.Await) or not isinstance(node.expression, cst.Call):
            return False
        call = node.expression
        if isinstance(call.func, cst.Attribute):
            if call.func.attr.value in _ENTERING and call.args:
                entered = call.args[0].value
                expr = self._expr(entered)
                if self.at(entered) is not None:
                    return True
                if isinstance(expr, Call):
                    alone = Call(expr.function, expr.arguments, expr.keywords, None)
                    return self._gives_session(alone, self._place(entered), home)
                return False
            if call.func.attr.value == "__anext__":
                return self._is_generator_of_sessions(call.func.value, home)
        functions = home.evaluate(self._expr(call.func), self._place(call))
        if functions == (External("anext"),) and call.args:
            return self._is_generator_of_sessions(call.args[0].value, home)
        return any(
            isinstance(f, LocalFunction) and f.definition.is_async and self._returns_session(f)
            for f in functions
        )

    # -- classes ----------------------------------------------------------------------------

    def attribute(
        self, owner: LocalClass | Scope, name: str, home: Namespace, depth: int = 0
    ) -> Held | None:
        """Return the session that instances of a class hold under `name`, or None."""
        if depth > _DEEPEST:
            return None
        if isinstance(owner, LocalClass):
            home = owner.home
            owner = owner.definition.scope
        for binding in owner.attributes.get(name, ()):
            if binding.value is None or isinstance(binding.value, (Function, Class)):
                continue
            found = self.held(binding.value, binding.place, home, depth + 1)
            if found is not None:
                return found
            if isinstance(binding.value, Call) and self._gives_session(
                binding.value, binding.place, home
            ):
                return Held((id(owner), name), binding.place, is_parameter=False)
        for statement in self._statements.get((id(owner), name), ()):
            if self._states_session(statement, home):
                return Held((id(owner), name), self._place(statement), is_parameter=True)
        for binding in owner.bindings.get(name, ()):
            if isinstance(binding.value, Function) and _is_property(binding.value):
                for expr, place in binding.value.returns:
                    found = self.held(expr, place, home, depth + 1)
                    if found is not None:
                        return found
        for base in owner.definition.bases if owner.definition is not None else ():
            for value in home.evaluate(base, end_of(owner.parent or owner)):
                if isinstance(value, LocalClass):
                    found = self.attribute(value, name, value.home, depth + 1)
                    if found is not None:
                        return found
        return None

    # -- functions --------------------------------------------------------------------------

    def yields_session(self, function: LocalFunction) -> bool:
        """Return whether a generator yields a session."""
        definition, home = function.definition, function.home
        annotation = _returned_annotation(definition)
        if isinstance(annotation, cst.Subscript):
            first = annotation.slice[0].slice
            if isinstance(first, cst.Index) and self.annotates_session(
                first.value, definition.place, home
            ):
                return True
        place = end_of(definition.scope)
        return any(
            self.held(expr, place, home) is not None
            or any(map(openings.opening, home.evaluate(expr, place)))
            for expr in _yielded(definition)
        )

    def _returns_session(self, function: LocalFunction) -> bool:
        definition, home = function.definition, function.home
        annotation = _returned_annotation(definition)
        if annotation is not None and self.annotates_session(annotation, definition.place, home):
            return True
        return any(
            self.held(expr, place, home) is not None
            or any(map(openings.opening, home.evaluate(expr, place)))
            for expr, place in definition.returns
        )

    def _is_parameter_session(self, name: str, scope: Scope, home: Namespace) -> bool:
        function = function_of(scope)
        if function is None:
            return False
        annotation, default = parameter(function, name)
        if annotation is not None:
            return self.annotates_session(annotation, function.place, home)
        if not isinstance(default, cst.Call) or not default.args:
            return False
        outside = end_of(function.place.scope)
        depends = home.evaluate(Converter().expr(default.func), outside)
        if not any(isinstance(v, External) and v.dotted in _DEPENDS for v in depends):
            return False
        return any(
            isinstance(v, LocalFunction) and (self.yields_session(v) or self._returns_session(v))
            for v in home.evaluate(Converter().expr(default.args[0].value), outside)
        )

    # -- annotations ------------------------------------------------------------------------

    def annotates_session(self, node: cst.CSTNode, place: Place, home: Namespace) -> bool:
        """Return whether an annotation says that something is an async session, or may be None."""
        return any(map(openings.is_session_class, self.annotated(node, place, home)))

    def annotated(
        self, node: cst.CSTNode, place: Place, home: Namespace, depth: int = 0
    ) -> list[Value]:
        """Return the classes that an annotation names, `None` and what goes with them left out."""
        if depth > _DEEPEST:
            return []
        outside = end_of(place.scope)

        def inner(part: cst.CSTNode) -> list[Value]:
            return self.annotated(part, place, home, depth + 1)

        match node:
            case cst.SimpleString() | cst.ConcatenatedString():
                text = node.evaluated_value
                parsed = _parsed(text) if isinstance(text, str) else None
                return inner(parsed) if parsed is not None else []
            case cst.BinaryOperation(operator=cst.BitOr()):
                return [*inner(node.left), *inner(node.right)]
            case cst.Subscript():
                found = home.evaluate(Converter().expr(node.value), outside)
                names = {value.dotted for value in found if isinstance(value, External)}
                items = [
                    element.slice.value
                    for element in node.slice
                    if isinstance(element.slice, cst.Index)
                ]
                if names & _ANNOTATED:
                    return inner(items[0]) if items else []
                if names & _UNIONS:
                    return [value for item in items for value in inner(item)]
                return list(found)
            case cst.Name():
                aliases = [
                    (value, at, names)
                    for binding in lookup(node.value, outside) or ()
                    for value, at, names in self._aliased(node.value, binding, home)
                ]
                if aliases:
                    return [
                        value
                        for alias, at, names in aliases
                        for value in self.annotated(alias, at, names, depth + 1)
                    ]
        return [
            value
            for found in home.evaluate(Converter().expr(node), outside)
            for value in _new_type(found)
        ]

    def _aliased(
        self, name: str, binding: Binding, home: Namespace
    ) -> Iterator[tuple[cst.CSTNode, Place, Namespace]]:
        """Yield what a name is an alias of, where that is more than a name, here or elsewhere."""
        if binding.kind == "import":
            found = home.find_module(home.absolute(binding.target))
            if found is not None and len(found[1]) == 1:
                for alias in _assigned_in(found[0].path).get(found[1][0], ()):
                    yield alias, end_of(found[0].scope), found[0]
        for statement in self._statements.get((id(binding.place.scope), name), ()):
            value = getattr(statement, "value", None)
            if isinstance(value, (cst.Subscript, cst.BinaryOperation)):
                yield value, binding.place, home


def _new_type(value: Value) -> Iterator[Value]:
    """Yield what a class is: of a `NewType`, what it is made of."""
    if (
        isinstance(value, values.Result)
        and value.function == External("typing.NewType")
        and len(value.call.arguments) == 2
    ):
        for inner in value.home.evaluate(value.call.arguments[1], value.place):
            yield from _new_type(inner)
    else:
        yield value


@cache
def _assigned_in(path: Path) -> dict[str, list[cst.BaseExpression]]:
    """Return the annotations that a module of the project gives names to."""
    found: dict[str, list[cst.BaseExpression]] = {}
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return found
    for statement in tree.body:
        value = getattr(statement, "value", None)
        if not isinstance(value, (ast.Subscript, ast.BinOp)):
            continue
        single = getattr(statement, "target", None) or getattr(statement, "name", None)
        targets: list[object] = getattr(statement, "targets", None) or [single]
        alias = _from_ast(value)
        for name in targets:
            if isinstance(name, ast.Name) and alias is not None:
                found.setdefault(name.id, []).append(alias)
    return found


def _is_property(function: Function) -> bool:
    return any(
        isinstance(decorator, Ref) and decorator.parts[-1] in ("property", "cached_property")
        for decorator in function.decorators
    )


def function_of(scope: Scope) -> Function | None:
    """Return the function whose scope `scope` is, or None for lambdas, classes and modules."""
    if scope.kind != "function" or scope.parent is None:
        return None
    for bindings in scope.parent.bindings.values():
        for binding in bindings:
            if isinstance(binding.value, Function) and binding.value.scope is scope:
                return binding.value
    return None


def parameters(function: Function) -> list[str]:
    """Return the names of a function's parameters that can be given by position."""
    node = function.node
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    if isinstance(node, cst.FunctionDef):
        every = (*node.params.posonly_params, *node.params.params)
        return [parameter.name.value for parameter in every]
    return []


def parameter(
    function: Function, name: str
) -> tuple[cst.BaseExpression | None, cst.BaseExpression | None]:
    """Return the annotation and the default of a parameter, `*args` and `**kwargs` left out."""
    node = function.node
    if isinstance(node, cst.FunctionDef):
        given = node.params
        for own in (*given.posonly_params, *given.params, *given.kwonly_params):
            if own.name.value == name:
                annotation = own.annotation.annotation if own.annotation is not None else None
                return annotation, own.default
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        arguments = node.args
        positional = [*arguments.posonlyargs, *arguments.args]
        missing = len(positional) - len(arguments.defaults)
        defaults = [*[None] * missing, *arguments.defaults, *arguments.kw_defaults]
        for argument, default in zip([*positional, *arguments.kwonlyargs], defaults, strict=True):
            if argument.arg == name:
                return _from_ast(argument.annotation), _from_ast(default)
    return None, None


def _class_of_receiver(name: str, place: Place) -> Scope | None:
    """Return the scope of the class whose `self` a name is, in a method or a function in it."""
    scope: Scope | None = place.scope
    while scope is not None:
        if scope.receiver == name:
            return scope.parent
        if name in scope.bindings:
            return None
        scope = scope.parent
    return None


def _returned_annotation(function: Function) -> cst.BaseExpression | None:
    node = function.node
    if isinstance(node, cst.FunctionDef):
        found = node.returns.annotation if node.returns is not None else None
        return _parsed(found.raw_value) if isinstance(found, cst.SimpleString) else found
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return _from_ast(node.returns)
    return None


def _yielded(function: Function) -> Iterable[Expr]:
    """Return what a generator yields, as far as that is a name or a call."""
    node = function.node
    found: list[object] = []
    if isinstance(node, cst.FunctionDef):
        found = [part.value for part in walk(node.body) if isinstance(part, cst.Yield)]
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yields = [part.value for part in ast.walk(node) if isinstance(part, ast.Yield)]
        found = [_from_ast(value) for value in yields]
    return [Converter().expr(value) for value in found if isinstance(value, cst.BaseExpression)]


def _from_ast(node: ast.expr | None) -> cst.BaseExpression | None:
    return _parsed(ast.unparse(node)) if node is not None else None


def _parsed(text: str) -> cst.BaseExpression | None:
    try:
        return cst.parse_expression(text)
    except cst.ParserSyntaxError:
        return None
