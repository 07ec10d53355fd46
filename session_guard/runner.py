"""Many files: paths -> what is found in each, or what became of each."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from session_guard import registry
from session_guard.baseline import Baseline
from session_guard.config import ConfigError, Configuration
from session_guard.linter import RuleError, lint, unreadable
from session_guard.project.project import Project
from session_guard.sources import Finder, Unreadable
from session_guard.writing import WriteError, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from session_guard.rule import Finding, Rule
    from session_guard.sources import Source

STANDARD_INPUT = "-"


class FileError(Exception):
    """Something that should never happen did, with the file `shown`; the cause says what."""

    def __init__(self, shown: str) -> None:
        super().__init__(shown)
        self.shown = shown

    def __str__(self) -> str:
        error, rule = self.__cause__, ""
        if isinstance(error, RuleError):
            rule = f" in {error.code}"
            error = error.__cause__
        # Its text may quote the file, and with it a password.
        return f"{self.shown}: internal error{rule}: {type(error).__name__}"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says of a run."""

    paths: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    force_exclude: bool = True
    stdin_filename: str | None = None


@dataclass(frozen=True, slots=True)
class Fixed:
    """What became of one file: its bytes before and after, what was fixed and what was not."""

    shown: str
    before: bytes
    after: bytes
    applied: tuple[Finding, ...]
    remaining: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Input:
    """A file as it was read: with its `source` where it is to be checked, or why it cannot be."""

    shown: str
    data: bytes = b""
    source: Source | None = None
    refusal: str | None = None


class Run:
    """One run over files; `checked` counts them."""

    def __init__(self, options: Options) -> None:
        """Read the rules and the command line's configuration.

        Raises ConfigError, and RuleLoadError where a rule package is broken.
        """
        self._options = options
        self._rules = registry.load_rules()
        self._configuration = Configuration(options.overrides, registry.known_codes)
        self._projects: dict[Path, Project] = {}
        self._baselines: dict[Path, Baseline] = {}
        self._baseline_notices: list[str] = []
        self.checked = 0
        self.failures: list[FileError] = []
        """The files that a rule failed at; nothing is said of them, and nothing done to them."""

    @property
    def notices(self) -> list[str]:
        """What the projects have to say about the run as a whole, each thing once."""
        notices = (notice for project in self._projects.values() for notice in project.notices)
        return [*dict.fromkeys(notices), *self._baseline_notices]

    @property
    def known(self) -> int:
        """How many findings were not reported, since they are in a baseline."""
        return sum(baseline.silenced for baseline in self._baselines.values())

    def check(self, *, freeze: bool = False) -> Iterator[list[Finding]]:
        """Yield the findings of one file after the other that are not in its baseline.

        Where `freeze` is true, the baselines are written at the end, and all that is found is in
        them. Raises ConfigError, PathError and FileError.
        """
        for file in self._inputs():
            if file.refusal is not None:
                yield [unreadable(file.shown, file.refusal)]
            elif file.source is not None:
                findings: list[Finding] = []
                with self._naming(file.shown):
                    project = self._project(file.source)
                    baseline = self._baseline(file.source, freeze=freeze)
                    findings = check_file(
                        file.source,
                        file.data,
                        project,
                        self._rules,
                        fingerprints=baseline.is_used,
                    )
                    findings = baseline.unknown(file.source.relative, findings)
                yield findings
        if freeze:
            folders = self._folders()
            for baseline in self._baselines.values():
                self._baseline_notices.append(baseline.write(folders))
        elif self._options.paths != (STANDARD_INPUT,):
            self._note_stale_entries()

    def fix(self, *, unsafe: bool, write: bool) -> Iterator[Fixed]:
        """Yield what became of one file after the other, written back where `write` is true.

        Raises ConfigError, PathError and FileError.
        """
        for file in self._inputs():
            if file.refusal is not None:
                yield Fixed(file.shown, b"", b"", (), (unreadable(file.shown, file.refusal),))
            elif file.source is None:
                yield Fixed(file.shown, file.data, file.data, (), ())
            else:
                fixed = Fixed(file.shown, file.data, file.data, (), ())
                with self._naming(file.shown):
                    project = self._project(file.source)
                    baseline = self._baseline(file.source)
                    fixed = fix_file(
                        file.source,
                        file.data,
                        project,
                        self._rules,
                        unsafe=unsafe,
                        fingerprints=baseline.is_used,
                    )
                    if write:
                        fixed = _written(Path(file.source.path), fixed)
                    remaining = baseline.unknown(file.source.relative, fixed.remaining)
                    fixed = replace(fixed, remaining=tuple(remaining))
                yield fixed
        if write:
            self._note_stale_entries()

    @contextmanager
    def _naming(self, shown: str) -> Iterator[None]:
        """Say of an unexpected error which file it came with; a rule's ends that file alone."""
        try:
            yield
        except ConfigError:
            raise
        except Exception as error:
            failure = FileError(shown)
            failure.__cause__ = error
            if not isinstance(error, RuleError):
                raise failure from error
            self.failures.append(failure)

    def _inputs(self) -> Iterator[_Input]:
        finder = Finder(self._configuration.settings, force_exclude=self._options.force_exclude)
        if self._options.paths == (STANDARD_INPUT,):
            name = self._options.stdin_filename or "<stdin>"
            source = finder.place(name)
            self.checked += source is not None
            yield _Input(source.shown if source else name, sys.stdin.buffer.read(), source)
            return
        for found in finder.find(self._options.paths):
            if isinstance(found, Unreadable):
                yield _Input(found.shown, refusal=found.reason)
                continue
            self.checked += 1
            try:
                data = Path(found.path).read_bytes()
            except OSError as error:
                yield _Input(found.shown, refusal=error.strerror or str(error))
            else:
                yield _Input(found.shown, data, found)

    def _project(self, source: Source) -> Project:
        root = source.settings.root
        if root not in self._projects:
            self._projects[root] = Project(source.settings)
        return self._projects[root]

    def _baseline(self, source: Source, *, freeze: bool = False) -> Baseline:
        root = source.settings.root
        if root not in self._baselines:
            codes = {rule.code for rule in self._rules}
            self._baselines[root] = Baseline(source.settings, codes, freeze=freeze)
        return self._baselines[root]

    def _folders(self) -> list[str]:
        """Return the folders that were named: what is not found in them is not there."""
        return [os.path.realpath(path) for path in self._options.paths if os.path.isdir(path)]

    def _note_stale_entries(self) -> None:
        folders = self._folders()
        for baseline in self._baselines.values():
            notice = baseline.stale_notice(folders)
            if notice is not None:
                self._baseline_notices.append(notice)


def check_file(
    source: Source,
    data: bytes,
    project: Project,
    rules: Sequence[Rule],
    *,
    fingerprints: bool = False,
) -> list[Finding]:
    """Return what `rules` find in a file that holds `data`."""
    passing = _passing(source, data, project, rules)
    if not passing:
        return []
    path = Path(source.path)
    return lint(source.shown, path, data, project, passing, fingerprints=fingerprints)


def fix_file(
    source: Source,
    data: bytes,
    project: Project,
    rules: Sequence[Rule],
    *,
    unsafe: bool,
    fingerprints: bool = False,
) -> Fixed:
    """Return what `rules` make of a file that holds `data`; nothing is written."""
    passing = _passing(source, data, project, rules)
    if not passing:
        return Fixed(source.shown, data, data, (), ())
    from session_guard.fixer import fix

    while True:
        result = fix(
            source.shown,
            Path(source.path),
            data,
            project,
            passing,
            unsafe=unsafe,
            fingerprints=fingerprints,
        )
        # What was written may be what other rules look at.
        more = {*passing, *_passing(source, result.data, project, rules)}
        if len(more) == len(passing):
            break
        passing = tuple(rule for rule in rules if rule in more)
    return Fixed(source.shown, data, result.data, tuple(result.applied), tuple(result.remaining))


def _passing(
    source: Source, data: bytes, project: Project, rules: Sequence[Rule]
) -> tuple[Rule, ...]:
    """Return the rules that may find something; dear questions are asked last."""
    settings = source.settings
    selected = [rule for rule in rules if settings.is_selected(rule.code)]
    passing = [rule for rule in selected if rule.gate(data, project.exported_names)]
    if any(rule.judges_suppressions for rule in passing):
        # What a suppression was of use for is known of the rules that were asked.
        passing = selected
    if project.handler is None:
        passing = [rule for rule in passing if not rule.needs_handler]
    if project.is_handler(Path(source.path)):
        passing = [rule for rule in passing if rule.in_handler]
    return tuple(rule for rule in passing if not settings.is_ignored(rule.code, source.relative))


def _written(path: Path, fixed: Fixed) -> Fixed:
    """Write the file, or turn what was to be fixed into what was not, with the reason."""
    if fixed.after == fixed.before:
        return fixed
    try:
        write_atomically(path, fixed.after, fixed.before)
    except WriteError as error:
        left = [replace(finding, help=f"not fixed: the file {error}") for finding in fixed.applied]
        remaining = sorted(
            (*left, *fixed.remaining), key=lambda finding: (finding.line, finding.column)
        )
        return Fixed(fixed.shown, fixed.before, fixed.before, (), tuple(remaining))
    return fixed
