"""`session-guard init` as a user runs it, in projects of many layouts."""

from __future__ import annotations

import compileall
import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import session_guard
from session_guard import config
from session_guard.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REFERENCE = Path(session_guard.__file__).with_name("async_session.py").read_text()
CONFIG = """\
class Settings:
    DATABASE_URL = "postgresql://app:sesame@db/app"


settings = Settings()
"""
ENGINE = """\
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from app.core.config import settings

engine = create_async_engine(str(settings.DATABASE_URL))
SessionLocal = async_sessionmaker(engine, expire_on_commit=False)
"""
JOBS = """\
from sqlalchemy import select

from app.db import SessionLocal, engine
from app.models import User


async def names():
    async with SessionLocal() as session:
        return (await session.scalars(select(User.name))).all()
"""
FIXED_JOBS = """\
from sqlalchemy import select

from app.async_session import get_background_session
from app.models import User


async def names():
    async with get_background_session() as session:
        return (await session.scalars(select(User.name))).all()
"""
PYPROJECT = """\
[project]
name = "app"  # ours
dependencies = [
    "fastapi",
]
"""
FLAT = {
    "app/__init__.py": "",
    "app/core/__init__.py": "",
    "app/core/config.py": CONFIG,
    "app/db.py": ENGINE,
    "app/jobs.py": JOBS.replace(", engine", ""),
    "pyproject.toml": PYPROJECT,
}
SRC = {(f"src/{name}" if name != "pyproject.toml" else name): text for name, text in FLAT.items()}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lay(files: dict[str, str]) -> None:
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, newline="")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, which is as good and faster."""
    config._table.cache_clear()  # another process would read the files anew
    with CliRunner().isolation() as (out, err, _), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["session-guard", *arguments])
        with pytest.raises(SystemExit) as leaving:
            main()
        sys.stdout.flush()
    texts = (stream.getvalue().decode() for stream in (out, err))
    return subprocess.CompletedProcess(arguments, leaving.value.code, *texts)


def run_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "session_guard", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


def tree() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def table() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads(Path("pyproject.toml").read_text())["tool"][
        "session-guard"
    ]
    return found


@pytest.fixture
def url_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Give what imports a written handler from a folder and returns its engine's URL."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://env/env")
    monkeypatch.setenv("HOME_DB", "postgresql+asyncpg://home/home")
    monkeypatch.setenv("AT", "@there")
    before = set(sys.modules)

    def url(folder: str) -> str:
        monkeypatch.syspath_prepend(folder)
        engine = importlib.import_module("app.async_session").engine
        return str(engine.url.render_as_string(hide_password=False))

    yield url
    for name in set(sys.modules) - before:
        if name.split(".")[0] == "app":
            del sys.modules[name]


# -- where it goes, and what it says --------------------------------------------------------------


@pytest.mark.parametrize(("files", "top"), [(FLAT, ""), (SRC, "src/")], ids=["flat", "src"])
def test_the_handler_is_written_beside_the_engine(
    files: dict[str, str], top: str, url_of: Callable[[str], str]
) -> None:
    lay(files)
    before = tree()
    done = run("init")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Wrote {top}app/async_session.py" in done.stdout
    assert "from app.core.config import settings" in done.stdout
    assert "session-guard fix" in done.stdout
    assert "sesame" not in done.stdout
    added = '\n[tool.session-guard]\nhandler = "app.async_session"\nengines = ["app.db.engine"]\n'
    assert Path("pyproject.toml").read_text() == PYPROJECT + added
    written = tree()
    assert written.keys() - before.keys() == {f"{top}app/async_session.py"}
    assert {n for n in before if before[n] != written[n]} == {"pyproject.toml"}
    assert compileall.compile_file(f"{top}app/async_session.py", quiet=2)
    assert url_of(top or ".") == "postgresql+asyncpg://app:sesame@db/app"


def test_afterwards_check_finds_nothing_in_the_handler_and_fix_points_to_it() -> None:
    lay(FLAT)
    run("init")
    checked = run("check", "app/async_session.py")
    assert (checked.returncode, checked.stdout) == (0, "All checks passed: 1 file.\n")
    fixed = run("fix", "app/jobs.py")
    assert fixed.returncode == 0, fixed.stdout
    assert Path("app/jobs.py").read_text() == FIXED_JOBS


def test_the_written_handler_is_as_ruff_would_have_it() -> None:
    lay(FLAT | {"app/db.py": ENGINE.replace("async_s", "AsyncSession, async_s")})
    for sqlmodel in (False, True):
        if sqlmodel:
            Path("app/async_session.py").unlink()
            more = "from sqlmodel.ext.asyncio.session import AsyncSession\n"
            lay({"pyproject.toml": PYPROJECT, "app/more.py": more})
        assert run("init").returncode == 0
        for command in (
            ["check"],
            ["check", "--select", "F,I"],
            ["format", "--check", "--line-length=100"],
        ):
            ruff = [sys.executable, "-m", "ruff", *command, "--isolated", "app/async_session.py"]
            done = subprocess.run(ruff, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout


def test_with_diff_nothing_is_written() -> None:
    lay(FLAT)
    before = tree()
    done = run("init", "--diff")
    assert done.returncode == 1
    assert tree() == before
    assert done.stdout.startswith("--- a/app/async_session.py\n+++ b/app/async_session.py\n")
    assert "Would write app/async_session.py" in done.stderr
    patched = subprocess.run(["git", "apply", "-"], input=done.stdout, text=True, check=False)
    assert patched.returncode == 0
    by_patch = tree()
    Path("app/async_session.py").unlink()
    lay({"pyproject.toml": PYPROJECT})
    run("init")
    assert tree() == by_patch


def test_a_second_time_changes_nothing() -> None:
    lay(FLAT)
    assert run_process("init").returncode == 0
    before = tree()
    done = run_process("init")
    assert done.returncode == 2
    assert (
        'there is a handler already: [tool.session-guard] names "app.async_session"' in done.stderr
    )
    assert tree() == before


HANDLER = """\
from contextlib import asynccontextmanager


@asynccontextmanager
async def get_background_session():
    yield
"""
REFUSED = {
    "one that is found": ({"app/own.py": HANDLER}, "app/own.py defines get_background_session()"),
    "several": ({"app/a.py": HANDLER, "app/b.py": HANDLER}, "several modules define"),
    "the reference": (
        {"app/own.py": "from session_guard.async_session import get_session\n"},
        "the project imports session_guard.async_session",
    ),
    "a file of the name": ({"app/async_session.py": "x = 1\n"}, "is there already"),
    "a link to nowhere": ({}, "is there already"),
    "invalid TOML": ({"pyproject.toml": "[project\n"}, "is no valid TOML"),
    "a table in another layout": (
        {"pyproject.toml": '[tool]\nsession-guard = {pooler = "auto"}\n'},
        'write it yourself: a table [tool.session-guard] with\nhandler = "app.async_session"\n',
    ),
    "a table within a string": (
        {"pyproject.toml": 'text = """\n[tool.session-guard]\n"""\n'},
        "is laid out in a way that is not understood",
    ),
}


@pytest.mark.parametrize(("files", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_there_is_never_overwritten(files: dict[str, str], message: str) -> None:
    lay(FLAT | files)
    if not files:
        Path("app/async_session.py").symlink_to("nowhere")
    before = tree()
    done = run("init")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""
    assert tree() == before


@pytest.mark.parametrize("read_only", ["app", "pyproject.toml", "."])
def test_both_files_are_written_or_none(read_only: str) -> None:
    files = dict(FLAT)
    if read_only == ".":
        del files["pyproject.toml"]
    lay(files)
    Path(read_only).chmod(0o555 if Path(read_only).is_dir() else 0o444)
    before = tree()
    done = run("init")
    Path(read_only).chmod(0o755)
    assert done.returncode == 2
    assert "nothing was written" in done.stderr
    assert tree() == before


# -- pyproject.toml -------------------------------------------------------------------------------

KEYS = 'handler = "app.async_session"\nengines = ["app.db.engine"]\n'
TABLES = {
    "none": (None, "[tool.session-guard]\n" + KEYS),
    "an empty file": ("", "[tool.session-guard]\n" + KEYS),
    "no newline at the end": ("a = 1  # one", "a = 1  # one\n\n[tool.session-guard]\n" + KEYS),
    "CRLF": (
        "a = 1\r\n",
        "a = 1\r\n\r\n[tool.session-guard]\r\n" + KEYS.replace("\n", "\r\n"),
    ),
    "the table with other keys": (
        '[tool.session-guard]  # ours\n# why\npooler = "pgbouncer"\n\n[tool.ruff]\n',
        "[tool.session-guard]  # ours\n" + KEYS + '# why\npooler = "pgbouncer"\n\n[tool.ruff]\n',
    ),
    "the table's header at the end": ("[tool.session-guard]", "[tool.session-guard]\n" + KEYS),
    "a table in it": (
        '[tool.session-guard.per-file-ignores]\n"/x/" = ["SG101"]\n',
        '[tool.session-guard.per-file-ignores]\n"/x/" = ["SG101"]\n\n[tool.session-guard]\n' + KEYS,
    ),
}


@pytest.mark.parametrize(("before", "after"), TABLES.values(), ids=TABLES.keys())
def test_the_configuration_keeps_its_text(before: str | None, after: str) -> None:
    files = dict(FLAT)
    del files["pyproject.toml"]
    lay(files | ({} if before is None else {"pyproject.toml": before}))
    done = run("init")
    assert done.returncode == 0, done.stderr
    assert Path("pyproject.toml").read_bytes().decode() == after
    assert run("check", "app/async_session.py").returncode == 0


def test_engines_that_are_configured_stay() -> None:
    lay(FLAT | {"pyproject.toml": '[tool.session-guard]\nengines = ["app.old.engine"]\n'})
    done = run("init")
    assert "has `engines` of its own" in done.stdout
    assert table() == {"handler": "app.async_session", "engines": ["app.old.engine"]}


# -- the project's place for it -------------------------------------------------------------------

NO_ENGINE = {"pyproject.toml": PYPROJECT, "setup.py": "", "tests/__init__.py": ""}
PLACES = {
    "the one package": ({"app/__init__.py": ""}, "app/async_session.py", "app.async_session"),
    "a package in src": (
        {"src/app/__init__.py": "", "main.py": ""},
        "src/app/async_session.py",
        "app.async_session",
    ),
    "src as a package": ({"src/__init__.py": ""}, "src/async_session.py", "src.async_session"),
    "beside the factory": (
        {
            "one/__init__.py": "",
            "two/__init__.py": "",
            "two/db.py": "from sqlalchemy.ext.asyncio import async_sessionmaker\n"
            "make = async_sessionmaker()\n",
        },
        "two/async_session.py",
        "two.async_session",
    ),
    "in no package": ({"main.py": ENGINE}, "async_session.py", "async_session"),
    "in a folder that is no package": (
        {"backend/app/db.py": ENGINE, "backend/app/core/config.py": CONFIG},
        "backend/app/async_session.py",
        "app.async_session",
    ),
}


@pytest.mark.parametrize(("files", "path", "dotted"), PLACES.values(), ids=PLACES.keys())
def test_where_the_project_keeps_its_modules(files: dict[str, str], path: str, dotted: str) -> None:
    lay(NO_ENGINE | files)
    done = run("init")
    assert done.returncode == 0, done.stderr
    assert Path(path).is_file()
    assert table()["handler"] == dotted
    assert run("check", path).returncode == 0


MADE = (
    "from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine\n\n"
    "from app.core.config import settings\n\n"
    "engine = create_async_engine(str(settings.DATABASE_URL))\n"
    "async_session = async_sessionmaker(engine, expire_on_commit=False)\n"
)
OVERWRITTEN = {
    "passed on": {"app/db/__init__.py": "from .session import async_session\n"},
    "made there": {"app/db/__init__.py": MADE, "app/db/session.py": "from . import engine\n"},
    "by a star": {"app/db/__init__.py": "from .session import *\n"},
    "when it is asked for": {
        "app/db/__init__.py": (
            "_LAZY = {'async_session': 'session'}\n\n\ndef __getattr__(name):\n"
            "    from importlib import import_module\n\n"
            "    return getattr(import_module(f'app.db.{_LAZY[name]}'), name)\n"
        )
    },
}
USES = """\
from sqlalchemy import select

from app.db.session import engine
from sqlalchemy.ext.asyncio import AsyncSession


async def names():
    async with AsyncSession(engine) as session:
        return (await session.scalars(select(1))).all()
"""
ASKS = """\
import app.jobs
from app import db

print(type(db.async_session).__name__)
"""


def lay_package(files: dict[str, str]) -> None:
    lay({name: text for name, text in FLAT.items() if name != "app/db.py"})
    lay({"app/core/config.py": CONFIG.replace("postgresql:", "postgresql+asyncpg:")})
    lay({"app/db/session.py": MADE, "app/jobs.py": USES, "app/ask.py": ASKS} | files)


@pytest.mark.parametrize("files", OVERWRITTEN.values(), ids=OVERWRITTEN.keys())
def test_the_handler_takes_no_name_that_its_package_has(files: dict[str, str]) -> None:
    lay_package(files)
    done = run("init")
    assert done.returncode == 0, done.stderr
    assert "It is not called async_session.py: `async_session` of app/db/__init__.py" in done.stdout
    assert table()["handler"] == "app.db.session_handler"
    run("fix", "app/jobs.py")
    assert "from app.db.session_handler import get_background" in Path("app/jobs.py").read_text()
    ran = subprocess.run([sys.executable, "-m", "app.ask"], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("async_sessionmaker\n", "")


@pytest.mark.parametrize(
    "options", [("--module", "app.db.async_session"), ()], ids=["named", "both names"]
)
def test_where_no_name_is_left_another_is_asked_for(options: tuple[str, ...]) -> None:
    package = "from .session import async_session\n" + ("" if options else "session_handler = 1\n")
    lay_package({"app/db/__init__.py": package})
    before = tree()
    done = run("init", *options)
    assert done.returncode == 2
    assert "which the first import of app/db/async_session.py would overwrite" in done.stderr
    assert "session-guard init --module app.db.handler" in done.stderr
    assert tree() == before


BY_HAND = {
    **{name: (files, False) for name, files in OVERWRITTEN.items()},
    "of the package around": (
        {
            "app/__init__.py": "from app.engines import engine as db\n",
            "app/engines.py": "engine = 1\n",
            "app/jobs.py": USES.replace("app.db.session import engine", "app.work import engine"),
            "app/work.py": "def __getattr__(name):\n    from app.db.session import engine\n\n"
            "    return engine\n",
        },
        False,
    ),
    "of a package that the file imports": (
        {
            "app/__init__.py": "from app.engines import engine as db\n",
            "app/engines.py": "engine = 1\n",
        },
        True,
    ),
    "run first": (
        {
            "app/db/__init__.py": (
                "from .async_session import get_background_session\n"
                "from .session import async_session\n"
            ),
        },
        True,
    ),
    "run first by another": (
        {
            "app/db/__init__.py": "from .session import async_session\n",
            "app/db/session.py": "from .async_session import engine\n\nasync_session = 1\n",
        },
        True,
    ),
    "run later by another": (
        {
            "app/db/__init__.py": (
                "from .session import async_session\n\n\n"
                "def late():\n    from .async_session import get_session\n"
            ),
        },
        False,
    ),
    "asked for by another": (
        {
            "app/db/__init__.py": (
                "from .session import async_session\nfrom .other import other\n"
            ),
            "app/db/other.py": "from app.db import async_session as other\n",
        },
        False,
    ),
    "the module itself": ({"app/db/__init__.py": "from . import async_session\n"}, True),
}


@pytest.mark.parametrize(("files", "is_fixed"), BY_HAND.values(), ids=BY_HAND.keys())
def test_no_fix_imports_a_module_whose_name_its_package_has(
    files: dict[str, str], is_fixed: bool
) -> None:
    lay_package(files)
    configured = (
        f'{PYPROJECT}\n[tool.session-guard]\nhandler = "app.db.async_session"\n'
        'engines = ["app.db.session.engine"]\n'
    )
    lay({"pyproject.toml": configured, "app/db/async_session.py": REFERENCE})
    out = run("fix", "--unsafe-fixes", "app/jobs.py").stdout
    assert (Path("app/jobs.py").read_text() != files.get("app/jobs.py", USES)) == is_fixed
    overwritten = "`db` of app/__init__" if "app/jobs.py" in files else "`async_session` of app/db/"
    assert (f"overwrites {overwritten}" in out) != is_fixed


def test_where_it_cannot_be_told_the_option_is_asked_for() -> None:
    lay(NO_ENGINE | {"one/__init__.py": "", "two/db/__init__.py": "", "two/__init__.py": ""})
    done = run("init")
    assert done.returncode == 2
    assert "session-guard init --module app.db.async_session" in done.stderr
    done = run("init", "--module", "two.db.sessions")
    assert done.returncode == 0, done.stderr
    assert Path("two/db/sessions.py").read_text() == REFERENCE
    assert table() == {"handler": "two.db.sessions"}


WRONG_MODULES = {
    "no name": ("two/db.py", "is not a dotted name"),
    "no such package": ("three.db", "there is no package `three`"),
    "in two places": ("twice.db", "more than one package is called `twice`"),
}


@pytest.mark.parametrize(("name", "message"), WRONG_MODULES.values(), ids=WRONG_MODULES.keys())
def test_a_module_that_cannot_be_written_is_refused(name: str, message: str) -> None:
    lay(NO_ENGINE | {"one/twice/x.py": "", "two/twice/x.py": ""})
    before = tree()
    done = run("init", "--module", name)
    assert done.returncode == 2
    assert message in done.stderr
    assert tree() == before


def test_the_project_is_the_one_that_the_folder_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"backend/{name}": text for name, text in FLAT.items()}
    lay(files | {".git/HEAD": "", "pyproject.toml": PYPROJECT})
    monkeypatch.chdir("backend/app")
    assert run("init").returncode == 0
    monkeypatch.chdir("../..")
    assert Path("pyproject.toml").read_text() == PYPROJECT
    assert Path("backend/app/async_session.py").is_file()
    assert "[tool.session-guard]" in Path("backend/pyproject.toml").read_text()


BELOW = {
    "backend/settings.py": 'URL = "postgresql+asyncpg://app:sesame@db/app"\n',
    "backend/session.py": (
        "from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine\n\n"
        "from settings import URL\n\n"
        "engine = create_async_engine(URL)\nSessionLocal = async_sessionmaker(engine)\n"
    ),
    "backend/jobs.py": (
        "from session import SessionLocal\nfrom sqlalchemy import select\n\n\n"
        "async def names():\n    async with SessionLocal() as session:\n"
        "        return (await session.scalar(select(1))) is None\n"
    ),
}


@pytest.mark.parametrize("own", [False, True], ids=["imported", "in the engine's module"])
def test_a_program_that_runs_from_a_folder_below_the_root_imports_the_handler_from_there(
    own: bool,
) -> None:
    files = dict(BELOW)
    if own:
        files["backend/session.py"] = files["backend/session.py"].replace(
            "from settings import URL\n", files.pop("backend/settings.py")
        )
    lay(files)
    done = run("init")
    told = "`engine` from async_session," if own else "`from async_session import engine`"
    assert told in done.stdout
    assert run("fix").returncode == 1  # the engine and its factory are still there
    assert Path("backend/jobs.py").read_text().startswith("from async_session import get_back")
    ruff = ["ruff", "check", "--isolated", "--select", "F,I", "backend/jobs.py"]
    assert subprocess.run([sys.executable, "-P", "-m", *ruff], check=False).returncode == 0
    code = "import async_session, jobs; print(async_session.engine.url.database)"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd="backend", capture_output=True, text=True
    )
    assert (ran.stdout, ran.stderr) == ("app\n", "")


def test_the_module_is_called_as_the_project_imports_it() -> None:
    engine = "from app.core.config import URL\n" + HEAD + "\nengine = create_async_engine(URL)\n"
    files = {"app/core/config.py": CONFIG, "app/database/__init__.py": ""}
    lay(NO_ENGINE | files | {"app/database/db.py": engine})
    assert "app.database.async_session" in run("init", "--diff").stdout
    done = run("init", "--module", "app.database.own")
    assert (done.returncode, table()["handler"]) == (0, "app.database.own")


@pytest.mark.parametrize(
    ("wanted", "is_told"),
    [
        (">=3.10,<3.13", True),
        ("~=3.9", True),
        (">=3.11", False),
        ("==3.12.*", False),
        (">3", False),
    ],
)
def test_a_project_for_older_pythons_is_told_what_the_handler_needs(
    wanted: str, is_told: bool
) -> None:
    lay(FLAT | {"pyproject.toml": f'[project]\nname = "x"\nrequires-python = "{wanted}"\n'})
    done = run("init")
    assert (f"It needs Python 3.11, and the project is for `{wanted}`" in done.stdout) == is_told
    assert done.returncode == 0


def test_an_engine_beside_its_url_is_not_told_to_import_the_handlers() -> None:
    url = (
        "from sqlalchemy import URL\n\nurl = URL.create('postgresql+asyncpg', host=os.uname()[1])\n"
    )
    lay(FLAT | {"app/db.py": HEAD + url + "engine = create_async_engine(url)\n"})
    out = run("init").stdout
    assert "from app.db import url" in Path("app/async_session.py").read_text()
    assert "have those who import it import `engine` from app.async_session, and delete it" in out
    assert "have the engine from the handler" not in out


# -- the project's URL ----------------------------------------------------------------------------

HEAD = "import os\n\nfrom sqlalchemy.ext.asyncio import create_async_engine\n"
TAKEN_OVER = {
    "a name that is imported": (
        "from app.core.config import settings as conf\n"
        "engine = create_async_engine(conf.DATABASE_URL)\n",
        "postgresql+asyncpg://app:sesame@db/app",
    ),
    "a relative import": (
        "from .core import config\n"
        "engine = create_async_engine(url=config.settings.DATABASE_URL)\n",
        "postgresql+asyncpg://app:sesame@db/app",
    ),
    "a module's long name": (
        "import app.core.config\n"
        "engine = create_async_engine(app.core.config.settings.DATABASE_URL)\n",
        "postgresql+asyncpg://app:sesame@db/app",
    ),
    "a name of the engine's module": (
        'URL = "postgresql+asyncpg://app:sesame@db/own"\nengine = create_async_engine(URL)\n',
        "postgresql+asyncpg://app:sesame@db/own",
    ),
    "a function of the engine's module": (
        'def url():\n    return "postgresql+asyncpg://app:sesame@db/own"\n'
        "engine = create_async_engine(url())\n",
        "postgresql+asyncpg://app:sesame@db/own",
    ),
    "put together": (
        "from .core.config import settings\n"
        'engine = create_async_engine(f"postgresql+asyncpg://{settings.__class__.__name__}@db/x")\n',
        "postgresql+asyncpg://Settings@db/x",
    ),
    "SQLAlchemy's URL": (
        "from sqlalchemy import URL\nfrom app.core.config import settings\n"
        'engine = create_async_engine(URL.create("postgresql", host="db", database="made",'
        " password=settings.__module__, username='app'))\n",
        "postgresql+asyncpg://app:app.core.config@db/made",
    ),
    "another variable of the environment": (
        'engine = create_async_engine(os.environ["HOME_DB"])\n',
        "postgresql+asyncpg://home/home",
    ),
    "the handler's own variable": (
        'engine = create_async_engine(os.environ["DATABASE_URL"])\n',
        "postgresql+asyncpg://env/env",
    ),
    "the handler's own variable, by a name": (
        'URL = os.getenv("DATABASE_URL")\nengine = create_async_engine(URL)\n',
        "postgresql+asyncpg://env/env",
    ),
    "a local name": (
        "from app.core.config import settings\n\ndef make():\n    conf = settings\n"
        "    url = conf.DATABASE_URL.replace('postgresql://', 'postgresql+asyncpg://')\n"
        "    return create_async_engine(url)\n\nengine = make()\n",
        "postgresql+asyncpg://app:sesame@db/app",
    ),
    "another driver, replaced": (
        "from app.core.config import settings\nengine = create_async_engine(\n"
        "    settings.DATABASE_URL.replace('postgresql+psycopg', 'postgresql+asyncpg'))\n",
        "postgresql+asyncpg://app:sesame@db/app",
    ),
    "another driver, replaced by what has a name": (
        "from app.core.config import settings\nOLD = 'postgresql:'\nNEW = 'postgresql+asyncpg:'\n"
        "engine = create_async_engine(settings.DATABASE_URL.replace(OLD, NEW))\n",
        "postgresql+asyncpg://app:sesame@db/app",
    ),
    "a driver that is set by a name": (
        "from sqlalchemy import make_url\nfrom app.core.config import settings\n"
        "DRIVER = 'postgresql+asyncpg'\n"
        "engine = create_async_engine(make_url(settings.DATABASE_URL).set(drivername=DRIVER))\n",
        "postgresql+asyncpg://app:sesame@db/app",
    ),
    "another part of it, replaced": (
        "from app.core.config import settings\n"
        "engine = create_async_engine(settings.DATABASE_URL.replace('@db', os.environ['AT']))\n",
        "postgresql+asyncpg://app:sesame@there/app",
    ),
}


@pytest.mark.parametrize(("engine", "url"), TAKEN_OVER.values(), ids=TAKEN_OVER.keys())
def test_the_url_comes_from_where_the_engine_has_it(
    engine: str, url: str, url_of: Callable[[str], str]
) -> None:
    lay(FLAT | {"app/db.py": HEAD + engine})
    done = run("init")
    assert done.returncode == 0, done.stderr
    assert url_of(".") == url
    assert table()["engines"] == ["app.db.engine"]
    assert "sesame" not in done.stdout + Path("app/async_session.py").read_text()


NOT_TAKEN_OVER = {
    "written out": (
        'engine = create_async_engine("postgresql+asyncpg://app:sesame@db/app")\n',
        "its URL is written out",
    ),
    "a password written out": (
        "from sqlalchemy import URL\n"
        'engine = create_async_engine(URL.create("postgresql", password="sesame"))\n',
        "its URL is written out",
    ),
    "a parameter": (
        "def make(url):\n    return create_async_engine(url)\n",
        "its URL depends on `url`, which its function alone knows",
    ),
    "an attribute of an object": (
        "class Database:\n    def start(self):\n"
        "        self.engine = create_async_engine(self.url)\n",
        "its URL depends on `self`",
    ),
    "a choice": (
        "from app.core.config import settings\n"
        "engine = create_async_engine(settings.A if settings.B else settings.C)\n",
        "put together in a way that could not be followed",
    ),
    "another database's arguments": (
        "from app.core.config import settings\noptions = settings.options\n"
        "engine = create_async_engine(**options)\n",
        "its URL is not an argument of its own",
    ),
    "a query that the handler refuses": (
        "from app.core.config import settings\n"
        "engine = create_async_engine(f'{settings.A}?ssl=disable')\n",
        "its URL has `ssl` in its query, and the handler's has settings",
    ),
    "another driver": (
        "import os\nengine = create_async_engine(\n"
        "    os.environ['A'].replace('postgresql://', 'postgresql+psycopg://'))\n",
        "its driver is not asyncpg: postgresql+psycopg",
    ),
    "another driver by a name": (
        "from app.core.config import settings\nDRIVER = 'postgresql+psycopg://'\n"
        "engine = create_async_engine(settings.A.replace('postgresql://', DRIVER))\n",
        "its driver is not asyncpg: postgresql+psycopg",
    ),
    "another driver alone": (
        "from app.core.config import settings\n"
        "engine = create_async_engine(settings.A.replace('+asyncpg', '+psycopg'))\n",
        "its driver is not asyncpg: +psycopg",
    ),
    "another driver that is set by a name": (
        "from sqlalchemy import make_url\nfrom app.core.config import settings\n"
        "DRIVER = 'postgresql+psycopg'\n"
        "engine = create_async_engine(make_url(settings.A).set(drivername=DRIVER))\n",
        "its driver is not asyncpg: postgresql+psycopg",
    ),
    "another driver in a setting of its own": (
        "from app.core.config import settings\nclass Driver:\n    NAME = 'postgresql+psycopg'\n"
        "engine = create_async_engine(f'{Driver.NAME}://{settings.A}')\n",
        "its driver is not asyncpg: postgresql+psycopg",
    ),
    "a driver that is not known": (
        "from sqlalchemy import make_url\nfrom app.core.config import settings\n"
        "engine = create_async_engine(make_url(settings.A).set(drivername=settings.DRIVER))\n",
        "its driver is replaced by what could not be followed",
    ),
    "a scheme that is not known": (
        "from app.core.config import settings\n"
        "engine = create_async_engine(settings.A.replace('postgres:', os.environ['SCHEME']))\n",
        "its driver is replaced by what could not be followed",
    ),
    "a name that is set anew": (
        "from app.core.config import settings\nurl = settings.A\n"
        "engine = create_async_engine(url)\nurl = settings.B\n",
        "its URL depends on `url`, which is set anew afterwards",
    ),
    "several engines": (
        "from app.core.config import settings\n"
        "engine = create_async_engine(settings.A)\nreports = create_async_engine(settings.B)\n",
        "there are 2 engines, in app/db.py",
    ),
}


@pytest.mark.parametrize(("engine", "reason"), NOT_TAKEN_OVER.values(), ids=NOT_TAKEN_OVER.keys())
def test_a_url_that_cannot_be_told_is_the_environments(
    engine: str, reason: str, url_of: Callable[[str], str]
) -> None:
    lay(FLAT | {"app/db.py": HEAD + engine})
    done = run("init")
    assert done.returncode == 0, done.stderr
    assert reason in done.stdout
    assert "DATABASE_URL of the environment" in done.stdout
    assert "sesame" not in done.stdout
    assert Path("app/async_session.py").read_text() == REFERENCE
    assert table() == {"handler": "app.async_session"}
    assert url_of(".") == "postgresql+asyncpg://env/env"


REFUSED = "postgresql+asyncpg://app:sesame@db/app?ssl=disable&prepared_statement_cache_size=0"
IN_QUERIES = {
    "a literal": (f'URL = "{REFUSED}"\n', "app/conf.py:1"),
    "a default of the environment": (
        f'import os\nURL = os.getenv("A", "{REFUSED}")\n',
        "app/conf.py:2",
    ),
    "a default that has a name": (
        f'import os\nOWN = "{REFUSED}"\nURL = os.environ.get("A", OWN)\n',
        "app/conf.py:2",
    ),
    "a default behind `or`": (
        f'import os\nURL = os.environ.get("A") or "{REFUSED}"\n',
        "app/conf.py:2",
    ),
    "one of two": (
        f'import os\nURL = "postgresql+asyncpg://db/a"\nif os.environ.get("A"):\n'
        f'    URL = "{REFUSED}"\n',
        "app/conf.py:4",
    ),
    "a default whose driver is replaced": (
        f'import os\nURL = os.getenv("A", "{REFUSED}").replace("postgres:", '
        '"postgresql+asyncpg:")\n',
        "app/conf.py:2",
    ),
    "pydantic's field": (
        "from pydantic import Field\nfrom pydantic_settings import BaseSettings\n"
        f'class Settings(BaseSettings):\n    URL: str = Field(default="{REFUSED}")\n'
        "URL = Settings().URL\n",
        "app/conf.py:4",
    ),
}


@pytest.mark.parametrize(("conf", "where"), IN_QUERIES.values(), ids=IN_QUERIES.keys())
def test_a_url_that_the_handler_refuses_is_told_and_no_session_rewritten(
    conf: str, where: str
) -> None:
    engine = "from app.conf import URL\nengine = create_async_engine(URL)\n"
    maker = "SessionLocal = async_sessionmaker(engine)\n"
    head = HEAD.replace("import create", "import async_sessionmaker, create")
    files = {"app/conf.py": conf, "app/db.py": head + engine + maker}
    lay(FLAT | files)
    out = run("init").stdout
    assert (
        f"`prepared_statement_cache_size`, `ssl` in its query, as the project's has it ({where})"
        in out
    )
    assert '`ssl` is `SessionSettings(tls="off")`' in out
    assert "`prepared_statement_cache_size` is not needed, since the handler sets it" in out
    assert 'Say so afterwards with `engines = ["app.db.engine"]`' in out
    assert "sesame" not in out
    assert "from app.conf import URL" in Path("app/async_session.py").read_text()
    assert table() == {"handler": "app.async_session"}
    run("fix", "app/jobs.py")
    assert Path("app/jobs.py").read_text() == FLAT["app/jobs.py"]


def test_query_parameters_that_the_handler_takes_are_not_told() -> None:
    conf = CONFIG.replace("@db/app", "@/app?host=db&port=5432")
    lay(FLAT | {"app/core/config.py": conf})
    assert "in its query" not in run("init").stdout
    assert table()["engines"] == ["app.db.engine"]


NOT_THE_SAME = {
    "a host": ('connect_args={"host": "other"}', "it has `host`"),
    "a search path": (
        'connect_args={"server_settings": {"search_path": "tenant"}}',
        "it has `search_path`",
    ),
    "a map of schemas": (
        'execution_options={"schema_translate_map": {None: "tenant"}}',
        "it has `schema_translate_map`",
    ),
    "a function that connects": ("async_creator=make", "it has `async_creator`"),
    "an isolation level": ('isolation_level="AUTOCOMMIT"', "it has an isolation level of its own"),
    "unknown arguments": ("**settings.options", "some of its arguments could not be followed"),
}


@pytest.mark.parametrize(("argument", "reason"), NOT_THE_SAME.values(), ids=NOT_THE_SAME.keys())
def test_an_engine_that_may_give_other_rows_is_not_named(argument: str, reason: str) -> None:
    engine = ENGINE.replace("_URL))", f"_URL), {argument})")
    lay(FLAT | {"app/db.py": engine})
    done = run("init")
    assert done.returncode == 0, done.stderr
    assert f"not known to be on the same database: {reason}" in done.stdout
    assert table() == {"handler": "app.async_session"}


KEPT_AS = {
    "a name": (
        "engine = create_async_engine(url, isolation_level='AUTOCOMMIT')",
        "app.db.engine",
    ),
    "an object": (
        "class Database:\n    def start(self):\n        self.one = create_async_engine(url)",
        "app.db.Database.one",
    ),
    "a function": (
        "def get_engine(echo=False):\n    return create_async_engine(url, echo=echo)",
        "app.db.get_engine",
    ),
    "a function for any": (
        "def get_engine(name):\n    return create_async_engine(url + name)",
        "package.module.name",
    ),
}


@pytest.mark.parametrize(("engine", "name"), KEPT_AS.values(), ids=KEPT_AS.keys())
def test_what_keeps_an_engine_that_is_not_known_to_be_the_same_is_told(
    engine: str, name: str
) -> None:
    url = "def url_of(x): ...\nurl = url_of(1)\n"
    lay(FLAT | {"app/db.py": HEAD + url + engine})
    done = run("init")
    assert f'if it is on the same, say so with `engines = ["{name}"]`' in done.stdout
    assert table() == {"handler": "app.async_session"}


def test_an_engine_whose_connections_are_changed_is_not_named() -> None:
    listening = '@event.listens_for(engine.sync_engine, "connect")\ndef set_path(c, r): ...\n'
    lay(FLAT | {"app/events.py": listening})
    assert "app/events.py listens to events of an engine" in run("init").stdout
    assert table() == {"handler": "app.async_session"}


def test_what_the_engine_was_set_to_is_named() -> None:
    arguments = (
        "_URL), pool_size=5, max_overflow=settings.MORE, pool_timeout=3, echo=True, future=True, "
        'connect_args={"ssl": context, "statement_cache_size": 0}, '
        'isolation_level="READ COMMITTED")'
    )
    lay(FLAT | {"app/db.py": ENGINE.replace("_URL))", arguments)})
    out = run("init").stdout
    given = "pool_size=5, max_overflow=..., connection_timeout=3"
    assert f"`configure(SessionSettings({given}))`" in out
    assert "The handler has no setting for its connect_args['ssl'], echo." in out
    assert table()["engines"] == ["app.db.engine"]


@pytest.mark.parametrize(
    ("argument", "is_told"),
    [("", True), (", hide_parameters=False", True), (", hide_parameters=True", False)],
)
def test_that_the_handler_hides_parameters_and_verifies_tls_is_told(
    argument: str, is_told: bool
) -> None:
    lay(FLAT | {"app/db.py": ENGINE.replace("_URL))", f"_URL){argument})")})
    out = run("init").stdout
    assert ("`configure(SessionSettings(hide_parameters=False))`" in out) == is_told
    assert ("It hides parameters in the texts of errors" in out) == is_told
    assert (
        'It verifies TLS: for a server without it, `configure(SessionSettings(tls="off"))`' in out
    )
    assert table()["engines"] == ["app.db.engine"]


@pytest.mark.parametrize("ssl", ['"disable"', "False"])
def test_tls_that_the_engine_does_without_is_a_setting(ssl: str) -> None:
    engine = ENGINE.replace("_URL))", f'_URL, connect_args={{"ssl": {ssl}}}))')
    lay(FLAT | {"app/db.py": engine})
    assert '`configure(SessionSettings(tls="off"))`' in run("init").stdout.replace("server", "", 1)


def test_engines_of_tests_migrations_and_other_databases_do_not_count() -> None:
    other = HEAD + 'engine = create_async_engine("sqlite+aiosqlite:///x")\n'
    migration = "from alembic import context\n" + ENGINE
    lay(FLAT | {"app/cache.py": other, "tests/conftest.py": ENGINE, "alembic/env.py": migration})
    assert run("init").returncode == 0
    assert table() == {"handler": "app.async_session", "engines": ["app.db.engine"]}


# -- the class of its sessions --------------------------------------------------------------------


def test_a_project_on_sqlmodel_gets_its_session_class() -> None:
    engine = ENGINE.replace(
        "from app.core", "from sqlmodel.ext.asyncio.session import AsyncSession\n\nfrom app.core"
    ).replace("(engine, ", "(engine, class_=AsyncSession, ")
    jobs = JOBS.replace(", engine", "").replace("session.scalars", "session.exec")
    lay(FLAT | {"app/db.py": engine, "app/jobs.py": jobs})
    assert "Its sessions are SQLModel's." in run("init").stdout
    code = (
        "from app.async_session import SessionSettings\n"
        "from sqlmodel.ext.asyncio.session import AsyncSession\n"
        "assert SessionSettings().session_class is AsyncSession"
    )
    environment = {**os.environ, "PYTHONPATH": "."}
    done = subprocess.run([sys.executable, "-c", code], check=False, env=environment)
    assert done.returncode == 0
    assert run("check", "app/async_session.py").returncode == 0
    run("fix", "app/jobs.py")
    assert "get_background_session()" in Path("app/jobs.py").read_text()
