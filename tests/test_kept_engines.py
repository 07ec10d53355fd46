"""Engines that an object keeps or a function gives: named in the configuration, and left unused."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from session_guard.config import Settings
from session_guard.fixer import FixResult, fix
from session_guard.project.project import Project
from session_guard.registry import load_rules

RULES = load_rules()
HANDLER = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()
# As projects write it: an object keeps the engine, a function the factory.
KEPT = """\
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from app.config import url


class Database:
    engine = None

    async def start(self):
        self.engine = create_async_engine(url, connect_args={"statement_cache_size": 0})

    def get_engine(self):
        if self.engine is None:
            raise RuntimeError("not started")
        return self.engine


database = Database()
maker = None


def get_engine():
    return database.get_engine()


def get_maker():
    global maker
    if maker is None:
        maker = async_sessionmaker(database.get_engine(), expire_on_commit=False)
    return maker


def get_maker_loudly():
    print("somebody wants it")
    return get_maker()


def other_engine(name):
    return create_async_engine(name)


async def cached_engine():
    return await cache.engine()
"""
JOB = """\
from sqlalchemy import select
from app.kept import get_maker, get_maker_loudly
from app import kept


async def job(n, m=None):
    {before}
    async with {opened} as session:
        print((await session.scalars(select(1))).all())
    {after}
"""


def fixed(
    tmp_path: Path, code: str, engine: str = "app.kept.Database.engine", handler: str = HANDLER
) -> FixResult:
    app = tmp_path / "app"
    app.mkdir(exist_ok=True)
    for name, text in {"db": handler, "kept": KEPT, "jobs": code, "__init__": ""}.items():
        (app / f"{name}.py").write_text(text)
    project = Project(Settings(root=tmp_path, handler=("app.db",), engines=(engine,)))
    return fix("jobs.py", app / "jobs.py", code.encode(), project, RULES, unsafe=False)


def body(tmp_path: Path, before: str, opened: str = "maker()", after: str = "pass") -> str:
    """Return the function's lines round the `async with`, once it is fixed."""
    lines = {"before": before.replace("\n", "\n    "), "after": after.replace("\n", "\n    ")}
    result = fixed(tmp_path, JOB.format(opened=opened, **lines))
    assert [item.code for item in result.applied] == ["SG103"]
    text = result.data.decode()
    start, _, rest = text.partition("m=None):\n")
    assert start
    before, _, _ = rest.partition("    async with get_background_session() as session:")
    return textwrap.dedent(before)


@pytest.mark.parametrize(
    "engine",
    [
        "app.kept.Database.engine",
        "app.kept.database.engine",
        "app.kept.database.get_engine",
        "app.kept.get_engine",
    ],
)
def test_an_engine_is_named_where_it_is_kept_or_by_what_returns_it(
    engine: str, tmp_path: Path
) -> None:
    result = fixed(tmp_path, JOB.format(before="", opened="get_maker()()", after=""), engine)
    assert [item.code for item in result.applied] == ["SG103"]


NOT_FOLLOWED = """\
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from app.kept import cached_engine, other_engine
from app import kept


async def job(n):
    engine = {engine}
    async with AsyncSession(engine) as session:
        print((await session.scalars(select(1))).all())
"""


@pytest.mark.parametrize(
    ("engine", "left"),
    [
        ("await cached_engine()", "await cached_engine()\n    "),
        ("await kept.cached_engine()", "await kept.cached_engine()\n    "),
    ],
)
def test_what_gives_an_engine_may_be_named_and_not_followed(
    engine: str, left: str, tmp_path: Path
) -> None:
    result = fixed(tmp_path, NOT_FOLLOWED.format(engine=engine), "app.kept.cached_engine")
    assert [item.code for item in result.applied] == ["SG101"]
    assert f"job(n):\n    {left}async with get_background_session()" in result.data.decode()


@pytest.mark.parametrize(
    "engine",
    [
        "await cached_engine(n)",
        "n or await cached_engine()",
        "await kept.another_engine()",
        "other_engine('b')",
        "n",
    ],
)
def test_what_gives_another_engine_is_not_the_named(engine: str, tmp_path: Path) -> None:
    result = fixed(tmp_path, NOT_FOLLOWED.format(engine=engine), "app.kept.cached_engine")
    assert result.applied == []
    assert "name it in [tool.session-guard]" in result.remaining[-1].help


@pytest.mark.parametrize("engine", ["app.kept.Database", "app.kept.other_engine", "app.kept.none"])
def test_what_is_named_and_is_another_engine_does_not_count(engine: str, tmp_path: Path) -> None:
    result = fixed(tmp_path, JOB.format(before="", opened="get_maker()()", after=""), engine)
    assert result.applied == []
    [finding] = result.remaining
    assert "another than the handler's; if both lead to one database, name it" in finding.help


@pytest.mark.parametrize(
    "before",
    [
        "maker = get_maker()",
        "maker = kept.get_maker()",
        "maker: object = get_maker()",
        "get = get_maker\nmaker = get()",
        "made = get_maker()\nmaker = made",
    ],
)
def test_a_local_that_only_opened_sessions_goes_with_what_it_was_made_of(
    before: str, tmp_path: Path
) -> None:
    assert body(tmp_path, before) == ""


def test_its_import_goes_too(tmp_path: Path) -> None:
    result = fixed(tmp_path, JOB.format(before="maker = get_maker()", opened="maker()", after=""))
    assert "from app.kept import get_maker_loudly\n" in result.data.decode()


@pytest.mark.parametrize(
    "before",
    [
        "maker = get_maker_loudly()",
        "maker = get_maker() # why",
    ],
)
def test_a_call_that_may_do_more_stays_without_its_name(before: str, tmp_path: Path) -> None:
    assert body(tmp_path, before) == before.removeprefix("maker = ") + "\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("maker = get_maker()", "print(maker)"),
        ("maker = get_maker()", "return lambda: maker"),
        ("maker = get_maker()", "print(locals())"),
        ("maker = get_maker()", "maker += 1"),
        ("maker = get_maker()", "del maker"),
        ("for maker in (get_maker(),): pass\nmaker = get_maker()", "pass"),
        ("a = maker = get_maker()", "print(a)"),
        ("global maker\nmaker = get_maker()", "pass"),
    ],
)
def test_a_local_with_another_use_stays(before: str, after: str, tmp_path: Path) -> None:
    assert body(tmp_path, before, after=after) == before + "\n"


@pytest.mark.parametrize(
    ("before", "left"),
    [
        (
            "if n:\n    maker = get_maker()\nelse:\n    maker = get_maker()",
            "if n:\n    get_maker()\nelse:\n    get_maker()",
        ),
        (
            "try:\n    maker = get_maker()\nexcept RuntimeError:\n    return None",
            "try:\n    get_maker()\nexcept RuntimeError:\n    return None",
        ),
        (
            "made = get_maker()\nif n:\n    one = made\n    maker = one\nelse:\n    return",
            "if n:\n    pass\nelse:\n    return",
        ),
        ("maker = get_maker(); print(n)", "get_maker(); print(n)"),
        ("if (maker := get_maker()) is None: return", "if (get_maker()) is None: return"),
    ],
)
def test_a_local_goes_wherever_it_was_assigned(before: str, left: str, tmp_path: Path) -> None:
    assert body(tmp_path, before) == left + "\n"


def test_a_comment_is_not_left_beside_nothing(tmp_path: Path) -> None:
    code = JOB.format(
        before="maker = get_maker()\n    one = maker  # ours", opened="one()", after=""
    )
    result = fixed(tmp_path, code)
    assert result.data.decode() == code
    [finding] = result.remaining
    assert "not fixed: a comment stands beside `one = …`, which nothing would use" in finding.help


def test_what_two_sessions_were_opened_with_goes_with_the_last(tmp_path: Path) -> None:
    second = "async with maker() as again:\n    await again.merge(n)\n    print(await again.get(n))"
    assert body(tmp_path, "maker = get_maker()", after=second) == "maker = get_maker()\n"


def test_a_name_at_the_top_of_the_file_is_somebody_elses_too(tmp_path: Path) -> None:
    code = JOB.format(before="", opened="maker()", after="").replace(
        "async def", "maker = get_maker()\nasync def"
    )
    assert "\nmaker = get_maker()\n" in fixed(tmp_path, code).data.decode()


def test_a_session_that_nothing_uses_is_rewritten_with_its_line(tmp_path: Path) -> None:
    code = """\
from app.kept import get_maker


async def job():
    maker = get_maker()
    session = maker()
    try:
        raise ValueError
    finally:
        await session.close()
"""
    assert (
        fixed(tmp_path, code).data.decode()
        == """\
from app.db import get_background_session


async def job():
    async with get_background_session() as session:
        raise ValueError
"""
    )


def test_a_local_of_the_function_round_it_goes_too(tmp_path: Path) -> None:
    code = """\
from sqlalchemy import select
from app.kept import get_maker


async def job():
    maker = get_maker()

    async def inner():
        async with maker() as session:
            return await session.scalar(select(1))

    return await inner()
"""
    assert (
        fixed(tmp_path, code).data.decode()
        == """\
from sqlalchemy import select
from app.db import get_background_session


async def job():
    async def inner():
        async with get_background_session() as session:
            return await session.scalar(select(1))

    return await inner()
"""
    )


TESTS = {
    "an engine, by its dotted name": "@patch('app.jobs.engine')\ndef test(e): ...\n",
    "a class, by its dotted name": "def test():\n    with patch('app.jobs.AsyncSession'): ...\n",
    "an attribute": "from app import jobs\ndef test(m): m.setattr(jobs, 'engine', 1)\n",
    "in a constant": "ENGINE = 'app.jobs.engine'\ndef test(m): m.setattr(ENGINE, 1)\n",
}


def fixed_beside(tmp_path: Path, test: str) -> FixResult:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_jobs.py").write_text(f"import unittest.mock\n{test}")
    code = NOT_FOLLOWED.replace("    engine = {engine}\n", "").replace(
        "from app import kept", "from app.db import engine"
    )
    return fixed(tmp_path, code)


@pytest.mark.parametrize("test", TESTS.values(), ids=TESTS.keys())
def test_what_a_test_replaces_is_not_safe_to_go_round(test: str, tmp_path: Path) -> None:
    result = fixed_beside(tmp_path, test)
    assert result.applied == []
    [finding] = result.remaining
    assert "tests/test_jobs.py replaces `" in finding.help
    assert "--unsafe-fixes" in finding.help


@pytest.mark.parametrize(
    "test",
    [
        "@patch('app.other.engine')\ndef test(e): ...\n",
        "@patch('app.jobs.select')\ndef test(e): ...\n",
        "from app.jobs import engine\n",
        "from app.jobs import job\nname = 'engine'\n",
        "import sys\ne = getattr(sys.modules['app.jobs'], 'engine')\n",
        "TASKS = ['app.jobs:engine']\n",
    ],
)
def test_what_tests_do_with_anything_else_is_no_matter(test: str, tmp_path: Path) -> None:
    assert [item.code for item in fixed_beside(tmp_path, test).applied] == ["SG101"]


def test_what_gives_a_local_is_replaced_too(tmp_path: Path) -> None:
    (tmp_path / "test_jobs.py").write_text("patch('app.jobs.get_maker')\n")
    result = fixed(tmp_path, JOB.format(before="maker = get_maker()", opened="maker()", after=""))
    assert result.applied == []
    assert "test_jobs.py replaces `get_maker` of this file by another" in result.remaining[0].help


METHODS = """\
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from app.db import background_task_session_factory, engine


class Report:
    {decorator}def get_engine({first}):
        return engine

    {decorator}def get_maker({first}):
        return background_task_session_factory

    async def run(self, n):
        {before}
        async with {opened} as session:
            return await session.scalar(select(1))
"""
OVERRIDES = """\
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from app import jobs


class Archive(jobs.Report):
    def {name}(self):
        return async_sessionmaker(create_async_engine("postgresql+asyncpg://archive/db"))
"""


@pytest.mark.parametrize(
    ("opened", "before"),
    [
        ("AsyncSession(self.get_engine())", ""),
        ("self.get_maker()()", ""),
        ("maker()", "maker = self.get_maker()"),
        ("AsyncSession(bind)", "bind = self.get_engine()"),
    ],
)
@pytest.mark.parametrize(
    ("decorator", "first"),
    [("", "self"), ("@staticmethod\n    ", ""), ("@classmethod\n    ", "cls")],
)
@pytest.mark.parametrize("is_overridden", [True, False])
def test_a_method_that_is_overridden_may_give_another(
    opened: str, before: str, decorator: str, first: str, is_overridden: bool, tmp_path: Path
) -> None:
    if is_overridden:
        name = "get_maker" if "maker" in opened else "get_engine"
        (tmp_path / "archive.py").write_text(OVERRIDES.format(name=name))
    code = METHODS.format(opened=opened, before=before, decorator=decorator, first=first)
    result = fixed(tmp_path, code)
    if is_overridden:
        assert result.applied == []
        assert "is overridden, and may give another" in result.remaining[0].help
    else:
        assert len(result.applied) == 1


ON_THE_WAY = """\
    def inner(self):
        return engine

    def get_engine(self):
        return self.inner()
"""
DERIVED = {
    "what the method calls": ("", "class Archive(Report):\n    def inner(self): return other\n"),
    "a mixin": (
        "class Mixin:\n    def get_engine(self): return other\n",
        "from mixin import Mixin\nclass Archive(Mixin, Report): ...\n",
    ),
    "a class further down": ("", "class A(Report): ...\nclass B(A):\n    inner = other\n"),
}


@pytest.mark.parametrize(("mixin", "derived"), DERIVED.values(), ids=DERIVED.keys())
def test_what_stands_behind_a_method_may_be_overridden_too(
    mixin: str, derived: str, tmp_path: Path
) -> None:
    (tmp_path / "mixin.py").write_text(mixin)
    (tmp_path / "archive.py").write_text(f"from app.jobs import Report\n{derived}")
    code = METHODS.format(
        opened="AsyncSession(self.get_engine())", before="", decorator="", first="self"
    )
    start, _, rest = code.partition("    def get_engine(self):\n        return engine\n")
    result = fixed(tmp_path, start + ON_THE_WAY + rest)
    assert result.applied == []
    assert "is overridden, and may give another" in result.remaining[0].help


def test_a_class_that_does_not_derive_from_another_overrides_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "archive.py").write_text("class Archive:\n    def get_engine(self): return other\n")
    code = METHODS.format(
        opened="AsyncSession(self.get_engine())", before="", decorator="", first="self"
    )
    assert len(fixed(tmp_path, code).applied) == 1


ASSIGNED = """\
from sqlalchemy import select
from app import db, kept
from app.db import background_task_session_factory as Sessions
from app.kept import get_maker


async def job(n):
    async with {opened} as session:
        return await session.scalar(select(1))
"""


@pytest.mark.parametrize(
    ("opened", "assignment"),
    [
        ("db.background_task_session_factory()", "db.background_task_session_factory = other"),
        ("Sessions()", "db.background_task_session_factory = other"),
        ("Sessions()", "setattr(db, 'background_task_session_factory', other)"),
        ("Sessions()", "vars(db)['background_task_session_factory'] = other"),
        ("kept.get_maker()()", "kept.get_maker = lambda: other"),
        ("get_maker()()", "kept.get_maker = lambda: other"),
        ("get_maker()()", "kept.maker = other"),
        ("get_maker()()", "vars(kept)['maker'] = other"),
        ("get_maker()()", "kept.maker, x = other"),
        ("get_maker()()", "kept.maker: object = other"),
        ("get_maker()()", "for kept.maker in others: ..."),
        ("get_maker()()", "with other as kept.maker: ..."),
        ("get_maker()()", "del kept.maker"),
        ("get_maker()()", "names = vars(kept)\nnames['maker'] = other"),
        ("get_maker()()", "kept.__dict__.__setitem__('maker', other)"),
        ("get_maker()()", "globals()['maker'], x = other"),
        ("get_maker()()", "for globals()['maker'] in others: ..."),
        ("get_maker()()", "names = globals()\nnames.update(maker=other)"),
    ],
)
def test_a_factory_that_is_assigned_to_from_elsewhere_may_be_another(
    opened: str, assignment: str, tmp_path: Path
) -> None:
    (tmp_path / "cli.py").write_text(f"from app import db, kept\n{assignment}\n")
    result = fixed(tmp_path, ASSIGNED.format(opened=opened))
    assert result.applied == []
    assert "cli.py assigns another value to `" in result.remaining[0].help


@pytest.mark.parametrize(
    "reading",
    [
        "print(vars(db)['background_task_session_factory'])",
        "x = globals()['engine'].sync_engine",
        "async def close():\n    await globals()['engine'].dispose()",
        "if globals()['engine']: ...",
        "x = globals()['engine'] == 1",
        "x = {vars(db)['engine']: 1}",
        "globals()['engine'].echo = True",
        "x = kept.get_maker, db.engine",
    ],
)
def test_what_is_only_read_by_its_name_is_the_same(reading: str, tmp_path: Path) -> None:
    (tmp_path / "cli.py").write_text(f"from app import db, kept\n{reading}\n")
    assert len(fixed(tmp_path, ASSIGNED.format(opened="Sessions()")).applied) == 1


OBJECTS = """\
from sqlalchemy.ext.asyncio import create_async_engine


class Database:
    def __init__(self, url):
        self.url = url

    def get_engine(self):
        return create_async_engine(self.url)


main = Database("postgresql+asyncpg://main/db")
archive = Database("postgresql+asyncpg://archive/db")
"""


JOB_OF_OBJECT = """\
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from app.objects import {name}


async def job(n):
    async with AsyncSession({name}.get_engine()) as session:
        return await session.scalar(select(1))
"""


def bound_to_main() -> str:
    """Return the handler with its engine from `main.get_engine()`."""
    before, _, rest = HANDLER.partition("engine = create_async_engine(\n")
    _, _, after = rest.partition("\n)\n")
    assert after
    return f"{before}from app.objects import main\n\nengine = main.get_engine()\n{after}"


@pytest.mark.parametrize(("name", "is_named"), [("main", True), ("archive", False)])
def test_a_method_that_is_named_is_that_of_its_object(
    name: str, is_named: bool, tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "objects.py").write_text(OBJECTS)
    code = JOB_OF_OBJECT.format(name=name)
    assert bool(fixed(tmp_path, code, "app.objects.main.get_engine").applied) == is_named


MADE = {
    "with arguments": 'main = Database("postgresql+asyncpg://main/db")\narchive = Database("x")',
    "by a function": (
        "def made(url):\n    return Database(url)\n"
        'main = made("postgresql+asyncpg://main/db")\narchive = made("x")'
    ),
    "by a function without arguments": (
        "def made():\n    return Database('postgresql+asyncpg://main/db')\n"
        "main = made()\narchive = Database('x')"
    ),
}


@pytest.mark.parametrize("made", MADE.values(), ids=MADE.keys())
@pytest.mark.parametrize(("name", "is_handlers"), [("main", True), ("archive", False)])
def test_a_method_of_another_object_gives_another_engine_than_the_handler_has(
    name: str, is_handlers: bool, made: str, tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()
    objects = OBJECTS.partition("main = ")[0] + made + "\n"
    (tmp_path / "app" / "objects.py").write_text(objects)
    result = fixed(tmp_path, JOB_OF_OBJECT.format(name=name), handler=bound_to_main())
    assert bool(result.applied) == is_handlers


STARTED = """\
from sqlalchemy.ext.asyncio import create_async_engine


class Database:
    engine = None

    def start(self, url):
        self.engine = create_async_engine({url})

    def get_engine(self):
        return self.engine


main = Database()
main.start("postgresql+asyncpg://main/db")
"""
ARCHIVE = "archive = Database()\narchive.start('postgresql+asyncpg://archive/db')\n"


@pytest.mark.parametrize("is_named", [True, False])
def test_objects_that_were_made_alike_may_have_other_engines(
    is_named: bool, tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "objects.py").write_text(STARTED.format(url="url") + ARCHIVE)
    engine = "app.objects.main.get_engine" if is_named else "app.kept.get_engine"
    handler = HANDLER if is_named else bound_to_main()
    assert fixed(tmp_path, JOB_OF_OBJECT.format(name="archive"), engine, handler).applied == []
    if is_named:
        job = JOB_OF_OBJECT.format(name="main")
        assert len(fixed(tmp_path, job, engine, handler).applied) == 1


@pytest.mark.parametrize(
    "objects",
    [
        STARTED.format(url="url"),
        STARTED.format(url="'postgresql+asyncpg://main/db'") + "archive = Database()\n",
    ],
    ids=["one object", "one URL"],
)
def test_the_method_of_an_only_object_gives_the_handlers_engine(
    objects: str, tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "objects.py").write_text(objects)
    result = fixed(tmp_path, JOB_OF_OBJECT.format(name="main"), handler=bound_to_main())
    assert len(result.applied) == 1


@pytest.mark.parametrize("name", ["main", "archive"])
def test_a_class_that_is_named_stands_for_all_its_objects(name: str, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "objects.py").write_text(OBJECTS)
    code = JOB_OF_OBJECT.format(name=name)
    assert len(fixed(tmp_path, code, "app.objects.Database.get_engine").applied) == 1


GIVEN = """\
from sqlalchemy.ext.asyncio import create_async_engine


class Database:
    def __init__(self, engine):
        self.given = engine

    def get_engine(self):
        return self.given


main = Database(create_async_engine("postgresql+asyncpg://main/db"))
archive = Database(create_async_engine("postgresql+asyncpg://archive/db"))
"""
JOB_OF_GIVEN = """\
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from app import objects
from app.objects import Database, main as db


async def job(n, handed: Database):
    async with AsyncSession({engine}) as session:
        return await session.scalar(select(1))
"""


@pytest.mark.parametrize(
    ("engine", "attribute"),
    [
        ("db.given", "given"),
        ("objects.main.given", "given"),
        ("db.get_engine()", "get_engine"),
    ],
)
def test_a_class_whose_objects_are_given_theirs_tells_no_engine(
    engine: str, attribute: str, tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "objects.py").write_text(GIVEN)
    code = JOB_OF_GIVEN.format(engine=engine)
    result = fixed(tmp_path, code, f"app.objects.Database.{attribute}")
    assert result.applied == []
    [finding] = result.remaining
    advice = f'name the object\'s: engines = ["app.objects.main.{attribute}"]'
    assert finding.help.endswith(advice)
    assert f"`app.objects.Database.{attribute}` in [tool.session-guard] does not" in finding.help
    assert len(fixed(tmp_path, code, f"app.objects.main.{attribute}").applied) == 1


def test_a_class_that_is_named_does_not_stand_for_an_object_that_is_handed_in(
    tmp_path: Path,
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "objects.py").write_text(OBJECTS)
    code = JOB_OF_GIVEN.format(engine="handed.get_engine()")
    [finding] = fixed(tmp_path, code, "app.objects.Database.get_engine").remaining
    assert "of an object which could not be followed" in finding.help


def handler_of_class_with(method: str) -> str:
    """Return the handler on a session class that has a method of its own."""
    own = f"class Own(AsyncSession):\n    async def {method}(self):\n        print('x')\n\n\n"
    handler = HANDLER.replace("engine = create", f"{own}engine = create").replace(
        "async_sessionmaker(engine", "async_sessionmaker(engine, class_=Own"
    )
    assert "class_=Own" in handler
    return handler


LISTENERS = {
    "a decorator": "@event.listens_for(Session, 'before_commit')\ndef f(s): ...\n",
    "a call": "event.listen(\n    Session, 'after_commit', print)\n",
    "of what a call gives": "@event.listens_for(get_factory(), 'before_commit')\ndef f(s): ...\n",
    "by another name": "from sqlalchemy.event import listens_for as on\non(S, 'after_commit')(f)\n",
    "an engine's": 'event.listen(engine.sync_engine, "commit", print)\n',
    "a constant": "EVENT = 'before_commit'\nevent.listen(Session, EVENT, print)\n",
    "another file's constant": "from names import EVENT\nevent.listen(Session, EVENT, print)\n",
    "by keywords": "event.listen(target=S, identifier='after_commit', fn=print)\n",
    "one of several": "for e in EVENTS:\n    event.listen(Session, e, print)\n",
    "handed to it": "def on(name):\n    return event.listens_for(Session, name)\n",
}
OTHER_LISTENERS = {
    "to another event": "EVENT = 'after_flush'\nevent.listen(Session, EVENT, print)\n",
    "to a port": "PORT = 80\nserver.listen('0.0.0.0', PORT)\nserver.listen(host, port)\n",
    "in words": "# listens to what we 'commit'\nprint('listen', 'commit')\n",
}
ROLLBACK_LISTENERS = {
    "a session's": "event.listen(Session, 'after_rollback', print)\n",
    "a soft one": "@event.listens_for(Session, 'after_soft_rollback')\ndef f(s, t): ...\n",
    "an engine's": "event.listen(engine.sync_engine, 'rollback', print)\n",
    "an object's": "event.listen(User, 'expire', print)\n",
    "of all transactions": "event.listen(Session, 'after_transaction_end', print)\n",
    "a session's, of objects": "event.listen(Session, 'persistent_to_detached', print)\n",
}
COMMITS = {
    "at the end": "await session.get(n, 1)\n        await session.commit()",
    "in begin": "async with session.begin():\n            session.add(n)",
}


@pytest.mark.parametrize("listener", LISTENERS.values(), ids=LISTENERS.keys())
def test_a_commit_that_something_listens_to_is_one_more(listener: str, tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(f"from sqlalchemy import event\n{listener}")
    (tmp_path / "names.py").write_text("EVENT = 'after_commit'\n")
    result = fixed(tmp_path, ASSIGNED.format(opened="Sessions()"))
    assert result.applied == []
    assert "hooks.py listens to commits" in result.remaining[0].help


@pytest.mark.parametrize("block", [None, "session.add(n)\n        await session.commit()"])
@pytest.mark.parametrize("listener", ROLLBACK_LISTENERS.values(), ids=ROLLBACK_LISTENERS.keys())
def test_a_rollback_that_something_listens_to_is_one_more(
    listener: str, block: str | None, tmp_path: Path
) -> None:
    (tmp_path / "hooks.py").write_text(f"from sqlalchemy import event\n{listener}")
    code = ASSIGNED
    if block is not None:
        code = code.replace("return await session.scalar(select(1))", block)
    result = fixed(tmp_path, code.format(opened="Sessions()"))
    assert result.applied == []
    assert "hooks.py listens to rollbacks" in result.remaining[0].help
    begun = ASSIGNED.replace("return await session.scalar(select(1))", "session.add(n)")
    assert fixed(tmp_path, begun.format(opened="Sessions.begin()")).applied != []


WRITING_LISTENERS = {
    "a transaction's begin": """
        @event.listens_for(Session, "after_begin")
        def note(session, transaction, connection):
            connection.execute(insert(Doc))
    """,
    "a statement of a session": """
        def note(state):
            session = state.session
            session.add(Doc())
        event.listen(Session, "do_orm_execute", note)
    """,
    "a cursor's": """
        @event.listens_for(Engine, "before_cursor_execute")
        def note(conn, cursor, *_):
            cursor.execute("INSERT INTO docs VALUES (1)")
    """,
    "handed on": """
        def note(conn, cursor, statement, *_):
            keep(conn, statement)
        event.listen(Engine, "after_cursor_execute", fn=note)
    """,
    "of another package": """
        from elsewhere import note
        event.listen(engine.sync_engine, "after_execute", note)
    """,
}
READING_LISTENERS = {
    "measures": """
        @event.listens_for(Engine, "before_cursor_execute")
        def begin(conn, cursor, statement, parameters, context, executemany):
            conn.info.setdefault("began", []).append(time.time())
            seen.add(statement)
            count(statement)
            logger.debug("%s", conn)
    """,
    "sets a variable": """
        LIMIT = f"SET LOCAL statement_timeout = {SECONDS}"

        @event.listens_for(Session, "after_begin")
        def tenant(session, transaction, connection):
            connection.execute(text(f"SET LOCAL app.tenant = '{tenant.get()}'"))
            connection.exec_driver_sql(LIMIT).close()
            connection.exec_driver_sql("SELECT set_config('app.user', 'x', true)")
    """,
    "narrows a statement": """
        def narrow(state):
            if state.is_select:
                state.statement = state.statement.options(with_loader_criteria(User, USER))
        event.listen(Session, "do_orm_execute", narrow)
    """,
}


def with_hooks(tmp_path: Path, listener: str) -> None:
    head = "from sqlalchemy import event\n"
    (tmp_path / "hooks.py").write_text(head + textwrap.dedent(listener))


@pytest.mark.parametrize("listener", WRITING_LISTENERS.values(), ids=WRITING_LISTENERS.keys())
def test_a_read_at_which_something_may_be_written_is_no_read(listener: str, tmp_path: Path) -> None:
    with_hooks(tmp_path, listener)
    result = fixed(tmp_path, ASSIGNED.format(opened="Sessions()"))
    assert result.applied == []
    assert "hooks.py listens to what sessions read" in result.remaining[0].help
    code = ASSIGNED.replace("return await session.scalar(select(1))", COMMITS["at the end"])
    assert fixed(tmp_path, code.format(opened="Sessions()")).applied != []


@pytest.mark.parametrize("listener", READING_LISTENERS.values(), ids=READING_LISTENERS.keys())
def test_a_listener_that_only_looks_is_no_matter(listener: str, tmp_path: Path) -> None:
    with_hooks(tmp_path, listener)
    assert fixed(tmp_path, ASSIGNED.format(opened="Sessions()")).applied != []


@pytest.mark.parametrize("listener", OTHER_LISTENERS.values(), ids=OTHER_LISTENERS.keys())
def test_other_listeners_are_no_matter(listener: str, tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(f"from sqlalchemy import event\n{listener}")
    assert fixed(tmp_path, ASSIGNED.format(opened="Sessions()")).applied != []


def test_a_class_with_a_commit_of_its_own_is_another_for_a_block_that_had_not_got_it(
    tmp_path: Path,
) -> None:
    handler = handler_of_class_with("commit")
    code = ASSIGNED.replace("return await session.scalar(select(1))", COMMITS["at the end"])
    head = "from sqlalchemy.ext.asyncio import AsyncSession\nfrom app.db import engine\n"
    plain = head + code.format(opened="AsyncSession(engine)")
    assert fixed(tmp_path, code.format(opened="Sessions()"), handler=handler).applied != []
    assert "SG101" not in [item.code for item in fixed(tmp_path, plain, handler=handler).applied]


@pytest.mark.parametrize("block", COMMITS.values(), ids=COMMITS.keys())
def test_a_commit_that_was_made_anyway_is_the_same(block: str, tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(f"from sqlalchemy import event\n{LISTENERS['a call']}")
    code = ASSIGNED.replace("return await session.scalar(select(1))", block)
    assert fixed(tmp_path, code.format(opened="Sessions()")).applied != []


def test_what_listens_to_something_else_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(
        "event.listen(Session, 'do_orm_execute', print)\ncommit = 1\n"
    )
    assert fixed(tmp_path, ASSIGNED.format(opened="Sessions()")).applied != []


@pytest.mark.parametrize(("method", "is_safe"), [("commit", False), ("find", True)])
def test_a_session_class_with_a_commit_of_its_own_does_more(
    method: str, is_safe: bool, tmp_path: Path
) -> None:
    handler = handler_of_class_with(method)
    result = fixed(tmp_path, ASSIGNED.format(opened="Sessions()"), handler=handler)
    assert bool(result.applied) == is_safe
    if not is_safe:
        assert "`Own` has a way of its own to end a session" in result.remaining[0].help


BESIDES = {
    "counts": (
        "count = 0\n\n\ndef give():\n    global count\n    count += 1\n    return maker\n",
        False,
    ),
    "counts, written out": (
        "count = 0\n\n\ndef give():\n    global count\n    count = count + 1\n    return maker\n",
        False,
    ),
    "prints": ("def give():\n    print('given')\n    return maker\n", False),
    "notes it": ("seen = []\n\n\ndef give():\n    seen.append(1)\n    return maker\n", False),
    "refuses at a limit": (
        "seen = []\n\n\ndef give():\n    if len(seen) > 3:\n        raise LookupError\n"
        "    return maker\n",
        False,
    ),
    "by another": (
        "def give():\n    return loud()\n\n\ndef loud():\n    print(1)\n    return maker\n",
        False,
    ),
    "tries": (
        "def give():\n    try:\n        return maker\n    finally:\n        print(1)\n",
        False,
    ),
    "gives": ('def give():\n    """Give it."""\n    return maker\n', True),
    "makes it once": (
        "made = None\n\n\ndef give():\n    global made\n    if made is None:\n"
        "        logger.info('made')\n        made = maker\n    return made\n",
        True,
    ),
    "refuses before there is one": (
        "def give():\n    if not maker:\n        raise RuntimeError('not yet')\n    return maker\n",
        True,
    ),
    "under a lock": ("def give():\n    with _lock:\n        return maker\n", True),
}


@pytest.mark.parametrize(("function", "is_safe"), BESIDES.values(), ids=BESIDES.keys())
def test_what_a_function_does_besides_would_be_left_undone(
    function: str, is_safe: bool, tmp_path: Path
) -> None:
    giving = f"from app.db import background_task_session_factory as maker\n\n\n{function}"
    code = ASSIGNED.replace("from app.kept import get_maker", "from app.giving import give")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "giving.py").write_text(giving)
    result = fixed(tmp_path, code.format(opened="give()()"))
    assert bool(result.applied) == is_safe
    if not is_safe:
        assert "does more than to give what opens it" in result.remaining[0].help


METACLASS = """\
class Meta(type):
    def __new__(mcs, name, bases, names, **given):
        return super().__new__(mcs, name, bases, names | given)


class Base(metaclass=Meta):
    factory = Sessions

    async def job(self):
        async with self.factory() as session:
            return await session.scalar(select(1))
"""


@pytest.mark.parametrize(("metaclass", "is_safe"), [("Meta", False), ("ABCMeta", True)])
def test_a_metaclass_may_give_a_class_another_factory(
    metaclass: str, is_safe: bool, tmp_path: Path
) -> None:
    code = ASSIGNED.partition("async def")[0] + "from abc import ABCMeta\n\n\n" + METACLASS
    result = fixed(tmp_path, code.replace("metaclass=Meta", f"metaclass={metaclass}"))
    assert bool(result.applied) == is_safe


def test_the_handlers_own_engine_replaces_none(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "engine.py").write_text("from app.db import engine\n")
    handler = HANDLER + "\n\nclass _Slot:\n    def __init__(self):\n        self.engine = engine\n"
    handler += "\n\ndef reset(slot):\n    slot.engine = None\n"
    code = (
        "from sqlalchemy import select\nfrom sqlalchemy.ext.asyncio import AsyncSession\n\n\n"
        "async def job():\n    from app.engine import engine\n\n"
        "    async with AsyncSession(engine) as session:\n"
        "        return await session.scalar(select(1))\n"
    )
    assert fixed(tmp_path, code, handler=handler).applied != []
