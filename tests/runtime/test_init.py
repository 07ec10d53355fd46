"""What `session-guard init` says of a URL is what the handler that it writes does with it."""

import os
import subprocess
import sys
from pathlib import Path

from .servers import Postgres

CONFIG = """\
import os

DATABASE_URL = os.getenv("APP_URL", "URL?ssl=disable&prepared_statement_cache_size=0")
"""
FILES = {
    "pyproject.toml": "",
    "app/__init__.py": "",
    "app/db.py": """\
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from app.config import DATABASE_URL

engine = create_async_engine(DATABASE_URL)
SessionLocal = async_sessionmaker(engine)
""",
    "app/jobs.py": """\
from sqlalchemy import text

from app.db import SessionLocal


async def main():
    async with SessionLocal() as session:
        print(await session.scalar(text("SELECT 6 * 7")))
""",
    "program.py": "import asyncio\n\nfrom app.jobs import main\n\nasyncio.run(main())\n",
}


def test_a_url_with_query_parameters_goes_to_the_handler_once_they_are_out_of_it(
    postgres: Postgres, tmp_path: Path
) -> None:
    url = postgres.dsn.replace("://", "+asyncpg://")
    files = FILES | {"app/config.py": CONFIG.replace("URL?", f"{url}?")}
    for name, code in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code)

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if key != "APP_URL"}
        return subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert run("program.py").stdout == "42\n"
    told = run("-P", "-m", "session_guard", "init")
    assert "(app/config.py:3): its sessions fail with one" in told.stdout
    assert '`ssl` is `SessionSettings(tls="off")`' in told.stdout
    run("-P", "-m", "session_guard", "fix", "app/jobs.py")
    assert run("program.py").stdout == "42\n"  # nothing is rewritten to what would fail

    (tmp_path / "app/config.py").write_text(f'DATABASE_URL = "{url}"\n')
    with (tmp_path / "pyproject.toml").open("a") as file:
        file.write('engines = ["app.db.engine"]\n')
    with (tmp_path / "app/__init__.py").open("a") as file:
        file.write(
            "from app.async_session import SessionSettings, configure\n\n"
            'configure(SessionSettings(tls="off"))\n'
        )
    run("-P", "-m", "session_guard", "fix", "app/jobs.py")
    assert "get_background_session" in (tmp_path / "app/jobs.py").read_text()
    after = run("program.py")
    assert after.stdout == "42\n", after.stderr
