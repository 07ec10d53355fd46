"""Which module is the handler, and what its source tells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from session_guard.config import ConfigError, Settings
from session_guard.linter import lint
from session_guard.project.project import Project
from session_guard.registry import load_rules
from session_guard.runner import Options, Run

if TYPE_CHECKING:
    from session_guard.rule import Finding

STANDARD = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()
JOB = """\
from sqlalchemy.ext.asyncio import AsyncSession
from {module} import engine

async def job():
    async with AsyncSession(engine) as s:
        await s.commit()
"""


def lay_out(root: Path, files: dict[str, str], table: str = "", select: str = "SG10") -> None:
    (root / "pyproject.toml").write_text(f'[tool.session-guard]\nselect = ["{select}"]\n{table}\n')
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def check(path: Path) -> tuple[list[Finding], list[str]]:
    run = Run(Options(paths=(str(path),)))
    found = [item for findings in run.check() for item in findings]
    return found, run.notices


def is_fixable(root: Path, name: str) -> bool:
    [finding] = check(root / name)[0]
    return finding.fix is not None


def test_the_standard_of_2025_as_a_handler_is_clean(tmp_path: Path) -> None:
    lay_out(tmp_path, {"app/db.py": STANDARD})
    assert check(tmp_path) == ([], [])


NO_HANDLER = STANDARD.replace("get_background_session", "open_session")


def test_without_a_handler_a_lone_builder_may_build_and_it_is_said(tmp_path: Path) -> None:
    lay_out(tmp_path, {"app/db.py": NO_HANDLER, "app/jobs.py": JOB.format(module="app.db")})
    [finding], [notice] = check(tmp_path)
    assert finding.path.endswith("jobs.py")
    assert finding.fix is None
    assert "app/db.py alone builds" in notice
    assert "handler = " in notice


def test_tests_and_migrations_do_not_make_a_builder_less_lone(tmp_path: Path) -> None:
    files = {"app/db.py": NO_HANDLER, "tests/conftest.py": NO_HANDLER, "alembic/env.py": NO_HANDLER}
    lay_out(tmp_path, files)
    assert check(tmp_path)[0] == []


def test_sqlite_does_not_make_a_builder_less_lone(tmp_path: Path) -> None:
    lite = (
        "from sqlalchemy.ext.asyncio import create_async_engine\n"
        'engine = create_async_engine("sqlite+aiosqlite://")\n'
    )
    lay_out(tmp_path, {"app/db.py": NO_HANDLER, "app/lite.py": lite})
    assert check(tmp_path)[0] == []


def test_two_builders_are_none(tmp_path: Path) -> None:
    lay_out(tmp_path, {"app/db.py": NO_HANDLER, "lib/db.py": NO_HANDLER})
    found, notices = check(tmp_path)
    assert {item.code for item in found} >= {"SG102", "SG103"}
    assert notices == []


ENGINE = """\
from sqlalchemy.ext.asyncio import create_async_engine
engine = create_async_engine("postgresql+asyncpg://db")
"""
FACTORY = """\
from sqlalchemy.ext.asyncio import async_sessionmaker
from app.db.engine import engine
SessionLocal = async_sessionmaker(engine)
"""
PACKAGE = {"app/db/engine.py": ENGINE, "app/db/session.py": FACTORY}
USER = """\
from app.db.session import SessionLocal

async def job():
    async with SessionLocal() as s:
        await s.commit()
"""


def test_the_engine_and_the_factory_may_be_built_by_one_module_each(tmp_path: Path) -> None:
    lay_out(tmp_path, {**PACKAGE, "app/jobs.py": USER}, select="SG")
    found, [notice] = check(tmp_path)
    assert "app/db/engine.py and app/db/session.py alone build the project's engine" in notice
    # What its engine lacks is reported all the same.
    places = [(item.path.rpartition("/")[2], item.code) for item in found]
    assert places == [("jobs.py", "SG103"), ("engine.py", "SG202")]


OTHERS = {
    "a second engine": {"app/reports.py": ENGINE},
    "a second factory": {"app/reports.py": FACTORY},
    "both again": {"app/reports.py": ENGINE + FACTORY},
    "an engine from the configuration": {
        "app/reports.py": "from sqlalchemy.ext.asyncio import async_engine_from_config as make\n"
        "engine = make({})\n"
    },
    "an engine in a function": {
        "app/reports.py": "from sqlalchemy.ext.asyncio import create_async_engine\n"
        "def make(url):\n    return create_async_engine(url)\n"
    },
    "a partial engine that is completed": {
        "app/reports.py": "import functools\n"
        "from sqlalchemy.ext.asyncio import create_async_engine\n"
        'engine = functools.partial(create_async_engine, "postgresql+asyncpg://db")()\n'
    },
}


@pytest.mark.parametrize("others", OTHERS.values(), ids=OTHERS.keys())
def test_of_two_that_build_the_same_none_is_alone(others: dict[str, str], tmp_path: Path) -> None:
    lay_out(tmp_path, {**PACKAGE, **others}, select="SG")
    found, notices = check(tmp_path)
    assert notices == []
    assert {("engine.py", "SG201"), ("session.py", "SG102")} <= {
        (item.path.rpartition("/")[2], item.code) for item in found
    }


NO_BUILDERS = {
    "an environment of Alembic's": {
        "app/db_migrations/env.py": f"from alembic import context\n{ENGINE}",
    },
    "one of several databases": {
        "services/mail/alembic_mail/env.py": f"from alembic import context as c\n{ENGINE}",
    },
    "tests": {"scripts/test_connection.py": ENGINE, "app/load_test.py": FACTORY},
    "copies": {"examples/db.py": ENGINE, "vendor/db.py": FACTORY},
    "another database": {"app/cache.py": ENGINE.replace("postgresql+asyncpg", "sqlite+aiosqlite")},
    "another database by default": {
        "app/cache.py": "import os\nfrom sqlalchemy.ext.asyncio import create_async_engine\n"
        'engine = create_async_engine(os.getenv("CACHE", "sqlite+aiosqlite:///cache.db"))\n'
    },
    "a factory on another database": {
        "app/cache.py": "import sqlalchemy.ext.asyncio as sa\n"
        'maker = sa.async_sessionmaker(sa.create_async_engine("sqlite+aiosqlite://"))\n'
    },
    "a sync factory": {
        "app/sync.py": "from sqlalchemy.orm import sessionmaker\nmaker = sessionmaker(None)\n"
    },
    "what only uses and annotates": {
        "app/deps.py": "from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker\n"
        "from app.db.session import SessionLocal\n"
        "def get() -> async_sessionmaker:\n    return SessionLocal\n"
    },
}


@pytest.mark.parametrize("others", NO_BUILDERS.values(), ids=NO_BUILDERS.keys())
def test_what_makes_no_builder_less_lone(others: dict[str, str], tmp_path: Path) -> None:
    lay_out(tmp_path, {**PACKAGE, **others})
    found, [notice] = check(tmp_path / "app")
    assert "app/db/engine.py and app/db/session.py alone build" in notice
    assert found == []


def test_a_file_called_env_that_is_not_alembics_is_a_builder(tmp_path: Path) -> None:
    lay_out(tmp_path, {**PACKAGE, "app/env.py": ENGINE}, select="SG201")
    assert [item.path.rpartition("/")[2] for item in check(tmp_path)[0]] == ["env.py", "engine.py"]


@pytest.mark.parametrize("pattern", ["app/**", "app/legacy/*.py", "**/*.py"])
def test_what_is_ignored_in_a_file_hides_neither_its_names_nor_the_handler(
    pattern: str, tmp_path: Path
) -> None:
    files = {
        "app/db.py": STANDARD,
        "app/legacy/database.py": ENGINE
        + FACTORY.replace("from app.db.engine import engine\n", ""),
        "jobs/old.py": USER.replace("app.db.session", "app.legacy.database"),
        "jobs/new.py": JOB.format(module="app.db"),
    }
    ignored = f'per-file-ignores = {{"{pattern}" = ["SG102", "SG201"]}}'
    lay_out(tmp_path, files, ignored)
    found, notices = check(tmp_path)
    assert notices == []
    assert [(i.path.rpartition("/")[2], i.code, i.fix is not None) for i in found] == [
        ("new.py", "SG101", True),
        ("old.py", "SG103", False),
    ]


@pytest.mark.parametrize(
    ("place", "module"),
    [
        ("app/db.py", "app.db"),
        ("src/app/db.py", "app.db"),
        ("src/session/async_session.py", "src.session.async_session"),
        ("backend/app/db/__init__.py", "app.db"),
        ("db.py", "db"),
    ],
)
def test_it_is_found_and_recognised_in_imports(place: str, module: str, tmp_path: Path) -> None:
    lay_out(tmp_path, {place: STANDARD, "app/jobs.py": JOB.format(module=module)})
    assert is_fixable(tmp_path, "app/jobs.py")


def test_a_relative_import_is_recognised(tmp_path: Path) -> None:
    lay_out(tmp_path, {"app/core/db.py": STANDARD, "app/jobs/a.py": JOB.format(module="..core.db")})
    assert is_fixable(tmp_path, "app/jobs/a.py")


def test_a_package_of_the_same_name_elsewhere_is_not_it(tmp_path: Path) -> None:
    files = {"app/__init__.py": "", "app/db.py": STANDARD, "other/jobs.py": JOB.format(module="db")}
    lay_out(tmp_path, files)
    assert not is_fixable(tmp_path, "other/jobs.py")


@pytest.mark.parametrize("name", ["app.db", "app/db.py"])
def test_it_can_be_configured(name: str, tmp_path: Path) -> None:
    files = {
        "app/db.py": STANDARD,
        "lib/db.py": STANDARD,
        "app/jobs.py": JOB.format(module="app.db"),
    }
    lay_out(tmp_path, files, f'handler = "{name}"')
    found, notices = check(tmp_path / "app")
    assert notices == []
    assert [item.fix is not None for item in found] == [True]
    assert check(tmp_path / "lib")[0] != []


def test_several_of_them_are_none_and_it_is_said(tmp_path: Path) -> None:
    files = {
        "app/db.py": STANDARD,
        "lib/db.py": STANDARD,
        "app/jobs.py": JOB.format(module="app.db"),
    }
    lay_out(tmp_path, files)
    found, [notice] = check(tmp_path)
    assert "app/db.py, lib/db.py" in notice
    assert "handler = " in notice
    assert all(item.fix is None for item in found)


def test_several_can_be_configured(tmp_path: Path) -> None:
    other = STANDARD.replace("get_background_session", "open_session")
    files = {"app/db.py": STANDARD, "lib/db.py": other, "app/jobs.py": JOB.format(module="app.db")}
    lay_out(tmp_path, files, 'handler = ["app.db", "lib.db"]')
    [finding] = check(tmp_path)[0]
    assert finding.fix is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("@asynccontextmanager\n", ""),
        ("async def get_background_session()", "async def get_background_session(name)"),
        ("async def get_background_session()", "def get_background_session()"),
    ],
)
def test_only_an_async_context_manager_without_arguments_is_one(
    old: str, new: str, tmp_path: Path
) -> None:
    assert old in STANDARD
    files = {"app/db.py": STANDARD.replace(old, new), "app/jobs.py": JOB.format(module="app.db")}
    lay_out(tmp_path, files)
    assert not is_fixable(tmp_path, "app/jobs.py")


@pytest.mark.parametrize("folder", ["tests", "examples", "vendor", ".venv", "docs", "build"])
def test_copies_that_are_not_the_projects_own_do_not_count(folder: str, tmp_path: Path) -> None:
    files = {
        "app/db.py": STANDARD,
        f"{folder}/db.py": STANDARD,
        "app/jobs.py": JOB.format(module="app.db"),
    }
    lay_out(tmp_path, files)
    assert is_fixable(tmp_path, "app/jobs.py")


def test_one_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    lay_out(tmp_path, {"app/jobs.py": JOB.format(module="app.db")}, 'handler = "app.gone"')
    with pytest.raises(ConfigError, match=r'`handler`: "app\.gone" is no module of this project'):
        check(tmp_path)


def test_one_that_cannot_be_parsed_is_an_error(tmp_path: Path) -> None:
    files = {"app/db.py": "def (:\n", "app/jobs.py": JOB.format(module="app.db")}
    lay_out(tmp_path, files, 'handler = "app.db"')
    with pytest.raises(ConfigError, match="cannot be parsed"):
        check(tmp_path)


@pytest.mark.parametrize("imported", [True, False])
def test_the_reference_handler_serves_copied_or_imported(imported: bool, tmp_path: Path) -> None:
    import session_guard

    reference = Path(session_guard.__file__).with_name("async_session.py").read_text()
    module = "session_guard.async_session" if imported else "app.async_session"
    files = {"app/jobs.py": JOB.format(module=module)}
    if not imported:
        files["app/async_session.py"] = reference
    lay_out(tmp_path, files, f'handler = "{module}"' if imported else "")
    [finding] = check(tmp_path)[0]
    assert finding.fix is not None
    assert finding.fix.applicability.value == "safe"


def test_one_with_newer_syntax_is_read_all_the_same(tmp_path: Path) -> None:
    newer = "type Name = str\n" + STANDARD
    lay_out(tmp_path, {"app/db.py": newer, "app/jobs.py": JOB.format(module="app.db")})
    assert is_fixable(tmp_path, "app/jobs.py")


def test_a_file_alone_has_the_findings_it_has_in_the_project(tmp_path: Path) -> None:
    files = {"app/db.py": STANDARD, "app/a.py": JOB.format(module="app.db")}
    files["app/b.py"] = "from app.db import background_task_session_factory as f\nf()\n"
    lay_out(tmp_path, files)
    together = check(tmp_path)[0]
    alone = [item for name in ("app/a.py", "app/b.py") for item in check(tmp_path / name)[0]]
    assert len(together) == 2
    assert [(i.code, i.line, i.fix) for i in alone] == [(i.code, i.line, i.fix) for i in together]


def test_the_handlers_own_factory_opens_the_gate(tmp_path: Path) -> None:
    lay_out(tmp_path, {"app/db.py": STANDARD})
    code = b"from app.db import background_task_session_factory as f\nf()\n"
    project = Project(Settings(root=tmp_path))
    names = project.exported_names
    assert b"background_task_session_factory" in names.makers
    assert any(rule.gate(code, names) for rule in load_rules())
    assert lint("x.py", tmp_path / "app" / "x.py", code, project, load_rules())


RENAMING = """\
from app.db import get_background_session
from app.db import get_background_session as background

session_scope = get_background_session
scopes = {"main": get_background_session}


def get_scope():
    return get_background_session


class Unit:
    scope = get_background_session
"""
SCOPES = {
    "the handler's own name": ("app.db", "get_background_session"),
    "imported by another name": ("app.db", "get_background_session as open_it"),
    "assigned to another name": ("app.uow", "session_scope"),
    "re-exported by another name": ("app.uow", "background"),
    "renamed twice": ("app.again", "once_more"),
    "an attribute of a class": ("app.uow", "Unit"),
    "an item of a dictionary": ("app.uow", "scopes"),
    "returned by a function": ("app.uow", "get_scope"),
}
OPENED = {
    "get_background_session as open_it": "open_it()",
    "Unit": "Unit.scope()",
    "scopes": 'scopes["main"]()',
    "get_scope": "get_scope()()",
}


@pytest.mark.parametrize(("module", "name"), SCOPES.values(), ids=SCOPES.keys())
def test_its_blocks_are_known_by_whatever_name(module: str, name: str, tmp_path: Path) -> None:
    job = f"""\
import asyncio
from {module} import {name}
from app.load import load

async def job(user):
    async with {OPENED.get(name, f"{name}()")} as s:
        try:
            s.add(user)
            await s.flush()
        except Exception:
            pass
        await asyncio.gather(load(s, 1), load(s, 2))
        await s.commit()
"""
    files = {
        "app/db.py": STANDARD,
        "app/uow.py": RENAMING,
        "app/again.py": "from app.uow import session_scope as twice\nonce_more = twice\n",
        "app/load.py": "async def load(db, number):\n    return await db.get(int, number)\n",
        "app/jobs.py": job,
    }
    lay_out(tmp_path, files, select="SG3")
    expected = [("SG304", 10), ("SG301", 12), ("SG303", 13)]
    assert [(item.code, item.line) for item in check(tmp_path / "app" / "jobs.py")[0]] == expected


MANAGER = "@asynccontextmanager\nasync def get_background_session("
assert MANAGER in STANDARD
METHOD = """
class Database:
    @asynccontextmanager
    async def session(self):
        async with background_task_session_factory() as session:
            try:
                yield session
                await session.commit()
            except Exception:
                await session.rollback()
                raise

database = Database()
"""
ALIASES = {
    "made by a call": STANDARD.replace(MANAGER, "async def _session(")
    + "\nget_background_session = asynccontextmanager(_session)\n",
    "a function under another name": STANDARD.replace(MANAGER, MANAGER.replace("get_back", "back"))
    + "\nget_background_session = background_session\n",
    "a method": STANDARD.replace("def get_background_session(", "def other(")
    + METHOD
    + "\nget_background_session = database.session\n",
    "a method of an object without a name": STANDARD.replace(
        "def get_background_session(", "def other("
    )
    + METHOD
    + "\nget_background_session = Database().session\n",
}


@pytest.mark.parametrize("handler", ALIASES.values(), ids=ALIASES.keys())
def test_it_may_be_bound_to_what_has_another_name(handler: str, tmp_path: Path) -> None:
    job = JOB.format(module="app.db") + (
        "\nasync def add(user):\n    async with get_background_session() as s:\n"
        "        s.add(user)\n        await s.commit()\n"
    )
    job = job.replace("import engine", "import engine, get_background_session")
    lay_out(tmp_path, {"app/db.py": handler, "app/jobs.py": job}, select="SG")
    [opened, committed], notices = check(tmp_path)
    assert notices == []
    assert (opened.code, committed.code) == ("SG101", "SG303")
    assert opened.fix is not None
    assert committed.fix is not None


ITS_ENGINE, REST = STANDARD.split("def get_background_task_session_factory", 1)
ITS_FACTORY, ITS_OPENING = REST.split("@asynccontextmanager", 1)
ITS_IMPORTS = ITS_ENGINE.split("DATABASE_URL =")[0]
ITS_FACTORY = f"def get_background_task_session_factory{ITS_FACTORY}"
ITS_OPENING = f"@asynccontextmanager{ITS_OPENING}"
APART = {
    "the engine": {
        "app/db/engine.py": ITS_ENGINE,
        "app/db/__init__.py": f"{ITS_IMPORTS}from app.db.engine import engine\n\n"
        f"{ITS_FACTORY}{ITS_OPENING}",
    },
    "engine and factory": {
        "app/db/engine.py": ITS_ENGINE + ITS_FACTORY,
        "app/db/__init__.py": f"{ITS_IMPORTS}from app.db.engine import *\n\n{ITS_OPENING}",
    },
    "each in a file": {
        "app/engine.py": ITS_ENGINE,
        "app/factory.py": f"{ITS_IMPORTS}from app.engine import engine\n\n{ITS_FACTORY}",
        "app/db/__init__.py": f"{ITS_IMPORTS}from app.engine import engine\n"
        f"from app.factory import background_task_session_factory\n\n{ITS_OPENING}",
    },
    "the engine, made by a function": {
        "app/engine.py": ITS_ENGINE.replace(
            "engine = create_async_engine(", "def make():\n  return create_async_engine("
        ),
        "app/db/__init__.py": f"{ITS_IMPORTS}from app.engine import make\n\n"
        f"engine = make()\n\n{ITS_FACTORY}{ITS_OPENING}",
    },
}


@pytest.mark.parametrize("configured", [False, True])
@pytest.mark.parametrize("files", APART.values(), ids=APART.keys())
def test_what_it_imports_its_engine_and_factory_from_may_build_them(
    files: dict[str, str], configured: bool, tmp_path: Path
) -> None:
    other = ITS_ENGINE + "\nanother_factory = async_sessionmaker(engine)\n"
    files = {**files, "app/__init__.py": "", "app/other.py": other}
    files["app/jobs.py"] = JOB.format(module="app.db")
    table = 'handler = "app.db"' if configured else ""
    lay_out(tmp_path, files, table, select="SG")
    found, notices = check(tmp_path)
    assert notices == []
    by_file = {(item.path.rpartition("/")[2], item.code) for item in found}
    assert by_file >= {("jobs.py", "SG101"), ("other.py", "SG201"), ("other.py", "SG102")}
    assert {name for name, code in by_file if code.startswith("SG1") or code == "SG201"} == {
        "jobs.py",
        "other.py",
    }


NO_ALIASES = {
    "what takes an argument": "async def _session(name):\n    yield name\n\n"
    "get_background_session = asynccontextmanager(_session)\n",
    "a generator that nothing makes a context manager": "async def _session():\n"
    "    yield background_task_session_factory()\n\nget_background_session = _session\n",
    "a method without an object": METHOD + "\nget_background_session = Database.session\n",
    "what is not known": "get_background_session = make()\n",
}


@pytest.mark.parametrize("code", NO_ALIASES.values(), ids=NO_ALIASES.keys())
def test_what_is_bound_to_something_else_is_none(code: str, tmp_path: Path) -> None:
    handler = STANDARD.replace("def get_background_session(", "def other(") + "\n" + code
    lay_out(tmp_path, {"app/db.py": handler, "app/jobs.py": JOB.format(module="app.db")})
    assert not is_fixable(tmp_path, "app/jobs.py")


def test_another_modules_context_manager_under_the_same_name_is_no_second_one(
    tmp_path: Path,
) -> None:
    files = {
        "app/db.py": STANDARD,
        "app/deps.py": "from contextlib import asynccontextmanager\nfrom app import db\n\n"
        "get_background_session = db.get_background_session\n",
        "app/jobs.py": JOB.format(module="app.db"),
    }
    lay_out(tmp_path, files)
    assert is_fixable(tmp_path, "app/jobs.py")


@pytest.mark.parametrize("name", ["app.db", "app.db.session", "app/db/session.py"])
def test_a_package_that_re_exports_it_can_be_configured(name: str, tmp_path: Path) -> None:
    files = {
        "app/__init__.py": "",
        "app/db/__init__.py": "from .session import engine, get_background_session\n",
        "app/db/session.py": STANDARD,
        "app/jobs.py": JOB.format(module="app.db"),
    }
    lay_out(tmp_path, files, f'handler = "{name}"')
    found, notices = check(tmp_path)
    assert notices == []
    assert [(item.path.rpartition("/")[2], item.fix is not None) for item in found] == [
        ("jobs.py", True)
    ]


def test_the_fix_imports_from_the_package_that_is_configured(tmp_path: Path) -> None:
    files = {
        "app/__init__.py": "",
        "app/db/__init__.py": "from .session import engine, get_background_session\n",
        "app/db/session.py": STANDARD,
        "app/jobs.py": JOB.format(module="app.db"),
    }
    lay_out(tmp_path, files, 'handler = "app.db"')
    list(Run(Options(paths=(str(tmp_path / "app" / "jobs.py"),))).fix(unsafe=False, write=True))
    assert "from app.db import get_background_session\n" in (tmp_path / "app/jobs.py").read_text()


@pytest.mark.parametrize("source", ["src", "backend/src", "services/api/src"])
def test_its_dotted_name_may_be_counted_from_a_folder_below_the_root(
    source: str, tmp_path: Path
) -> None:
    files = {
        f"{source}/app/__init__.py": "",
        f"{source}/app/db.py": STANDARD,
        f"{source}/app/jobs.py": JOB.format(module="app.db"),
    }
    lay_out(tmp_path, files, 'handler = "app.db"')
    found, notices = check(tmp_path)
    assert notices == []
    assert [item.fix is not None for item in found] == [True]


REFERENCE_IMPORTS = {
    "from the package": ("from session_guard.async_session import engine", "app/jobs.py"),
    "the module": ("from session_guard import async_session", "app/jobs.py"),
    "by a module of the project's": (
        "from session_guard.async_session import engine, get_background_session",
        "app/db.py",
    ),
}


@pytest.mark.parametrize(
    ("imported", "where"), REFERENCE_IMPORTS.values(), ids=REFERENCE_IMPORTS.keys()
)
def test_the_reference_handler_is_known_by_its_import_alone(
    imported: str, where: str, tmp_path: Path
) -> None:
    module = "session_guard.async_session" if where == "app/jobs.py" else "app.db"
    files = {"app/__init__.py": "", where: f"{imported}\n", "app/a.py": JOB.format(module=module)}
    lay_out(tmp_path, files)
    [finding] = check(tmp_path / "app" / "a.py")[0]
    assert finding.fix is not None
    assert finding.fix.applicability.value == "safe"


def test_the_reference_handler_is_not_taken_for_one_of_the_projects(tmp_path: Path) -> None:
    files = {
        "app/db.py": STANDARD,
        "app/other.py": "from session_guard.async_session import get_session\n",
        "app/jobs.py": JOB.format(module="app.db"),
    }
    lay_out(tmp_path, files)
    found, notices = check(tmp_path)
    assert notices == []
    assert [item.fix is not None for item in found] == [True]


def test_a_module_that_its_package_hides_is_no_handler(tmp_path: Path) -> None:
    files = {"app/__init__.py": "", "app/db.py": STANDARD, "app/db/__init__.py": STANDARD}
    lay_out(tmp_path, files)
    handlers = Project(Settings(root=tmp_path)).handlers
    assert [handler.path for handler in handlers] == [tmp_path / "app" / "db" / "__init__.py"]
