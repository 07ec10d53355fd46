"""Builds a module's table of names from a LibCST tree, and indexes the tree in the same walk."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.bindings import (
    LOOP,
    AsyncItem,
    Attribute,
    Await,
    Call,
    Constant,
    Display,
    Either,
    Element,
    Expr,
    Function,
    LambdaExpr,
    Opaque,
    Place,
    Ref,
    Scope,
    Sequence,
    Star,
    Subscript,
    formatted,
    joined,
    unpacked,
    with_percent,
)
from session_guard.names.from_ast import is_type_checking, stated_value
from session_guard.names.table import TableBuilder
from session_guard.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Sequence as Nodes

    from session_guard.names.table import Parameter

_LAYOUT = (
    cst.BaseParenthesizableWhitespace,
    cst.TrailingWhitespace,
    cst.EmptyLine,
    cst.Comma,
    cst.LeftParen,
    cst.RightParen,
    cst.LeftSquareBracket,
    cst.RightSquareBracket,
    cst.AssignEqual,
    cst.Semicolon,
    cst.Dot,
    cst.Colon,
    cst.MaybeSentinel,
)

_EMPTY = cst.Module([])

ImportStatement = cst.Import | cst.ImportFrom


@functools.cache
def _is_statement(of: type[cst.CSTNode]) -> bool:
    return issubclass(of, (cst.BaseSmallStatement, cst.BaseCompoundStatement))


# Of the nodes whose fields LibCST has in another order than their code.
_field_names: dict[type[cst.CSTNode], tuple[str, ...]] = {
    cst.Arg: ("keyword", "equal", "value"),
    cst.ClassDef: ("decorators", "name", "type_parameters", "bases", "keywords", "body"),
    cst.FunctionDef: tuple(
        "decorators asynchronous name type_parameters params returns body".split()
    ),
    cst.ExceptHandler: ("type", "name", "body"),
    cst.ExceptStarHandler: ("type", "name", "body"),
    cst.MatchCase: ("pattern", "guard", "body"),
    cst.Parameters: tuple(
        "posonly_params posonly_ind params star_arg kwonly_params star_kwarg".split()
    ),
    cst.TypeAlias: ("name", "type_parameters", "value"),
    cst.With: ("asynchronous", "items", "body"),
    cst.For: ("asynchronous", "target", "iter", "body", "orelse"),
    cst.CompFor: ("asynchronous", "target", "iter", "ifs", "inner_for_in"),
}
_NO_PARTS = frozenset(
    "lpar rpar lbrace rbrace lbracket rbracket leading_lines header footer".split()
)
_PART, _SEVERAL, _NEITHER = range(3)
# By type, since LibCST's base classes are abstract ones, of which `isinstance` is slow.
_kinds: dict[type, int] = {}


def _kind(of: type) -> int:
    """Return whether an object of a type is a node that counts, holds several, or is neither."""
    kind = _NEITHER
    if issubclass(of, cst.CSTNode):
        kind = _NEITHER if issubclass(of, _LAYOUT) else _PART
    elif issubclass(of, (list, tuple)):
        kind = _SEVERAL
    _kinds[of] = kind
    return kind


def children(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield a node's children in source order, without whitespace, commas and brackets.

    Of `a if b else c` the condition, which runs first, comes first.
    """
    names = _field_names.get(type(node))
    if names is None:
        names = tuple(
            field.name
            for field in dataclasses.fields(node)
            if "whitespace" not in field.name and field.name not in _NO_PARTS
        )
        _field_names[type(node)] = names
    for name in names:
        value = getattr(node, name)
        kind = _kinds.get(type(value))
        if kind is None:
            kind = _kind(type(value))
        if kind == _PART:
            yield value
        elif kind == _SEVERAL:
            for item in value:
                kind = _kinds.get(type(item))
                if (_kind(type(item)) if kind is None else kind) == _PART:
                    yield item


def walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield a node and all that it holds; of attributes and keyword arguments, not the names."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        inner = [*children(node)]
        # By type, since `isinstance` is slow of LibCST's nodes.
        if type(node) is cst.Attribute:
            inner = [child for child in inner if child is not node.attr]
        elif type(node) is cst.Arg:
            inner = [child for child in inner if child is not node.keyword]
        waiting.extend(reversed(inner))


def _text_in(node: cst.SimpleString) -> str | bytes:
    """Return what a string stands for; Python is asked only where that is not what is written."""
    written = node.value
    if written[0] not in "\"'" or "\\" in written or "\r" in written:
        return node.evaluated_value
    quotes = 3 if written[:3] in ('"""', "'''") else 1
    return written[quotes:-quotes]


def dotted_parts(node: cst.CSTNode | None) -> tuple[str, ...] | None:
    """Return the parts of `a.b.c`, or None where `node` is something else."""
    parts: list[str] = []
    while isinstance(node, cst.Attribute):
        parts.append(node.attr.value)
        node = node.value
    if not isinstance(node, cst.Name):
        return None
    return (node.value, *reversed(parts))


@dataclass(slots=True)
class Index:
    """What the walk over a tree found out about it; keyed by `id` of nodes of that tree."""

    scope: Scope
    parents: dict[int, cst.CSTNode]
    places: dict[int, Place]
    by_type: dict[str, list[cst.CSTNode]]


def index_tree(tree: cst.Module, node_types: frozenset[str]) -> Index:
    """Walk `tree` once: build its table of names, and collect the nodes of `node_types`."""
    builder = _TreeBuilder(node_types)
    builder.walk_children(tree)
    index = Index(builder.module_scope, builder.parents, builder.places, builder.by_type)
    vars(builder).clear()  # it leads back to itself, and would keep the tree
    return index


class _TreeBuilder(TableBuilder):
    def __init__(self, node_types: frozenset[str]) -> None:
        super().__init__()
        self.parents: dict[int, cst.CSTNode] = {}
        self.places: dict[int, Place] = {}
        self.by_type: dict[str, list[cst.CSTNode]] = {name: [] for name in node_types}
        self.converter = Converter(self)
        self._handlers: dict[type[cst.CSTNode], Callable[..., None]] = {
            cst.Import: self._import,
            cst.ImportFrom: self._import_from,
            cst.Assign: self._assign,
            cst.AnnAssign: self._annotated,
            cst.AugAssign: self._augmented,
            cst.FunctionDef: self._function,
            cst.ClassDef: self._class,
            cst.If: self._if,
            cst.For: self._loop,
            cst.While: self._loop,
            cst.With: self._with,
            cst.Try: self._try,
            cst.TryStar: self._try,
            cst.Match: self._match,
            cst.Global: self._global,
            cst.Nonlocal: self._nonlocal,
            cst.Return: self._return,
            cst.NamedExpr: self._walrus,
            cst.Lambda: self._lambda,
            cst.ListComp: self._comprehension,
            cst.SetComp: self._comprehension,
            cst.GeneratorExp: self._comprehension,
            cst.DictComp: self._comprehension,
            cst.Yield: self._yield,
            cst.Call: self._call,
            cst.TypeAlias: self._type_alias,
            cst.Del: self._delete,
        }

    # -- the walk ---------------------------------------------------------------------------

    def walk(self, node: cst.CSTNode, parent: cst.CSTNode) -> None:
        self.parents[id(node)] = parent
        collected = self.by_type.get(type(node).__name__)
        if collected is not None:
            collected.append(node)
        if _is_statement(type(node)):
            self.advance()
            self.places[id(node)] = self.here()
        handler = self._handlers.get(type(node))
        if handler is None:
            self.walk_children(node)
        else:
            handler(node)

    def walk_children(self, node: cst.CSTNode) -> None:
        for child in children(node):
            self.walk(child, node)

    def walk_all(self, nodes: Nodes[cst.CSTNode | None], parent: cst.CSTNode) -> None:
        for node in nodes:
            if node is not None:
                self.walk(node, parent)

    # -- statements -------------------------------------------------------------------------

    def _import(self, node: cst.Import) -> None:
        self.walk_children(node)
        for alias in node.names:
            self.bind_import(alias.evaluated_name, alias.evaluated_alias)

    def _import_from(self, node: cst.ImportFrom) -> None:
        self.walk_children(node)
        module = module_name(node)
        if isinstance(node.names, cst.ImportStar):
            self.star_import(module)
        else:
            self.bind_import_from(
                module, ((alias.evaluated_name, alias.evaluated_alias) for alias in node.names)
            )

    def _assign(self, node: cst.Assign) -> None:
        self.walk(node.value, node)
        value = self.converter.expr(node.value)
        self.advance()
        for target in node.targets:
            self.walk(target, node)
            self._target(target.target, value)

    def _annotated(self, node: cst.AnnAssign) -> None:
        self.walk_children(node)
        annotation = self.converter.expr(node.annotation.annotation)
        self.annotate(self.converter.expr(node.target), annotation)
        if node.value is not None:
            value = stated_value(annotation, self.converter.expr(node.value))
            self.advance()
            self._target(node.target, value)

    def _augmented(self, node: cst.AugAssign) -> None:
        self.walk_children(node)
        value: Expr = Opaque()
        target, added = self.converter.expr(node.target), self.converter.expr(node.value)
        if isinstance(node.operator, cst.BitOrAssign):
            value = Display(((None, target), (None, added)), node)
        elif isinstance(node.operator, cst.AddAssign):
            value = joined(target, added)
        self._target(node.target, value)

    def _delete(self, node: cst.Del) -> None:
        self.walk_children(node)
        target = node.target
        targets = [e.value for e in target.elements] if isinstance(target, cst.Tuple) else [target]
        for item in targets:
            if isinstance(item, cst.Subscript):
                self._stored(item, None)
            elif isinstance(item, cst.Attribute):
                owner = self.converter.expr(item.value)
                self.bind_attribute(owner, item.attr.value, None, item)

    def _stored(self, node: cst.Subscript, value: Expr | None) -> None:
        owner, key = self.converter.expr(node.value), self.converter.expr(node.slice[0].slice)
        self.stored(owner, key if len(node.slice) == 1 else Opaque(), value, node)

    def _function(self, node: cst.FunctionDef) -> None:
        self.walk_all((*node.decorators, node.name, node.returns), node)
        parameters = node.params
        every = [*parameters.posonly_params, *parameters.params, *parameters.kwonly_params]
        every.extend(
            star
            for star in (parameters.star_arg, parameters.star_kwarg)
            if isinstance(star, cst.Param)
        )
        required = [*parameters.posonly_params, *parameters.params, *parameters.kwonly_params]
        positional = (*parameters.posonly_params, *parameters.params)
        self.parents[id(parameters)] = node
        self.walk_all([p for p in every if isinstance(p, cst.Param)], parameters)
        place, given = self.here(), self.converter.parameters(parameters)
        with self.within("function") as scope:
            function = Function(
                node.name.value,
                node.asynchronous is not None,
                sum(parameter.default is None for parameter in required),
                tuple(self.converter.expr(d.decorator) for d in node.decorators),
                scope,
                place,
                node,
                tuple(parameter.name.value for parameter in positional),
            )
            scope.function = function
            scope.receiver = self.receiver(function.positional)
            result = node.returns
            self.annotate_result(
                function, self.converter.expr(result.annotation) if result is not None else None
            )
            for item in node.type_parameters.params if node.type_parameters is not None else ():
                self.bind(item.param.name.value, "other")
            self.bind_parameters(given, place)
            with self.returning_to(function):
                self.walk(node.body, node)
        self.advance()
        self.bind(node.name.value, "function", function)

    def _class(self, node: cst.ClassDef) -> None:
        self.walk_all((*node.decorators, node.name, *node.bases, *node.keywords), node)
        place = self.here()
        bases = tuple(self.converter.expr(base.value) for base in node.bases)
        is_made_over = bool(node.decorators or node.keywords)
        with self.within("class") as scope:
            scope.definition = self.defined(
                node.name.value, bases, place, scope, is_made_over=is_made_over
            )
            self.walk(node.body, node)
        self.advance()
        self.bind(node.name.value, "class", scope.definition)

    def _if(self, node: cst.If) -> None:
        self.walk(node.test, node)
        branching = self.new_branching()
        test = self.converter.expr(node.test)
        self.tested(branching, 0, 1, self._source_of(node.test))
        with self.branch(branching, 0), self.under_type_checking(is_type_checking(test)):
            self.walk(node.body, node)
        if node.orelse is not None:
            with self.branch(branching, 1):
                self.walk(node.orelse, node)

    def _loop(self, node: cst.For | cst.While) -> None:
        if isinstance(node, cst.For):
            self.walk_all((node.target, node.iter), node)
        else:
            self.walk(node.test, node)
        with self.branch(self.new_branching(), LOOP):
            if isinstance(node, cst.For):
                taken = AsyncItem if node.asynchronous is not None else Element
                self._target(node.target, taken(self.converter.expr(node.iter)))
            self.walk(node.body, node)
        if node.orelse is not None:
            with self.branch(self.new_branching()):
                self.walk(node.orelse, node)

    def _with(self, node: cst.With) -> None:
        for item in node.items:
            self.walk(item, node)
            self.places[id(item)] = self.here()
            self.advance()
            target = item.asname.name if item.asname is not None else None
            if isinstance(target, cst.Name):
                self.bind(target.value, "assign", self.converter.expr(item.item), entered=True)
            elif target is not None:
                self._target(target, Opaque())
            self.advance()  # the next item sees the name
        self.walk(node.body, node)

    def _try(self, node: cst.Try | cst.TryStar) -> None:
        with self.branch(self.new_branching()):
            self.walk(node.body, node)
        for handler in node.handlers:
            self.parents[id(handler)] = node
            with self.branch(self.new_branching()):
                if handler.type is not None:
                    self.walk(handler.type, handler)
                if handler.name is not None and isinstance(handler.name.name, cst.Name):
                    self.bind(handler.name.name.value, "other")
                self.walk(handler.body, handler)
        if node.orelse is not None:
            with self.branch(self.new_branching()):
                self.walk(node.orelse, node)
        if node.finalbody is not None:
            self.walk(node.finalbody, node)

    def _match(self, node: cst.Match) -> None:
        self.walk(node.subject, node)
        branching = self.new_branching()
        for arm, case in enumerate(node.cases):
            self.parents[id(case)] = node
            self.tested(branching, arm, arm, self._source_of(case.pattern))
            with self.branch(branching, arm):
                self._pattern(case.pattern)
                self.walk(case.pattern, case)
                if case.guard is not None:
                    self.walk(case.guard, case)
                self.walk(case.body, case)

    def _source_of(self, node: cst.CSTNode) -> str:
        return _EMPTY.code_for_node(node)

    def _pattern(self, node: cst.CSTNode) -> None:
        if isinstance(node, (cst.MatchAs, cst.MatchStar)) and node.name is not None:
            self.bind(node.name.value, "other")
        elif isinstance(node, cst.MatchMapping) and node.rest is not None:
            self.bind(node.rest.value, "other")
        for child in children(node):
            self._pattern(child)

    def _global(self, node: cst.Global) -> None:
        self.scope.globals.update(item.name.value for item in node.names)

    def _nonlocal(self, node: cst.Nonlocal) -> None:
        self.scope.nonlocals.update(item.name.value for item in node.names)

    def _return(self, node: cst.Return) -> None:
        if node.value is not None:
            self.walk(node.value, node)
            self.returned(self.converter.expr(node.value))

    def _type_alias(self, node: cst.TypeAlias) -> None:
        self.walk_children(node)
        self.bind_type_alias(node.name.value, self.converter.expr(node.value))

    def _target(self, node: cst.CSTNode, value: Expr) -> None:
        if isinstance(node, cst.Name):
            self.bind(node.value, "assign", value)
        elif isinstance(node, (cst.Tuple, cst.List)):
            parts = unpacked(value, len(node.elements))
            for element, part in zip(node.elements, parts, strict=True):
                self._target(element.value, part)
        elif isinstance(node, cst.Subscript):
            self._stored(node, value)
        elif isinstance(node, cst.Attribute):
            self.bind_attribute(self.converter.expr(node.value), node.attr.value, value, node)

    # -- expressions ------------------------------------------------------------------------

    def _walrus(self, node: cst.NamedExpr) -> None:
        self.walk(node.value, node)
        self.walk(node.target, node)
        if isinstance(node.target, cst.Name):
            self.bind_outside_comprehensions(node.target.value, self.converter.expr(node.value))

    def _lambda(self, node: cst.Lambda) -> None:
        place, given = self.here(), self.converter.parameters(node.params)
        with self.within("lambda"):
            self.bind_parameters(given, place)
            self.places[id(node)] = self.here()
            self.walk_children(node)

    def _comprehension(self, node: cst.BaseComp) -> None:
        with self.within("comprehension"):
            step: cst.CompFor | None = node.for_in
            while step is not None:
                taken = AsyncItem if step.asynchronous is not None else Element
                self._target(step.target, taken(self.converter.expr(step.iter)))
                step = step.inner_for_in
            self.advance()
            self.places[id(node)] = self.here()
            self.walk_children(node)

    def _call(self, node: cst.Call) -> None:
        self.called(self.converter.expr(node))
        self.walk_children(node)

    def _yield(self, node: cst.Yield) -> None:
        value = node.value if not isinstance(node.value, cst.From) else None
        self.yielded(self.converter.expr(value) if value is not None else None)
        self.walk_children(node)


class Converter:
    """Turns LibCST expressions into the forms of the table of names."""

    def __init__(self, builder: TableBuilder | None = None) -> None:
        self._builder = builder
        self._forms: dict[int, tuple[cst.CSTNode, Expr]] = {}
        """By `id` of the nodes, each kept beside its form, so that no other gets that `id`."""

    def expr(self, node: cst.CSTNode) -> Expr:
        """Return the form of an expression, the same each time it is asked for."""
        found = self._forms.get(id(node))
        if found is None:
            found = self._forms[id(node)] = (node, self._form(node))
        return found[1]

    def _form(self, node: cst.CSTNode) -> Expr:
        match node:
            case cst.Name():
                if node.value in ("None", "True", "False"):
                    return Constant({"None": None, "True": True, "False": False}[node.value])
                return Ref((node.value,))
            case cst.Attribute():
                value = self.expr(node.value)
                if isinstance(value, Ref):
                    return Ref((*value.parts, node.attr.value))
                return Attribute(value, node.attr.value)
            case cst.Call():
                return Call(
                    self.expr(node.func),
                    tuple(
                        Star(self.expr(argument.value))
                        if argument.star
                        else self.expr(argument.value)
                        for argument in node.args
                        if argument.keyword is None and argument.star != "**"
                    ),
                    tuple(
                        (
                            argument.keyword.value if argument.keyword is not None else None,
                            self.expr(argument.value),
                        )
                        for argument in node.args
                        if argument.keyword is not None or argument.star == "**"
                    ),
                    node,
                )
            case cst.Subscript():
                items = node.slice[0].slice if len(node.slice) == 1 else None
                if isinstance(items, cst.Index) and isinstance(items.value, cst.Tuple):
                    elements: list[cst.CSTNode] = [item.value for item in items.value.elements]
                else:
                    elements = [element.slice for element in node.slice]
                return Subscript(self.expr(node.value), tuple(map(self.expr, elements)))
            case cst.Await():
                return Await(self.expr(node.expression))
            case cst.SimpleString():
                return Constant(_text_in(node))
            case cst.ConcatenatedString() if node.evaluated_value is not None:
                return Constant(node.evaluated_value)
            case cst.FormattedString():
                return formatted(self._piece(part) for part in node.parts)
            case cst.ConcatenatedString():
                return joined(self.expr(node.left), self.expr(node.right))
            case cst.BinaryOperation(operator=cst.Add()):
                return joined(self.expr(node.left), self.expr(node.right))
            case cst.BinaryOperation(operator=cst.Modulo()):
                return with_percent(self.expr(node.left), self.expr(node.right))
            case cst.BinaryOperation(operator=cst.BitOr()):
                return Display(((None, self.expr(node.left)), (None, self.expr(node.right))), node)
            case cst.Dict():
                return Display(
                    tuple(
                        (
                            self.expr(item.key) if isinstance(item, cst.DictElement) else None,
                            self.expr(item.value),
                        )
                        for item in node.elements
                    ),
                    node,
                )
            case cst.Index():
                return self.expr(node.value)
            case cst.Integer() | cst.Float():
                return Constant(node.evaluated_value)
            case cst.Tuple() | cst.List():
                return Sequence(
                    tuple(
                        Star(self.expr(item.value))
                        if isinstance(item, cst.StarredElement)
                        else self.expr(item.value)
                        for item in node.elements
                    )
                )
            case cst.IfExp():
                return Either((self.expr(node.body), self.expr(node.orelse)))
            case cst.BooleanOperation(operator=cst.Or()):
                return Either((self.expr(node.left), self.expr(node.right)))
            case cst.NamedExpr():
                return self.expr(node.value)
            case cst.Lambda() if self._builder is not None:
                place, given = self._builder.here(), self.parameters(node.params)
                scope = Scope("lambda", self._builder.scope, place)
                outer, self._builder.scope = self._builder.scope, scope
                self._builder.bind_parameters(given, place)
                body = self.expr(node.body)
                self._builder.scope = outer
                return LambdaExpr(body, scope)
            case _:
                return Opaque()

    def _piece(self, node: cst.BaseFormattedStringContent) -> str | Expr:
        """Return a part of an f-string."""
        if isinstance(node, cst.FormattedStringText):
            return node.value
        assert isinstance(node, cst.FormattedStringExpression)
        return self.expr(node.expression)

    def parameters(self, node: cst.Parameters) -> list[Parameter]:
        """Return parameters with their annotations and defaults; of `*` and `**`, the names."""
        found: list[Parameter] = []
        for parameter in (*node.posonly_params, *node.params, *node.kwonly_params):
            annotation, default = parameter.annotation, parameter.default
            stated = self.expr(annotation.annotation) if annotation is not None else None
            given = self.expr(default) if default is not None else None
            found.append((parameter.name.value, stated, given))
        stars = (node.star_arg, node.star_kwarg)
        found.extend((s.name.value, None, None) for s in stars if isinstance(s, cst.Param))
        return found


def module_name(node: cst.ImportFrom) -> str:
    """Return the module of a `from` import, with the leading dots of a relative one."""
    return "." * len(node.relative) + ".".join(dotted_parts(node.module) or ())
