"""The page that is written: docs/performance.md."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from bench import peers
from bench.cases import HEAVY, SHORT
from bench.comparing import megabytes, spread, table
from bench.goals import growth_verdict, verdicts
from bench.peers import PEERS
from bench.processes import PATIENCE
from bench.projects import size_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from bench.cases import Bench, Growth
    from bench.goals import Case
    from bench.processes import Runs

_TEXT = """\
# What `check` and `fix` cost

Written by `python -m bench.check`; do not edit. Runs of each command: {rounds}, or {often}
where few files are checked, after one to warm up in which its memory is looked at; all that is
compared takes turns. A figure is the median, with the bounds of the middle half; a ratio is that of
a run to the other's in the same round.
Memory is that of all processes together at its peak; what they share counts once. Files are in the
system's page cache; "no cache" means the linter's own. What takes more than {patience} s is
stopped. Ratios hold elsewhere, seconds do not.

- Machine: {cores} cores, {memory} GB of memory, {system}. The load average was
  {load_before:.1f} before the first case and {load_after:.1f} after the last; on a quiet machine,
  about 0 and 1 to 2.
- Versions: session-guard {version} on Python {python}; {versions}.
- Corpus: {packages} packages from PyPI with {corpus.files:,} files that are no tests,
  {corpus.lines:,} lines.
- Application: {application} side by side as one project, {laid.files:,} files,
  {laid.lines:,} lines.
- All rules of session-guard are on; a peer has one, the nearest to SG101:
  [below](#the-peers-rules).
- Other projects are made up: functions of ten lines, files of 200 unless it is one file.
{notes}
## Goals

{goals}

{heavy}

## Figures

{figures}

## What the peers find

Held against the labels in `tests/field/labels.csv`, for SG101 alone. Right is a line in which a
session is constructed outside the handler, wrong any other, missed a labelled one that is not
reported; tests and migrations are left out for all. The labels were made by reading, but
session-guard was developed on these projects, and the peers were not. ruff and flake8 ban an
import, and report it where the name is imported.

{findings}

## The peers' rules

{rules}
"""


def render(
    bench: Bench,
    folders: Sequence[Path],
    application: Mapping[str, Path],
    load_before: float,
    grown: Sequence[Growth],
    imported: Sequence[str],
    findings: Sequence[Sequence[str]],
    notes: Sequence[str],
) -> str:
    """Return the page.

    `folders` are those of the corpus, `application` where the application lies, by what it is made
    of, `imported` the modules of a clean run, and `notes` what was left out.
    """
    goals = [row for case, found in bench.measured for row in verdicts(case, found)]
    goals += [growth_verdict(*growth) for growth in grown]
    figures = [row for case, found in bench.measured for row in _timings(case, found)]
    requirements = peers.read_requirements()
    versions = [" ".join(requirements[peer.package]) for peer in bench.peers()]
    missing = [
        f"{name} is not compared, since it cannot be installed: {why}"
        for name, why in bench.reasons.items()
    ]
    [(made_of, laid)] = application.items()
    rules = (f"{peer.name}:\n\n```\n{peer.rule.read_text().strip()}\n```" for peer in PEERS)
    return _TEXT.format(
        rounds=bench.rounds,
        patience=PATIENCE,
        often=SHORT * bench.rounds,
        cores=len(os.sched_getaffinity(0)),
        memory=max(1, round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)),
        system=platform.system(),
        load_before=load_before,
        load_after=os.getloadavg()[0],
        version=bench.version,
        python=platform.python_version(),
        versions=", ".join(versions) or "no peers",
        packages=len(folders),
        corpus=size_of(folders),
        application=made_of,
        laid=size_of([laid]),
        notes="".join(f"- {note}\n" for note in (*missing, *notes)),
        goals=table([["case", "goal", "measured", ""], *goals]),
        heavy=_imports(imported),
        figures=table([["case", "program", "wall", "processor time", "memory"], *figures]),
        findings=table([["in", "program", "right", "wrong", "missed"], *findings]),
        rules="\n\n".join(rules),
    )


def _timings(case: Case, found: Mapping[str, Runs]) -> Iterator[list[str]]:
    for name, runs in found.items():
        if runs.failure:
            yield [case.title, name, runs.failure, "–", "–"]
            continue
        wall = spread(runs.seconds, "{:.3g} s")
        processor = spread([run.processor_seconds for run in runs.runs], "{:.3g} s")
        yield [case.title, name, wall, processor, megabytes(runs.memory)]


def _imports(modules: Sequence[str]) -> str:
    heavy = sorted(HEAVY.intersection(modules))
    verdict = f"**not met**: {', '.join(heavy)}" if heavy else "met"
    names = ", ".join(sorted(HEAVY))
    return (
        f"`check` of a clean file imports {len(modules)} modules, and none of {names}: {verdict}."
    )
