"""What the files of one folder require: lock files, requirements files, `pyproject.toml`.

Files are read and never run. What they say is collected here; what it means for a version is worked
out in `versions`.
"""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from session_guard.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

ASYNC_DRIVERS = frozenset({"asyncpg", "psycopg", "aiosqlite", "aiomysql", "asyncmy", "oracledb"})
"""Packages that an async engine may run on."""

PACKAGES = ASYNC_DRIVERS | {"sqlalchemy"}
"""The packages that are looked for."""

_LOCK_FILES = ("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml")
_NAME = re.compile(r'^name = "([^"]+)"', re.MULTILINE)
_VERSION = re.compile(r'^version = "([^"]+)"', re.MULTILINE)
# What the tools write for a package that is a folder of the repository; an address has a scheme.
_INSTALLED_BY_LOCK = re.compile(
    r'\n(?:source = \{ ?\w+|directory = \{ ?path|path|url) = "(?![\w+.-]+:)([^"]+)"'
)
_INSTALLED_BY_LINE = re.compile(r"(?:-e|--editable)[ =]\s*(?:file:)?(\S+)|(\.\.?/\S*|\.$|\.\[\S*)")
_CONTINUED = re.compile(r"^(?!\s*#)(.*)\\\r?\n", re.MULTILINE)
_COMMENT = re.compile(r"(?:^|\s)#.*")
_INCLUDE = re.compile(r"(?:(-r|--requirement)|-c|--constraint)[ =]?\s*(\S+)$")
_REQUIREMENT = re.compile(r"([A-Za-z0-9][\w.-]*)\s*(?:\[[^]]*\])?\s*([^;]*)(;?)")
# Names of files and groups that only say what a project is developed with.
_DEVELOPMENT = frozenset(
    {"ci", "dev", "devel", "develop", "development", "devtools", "doc", "docs", "documentation"}
    | {"lint", "linter", "linters", "linting", "pytest", "test", "tester", "testing", "tests"}
    | {"typing", "unittest", "unittests"}
)
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one entry of a file says of a package."""

    name: str
    """One of `PACKAGES`."""
    specifier: str
    """The versions that it allows, as they are written; empty where it says nothing of them."""
    path: Path
    """The file that says so."""
    is_conditional: bool = False
    """Whether it need not hold: it has a marker, or is in a group or an extra."""
    is_constraint: bool = False
    """Whether it restricts a package without asking for it."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What the files of one folder require."""

    locks: tuple[tuple[Requirement, ...], ...] = ()
    """What each lock file holds; the one that counts most comes first."""
    files: tuple[tuple[Requirement, ...], ...] = ()
    """What each requirements file asks for with all that it includes; likewise."""
    pyproject: tuple[Requirement, ...] = ()
    installed: frozenset[str] = frozenset()
    """The absolute paths of the folders that lock files and requirements files install."""


def read(folder: Path) -> Requirements:
    """Return what the files of a folder require; of one that cannot be read, nothing."""
    try:
        names = frozenset(os.listdir(folder))
    except OSError:
        return Requirements()
    installed: set[str] = set()
    locks = []
    for name in _LOCK_FILES:
        if name in names:
            text = _text(folder / name)
            locks.append(tuple(_locked(text, folder / name)))
            installed.update(_INSTALLED_BY_LOCK.findall(text))
    if "Pipfile.lock" in names:
        locks.append(tuple(_of_pipfile_lock(folder / "Pipfile.lock")))
    files = [_RequirementsFile(path) for path in _requirements_files(folder, names)]
    included: set[Path] = set()
    for file in files:
        included |= file.included
        installed |= file.installed
    # What others include is a part of them, but for the one that is installed by default.
    included.discard(folder / "requirements.txt")
    return Requirements(
        tuple(locks),
        tuple(tuple(file.requirements) for file in files if file.path not in included),
        tuple(_of_pyproject(folder / "pyproject.toml")) if "pyproject.toml" in names else (),
        frozenset(os.path.normpath(os.path.join(folder, path)) for path in installed),
    )


def _locked(text: str, path: Path) -> Iterator[Requirement]:
    # Lock files are large, and TOML's parser is slow: the tools write them in one form.
    for table in f"\n{text}".split("\n["):
        if table.startswith(("[package]]", "[packages]]")):
            name, version = _NAME.search(table), _VERSION.search(table)
            if name is not None and version is not None:
                yield from _wanted(name[1], f"=={version[1]}", path)


def _of_pipfile_lock(path: Path) -> Iterator[Requirement]:
    import json

    try:
        content = json.loads(_text(path))
    except ValueError:
        return
    for name, entry in _table(_table(content).get("default")).items():
        yield from _wanted(name, _table(entry).get("version"), path)


def _requirements_files(folder: Path, names: frozenset[str]) -> Iterator[Path]:
    """Yield the requirements files of a folder, `requirements.txt` first."""
    own = sorted(name for name in names if re.fullmatch(r"requirements.*\.txt", name))
    own.sort(key=lambda name: name != "requirements.txt")
    paths = [folder / name for name in own]
    if "requirements" in names:
        paths += sorted((folder / "requirements").glob("*.txt"))
    for path in paths:
        if not _is_for_development(path.stem):
            yield path


class _RequirementsFile:
    """A requirements file with all that it includes, which pip installs together."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requirements: list[Requirement] = []
        self.included: set[Path] = set()
        self.installed: set[str] = set()
        self._read(path, is_constraint=False)

    def _read(self, path: Path, *, is_constraint: bool) -> None:
        for written in _CONTINUED.sub(r"\1", _text(path)).splitlines():
            line = _COMMENT.sub("", written).strip()
            include = _INCLUDE.match(line)
            installed = _INSTALLED_BY_LINE.match(line)
            if include is not None:
                self._include(
                    path.parent / include[2], is_constraint=is_constraint or include[1] is None
                )
            elif installed is not None:
                self.installed.add(re.sub(r"[\[#].*", "", installed[1] or installed[2]))
            else:
                for requirement in _parsed(line, path):
                    self.requirements.append(replace(requirement, is_constraint=is_constraint))

    def _include(self, written: Path, *, is_constraint: bool) -> None:
        path = Path(os.path.normpath(written))
        if path != self.path and path not in self.included:
            self.included.add(path)
            self._read(path, is_constraint=is_constraint)


def _of_pyproject(path: Path) -> Iterator[Requirement]:
    text = _text(path)
    if not any(name in text.lower() for name in PACKAGES):
        return
    import tomllib

    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    project = _table(content.get("project"))
    yield from _of_list(project.get("dependencies"), path)
    for groups in (project.get("optional-dependencies"), content.get("dependency-groups")):
        for name, group in _table(groups).items():
            if not _is_for_development(name):
                yield from _of_list(group, path, is_conditional=True)
    poetry = _table(_table(content.get("tool")).get("poetry"))
    yield from _of_poetry(poetry.get("dependencies"), path)
    for name, group in _table(poetry.get("group")).items():
        if not _is_for_development(name):
            yield from _of_poetry(_table(group).get("dependencies"), path, is_conditional=True)


def _of_list(items: object, path: Path, *, is_conditional: bool = False) -> Iterator[Requirement]:
    for item in items if isinstance(items, list) else ():
        if isinstance(item, str):
            yield from _parsed(item, path, is_conditional=is_conditional)


def _of_poetry(table: object, path: Path, *, is_conditional: bool = False) -> Iterator[Requirement]:
    for name, value in _table(table).items():
        # Several entries hold for different environments.
        for entry in value if isinstance(value, list) else [value]:
            keys = _table(entry)
            conditional = is_conditional or not keys.keys().isdisjoint(
                {"python", "platform", "markers", "optional"}
            )
            specifier = keys.get("version") if isinstance(entry, dict) else entry
            yield from _wanted(name, specifier, path, is_conditional=conditional)


def _parsed(line: str, path: Path, *, is_conditional: bool = False) -> Iterator[Requirement]:
    """Yield what a requirement says, as pip and PEP 508 write it."""
    match = _REQUIREMENT.match(re.split(r"\s--", line)[0].strip())
    if match is not None:
        name, specifier, marker = match.groups()
        # What version an address leads to is not read from its spelling.
        known = None if specifier.startswith("@") else specifier.strip(" ()")
        yield from _wanted(name, known, path, is_conditional=is_conditional or marker != "")


def _wanted(
    name: str, specifier: object, path: Path, *, is_conditional: bool = False
) -> Iterator[Requirement]:
    normal = re.sub(r"[-_.]+", "-", name).lower()
    if normal in PACKAGES:
        written = specifier if isinstance(specifier, str) else ""
        yield Requirement(normal, written, path, is_conditional)


def _is_for_development(name: str) -> bool:
    words = re.split(r"[^a-z]+|requirements", name.lower())
    return not _DEVELOPMENT.isdisjoint(words)


def _text(path: Path) -> str:
    """Return a file's text; PowerShell writes what is redirected into a file in UTF-16."""
    try:
        data = path.read_bytes()
    except OSError:
        return ""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace")
    return data.decode(errors="replace")


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
