"""Which engines are known to be another database's than PostgreSQL, and are no findings."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from session_guard.runner import Options, Run

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """\
import os
import aiosqlite
import asyncpg
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from app import config
from app.config import Conf, Settings, conf, get_url, make, settings

"""
CONFIG = """\
import os
from dataclasses import dataclass, field
from decouple import config
from pydantic import Field
from pydantic_settings import BaseSettings
from sqlalchemy.ext.asyncio import create_async_engine

class Settings(BaseSettings):
    lite: str = "sqlite+aiosqlite:///app.db"
    described: str = Field(default="sqlite+aiosqlite:///app.db", description="where it is")
    positional: str = Field("sqlite+aiosqlite:///app.db")
    from_env: str = os.getenv("DATABASE_URL", "sqlite+aiosqlite:///app.db")
    path: str = "app.db"
    postgres: str = Field(default="postgresql+asyncpg://db/app")
    required: str
    maybe: str | None = None

    @property
    def url(self) -> str:
        return f"sqlite+aiosqlite:///{self.path}"

@dataclass
class Conf:
    lite: str = "sqlite+aiosqlite:///app.db"
    described: str = field(default="sqlite+aiosqlite:///app.db")

settings = Settings()
conf = Conf()
GET_DEFAULT = os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///app.db")
OR_DEFAULT = os.getenv("DATABASE_URL") or "sqlite+aiosqlite:///app.db"
DECOUPLED = config("DATABASE_URL", default="sqlite+aiosqlite:///app.db")
SCHEME = "sqlite+aiosqlite"

def get_url():
    return os.getenv("DATABASE_URL", "sqlite+aiosqlite:///app.db")

def make(url):
    return create_async_engine(url)
"""
# A second builder, so that none of them is alone in building and everything is reported.
OTHERS = """\
from sqlalchemy.ext.asyncio import create_async_engine
one = create_async_engine("postgresql+asyncpg://one")
two = create_async_engine("postgresql+asyncpg://two")
# copy_by_all
"""


def found(root: Path, code: str) -> list[tuple[str, int]]:
    """Return what is found in a file, with the lines below its head."""
    (root / "pyproject.toml").write_text('[tool.session-guard]\nselect = ["SG101", "SG2"]\n')
    (root / "app").mkdir()
    (root / "app" / "config.py").write_text(CONFIG)
    (root / "app" / "others.py").write_text(OTHERS)
    path = root / "app" / "engines.py"
    path.write_text(HEAD + textwrap.dedent(code))
    run = Run(Options(paths=(str(path),)))
    above = HEAD.count("\n")
    return [(item.code, item.line - above) for items in run.check() for item in items]


URLS = {
    "a literal": '"sqlite+aiosqlite:///app.db"',
    "a literal, with something added": '"sqlite+aiosqlite:///" + os.path.join("a", "b")',
    "the default of getenv": 'os.getenv("URL", "sqlite+aiosqlite://")',
    "the default of environ.get": 'os.environ.get("URL", "mysql+aiomysql://db/app")',
    "what follows `or`": 'os.getenv("URL") or "sqlite+aiosqlite://"',
    "a constant of another module": "config.OR_DEFAULT",
    "a default of another module": "config.GET_DEFAULT",
    "the default of another library": "config.DECOUPLED",
    "a function of another module": "get_url()",
    "a field's default": "settings.lite",
    "a described field's default": "settings.described",
    "a positional field's default": "settings.positional",
    "a field's default from the environment": "Settings().from_env",
    "the field of a dataclass": "conf.lite",
    "the described field of a dataclass": "Conf().described",
    "a property of the settings": "settings.url",
    "settings, or else another": 'settings.maybe or "sqlite+aiosqlite:///app.db"',
    "a field, as a string": "str(settings.lite)",
    "an f-string that begins with a constant": 'f"{config.SCHEME}:///{os.getcwd()}/app.db"',
    "a URL that a function is given to change": 'to_async("sqlite:///app.db")',
    "an f-string that a function is given": 'to_async(f"sqlite:///{os.getcwd()}/app.db")',
    "a URL that an outer function is given": 'str(to_async("mysql://db/app"))',
}


@pytest.mark.parametrize("url", URLS.values(), ids=URLS.keys())
def test_a_url_tells(url: str, tmp_path: Path) -> None:
    assert found(tmp_path, f"engine = create_async_engine({url})\n") == []


FORMS = {
    "a name": """
        URL = os.getenv("URL") or "sqlite+aiosqlite:///app.db"
        engine = create_async_engine(URL)
        """,
    "a parameter's default": """
        def build(url="sqlite+aiosqlite:///app.db"):
            return create_async_engine(url)
        """,
    "a parameter's default, kept in an object": """
        class Store:
            def __init__(self, url: str = "sqlite+aiosqlite:///app.db"):
                self.url = url
                self.engine = create_async_engine(self.url)
        """,
    "a class attribute": """
        class Store:
            url = "sqlite+aiosqlite:///app.db"

            def connect(self):
                return create_async_engine(self.url)
        """,
    "a function that connects by another driver": """
        async def connect():
            return await aiosqlite.connect("app.db", uri=True)

        engine = create_async_engine(settings.required, async_creator=connect)
        """,
    "a lambda that connects by another driver": """
        engine = create_async_engine(settings.required, creator=lambda: aiosqlite.connect("app.db"))
        """,
    "settings of another driver": """
        engine = create_async_engine(settings.required, connect_args={"check_same_thread": False})
        """,
    "a branch": """
        if "sqlite" in settings.required:
            engine = create_async_engine(settings.required)
        """,
    "a branch, by a method": """
        def build(url):
            if url.startswith("sqlite"):
                return create_async_engine(url)
        """,
    "an elif": """
        def build(url):
            if url is None:
                return None
            elif url.drivername == "mysql":
                return create_async_engine(url)
        """,
    "a branch of two tests": """
        def build(url, echo):
            if url.is_sqlite and echo:
                return create_async_engine(url)
        """,
    "the arm of what is not another": """
        def build(url, is_sqlite):
            if not is_sqlite:
                url = url.set(drivername="postgresql+asyncpg")
            else:
                return create_async_engine(url)
        """,
    "the arm of what is unequal": """
        def build(url):
            if url.get_backend_name() != "sqlite":
                return None
            else:
                return create_async_engine(url)
        """,
    "match": """
        def build(url):
            match url.get_backend_name():
                case "postgresql":
                    pass
                case "sqlite":
                    return create_async_engine(url)
        """,
    "an inner branch": """
        def build(url, echo):
            if url.startswith("sqlite"):
                if echo:
                    return create_async_engine(url, echo=True)
        """,
    "the name of a function": """
        def build_sqlite(path):
            return create_async_engine(path)
        """,
    "the name of a class": """
        class MySQLStore:
            def __init__(self, url):
                self.engine = create_async_engine(url)
        """,
    "a function in one that is named so": """
        def duckdb_store(url):
            def build():
                return create_async_engine(url)
            return build
        """,
    "a session on an engine by a function that is given another": """
        engine = make("sqlite+aiosqlite:///app.db")

        async def job():
            async with AsyncSession(engine) as session:
                pass
        """,
    "a session on an engine of an object that is given another": """
        class Store:
            def __init__(self, url):
                self.engine = create_async_engine(url)  # noqa: SG201

        async def job():
            async with AsyncSession(Store("sqlite+aiosqlite://").engine) as session:
                pass
        """,
    "a session in a function that is named so": """
        async def copy_to_sqlite(engine):
            async with AsyncSession(engine) as session:
                pass
        """,
    "a session on a parameter that is another's at every call": """
        async def open_engines(path):
            return make(f"sqlite:///{path}"), make(settings.required)

        async def main(path):
            old, new = await open_engines(path)
            await move_all(old, "users")
            await move_all(engine=old, name="orders")

        async def move_all(engine, name):
            await move_one(name, engine)

        async def move_one(name, engine):
            async with AsyncSession(engine) as session:
                pass
        """,
    "a session on a parameter of a method": """
        class Migration:
            async def run(self):
                await self.move(make("sqlite:///app.db"))

            async def move(self, engine):
                async with AsyncSession(engine) as session:
                    pass
        """,
    "the other arm of a test that comes twice": """
        def build(host, path):
            if host:
                url = f"postgresql+asyncpg://{host}/app"
            else:
                url = f"sqlite+aiosqlite:///{path}"
            if host:
                return None
            else:
                return create_async_engine(url)
        """,
}


@pytest.mark.parametrize("code", FORMS.values(), ids=FORMS.keys())
def test_another_database_is_no_finding(code: str, tmp_path: Path) -> None:
    assert found(tmp_path, code) == []


URLS_OF_POSTGRESQL = {
    "a literal": '"postgresql+asyncpg://db/app"',
    "a default": 'os.getenv("URL", "postgresql+asyncpg://db/app")',
    "nothing": 'os.environ["URL"]',
    "no default": 'os.getenv("URL")',
    "a default that is no URL": 'os.getenv("URL", "sqlite")',
    "a field's default": "settings.postgres",
    "a field without one": "settings.required",
    "one of two that are written": (
        '"sqlite+aiosqlite://" if settings.lite else "postgresql+asyncpg://db/app"'
    ),
    "a URL that a function is given to change": 'to_async("postgresql://db/app")',
    "what a function is given that is no URL": 'to_async("sqlite")',
    "a database with the name of another": '"postgresql+asyncpg://db/sqlite"',
    "an f-string that ends with a constant": 'f"{settings.required}{config.SCHEME}"',
}


@pytest.mark.parametrize("url", URLS_OF_POSTGRESQL.values(), ids=URLS_OF_POSTGRESQL.keys())
def test_a_url_that_may_be_postgresqls_is_a_finding(url: str, tmp_path: Path) -> None:
    assert ("SG201", 1) in found(tmp_path, f"engine = create_async_engine({url})\n")


STILL_FINDINGS = {
    "the other arm": """
        def build(url):
            if "sqlite" in url:
                return None
            else:
                return create_async_engine(url)
        """,
    "behind the branch": """
        def build(url):
            if "sqlite" in url:
                return None
            return create_async_engine(url)
        """,
    "the arm of what is not another": """
        def build(url, is_sqlite):
            if not is_sqlite:
                return create_async_engine(url)
        """,
    "the arm of what is unequal": """
        def build(url):
            if url.get_backend_name() != "sqlite":
                return create_async_engine(url)
        """,
    "another or something else": """
        def build(url, is_local):
            if "sqlite" in url or is_local:
                return create_async_engine(url)
        """,
    "neither another nor something else": """
        def build(url, is_local):
            if not (url.is_sqlite and is_local):
                return None
            else:
                return create_async_engine(url)
        """,
    "another or PostgreSQL": """
        def build(url):
            if url.name in ("sqlite", "postgresql"):
                return create_async_engine(url)
        """,
    "the other arm of match": """
        def build(url):
            match url.get_backend_name():
                case "sqlite":
                    pass
                case _:
                    return create_async_engine(url)
        """,
    "an arm of match for both": """
        def build(url):
            match url.get_backend_name():
                case "sqlite" | "postgresql":
                    return create_async_engine(url)
        """,
    "a function that speaks of both": """
        def copy_sqlite_to_postgres(url):
            return create_async_engine(url)
        """,
    "a class that speaks of both": """
        class SqliteOrAsyncpg:
            def __init__(self, url):
                self.engine = create_async_engine(url)
        """,
    "a function within that one": """
        class Store:
            def sqlite(self):
                pass

            def connect(self, url):
                return create_async_engine(url)
        """,
    "a parameter without a default": """
        def build(sqlite_url):
            return create_async_engine(sqlite_url)
        """,
    "a parameter's default that is PostgreSQL's": """
        def build(url="postgresql+asyncpg://db/app"):
            return create_async_engine(url)
        """,
    "a function that connects by asyncpg": """
        async def connect():
            return await asyncpg.connect("postgresql://db/app")

        engine = create_async_engine("", async_creator=connect)
        """,
    "settings of another driver in one arm alone": """
        def build(url):
            connect_args = {}
            if "sqlite" in url:
                connect_args["check_same_thread"] = False
            return create_async_engine(url, connect_args=connect_args)
        """,
    "settings of another driver on one condition": """
        def build(url):
            return create_async_engine(
                url, connect_args={"check_same_thread": False} if "sqlite" in url else {}
            )
        """,
    "the arm of a test that comes twice": """
        def build(host, path):
            if host:
                url = f"postgresql+asyncpg://{host}/app"
            else:
                url = f"sqlite+aiosqlite:///{path}"
            if not host:
                return None
            if host:
                return create_async_engine(url)
        """,
    "the other arm, where what is tested is set in between": """
        def build(host, path):
            if host:
                url = f"postgresql+asyncpg://{host}/app"
            else:
                url = f"sqlite+aiosqlite:///{path}"
            host = ""
            if host:
                return None
            else:
                return create_async_engine(url)
        """,
    "the other arm, where a method of what is tested is called in between": """
        class Store:
            def build(self):
                if self.host:
                    url = f"postgresql+asyncpg://{self.host}/app"
                else:
                    url = f"sqlite+aiosqlite:///{self.path}"
                self.reset()
                if self.host:
                    return None
                else:
                    return create_async_engine(url)
        """,
    "the other arm, where an attribute that is tested is set in between": """
        class Store:
            def build(self):
                if self.host:
                    url = f"postgresql+asyncpg://{self.host}/app"
                else:
                    url = f"sqlite+aiosqlite:///{self.path}"
                self.host = None
                if self.host:
                    return None
                else:
                    return create_async_engine(url)
        """,
    "the other arm, where an object's attribute that is tested is set in between": """
        def build(options):
            if options.host:
                url = f"postgresql+asyncpg://{options.host}/app"
            else:
                url = f"sqlite+aiosqlite:///{options.path}"
            options.host = None
            if options.host:
                return None
            else:
                return create_async_engine(url)
        """,
    "the other arm of a test that calls something": """
        def build(host, path):
            if is_up(host):
                url = f"postgresql+asyncpg://{host}/app"
            else:
                url = f"sqlite+aiosqlite:///{path}"
            if is_up(host):
                return None
            else:
                return create_async_engine(url)
        """,
    "settings of another driver, or those of asyncpg": """
        def build(url):
            if url.startswith("sqlite"):
                connect_args = {"check_same_thread": False}
            else:
                connect_args = {"timeout": 5}
            return create_async_engine(url, connect_args=connect_args)
        """,
}


@pytest.mark.parametrize("code", STILL_FINDINGS.values(), ids=STILL_FINDINGS.keys())
def test_what_may_be_postgresqls_is_a_finding(code: str, tmp_path: Path) -> None:
    line = code[: code.rindex("create_async_engine(")].count("\n")
    assert ("SG201", line + 1) in found(tmp_path, code)


SESSIONS = {
    "a function that is given PostgreSQL's": 'make("postgresql+asyncpg://db/app")',
    "a function that is given what is not known": "make(settings.required)",
    "one of two": 'make("sqlite+aiosqlite://") if settings.lite else make(settings.required)',
}


def test_a_url_from_a_module_that_speaks_of_no_database(tmp_path: Path) -> None:
    """Its tests are not kept: an `if` and a loop in it are no two tests that are the same."""
    (tmp_path / "app").mkdir()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "app/urls.py").write_text(
        "import os\n\ndef read(kinds):\n    url = os.environ['A']\n    for kind in kinds:\n"
        "        url = os.environ[kind]\n    if kinds:\n        return url\n"
    )
    (tmp_path / "app/db.py").write_text(
        "import asyncpg\nfrom sqlalchemy.ext.asyncio import create_async_engine\n"
        "from app.urls import read\n\nfirst = create_async_engine(read([1]))\n"
        "second = create_async_engine(read([2]))\n"
    )
    run = Run(Options(paths=(str(tmp_path),)))
    assert [finding for findings in run.check() for finding in findings] == []
    assert run.failures == []


@pytest.mark.parametrize("engine", SESSIONS.values(), ids=SESSIONS.keys())
def test_a_session_that_may_be_postgresqls_is_a_finding(engine: str, tmp_path: Path) -> None:
    code = (
        f"engine = {engine}\nasync def job():\n    async with AsyncSession(engine):\n        pass\n"
    )
    assert found(tmp_path, code) == [("SG101", 3)]


PARAMETERS = {
    "one call gives PostgreSQL's": """
        async def main():
            await move(make("sqlite:///app.db"))
            await move(make(settings.required))

        async def move(engine):
            async with AsyncSession(engine):
                pass
        """,
    "one call gives what is not known": """
        async def main(given):
            await move(make("sqlite:///app.db"))
            await move(**given)

        async def move(engine):
            async with AsyncSession(engine):
                pass
        """,
    "its function is called by another file": """
        async def main():
            await copy_by_all(make("sqlite:///app.db"))

        async def copy_by_all(engine):
            async with AsyncSession(engine):
                pass
        """,
    "its function is handed to a framework": """
        @app.command
        async def move(engine):
            async with AsyncSession(engine):
                pass

        async def main():
            await move(make("sqlite:///app.db"))
        """,
    "it is set to something else": """
        async def main():
            await move(make("sqlite:///app.db"))

        async def move(engine):
            engine = make(settings.required)
            async with AsyncSession(engine):
                pass
        """,
    "it is set to something else on a condition": """
        async def main():
            await move(make("sqlite:///app.db"))

        async def move(engine):
            if settings.maybe:
                engine = make(settings.required)
            async with AsyncSession(engine):
                pass
        """,
    "its function calls itself alone": """
        async def move(engine):
            async with AsyncSession(engine):
                await move(engine)
        """,
}


@pytest.mark.parametrize("code", PARAMETERS.values(), ids=PARAMETERS.keys())
def test_a_session_on_a_parameter_that_may_be_postgresqls_is_a_finding(
    code: str, tmp_path: Path
) -> None:
    line = code[: code.index("AsyncSession(")].count("\n")
    assert ("SG101", line + 1) in found(tmp_path, code)
