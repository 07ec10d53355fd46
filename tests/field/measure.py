"""Runs session-guard on projects from PyPI and holds what it finds against labels made by reading.

`projects.txt` pins the projects as requirements; `labels.csv` says, of a line in a project and a
code, whether it is a `violation` or `clean`. Nothing of a project is imported or run: its wheel is
downloaded and unpacked.

    python tests/field/measure.py                     all projects, into a temporary folder
    python tests/field/measure.py --into ~/field      keep what is downloaded for the next time
    python tests/field/measure.py prefect litellm     these alone
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HERE = Path(__file__).parent
VIOLATION, CLEAN = "violation", "clean"
# Wheels that hold compiled code as well are read as well: they are only unpacked.
_PLATFORMS = ("any", "manylinux2014_x86_64", "manylinux_2_28_x86_64")

Place = tuple[str, int, str]
"""Path, line and code."""


@dataclass
class Score:
    """How what was found compares with the labels."""

    right: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    """Found, but nobody has said whether it is right."""

    def add(self, project: str, labels: dict[Place, str], found: set[Place]) -> None:
        """Count one project's findings."""
        for place in sorted(labels.keys() | found):
            path, line, code = place
            shown = f"{project}: {path}:{line}: {code}"
            match labels.get(place), place in found:
                case (None, _):
                    self.unlabelled.append(shown)
                case ("violation", True):
                    self.right[code] += 1
                case ("violation", False):
                    self.missed.append(shown)
                case (_, True):
                    self.wrong.append(shown)

    @property
    def precision(self) -> float:
        """The share of the labelled findings that are right."""
        right = self.right.total()
        return right / (right + len(self.wrong)) if right else 0.0

    @property
    def recall(self) -> float:
        """The share of the violations that are found."""
        right = self.right.total()
        return right / (right + len(self.missed)) if right else 0.0


def read_projects(path: Path = HERE / "projects.txt") -> dict[str, str]:
    """Return the pinned requirement of each project, by its name."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return {line.partition("==")[0]: line for line in lines if line}


def read_labels(path: Path = HERE / "labels.csv") -> dict[str, dict[Place, str]]:
    """Return the labels of each project, by its name.

    Raises ValueError where a verdict is neither `violation` nor `clean`.
    """
    labels: dict[str, dict[Place, str]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["verdict"] not in (VIOLATION, CLEAN):
                raise ValueError(f"{path}: no such verdict: {row['verdict']}")
            place = (row["path"], int(row["line"]), row["code"])
            labels.setdefault(row["project"], {})[place] = row["verdict"]
    return labels


def fetch(requirement: str, folder: Path) -> Path:
    """Download and unpack a project's wheel below `folder`, unless it is there; return where.

    Raises subprocess.CalledProcessError where pip cannot.
    """
    target = folder / requirement
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--only-binary=:all:", "--python-version=3.12"]
            command += [f"--platform={platform}" for platform in _PLATFORMS]
            subprocess.run([*command, "--dest", temporary, requirement], check=True)
            [wheel] = Path(temporary).glob("*.whl")
            unpacked = Path(temporary, "unpacked")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(unpacked)
            # The folder is a project of its own, with the default configuration.
            (unpacked / "pyproject.toml").touch()
            unpacked.rename(target)
    return target


def check(folder: Path) -> set[Place]:
    """Return what session-guard finds in a folder.

    Raises RuntimeError where it fails.
    """
    command = [sys.executable, "-m", "session_guard", "check", ".", "--output-format", "json"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if run.returncode not in (0, 1):
        raise RuntimeError(f"session-guard failed in {folder}:\n{run.stderr}")
    return {(item["path"], item["line"], item["code"]) for item in json.loads(run.stdout)}


def measure(projects: dict[str, str], folder: Path) -> Iterator[tuple[str, set[Place]]]:
    """Yield the findings of one project after the other, in their order."""
    with ThreadPoolExecutor(2) as pool:
        yield from zip(
            projects,
            pool.map(lambda name: check(fetch(projects[name], folder)), projects),
            strict=True,
        )


def report(score: Score, projects: int) -> Iterator[str]:
    """Yield the lines of a report."""
    for title, lines in (
        ("wrong", score.wrong),
        ("missed", score.missed),
        ("not labelled", score.unlabelled),
    ):
        yield from (f"{title}: {line}" for line in lines)
    codes = ", ".join(f"{code} {count}" for code, count in sorted(score.right.items()))
    yield f"{projects} projects; right: {codes or 'none'}"
    yield (
        f"precision {score.precision:.1%} ({len(score.wrong)} wrong), "
        f"recall {score.recall:.1%} ({len(score.missed)} missed), "
        f"{len(score.unlabelled)} not labelled"
    )


def main(arguments: Iterable[str] | None = None) -> int:
    """Measure, print the report, and return 1 where a finding has no label."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="projects of projects.txt; all if none is named")
    parser.add_argument("--into", type=Path, help="where downloads are kept")
    options = parser.parse_args(None if arguments is None else list(arguments))
    projects, labels, score = read_projects(), read_labels(), Score()
    unknown = set(options.names) - projects.keys()
    if unknown:
        parser.error(f"not in projects.txt: {', '.join(sorted(unknown))}")
    chosen = {name: projects[name] for name in options.names or projects}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.into or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name, found in measure(chosen, folder):
            score.add(name, labels.get(name, {}), found)
    print("\n".join(report(score, len(chosen))))
    return 1 if score.unlabelled else 0


if __name__ == "__main__":
    sys.exit(main())
