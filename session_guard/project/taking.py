"""What a file's functions give to sessions that they have neither made nor loaded with them."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from session_guard.names.bindings import Call, Ref, end_of
from session_guard.names.values import LocalClass, LocalFunction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from session_guard.names.values import Namespace

_TAKES = frozenset({"add", "add_all", "merge"})
_OPTIONS = frozenset({"load", "options"})
_FILLS = frozenset({"add", "append", "appendleft", "extend", "insert"})
# Builtins whose result holds what went in.
_CONTAINERS = frozenset(
    "dict enumerate filter frozenset iter list next reversed set sorted tuple zip".split()
)
_COLLECTIONS = frozenset(
    "Counter OrderedDict defaultdict deque dict frozenset list set tuple".split()
)
_PLAIN = frozenset("Decimal UUID bool bytes date datetime float int str".split())

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def taken_from_others(tree: ast.Module, names: Namespace) -> Iterator[LocalClass | None]:
    """Yield the classes of such objects in a file; None stands for one that is not known."""
    kept = frozenset(_collections(tree))
    for function, owner in _functions(tree, None):
        yield from _Taking(function, owner, names, kept).found()


def _functions(node: ast.AST, owner: str | None) -> Iterator[tuple[_Function, str | None]]:
    """Yield the outermost functions, with the class that each is a method of."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child, owner
        else:
            yield from _functions(child, child.name if isinstance(child, ast.ClassDef) else owner)


def _collections(tree: ast.Module) -> Iterator[str]:
    """Yield the names, and those of attributes, that hold collections."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        is_one = False
        if isinstance(node, ast.Assign):
            targets, is_one = node.targets, _is_collection(node.value)
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
            is_one = _is_collection(node.value) or _annotates_collection(node.annotation)
        elif isinstance(node, ast.arg) and _annotates_collection(node.annotation):
            yield node.arg
        for target in targets if is_one else ():
            match target:
                case ast.Name(name) | ast.Attribute(attr=name):
                    yield name


def _is_collection(value: ast.expr | None) -> bool:
    match value:
        case ast.Call(ast.Name(name) | ast.Attribute(attr=name)):
            return name in _COLLECTIONS
    return isinstance(value, (ast.Set, ast.SetComp, ast.List, ast.ListComp, ast.Dict))


def _annotates_collection(annotation: ast.expr | None) -> bool:
    if isinstance(annotation, ast.Subscript):
        annotation = annotation.value
    return _last_name(annotation).lower() in _COLLECTIONS


def _last_name(node: ast.expr | None) -> str:
    match node:
        case ast.Name(name) | ast.Attribute(attr=name):
            return name
    return ""


def _root(node: ast.expr) -> ast.expr:
    """Return what a chain of attributes, items and calls begins with."""
    while True:
        match node:
            case ast.Attribute(value=inner) | ast.Subscript(value=inner) | ast.Call(func=inner):
                node = inner
            case ast.Await(inner) | ast.Starred(inner):
                node = inner
            case _:
                return node


class _Taking:
    """One function: what its names hold, and what of that it gives to sessions."""

    def __init__(
        self, function: _Function, owner: str | None, names: Namespace, kept: frozenset[str]
    ) -> None:
        self._names = names
        self._owner = owner
        self._kept = kept
        self._function = function
        self._parameters: dict[str, ast.expr | None] = {}
        self._values: dict[str, list[ast.expr]] = {}
        """What the function binds names to, or puts into the collections that they hold."""
        for node in ast.walk(function):
            self._note(node)
        own = [*function.args.posonlyargs, *function.args.args]
        self._receiver = own[0].arg if owner is not None and own else None

    def _note(self, node: ast.AST) -> None:
        match node:
            case ast.arg(name, annotation):
                self._parameters[name] = annotation
            case ast.Assign(targets, value):
                for target in targets:
                    self._bind(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._bind(target, value)
            case ast.AugAssign(target=target, value=value) | ast.NamedExpr(target, value):
                self._bind(target, value)
            case ast.For(target, value) | ast.AsyncFor(target, value):
                self._bind(target, value)
            case ast.comprehension(target, value):
                self._bind(target, value)
            case ast.withitem(value, ast.expr() as target):
                self._bind(target, value)
            case ast.Call(ast.Attribute(ast.Name(name), method), arguments) if method in _FILLS:
                for argument in arguments:
                    self._values.setdefault(name, []).append(argument)

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        for part in ast.walk(target):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                self._values.setdefault(part.id, []).append(value)

    def found(self) -> Iterator[LocalClass | None]:
        """Yield the classes of what sessions are given and the function did not make."""
        for node in ast.walk(self._function):
            match node:
                case ast.Call(ast.Attribute(session, method), [argument], keywords) if (
                    method in _TAKES
                    and {keyword.arg for keyword in keywords} <= _OPTIONS
                    and _last_name(session) not in self._kept
                ):
                    yield from self._others(argument, session, frozenset())

    def _others(
        self, node: ast.expr, session: ast.expr, seen: frozenset[str]
    ) -> Iterator[LocalClass | None]:
        """Yield the classes of what an expression may give that is the session's not yet."""

        def of(parts: Iterable[ast.expr]) -> Iterator[LocalClass | None]:
            for part in parts:
                yield from self._others(part, session, seen)

        match node:
            case ast.Constant():
                pass
            case ast.Name(name):
                yield from self._of_name(name, session, seen)
            case ast.BoolOp(values=parts) | ast.List(parts) | ast.Tuple(parts) | ast.Set(parts):
                yield from of(parts)
            case ast.IfExp(body=body, orelse=orelse):
                yield from of((body, orelse))
            case ast.BinOp(left, _, right):
                yield from of((left, right))
            case ast.ListComp(inner) | ast.SetComp(inner) | ast.GeneratorExp(inner):
                yield from of((inner,))
            case ast.Starred(inner) | ast.NamedExpr(value=inner) | ast.Await(inner):
                yield from of((inner,))
            case ast.Call(ast.Name(name), arguments) if name in _CONTAINERS:
                yield from of(arguments)
            case _ if self._is_made(node) or self._is_of_session(node, session):
                pass
            case _:
                root = _root(node)
                if isinstance(root, ast.Name) and root.id in self._values:
                    yield from self._of_name(root.id, session, seen)
                else:
                    yield None

    def _is_made(self, node: ast.expr) -> bool:
        """Return whether an expression makes an object: by its class, or a function that does."""
        if not isinstance(node, ast.Call):
            return False
        parts = ast.unparse(node.func).split(".")
        if any(part[:1].isupper() for part in parts[-2:]):
            return True
        if not all(part.isidentifier() for part in parts):
            return False
        found = self._names.evaluate(Ref(tuple(parts)), end_of(self._names.scope))
        return bool(found) and all(
            isinstance(one, LocalFunction)
            and bool(one.definition.returns)
            and all(
                isinstance(given, Call)
                and isinstance(given.function, Ref)
                and given.function.parts[-1][:1].isupper()
                for given, _ in one.definition.returns
            )
            for one in found
        )

    def _is_of_session(self, node: ast.expr, session: ast.expr) -> bool:
        """Return whether the same session, or what gets it, gives an expression's value."""
        wanted = ast.dump(session)
        return any(isinstance(one, ast.expr) and ast.dump(one) == wanted for one in ast.walk(node))

    def _of_name(
        self, name: str, session: ast.expr, seen: frozenset[str]
    ) -> Iterator[LocalClass | None]:
        if name in seen:
            return
        if name == self._receiver and self._owner is not None:
            yield from self._classes(ast.Name(self._owner))
            return
        if name in self._parameters:
            yield from self._classes(self._parameters[name])
        elif name not in self._values:
            yield None
        for value in self._values.get(name, ()):
            yield from self._others(value, session, seen | {name})

    def _classes(self, annotation: ast.expr | None) -> Iterator[LocalClass | None]:
        """Yield the classes of what is annotated so; of a plain value none."""
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            try:
                annotation = ast.parse(annotation.value, mode="eval").body
            except SyntaxError:
                annotation = None
        if annotation is None:
            yield None
            return
        for part in _named(annotation):
            parts = tuple(ast.unparse(part).split("."))
            if parts[-1] in _PLAIN:
                continue
            found = self._names.evaluate(Ref(parts), end_of(self._names.scope))
            if len(found) == 1 and isinstance(found[0], LocalClass):
                yield found[0]
            else:
                yield None


def _named(annotation: ast.expr) -> Iterator[ast.expr]:
    """Yield the classes that an annotation names, of `list[User] | None` the one."""
    match annotation:
        case ast.Name() | ast.Attribute():
            yield annotation
        case ast.Subscript(slice=ast.expr() as inner):
            yield from _named(inner)
        case _:
            for part in ast.iter_child_nodes(annotation):
                if isinstance(part, ast.expr):
                    yield from _named(part)
