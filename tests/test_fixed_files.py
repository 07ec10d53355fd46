"""After `fix`: the file parses, a second `fix` changes nothing, and all else is as it was.

Held against programs put together at random: violations in many spellings, among statements of
every kind, in files of every layout and encoding. `SESSION_GUARD_EXAMPLES=20000` in the environment
tries that many.
"""

from __future__ import annotations

import ast
import os
import re
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import libcst as cst
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from session_guard.config import Settings
from session_guard.project.project import Project
from session_guard.registry import load_rules
from session_guard.runner import check_file, fix_file
from session_guard.sources import Source, SourceError, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_guard.rule import Finding
    from session_guard.runner import Fixed

EXAMPLES = int(os.environ.get("SESSION_GUARD_EXAMPLES", "25"))
RULES = load_rules()
HANDLER = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()
OF_RULES = [
    example
    for rule in RULES
    for example in rule.invalid
    if example.handler is None and not example.config and example.fixed is not None
]

# -- programs -------------------------------------------------------------------------------------

SESSION_IMPORTS = (
    ("from sqlalchemy.ext.asyncio import AsyncSession", "AsyncSession"),
    ("from sqlalchemy.ext.asyncio import AsyncSession as Maker  # i{}", "Maker"),
    (
        "from sqlalchemy.ext.asyncio import (\n    AsyncEngine,  # i{}\n    AsyncSession,\n)",
        "AsyncSession",
    ),
    ("from sqlalchemy.ext.asyncio \\\n    import AsyncSession, AsyncEngine", "AsyncSession"),
    ("import os; from sqlalchemy.ext.asyncio import AsyncSession", "AsyncSession"),
    ("from sqlalchemy.ext import asyncio as sa", "sa.AsyncSession"),
    ("import sqlalchemy.ext.asyncio", "sqlalchemy.ext.asyncio.AsyncSession"),
    ("import sqlalchemy.ext.asyncio as aio, os", "aio.AsyncSession"),
    ("from sqlmodel.ext.asyncio.session import AsyncSession", "AsyncSession"),
    (
        "try:\n    from sqlalchemy.ext.asyncio import AsyncSession\nexcept ImportError:\n    raise",
        "AsyncSession",
    ),
)
ENGINE_IMPORTS = (
    ("from app.db import engine", "engine"),
    ("from app.db import engine as e, logger", "e"),
    ("from app.db import (engine, logger)", "engine"),
    ("from app.db import (\n    engine,  # i{}\n    # i{}\n    logger,\n)", "engine"),
    ("from app import db", "db.engine"),
    ("import app.db", "app.db.engine"),
    ("from .db import engine", "engine"),
    ("from . import db as database", "database.engine"),
    ("from app.db import *", "engine"),
)
# Lines to stand round a violation; `{}` is a number of its own.
LINES = (
    "n{} = 1  # c{}",
    "# c{} ( ' \" it",
    'n{} = """one\n\ttwo # not a comment {}\n  """',
    "n{} = 'l\\\n  m'  # c{}",
    "n{} = f'{{1 + 1:>{{2}}}} {{n0!r}}'",
    "n{} = (1 +  # c{}\n2 +\n        3)",
    "n{} = 1 + \\\n        2",
    "if (n{} := 1) > 0: n0 = 2; n0 = 3",
    "n{} = [n0 for n0 in (1, 2) if n0]; n0 = {{**{{}}}}",
    "def n{}(a, /, b=1, *c, d, **e) -> 'int':  # c{}\n    return lambda x, *y: (x, y)",
    "class n{}(object, metaclass=type):\n    '''doc'''\n\n    x: int = 1  # c{}\n",
    "@property\n# c{}\n@(lambda f: f)\nasync def n{}(self): yield 1",
    """\
match n0:
    case [1, *_] | {{'a': 1, **n{}}} if n0:  # c{}
        pass
    case str(x=1): pass""",
    "try:\n    n{} = 1\nexcept* (OSError, ValueError) as error:  # c{}\n    pass",
    "try:\n    n{} = 1\nexcept Exception: raise\nelse:\n    pass  # c{}\nfinally:\n    n0 = 1",
    "for n{} in range(1):\n    continue\nelse:\n    n0 = 1  # c{}",
    "while False:\n  n{} = 1;\n",
    "assert n{}, 'two'",
    "n{}: 'list[int]' = [\n\n    1,  # c{}\n    2\n]",
    "del n0",
    "print('n{}'  'two' # c{}\n)",
    "n{} = 0xFF_FF + 1e3 + 2j + .5",
    "\n",
    "\n\n",
)
# Newer than Python 3.11.
NEWER = (
    "def n{}[T: int, *Ts, **P](x: T) -> T: return x  # c{}",
    "class n{}[T = int]: pass",
    "type n{}[T] = list[T]  # c{}",
    "n{} = f'{{'a' + \"b\"}} {{n0 # c\n}}'",
    "n{} = f'{{f'{{f'{{1}}'}}'}}'",
    "try:\n    n{} = 1\nexcept OSError, ValueError:  # c{}\n    pass",
    "n{} = t'{{n0!r:>3}} two'  # c{}",
)
NOT_ASCII = ("n{} = 'é'  # c{} ü", "# c{} ß", "'''ÄÖ\n  n{}'''")
STATEMENTS = (
    "await {s}.execute(select(1))",
    "n{} = await {s}.scalar(select(1).where(True))  # c{}",
    "(await {s}.scalars(\n    select(1)  # c{}\n)).all()",
    "{s}.add(object())",
    "await {s}.commit()",
    "await {s}.commit()  # c{}",
    "await {s}.flush()",
    "await {s}.rollback()",
    "return await {s}.get(object, 1)",
    "async with {s}.begin():\n    {s}.add(object())  # c{}",
    "await {s}.execute(text('SET search_path = n{}'))",
    "try:\n    await {s}.commit()\nexcept Exception:\n    await {s}.rollback()\n    raise  # c{}",
    "async for n{} in await {s}.stream(select(1)): pass",
    "await other({s})",
    "raise ValueError('n{}')",
    "...",
)
OPENING = (
    "async with {call} as {s}:",
    "async with {call} as {s}:  # c{}",
    "async with ({call} as {s}):",
    "async with (\n    # c{}\n    {call} as {s},  # c{}\n):",
    "async with open_it() as n{}, {call} as {s}:",
    "async with {call} as {s}, open_it():",
    "async with open_it() as n{}, \\\n        {call} as {s}:",
    "async with {call} as {s}, {s}.begin():",
    "async with {call}:",
    "async with  ( {call} )  as  {s} :",
    "async with {call} as {s}, {other} as t:",
)
ARGUMENTS = (
    "{e}",
    "bind={e}",
    "{e}, expire_on_commit=False",
    "{e},\n    expire_on_commit=False,\n    autoflush=False,\n",
    "\n    {e},  # c{}\n    autoflush = False  # c{}\n",
    "{e}, autoflush=True",
    " {e} , ",
    "({e})",
    "*[{e}]",
    "{e}, **n0",
    "{e} \\\n , expire_on_commit=False",
)
WHOLE = (
    "n{} = create_async_engine('postgresql+asyncpg://db', pool_size=5)  # c{}",
    """\
n{} = create_async_engine(
    'postgresql+asyncpg://db',
    # c{}
    connect_args={{
        'timeout': 5,  # c{}
    }},
)""",
    """\
n{} = create_async_engine('postgresql+asyncpg://db?statement_cache_size=0', connect_args={{
    'raw_sql': True, 'statement_cache_size': 0}})""",
    """\
n{} = create_async_engine('postgresql+asyncpg://db', statement_cache_size=0, connect_args=dict(
    timeout=1,
    prepared_statement_name_func=lambda: 'x', # c{}
))""",
    "n{} = async_sessionmaker({e}, execution_options={{'isolation_level': 'AUTOCOMMIT'}})",
    """\
n{} = async_sessionmaker(
    {e},  # c{}
    execution_options={{
        'no_prepare': True,
    }},
)""",
    "n0 = 1  # noqa: SG101",
    "n0 = 1  # noqa: E501, SG202 because n{}",
)


@dataclass
class Writer:
    """Puts a program together; what is not about a violation is remembered in `noise`."""

    draw: st.DrawFn
    session: str = ""
    engine: str = ""
    numbers: int = 0
    noise: list[str] = field(default_factory=list)
    is_newer: bool = False
    unit: str = "    "

    def text(self, template: str, **names: str) -> str:
        parts = template.split("{}")
        text = parts[0]
        for part in parts[1:]:
            self.numbers += 1
            text += f"{self.numbers}{part}"
        return text.format(**names) if names else text.replace("{{", "{").replace("}}", "}")

    def any_of(self, pool: Sequence[str], **names: str) -> str:
        return self.text(self.draw(st.sampled_from(pool)), **names)

    def lines(self, most: int) -> str:
        """Return statements of any kind that nothing is to be changed in."""
        pool = LINES + (NEWER if self.is_newer else ()) + NOT_ASCII
        found = [self.any_of(pool) for _ in range(self.draw(st.integers(0, most)))]
        self.noise.extend(found)
        return "".join(f"{text}\n" for text in found)

    def indented(self, text: str) -> str:
        """Return the lines of a block, those within strings of several lines as they are."""
        lines, is_within = [], False
        for line in text.split("\n"):
            lines.append(line if is_within or not line.strip() else self.unit + line)
            if len(re.findall(r'"""|\'\'\'', line)) % 2:
                is_within = not is_within
            elif line.startswith("n") and line.endswith("'l\\"):
                is_within = True
            elif is_within and line.startswith("  m'"):
                is_within = False
        return "\n".join(lines)

    def call(self) -> str:
        kind = self.draw(st.integers(0, 7))
        if kind == 0:
            return self.any_of(
                ("background_task_session_factory()", "factory()", "factory.begin()")
            )
        arguments = self.any_of(ARGUMENTS, e=self.engine)
        return f"{self.session}({arguments})"

    def block(self, name: str) -> str:
        """Return the statements that use a session."""
        text = ""
        for _ in range(self.draw(st.integers(1, 4))):
            if self.draw(st.booleans()):
                text += self.lines(1)
            text += self.any_of(STATEMENTS, s=name) + "\n"
        return text

    def opened(self) -> str:
        name = self.draw(st.sampled_from(("s", "session", "db")))
        kind = self.draw(st.integers(0, 9))
        if kind == 0:
            handling = self.draw(
                st.sampled_from(("", "except Exception:\n    await {s}.rollback()\n    raise\n"))
            )
            body = self.indented(self.block(name).rstrip("\n")) + "\n"
            return (
                f"{name} = {self.call()}\ntry:\n{body}{handling.format(s=name)}"
                f"finally:\n    await {name}.close()\n"
            )
        if kind == 1:
            return f"{name} = {self.call()}\n{self.block(name)}await {name}.close()\n"
        if kind == 2:
            return f"async with {self.call()} as {name}: await {name}.commit()\n"
        opening = self.any_of(OPENING, call=self.call(), other=self.call(), s=name)
        block = self.block(name)
        if self.draw(st.integers(0, 4)) == 0:
            block += self.opened()
        return f"{opening}\n{self.indented(block.rstrip(chr(10)))}\n"

    def function(self) -> str:
        heads = (
            "async def job{}(n0):",
            "async def job{}(n0, *, x=1) -> None:  # c{}",
            "@app.task(name='n{}')\nasync def job{}(self):",
            "@app.post('/')\n# c{}\nasync def job{}(n0: 'int'):",
            "async def job{}(\n    n0,  # c{}\n):",
        )
        newer = ("async def job{}[T](n0: T) -> T:",) if self.is_newer else ()
        body = self.lines(1) + self.opened() + self.lines(1) + "pass"
        text = f"{self.any_of(heads + newer)}\n{self.indented(body)}\n"
        kind = self.draw(st.integers(0, 5))
        if kind == 0:
            return self.text("class N{}:  # c{}\n") + self.indented(text.rstrip("\n")) + "\n"
        if kind == 1:
            return self.text("def outer{}():\n") + self.indented(text.rstrip("\n")) + "\n"
        return text

    def program(self) -> str:
        self.is_newer = self.draw(st.integers(0, 5)) == 0
        self.unit = self.draw(st.sampled_from(("    ", "    ", "\t", "  ", " \t")))
        session, self.session = self.draw(st.sampled_from(SESSION_IMPORTS))
        engine, self.engine = self.draw(st.sampled_from(ENGINE_IMPORTS))
        imports = [
            self.text(session),
            self.text(engine),
            "from sqlalchemy import select, text",
            "from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine",
            "from app.db import background_task_session_factory",
        ]
        text = self.draw(
            st.sampled_from(("", "", "'''Doc é'''\n", "from __future__ import annotations\n"))
        )
        text += "".join(f"{line}\n" for line in self.draw(st.permutations(imports)))
        if self.draw(st.booleans()):
            text += f"factory = async_sessionmaker({self.engine}, expire_on_commit=False)\n"
        text += self.draw(st.sampled_from(("", "\n", "\n\n", "\f\n", "if True:\n    import os\n")))
        for _ in range(self.draw(st.integers(1, 2))):
            text += self.lines(1)
            if self.draw(st.integers(0, 3)) == 0:
                text += self.any_of(WHOLE, e=self.engine) + "\n"
            else:
                text += self.function()
        return text + self.lines(2)


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, list[str]]:
    """Return a file, and the lines of it that are to stay as they are."""
    writer = Writer(draw)
    if draw(st.integers(0, 4)) == 0:
        example = draw(st.sampled_from(OF_RULES))
        text = example.code + writer.lines(3)
        if not example.code.startswith(("from __future__", '"""', "'''", "#")):
            text = writer.lines(2) + text
    else:
        text = writer.program()
    return laid_out(draw, text), writer.noise


def laid_out(draw: st.DrawFn, text: str) -> bytes:
    """Return a program in one of the ways in which files are written."""
    encoding, bom, head = draw(
        st.sampled_from(
            (
                *(("utf-8", b"", ""),) * 4,
                ("utf-8", b"\xef\xbb\xbf", ""),
                ("utf-8", b"\xef\xbb\xbf", "# coding: utf-8\n"),
                ("latin-1", b"", "# -*- coding: latin-1 -*-\n"),
                ("cp1252", b"", "#!/usr/bin/env python\n# vim: set fileencoding=cp1252 :\n"),
                ("utf-8", b"", "#!/usr/bin/python\n"),
                ("utf-8", b"", "\f\n"),
            )
        )
    )
    text = head + text
    end = draw(st.sampled_from(("\n", "\n", "\r\n", "mixed", "\r")))
    if end == "mixed":
        lines = text.split("\n")
        ends = draw(st.lists(st.sampled_from(("\n", "\r\n")), min_size=3, max_size=3))
        text = "".join(line + ends[at % 3] for at, line in enumerate(lines[:-1])) + lines[-1]
    else:
        text = text.replace("\n", end)
    if draw(st.integers(0, 4)) == 0:
        text = text.rstrip("\r\n")
    return bom + text.encode(encoding)


# -- what is to be so of each ---------------------------------------------------------------------


class Laboratory:
    """A project with a handler, and one file that is another each time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "app" / "jobs.py"
        self.path.parent.mkdir()
        (folder / "app" / "db.py").write_text(HANDLER)
        (folder / "app" / "__init__.py").touch()
        self.settings = Settings(root=folder, handler=("app.db",), sqlalchemy_version="2.0.40")
        self.source = Source(str(self.path), "app/jobs.py", "app/jobs.py", self.settings)
        self.laid: tuple[bytes, Project] | None = None

    def lay(self, data: bytes) -> Project:
        if self.laid is None or self.laid[0] != data:
            self.path.write_bytes(data)
            self.laid = (data, Project(self.settings))
        return self.laid[1]

    def check(self, data: bytes) -> list[Finding]:
        return check_file(self.source, data, self.lay(data), RULES)

    def fix(self, data: bytes, *, unsafe: bool) -> Fixed:
        return fix_file(self.source, data, self.lay(data), RULES, unsafe=unsafe)


def parses(data: bytes) -> bool:
    """Return whether Python or, where the syntax is newer, LibCST can parse a file."""
    try:
        ast.parse(data)
    except (SyntaxError, ValueError):
        try:
            cst.parse_module(decode(data).text)
        except (cst.ParserSyntaxError, SourceError):
            return False
    return True


def kinds(findings: Sequence[Finding]) -> Counter[tuple[str, str]]:
    return Counter((item.code, item.message) for item in findings)


def normal(line: bytes) -> bytes:
    return line.strip(b" \t\f")


def assert_nothing_else_changed(before: bytes, after: bytes, noise: list[str]) -> None:
    old, new = decode(before), decode(after)
    assert (new.encoding, new.bom) == (old.encoding, old.bom)
    rest = Counter(map(str.strip, new.text.splitlines()))
    for statement in noise:
        for line in statement.splitlines():
            if line.strip():
                assert rest[line.strip()] > 0, line
    for mark in re.findall(r"# c\d+", old.text):
        assert len(re.findall(rf"{mark}\b", new.text)) == 1, mark
    assert set(re.findall(r"\r\n|\r|\n", new.text)) <= set(re.findall(r"\r\n|\r|\n", old.text))
    last = old.text.splitlines()[-1].strip()
    if new.text.splitlines()[-1:] == [last]:
        assert new.text.endswith(("\n", "\r")) == old.text.endswith(("\n", "\r"))


def hold(laboratory: Laboratory, data: bytes, noise: list[str]) -> dict[bool, Fixed]:
    """See that all is as it should be, and return what became of a file without and with unsafe."""
    found = kinds(laboratory.check(data))
    results = {unsafe: laboratory.fix(data, unsafe=unsafe) for unsafe in (True, False)}
    for unsafe, result in results.items():
        assert not [item for item in result.remaining if "please report" in item.help]
        assert bool(result.applied) == (result.after != data)
        if result.after == data:
            continue
        assert parses(result.after)
        again = laboratory.fix(result.after, unsafe=unsafe)
        assert again.after == result.after
        assert again.remaining == result.remaining
        mended, now = kinds(result.applied), kinds(again.remaining)
        opened_anew = {code for code, _ in mended} & {"SG101", "SG103"}
        for kind, count in mended.items():
            # In a block that gets the handler's session its own `commit()` is found then.
            if kind[0] != "SG303" or not opened_anew:
                assert now[kind] <= max(0, found[kind] - count), kind
        assert_nothing_else_changed(data, result.after, noise)
    return results


@pytest.fixture(scope="module")
def laboratory() -> object:
    with tempfile.TemporaryDirectory() as folder:
        yield Laboratory(Path(folder).resolve())


def test_of_any_file_nothing_else_changes(laboratory: Laboratory) -> None:
    count: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="SESSION_GUARD_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(file=files())
    def each(file: tuple[bytes, list[str]]) -> None:
        data, noise = file
        count["files"] += 1
        if parses(data):
            results = hold(laboratory, data, noise)
            count["mended"] += results[True].after != data
            count["mended safely"] += results[False].after != data
            return
        for unsafe in (False, True):
            result = laboratory.fix(data, unsafe=unsafe)
            assert result.after == data
            assert {item.code for item in result.remaining} <= {"SG001"}

    each()
    print(dict(count))
    # Programs that nothing is to be done about would show nothing.
    assert count["mended"] > count["files"] / 2
    assert count["mended safely"] > count["files"] / 4


FIXABLE = """\
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import engine


async def job():
    async with AsyncSession(engine) as session:
        return await session.scalar(select(1))
"""
FIXED = """\
from sqlalchemy import select
from app.db import get_background_session


async def job():
    async with get_background_session() as session:
        return await session.scalar(select(1))
"""


@pytest.mark.parametrize("template", NEWER)
def test_syntax_that_is_newer_than_the_interpreter_is_fixed_or_said(
    laboratory: Laboratory, template: str
) -> None:
    newer = template.format(1, 2, 3)
    result = laboratory.fix(f"{FIXABLE}{newer}\n".encode(), unsafe=False)
    if result.after == result.before:
        assert [item.code for item in result.remaining] == ["SG001"]
        with pytest.raises(cst.ParserSyntaxError):
            cst.parse_module(f"{newer}\n")
    else:
        assert result.after.decode() == f"{FIXED}{newer}\n"
        assert [item.code for item in result.applied] == ["SG101"]
        assert result.remaining == ()
