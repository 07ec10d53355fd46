"""Which file of a project a dotted name means."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from session_guard.witnesses import exists

if TYPE_CHECKING:
    from collections.abc import Iterable

    from session_guard.names.values import Namespace

# Libraries whose names are known by themselves; a folder of the project with such a name is not it.
# Nor is a file `typing.py` in some folder what `import typing` means.
_LIBRARIES = frozenset({"sqlalchemy", "sqlmodel", "asyncpg"}) | sys.stdlib_module_names


class ModuleIndex:
    """A project's modules, by the dotted names that its files may import them under."""

    def __init__(self, root: Path, files: Iterable[Path]) -> None:
        self._root = root
        self.files = tuple(files)
        self._by_last_part: dict[str, list[tuple[tuple[str, ...], Path]]] = {}
        self._packages: set[tuple[str, ...]] = set()
        self._of_several: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()
        self._found: dict[tuple[str, Path], tuple[Path, tuple[str, ...]] | None] = {}
        self.root_package = _package(root)
        """The dotted name of the package that the root is, if it is one."""
        for path in self.files:
            if path.name == "__init__.py":
                self._packages.add(self.parts(path))
        for path in self.files:
            parts = self.parts(path)
            if parts and not self.is_hidden(path):
                self._by_last_part.setdefault(parts[-1], []).append((parts, path))

    def parts(self, path: Path) -> tuple[str, ...]:
        """Return a module's dotted name as counted from the root; of a package, the package's."""
        try:
            relative = path.relative_to(self._root)
        except ValueError:
            relative = Path(path.name)
        parts = relative.with_suffix("").parts
        return parts[:-1] if parts[-1] == "__init__" else parts

    def package_of(self, path: Path) -> tuple[str, ...]:
        """Return the parts of the package that a module's relative imports are counted from."""
        parts = self.parts(path)
        return parts if path.name == "__init__.py" else parts[:-1]

    def is_hidden(self, path: Path) -> bool:
        """Return whether Python never imports a module, but the package of its name beside it."""
        return path.name != "__init__.py" and self.parts(path) in self._packages

    def is_package(self, parts: tuple[str, ...]) -> bool:
        """Return whether the folder that `parts` lead to from the root has an `__init__.py`."""
        return parts in self._packages

    def find(self, dotted: str, importer: Path) -> tuple[Path, tuple[str, ...]] | None:
        """Return the module that an absolute import in `importer` names, and what of it is left.

        A name may be counted from the root, or from the package that the root is in, from any
        folder above the importing file, and from any folder that is no package; of several modules
        the one nearest to the importing file is it.
        """
        key = dotted, importer.parent
        if key not in self._found:
            wanted, parts = tuple(dotted.split(".")), self.parts(importer)
            found = self._find(wanted, parts)
            above = len(self.root_package)
            if found is None and above and wanted[:above] == self.root_package != wanted:
                found = self._find(wanted[above:], parts)
            self._found[key] = found
        return self._found[key]

    def is_one_of_several(self, dotted: str, importer: Path) -> bool:
        """Return whether an import may mean other modules too that are no farther away.

        Which one it is depends on the folder that the program is run from.
        """
        self.find(dotted, importer)
        return (tuple(dotted.split(".")), self.parts(importer)[:-1]) in self._of_several

    def _find(
        self, wanted: tuple[str, ...], importer: tuple[str, ...]
    ) -> tuple[Path, tuple[str, ...]] | None:
        if wanted[0] in _LIBRARIES:
            return None
        for length in range(len(wanted), 0, -1):
            candidates = [
                (parts, path)
                for parts, path in self._by_last_part.get(wanted[length - 1], ())
                if parts[-length:] == wanted[:length]
                and self._is_import_path(parts[:-length], importer)
            ]
            if candidates:
                nearest = max(_shared(parts, importer) for parts, _ in candidates)
                near = [path for parts, path in candidates if _shared(parts, importer) == nearest]
                if len(near) > 1:
                    self._of_several.add((wanted, importer[:-1]))
                return near[0], wanted[length:]
        return None

    def _is_import_path(self, folder: tuple[str, ...], importer: tuple[str, ...]) -> bool:
        return folder not in self._packages or folder == importer[: len(folder)]

    def likeliest_name(self, path: Path) -> str:
        """Return the dotted name under which others most likely import a module.

        That is the name from the topmost package that holds it, or from below `src`.
        """
        parts = self.parts(path)
        for start in range(len(parts) - 1):
            if all(parts[: end + 1] in self._packages for end in range(start, len(parts) - 1)):
                return ".".join(parts[start:])
        return ".".join(parts[1:] if parts[0] == "src" and len(parts) > 1 else parts)


def binds_another(package: Namespace, name: str, dotted: str) -> bool:
    """Return whether a package binds `name` to something else than its module `dotted`."""
    return any(
        binding.kind != "import" or package.absolute(binding.target) != dotted
        for binding in package.scope.bindings.get(name, ())
    )


def _package(folder: Path) -> tuple[str, ...]:
    """Return the dotted name of the package that a folder is, from the topmost package down."""
    names: list[str] = []
    while folder.name and exists(folder / "__init__.py"):
        names.insert(0, folder.name)
        folder = folder.parent
    return tuple(names)


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Return how many folders two modules have in common, from the root down."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
