"""What a file takes from the other modules of its project, by whatever way."""

from __future__ import annotations

import ast
import re
from dataclasses import field
from typing import TYPE_CHECKING

from session_guard.names.from_ast import parse_quietly
from session_guard.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

DOTTED = re.compile(r"\.*[^\W\d]\w*([.:]\w+)*")
TESTING = frozenset({"mock", "pytest", "pytest_mock", "unittest"})
"""The packages that tests are written with."""


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
    """The strings that may name a module or something in one, and what leads to one from there."""
    names_any: bool = False
    """Whether it has modules by names that are not written out: `import_module(name)`."""

    @property
    def is_test(self) -> bool:
        """Whether it imports what tests are written with."""
        imported = {*self.modules.values(), *(module for module, _ in self.imported)}
        return any(module.split(".", 1)[0] in TESTING for module in imported)

    def takes(self, name: str, is_module: Callable[[str], bool]) -> bool:
        """Return whether the file takes `name` from a module.

        It may import it, use it as an attribute of the module, or name it in a string, as
        `patch("app.jobs.engine")` does. `is_module` says whether a dotted name means the module.
        """
        if any(taken in (name, "*") and is_module(module) for module, taken in self.imported):
            return True
        followed = {
            (joined(self.modules[first], *between), last)
            for first, *between, last in self.attributes
            if first in self.modules
        }
        if any(taken == name and is_module(module) for module, taken in followed):
            return True
        ends = re.compile(rf"(?:(.*)[.:])?{re.escape(name)}")
        named = [match for text in self.strings if (match := ends.fullmatch(text))]
        if any(match[1] is not None and is_module(match[1]) for match in named):
            return True
        # Where it has the module as an object, `setattr(module, "name", …)` and `copy.name` do.
        unknown = (parts for parts in self.attributes if parts[0] not in self.modules)
        return self.has(is_module) and (bool(named) or any(parts[-1] == name for parts in unknown))

    def has(self, is_module: Callable[[str], bool]) -> bool:
        """Return whether the file has the module as an object."""
        followed = (
            joined(self.modules[first], *rest)
            for first, *rest in self.attributes
            if first in self.modules
        )
        return any(map(is_module, {*self.modules.values(), *self.strings, *followed}))


def parsed(text: str) -> ast.Module | None:
    """Return a file's syntax tree, or None where this interpreter cannot parse it."""
    try:
        return parse_quietly(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def taken_in(tree: ast.Module) -> Taken:
    """Return what a file takes."""
    taken = Taken()
    by_name: dict[str, set[str]] = {}
    """The modules that are had by their names, by the names that these are assigned to."""
    has_by_name = False
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
                    taken.modules[alias.asname or alias.name] = joined(module, alias.name)
            case ast.Attribute():
                taken.attributes.add(parts_of(node))
            case ast.Constant(value=str(value)) if DOTTED.fullmatch(value):
                taken.strings.add(value)
            case ast.Call() | ast.Subscript() if (name := _name_of_module(node)) is not None:
                has_by_name = True
                taken.names_any |= not _is_written_out(name)
            case ast.JoinedStr(values=[ast.Constant(value=str(value)), *_]):
                taken.names_any |= value.endswith(".") and bool(DOTTED.fullmatch(value[:-1]))
        for target, assigned in _assigned(node):
            by_name.setdefault(target, set()).update(_modules_had(assigned, by_name))
    for node in ast.walk(tree) if has_by_name else ():
        taken.strings.update(_modules_had(node, by_name))
    return taken


def _name_of_module(node: ast.AST) -> ast.expr | None:
    """Return by which name an expression has a module: `import_module("…")`, `sys.modules["…"]`."""
    match node:
        case ast.Call(func, [name, *_]) if parts_of(func)[-1] in ("import_module", "__import__"):
            return name
        case ast.Subscript(ast.Attribute(attr="modules") | ast.Name("modules"), name):
            return name
    return None


def _is_written_out(name: ast.expr) -> bool:
    """Return whether it is plain which module a name means: `__name__` is that of the file."""
    return isinstance(name, ast.Constant) or (
        isinstance(name, ast.Name) and name.id in ("__name__", "__package__")
    )


def _modules_had(node: ast.AST, by_name: dict[str, set[str]]) -> set[str]:
    """Return the dotted names of what an expression leads to from a module had by its name."""
    match node:
        case ast.Name(name):
            return by_name.get(name, set())
        case ast.Attribute(value, name) | ast.Call(
            ast.Name("getattr"), [value, ast.Constant(value=str(name)), *_]
        ):
            return {joined(module, name) for module in _modules_had(value, by_name)}
        case ast.Call(func, [ast.Constant(value=str(module)), *more], keywords):
            if _name_of_module(node) is None:
                return set()
            if parts_of(func)[-1] == "__import__":
                return {module, module.partition(".")[0]}
            packages = (*more, *(k.value for k in keywords if k.arg == "package"))
            return {module} | {
                f"{package.value!s}{module}"
                for package in packages
                if isinstance(package, ast.Constant) and module.startswith(".")
            }
        case ast.Subscript(_, ast.Constant(value=str(module))) if _name_of_module(node) is not None:
            return {module}
    return set()


def _assigned(node: ast.AST) -> list[tuple[str, ast.expr]]:
    """Return the plain names that a statement assigns to, each with its value."""
    match node:
        case ast.Assign(targets, value):
            return [(target.id, value) for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(ast.Name(name), value=ast.expr() as value) | ast.NamedExpr(
            ast.Name(name), value
        ):
            return [(name, value)]
    return []


def parts_of(node: ast.expr) -> tuple[str, ...]:
    """Return a dotted name; what begins with no plain name has an empty first part."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return (node.id if isinstance(node, ast.Name) else "", *reversed(parts))


def joined(module: str, *names: str) -> str:
    """Return a dotted name; `from . import x` has nothing between the dots and the name."""
    if module.endswith("."):
        return module + ".".join(names) if names else module
    return ".".join((module, *names))
