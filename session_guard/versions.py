"""Which versions of SQLAlchemy and asyncpg a project runs, as its own files or its settings say.

Files are read and never run, and no package index is asked. A lock file or a pin names a version; a
range leaves open which one it is, and is used for no more than it proves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from session_guard.config import Settings
    from session_guard.project import Project

Numbers = tuple[int, ...]

_TITLES = {"sqlalchemy": "SQLAlchemy", "asyncpg": "asyncpg"}
_LOCK_FILES = ("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml")
_LOCKED = re.compile(
    r'^\[\[packages?\]\]\s*\r?\nname = "([^"]+)"\r?\nversion = "([^"]+)"', re.MULTILINE
)
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[[^]]*\])?\s*\(?([^;#)]*)")
_CLAUSE = re.compile(r"\s*(===?|~=|!=|<=?|>=?|\^|~)?\s*v?(\d+(?:\.\d+)*)(\.\*)?[\w.+-]*\s*$")
# Names of groups and files that only say what the project is developed with.
_DEVELOPMENT = re.compile(r"dev|test|lint|docs?\b|ci\b", re.IGNORECASE)
_ENDLESS: Numbers = (1_000_000,)

ASYNC_DRIVERS = frozenset({"asyncpg", "psycopg", "aiosqlite", "aiomysql", "asyncmy", "oracledb"})
"""Packages that an async engine may run on."""


@dataclass(frozen=True, slots=True)
class Version:
    """What is known of one package: every version from `lowest` on and below `behind` fits."""

    title: str
    text: str
    source: str
    """The file that says so, or the key of the configuration."""
    lowest: Numbers
    behind: Numbers

    def is_surely_below(self, *numbers: int) -> bool:
        """Return whether the project runs a version before this one."""
        return _padded(self.behind) <= _padded(numbers)

    def is_surely_at_least(self, *numbers: int) -> bool:
        """Return whether the project runs this version or a later one."""
        return _padded(self.lowest) >= _padded(numbers)

    def __str__(self) -> str:
        return f"{self.title} {self.text}, as {self.source} says"


@dataclass(frozen=True, slots=True)
class Versions:
    """What a project runs on."""

    sqlalchemy: Version | None = None
    asyncpg: Version | None = None
    drivers: frozenset[str] = frozenset()
    """Async database drivers that the project itself asks for."""

    @property
    def only_driver_is_asyncpg(self) -> bool:
        """Return whether an async engine of this project can be on asyncpg alone."""
        return self.drivers == {"asyncpg"}


_known: WeakKeyDictionary[Project, Versions] = WeakKeyDictionary()


def of(project: Project) -> Versions:
    """Return the versions that a project runs; its files are read once."""
    if project not in _known:
        _known[project] = read(project.settings)
    return _known[project]


def read(settings: Settings) -> Versions:
    """Return the versions that the configuration sets, or else the project's files name.

    The root's files come first, then those of the folders above it in the same repository, where
    workspaces keep their lock file. In each, lock files come before requirements and these before
    `pyproject.toml`.
    """
    found: dict[str, Version] = {}
    for name, text in (
        ("sqlalchemy", settings.sqlalchemy_version),
        ("asyncpg", settings.asyncpg_version),
    ):
        if text is not None:
            found[name] = _version(name, text, f"`{name}-version`")
    drivers: frozenset[str] = frozenset()
    for folder in _folders(settings.root):
        asked_for = {name: list(specs) for name, specs in _grouped(_asked_for(folder)).items()}
        drivers = drivers or ASYNC_DRIVERS & asked_for.keys()
        for name in _TITLES:
            known = found.get(name) or _locked(folder, name) or _narrowed(name, asked_for)
            if known is not None:
                found[name] = known
    return Versions(found.get("sqlalchemy"), found.get("asyncpg"), drivers)


def _folders(root: Path) -> Iterator[Path]:
    """Yield the root, and the folders above it up to the repository's."""
    yield root
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return
    for folder in (root, *root.parents):
        if folder != root:
            yield folder
        if (folder / ".git").exists():
            return


def _locked(folder: Path, name: str) -> Version | None:
    for file in _LOCK_FILES:
        texts = [
            version for found, version in _LOCKED.findall(_text(folder / file)) if _is(found, name)
        ]
        if texts:
            return _hull(name, texts, file)
    return None


def _hull(name: str, texts: list[str], source: str) -> Version:
    """Return the one version, or the range, that several entries of a lock file give."""
    versions = sorted((_version(name, text, source) for text in set(texts)), key=_lowest)
    text = " or ".join(version.text for version in versions)
    return Version(_TITLES[name], text, source, versions[0].lowest, versions[-1].behind)


def _lowest(version: Version) -> Numbers:
    return version.lowest


def _version(name: str, text: str, source: str) -> Version:
    """Return a version as it is written; `2.0` without more stands for every 2.0."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    numbers = _numbers(match.group()) if match else ()
    return Version(_TITLES[name], text, source, numbers, _next(numbers))


def _narrowed(name: str, asked_for: dict[str, list[tuple[str, str]]]) -> Version | None:
    """Return what the specifiers of requirements leave open, where they close it from above."""
    for specifier, source in asked_for.get(name, ()):
        lowest: Numbers = (0,)
        behind = _ENDLESS
        for clause in specifier.split(","):
            bounds = _bounds(clause)
            if bounds is not None:
                lowest, behind = max(lowest, bounds[0]), min(behind, bounds[1])
        if lowest != (0,) or behind != _ENDLESS:
            text = specifier.strip().replace(" ", "").removeprefix("==")
            return Version(_TITLES[name], text, source, lowest, behind)
    return None


def _bounds(clause: str) -> tuple[Numbers, Numbers] | None:
    """Return the first version that a clause allows and the first behind that it does not."""
    match = _CLAUSE.match(clause)
    if match is None or match[1] == "!=":
        return None
    numbers = _numbers(match[2])
    match match[1]:
        case ">=" | ">":  # `>0.31` allows 0.31.1
            return numbers, _ENDLESS
        case "<":
            return (0,), numbers
        case "<=":
            return (0,), _next(numbers)
        case "~=":
            return numbers, _next(numbers[:-1])
        case "^":
            significant = next((i for i, n in enumerate(numbers) if n), len(numbers) - 1)
            return numbers, _next(numbers[: significant + 1])
        case "~":
            return numbers, _next(numbers[:2])
        case _:
            return numbers, _next(numbers)


def _asked_for(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield name, specifier and file of each package that a project itself asks for."""
    for path in sorted((*folder.glob("requirements*.txt"), *folder.glob("requirements/*.txt"))):
        shown = path.relative_to(folder).as_posix()
        if _DEVELOPMENT.search(shown):
            continue
        for line in _text(path).splitlines():
            if not line.lstrip().startswith(("#", "-")):
                yield from _requirement(line, shown)
    yield from _of_pyproject(folder / "pyproject.toml")


def _of_pyproject(path: Path) -> Iterator[tuple[str, str, str]]:
    text = _text(path)
    if not any(name in text.lower() for name in ("sqlalchemy", *ASYNC_DRIVERS)):
        return
    import tomllib

    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    project = _table(content.get("project"))
    extras = _table(project.get("optional-dependencies")).items()
    optional = [group for name, group in extras if not _DEVELOPMENT.search(name)]
    for group in (project.get("dependencies"), *optional):
        for requirement in group if isinstance(group, list) else ():
            if isinstance(requirement, str):
                yield from _requirement(requirement, path.name)
    poetry = _table(_table(content.get("tool")).get("poetry"))
    for name, value in _table(poetry.get("dependencies")).items():
        specifier = value.get("version") if isinstance(value, dict) else value
        yield name, specifier if isinstance(specifier, str) else "", path.name


def _requirement(line: str, source: str) -> Iterator[tuple[str, str, str]]:
    match = _REQUIREMENT.match(line)
    if match is not None:
        # Hashes and a continued line may stand behind the specifier.
        yield match[1], re.split(r"\s--|\\", match[2])[0], source


def _grouped(found: Iterable[tuple[str, str, str]]) -> dict[str, list[tuple[str, str]]]:
    grouped: dict[str, list[tuple[str, str]]] = {}
    for name, specifier, source in found:
        grouped.setdefault(_normal(name), []).append((specifier, source))
    return grouped


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is(found: str, name: str) -> bool:
    return _normal(found) == name


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _numbers(text: str) -> Numbers:
    return tuple(int(part) for part in text.split("."))


def _padded(numbers: Numbers) -> Numbers:
    return (*numbers, 0, 0, 0)[:4]


def _next(numbers: Numbers) -> Numbers:
    return (*numbers[:-1], numbers[-1] + 1) if numbers else _ENDLESS
