"""The handler's types, as mypy and pyright see them in a FastAPI project.

basedpyright is pyright, with the program in its wheel: pyright's own downloads it when it is run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import session_guard

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parent / "fixtures" / "typed"
WRONG = {
    number
    for number, line in enumerate((FIXTURES / "wrong.py").read_text().splitlines(), start=1)
    if line.endswith("# wrong")
}
FOLDER = Path(session_guard.__file__).parent.parent
# Type checkers find what is installed by themselves, but not what is installed in place.
IN_PLACE = [] if Path(sysconfig.get_path("purelib")) == FOLDER else [str(FOLDER)]

CHECKED = ["right.py", "wrong.py", "handler.py"]

Errors = dict[str, set[int]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The fixtures, and the handler as `session-guard init` copies it into a project."""
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    shutil.copy(FOLDER / "session_guard" / "async_session.py", tmp_path / "handler.py")
    return tmp_path


def mypy_errors(project: Path) -> Errors:
    run = subprocess.run(
        [sys.executable, "-P", "-m", "mypy", "--strict", *CHECKED],
        cwd=project,
        env={**os.environ, "MYPYPATH": os.pathsep.join(IN_PLACE)},
        capture_output=True,
        text=True,
    )
    errors: Errors = {}
    for name, line in re.findall(r"^(.+?):(\d+): error: ", run.stdout, re.MULTILINE):
        errors.setdefault(name, set()).add(int(line))
    assert errors, run.stdout + run.stderr
    return errors


def pyright_errors(project: Path) -> Errors:
    settings = {"typeCheckingMode": "strict", "extraPaths": IN_PLACE}
    (project / "pyrightconfig.json").write_text(json.dumps(settings))
    run = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "basedpyright", "--outputjson"),
            *("--pythonpath", sys.executable, *CHECKED),
        ],
        cwd=project,
        capture_output=True,
        text=True,
    )
    errors: Errors = {}
    for found in json.loads(run.stdout)["generalDiagnostics"]:
        if found["severity"] == "error":
            line = found["range"]["start"]["line"] + 1
            errors.setdefault(Path(found["file"]).name, set()).add(line)
    assert errors, run.stdout + run.stderr
    return errors


@pytest.mark.parametrize("errors_of", [mypy_errors, pyright_errors])
def test_right_uses_are_accepted_and_wrong_ones_are_not(
    project: Path, errors_of: Callable[[Path], Errors]
) -> None:
    assert errors_of(project) == {"wrong.py": WRONG}
