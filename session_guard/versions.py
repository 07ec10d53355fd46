"""Which versions of SQLAlchemy and asyncpg a file runs on, as its project's files or settings say.

No package index is asked. A lock file or a pin names a version; a range leaves open which one it
is, and is used for no more than it proves.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from session_guard import requirements
from session_guard.records import dataclass
from session_guard.requirements import ASYNC_DRIVERS
from session_guard.witnesses import exists

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from session_guard.config import Settings
    from session_guard.project.project import Project
    from session_guard.requirements import Requirement, Requirements

Numbers = tuple[int, ...]

_TITLES = {"sqlalchemy": "SQLAlchemy", "asyncpg": "asyncpg"}
_CLAUSE = re.compile(r"\s*(===?|~=|!=|<=?|>=?|\^|~)?\s*v?(\d+(?:\.\d+)*)(?:\.\*)?([\w.+-]*)\s*$")
_FIRST: Numbers = (0,)
_ENDLESS: Numbers = (1_000_000,)


@dataclass(frozen=True, slots=True)
class Version:
    """What is known of one package: every version from `lowest` on and below `behind` fits."""

    title: str
    text: str
    sources: tuple[str, ...]
    """The files that say so, seen from the project's root, or the key of the configuration."""
    lowest: Numbers
    behind: Numbers

    def is_surely_below(self, *numbers: int) -> bool:
        """Return whether the project runs a version before this one."""
        return _padded(self.behind) <= _padded(numbers)

    def is_surely_at_least(self, *numbers: int) -> bool:
        """Return whether the project runs this version or a later one."""
        return _padded(self.lowest) >= _padded(numbers)

    def covers(self, other: Version) -> bool:
        """Return whether all that fits `other` fits this one."""
        return other.is_surely_at_least(*self.lowest) and other.is_surely_below(*self.behind)

    @property
    def is_open(self) -> bool:
        """Whether any version fits."""
        return self.lowest == _FIRST and self.behind == _ENDLESS

    def __str__(self) -> str:
        *others, last = self.sources
        say = f"{', '.join(others)} and {last} say" if others else f"{last} says"
        return f"{self.title} {self.text}, as {say}"


@dataclass(frozen=True, slots=True)
class Versions:
    """What a file runs on."""

    sqlalchemy: Version | None = None
    asyncpg: Version | None = None
    drivers: frozenset[str] = frozenset()
    """Async database drivers that the project itself asks for."""

    @property
    def only_driver_is_asyncpg(self) -> bool:
        """Return whether an async engine of this project can be on asyncpg alone."""
        return self.drivers == {"asyncpg"}


_readers: WeakKeyDictionary[Project, _Reader] = WeakKeyDictionary()


def of(project: Project, path: Path) -> Versions:
    """Return the versions that a project's file runs on; a folder's files are read once.

    What the configuration sets holds for the whole project. Of the folders from the file's own up
    to the root, and on to that of the repository, where workspaces keep their lock file, the
    nearest that asks for a package decides: each of several services has its own versions.
    """
    if project not in _readers:
        _readers[project] = _Reader(project.settings)
    return _readers[project].versions(path.parent)


class _Reader:
    """The versions in the folders of one project."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.root
        self._top = _repository(settings.root) or settings.root
        self._configured = {
            name: _version(name, text, f"`{name}-version`")
            for name, text in (
                ("sqlalchemy", settings.sqlalchemy_version),
                ("asyncpg", settings.asyncpg_version),
            )
            if text is not None
        }
        self._required: dict[Path, Requirements] = {}
        self._versions: dict[Path, Versions] = {}

    def versions(self, folder: Path) -> Versions:
        """Return what the files of a folder run on."""
        if folder not in self._versions:
            folders = tuple(self._upwards(folder))
            self._versions[folder] = Versions(
                self._known("sqlalchemy", folders),
                self._known("asyncpg", folders),
                self._drivers(folders),
            )
        return self._versions[folder]

    def _upwards(self, folder: Path) -> Iterator[Path]:
        """Yield a folder and those above it, the nearest first."""
        for above in (folder, *folder.parents):
            yield above
            if above == self._top:
                return

    def _in(self, folder: Path) -> Requirements:
        if folder not in self._required:
            self._required[folder] = requirements.read(folder)
        return self._required[folder]

    def _known(self, name: str, folders: Sequence[Path]) -> Version | None:
        if name in self._configured:
            return self._configured[name]
        for index, folder in enumerate(folders):
            found = self._locked(folder, name) or self._asked_for(
                folder, folders[index + 1 :], name
            )
            if found is not None:
                return None if found.is_open else found
        return None

    def _asked_for(self, folder: Path, above: Iterable[Path], name: str) -> Version | None:
        """Return what a folder leaves open that asks for a package and does not lock it itself."""
        own = self._in_files(folder, name)
        if own is None or own.is_open:
            own = self._stated(self._in(folder).pyproject, name) or own
        if own is None:
            return None
        for installer in above:
            # The lock file of a workspace locks its members.
            if str(folder) in self._in(installer).installed:
                found = self._locked(installer, name) or self._in_files(installer, name)
                if found is not None:
                    return _all_of((found, own))
        return own

    def _locked(self, folder: Path, name: str) -> Version | None:
        for lock in self._in(folder).locks:
            versions = self._of(lock, name)
            if versions:
                return _one_of(versions)
        return None

    def _in_files(self, folder: Path, name: str) -> Version | None:
        """Return what the requirements files of a folder leave open: the first one, as a rule.

        Those that allow versions which the first does not are for environments of their own, and
        the file may run in any.
        """
        known: Version | None = None
        for file in self._in(folder).files:
            found = self._stated(file, name)
            if known is None or found is None:
                known = known or found
            elif not found.covers(known):
                known = _one_of((known, found))
        return known

    def _stated(self, stated: Sequence[Requirement], name: str) -> Version | None:
        """Return what the requirements of one environment leave open, None where there are none."""
        own = [item for item in stated if item.name == name]
        certain = [item for item in own if not item.is_conditional]
        versions = self._of(certain, name)
        conditional = self._of([item for item in own if item.is_conditional], name)
        if conditional and all(item.is_constraint for item in certain):
            # One of them holds where the package is there at all; which one is not known.
            versions.append(_one_of(conditional))
        return _all_of(versions) if versions else None

    def _of(self, stated: Iterable[Requirement], name: str) -> list[Version]:
        return [
            _version(name, item.specifier, os.path.relpath(item.path, self._root))
            for item in stated
            if item.name == name
        ]

    def _drivers(self, folders: Iterable[Path]) -> frozenset[str]:
        for folder in folders:
            required = self._in(folder)
            drivers = ASYNC_DRIVERS & {
                item.name
                for file in (*required.files, required.pyproject)
                for item in file
                if not item.is_constraint
            }
            if drivers:
                return drivers
        return frozenset()


def _repository(root: Path) -> Path | None:
    """Return the folder of the git repository that holds a project."""
    return next((folder for folder in (root, *root.parents) if exists(folder / ".git")), None)


def _version(name: str, specifier: str, source: str) -> Version:
    """Return what a specifier leaves open; `2.0` without more stands for every 2.0."""
    first, *others = re.split(r"\|\|?", specifier)
    if others:
        return _one_of([_version(name, text, source) for text in (first, *others)])
    lowest, behind = _FIRST, _ENDLESS
    for clause in specifier.split(","):
        bounds = _bounds(clause)
        if bounds is not None:
            lowest, behind = max(lowest, bounds[0]), min(behind, bounds[1])
    text = re.sub(r"^===?", "", specifier.replace(" ", ""))
    return Version(_TITLES[name], text, (source.replace(os.sep, "/"),), lowest, behind)


def _bounds(clause: str) -> tuple[Numbers, Numbers] | None:
    """Return the first version that a clause allows and the first behind that it does not."""
    match = _CLAUSE.match(clause)
    if match is None or match[1] == "!=":
        return None
    numbers = tuple(int(part) for part in match[2].split("."))
    # A development version, as git has it, may lack what the release of this number has; measured
    # betas of SQLAlchemy (2.0.0b1, 2.1.0b1) do not.
    lowest = (*_padded(numbers)[:3], -1) if "dev" in match[3] else numbers
    match match[1]:
        case ">=" | ">":  # `>0.31` allows 0.31.1
            return lowest, _ENDLESS
        case "<":
            return _FIRST, numbers
        case "<=":
            return _FIRST, _next(numbers)
        case "~=":
            return lowest, _next(numbers[:-1])
        case "^":
            significant = next((i for i, n in enumerate(numbers) if n), len(numbers) - 1)
            return lowest, _next(numbers[: significant + 1])
        case "~":
            return lowest, _next(numbers[:2])
        case _:
            return lowest, _next(numbers)


def _all_of(versions: Sequence[Version]) -> Version:
    """Return what fits all of some versions; where nothing does, not all hold, but one of them."""
    kept: list[Version] = []
    for version in versions:
        if not any(version.covers(other) for other in kept):
            kept = [other for other in kept if not other.covers(version)] + [version]
    lowest = max((version.lowest for version in kept), key=_padded)
    behind = min((version.behind for version in kept), key=_padded)
    if _padded(lowest) >= _padded(behind):
        return _one_of(kept)
    return _joined(kept, ",", lowest, behind)


def _one_of(versions: Sequence[Version]) -> Version:
    """Return what fits one of some versions at least, and what lies between them."""
    kept: list[Version] = []
    for version in versions:
        if not any(other.covers(version) for other in kept):
            kept = [other for other in kept if not version.covers(other)] + [version]
    lowest = min((version.lowest for version in kept), key=_padded)
    behind = max((version.behind for version in kept), key=_padded)
    kept.sort(key=lambda version: _padded(version.lowest))
    return _joined(kept, " or ", lowest, behind)


def _joined(versions: Sequence[Version], word: str, lowest: Numbers, behind: Numbers) -> Version:
    sources = dict.fromkeys(source for version in versions for source in version.sources)
    text = word.join(dict.fromkeys(version.text for version in versions))
    return Version(versions[0].title, text, tuple(sources), lowest, behind)


def _padded(numbers: Numbers) -> Numbers:
    return (*numbers, 0, 0, 0)[:4]


def _next(numbers: Numbers) -> Numbers:
    return (*numbers[:-1], numbers[-1] + 1) if numbers else _ENDLESS
