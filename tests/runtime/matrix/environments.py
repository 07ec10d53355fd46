"""Environments with one version of asyncpg and one of SQLAlchemy each, kept between runs."""

import re
import subprocess
import sys
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from packaging.version import Version

import session_guard

FOLDER = Path(__file__).parents[3] / ".venv-matrix"


class UnavailableError(Exception):
    """These versions cannot be installed here; the message is pip's last line."""


@dataclass(frozen=True)
class Combination:
    """The versions that an environment has."""

    asyncpg: str
    sqlalchemy: str


def newest_of_each_series(package: str, since: str) -> list[str]:
    """Ask the package index for the newest version of each minor series, oldest first.

    A pre-release counts where its series has no final version.
    """
    command = [sys.executable, "-m", "pip", "index", "versions", "--pre", package]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    listed = re.search(r"Available versions: (.*)", shown)
    assert listed is not None, shown
    versions = sorted(v for v in map(Version, listed[1].split(", ")) if v >= Version(since))
    series = groupby(versions, key=lambda version: version.release[:2])
    newest = (max(members, key=lambda v: (not v.is_prerelease, v)) for _, members in series)
    return [str(version) for version in newest]


def all_combinations() -> list[Combination]:
    """List what the whole matrix runs on: asyncpg from 0.28, SQLAlchemy from 2.0.10 on."""
    sqlalchemy = ["2.0.10", *newest_of_each_series("sqlalchemy", since="2.0.11")]
    return [
        Combination(driver, version)
        for driver in newest_of_each_series("asyncpg", since="0.28")
        for version in sqlalchemy
    ]


def python_with(combination: Combination) -> Path:
    """Return the Python of an environment that has these versions and this session_guard.

    Raises UnavailableError.
    """
    environment = FOLDER / f"asyncpg-{combination.asyncpg}-sqlalchemy-{combination.sqlalchemy}"
    python = environment / "bin/python"
    complete = environment / "complete"
    if not complete.exists():
        venv.create(environment, clear=True, symlinks=True)
        _install(
            python,
            [
                f"asyncpg=={combination.asyncpg}",
                f"sqlalchemy[asyncio]=={combination.sqlalchemy}",
            ],
        )
        complete.touch()
    [site_packages] = environment.glob("lib/python*/site-packages")
    tested = site_packages / "session_guard"
    tested.unlink(missing_ok=True)
    tested.symlink_to(Path(session_guard.__file__).parent)
    return python


def _install(python: Path, requirements: Iterable[str]) -> None:
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    done = subprocess.run([*command, *requirements], capture_output=True, text=True)
    if done.returncode != 0:
        raise UnavailableError((done.stderr.strip() or "pip failed").splitlines()[-1])
