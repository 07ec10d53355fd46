"""What the quick checks pass by holds no finding: on real packages, and on the rules' examples.

A rule's gate looks at bytes, `Rule.subject_in` and `Project.may_be_about` at what `ast` sees. Both
are there for speed alone, so that a run without them must find the same. So must a run over a file
that is named alone, as editors and pre-commit name it.
"""

from __future__ import annotations

import copy
import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from session_guard.registry import load_rules
from session_guard.runner import Options, Run

if TYPE_CHECKING:
    from types import ModuleType

    from session_guard.rule import Finding

HERE = Path(__file__).parent
# Small ones that use sessions in many ways: a library of bindings, a vector store, services.
PACKAGES = (
    "fastapi-tenancy",
    "kmvpy",
    "langchain-postgres",
    "sqlalchemy-bind-manager",
    "tgbotcore",
)
# Files that hold no word of SQLAlchemy's, and reach sessions by names of the project's alone.
BY_NAME = {
    "names.py": """\
from typing import Annotated
from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import background_task_session_factory as open_it, get_session

Db = Annotated[AsyncSession, Depends(get_session)]
""",
    "opens.py": """\
from app.names import open_it

async def job():
    async with open_it() as s:
        await s.commit()
""",
    "shares.py": """\
import asyncio
from app.names import Db
from app.work import load

async def run(db: Db):
    await asyncio.gather(load(db, 1), load(db, 2))
""",
}
URL = '"postgresql+asyncpg://db/app"'
UNIQUE = '{"prepared_statement_name_func": lambda: f"s{uuid4()}"}'
TASK = "async def run(db):\n    async with get_background_session() as db:\n        "
SCHEDULER = (
    "from apscheduler.schedulers.background import BackgroundScheduler\n"
    "scheduler = BackgroundScheduler()\n"
)
# Of each rule, for each of its tokens: code that it finds something in, and the token opens it.
TOKENS = {
    ("SG101", "AsyncSession"): "AsyncSession(None)",
    ("SG102", "sessionmaker"): "async_sessionmaker(None)",
    ("SG102", "async_scoped_session"): "async_scoped_session(make, None)",
    ("SG103", "sessionmaker"): "async_sessionmaker(None)()",
    ("SG103", "async_scoped_session"): "async_scoped_session(make, None)()",
    ("SG104", "execution_options"): "DbSession(None, execution_options={})",
    ("SG104", "sessionmaker"): "async_sessionmaker(None, **OPTIONS)",
    ("SG104", "AsyncSession"): "AsyncSession(None, **OPTIONS)",
    ("SG105", "AsyncSession"): (
        "async def run():\n    db = AsyncSession(None)\n    await db.commit()"
    ),
    ("SG105", "sessionmaker"): (
        "async def run():\n    db = async_sessionmaker(None)()\n    await db.commit()"
    ),
    ("SG201", "create_async_engine"): f"create_async_engine({URL})",
    ("SG201", "async_engine_from_config"): "async_engine_from_config({})",
    ("SG202", "create_async_engine"): f"create_async_engine({URL})",
    ("SG203", "create_async_engine"): f"create_async_engine({URL}, statement_cache_size=0)",
    ("SG203", "execution_options"): "connection.execution_options(statement_cache_size=0)",
    ("SG204", "create_async_engine"): (
        f'create_async_engine({URL}, connect_args={{"sslmode": "require"}})'
    ),
    ("SG205", "create_async_engine"): (
        f'create_async_engine({URL}, connect_args={{"prepared_statement_name_func": lambda: "s"}})'
    ),
    ("SG206", "create_async_engine"): (
        'create_async_engine("postgresql+asyncpg://db:6432/app", '
        'connect_args={"server_settings": {"statement_cache_size": "0"}})'
    ),
    ("SG207", "create_async_engine"): (
        "import ssl\ncontext = ssl.create_default_context()\ncontext.check_hostname = False\n"
        "context.verify_mode = ssl.CERT_NONE\n"
        f'create_async_engine({URL}, connect_args={{"ssl": context}})'
    ),
    ("SG208", "create_async_engine"): (
        "from uuid import uuid4\n"
        f'create_async_engine({URL}, isolation_level="AUTOCOMMIT", connect_args={UNIQUE})'
    ),
    ("SG208", "execution_options"): (
        'from app.db import engine\nengine.execution_options(isolation_level="AUTOCOMMIT")'
    ),
    ("SG301", "gather"): f"import asyncio\n{TASK}await asyncio.gather(db.get(1), db.get(2))",
    ("SG301", "create_task"): (
        f"import asyncio\n{TASK}asyncio.create_task(work(db))\n        await db.commit()"
    ),
    ("SG301", "ensure_future"): (
        f"import asyncio\n{TASK}asyncio.ensure_future(work(db))\n        await db.commit()"
    ),
    ("SG301", "start_soon"): (
        "from anyio.abc import TaskGroup\nasync def run(db: Db, group: TaskGroup):\n"
        "    group.start_soon(work, db)\n    group.start_soon(work, db)"
    ),
    ("SG301", "as_completed"): (
        f"import asyncio\n{TASK}asyncio.as_completed([work(db), work(db)])"
    ),
    ("SG301", "asyncio.wait"): f"import asyncio\n{TASK}await asyncio.wait([work(db), work(db)])",
    ("SG301", " asyncio import"): (
        f"from asyncio import wait\n{TASK}await wait([work(db), work(db)])"
    ),
    ("SG301", " asyncio as"): (
        f"import asyncio as aio\n{TASK}await aio.wait([work(db), work(db)])"
    ),
    ("SG301", "run_in_executor"): (
        f"import asyncio\n{TASK}loop = asyncio.get_running_loop()\n"
        "        loop.run_in_executor(None, work, db)\n        await db.commit()"
    ),
    ("SG301", "add_task"): (
        "async def run(tasks: Tasks, db: Db):\n    tasks.add_task(work, db)\n    await db.commit()"
    ),
    ("SG301", "BackgroundTask"): (
        "from starlette.background import BackgroundTask\nasync def run(db: Db):\n"
        "    return BackgroundTask(work, db)"
    ),
    ("SG301", "add_job"): f"{SCHEDULER}{TASK}scheduler.add_job(work, args=[db])",
    ("SG301", "add_schedule"): f"{SCHEDULER}{TASK}await scheduler.add_schedule(work, args=[db])",
    ("SG301", "asyncio.Task("): (
        f"import asyncio\n{TASK}asyncio.Task(work(db))\n        await db.commit()"
    ),
    ("SG302", "execute"): f'{TASK}await db.execute(text("LISTEN jobs"))',
    ("SG302", "scalar"): f'{TASK}await db.scalar(text("SELECT pg_advisory_lock(1)"))',
    ("SG302", "stream"): f'{TASK}await db.stream(text("SELECT pg_advisory_lock(1)"))',
    ("SG302", ".exec("): f'{TASK}await db.exec(text("LISTEN jobs"))',
    ("SG302", "exec_driver_sql"): f'{TASK}await db.exec_driver_sql("LISTEN jobs")',
    ("SG302", "add_listener"): (
        f"{TASK}raw = (await (await db.connection()).get_raw_connection()).driver_connection\n"
        '        await raw.add_listener("jobs", print)'
    ),
    ("SG302", "prefixes"): (
        "from sqlalchemy import Column, Integer, MetaData, Table\n"
        'Table("t", MetaData(), Column("id", Integer), prefixes=["TEMPORARY"])'
    ),
    ("SG303", "commit"): f"{TASK}db.add(row)\n        await db.commit()",
    ("SG303", "rollback"): (
        f"{TASK}try:\n            db.add(row)\n        except ValueError:\n"
        "            await db.rollback()\n            raise"
    ),
    ("SG303", "close"): f"{TASK}db.add(row)\n        await db.close()",
    ("SG304", "except"): (
        f"{TASK}try:\n            await db.flush()\n        except Exception:\n"
        "            pass\n        db.add(row)"
    ),
    ("SG304", "finally"): (
        f"{TASK}try:\n            db.add(row)\n            await db.flush()\n        finally:\n"
        "            return None"
    ),
    ("SG304", "suppress"): (
        f"from contextlib import suppress\n{TASK}with suppress(Exception):\n"
        "            await db.flush()\n        db.add(row)"
    ),
}
# Of each rule that the project's own names open: code that has none of its tokens.
NAMES = """\
from typing import Annotated
from fastapi import BackgroundTasks as Tasks, Depends
from sqlalchemy.ext.asyncio import AsyncSession as DbSession, async_sessionmaker as make_factory
from sqlalchemy.ext.asyncio import create_async_engine as build
from app.db import get_session

Db = Annotated[DbSession, Depends(get_session)]
OPTIONS = {"execution_options": {}}
"""
BY_OWN_NAME = {
    "SG101": "DbSession(None)",
    "SG102": "make_factory(None)",
    "SG103": "make_factory(None)()",
    "SG104": "make_factory(None, **OPTIONS)",
    "SG105": "async def run():\n    db = DbSession(None)\n    await db.commit()",
}
BY_OWN_NAME |= {
    code: source.replace("create_async_engine", "build")
    for (code, token), source in TOKENS.items()
    if token == "create_async_engine"
}
# What one file makes, and how another, which has no word of SQLAlchemy's, uses it. Names are
# numbered, so that those of one case open no gate for another.
GATHER = "await asyncio.gather({0}.get(1), {0}.get(2))"
REPOSITORY = (
    "from sqlalchemy.ext.asyncio import AsyncSession\n\nclass Repo0:\n"
    "    def __init__(self, session: AsyncSession) -> None:\n        self.session = session\n\n"
    "    async def load(self):\n        return await self.session.get(1)\n"
)
LOADS = "await asyncio.gather({0}.load(), {0}.load())"
SCOPE = (
    "from contextlib import asynccontextmanager\n"
    "from sqlalchemy.ext.asyncio import async_sessionmaker\nopen0 = async_sessionmaker(None)\n\n"
    "@asynccontextmanager\nasync def scope0():\n    async with open0() as db:\n        yield db\n"
)
IN_HANDLERS = "async def run(row):\n    async with {} as db:\n        await db.commit()"
SHARED = f"async def run():\n    db = make0()\n    {GATHER.format('db')}"
MADE_AND_USED = {
    "a factory": (
        "from sqlalchemy.ext.asyncio import async_sessionmaker\nopen0 = async_sessionmaker(None)",
        "open0",
        "open0()",
    ),
    "a scoped factory": (
        "from sqlalchemy.ext.asyncio import async_scoped_session\n"
        "open0 = async_scoped_session(make, None)",
        "open0",
        "open0()",
    ),
    "what builds engines": (
        "from sqlalchemy.ext.asyncio import create_async_engine as build0",
        "build0",
        'build0("postgresql+asyncpg://db/app")',
    ),
    "what builds engines of a dictionary": (
        "from sqlalchemy.ext.asyncio import async_engine_from_config as build0",
        "build0",
        "build0({})",
    ),
    "a class by another name": (
        "from sqlalchemy.ext.asyncio import AsyncSession as Db0",
        "Db0",
        "Db0(None)",
    ),
    "a class by another name, in parentheses": (
        "from sqlalchemy.ext.asyncio import (\n    AsyncSession as Db0,\n)",
        "Db0",
        "Db0(None)",
    ),
    "a class by another name, behind one that keeps its own": (
        "from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession as Db0",
        "Db0",
        "Db0(None)",
    ),
    "a class that is assigned": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nDb0 = AsyncSession",
        "Db0",
        "Db0(None)",
    ),
    "a subclass": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nclass Db0(AsyncSession):\n    pass",
        "Db0",
        "Db0(None)",
    ),
    "a generic subclass": (
        "from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker\n"
        "class Open0(async_sessionmaker[AsyncSession]):\n    pass",
        "Open0",
        "Open0(None)",
    ),
    "a function that makes sessions": (
        "from sqlalchemy.ext.asyncio import AsyncSession\n"
        "def make0() -> AsyncSession:\n    return AsyncSession(None)",
        "make0",
        SHARED,
    ),
    "a lambda that makes sessions": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nmake0 = lambda: AsyncSession(None)",
        "make0",
        SHARED,
    ),
    "a dictionary of classes": (
        'from sqlalchemy.ext.asyncio import AsyncSession\nby_name0 = {\n    "db": AsyncSession\n}',
        "by_name0",
        'by_name0["db"](None)',
    ),
    "a dictionary of classes under names": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nMAIN = 'db'\n"
        "by_name0 = {'other': {}, MAIN: AsyncSession}",
        "by_name0",
        'by_name0["db"](None)',
    ),
    "a lambda that gives a class": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nclass0 = lambda: AsyncSession",
        "class0",
        "class0()(None)",
    ),
    "a tuple of factories": (
        "from sqlalchemy.ext.asyncio import async_sessionmaker\n"
        "makers0 = (async_sessionmaker(None), None)",
        "makers0",
        "makers0[0]()",
    ),
    "an attribute of an object": (
        "from sqlalchemy.ext.asyncio import async_sessionmaker\nclass Database0:\n"
        "    def __init__(self, engine):\n        self.open0 = async_sessionmaker(engine)",
        "Database0",
        "Database0(None).open0()",
    ),
    "an item that is stored": (
        "from sqlalchemy.ext.asyncio import async_sessionmaker\nby_name0 = {}\n"
        'by_name0["db"] = async_sessionmaker(None)',
        "by_name0",
        'by_name0["db"]()',
    ),
    "the state of the application": (
        "from sqlalchemy.ext.asyncio import async_sessionmaker\ndef setup(app):\n"
        "    app.state.open0 = async_sessionmaker(None)",
        None,
        "def run(request):\n    request.app.state.open0()",
    ),
    "a function with the name of the handler's": (
        "from app.db import get_background_session as scope0",
        "scope0",
        IN_HANDLERS.format("scope0()"),
    ),
    "a function of the handler's that is assigned": (
        "from app.db import get_background_session\nscope0 = get_background_session",
        "scope0",
        IN_HANDLERS.format("scope0()"),
    ),
    "a function of the handler's in a dictionary": (
        "from app.db import get_background_session\nby_name0 = {'db': get_background_session}",
        "by_name0",
        IN_HANDLERS.format("by_name0['db']()"),
    ),
    "a class that holds a session": (
        REPOSITORY,
        "Repo0",
        f"async def run(repo: Repo0):\n    {LOADS.format('repo')}",
    ),
    "an object that holds a session": (
        REPOSITORY,
        "Repo0",
        f"async def run(db):\n    repo = Repo0(db)\n    {LOADS.format('repo')}",
    ),
    "a class whose base holds a session": (
        REPOSITORY,
        "Repo0",
        f"class Users(Repo0):\n    async def run(self):\n        {GATHER.format('self.session')}",
    ),
    "a class that holds one that holds a session": (
        f"{REPOSITORY}\nclass Service0:\n    repo: Repo0\n",
        "Service0",
        f"async def run(service: Service0):\n    {LOADS.format('service.repo')}",
    ),
    "a session that is entered": (
        SCOPE,
        "scope0",
        f"async def run():\n    async with scope0() as db:\n        {GATHER.format('db')}",
    ),
    "a session that a framework is asked for": (
        f"{SCOPE}\nasync def get0():\n    async with open0() as db:\n        yield db\n",
        "get0",
        f"from fastapi import Depends\nasync def run(db=Depends(get0)):\n    {GATHER.format('db')}",
    ),
    "a session of a module": (
        "from sqlalchemy.ext.asyncio import AsyncSession\nsession0 = AsyncSession(None)",
        "session0",
        "async def run():\n    await asyncio.gather(work(session0), work(session0))",
    ),
    "an annotation": (
        "from typing import Annotated\nfrom fastapi import Depends\n"
        "from sqlalchemy.ext.asyncio import AsyncSession\n"
        "Db0 = Annotated[AsyncSession, Depends(get_db)]",
        "Db0",
        f"async def run(db: Db0):\n    {GATHER.format('db')}",
    ),
    "SQL": (
        "from sqlalchemy import text\nLOCK0 = text('SELECT pg_advisory_lock(1)')",
        "LOCK0",
        "async def run(db):\n    await db.execute(LOCK0)",
    ),
}
# How a name may come from the file that makes it to the file that uses it: by three files between.
RENAMED_BETWEEN = {
    "a": "from {package}.c import two0 as three0",
    "b": "from {package}.make import {name} as one0",
    "c": "from {package}.b import one0 as two0",
}
RENAMED = (
    *("a class by another name", "what builds engines", "an annotation"),
    "a function with the name of the handler's",
)
HANDLER = (HERE / "fixtures" / "standard_2025" / "async_session.py").read_text()


def measure() -> ModuleType:
    """Return the module that fetches the projects of the field."""
    spec = importlib.util.spec_from_file_location("measure", HERE / "field" / "measure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=[*PACKAGES, "examples of rules"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("projects")
    if request.param in PACKAGES:
        field = measure()
        path: Path = field.fetch(field.read_projects()[request.param], folder)
        return path
    (folder / "pyproject.toml").touch()
    (folder / "app").mkdir()
    (folder / "app" / "db.py").write_text(HANDLER)
    for name, text in BY_NAME.items():
        (folder / "app" / name).write_text(text)
    for rule in load_rules():
        for number, example in enumerate((*rule.valid, *rule.invalid)):
            if example.handler is None:
                file = folder / "app" / f"{rule.code.lower()}_{number}.py"
                file.write_text(example.code)
    return folder


def found(*paths: Path, without_gates: bool = False) -> list[tuple[str, int, int, str, str]]:
    run = Run(Options(paths=tuple(map(str, paths))))
    if without_gates:
        run._rules = [copy.copy(rule) for rule in run._rules]  # others ask the same ones
        for rule in run._rules:
            rule.gate = lambda *_: True  # type: ignore[method-assign] # this is what is compared
            rule.subject_in = lambda _: None  # type: ignore[method-assign]
            rule.may_find_in = lambda *_: True  # type: ignore[method-assign]
    return sorted(plain(item) for items in run.check() for item in items)


def plain(item: Finding) -> tuple[str, int, int, str, str]:
    return (Path(item.path).name, item.line, item.column, item.code, item.message)


def test_gates_pass_by_no_finding(project: Path) -> None:
    assert found(project) == found(project, without_gates=True)


def test_a_file_has_the_same_findings_alone_and_with_others(project: Path) -> None:
    run = Run(Options(paths=(str(project),)))
    by_file = {items[0].path: sorted(map(plain, items)) for items in run.check() if items}
    assert by_file
    paths = [Path(path) for path in by_file]
    # A run alone reads the project anew; a few files of each kind are enough of them.
    chosen = paths[:: max(1, len(paths) // 6)]
    for path in chosen:
        assert found(path) == by_file[str(path)]
    assert found(*chosen[:3]) == sorted(item for path in chosen[:3] for item in by_file[str(path)])


def with_imports(source: str) -> str:
    """Return a piece of code with the import statements of the names that it does not import."""
    modules = {
        "sqlalchemy.ext.asyncio": (
            "AsyncSession async_engine_from_config async_scoped_session async_sessionmaker "
            "create_async_engine"
        ),
        "app.names": "DbSession Db OPTIONS Tasks make_factory build",
        "app.db": "get_background_session",
        "sqlalchemy": "text",
    }
    imports = (
        f"from {module} import {name}\n"
        for module, names in modules.items()
        for name in names.split()
        if re.search(rf"\b{name}\b(?! =)", source)
    )
    return f"{''.join(imports)}{source}\n"


@pytest.fixture(scope="module")
def found_in(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the codes of what is found in a file for each piece of code, by the file's text."""
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "pyproject.toml").touch()
    (folder / "app").mkdir()
    (folder / "app" / "db.py").write_text(HANDLER)
    (folder / "app" / "names.py").write_text(NAMES)
    texts = [with_imports(source) for source in (*TOKENS.values(), *BY_OWN_NAME.values())]
    for number, text in enumerate(texts):
        (folder / "app" / f"piece{number}.py").write_text(text)
    codes: dict[str, set[str]] = {text: set() for text in texts}
    for name, _, _, code, _ in found(folder):
        if name.startswith("piece"):
            codes[texts[int(name[5:-3])]].add(code)
    return codes


def test_each_token_has_its_code() -> None:
    rules = load_rules()
    assert TOKENS.keys() == {(rule.code, t.decode()) for rule in rules for t in rule.tokens}
    assert BY_OWN_NAME.keys() == {rule.code for rule in rules if rule.project_names}


@pytest.mark.parametrize(("code", "token"), TOKENS.keys())
def test_a_token_opens_the_gate(code: str, token: str, found_in: dict[str, set[str]]) -> None:
    text = with_imports(TOKENS[code, token])
    others = [t for c, t in TOKENS if c == code and t != token and t not in token]
    assert [t for t in others if t in text] == []
    assert code in found_in[text]


@pytest.mark.parametrize("code", BY_OWN_NAME)
def test_a_name_of_the_project_opens_the_gate(code: str, found_in: dict[str, set[str]]) -> None:
    text = with_imports(BY_OWN_NAME[code])
    assert [t for c, t in TOKENS if c == code and t in text] == []
    assert code in found_in[text]


@pytest.fixture(scope="module")
def used(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, bool], tuple[list[object], list[object]]]:
    """Return what is found in each file that uses what another makes, with gates and without.

    By the case, and whether other files give it other names in between.
    """
    folder = tmp_path_factory.mktemp("used")
    (folder / "pyproject.toml").touch()
    (folder / "app").mkdir()
    (folder / "app" / "db.py").write_text(HANDLER)
    cases = [(case, False) for case in MADE_AND_USED] + [(case, True) for case in RENAMED]
    for number, (case, is_renamed) in enumerate(cases, 1):
        made, name, use = MADE_AND_USED[case]
        own_number = f"{number:02}"  # none of which another begins with
        package = f"case{number}"
        texts = {"make": made, f"use{number}": use}
        if is_renamed:
            texts |= {
                file: text.format(package=package, name=name)
                for file, text in RENAMED_BETWEEN.items()
            }
        if name is not None:
            source, own = ("a", "three0") if is_renamed else ("make", name)
            use = use.replace(name, own)
            texts[f"use{number}"] = f"import asyncio\nfrom .{source} import {own}\n{use}"
        (folder / package).mkdir()
        for file, text in texts.items():
            numbered = re.sub(r"(?<=[a-zA-Z])0\b", own_number, text)
            (folder / package / f"{file}.py").write_text(f"{numbered}\n")
    gated, ungated = found(folder), found(folder, without_gates=True)
    return {
        case: (
            [item for item in gated if item[0] == f"use{number}.py"],
            [item for item in ungated if item[0] == f"use{number}.py"],
        )
        for number, case in enumerate(cases, 1)
    }


@pytest.mark.parametrize(
    ("case", "is_renamed"),
    [*((case, False) for case in MADE_AND_USED), *((case, True) for case in RENAMED)],
)
def test_what_another_file_makes_opens_the_gates(
    case: str,
    is_renamed: bool,
    used: dict[tuple[str, bool], tuple[list[object], list[object]]],
) -> None:
    gated, ungated = used[case, is_renamed]
    assert ungated
    assert gated == ungated
