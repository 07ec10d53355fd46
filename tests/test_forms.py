"""Sessions that are closed by hand or by an exit stack: before and after the fix, to the letter."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from session_guard.config import Settings
from session_guard.fixer import fix
from session_guard.linter import lint
from session_guard.project.project import Project
from session_guard.registry import load_rules
from session_guard.rule import Applicability, Finding
from session_guard.runner import Options, Run

if TYPE_CHECKING:
    from collections.abc import Callable

RULES = tuple(rule for rule in load_rules() if rule.code in ("SG101", "SG103"))
STANDARD = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()
BEFORE = """\
import contextlib
import logging
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import engine
from app.models import User

"""
AFTER = """\
import contextlib
import logging
from sqlalchemy import select
from app.db import get_background_session
from app.models import User

"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "db.py").write_text(STANDARD)
    return Project(Settings(root=tmp_path))


def found(project: Project, code: str) -> list[Finding]:
    path = project.settings.root / "app" / "jobs.py"
    return lint("jobs.py", path, (BEFORE + textwrap.dedent(code)).encode(), project, RULES)


def fixed(project: Project, data: bytes, *, unsafe: bool = False) -> bytes:
    path = project.settings.root / "app" / "jobs.py"
    return fix("jobs.py", path, data, project, RULES, unsafe=unsafe).data


CLOSED_BY_HAND = {
    "a transaction of several statements right behind": (
        """
        async def job(names):
            session = AsyncSession(engine)

            async with session.begin():
                # the first
                session.add(User(name="first"))
                session.add(
                    User(name=\"\"\"a
          b\"\"\")
                )
            await session.close()
            other = AsyncSession(engine)
            async with other.begin_nested(): other.add(User(name=names))
            await other.commit()
            await other.close()
        """,
        """
        async def job(names):
            async with get_background_session() as session:
                async with session.begin():
                    # the first
                    session.add(User(name="first"))
                    session.add(
                        User(name=\"\"\"a
          b\"\"\")
                    )
            async with get_background_session() as other:
                async with other.begin_nested(): other.add(User(name=names))
        """,
    ),
    "with a class of its own": (
        """\
        async def job():
            s = AsyncSession(engine)
            class Row(dict):
                x: int = 1

            @staticmethod
            def row(*, a=1):
                try:
                    return Row()
                except ValueError as error:
                    return error
            await s.execute(select(1))
            await s.close()
        """,
        """\
        async def job():
            async with get_background_session() as s:
                class Row(dict):
                    x: int = 1

                @staticmethod
                def row(*, a=1):
                    try:
                        return Row()
                    except ValueError as error:
                        return error
                await s.execute(select(1))
        """,
    ),
    "opened in the try": (
        """
        async def job(name):
            try:
                session = AsyncSession(engine)
                session.add(User(name=name))
                await session.commit()
            finally:
                await session.close()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                session.add(User(name=name))
        """,
    ),
    "opened in the try, and rolled back": (
        """
        async def job(name):
            # its own
            try:
                # a session
                session = AsyncSession(engine)

                session.add(User(name=name))
                await session.commit()
            except Exception:
                await session.rollback()
                raise
            finally:
                await session.close()
        """,
        """
        async def job(name):
            # its own
            # a session
            async with get_background_session() as session:
                session.add(User(name=name))
        """,
    ),
    "opened in the try, whose except stays": (
        """
        async def job(name):
            try:
                session = AsyncSession(engine)
                session.add(User(name=name))
                await session.commit()
            except Exception:
                logging.exception("failed")
                raise
            finally:
                await session.close()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                try:
                    session.add(User(name=name))
                    await session.commit()
                except Exception:
                    logging.exception("failed")
                    raise
        """,
    ),
    "bound to None first": (
        """
        async def job(name):
            session = None
            try:
                session = AsyncSession(engine)
                session.add(User(name=name))
                await session.commit()
            finally:
                if session is not None:
                    await session.close()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                session.add(User(name=name))
        """,
    ),
    "bound to None first, with a type": (
        """
        async def job(name):
            session: AsyncSession | None = None

            try:
                session = AsyncSession(engine)
                session.add(User(name=name))
                await session.commit()
            finally:
                if session:
                    await session.close()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                session.add(User(name=name))
        """,
    ),
    "closed where it is bound": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try:
                session.add(User(name=name))
                await session.commit()
            finally:
                if session:
                    await session.close()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                session.add(User(name=name))
        """,
    ),
    "entered by its name": (
        """
        async def job(name):
            # its own
            session = AsyncSession(engine)

            # closed in the end
            async with session:
                session.add(User(name=name))
                await session.commit()
        """,
        """
        async def job(name):
            # its own
            # closed in the end
            async with get_background_session() as session:
                session.add(User(name=name))
                await session.commit()
        """,
    ),
    "entered by its name, further down": (
        """
        async def job(name):
            session = AsyncSession(engine)
            user = User(name=name)

            async with (
                session,
                session.begin(),
            ):
                session.add(user)
        """,
        """
        async def job(name):
            user = User(name=name)

            async with (
                get_background_session() as session,
                session.begin(),
            ):
                session.add(user)
        """,
    ),
    "entered as another name": (
        """
        async def job(name):
            opened = AsyncSession(engine)
            async with opened as session:
                session.add(User(name=name))
                await session.commit()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                session.add(User(name=name))
                await session.commit()
        """,
    ),
    "closed by aclosing": (
        """
        async def job(name):
            async with contextlib.aclosing(AsyncSession(engine)) as session:
                session.add(User(name=name))
                await session.commit()
            return contextlib
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                session.add(User(name=name))
                await session.commit()
            return contextlib
        """,
    ),
    "closed by aclosing, by its name": (
        """
        async def job(name):
            session = AsyncSession(engine)
            async with contextlib.aclosing(session):
                session.add(User(name=name))
                await session.commit()
            return contextlib
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                session.add(User(name=name))
                await session.commit()
            return contextlib
        """,
    ),
    "with a finally": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try:
                session.add(User(name=name))
                await session.commit()
                return name
            finally:
                await session.close()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                session.add(User(name=name))
                await session.commit()
                return name
        """,
    ),
    "a last commit goes": (
        """
        async def job(name: str):
            session = AsyncSession(engine)
            try:
                session.add(User(name=name))

                await session.commit()
            finally:
                await session.close()

            print(name)
        """,
        """
        async def job(name: str):
            async with get_background_session() as session:
                session.add(User(name=name))

            print(name)
        """,
    ),
    "a last commit with a comment stays": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try:
                session.add(User(name=name))
                await session.commit()  # all or nothing
            finally:
                await session.close()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                session.add(User(name=name))
                await session.commit()  # all or nothing
        """,
    ),
    "a last commit above a comment stays": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try:
                session.add(User(name=name))
                await session.commit()
                # stored
            finally:
                await session.close()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                session.add(User(name=name))
                await session.commit()
                # stored
        """,
    ),
    "a commit alone stays": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try:
                await session.commit()
            finally:
                await session.close()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                await session.commit()
        """,
    ),
    "an except that rolls back and raises goes": (
        """
        async def job(name):
            session: AsyncSession = AsyncSession(engine)
            try:
                session.add(User(name=name))
                await session.commit()
            except ValueError as error:
                await session.rollback()
                raise error
            except Exception:
                await session.rollback()
                raise
            finally:
                await session.close()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                session.add(User(name=name))
        """,
    ),
    "an except that does more stays, with the commit whose error it sees": (
        '''
        async def job(name: str):
            session = AsyncSession(engine)
            try:
                session.add(User(name=name, text=f"""
          {name} and
            more
        """))
                total = (name +
          name)
                # all of it
                await session.commit()
            except Exception as e:
                logging.error("not stored: %s", e)  # for the record
                await session.rollback()
                raise
            else:
                logging.info("stored")
            finally:
                await session.close()
            return total
        ''',
        '''
        async def job(name: str):
            async with get_background_session() as session:
                try:
                    session.add(User(name=name, text=f"""
          {name} and
            more
        """))
                    total = (name +
          name)
                    # all of it
                    await session.commit()
                except Exception as e:
                    logging.error("not stored: %s", e)  # for the record
                    await session.rollback()
                    raise
                else:
                    logging.info("stored")
            return total
        ''',
    ),
    "an except with a comment stays": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try:
                session.add(User(name=name))
                await session.commit()
            except Exception:
                # the lock goes with it
                await session.rollback()
                raise
            finally:
                await session.close()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                try:
                    session.add(User(name=name))
                    await session.commit()
                except Exception:
                    # the lock goes with it
                    await session.rollback()
                    raise
        """,
    ),
    "an else follows the body": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try:
                session.add(User(name=name))
                # then
            except Exception:
                await session.rollback()
                raise
            else:

                logging.info("stored")

                await session.commit()
            finally:
                await session.close()
        """,
        None,  # the comment would stand beside something else
    ),
    "an else without comments follows the body": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try:
                session.add(User(name=name))
            except Exception:
                await session.rollback()
                raise
            else:
                logging.info("stored")

                await session.commit()
            finally:
                await session.close()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                session.add(User(name=name))
                logging.info("stored")
        """,
    ),
    "bodies on one line": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try: print(name); await session.commit()
            finally: await session.close()
        """,
        """
        async def job(name):
            async with get_background_session() as session: print(name); await session.commit()
        """,
    ),
    "bodies on one line, with more of them": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try: session.add(User(name=name))
            except Exception: await session.rollback(); raise
            else: await session.commit()
            finally: await session.close()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                session.add(User(name=name))
        """,
    ),
    "comments and blank lines stay where they are": (
        """
        async def job(name: str):
            # its own session
            session = AsyncSession(engine)

            # may fail
            try:  # here

                # the user
                session.add(
                    User(  # a user
                        name=name,
                    ),
                )
                await session.commit()
                logging.info("stored")
                # done

            finally:
                await session.close()
            # and then
            print(name)
        """,
        """
        async def job(name: str):
            # its own session
            # may fail
            async with get_background_session() as session:  # here

                # the user
                session.add(
                    User(  # a user
                        name=name,
                    ),
                )
                await session.commit()
                logging.info("stored")
                # done
            # and then
            print(name)
        """,
    ),
    "statements before the try": (
        """
        async def job(name):
            session = AsyncSession(engine)

            # the user
            user = User(
                name=name,
            )

            try:
                session.add(user)
                await session.commit()
            finally:
                await session.close()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                # the user
                user = User(
                    name=name,
                )
                session.add(user)
        """,
    ),
    "without a try": (
        '''
        async def job(names):
            session = AsyncSession(engine)
            for name in names:
                # each
                session.add(User(name=name, text="""
        as it is
            """))

            await session.commit()
            await session.close()
            return names
        ''',
        '''
        async def job(names):
            async with get_background_session() as session:
                for name in names:
                    # each
                    session.add(User(name=name, text="""
        as it is
            """))
            return names
        ''',
    ),
    "without a try, and its error leaves it open": (
        """
        async def job(name):
            session = AsyncSession(engine)
            found = await session.scalars(select(User))
            if not found:
                return None
            await session.close()
            return found.all()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                found = await session.scalars(select(User))
                if not found:
                    return None
            return found.all()
        """,
    ),
    "in a block of its own": (
        """
        async def job(names):
            for name in names:
                if name:
                    session = AsyncSession(engine)
                    try:
                        print(await session.get(User, name))
                    finally:
                        await session.aclose()
                else:
                    break
        """,
        """
        async def job(names):
            for name in names:
                if name:
                    async with get_background_session() as session:
                        print(await session.get(User, name))
                else:
                    break
        """,
    ),
    "one in the other": (
        """
        async def job(name):
            one = AsyncSession(engine)
            try:
                two = AsyncSession(engine)
                try:
                    print(await two.scalar(select(User.id)))
                except OSError:
                    logging.info("no")
                    raise
                finally:
                    await two.close()
                print(await one.scalar(select(User.id)))
            except OSError:
                logging.info("no")
                raise
            finally:
                await one.close()
        """,
        """
        async def job(name):
            async with get_background_session() as one:
                try:
                    async with get_background_session() as two:
                        try:
                            print(await two.scalar(select(User.id)))
                        except OSError:
                            logging.info("no")
                            raise
                    print(await one.scalar(select(User.id)))
                except OSError:
                    logging.info("no")
                    raise
        """,
    ),
    "the name once more behind it": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try:
                print(await session.get(User, 1))
            finally:
                await session.close()
            session = AsyncSession(engine)
            try:
                print(await session.get(User, 2))
            finally:
                await session.close()
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                print(await session.get(User, 1))
            async with get_background_session() as session:
                print(await session.get(User, 2))
        """,
    ),
    "what it loaded is used in an except of its own": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try:
                user = await session.get(User, name)
                await session.execute(select(User.id))
            except OSError:
                logging.info("no: %s", user.name)
                raise
            finally:
                await session.close()
            return user
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                try:
                    user = await session.get(User, name)
                    await session.execute(select(User.id))
                except OSError:
                    logging.info("no: %s", user.name)
                    raise
            return user
        """,
    ),
    "a line under a continuation": (
        """
        async def job(name):
            session = AsyncSession(engine)
            found = \\
              await session.get(User, name)
        # not yet
            text = "a\\
            b"
            await session.close()
            return found, text
        """,
        """
        async def job(name):
            async with get_background_session() as session:
                found = \\
              await session.get(User, name)
        # not yet
                text = "a\\
            b"
            return found, text
        """,
    ),
}


@pytest.mark.parametrize(("before", "after"), CLOSED_BY_HAND.values(), ids=CLOSED_BY_HAND.keys())
def test_closed_by_hand(before: str, after: str | None, project: Project) -> None:
    before = textwrap.dedent(before)
    data = (BEFORE + before).encode()
    expected = BEFORE + before if after is None else AFTER + textwrap.dedent(after)
    once = fixed(project, data)
    assert once.decode() == expected
    assert fixed(project, once) == once


def test_an_import_is_not_added_to_a_block_while_that_is_indented(project: Project) -> None:
    (project.settings.root / "app" / "core.py").write_text("from app.db import engine\n")
    before = """\
async def job(name):
    session = AsyncSession(engine)
    try:
        from app.core import engine as core
        async with AsyncSession(core) as other:
            print(await other.get(User, name))
    except OSError:
        logging.info("no")
        raise
    finally:
        await session.close()
"""
    after = """\
async def job(name):
    async with get_background_session() as session:
        try:
            async with get_background_session() as other:
                print(await other.get(User, name))
        except OSError:
            logging.info("no")
            raise
"""
    assert fixed(project, (BEFORE + before).encode()).decode() == AFTER + after


LAYOUTS: dict[str, Callable[[str], bytes]] = {
    "utf-8": lambda text: text.encode(),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "latin-1": lambda text: b"# coding: latin-1\n" + text.encode("latin-1"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "no newline at the end": lambda text: text.rstrip("\n").encode(),
    "tabs": lambda text: text.replace("    ", "\t").encode(),
    "two spaces": lambda text: text.replace("    ", "  ").encode(),
    "mixed line ends": lambda text: text.encode().replace(b'"""\n', b'"""\r\n'),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("is_kept", [False, True], ids=["body", "try"])
def test_layout_is_kept(layout: Callable[[str], bytes], is_kept: bool, project: Project) -> None:
    handling = "        logging.error('größer')\n" if is_kept else ""
    before = (
        f"{BEFORE}async def job():\n    session = AsyncSession(engine)\n    try:\n"
        '        session.add(User(name="""größer\n    as it is\n"""))\n'
        "        await session.commit()\n        logging.info('größer')\n"
        f"    except Exception:\n{handling}        await session.rollback()\n        raise\n"
        "    finally:\n        await session.close()\n"
    )
    body = (
        'session.add(User(name="""größer\n    as it is\n"""))\n{0}await session.commit()\n'
        "{0}logging.info('größer')\n"
    )
    opened = f"{AFTER}async def job():\n    async with get_background_session() as session:\n"
    if is_kept:
        indent = " " * 12
        after = (
            f"{opened}        try:\n{indent}{body.format(indent)}        except Exception:\n"
            f"{indent}logging.error('größer')\n{indent}await session.rollback()\n{indent}raise\n"
        )
    else:
        after = f"{opened}        {body.format(' ' * 8)}"
    assert fixed(project, layout(before)) == layout(after)


def test_what_becomes_the_last_line_keeps_none_of_its_own_line_end(project: Project) -> None:
    before = (
        f"{BEFORE}async def job():\n    session = AsyncSession(engine)\n    try:\n"
        "        print(await session.get(User, 1))\r\n    finally:\n        await session.close()"
    )
    after = (
        f"{AFTER}async def job():\n    async with get_background_session() as session:\n"
        "        print(await session.get(User, 1))"
    )
    assert fixed(project, before.encode()).decode() == after


ON_A_STACK = {
    "in an async with": (
        """
        async def job(name):
            async with contextlib.AsyncExitStack() as stack:
                session = await stack.enter_async_context(AsyncSession(engine))
                session.add(User(name=name))
                await session.commit()
        """,
        "safe",
        "",
    ),
    "among other items": (
        """
        async def job(name, lock):
            async with lock, contextlib.AsyncExitStack() as stack:
                session: AsyncSession = await stack.enter_async_context(AsyncSession(engine))
                print(await session.get(User, name))
        """,
        "safe",
        "",
    ),
    "without a name": (
        """
        async def job(name):
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(AsyncSession(engine))
                print(name)
        """,
        "safe",
        "",
    ),
    "two of them": (
        """
        async def job(name):
            async with contextlib.AsyncExitStack() as stack:
                one = await stack.enter_async_context(AsyncSession(engine))
                two = await stack.enter_async_context(AsyncSession(engine))
                print(await one.scalar(select(User.id)), await two.scalar(select(User.id)))
        """,
        "safe",
        "",
    ),
    "and not committed": (
        """
        async def job(name):
            async with contextlib.AsyncExitStack() as stack:
                session = await stack.enter_async_context(AsyncSession(engine))
                session.add(User(name=name))
        """,
        "unsafe",
        "nothing commits that",
    ),
    "with what may swallow errors behind it": (
        """
        async def job(name, other):
            async with contextlib.AsyncExitStack() as stack:
                session = await stack.enter_async_context(AsyncSession(engine))
                await stack.enter_async_context(other())
                await session.execute(select(User.id))
        """,
        "unsafe",
        "may swallow errors is entered behind it (line 12)",
    ),
    "with what may swallow errors before it": (
        """
        async def job(name, other):
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(other())
                session = await stack.enter_async_context(AsyncSession(engine))
                await session.execute(select(User.id))
        """,
        "safe",
        "",
    ),
    "that what is entered with it may swallow errors of": (
        """
        async def job(name, other):
            async with contextlib.AsyncExitStack() as stack, other():
                session = await stack.enter_async_context(AsyncSession(engine))
                await session.execute(select(User.id))
        """,
        "unsafe",
        "a context manager that may swallow errors stands in the block",
    ),
    "and used behind it": (
        """
        async def job(name):
            async with contextlib.AsyncExitStack() as stack:
                session = await stack.enter_async_context(AsyncSession(engine))
                print(name)
            await session.commit()
        """,
        "unsafe",
        "`session` is used outside the block too",
    ),
    "that is handed over": (
        """
        async def job(name):
            async with contextlib.AsyncExitStack() as stack:
                session = await stack.enter_async_context(AsyncSession(engine))
                print(await session.get(User, name))
                return stack.pop_all()
        """,
        "none",
        "`stack` does more than to enter context managers",
    ),
    "that is given to others": (
        """
        async def job(name, other):
            async with contextlib.AsyncExitStack() as stack:
                other(stack)
                session = await stack.enter_async_context(AsyncSession(engine))
                print(await session.get(User, name))
        """,
        "none",
        "`stack` does more than to enter context managers",
    ),
    "of someone else": (
        """
        async def job(stack):
            session = await stack.enter_async_context(AsyncSession(engine))
            await session.commit()
        """,
        "none",
        "on an exit stack that no `async with` right round it closes",
    ),
    "of an object": (
        """
        class Job:
            async def start(self):
                self.session = await self.stack.enter_async_context(AsyncSession(engine))
        """,
        "none",
        "stored elsewhere",
    ),
    "in a loop on it": (
        """
        async def job(names):
            async with contextlib.AsyncExitStack() as stack:
                for name in names:
                    session = await stack.enter_async_context(AsyncSession(engine))
                    session.add(User(name=name))
                    await session.commit()
        """,
        "none",
        "on an exit stack that no `async with` right round it closes",
    ),
    "that keeps a list of them": (
        """
        async def job(names):
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(AsyncSession(engine))
        """,
        "none",
        "nothing is done with the session",
    ),
}


def level(finding: Finding) -> str:
    return finding.fix.applicability.value if finding.fix is not None else "none"


@pytest.mark.parametrize(("code", "sure", "reason"), ON_A_STACK.values(), ids=ON_A_STACK.keys())
def test_on_an_exit_stack(code: str, sure: str, reason: str, project: Project) -> None:
    findings = found(project, code)
    assert {level(item) for item in findings} == {sure}, findings
    assert all(reason in item.help for item in findings)
    text = textwrap.dedent(code)
    if sure == "none":
        expected = BEFORE + text
    else:
        expected = AFTER + text.replace("AsyncSession(engine)", "get_background_session()")
        if "AsyncSession =" in text:
            expected = expected.replace(
                "from app.db", "from sqlalchemy.ext.asyncio import AsyncSession\nfrom app.db"
            )
    assert fixed(project, (BEFORE + text).encode(), unsafe=True).decode() == expected


NOT_REWRITTEN = {
    "opened in the try behind others": (
        """
        async def job(name):
            try:
                name = await load(name)
                session = AsyncSession(engine)
                print(await session.get(User, name))
            finally:
                await session.close()
        """,
        "not what the `try` that closes it begins with",
    ),
    "opened in a try that does more": (
        """
        async def job(pool):
            try:
                session = AsyncSession(engine)
                print(await session.get(User, 1))
            finally:
                await session.close()
                await pool.dispose()
        """,
        "its `finally` does more than to close the session",
    ),
    "opened in a try, and bound to another": (
        """
        async def job(session):
            try:
                session = AsyncSession(engine)
                print(await session.get(User, 1))
            finally:
                await session.close()
        """,
        "its name is bound to something else, too",
    ),
    "opened in a try that does nothing": (
        """
        async def job():
            try:
                session = AsyncSession(engine)
            finally:
                await session.close()
        """,
        "nothing is done with it",
    ),
    "used before it is entered": (
        """
        async def job():
            session = AsyncSession(engine)
            keep(session)
            async with session:
                print(await session.get(User, 1))
        """,
        "it is used before it is entered",
    ),
    "entered as one of two names": (
        """
        async def job():
            session = AsyncSession(engine)
            async with session as other:
                print(await session.get(User, 1), other)
        """,
        "the session has more than one name",
    ),
    "bound again before it is entered": (
        """
        async def job():
            session = AsyncSession(engine)
            async with session:
                session = 1
        """,
        "its name is bound again",
    ),
    "entered in another block": (
        """
        async def job(wanted):
            session = AsyncSession(engine)
            if wanted:
                async with session:
                    print(await session.get(User, 1))
        """,
        "it is entered in another block than it is opened in",
    ),
    "entered on a stack by its name": (
        """
        async def job():
            session = AsyncSession(engine)
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(session)
                print(await session.get(User, 1))
        """,
        "it is entered on an exit stack by its name",
    ),
    "a finally that does more": (
        """
        async def job(pool):
            session = AsyncSession(engine)
            try:
                print(await session.get(User, 1))
            finally:
                await session.close()
                await pool.dispose()
        """,
        "its `finally` does more than to close the session",
    ),
    "a finally that closes on a condition": (
        """
        async def job(own):
            session = AsyncSession(engine)
            try:
                print(await session.get(User, 1))
            finally:
                if own:
                    await session.close()
        """,
        "not closed in the block that it is opened in",
    ),
    "closed nowhere": (
        """
        async def job():
            session = AsyncSession(engine)
            print(await session.get(User, 1))
        """,
        "not closed in the block that it is opened in",
    ),
    "closed in another block": (
        """
        async def job(name):
            if name:
                session = AsyncSession(engine)
            print(await session.get(User, 1))
            await session.close()
        """,
        "not closed in the block that it is opened in",
    ),
    "closed without a finally, and not committed": (
        """
        async def job():
            session = AsyncSession(engine)
            session.add(User())
            await session.close()
        """,
        "no `finally` closes the session, and it adds rows",
    ),
    "bound again before it is closed": (
        """
        async def job():
            session = AsyncSession(engine)
            session = make(session)
            try:
                print(1)
            finally:
                await session.close()
        """,
        "bound again",
    ),
    "a global": (
        """
        async def job():
            global session
            session = AsyncSession(engine)
            try:
                print(1)
            finally:
                await session.close()
        """,
        "stored elsewhere",
    ),
    "two names": (
        """
        async def job():
            session = other = AsyncSession(engine)
            try:
                print(1)
            finally:
                await session.close()
        """,
        "more than one name",
    ),
    "an attribute": (
        """
        async def job(self):
            self.session = AsyncSession(engine)
            try:
                print(1)
            finally:
                await self.session.close()
        """,
        "stored elsewhere",
    ),
    "not on a line of its own": (
        """
        async def job():
            session = AsyncSession(engine); print(1)
            try:
                print(1)
            finally:
                await session.close()
        """,
        "nor on a line of its own",
    ),
    "a comment at the opening": (
        """
        async def job():
            session = AsyncSession(engine)  # closed below
            try:
                print(1)
            finally:
                await session.close()
        """,
        "a comment in it would be lost",
    ),
    "a comment in the finally": (
        """
        async def job():
            session = AsyncSession(engine)
            try:
                print(1)
            finally:
                # in any case
                await session.close()
        """,
        "a comment in it would be lost",
    ),
    "a comment behind the close": (
        """
        async def job():
            session = AsyncSession(engine)
            try:
                print(1)
            finally:
                await session.close()
                # closed
            print(2)
        """,
        "a comment in it would be lost",
    ),
    "nothing done with it": (
        """
        async def job():
            session = AsyncSession(engine)
            await session.close()
        """,
        "nothing is done with it",
    ),
}


@pytest.mark.parametrize(("code", "reason"), NOT_REWRITTEN.values(), ids=NOT_REWRITTEN.keys())
def test_not_rewritten(code: str, reason: str, project: Project) -> None:
    [finding] = found(project, code)
    assert finding.fix is None
    assert reason in finding.help
    data = (BEFORE + textwrap.dedent(code)).encode()
    assert fixed(project, data, unsafe=True) == data


UNSAFE = {
    "entered by its name, and used behind": (
        """
        async def job():
            session = AsyncSession(engine)
            async with session:
                user = await session.get(User, 1)
            return await session.get(User, user.id)
        """,
        "`session` is used outside the block too",
    ),
    "opened in the try, and used behind": (
        """
        async def job():
            try:
                session = AsyncSession(engine)
                user = await session.get(User, 1)
            finally:
                await session.close()
            return await session.get(User, user.id)
        """,
        "`session` is used outside the block too",
    ),
    "opened in a try whose except goes on": (
        """
        async def job():
            session = None
            try:
                session = AsyncSession(engine)
                user = await session.get(User, 1)
            except Exception:
                print("failed")
            finally:
                if session:
                    await session.close()
        """,
        "an `except` catches errors of the session and goes on",
    ),
    "an except that goes on": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try:
                session.add(User(name=name))
                await session.commit()
            except Exception as e:
                await session.rollback()
                logging.error("no: %s", e)
            finally:
                await session.close()
        """,
        "the block rolls back, and goes on",
    ),
    "not committed": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try:
                session.add(User(name=name))
            finally:
                await session.close()
        """,
        "nothing commits that",
    ),
    "committed without an except alone": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try:
                session.add(User(name=name))
            except OSError:
                raise
            else:
                if name:
                    await session.commit()
            finally:
                await session.close()
        """,
        "nothing commits that",
    ),
    "used behind it": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try:
                print(name)
            finally:
                await session.close()
            await session.execute(select(User.id))
        """,
        "`session` is used outside the block too",
    ),
    "used behind a try that stays": (
        """
        async def job(name):
            session = AsyncSession(engine)
            try:
                print(name)
            except OSError:
                logging.info("no")
                raise
            finally:
                await session.close()
            await session.execute(select(User.id))
        """,
        "`session` is used outside the block too",
    ),
    "changed by a function defined before": (
        """
        async def job(name):
            def rename():
                user.name = name
            session = AsyncSession(engine)
            try:
                user = await session.get(User, 1)
                rename()
            except OSError:
                logging.info("no")
                raise
            finally:
                await session.close()
        """,
        "may change",
    ),
    "used where an error left the try": (
        """
        async def job(name):
            try:
                session = AsyncSession(engine)
                try:
                    user = await session.get(User, 1)
                    await session.execute(select(User.id))
                finally:
                    await session.close()
            except OSError:
                logging.info("no: %s", user.name)
        """,
        "`user` is used where an error",
    ),
    "used where an error left a try that stays": (
        """
        async def job(names):
            user = None
            for name in names:
                logging.info("before: %s", user and user.name)
                try:
                    session = AsyncSession(engine)
                    try:
                        user = await session.get(User, name)
                    except OSError:
                        logging.info("no")
                        raise
                    finally:
                        await session.close()
                except OSError:
                    continue
        """,
        "`user` is used where an error",
    ),
    "used where an error left an async with and the try in it": (
        """
        async def job(name):
            try:
                async with AsyncSession(engine) as session:
                    try:
                        user = await session.get(User, 1)
                    except OSError:
                        logging.info("no")
                        raise
                    finally:
                        await session.close()
            finally:
                logging.info("it was %s", user.name)
        """,
        "`user` is used where an error",
    ),
    "used where an error left an exit stack": (
        """
        async def job(name):
            async with contextlib.AsyncExitStack() as stack:
                stack_of_others = stack.enter_context(contextlib.suppress(OSError))
                session = await stack.enter_async_context(AsyncSession(engine))
                user = await session.get(User, 1)
            logging.info("it was %s", user.name)
        """,
        "`user` is used where an error",
    ),
    "handed to another session, expired": (
        """
        async def job(name, other):
            session = AsyncSession(engine)
            try:
                user = await session.get(User, 1)
                await session.commit()
            finally:
                await session.close()
            other.add(user)
        """,
        "`user` goes on to another session",
    ),
}


@pytest.mark.parametrize(("code", "reason"), UNSAFE.values(), ids=UNSAFE.keys())
def test_unsafe(code: str, reason: str, project: Project) -> None:
    [finding] = found(project, code)
    assert finding.fix is not None
    assert finding.fix.applicability is Applicability.UNSAFE
    assert reason in finding.fix.message


SPELLINGS = {
    "several items": (
        "async with lock, AsyncSession(engine) as s:\n    print(await s.get(User, 1))",
        "async with lock, get_background_session() as s:\n    print(await s.get(User, 1))",
    ),
    "several sessions": (
        "async with AsyncSession(engine) as a, AsyncSession(engine) as b:\n"
        "    print(await a.scalar(select(User.id)), await b.scalar(select(User.id)))",
        "async with get_background_session() as a, get_background_session() as b:\n"
        "    print(await a.scalar(select(User.id)), await b.scalar(select(User.id)))",
    ),
    "in parentheses": (
        "async with (\n    AsyncSession(engine) as s,  # ours\n    s.begin(),\n):\n"
        "    s.add(User())",
        "async with (\n    get_background_session() as s,  # ours\n    s.begin(),\n):\n"
        "    s.add(User())",
    ),
    "with a transaction": (
        "async with AsyncSession(engine) as s, s.begin():\n    s.add(User())",
        "async with get_background_session() as s, s.begin():\n    s.add(User())",
    ),
    "without a name": (
        "async with (AsyncSession(engine)):\n    pass",
        "async with (get_background_session()):\n    pass",
    ),
    "nested": (
        "async with AsyncSession(engine) as a:\n    async with AsyncSession(engine) as b:\n"
        "        print(await a.scalar(select(User.id)), await b.scalar(select(User.id)))",
        "async with get_background_session() as a:\n"
        "    async with get_background_session() as b:\n"
        "        print(await a.scalar(select(User.id)), await b.scalar(select(User.id)))",
    ),
    "on one line": (
        "async with AsyncSession(engine) as s: print(await s.get(User, 1))",
        "async with get_background_session() as s: print(await s.get(User, 1))",
    ),
}


@pytest.mark.parametrize(("before", "after"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_spellings_of_async_with(before: str, after: str, project: Project) -> None:
    function = "async def job(lock):\n"
    data = (BEFORE + function + textwrap.indent(before, "    ") + "\n").encode()
    expected = AFTER + function + textwrap.indent(after, "    ") + "\n"
    assert fixed(project, data).decode() == expected


@pytest.mark.parametrize(
    "opened",
    [
        "(make := SessionLocal)()",
        "AsyncSession(bind := engine)",
        "AsyncSession(engine, expire_on_commit=(flag := False))",
    ],
)
def test_a_name_that_is_bound_in_the_call_is_not_lost(opened: str, tmp_path: Path) -> None:
    code = (
        "from sqlalchemy.ext.asyncio import AsyncSession\n"
        "from app.db import background_task_session_factory as SessionLocal, engine\n\n\n"
        f"async def job():\n    async with {opened} as s:\n        return await s.get(1, 2)\n"
    )
    (tmp_path / "pyproject.toml").write_text("[tool.session-guard]\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "db.py").write_text(STANDARD)
    (tmp_path / "app" / "job.py").write_text(code)
    [result] = Run(Options((str(tmp_path / "app" / "job.py"),))).fix(unsafe=True, write=True)
    assert result.after == result.before
    assert any("it binds a name by `:=`" in finding.help for finding in result.remaining)
