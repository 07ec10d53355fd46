"""The benchmarks of `check` and `fix` run from end to end; what they measure is not looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# One of the labelled projects, cut down to a line that has a label.
PROJECT, LABELLED, LINE = "starlette-admin", "starlette_admin/contrib/sqla/middleware.py", 72
SESSION = """\
from sqlalchemy.ext.asyncio import AsyncSession


async def job(engine):
    async with AsyncSession(engine) as session:
        await session.commit()
"""


def pinned(path: Path, name: str) -> str:
    [line] = [line for line in path.read_text().splitlines() if line.startswith(f"{name}==")]
    return line.partition("#")[0].strip()


def test_the_page_is_written(tmp_path: Path) -> None:
    project = tmp_path / "projects" / pinned(ROOT / "tests/field/projects.txt", PROJECT)
    file = project / LABELLED
    file.parent.mkdir(parents=True)
    (project / "pyproject.toml").touch()
    before = SESSION.splitlines().index("    async with AsyncSession(engine) as session:")
    file.write_text("\n" * (LINE - 1 - before) + SESSION)
    ruff = tmp_path / "environments" / pinned(ROOT / "bench/peers.txt", "ruff") / "bin" / "ruff"
    ruff.parent.mkdir(parents=True)
    ruff.symlink_to(Path(sys.executable).with_name("ruff"))
    page = tmp_path / "page.md"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "bench.check", "--here", "--runs", "0", "--most-lines", "1000"),
            *("--into", str(tmp_path), "--page", str(page), "--peers", "ruff", "ast-grep"),
            *("--projects", PROJECT, "--application", PROJECT),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": "",
            # Each of the forty runs would compile our modules again where this is set.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    text = page.read_text()
    for case in ("no cache", "unchanged", "one file changed"):
        assert f"| a part of the corpus, {case} | session-guard |" in text
        assert f"| a part of the corpus, {case} | ruff |" in text
    assert "ast-grep is not compared, since it cannot be installed" in text
    # What is found in the one labelled line, and that ruff names the import instead.
    assert f"| {PROJECT} | session-guard | 1 | 0 | 0 |" in text
    assert f"| {PROJECT} | ruff | 0 | 1 | 1 |" in text
    assert file.read_text().endswith(SESSION)


def test_a_profile_has_a_line_for_each_stage(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "db.py").write_text(
        "from sqlalchemy.ext.asyncio import create_async_engine\nengine = create_async_engine('')\n"
    )
    (tmp_path / "jobs.py").write_text(SESSION)
    run = subprocess.run(
        [sys.executable, "-m", "bench.profile", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    stages = {line.split()[0] for line in run.stdout.partition("\n\n")[0].splitlines()}
    assert stages >= {"walk", "read", "gate", "ast", "names", "LibCST", "rules", "output"}
