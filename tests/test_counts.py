"""No run does much more than it did: modules imported and functions called, not seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_no_run_does_more_than_it_did() -> None:
    """Where it has to, `python -m bench.counts --write` keeps the new counts."""
    done = run("-m", "bench.counts")
    assert done.returncode == 0, done.stderr


def test_more_than_a_tenth_more_is_said() -> None:
    kept = {"fix": {"modules": 10, "calls": 1_000}}
    for calls, said in ((1_100, []), (1_101, ["fix: 1,101 calls, were 1,000"])):
        counts = {"fix": {"modules": 11, "calls": calls}}
        program = f"from bench.counts import excesses; print(excesses({counts}, {kept}))"
        assert run("-c", program).stdout == f"{said}\n"
