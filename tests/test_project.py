"""Names across files: what is built in one module is known for what it is in another."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from session_guard.runner import Options, Run

if TYPE_CHECKING:
    from collections.abc import Sequence
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
WITH_PARAMETER = BLOCK.replace("()", "({})", 1)
USE = (
    "from {module} import {name}\n\nasync def job():\n    async with {name}() as s:\n        pass\n"
)

MAKE = """\
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

def init_db():
    engine = create_async_engine("postgresql+asyncpg://db")
    return engine, async_sessionmaker(engine)

"""
STATE = """\
async def lifespan(app):
    app.state.session_factory = init_db()[1]
    yield
"""
DATABASE = """\
class Database:
    def __init__(self, engine):
        self.factory = async_sessionmaker(engine)

    @classmethod
    def make(cls):
        return async_sessionmaker(None)

    def maker(self) -> async_sessionmaker[AsyncSession]:
        return self.registry["main"]

"""
DEPENDENCY = """\
from typing import Annotated
from fastapi import Depends

def get_maker():
    return init_db()[1]

MakerDep = Annotated[async_sessionmaker[AsyncSession], Depends(get_maker)]
"""
SAME_NAME = {
    "app/db/__init__.py": "from .session_factory import session_factory\n",
    "app/db/session_factory.py": DB + "\nsession_factory = SessionLocal\n",
}


def found(
    root: Path, files: dict[str, str], checked: str, select: Sequence[str] = ("SG10", "SG301")
) -> list[tuple[str, int]]:
    """Lay out a project and return what is found in one of its files, named alone."""
    (root / "pyproject.toml").write_text(f"[tool.session-guard]\nselect = {[*select]}\n")
    for name, text in {"other_db.py": OTHER, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    run = Run(Options(paths=(str(root / checked),)))
    return [(item.code, item.line) for items in run.check() for item in items]


# Ends a file in which nothing else is to be found: it is looked at, whatever gates there are.
LOOKED_AT = """
from sqlalchemy.ext.asyncio import AsyncSession as Own

async def own(session: Own, engine):
    Own(engine)
    await asyncio.gather(session.get(int, 1), session.get(int, 2))
"""


def found_beside(
    root: Path, files: dict[str, str], checked: str, code: str
) -> list[tuple[str, int]]:
    """Return what is found in a file beside what is there to be found in any case."""
    text = f"import asyncio\n{code}{LOOKED_AT}"
    last = text.count("\n")
    items = found(root, {**files, checked: text}, checked)
    sure = [("SG101", last - 1), ("SG301", last)]
    assert [item for item in items if item in sure] == sure
    return [item for item in items if item not in sure]


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
    "by star of a star": (
        {
            "app/__init__.py": "from app.names import *\n",
            "app/names.py": "from app.db import *\n",
            "app/db.py": DB,
        },
        "jobs.py",
        "from app import *\n" + BLOCK.format("SessionLocal"),
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
    "in the state of the application": (
        {"app/main.py": MAKE + STATE},
        "app/api.py",
        WITH_PARAMETER.format("request", "request.app.state.session_factory"),
    ),
    "in the state of the application, by another name": (
        {"app/main.py": MAKE + STATE},
        "app/api.py",
        "async def job(app):\n    state = app.state\n"
        "    async with state.session_factory() as s:\n        pass\n",
    ),
    "a parameter annotated with a class that holds one": (
        {"app/make.py": MAKE + DATABASE},
        "app/jobs.py",
        "from app.make import Database\n" + WITH_PARAMETER.format("db: Database", "db.factory"),
    ),
    "a field annotated with a class that holds one": (
        {"app/make.py": MAKE + DATABASE},
        "app/jobs.py",
        "from dataclasses import dataclass\nfrom app.make import Database\n\n@dataclass\n"
        "class Job:\n    db: Database\n\n    async def run(self):\n"
        "        async with self.db.factory() as s:\n            pass\n",
    ),
    "injected": (
        {"app/make.py": MAKE + DEPENDENCY},
        "app/api.py",
        "from typing import Annotated\nfrom fastapi import Depends\n"
        "from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker\n"
        "from app.make import get_maker\n\nasync def job(\n"
        "    maker: Annotated[async_sessionmaker[AsyncSession], Depends(get_maker)],\n):\n"
        "    async with maker() as s:\n        pass\n",
    ),
    "injected as a default": (
        {"app/make.py": MAKE + DEPENDENCY},
        "app/api.py",
        "from fastapi import Depends\nfrom app.make import get_maker\n\n"
        "async def job(maker=Depends(get_maker)):\n    async with maker() as s:\n        pass\n",
    ),
    "injected, by an alias of another module": (
        {"app/make.py": MAKE + DEPENDENCY},
        "app/api.py",
        "from app.make import MakerDep\n" + WITH_PARAMETER.format("maker: MakerDep", "maker"),
    ),
    "in a submodule of the same name, from the package": (
        SAME_NAME,
        "app/jobs.py",
        USE.format(module="app.db", name="session_factory"),
    ),
    "in a submodule of the same name, by the package": (
        SAME_NAME,
        "app/jobs.py",
        "from app import db\n" + BLOCK.format("db.session_factory"),
    ),
    "in a submodule of the same name, from the submodule": (
        SAME_NAME,
        "app/jobs.py",
        USE.format(module="app.db.session_factory", name="session_factory"),
    ),
    "newer syntax than the interpreter's": (
        {"app/db.py": "type Name = str\n" + DB},
        "app/jobs.py",
        USE.format(module="app.db", name="SessionLocal"),
    ),
}

# A class whose objects have a factory under `maker`, and what else is in other files.
VIEW = """\
from sqlalchemy.ext.asyncio import async_sessionmaker

class View:
    maker: async_sessionmaker

    async def rows(self):
        async with self.maker() as s:
            pass
"""
FROM_OUTSIDE = {
    "set on the class": (
        VIEW,
        "from app.view import View\n\nclass Admin:\n    def __init__(self):\n"
        "        self.session_maker = init_db()[1]\n\n"
        "    def add(self, view: type[View]):\n        view.maker = self.session_maker\n",
    ),
    "set on the class, which may be missing": (
        VIEW,
        "from typing import Optional, Type\nfrom app.view import View\n\n"
        "def add(view: Optional[Type[View]]):\n    view.maker = init_db()[1]\n",
    ),
    "set on the class by its name": (
        VIEW.replace("    maker: async_sessionmaker\n", "    maker = None\n"),
        "from app import view\n\nview.View.maker = init_db()[1]\n",
    ),
    "set on an object that is typed": (
        VIEW,
        "from app.view import View\n\ndef add(view: View):\n    view.maker = init_db()[1]\n",
    ),
    "set on an object that was just made": (
        VIEW.replace("    maker: async_sessionmaker\n", ""),
        "from app.view import View\n\ndef add():\n"
        "    view = View()\n    view.maker = init_db()[1]\n    return view\n",
    ),
    "given to a dataclass": (
        VIEW,
        "from app.view import View\n\ndef add():\n    return View(maker=init_db()[1])\n",
    ),
    "set in a subclass": (
        VIEW,
        "from app.view import View\n\nclass Users(View):\n    maker = init_db()[1]\n",
    ),
    "set in a subclass of a subclass, by a method": (
        VIEW.replace("    maker: async_sessionmaker\n", ""),
        "from app.view import View\n\nclass Base(View):\n    pass\n\n"
        "class Users(Base):\n    def __init__(self):\n        self.maker = init_db()[1]\n",
    ),
    "set in a subclass of a generic class": (
        VIEW.replace("class View:", "class View(Generic[T]):"),
        "from app.view import View\n\nclass Users(View[int]):\n    maker = init_db()[1]\n",
    ),
    "returned by what a subclass has for an abstract method": (
        VIEW.replace("self.maker()", "self.maker()()").replace(
            "    maker: async_sessionmaker\n",
            "    def maker(self) -> Callable[[], AsyncSession]:\n"
            "        raise NotImplementedError\n",
        ),
        "from app.view import View\n\nclass Users(View):\n"
        "    def maker(self):\n        return init_db()[1]\n",
    ),
    "of a class that a type variable stands for": (
        "from typing import TypeVar\nfrom app.make import Sync, Users\n\n"
        'T = TypeVar("T", Sync, Users)\n\nclass View:\n    users: T\n\n'
        "    async def rows(self):\n"
        "        async with self.users.maker() as s:\n            pass\n",
        "class Sync:\n    pass\n\nclass Users:\n    maker = init_db()[1]\n",
    ),
    "of a class that bounds a type variable": (
        "from typing import TypeVar\nfrom app.make import Users\n\n"
        'T = TypeVar("T", bound="Users")\n\nclass View:\n    users: T\n\n'
        "    async def rows(self):\n"
        "        async with self.users.maker() as s:\n            pass\n",
        "class Users:\n    maker = init_db()[1]\n",
    ),
    "behind a property that is annotated": (
        """\
from app.make import Users

class View(Users):
    async def rows(self):
        async with self.maker() as s:
            pass
""",
        """\
class Users:
    @property
    def maker(self) -> async_sessionmaker[AsyncSession]:
        return self._maker

    def set_maker(self, maker):
        def counted():
            return maker()
        self._maker = counted
""",
    ),
    "cast": (
        "from app.make import get\n\nasync def job():\n    maker = get()\n"
        "    async with maker() as s:\n        pass\n",
        "from typing import cast\n\ndef get():\n"
        '    return cast("async_sessionmaker[AsyncSession]", registry.maker)\n',
    ),
    "yielded by a lifespan": (
        WITH_PARAMETER.format("request", "request.state.maker"),
        "async def lifespan(app):\n    engine, maker = init_db()\n"
        '    yield {"maker": maker, "engine": engine}\n',
    ),
    "yielded by a lifespan as a typed dictionary": (
        WITH_PARAMETER.format("request", "request.state.maker"),
        "async def lifespan(app):\n    yield State(maker=init_db()[1])\n",
    ),
}


@pytest.mark.parametrize(("code", "other"), FROM_OUTSIDE.values(), ids=FROM_OUTSIDE.keys())
def test_a_factory_that_other_code_gives_to_a_class(code: str, other: str, tmp_path: Path) -> None:
    line = code[: code.index("async with")].count("\n") + 1
    files = {"app/view.py": code, "app/make.py": MAKE + other}
    assert found(tmp_path, files, "app/view.py") == [("SG103", line)]


# What a module lists; nothing but a list brings `_maker` along.
LISTS = {
    "a list": '__all__ = ["_maker"]',
    "a list with another's names": '__all__ = ["engine", *other.__all__]',
    "a list with the names in a tuple": 'names = ("_maker",)\n__all__ = [*names]',
    "what is added": '__all__ = ["engine"]\n__all__ += ["_maker"]',
    "another's names that are added": "__all__ = []\n__all__ += other.__all__",
    "a sum": '__all__ = ["engine"] + other.__all__',
    "what it is extended with": '__all__ = ["engine"]\n__all__.extend(["_maker"])',
    "another's names that it is extended with": (
        '__all__ = ["engine"]\n__all__.extend(other.__all__)'
    ),
    "what is appended": '__all__ = []\n__all__.append("_maker")',
    "one that is bound in branches": (
        'if DEBUG:\n    __all__ = ["engine"]\nelse:\n    __all__ = ["_maker"]'
    ),
}
STARRED = """\
from app.make import *

async def job():
    async with _maker() as s:
        pass
"""


@pytest.mark.parametrize("listed", LISTS.values(), ids=LISTS.keys())
def test_what_a_module_lists_is_what_a_star_brings(listed: str, tmp_path: Path) -> None:
    made = f"{MAKE}from app import other\n\nengine, _maker = init_db()\n{listed}\n"
    files = {
        "app/make.py": made,
        "app/other.py": '__all__ = []\n__all__ += ["_maker"]\n',
        "app/jobs.py": STARRED,
    }
    assert found(tmp_path, files, "app/jobs.py") == [("SG103", 4)]


UNLISTED = {
    "nothing": "",
    "another name": '__all__ = ["maker"]',
    "another's names, where it is not among them": "__all__ = [*other.__all__]",
    "what is extended by others": '__all__ = ["engine"]\n__all__.extend(["init_db"])',
    "what nobody knows": "__all__ = names()",
}


@pytest.mark.parametrize("listed", UNLISTED.values(), ids=UNLISTED.keys())
def test_what_a_module_does_not_list_a_star_does_not_bring(listed: str, tmp_path: Path) -> None:
    made = f"{MAKE}from app import other\n\nengine, _maker = init_db()\n{listed}\n"
    files = {"app/make.py": made, "app/other.py": '__all__ = ["engine"]\n', "app/jobs.py": STARRED}
    assert found(tmp_path, files, "app/jobs.py") == []


@pytest.mark.parametrize("listed", ["[*other.__all__]", "names() + ['engine']"])
def test_a_public_name_may_be_listed_where_not_all_is_known(listed: str, tmp_path: Path) -> None:
    made = f"{MAKE}from lib import other\n\nengine, maker = init_db()\n__all__ = {listed}\n"
    files = {"app/make.py": made, "app/jobs.py": STARRED.replace("_maker", "maker")}
    assert found(tmp_path, files, "app/jobs.py") == [("SG103", 4)]


def test_lists_of_names_that_go_round_in_circles_end(tmp_path: Path) -> None:
    files = {
        "app/make.py": f"{MAKE}from app.other import *\nengine, _maker = init_db()\n"
        '__all__ = ["_maker", *other.__all__]\nfor one in many:\n    __all__ += one.__all__\n',
        "app/other.py": "from app.make import *\nfrom app import make as other\n"
        "__all__ = [*make.__all__, *other.__all__]\n",
        "app/jobs.py": STARRED,
    }
    assert found(tmp_path, files, "app/jobs.py") == [("SG103", 4)]


NOT_FROM_OUTSIDE = {
    "nobody gives it one": (VIEW, ""),
    "a caller gives what is its own": (
        VIEW,
        "from app.view import View\n\ndef add(maker):\n    return View(maker=maker)\n",
    ),
    "set on an object of another class": (
        VIEW,
        "class Page:\n    pass\n\ndef add(view: type[Page]):\n    view.maker = init_db()[1]\n",
    ),
    "set on an object of which nothing is known": (
        VIEW,
        "from app.view import View\n\ndef add(view):\n    view.maker = init_db()[1]\n",
    ),
    "another attribute": (
        VIEW,
        "from app.view import View\n\ndef add(view: View):\n    view.other = init_db()[1]\n",
    ),
    "given to another class": (
        VIEW,
        "class View:\n    pass\n\ndef add():\n    return View(maker=init_db()[1])\n",
    ),
    "given under another name": (
        VIEW,
        "from app.view import View\n\ndef add():\n    return View(other=init_db()[1])\n",
    ),
    "set in a subclass of another class of the name": (
        VIEW,
        "from lib.view import View\n\nclass Users(View):\n    maker = init_db()[1]\n",
    ),
    "the class has one of its own": (
        VIEW.replace("maker: async_sessionmaker", "maker = connect"),
        "from app.view import View\n\nclass Users(View):\n    maker = init_db()[1]\n",
    ),
    "a method of its own returns something": (
        VIEW.replace(
            "    maker: async_sessionmaker\n",
            "    def maker(self) -> Http:\n        return Http()\n",
        ),
        "from app.view import View\n\nclass Users(View):\n    maker = init_db()[1]\n",
    ),
    "a type variable without bounds": (
        "from typing import TypeVar\nfrom app.make import Users\n\n"
        'T = TypeVar("T")\n\nclass View:\n    users: T\n\n'
        "    async def rows(self):\n"
        "        async with self.users.maker() as s:\n            pass\n",
        "class Users:\n    maker = init_db()[1]\n",
    ),
    "cast to something else": (
        "from app.make import get\n\nasync def job():\n    maker = get()\n"
        "    async with maker() as s:\n        pass\n",
        'from typing import cast\n\ndef get():\n    return cast("Http", registry.maker)\n',
    ),
    "yielded by a generator that is no lifespan": (
        WITH_PARAMETER.format("request", "request.state.maker"),
        'async def rows(one, other):\n    yield {"maker": init_db()[1]}\n',
    ),
}


@pytest.mark.parametrize(("code", "other"), NOT_FROM_OUTSIDE.values(), ids=NOT_FROM_OUTSIDE.keys())
def test_what_other_code_gives_to_others(code: str, other: str, tmp_path: Path) -> None:
    files = {"app/view.py": code + "# maker\n", "app/make.py": MAKE + other}
    assert found(tmp_path, files, "app/view.py") == []


@pytest.mark.parametrize(("files", "name", "code"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_factory_of_another_file(
    files: dict[str, str], name: str, code: str, tmp_path: Path
) -> None:
    line = code[: code.index("async with")].count("\n") + 1
    assert found(tmp_path, {**files, name: code}, name) == [("SG103", line)]


# How a factory reaches another file: what else is in the file that has it, what is imported
# from there, and how that opens a session, with a statement before it where it takes one.
WAYS = {
    "a tuple that is unpacked": (
        "engine, SessionLocal = init_db()",
        "SessionLocal",
        "SessionLocal()",
    ),
    "an item of a tuple that a function returns": ("", "init_db", "init_db()[1]()"),
    "a tuple that is unpacked where it is used": (
        "",
        "init_db",
        "engine, open_it = init_db(); open_it()",
    ),
    "a tuple of factories": (
        "makers = (init_db()[1], async_sessionmaker(None))",
        "makers",
        "makers[1]()",
    ),
    "a dictionary": ('makers = {"main": init_db()[1]}', "makers", 'makers["main"]()'),
    "a dictionary, by get": ('makers = {"main": init_db()[1]}', "makers", 'makers.get("main")()'),
    "a dictionary, under an unknown key": (
        'makers = {"main": init_db()[1]}',
        "makers",
        "makers[__name__]()",
    ),
    "a dictionary that is filled by statements": (
        'makers = {}\nmakers["main"] = async_sessionmaker(None)',
        "makers",
        'makers["main"]()',
    ),
    "a dictionary that is filled by statements, by get": (
        'makers = {}\nmakers["main"] = async_sessionmaker(None)',
        "makers",
        'maker = makers.get("main"); maker()',
    ),
    "a coroutine function": (
        "async def get_factory():\n    return async_sessionmaker(None)",
        "get_factory",
        "(await get_factory())()",
    ),
    "a dictionary in an object": (
        "class Makers:\n    def __init__(self):\n        self.by_name = {}\n\n"
        "    def add(self, name, engine):\n"
        "        self.by_name[name] = async_sessionmaker(engine)\n\nmakers = Makers()",
        "makers",
        'makers.by_name["main"]()',
    ),
    "a class method": (DATABASE, "Database", "Database.make()()"),
    "an attribute of an object": (DATABASE, "Database", "Database(None).factory()"),
    "a method annotated with the factory": (DATABASE, "Database", "Database(None).maker()()"),
    "a function annotated with the factory": (
        'def get_factory() -> "async_sessionmaker[AsyncSession]":\n    return registry["main"]',
        "get_factory",
        "get_factory()()",
    ),
    "a coroutine function annotated with the factory": (
        "async def get_factory() -> async_sessionmaker[AsyncSession]:\n    return registry()",
        "get_factory",
        "(await get_factory())()",
    ),
    "a partial factory": (
        "from functools import partial\nmake = partial(async_sessionmaker, autoflush=False)\n"
        "SessionLocal = make(None)",
        "SessionLocal",
        "SessionLocal()",
    ),
    "a factory of a subclass": (
        "class Maker(async_sessionmaker[AsyncSession]):\n    pass\n\nopen_it = Maker(None)",
        "open_it",
        "open_it()",
    ),
    "a name set by a function": (
        "maker = None\ndef setup():\n    global maker\n    engine, maker = init_db()",
        "maker",
        "maker()",
    ),
}


@pytest.mark.parametrize(("made", "name", "opening"), WAYS.values(), ids=WAYS.keys())
def test_a_factory_reaches_another_file(made: str, name: str, opening: str, tmp_path: Path) -> None:
    before, _, opening = opening.rpartition("; ")
    code = (
        f"from app.make import {name}\n\nasync def job():\n    {before}\n"
        f"    async with {opening} as s:\n        pass\n"
    )
    files = {"app/make.py": f"{MAKE}{made}\n", "app/jobs.py": code}
    assert found(tmp_path, files, "app/jobs.py") == [("SG103", 5)]


def test_a_partial_of_a_factory_is_completed_in_another_file(tmp_path: Path) -> None:
    made = "from functools import partial\nmake = partial(async_sessionmaker, autoflush=False)\n"
    code = "from app.make import make\nmaker = make(None)\ns = maker()\n"
    files = {"app/make.py": MAKE + made, "app/jobs.py": code}
    assert found(tmp_path, files, "app/jobs.py") == [("SG102", 2), ("SG103", 3)]


def test_a_partial_of_a_session_class_opens_sessions_in_another_file(tmp_path: Path) -> None:
    made = "from functools import partial\nopen_it = partial(\n    AsyncSession,\n    None,\n)\n"
    files = {
        "app/make.py": MAKE + made,
        "app/jobs.py": USE.format(module="app.make", name="open_it"),
    }
    assert found(tmp_path, files, "app/jobs.py") == [("SG101", 4)]


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
        USE.format(module="app.a", name="x"),
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
    assert found_beside(tmp_path, files, "app/jobs.py", code) == []


NOT_WAYS = {
    "another item of a tuple": ("", "init_db", "init_db()[0]()"),
    "the other target of a tuple": ("", "init_db", "open_it, maker = init_db(); open_it()"),
    "another key of a dictionary": (
        'makers = {"main": init_db()[1], "http": fetch}',
        "makers",
        'makers["http"]()',
    ),
    "another key, set by a statement": (
        'makers = {}\nmakers["main"] = async_sessionmaker(None)',
        "makers",
        'makers["http"]()',
    ),
    "another dictionary": (
        'makers = {}\nothers = {}\nothers["main"] = async_sessionmaker(None)',
        "makers",
        'makers["main"]()',
    ),
    "a coroutine that nobody awaits": (
        "async def get_factory():\n    return async_sessionmaker(None)",
        "get_factory",
        "get_factory()()",
    ),
    "a method annotated with something else": (
        "class Http:\n    def client(self) -> AsyncClient:\n        return self.clients[0]",
        "Http",
        "Http().client()()",
    ),
    "a partial of something else": (
        "from functools import partial\nmake = partial(connect, async_sessionmaker)",
        "make",
        "make()()",
    ),
    "an attribute of an object that is set to something else": (
        "class Http:\n    def __init__(self):\n        self.factory = AsyncClient\n" + DATABASE,
        "Http",
        "Http().factory()",
    ),
    "the factory's class in a tuple, of which another is called": (
        "kinds = (async_sessionmaker, Http)",
        "kinds",
        "kinds[1]()",
    ),
}


@pytest.mark.parametrize(("made", "name", "opening"), NOT_WAYS.values(), ids=NOT_WAYS.keys())
def test_what_reaches_another_file_beside_a_factory(
    made: str, name: str, opening: str, tmp_path: Path
) -> None:
    before, _, opening = opening.rpartition("; ")
    code = (
        f"from app.make import {name}\n\nasync def job():\n    {before}\n"
        f"    async with {opening} as s:\n        pass\n"
    )
    files = {"app/make.py": f"{MAKE}{made}\n"}
    assert found_beside(tmp_path, files, "app/jobs.py", code) == []


STATE_OF_OTHERS = {
    "another attribute": WITH_PARAMETER.format("request", "request.app.state.client"),
    "the same attribute of something else": WITH_PARAMETER.format(
        "app", "app.config.session_factory"
    ),
}


@pytest.mark.parametrize("code", STATE_OF_OTHERS.values(), ids=STATE_OF_OTHERS.keys())
def test_what_else_is_in_the_state_of_the_application(code: str, tmp_path: Path) -> None:
    assert found_beside(tmp_path, {"app/main.py": MAKE + STATE}, "app/api.py", code) == []


@pytest.mark.parametrize("name", ["asyncio", "contextlib", "functools", "typing"])
@pytest.mark.parametrize("folder", ["src/utils", "app", "."])
def test_a_file_called_like_a_module_of_python_hides_none(
    name: str, folder: str, tmp_path: Path
) -> None:
    """A folder without `__init__.py` may be on the import path; the library is what is meant."""
    code = """\
import asyncio
from contextlib import AsyncExitStack
from functools import lru_cache, partial
from typing import Optional
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import SessionLocal, engine

@lru_cache
def get_factory():
    return SessionLocal

async def job(db: Optional[AsyncSession], stack: AsyncExitStack):
    get_factory()()
    partial(AsyncSession, engine)()
    await asyncio.gather(db.get(int, 1), db.get(int, 2))
"""
    own = f"def gather(): pass\ndef {name}(): pass\nclass lru_cache: pass\npartial = Optional = 0\n"
    files = {"src/app/db.py": DB, f"{folder}/{name}.py": own}
    expected = [("SG103", 13), ("SG101", 14), ("SG101", 14), ("SG301", 15)]
    assert found(tmp_path, files | {"src/app/jobs.py": code}, "src/app/jobs.py") == expected


@pytest.mark.parametrize("folder", ["app", "outer/app"])
def test_a_root_that_is_a_package(folder: str, tmp_path: Path) -> None:
    """Its modules import each other by its name, as those of any package do."""
    root = tmp_path / folder
    root.mkdir(parents=True)
    for path in {root, root.parent} - {tmp_path}:
        (path / "__init__.py").touch()
    package = folder.replace("/", ".")
    code = f"import {package}\n" + USE.format(module=f"{package}.db", name="SessionLocal")
    assert found(root, {"db.py": DB, "jobs.py": code}, "jobs.py") == [("SG103", 5)]
    handler = DB + (
        "from contextlib import asynccontextmanager\n\n@asynccontextmanager\n"
        "async def get_background_session():\n"
        "    async with AsyncSession(engine, expire_on_commit=False, autoflush=False) as session:\n"
        "        yield session\n        await session.commit()\n"
    )
    job = (
        f"from sqlalchemy.ext.asyncio import AsyncSession\nfrom {package}.names import engine\n\n"
        "async def job():\n    async with AsyncSession(engine) as s:\n        await s.commit()\n"
    )
    names = "from .handler import engine\n"
    files = {"handler.py": handler, "names.py": names, "jobs.py": job}
    assert found(root, files, "jobs.py") == [("SG101", 5)]
    [fixed] = Run(Options(paths=(str(root / "jobs.py"),))).fix(unsafe=False, write=True)
    assert fixed.remaining == ()
    assert (
        f"from {package}.handler import get_background_session\n" in (root / "jobs.py").read_text()
    )


CYCLES = {
    "two modules": {
        "app/models/__init__.py": "from .user import *\nfrom .item import *\n",
        "app/models/user.py": "from app.models import *\nclass User: pass\n",
        "app/models/item.py": "from app.models import *\nclass Item: pass\n",
    },
    "one module and its package": {
        "app/models/__init__.py": "from .user import *\n",
        "app/models/user.py": "from app.models import *\nclass User: pass\n",
    },
    "each of many has all others": {
        f"app/models/{name}.py": "".join(
            f"from app.models.{other} import *\n" for other in "abcdefghijkl" if other != name
        )
        for name in "abcdefghijkl"
    }
    | {"app/models/__init__.py": "".join(f"from .{name} import *\n" for name in "abcdefghijkl")},
    "through a loader": {
        "loader.py": "from app.models import *\n",
        "app/models/__init__.py": "from .start import *\nfrom .help import *\n",
        "app/models/start.py": "from loader import *\n",
        "app/models/help.py": "from loader import *\n",
    },
    "by name and by star": {
        "app/models/__init__.py": (
            "from .user import *\nfrom .item import *\nfrom .order import *\nfrom .base import *\n"
        ),
        "app/models/base.py": "from app.models import Foo\nclass Base: pass\n",
        "app/models/item.py": "from app.models import Base, User\nclass Item(Base): pass\n",
        "app/models/order.py": (
            "from app.models import Base, Item, User\nfrom app.models.item import *\n"
            "class Order(Base): pass\n"
        ),
        "app/models/user.py": (
            "from app.models import Base\nfrom app.models.item import Item\n"
            "class User(Base): pass\n"
        ),
    },
}


@pytest.mark.parametrize("files", CYCLES.values(), ids=CYCLES.keys())
@pytest.mark.parametrize("last", [True, False])
def test_star_imports_that_go_round_in_circles_end(
    last: bool, files: dict[str, str], tmp_path: Path
) -> None:
    """Each name may come by many ways; that none of them ends must not be tried out on all."""
    imports = ["from app.models import *\n", "from sqlalchemy.ext.asyncio import AsyncSession\n"]
    code = "".join(imports if last else reversed(imports)) + (
        "def job(engine):\n    print(User(), Nope(), Foo(), print())\n    AsyncSession(engine)\n"
    )
    files = {**files, "app/db.py": DB, "app/jobs.py": code}
    assert found(tmp_path, files, "app/jobs.py") == [("SG101", 5)]


def test_what_a_circle_of_star_imports_exports_is_found_through_it(tmp_path: Path) -> None:
    names = "abcde"
    files = {
        f"app/{name}.py": "".join(f"from app.{o} import *\n" for o in names if o != name)
        for name in names
    }
    files["app/d.py"] += "from app.db import SessionLocal\n"
    code = "from app.a import *\n" + BLOCK.format("SessionLocal")
    assert found(tmp_path, {**files, "app/db.py": DB, "app/jobs.py": code}, "app/jobs.py") == [
        ("SG103", 4)
    ]


COMPAT = """\
from sqlalchemy.ext.asyncio import AsyncSession as DbSession
from sqlalchemy.ext.asyncio import (
    async_sessionmaker as make_sessions,
    create_async_engine as make_engine,
)

class TenantSession(
    DbSession,
):
    pass
"""


@pytest.mark.parametrize("name", ["DbSession", "TenantSession", "compat.DbSession"])
def test_a_session_class_that_another_file_calls_otherwise(name: str, tmp_path: Path) -> None:
    imported = f"from app.compat import {name}" if "." not in name else "from app import compat"
    files = {"app/compat.py": COMPAT, "app/jobs.py": f"{imported}\n{name}(None)\n"}
    assert found(tmp_path, files, "app/jobs.py") == [("SG101", 2)]


def test_what_another_file_calls_otherwise_builds_engines_and_factories(tmp_path: Path) -> None:
    code = (
        "from app.compat import make_engine, make_sessions\n"
        'engine = make_engine("postgresql+asyncpg://db")\nmaker = make_sessions(engine)\nmaker()\n'
    )
    files = {"app/compat.py": COMPAT, "app/jobs.py": code}
    expected = [("SG201", 2), ("SG202", 2), ("SG102", 3), ("SG103", 4)]
    assert found(tmp_path, files, "app/jobs.py", ["SG10", "SG201", "SG202"]) == expected


DEPENDENCIES = """\
from typing import Annotated, AsyncGenerator, NewType, Optional, TypeAlias
from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import SessionLocal

async def get_db() -> AsyncGenerator[AsyncSession, None]:
    yield registry.session()

async def get_session():
    async with SessionLocal() as session:
        yield session

DbSession = Annotated[AsyncSession, Depends(get_db)]
CurrentDb = DbSession
SessionAlias = AsyncSession
MaybeDb = Optional[AsyncSession]
UnionDb = AsyncSession | None
StatedDb: TypeAlias = Annotated[AsyncSession, Depends(get_db)]
QuotedDb: TypeAlias = "Annotated[AsyncSession, Depends(get_db)]"
NewDb = NewType("NewDb", AsyncSession)
type ReadDb = Annotated[AsyncSession, Depends(get_db)]
type LaterDb = Annotated[LaterSession, Depends(get_db)]
from sqlalchemy.ext.asyncio import AsyncSession as LaterSession
type Json = dict[str, Json]
"""
RE_EXPORTED = {
    "app/names/__init__.py": (
        "from .database import DbSession\nfrom app.deps import DbSession as Db\n"
    ),
    "app/names/database.py": "from app.deps import DbSession\n",
    "app/names/all.py": "from app.deps import *\n",
}
LOAD = "async def load(db, number):\n    return await db.get(int, number)\n"
# How a file imports what its parameter is annotated with, or has for a default.
HELD = {
    **{
        f"an alias: {name}": (f"from app.deps import {name}", f"db: {name}")
        for name in re.findall(r"\w+Db\b|DbSession|SessionAlias", DEPENDENCIES)
    },
    "by another name": ("from app.deps import DbSession as Db", "db: Db"),
    "of the module": ("from app import deps", "db: deps.DbSession"),
    "by star": ("from app.deps import *", "db: DbSession"),
    "by a star of another module": ("from app.names.all import *", "db: MaybeDb"),
    "re-exported by a package": ("from app.names import DbSession", "db: DbSession"),
    "re-exported by another name": ("from app.names import Db", "db: Db"),
    "re-exported, of the package": ("from app import names", "db: names.DbSession"),
    "re-exported, of the module": ("from app.names import database", "db: database.DbSession"),
    "re-exported, from the module": ("from app.names.database import DbSession", "db: DbSession"),
    "quoted": ("from app.deps import SessionAlias", 'db: "SessionAlias"'),
    "quoted, or None": ("from app.deps import SessionAlias", 'db: "SessionAlias | None" = None'),
    "for the type checker": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from app.deps import DbSession",
        'db: "DbSession"',
    ),
    "a default": (
        "from fastapi import Depends\nfrom app.deps import get_session",
        "db=Depends(get_session)",
    ),
    "a default of what is annotated": (
        "import fastapi\nfrom app.deps import get_db",
        "db=fastapi.Depends(get_db)",
    ),
    "a default, by keyword": (
        "import fastapi\nfrom app.deps import get_db",
        "db=fastapi.Depends(dependency=get_db)",
    ),
}


@pytest.mark.parametrize(("imported", "parameter"), HELD.values(), ids=HELD.keys())
def test_a_session_by_the_alias_of_another_file(
    imported: str, parameter: str, tmp_path: Path
) -> None:
    code = (
        f"import asyncio\nfrom app.load import load\n{imported}\n\nasync def page({parameter}):\n"
        "    await asyncio.gather(load(db, 1), load(db, 2))\n"
    )
    files = {"app/db.py": DB, "app/deps.py": DEPENDENCIES, "app/load.py": LOAD, **RE_EXPORTED}
    line = code.count("\n")
    assert found(tmp_path, files | {"app/r.py": code}, "app/r.py") == [("SG301", line)]


NOT_HELD = {
    "an alias of something else": ("from app.deps import Json", "db: Json"),
    "a default that gives something else": (
        "from fastapi import Depends\nfrom app.http import get_client",
        "db=Depends(get_client)",
    ),
    "a default of a function of one's own": (
        "from app.injection import Depends\nfrom app.deps import get_db",
        "db=Depends(get_db)",
    ),
}


@pytest.mark.parametrize(("imported", "parameter"), NOT_HELD.values(), ids=NOT_HELD.keys())
def test_no_session_by_the_alias_of_another_file(
    imported: str, parameter: str, tmp_path: Path
) -> None:
    code = (
        f"import asyncio\nfrom app.load import load\n{imported}\n\nasync def page({parameter}):\n"
        "    await asyncio.gather(load(db, 1), load(db, 2))\n"
    )
    http = (
        "async def get_client():\n    async with AsyncClient() as client:\n        yield client\n"
    )
    files = {"app/db.py": DB, "app/deps.py": DEPENDENCIES, "app/load.py": LOAD, "app/http.py": http}
    files["app/injection.py"] = "def Depends(function):\n    return function\n"
    assert found_beside(tmp_path, files, "app/r.py", code) == []


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
