"""What real code does that looks like a breach of the standard, or hides one: each trap by name.

Each is a project of several files, as real ones are, with what is found in it, place by place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from session_guard.runner import Options, Run

if TYPE_CHECKING:
    from pathlib import Path

    from session_guard.rule import Finding

HANDLER = """\
from contextlib import asynccontextmanager
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

SETTINGS = {
    "prepared_statement_name_func": lambda: "",
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
}
engine = create_async_engine("postgresql+asyncpg://app@db:6432/app", connect_args=SETTINGS)
factory = async_sessionmaker(engine, expire_on_commit=False, autoflush=False)

@asynccontextmanager
async def get_background_session():
    async with factory() as session:
        try:
            yield session
            await session.commit()
        except Exception:
            await session.rollback()
            raise
"""
LOAD = """\
async def load(db, number):
    return await db.get(int, number)

async def load_own(make):
    async with make() as session:
        return await session.get(int, 1)

async def nothing(db):
    return 1
"""
PROJECT = """\
[project]
dependencies = ["sqlalchemy==2.0.36", "asyncpg==0.30.0"]
[tool.session-guard]
"""


def findings_in(root: Path, files: dict[str, str]) -> list[Finding]:
    (root / "pyproject.toml").write_text(PROJECT)
    for name, text in {"app/db.py": HANDLER, "app/load.py": LOAD, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    run = Run(Options(paths=(str(root),)))
    return [item for found in run.check() for item in found]


def places(root: Path, files: dict[str, str]) -> list[str]:
    """Lay out a project and return what is found in it, as `file:line CODE`, in order."""
    return sorted(
        f"{item.path.removeprefix(f'{root}/')}:{item.line} {item.code}"
        for item in findings_in(root, files)
    )


def test_a_local_variable_called_async_sessionmaker(tmp_path: Path) -> None:
    """It is what it holds: the handler's factory is found, what is handed in is not."""
    code = """\
from app.db import factory
from app.elsewhere import get_maker

async def own():
    async_sessionmaker = factory
    async with async_sessionmaker() as s:
        await s.commit()

async def unknown():
    async_sessionmaker = get_maker()
    async with async_sessionmaker() as s:
        await s.commit()

async def handed_in(async_sessionmaker):
    async with async_sessionmaker() as s:
        await s.commit()

class Service:
    def __init__(self, async_sessionmaker):
        self.async_sessionmaker = async_sessionmaker

    async def run(self):
        async with self.async_sessionmaker() as s:
            await s.commit()
"""
    assert places(tmp_path, {"app/jobs.py": code}) == ["app/jobs.py:6 SG103"]


def test_a_function_of_the_projects_called_create_async_engine(tmp_path: Path) -> None:
    pools = """\
from sqlalchemy.ext.asyncio import create_async_engine as create

def create_async_engine(name):
    return create("postgresql+asyncpg://db/" + name)

def async_sessionmaker(engine):
    return engine

class AsyncSession:
    pass
"""
    code = """\
from app.pools import AsyncSession, async_sessionmaker, create_async_engine

engine = create_async_engine("worker")
maker = async_sessionmaker(engine)
session = AsyncSession()
"""
    files = {"app/pools.py": pools, "app/jobs.py": code}
    assert places(tmp_path, files) == ["app/pools.py:4 SG201", "app/pools.py:4 SG202"]


SETTINGS = """\
from sqlalchemy.ext.asyncio import create_async_engine

def pooler_args():
    return {
        "prepared_statement_name_func": lambda: "",
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
    }

def partial_args():
    return {"statement_cache_size": 0}

def build(name, **kw):
    kw.setdefault("connect_args", pooler_args())
    return create_async_engine(f"postgresql+asyncpg://db/{name}", **kw)

OPTIONS = {"pool_size": 4, "connect_args": pooler_args()}

class Settings:
    @property
    def args(self):
        found = {}
        if self.pooled:
            found.update(pooler_args())
        return found

settings = Settings()
"""
REACHED = {
    "a helper of another module": ("connect_args=pooler_args()", []),
    "a helper of another module, with more": ("connect_args={**pooler_args(), 'timeout': 3}", []),
    "a helper of another module, in dict()": ("connect_args=dict(pooler_args(), timeout=3)", []),
    "a helper of another module, merged": ("connect_args=pooler_args() | {'timeout': 3}", []),
    "a helper of another module that sets some": ("connect_args=partial_args()", ["SG202"]),
    "options of another module": ("**OPTIONS", []),
    "a conditional": ("connect_args=pooler_args() if production else {}", []),
    "a property with a conditional": ("connect_args=settings.args", []),
    "options that are not known": ("**load_options()", []),
    "settings that are not known": ("connect_args=load_settings()", []),
    "none": ("pool_size=3", ["SG202"]),
}


@pytest.mark.parametrize(("given", "codes"), REACHED.values(), ids=REACHED.keys())
def test_settings_that_reach_the_engine_through(
    given: str, codes: list[str], tmp_path: Path
) -> None:
    code = f"""\
from sqlalchemy.ext.asyncio import create_async_engine
from app.settings import OPTIONS, partial_args, pooler_args, settings
from app.elsewhere import load_options, load_settings, production

engine = create_async_engine("postgresql+asyncpg://db/app", {given})
"""
    files = {"app/settings.py": SETTINGS, "app/engines.py": code}
    found = [place for place in places(tmp_path, files) if place.startswith("app/engines")]
    assert found == [f"app/engines.py:5 {found_code}" for found_code in ["SG201", *codes]]


def test_settings_that_reach_the_engine_through_the_keywords_of_a_function(tmp_path: Path) -> None:
    code = """\
from sqlalchemy.ext.asyncio import create_async_engine
from app.settings import build, pooler_args

def make(**kwargs):
    return create_async_engine("postgresql+asyncpg://db/app", **kwargs)

one, two = make(connect_args=pooler_args()), build("two")
options = {}
if one:
    options["connect_args"] = pooler_args()
three = create_async_engine("postgresql+asyncpg://db/app", **options)
"""
    files = {"app/settings.py": SETTINGS, "app/engines.py": code}
    assert places(tmp_path, files) == [
        "app/engines.py:11 SG201",
        "app/engines.py:5 SG201",
        "app/settings.py:15 SG201",
    ]


def test_a_query_of_a_url_that_is_put_together_with_parse_qs(tmp_path: Path) -> None:
    """What is in the query is not known: it is neither misplaced, nor unknown to asyncpg."""
    code = """\
import os
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit
from sqlalchemy.ext.asyncio import create_async_engine
from app.db import SETTINGS

def url():
    parts = urlsplit(os.environ["DATABASE_URL"])
    query = parse_qs(parts.query)
    query["prepared_statement_cache_size"] = ["0"]
    query["statement_cache_size"] = ["0"]
    query.pop("sslmode", None)
    return urlunsplit(parts._replace(query=urlencode(query, doseq=True)))

parsed = urlsplit("postgresql+asyncpg://db/app?sslmode=require&raw_sql=1")
kept = {key: value for key, value in parse_qs(parsed.query).items() if key != "sslmode"}
one = create_async_engine(url(), connect_args=SETTINGS)
two = create_async_engine(parsed._replace(query=urlencode(kept)).geturl(), connect_args=SETTINGS)
"""
    expected = ["app/engines.py:16 SG201", "app/engines.py:17 SG201"]
    assert places(tmp_path, {"app/engines.py": code}) == expected


BASE = """\
from sqlalchemy.ext.asyncio import AsyncSession

class BaseRepository:
    def __init__(self, session: AsyncSession):
        self.session = session

    async def one(self, number):
        return await self.session.get(int, number)

class Annotated:
    session: AsyncSession

class Unknown:
    def __init__(self, session):
        self.session = session
"""


def test_a_session_behind_self_session_in_another_file(tmp_path: Path) -> None:
    code = """\
import asyncio
from app.base import Annotated, BaseRepository, Unknown

class Repository(BaseRepository):
    async def many(self, numbers):
        return await asyncio.gather(*[self.one(number) for number in numbers])

    async def mapped(self, numbers):
        return await asyncio.gather(*map(self.one, numbers))

    async def first(self, number):
        return await asyncio.gather(self.one(number), asyncio.sleep(1))

class Other(Annotated):
    async def many(self, numbers):
        return await asyncio.gather(*[self.session.get(int, n) for n in numbers])

class Nobodys(Unknown):
    async def many(self, numbers):
        return await asyncio.gather(*[self.session.get(int, n) for n in numbers])

async def page(repository: BaseRepository):
    await asyncio.gather(repository.one(1), repository.one(2))

class Service:
    def __init__(self, repository: BaseRepository):
        self.repository = repository

    async def run(self):
        await asyncio.gather(self.repository.one(1), self.repository.one(2))
"""
    files = {"app/base.py": BASE, "app/repositories.py": code}
    expected = [f"app/repositories.py:{line} SG301" for line in (16, 23, 30, 6, 9)]
    assert places(tmp_path, files) == expected


def test_a_session_in_a_list_of_coroutines_that_was_built_before(tmp_path: Path) -> None:
    code = """\
import asyncio
from app.base import BaseRepository

class Repository(BaseRepository):
    async def listed(self, numbers):
        coroutines = [self.session.get(int, number) for number in numbers]
        coroutines.append(self.session.get(int, 0))
        return await asyncio.gather(*coroutines)

    async def appended(self, a, b):
        coroutines = []
        coroutines.append(self.one(a))
        if b:
            coroutines.append(self.one(b))
        await asyncio.gather(*coroutines)

    async def generated(self, numbers):
        coroutines = (self.one(number) for number in numbers)
        await asyncio.gather(*coroutines)

    async def only_one(self, number):
        coroutines = [self.one(number), asyncio.sleep(1)]
        await asyncio.gather(*coroutines)
"""
    files = {"app/base.py": BASE, "app/repositories.py": code}
    expected = [f"app/repositories.py:{line} SG301" for line in (15, 19, 8)]
    assert places(tmp_path, files) == expected


def test_gather_over_a_factory_and_where_one_coroutine_alone_uses_the_session(
    tmp_path: Path,
) -> None:
    code = """\
import asyncio
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from app.db import factory, get_background_session
from app.load import load, load_own, nothing

async def a_factory(db: async_sessionmaker[AsyncSession]):
    await asyncio.gather(load_own(db), load_own(db))

async def the_handlers_factory(db=factory):
    await asyncio.gather(load_own(db), load_own(db))

async def the_handler():
    db = get_background_session
    await asyncio.gather(load_own(db), load_own(db))

async def beside_others(db: AsyncSession):
    await asyncio.gather(load(db, 1), asyncio.sleep(1))

async def beside_what_leaves_it_alone(db: AsyncSession):
    await asyncio.gather(load(db, 1), nothing(db))

async def shared(db: AsyncSession):
    await asyncio.gather(load(db, 1), load(db, 2))
"""
    assert places(tmp_path, {"app/pages.py": code}) == ["app/pages.py:23 SG301"]


def test_add_task_of_a_progress_bar(tmp_path: Path) -> None:
    code = """\
from fastapi import BackgroundTasks
from rich.progress import Progress
from sqlalchemy.ext.asyncio import AsyncSession
from app.load import load

async def shown(db: AsyncSession, progress: Progress):
    progress.add_task("loading", total=db)

class View:
    progress: Progress

    async def shown(self, db: AsyncSession):
        self.progress.add_task(load, db)

async def scheduled(db: AsyncSession, scheduler):
    scheduler.add_task(load, db)

async def later(db: AsyncSession, background: BackgroundTasks):
    background.add_task(load, db, 1)
"""
    assert places(tmp_path, {"app/pages.py": code}) == ["app/pages.py:19 SG301"]


def test_set_and_listen_that_are_english(tmp_path: Path) -> None:
    code = """\
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

async def job(session: AsyncSession, bot, message):
    await bot.execute("Set your password")
    await message.execute("Listen to the radio")
    await session.execute(text("SELECT 'Set name', 'LISTEN x'"))
    await session.execute(text("INSERT INTO notes VALUES ('LISTEN to me')"))
    await session.execute(text("-- set up the thing\\nSELECT 1"))
    await session.execute(text("SET search_path TO tenant"))
"""
    assert places(tmp_path, {"app/jobs.py": code}) == ["app/jobs.py:10 SG302"]


def test_advisory_locks_of_func(tmp_path: Path) -> None:
    code = """\
import logging
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

async def job(session: AsyncSession):
    logging.info("%s", func.pg_advisory_lock)
    await session.execute(select(func.pg_advisory_xact_lock(1)))
    await session.scalar(select(func.pg_advisory_lock(1)))
    await session.scalar(select(func.pg_try_advisory_lock(1)))
    await session.execute(text("SELECT pg_advisory_lock(:key)"), {"key": 1})
    statement = select(func.pg_advisory_lock(3))
    await session.execute(statement)
"""
    expected = [f"app/jobs.py:{line} SG302" for line in (10, 12, 8, 9)]
    assert places(tmp_path, {"app/jobs.py": code}) == expected


def test_an_engine_passed_as_a_parameter(tmp_path: Path) -> None:
    """The seam for tests: the session is found, no fix puts the handler's engine in its place."""
    code = """\
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

async def job(engine: AsyncEngine):
    async with AsyncSession(engine) as s:
        await s.commit()

async def through_a_factory(engine: AsyncEngine):
    maker = async_sessionmaker(engine)
    async with maker() as s:
        await s.commit()
"""
    found = findings_in(tmp_path, {"app/jobs.py": code})
    assert [(item.code, item.line) for item in found] == [("SG101", 4), ("SG102", 8), ("SG103", 9)]
    assert all(item.fix is None for item in found)


def test_a_maker_that_is_a_parameter_or_a_default(tmp_path: Path) -> None:
    """Found where the default is opened, and never fixed: callers may hand in another."""
    code = """\
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from app.db import factory

class Service:
    def __init__(self, maker: async_sessionmaker[AsyncSession] | None = None):
        self.maker = maker or factory

    async def run(self):
        async with self.maker() as s:
            await s.commit()

async def job(maker=None):
    maker = maker or factory
    async with maker() as s:
        await s.commit()

async def handed_in(maker=factory):
    async with maker() as s:
        await s.commit()
"""
    found = findings_in(tmp_path, {"app/jobs.py": code})
    assert [(item.code, item.line) for item in found] == [("SG103", 9), ("SG103", 14)]
    assert all(item.fix is None for item in found)


def test_an_engine_disposed_inside_the_block(tmp_path: Path) -> None:
    """The session keeps its connection until it is closed; an engine of one's own stays that."""
    code = """\
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from app.db import SETTINGS, engine
from app.models import User

async def own():
    engine = create_async_engine("postgresql+asyncpg://db/app", connect_args=SETTINGS)
    async with AsyncSession(engine) as s:
        await s.commit()
        await engine.dispose()

async def committed():
    async with AsyncSession(engine) as s:
        await s.commit()
        await engine.dispose()

async def written():
    async with AsyncSession(engine) as s:
        s.add(User())
        await engine.dispose()

async def by_another_function():
    async with AsyncSession(engine) as s:
        await s.scalar(select(User.id))
        await close_all()

async def close_all():
    await engine.dispose()
"""
    found = findings_in(tmp_path, {"app/jobs.py": code})
    levels = {i.line: i.fix.applicability.value if i.fix else None for i in found}
    assert levels == {7: None, 8: None, 13: "safe", 18: "unsafe", 23: "safe"}


def test_an_error_that_is_caught_for_each_item_of_a_loop(tmp_path: Path) -> None:
    """The commit on leaving raises, or takes back without a word what was written before."""
    code = """\
import logging
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import engine, get_background_session
from app.models import Item

async def swallowed(items):
    async with get_background_session() as s:
        for item in items:
            try:
                s.add(Item(item))
                await s.flush()
            except Exception:
                logging.exception("skipped")

async def in_savepoints(items):
    async with get_background_session() as s:
        for item in items:
            try:
                async with s.begin_nested():
                    s.add(Item(item))
            except Exception:
                logging.exception("skipped")

async def swallowed_by_its_own(items):
    async with AsyncSession(engine) as s:
        for item in items:
            try:
                s.add(Item(item))
                await s.commit()
            except Exception:
                await s.rollback()
"""
    found = findings_in(tmp_path, {"app/jobs.py": code})
    assert [(item.code, item.line) for item in found] == [("SG304", 12), ("SG101", 25)]
    assert found[1].fix is not None
    assert found[1].fix.applicability.value == "unsafe"


def test_sqlite_that_is_known_only_through_an_attribute_or_a_default(tmp_path: Path) -> None:
    config = """\
import os
from pydantic_settings import BaseSettings

class Settings(BaseSettings):
    database_url: str = "sqlite+aiosqlite:///app.db"

settings = Settings()
URL = os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///app.db")
"""
    stores = """\
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from app.config import URL, settings

maker = async_sessionmaker(create_async_engine(settings.database_url))
engine = create_async_engine(URL)

class Store:
    def __init__(self, url: str = "sqlite+aiosqlite://"):
        self.url = url
        self.engine = create_async_engine(self.url)
        self.maker = async_sessionmaker(self.engine)

    async def run(self):
        async with self.maker() as s:
            await s.commit()
        async with AsyncSession(self.engine) as s:
            await s.commit()
"""
    code = """\
from sqlalchemy.ext.asyncio import AsyncSession
from app.stores import Store, engine, maker

async def job():
    async with maker() as s:
        await s.commit()
    async with AsyncSession(engine) as s:
        await s.commit()
    async with Store().maker() as s:
        await s.commit()
"""
    files = {"app/config.py": config, "app/stores.py": stores, "app/jobs.py": code}
    assert places(tmp_path, files) == []


@pytest.mark.parametrize(
    ("name", "is_test"),
    [
        ("scripts/test_connection.py", True),
        ("app/load_test.py", True),
        ("tests/run.py", True),
        ("scripts/testing.py", False),
        ("scripts/contest_entry.py", False),
    ],
)
def test_scripts_named_like_tests_count_as_tests(name: str, is_test: bool, tmp_path: Path) -> None:
    code = """\
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

async def main():
    engine = create_async_engine("postgresql+asyncpg://db/app")
    async with AsyncSession(engine) as s:
        await s.commit()
"""
    found = places(tmp_path, {name: code})
    assert found == ([] if is_test else [f"{name}:4 SG201", f"{name}:4 SG202", f"{name}:5 SG101"])


def test_files_whose_syntax_is_newer_than_the_interpreter(tmp_path: Path) -> None:
    newer = """\
from app.db import factory as open_it

type Name = str

def first[T](items: list[T]) -> T:
    return items[0]

async def job():
    async with open_it() as s:
        print(f"{"quoted"}")
        await s.commit()
"""
    code = """\
from app.newer import open_it

async def job():
    async with open_it() as s:
        await s.commit()
"""
    files = {"app/newer.py": newer, "app/jobs.py": code}
    assert places(tmp_path, files) == ["app/jobs.py:4 SG103", "app/newer.py:9 SG103"]


def test_fixtures_outside_of_the_folders_of_tests(tmp_path: Path) -> None:
    body = """
    engine = create_async_engine("postgresql+asyncpg://test@db:6432/test")
    maker = async_sessionmaker(engine)
    async with maker() as session:
        yield session
"""
    plugin = f"""\
import functools
import pytest as pt
import pytest_asyncio
from pytest import fixture as given
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

for_all = pytest_asyncio.fixture(scope="session")

@given
async def one():{body}
@pt.fixture(scope="session")
async def two():{body}
@pytest_asyncio.fixture
async def three():
    async def inner():{body.replace(chr(10), chr(10) + "    ")}
    yield inner

@for_all
async def four():{body}
@functools.cache
async def build():{body}"""
    assert places(tmp_path, {"app/db.py": HANDLER, "app/testing_plugin.py": plugin}) == [
        "app/testing_plugin.py:42 SG201",
        "app/testing_plugin.py:42 SG202",
        "app/testing_plugin.py:43 SG102",
        "app/testing_plugin.py:44 SG103",
    ]


def test_an_engine_of_a_fixture_is_none_of_the_projects(tmp_path: Path) -> None:
    own = """\
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("postgresql+asyncpg://app@db/app")
"""
    fixture = """\
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

@pytest.fixture
def engine():
    return create_async_engine("postgresql+asyncpg://test@db:6432/test")
"""
    files = {"app/db.py": own, "app/plugin.py": fixture}
    assert places(tmp_path, files) == ["app/db.py:3 SG202"]


CONTAINER = """\
from dependency_injector import containers, providers
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from app.service import Service

class Container(containers.DeclarativeContainer):
    engine = providers.Singleton(create_async_engine, "postgresql+asyncpg://app@db:6432/app")
    session_factory = providers.Singleton(async_sessionmaker, bind=engine)
    session = providers.Factory(AsyncSession, bind=engine)
    service = providers.Factory(Service, make=session_factory.provided)
"""
SERVICE = """\
class Service:
    def __init__(self, make):
        self.make = make

    async def run(self):
        async with self.make() as session:
            await session.commit()
"""
INJECTED = """\
from typing import Annotated
from dependency_injector.wiring import Provide, inject
from fastapi import Depends
from app.container import Container

@inject
async def one(make=Provide[Container.session_factory]):
    async with make() as session:
        await session.commit()

@inject
async def two(make: Annotated[object, Depends(Provide[Container.session_factory])]):
    async with make() as session:
        await session.commit()

async def three():
    async with Container.session_factory()() as session:
        await session.commit()

class Worker:
    def __init__(self, container: Container):
        self.container = container

    async def four(self):
        async with self.container.session() as session:
            await session.commit()

    async def five(self):
        await self.container.service().run()
"""


def test_what_a_container_of_dependency_injector_provides(tmp_path: Path) -> None:
    files = {"app/container.py": CONTAINER, "app/service.py": SERVICE, "app/use.py": INJECTED}
    assert places(tmp_path, files) == [
        "app/container.py:6 SG201",
        "app/container.py:6 SG202",
        "app/container.py:7 SG102",
        "app/container.py:8 SG101",
        "app/use.py:13 SG103",
        "app/use.py:17 SG103",
        "app/use.py:25 SG101",
        "app/use.py:8 SG103",
    ]
    files["app/container.py"] = CONTAINER.replace(
        "postgresql+asyncpg://app@db:6432/app", "sqlite+aiosqlite://"
    )
    assert places(tmp_path, files) == []


def test_the_settings_of_an_engine_that_a_container_provides_are_completed(tmp_path: Path) -> None:
    findings_in(tmp_path, {"app/container.py": CONTAINER, "app/service.py": SERVICE})
    run = Run(Options((str(tmp_path / "app" / "container.py"),), ('select = ["SG202"]',)))
    [result] = run.fix(unsafe=False, write=True)
    settings = '"prepared_statement_name_func": lambda: "", "statement_cache_size": 0, '
    lines = f'{settings}"prepared_statement_cache_size": 0, '.replace(", ", ",\n        ").rstrip(
        " "
    )
    assert result.after.decode() == CONTAINER.replace(
        ':6432/app"', f':6432/app", connect_args={{\n        {lines}    }}'
    )
    assert [item for found in run.check() for item in found] == []
