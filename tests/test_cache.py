"""The cache: right after every change that an answer depends on, the user's alone, and harmless."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

JOB = """\
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import engine

async def job():
    async with AsyncSession(engine) as session:
        await session.commit()
"""
ENGINE = """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("postgresql+asyncpg://db/app")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/__init__.py").touch()
    (tmp_path / "app/db.py").write_text(ENGINE)
    (tmp_path / "app/jobs.py").write_text(JOB)
    (tmp_path / "pyproject.toml").write_text("[tool.session-guard]\n")
    return tmp_path


def check(project: Path, *more: str, folder: str = "cache") -> list[dict[str, object]]:
    """Return what is found, with the cache and without it, which must be the same."""
    command = [sys.executable, "-P", "-m", "session_guard", "check", "--output-format", "json"]
    cached, plain = (
        subprocess.run(
            [*command, *option, *more, "app"], cwd=project, capture_output=True, text=True
        )
        for option in (("--cache-dir", str(project / folder)), ("--no-cache",))
    )
    assert cached.returncode in (0, 1), cached.stderr
    assert (cached.stdout, cached.stderr) == (plain.stdout, plain.stderr)
    found: list[dict[str, object]] = json.loads(cached.stdout)
    return found


def entries(project: Path) -> list[Path]:
    return sorted((project / "cache").glob("*.json"))


def let_settle(project: Path) -> None:
    """Wait until the files are no longer so fresh that their text is compared."""
    newest = max(path.stat().st_ctime for path in project.rglob("*.py"))
    while time.time() < newest + 2.5:
        time.sleep(0.1)


def test_what_was_found_is_used_again(project: Path) -> None:
    check(project)  # the cache's folder, which is in the project, is new then
    time.sleep(0.1)
    found = check(project)
    [entry] = entries(project)
    content = json.loads(entry.read_text())
    items = [item for items in content["findings"].values() for item in items]
    assert len(items) == len(found) > 0
    # What a run takes over is seen by what was put there.
    for item in items:
        item[7] = "put there"
    entry.write_text(json.dumps(content))
    command = [sys.executable, "-P", "-m", "session_guard", "check", "--cache-dir"]
    run = subprocess.run([*command, "cache", "app"], cwd=project, capture_output=True, text=True)
    assert run.stdout.count("put there") == len(found)


@pytest.mark.parametrize("settles", [True, False])
def test_an_edit_that_keeps_size_and_time_is_seen(project: Path, settles: bool) -> None:
    job = project / "app/jobs.py"
    if settles:
        let_settle(project)
    before = check(project)
    status = job.stat()
    job.write_text(JOB.replace("AsyncSession(engine)", "AsyncSessiom(engine)"))
    os.utime(job, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (job.stat().st_size, job.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert len(check(project)) < len(before)


def test_changes_elsewhere_are_seen(project: Path) -> None:
    before = check(project)
    (project / "pyproject.toml").write_text('[tool.session-guard]\nignore = ["SG101"]\n')
    assert len(check(project)) < len(before)
    (project / "pyproject.toml").write_text("[tool.session-guard]\n")
    (project / "app/db.py").write_text(ENGINE.replace("create_async_engine", "other"))
    check(project)
    (project / "app/db.py").write_text(ENGINE)
    (project / "requirements.txt").write_text("sqlalchemy==2.0.40\nasyncpg==0.29.0\n")
    check(project)
    (project / "requirements.txt").write_text("sqlalchemy==2.1.0\npsycopg==3.2\n")
    check(project)
    assert check(project, "--config", 'select = ["SG2"]') != before


def test_it_is_the_users_alone(project: Path) -> None:
    check(project)
    time.sleep(0.1)
    check(project)
    [entry] = entries(project)
    assert stat.S_IMODE((project / "cache").stat().st_mode) == 0o700
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    assert (project / "cache/.gitignore").read_text() == "*\n"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{", '{"format": 1}', "[" * 100_000, '{"format": 1, "state": 3}'],
)
def test_a_broken_entry_is_passed_by(project: Path, text: str) -> None:
    before = check(project)
    time.sleep(0.1)
    check(project)
    for entry in entries(project):
        entry.write_text(text)
    assert check(project) == before


def test_what_others_could_have_written_is_passed_by(project: Path) -> None:
    check(project)
    time.sleep(0.1)
    check(project)
    [entry] = entries(project)
    forged = entry.read_text().replace('"findings":{', '"findings":{},"were":{')
    entry.write_text(forged)
    entry.chmod(0o644)
    check(project)
    entry.unlink()
    other = project / "forged.json"
    other.write_text(forged)
    other.chmod(0o600)
    entry.symlink_to(other)
    check(project)
    entry.unlink()
    entry.write_text(forged)
    entry.chmod(0o600)
    (project / "cache").chmod(0o777)
    check(project)


def test_a_folder_that_cannot_be_made_is_no_error(project: Path) -> None:
    (project / "file").touch()
    assert check(project, folder="file")
    assert check(project, folder="file/below")
