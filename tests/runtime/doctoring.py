"""Runs `session-guard doctor` as a process, for the tests of what it says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from .servers import PASSWORD

SAFE, UNSAFE, UNKNOWN = 0, 1, 2


def doctor(
    dsn: str | None, *arguments: str, folder: Path | None = None, tls: str = "off"
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATABASE_URL": dsn or ""}
    run = subprocess.run(
        [sys.executable, "-m", "session_guard", "doctor", "--tls", tls, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert PASSWORD not in run.stdout + run.stderr
    return run


def report(dsn: str | None, *arguments: str, folder: Path | None = None) -> dict[str, Any]:
    run = doctor(dsn, "--json", *arguments, folder=folder)
    assert run.stdout, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    assert run.returncode == {"safe": SAFE, "unsafe": UNSAFE, "unknown": UNKNOWN}[found["verdict"]]
    return found


def said_of(dsn: str, *arguments: str, tls: str = "off") -> str:
    """Return what it says where it cannot begin."""
    run = doctor(dsn, *arguments, tls=tls)
    assert (run.returncode, run.stdout) == (UNKNOWN, "")
    return run.stderr


def outcomes(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {outcome["name"]: outcome for outcome in found["outcomes"]}


def is_right(found: dict[str, Any], name: str, mode: str) -> bool:
    counts = outcomes(found)[name]["modes"][mode]
    return bool(counts["right"] and not counts["wrong"] and not counts["failed"])
