"""The measure of precision and recall counts right, and its labels are in order."""

from __future__ import annotations

import csv
import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlmodel

from session_guard.rule import Finding
from session_guard.runner import Fixed

if TYPE_CHECKING:
    from types import ModuleType

FIELD = Path(__file__).parent / "field"
EXAMPLES = Path(__file__).parents[1] / "examples"
ENGINE = """\
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

one = create_async_engine("postgresql+asyncpg://db")
two = create_async_engine("postgresql+asyncpg://db")


async def job():
    async with AsyncSession(one) as session:
        await session.commit()
"""
KEPT = """\
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sky import db

_db_manager = db.Manager("users")


async def job():
    engine = await _db_manager.get_async_engine()
    async with AsyncSession(engine) as session:
        return await session.scalar(select(1))
"""
OTHER = ENGINE.partition("async def")[0]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FIELD / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def rows() -> list[dict[str, str]]:
    with (FIELD / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def pinned() -> dict[str, str]:
    text = (FIELD / "projects.txt").read_text()
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    return dict(line.split("==") for line in lines if line)


def test_labels_are_of_the_versions_that_are_fetched() -> None:
    versions = pinned()
    assert len(versions) >= 30
    assert all(versions[row["project"]] == row["version"] for row in rows())


def test_labels_are_sorted_and_no_place_has_two() -> None:
    places = [(row["project"], row["path"], int(row["line"]), row["code"]) for row in rows()]
    assert places == sorted(places)
    assert len(places) == len(set(places))


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """A copy of the measure, with a project of its own that is already unpacked."""
    for name in ("measure.py", "projects.txt", "labels.csv"):
        (tmp_path / name).write_text((FIELD / name).read_text())
    (tmp_path / "projects.txt").write_text("demo==1.0  # a demonstration\n")
    package = tmp_path / "wheels" / "demo==1.0" / "demo"
    package.mkdir(parents=True)
    (package.parent / "pyproject.toml").write_text(
        '[tool.session-guard]\nselect = ["SG101", "SG201"]'
    )
    (package / "db.py").write_text(ENGINE)
    (package / "other.py").write_text(OTHER)
    return tmp_path


def measured(field: Path, *labels: str) -> tuple[int, list[str]]:
    """Run the measure with labels `path,line,code,verdict`; return its exit code and its lines."""
    header = "project,version,path,line,code,verdict\n"
    (field / "labels.csv").write_text(header + "".join(f"demo,1.0,{row}\n" for row in labels))
    command = [sys.executable, "-P", str(field / "measure.py"), "--into", str(field / "wheels")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout.splitlines() or run.stderr.splitlines()


def test_findings_are_held_against_labels(field: Path) -> None:
    code, lines = measured(
        field,
        "demo/db.py,3,SG201,violation",
        "demo/db.py,4,SG201,clean",
        "demo/db.py,8,SG101,violation",
        "demo/other.py,3,SG201,violation",
        "demo/other.py,4,SG201,violation",
        "demo/other.py,9,SG101,violation",
    )
    assert code == 0
    assert lines == [
        "wrong: demo: demo/db.py:4: SG201",
        "missed: demo: demo/other.py:9: SG101",
        "1 projects; right: SG101 1, SG201 3",
        "precision 80.0% (1 wrong), recall 80.0% (1 missed), 0 not labelled",
    ]


def test_a_finding_without_a_label_fails(field: Path) -> None:
    code, lines = measured(field, "demo/db.py,3,SG201,violation")
    assert code == 1
    assert "not labelled: demo: demo/db.py:4: SG201" in lines


def test_a_verdict_that_does_not_exist_is_an_error(field: Path) -> None:
    code, lines = measured(field, "demo/db.py,3,SG201,maybe")
    assert code == 1
    assert "no such verdict: maybe" in lines[-1]


def test_a_wheel_is_unpacked_and_not_run(field: Path) -> None:
    folder = field / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "boom-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("boom.py", "raise SystemExit('run')\n" + ENGINE)
        wheel.writestr(
            "boom-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: boom\nVersion: 1.0\n"
        )
        wheel.writestr("boom-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("boom-1.0.dist-info/RECORD", "")
    (field / "projects.txt").write_text("boom==1.0\n")
    (field / "labels.csv").write_text(
        "project,version,path,line,code,verdict\nboom,1.0,boom.py,4,SG202,violation\n"
        "boom,1.0,boom.py,5,SG202,violation\n"
    )
    run = subprocess.run(
        [sys.executable, "-P", str(field / "measure.py"), "--into", str(field / "wheels")],
        env={"PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "1 projects; right: SG202 2" in run.stdout


# -- what becomes of it ---------------------------------------------------------------------------


def test_what_is_installed_here_is_fixed_as_promised() -> None:
    installed = Path(sqlmodel.__file__).parent
    run = subprocess.run(
        [sys.executable, "-P", str(FIELD / "fix.py"), "--unsafe-fixes", *(EXAMPLES, installed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    seen = re.search(r"^(\d+) files, (\d+) changed; 0 promises broken$", run.stdout, re.MULTILINE)
    assert seen is not None, run.stdout
    assert int(seen[1]) >= 20
    assert int(seen[2]) >= 2


def test_a_handler_is_written_first_where_that_is_asked_for(tmp_path: Path) -> None:
    project = tmp_path / "skypilot==0"
    for name, text in {
        "sky/__init__.py": "",
        "sky/global_user_state.py": KEPT,
        "sky/db.py": "from sqlalchemy.ext.asyncio import create_async_engine\n"
        "def get(url):\n    return create_async_engine(url)\n",
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    run = subprocess.run(
        [sys.executable, "-P", str(FIELD / "fix.py"), "--init", str(project)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "skypilot==0: 4 files, 1 fixed in 1" in run.stdout
    assert (project / "sky" / "global_user_state.py").read_text() == KEPT


def broken(before: str, after: str, line: int = 2) -> list[str]:
    module = load("fix")
    item = Finding("a.py", line, 1, line, 2, "SG101", "a", "m", "h", "")
    return list(module.broken_promises(Fixed("a.py", before.encode(), after.encode(), (item,), ())))


def test_a_promise_that_is_broken_is_seen() -> None:
    before = "import a\nx = a(\n 1)\nif x:\n    y = 1  # why\n"
    assert broken(before, before.replace("import a", "import b").replace(" 1)", " 2)")) == []
    assert broken(before, before.replace("    y", "  y")) == []
    [one] = broken(before, before.replace("y = 1", "y = 2"))
    assert one.startswith("line 5 is changed")
    assert broken(before, before.replace("  # why", "")) == [
        "line 5 is changed, and nothing was to be fixed in it: y = 1  # why",
        "a comment is gone: # why",
    ]
    assert broken(before, before.replace("if x:", "if x"))[0].startswith("it can no longer be")
    closed = "s = a()\ntry:\n    f(s)\nfinally:\n    await s.close()\nawait t.commit()\n"
    assert broken(closed, "async with b() as s:\n    f(s)\nawait t.commit()\n", line=1) == []
    [one] = broken(closed, "async with b() as s:\n    f(s)\n", line=1)
    assert "await t.commit()" in one
    assert broken("x = (\n", "y = (\n") == ["it could not be parsed, and was changed: look at it"]
