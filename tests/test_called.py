"""Sessions that a block hands to functions of the project: what these do counts."""

from __future__ import annotations

import textwrap
from pathlib import Path
from unittest.mock import ANY

import pytest

from session_guard.runner import Options, Run

STANDARD = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()
MODELS = """\
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase): ...


class User(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
"""
CRUD = """\
from functools import wraps

from sqlalchemy import select

from app.models import User

kept = []


async def get(session, key):
    return await session.get(User, key)


async def find(session, *, limit=10):
    return (await session.scalars(select(User).limit(limit))).all()


async def create(session, name):
    user = User(name=name)
    session.add(user)
    await session.commit()
    return user


async def store(session, user):
    session.add(user)
    await session.flush()


async def put(session, user):
    await store(session, user)


async def delete(session, user):
    await session.delete(user)


async def rename(session, key, name):
    user = await get(session, key)
    user.name = name
    await session.commit()
    return user


async def add(session, name):
    session.add(User(name=name))


async def undo(session):
    await session.rollback()


async def swallow(session, key):
    try:
        return await session.get(User, key)
    except LookupError:
        return None


async def keep(session, key):
    kept.append(await session.get(User, key))


async def refuse(session, key):
    raise LookupError(await session.get(User, key))


async def hand_on(session, send):
    await send(session)


async def again(session, key):
    return await again(session, key - 1)


async def commit_in_arm(session, key):
    if key:
        session.add(User(name="x"))
        await session.commit()
        return 1
    session.add(User(name="y"))
    return 2


async def many(session, *keys):
    return [await session.get(User, key) for key in keys]


async def get_or_create(session, name):
    user = await session.scalar(select(User).where(User.name == name))
    if user is not None:
        return user, False
    user = User(name=name)
    session.add(user)
    await session.commit()
    return user, True


async def page(session):
    users = (await session.scalars(select(User))).all()
    user = users[0]
    name = user.name
    await session.commit()
    return users, len(users), name


async def either(session, key):
    user = await session.get(User, 1)
    await session.commit()
    if key:
        return key, user
    return user, key


async def some(session, key):
    user = await session.get(User, 1)
    await session.commit()
    if key:
        return None
    return key, user, 1


async def rest(session, users):
    await session.commit()
    return 1, *users


async def late(session):
    yield await session.get(User, 1)


def wrapped(function):
    @wraps(function)
    async def inner(*args):
        kept.append(args)
        return await function(*args)

    return inner


@wrapped
async def decorated(session, key):
    return await session.get(User, key)
"""
JOB = """\
import asyncio

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import crud
from app.crud import find
from app.db import engine
from app.models import User


class Jobs:
    async def load(self, session, key):
        return await session.get(User, key)

    async def every(self, session):
        return (await session.scalars(select(User))).all()

    async def keep(self, session, user):
        session.add(user)
        await session.flush()

    @classmethod
    async def count(cls, session):
        return await session.scalar(select(User))

    async def run(self, key, name, send, job, jobs):
        async with AsyncSession(engine{}) as s:
"""


def verdict(
    tmp_path: Path, body: str, *, expires: bool = False, more: dict[str, str] | None = None
) -> tuple[str, str]:
    """Return "safe" or "unsafe" for the one opening of a session, and what is said of it."""
    head = JOB.format("" if expires else ", expire_on_commit=False, autoflush=False")
    code = head + textwrap.indent(textwrap.dedent(body), " " * 12) + "\n"
    files = {"db.py": STANDARD, "models.py": MODELS, "crud.py": CRUD, "job.py": code}
    (tmp_path / "pyproject.toml").write_text("[tool.session-guard]\n")
    (tmp_path / "app").mkdir(exist_ok=True)
    for name, text in {**files, **(more or {})}.items():
        (tmp_path / "app" / name).write_text(text)
    [findings] = Run(Options((str(tmp_path / "app" / "job.py"),))).check()
    [finding] = [one for one in findings if one.code == "SG101"]
    assert finding.fix is not None, finding.help
    return finding.fix.applicability.value, finding.fix.message


SAFE = {
    "reads": "return await crud.get(s, key)",
    "reads with keywords": "return [user.name for user in await find(s, limit=5)]",
    "reads by a keyword": "return await crud.get(key=key, session=s)",
    "commits itself": "user = await crud.create(s, name)\nprint(user.name)",
    "of its own class": "return await self.load(s, key)",
    "of its own class in a comprehension": (
        "return [u.name for u in await self.every(s)], {u.id for u in await self.every(s)}, "
        "{u.id: u.name for u in await self.every(s)}, max(u.id for u in await self.every(s))"
    ),
    "several": "user = await crud.get(s, key)\nif user is None:\n    await crud.create(s, name)",
    "in a loop": "for one in range(key):\n    await crud.create(s, f'{one}')",
    "through another": "user = await crud.rename(s, key, name)\nawait send(user.name)",
    "writes, and is committed": "await crud.add(s, name)\nawait s.commit()",
    "writes in a transaction": "async with s.begin():\n    await crud.add(s, name)",
    "what was made here": "await crud.store(s, User(name=name))\nawait send(1)\nawait s.commit()",
    "what was loaded here": (
        "user = await crud.get(s, key)\nawait crud.delete(s, user)\nawait s.commit()"
    ),
}
UNSAFE = {
    "writes": ("await crud.add(s, name)", "it adds rows (app/crud.py:"),
    "deletes": ("await crud.delete(s, await s.get(User, 1))", "it deletes (app/crud.py:"),
    "rolls back": ("await crud.undo(s)", "in `undo()`, the block rolls back"),
    "swallows errors": ("await crud.swallow(s, key)", "in `swallow()`, an `except` catches"),
    "keeps an object": ("await crud.keep(s, key)", "in `keep()`, what it loaded is kept beyond"),
    "raises one": ("await crud.refuse(s, key)", "in `refuse()`, an error carries"),
    "hands it on": ("await crud.hand_on(s, send)", "in `hand_on()`, the session goes to"),
    "calls itself": ("await crud.again(s, key)", "the session goes to code that was not followed"),
    "commits in one arm": ("await crud.commit_in_arm(s, key)", "it adds rows (app/crud.py:"),
    "of others' objects": (
        "await crud.store(s, job)\nawait send(1)\nawait s.commit()",
        "taken in an object from outside",
    ),
    "changes what it gave": ("user = await crud.get(s, key)\nuser.name = name", "it changes what"),
    "gives it to others": ("await send(await crud.get(s, key))", "what it loaded"),
    "takes any number": ("await crud.many(s, key)", "the session goes to code that was not"),
    "by unpacking": ("await crud.get(*(s, key))", "the session goes to code that was not"),
    "is a generator": ("async for one in crud.late(s):\n    print(1)", "the session goes to code"),
    "is decorated": ("await crud.decorated(s, key)", "the session goes to code that was not"),
    "of a class's decorator": ("await self.count(s)", "the session goes to code that was not"),
    "of another object in a comprehension": (
        "return [user.name for self in jobs for user in await self.every(s)]",
        "the session goes to code that was not followed",
    ),
    "of another object": ("self = job\nreturn await self.load(s, key)", "the session goes to code"),
    "writes, where what it does is told": (
        "await crud.add(s, name)",
        "in `add()`, it adds rows (app/",
    ),
    "is not awaited": (
        "await asyncio.gather(crud.get(s, 1), crud.get(s, 2))",
        "the session goes to code that was not followed",
    ),
    "sets what it loads by name": (
        "setattr(await crud.get(s, key), 'name', name)",
        "it changes what it loaded",
    ),
    "is a parameter": ("await send(s)", "the session goes to code that was not followed"),
    "gets it in a list": ("await crud.get([s], key)", "the session goes to code that was not"),
}


@pytest.mark.parametrize("body", SAFE.values(), ids=SAFE.keys())
def test_a_function_that_gets_the_session_is_followed(body: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, body) == ("safe", ANY)


@pytest.mark.parametrize(("body", "reason"), UNSAFE.values(), ids=UNSAFE.keys())
def test_what_such_a_function_does_counts(body: str, reason: str, tmp_path: Path) -> None:
    level, message = verdict(tmp_path, body)
    assert (level, reason in message) == ("unsafe", True), message


EXPIRED = {
    "reads again": (
        "await crud.create(s, name)\nreturn (await s.scalars(select(User))).all()",
        "it reads again after a commit",
    ),
    "reads again elsewhere": (
        "user = await s.get(User, 1)\nawait s.commit()\nprint(len(await crud.find(s)))",
        "in `find()`, it reads again after a commit",
    ),
    "no flush": (
        "s.add(User(name=name))\nprint(len(await crud.find(s)))\nawait s.commit()",
        "in `find()`, a query runs after a change without a `flush()`",
    ),
    "a text": ("print(await crud.create(s, name))", "`create()` gives may have expired"),
    "a text of a name": (
        "user = await crud.create(s, name)\nprint(user)",
        "the text of `user` may show that it has expired",
    ),
}


ITEMS = {
    "a flag": "user, created = await crud.get_or_create(s, name)\nprint(created)",
    "a number": "users, total, first = await crud.page(s)\nprint(total, first)",
    "of its own": "user, key = await s.get(User, 1), 2\nawait s.commit()\nprint(key)",
}
ITEMS_UNSAFE = {
    "the object": "user, created = await crud.get_or_create(s, name)\nprint(user)",
    "a list of them": "users, total, first = await crud.page(s)\nprint(users)",
    "in one arm": "one, user = await crud.either(s, key)\nprint(one)",
    "not always": "one, user, two = await crud.some(s, key)\nprint(two)",
    "what is left": "one, *user = await crud.get_or_create(s, name)\nprint(one, user)",
    "of what it was given": "one, user = await crud.rest(s, [await s.get(User, 1)])\nprint(user)",
    "of its own": "user, key = await s.get(User, 1), 2\nawait s.commit()\nprint(user)",
    "all of it": "user = await crud.get_or_create(s, name)\nprint(user)",
}


@pytest.mark.parametrize("body", ITEMS.values(), ids=ITEMS.keys())
def test_what_holds_no_object_is_known_by_its_position(body: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, body, expires=True) == ("safe", ANY)


@pytest.mark.parametrize("body", ITEMS_UNSAFE.values(), ids=ITEMS_UNSAFE.keys())
def test_what_may_hold_an_object_is_known_by_its_position(body: str, tmp_path: Path) -> None:
    level, message = verdict(tmp_path, body, expires=True)
    assert (level, "may show that it has expired" in message) == ("unsafe", True), message


TAKEN_IN = {
    "directly": "await crud.store(s, user)",
    "by another": "await crud.put(s, user)",
    "by a method": "await self.keep(s, user)",
}


@pytest.mark.parametrize("call", TAKEN_IN.values(), ids=TAKEN_IN.keys())
def test_what_a_function_takes_in_is_the_sessions(call: str, tmp_path: Path) -> None:
    body = f"user = User(name=name)\n{call}\nint(name)\nawait s.commit()"
    assert verdict(tmp_path, body)[0] == "safe"
    (tmp_path / "kept").mkdir()
    kept = f"user = self.user = User(name=name)\n{call}\nint(name)\nawait s.commit()"
    level, message = verdict(tmp_path / "kept", kept)
    assert (level, "kept beyond the block" in message) == ("unsafe", True)
    (tmp_path / "shown").mkdir()
    shown = f"user = User(name=name)\n{call}\nawait s.commit()\nprint(user)"
    level, message = verdict(tmp_path / "shown", shown, expires=True)
    assert (level, "may show that it has expired" in message) == ("unsafe", True)


def test_what_a_function_stored_has_expired_after_an_error(tmp_path: Path) -> None:
    code = (
        "from app import crud\nfrom app.db import engine\nfrom app.models import User\n"
        "from sqlalchemy.ext.asyncio import AsyncSession\n\n\nasync def job(send):\n"
        "    user = User(name='x')\n    try:\n"
        "        async with AsyncSession(engine, expire_on_commit=False, autoflush=False) as s:\n"
        "            await crud.store(s, user)\n            await s.commit()\n"
        "            await send(1)\n    except LookupError:\n        pass\n    return user.name\n"
    )
    level, message = verdict(tmp_path, "pass", more={"job.py": code})
    assert (level, "`user` is used where an error" in message) == ("unsafe", True)


def test_what_a_function_gives_to_an_object_that_it_stores_has_expired(tmp_path: Path) -> None:
    code = CRUD + (
        "\n\nasync def open_account(session, account):\n    user = User(name='x')\n"
        "    user.accounts.append(account)\n    session.add(user)\n    await session.commit()\n"
    )
    models = MODELS + (
        "    accounts: Mapped[list['Account']] = relationship()\n\n\nclass Account(Base):\n"
        "    id: Mapped[int] = mapped_column(primary_key=True)\n"
    )
    more = {"crud.py": code, "models.py": models}
    body = "account = Account()\nawait crud.open_account(s, account)"
    assert verdict(tmp_path, body, expires=True, more=more)[0] == "safe"
    (tmp_path / "shown").mkdir()
    shown = f"{body}\nprint(account)"
    level, message = verdict(tmp_path / "shown", shown, expires=True, more=more)
    assert (level, "text of `account` may show" in message) == ("unsafe", True), message


@pytest.mark.parametrize("store", ["s.add(user)", "await crud.store(s, user)"])
def test_what_a_list_has_is_the_sessions_too(store: str, tmp_path: Path) -> None:
    body = (
        f"users = [User(name=name)]\nfor user in users:\n    {store}\nawait s.commit()\n"
        "for one in users:\n    print(one)"
    )
    level, message = verdict(tmp_path, body, expires=True)
    assert (level, "may show that it has expired" in message) == ("unsafe", True)


@pytest.mark.parametrize(("body", "reason"), EXPIRED.values(), ids=EXPIRED.keys())
def test_what_expired_or_waits_is_known_across_calls(
    body: str, reason: str, tmp_path: Path
) -> None:
    level, message = verdict(tmp_path, body, expires=True)
    assert (level, reason in message) == ("unsafe", True), message


REPLACED = {
    "assigned": "async def fake(session, key): ...\ncrud.get = fake",
    "setattr": "setattr(crud, 'get', None)",
    "its globals": "crud.find.__globals__['get'] = None",
    "its globals, by a name": "names = crud.find.__globals__\nnames['get'] = None",
    "wrapped by strings": "wrapt.wrap_function_wrapper('app.crud', 'get', wrapper)",
    "wrapped by keywords": "wrapt.wrap_function_wrapper(module='app.crud', name='get', wrapper=1)",
    "wrapped by a decorator": (
        "@wrapt.patch_function_wrapper('app.crud', 'get')\nasync def wrapper(*args): ..."
    ),
    "wrapped in the module": "wrapt.wrap_function_wrapper(crud, 'get', wrapper)",
    "patched by one string": "wrapt.patch('app.crud.get', 1)",
    "the module": "import app.job\napp.job.crud = fake",
    "another class of modules": "crud.__class__ = Module",
    "another class of what is had": "sys.modules['app.crud'].__class__ = Module",
    "another module": "sys.modules['app.crud'] = Module()",
    "code": "exec('def get(*args): ...', vars(crud))",
}
ITSELF = {
    "by names": "for name in __all__:\n    globals()[name] = traced(globals()[name])",
    "by items": (
        "for name, value in list(globals().items()):\n    globals()[name] = traced(value)"
    ),
    "an update": "globals().update({name: traced(value) for name, value in NAMES})",
    "a method": "for name in __all__:\n    globals().__setitem__(name, 1)",
    "code": "exec('get = traced(get)')",
    "code with names": "exec(CODE, globals())",
    "another class": "sys.modules[__name__].__class__ = Module",
    "another module": "sys.modules[__name__] = Module()",
}
KEPT = {
    "what it has": "print(getattr(crud, 'get'), crud.get, sys.modules['app.crud'])",
    "of another module": "wrapt.wrap_function_wrapper('app.models', 'get', wrapper)",
    "of no module": "router.add('get', crud.find)\nprint('app.crud', x.get)",
    "what is not there": "def __getattr__(name):\n    globals()[name] = value = load(name)\n",
    "code of its own": "exec('get = 1', {})\nexec(CODE, globals(), {})",
    "another class of an object": "logger.__class__ = Logger",
}
HEAD = "import sys\nimport wrapt\nfrom app import crud\n"


@pytest.mark.parametrize("other", REPLACED.values(), ids=REPLACED.keys())
def test_a_function_that_others_replace_is_not_followed(other: str, tmp_path: Path) -> None:
    more = {"other.py": f"{HEAD}{other}\n"}
    level, message = verdict(tmp_path, "return await crud.get(s, key)", more=more)
    assert (level, "code that was not followed" in message) == ("unsafe", True)


@pytest.mark.parametrize("code", ITSELF.values(), ids=ITSELF.keys())
def test_a_function_that_its_own_file_replaces_is_not_followed(code: str, tmp_path: Path) -> None:
    more = {"crud.py": f"import sys\n{CRUD}\n\n{code}\n"}
    level, message = verdict(tmp_path, "return await crud.get(s, key)", more=more)
    assert (level, "code that was not followed" in message) == ("unsafe", True)


@pytest.mark.parametrize(
    "imports", ["from app.crud import find", "from app.crud import *", "from app import crud"]
)
def test_a_function_that_the_callers_file_replaces_is_not_followed(
    imports: str, tmp_path: Path
) -> None:
    call = "crud.find(s)" if imports.endswith("crud") else "find(s)"
    code = JOB.format(", expire_on_commit=False, autoflush=False").replace(
        "from app import crud\nfrom app.crud import find\n", f"{imports}\n"
    )
    code = f"{code}            return len(await {call})\n\n\nsetattr(make(), NAME, 1)\n"
    assert verdict(tmp_path, "", more={"job.py": code})[0] == "safe"
    code = f"{code}globals().update({{name: traced(name) for name in NAMES}})\n"
    assert verdict(tmp_path, "", more={"job.py": code})[0] == "unsafe"


@pytest.mark.parametrize("other", KEPT.values(), ids=KEPT.keys())
def test_a_function_that_others_leave_alone_is_followed(other: str, tmp_path: Path) -> None:
    more = {"other.py": f"{HEAD}{other}\n", "crud.py": f"{CRUD}\n\n{other}\n"}
    for only in (more, {"other.py": f"{HEAD}{other}\n"}):
        assert verdict(tmp_path, "return await crud.get(s, key)", more=only) == ("safe", ANY)


@pytest.mark.parametrize(
    "other",
    [
        "class More(Jobs):\n    async def load(self, *_): ...\n",
        "More = type('More', (Jobs,), {'load': None})\n",
        "class More(Jobs):\n    def __init__(self, **kw):\n        self.__dict__.update(kw)\n",
        "class More(Jobs):\n    def __getattribute__(self, name): ...\n",
        "@traced\nclass More(Jobs): ...\n",
        "class More(Jobs, metaclass=Meta): ...\n",
        "class More(Mixin, Jobs): ...\n",
        "class More[T](Mixin, Jobs): ...\n",
        "class More(mixed(Mixin, of(1)), Jobs): ...\n",
        "from app.job import Jobs as Base\n\n\nclass More(Mixin, Base): ...\n",
        "Base = Jobs\n\n\nclass More(Mixin, Base): ...\n",
        "More = type('More', (Mixin, Jobs), {})\n",
        "def make(mixin, base):\n    return type(f'{base.__name__}', (mixin, base), {})\n",
        "More = type(str('More'), BASES, {})\n",
        "More = types.new_class('More', (Mixin, Jobs))\n",
        "More = types.new_class('More', bases=(Mixin, Jobs))\n",
        "More = dataclasses.make_dataclass('More', [], bases=(Mixin, Jobs))\n",
        "BASES = (Mixin, Jobs)\n\n\nclass More(*BASES): ...\n",
        "class More(*bases()): ...\n",
        "class More(Jobs): ...\n\n\nMore.__bases__ = (Mixin, Jobs)\n",
        "class More: ...\n\n\nMore.__bases__ = (Mixin, Jobs)\n",
        "class More:\n    run = Jobs.run\n",
        "class More: ...\n\n\nMore.run = Jobs.run\n",
        "asyncio.run(Jobs.run(Mixin(), 1))\n",
        "def work():\n    from app import job\n\n    return job.Jobs.run(Mixin(), 1)\n",
        "class More(Mixin):\n    async def run(self):\n        await Jobs.run(self)\n",
        "class More(Jobs):\n    def change(self):\n        self.__class__ = Mixin\n",
    ],
)
def test_a_method_that_a_subclass_may_have_another_of_is_not_followed(
    other: str, tmp_path: Path
) -> None:
    head = "import types\nfrom app.job import Jobs\nfrom elsewhere import Meta, Mixin, traced\n\n\n"
    level, message = verdict(
        tmp_path, "return await self.load(s, key)", more={"more.py": head + other}
    )
    assert (level, "code that was not followed" in message) == ("unsafe", True)


@pytest.mark.parametrize("names", ["locals()", "vars()"])
def test_who_gets_a_functions_names_may_change_what_it_loaded(names: str, tmp_path: Path) -> None:
    code = f"""
async def touch(session, key):
    user = await session.get(User, key)
    return look({names})
"""
    more = {"crud.py": CRUD + code}
    level, message = verdict(tmp_path, "return await crud.touch(s, key)", more=more)
    assert (level, "may change what it loaded" in message) == ("unsafe", True), message


@pytest.mark.parametrize(
    "other",
    [
        "class More(Jobs):\n    async def run(self, *args):\n        await Jobs.run(self, *args)\n",
        "Error = type('Error', (Exception, Other), {})\nprint(type(Jobs), type(f(Jobs)))\n",
        "BASES = (Other, dict)\n\n\nclass More(*BASES, **OPTIONS): ...\n",
        "class More(Other):\n    def change(self):\n        self.__class__.__bases__ = (Mixin,)\n",
        "Other.__bases__ = (Mixin,)\n",
        "Jobs().run(1)\njob = Jobs()\nasyncio.run(job.run(1))\nprint(job.run, other.Jobs.load)\n",
        "class More(Other):\n    run = Other.run\n",
        "Model = create_model('Model', run=(int, 1))\n",
    ],
)
def test_a_method_that_all_objects_have_alike_is_followed(other: str, tmp_path: Path) -> None:
    head = "class Other:\n    def run(self): ...\n\n\nclass Mixin: ...\n\n\n"
    more = {"more.py": f"from app import other\nfrom app.job import Jobs\n\n\n{head}{other}"}
    assert verdict(tmp_path, "return await self.load(s, key)", more=more) == ("safe", ANY)


def test_a_function_in_a_file_that_cannot_be_parsed_is_not_followed(tmp_path: Path) -> None:
    more = {"crud.py": CRUD + "this is no Python\n"}
    level, message = verdict(tmp_path, "return await crud.get(s, key)", more=more)
    assert (level, "code that was not followed" in message) == ("unsafe", True)


def test_a_package_is_followed_and_not_the_module_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "app" / "crud").mkdir(parents=True)
    body = "return await crud.get(s, key)"
    writes = CRUD.replace("return await session.get(User, key)", "session.add(User(id=key))")
    for module, package in ((CRUD, writes), (writes, CRUD)):
        more = {"crud.py": module, "crud/__init__.py": package}
        level, message = verdict(tmp_path, body, more=more)
        assert level == ("safe" if package is CRUD else "unsafe"), message
