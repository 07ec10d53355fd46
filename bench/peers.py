"""The linters that session-guard is compared with: their environments, rules and findings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

HERE = Path(__file__).parent
RULES = HERE / "equivalents"
TESTS = ("tests", "test", "test_*.py", "*_test.py", "tests.py", "conftest.py")
"""Folders and files that no linter is to look at; they match at any depth."""
_PASSED_BY = (*TESTS, "*.pyi")

Place = tuple[str, int]
"""Path and line."""


@dataclass(frozen=True)
class Peer:
    """A linter: which of its rules is nearest to SG101, and how it is called with it."""

    name: str
    package: str
    program: str
    rule: Path
    options: tuple[str, ...]
    """What stands between the program and the paths, with that rule alone and no cache."""
    parsed: Callable[[str], Iterator[Place]]
    """Its findings in what it prints with `output_format`."""
    output_format: tuple[str, ...] = ()
    without_cache: tuple[str, ...] = ()
    is_slow: bool = False
    """Whether it runs on a few projects alone."""


def _of_ruff(output: str) -> Iterator[Place]:
    for item in json.loads(output):
        yield item["filename"], item["location"]["row"]


def _of_ast_grep(output: str) -> Iterator[Place]:
    for line in output.splitlines():
        item = json.loads(line)
        yield item["file"], item["range"]["start"]["line"] + 1


def _of_semgrep(output: str) -> Iterator[Place]:
    for item in json.loads(output)["results"]:
        yield item["path"], item["start"]["line"]


def _of_lines(output: str) -> Iterator[Place]:
    for path, line in re.findall(r"^([^\n]+?)[:@](\d+):\d+[: ]", output, re.MULTILINE):
        yield path, int(line)


PEERS = (
    Peer(
        name="ruff",
        package="ruff",
        program="ruff",
        rule=RULES / "ruff.toml",
        options=(
            *("check", "--config", str(RULES / "ruff.toml")),
            *("--extend-exclude", ",".join(_PASSED_BY)),
        ),
        output_format=("--output-format", "json"),
        without_cache=("--no-cache",),
        parsed=_of_ruff,
    ),
    Peer(
        name="ast-grep",
        package="ast-grep-cli",
        program="ast-grep",
        rule=RULES / "ast-grep.yml",
        options=(
            *("scan", "--rule", str(RULES / "ast-grep.yml")),
            *(f"--globs=!{pattern}" for pattern in _PASSED_BY),
        ),
        output_format=("--json=stream",),
        parsed=_of_ast_grep,
    ),
    Peer(
        name="semgrep",
        package="semgrep",
        program="semgrep",
        rule=RULES / "semgrep.yml",
        options=(
            *("scan", "--config", str(RULES / "semgrep.yml"), "--quiet", "--metrics=off"),
            *("--disable-version-check", "--no-git-ignore"),
            *(f"--exclude={pattern}" for pattern in _PASSED_BY),
        ),
        output_format=("--json",),
        parsed=_of_semgrep,
    ),
    Peer(
        name="Fixit",
        package="fixit",
        program="fixit",
        rule=RULES / "fixit_direct_async_session.py",
        # It takes no patterns of files on its command line.
        options=("--rules", "fixit_direct_async_session:DirectAsyncSession", "lint"),
        parsed=_of_lines,
        is_slow=True,
    ),
    Peer(
        name="flake8",
        package="flake8",
        program="flake8",
        rule=RULES / "flake8.ini",
        options=("--config", str(RULES / "flake8.ini"), f"--extend-exclude={','.join(_PASSED_BY)}"),
        parsed=_of_lines,
        is_slow=True,
    ),
)


def read_requirements(path: Path = HERE / "peers.txt") -> dict[str, tuple[str, ...]]:
    """Return what each peer's environment holds, by the name of its first package."""
    lines = [line.partition("#")[0].split() for line in path.read_text().splitlines()]
    return {line[0].partition("==")[0]: tuple(line) for line in lines if line}


def install(
    folder: Path, names: Sequence[str] | None = None
) -> tuple[dict[str, Path], dict[str, str]]:
    """Make the environment of each peer, or of those named, below `folder`, unless it is there.

    Returns their programs, and of those that cannot be installed why, by name.
    """
    requirements, programs, reasons = read_requirements(), {}, {}
    for peer in PEERS:
        if names is not None and peer.name not in names:
            continue
        wanted = requirements[peer.package]
        program = folder / "+".join(wanted) / "bin" / peer.program
        if not program.exists():
            try:
                make_environment(program.parents[1], *wanted)
            except subprocess.CalledProcessError as error:
                lines = error.stderr.strip().splitlines() or [str(error)]
                reasons[peer.name] = lines[-1]
                continue
        programs[peer.name] = program
    return programs, reasons


def make_environment(folder: Path, *requirements: str) -> None:
    """Install requirements into an environment. Raises subprocess.CalledProcessError."""
    print(f"installing {' '.join(requirements)}", file=sys.stderr, flush=True)
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    # Ours does it: putting pip into each takes longer than the peer.
    pip = (sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"))
    _run(*pip, "install", "--quiet", *requirements)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def relative(places: Iterable[Place], folder: Path) -> set[Place]:
    """Return places with paths from `folder`, as linters name them in ways of their own."""
    return {(str((folder / path).relative_to(folder)), line) for path, line in places}
