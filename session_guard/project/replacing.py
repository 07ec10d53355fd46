"""Whether a file, a test mostly, puts another in the place of what a module or a class holds."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from session_guard.names import openings
from session_guard.names.bindings import Ref, end_of
from session_guard.names.values import UNKNOWN, External, LocalClass, LocalFunction, class_of
from session_guard.project.takers import DOTTED, joined, parts_of
from session_guard.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.names.values import Namespace, Value
    from session_guard.project.takers import Taken

# Functions that only read what a string names, or have it as a name of something else.
_READING = frozenset({"getattr", "hasattr", "getfixturevalue", "parametrize", "usefixtures"})
_NAMESPACES = frozenset({"__dict__", "__globals__", "vars"})
_FILLING = frozenset({"update", "setdefault", "__setitem__"})
# What changes a dictionary that it gets: `patch.dict(...)`, `monkeypatch.setitem(...)`.
_CHANGING = frozenset({"dict", "setitem"})
ANY = ""
"""Stands for a name that is only known when the code runs."""
ITSELF = "__name__"
"""Stands for the name of the very module in `sys.modules`."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """A name that a file may put another value under."""

    name: str
    """The name; `ANY` where it is not written out."""
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
                sets = _sets_keywords(node)
                if sets:
                    updated = _updated(node, modules)
                    for name in _entries(node):
                        if name != ANY or _sets_names(node):
                            yield Replaced(name, updated, by_string=False)
                for keyword in () if sets else node.keywords:
                    # A function that gets the module may hand both on to one that sets names.
                    if keyword.arg is not None:
                        for argument in node.args:
                            given = _named_by(argument, modules)
                            if given is not None:
                                yield Replaced(keyword.arg, given, by_string=False)
            case ast.Subscript(value, key, ast.Store()) if _is_namespace(value):
                stored_in = _owner(value, modules)
                if stored_in is not None:
                    known.add(key)
                    yield Replaced(_text(key), stored_in, by_string=False)
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


def _sets_names(call: ast.Call) -> bool:
    """Return whether what a call sets are surely names of a module, a class or an object."""
    assert isinstance(call.func, ast.Attribute)
    if call.func.attr == "dict":
        match call.args:
            case [ast.Constant(value=str(name)), *_]:
                return name.endswith(".__dict__")
            case [of, *_]:
                return _is_namespace(of)
    return True


def _entries(call: ast.Call) -> Iterator[str]:
    """Yield the names that a call sets by keywords or a dictionary; `ANY` for others."""
    assert isinstance(call.func, ast.Attribute)
    if call.func.attr != "multiple":
        for mapping in call.args[call.func.attr == "dict" :]:
            yield from _keys(mapping)
    for keyword in call.keywords:
        if keyword.arg is not None:
            yield keyword.arg
        else:
            yield from _keys(keyword.value)


def _keys(mapping: ast.expr) -> Iterator[str]:
    """Yield the keys of a dictionary; `ANY` for those that are not written out."""
    match mapping:
        case ast.Dict(keys, values):
            for key, value in zip(keys, values, strict=True):
                if key is None:
                    yield from _keys(value)
                else:
                    yield _text(key)
        case ast.Constant():
            return  # the `clear` of `patch.dict`
        case _:
            yield ANY


def _text(key: ast.expr) -> str:
    return key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else ANY


def _named_by(argument: ast.expr, modules: dict[str, str]) -> str | None:
    """Return the dotted name that an argument has, or is a string of."""
    match argument:
        case ast.Constant(value=str(name)) if DOTTED.fullmatch(name):
            return name
    return _owner(argument, modules)


def replaced_modules(tree: ast.Module, taken: Taken) -> set[str]:
    """Return the dotted names of the modules that a file puts others in the place of.

    It does in `sys.modules`; where a name is not written out there, any that a string of the file
    says may be meant.
    """
    found: set[str] = set()
    for node in ast.walk(tree):
        found.update(_modules_set(node, taken.modules))
    if ANY in found:
        found |= taken.strings
    return found - {ANY}


def _modules_set(node: ast.AST, modules: dict[str, str]) -> Iterator[str]:
    match node:
        case ast.Subscript(value, key, ast.Store()) if _is_sys_modules(value, modules):
            yield from _module_named(key, modules)
        case ast.AugAssign(target, _, value) if _is_sys_modules(target, modules):
            yield from _keys(value)
        case ast.Call(ast.Attribute(changed, name)):
            if name in _FILLING and _is_sys_modules(changed, modules):
                given = node.args
            elif name in _CHANGING and node.args and _is_sys_modules(node.args[0], modules):
                given = node.args[1:]
            else:
                return
            if name in ("update", "dict"):
                for mapping in given:
                    yield from _keys(mapping)
                yield from (keyword.arg or ANY for keyword in node.keywords)
            elif given:
                yield from _module_named(given[0], modules)


def _module_named(key: ast.expr, modules: dict[str, str]) -> Iterator[str]:
    """Yield under which name a module is set."""
    match key:
        case ast.Attribute(value, "__name__"):
            yield _owner(value, modules) or ANY
        case _:
            yield ITSELF if isinstance(key, ast.Name) and key.id == ITSELF else _text(key)


def _is_sys_modules(node: ast.expr, modules: dict[str, str]) -> bool:
    match node:
        case ast.Constant(value="sys.modules"):
            return True
    return _owner(node, modules) == "sys.modules"


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
    if rest[-1] == "__globals__":
        # A function's names are those of the module that it stands in.
        functions = module.evaluate(Ref(rest[:-1]), end_of(module.scope)) if rest[:-1] else ()
        homes = [one.home.path for one in functions if isinstance(one, LocalFunction)]
        yield from homes or [module.path]
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
