"""What a file takes from the other modules of its project, by whatever way."""

from __future__ import annotations

import ast
import itertools
import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DOTTED = re.compile(r"\.*[^\W\d]\w*([.:]\w+)*")
# Functions that only read what a string names, or have it as a name of something else.
_READING = frozenset({"getattr", "hasattr", "getfixturevalue", "parametrize", "usefixtures"})
_NAMESPACES = frozenset({"__dict__", "__globals__", "vars"})
_TESTING = frozenset({"mock", "pytest", "pytest_mock", "unittest"})


@dataclass(frozen=True, slots=True)
class Replaced:
    """A name that a file may put another value under."""

    name: str
    owner: str | None
    """The dotted name of the module, class or object that has it; None where it is not known."""
    by_string: bool
    """Whether it is only named in a string, which may be about anything."""


@dataclass(slots=True)
class Taken:
    """The imports, attributes and strings of a file; relative modules have their dots."""

    imported: set[tuple[str, str]] = field(default_factory=set)
    """The module and the name of each `from module import name`; the name may be `*`."""
    modules: dict[str, str] = field(default_factory=dict)
    """What may be a module, by the name that the file imports it under."""
    attributes: set[tuple[str, ...]] = field(default_factory=set)
    """Dotted names; what begins with no plain name has an empty first part."""
    strings: set[str] = field(default_factory=set)
    """The strings that may name a module or something in one."""
    replaced: dict[str, set[Replaced]] = field(default_factory=dict)
    """What it may replace, by the name."""

    @property
    def is_test(self) -> bool:
        """Whether it imports what tests are written with."""
        imported = {*self.modules.values(), *(module for module, _ in self.imported)}
        return any(module.split(".", 1)[0] in _TESTING for module in imported)

    def takes(self, name: str, is_module: Callable[[str], bool]) -> bool:
        """Return whether the file takes `name` from a module.

        It may import it, use it as an attribute of the module, or name it in a string, as
        `patch("app.jobs.engine")` does. `is_module` says whether a dotted name means the module.
        """
        if any(taken in (name, "*") and is_module(module) for module, taken in self.imported):
            return True
        followed = {
            (_join(self.modules[first], *between), last)
            for first, *between, last in self.attributes
            if first in self.modules
        }
        if any(taken == name and is_module(module) for module, taken in followed):
            return True
        if self.names(name, is_module):
            return True
        # Where it has the module as an object, `copy.name` does.
        unknown = (parts for parts in self.attributes if parts[0] not in self.modules)
        return self.has(is_module) and any(parts[-1] == name for parts in unknown)

    def names(self, name: str, is_module: Callable[[str], bool]) -> bool:
        """Return whether the file has `name` of a module in a string.

        `patch("app.jobs.engine")` does, and `monkeypatch.setattr(jobs, "engine", ...)`.
        """
        ends = re.compile(rf"(?:(.*)[.:])?{re.escape(name)}")
        named = [match for text in self.strings if (match := ends.fullmatch(text))]
        if any(match[1] is not None and is_module(match[1]) for match in named):
            return True
        return bool(named) and self.has(is_module)

    def has(self, is_module: Callable[[str], bool]) -> bool:
        """Return whether the file has the module as an object."""
        followed = (
            _join(self.modules[first], *rest)
            for first, *rest in self.attributes
            if first in self.modules
        )
        return any(map(is_module, {*self.modules.values(), *self.strings, *followed}))


def taken_in(text: str) -> Taken | None:
    """Return what a file takes, or None where this interpreter cannot parse it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python thinks of the checked code
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    taken = Taken()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                for alias in node.names:
                    bound = alias.asname or alias.name.split(".", 1)[0]
                    taken.modules[bound] = alias.name if alias.asname else bound
            case ast.ImportFrom():
                module = "." * node.level + (node.module or "")
                for alias in node.names:
                    taken.imported.add((module, alias.name))
                    taken.modules[alias.asname or alias.name] = _join(module, alias.name)
            case ast.Attribute():
                taken.attributes.add(_parts(node))
            case ast.Constant(value=str(value)) if _DOTTED.fullmatch(value):
                taken.strings.add(value)
    for replaced in _replaced(tree, taken.modules):
        taken.replaced.setdefault(replaced.name, set()).add(replaced)
    return taken


def _replaced(tree: ast.Module, modules: dict[str, str]) -> Iterator[Replaced]:
    """Yield what a file may replace, by assignment, by a string or in a class that derives."""
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    known: set[ast.AST] = set()
    """Strings of which it is known what they are about."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value, name, ast.Store()):
                if not (isinstance(value, ast.Name) and value.id in ("self", "cls")):
                    yield Replaced(name, _owner(value, modules), by_string=False)
            case ast.ClassDef():
                for owner in _bases(node, classes, modules):
                    for name in _members(node):
                        yield Replaced(name, owner, by_string=False)
            case ast.Call():
                for string, of in _strings(node, modules):
                    known.add(string)
                    if of is not None:
                        yield Replaced(str(string.value), of, by_string=True)
                for keyword in node.keywords if _sets_keywords(node) else ():
                    if keyword.arg is not None:
                        yield Replaced(keyword.arg, _updated(node, modules), by_string=False)
            case ast.Constant(value=str(value)) if node not in known and _DOTTED.fullmatch(value):
                *before, name = value.replace(":", ".").rsplit(".", 1)
                yield Replaced(name, "".join(before) or None, by_string=True)


def _strings(call: ast.Call, modules: dict[str, str]) -> Iterator[tuple[ast.Constant, str | None]]:
    """Yield the arguments of which it is known what they are about; None where it is read only.

    `monkeypatch.setattr(jobs, "engine", ...)` tells in the argument before.
    """
    reads = _parts(call.func)[-1] in _READING
    for before, argument in itertools.pairwise([call.func, *call.args]):
        owner = _owner(before, modules) if before is not call.func else None
        if isinstance(argument, ast.Constant) and (reads or owner is not None):
            yield argument, None if reads else owner


def _sets_keywords(call: ast.Call) -> bool:
    """Return whether a call sets names by keywords, as `patch.multiple(jobs, engine=...)` does."""
    match call.func:
        case ast.Attribute(_, "multiple" | "dict"):
            return True
        case ast.Attribute(updated, "update"):
            return _is_namespace(updated)
    return False


def _updated(call: ast.Call, modules: dict[str, str]) -> str | None:
    """Return the dotted name of that of which a call sets names by keywords, if it is known."""
    assert isinstance(call.func, ast.Attribute)
    of = call.args[0] if call.func.attr != "update" and call.args else call.func.value
    match of:
        case ast.Constant(value=str(name)):
            return name.removesuffix(".__dict__")
    return _owner(of, modules)


def _is_namespace(node: ast.expr) -> bool:
    """Return whether an expression is the dictionary of a module's or an object's names."""
    return not _NAMESPACES.isdisjoint(
        part.attr if isinstance(part, ast.Attribute) else part.id
        for part in ast.walk(node)
        if isinstance(part, (ast.Attribute, ast.Name))
    )


def _owner(node: ast.expr, modules: dict[str, str]) -> str | None:
    """Return the dotted name of what begins with an imported name, or whose names it holds."""
    match node:
        case ast.Attribute(value, "__dict__") | ast.Call(func=ast.Name("vars"), args=[value]):
            return _owner(value, modules)
    first, *rest = _parts(node)
    return _join(modules[first], *rest) if first in modules else None


def _bases(
    node: ast.ClassDef, classes: dict[str, ast.ClassDef], modules: dict[str, str]
) -> Iterator[str]:
    """Yield the dotted names of the classes of other files that a class derives from."""
    waiting, seen = [node], {node.name}
    while waiting:
        for base in waiting.pop().bases:
            owner = _owner(base, modules)
            if owner is not None:
                yield owner
            elif isinstance(base, ast.Name) and base.id in classes and base.id not in seen:
                seen.add(base.id)
                waiting.append(classes[base.id])


def _members(node: ast.ClassDef) -> Iterator[str]:
    """Yield what a class and its methods bind in it and on its objects."""
    for statement in node.body:
        match statement:
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                yield name
    for part in ast.walk(node):
        match part:
            case ast.Name(name, ast.Store()) | ast.Attribute(ast.Name("self"), name, ast.Store()):
                yield name


def _parts(node: ast.expr) -> tuple[str, ...]:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return (node.id if isinstance(node, ast.Name) else "", *reversed(parts))


def _join(module: str, *names: str) -> str:
    """Return a dotted name; `from . import x` has nothing between the dots and the name."""
    if module.endswith("."):
        return module + ".".join(names) if names else module
    return ".".join((module, *names))
