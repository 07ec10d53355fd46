"""Builds a module's table of names with `ast`: fast, but no newer syntax than the interpreter's."""

from __future__ import annotations

import ast
import functools
import re
import warnings
from typing import TYPE_CHECKING, Any

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
    Ref,
    Scope,
    Sequence,
    Star,
    Subscript,
    formatted,
    joined,
    mentions_another_database,
    mentions_postgresql,
    unpacked,
    with_percent,
)
from session_guard.names.table import TableBuilder
from session_guard.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from session_guard.names.table import Parameter

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|\Z)")
# What fields of expressions hold that are no expressions.
_NO_EXPRESSIONS = frozenset({"attr", "conversion", "ctx", "id", "kind", "op", "ops"})
_field_names: dict[type, tuple[str, ...]] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Spot:
    """Stands for a node of `ast`, which would keep the whole tree alive: where it is.

    Its identity tells nodes apart; lines count from 1, columns from 0 in bytes of UTF-8.
    """

    line: int
    column: int
    end_line: int | None
    end_column: int | None


@dataclass(frozen=True, slots=True, eq=False)
class FunctionText:
    """Stands for a function's node: the module's text, and the function's lines in it."""

    text: str
    first: int
    last: int

    def parsed(self) -> ast.FunctionDef | ast.AsyncFunctionDef:
        """Return the function as `ast` has it, without decorators, at the lines where it is."""
        lines = _lines(self.text)[self.first - 1 : self.last]
        blanks = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
        is_inner = blanks.rpartition("\f")[2] != ""  # a form feed begins the line anew
        outer = parse_quietly("if 1:\n" * is_inner + "".join(lines)).body[0]
        function = outer.body[0] if isinstance(outer, ast.If) else outer
        assert isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        return ast.increment_lineno(function, self.first - 1 - is_inner)


@functools.lru_cache(maxsize=4)  # one function of a file is asked for after the other
def _lines(text: str) -> list[str]:
    return [match[0] for match in _LINE.finditer(text)]


def parse_quietly(text: str) -> ast.Module:
    """Return the syntax tree of a module. Raises what `ast.parse` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Python thinks of the checked code is not our matter
        return ast.parse(text)


def build_table(text: str) -> Scope:
    """Return the module scope of `text`.

    Raises SyntaxError where this interpreter cannot parse it; then LibCST is to be asked.
    """
    tree = parse_quietly(text)
    builder = _AstBuilder(text)
    builder.statements(tree.body)
    return builder.module_scope


def parse_expression(text: str) -> Expr:
    """Return the form of an expression that stands in a string, as annotations do."""
    try:
        return _AstBuilder(text).expr(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError):
        return Opaque()


def unquoted(annotation: Expr) -> Expr:
    """Return what an annotation says, which may stand in a string."""
    if isinstance(annotation, Constant) and isinstance(annotation.value, str):
        return parse_expression(annotation.value)
    return annotation


def stated_value(annotation: Expr, value: Expr) -> Expr:
    """Return the value of an annotated assignment; that of a `TypeAlias` may stand in a string."""
    is_alias = isinstance(annotation, Ref) and annotation.parts[-1] == "TypeAlias"
    return unquoted(value) if is_alias else value


class _AstBuilder(TableBuilder):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.forms: dict[ast.expr, Expr] = {}
        self.may_tell = mentions_another_database(text) or mentions_postgresql(text)

    def source_of(self, node: ast.AST) -> str:
        """Return the text of a test, or nothing where the module speaks of no database."""
        return ast.unparse(node) if self.may_tell else ""

    def statements(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self.advance()
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        # The most frequent ones first: each case costs those that come behind it.
        match node:
            case ast.Expr():
                self.expressions(node.value)
            case ast.Assign():
                self.expressions(node.value)
                value = self.expr(node.value)
                self.advance()
                for target in node.targets:
                    self.target(target, value)
            case ast.Return():
                if node.value is not None:
                    self.expressions(node.value)
                    self.returned(self.expr(node.value))
            case ast.If():
                self.expressions(node.test)
                branching = self.new_branching()
                self.tested(branching, 0, 1, self.source_of(node.test))
                with (
                    self.branch(branching, 0),
                    self.under_type_checking(is_type_checking(self.expr(node.test))),
                ):
                    self.statements(node.body)
                with self.branch(branching, 1):
                    self.statements(node.orelse)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.function(node)
            case ast.Import():
                for alias in node.names:
                    self.bind_import(alias.name, alias.asname)
            case ast.ImportFrom():
                module = "." * node.level + (node.module or "")
                if node.names[0].name == "*":
                    self.star_import(module)
                else:
                    self.bind_import_from(module, ((a.name, a.asname) for a in node.names))
            case ast.AnnAssign():
                self.expressions(node.annotation)
                self.annotate(self.expr(node.target), self.expr(node.annotation))
                if node.value is not None:
                    self.expressions(node.value)
                    value = stated_value(self.expr(node.annotation), self.expr(node.value))
                    self.advance()
                    self.target(node.target, value)
            case ast.AugAssign():
                self.expressions(node.value)
                result: Expr = Opaque()
                before, added = self.expr(node.target), self.expr(node.value)
                if isinstance(node.op, ast.BitOr):
                    result = Display(((None, before), (None, added)), _spot(node))
                elif isinstance(node.op, ast.Add):
                    result = joined(before, added)
                self.target(node.target, result)
            case ast.Delete():
                for target in node.targets:
                    self.expressions(target)
                    if isinstance(target, ast.Subscript):
                        owner, key = self.expr(target.value), self.expr(target.slice)
                        self.stored(owner, key, None, _spot(target))
                    elif isinstance(target, ast.Attribute):
                        owner = self.expr(target.value)
                        self.bind_attribute(owner, target.attr, None, _spot(target))
            case ast.ClassDef():
                for decorator in node.decorator_list:
                    self.expressions(decorator)
                for base in (*node.bases, *(keyword.value for keyword in node.keywords)):
                    self.expressions(base)
                place = self.here()
                bases = tuple(self.expr(base) for base in node.bases)
                is_made_over = bool(node.decorator_list or node.keywords)
                with self.within("class") as scope:
                    scope.definition = self.defined(
                        node.name, bases, place, scope, is_made_over=is_made_over
                    )
                    self.statements(node.body)
                self.advance()
                self.bind(node.name, "class", scope.definition)
            case ast.For() | ast.AsyncFor():
                self.expressions(node.iter)
                taken = AsyncItem if isinstance(node, ast.AsyncFor) else Element
                with self.branch(self.new_branching(), LOOP):
                    self.target(node.target, taken(self.expr(node.iter)))
                    self.statements(node.body)
                with self.branch(self.new_branching()):
                    self.statements(node.orelse)
            case ast.While():
                self.expressions(node.test)
                with self.branch(self.new_branching(), LOOP):
                    self.statements(node.body)
                with self.branch(self.new_branching()):
                    self.statements(node.orelse)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self.expressions(item.context_expr)
                    self.advance()
                    if isinstance(item.optional_vars, ast.Name):
                        entered = self.expr(item.context_expr)
                        self.bind(item.optional_vars.id, "assign", entered, entered=True)
                    elif item.optional_vars is not None:
                        self.target(item.optional_vars, Opaque())
                    self.advance()  # the next item sees the name
                self.statements(node.body)
            case ast.Try() | ast.TryStar():
                with self.branch(self.new_branching()):
                    self.statements(node.body)
                for handler in node.handlers:
                    with self.branch(self.new_branching()):
                        if handler.type is not None:
                            self.expressions(handler.type)
                        if handler.name is not None:
                            self.bind(handler.name, "other")
                        self.statements(handler.body)
                with self.branch(self.new_branching()):
                    self.statements(node.orelse)
                self.statements(node.finalbody)
            case ast.Match():
                self.expressions(node.subject)
                branching = self.new_branching()
                for arm, case in enumerate(node.cases):
                    self.tested(branching, arm, arm, self.source_of(case.pattern))
                    with self.branch(branching, arm):
                        for part in ast.walk(case.pattern):
                            name = getattr(part, "name", None) or getattr(part, "rest", None)
                            if isinstance(name, str):
                                self.bind(name, "other")
                        if case.guard is not None:
                            self.expressions(case.guard)
                        self.statements(case.body)
            case ast.Global():
                self.scope.globals.update(node.names)
            case ast.Nonlocal():
                self.scope.nonlocals.update(node.names)
            case _:
                if type(node).__name__ == "TypeAlias":
                    named: Any = node  # of 3.12 and later
                    self.bind_type_alias(named.name.id, self.expr(named.value))
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.expressions(child)

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        arguments = node.args
        for expression in (*node.decorator_list, *([node.returns] if node.returns else ())):
            self.expressions(expression)
        self.defaults(arguments)
        positional = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
        place, given = self.here(), self.parameters(arguments)
        with self.within("function") as scope:
            function = Function(
                node.name,
                isinstance(node, ast.AsyncFunctionDef),
                positional + sum(default is None for default in arguments.kw_defaults),
                tuple(self.expr(decorator) for decorator in node.decorator_list),
                scope,
                place,
                FunctionText(self.text, node.lineno, node.end_lineno or node.lineno),
                tuple(a.arg for a in (*arguments.posonlyargs, *arguments.args)),
            )
            scope.function = function
            scope.receiver = self.receiver(function.positional)
            self.annotate_result(function, self.expr(node.returns) if node.returns else None)
            for parameter in getattr(node, "type_params", ()):  # from Python 3.12 on
                self.bind(parameter.name, "other")
            self.bind_parameters(given, place)
            with self.returning_to(function):
                self.statements(node.body)
        self.advance()
        self.bind(node.name, "function", function)

    def defaults(self, arguments: ast.arguments) -> None:
        """Walk the annotations and defaults of parameters, which the outer scope evaluates."""
        positional = [*arguments.posonlyargs, *arguments.args]
        missing = len(positional) - len(arguments.defaults)
        defaults = [*[None] * missing, *arguments.defaults, *arguments.kw_defaults]
        stars = [star for star in (arguments.vararg, arguments.kwarg) if star is not None]
        every = [*positional, *arguments.kwonlyargs, *stars]
        for argument, default in zip(every, [*defaults, *[None] * len(stars)], strict=True):
            for expression in (argument.annotation, default):
                if expression is not None:
                    self.expressions(expression)

    def parameters(self, arguments: ast.arguments) -> list[Parameter]:
        """Return parameters with their annotations and defaults; of `*` and `**`, the names."""
        positional = [*arguments.posonlyargs, *arguments.args]
        missing = len(positional) - len(arguments.defaults)
        defaults = [*[None] * missing, *arguments.defaults, *arguments.kw_defaults]
        found: list[Parameter] = []
        for argument, default in zip([*positional, *arguments.kwonlyargs], defaults, strict=True):
            annotation = argument.annotation
            stated = self.expr(annotation) if annotation is not None else None
            found.append((argument.arg, stated, self.expr(default) if default else None))
        stars = (arguments.vararg, arguments.kwarg)
        found.extend((star.arg, None, None) for star in stars if star is not None)
        return found

    def target(self, node: ast.expr, value: Expr) -> None:
        match node:
            case ast.Name():
                self.bind(node.id, "assign", value)
            case ast.Tuple() | ast.List():
                for element, part in zip(node.elts, unpacked(value, len(node.elts)), strict=True):
                    self.target(element, part)
            case ast.Starred():
                self.target(node.value, Opaque())
            case ast.Subscript():
                self.expressions(node)
                self.stored(self.expr(node.value), self.expr(node.slice), value, _spot(node))
            case ast.Attribute():
                self.expressions(node)
                self.bind_attribute(self.expr(node.value), node.attr, value, _spot(node))
            case _:
                self.expressions(node)

    def expressions(self, node: ast.expr) -> None:
        """Bind what an expression binds: walrus targets, and the scopes of its own."""
        match node:
            case ast.Name() | ast.Constant():
                pass
            case ast.NamedExpr():
                self.expressions(node.value)
                if isinstance(node.target, ast.Name):
                    self.bind_outside_comprehensions(node.target.id, self.expr(node.value))
            case ast.Lambda():
                place, given = self.here(), self.parameters(node.args)
                with self.within("lambda"):
                    self.bind_parameters(given, place)
                    self.defaults(node.args)
                    self.expressions(node.body)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                with self.within("comprehension"):
                    for generator in node.generators:
                        taken = AsyncItem if generator.is_async else Element
                        self.target(generator.target, taken(self.expr(generator.iter)))
                    self.advance()
                    if isinstance(node, ast.DictComp):
                        self.expressions(node.key)
                        self.expressions(node.value)
                    else:
                        self.expressions(node.elt)
                    for generator in node.generators:
                        self.expressions(generator.iter)
                        for condition in generator.ifs:
                            self.expressions(condition)
            case ast.Call():
                self.called(self.expr(node))
                self.parts(node)
            case ast.Yield() | ast.YieldFrom():
                is_item = isinstance(node, ast.Yield) and node.value is not None
                self.yielded(self.expr(node.value) if is_item and node.value else None)
                if node.value is not None:
                    self.expressions(node.value)
            case _:
                self.parts(node)

    def parts(self, node: ast.expr) -> None:
        """Walk what an expression is made of, in source order."""
        match node:
            case ast.Name() | ast.Constant():
                pass
            case ast.Attribute():
                self.expressions(node.value)
            case ast.Call():
                parts = [node.func, *node.args, *(keyword.value for keyword in node.keywords)]
                if node.args and node.keywords:  # `f(a=1, *rest)`
                    parts.sort(key=lambda part: (part.lineno, part.col_offset))
                for part in parts:
                    self.expressions(part)
            case ast.Dict():
                for key, value in zip(node.keys, node.values, strict=True):
                    if key is not None:
                        self.expressions(key)
                    self.expressions(value)
            case _:
                for name in _fields(node):
                    value = getattr(node, name)
                    for part in value if isinstance(value, list) else (value,):
                        if isinstance(part, ast.expr):
                            self.expressions(part)

    def expr(self, node: ast.expr) -> Expr:
        """Return the form of an expression, the same each time it is asked for."""
        form = self.forms.get(node)
        if form is None:
            form = self.forms[node] = self.form(node)
        return form

    def form(self, node: ast.expr) -> Expr:
        match node:
            case ast.Name():
                return Ref((node.id,))
            case ast.Attribute():
                value = self.expr(node.value)
                if isinstance(value, Ref):
                    return Ref((*value.parts, node.attr))
                return Attribute(value, node.attr)
            case ast.Call():
                return Call(
                    self.expr(node.func),
                    tuple(self.expr(argument) for argument in node.args),
                    tuple((keyword.arg, self.expr(keyword.value)) for keyword in node.keywords),
                    _spot(node),
                )
            case ast.Subscript():
                index = node.slice
                items = index.elts if isinstance(index, ast.Tuple) else [index]
                return Subscript(self.expr(node.value), tuple(self.expr(i) for i in items))
            case ast.Await():
                return Await(self.expr(node.value))
            case ast.Constant():
                return Constant(node.value)
            case ast.JoinedStr():
                return formatted(self.piece(value) for value in node.values)
            case ast.BinOp(op=ast.Add()):
                return joined(self.expr(node.left), self.expr(node.right))
            case ast.BinOp(op=ast.Mod()):
                return with_percent(self.expr(node.left), self.expr(node.right))
            case ast.BinOp(op=ast.BitOr()):
                return Display(
                    ((None, self.expr(node.left)), (None, self.expr(node.right))), _spot(node)
                )
            case ast.Dict():
                return Display(
                    tuple(
                        (self.expr(key) if key is not None else None, self.expr(value))
                        for key, value in zip(node.keys, node.values, strict=True)
                    ),
                    _spot(node),
                )
            case ast.IfExp():
                return Either((self.expr(node.body), self.expr(node.orelse)))
            case ast.BoolOp(op=ast.Or()):
                return Either(tuple(self.expr(value) for value in node.values))
            case ast.NamedExpr():
                return self.expr(node.value)
            case ast.Lambda():
                place, given = self.here(), self.parameters(node.args)
                scope = Scope("lambda", self.scope, place)
                outer, self.scope = self.scope, scope
                self.bind_parameters(given, place)
                body = self.expr(node.body)
                self.scope = outer
                return LambdaExpr(body, scope)
            case ast.Starred():
                return Star(self.expr(node.value))
            case ast.Tuple() | ast.List():
                return Sequence(tuple(self.expr(item) for item in node.elts))
            case _:
                return Opaque()

    def piece(self, node: ast.expr) -> str | Expr:
        """Return a part of an f-string."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        return self.expr(node.value) if isinstance(node, ast.FormattedValue) else Opaque()


def _fields(node: ast.expr) -> tuple[str, ...]:
    """Return the fields of an expression that may hold others."""
    of = type(node)
    if of not in _field_names:
        _field_names[of] = tuple(name for name in of._fields if name not in _NO_EXPRESSIONS)
    return _field_names[of]


def _spot(node: ast.expr | ast.stmt) -> Spot:
    return Spot(node.lineno, node.col_offset, node.end_lineno, node.end_col_offset)


def is_type_checking(test: Expr) -> bool:
    """Return whether a condition is `TYPE_CHECKING`, however it was imported."""
    return isinstance(test, Ref) and test.parts[-1] == "TYPE_CHECKING"
