"""What earlier runs found, kept on disk: an entry for each project, used again while all it was
drawn from is as it was.

Where a few of a project's files changed, what was asked of them is asked again: of their bytes, and
whether their syntax trees say the same. If the answers are the same, only the changed files have to
be checked; if not, all are. All are checked as well where a file is new or gone, where anything
changed that is no Python file of the project, and where the configuration or the code did.

An entry answers for the settings, the versions of Python and of all that is installed, the code of
the rules, the project's files, and every other file and folder that was read for it. A file counts
as unchanged while size, both times and inode are the same: what edits a file can set its time of
modification back, but not the time of its last change, which the system keeps. A file that changed
in the last seconds before it was read is compared by what is in it, since a second change in the
same tick of the clock would leave no trace.

Entries are JSON, and nothing in them is ever run. Only files that belong to the user, in a folder
that nobody else can write to, are read.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import stat
import sys
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from session_guard import registry
from session_guard.gate import ProjectNames
from session_guard.rule import Applicability, Edit, Finding, Fix
from session_guard.texts import read
from session_guard.witnesses import FILE, FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from session_guard.config import Settings
    from session_guard.project.project import Project
    from session_guard.rule import Rule
    from session_guard.sources import Source
    from session_guard.texts import Texts
    from session_guard.witnesses import Witnesses

_FORMAT = 2
_MOST_ENTRIES = 1_000
_MOST_BYTES = 64_000_000
_TICK = 20_000_000
"""Nanoseconds: how far the clock that files are stamped with may be behind."""
_TOO_FRESH = 2_000_000_000
"""Nanoseconds: the coarsest clock of a file system in use ticks every two seconds."""

_MISSING = "-"
_IS_WINDOWS = sys.platform == "win32"

_MOST_QUESTIONS = 20_000
"""Those of a project that are kept; where there are more, every change is a change of all."""
_STORED = re.compile(r"[0-9a-f]{32}(\.\d+\.tmp)?\.(json|asked)")
_TAG = "CACHEDIR.TAG"
_TAGGED = "Signature: 8a477f597d28d172789f06886806bc55\n# This folder is session-guard's cache.\n"


class Cache:
    """The entries in one folder; without a folder that can be trusted it is always empty."""

    def __init__(self, folder: str, rules: Sequence[Rule], started: int) -> None:
        """Take the rules of the run, whose code every entry depends on.

        `started` is when the run read its first file, in nanoseconds since 1970.
        """
        self._folder = os.path.abspath(folder)
        self._is_usable = _is_own(self._folder)
        with contextlib.suppress(OSError):
            # Now, since a project that it is in is seen to change by it.
            self._prepare()
        self.environment = _environment(rules)
        self._started = started
        self._has_stored = False

    def entry(
        self,
        settings: Settings,
        files: Sequence[Source],
        texts: Texts,
        witnesses: Witnesses,
        *,
        fingerprints: bool,
    ) -> Entry:
        """Return the place of what is found in `files` of one project, which may be empty yet.

        `witnesses` hear all that is read for it.
        """
        key = blake2b(digest_size=16)
        named = [name for source in files for name in (source.shown, source.path)]
        key.update("\0".join(named).encode(errors="surrogateescape"))
        key.update(repr((fingerprints, settings)).encode(errors="surrogateescape"))
        paths = tuple(dict.fromkeys((*texts.paths, *(source.path for source in files))))
        return Entry(self, key.hexdigest(), settings, files, paths, texts, witnesses)

    def load(self, name: str) -> Any:
        """Return what is stored under a name, or None."""
        if not self._is_usable:
            return None
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except OSError:
            return None
        with open(descriptor, "rb") as file:
            if not _is_private(os.fstat(descriptor)):
                return None
            try:
                return json.loads(file.read(_MOST_BYTES))
            except (ValueError, RecursionError):
                return None

    def store(self, name: str, content: object) -> None:
        """Keep `content` under a name, whole or not at all; a cache that is full stays usable."""
        stem, _, suffix = name.partition(".")
        temporary = self._path(f"{stem}.{os.getpid()}.tmp.{suffix}")
        with contextlib.suppress(OSError):
            if not self._is_usable:
                return
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            try:
                with open(os.open(temporary, flags, 0o600), "w", encoding="ascii") as file:
                    json.dump(content, file, separators=(",", ":"))
                os.replace(temporary, self._path(name))
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            self._has_stored = True

    def close(self) -> None:
        """Remove the oldest entries where there are too many."""
        if not self._has_stored:
            return
        with contextlib.suppress(OSError):
            kept = []
            for entry in os.scandir(self._folder):
                if _STORED.fullmatch(entry.name):
                    status = entry.stat(follow_symlinks=False)
                    kept.append((status.st_mtime_ns, status.st_size, entry.path))
            kept.sort(reverse=True)
            size = 0
            for number, (_, length, path) in enumerate(kept):
                size += length
                if number >= _MOST_ENTRIES or size > _MOST_BYTES:
                    os.unlink(path)

    def may_have_changed(self, path: str) -> bool:
        """Return whether a file or folder may have changed since the run began."""
        try:
            status = os.stat(path)
        except OSError:
            return False
        return max(status.st_ctime_ns, status.st_mtime_ns) > self._started - _TICK

    def state_of(self, paths: Sequence[str]) -> State:
        """Return which files there are and how they are."""
        identities, fresh = [], []
        since = self._started - _TOO_FRESH
        for path in paths:
            try:
                status = os.stat(path)
            except OSError:
                identities.append(_MISSING)
                continue
            identities.append(identity_of(status))
            # Windows keeps no time of the last change that is not set back with the other one.
            if status.st_ctime_ns > since or status.st_mtime_ns > since or _IS_WINDOWS:
                fresh.append(path)
        where = blake2b(self.environment, digest_size=16)
        where.update("\0".join(paths).encode(errors="surrogateescape"))
        digest = where.copy()
        digest.update("\0".join(identities).encode())
        return State(digest.hexdigest(), where.hexdigest(), identities, fresh)

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _prepare(self) -> None:
        """Make the folder where there is none yet. Raises OSError."""
        if not os.path.lexists(self._folder):
            os.makedirs(os.path.dirname(self._folder), exist_ok=True)
            os.mkdir(self._folder, 0o700)
            self._is_usable = _is_own(self._folder)
            # Not where a folder is there already: it may hold more than a cache.
            for name, text in ((".gitignore", "*\n"), (_TAG, _TAGGED)):
                with open(os.path.join(self._folder, name), "x", encoding="ascii") as file:
                    file.write(text)


class State(NamedTuple):
    """How the files of a project are."""

    digest: str
    where: str
    """A hash of their names, and of the code that looks at them."""
    identities: list[str]
    """What changes whenever a file does, for each."""
    fresh: list[str]
    """Those whose times do not tell for sure that the text is the same: they changed lately."""


class Entry:
    """What was found in some files of one project."""

    def __init__(
        self,
        cache: Cache,
        name: str,
        settings: Settings,
        files: Sequence[Source],
        paths: Sequence[str],
        texts: Texts,
        witnesses: Witnesses,
    ) -> None:
        self._cache = cache
        self._name = name
        self._settings = settings
        self._files = [source.path for source in files]
        self._paths = paths
        self._texts = texts
        self._state = cache.state_of(paths)
        self._witnesses = witnesses
        self._kept: Any = None
        self._witnessed: list[tuple[str, str, str | None]] = []
        self._changed: frozenset[str] = frozenset()
        self.findings: dict[str, Sequence[Finding]] = {}
        """What is found in each file, as far as it is known."""
        self.notices: list[str] = []
        self.exported_names: ProjectNames | None = None
        """The project's, where only some of its files changed."""

    @property
    def is_outdated(self) -> bool:
        """Whether files changed since what is stored was found."""
        return self._kept is not None

    def load(self) -> None:
        """Take over what is stored, as far as it is still right."""
        stored = self._cache.load(f"{self._name}.json")
        try:
            self._take_over(stored)
        except (TypeError, ValueError, LookupError, AttributeError, OSError, re.error):
            # It is none of ours, of another version, or a file went away just now.
            self.findings, self.notices, self._kept = {}, [], None

    def _take_over(self, stored: Any) -> None:
        if stored["format"] != _FORMAT:
            return
        witnessed = [(kind, path, said) for kind, path, said in stored["witnesses"]]
        if any(_witnessed(kind, path) != said for kind, path, said in witnessed):
            return
        findings = {
            _text(path): [_finding(item) for item in items]
            for path, items in stored["findings"].items()
        }
        notices = [_text(notice) for notice in stored["notices"]]
        changed = {path for path, said in stored["fresh"] if _hash(path) != said}
        if changed or stored["state"] != self._state.digest:
            kept = self._cache.load(f"{self._name}.asked")
            if kept["mark"] != stored["mark"] or kept["where"] != self._state.where:
                return
            changed.update(self._changed_since(kept["identities"]))
            if not self._is_answered_alike(kept, changed, said=bool(notices)):
                return
            self._kept, self._changed = kept, frozenset(changed)
            self._witnessed = witnessed
            self._give(kept)
        elif stored["fresh"]:
            still = set(self._state.fresh)
            fresh = [pair for pair in stored["fresh"] if pair[0] in still]
            if len(fresh) < len(stored["fresh"]):
                # From now on their times tell it, and nobody need read them again.
                self._cache.store(f"{self._name}.json", {**stored, "fresh": fresh})
        self.notices = notices
        self.findings = {**dict.fromkeys(self._files, ()), **findings}
        for path in changed:
            self.findings.pop(path, None)

    def _changed_since(self, identities: list[str]) -> Iterator[str]:
        """Yield the files that are not as they were. Raises ValueError where one is missing."""
        for path, before, now in zip(self._paths, identities, self._state.identities, strict=True):
            if now == _MISSING:
                raise ValueError(path)
            if before != now:
                yield path

    def _is_answered_alike(self, kept: Any, changed: set[str], *, said: bool) -> bool:
        """Return whether files that changed answer all as before; `said` if there are notices."""
        from session_guard.project.asked import is_answered_alike, scopes_of, shape

        # What there is to say of the project is found out by the files that had to be looked at.
        if said and not changed.isdisjoint(kept["passing"]) and changed.issuperset(kept["passing"]):
            return False
        numbers = {path: number for number, path in enumerate(self._texts.paths)}
        root = os.path.join(self._settings.root, "")
        for path in changed & numbers.keys():
            number, data = numbers[path], self._texts.read(path)
            relative = path.removeprefix(root).replace(os.sep, "/")
            if (
                number in kept["used"]
                or any(word.encode("latin-1") in data for word in kept["absent"])
                or any(
                    number == at and word.encode("latin-1") not in data
                    for word, at in kept["present"].items()
                )
                or kept["shapes"].get(path, "") not in ("", shape(data))
                or not is_answered_alike(
                    kept["asked"], number, data, scopes_of(relative, self._settings)
                )
            ):
                return False
        return True

    def _give(self, kept: Any) -> None:
        """Take over what was found out of the project's files together."""
        paths = self._texts.paths
        absent = [word.encode("latin-1") for word in kept["absent"]]
        present = {word.encode("latin-1"): paths[at] for word, at in kept["present"].items()}
        if kept["names"] is not None:
            makers, managers = (
                frozenset(name.encode("latin-1") for name in some) for some in kept["names"]
            )
            self.exported_names = ProjectNames(makers, managers)
        self._texts.absent.update(absent)
        self._texts.present.update(present)

    def store(self, project: Project | None, passing: Iterable[str]) -> None:
        """Keep what was found, unless a file was changed meanwhile.

        `project` is what the answers were taken from, and `passing` the files that were looked at.
        """
        if self._cache.state_of(self._paths).digest != self._state.digest:
            return
        # What is checked but is none of the project's own files is no less asked by others.
        known = frozenset(self._texts.paths)
        witnesses: dict[tuple[str, str], str | None] = {
            (kind, path): said for kind, path, said in self._witnessed
        }
        for (kind, path), was_there in sorted(self._witnesses.seen.items()):
            if path in known or not _may_change(path, str(self._settings.root)):
                continue
            if self._cache.may_have_changed(path) or os.path.lexists(path) != was_there:
                return
            witnesses[kind, path] = _witnessed(kind, path)
        try:
            fresh = [[path, _hash_of(self._texts.read(path))] for path in self._state.fresh]
            asked = self._asked(project, passing)
        except OSError:
            return  # one cannot be read, so that nothing tells whether it is the same
        except (TypeError, ValueError, LookupError, re.error):
            return  # what was asked before is none of ours
        # Of runs at once each may write one of the two last.
        mark = os.urandom(16).hex()
        content = {
            "format": _FORMAT,
            "mark": mark,
            "state": self._state.digest,
            "witnesses": [[kind, path, said] for (kind, path), said in witnesses.items()],
            "fresh": fresh,
            "findings": {
                path: [_plain(finding) for finding in found]
                for path, found in self.findings.items()
                if found
            },
            "notices": self.notices,
        }
        self._cache.store(f"{self._name}.asked", {"mark": mark, **asked})
        self._cache.store(f"{self._name}.json", content)

    def _asked(self, project: Project | None, passing: Iterable[str]) -> dict[str, object]:
        """Return what was asked of the project's files; nothing where it is too much to be kept.

        Raises OSError, and TypeError, ValueError, LookupError or re.error where what an earlier
        run has kept is none of ours.
        """
        from session_guard.project.asked import Asked, shape

        asked = project.asked if project is not None else Asked(self._texts.paths)
        shapes: dict[str, str] = {}
        if self._kept is not None:
            asked.take_over(self._kept["asked"])
            asked.used.update(self._texts.paths[number] for number in self._kept["used"])
            shapes.update(self._kept["shapes"])
            passing = {*passing, *(set(self._kept["passing"]) - self._changed)}
        if len(asked.answers) > _MOST_QUESTIONS:
            return {}
        for path in asked.parsed - shapes.keys():
            if path in asked.order:
                shapes[path] = shape(self._texts.read(path))
        names = None
        if project is not None and "exported_names" in vars(project):
            names = [sorted(map(_latin, some)) for some in project.exported_names]
        elif self.exported_names is not None:
            names = [sorted(map(_latin, some)) for some in self.exported_names]
        used = asked.used | self._witnesses.opened
        return {
            "where": self._state.where,
            "identities": self._state.identities,
            "asked": asked.plain(),
            "used": [asked.order[path] for path in used if path in asked.order],
            "shapes": shapes,
            "absent": sorted(map(_latin, self._texts.absent)),
            "present": {
                _latin(word): asked.order[path] for word, path in self._texts.present.items()
            },
            "names": names,
            "passing": sorted(passing),
        }


# -- what an answer is drawn from ---------------------------------------------------------------


def identity_of(status: os.stat_result) -> str:
    """Return what changes whenever a file does."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _witnessed(kind: str, path: str) -> str | None:
    """Return what is to be the same of what was read; None if it is not there."""
    try:
        if kind == FOLDER:
            return _hash_of("\0".join(sorted(os.listdir(path))).encode(errors="surrogateescape"))
        # They are few and small: what is in them is what counts.
        return _hash(path) if kind == FILE else str(os.path.exists(path))
    except OSError:
        return None


def _may_change(path: str, root: str) -> bool:
    """Return whether a file is not one of those that Python and what is installed consist of."""
    if path.startswith(os.path.join(root, "")):
        return not path.endswith(".pyc")
    return not _is_installed(path) and not path.startswith("/dev/")


def _is_installed(path: str) -> bool:
    """Return whether a file comes with Python or with what is installed, ourselves included."""
    return path.startswith(_installed_in())


@functools.cache
def _installed_in() -> tuple[str, ...]:
    folders = {os.path.dirname(os.__file__), os.path.dirname(__file__)}
    folders.update(
        folder
        for folder in sys.path
        if os.path.basename(folder) in ("site-packages", "dist-packages")
    )
    return tuple(os.path.join(folder, "") for folder in folders)


def _environment(rules: Sequence[Rule]) -> bytes:
    """Return a hash of all that is installed, and of the code that looks."""
    state = blake2b(digest_size=16)
    state.update(repr((sys.version, sys.platform)).encode())
    state.update(repr([(rule.code, type(rule).__module__) for rule in rules]).encode())
    # What says that a package is installed is made anew whenever it is.
    files = {*registry.distributions()}
    for name in {type(rule).__module__.partition(".")[0] for rule in rules}:
        package = sys.modules[name]
        for path in getattr(package, "__path__", (package.__file__ or "",)):
            files.update(_code_in(path))
    for module in tuple(sys.modules.values()):
        # What a plug-in in development is made of may lie anywhere.
        file = getattr(module, "__file__", None)
        if file is not None and not _is_installed(file):
            files.add(file)
    for path in sorted(files):
        with contextlib.suppress(OSError):
            state.update(f"{path} {identity_of(os.stat(path))}".encode(errors="surrogateescape"))
    return state.digest()


def _code_in(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
        return
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            if entry.name != "__pycache__":
                yield from _code_in(entry.path)
        elif entry.name.endswith(".py"):
            yield entry.path


def _latin(word: bytes) -> str:
    return word.decode("latin-1")


def _hash(path: str) -> str:
    return _hash_of(read(path))


def _hash_of(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


# -- what is stored -----------------------------------------------------------------------------


def _plain(finding: Finding) -> list[object]:
    fix = finding.fix
    plain = None if fix is None else [fix.applicability.value, fix.message, fix.edits]
    return list(finding._replace(fix=plain))  # type: ignore[arg-type]


def _finding(plain: list[Any]) -> Finding:
    """Return a finding that was stored. Raises TypeError or ValueError where it is none."""
    path, line, column, end_line, end_column, *texts, spot, fix, fingerprint = plain
    code, name, message, advice, source_line = map(_text, texts)
    start, end = map(_number, spot)
    if fix is not None:
        applicability, said, edits = fix
        fix = Fix(
            Applicability(applicability),
            _text(said),
            tuple(Edit(_number(first), _number(last), _text(text)) for first, last, text in edits),
        )
    return Finding(
        _text(path),
        _number(line),
        _number(column),
        _number(end_line),
        _number(end_column),
        code,
        name,
        message,
        advice,
        source_line,
        (start, end),
        fix,
        _text(fingerprint),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _number(value: object) -> int:
    if type(value) is not int:
        raise TypeError(value)
    return value


# -- the folder ---------------------------------------------------------------------------------


def _is_own(folder: str) -> bool:
    """Return whether a folder is the user's, and nobody else can put files into it."""
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and _belongs_to_user(status, 0o022)


def _is_private(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and _belongs_to_user(status, 0o077)


def _belongs_to_user(status: os.stat_result, forbidden: int) -> bool:
    if sys.platform == "win32":  # files there have no such owner; the folder is the user's own
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & forbidden
