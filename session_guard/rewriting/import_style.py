"""How a project wants its imports: what ruff, isort or black are told in its configuration."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from session_guard.records import dataclass
from session_guard.witnesses import exists

if TYPE_CHECKING:
    from pathlib import Path

    from session_guard.project.project import Project

_SINGLE_LINE_PROFILES = frozenset({"google"})


@dataclass(frozen=True, slots=True)
class Style:
    """Settings of ruff's rules I, with their defaults; None is for the file to tell."""

    line_length: int = 88
    """Columns from which an import is wrapped."""
    single_line: bool | None = None
    """Whether each statement imports one name."""
    combines_aliases: bool | None = None
    """Whether `a as b` stands in one statement with other names."""
    sorts_within_sections: bool = False
    """Whether `import a` and `from a import b` are sorted together."""
    orders_by_type: bool = True
    """Whether constants stand before classes, and these before the rest."""
    first_party: frozenset[str] = frozenset()
    """Packages that count as the project's own."""


_styles: WeakKeyDictionary[Project, dict[Path, Style]] = WeakKeyDictionary()


def style_for(path: Path, project: Project) -> Style:
    """Return the style of the file at `path`, from the nearest configuration above it."""
    known = _styles.setdefault(project, {})
    if path.parent not in known:
        known[path.parent] = _nearest(path.parent)
    return known[path.parent]


def _nearest(folder: Path) -> Style:
    for above in (folder, *folder.parents):
        for name in ("ruff.toml", ".ruff.toml"):
            table = _table(above / name)
            if table:
                return _of_ruff(table)
        tool = _table(above / "pyproject.toml").get("tool", {})
        if isinstance(tool, dict) and tool.keys() & {"ruff", "isort", "black"}:
            return _of_tools(tool)
        if exists(above / ".git"):
            break
    return Style()


def _table(path: Path) -> dict[str, Any]:
    """Return what is in a TOML file; nothing where it cannot be read, which is not our matter."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _of_ruff(table: dict[str, Any], length: int = 88) -> Style:
    lint = table.get("lint", {})
    isort = {**table.get("isort", {}), **lint.get("isort", {})}
    return Style(
        line_length=table.get("line-length", length),
        single_line=isort.get("force-single-line"),
        combines_aliases=isort.get("combine-as-imports"),
        sorts_within_sections=isort.get("force-sort-within-sections", False),
        orders_by_type=isort.get("order-by-type", True),
        first_party=frozenset(isort.get("known-first-party", ())),
    )


def _of_tools(tool: dict[str, Any]) -> Style:
    length = tool.get("black", {}).get("line-length", 88)
    if "ruff" in tool:
        return _of_ruff(tool["ruff"], length)
    isort = tool.get("isort", {})
    is_single = True if isort.get("profile") in _SINGLE_LINE_PROFILES else None
    own = isort.get("known_first_party", ())
    return Style(
        line_length=isort.get("line_length", length),
        single_line=isort.get("force_single_line", is_single),
        combines_aliases=isort.get("combine_as_imports"),
        sorts_within_sections=isort.get("force_sort_within_sections", bool(is_single)),
        orders_by_type=isort.get("order_by_type", True),
        first_party=frozenset([own] if isinstance(own, str) else own),
    )
