"""How much a few fixed runs do: the modules that they import, and the calls of our functions.

    python -m bench.counts             ends with 1 where it is more by over a tenth than is kept
    python -m bench.counts --write     keeps the counts in bench/counts.json

Unlike times, counts are the same on every machine, however busy; they differ between versions of
Python, and are kept for each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.projects import lay_project

if TYPE_CHECKING:
    from collections.abc import Mapping

KEPT = Path(__file__).with_name("counts.json")
TOLERANCE = 1.1
"""How many times as much is let pass."""
VERSION = "{}.{}".format(*sys.version_info)
_CLEAN, _WITH_VIOLATION = "app/part_0/module_0.py", "app/part_0/module_19.py"
# Calls of functions that are not ours depend on the versions of what we use, and which modules of
# the standard library are there already on how we are installed.
_COUNTING = """\
import atexit, json, os, sys
def is_ours(path):
    return any(os.sep + name + os.sep in path for name in ("session_guard", "rules"))
calls, ours = 0, {}
def hear(frame, event, argument):
    global calls
    if event == "call":
        path = frame.f_code.co_filename
        if path not in ours:
            ours[path] = is_ours(path)
        calls += ours[path]
def tell():
    sys.setprofile(None)
    names = [name.partition(".")[0] for name in sys.modules]
    modules = sum(name in ("session_guard", "click", "libcst") for name in names)
    print(json.dumps({"modules": modules, "calls": calls}), file=sys.stderr)
atexit.register(tell)
sys.setprofile(hear)
from session_guard.cli import main
main()
"""


def counted() -> dict[str, dict[str, int]]:
    """Return of each run how many modules it imports and how many calls it makes.

    Raises RuntimeError where one does not end as it should.
    """
    with tempfile.TemporaryDirectory() as folder:
        project, cache = Path(folder) / "project", Path(folder) / "cache"
        lay_project(project, 4_000, violations=1)
        kept = ("check", "--cache-dir", str(cache), ".")
        found = {
            "one clean file": _run(project, 0, "check", "--no-cache", _CLEAN),
            "20 files, one violation": _run(project, 1, "check", "--no-cache", "."),
            "the same, to be kept": _run(project, 1, *kept),
            "unchanged": _run(project, 1, *kept),
        }
        with (project / _WITH_VIOLATION).open("a", encoding="utf-8") as file:
            file.write("# changed\n")
        found["one file changed"] = _run(project, 1, *kept)
        found["fix"] = _run(project, 0, "fix", ".")
    return found


def _run(project: Path, code: int, *arguments: str) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _COUNTING, *arguments],
        cwd=project,
        # The order of sets decides what is looked at first.
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != code:
        raise RuntimeError(f"{arguments} ended with {done.returncode}: {done.stderr}")
    counts: dict[str, int] = json.loads(done.stderr.splitlines()[-1])
    return counts


def excesses(
    counts: Mapping[str, Mapping[str, int]], kept: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """Return what is more than is let pass, in words."""
    return [
        f"{run}: {number:,} {what}, were {kept[run][what]:,}"
        for run, of_run in counts.items()
        for what, number in of_run.items()
        if number > TOLERANCE * kept[run][what]
    ]


def main() -> int:
    """Count, print what came out, and hold it against what is kept or keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"keep the counts in {KEPT.name}")
    options, counts = parser.parse_args(), counted()
    print(json.dumps(counts, indent=2))
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    if options.write:
        KEPT.write_text(json.dumps({**kept, VERSION: counts}, indent=2) + "\n", encoding="utf-8")
        return 0
    if VERSION not in kept:
        print(f"{KEPT.name} has nothing of Python {VERSION}", file=sys.stderr)
        return 0
    more = excesses(counts, kept[VERSION])
    for line in more:
        print(f"more than it was: {line}", file=sys.stderr)
    return 1 if more else 0


if __name__ == "__main__":
    sys.exit(main())
