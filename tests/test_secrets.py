"""No URL, password or parameter of a statement is printed, or written anywhere but where it stood.

`SESSION_GUARD_EXAMPLES=2000` in the environment tries that many files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from session_guard.cli import _commands
from session_guard.output import FORMATS

EXAMPLES = int(os.environ.get("SESSION_GUARD_EXAMPLES", "12"))
HANDLER = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()
SECRET, NUMBER = "hunter2", "48151623"
HEAD = """\
import os
from sqlalchemy import URL, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from app.db import engine, background_task_session_factory
"""
# Passwords as people have them, some of which a URL should not have as they are.
PASSWORDS = tuple(
    word.replace("S", SECRET)
    for word in (
        "S",
        "p@S",
        "S/x",
        "a S",
        "S:S",
        "S%40",
        "a?S=1",
        "a&S=1",
        "x#S",
        "[S]",
        "éS",
        "S\\\\",
    )
)
URLS = (
    '"postgresql+asyncpg://app:<>@db/app"',
    "'postgresql+asyncpg://app:<>@db/app?statement_cache_size=0&prepared_statement_cache_size=0'",
    'f"postgresql+asyncpg://app:<>@{HOST}/app"',
    '"postgresql+asyncpg://app:" + "<>" + "@db/app"',
    '"postgresql+asyncpg://app:" "<>" \'@db/app\'',
    '("postgresql+asyncpg://"\n    "app:<>"  # <>\n    "@db/app")',
    '"""postgresql+asyncpg://\napp:<>@db/app"""',
    '"postgresql+asyncpg://%s:%s@db/app" % ("app", "<>")',
    '"postgresql+asyncpg://{}:{}@db/app".format("app", "<>")',
    'r"postgresql+asyncpg://app:<>@db/app"',
    'URL.create("postgresql+asyncpg", "app", "<>", "db")',
    'URL.create("postgresql+asyncpg", username="<>", password="<>", query={"sslmode": "<>"})',
    'make_url("postgresql+asyncpg://app:<>@db/app?raw_sql=1&sslmode=<q>")',
    '"postgresql+asyncpg://db/app?password=<q>&user=app&ssl=require"',
    '"postgresql+asyncpg://db/app?statement_cache_size=0&password=<q>&raw_sql=1"',
    'os.getenv("DATABASE_URL", "postgresql+asyncpg://app:<>@db/app")',
    'os.environ.get("DATABASE_URL") or "postgresql+asyncpg://app:<>@db/app"',
    'url("<>") if DEBUG else "postgresql+asyncpg://app:<>@db/app"',
)
ARGUMENTS = (
    "",
    'connect_args={"password": "<>", "timeout": 5}',
    'connect_args=dict(password="<>", raw_sql="<>")',
    'connect_args={"raw_sql": "<>", "ssl": "<>", "timeout": "<>"}',
    'connect_args={"server_settings": {"application_name": "<>", "statement_timeout": "<>"}}',
    'connect_args={"prepared_statement_name_func": lambda: "<>", "statement_cache_size": 0}',
    'connect_args={"password": 48151623, "comand_timeout": 48151623}',
    'server_settings={"application_name": "<>"}',
    'statement_cache_size=0, password="<>"',
    'execution_options={"no_prepare": "<>", "isolation_level": "AUTOCOMMIT"}',
    'statement_cache_size="<>",  # <>\n    pool_size=5',
)
USES = (
    "async with AsyncSession(create_async_engine(<url>)) as s: pass  # <>",
    'async with AsyncSession(engine, info={"token": "<>"}) as s:\n    await s.commit()',
    "async with AsyncSession(engine) as s:\n"
    '    await s.execute(text("SET app.token = \'<>\'"), {"a": "<>"})',
    'async with AsyncSession(make("<>", 48151623)) as s: await s.execute(text("LISTEN <>"))',
    'async with AsyncSession(engine) as s: await s.scalar(select(1).where(t.c.x == "<>"))',
    'async with maker("<>")() as s: await s.execute(text("SELECT pg_advisory_lock(48151623)"))',
    's = AsyncSession(engine, binds={"a": "<>", "b": 48151623})',
    'async with background_task_session_factory(info="<>") as s:\n    await s.get(User, "<>")',
    'await asyncio.gather(load(db, "<>"), load(db, 48151623))',
    'async with get_background_session() as s:\n    try: await s.execute(text("INSERT <>"))\n'
    '    except Exception: print("<>")',
    "x = 1  # noqa: SG101 because <>",
    'f = async_sessionmaker(engine, execution_options={"no_prepare": "<>"})',
    'f = make("<>").async_sessionmaker(<url>)',
    "async with AsyncSession(engine) as s: ''' <>\n<> '''; await s.execute(text(\"SET x = '<>'\"))",
)


@st.composite
def files(draw: st.DrawFn) -> str:
    """Return a program with a secret in every place where one may be."""

    def filled(template: str) -> str:
        text = template.replace("<url>", draw(st.sampled_from(URLS))).replace("<q>", SECRET)
        return text.replace("<>", draw(st.sampled_from(PASSWORDS)))

    text = HEAD
    for _ in range(draw(st.integers(1, 3))):
        url, written = filled("<url>"), filled(draw(st.sampled_from(ARGUMENTS)))
        if draw(st.booleans()):
            text += f"U = {url}\n"
            url = "U"
        text += f"e = create_async_engine({url}, {written})  # {SECRET}\n"
    text += f"async def job(db, maker, make):\n    '''{SECRET}'''\n"
    for _ in range(draw(st.integers(1, 4))):
        use = filled(draw(st.sampled_from(USES)))
        text += "".join(f"    {line}\n" for line in use.split("\n"))
    return text


def assert_silent(text: str) -> None:
    assert SECRET not in text.lower(), text
    assert NUMBER not in text, text


def run(*arguments: str) -> str:
    done = CliRunner().invoke(_commands, arguments, standalone_mode=False)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done.output + done.stderr


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="SESSION_GUARD_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
@given(text=files())
def test_no_secret_of_a_file_is_printed_or_kept(text: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "app").mkdir()
        (folder / "app" / "db.py").write_text(HANDLER)
        (folder / "pyproject.toml").write_text('[tool.session-guard]\nhandler = "app.db"\n')
        file = folder / "app" / "jobs.py"
        file.write_text(text)
        for output_format in FORMATS:
            printed = run("check", str(file), "--output-format", output_format)
            assert_silent(printed)
        assert "SG" in printed
        diff = CliRunner().invoke(
            _commands, ["fix", "--diff", "--unsafe-fixes", str(file)], standalone_mode=False
        )
        assert_silent(diff.stderr)
        # A diff is of use only where its lines are those of the file.
        assert all(
            line[1:] in text or line.startswith(("+", "-", "@")) or SECRET not in line
            for line in diff.stdout.splitlines()
        )
        run("check", str(file), "--write-baseline")
        assert_silent((folder / ".session-guard-baseline").read_text())
        assert_silent(run("fix", "--unsafe-fixes", str(file)))
        assert_silent(run("check", str(file)))
        before = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        kept = {str(path) for path in before if SECRET in (folder / path).read_text()}
        assert kept == {"app/jobs.py"}


# -- as processes -------------------------------------------------------------------------------

URL = f"postgresql+asyncpg://app:{SECRET}@db/app"
CRASHING = """\
from session_guard.rule import Rule

class TeamRule(Rule):
    code = "TEAM001"
    name = "team-rule"
    summary = why = fix_safety = "The team's own."
    since = "1"
    tokens = (b"BOOM",)
    node_types = ("SimpleString",)
    valid = invalid = ()

    def check(self, node, module):
        try:
            int(node.value)
        except ValueError as error:
            raise RuntimeError(node.value) from error
        return iter(())
"""


def process(folder: Path, *arguments: str, stdin: str = "", **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "session_guard", *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DATABASE_URL": URL, "PGPASSWORD": SECRET, **env},
    )
    assert done.returncode in (0, 1, 2)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "line",
    [
        f'engines = ["{URL}"]',
        f'handler = "{URL}"',
        f'select = ["{URL}"]',
        f'exclude = ["#{URL}"]',
        f'pooler = "{URL}"',
        f'baseline = "/{URL}"',
        f'asyncpg-version = "{URL}"',
        f'per-file-ignores = {{"!{URL}" = ["SG101"]}}',
        f'database-url = "{URL}"',
        f'password = "{SECRET}"',
        f'password = "{SECRET}',
        f'handler = ["a", "{URL}',
    ],
)
def test_a_wrong_configuration_is_explained_without_its_secrets(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.py").touch()
    (tmp_path / "pyproject.toml").write_text(f"[tool.session-guard]\n{line}\n")
    said = process(tmp_path, "check")
    assert "Error: " in said or "note: " in said
    assert_silent(said)
    (tmp_path / "pyproject.toml").write_text("[tool.session-guard]\n")
    said = process(tmp_path, "check", "--config", line)
    assert "Error: " in said or "note: " in said
    assert_silent(said)


def test_what_lies_beside_the_code_is_not_shown(tmp_path: Path) -> None:
    index = f"--index-url https://app:{SECRET}@example.org/simple\n"
    (tmp_path / "requirements.txt").write_text(
        f"{index}sqlalchemy @ git+https://app:{SECRET}@example.org/sqlalchemy@main\nasyncpg==0.30.0\n"
    )
    (tmp_path / "alembic.ini").write_text(f"sqlalchemy.url = {URL}\n")
    (tmp_path / ".env").write_text(f"DATABASE_URL={URL}\n")
    (tmp_path / "pyproject.toml").write_text("[tool.session-guard]\n")
    (tmp_path / "a.py").write_text(HEAD + "e = create_async_engine(os.environ['DATABASE_URL'])\n")
    said = process(tmp_path, "check")
    assert "SG202" in said
    assert_silent(said)


@pytest.mark.parametrize("command", ["check", "fix"])
def test_an_error_of_ours_does_not_quote_the_file(tmp_path: Path, command: str) -> None:
    package = tmp_path / "venv" / "team-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: team\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[session_guard.rules]\nteam = team_rules\n")
    (tmp_path / "venv" / "team_rules.py").write_text(CRASHING)
    (tmp_path / "a.py").write_text(f'BOOM = "{SECRET}"\n')
    path = os.pathsep.join([str(tmp_path / "venv"), os.environ.get("PYTHONPATH", "")])
    said = process(tmp_path, command, PYTHONPATH=path)
    assert "a.py: internal error in TEAM001: RuntimeError" in said
    assert_silent(said)
    said = process(tmp_path, command, PYTHONPATH=path, SESSION_GUARD_TRACEBACK="1")
    assert "int(node.value)" in said
    assert_silent(said)


@pytest.mark.parametrize(
    "text",
    [
        f'e = create_async_engine("{URL}"\n',
        f'e = create_async_engine("{URL}\n',
        f'create_async_engine(f"{{{URL}")\n',
        f"# coding: {SECRET}\ncreate_async_engine()",
    ],
)
def test_a_file_that_cannot_be_parsed_is_not_quoted(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.py").write_text(HEAD + text if "coding" not in text else text)
    (tmp_path / "pyproject.toml").write_text("[tool.session-guard]\n")
    for output_format in FORMATS:
        said = process(tmp_path, "check", "--output-format", output_format)
        assert "SG001" in said
        if "coding" not in text:
            assert_silent(said)


def test_edits_for_programs_do_not_repeat_a_value_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.session-guard]\npooler = "pgbouncer"\n')
    file = tmp_path / "a.py"
    moved = f'{{"application_name": "{SECRET}"}}'
    file.write_text(HEAD + f'e = create_async_engine("{URL}", server_settings={moved})\n')
    said = process(tmp_path, "check", "--output-format", "json")
    assert_silent(said)
    edits = {item["code"]: item["fix"]["edits"] for item in findings(said) if item["fix"]}
    assert edits["SG203"] is None
    assert edits["SG202"]
    assert_silent(process(tmp_path, "fix"))
    assert moved in file.read_text().partition("connect_args=")[2]


def findings(said: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.JSONDecoder().raw_decode(said)[0]
    return found
