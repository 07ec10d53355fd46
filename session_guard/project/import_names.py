"""Under which dotted name the files of a project import one of its modules.

Where a program runs from a folder below the project's root, its modules import each other by names
that are counted from there: `from session import engine` in `backend/`, not `backend.session`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from session_guard.names.values import Namespace
    from session_guard.project.modules import ModuleIndex


def name_after(
    importers: Iterable[Namespace], path: Path, modules: ModuleIndex, *, beside: bool = False
) -> str | None:
    """Return how a module is named where most absolute imports in some files are counted from.

    With `beside`, only imports of modules in the same folder are. None where there are none, or
    none from above the module.
    """
    parts = modules.parts(path)
    counted: Counter[str] = Counter()
    for importer in importers:
        for used, imported in _own_imports(importer, modules):
            if beside and imported.parent != path.parent:
                continue
            folders = modules.parts(imported)
            above = folders[: len(folders) - used] if used <= len(folders) else None
            if above is None:
                counted[".".join((*modules.root_package, *parts))] += 1
            elif len(above) < len(parts) and parts[: len(above)] == above:
                counted[".".join(parts[len(above) :])] += 1
    return max(counted, key=lambda name: counted[name]) if counted else None


def _own_imports(importer: Namespace, modules: ModuleIndex) -> Iterator[tuple[int, Path]]:
    """Yield which modules of its project a file imports, and by how many parts of the name."""
    for bindings in importer.scope.bindings.values():
        for binding in bindings:
            if binding.kind == "import" and not binding.target.startswith("."):
                found = modules.find(binding.target, importer.path)
                if found is not None:
                    yield len(binding.target.split(".")) - len(found[1]), found[0]
