"""The baseline: the findings of a project that are known, and not reported while they are there."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from session_guard.config import ConfigError
from session_guard.writing import WriteError, write_atomically

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from session_guard.config import Settings
    from session_guard.rule import Finding

_HEADER = """\
# Findings that session-guard knows and does not report: path, code, statement, and which of equal
# ones in the file. Written by `session-guard check --write-baseline`; to merge, keep both sides.
"""
_ENTRY = re.compile(
    rb"(?P<path>.+) (?P<code>\S+) (?P<statement>[0-9a-f]{16}) (?P<ordinal>[1-9]\d{0,8})"
)
_ESCAPE = re.compile(rb"%([0-9A-F]{2})")
_MOST_NAMED = 5


class _Entry(NamedTuple):
    path: str
    """From the project's root, with `/` between its parts."""
    code: str
    statement: str
    ordinal: int

    def __str__(self) -> str:
        return f"{_escaped(self.path)} {self.code} {self.statement} {self.ordinal}"


class Baseline:
    """The known findings of one project, and what a run found of them.

    `silenced` counts those that were found.
    """

    def __init__(self, settings: Settings, codes: Collection[str], *, freeze: bool = False) -> None:
        """Read the project's file, if it is there; `codes` are those of all rules.

        Where `freeze` is true, all that is found counts as known. Raises ConfigError.
        """
        self._settings = settings
        self._codes = codes
        self._freeze = freeze
        self._path = settings.root / settings.baseline
        self._data = _read(self._path)
        self._entries = dict(_parsed(self._data, self._path))
        self._found: dict[str, set[_Entry]] = {}
        self.silenced = 0

    @property
    def is_used(self) -> bool:
        """Whether findings need fingerprints."""
        return self._freeze or bool(self._entries)

    def unknown(self, path: str, findings: Sequence[Finding]) -> list[Finding]:
        """Return those of all `findings` in the file `path` that are to be reported."""
        if not all(finding.fingerprint for finding in findings):
            # A file that cannot be parsed tells nothing of what is known in it.
            return list(findings)
        unknown: list[Finding] = []
        found = self._found[path] = set()
        equal: Counter[tuple[str, str]] = Counter()
        for finding in findings:
            kind = finding.code, finding.fingerprint
            equal[kind] += 1
            entry = _Entry(path, *kind, equal[kind])
            found.add(entry)
            if self._freeze or entry in self._entries:
                self.silenced += 1
            else:
                unknown.append(finding)
        return unknown

    def stale_notice(self, folders: Sequence[str]) -> str | None:
        """Return what to say of entries that match nothing any more, or None without any."""
        stale = list(self._stale(folders))
        if not stale:
            return None
        lines = ", ".join(str(self._entries[entry]) for entry in stale[:_MOST_NAMED])
        more = ", …" if len(stale) > _MOST_NAMED else ""
        count = f"{len(stale)} entries match" if len(stale) > 1 else "1 entry matches"
        return (
            f"{_shown(self._path)}: {count} nothing any more (line {lines}{more}); delete "
            f"{'them' if len(stale) > 1 else 'it'}, or freeze what is found today with "
            "`session-guard check --write-baseline`"
        )

    def write(self, folders: Sequence[str]) -> str:
        """Write what was found in place of what was known of the same files; return what was done.

        Entries of files that were not checked stay, unless such a file is missing from one of
        `folders`, which were checked whole. Raises ConfigError.
        """
        found = set[_Entry]().union(*self._found.values())
        entries = (self._entries.keys() - set(self._stale(folders))) | found
        text = _HEADER + "".join(f"{line}\n" for line in sorted(map(str, entries)))
        data = text.encode()
        try:
            if self._data is None and entries:
                # An empty file is a baseline too, should nothing more come of it.
                self._path.open("xb").close()
            if (self._data is not None or entries) and data != self._data:
                write_atomically(self._path, data, self._data or b"")
        except WriteError as error:
            raise ConfigError(f"{self._path}: the file {error}") from error
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be written: {error.strerror}") from error
        new, gone = len(entries - self._entries.keys()), len(self._entries.keys() - entries)
        known = f"{len(entries)} known finding{'' if len(entries) == 1 else 's'}"
        return f"{_shown(self._path)}: {known} ({new} new, {gone} dropped)"

    def _stale(self, folders: Sequence[str]) -> Iterator[_Entry]:
        for entry in self._entries:
            if entry.path in self._found:
                if entry not in self._found[entry.path] and self._was_looked_for(entry):
                    yield entry
            elif self._is_missing(entry.path, folders):
                yield entry

    def _was_looked_for(self, entry: _Entry) -> bool:
        settings = self._settings
        return (
            entry.code in self._codes
            and settings.is_selected(entry.code)
            and not settings.is_ignored(entry.code, entry.path)
        )

    def _is_missing(self, path: str, folders: Sequence[str]) -> bool:
        full = os.path.join(self._settings.root, path)
        if not any(full.startswith(os.path.join(folder, "")) for folder in folders):
            return False
        try:
            os.lstat(full)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _parsed(data: bytes | None, path: Path) -> Iterator[tuple[_Entry, int]]:
    """Yield each entry with its line."""
    for number, line in enumerate((data or b"").split(b"\n"), start=1):
        line = line.rstrip(b"\r")
        if not line.strip() or line.startswith(b"#"):
            continue
        match = _ENTRY.fullmatch(line)
        if match is None:
            raise ConfigError(
                f"{path}:{number}: no entry of a baseline, which has a path, a code, a statement's "
                "hash and a number; mend or delete the line"
            )
        named = _ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), match["path"])
        code, statement = match["code"].decode(errors="replace"), match["statement"].decode()
        yield _Entry(os.fsdecode(named), code, statement, int(match["ordinal"])), number


def _escaped(path: str) -> str:
    """Escape what would end a line, begin a comment or not be text."""
    return "".join(
        character
        if character.isprintable() and character not in "%#"
        else "".join(f"%{byte:02X}" for byte in os.fsencode(character))
        for character in path
    )


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
