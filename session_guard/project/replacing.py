"""Whether a file, a test mostly, puts another in the place of what a module or a class holds."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from session_guard.names import openings
from session_guard.names.bindings import Ref, end_of
from session_guard.names.values import UNKNOWN, External, LocalClass, class_of
from session_guard.project.takers import DOTTED, joined, parts_of
from session_guard.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.names.values import Namespace, Value

# Functions that only read what a string names, or have it as a name of something else.
_READING = frozenset({"getattr", "hasattr", "getfixturevalue", "parametrize", "usefixtures"})
_NAMESPACES = frozenset({"__dict__", "__globals__", "vars"})


@dataclass(frozen=True, slots=True)
class Replaced:
    """A name that a file may put another value under."""

    name: str
    owner: str | None
    """The dotted name of the module, class or object that has it; None where it is not known."""
    by_string: bool
    """Whether it is only named in a string, which may be about anything."""


def replaced_in(tree: ast.Module, modules: dict[str, str]) -> dict[str, set[Replaced]]:
    """Return by its name what a file may replace, of which `modules` are the imported names.

    It does by assignment, by a string, by a keyword or in a class that derives from another.
    """
    found: dict[str, set[Replaced]] = {}
    for replaced in _replaced(tree, modules):
        found.setdefault(replaced.name, set()).add(replaced)
    return found


def _replaced(tree: ast.Module, modules: dict[str, str]) -> Iterator[Replaced]:
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
            case ast.Constant(value=str(value)) if node not in known and DOTTED.fullmatch(value):
                *before, name = value.replace(":", ".").rsplit(".", 1)
                yield Replaced(name, "".join(before) or None, by_string=True)


def _strings(call: ast.Call, modules: dict[str, str]) -> Iterator[tuple[ast.Constant, str | None]]:
    """Yield the arguments of which it is known what they are about; None where it is read only.

    `monkeypatch.setattr(jobs, "engine", ...)` tells in the argument before.
    """
    reads = parts_of(call.func)[-1] in _READING
    for before, argument in itertools.pairwise([call.func, *call.args]):
        owner = _owner(before, modules) if before is not call.func else None
        match argument:
            case ast.Constant(value=str(name)) if reads or (owner and name.isidentifier()):
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
    first, *rest = parts_of(node)
    return joined(modules[first], *rest) if first in modules else None


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


def replaces(dotted: str, owner: Path | LocalClass, importer: Namespace) -> bool:
    """Return whether what a dotted name of `importer` means may be a module, or of a class."""
    return any(_is_of(value, owner) for value in _named(importer.absolute(dotted), importer))


def _named(dotted: str, importer: Namespace) -> Iterator[Path | Value]:
    """Yield what an absolute dotted name stands for; modules of the project as their paths."""
    found = importer.find_module(dotted)
    if found is None:
        return
    module, rest = found
    if not rest:
        yield module.path
        return
    for value in module.evaluate(Ref(rest), end_of(module.scope)):
        again = module.find_module(value.dotted) if isinstance(value, External) else None
        yield again[0].path if again is not None and not again[1] else value


def _is_of(value: Path | Value, owner: Path | LocalClass) -> bool:
    if not isinstance(owner, LocalClass) or isinstance(value, Path):
        return value == owner
    if value == UNKNOWN:
        return True  # an object of whatever class
    of = class_of(value)
    return of is not None and (_derives_from(of, owner) or _derives_from(owner, of))


def _derives_from(one: LocalClass, other: LocalClass) -> bool:
    """Return whether a class is another or inherits from it, whichever front end read them."""
    return any(base.key == other.key for base in openings.lineage(one))
