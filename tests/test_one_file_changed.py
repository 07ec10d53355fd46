"""After every edit a run that uses the cache says what one without it says."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from session_guard import config
from session_guard.runner import Options, Run
from tests.edits import Editor

if TYPE_CHECKING:
    from pathlib import Path

    from session_guard.rule import Finding

FILES = {
    "pyproject.toml": "[tool.session-guard]\n",
    "app/__init__.py": "",
    "app/db.py": """\
from contextlib import asynccontextmanager
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

engine = create_async_engine("postgresql+asyncpg://db/app")
factory = async_sessionmaker(engine, expire_on_commit=False)

@asynccontextmanager
async def get_background_session():
    async with factory() as session:
        try:
            yield session
            await session.commit()
        except BaseException:
            await session.rollback()
            raise
""",
    "app/names.py": """\
from app.db import engine, factory as make
from app.db import get_background_session as session
""",
    "app/models.py": """\
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

class Base(DeclarativeBase):
    pass

class Owner(Base):
    __tablename__ = "owners"
    id: Mapped[int] = mapped_column(primary_key=True)
    pets: Mapped[list["Pet"]] = relationship(back_populates="owner")

    @property
    def shown(self):
        return str(self.id)
""",
    "app/jobs.py": """\
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import engine
from app.models import Owner

async def job(number):
    async with AsyncSession(engine) as session:
        owner = await session.get(Owner, number)
        return owner.shown

async def all_jobs():
    async with AsyncSession(engine, expire_on_commit=False) as session:
        return list(await session.scalars(select(Owner)))
""",
    "app/work.py": """\
import asyncio
from app.names import make, session

async def work(numbers):
    async with make() as one:
        await asyncio.gather(*(helped(one, number) for number in numbers))
    async with session() as two:
        await two.execute("SELECT 1")

async def helped(given, number):
    await given.get(object, number)
""",
    "app/api.py": """\
from fastapi import APIRouter, Depends
from app.db import factory
from app.work import helped

router = APIRouter()

async def get_db():
    async with factory() as session:
        yield session

@router.get("/")
async def index(db=Depends(get_db)):
    await helped(db, 1)
    await db.commit()
""",
    "app/main.py": """\
from fastapi import FastAPI
from app.api import router
from app.db import factory

async def lifespan(app):
    app.state.factory = factory
    yield

app = FastAPI(lifespan=lifespan)
app.include_router(router)
""",
    "app/later.py": """\
async def later(app):
    async with app.state.factory() as session:
        await session.commit()
""",
    "app/plain.py": "def plain(rows):\n    return [row for row in rows if row]\n",
    "tests/conftest.py": "import pytest\n\n@pytest.fixture\ndef number():\n    return 1\n",
    "tests/test_jobs.py": """\
from unittest import mock
from app import jobs

async def test_job():
    with mock.patch("app.jobs.engine"):
        await jobs.job(1)
""",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(root)
    return root


def answer(cache: str | None) -> tuple[list[Finding], list[str]]:
    """Return what a run says, which begins as a new process does."""
    config._table.cache_clear()
    run = Run(Options((".",), cache_dir=cache))
    findings = [finding for found in run.check() for finding in found]
    return findings, run.notices


# What is written into a file that nothing has to do with, and changes what is said of others.
TELLING = {
    "it sets the engine": ("app/plain.py", "from app import db\ndb.engine = None\n"),
    "it sets the engine by its name": (
        "app/plain.py",
        "from app import db\nsetattr(db, 'engine', None)\n",
    ),
    "it changes the factory": (
        "app/plain.py",
        "from app.db import factory\nfactory.configure(autoflush=False)\n",
    ),
    "it has another handler": ("app/plain.py", FILES["app/db.py"]),
    "it listens to commits": (
        "app/plain.py",
        "from sqlalchemy import event\nevent.listen(object, 'before_commit', print)\n",
    ),
    "it patches": (
        "tests/conftest.py",
        "from unittest import mock\n\ndef test():\n    mock.patch('app.jobs.AsyncSession')\n",
    ),
    "it puts something else into the state": (
        "app/plain.py",
        "def start(app):\n    app.state.factory = None\n",
    ),
    "it has a property that sets something": (
        "app/plain.py",
        "class Plain:\n    @property\n    def shown(self):\n        self.at = 1\n",
    ),
    "it tracks changes": ("app/plain.py", "from sqlalchemy.ext.mutable import MutableDict\n"),
    "it takes what another imports": ("app/plain.py", "from app.jobs import AsyncSession\n"),
    "it names a route's function": (
        "app/plain.py",
        "from fastapi import FastAPI\nfrom app.jobs import job\n"
        "FastAPI().add_api_route('/', job)\n",
    ),
}


@pytest.mark.parametrize("case", TELLING)
def test_a_file_that_begins_to_matter_is_noticed(case: str, project: Path) -> None:
    name, text = TELLING[case]
    before = (project / name).read_text()
    time.sleep(0.03)
    was = answer("../cache")
    assert was[0]
    for written in (text, before):
        (project / name).write_text(written)
        assert answer("../cache") == answer(None)
        time.sleep(0.03)
        answer("../cache")  # and it is kept


@pytest.mark.parametrize("seed", range(3))
def test_an_edit_is_seen_in_every_file_that_it_matters_to(seed: int, project: Path) -> None:
    editor = Editor(project, random.Random(seed))
    made = []
    for _ in range(15):
        assert answer("../cache") == answer(None), made[-1:]
        time.sleep(0.03)  # what changes while a run is on its way is not kept
        made.append(editor.edit())
