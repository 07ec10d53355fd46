"""A FastAPI program before and after the fix of its dependency: same answers, same rows, or said.

Its table has a deferred constraint, which fails at commit and nowhere else.
"""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from session_guard import async_session
from session_guard.config import Settings
from session_guard.fixer import fix
from session_guard.project.project import Project
from session_guard.registry import load_rules

from .servers import Postgres

HANDLER = Path(async_session.__file__)
RULES = tuple(rule for rule in load_rules() if rule.code in ("SG103", "SG303"))
DEPENDENCIES = """\
from app.db import get_background_task_session_factory


async def get_db():
    session = get_background_task_session_factory()()
    try:
        yield session
        await session.commit()
    except Exception:
        await session.rollback()
        raise
    finally:
        await session.close()
"""
FIXED = """\
from app.db import get_session


async def get_db():
    async with get_session() as session:
        yield session
"""
PROGRAM = """\
import asyncio, json, sys
import httpx
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import text
from app.db import SessionSettings, configure, dispose
from app.deps import get_db

url, scope = sys.argv[1:]
app = FastAPI()
db = Depends(get_db) if scope == "default" else Depends(get_db, scope=scope)


async def insert(session, item):
    await session.execute(text("INSERT INTO deferred VALUES (:item)"), {"item": item})


@app.post("/left/{item}")
async def left(item: int, session=db):
    await insert(session, item)


@app.post("/own/{item}")
async def own(item: int, session=db):
    await insert(session, item)
    await session.commit()


@app.post("/refused/{item}")
async def refused(item: int, session=db):
    await insert(session, item)
    raise HTTPException(404)


async def main():
    configure(SessionSettings(url=url, tls="off"))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        for path in ("left/1", "left/1", "own/2", "own/2", "refused/3", "left/4"):
            print(path, (await client.post(path)).status_code)
    await dispose()


asyncio.run(main())
"""


def run(folder: Path, postgres: Postgres, scope: str) -> tuple[dict[str, list[int]], list[int]]:
    """Run the program in `folder`; return the statuses it answered with, and what is stored."""
    asyncio.run(postgres.fetch("DROP TABLE IF EXISTS deferred"))
    asyncio.run(
        postgres.fetch(
            "CREATE TABLE deferred (id integer PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)"
        )
    )
    done = subprocess.run(
        [sys.executable, "program.py", postgres.dsn, scope],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    statuses: dict[str, list[int]] = {}
    for line in done.stdout.splitlines():
        path, status = line.split()
        statuses.setdefault(path, []).append(int(status))
    rows = asyncio.run(postgres.fetch("SELECT id FROM deferred ORDER BY id"))
    return statuses, [row["id"] for row in rows]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    shutil.copy(HANDLER, tmp_path / "app" / "db.py")
    (tmp_path / "app" / "deps.py").write_text(DEPENDENCIES)
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def fix_dependencies(folder: Path, *, unsafe: bool) -> None:
    path = folder / "app" / "deps.py"
    project = Project(Settings(root=folder))
    result = fix("deps.py", path, path.read_bytes(), project, RULES, unsafe=unsafe)
    path.write_bytes(result.data)


@pytest.mark.parametrize(("scope", "at_commit"), [("default", 200), ("function", 500)])
def test_a_dependency_that_commits_does_the_same_after_the_fix(
    scope: str, at_commit: int, program: Path, postgres: Postgres
) -> None:
    before = run(program, postgres, scope)
    fix_dependencies(program, unsafe=False)
    assert (program / "app" / "deps.py").read_text() == FIXED
    assert run(program, postgres, scope) == before
    # What fails at commit is told to the client only where the dependency ends before the response.
    assert before == (
        {
            "left/1": [200, at_commit],
            "own/2": [200, 500],
            "refused/3": [404],
            "left/4": [200],
        },
        [1, 2, 4],
    )


def test_a_dependency_that_never_commits_does_what_the_unsafe_fix_says(
    program: Path, postgres: Postgres
) -> None:
    path = program / "app" / "deps.py"
    path.write_text(DEPENDENCIES.replace("        await session.commit()\n", ""))
    _, stored = run(program, postgres, "default")
    assert stored == [2]
    written = path.read_text()
    fix_dependencies(program, unsafe=False)
    assert path.read_text() == written
    fix_dependencies(program, unsafe=True)
    assert path.read_text() == FIXED
    _, stored = run(program, postgres, "default")
    assert stored == [1, 2, 4]
