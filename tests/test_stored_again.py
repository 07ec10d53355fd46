"""Objects that a block gives away as a commit expires them, and that others store once more."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from session_guard.runner import Options, Run

STANDARD = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()
MODELS = """\
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase): ...


class User(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Order(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
"""
JOB = """\
from sqlalchemy.ext.asyncio import AsyncSession

from app import crud
from app.db import engine
from app.models import Order, User

CACHE = {{}}


class Users:
    async def run(self, key, name):
        async with AsyncSession(engine{}) as s:
"""
CRUD = """\
from app.models import User


async def create(session, name):
    user = User(name=name)
    session.add(user)
    await session.commit()
    return user
"""
OTHER = """\
import cache
from app import crud, kinds
from app.models import Order, User


def build(name):
    return User(name=name)


class Users:
    seen: set[User]

    async def again(self, session, user, users, *, other: Order, some: list[User], name: str):
"""


def verdict(
    tmp_path: Path, body: str, other: str, *, arguments: str = "", behind: str = ""
) -> tuple[str, str]:
    """Return whether the fix of a block is safe beside another function, and what is said of it."""
    job = JOB.format(arguments) + textwrap.indent(body, " " * 12)
    job += f"\n        {behind}\n"
    again = OTHER + textwrap.indent(other, " " * 8) + "\n"
    files = {"db": STANDARD, "models": MODELS, "crud": CRUD, "job": job, "other": again}
    (tmp_path / "pyproject.toml").write_text("[tool.session-guard]\n")
    (tmp_path / "app").mkdir()
    for name, text in files.items():
        (tmp_path / "app" / f"{name}.py").write_text(text)
    [findings] = Run(Options((str(tmp_path / "app" / "job.py"),))).check()
    [finding] = [one for one in findings if one.code == "SG101"]
    assert finding.fix is not None, finding.help
    return finding.fix.applicability.value, finding.fix.message


MERGES = "await session.merge(user)"
MADE = "user = User(name=name)\ns.add(user)\nawait s.commit()\n"
GIVEN_AWAY = {
    "given back": MADE + "return user",
    "given back in a list": MADE + "return [user], 1",
    "given back by another": "return await crud.create(s, name)",
    "given back of a transaction": "async with s.begin():\n    return await s.get(User, key)",
    "kept": "async with s.begin():\n    self.user = await s.get(User, key)",
    "kept in a dictionary": (
        "async with s.begin():\n    user = await s.get(User, key)\n    CACHE[key] = user"
    ),
    "given to another": (
        "async with s.begin():\n    user = await s.get(User, key)\n    CACHE.update(x=user)"
    ),
}
KEPT_BACK = {
    "read anew": MADE + "await s.refresh(user)\nreturn user",
    "a column": "user = await s.get(User, key)\nname = user.name\nawait s.commit()\nreturn name",
    "never committed": "return await s.get(User, key)",
    "of another class": "order = Order(id=key)\ns.add(order)\nawait s.commit()\nreturn order",
    "used there alone": MADE + "return True",
}
TAKEN = {
    "a parameter": MERGES,
    "a parameter's class": "for one in some:\n    session.add(one)",
    "all of a parameter": "session.add_all(sorted(users))",
    "an attribute": "session.add(self.user)",
    "an item": "await session.merge(cache.CACHE[name])",
    "what another gives": "user = await cache.get(name)\nawait session.merge(user)",
    "in a list": "found = []\nfound.append(user)\nsession.add_all(found)",
    "one of two": "session.add(user or User(name=name))",
    "in another's function": "def later():\n    session.add(user)\nlater()",
}
NOT_TAKEN = {
    "made": "one = User(name=name)\nsession.add(one)",
    "made, many": "session.add_all([User(name=one) for one in (name, name)])",
    "made by a function": "session.add(build(name))",
    "made, in a list": "found = []\nfound.append(User(name=name))\nsession.add_all(found)",
    "loaded": "one = await session.get(User, 1)\nsession.add(one)",
    "loaded by a query": (
        "found = await session.execute(kinds.QUERY)\nfor one in found.scalars():\n"
        "    session.add(one)"
    ),
    "loaded by another": "one = await crud.get(session, 1)\nsession.add(one)",
    "of another class": "session.add(other)",
    "in a set": "seen = set()\nseen.add(user)\nself.seen.add(user)",
    "merged tables": "users.merge(user, on='id')",
}


@pytest.mark.parametrize("body", GIVEN_AWAY.values(), ids=GIVEN_AWAY.keys())
def test_what_others_get_may_be_stored_again(body: str, tmp_path: Path) -> None:
    level, message = verdict(tmp_path, body, MERGES)
    assert (level, "app/other.py gives such objects to another session" in message) == (
        "unsafe",
        True,
    ), message


@pytest.mark.parametrize("behind", ["return user", "self.user = user", "CACHE[key] = user"])
def test_what_others_get_behind_the_block_may_be_stored_again(behind: str, tmp_path: Path) -> None:
    level, message = verdict(tmp_path, MADE, MERGES, behind=behind)
    assert (level, "others get `user` (line 17), and app/other.py" in message) == (
        "unsafe",
        True,
    ), message


@pytest.mark.parametrize("body", KEPT_BACK.values(), ids=KEPT_BACK.keys())
def test_what_has_not_expired_or_stays_may_be_stored_again(body: str, tmp_path: Path) -> None:
    level, message = verdict(tmp_path, body, TAKEN["a parameter's class"])
    assert level == "safe", message


def test_what_no_commit_expires_may_be_stored_again(tmp_path: Path) -> None:
    arguments = ", expire_on_commit=False"
    assert verdict(tmp_path, GIVEN_AWAY["given back"], MERGES, arguments=arguments)[0] == "safe"


@pytest.mark.parametrize("other", TAKEN.values(), ids=TAKEN.keys())
def test_what_was_not_made_there_may_be_what_was_given_back(other: str, tmp_path: Path) -> None:
    level, message = verdict(tmp_path, GIVEN_AWAY["given back"], other)
    assert (level, "app/other.py gives such" in message) == ("unsafe", True), message


@pytest.mark.parametrize("other", NOT_TAKEN.values(), ids=NOT_TAKEN.keys())
def test_what_was_made_or_loaded_there_is_no_matter(other: str, tmp_path: Path) -> None:
    level, message = verdict(tmp_path, GIVEN_AWAY["given back"], other)
    assert level == "safe", message
