"""Both hooks, installed by the real pre-commit from a repository, on real commits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1]
HANDLER = """\
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

engine = create_async_engine(
    "postgresql+asyncpg://db/app",
    connect_args={
        "prepared_statement_name_func": lambda: "",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    },
)
factory = async_sessionmaker(engine, expire_on_commit=False, autoflush=False)


@asynccontextmanager
async def get_background_session():
    async with factory() as session:
        try:
            yield session
            await session.commit()
        except BaseException:
            await session.rollback()
            raise
"""
VIOLATION = """\
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import engine


async def one():
    async with AsyncSession(engine) as session:
        return await session.scalar(select(1))
"""


def environment(folder: Path) -> dict[str, str]:
    # What is tested is what pre-commit installs, not what this process could import.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "PRE_COMMIT_HOME": str(folder.parent / "cache")}


def git(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    identity = ["-c", "user.name=Someone", "-c", "user.email=someone@example.org"]
    return subprocess.run(
        ["git", *identity, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=check,
        env=environment(folder),
    )


def pre_commit(folder: Path, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "pre_commit", *arguments],
        cwd=folder,
        capture_output=True,
        check=True,
        env=environment(folder),
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository that holds the sources as they are now, committed."""
    folder = tmp_path_factory.mktemp("published") / "session-guard"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=SOURCES, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (SOURCES / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SOURCES / name, folder / name)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "as it is")
    return folder


def project_with(hook: str, published: Path) -> Path:
    """Return a repository whose commits go through `hook`, with a violation staged."""
    folder = published.parent / f"with-{hook}"
    (folder / "app").mkdir(parents=True)
    revision = git(published, "rev-parse", "HEAD").stdout.strip()
    (folder / ".pre-commit-config.yaml").write_text(
        f"repos:\n- repo: {published}\n  rev: {revision}\n  hooks:\n  - id: {hook}\n"
    )
    (folder / "pyproject.toml").write_text('[tool.session-guard]\nhandler = "app.db"\n')
    (folder / "app/__init__.py").touch()
    (folder / "app/db.py").write_text(HANDLER)
    (folder / "app/job.py").write_text(VIOLATION)
    git(folder, "init", "-q")
    pre_commit(folder, "install")
    git(folder, "add", ".")
    return folder


def commits(folder: Path) -> int:
    return len(git(folder, "log", "--oneline", "--all").stdout.splitlines())


def test_the_checking_hook_refuses_until_the_violation_is_gone(published: Path) -> None:
    folder = project_with("session-guard", published)
    refused = git(folder, "commit", "-m", "first", check=False)
    assert refused.returncode == 1
    assert "app/job.py:8:16: SG101 " in refused.stderr + refused.stdout
    assert commits(folder) == 0
    assert (folder / "app/job.py").read_text() == VIOLATION

    (folder / "app/job.py").write_text("from app.db import get_background_session\n")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "second")
    assert commits(folder) == 1


def test_the_fixing_hook_mends_the_file_and_lets_the_next_commit_pass(published: Path) -> None:
    folder = project_with("session-guard-fix", published)
    refused = git(folder, "commit", "-m", "first", check=False)
    assert refused.returncode == 1
    assert "app/job.py: fixed 1 violation" in refused.stderr + refused.stdout
    assert commits(folder) == 0
    assert "async with get_background_session() as session:" in (folder / "app/job.py").read_text()

    git(folder, "add", ".")
    git(folder, "commit", "-m", "second")
    assert commits(folder) == 1
