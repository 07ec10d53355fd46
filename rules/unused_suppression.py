"""SG002: a `# noqa` with our codes that suppresses nothing."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from session_guard.rule import Invalid, Rule, Valid

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.module import Module
    from session_guard.rule import ProjectNames, Violation


class UnusedSuppression(Rule):
    code = "SG002"
    name = "unused-suppression"
    summary = "a `# noqa` that names a rule which finds nothing there"
    why = """\
A suppression that outlives what it was written for silences whatever comes there next.

A code counts where its rule was asked: it is known (as are those of other rule packages that are
installed), selected, and not ignored in this file. So `ignore`, `per-file-ignores` and a shorter
`select` report nothing new, and neither does a code of a rule that the handler is not held to.
Codes of other tools are never judged. Nor is a `# noqa` without codes, which may be meant for
another tool. `# noqa: SG101, SG002` keeps a suppression that only some versions need."""
    fix_safety = """\
*Safe*: our codes are taken out of the comment. Other tools' codes stay, and so does the reason, as
a comment of its own; where nothing is left the comment goes."""
    since = "0.1.0"
    references = ("https://docs.astral.sh/ruff/rules/unused-noqa/",)
    tokens = ()
    in_handler = True
    judges_suppressions = True
    node_types = ()

    valid = (
        Valid("""\
from sqlalchemy.ext.asyncio import AsyncSession

def session(engine):
    return AsyncSession(engine)  # noqa: SG101
"""),
        Valid("""\
from sqlalchemy.ext.asyncio import AsyncSession

def session(engine):
    return AsyncSession(
        engine,
        expire_on_commit=False,
    )  # noqa: E501, SG101 the caller's own
"""),
        Valid("""\
import asyncio  # noqa
"""),
        Valid("""\
import asyncio  # noqa: F401
"""),
        Valid(
            """\
def session(engine):
    return None  # noqa: SG101
""",
            config='ignore = ["SG101"]',
        ),
        Valid(
            """\
def session(engine):
    return None  # noqa: SG101
""",
            config='per-file-ignores = { "app/jobs.py" = ["SG1"] }',
        ),
        Valid("""\
def session(engine):
    return None  # noqa: SG101, SG002
"""),
        Valid("""\
NOTE = "silence it with  # noqa: SG101"
"""),
    )
    invalid = (
        Invalid(
            """\
from app.db import get_background_session

async def job():
    async with get_background_session() as session:  # noqa: SG101
        await session.commit()
""",
            fixed="""\
from app.db import get_background_session

async def job():
    async with get_background_session() as session:
        await session.commit()
""",
            because="`# noqa: SG101` suppresses nothing",
        ),
        Invalid(
            """\
from app.db import *  # noqa: F403, SG101
""",
            fixed="""\
from app.db import *  # noqa: F403
""",
        ),
        Invalid(
            """\
from app.db import *  # noqa: SG101,SG103 F403 names of the handler
""",
            fixed="""\
from app.db import *  # noqa: F403 names of the handler
""",
            because="`# noqa: SG101, SG103` suppresses nothing",
        ),
        Invalid(
            """\
from sqlalchemy.ext.asyncio import AsyncSession

def session(engine):
    return AsyncSession(engine)  # noqa: SG101, SG104
""",
            fixed="""\
from sqlalchemy.ext.asyncio import AsyncSession

def session(engine):
    return AsyncSession(engine)  # noqa: SG101
""",
        ),
        Invalid(
            """\
session = make()  # noqa: SG101 - a connection of its own
""",
            fixed="""\
session = make()  # a connection of its own
""",
        ),
        Invalid(
            """\
session = make()  # type: ignore[no-untyped-call]  # noqa: SG103  # pragma: no cover
""",
            fixed="""\
session = make()  # type: ignore[no-untyped-call]  # pragma: no cover
""",
        ),
        Invalid(
            """\
def make():
    # noqa: SG101
    return None
""",
            fixed="""\
def make():
    return None
""",
        ),
    )

    def gate(self, source: bytes, names: ProjectNames) -> bool:
        """Return whether one of our codes stands behind a `noqa` on a line."""
        lowered = source.lower()
        return b"noqa" in lowered and _named().search(lowered) is not None

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        """Yield nothing: what a suppression did is known when every rule has been asked."""
        return iter(())


@functools.cache
def _named() -> re.Pattern[bytes]:
    from session_guard.registry import known_codes

    codes = "|".join(re.escape(code.lower()) for code in known_codes())
    return re.compile(rf"noqa[^\r\n]*\b(?:{codes})\b".encode())
