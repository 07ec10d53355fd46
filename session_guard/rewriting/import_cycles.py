"""What an import does besides: the files that it runs, and the name that it takes from a package.

What runs meanwhile is not ready for an import at the file's top.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from session_guard.names.bindings import Ref, end_of
from session_guard.names.values import External
from session_guard.project.modules import binds_another
from session_guard.witnesses import exists

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from session_guard.names.values import Namespace
    from session_guard.project.project import Project

_IMPORTS = (ast.Import, ast.ImportFrom)
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


def package_overwritten(dotted: str, importer: Path, project: Project) -> Path | None:
    """Return the package of which the first import of a module would overwrite a name, or None.

    Python makes a module an attribute of its package once it has run. What the package had under
    that name (`from .session import async_session` beside `async_session.py`) is lost to those who
    ask for it later. None where the package runs the module before it binds the name.
    """
    names = project.package_round(dotted, importer)
    if names is None or not _has_another(names, dotted, project):
        return None
    module = project.modules.find(dotted, importer)
    runs_before = module is not None and _runs_in_any_case(names.path, module[0], project)
    return None if runs_before else names.path


def _has_another(names: Namespace, dotted: str, project: Project) -> bool:
    """Return whether a package has something else than its module under the module's name."""
    scope, name = names.scope, dotted.rpartition(".")[2]
    if binds_another(names, name, dotted):
        return True
    if scope.star_imports and names.evaluate(Ref((name,)), end_of(scope)) != (External(name),):
        return True
    if "__getattr__" not in scope.bindings:
        return False
    decoded = project.decoded(names.path)
    return decoded is not None and bool(re.search(rf"\b{re.escape(name)}\b", decoded.text))


def _runs_in_any_case(package: Path, module: Path, project: Project) -> bool:
    """Return whether importing a package runs a module, by imports that stand in no branch."""
    seen: set[Path] = set()
    waiting = [package]
    while waiting:
        path = waiting.pop()
        tree = project.tree(path) if path not in seen else None
        seen.add(path)
        imports = [s for s in tree.body if isinstance(s, _IMPORTS)] if tree is not None else []
        for dotted in _imported(imports, project.modules.package_of(path)):
            target = project.modules.find(dotted, path)
            if target is None:
                continue
            if target[0] != module:
                waiting += [target[0], *_packages(target[0])]
            elif target[1]:  # `from package import module` may give what has its name
                return True
    return False


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
        for dotted in _imported(tree.body, project.modules.package_of(path)):
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


def _imported(body: Iterable[ast.stmt], package: tuple[str, ...]) -> Iterator[str]:
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
