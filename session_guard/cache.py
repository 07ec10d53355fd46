"""What earlier runs found, kept on disk: an entry for each project, used again while all it was
drawn from is as it was.

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
from typing import TYPE_CHECKING, Any

from session_guard import registry
from session_guard.rule import Applicability, Edit, Finding, Fix
from session_guard.texts import read
from session_guard.witnesses import FILE, FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from session_guard.config import Settings
    from session_guard.rule import Rule
    from session_guard.sources import Source
    from session_guard.texts import Texts
    from session_guard.witnesses import Witnesses

_FORMAT = 1
_MOST_ENTRIES = 1_000
_MOST_BYTES = 64_000_000
_TICK = 20_000_000
"""Nanoseconds: how far the clock that files are stamped with may be behind."""
_TOO_FRESH = 2_000_000_000
"""Nanoseconds: the coarsest clock of a file system in use ticks every two seconds."""

_IS_WINDOWS = sys.platform == "win32"

_STORED = re.compile(r"[0-9a-f]{32}(\.\d+\.tmp)?\.json")
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
        self._environment = _environment(rules)
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
        return Entry(self, key.hexdigest(), str(settings.root), paths, witnesses)

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
        temporary = self._path(f"{name}.{os.getpid()}.tmp")
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

    def digest(self, paths: Sequence[str]) -> tuple[str, list[str]]:
        """Return a hash of which files there are and how they are, and those that are fresh.

        Of a fresh one the times do not tell for sure that its text is the same: it changed lately.
        """
        lines, fresh = [], []
        since = self._started - _TOO_FRESH
        for path in paths:
            try:
                status = os.stat(path)
            except OSError:
                lines.append("-")
                continue
            lines.append(identity_of(status))
            # Windows keeps no time of the last change that is not set back with the other one.
            if status.st_ctime_ns > since or status.st_mtime_ns > since or _IS_WINDOWS:
                fresh.append(path)
        state = blake2b(self._environment, digest_size=16)
        state.update("\0".join((*paths, *lines)).encode(errors="surrogateescape"))
        return state.hexdigest(), fresh

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, f"{name}.json")

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


class Entry:
    """What was found in some files of one project."""

    def __init__(
        self, cache: Cache, name: str, root: str, paths: Sequence[str], witnesses: Witnesses
    ) -> None:
        self._cache = cache
        self._name = name
        self._root = root
        self._paths = paths
        self._state, self._fresh = cache.digest(paths)
        self._witnesses = witnesses
        self.findings: dict[str, list[Finding]] = {}
        self.notices: list[str] = []

    def load(self) -> bool:
        """Take over what is stored, if it is still right."""
        stored = self._cache.load(self._name)
        try:
            if stored["format"] != _FORMAT or stored["state"] != self._state:
                return False
            if any(_witnessed(kind, path) != said for kind, path, said in stored["witnesses"]):
                return False
            if any(_hash(path) != said for path, said in stored["fresh"]):
                return False
            findings = {
                _text(path): [_finding(item) for item in items]
                for path, items in stored["findings"].items()
            }
            notices = [_text(notice) for notice in stored["notices"]]
        except (TypeError, ValueError, KeyError, AttributeError):
            return False  # it is none of ours, or of another version
        except OSError:
            return False  # a file went away just now
        self.findings, self.notices = findings, notices
        still = set(self._fresh)
        if any(path not in still for path, _ in stored["fresh"]):
            # From now on their times tell it, and nobody need read them again.
            stored["fresh"] = [pair for pair in stored["fresh"] if pair[0] in still]
            self._cache.store(self._name, stored)
        return True

    def store(self, texts: Texts) -> None:
        """Keep what was found, unless a file was changed meanwhile."""
        if self._cache.digest(self._paths)[0] != self._state:
            return
        known = frozenset(self._paths)
        witnesses = []
        for (kind, path), was_there in sorted(self._witnesses.seen.items()):
            if path in known or not _may_change(path, self._root):
                continue
            if self._cache.may_have_changed(path) or os.path.lexists(path) != was_there:
                return
            witnesses.append([kind, path, _witnessed(kind, path)])
        try:
            fresh = [[path, _hash_of(texts.read(path))] for path in self._fresh]
        except OSError:
            return  # one cannot be read, so that nothing tells whether it is the same
        content = {
            "format": _FORMAT,
            "state": self._state,
            "witnesses": witnesses,
            "fresh": fresh,
            "findings": {
                path: [_plain(finding) for finding in found]
                for path, found in self.findings.items()
                if found
            },
            "notices": self.notices,
        }
        self._cache.store(self._name, content)


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
