"""What tests replace of all that a session is opened by: a fix would go round it."""

from __future__ import annotations

from pathlib import Path

import pytest

from session_guard.config import Settings
from session_guard.fixer import FixResult, fix
from session_guard.project.project import Project
from session_guard.registry import load_rules

RULES = load_rules()
HANDLER = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()
DB = f"{HANDLER}\nSessionLocal = async_sessionmaker(engine, expire_on_commit=False)\n"
X = """\
from sqlalchemy.ext.asyncio import async_sessionmaker

from app import db
from app.db import SessionLocal, engine

maker = None


def get_maker():
    global maker
    if maker is None:
        maker = async_sessionmaker(engine, expire_on_commit=False)
    return maker


class Repo:
    mk = SessionLocal

    def __init__(self):
        self.en = engine

    @property
    def made(self):
        return SessionLocal

    def get_mk(self):
        return get_maker()


class Sub(Repo):
    pass


def by_name():
    return getattr(db, "SessionLocal")


def same(one):
    return one


repo = Repo()
unknown = same(repo)
"""
JOB = """\
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
{imports}


class Service{bases}:
    session_factory = db.SessionLocal

    async def job(self):
        async with {opened} as session:
            print((await session.scalars(select(1))).all())
"""


def fixed(
    tmp_path: Path,
    opened: str,
    test: str,
    *,
    bases: str = "",
    imports: str = "from app import db, x",
    exclude: tuple[str, ...] = (),
    db: str = DB,
) -> FixResult:
    app, tests = tmp_path / "app", tmp_path / "tests"
    app.mkdir(exist_ok=True)
    tests.mkdir(exist_ok=True)
    if opened == "get_maker()()":
        imports += "\nfrom app.x import get_maker"
    code = JOB.format(opened=opened, bases=bases, imports=imports)
    if db is not DB:
        code = code.replace("    session_factory = db.SessionLocal\n", "")
    for module, text in {
        "db": db,
        "x": X,
        "jobs": code,
        "__init__": "",
        "other": "en = 1\n",
    }.items():
        (app / f"{module}.py").write_text(text)
    if test:
        (tests / "conftest.py").write_text(test)
    project = Project(Settings(root=tmp_path, handler=("app.db",), exclude=exclude))
    return fix("jobs.py", app / "jobs.py", code.encode(), project, RULES, unsafe=False)


MOCK = """\
import importlib
from unittest.mock import patch
import app.db
from app import db, jobs, x
"""
IN_MODULES = {
    "by getattr": ("x.by_name()()", "patch('app.db.SessionLocal', 1)"),
    "by the module": ("db.SessionLocal()", "patch.object(db, 'SessionLocal', 1)"),
    "by its string": ("db.SessionLocal()", "patch('app.db.SessionLocal', 1)"),
    "an argument": ("AsyncSession(db.engine)", "def test(m): m.setattr(app.db, 'engine', 1)"),
    "a called function": ("x.get_maker()()", "def test(m): m.setattr('app.x.get_maker', 1)"),
    "a global of a function": ("get_maker()()", "def test(m): m.setattr(x, 'maker', 1)"),
    "what a function builds with": ("get_maker()()", "patch('app.x.engine', 1)"),
    "what this file imported": ("get_maker()()", "def test(m): m.setattr(jobs, 'get_maker', 1)"),
    "several": ("AsyncSession(db.engine)", "patch.multiple('app.db', engine=1)"),
    "several of a module": ("AsyncSession(db.engine)", "patch.multiple(db, engine=1)"),
    "in its names": ("AsyncSession(db.engine)", "patch.dict(db.__dict__, engine=1)"),
    "in its names by string": (
        "AsyncSession(db.engine)",
        "patch.dict('app.db.__dict__', engine=1)",
    ),
    "a dictionary": ("AsyncSession(db.engine)", "patch.dict(db.__dict__, {'engine': 1})"),
    "an update": ("AsyncSession(db.engine)", "app.db.__dict__.update(engine=1)"),
    "an update of vars": ("AsyncSession(db.engine)", "vars(app.db).update(engine=1)"),
    "an item of its names": ("AsyncSession(db.engine)", "vars(db)['engine'] = 1"),
    "assigned": ("AsyncSession(db.engine)", "db.engine = 1"),
    "assigned to what is imported by name": (
        "AsyncSession(db.engine)",
        "importlib.import_module('app.db').engine = 1",
    ),
    "a class, assigned": ("AsyncSession(db.engine)", "jobs.AsyncSession = object"),
    "an item, by a function": (
        "AsyncSession(db.engine)",
        "def test(m): m.setitem(db.__dict__, 'engine', 1)",
    ),
    "by keywords of patch": (
        "AsyncSession(db.engine)",
        "patch.object(target=db, attribute='engine', new=1)",
    ),
    "by a string put together": (
        "AsyncSession(db.engine)",
        "M = 'app.db'\npatch(f'{M}.engine', 1)",
    ),
    "by a function of the tests": (
        "AsyncSession(db.engine)",
        "from tests import fakes\nswap(fakes, 'app.db.engine')",
    ),
    "through another module": ("AsyncSession(db.engine)", "jobs.db.engine = 1"),
}


@pytest.mark.parametrize(("opened", "test"), IN_MODULES.values(), ids=IN_MODULES.keys())
def test_a_name_of_any_module_on_the_way(opened: str, test: str, tmp_path: Path) -> None:
    assert_unsafe(fixed(tmp_path, opened, MOCK + test))


HAD_BY_NAME = {
    "__import__": "m = __import__('app').db",
    "__import__ of a module": "m = __import__('app.other').db",
    "a name of the package": "a = __import__('app')\nm = a.db",
    "a name of the package, in a test": "def test():\n    a = __import__('app')\n    global m\n"
    "    m = a.db",
    "import_module": "m = importlib.import_module('app').db",
    "a relative import_module": "m = importlib.import_module('.db', 'app')",
    "a relative import_module, by keyword": "m = importlib.import_module('.db', package='app')",
    "import_module by a name": "m = importlib.import_module(NAME)",
    "import_module of a text": "for n in 'd', 'b':\n    m = importlib.import_module('app.' + n)",
    "sys.modules": "m = sys.modules['app'].db",
    "getattr": "m = getattr(sys.modules['app'], 'db')",
    "a walrus": "print(m := __import__('app').db)",
    "an annotation": "m: object = __import__('app').db",
}


@pytest.mark.parametrize("had", HAD_BY_NAME.values(), ids=HAD_BY_NAME.keys())
@pytest.mark.parametrize(
    "sets", ["m.engine = 1", "patch.object(m, 'engine')", "setattr(m, 'engine', 1)"]
)
def test_a_module_that_a_test_has_by_its_name(had: str, sets: str, tmp_path: Path) -> None:
    test = (
        "import importlib, sys\nfrom unittest.mock import patch\nfrom os import environ as NAME\n"
    )
    assert_unsafe(fixed(tmp_path, "AsyncSession(db.engine)", f"{test}{had}\n{sets}\n"))


def test_a_module_whose_name_a_test_puts_together(tmp_path: Path) -> None:
    test = "from unittest.mock import patch\nfor n in ('db',):\n    patch(f'app.{n}.engine', 1)\n"
    assert_unsafe(fixed(tmp_path, "AsyncSession(db.engine)", test))


def test_another_module_that_a_test_has_by_its_name(tmp_path: Path) -> None:
    test = (
        "import sys\nfrom unittest.mock import patch\nm = __import__('app').other\nm.engine = 1\n"
        "sys.modules[__name__].engine = 1\n"
    )
    result = fixed(tmp_path, "AsyncSession(db.engine)", test)
    assert [item.code for item in result.applied] == ["SG101"]


CLASSES = (
    "from unittest.mock import patch\nfrom app.jobs import Service\nfrom app.x import Repo, repo\n"
)
IN_CLASSES = {
    "by the class": ("self.session_factory()", "patch.object(Service, 'session_factory', 1)"),
    "by its string": ("x.Repo().mk()", "patch('app.x.Repo.mk', 1)"),
    "by keywords": ("x.Repo().mk()", "patch.multiple(Repo, mk=1)"),
    "by an object": ("x.repo.mk()", "patch.object(repo, 'mk', 1)"),
    "by an object of a test": ("self.session_factory()", "s = Service()\ns.session_factory = 1"),
    "assigned": ("x.repo.mk()", "Repo.mk = 1"),
    "assigned to an object": ("x.repo.mk()", "repo.mk = 1"),
    "what objects are made with": ("x.repo.mk()", "def test(m): m.setattr(Repo, 'mk', 1)"),
    "of an object that is not known": ("x.repo.mk()", "from app import x\nx.unknown.mk = 1"),
    "by a class that derives": ("x.repo.mk()", "patch('app.x.Sub.mk', 1)"),
    "a property": ("x.repo.made()", "patch('app.x.Repo.made', 1)"),
    "what a property reads": ("x.repo.made()", "patch('app.x.SessionLocal', 1)"),
    "what a method calls": ("x.repo.get_mk()()", "patch('app.x.get_maker', 1)"),
    "a subclass": ("self.session_factory()", "class Fake(Service):\n    session_factory = 1"),
    "a subclass of one": (
        "self.session_factory()",
        "class A(Service): pass\nclass B(A):\n    def session_factory(self): ...",
    ),
    "objects of a subclass": (
        "self.session_factory()",
        "class A(Service):\n    def __init__(self):\n        self.session_factory = 1",
    ),
}


@pytest.mark.parametrize(("opened", "test"), IN_CLASSES.values(), ids=IN_CLASSES.keys())
def test_an_attribute_of_a_class_on_the_way(opened: str, test: str, tmp_path: Path) -> None:
    assert_unsafe(fixed(tmp_path, opened, CLASSES + test))


def test_an_attribute_of_a_base(tmp_path: Path) -> None:
    test = f"{CLASSES}patch.object(Repo, 'mk', 1)"
    assert_unsafe(fixed(tmp_path, "self.mk()", test, bases="(x.Repo)"))


def test_what_a_method_sets_an_attribute_to(tmp_path: Path) -> None:
    opened, test = "AsyncSession(self.en)", f"{CLASSES}patch('app.x.engine', 1)"
    assert_unsafe(fixed(tmp_path, opened, test, bases="(x.Repo)"))


def test_a_test_is_one_by_its_path(tmp_path: Path) -> None:
    test = "from app import db\ndb.SessionLocal = 1\n"
    assert_unsafe(fixed(tmp_path, "db.SessionLocal()", test))


def test_what_the_handlers_engine_is_made_of(tmp_path: Path) -> None:
    made = "@functools.cache\ndef get_engine():\n    return create_async_engine(DATABASE_URL)\n"
    db = HANDLER.replace("async_sessionmaker(engine", "async_sessionmaker(get_engine()")
    db = db.replace("engine = create_async_engine(", f"{made}others = dict(a=")
    db = f"import functools\n{db}"
    result = fixed(
        tmp_path, "AsyncSession(db.get_engine())", f"{MOCK}patch('app.db.DATABASE_URL', 1)", db=db
    )
    assert [item.code for item in result.applied] == ["SG101"]


@pytest.mark.parametrize(
    ("opened", "test", "replaced"),
    [
        ("db.SessionLocal()", "db.SessionLocal = 1", "`SessionLocal` of app.db"),
        ("db.SessionLocal()", "jobs.db = 1", "`db` of this file"),
        ("x.repo.mk()", "x.Repo.mk = 1", "`mk` of `Repo`"),
    ],
)
def test_the_message_tells_what_is_replaced(
    opened: str, test: str, replaced: str, tmp_path: Path
) -> None:
    [finding] = fixed(tmp_path, opened, MOCK + test).remaining
    assert f"since tests/conftest.py replaces {replaced} by another" in finding.help


def test_a_name_that_a_star_brought(tmp_path: Path) -> None:
    imports, test = "from app import db\nfrom app.db import *", "patch('app.jobs.SessionLocal', 1)"
    assert_unsafe(fixed(tmp_path, "SessionLocal()", MOCK + test, imports=imports))


def test_a_name_that_is_imported_as_the_function_runs(tmp_path: Path) -> None:
    code = """\
from sqlalchemy import select


async def job():
    from app.db import SessionLocal

    async with SessionLocal() as session:
        print((await session.scalars(select(1))).all())
"""
    fixed(tmp_path, "", f"{MOCK}patch('app.db.SessionLocal', 1)")
    jobs = tmp_path / "app" / "jobs.py"
    jobs.write_text(code)
    project = Project(Settings(root=tmp_path, handler=("app.db",)))
    assert_unsafe(fix("jobs.py", jobs, code.encode(), project, RULES, unsafe=False))


def test_a_test_that_stands_with_the_code(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    test = tmp_path / "app" / "checks.py"
    test.write_text("import pytest\nfrom app.jobs import Service\nService.session_factory = 1\n")
    [finding] = fixed(tmp_path, "self.session_factory()", "").remaining
    assert "not fixed: app/checks.py assigns another value" in finding.help


def test_a_test_that_is_not_checked_itself(tmp_path: Path) -> None:
    test = f"{MOCK}db.SessionLocal = 1"
    assert_unsafe(fixed(tmp_path, "db.SessionLocal()", test, exclude=("tests",)))


def assert_unsafe(result: FixResult) -> None:
    assert result.applied == []
    [finding] = result.remaining
    assert "tests/conftest.py replaces `" in finding.help
    assert "--unsafe-fixes" in finding.help


OTHERS = {
    "what it imports and uses": "from app.x import Repo, maker\nprint(db.engine, Repo.mk, maker)",
    "of another module": "patch.object(x, 'select', 1)\npatch('app.other.engine')",
    "of another module by its object": "from app import other\npatch.object(other, 'engine')",
    "assigned in another module": "from app import other\nother.engine = other.session_factory = 1",
    "what is outside the project": "import os\npatch.object(os, 'engine')\nos.session_factory = 1",
    "of a class of its own": "import unittest\n"
    "class T(unittest.TestCase):\n    def setUp(self): self.engine = self.session_factory = 1",
    "of another class": "from app.x import Repo\nRepo.session_factory = 1",
    "what is read": "getattr(db, 'engine')",
    "keywords of a call": "job(engine=1, session_factory=1)",
}


@pytest.mark.parametrize(
    "opened", ["AsyncSession(db.engine)", "self.session_factory()", "get_maker()()"]
)
@pytest.mark.parametrize("test", OTHERS.values(), ids=OTHERS.keys())
def test_what_a_test_does_to_anything_else(opened: str, test: str, tmp_path: Path) -> None:
    result = fixed(tmp_path, opened, MOCK + test)
    assert [item.code for item in result.applied] == ["SG101" if "engine" in opened else "SG103"]


def test_what_an_import_took_already_is_not_replaced_where_it_was(tmp_path: Path) -> None:
    test = f"{MOCK}patch('app.x.get_maker')"
    assert [item.code for item in fixed(tmp_path, "get_maker()()", test).applied] == ["SG103"]


CONFIGURED = {
    "configured": "db.SessionLocal.configure(bind=test_engine)",
    "configured, as a fixture imports it": (
        "def test():\n    from app.db import SessionLocal as S\n    S.configure(bind=1)"
    ),
    "configured by its method": "configure = db.SessionLocal.configure\nconfigure(bind=1)",
    "configured by a parameter": "def test(maker):\n    maker.configure(bind=1)",
    "an entry": "from app.db import SessionLocal\nSessionLocal.kw['bind'] = 1",
    "an entry of a parameter": "def test(maker):\n    maker.kw['bind'] = 1",
    "an entry, by another name": "kw = db.SessionLocal.kw\nkw['bind'] = 1",
    "an entry, by a function": "def test(m): m.setitem(db.SessionLocal.kw, 'bind', 1)",
    "entries": "db.SessionLocal.kw.update(bind=1)",
    "entries, merged": "db.SessionLocal.kw |= {'bind': 1}",
    "entries, by patch": "patch.dict(db.SessionLocal.kw, bind=1)",
    "entries, by a string": "patch.dict('app.db.SessionLocal.kw', bind=1)",
    "all entries": "def test(m): m.setattr(db.SessionLocal, 'kw', {})",
    "all entries, assigned": "db.SessionLocal.kw = {}",
    "its class": "db.SessionLocal.class_ = object",
}


@pytest.mark.parametrize("where", ["conftest.py", "tests/conftest.py", "app/tests/test_it.py"])
@pytest.mark.parametrize("test", CONFIGURED.values(), ids=CONFIGURED.keys())
def test_a_factory_that_a_test_configures(test: str, where: str, tmp_path: Path) -> None:
    (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / where).write_text(MOCK + test)
    result = fixed(tmp_path, "SessionLocal()", "", imports="from app import db\n" + TAKES)
    assert result.applied == []
    [finding] = result.remaining
    assert f"not fixed: {where} configures a session factory anew" in finding.help


TAKES = "from app.db import SessionLocal"
CONFIGURED_OTHERS = {
    "a factory of its own": "from sqlalchemy.ext.asyncio import async_sessionmaker\n"
    "S = async_sessionmaker()\nS.configure(bind=1)\nS.kw['bind'] = 1",
    "anything else": "import logging\nlogging.configure(bind=1)\nprint(jobs.kw)\nMOCK.kw = {}",
    "what is read": "kw = dict(db.SessionLocal.kw)\nprint(db.SessionLocal.kw['bind'])\n"
    "S = make(**db.SessionLocal.kw)\nS.kw = db.SessionLocal.kw.copy()",
    "entries of something else": "def test(node):\n    node.kw['id'] = node.kw['name'] = 1",
    "of other arguments": "def test(app):\n    app.configure(debug=True)",
}


@pytest.mark.parametrize("test", CONFIGURED_OTHERS.values(), ids=CONFIGURED_OTHERS.keys())
def test_anything_else_that_a_test_configures(test: str, tmp_path: Path) -> None:
    imports = "from app import db\n" + TAKES
    result = fixed(tmp_path, "SessionLocal()", MOCK + test, imports=imports)
    assert [item.code for item in result.applied] == ["SG103"]


MODULES = {
    "an item": "sys.modules['app.db'] = MagicMock()",
    "a package": "sys.modules['app'] = MagicMock()",
    "an item, in a fixture": "def test(m): m.setitem(sys.modules, 'app.db', 1)",
    "by patch": "patch.dict(sys.modules, {'app.db': MagicMock()})",
    "by patch, with its string": "patch.dict('sys.modules', {'app.db': 1})",
    "by keywords": "patch.dict('sys.modules', **{'app.db': 1})",
    "an update": "from sys import modules\nmodules.update({'app.db': 1})",
    "a default": "sys.modules.setdefault('app.db', 1)",
    "by a name": "for name in ('torch', 'app.db'):\n    sys.modules[name] = 1",
    "of a dictionary": "FAKES = {'app.db': 1}\npatch.dict(sys.modules, FAKES)",
    "by the name of a module": "sys.modules[db.__name__] = 1",
    "what is behind it": "sys.modules['app.x'] = 1",
}
SYS = "import sys\nfrom unittest.mock import MagicMock, patch\nfrom app import db\n"


@pytest.mark.parametrize("test", MODULES.values(), ids=MODULES.keys())
def test_a_module_that_a_test_puts_another_in_the_place_of(test: str, tmp_path: Path) -> None:
    imports = "from app import db\nfrom app.x import SessionLocal"
    result = fixed(tmp_path, "SessionLocal()", SYS + test, imports=imports)
    assert result.applied == []
    [finding] = result.remaining
    assert "tests/conftest.py replaces the module app." in finding.help


def test_a_module_that_a_star_is_of(tmp_path: Path) -> None:
    imports, test = "from app import db\nfrom app.x import *", f"{SYS}sys.modules['app.db'] = 1"
    result = fixed(tmp_path, "SessionLocal()", test, imports=imports)
    assert result.applied == []
    assert "replaces the module app.db by another" in result.remaining[0].help


OTHER_MODULES = {
    "of no concern": "sys.modules['torch'] = sys.modules['app.other'] = MagicMock()",
    "by names": "for name in ('torch', 'cv2'):\n    sys.modules[name] = 1",
    "what is loaded by hand": "import importlib.util as u\n"
    "spec = u.spec_from_file_location('job', 'scripts/job.py')\n"
    "sys.modules[spec.name] = u.module_from_spec(spec)",
    "forgotten": "def test(m): m.delitem(sys.modules, 'app.db')\ndel sys.modules['app.db']",
    "of another object": "net.modules['app.db'] = 1",
    "the file itself": "sys.modules[__name__] = 1",
    "read": "print(sys.modules['app.db'])",
}


@pytest.mark.parametrize("test", OTHER_MODULES.values(), ids=OTHER_MODULES.keys())
def test_what_a_test_does_to_other_modules(test: str, tmp_path: Path) -> None:
    imports = "from app import db\nfrom app.x import SessionLocal"
    result = fixed(tmp_path, "SessionLocal()", SYS + test, imports=imports)
    assert [item.code for item in result.applied] == ["SG103"]


BY_NAMES = {
    "several of a module": "from tests.fakes import FAKES\npatch.multiple(db, **FAKES)",
    "several by string": "from tests.fakes import FAKES\npatch.multiple('app.db', **FAKES)",
    "its names": "from tests.fakes import FAKES\npatch.dict(db.__dict__, FAKES)",
    "its names, by string": "from tests.fakes import FAKES\npatch.dict('app.db.__dict__', FAKES)",
    "an update": "from tests.fakes import FAKES\nvars(db).update(FAKES)",
    "a function that sets several": (
        "def swap(module, **values):\n    return patch.multiple(module, **values)\n"
        "swap('app.db', engine=1)"
    ),
    "a function that sets several, of the module": (
        "from tests.fakes import swap\nswap(db, engine=1)"
    ),
    "globals of a function": (
        "from app.db import get_session\n"
        "def test(m): m.setitem(get_session.__globals__, 'engine', 1)"
    ),
    "globals of a function of the module": "db.get_session.__globals__['engine'] = 1",
    "globals of a function, by patch": (
        "from app.db import get_session\npatch.dict(get_session.__globals__, {'engine': 1})"
    ),
    "globals of a function, any": (
        "from app.db import get_session\nfrom tests.fakes import FAKES\n"
        "get_session.__globals__.update(FAKES)"
    ),
}


@pytest.mark.parametrize("test", BY_NAMES.values(), ids=BY_NAMES.keys())
def test_names_that_a_test_does_not_write_out(test: str, tmp_path: Path) -> None:
    assert_unsafe(fixed(tmp_path, "AsyncSession(db.engine)", MOCK + test))


OTHER_NAMES = {
    "of another module": "from app import other\npatch.multiple(other, **FAKES)",
    "of a dictionary": "import os\npatch.dict(os.environ, FAKES)\npatch.dict(db.cache, FAKES)",
    "of a function of another": "from app.x import get_maker\nget_maker.__globals__['engine'] = 1",
    "keywords beside another": "swap('app.other', engine=1)\nswap(db.engine, engine=1)",
}


@pytest.mark.parametrize("test", OTHER_NAMES.values(), ids=OTHER_NAMES.keys())
def test_names_of_others_that_a_test_does_not_write_out(test: str, tmp_path: Path) -> None:
    test = "from unittest.mock import patch\nfrom app import db\nfrom tests.fakes import *\n" + test
    result = fixed(tmp_path, "AsyncSession(db.engine)", test)
    assert [item.code for item in result.applied] == ["SG101"]


LIBRARY = {
    "by its string": "patch('sqlalchemy.ext.asyncio.create_async_engine')",
    "where it stands": "patch('sqlalchemy.ext.asyncio.engine.create_async_engine')",
    "a class": "import sqlalchemy.ext.asyncio as sa\npatch.object(sa, 'async_sessionmaker')",
    "SQLModel's": "patch('sqlmodel.ext.asyncio.session.AsyncSession')",
    "assigned": "from sqlalchemy.ext import asyncio\nasyncio.AsyncSession = 1",
    "by a keyword": "patch.multiple('sqlalchemy.ext.asyncio', create_async_engine=1)",
    "the module": "import sys\nsys.modules['sqlalchemy.ext.asyncio'] = 1",
}


@pytest.mark.parametrize("test", LIBRARY.values(), ids=LIBRARY.keys())
def test_what_a_test_replaces_in_sqlalchemy(test: str, tmp_path: Path) -> None:
    imports = "from app import db\n" + TAKES
    assert_unsafe(fixed(tmp_path, "SessionLocal()", MOCK + test, imports=imports))


OTHER_OF_LIBRARY = {
    "a method": "patch('sqlalchemy.ext.asyncio.AsyncSession.commit')",
    "a method, by its class": "from sqlalchemy.ext.asyncio import AsyncSession\n"
    "patch.object(AsyncSession, 'commit')",
    "what a module of the project has": "patch('app.other.create_async_engine')",
    "what it uses itself": "from sqlalchemy.ext.asyncio import create_async_engine\n"
    "import sqlalchemy.ext.asyncio\nsqlalchemy.ext.asyncio.create_async_engine('x')\n",
}


@pytest.mark.parametrize("test", OTHER_OF_LIBRARY.values(), ids=OTHER_OF_LIBRARY.keys())
def test_anything_else_that_a_test_does_to_sqlalchemy(test: str, tmp_path: Path) -> None:
    imports = "from app import db\n" + TAKES
    result = fixed(tmp_path, "SessionLocal()", MOCK + test, imports=imports)
    assert [item.code for item in result.applied] == ["SG103"]
