"""The cases: what runs on what, against which goals."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench import peers
from bench.goals import Case, MemoryGoal, plus, times
from bench.peers import PEERS, Peer, Place
from bench.processes import Command, FailedError, Runs, in_turn, run
from bench.projects import lay_file, lay_project, read_corpus
from session_guard.config import Settings
from tests.field.measure import VIOLATION, read_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

OURS = "session-guard"
RULE = "SG101"
"""What the peers' rules come nearest to."""
HEAVY = frozenset({"libcst", "sqlalchemy", "asyncio", "multiprocessing"})
SHORT = 4
"""How many times as often the cases with few files run."""
LONG_FILE = 50_000
VIOLATIONS = 200
NO_TESTS = f"exclude = {json.dumps(peers.TESTS)}"


@dataclass
class Bench:
    """Where everything is, and which programs there are."""

    into: Path
    python: Path
    """The one that session-guard is installed for."""
    programs: Mapping[str, Path]
    reasons: Mapping[str, str]
    """Why peers are missing."""
    rounds: int
    most_lines: int
    measured: list[tuple[Case, dict[str, Runs]]] = field(default_factory=list)

    @property
    def projects(self) -> Path:
        """Where the packages are unpacked."""
        return self.into / "projects"

    def command(
        self, folder: Path, *arguments: str, prepare: Callable[[], None] | None = None
    ) -> Command:
        """Return a command in a home of its own, where whatever it leaves does no harm."""
        home = self.into / "home"
        home.mkdir(parents=True, exist_ok=True)
        environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
        return Command(arguments, folder, environment, prepare)

    def ours(
        self, folder: Path, *arguments: str, prepare: Callable[[], None] | None = None
    ) -> Command:
        """Return a command of session-guard."""
        program = str(self.python.with_name(OURS))
        return self.command(folder, program, *arguments, prepare=prepare)

    def imports(self, modules: str) -> Command:
        """Return a command that only imports modules."""
        return self.command(self.into, str(self.python), "-c", f"import {modules}")

    def peer(
        self, peer: Peer, folder: Path, *more: str, prepare: Callable[[], None] | None = None
    ) -> Command:
        """Return a command of an installed peer."""
        program = str(self.programs[peer.name])
        command = self.command(folder, program, *peer.options, *more, prepare=prepare)
        # Fixit imports its rule.
        return replace(command, environment={**command.environment, "PYTHONPATH": str(peers.RULES)})

    def peers(self, *names: str) -> list[Peer]:
        """Return the peers that are installed, or those of the named that are."""
        there = [peer for peer in PEERS if peer.name in self.programs]
        return [peer for peer in there if peer.name in names] if names else there

    @property
    def version(self) -> str:
        """The version of session-guard that is measured."""
        code = "from importlib.metadata import version; print(version('session-guard'))"
        return run(self.command(self.into, str(self.python), "-c", code)).output.strip()

    def measure(self, case: Case) -> dict[str, Runs]:
        """Run a case, and keep what came out for the page."""
        print(case.title, file=sys.stderr, flush=True)
        for command in case.before:
            with suppress(FailedError):  # it will again where that counts
                run(command)
        found = in_turn(case.commands, self.rounds if case.rounds is None else case.rounds)
        self.measured.append((case, found))
        return found


def corpus(bench: Bench, folders: list[str], shown: str) -> None:
    """Measure the corpus: without a cache, unchanged, and with one file changed.

    `shown` is how the page calls it, whole or in part.
    """
    check = ("check", "--config", NO_TESTS)
    cold = {OURS: bench.ours(bench.projects, *check, "--no-cache", *folders)}
    for peer in bench.peers("ruff", "ast-grep"):
        cold[peer.name] = bench.peer(peer, bench.projects, *peer.without_cache, *folders)
    bench.measure(
        Case(
            f"{shown}, no cache",
            cold,
            [times("ruff", 1.5), times("ast-grep", 0.25)],
            [MemoryGoal("memory ≤ 200 MB", 200e6)],
        )
    )
    caches = bench.into / "caches"
    shutil.rmtree(caches, ignore_errors=True)
    # In the project with most sessions, which a cache is most likely to have to look at anew.
    changed = max(([*_with_sessions(bench.projects / folder)] for folder in folders), key=len)[0]
    text = changed.read_bytes()

    def change() -> None:
        with changed.open("ab") as file:
            file.write(b"# changed\n")

    def warm(prepare: Callable[[], None] | None) -> dict[str, Command]:
        ours = (*check, "--cache-dir", str(caches / OURS), *folders)
        commands = {OURS: bench.ours(bench.projects, *ours, prepare=prepare)}
        for ruff in bench.peers("ruff"):
            more = ("--cache-dir", str(caches / "ruff"), *folders)
            commands["ruff"] = bench.peer(ruff, bench.projects, *more, prepare=prepare)
        return commands

    unchanged = warm(None)
    before = list(unchanged.values())
    bench.measure(Case(f"{shown}, unchanged", unchanged, [times("ruff", 0.6)], before=before))
    try:
        goals = [times("ruff", 0.7)]
        bench.measure(Case(f"{shown}, one file changed", warm(change), goals, before=before))
    finally:
        changed.write_bytes(text)


def _with_sessions(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.py")):
        if b"AsyncSession" in path.read_bytes():
            yield path


def application(bench: Bench, folder: Path) -> None:
    """Measure one large application."""
    commands = {OURS: bench.ours(folder, "check", "--no-cache", "--config", NO_TESTS, ".")}
    for ruff in bench.peers("ruff"):
        commands["ruff"] = bench.peer(ruff, folder, *ruff.without_cache, ".")
    bench.measure(Case("one application, no cache", commands, [times("ruff", 3)]))


def few_files(bench: Bench) -> list[str]:
    """Measure few files; return the modules that `check` of a clean file imports."""
    folder = bench.into / "made" / "few-files"
    lay_project(folder, 4_000, violations=1)
    clean = "app/part_0/module_0.py"
    commands = {
        OURS: bench.ours(folder, "check", "--no-cache", clean),
        "import click": bench.imports("click"),
    }
    for ruff in bench.peers("ruff"):
        commands["ruff"] = bench.peer(ruff, folder, *ruff.without_cache, clean)
    # Milliseconds are disturbed most, and cost least to measure again.
    often = SHORT * bench.rounds
    goal = plus("import click", 15)
    bench.measure(Case("one clean file, no cache", commands, [goal], rounds=often))
    commands = {
        OURS: bench.ours(folder, "check", "--no-cache", "."),
        "import click, libcst": bench.imports("click, libcst"),
    }
    _expect(bench, folder, 1)
    goal = plus("import click, libcst", 40)
    bench.measure(Case("20 files, one violation, no cache", commands, [goal], rounds=often))
    program = (
        "import atexit, sys; from session_guard.cli import main; "
        f"sys.argv[1:] = {['check', '--no-cache', clean]!r}; "
        "atexit.register(lambda: print(*sys.modules)); main()"
    )
    output = run(bench.command(folder, str(bench.python), "-c", program)).output
    return output.splitlines()[-1].split()


def fixes(bench: Bench) -> None:
    """Measure `fix` of a project against `check` of it."""
    violations = min(VIOLATIONS, bench.most_lines // 50)
    folder, work = bench.into / "made" / "to-fix", bench.into / "made" / "fixed"
    lay_project(folder, 20 * violations, violations=violations)
    _expect(bench, folder, violations)

    def anew() -> None:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(folder, work)

    commands = {
        "fix": bench.ours(work, "fix", ".", prepare=anew),
        "check": bench.ours(work, "check", "--no-cache", ".", prepare=anew),
    }
    memory = [MemoryGoal("memory ≤ 3 × check", 3, "check")]
    title = f"`fix` of {violations} violations"
    bench.measure(Case(title, commands, [times("check", 2)], memory))
    run(commands["fix"])
    left = json.loads(
        run(bench.ours(work, "check", "--no-cache", "--output-format", "json", ".")).output
    )
    if left:
        raise RuntimeError(f"{len(left)} violations of the made-up project are left by `fix`")


class Growth(NamedTuple):
    """The sizes of one kind of project, and the median wall time of each, in seconds."""

    title: str
    lines: list[int]
    seconds: list[float]
    failure: str
    """What did not come to its end; then there are no times."""


def growth(bench: Bench) -> list[Growth]:
    """Measure projects and files that differ in size alone."""
    made = bench.into / "made"
    projects = {10**power: made / f"lines-{power}" for power in range(3, 8)}
    projects = {lines: path for lines, path in projects.items() if lines <= bench.most_lines}
    for lines, folder in projects.items():
        lay_project(folder, lines, violations=lines // 1_000)
    long = min(LONG_FILE, bench.most_lines)
    files = {long // share: made / f"one-file-{share}" for share in (100, 10, 1)}
    full = {long // share: made / f"violations-{share}" for share in (100, 10, 1)}
    for lines, folder in files.items():
        lay_file(folder, lines, 1)
    for lines, folder in full.items():
        lay_file(folder, lines, lines // 10)
    # A shorter file says nothing of this goal.
    most = [MemoryGoal("memory < 400 MB", 400e6)] if long == LONG_FILE else []
    grown = []
    for title, folders, memory in (
        ("a project of many files, a violation in 1,000 lines", projects, []),
        ("one file, one violation", files, []),
        ("one file, a violation in 10 lines", full, most),
    ):
        commands = {
            f"{lines:,} lines": bench.ours(folders[lines], "check", "--no-cache", ".")
            for lines in sorted(folders, reverse=True)
        }
        found = bench.measure(Case(title, commands, memory=memory))
        failures = [f"{name}: {runs.failure}" for name, runs in found.items() if runs.failure]
        medians = [] if failures else [runs.median for runs in reversed(found.values())]
        grown.append(Growth(title, sorted(folders), medians, "; ".join(failures)))
    return grown


def _expect(bench: Bench, folder: Path, violations: int) -> None:
    """Raise RuntimeError unless `check` finds so many."""
    output = run(bench.ours(folder, "check", "--no-cache", "--output-format", "json", ".")).output
    if (found := len(json.loads(output))) != violations:
        raise RuntimeError(f"{found} violations are found in {folder}, which has {violations}")


def findings(bench: Bench, names: Sequence[str], which: Sequence[Peer]) -> list[list[str]]:
    """Return rows: what each finds of the labelled violations of one rule, and what beside them."""
    if not names:
        return []
    corpus, labels = read_corpus(), read_labels()
    folders = [corpus[name] for name in names]
    truth = {
        (f"{corpus[name]}/{path}", line)
        for name in names
        for (path, line, code), verdict in labels.get(name, {}).items()
        if code == RULE and verdict == VIOLATION
    }
    commands = {
        OURS: bench.ours(bench.projects, "check", "--no-cache", "--output-format", "json", *folders)
    }
    for peer in which:
        more = (*peer.without_cache, *peer.output_format, *folders)
        commands[peer.name] = bench.peer(peer, bench.projects, *more)
    counted = f"{len(names)} projects" if len(names) > 1 else names[0]
    title = f"{counted} with labels, once"
    goals = [times("semgrep", 0.1)] if "semgrep" in commands else []
    done = bench.measure(Case(title, commands, goals, rounds=0))
    parsed: dict[str, Callable[[str], Iterator[Place]]] = {peer.name: peer.parsed for peer in which}
    parsed[OURS] = _of_ours
    rows = []
    for name, runs in done.items():
        if runs.failure:
            rows.append([counted, name, runs.failure, "–", "–"])
            continue
        places = peers.relative(parsed[name](runs.runs[0].output), bench.projects)
        found = {place for place in places if _is_held_to_it(place[0])}
        counts = (len(found & truth), len(found - truth), len(truth - found))
        rows.append([counted, name, *map(str, counts)])
    return rows


def _of_ours(output: str) -> Iterator[Place]:
    """Yield the places of the one rule that is compared."""
    for item in json.loads(output):
        if item["code"] == RULE:
            yield item["path"], item["line"]


def _is_held_to_it(path: str) -> bool:
    """Return whether a file is neither a test nor a migration; labels are of the others alone."""
    project, _, within = path.partition("/")
    return not Settings(root=Path(project)).is_outside_the_standard(within)
