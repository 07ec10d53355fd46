"""Where the time of one run of `check` goes, by stage.

    python -m bench.profile PATH

runs `session-guard check --no-cache PATH` in this process under cProfile, which slows calls down
and so makes much-called stages look dearer than they are: compare stages, not seconds. A call that
leaves our code, such as a regular expression's, counts for the stage that it was made from.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
from collections import Counter
from contextlib import redirect_stdout, suppress
from pathlib import Path

import session_guard

_PACKAGE = Path(session_guard.__file__).parent
_STAGES = {
    "walk": ("sources.py", "patterns.py", "config.py", "witnesses.py"),
    "read": ("texts.py",),
    "gate": ("runner.py", "gate.py", "rule.py", "registry.py", "linter.py"),
    "LibCST": ("module.py", "names/from_libcst.py"),
    "names": ("names/", "project/", "engine/", "requirements.py", "versions.py"),
    "rules": ("rules/", "usage/", "safety/", "execution_options.py", "standard.py"),
    "fixes": ("rewriting/", "fixer.py", "writing.py"),
    "output": ("output/", "cli/", "excerpts.py", "suppressions.py", "baseline.py"),
}
"""What belongs to each stage, by how its path begins; the first that fits decides."""
_PARSE = "<built-in method builtins.compile>"
"""What `ast.parse` calls."""

Function = tuple[str, int, str]
"""File, line and name, as pstats has them."""


class Profile:
    """The times of one run, put down to stages."""

    def __init__(self, stats: pstats.Stats) -> None:
        self._calls = stats.stats  # type: ignore[attr-defined]
        self._shares: dict[Function, Counter[str]] = {}

    def stages(self) -> Counter[str]:
        """Return the seconds that each stage took."""
        seconds: Counter[str] = Counter()
        for function, (_, _, own, _, _) in self._calls.items():
            for stage, share in self._share(function).items():
                seconds[stage] += own * share
        return seconds

    def dearest(self, number: int) -> list[tuple[float, int, str]]:
        """Return the functions with the most seconds of their own: these, calls, and which."""
        rows = [
            (own, calls, _shown(function))
            for function, (_, calls, own, _, _) in self._calls.items()
        ]
        return sorted(rows, reverse=True)[:number]

    def _share(self, function: Function) -> Counter[str]:
        """Return which part of a function's time belongs to which stage; the parts make 1."""
        if function not in self._shares:
            stage = _stage(function)
            # Whoever is met again on the way up, in a circle of calls, adds nothing.
            self._shares[function] = Counter({stage: 1.0} if stage else {})
            if stage is None:
                self._shares[function] = self._callers_share(function)
        return self._shares[function]

    def _callers_share(self, function: Function) -> Counter[str]:
        share: Counter[str] = Counter()
        for caller, (_, _, _, seconds) in self._calls[function][4].items():
            for stage, part in self._share(caller).items():
                share[stage] += seconds * part
        whole = share.total()
        if not whole:
            return Counter({"other": 1.0})
        return Counter({stage: part / whole for stage, part in share.items()})


def _stage(function: Function) -> str | None:
    """Return the stage of a function; None where it depends on who calls it."""
    file, _, name = function
    if name == _PARSE:
        return "ast"
    if "importlib" in file or "importlib" in name:
        return "imports"
    if f"{os.sep}libcst{os.sep}" in file or "libcst" in name:
        return "LibCST"
    path = _within(file)
    if path is None:
        return None
    for stage, beginnings in _STAGES.items():
        if path.startswith(beginnings):
            return stage
    return "other"


def _within(file: str) -> str | None:
    """Return the path of a file within our package; rules may lie beside it."""
    for folder, name in ((_PACKAGE, ""), (_PACKAGE.parent / "rules", "rules/")):
        with suppress(ValueError):
            return name + Path(file).relative_to(folder).as_posix()
    return None


def _shown(function: Function) -> str:
    file, line, name = function
    return f"{_within(file) or Path(file).name}:{line} {name}" if line else name


def profile(path: str) -> Profile:
    """Run `check` on a path, and return where the time went."""
    profiler = cProfile.Profile()
    arguments = sys.argv
    sys.argv = ["session-guard", "check", "--no-cache", path]
    with (
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
        suppress(SystemExit),
        profiler,
    ):
        from session_guard.cli import main as check

        check()
    sys.argv = arguments
    return Profile(pstats.Stats(profiler))


def main() -> None:
    """Profile one run, and print its stages and its dearest functions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", help="a file or a folder")
    done = profile(parser.parse_args().path)
    stages = done.stages()
    whole = stages.total()
    for stage, seconds in stages.most_common():
        print(f"{stage:8} {seconds:8.3f} s {seconds / whole:6.1%}")
    print(f"{'':8} {whole:8.3f} s\n")
    for own, calls, function in done.dearest(15):
        print(f"{own:8.3f} s {calls:10,} calls  {function}")


if __name__ == "__main__":
    main()
