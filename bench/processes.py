"""One program run as a process: what it takes, and several of them in turn. Linux only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.comparing import turns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PATIENCE = 600
"""Seconds after which a command is stopped."""
_INTERVAL = 0.01
"""Seconds between two looks at the memory in use."""


@dataclass(frozen=True)
class Command:
    """A program to run, with what has to be done before each run; that is not measured."""

    arguments: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables besides those that the benchmark itself has."""
    prepare: Callable[[], None] | None = None


@dataclass(frozen=True)
class Run:
    """What one run took, and what it printed."""

    seconds: float
    processor_seconds: float
    """User and system time of the process and of all that it waited for."""
    memory: int
    """Bytes, at most, of all its processes together; 0 where nobody looked."""
    output: str


@dataclass
class Runs:
    """The runs of one command, and the memory of the one that was watched."""

    memory: int = 0
    runs: list[Run] = field(default_factory=list)
    failure: str = ""
    """What it said when it failed; then there are no runs."""

    @property
    def seconds(self) -> list[float]:
        """The wall time of each run."""
        return [run.seconds for run in self.runs]

    @property
    def median(self) -> float:
        """The median of the wall times."""
        return median(self.seconds)


class FailedError(Exception):
    """A command took too long, or ended with a code that says that it has not done its work."""


def run(command: Command, *, is_watched: bool = False) -> Run:
    """Run a command to its end; `is_watched` looks at its memory too, which slows it down.

    Raises FailedError where it takes longer than PATIENCE, or ends with a code other than 0 and 1,
    which linters end with where they find something.
    """
    if command.prepare is not None:
        command.prepare()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command.arguments,
            cwd=command.folder,
            env={**os.environ, **command.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        stop = threading.Timer(PATIENCE, os.killpg, (process.pid, signal.SIGKILL))
        stop.start()
        memory = _watch(process.pid) if is_watched else 0
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        stop.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode == -signal.SIGKILL and seconds > PATIENCE:
            raise FailedError(f"stopped after {PATIENCE} s")
        if process.returncode not in (0, 1):
            said, *_ = errors.read().decode(errors="replace").splitlines() or [""]
            raise FailedError(f"it ended with {process.returncode}: {said}")
        text = output.read().decode(errors="replace")
    return Run(seconds, usage.ru_utime + usage.ru_stime, memory, text)


def in_turn(commands: Mapping[str, Command], rounds: int) -> dict[str, Runs]:
    """Run each command `rounds` times, by turns, and once before, to warm up and see its memory.

    Where `rounds` is 0, that first run is the one that counts. What fails once is not run again.
    """
    runs = {name: Runs() for name in commands}
    for number, name in turns(list(commands), rounds):
        if runs[name].failure:
            continue
        print(f"  round {number} of {rounds}: {name}", file=sys.stderr, flush=True)
        try:
            done = run(commands[name], is_watched=not number)
        except FailedError as error:
            runs[name] = Runs(failure=str(error))
            continue
        runs[name].memory = max(runs[name].memory, done.memory)
        if number or not rounds:
            runs[name].runs.append(done)
    return runs


def _watch(session: int) -> int:
    """Return the most memory, in bytes, that the processes of a session have, until it ends.

    What they share counts once (proportional set size). Between two looks the kernel itself keeps
    what the largest one had at most.
    """
    most = 0
    while os.waitid(os.P_PID, session, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        together = 0
        for process in _processes(session):
            together += _kilobytes(process / "smaps_rollup", "Pss:")
            most = max(most, _kilobytes(process / "status", "VmHWM:"))
        most = max(most, together)
        time.sleep(_INTERVAL)
    return most * 1024


def _processes(session: int) -> Sequence[Path]:
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                # The name, in parentheses, may have blanks in it.
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    found.append(process)
    return found


def _kilobytes(path: Path, key: str) -> int:
    """Return a figure of /proc; 0 where the process has ended meanwhile."""
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1])
    return 0
