"""Whether a rewrite is called safe: each trap of handing a session over to the handler, decided.

Every case is the body of `async with AsyncSession(engine) as s:` where the engine is the handler's,
or the whole function where more than the body matters.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from unittest.mock import ANY

import pytest

from session_guard.config import Settings
from session_guard.linter import lint
from session_guard.project.project import Project
from session_guard.registry import load_rules
from session_guard.rule import Applicability, Finding

RULES = tuple(rule for rule in load_rules() if rule.code.startswith("SG10"))
STANDARD = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()
HEADER = """\
import asyncio
import contextlib
import logging
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import engine
from app.models import Order, User

logger = logging.getLogger(__name__)

"""


def found(
    tmp_path: Path, code: str, handler: str = STANDARD, models: str | None = None
) -> list[Finding]:
    (tmp_path / "app").mkdir(exist_ok=True)
    if models is not None:
        (tmp_path / "app" / "models.py").write_text(models)
    (tmp_path / "app" / "db.py").write_text(handler)
    path = tmp_path / "app" / "jobs.py"
    project = Project(Settings(root=tmp_path))
    return lint("jobs.py", path, code.encode(), project, RULES)


def verdict(
    tmp_path: Path, code: str, handler: str = STANDARD, models: str | None = None
) -> tuple[str, str]:
    """Return "safe", "unsafe" or "none", and the text that says why."""
    findings = found(tmp_path, code, handler, models)
    assert len(findings) == 1, findings
    fix = findings[0].fix
    if fix is None:
        return "none", findings[0].help
    return fix.applicability.value, fix.message


def in_block(body: str, arguments: str = "engine") -> str:
    return (
        f"{HEADER}async def job(jobs, job, name, send, user_id):\n"
        f"    async with AsyncSession({arguments}) as s:\n"
        + textwrap.indent(textwrap.dedent(body), " " * 8)
    )


SAFE = {
    "reads by select": "return (await s.scalars(select(User).where(User.name == name))).all()",
    "returns a page": "q = select(User)\nreturn (await s.scalars(q)).all(), await s.scalar(q)",
    "returns a dictionary": "return {'items': [*(await s.scalars(select(User))).all()]}",
    "prints a list": "print([await s.scalar(select(User.id))], (await s.scalar(select(1)), 1))",
    "reads one": "user = await s.get(User, user_id)\nreturn user",
    "reads by text": 'rows = await s.execute(text("SELECT id, count(*) FROM users GROUP BY id"))',
    "shows": 'print(await s.scalar(text("SHOW transaction_read_only")))',
    "reads a statement built before": """
        q = select(User)
        if name:
            q = q.where(User.name == name)
        for user in await s.scalars(q):
            print(user.name, len(user.orders))
        """,
    "streams": """
        async for row in await s.stream(select(User.id, User.name)):
            await send(row.name)
        """,
    "hands on plain columns": """
        for user_id, mail in await s.execute(select(User.id, User.mail)):
            await send(mail)
        """,
    "adds and commits": "s.add(User(name=name))\nawait s.commit()",
    "changes and commits": """
        user = await s.get(User, user_id)
        user.name = name
        await s.commit()
        """,
    "commits on every way out": """
        user = await s.get(User, user_id)
        if user is None:
            return None
        if user.name == name:
            await s.delete(user)
            await s.commit()
            return None
        user.name = name
        await s.commit()
        return user
        """,
    "writes by statement and commits": """
        await s.execute(update(User).where(User.id == user_id).values(name=name))
        await s.commit()
        """,
    "begins, which commits": "async with s.begin():\n    s.add(User(name=name))",
    "begins, and returns inside": """
        async with s.begin():
            s.add(User(name=name))
            return True
        """,
    "raises after a write": "s.add(User(name='x'))\nraise RuntimeError('no')",
    "rolls back and raises": """
        try:
            s.add(User(name=name))
            await s.commit()
        except Exception:
            await s.rollback()
            raise
        """,
    "flushes before it queries": """
        s.add(User(name='x'))
        await s.flush()
        total = await s.scalar(select(func.count()).select_from(User))
        await s.commit()
        return total
        """,
    "commits in a loop, and loads nothing": """
        for job in jobs:
            await s.execute(insert(Order).values(job=job))
            await s.commit()
        """,
    "reads plain columns after a commit": """
        s.add(User(name=name))
        await s.commit()
        return await s.scalar(select(User.id).where(User.name == name))
        """,
    "refreshes after a commit": """
        user = User(name=name)
        s.add(user)
        await s.commit()
        await s.refresh(user)
        return user
        """,
    "logs what it loaded": """
        user = await s.get(User, user_id)
        logger.info("user %s", user)
        """,
    "swallows an error that is not the session's": """
        try:
            await send(name)
        except OSError:
            logger.warning("not sent")
        return await s.scalar(select(func.count(User.id)))
        """,
    "adds and commits again and again": (
        "for job in jobs:\n    s.add(Order(kind='a'))\n    await s.commit()"
    ),
    "selects by what it loaded before": """
        users = (await s.scalars(select(User))).all()
        found = select(Order).where(Order.user_id.in_([user.id for user in users]))
        return (await s.scalars(found)).all()
        """,
    "sorts by an attribute": """
        users = (await s.scalars(select(User))).all()
        return sorted(users, key=lambda user: user.name)
        """,
    "does nothing with it": "await send(name)",
    "loads and locks one, then commits": """
        user = await s.get(User, user_id, with_for_update={"nowait": True})
        user.name = name
        await s.commit()
        """,
    "locks in a transaction": """
        async with s.begin():
            user = await s.get(User, user_id, with_for_update=True)
            user.orders = (await s.scalars(select(Order).with_for_update())).all()
        """,
    "reads by SQLModel's text": """
        from sqlmodel import text as sql
        return (await s.execute(sql("SELECT 1"))).one()
        """,
    "savepoint, then commits": """
        async with s.begin_nested():
            s.add(User(name=name))
        await s.commit()
        """,
    "exceptions as control flow, which are logged now": """
        from fastapi import HTTPException
        user = await s.get(User, user_id)
        if user is None:
            raise HTTPException(404)
        return user
        """,
    "a retry, after a commit": """
        try:
            s.add(User(name=name))
            await s.commit()
        except OSError as error:
            raise Retry(countdown=5) from error
        """,
    "a commit in a try that turns its error into another": """
        s.add(User(name=name))
        try:
            await s.commit()
        except Exception as error:
            raise ValueError("taken") from error
        """,
    "disposes of the engine when it is done": """
        total = await s.scalar(select(func.count(User.id)))
        await engine.dispose()
        return total
        """,
    "breaks out of its own loop": """
        for job in jobs:
            if job:
                break
        """,
}


@pytest.mark.parametrize("body", SAFE.values(), ids=SAFE.keys())
def test_safe(body: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, in_block(body)) == (
        "safe",
        "open it with `async with get_background_session() as session:`",
    )


UNSAFE = {
    "calls what it loaded": ("user = await s.get(User, user_id)\nuser()", "may change it"),
    "calls a method by a name": (
        "user = await s.get(User, user_id)\ntouch = user.touch\ntouch()",
        "may change it",
    ),
    "calls a method that it looks up": (
        "user = await s.get(User, user_id)\ngetattr(user, name)()",
        "may change it",
    ),
    "enters what it loaded": (
        "user = await s.get(User, user_id)\nwith user:\n    pass",
        "may change",
    ),
    "adds and does not commit": ("s.add(User(name=name))", "nothing commits that"),
    "changes and does not commit": (
        "user = await s.get(User, user_id)\nuser.name = name",
        "changes what it loaded",
    ),
    "changes a collection": (
        "user = await s.get(User, user_id)\nuser.orders.append(Order())",
        "may change it",
    ),
    "changes through another name": (
        "user = await s.get(User, user_id)\nbox = [user]\nbox[0].name = name",
        "changes what it loaded",
    ),
    "changes what a loop loaded": (
        "for user in await s.scalars(select(User)):\n    user.name = name",
        "changes what it loaded",
    ),
    "does not commit on one way out": (
        "s.add(User(name=name))\nif name:\n    return\nawait s.commit()",
        "nothing commits that",
    ),
    "does not commit on a continue": (
        """
        for job in jobs:
            s.add(Order(job=job))
            if job:
                continue
            await s.commit()
        """,
        "nothing commits that",
    ),
    "writes after the commit": (
        "await s.commit()\ns.add(User(name=name))",
        "nothing commits that",
    ),
    "writes by statement": (
        "await s.execute(delete(User))",
        "`s.execute()` may write",
    ),
    "executes what is not known": ("await s.execute(name)", "`s.execute()` may write"),
    "text that writes": (
        'await s.execute(text("UPDATE users SET name = 1"))',
        "`s.execute()` may write",
    ),
    "text of two statements": (
        'await s.execute(text("SELECT 1; DELETE FROM users"))',
        "`s.execute()` may write",
    ),
    "text that locks": (
        'await s.execute(text("SELECT 1 FROM users FOR UPDATE"))',
        "`s.execute()` may write",
    ),
    "text that calls a function": (
        'await s.execute(text("SELECT charge(1)"))',
        "`s.execute()` may write",
    ),
    "a function that may write": ("await s.scalar(select(func.nextval('s')))", "may write"),
    "locks": ("await s.scalars(select(User).with_for_update())", "may write"),
    "rolls back on purpose": (
        "s.add(User(name=name))\nawait s.flush()\nawait s.rollback()",
        "rolls back",
    ),
    "queries after an add": (
        """
        s.add(User(name=name))
        total = await s.scalar(select(func.count()).select_from(User))
        await s.commit()
        """,
        "without a `flush()`",
    ),
    "queries after a change": (
        """
        user = await s.get(User, user_id)
        user.name = name
        await s.scalars(select(User).where(User.name == name))
        await s.commit()
        """,
        "without a `flush()`",
    ),
    "polls": (
        """
        while True:
            order = await s.get(Order, user_id)
            if order.done:
                return order
            await s.commit()
        """,
        "reads again after a commit",
    ),
    "swallows an error of the session": (
        """
        for job in jobs:
            try:
                await s.execute(insert(Order).values(job=job))
                await s.flush()
            except Exception:
                logger.warning("skipped")
        await s.commit()
        """,
        "catches errors of the session",
    ),
    "rolls back for each item": (
        """
        for job in jobs:
            try:
                s.add(Order(job=job))
                await s.commit()
            except Exception:
                await s.rollback()
        """,
        "the block rolls back, and goes on",
    ),
    "goes on with the next item": (
        """
        for job in jobs:
            try:
                await s.execute(insert(Order).values(job=job))
            except ValueError:
                continue
            await s.commit()
        """,
        "catches errors of the session",
    ),
    "a commit on leaving that no `try` of its own would see": (
        """
        try:
            s.add(User(name=name))
        except Exception as error:
            raise ValueError(name) from error
        """,
        "nothing commits that",
    ),
    "polls in a for": (
        """
        for job in jobs:
            print((await s.scalars(select(Order))).all())
            await s.commit()
        """,
        "reads again after a commit",
    ),
    "reads once more after a commit": (
        """
        order = await s.get(Order, user_id)
        await s.commit()
        return await s.get(Order, user_id)
        """,
        "reads again after a commit",
    ),
    "suppresses an error of the session": (
        "with contextlib.suppress(Exception):\n    await s.execute(select(User))",
        "may swallow errors",
    ),
    "returns in finally": (
        "try:\n    await s.execute(select(User))\nfinally:\n    return 1",
        "swallows errors",
    ),
    "hands the session on": ("await send(s)", "the session goes to code"),
    "hands the session on by name": ("await send(session=s)", "the session goes to code"),
    "hands the session on in a list": ("await send([s])", "the session goes to code"),
    "returns the session": ("return s", "the session is returned"),
    "returns the session in a tuple": ("return 1, [s]", "the session is returned"),
    "returns the session in a dictionary": ("return {1: (s,)}", "the session is returned"),
    "stores the session": ("send.session = s", "the session goes to code"),
    "keeps a method of it": ("run = s.execute", "is not understood"),
    "calls what is not known": ("await s.run_sync(send)", "is not understood"),
    "gathers": (
        "import asyncio\nawait asyncio.gather(s.execute(select(User)), s.execute(select(Order)))",
        "is not understood here",
    ),
    "uses it in a function of its own": (
        "async def inner():\n    await s.commit()\nawait inner()",
        "a function inside the block",
    ),
    "uses it in a lambda": ("await send(lambda: s.commit())", "a function inside the block"),
    "hands on what it loaded": (
        "user = await s.get(User, user_id)\nawait send(user)",
        "goes to code that was not followed",
    ),
    "hands on a part of what it loaded": (
        "user = await s.get(User, user_id)\nawait send(user.orders)",
        "goes to code that was not followed",
    ),
    "unpacks arguments": ("await s.execute(*jobs)", "are not known"),
    "binds the name again": ("s = send()", "bound again"),
    "closes it": ("await s.close()", "is not understood"),
    "a CTE that writes, by name": (
        """
        new = insert(User).values(name=name).returning(User.id).cte()
        await s.scalar(select(func.count(new.c.id)))
        """,
        "may write",
    ),
    "func by another name": (
        "from sqlalchemy import func as f\nawait s.scalar(select(f.charge(1)))",
        "may write",
    ),
    "a function by name": ("call = func.charge(1)\nawait s.scalar(select(call))", "may write"),
    "text in a select": ('await s.execute(select(text("charge(1)")))', "may write"),
    "text in a condition": ('await s.execute(select(User).where(text("charge(1)")))', "may write"),
    "a method of a class in a select": ("await s.execute(select(User.charge(1)))", "may write"),
    "a condition that is not known": ("await s.execute(select(User).where(name))", "may write"),
    "text that calls a quoted function": (
        "await s.execute(text('SELECT \"doCharge\"(1)'))",
        "may write",
    ),
    "an entity in lower case": (
        """
        from app import models as m
        user = (await s.scalars(select(m.user))).one()
        user.name = name
        await s.commit()
        await s.scalars(select(m.user))
        """,
        "reads again after a commit",
    ),
    "a finally that writes after a return": (
        """
        try:
            return await s.scalar(select(func.count(User.id)))
        finally:
            s.add(User(name=name))
        """,
        "`finally`",
    ),
    "a break in finally": (
        """
        for job in jobs:
            try:
                await s.execute(select(User))
            finally:
                break
        """,
        "swallows errors",
    ),
    "a heartbeat": (
        """
        user = await s.get(User, user_id)
        for job in jobs:
            user.status = "alive"
            await s.commit()
        """,
        "what would have expired",
    ),
    "a method called like one of a result": (
        "user = await s.get(User, user_id)\nuser.freeze()",
        "may change it",
    ),
    "a method called like one of a string": (
        "user = await s.get(User, user_id)\nuser.join(name)",
        "may change it",
    ),
    "objects handed to a method called like one of a string": (
        "user = await s.get(User, user_id)\nname.encode(user)",
        "may change it",
    ),
    "set by a function of SQLAlchemy's": (
        """
        from sqlalchemy.orm import attributes
        user = await s.get(User, user_id)
        attributes.set_attribute(user, "name", name)
        """,
        "may change it",
    ),
    "changed after it was added by a cascade": (
        "s.add(User(orders=[job]))\nawait s.commit()\njob.name = name",
        "changes what it loaded",
    ),
    "changed after it was added in an object": (
        "user = User(orders=[job])\ns.add(user)\nawait s.commit()\njob.name = name",
        "changes what it loaded",
    ),
    "swallows errors of a stream of columns": (
        """
        rows = await s.stream(select(User.id))
        try:
            async for row in rows:
                await send(row.id)
        except OSError:
            pass
        """,
        "catches errors of the session",
    ),
    "sorts by a function": (
        "users = (await s.scalars(select(User))).all()\nsorted(users, key=send)",
        "may change it",
    ),
    "loads lazily after a commit": (
        """
        user = await s.get(User, user_id)
        await s.commit()
        print(await user.awaitable_attrs.orders)
        """,
        "reads again after a commit",
    ),
    "refreshes with a change pending": (
        "user = await s.get(User, user_id)\nuser.name = name\nawait s.refresh(user)\n"
        "await s.commit()",
        "without a `flush()`",
    ),
    "deletes with a change pending": (
        "s.add(User(name=name))\nawait s.delete(job)\nawait s.commit()",
        "without a `flush()`",
    ),
    "merges": ("await s.merge(job)", "it merges"),
    "loads and locks one": (
        "await s.get(User, user_id, with_for_update=True)",
        "`s.get()` locks (line 13), and nothing commits that",
    ),
    "loads one with new values": (
        "await s.get(User, user_id, populate_existing=True)\nawait s.commit()",
        "an argument of `s.get()`",
    ),
    "loads and locks one after a change": (
        "s.add(User(name=name))\nawait s.get(User, user_id, with_for_update=True)\n"
        "await s.commit()",
        "without a `flush()`",
    ),
    "writes by SQLModel's text": (
        "from sqlmodel import text as sql\nawait s.execute(sql('DELETE FROM users'))",
        "may write",
    ),
    "binds a statement elsewhere": (
        "await s.execute(select(User), bind_arguments={'bind': job})",
        "may write",
    ),
    "adds up in place": (
        "user = await s.get(User, user_id)\nuser.count += 1",
        "changes what it loaded",
    ),
    "deletes an attribute": (
        "user = await s.get(User, user_id)\ndel user.name",
        "changes what it loaded",
    ),
    "changes what a walrus holds": (
        "if (user := await s.get(User, user_id)) is not None:\n    user.name = name",
        "changes what it loaded",
    ),
    "changes what a match holds": (
        """
        match await s.get(User, user_id):
            case User() as user:
                user.name = name
        """,
        "changes what it loaded",
    ),
    "changes in one arm of a match": (
        """
        user = await s.get(User, user_id)
        match name:
            case "a":
                user.name = name
            case _:
                pass
        """,
        "changes what it loaded",
    ),
    "changes in a comprehension": (
        "users = (await s.scalars(select(User))).all()\n[send(u) for u in users]",
        "may change it",
    ),
    "changes in an assertion": (
        "user = await s.get(User, user_id)\nassert send(user)",
        "may change it",
    ),
    "an except that returns": (
        """
        try:
            await s.execute(select(User))
        except OSError:
            if name:
                return None
            raise
        """,
        "catches errors of the session",
    ),
    "a write before an error that is not the session's": (
        """
        s.add(User(name=name))
        try:
            await s.commit()
            s.add(User(name=name))
            await send(name)
        except OSError:
            pass
        """,
        "nothing commits that",
    ),
    "pages, and changes what it gathered": (
        """
        users = []
        for page in range(2):
            users += (await s.scalars(select(User).offset(page))).all()
        for user in users:
            user.status = "done"
        """,
        "nothing commits that",
    ),
    "changes what it added in a list": (
        """
        user = User(name=name)
        batch = [user]
        s.add_all(batch)
        await s.commit()
        user.status = "late"
        """,
        "nothing commits that",
    ),
    "a task that ends after the commit": (
        """
        import asyncio
        user = await s.get(User, user_id)
        task = asyncio.create_task(send(user))
        await s.commit()
        await task
        """,
        "nothing commits that",
    ),
    "a task group that ends after the commit": (
        """
        import asyncio
        user = await s.get(User, user_id)
        async with asyncio.TaskGroup() as group:
            group.create_task(send(user))
            await s.commit()
        """,
        "nothing commits that",
    ),
    "a generator that runs later": (
        "rows = (s.add(User(name=n)) for n in jobs)\nawait s.commit()\nlist(rows)",
        "a generator may use",
    ),
    "a map that runs later": (
        "users = (await s.scalars(select(User))).all()\nfound = map(send, users)\n"
        "await s.commit()\nlist(found)",
        "a lazy call",
    ),
    "the last test of a while": (
        """
        while (await s.execute(delete(User).where(User.id == user_id))).rowcount:
            await s.commit()
        """,
        "nothing commits that",
    ),
    "a guard of a match": (
        """
        match name:
            case "a" if (await s.execute(delete(User))).rowcount:
                await s.commit()
        """,
        "nothing commits that",
    ),
    "an attribute that was annotated": (
        "send.user: User = await s.get(User, user_id)\nsend.touch()",
        "may change",
    ),
    "a loop over an attribute": (
        "for send.user in await s.scalars(select(User)):\n    send.touch()",
        "may change",
    ),
    "a method of an item called like one of a string": (
        "users = (await s.scalars(select(User))).all()\nusers[0].replace(name)",
        "may change",
    ),
    "a callable handed to a result": (
        "(await s.scalars(select(User))).unique(send).all()",
        "may change",
    ),
    "a class of SQLAlchemy's that is a function of SQL": (
        "from sqlalchemy.sql.functions import Function\n"
        "await s.scalar(select(Function('charge', 1)))",
        "may write",
    ),
    "a function of the project in a condition": (
        "from app.db import get_background_session as claim\n"
        "await s.scalars(select(User).where(User.id == claim()))",
        "may write",
    ),
    "text with letters of another alphabet": (
        'await s.execute(text("SELECT enregistr\u00e9(1)"))',
        "may write",
    ),
    "text with dollar quotes": (
        "await s.execute(text(\"SELECT length($q$'$q$), charge(1), $q$'$q$\"))",
        "may write",
    ),
    "mutates what it put elsewhere": (
        """
        user = await s.get(User, user_id)
        jobs[0] = user
        await send(name)
        """,
        "may change what it loaded",
    ),
}


@pytest.mark.parametrize(("body", "reason"), UNSAFE.values(), ids=UNSAFE.keys())
def test_unsafe(body: str, reason: str, tmp_path: Path) -> None:
    level, message = verdict(tmp_path, in_block(body))
    assert level == "unsafe"
    assert reason in message


def test_a_reason_of_many_places_is_given_once(tmp_path: Path) -> None:
    level, message = verdict(tmp_path, in_block("await rename(s)\n" * 40 + "await s.rollback()"))
    assert level == "unsafe"
    assert "and in 39 other places" in message
    assert message.count("not followed (line") == 1
    assert "rolls back" in message


@pytest.mark.parametrize(
    ("arguments", "level", "reason"),
    [
        ("engine, expire_on_commit=False, autoflush=False", "safe", ""),
        ("bind=engine, autocommit=False", "safe", ""),
        ("engine, expire_on_commit=True", "unsafe", "its `expire_on_commit`"),
        ("engine, info={}", "unsafe", "its `info`"),
        ("engine, **options", "none", "arguments are unpacked"),
        ("binds={User: engine}", "none", "choose the database"),
        ("", "none", "no engine is given"),
        ("other", "none", "not known to be the handler's"),
        ("self.engine", "none", "not known to be the handler's"),
        ("get_engine()", "none", "another than the handler's"),
        ("engine.execution_options(isolation_level='SERIALIZABLE')", "none", "another"),
        ("engine # here\n", "none", "a comment stands inside the call"),
    ],
)
def test_arguments(arguments: str, level: str, reason: str, tmp_path: Path) -> None:
    got = verdict(tmp_path, in_block("await s.commit()", arguments))
    assert got[0] == level
    assert reason in got[1]


def test_without_autoflush_a_query_after_an_add_is_the_same(tmp_path: Path) -> None:
    body = "s.add(User())\nawait s.scalars(select(User))\nawait s.commit()"
    assert verdict(tmp_path, in_block(body, "engine, autoflush=False"))[0] == "safe"


RELATED = """\
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase): ...


class User(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    orders: Mapped[list["Order"]] = relationship(back_populates="user")


class Order(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    state: Mapped[str]
    user: Mapped[User] = relationship(back_populates="orders")
"""
EAGER = RELATED.replace(
    'relationship(back_populates="orders")',
    'relationship(\n        foreign_keys=[user_id], lazy="selectin", back_populates="orders")',
)
ORDER = """
user = await s.get(User, user_id)
order = Order(user_id=user.id)
s.add(order)
await s.commit()
"""
REFRESHED = {
    "a relationship": (RELATED, ORDER + "await s.refresh(order, ['state', 'user'])"),
    "by a keyword": (RELATED, ORDER + "await s.refresh(order, attribute_names=('user',))"),
    "names that are not known": (RELATED, ORDER + "await s.refresh(order, send.names)"),
    "a collection of objects that are held": (
        RELATED,
        "order = await s.get(Order, 1)\nuser = await s.get(User, order.user_id)\n"
        "user.name = 'x'\nawait s.commit()\nawait s.refresh(user, ['orders'])",
    ),
    "what is loaded with it": (EAGER, ORDER + "await s.refresh(order)"),
    "of a class that is not known": (
        EAGER,
        "order = await s.scalar(select(Order))\nuser = order.user\norder.state = 'x'\n"
        "await s.commit()\nawait s.refresh(order)",
    ),
    "what its query loaded with it": (
        RELATED,
        "from sqlalchemy.orm import joinedload\nq = select(Order).options(joinedload(Order.user))\n"
        "order = await s.scalar(q)\nuser = order.user\norder.state = 'x'\n"
        "await s.commit()\nawait s.refresh(order)",
    ),
    "what an option that is not known loads with it": (
        RELATED,
        "order = await s.get(Order, 1, options=[send.option])\nuser = order.user\n"
        "order.state = 'x'\nawait s.commit()\nawait s.refresh(order)",
    ),
    "in a loop": (
        RELATED,
        "for number in range(3):\n    order = Order(user_id=number)\n    s.add(order)\n"
        "    await s.commit()\n    await s.refresh(order, ['user'])\n    owner = order.user",
    ),
    "in a function": (
        RELATED,
        "user = await s.get(User, user_id)\nawait add(s, user.id)\n",
    ),
}
REFRESHED_ALONE = {
    "nothing else": (
        RELATED,
        "order = Order(user_id=1)\ns.add(order)\nawait s.commit()\n"
        "await s.refresh(order, ['user'])\nuser = order.user\nreturn user.name",
    ),
    "columns": (RELATED, ORDER + "await s.refresh(order, ['state'])\nreturn order.state"),
    "what loads nothing else": (RELATED, ORDER + "await s.refresh(order)\nreturn order.state"),
    "what leaves a column for later": (
        RELATED,
        "from sqlalchemy.orm import load_only\n"
        "q = select(Order).options(load_only(Order.id).defer(Order.state))\n"
        "order = await s.scalar(q)\nuser = order.user\norder.state = 'x'\n"
        "await s.commit()\nawait s.refresh(order)",
    ),
    "of a class that loads nothing else": (
        EAGER,
        ORDER + "await s.refresh(user)\nreturn user.name",
    ),
    "what was refreshed too": (
        RELATED,
        ORDER + "await s.refresh(user)\nawait s.refresh(order, ['user'])\nreturn order.user.name",
    ),
    "before a commit": (
        RELATED,
        "user = await s.get(User, user_id)\norder = await s.get(Order, 1)\n"
        "await s.refresh(order, ['user'])\nreturn order.user.name",
    ),
}
ADDS_ORDER = """

async def add(s: AsyncSession, user_id: int):
    order = Order(user_id=user_id)
    s.add(order)
    await s.commit()
    await s.refresh(order, ["user"])
"""


@pytest.mark.parametrize(("models", "body"), REFRESHED.values(), ids=REFRESHED.keys())
def test_a_refresh_gives_old_values_of_what_a_relationship_leads_to(
    models: str, body: str, tmp_path: Path
) -> None:
    level, message = verdict(tmp_path, in_block(body) + ADDS_ORDER, models=models)
    assert level == "unsafe"
    assert "it reads again after a commit" in message


@pytest.mark.parametrize(("models", "body"), REFRESHED_ALONE.values(), ids=REFRESHED_ALONE.keys())
def test_a_refresh_of_what_is_read_anew_is_the_same(models: str, body: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, in_block(body), models=models) == ("safe", ANY)


def test_without_expiry_a_poll_is_the_same(tmp_path: Path) -> None:
    body = """
        while True:
            order = await s.get(Order, user_id)
            print(order.done)
            await s.commit()
        """
    assert verdict(tmp_path, in_block(body, "engine, expire_on_commit=False"))[0] == "safe"


MODELS = """\
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

class Base(DeclarativeBase): ...

class User(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    orders: Mapped[list["Order"]] = relationship()

class Order(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
"""
GIVES_COLUMNS = {
    "to a list": "out = []\nfor user in await s.scalars(select(User)):\n    out.append(user.name)",
    "to a dictionary": "by = {}\nfor user in await s.scalars(select(User)):\n"
    "    by[user.id] = user.name",
    "in a dictionary": "user = await s.get(User, 1)\njobs.append({'id': user.id, 'n': user.name})",
    "to a coroutine": "user = await s.get(User, 1)\nawait send(user.name, name=user.name)",
    "by a name": "user = await s.get(User, 1)\nname = user.name\nawait send(name)",
    "to nobody": "user = await s.get(User, 1)\nawait send(name)\njob.name = name",
}


OUT = """
from pydantic import BaseModel

class UserOut(BaseModel):
    id: int
    name: str = ""
"""


def test_a_type_parameter_hides_the_modules_name(tmp_path: Path) -> None:
    code = in_block("return await s.get(User, 1)")
    assert verdict(tmp_path, code)[0] == "safe"
    hidden = code.replace("async def job(", "async def job[AsyncSession](")
    assert found(tmp_path, hidden, STANDARD, None) == []


EVERYDAY = {
    "made of values, where fields have defaults": (
        "return [UserOut(id=u.id, name=u.name) for u in await s.scalars(select(User))]"
    ),
    "read by pydantic": (
        "users = (await s.scalars(select(User))).all()\n"
        "return [UserOut.model_validate(u) for u in users]"
    ),
    "conditions in a list": (
        "found = [User.id > 1]\nif name:\n    found.append(User.name == name)\n"
        "return (await s.scalars(select(User).where(*found))).all()"
    ),
    "fields by their names": (
        "user = await s.get(User, 1)\nif user is None:\n    raise LookupError(1)\n"
        "for field, value in job.model_dump(exclude_unset=True).items():\n"
        "    setattr(user, field, value)\nawait s.commit()\nawait s.refresh(user)\nreturn user"
    ),
    "made of a request": (
        "user = User(**job.model_dump())\ns.add(user)\nawait s.commit()\n"
        "await s.refresh(user)\nreturn UserOut.model_validate(user)"
    ),
    "found by keywords": ("return (await s.scalars(select(User).filter_by(**jobs))).all()"),
    "a constant's text": "return (await s.execute(text(SQL))).all()",
    "one that may be there": (
        "for one in jobs.model_dump()['ids']:\n    try:\n        async with s.begin_nested():\n"
        "            s.add(User(id=one))\n    except IntegrityError:\n        continue\n"
        "await s.commit()"
    ),
    "of a class that is not known": (
        "for name in jobs:\n    s.add(Thing(name=name))\nawait s.commit()"
    ),
    "a name that is declared before": (
        "user: User | None\nuser = await s.get(User, 1)\nuser.name = name\nawait s.commit()"
    ),
    "told after it was changed": (
        "user = await s.get(User, 1)\nuser.name += '!'\nawait s.commit()\nawait send(user.name)"
    ),
    "sorted by what a parameter of the same name has": (
        "users = (await s.scalars(select(User))).all()\nfor u in users:\n    print(u.name)\n"
        "return max(users, key=lambda u: u.name).id, min(users, key=lambda u: (-u.id, u.name)).id"
    ),
    "a list that is sorted": (
        "result = await s.scalars(select(User))\nusers = result.all()\n"
        "users.sort(key=lambda user: user.name, reverse=True)\nlater = list(users)\n"
        "later.sort(key=lambda user: user.id)\nreturn later[0].name"
    ),
}
NOT_EVERYDAY = {
    "a key that changes": (
        "users = (await s.scalars(select(User))).all()\n"
        "return sorted(users, key=lambda u: send(u).name)"
    ),
    "a key by its default": (
        "u = await s.get(User, 1)\nreturn max(job, key=lambda n, u=u: u.name)"
    ),
    "a key that uses an object": (
        "u = await s.get(User, 1)\nreturn max(job, key=lambda n: send(u, n))"
    ),
    "a function of another name": (
        "u = await s.get(User, 1)\nsend(lambda n: u.rename(n))\nreturn u.name"
    ),
    "a list that is sorted by a function": (
        "users = (await s.scalars(select(User))).all()\nusers.sort(key=send)\nreturn users"
    ),
    "a list that is sorted as its class has it": (
        "users = (await s.scalars(select(User))).all()\nusers.sort()\nreturn users"
    ),
    "an object's own `sort()`": (
        "user = await s.get(User, 1)\nuser.sort(key=lambda one: one.name)\nreturn user"
    ),
    "an unknown function": "found = [send()]\nreturn await s.scalars(select(User).where(*found))",
    "a list of others": "return await s.scalars(select(User).where(*jobs))",
    "a list that others fill": (
        "found = []\nsend(found)\nreturn await s.scalars(select(User).where(*found))"
    ),
    "a savepoint that swallows all": (
        "try:\n    async with s.begin_nested():\n        s.add(User(id=1))\n"
        "except Exception:\n    pass\nawait s.commit()"
    ),
    "a text that writes": "return (await s.execute(text(WRITES))).all()",
    "a text of others": "return (await s.execute(text(name))).all()",
    "set by name, and not committed": "user = await s.get(User, 1)\nsetattr(user, 'name', name)",
    "set to an object of others": (
        "user = await s.get(User, 1)\nsetattr(user, send(), job)\nint(name)\nawait s.commit()"
    ),
    "set by name to what is loaded there": "setattr(await s.get(User, 1), 'name', name)",
    "set by name to one of what is loaded": (
        "setattr((await s.scalars(select(User))).first(), 'name', name)"
    ),
    "entered where it is loaded": "with await s.get(User, 1):\n    pass",
    "set to what is loaded there": "(await s.get(User, 1)).name = name",
    "added to what is loaded there": "(await s.get(User, 1)).number += 1",
    "deleted of what is loaded there": "del (await s.get(User, 1)).name",
    "an item set of what is loaded there": "(await s.get(User, 1))['name'] = name",
    "a method of what is loaded there": "(await s.get(User, 1)).touch()",
    "raised from what is loaded there": "raise (await s.get(User, 1)).error",
    "others' items": (
        "user = await s.get(User, 1)\nuser.orders[0] = job\nint(name)\nawait s.commit()"
    ),
    "others' items added": (
        "user = await s.get(User, 1)\nuser.orders += jobs\nint(name)\nawait s.commit()"
    ),
}


def with_out(body: str, arguments: str = "engine") -> str:
    code = in_block(body, arguments).replace("import Order, User", "import Order, User, UserOut")
    return code.replace(
        "logger =", "SQL = 'SELECT id FROM users'\nWRITES = 'DELETE FROM users'\nlogger ="
    )


@pytest.mark.parametrize("body", EVERYDAY.values(), ids=EVERYDAY.keys())
def test_everyday_code_is_safe(body: str, tmp_path: Path) -> None:
    code = with_out(body, "engine, expire_on_commit=False")
    assert verdict(tmp_path, code, models=MODELS + OUT) == ("safe", ANY)


@pytest.mark.parametrize("body", NOT_EVERYDAY.values(), ids=NOT_EVERYDAY.keys())
def test_what_is_like_everyday_code_and_is_not(body: str, tmp_path: Path) -> None:
    code = with_out(body, "engine, expire_on_commit=False")
    assert verdict(tmp_path, code, models=MODELS + OUT)[0] == "unsafe"


SEEN = "from sqlalchemy import event, func\nfrom sqlalchemy.orm import validates\n"
MADE_AND_TOLD = {
    "one that it made": (
        "user = User(name=name)\ns.add(user)\nawait s.commit()\nawait send('/users')"
    ),
    "one without a name": "s.add(User(name=name))\nawait s.commit()\nawait send('/users')",
    "its number": (
        "user = User(name=name)\ns.add(user)\nawait s.flush()\nnumber = user.id\n"
        "await s.commit()\nawait send(number)\nreturn number"
    ),
    "one that it deletes": (
        "user = await s.get(User, 1)\nawait s.delete(user)\nawait s.commit()\nawait send('/users')"
    ),
    "many": (
        "users = [User(name=one['name']) for one in jobs]\ns.add_all(users)\nawait s.commit()\n"
        "await send('/users')"
    ),
    "a batch": (
        "for number, one in enumerate(jobs):\n    s.add(User(name=one['name']))\n"
        "    if number % 100 == 0:\n        await s.commit()\n        await send(one)\n"
        "await s.commit()"
    ),
    "slices": (
        "for start in range(0, len(jobs), job):\n"
        "    s.add_all([User(name=one) for one in jobs[start : start + job]])\n"
        "    await s.commit()\n    print(start + job)"
    ),
    "what a message has": (
        "s.add(User(id=job.sender.id, name=job.sender.full_name))\nawait s.commit()\n"
        "await job.answer('Welcome!')"
    ),
    "what a text has": (
        "row = name.split(',')\ns.add(User(name=row[0], id=int(row[1])))\nawait s.commit()\n"
        "logger.info('added %s', row[0])"
    ),
}
MADE_AND_SHARED = {
    "given to others": "await send(user)\ns.add(user)\nawait s.commit()\nawait send()",
    "given to others behind the commit": "s.add(user)\nawait s.commit()\nawait send(user)",
    "kept by others": "jobs.append(user)\ns.add(user)\nawait s.commit()\nawait send()",
    "kept in an attribute": "job.user = user\ns.add(user)\nawait s.commit()\nawait send()",
    "of another name": "s.add(user)\nother = user\nawait s.commit()\nawait send(other)",
    "of a second name": (
        "user = made = User(name=name)\ns.add(user)\nawait s.commit()\nawait send(made)"
    ),
    "of a name by the way": (
        "user = (made := User(name=name))\ns.add(user)\nawait s.commit()\nawait send(made)"
    ),
    "of the name that it was made by": (
        "made = User(name=name)\nuser = made\ns.add(user)\nawait s.commit()\nawait send(made)"
    ),
    "out of a list": (
        "made = [User(name=name)]\nuser = made[0]\ns.add(user)\nawait s.commit()\nawait send(made)"
    ),
    "out of a list by its number": (
        "made = [User(name=name)]\nfor number, user in enumerate(made):\n    s.add(user)\n"
        "await s.commit()\nawait send(made)"
    ),
    "a parameter": "s.add(job)\nawait s.commit()\nawait send()",
    "one that a parameter has": ("s.add(User(orders=job.orders))\nawait s.commit()\nawait send()"),
    "one of a function": "s.add(job())\nawait s.commit()\nawait send()",
    "one of a class that is not known": "s.add(Thing(name=name))\nawait s.commit()\nawait send()",
    "a parameter that it deletes": "await s.delete(job)\nawait s.commit()\nawait send()",
    "a global": "global user\nuser = User(name=name)\ns.add(user)\nawait s.commit()\nawait send()",
    "the session": "s.add(user)\nawait s.commit()\nawait send(s)",
    "a closure": (
        "def change():\n    user.name = 'other'\ns.add(user)\nawait s.commit()\nawait send(change)"
    ),
}
# What of a model, or beside it, sees the objects that are made.
SEES_WHAT_IS_MADE = {
    "its constructor": "    def __init__(self, name):\n        LIST.append(self)\n",
    "its `__post_init__`": "    def __post_init__(self):\n        LIST.append(self)\n",
    "setting an attribute": "    def __setattr__(self, name, value):\n        LIST.append(self)\n",
    "what validates": (
        "    @validates('name')\n    def check(self, key, value):\n        LIST.append(self)\n"
    ),
    "what listens": "\nevent.listen(User, 'after_insert', LIST.append)\n",
    "what listens to `init`": "\nevent.listen(User, 'init', LIST.append)\n",
    "one that is put in its place": "\nUser.__init__ = make\n",
    "another column's value": "\nTAGS = MutableDict\n",
}


@pytest.mark.parametrize("body", MADE_AND_TOLD.values(), ids=MADE_AND_TOLD.keys())
def test_nobody_changes_what_the_block_made_and_gave_to_nobody(body: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, in_block(body), models=MODELS) == ("safe", ANY)


@pytest.mark.parametrize("body", MADE_AND_SHARED.values(), ids=MADE_AND_SHARED.keys())
def test_others_may_change_what_the_block_made(body: str, tmp_path: Path) -> None:
    if "user =" not in body:
        body = f"user = User(name=name)\n{body}"
    assert verdict(tmp_path, in_block(body), models=MODELS)[0] == "unsafe"


@pytest.mark.parametrize("seen", SEES_WHAT_IS_MADE.values(), ids=SEES_WHAT_IS_MADE.keys())
def test_a_model_may_give_what_is_made_to_others(seen: str, tmp_path: Path) -> None:
    code = in_block(MADE_AND_TOLD["one that it made"])
    of_user, _, behind = MODELS.partition("\nclass Order")
    models = f"{SEEN}{of_user}{seen}\nclass Order{behind}"
    assert verdict(tmp_path, code, models=models)[0] == "unsafe"


# With what a `try` round `{}` catches, and does then; the session flushes before queries.
CAUGHT_OF_OTHERS = {
    "what a service raises": (
        "await send(user.name)",
        "except OSError:\n    logger.warning('cannot send')\n    continue",
    ),
    "all, with changes that wait": (
        "await send(user.name)",
        "except Exception as error:\n    logger.error('%s: %s', user.id, error)\n    continue",
    ),
    "a key": ("kind = {'ada': 1}[user.name]", "except KeyError:\n    kind = 2"),
    "a value": ("user.id = int(name)", "except ValueError:\n    user.id = 0"),
    "a list of its own": ("done.append(user)", "except ValueError:\n    continue"),
}
CAUGHT_OF_THE_SESSION = {
    "what may be loaded, with changes that wait": (
        "print(user.orders)",
        "except Exception:\n    continue",
        "reading what may have to be loaded",
    ),
    "a column that is fetched anew": (
        "print(user.seen)",
        "except Exception:\n    continue",
        "reading what may have to be loaded",
    ),
    "one that it added": (
        "print(user.name)",
        "except Exception:\n    s.add(user)",
        "reading what may have to be loaded",
    ),
    "an object": ("await send(user)", "except OSError:\n    continue", "code that gets what it"),
    "a method": ("user.touch()", "except OSError:\n    continue", "code that gets what it loaded"),
    "a query": ("await s.get(User, 2)", "except OSError:\n    continue", "the session"),
    "a commit": ("await s.commit()", "except Exception:\n    continue", "the session"),
    "the session given on": ("await send(s)", "except OSError:\n    continue", "the session"),
    "awaitable attributes": (
        "await user.awaitable_attrs.orders",
        "except OSError:\n    continue",
        "code that gets what it loaded",
    ),
    "a task": (
        "await task",
        "except OSError:\n    continue",
        "code that gets what it loaded",
    ),
    "iterated": (
        "async for one in user:\n    print(one)",
        "except OSError:\n    continue",
        "code that gets what it loaded",
    ),
    "entered": ("with user:\n    pass", "except OSError:\n    continue", "code that gets what it"),
}


def caught(body: str, catching: str, arguments: str = "engine") -> str:
    tried = textwrap.indent(f"try:\n{textwrap.indent(body, '    ')}\n{catching}", "    ")
    task = "task = s.scalars(select(User))\n" if "task" in body else ""
    return in_block(
        f"done = []\nusers = (await s.scalars(select(User))).all()\n{task}"
        f"for user in users:\n{tried}\n    user.name = 'told'\nawait s.commit()",
        arguments,
    )


DATED = MODELS.replace(
    "    name: Mapped[str]\n",
    "    name: Mapped[str]\n    seen: Mapped[int] = mapped_column(onupdate=func.now())\n",
)


@pytest.mark.parametrize(
    ("body", "catching"), CAUGHT_OF_OTHERS.values(), ids=CAUGHT_OF_OTHERS.keys()
)
def test_an_except_may_catch_what_no_session_raised(
    body: str, catching: str, tmp_path: Path
) -> None:
    assert verdict(tmp_path, caught(body, catching), models=MODELS) == ("safe", ANY)


@pytest.mark.parametrize(
    ("body", "catching", "reason"),
    CAUGHT_OF_THE_SESSION.values(),
    ids=CAUGHT_OF_THE_SESSION.keys(),
)
def test_an_except_catches_what_a_session_may_have_raised(
    body: str, catching: str, reason: str, tmp_path: Path
) -> None:
    level, said = verdict(tmp_path, caught(body, catching), models=SEEN + DATED)
    assert level == "unsafe"
    assert f"an `except` catches errors of {reason}" in said


@pytest.mark.parametrize(
    ("found_in", "level"),
    {
        "options(load_only(User.id))": "unsafe",
        "options(defer(User.name))": "unsafe",
        "where(User.id > 1)": "safe",
    }.items(),
)
def test_a_column_may_be_left_out_of_what_is_loaded(
    found_in: str, level: str, tmp_path: Path
) -> None:
    code = caught(*CAUGHT_OF_OTHERS["all, with changes that wait"])
    models = f"{MODELS}\nQUERY = select(User).{found_in}\n"
    assert verdict(tmp_path, code, models=models)[0] == level


def test_a_commit_expires_what_is_read_where_errors_are_caught(tmp_path: Path) -> None:
    code = caught(*CAUGHT_OF_OTHERS["what a service raises"])
    code = code.replace("        await s.commit()", "            await s.commit()")
    level, said = verdict(tmp_path, code, models=MODELS)
    assert (level, "reading what may have to be loaded" in said) == ("unsafe", True)


MISSING = "from sqlalchemy.exc import MultipleResultsFound, NoResultFound\n"
ONE = "(await s.scalars(select(User))).one()"
NO_ROW = {
    "none": f"try:\n    user = {ONE}\nexcept NoResultFound:\n    return None\nreturn user",
    "not one": (
        f"try:\n    user = {ONE}\nexcept (NoResultFound, MultipleResultsFound):\n    user = None\n"
        "return user"
    ),
    "of a result": (
        "result = await s.execute(select(User))\ntry:\n    user = result.scalar_one()\n"
        "except NoResultFound:\n    return None\nreturn user"
    ),
    "made then": (
        f"try:\n    user = {ONE}\nexcept NoResultFound:\n    s.add(User(name=name))\n"
        "    await s.commit()"
    ),
}
MORE_THAN_NO_ROW = {
    "another error": f"try:\n    {ONE}\nexcept (NoResultFound, LookupError):\n    pass",
    "an error that is not known": f"try:\n    {ONE}\nexcept Missing:\n    pass",
    "any error": f"try:\n    {ONE}\nexcept:\n    pass",
    "behind a failing flush": (
        f"s.add(User(name=name))\ntry:\n    {ONE}\nexcept NoResultFound:\n    pass\n"
        "await s.commit()"
    ),
    "raised for another": (
        f"try:\n    try:\n        {ONE}\n    except OSError:\n        raise NoResultFound\n"
        "except NoResultFound:\n    pass"
    ),
    "raised by others": "try:\n    await send(s)\nexcept NoResultFound:\n    pass",
    "raised by a method": (
        "user = await s.get(User, 1)\ntry:\n    await user.find()\nexcept NoResultFound:\n    pass"
    ),
}


@pytest.mark.parametrize("body", NO_ROW.values(), ids=NO_ROW.keys())
def test_a_row_that_is_missing_aborts_no_transaction(body: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, MISSING + in_block(body), models=MODELS) == ("safe", ANY)


@pytest.mark.parametrize("body", MORE_THAN_NO_ROW.values(), ids=MORE_THAN_NO_ROW.keys())
def test_more_than_a_missing_row_may_be_caught(body: str, tmp_path: Path) -> None:
    code = MISSING + in_block(body, "engine, autoflush=False")
    level, said = verdict(tmp_path, code, models=MODELS)
    assert level == "unsafe"
    assert "an `except` catches errors of" in said


def test_a_constant_that_others_may_set_is_no_text_that_is_known(tmp_path: Path) -> None:
    code = with_out("return (await s.execute(text(SQL))).all()")
    assert verdict(tmp_path, code)[0] == "safe"
    (tmp_path / "app" / "other.py").write_text("from app import jobs\nsetattr(jobs, 'SQL', 1)\n")
    assert verdict(tmp_path, code)[0] == "unsafe"


def test_a_with_that_binds_the_name_anew_uses_no_other_session(tmp_path: Path) -> None:
    opened = "    async with AsyncSession(engine, expire_on_commit=False) as s"
    first = f"async def job(name):\n{opened}:\n        await s.get(User, 1)\n"
    code = f"{HEADER}{first}{opened}, s.begin():\n        s.add(User(name=name))\n"
    fixes = [finding.fix for finding in found(tmp_path, code)]
    assert [fix and fix.applicability for fix in fixes] == [Applicability.SAFE] * 2
    behind = f"{HEADER}{first}    async with s.begin(), AsyncSession(engine) as s:\n        pass\n"
    fix, _ = (finding.fix for finding in found(tmp_path, behind))
    assert fix is not None
    assert "`s` is used outside the block too" in fix.message


QUERIES = """
import sqlalchemy
from sqlalchemy import text
SQL = "SELECT id FROM users"
STATEMENT = text("SELECT id "
    "FROM users")
QUALIFIED = sqlalchemy.text("SHOW timezone")
WRITES = "DELETE FROM users"
WRITING = text(WRITES)
AGAIN = "SELECT 1"
AGAIN = "SELECT nextval('a')"
if SQL:
    IN_ARM = "SELECT 1"
class Queries:
    SQL = "SELECT 1"
QUERY = Queries.SQL
TEMPLATE = "SELECT id FROM {}".format(SQL)
"""
IMPORTED = {
    "a text": ("text(SQL)", "safe"),
    "a module's text": ("text(queries.SQL)", "safe"),
    "a package's text": ("text(app.queries.SQL)", "safe"),
    "one that another module passes on": ("text(PASSED_ON)", "safe"),
    "a statement": ("STATEMENT", "safe"),
    "a module's statement": ("queries.STATEMENT.bindparams(a=name)", "safe"),
    "a statement by another name": ("queries.QUALIFIED", "safe"),
    "in one arm": ("text(queries.IN_ARM)", "safe"),
    "an attribute of a class": ("text(queries.Queries.SQL)", "unsafe"),
    "one that writes": ("text(queries.WRITES)", "unsafe"),
    "a statement that writes": ("queries.WRITING", "unsafe"),
    "one of two": ("text(queries.AGAIN)", "unsafe"),
    "put together": ("text(queries.TEMPLATE)", "unsafe"),
    "one that is not there": ("text(queries.NONE)", "unsafe"),
    "a method that may write": ("queries.STATEMENT.execution_options(a=1)", "unsafe"),
}


def executing(statement: str, tmp_path: Path) -> str:
    """Return a job that executes what another module of the project has."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "queries.py").write_text(QUERIES)
    (tmp_path / "app" / "passing.py").write_text("from .queries import SQL as PASSED_ON\n")
    return in_block(f"return (await s.execute({statement})).all()").replace(
        "import Order, User\n",
        "import Order, User\nimport app.queries\nfrom app import queries\n"
        "from app.queries import SQL, STATEMENT\nfrom app.passing import PASSED_ON\n",
    )


@pytest.mark.parametrize(("statement", "level"), IMPORTED.values(), ids=IMPORTED.keys())
def test_a_text_of_another_module_is_known(statement: str, level: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, executing(statement, tmp_path))[0] == level


@pytest.mark.parametrize(
    ("statement", "name"),
    [("text(PASSED_ON)", "SQL"), ("text(queries.SQL)", "SQL"), ("STATEMENT", "STATEMENT")],
)
def test_a_text_that_others_may_set_is_not_known(statement: str, name: str, tmp_path: Path) -> None:
    code = executing(statement, tmp_path)
    setting = f"from app import queries\nqueries.{name} = 'DELETE FROM users'\n"
    (tmp_path / "app" / "other.py").write_text(setting)
    assert verdict(tmp_path, code)[0] == "unsafe"


def test_what_model_dump_gives_may_hold_objects(tmp_path: Path) -> None:
    code = in_block("s.add(User(**job.model_dump()))\nint(name)\nawait s.commit()")
    assert verdict(tmp_path, code, models=MODELS)[0] == "safe"
    (tmp_path / "any").mkdir()
    models = f"{MODELS}\nCONFIG = ConfigDict(arbitrary_types_allowed=True)\n"
    assert verdict(tmp_path / "any", code, models=models)[0] == "unsafe"


SEES_OBJECTS = {
    "a validator": "    @model_validator(mode='before')\n    def f(cls, value): return value\n",
    "its own": "    @classmethod\n    def model_validate(cls, value): return cls(id=1)\n",
}


@pytest.mark.parametrize("method", SEES_OBJECTS.values(), ids=SEES_OBJECTS.keys())
def test_what_pydantic_hands_an_object_to_may_change_it(method: str, tmp_path: Path) -> None:
    code = with_out("return UserOut.model_validate(await s.get(User, 1))")
    assert verdict(tmp_path, code, models=MODELS + OUT)[0] == "safe"
    (tmp_path / "seen").mkdir()
    assert verdict(tmp_path / "seen", code, models=MODELS + OUT + method)[0] == "unsafe"


SQLMODELS = """
from sqlmodel import Field, Relationship, SQLModel

class Order(SQLModel, table=True):
    id: int = Field(primary_key=True)

class User(SQLModel, table=True):
    id: int = Field(primary_key=True)
    name: str
    mail: str = "?"
    orders: list[Order] = Relationship()
"""


CREATES = """
class UserCreate(SQLModel):
    name: str

class UserWithOrders(SQLModel):
    orders: list[Order]
"""
MADE_OF_VALUES = {
    "a class of values": ("data: UserCreate", "User.model_validate(data)", "safe"),
    "and more": (
        "data: UserCreate",
        "User.model_validate(data, update={'mail': mail(data)})",
        "safe",
    ),
    "a dictionary": ("data", "User.model_validate({'name': data})", "safe"),
    "a class without relationships": ("data", "Order.model_validate(data)", "safe"),
    "a class that is not known": ("data: Other", "User.model_validate(data)", "unsafe"),
    "anything": ("data", "User.model_validate(data)", "unsafe"),
    "a class with relationships": ("data: UserWithOrders", "User.model_validate(data)", "unsafe"),
    "and related objects": (
        "data: UserCreate",
        "User.model_validate(data, update={'orders': mail})",
        "unsafe",
    ),
}


@pytest.mark.parametrize(
    ("parameter", "made", "level"), MADE_OF_VALUES.values(), ids=MADE_OF_VALUES.keys()
)
def test_what_sqlmodel_makes_of_values_is_new(
    parameter: str, made: str, level: str, tmp_path: Path
) -> None:
    body = f"user = {made}\ns.add(user)\nawait s.commit()\nawait s.refresh(user)\nreturn user"
    code = in_block(body).replace("job(jobs,", f"job({parameter}, mail,")
    code = code.replace("import Order, User", "import Order, User, UserCreate, UserWithOrders")
    assert verdict(tmp_path, code, models=SQLMODELS + CREATES)[0] == level


@pytest.mark.parametrize(
    ("of", "level"), {"UserCreate": "safe", "User": "unsafe"}.items(), ids=["values", "a table"]
)
def test_what_sqlmodel_reads_of_an_object_is_no_object(of: str, level: str, tmp_path: Path) -> None:
    code = in_block(f"user = await s.get(User, 1)\nreturn {of}.model_validate(user)")
    code = code.replace("import Order, User", "import Order, User, UserCreate")
    assert verdict(tmp_path, code, models=SQLMODELS + CREATES)[0] == level


@pytest.mark.parametrize(
    ("given", "level"),
    [("name=one.name, mail=one.mail", "safe"), ("name=one.name, orders=one.orders", "unsafe")],
)
def test_columns_of_sqlmodel_get_values(given: str, level: str, tmp_path: Path) -> None:
    body = f"for one in jobs:\n    s.add(User({given}))\nawait s.commit()"
    assert verdict(tmp_path, in_block(body), models=SQLMODELS)[0] == level


def test_what_pydantic_reads_may_have_expired(tmp_path: Path) -> None:
    body = "user = await s.get(User, 1)\nuser.name = 'x'\nawait s.commit()\n"
    code = with_out(f"{body}return UserOut.model_validate(user)")
    level, message = verdict(tmp_path, code, models=MODELS + OUT)
    assert (level, "may show that it has expired" in message) == ("unsafe", True)


CASCADES = {
    "added": "user.orders.append(order)\ns.add(user)",
    "assigned": "user.orders = [order]\ns.add(user)",
    "assigned by its name": "setattr(user, 'orders', [order])\ns.add(user)",
    "put together": "user.orders += [order]\ns.add(user)",
    "an item": "user.orders[0] = order\ns.add(user)",
    "given the other": "order.user = user\ns.add(user)",
    "in a list": "orders = []\norders.append(order)\ns.add_all(orders)",
    "by a list": "orders = [order]\nfor one in orders:\n    user.orders.append(one)\ns.add(user)",
    "to what was loaded": "one = await s.get(User, 1)\none.orders.append(order)",
}


@pytest.mark.parametrize("given", CASCADES.values(), ids=CASCADES.keys())
def test_what_a_session_takes_in_by_a_cascade_has_expired_too(given: str, tmp_path: Path) -> None:
    body = f"order = Order(id=user_id)\nuser = User(name='x')\n{given}\nawait s.commit()\n"
    code = in_block(body)
    assert verdict(tmp_path, code, models=MODELS)[0] == "safe"
    name = "one" if "for one" in given else "order"
    code += (
        f"    async with get_background_session() as other:\n        await other.merge({name})\n"
    )
    level, message = verdict(tmp_path, code, models=MODELS)
    assert (level, f"`{name}` goes on to another session" in message) == ("unsafe", True), message


CLASSES = """
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import aliased
from vendor import Mixin

class Person(Mixin, User):
    nick: Mapped[str] = made_elsewhere()

    @hybrid_property
    def both(self): ...

    @vendor.property
    def model(self): ...

class Repo:
    model = User
    boss = aliased(User)
    given: type[User]
    users = Order

    class Meta:
        model = User

    def __init_subclass__(cls):
        cls.made = User
"""
SELECTED = {
    "a column": ("User.name", "safe"),
    "a label": ("User.name.label('x')", "safe"),
    "a base's column": ("Person.name", "safe"),
    "one that its base from elsewhere has": ("Person.mail", "safe"),
    "one that is annotated": ("Person.nick", "safe"),
    "a hybrid": ("Person.both", "safe"),
    "a class's column, in a class": ("Repo.model.name", "safe"),
    "what another decorates": ("Person.model", "unsafe"),
    "a class in a class": ("Repo.model", "unsafe"),
    "a label of one": ("Repo.model.label('x')", "unsafe"),
    "an alias in a class": ("Repo.boss", "unsafe"),
    "one that is given later": ("Repo.given", "unsafe"),
    "one that a subclass is given": ("Repo.made", "unsafe"),
    "one of which nothing is known": ("Repo.other", "unsafe"),
    "one in a class in a class": ("Repo.Meta.model", "unsafe"),
}


@pytest.mark.parametrize(("selected", "level"), SELECTED.values(), ids=SELECTED.keys())
def test_a_class_in_an_attribute_is_no_column(selected: str, level: str, tmp_path: Path) -> None:
    code = in_block(f"for one in (await s.execute(select({selected}))).all():\n    await send(one)")
    code = code.replace("import Order, User", "import Order, Person, Repo, User")
    assert verdict(tmp_path, code, models=MODELS + CLASSES)[0] == level


def test_a_class_that_its_own_class_has_is_no_column(tmp_path: Path) -> None:
    code = HEADER + (
        "class Repo:\n    model = User\n\n    @classmethod\n    async def job(cls, key):\n"
        "        async with AsyncSession(engine) as s:\n"
        "            query = select(cls.model).where(cls.model.id == key)\n"
        "            user = (await s.execute(query)).scalar_one()\n"
        "            user.name = key\n"
    )
    assert verdict(tmp_path, code, models=MODELS)[0] == "unsafe"
    columns = code.replace("select(cls.model)", "select(cls.model.id)")
    columns = columns.replace("user.name = key", "print(user)")
    assert verdict(tmp_path, columns, models=MODELS)[0] == "safe"


@pytest.mark.parametrize("body", GIVES_COLUMNS.values(), ids=GIVES_COLUMNS.keys())
def test_who_gets_values_of_columns_changes_no_object(body: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, in_block(body), models=MODELS)[0] == "safe"
    for number, (models, why) in enumerate(
        (
            (
                MODELS.replace("name: Mapped[str]", "name: Mapped[Order] = relationship()"),
                "its order",
            ),
            (f"from sqlalchemy.ext.mutable import MutableDict\n{MODELS}", "tracked changes"),
        )
    ):
        (tmp_path / str(number)).mkdir()
        level, _ = verdict(tmp_path / str(number), in_block(body), models=models)
        own = [GIVES_COLUMNS[name] for name in ("to a list", "to a dictionary", "to nobody")]
        assert level == ("safe" if body in own else "unsafe"), why


SETS_WHEN = {
    "__str__": ["str(user)", "print(f'{user}')", "logger.info('%s', user)", "'%s' % user"],
    "__repr__": ["repr([user])", "print(user)", "f'{user!r}'"],
    "__format__": ["format(user)", "f'{user:>9}'"],
    "__len__": ["len(user)", "print(1 if user else 2)", "not user"],
    "__bool__": [
        *("if user:\n    pass", "if not user:\n    pass", "while user:\n    break"),
        *("user or 1", "assert user", "[1 for u in users if u]", "any(users)"),
    ],
    "__eq__": ["user == 5", "1 in [user]", "match user:\n    case 5: pass", "{user}"],
    "__lt__": ["sorted(users)", "max(users)", "user < user"],
    "__hash__": ["set(users)", "{user: 1}", "{u for u in users}", "{u: 1 for u in users}"],
    "__iter__": ["for part in user:\n    pass", "a, b = user", "[*user]", "list(user)"],
    "__getitem__": ["user['name']"],
    "__contains__": ["5 in user"],
    "__getattr__": ["user.missing"],
    "__add__": ["user + 1"],
    "__neg__": ["-user"],
    "__radd__": ["1 + user"],
}
USES = [(method, use) for method, uses in SETS_WHEN.items() for use in uses]
LOUD = """\
class Quiet:
    def bump(self):
        self.age = 1

class Loud(Quiet):
    def METHOD(self, *args):
        self.bump()
"""


@pytest.mark.parametrize(("method", "use"), USES, ids=map(" ".join, USES))
def test_a_method_that_python_calls_may_change_its_object(
    method: str, use: str, tmp_path: Path
) -> None:
    loading = "users = (await s.scalars(select(User))).all()\nuser = await s.get(User, 1)\n"
    models = MODELS.replace("class User(Base)", f"{LOUD}\nclass User(Loud, Base)")
    models = models.replace("METHOD", method)
    level, message = verdict(tmp_path, in_block(loading + use), models=models)
    assert level == "unsafe", message
    assert f"`{method}()` of a model of the project changes what it loaded (line " in message


QUIET_USES = """\
user = await s.get(User, 1)
names = [u.name for u in await s.scalars(select(User))]
if user is None:
    return None
if user.name == name or user.name in names:
    print(user.name)
return user
"""


@pytest.mark.parametrize(
    ("models", "body"),
    [
        (MODELS.replace("class User(Base)", f"{LOUD}\nclass User(Loud, Base)"), QUIET_USES),
        (MODELS + LOUD, QUIET_USES + "print(user)"),
        (MODELS + LOUD.replace("Loud", "Loud(dict)"), "print(await s.get(User, 1))"),
        (
            MODELS + "class Loud(Base):\n    def __str__(self):\n        return self.id\n",
            "print(await s.get(User, 1))",
        ),
    ],
    ids=["not called", "of no model", "of a dictionary", "that sets nothing"],
)
@pytest.mark.parametrize("method", ["__str__", "__eq__", "__bool__"])
def test_a_method_that_changes_nothing_of_a_model(
    models: str, body: str, method: str, tmp_path: Path
) -> None:
    models = models.replace("METHOD", method)
    assert verdict(tmp_path, in_block(body), models=models)[0] == "safe"


def test_a_method_may_change_its_object_through_one_that_a_subclass_has(tmp_path: Path) -> None:
    loud = "class Base(DeclarativeBase):\n    def __str__(self):\n        return self.text()\n"
    models = MODELS.replace("class Base(DeclarativeBase): ...", loud).replace(
        "class Order", "    def text(self):\n        self.name = 'x'\n\nclass Order"
    )
    assert "def text" in models
    assert verdict(tmp_path, in_block("print(await s.get(User, 1))"), models=models)[0] == "unsafe"


def test_a_mixins_method_in_another_file_may_change_its_object(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    loud = LOUD.replace("METHOD", "__str__").replace("self.bump", "super().bump")
    (tmp_path / "app" / "mixins.py").write_text(loud)
    models = MODELS.replace("class User(Base)", "class User(mixins.Loud, Base)")
    code = in_block("print(await s.get(User, 1))")
    level, _ = verdict(tmp_path, code, models=f"from app import mixins\n{models}")
    assert level == "unsafe"


COLLECTS = {
    "a list": "out = []\nfor u in await s.scalars(select(User)):\n    out.append(u)\nreturn out",
    "a dictionary": "by = {}\nfor u in await s.scalars(select(User)):\n    by[u.id] = u\nreturn by",
    "a call's": "by = dict()\nfor u in await s.scalars(select(User)):\n    by[u.id] = u\nreturn by",
    "batches": (
        "batch = []\nfor i in range(9):\n    batch.append(User(id=i))\n    if len(batch) > 2:\n"
        "        s.add_all(batch)\n        await s.commit()\n        batch = []\n"
        "if batch:\n    s.add_all(batch)\n    await s.commit()"
    ),
}
COLLECTS_UNSAFELY = {
    "changes one of it": "out = [] \nout.append(await s.get(User, 1))\nout[0].name = name",
    "another name": "out = []\nalias = out\nout.append(await s.get(User, 1))",
    "two names": "a = out = []\nout.append(await s.get(User, 1))",
    "a view": "out = {}\nout[1] = await s.get(User, 1)\nsend(out.values())",
    "another's list()": "out = job.list()\nout.append(await s.get(User, 1))",
    "a target": "out = {}\nfor out[1] in await s.scalars(select(User)):\n    out[1].name = name",
    "all names": "out = []\nout.append(await s.get(User, 1))\nsend(**locals())",
    "hands it on": "out = []\nout.append(await s.get(User, 1))\nsend(out)",
    "handed it on before": "out = []\nsend(out)\nout.append(await s.get(User, 1))",
    "keeps it": "out = []\njob.users = out\nout.append(await s.get(User, 1))",
    "a parameter": "jobs.append(await s.get(User, 1))",
    "another's": "out = jobs\nout.append(await s.get(User, 1))",
    "a copy of a name": "out = []\nif name:\n    out = jobs\nout.append(await s.get(User, 1))",
}


@pytest.mark.parametrize("body", COLLECTS.values(), ids=COLLECTS.keys())
def test_a_collection_of_its_own_changes_no_object(body: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, in_block(body), models=MODELS) == ("safe", ANY)


@pytest.mark.parametrize("body", COLLECTS_UNSAFELY.values(), ids=COLLECTS_UNSAFELY.keys())
def test_what_is_in_a_collection_may_be_changed(body: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, in_block(body), models=MODELS)[0] == "unsafe"


def test_what_is_in_a_collection_is_expired_after_an_error(tmp_path: Path) -> None:
    body = "out = []\nout.append(await s.get(User, 1))\nint(name)"
    code = in_block(body).replace("    async with", "    try:\n        async with")
    head, _, rest = code.partition("        async with")
    code = f"{head}        async with" + rest.replace("\n        ", "\n            ")
    code += "\n    except ValueError:\n        return out[0].name\n"
    level, message = verdict(tmp_path, code, models=MODELS)
    assert (level, "`out` is used where an error may have left" in message) == ("unsafe", True)


KEEPS = {
    "in an attribute": "job.user = await s.get(User, 1)",
    "in an attribute, by a name": "user = await s.get(User, 1)\njob.user = user",
    "in an annotated attribute": "job.user: User = await s.get(User, 1)",
    "in an item": "jobs[1] = await s.get(User, 1)",
    "among others": "job.user, job.name = await s.get(User, 1), name",
    "by a loop": "for job.user in await s.scalars(select(User)):\n    pass",
    "in a global name": "global USER\nUSER = await s.get(User, 1)",
    "in a global name, by an expression": (
        "global USER\nprint((USER := await s.get(User, 1)) is None)"
    ),
    "by an operator": "job.users += [await s.get(User, 1)]",
    "with a name": (
        "user = job.user = User(name='x')\ns.add(user)\nawait s.flush()\nint(name)\n"
        "await s.commit()"
    ),
    "by its name": "setattr(job, 'user', await s.get(User, 1))",
    "by a call, where another way commits": (
        "user = await s.get(User, 1)\njobs.append(user)\nif name:\n    await s.commit()"
    ),
    "in an error": (
        "user = await s.get(User, 1)\nerror = LookupError(1)\nerror.user = user\nraise error"
    ),
}


@pytest.mark.parametrize("body", KEEPS.values(), ids=KEEPS.keys())
def test_what_is_kept_beyond_the_block_would_be_expired_after_an_error(
    body: str, tmp_path: Path
) -> None:
    level, message = verdict(tmp_path, in_block(body), models=MODELS)
    assert (level, "kept beyond the block" in message) == ("unsafe", True)
    (tmp_path / "begun").mkdir()
    begun = in_block(body).replace("(engine) as s:", "(engine) as s, s.begin():")
    assert "kept beyond the block" not in verdict(tmp_path / "begun", begun, models=MODELS)[1]


TAKES_IN = {
    "a parameter": "s.add(job)\nawait s.scalar(select(1))\nawait s.commit()",
    "an attribute": (
        "s.add(send.job)\nawait s.flush()\nif name:\n    raise LookupError\nawait s.commit()"
    ),
    "what an attribute of its own object gets": (
        "user = User(name='x')\ns.add(user)\nuser.orders = jobs\nint(name)\nawait s.commit()"
    ),
    "what a collection of its own object gets": (
        "user = await s.get(User, 1)\nuser.orders.append(job)\nint(name)\nawait s.commit()"
    ),
    "what its own object is made of": (
        "s.add(User(name='x', orders=jobs))\nint(name)\nawait s.commit()"
    ),
    "what a function gives": "s.add(send())\njobs[name]\nawait s.commit()",
    "what is read again": "s.add(job)\nawait s.commit()\nawait s.refresh(job)\nint(name)",
    "what is in a list": "for one in jobs:\n    s.add(one)\nawait send(1)\nawait s.commit()",
    "several": "s.add_all([one for one in jobs])\nawait send(1)\nawait s.commit()",
    "what is stored by one that may be cancelled": (
        "s.add(job)\nawait asyncio.sleep(1)\nawait s.commit()"
    ),
    "what a model may refuse": "s.add(job)\njob.name = name\nawait s.commit()",
    "what may be none": "s.add(job)\nif job.age > 1:\n    print(1)\nawait s.commit()",
    "what a class may refuse": "s.add(job)\ndata = Payload(age=1)\nawait s.commit()",
    "what has no such format": "s.add(job)\ntext = f'{job.age:03d}'\nawait s.commit()",
    "what may be no pair": "s.add(job)\nfor a, b in jobs:\n    pass\nawait s.commit()",
    "an attribute of what may be none": "s.add(job)\ntext = send.job.name\nawait s.commit()",
    "another that may be gone": "s.add(job)\nawait s.refresh(send)\nawait s.commit()",
    "another that may not be stored": "s.add(job)\nawait s.delete(send)\nawait s.commit()",
    "what it deletes": "await s.delete(job)\nawait s.flush()\nassert name\nawait s.commit()",
}


@pytest.mark.parametrize("body", TAKES_IN.values(), ids=TAKES_IN.keys())
def test_an_object_of_others_would_be_put_back_after_an_error(body: str, tmp_path: Path) -> None:
    level, message = verdict(tmp_path, in_block(body), models=MODELS)
    assert (level, "taken in an object from outside" in message) == ("unsafe", True)
    (tmp_path / "begun").mkdir()
    begun = in_block(body.replace("await s.commit()", "pass"))
    begun = begun.replace("(engine) as s:", "(engine) as s, s.begin():")
    assert "taken in" not in verdict(tmp_path / "begun", begun, models=MODELS)[1]


TAKES_IN_SAFELY = {
    "stored at once": "s.add(job)\nawait s.commit()",
    "stored and read again": "s.add(job)\nawait s.commit()\nawait s.refresh(job)\nreturn job",
    "several": "s.add_all(jobs)\nawait s.commit()",
    "told": (
        "s.add(job)\nif name == 'x' or job.mail is None:\n    logger.info('%s', job.name)\n"
        "print(f'{job.name}')\nawait s.commit()"
    ),
    "one after the other": "for job in jobs:\n    s.add(job)\nawait s.commit()",
    "another error": (
        "s.add(job)\ntry:\n    await s.commit()\nexcept LookupError:\n    raise KeyError"
    ),
    "an object of its own": "user = User(name='x')\ns.add(user)\nawait send(1)\nawait s.commit()",
    "one that it loaded": (
        "user = await s.get(User, 1)\nawait s.delete(user)\nawait send(1)\nawait s.commit()"
    ),
    "some that it loaded": (
        "for user in await s.scalars(select(User)):\n    await s.delete(user)\n"
        "    await s.flush()\n    await asyncio.sleep(1)\nawait s.commit()"
    ),
}


MADE = """\
{header}async def job(send):
    user = User(name="x")
    {loop}:
        async with AsyncSession(engine) as s:
            s.add(user)
            await send(1)
            await s.commit()
    {behind}
"""


@pytest.mark.parametrize(
    ("committed", "level"),
    [
        ("await s.commit()\n            await s.refresh(user)", "unsafe"),
        ("await s.commit()\n            await send(1)", "unsafe"),
        ("await send(1)\n            await s.commit()", "safe"),
    ],
)
def test_what_was_made_before_the_block_and_stored_in_it_has_expired_after_an_error(
    committed: str, level: str, tmp_path: Path
) -> None:
    code = (
        f"{HEADER}async def job(send):\n    user = User(name='x')\n    try:\n"
        "        async with AsyncSession(engine, expire_on_commit=False) as s:\n"
        f"            s.add(user)\n            {committed}\n"
        "    except LookupError:\n        pass\n    return user.name\n"
    )
    assert verdict(tmp_path, code, models=MODELS)[0] == level


@pytest.mark.parametrize(
    ("loop", "behind", "level"),
    [
        ("if True", "print(user.name)", "safe"),
        ("for _ in range(3)", "print(user.name)", "unsafe"),
        ("if True", "await send(user)", "unsafe"),
    ],
)
def test_what_the_function_made_for_the_block_may_be_put_back(
    loop: str, behind: str, level: str, tmp_path: Path
) -> None:
    code = MADE.format(header=HEADER, loop=loop, behind=behind)
    code = code.replace("(engine)", "(engine, expire_on_commit=False)")
    assert verdict(tmp_path, code, models=MODELS)[0] == level


@pytest.mark.parametrize("body", TAKES_IN_SAFELY.values(), ids=TAKES_IN_SAFELY.keys())
def test_an_object_that_nobody_else_has_may_be_put_back(body: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, in_block(body), models=MODELS) == ("safe", ANY)


RAISES = {
    "a name": "user = await s.get(User, 1)\nerror = NotReady(user)\nraise error",
    "a cause": "user = await s.get(User, 1)\nraise LookupError from NotReady(user)",
}


@pytest.mark.parametrize("body", RAISES.values(), ids=RAISES.keys())
def test_an_error_carries_what_it_loaded(body: str, tmp_path: Path) -> None:
    level, message = verdict(tmp_path, in_block(body), models=MODELS)
    assert (level, "an error carries what it loaded" in message) == ("unsafe", True)


def test_a_function_round_about_shows_what_an_error_expired(tmp_path: Path) -> None:
    code = in_block("user = await s.get(User, 1)\nawait send(name)").replace(
        "    async with", "    def show():\n        return user.name\n\n    async with"
    )
    level, message = verdict(tmp_path, code, models=MODELS)
    assert (level, "`show()` uses what it loaded" in message) == ("unsafe", True)


AGAIN = """\
{header}async def job(send):
    prev = None
    while {condition}:
        try:
            async with AsyncSession(engine) as s:
                {use}
                prev = await s.get(User, 1)
                send(1)
        except LookupError:
            continue
"""


@pytest.mark.parametrize(
    ("condition", "use"),
    [("True", "send(prev.name)"), ("prev is None or prev.id > 1", "pass")],
    ids=["in the block", "in the condition"],
)
def test_what_an_error_expired_is_used_in_the_next_turn(
    condition: str, use: str, tmp_path: Path
) -> None:
    code = AGAIN.format(header=HEADER, condition=condition, use=use)
    level, message = verdict(tmp_path, code, models=MODELS)
    assert (level, "`prev` is used where an error may have left" in message) == ("unsafe", True)


# What stands in the block, what behind it, and why that shows what has expired.
ADDS = "user = User(name=name)\ns.add(user)\nawait s.commit()\n"
CAUGHT = "try:\n    print(user.name)\nexcept {}:\n    {}"
SHOWS_EXPIRY = {
    "its dictionary": (ADDS, "print(user.__dict__)", "done with `user`"),
    "by a function": (ADDS, "print(vars(user))", "done with `user`"),
    "by SQLAlchemy": (ADDS, "print(inspect(user).expired_attributes)", "done with `user`"),
    "its text": (ADDS, "print(user)", "done with `user`"),
    "its text in another": (ADDS, "print(f'{user!r}', '%s' % name)", "done with `user`"),
    "its text by an operator": (ADDS, "print('%s' % user)", "done with `user`"),
    "a method": (ADDS, "return user.model_dump()", "done with `user`"),
    "other code": (ADDS, "return Out.model_validate(user)", "done with `user`"),
    "each of several": (
        "users = [User(), User()]\ns.add_all(users)\nawait s.commit()\n",
        "for user in users:\n    print(user.__dict__)",
        "done with `user`",
    ),
    "under another name": (ADDS, "one = user\nprint(vars(one))", "done with `one`"),
    "made before": ("s.add(job)\nawait s.commit()", "print(job.__dict__)", "done with `job`"),
    "what it loaded of another": (
        "user = await s.get(User, 1)\norders = user.orders\ns.add(user)\nawait s.commit()",
        "print(orders)",
        "done with `orders`",
    ),
    "by a transaction": (
        "async with s.begin():\n    user = User()\n    s.add(user)",
        "print(user)",
        "done with `user`",
    ),
    "refreshed in one branch": (
        f"{ADDS}if job:\n    await s.refresh(user)\n",
        "print(user)",
        "done with `user`",
    ),
    "refreshed before the last commit": (
        f"{ADDS}await s.refresh(user)\ns.add(User())\nawait s.commit()\n",
        "print(user)",
        "done with `user`",
    ),
    "refreshed in part": (f"{ADDS}await s.refresh(user, ['id'])", "print(user)", "with `user`"),
    "an attribute": (ADDS, CAUGHT.format("Exception", "print('gone')"), "errors are caught"),
    "one among others": (ADDS, CAUGHT.format("(KeyError, DBError)", "pass"), "are caught"),
    "an attribute, any error": (
        ADDS,
        "with contextlib.suppress(Exception):\n    print(user.name)",
        "errors are caught",
    ),
    "in the block": (f"{ADDS}print(user)\n", "", "the text of `user`"),
    "in the block, in a text": (f"{ADDS}logger.info(f'{{user}}')\n", "", "the text of `user`"),
    "in the block, logged": (f"{ADDS}logger.info('%s', [user])\n", "", "the text of `user`"),
    "in the block, its dictionary": (f"{ADDS}print(user.__dict__)\n", "", "`user.__dict__`"),
}
SHOWS_NONE = {
    "an attribute fails": (ADDS, "print(user.name)"),
    "it fails, and is raised on": (ADDS, CAUGHT.format("Exception", "raise")),
    "another error": (ADDS, CAUGHT.format("KeyError", "print('gone')")),
    "given back": (ADDS, "return user"),
    "given back in the block": (f"{ADDS}return user", ""),
    "compared": (ADDS, "print(user is None, len([user]))"),
    "read anew": (f"{ADDS}await s.refresh(user)\nprint(user)\n", "print(user, vars(user))"),
    "another": (ADDS, "user = User()\nprint(user)"),
    "another in the block": (f"{ADDS}user = User()\nprint(user)", ""),
    "only read": ("user = await s.get(User, 1)", "print(user.__dict__)"),
    "a column's value": (
        "user = await s.get(User, 1)\nname = user.name\nuser.name = ''\nawait s.commit()\n",
        "send(name)",
    ),
    "what a column was given": ("s.add(User(name=name))\nawait s.commit()\n", "send(name)"),
}


def around_block(inside: str, behind: str, arguments: str = "engine") -> str:
    code = in_block(inside, arguments) + "\n" + textwrap.indent(behind, "    ") + "\n"
    return f"from sqlalchemy import inspect\n{code}"


@pytest.mark.parametrize(
    ("inside", "behind", "reason"), SHOWS_EXPIRY.values(), ids=SHOWS_EXPIRY.keys()
)
def test_what_shows_that_an_object_has_expired_is_not_safe(
    inside: str, behind: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    code = around_block(inside, behind)
    got = verdict(tmp_path, code, models=MODELS)
    assert got[0] == "unsafe"
    assert reason in got[1]
    kept = around_block(inside, behind, "engine, expire_on_commit=False")
    assert verdict(tmp_path / "other", kept, models=MODELS) == ("safe", ANY)


@pytest.mark.parametrize(("inside", "behind"), SHOWS_NONE.values(), ids=SHOWS_NONE.keys())
def test_what_does_not_show_that_an_object_has_expired_is_safe(
    inside: str, behind: str, tmp_path: Path
) -> None:
    assert verdict(tmp_path, around_block(inside, behind), models=MODELS) == ("safe", ANY)


WRAPPER = """\
def {name}(function):
    async def wrapper(*args):
        {body}
    return wrapper


"""
CALLED = "return await function(*args)"
DECORATORS = {
    "that swallows": (f"try: {CALLED}\n        except Exception: return None", "unsafe"),
    "that suppresses": (f"with contextlib.suppress(ValueError): {CALLED}", "unsafe"),
    "that raises on": (f"try: {CALLED}\n        except Exception: raise", "safe"),
    "that catches another error": (f"try: {CALLED}\n        except KeyError: pass", "safe"),
    "that only wraps": (CALLED, "safe"),
}


@pytest.mark.parametrize(("body", "level"), DECORATORS.values(), ids=DECORATORS.keys())
def test_an_attribute_read_in_a_function_that_the_project_decorates(
    body: str, level: str, tmp_path: Path
) -> None:
    block = in_block(f"{ADDS}return user.name\n")
    wrapper = WRAPPER.format(name="wrapped", body=body)
    code = block.replace("async def job(", f"{wrapper}@wrapped\nasync def job(")
    found, message = verdict(tmp_path, code, models=MODELS)
    (tmp_path / "app" / "own.py").write_text(
        "import contextlib\n\n\ndef taking(default):\n"
        + textwrap.indent(WRAPPER.format(name="decorate", body=body), "    ")
        + "    return decorate\n"
    )
    elsewhere = block.replace("async def job(", "@taking(1)\nasync def job(")
    elsewhere = f"from app.own import taking\n{elsewhere}"
    assert verdict(tmp_path, elsewhere, models=MODELS)[0] == level
    assert found == level
    assert ("`user.name` fails where errors are caught" in message) == (level == "unsafe")


@pytest.mark.parametrize(
    ("use", "read"),
    [("print(user.name)", "user.name"), ("max([user], key=lambda u: u.name)", "u.name")],
)
@pytest.mark.parametrize("handler", ["print('gone')", "raise"])
def test_an_attribute_read_in_a_block_whose_errors_are_caught(
    handler: str, use: str, read: str, tmp_path: Path
) -> None:
    block = in_block(f"{ADDS}{use}\n")
    head, _, block = block.partition("    async with")
    block = textwrap.indent(f"    async with{block}", "    ")
    code = f"{head}    try:\n{block}    except Exception:\n        {handler}\n"
    level, message = verdict(tmp_path, code, models=MODELS)
    assert level == ("safe" if handler == "raise" else "unsafe")
    assert (f"`{read}` fails where errors are caught" in message) == (level == "unsafe")


FORMS = {
    "a request dependency": (
        """
        async def get_db():
            async with AsyncSession(engine) as s:
                yield s
        """,
        "none",
        "the block yields the session, and nothing",
    ),
    "a generator of objects with the session": (
        """
        async def repositories():
            async with AsyncSession(engine) as s:
                yield Repository(s)
        """,
        "none",
        "the block yields the session, and nothing",
    ),
    "a generator of rows": (
        """
        async def users():
            async with AsyncSession(engine) as s:
                for name in await names(s):
                    yield await load(s, name)
                    yield Row(session=s.info, user=(await load(s)).name)
        """,
        "none",
        "not fixed: the block yields, and whoever gets that may never resume it",
    ),
    "a generator of values": (
        """
        async def numbers():
            async with AsyncSession(engine) as s:
                yield 1
        """,
        "none",
        "not fixed: the block yields, and whoever gets that may never resume it",
    ),
    "a request handler": (
        """
        @router.get("/")
        async def users():
            async with AsyncSession(engine) as s:
                return await s.scalar(select(func.count(User.id)))
        """,
        "unsafe",
        "request handler",
    ),
    "a request handler of Litestar": (
        """
        from litestar import get

        @get("/")
        async def users():
            async with AsyncSession(engine) as s:
                return await s.scalar(select(func.count(User.id)))
        """,
        "unsafe",
        "request handler",
    ),
    "changed by a function defined before": (
        """
        async def job():
            def rename():
                user.name = "x"

            async with AsyncSession(engine) as s:
                user = await s.get(User, 1)
                rename()
        """,
        "unsafe",
        "may change",
    ),
    "used behind the block": (
        """
        async def job():
            async with AsyncSession(engine) as s:
                await s.commit()
            await s.commit()
        """,
        "unsafe",
        "used outside the block",
    ),
    "returned": (
        """
        async def job():
            return AsyncSession(engine)
        """,
        "none",
        "`async with`",
    ),
    "stored": (
        """
        async def job(self):
            async with AsyncSession(engine) as self.s:
                pass
        """,
        "none",
        "stored elsewhere",
    ),
    "with a transaction": (
        """
        async def job():
            async with AsyncSession(engine) as s, s.begin():
                s.add(User())
        """,
        "safe",
        "",
    ),
    "without a name": (
        """
        async def job():
            async with AsyncSession(engine):
                pass
        """,
        "safe",
        "",
    ),
    "where the name is taken": (
        """
        def get_background_session():
            pass

        async def job():
            async with AsyncSession(engine) as s:
                await s.commit()
        """,
        "none",
        "another `get_background_session`",
    ),
    "used in an `except` round it": (
        """
        async def job():
            try:
                async with AsyncSession(engine) as s:
                    user = await s.get(User, 1)
                    await send(user.name)
                    await s.commit()
            except OSError:
                logger.error("%s was not told", user.name)
                raise
        """,
        "unsafe",
        "`user` is used where an error",
    ),
    "made before it, and used in an `except` round it": (
        """
        async def job():
            user = User(name="a")
            try:
                async with AsyncSession(engine) as s:
                    s.add(user)
                    await s.commit()
            except OSError:
                print(user.name)
        """,
        "safe",
        "",
    ),
    "made before it, kept by its last commit, and used in an `except` round it": (
        """
        async def job():
            user = User(name="a")
            try:
                async with AsyncSession(engine, expire_on_commit=False) as s:
                    s.add(user)
                    await s.commit()
            except OSError:
                print(user.name)
        """,
        "safe",
        "",
    ),
    "made before it, kept by a commit, and used in an `except` round it": (
        """
        async def job():
            user = User(name="a")
            try:
                async with AsyncSession(engine, expire_on_commit=False) as s:
                    s.add(user)
                    await s.commit()
                    await s.execute(select(Order))
            except OSError:
                print(user.name)
        """,
        "unsafe",
        "`user` is used where an error",
    ),
    "made before it, and taken in again after an error": (
        """
        async def job():
            user = User(name="a")
            try:
                async with AsyncSession(engine) as s:
                    s.add(user)
                    await s.commit()
            except OSError:
                await send(user)
        """,
        "unsafe",
        "`user` is used where an error",
    ),
    "used in a `finally` round it": (
        """
        async def job():
            try:
                async with AsyncSession(engine) as s:
                    user = await s.get(User, 1)
            finally:
                print(user.name)
        """,
        "unsafe",
        "`user` is used where an error",
    ),
    "used behind an error that was suppressed": (
        """
        async def job():
            with contextlib.suppress(OSError):
                async with AsyncSession(engine) as s:
                    user = await s.get(User, 1)
            print(user.name)
        """,
        "unsafe",
        "`user` is used where an error",
    ),
    "used in the run after one that failed": (
        """
        async def job():
            user = None
            while True:
                if user:
                    print(user.name)
                try:
                    async with AsyncSession(engine) as s:
                        user = await s.get(User, 1)
                except OSError:
                    continue
        """,
        "unsafe",
        "`user` is used where an error",
    ),
    "used where no error leads to": (
        """
        async def job():
            import asyncio
            lock = asyncio.Lock()
            try:
                async with asyncio.timeout(3):
                    async with AsyncSession(engine) as s:
                        user = await s.get(User, 1)
                print(user.name)
            except OSError:
                return user is None
            else:
                print(user.name)
            return user.name
        """,
        "safe",
        "",
    ),
    "used after an error that its own transaction met": (
        """
        async def job():
            try:
                async with AsyncSession(engine) as s, s.begin():
                    user = await s.get(User, 1)
            except OSError:
                print(user)
        """,
        "safe",
        "",
    ),
    "an error with what was loaded": (
        """
        async def job():
            async with AsyncSession(engine) as s:
                user = await s.get(User, 1)
                raise LookupError(user)
        """,
        "unsafe",
        "an error carries what it loaded",
    ),
    "an error with a text": (
        """
        async def job():
            async with AsyncSession(engine) as s:
                user = await s.get(User, 1)
                raise LookupError(f"{user.name} is no more")
        """,
        "safe",
        "",
    ),
    "merged elsewhere after a commit": (
        """
        async def job():
            async with AsyncSession(engine) as s:
                user = await s.get(User, 1)
                await s.commit()
            async with get_background_session() as other:
                await other.merge(user)
        """,
        "unsafe",
        "`user` goes on to another session",
    ),
    "merged elsewhere, never committed before": (
        """
        async def job():
            async with AsyncSession(engine) as s:
                user = await s.get(User, 1)
            async with get_background_session() as other:
                await other.merge(user)
        """,
        "safe",
        "",
    ),
    "merged elsewhere after a commit that expired nothing": (
        """
        async def job():
            async with AsyncSession(engine, expire_on_commit=False) as s:
                user = await s.get(User, 1)
                await s.commit()
            async with get_background_session() as other:
                await other.merge(user)
        """,
        "safe",
        "",
    ),
    "handed on after a refresh": (
        """
        async def job():
            async with AsyncSession(engine) as s:
                user = User()
                s.add(user)
                await s.commit()
                await s.refresh(user)
            await send(user)
        """,
        "safe",
        "",
    ),
    "handed on after a refresh in another branch": (
        """
        async def job():
            async with AsyncSession(engine) as s:
                user = User()
                s.add(user)
                await s.commit()
                if user.name:
                    await s.refresh(user)
            await send(user)
        """,
        "unsafe",
        "`user` goes on to another session",
    ),
    "taken in again by the next run": (
        """
        async def job():
            user = User()
            for turn in range(3):
                async with AsyncSession(engine) as s:
                    s.add(user)
                    await s.flush()
                    user = await s.get(User, 1)
                    await s.commit()
        """,
        "unsafe",
        "`user` goes on to another session",
    ),
    "ends the transaction that its factory began": (
        """
        from app.db import background_task_session_factory

        async def job():
            async with background_task_session_factory.begin() as s:
                s.add(User())
                await s.commit()
                s.add(User())
        """,
        "unsafe",
        "fails in the transaction that is begun round it",
    ),
    "closed by hand": (
        """
        async def job():
            s = AsyncSession(engine)
            await s.close()
        """,
        "none",
        "not opened by an `async with`",
    ),
}


@pytest.mark.parametrize(("code", "level", "reason"), FORMS.values(), ids=FORMS.keys())
def test_form(code: str, level: str, reason: str, tmp_path: Path) -> None:
    got = verdict(tmp_path, HEADER + textwrap.dedent(code))
    assert got[0] == level, got
    assert reason in got[1]


BLOCK = in_block("await s.commit()")


@pytest.mark.parametrize(
    ("old", "new", "level", "reason"),
    [
        ("await session.commit()", "pass", "unsafe", "does not commit"),
        ("expire_on_commit=False", "expire_on_commit=True", "unsafe", "expire_on_commit=False"),
        ("async_sessionmaker(engine,", "async_sessionmaker(None,", "none", "could not be followed"),
        ("get_background_session", "open_session", "none", "no handler is known"),
    ],
)
def test_what_the_handler_does_counts(
    old: str, new: str, level: str, reason: str, tmp_path: Path
) -> None:
    assert old in STANDARD
    got = verdict(tmp_path, BLOCK, STANDARD.replace(old, new))
    assert got[0] == level, got
    assert reason in got[1]


HANDLER = """\
from contextlib import asynccontextmanager
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

engine = create_async_engine("postgresql+asyncpg://db")
SessionLocal = async_sessionmaker(engine, expire_on_commit=False, autoflush=False)


@asynccontextmanager
async def get_background_session():
"""
SHORTFALLS = {
    "inside begin()": (
        "async with SessionLocal.begin() as s:\n    yield s",
        "begins the transaction itself",
    ),
    "uses the session before": (
        "async with SessionLocal() as s:\n    await s.execute(X)\n    yield s\n"
        "    await s.commit()",
        "as it is",
    ),
    "commits on a condition": (
        "async with SessionLocal() as s:\n    yield s\n    if s.new:\n        await s.commit()",
        "does not commit in any case",
    ),
    "swallows": (
        "s = SessionLocal()\ntry:\n    yield s\n    await s.commit()\n"
        "except Exception:\n    await s.rollback()\nfinally:\n    await s.close()",
        "does not raise the error",
    ),
    "raises another error": (
        "s = SessionLocal()\ntry:\n    yield s\n    await s.commit()\n"
        "except Exception as e:\n    await s.rollback()\n    raise X from e\n"
        "finally:\n    await s.close()",
        "does not raise the error",
    ),
    "does more when it has rolled back": (
        "s = SessionLocal()\ntry:\n    yield s\n    await s.commit()\n"
        "except BaseException:\n    try:\n        await s.rollback()\n"
        "    finally:\n        await other.commit()\n    raise\nfinally:\n    await s.close()",
        "more on an error",
    ),
    "commits in the end": (
        "s = SessionLocal()\ntry:\n    yield s\nfinally:\n    await s.commit()\n"
        "    await s.close()",
        "more than to close",
    ),
    "commits something else": (
        "s = SessionLocal()\ntry:\n    yield s\n    await offsets.commit()\n"
        "finally:\n    await s.close()",
        "does not commit in any case",
    ),
    "yields something else": (
        "async with SessionLocal() as s:\n    yield Unit(s)\n    await s.commit()",
        "as it is",
    ),
    "waits for a lock": (
        "async with lock:\n    async with SessionLocal() as s:\n        yield s\n"
        "        await s.commit()",
        "does not open a session in a form",
    ),
    "leaves it open": (
        "s = SessionLocal()\nyield s\nawait s.commit()",
        "does not open a session in a form",
    ),
}


@pytest.mark.parametrize(("body", "reason"), SHORTFALLS.values(), ids=SHORTFALLS.keys())
def test_a_handler_that_falls_short_makes_no_fix_safe(
    body: str, reason: str, tmp_path: Path
) -> None:
    level, message = verdict(tmp_path, BLOCK, HANDLER + textwrap.indent(body, "    ") + "\n")
    assert level == "unsafe"
    assert reason in message


FULL = {
    "commits inside the with": (
        "async with SessionLocal() as s:\n    yield s\n    await s.commit()"
    ),
    "commits in else": (
        "async with SessionLocal() as s:\n    try:\n        yield s\n    except BaseException:\n"
        "        await s.rollback()\n        raise\n    else:\n        await s.commit()"
    ),
    "logs when it has rolled back": (
        "s = SessionLocal()\ntry:\n    yield s\n    await s.commit()\n"
        "except BaseException:\n    try:\n        await s.rollback()\n"
        "    finally:\n        logger.error('gone')\n    raise\nfinally:\n    await s.close()"
    ),
    "without an except": (
        "s = SessionLocal()\ntry:\n    yield s\n    await s.commit()\nfinally:\n    await s.close()"
    ),
}


@pytest.mark.parametrize("body", FULL.values(), ids=FULL.keys())
def test_a_handler_that_keeps_the_standard_in_other_words(body: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, BLOCK, HANDLER + textwrap.indent(body, "    ") + "\n")[0] == "safe"


OPTIONS = {
    "binds": ("binds={X: other}", "none", "choose the database"),
    "sync_session_class": ("sync_session_class=Routing", "none", "choose the database"),
    "autobegin": ("autobegin=False", "unsafe", "`autobegin` of their own"),
    "unpacked": ("**options", "none", "not known"),
}


@pytest.mark.parametrize(("option", "level", "reason"), OPTIONS.values(), ids=OPTIONS.keys())
def test_options_of_the_handlers_factory_count(
    option: str, level: str, reason: str, tmp_path: Path
) -> None:
    handler = STANDARD.replace("autocommit=False", f"autocommit=False, {option}")
    got = verdict(tmp_path, BLOCK, handler)
    assert got[0] == level, got
    assert reason in got[1]


OTHER_ENGINES = {
    "configured anew": """
        from app.db import background_task_session_factory as F
        F.configure(bind=other)
        async def job():
            async with AsyncSession(engine) as s:
                await s.commit()
        """,
    "changed through kw": """
        from app.db import background_task_session_factory as F
        F.kw["bind"] = other
        async def job():
            async with AsyncSession(engine) as s:
                await s.commit()
        """,
    "bound again in a loop": """
        async def job(urls):
            for url in urls:
                async with AsyncSession(engine) as s:
                    await s.commit()
                engine = make(url)
        """,
    "bound again below a method": """
        class Service:
            async def job(self):
                async with AsyncSession(engine) as s:
                    await s.commit()

        engine = make()
        """,
    "hidden by a star import": """
        from elsewhere import *
        async def job():
            async with AsyncSession(engine) as s:
                await s.commit()
        """,
    "assigned to the module": """
        from app import db
        db.engine = make()
        async def job():
            async with AsyncSession(db.engine) as s:
                await s.commit()
        """,
    "a module of the same name elsewhere": """
        from reports.db import engine
        async def job():
            async with AsyncSession(engine) as s:
                await s.commit()
        """,
    "a factory of its own kind": """
        from sqlalchemy.ext.asyncio import async_sessionmaker
        class Tenants(async_sessionmaker):
            def __call__(self, **kw):
                return super().__call__(bind=tenant(), **kw)
        async def job():
            async with Tenants(engine)() as s:  # noqa: SG101, SG102
                await s.commit()
        """,
}


@pytest.mark.parametrize("code", OTHER_ENGINES.values(), ids=OTHER_ENGINES.keys())
def test_an_engine_that_may_be_another_is_never_fixed(code: str, tmp_path: Path) -> None:
    findings = found(tmp_path, HEADER + textwrap.dedent(code))
    assert {item.code for item in findings} & {"SG101", "SG103"}
    assert all(item.fix is None for item in findings)


def test_engine_named_in_the_settings_is_the_handlers(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "db.py").write_text(STANDARD)
    project = Project(Settings(root=tmp_path, engines=("app.other.engine",)))
    code = BLOCK.replace("from app.db import engine", "from app.other import engine")
    [finding] = lint("jobs.py", tmp_path / "app" / "jobs.py", code.encode(), project, RULES)
    assert finding.fix is not None
    assert finding.fix.applicability is Applicability.SAFE
    assert any("from app.db import get_background_session" in e.text for e in finding.fix.edits)


def test_an_engine_that_is_one_of_two_is_not_proven(tmp_path: Path) -> None:
    handler = STANDARD.replace("engine = create_async_engine(", "engine = make(1) if X else make(")
    handler = handler.replace("logger =", "make = create_async_engine\nlogger =")
    assert verdict(tmp_path, BLOCK, handler)[0] == "none"


def test_sqlmodel_session_needs_a_handler_of_that_class(tmp_path: Path) -> None:
    code = BLOCK.replace(
        "sqlalchemy.ext.asyncio import AsyncSession",
        "sqlmodel.ext.asyncio.session import AsyncSession",
    )
    assert verdict(tmp_path, code)[1].endswith("the handler's sessions have")


def test_handler_of_a_subclass_serves_the_base(tmp_path: Path) -> None:
    handler = STANDARD.replace(
        "async_sessionmaker(engine,", "async_sessionmaker(engine, class_=SQLModelSession,"
    )
    handler = "from sqlmodel.ext.asyncio.session import AsyncSession as SQLModelSession\n" + handler
    assert verdict(tmp_path, BLOCK, handler)[0] == "safe"


REPORTS = """\
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

reports_engine = create_async_engine("postgresql+asyncpg://reports/db")
reports_factory = async_sessionmaker(reports_engine, expire_on_commit=False, autoflush=False)
"""
LITE = """\
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

lite = async_sessionmaker(create_async_engine("sqlite+aiosqlite://"))
"""
IN_DB = HANDLER + "    async with SessionLocal() as s:\n        yield s\n        await s.commit()\n"


def levels(tmp_path: Path, code: str, handler: str = IN_DB, users: str = "") -> list[str]:
    """Return how sure the fix of each session is that a file opens, or "none".

    `users` is another file of the project, which uses what the first one defines.
    """
    for name, text in (("reports", REPORTS), ("lite", LITE), ("users", users)):
        path = tmp_path / "app" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    (tmp_path / "app" / "db.py").write_text(handler)
    data = textwrap.dedent(code).encode()
    path = tmp_path / "app" / "jobs.py"
    path.write_bytes(data)
    findings = lint("jobs.py", path, data, Project(Settings(root=tmp_path)), RULES)
    assert {item.code for item in findings} <= {"SG101", "SG103"}, findings
    return [item.fix.applicability.value if item.fix else "none" for item in findings]


def job(opening: str, before: str = "pass") -> str:
    """Return a function that opens a session and commits."""
    return (
        f"async def job(which):\n    {before}\n"
        f"    async with {opening} as s:\n        await s.commit()\n"
    )


HEAD_OF_JOBS = """\
import os
from dataclasses import dataclass
from functools import lru_cache
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import SessionLocal, engine
from app.lite import lite
from app.reports import reports_engine, reports_factory

"""
MAY_BE_ANOTHER = {
    "chosen by a condition": job("maker()", "maker = SessionLocal if which else reports_factory"),
    "chosen by a condition, and unknown else": job(
        "maker()", "maker = SessionLocal if which else which.maker"
    ),
    "chosen from SQLite's": job("maker()", "maker = lite if which else SessionLocal"),
    "an engine chosen by a condition": job(
        "AsyncSession(bind)", "bind = engine if which else reports_engine"
    ),
    "a parameter or the handler's": job("maker()", "maker = which or SessionLocal"),
    "an engine that is a parameter or the handler's": job(
        "AsyncSession(bind)", "bind = which or engine"
    ),
    "bound in two branches": """\
if os.environ.get("DEV"):
    maker = lite
else:
    maker = SessionLocal

"""
    + job("maker()"),
    "returned by a function that chooses": """\
def pick(which):
    if which == "reports":
        return reports_factory
    return SessionLocal

"""
    + job("pick(which)()"),
    "returned by a function that chooses, the handler's first": """\
def pick(which):
    if which == "main":
        return SessionLocal
    return reports_factory

"""
    + job("pick(which)()"),
    "returned by a function that asks another object": """\
def pick(which):
    if which is None:
        return SessionLocal
    return which.factory()

"""
    + job("pick(which)()"),
    "a parameter that stands in for None": """\
        async def job(maker=None):
            maker = maker or SessionLocal
            async with maker() as s:
                await s.commit()
        """,
    "a parameter that is replaced where it is None": """\
        async def job(maker=None):
            if maker is None:
                maker = SessionLocal
            async with maker() as s:
                await s.commit()
        """,
    "an attribute from a parameter or the handler's": """\
        class Service:
            def __init__(self, maker=None):
                self.maker = maker or SessionLocal

            async def run(self):
                async with self.maker() as s:
                    await s.commit()
        """,
    "an engine from a parameter or the handler's": """\
        class Unit:
            def __init__(self, bind=None):
                self.bind = bind or engine

            async def run(self):
                async with AsyncSession(self.bind) as s:
                    await s.commit()
        """,
    "an engine from a parameter's default": """\
        async def job(bind=engine):
            async with AsyncSession(bind) as s:
                await s.commit()
        """,
    "an item of a dictionary": job("makers[which]()", 'makers = {"a": SessionLocal, "b": which}'),
    "a global that a function sets anew": """\
maker = SessionLocal

def use_reports():
    global maker
    maker = reports_factory

"""
    + job("maker()"),
}


@pytest.mark.parametrize("code", MAY_BE_ANOTHER.values(), ids=MAY_BE_ANOTHER.keys())
def test_a_maker_that_may_be_another_is_never_fixed(code: str, tmp_path: Path) -> None:
    assert levels(tmp_path, HEAD_OF_JOBS + textwrap.dedent(code)) == ["none"]


SEAMS = {
    "a parameter's default": """\
        async def job(maker=SessionLocal):
            async with maker() as s:
                await s.commit()
        """,
    "an attribute from a parameter's default": """\
        class Service:
            def __init__(self, maker=SessionLocal):
                self.maker = maker

            async def run(self):
                async with self.maker() as s:
                    await s.commit()
        """,
}


@pytest.mark.parametrize("code", SEAMS.values(), ids=SEAMS.keys())
def test_a_factory_that_is_handed_in_is_no_finding(code: str, tmp_path: Path) -> None:
    assert levels(tmp_path, HEAD_OF_JOBS + textwrap.dedent(code)) == []


OWN_FACTORY = """
class Service:
    def __init__(self):
        self.own_factory = None

    def connect(self):
        self.own_factory = SessionLocal

    async def run(self):
        async with self.own_factory() as s:
            await s.commit()
"""
OWN_TRANSACTION = OWN_FACTORY.replace("own_factory()", "own_factory.begin()").replace(
    "commit", "flush"
)
OWN_ENGINE = """
class Service:
    def __init__(self):
        self.own_engine = engine

    async def run(self):
        async with AsyncSession(self.own_engine) as s:
            await s.commit()
"""
CLASS_FACTORY = """
class Base:
    session_factory = SessionLocal

    async def run(self):
        async with self.session_factory() as s:
            await s.commit()
"""
SET_ONCE = {
    "a factory": OWN_FACTORY,
    "a factory's transaction": OWN_TRANSACTION,
    "an engine": OWN_ENGINE,
    "a factory of the class": CLASS_FACTORY,
}
NO_USE = """\
from app.jobs import Base, Service

class Other:
    def __init__(self, engine, own_factory=None, session_factory=None):
        self.engine, self.factory = engine, session_factory

def job(own_engine=None):
    own_factory = Other(engine=own_engine, session_factory=None)
    return own_factory.factory(Service().own_factory, Base.session_factory)
"""


@pytest.mark.parametrize("code", SET_ONCE.values(), ids=SET_ONCE.keys())
def test_an_attribute_that_is_set_once_is_fixed(code: str, tmp_path: Path) -> None:
    assert levels(tmp_path, HEAD_OF_JOBS + code, users=NO_USE) == ["safe"]


SET_ELSEWHERE = {
    "on an object": (OWN_FACTORY, "service.own_factory = reports_factory"),
    "on an object, with others": (OWN_FACTORY, "service.own_factory, x = reports_factory, 1"),
    "on an object, by a loop": (OWN_FACTORY, "for service.own_factory in []:\n    pass"),
    "on an object, by its name": (OWN_FACTORY, "setattr(service, 'own_factory', reports_factory)"),
    "on an object, and begun": (OWN_TRANSACTION, "service.own_factory = reports_factory"),
    "an engine, on an object": (OWN_ENGINE, "service.own_engine = reports_engine"),
    "an engine, in a subclass": (
        OWN_ENGINE,
        "class Reports(Service):\n    def __init__(self):\n"
        "        self.own_engine = reports_engine",
    ),
    "in a subclass": (CLASS_FACTORY, "class R(Base):\n    session_factory = reports_factory"),
    "in a subclass, with its type": (
        CLASS_FACTORY,
        "class R(Base):\n    session_factory: object = reports_factory",
    ),
    "in a subclass, by a property": (
        CLASS_FACTORY,
        "class R(Base):\n    @property\n    def session_factory(self):\n"
        "        return reports_factory",
    ),
    "in a class that is made by a call": (
        CLASS_FACTORY,
        "R = type('R', (Base,), {'session_factory': reports_factory})",
    ),
}


@pytest.mark.parametrize(("code", "users"), SET_ELSEWHERE.values(), ids=SET_ELSEWHERE.keys())
def test_an_attribute_that_another_file_sets_is_never_fixed(
    code: str, users: str, tmp_path: Path
) -> None:
    users = f"from app.jobs import *\nservice = Service()\n{users}\n"
    assert levels(tmp_path, HEAD_OF_JOBS + code, users=users) == ["none"]


LOOKED_UP = {
    "a static method": ("self.opens()", "safe"),
    "the base's": ("super().maker()", "safe"),
    "the base's, begun": ("super().maker.begin()", "safe"),
    "the class's": ("type(self).maker()", "safe"),
    "under a name": ("own()", "safe"),
    # What is in quotes may be set by its name.
    "of its own, by its name": ('getattr(self, "maker")()', "none"),
    "of a module, by its name": ('getattr(db, "SessionLocal")()', "none"),
    "of a module, by its name, with a default": ('getattr(db, "SessionLocal", None)()', "none"),
}
LOOKING_UP = """
from app import db

class Base:
    maker = SessionLocal

class Jobs(Base):
    opens = staticmethod(SessionLocal)

    async def run(self):
        own = super().maker
        async with {} as s:
            await s.flush()
"""


@pytest.mark.parametrize(("opening", "level"), LOOKED_UP.values(), ids=LOOKED_UP.keys())
def test_a_factory_is_found_by_whatever_way_it_is_looked_up(
    opening: str, level: str, tmp_path: Path
) -> None:
    text = HEAD_OF_JOBS + LOOKING_UP.format(opening)
    text = text if "begin" in opening else text.replace("flush()", "commit()")
    assert levels(tmp_path, text) == [level]
    users = "from app.jobs import Jobs\nJobs.maker = Jobs.opens = reports_factory\n"
    assert levels(tmp_path, text, users=users) == ["none"]


SETS_WHEN_READ = {
    "adds": ("property", "self.hits += 1"),
    "assigns": ("property", "if self.hits is None:\n            self.hits = 1"),
    "of an object of its own": ("property", "self.owner.hits = 1"),
    "appends": ("property", "self.tags.append(1)"),
    "puts in": ("property", "self.data['seen'] = 1"),
    "by name": ("property", "setattr(self, 'hits', 1)"),
    "by a method": ("property", "self.touch()"),
    "by two methods": ("property", "self.touch_twice()"),
    "a hybrid": ("hybrid_property", "self.hits += 1"),
    "a hybrid by its module": ("hybrid.hybrid_property", "self.hits += 1"),
    "by a function": ("property", "bump(self)"),
    "by a function's function": ("property", "print(bump_once(self))"),
    "by a function of elsewhere": ("property", "flag_modified(self, 'hits')"),
    "another object": ("property", "owner = self.owner\n        owner.hits += 1"),
    "an item": ("property", "tag = self.tags[0]\n        tag.name += '!'"),
    "all items": ("property", "[setattr(tag, 'name', 1) for tag in self.tags]"),
    "items by a method": ("property", "for tag in self.tags:\n            tag.touch()"),
    "by its own method": ("property", "self.__setattr__('hits', 1)"),
    "by an inner function": ("property", "def f():\n            self.hits += 1\n        f()"),
    "by another property": ("property", "print(self.bumped)"),
    "by a decorator of the project": ("lazy", "self.hits += 1"),
    "by a text": ("property", "print(f'{bump(self)}')"),
}
DESCRIBED = {
    "a call of property": "seen = property(bump)",
    "an object": "seen = Seen()",
}
ONLY_READS = {
    "a property": ("property", "hits = self.hits"),
    "a name of its own": ("property", "tags = [1]\n        tags.append(self.hits)"),
    "a method that reads": ("property", "self.count()"),
    "builtins": ("property", "print(isinstance(self, Row), len(self.tags), repr(self))"),
    "a function that reads": ("property", "print(shown(self.hits), dumps(self.hits))"),
    "a dictionary of its own": ("property", "found = {}\n        found[1] = self.hits"),
}
ROW = """
def bump(row):
    row.hits += 1
    return row.hits

def bump_once(row):
    return bump(row)

def shown(value):
    texts = []
    texts.append(value)
    return texts

class Seen:
    def __get__(self, row, owner):
        row.hits += 1
        return row.hits

class lazy:
    def __init__(self, function):
        self.function = function

    def __get__(self, row, owner):
        return self.function(row)

class Row:
    hits = 0

    @property
    def bumped(self):
        self.hits += 1

    @{}
    def seen(self):
        {}
        return self.hits

    @seen.setter
    def seen(self, value):
        self.hits = value

    def touch(self):
        self.hits += 1

    def touch_twice(self):
        return self.touch(), self.touch()

    def count(self):
        return self.hits + 1
"""


@pytest.mark.parametrize(
    "use",
    [
        "return row.seen",
        "return f'{row.seen}'",
        "return (await s.get(Row, 2)).seen",
        "return sorted([row], key=lambda of: of.seen)",
        "return [other.seen for other in (await s.scalars(select(Row))).all()]",
    ],
)
def test_a_property_that_sets_something_is_a_write(use: str, tmp_path: Path) -> None:
    code = f"""\
        async def job():
            async with AsyncSession(engine) as s:
                row = await s.get(Row, 1)
                {use}
        """
    imports = "from sqlalchemy import select\nfrom app.users import Row\n"
    head = HEAD_OF_JOBS + imports + textwrap.dedent(code)
    for decorator, body in SETS_WHEN_READ.values():
        assert levels(tmp_path, head, users=ROW.format(decorator, body)) == ["unsafe"], body
    for described in DESCRIBED.values():
        other = ROW.format("property", "pass").replace("hits = 0", f"hits = 0\n    {described}")
        other = other.replace("def seen(self", "def looked(self").replace("@seen.", "@looked.")
        assert levels(tmp_path, head, users=other) == ["unsafe"], described
    for decorator, body in ONLY_READS.values():
        assert levels(tmp_path, head, users=ROW.format(decorator, body)) == ["safe"], body


SETS_BY_NAME = {
    "setattr": "for name, value in options.items():\n            setattr(self, name, value)",
    "its dictionary": "self.__dict__.update(options)",
    "its dictionary, by keys": "for n in options:\n            self.__dict__[n] = options[n]",
    "its dictionary itself": "self.__dict__ = options",
    "its variables": "vars(self).update(options)",
    "its variables, unpacked": "vars(self).update(**options)",
    "object's own": "for pair in options.items():\n            object.__setattr__(self, *pair)",
    "object's own, by name": "for n in options:\n            object.__setattr__(self, n, 1)",
    "the base's own": "for n in options:\n            super().__setattr__(n, options[n])",
}


@pytest.mark.parametrize("sets", SETS_BY_NAME.values(), ids=SETS_BY_NAME.keys())
def test_an_attribute_of_objects_that_are_given_any_is_never_fixed(
    sets: str, tmp_path: Path
) -> None:
    method = f"    def __init__(self, **options):\n        {sets}\n\n"
    own = CLASS_FACTORY.replace("    async def run", f"{method}    async def run")
    assert levels(tmp_path, HEAD_OF_JOBS + own) == ["none"]
    subclass = f"from app.jobs import Base\n\nclass Reports(Base):\n{method}"
    assert levels(tmp_path, HEAD_OF_JOBS + CLASS_FACTORY, users=subclass) == ["none"]
    base = CLASS_FACTORY.replace("class Base:", "from app.users import Any\n\nclass Base(Any):")
    assert levels(tmp_path, HEAD_OF_JOBS + base, users=f"class Any:\n{method}") == ["none"]


@pytest.mark.parametrize(
    "users",
    [
        # Rows are updated so, and other objects.
        "def update(row, values):\n    for n in values:\n        setattr(row, n, values[n])",
        "class Other:\n    def __init__(self, **options):\n        self.__dict__.update(options)",
        "def run(loader):\n    vars(loader).update(a=1)",
    ],
)
def test_an_attribute_of_other_objects_is_no_matter(users: str, tmp_path: Path) -> None:
    assert levels(tmp_path, HEAD_OF_JOBS + CLASS_FACTORY, users=users) == ["safe"]


@pytest.mark.parametrize(
    "sets",
    [
        'sys.modules["app.db"].engine = other',
        'importlib.import_module("app.db").engine = other',
        'module = importlib.import_module("app.db")\nmodule.engine = other',
        'module = sys.modules["app.db"]\nmodule.engine = other',
        'module = __import__("app").db\nmodule.engine = other',
        'package = importlib.import_module("app")\npackage.db.engine = other',
        "def boot():\n    from app import db\n    db.engine = other",
        'setattr(importlib.import_module("app.db"), "engine", other)',
        "setattr(\n    app.db,\n    'engine',\n    other,\n)",
        "vars(app.db).update(engine=other)",
        "app.db.__dict__.update({'engine': other})",
        "def boot(overrides):\n    for name in overrides:\n        setattr(app.db, name, other)",
    ],
)
def test_an_engine_that_is_set_in_its_module_is_never_fixed(sets: str, tmp_path: Path) -> None:
    users = f"import importlib\nimport sys\nimport app.db\nfrom app.reports import other\n{sets}\n"
    assert levels(tmp_path, HEAD_OF_JOBS + job("AsyncSession(engine)"), users=users) == ["none"]


@pytest.mark.parametrize(
    "sets",
    [
        "import app.reports\nfor name in {}:\n    setattr(app.reports, name, 1)",
        "from app.db import AsyncSession\nfor name in {}:\n    setattr(AsyncSession, name, 1)",
        "import app.reports\nvars(app.reports).update(maker=1)",
    ],
)
def test_what_is_set_in_other_modules_is_no_matter(sets: str, tmp_path: Path) -> None:
    assert levels(tmp_path, HEAD_OF_JOBS + job("AsyncSession(engine)"), users=sets) == ["safe"]


ANNOTATED_FACTORY = CLASS_FACTORY.replace("factory =", "factory: Callable[[], AsyncSession] =")


@pytest.mark.parametrize(
    ("head", "behind"),
    [
        ("@dataclass\nclass Base", ""),
        ("class Base(BaseModel)", ""),
        ("class Base(metaclass=Fields)", ""),
        ("@dataclass_transform()\nclass Fields:\n    pass\n\nclass Base(Fields)", ""),
        ("class Base", "from pydantic import BaseModel\nclass Deps(Base, BaseModel):\n    pass\n"),
    ],
)
def test_the_field_of_a_dataclass_is_never_fixed(head: str, behind: str, tmp_path: Path) -> None:
    """`Deps(reports_factory)` in any file gives an object another."""
    code = ANNOTATED_FACTORY.replace("class Base", head) + behind
    assert levels(tmp_path, HEAD_OF_JOBS + code) == ["none"]


@pytest.mark.parametrize(
    "head",
    [
        "class Base",
        "class Base(object)",
        "class Root(ABC):\n    pass\n\nclass Base(Root)",
    ],
)
def test_an_annotated_attribute_of_a_plain_class_is_no_field(head: str, tmp_path: Path) -> None:
    code = HEAD_OF_JOBS + "from abc import ABC\nfrom collections.abc import Callable\n"
    code += ANNOTATED_FACTORY.replace("class Base", head)
    assert levels(tmp_path, code) == ["safe"]
    again = "from app.jobs import Base\n\ndef boot(job, other):\n    job.session_factory = other\n"
    assert levels(tmp_path, code, users=again) == ["none"]


OPENS = """\


@asynccontextmanager
async def get_background_session():
    async with {}() as s:
        yield s
        await s.commit()
"""
IMPORTS_OF_DB = """\
import os
from contextlib import asynccontextmanager
from functools import lru_cache
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

"""
OPTIONS_OF_DB = "expire_on_commit=False, autoflush=False"
HELPER = f"""\
def make_engine(url):
    return create_async_engine(url)

engine = make_engine(os.environ["DATABASE_URL"])
analytics = make_engine(os.environ["ANALYTICS_URL"])
factory = async_sessionmaker(engine, {OPTIONS_OF_DB})
"""
OBJECTS = f"""\
class Database:
    def __init__(self, url):
        self.engine = create_async_engine(url)
        self.factory = async_sessionmaker(self.engine, {OPTIONS_OF_DB})

main = Database(os.environ["DATABASE_URL"])
analytics = Database(os.environ["ANALYTICS_URL"])
"""
CACHED = f"""\
@lru_cache
def get_engine(name="main"):
    return create_async_engine(os.environ[name])

@lru_cache
def get_factory(name="main"):
    return async_sessionmaker(get_engine(name), {OPTIONS_OF_DB})
"""
PLAIN = f"""\
def get_engine():
    return create_async_engine(os.environ["DATABASE_URL"])

engine = get_engine()
factory = async_sessionmaker(engine, {OPTIONS_OF_DB})
analytics = create_async_engine(os.environ["ANALYTICS_URL"])
"""
CONSTANTS = f"""\
def make_engine(name, echo=False):
    return create_async_engine(os.environ[name], echo=echo)

@lru_cache
def get_factory(name):
    return async_sessionmaker(make_engine(name), {OPTIONS_OF_DB})
"""
# The module of the handler, what its context manager opens, how a job opens, how sure the fix is.
SHARED_HELPERS = {
    "one function made both, the handler's": (HELPER, "factory", "AsyncSession(db.engine)", "safe"),
    "one function made both, the other": (HELPER, "factory", "AsyncSession(db.analytics)", "none"),
    "one function makes both, called here": (
        HELPER,
        "factory",
        'AsyncSession(db.make_engine("x"))',
        "none",
    ),
    "one class made both, the handler's": (OBJECTS, "main.factory", "db.main.factory()", "safe"),
    "one class made both, the handler's engine": (
        OBJECTS,
        "main.factory",
        "AsyncSession(db.main.engine)",
        "safe",
    ),
    "one class made both, the other": (OBJECTS, "main.factory", "db.analytics.factory()", "none"),
    "one class made both, the other's engine": (
        OBJECTS,
        "main.factory",
        "AsyncSession(db.analytics.engine)",
        "none",
    ),
    "one class made both, made anew": (
        OBJECTS,
        "main.factory",
        "db.Database(which).factory()",
        "none",
    ),
    "a cached function, without arguments": (
        CACHED,
        "get_factory()",
        "db.get_factory()()",
        "safe",
    ),
    "a cached function, with another argument": (
        CACHED,
        "get_factory()",
        'db.get_factory("analytics")()',
        "none",
    ),
    "a cached function, with an unknown argument": (
        CACHED,
        "get_factory()",
        "db.get_factory(which)()",
        "none",
    ),
    "a cached engine, with another argument": (
        CACHED,
        "get_factory()",
        'AsyncSession(db.get_engine("analytics"))',
        "none",
    ),
    "the same constant": (CONSTANTS, 'get_factory("A")', 'db.get_factory("A")()', "safe"),
    "the same constant by keyword": (
        CONSTANTS,
        'get_factory(name="A")',
        'db.get_factory(name="A")()',
        "safe",
    ),
    "another constant": (CONSTANTS, 'get_factory("A")', 'db.get_factory("B")()', "none"),
    "the same constant for another function": (
        CONSTANTS,
        'get_factory("A")',
        'AsyncSession(db.make_engine("A"))',
        "none",
    ),
    "one without arguments made the handler's": (
        PLAIN,
        "factory",
        "AsyncSession(db.engine)",
        "safe",
    ),
    "by the handler's factory": (PLAIN, "factory", "db.factory()", "safe"),
    "an engine beside it": (PLAIN, "factory", "AsyncSession(db.analytics)", "none"),
}


@pytest.mark.parametrize(
    ("database", "opened", "opening", "level"), SHARED_HELPERS.values(), ids=SHARED_HELPERS.keys()
)
def test_what_made_the_handlers_engine_may_have_made_another(
    database: str, opened: str, opening: str, level: str, tmp_path: Path
) -> None:
    handler = IMPORTS_OF_DB + database + OPENS.format(opened)
    code = "from sqlalchemy.ext.asyncio import AsyncSession\nfrom app import db\n\n" + job(opening)
    assert levels(tmp_path, code, handler) == [level]


CERTAIN = {
    "a name of the handler's module": job("SessionLocal()"),
    "its engine": job("AsyncSession(engine)"),
    "another name for it": job("maker()", "maker = SessionLocal"),
    "two names that are both it": job("maker()", "maker = SessionLocal if which else SessionLocal"),
    "a function that returns it": """\
def get_maker():
    return SessionLocal

"""
    + job("get_maker()()"),
    "a cached function that returns it": """\
@lru_cache
def get_maker():
    return SessionLocal

"""
    + job("get_maker()()"),
    "an attribute that is set once": """\
        class Service:
            def __init__(self):
                self.only_factory = SessionLocal

            async def run(self):
                async with self.only_factory() as s:
                    await s.commit()
        """,
    "a lazily set global": """\
maker = None

def setup():
    global maker
    maker = SessionLocal

"""
    + job("maker()"),
}


@pytest.mark.parametrize("code", CERTAIN.values(), ids=CERTAIN.keys())
def test_what_is_the_handlers_for_certain_is_fixed(code: str, tmp_path: Path) -> None:
    assert levels(tmp_path, HEAD_OF_JOBS + textwrap.dedent(code)) == ["safe"]
