"""The whole circle: a program fails behind the pooler, `session-guard fix` mends it, it passes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .servers import PgBouncer

ATTEMPTS = 5

FILES = {
    "pyproject.toml": """\
[tool.session-guard]
handler = "session_guard.async_session"
engines = ["database.engine"]
""",
    "database.py": """\
import os

from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg")
engine = create_async_engine(url, connect_args={"ssl": False}, pool_size=10, max_overflow=20)
""",
    "jobs.py": """\
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from database import engine


async def echo(number: int) -> int:
    async with AsyncSession(engine) as session:
        for _ in range(3):
            found = await session.scalars(text("SELECT CAST(:number AS int)"), {"number": number})
            answer = found.one()
    return answer


async def store(number: int) -> None:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        await session.execute(text("INSERT INTO items (id) VALUES (:id)"), {"id": number})
        await session.commit()
""",
    "program.py": """\
import asyncio

from jobs import echo, store
from session_guard.async_session import SessionSettings, configure


async def work(worker: int) -> None:
    for turn in range(15):
        number = worker * 100 + turn
        assert await echo(number) == number
        await store(number)


async def main() -> None:
    await asyncio.gather(*map(work, range(20)))


configure(SessionSettings(tls="off"))
asyncio.run(main())
""",
}


@pytest.mark.usefixtures("items")
def test_fix_makes_a_failing_program_pass(
    start_pgbouncer: Callable[..., PgBouncer], tmp_path: Path
) -> None:
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DATABASE_URL": start_pgbouncer().dsn}
        return subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    for _ in range(ATTEMPTS):
        before = run("program.py")
        if "InvalidSQLStatementNameError" in before.stderr:
            break
    else:
        pytest.fail(f"the known error did not appear in {ATTEMPTS} attempts:\n{before.stderr}")
    assert before.returncode == 1

    checked = run("-P", "-m", "session_guard", "check", "jobs.py")
    assert checked.returncode == 1
    assert checked.stdout.count("SG101") == 2
    fixed = run("-P", "-m", "session_guard", "fix", "jobs.py")
    assert fixed.returncode == 0, fixed.stdout
    assert "AsyncSession" not in (tmp_path / "jobs.py").read_text()

    delete_what_the_first_program_stored(tmp_path, run)
    after = run("program.py")
    assert after.returncode == 0, after.stderr
    assert after.stderr == ""


def delete_what_the_first_program_stored(
    folder: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (folder / "clear.py").write_text("""\
import asyncio

from session_guard.async_session import SessionSettings, configure, get_background_session
from sqlalchemy import text


async def main() -> None:
    async with get_background_session() as session:
        await session.execute(text("DELETE FROM items"))


configure(SessionSettings(tls="off"))
asyncio.run(main())
""")
    assert run("clear.py").returncode == 0
