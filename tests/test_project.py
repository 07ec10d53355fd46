"""Names across files: what is built in one module is known for what it is in another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from session_guard.runner import Options, Run

if TYPE_CHECKING:
    from pathlib import Path

DB = """\
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

engine = create_async_engine("postgresql+asyncpg://db")
SessionLocal = async_sessionmaker(engine)


class TenantSession(AsyncSession):
    pass
"""
# A second builder, so that none of them is alone in building and everything is reported.
OTHER = DB.replace("SessionLocal", "OtherLocal").replace("TenantSession", "OtherSession")
BLOCK = "\nasync def job():\n    async with {}() as s:\n        pass\n"
USE = (
    "from {module} import {name}\n\nasync def job():\n    async with {name}() as s:\n        pass\n"
)


def found(root: Path, files: dict[str, str], checked: str) -> list[tuple[str, int]]:
    """Lay out a project and return what is found in one of its files, named alone."""
    (root / "pyproject.toml").write_text('[tool.session-guard]\nselect = ["SG10"]\n')
    for name, text in {"other_db.py": OTHER, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    run = Run(Options(paths=(str(root / checked),)))
    return [(item.code, item.line) for items in run.check() for item in items]


SPELLINGS = {
    "absolute": (
        {"app/db.py": DB},
        "app/jobs.py",
        USE.format(module="app.db", name="SessionLocal"),
    ),
    "relative": ({"app/db.py": DB}, "app/jobs.py", USE.format(module=".db", name="SessionLocal")),
    "two levels up": (
        {"app/core/db.py": DB},
        "app/jobs/mail/send.py",
        USE.format(module="...core.db", name="SessionLocal"),
    ),
    "re-exported by a package": (
        {"app/db/__init__.py": "from .session import SessionLocal\n", "app/db/session.py": DB},
        "app/jobs.py",
        USE.format(module="app.db", name="SessionLocal"),
    ),
    "re-exported under another name": (
        {
            "app/db/__init__.py": "from .session import SessionLocal as open_it\n",
            "app/db/session.py": DB,
        },
        "app/jobs.py",
        USE.format(module="app.db", name="open_it"),
    ),
    "assigned to another name": (
        {
            "app/db.py": DB,
            "app/names.py": "from app.db import SessionLocal\nopen_it = SessionLocal\n",
        },
        "app/jobs.py",
        USE.format(module="app.names", name="open_it"),
    ),
    "through a chain": (
        {
            "app/a.py": "from app.b import three\n",
            "app/b.py": "from app.c import two as three\n",
            "app/c.py": "from app.db import SessionLocal as two\n",
            "app/db.py": DB,
        },
        "app/jobs.py",
        USE.format(module="app.a", name="three"),
    ),
    "by star": (
        {"app/__init__.py": "from app.db import *\n", "app/db.py": DB},
        "jobs.py",
        USE.format(module="app", name="SessionLocal"),
    ),
    "by star, with __all__": (
        {
            "app/__init__.py": "from app.db import *\n",
            "app/db.py": DB + '\n__all__ = ["SessionLocal"]\n',
        },
        "jobs.py",
        USE.format(module="app", name="SessionLocal"),
    ),
    "by star in the file itself": (
        {"app/db.py": DB},
        "app/jobs.py",
        "from app.db import *\n" + BLOCK.format("SessionLocal"),
    ),
    "src layout": (
        {"src/app/__init__.py": "", "src/app/db.py": DB},
        "src/app/jobs.py",
        USE.format(module="app.db", name="SessionLocal"),
    ),
    "several packages": (
        {
            "packages/a/a/__init__.py": "",
            "packages/a/a/db.py": DB,
            "packages/b/b/__init__.py": "",
        },
        "packages/b/b/jobs.py",
        USE.format(module="a.db", name="SessionLocal"),
    ),
    "the module": (
        {"app/db.py": DB},
        "app/jobs.py",
        "from app import db\n" + BLOCK.format("db.SessionLocal"),
    ),
    "the module by its dotted name": (
        {"app/db.py": DB},
        "jobs.py",
        "import app.db\n" + BLOCK.format("app.db.SessionLocal"),
    ),
    "returned by a function": (
        {
            "app/db.py": DB + "\ndef factory():\n    return SessionLocal\n",
        },
        "app/jobs.py",
        "from app.db import factory\n" + BLOCK.format("factory()"),
    ),
    "an attribute of an instance": (
        {
            "app/db.py": DB,
            "app/service.py": (
                "from app.db import SessionLocal\nclass Service:\n    def __init__(self):\n"
                "        self.sessions = SessionLocal\n\nservice = Service()\n"
            ),
        },
        "app/jobs.py",
        "from app.service import service\n" + BLOCK.format("service.sessions"),
    ),
    "newer syntax than the interpreter's": (
        {"app/db.py": "type Name = str\n" + DB},
        "app/jobs.py",
        USE.format(module="app.db", name="SessionLocal"),
    ),
}


@pytest.mark.parametrize(("files", "name", "code"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_factory_of_another_file(
    files: dict[str, str], name: str, code: str, tmp_path: Path
) -> None:
    line = code[: code.index("async with")].count("\n") + 1
    assert found(tmp_path, {**files, name: code}, name) == [("SG103", line)]


NOT_IT = {
    "a name that __all__ leaves out": (
        {
            "app/__init__.py": "from app.db import *\n",
            "app/db.py": DB + '\n__all__ = ["engine"]\n',
        },
        USE.format(module="app", name="SessionLocal"),
    ),
    "a module outside the project": (
        {"app/db.py": DB},
        USE.format(module="lib.db", name="SessionLocal"),
    ),
    "a name the module does not have": (
        {"app/db.py": DB},
        USE.format(module="app.db", name="Session"),
    ),
    "a cycle": (
        {"app/a.py": "from app.b import x\n", "app/b.py": "from app.a import x\n"},
        USE.format(module="app.a", name="x") + "# AsyncSession(\n",
    ),
    "a stub": ({"app/db.pyi": DB}, USE.format(module="app.db", name="SessionLocal")),
    "a parameter": (
        {"app/db.py": DB},
        "async def job(SessionLocal):\n    async with SessionLocal() as s:\n        pass\n",
    ),
    "a package within a package, by its short name": (
        {"lib/__init__.py": "", "lib/db.py": DB},
        USE.format(module="db", name="SessionLocal"),
    ),
}


@pytest.mark.parametrize(("files", "code"), NOT_IT.values(), ids=NOT_IT.keys())
def test_what_is_no_factory_of_another_file(
    files: dict[str, str], code: str, tmp_path: Path
) -> None:
    assert found(tmp_path, {**files, "app/jobs.py": code}, "app/jobs.py") == []


def test_a_session_class_of_another_file(tmp_path: Path) -> None:
    code = USE.format(module="app.db", name="TenantSession")
    assert found(tmp_path, {"app/db.py": DB, "app/jobs.py": code}, "app/jobs.py") == [("SG101", 4)]


def test_a_subclass_of_a_class_of_another_file(tmp_path: Path) -> None:
    code = "from app.db import TenantSession\nclass Mine(TenantSession): pass\nMine()\n"
    assert found(tmp_path, {"app/db.py": DB, "app/jobs.py": code}, "app/jobs.py") == [("SG101", 3)]


def test_self_attributes_within_a_class_and_its_subclass(tmp_path: Path) -> None:
    code = """\
from sqlalchemy.ext.asyncio import async_sessionmaker

class Base:
    def __init__(self, engine):
        self._sessions = async_sessionmaker(engine)

class Service(Base):
    async def run(self):
        async with self._sessions() as s:
            pass
        async with self._other() as s:
            pass
"""
    assert found(tmp_path, {"app/s.py": code}, "app/s.py") == [("SG102", 5), ("SG103", 9)]


def test_nothing_is_imported_or_run(tmp_path: Path) -> None:
    files = {"app/db.py": DB + "\nraise SystemExit('run')\n"}
    code = USE.format(module="app.db", name="SessionLocal")
    assert found(tmp_path, {**files, "app/jobs.py": code}, "app/jobs.py") == [("SG103", 4)]


def test_the_engine_of_another_module_is_the_handlers(tmp_path: Path) -> None:
    handler = """\
from contextlib import asynccontextmanager
from app.database import SessionLocal

@asynccontextmanager
async def get_background_session():
    async with SessionLocal() as session:
        yield session
        await session.commit()
"""
    database = DB.replace("(engine)", "(engine, expire_on_commit=False, autoflush=False)")
    job = """\
from sqlalchemy.ext.asyncio import AsyncSession
from app.database import engine

async def job():
    async with AsyncSession(engine) as s:
        await s.commit()
"""
    files = {"app/handler.py": handler, "app/database.py": database, "app/jobs.py": job}
    assert found(tmp_path, files, "app/jobs.py") == [("SG101", 5)]
    run = Run(Options(paths=(str(tmp_path / "app" / "jobs.py"),)))
    [fixed] = run.fix(unsafe=False, write=True)
    assert fixed.remaining == ()
    assert (
        (tmp_path / "app" / "jobs.py").read_text()
        == """\
from app.handler import get_background_session

async def job():
    async with get_background_session() as s:
        await s.commit()
"""
    )
