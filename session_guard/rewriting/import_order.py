"""Where an import statement belongs among others: isort's order, which ruff's rules I check."""

from __future__ import annotations

import re
import sys
from functools import cached_property
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.from_libcst import dotted_parts, module_name
from session_guard.records import dataclass
from session_guard.rewriting.import_style import style_for
from session_guard.witnesses import exists

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from session_guard.module import Module
    from session_guard.names.from_libcst import ImportStatement
    from session_guard.rewriting.import_style import Style

_FUTURE, _STANDARD_LIBRARY, _THIRD_PARTY, _FIRST_PARTY, _LOCAL_FOLDER = range(5)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a new line goes: before or behind a line that is there."""

    line: cst.CSTNode
    before: bool
    is_apart: bool = False
    """Whether a blank line stands between the two, as between sections."""


class Order:
    """The order of one file's imports."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self.style: Style = style_for(module.path, module.project)
        self._own: dict[str, bool] = {}
        """Whether a name is that of a package of the project, as far as it was asked."""

    @cached_property
    def is_single_line(self) -> bool:
        """Whether each statement imports one name: as configured, or as the file shows."""
        if self.style.single_line is not None:
            return self.style.single_line
        plain = [s for s in self._from_imports if not any(a.asname for a in _names(s))]
        if any(len(_names(s)) != 1 for s in plain):
            return False
        brought = {(module_name(s), _names(s)[0].evaluated_name) for s in plain}
        return len(brought) > len({module for module, _ in brought})

    @cached_property
    def combines_aliases(self) -> bool:
        """Whether `a as b` stands in one statement with others: as configured, or as shown."""
        if self.style.combines_aliases is not None:
            return self.style.combines_aliases
        several = [_names(s) for s in self._from_imports if len(_names(s)) > 1]
        return any(alias.asname is not None for names in several for alias in names)

    @cached_property
    def _from_imports(self) -> list[cst.ImportFrom]:
        lines = self._module.tree.body
        firsts = [line.body[0] for line in lines if isinstance(line, cst.SimpleStatementLine)]
        return [s for s in firsts if isinstance(s, cst.ImportFrom)]

    def spot(
        self,
        wanted: str,
        name: str,
        lines: Sequence[cst.SimpleStatementLine],
        gone: Collection[int],
        names: Mapping[int, Sequence[str]],
    ) -> Spot | None:
        """Return where `from wanted import name` goes among lines of imports, if there are any.

        `lines` stand in one block, in source order; those that are `gone`, by `id`, are not there
        any more in the end, and statements that change, by `id`, have other `names` then.
        """
        found = [(line, s) for line in lines if (s := _import_of(line)) is not None]
        related = [(line, s) for line, s in found if is_related(wanted, line)]
        if not related:
            found = [(line, s) for line, s in found if id(line) not in gone] or found
            own = self._section(wanted)
            sections = [self._section(module_of(s)) for _, s in found]
            related = [
                item for item, section in zip(found, sections, strict=True) if section == own
            ]
            if found and not related:
                later = [line for (line, _), at in zip(found, sections, strict=True) if at > own]
                if later and sections == sorted(sections):
                    return Spot(later[0], before=True, is_apart=True)
                return Spot(found[-1][0], before=False, is_apart=id(found[-1][0]) not in gone)
        key, keys = (
            self._sort_key(wanted, name, is_from=True),
            [self._key(s, names.get(id(s))) for _, s in related],
        )
        if keys == sorted(keys):
            for (line, _), other in zip(related, keys, strict=True):
                if other > key:
                    return Spot(line, before=True)
        return Spot(related[-1][0], before=False) if related else None

    def _key(self, statement: ImportStatement, names: Sequence[str] | None) -> tuple[object, ...]:
        is_from = isinstance(statement, cst.ImportFrom)
        if names is None or not is_from:
            names = [a.evaluated_name for a in _names(statement)] if is_from else []
        first = min(names, key=self.name_key, default="")
        return self._sort_key(module_of(statement), first, is_from=is_from)

    def _sort_key(self, module: str, first_name: str, *, is_from: bool) -> tuple[object, ...]:
        name = module.lstrip(".")
        kind = is_from and not self.style.sorts_within_sections
        return kind, len(name) - len(module), *natural(name), is_from, self.name_key(first_name)

    def name_key(self, name: str) -> tuple[object, ...]:
        """Return what sorts the names of one statement: constants, classes, then the rest."""
        kind = 2
        if name.isupper() and len(name) > 1:
            kind = 0
        elif name[:1].isupper():
            kind = 1
        return kind if self.style.orders_by_type else 0, *natural(name)

    def _section(self, module: str) -> int:
        first = module.split(".", 1)[0]
        if not first:
            return _LOCAL_FOLDER
        if first == "__future__":
            return _FUTURE
        if first in self.style.first_party:
            return _FIRST_PARTY
        if first in sys.stdlib_module_names:
            return _STANDARD_LIBRARY
        return _FIRST_PARTY if self._is_own(first) else _THIRD_PARTY

    def _is_own(self, first: str) -> bool:
        """Return whether ruff and isort find a package below the root or its `src`, or round it."""
        if first not in self._own:
            project = self._module.project
            root, modules = project.settings.root, project.modules
            around = modules.root_package or modules.likeliest_name(self._module.path).split(".")
            self._own[first] = first == around[0] or any(
                exists(folder / name)
                for folder in (root, root / "src")
                for name in (first, f"{first}.py")
            )
        return self._own[first]


def _import_of(line: cst.SimpleStatementLine) -> ImportStatement | None:
    first = line.body[0]
    return first if isinstance(first, (cst.Import, cst.ImportFrom)) else None


def _names(statement: ImportStatement) -> Sequence[cst.ImportAlias]:
    return () if isinstance(statement.names, cst.ImportStar) else statement.names


def module_of(statement: ImportStatement) -> str:
    """Return the module that a statement imports from, or the first one that it imports."""
    if isinstance(statement, cst.ImportFrom):
        return module_name(statement)
    return ".".join(dotted_parts(statement.names[0].name) or ("",))


def natural(text: str) -> tuple[object, ...]:
    """Return what sorts names without regard to case, and `v2` before `v10`."""
    parts = re.split(r"(\d+)", text.lower())
    return tuple((n % 2, int(p) if n % 2 else 0, p) for n, p in enumerate(parts)), text


def is_related(module: str, line: cst.SimpleStatementLine) -> bool:
    """Return whether a line imports from the package that `module` is in."""
    statement = _import_of(line)
    return statement is not None and _family(module_of(statement)) == _family(module)


def _family(module: str) -> str:
    return "." if module.startswith(".") else module.split(".", 1)[0]
