"""Which files run when a module is imported, so that an import at a file's top may not be ready."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from session_guard.witnesses import exists

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from session_guard.project.project import Project

_run_by: WeakKeyDictionary[Project, dict[Path, frozenset[Path] | None]] = WeakKeyDictionary()


def runs(module: Path, other: Path, project: Project) -> bool:
    """Return whether importing `module` may run `other` before `module` has run to its end.

    An import of what `module` defines, at the top of `other`, may then fail. True where a file on
    the way cannot be parsed.
    """
    known = _run_by.setdefault(project, {})
    if module not in known:
        known[module] = _all_run_by(module, project)
    found = known[module]
    return found is None or other in found


def _all_run_by(module: Path, project: Project) -> frozenset[Path] | None:
    """Return the files that run while a module is imported; None where one cannot be parsed."""
    # The packages round the module began to run before it; what they import otherwise, did too.
    found: set[Path] = set()
    started = {module, *_packages(module)}
    waiting = [module]
    while waiting:
        path = waiting.pop()
        tree = project.tree(path)
        if tree is None:
            return None
        parts = project.modules.parts(path)
        package = parts if path.name == "__init__.py" else parts[:-1]
        for dotted in _imported(tree.body, package):
            target = project.modules.find(dotted, path)
            if target is None:
                continue
            fresh = {target[0]} | (set(_packages(target[0])) - started)
            waiting.extend(fresh - found)
            found |= fresh
    return frozenset(found)


def _packages(module: Path) -> Iterator[Path]:
    """Yield the packages that run before a module does."""
    for folder in module.parent.parents if module.name == "__init__.py" else module.parents:
        package = folder / "__init__.py"
        if not exists(package):
            return
        yield package


def _imported(body: list[ast.stmt], package: tuple[str, ...]) -> Iterator[str]:
    """Yield the dotted names that statements import when they run; functions run later."""
    for statement in body:
        match statement:
            case ast.Import():
                yield from (alias.name for alias in statement.names)
            case ast.ImportFrom(level=level):
                base = package[: len(package) - level + 1] if level else ()
                module = ".".join((*base, *((statement.module,) if statement.module else ())))
                yield from (f"{module}.{alias.name}".strip(".") for alias in statement.names)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                pass
            case ast.If() if "TYPE_CHECKING" in ast.unparse(statement.test):
                yield from _imported(statement.orelse, package)
            case _:
                for name in ("body", "orelse", "finalbody"):
                    yield from _imported(getattr(statement, name, []), package)
                for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
                    yield from _imported(part.body, package)
