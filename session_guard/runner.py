"""Many files: paths -> what is found in each, or what became of each."""

from __future__ import annotations

import gc
import os
import sys
import time
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from session_guard import registry, sources
from session_guard.config import ConfigError, Configuration
from session_guard.gate import ASYNC_SESSION_WORDS, ProjectNames
from session_guard.sources import Finder, Source
from session_guard.texts import Texts
from session_guard.witnesses import Witnesses

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from session_guard.baseline import Baseline
    from session_guard.cache import Cache, Entry
    from session_guard.config import Settings
    from session_guard.project.project import Project
    from session_guard.rule import Finding, Rule
    from session_guard.sources import Unreadable

STANDARD_INPUT = "-"
_FEW = 100
"""Files of a project that are read and searched faster than the cache is."""


class FileError(Exception):
    """Something that should never happen did, with the file `shown`; the cause says what."""

    def __init__(self, shown: str) -> None:
        super().__init__(shown)
        self.shown = shown

    def __str__(self) -> str:
        from session_guard.linter import RuleError

        error, rule = self.__cause__, ""
        if isinstance(error, RuleError):
            rule = f" in {error.code}"
            error = error.__cause__
        # Its text may quote the file, and with it a password.
        return f"{self.shown}: internal error{rule}: {type(error).__name__}"


class Options(NamedTuple):
    """What the command line says of a run."""

    paths: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    force_exclude: bool = True
    stdin_filename: str | None = None
    cache_dir: str | None = None
    """Where what was found is kept for the next run; None where it is not."""


class Fixed(NamedTuple):
    """What became of one file: its bytes before and after, what was fixed and what was not."""

    shown: str
    before: bytes
    after: bytes
    applied: tuple[Finding, ...]
    remaining: tuple[Finding, ...]


class _Root:
    """One project of a run: its files, and the rules that are asked there."""

    def __init__(self, settings: Settings, rules: Sequence[Rule], paths: Sequence[str]) -> None:
        self.texts = Texts(paths)
        self.witnesses = Witnesses(self._paths, self.texts)
        self.exported_names: ProjectNames | None = None
        """Those of its files, where they are known from an earlier run."""
        self.passing: set[str] = set()
        """The files in which a rule might have found something."""
        self._settings = settings
        self._rules = tuple(rule for rule in rules if settings.is_selected(rule.code))

    @cached_property
    def project(self) -> Project:
        """What is known of its files together."""
        from session_guard.project.project import Project

        return Project(self._settings, self.texts, self.exported_names)

    @property
    def notices(self) -> list[str]:
        """What there is to say of it as a whole, once its files have been looked at."""
        return self.project.notices if "project" in vars(self) else []

    def forget(self) -> None:
        """Forget what was known of its files: some have been changed."""
        for name in ("project", "_asked", "_names"):
            vars(self).pop(name, None)

    def may_find_in(self, files: Sequence[Source]) -> bool:
        """Return whether any rule may find something in one of some files of it.

        What cannot be read is left to be reported.
        """
        if any(rule.project_words for rule in self._asked):
            return True
        for file in files:
            with suppress(OSError):
                if self.may_find(file, self.texts.read(file.path)):
                    return True
        return False

    def may_find(self, file: Source, data: bytes) -> bool:
        """Return whether any rule may find something in a file of it that holds `data`."""
        asked, names = self._asked, self._names
        if file.path not in self._paths:
            # It is none of the project's own files, and may be the only one to have a word.
            asked = self._rules
        return any(rule.gate(data, names) for rule in asked)

    @cached_property
    def _asked(self) -> tuple[Rule, ...]:
        """The rules that may find something in the project."""
        return tuple(
            rule for rule in self._rules if not rule.project_words or self._has(rule.project_words)
        )

    @cached_property
    def _names(self) -> ProjectNames:
        if self.exported_names is not None:
            return self.exported_names
        return self.project.exported_names if self._has(ASYNC_SESSION_WORDS) else ProjectNames()

    def _has(self, words: tuple[bytes, ...]) -> bool:
        """Return whether it may be about sessions: by one of `words`, or since it has a handler."""
        return bool(self._settings.handler) or self.texts.have_one(words)

    @cached_property
    def _paths(self) -> frozenset[str]:
        return frozenset(self.texts.paths)


class _Part:
    """The files that are checked of one project, and what is known of them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.files: list[Source] = []
        self.to_come = 0
        """How many of the files have not been checked yet."""
        self.is_begun = False
        self.baseline: Baseline | None = None
        self.fingerprints = False
        """Whether the findings need theirs."""
        self.entry: Entry | None = None
        self.known: Mapping[str, Sequence[Finding]] | None = None
        """What is found in each file, as far as the cache knows it."""
        self.is_changed = False
        """Whether more is known now than the cache knew."""


class Run:
    """One run over files; `checked` counts them."""

    def __init__(self, options: Options) -> None:
        """Read the rules and the command line's configuration.

        Raises ConfigError, and RuleLoadError where a rule package is broken.
        """
        self._options = options
        self._started = time.time_ns()
        self._rules = registry.load_rules()
        self._configuration = Configuration(options.overrides, registry.known_codes)
        self._finder = Finder(self._configuration.settings, force_exclude=options.force_exclude)
        self._roots: dict[Path, _Root] = {}
        self._baselines: dict[Path, Baseline | None] = {}
        self._cache: Cache | None = None
        self._notices: dict[str, None] = {}
        self._baseline_notices: list[str] = []
        self.checked = 0
        self.failures: list[FileError] = []
        """The files that a rule failed at; nothing is said of them, and nothing done to them."""

    @property
    def notices(self) -> list[str]:
        """What the projects have to say about the run as a whole, each thing once."""
        for root in self._roots.values():
            self._notices.update(dict.fromkeys(root.notices))
        return [*self._notices, *self._baseline_notices]

    @property
    def known(self) -> int:
        """How many findings were not reported, since they are in a baseline."""
        return sum(baseline.silenced for baseline in self._baselines.values() if baseline)

    def check(self, *, freeze: bool = False) -> Iterator[list[Finding]]:
        """Yield the findings of one file after the other that are not in its baseline.

        Where `freeze` is true, the baselines are written at the end, and all that is found is in
        them. Raises ConfigError, PathError and FileError.
        """
        files, given = self._files()
        parts: dict[Path, _Part] = {}
        part: _Part | None = None
        for file in files:
            if isinstance(file, Source):
                # Files of one project mostly follow one another.
                if part is None or file.settings is not part.settings:
                    part = parts.setdefault(file.settings.root, _Part(file.settings))
                part.files.append(file)
                part.to_come += 1
        part = None
        for file in files:
            if not isinstance(file, Source):
                yield [_unreadable(file.shown, file.reason)]
                continue
            self.checked += 1
            if part is None or file.settings is not part.settings:
                part = parts[file.settings.root]
            findings: Sequence[Finding] = ()
            if part.known is not None and part.baseline is None and file.path in part.known:
                findings = part.known[file.path]
            else:
                with self._naming(file.shown):
                    if not part.is_begun:
                        self._begin(part, given, freeze=freeze)
                    findings = self._look_up(file, given, part)
                    if part.baseline is not None:
                        findings = part.baseline.unknown(file.relative, findings)
            if findings:
                yield list(findings)
            part.to_come -= 1
            if not part.to_come:
                self._end(part)
                if self.checked < len(files):
                    # What is known of a project takes memory, and leads back to itself.
                    gc.collect()
        if self._cache is not None:
            self._cache.close()
        if freeze:
            folders = self._folders()
            for baseline in self._baselines.values():
                if baseline is not None:
                    self._baseline_notices.append(baseline.write(folders))
        elif given is None:
            self._note_stale_entries()

    def _begin(self, part: _Part, given: bytes | None, *, freeze: bool) -> None:
        """Get a project's baseline, and what is known of its files from the cache.

        There is no entry where looking for one is not worth it.
        """
        settings, part.is_begun = part.settings, True
        part.baseline = self._baseline(settings, freeze=freeze)
        part.fingerprints = part.baseline is not None and part.baseline.is_used
        root = self._root(settings)
        if self._options.cache_dir is None or given is not None:
            return
        with root.witnesses.listening():
            if len(root.texts.paths) <= _FEW and not root.may_find_in(part.files):
                return
        if self._cache is None:
            from session_guard.cache import Cache

            self._cache = Cache(self._options.cache_dir, self._rules, self._started)
        part.entry = self._cache.entry(
            settings, part.files, root.texts, root.witnesses, fingerprints=part.fingerprints
        )
        part.entry.load()
        part.known, part.is_changed = part.entry.findings, part.entry.is_outdated
        root.exported_names = part.entry.exported_names

    def _look_up(self, file: Source, given: bytes | None, part: _Part) -> Sequence[Finding]:
        """Return what is found in a file, from the cache if it is there."""
        if part.entry is None:
            return self._check(file, given, fingerprints=part.fingerprints)
        known = part.entry.findings.get(file.path)
        if known is None:
            part.is_changed = True
            with self._root(file.settings).witnesses.listening():
                known = self._check(file, given, fingerprints=part.fingerprints)
            part.entry.findings[file.path] = known
        return known

    def _end(self, part: _Part) -> None:
        """Note what there is to say of a project, and keep what was found in its files."""
        root = self._roots.pop(part.settings.root)
        notices = root.notices
        if part.entry is not None:
            notices = part.entry.notices = list(dict.fromkeys((*part.entry.notices, *notices)))
            # Where a rule failed there is a file of which nothing is known.
            if part.is_changed and len(part.entry.findings) == len(part.files):
                part.entry.store(vars(root).get("project"), root.passing)
        self._notices.update(dict.fromkeys(notices))

    def _check(self, file: Source, given: bytes | None, *, fingerprints: bool) -> list[Finding]:
        root = self._root(file.settings)
        try:
            data = root.texts.read(file.path) if given is None else given
        except OSError as error:
            return [_unreadable(file.shown, error.strerror or str(error))]
        if not root.may_find(file, data):
            return []
        root.passing.add(file.path)
        return check_file(file, data, root.project, self._rules, fingerprints=fingerprints)

    def fix(self, *, unsafe: bool, write: bool) -> Iterator[Fixed]:
        """Yield what became of one file after the other, written back where `write` is true.

        Raises ConfigError, PathError and FileError.
        """
        files, given = self._files()
        if given is not None and not files:
            shown = self._options.stdin_filename or "<stdin>"
            yield Fixed(shown, given, given, (), ())
        left: list[tuple[Source, Fixed]] = []
        changed = set[Path]()
        for file in files:
            if not isinstance(file, Source):
                yield Fixed(file.shown, b"", b"", (), (_unreadable(file.shown, file.reason),))
                continue
            self.checked += 1
            fixed = Fixed(file.shown, given or b"", given or b"", (), ())
            with self._naming(file.shown):
                fixed = self._fix(file, given, unsafe=unsafe, write=write)
            if fixed.after != fixed.before:
                changed.add(file.settings.root)
            if fixed.remaining and given is None:
                left.append((file, fixed))
            else:
                yield self._reported(file, fixed)
        # What a finding in one file waited for may have been fixed in another.
        while changed:
            left, changed = self._fix_left(left, changed, unsafe=unsafe, write=write)
        for file, fixed in left:
            yield self._reported(file, fixed)
        if write:
            self._note_stale_entries()

    def _fix_left(
        self, left: Sequence[tuple[Source, Fixed]], roots: set[Path], *, unsafe: bool, write: bool
    ) -> tuple[list[tuple[Source, Fixed]], set[Path]]:
        """Fix once more what is left in projects where files were changed.

        Returns what is left of all, and the projects where files were changed now.
        """
        for root in roots:
            self._notices.update(dict.fromkeys(self._roots[root].notices))
            self._roots[root].forget()
        result, changed = list[tuple[Source, Fixed]](), set[Path]()
        for file, fixed in left:
            again = None
            if file.settings.root in roots:
                with self._naming(file.shown):
                    again = self._fix(file, None, unsafe=unsafe, write=write)
            if again is not None and again.before == fixed.after:
                if again.after != again.before:
                    changed.add(file.settings.root)
                applied = (*fixed.applied, *again.applied)
                fixed = again._replace(before=fixed.before, applied=applied)
            result.append((file, fixed))
        return result, changed

    def _fix(self, file: Source, given: bytes | None, *, unsafe: bool, write: bool) -> Fixed:
        root, baseline = self._root(file.settings), self._baseline(file.settings)
        try:
            data = root.texts.read(file.path) if given is None else given
        except OSError as error:
            finding = _unreadable(file.shown, error.strerror or str(error))
            return Fixed(file.shown, b"", b"", (), (finding,))
        fixed = Fixed(file.shown, data, data, (), ())
        if root.may_find(file, data):
            fixed = fix_file(
                file,
                data,
                root.project,
                self._rules,
                unsafe=unsafe,
                fingerprints=baseline is not None and baseline.is_used,
            )
        if write:
            fixed = _written(Path(file.path), fixed)
        if fixed.after != fixed.before:
            root.texts.replace(file.path, fixed.after)
        return fixed

    def _reported(self, file: Source, fixed: Fixed) -> Fixed:
        """Return it without what its baseline has."""
        baseline = self._baseline(file.settings)
        if baseline is None:
            return fixed
        return fixed._replace(remaining=tuple(baseline.unknown(file.relative, fixed.remaining)))

    @contextmanager
    def _naming(self, shown: str) -> Iterator[None]:
        """Say of an unexpected error which file it came with; a rule's ends that file alone."""
        try:
            yield
        except ConfigError:
            raise
        except Exception as error:
            from session_guard.linter import RuleError

            failure = FileError(shown)
            failure.__cause__ = error
            if not isinstance(error, RuleError):
                raise failure from error
            self.failures.append(failure)

    def _files(self) -> tuple[list[Source | Unreadable], bytes | None]:
        """Return the files to check, and what standard input says if that is the only one."""
        if self._options.paths == (STANDARD_INPUT,):
            source = self._finder.place(self._options.stdin_filename or "<stdin>")
            return [source] if source else [], sys.stdin.buffer.read()
        return list(self._finder.find(self._options.paths)), None

    def _root(self, settings: Settings) -> _Root:
        found = self._roots.get(settings.root)
        if found is None:
            paths: Sequence[str] | None = self._finder.whole.get(str(settings.root))
            if paths is None:
                paths = tuple(map(str, sources.walk(settings.root, settings)))
            found = self._roots[settings.root] = _Root(settings, self._rules, paths)
        return found

    def _baseline(self, settings: Settings, *, freeze: bool = False) -> Baseline | None:
        """Return a project's baseline; None where it has none and none is to be written."""
        root = settings.root
        if root not in self._baselines:
            self._baselines[root] = None
            if freeze or os.path.lexists(root / settings.baseline):
                from session_guard.baseline import Baseline

                codes = {rule.code for rule in self._rules}
                self._baselines[root] = Baseline(settings, codes, freeze=freeze)
        return self._baselines[root]

    def _folders(self) -> list[str]:
        """Return the folders that were named: what is not found in them is not there."""
        return [os.path.realpath(path) for path in self._options.paths if os.path.isdir(path)]

    def _note_stale_entries(self) -> None:
        folders = self._folders()
        for baseline in self._baselines.values():
            notice = baseline.stale_notice(folders) if baseline is not None else None
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
    from session_guard.linter import lint

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


def _unreadable(shown: str, reason: str) -> Finding:
    from session_guard.linter import unreadable

    return unreadable(shown, reason)


def _written(path: Path, fixed: Fixed) -> Fixed:
    """Write the file, or turn what was to be fixed into what was not, with the reason."""
    if fixed.after == fixed.before:
        return fixed
    from session_guard.writing import WriteError, write_atomically

    try:
        write_atomically(path, fixed.after, fixed.before)
    except WriteError as error:
        left = [finding._replace(help=f"not fixed: the file {error}") for finding in fixed.applied]
        remaining = sorted(
            (*left, *fixed.remaining), key=lambda finding: (finding.line, finding.column)
        )
        return Fixed(fixed.shown, fixed.before, fixed.before, (), tuple(remaining))
    return fixed
