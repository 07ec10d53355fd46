"""What a fix leaves alone: every byte outside its edits, in whatever encoding and layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from session_guard.config import Settings
from session_guard.edits import apply
from session_guard.fixer import fix
from session_guard.linter import lint
from session_guard.project import Project
from session_guard.registry import load_rules
from session_guard.rule import Edit

RULES = tuple(rule for rule in load_rules() if rule.code.startswith("SG10"))
STANDARD = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()
BEFORE = """\
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import engine

async def job():
    async with AsyncSession(engine) as s:  # größer
        await s.commit()
"""
AFTER = """\
from app.db import get_background_session

async def job():
    async with get_background_session() as s:  # größer
        await s.commit()
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "db.py").write_text(STANDARD)
    return Project(Settings(root=tmp_path))


def fixed(project: Project, data: bytes) -> bytes:
    path = project.settings.root / "app" / "jobs.py"
    return fix("jobs.py", path, data, project, RULES, unsafe=False).data


LAYOUTS = {
    "utf-8": lambda text: text.encode(),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "latin-1": lambda text: b"# coding: latin-1\n" + text.encode("latin-1"),
    "cp1252": lambda text: b"# -*- coding: cp1252 -*-\n" + text.encode("cp1252"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "no newline at the end": lambda text: text.rstrip("\n").encode(),
    "tabs": lambda text: text.replace("    ", "\t").encode(),
    "a character outside the BMP": lambda text: ('"\U0001f40d"\n' + text).encode(),
    "mixed line ends": lambda text: text.encode().replace(b"job():\n", b"job():\r\n"),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layout_is_kept(layout, project: Project) -> None:
    assert fixed(project, layout(BEFORE)) == layout(AFTER)


def test_fixing_again_changes_nothing(project: Project) -> None:
    once = fixed(project, BEFORE.encode())
    assert fixed(project, once) == once


@pytest.mark.parametrize("odd", ["\x0c", "\\\n"], ids=["form feed", "lone backslash"])
def test_what_the_parser_does_not_give_back_is_not_fixed(odd: str, project: Project) -> None:
    data = BEFORE.replace("async def", f"{odd}async def").replace("# größer", "").encode()
    path = project.settings.root / "app" / "jobs.py"
    [finding] = lint("jobs.py", path, data, project, RULES)
    if finding.fix is None:
        assert "does not give this file back" in finding.help
        assert fixed(project, data) == data
    else:  # a parser that does give it back may fix the file, and must keep the rest
        assert odd.encode() in fixed(project, data)


def test_each_finding_can_be_fixed_alone(project: Project) -> None:
    data = (
        BEFORE + "\n\nasync def other():\n    async with AsyncSession(engine) as s:\n        pass\n"
    ).encode()
    path = project.settings.root / "app" / "jobs.py"
    first, second = lint("jobs.py", path, data, project, RULES)
    for finding in (first, second):
        assert finding.fix is not None
        alone = apply(data, finding.fix.edits, "utf-8")
        [left] = lint("jobs.py", path, alone, project, RULES)
        assert left.code == finding.code
        assert b"import AsyncSession" in alone  # the other one still needs it
    assert fixed(project, data).count(b"AsyncSession") == 0


IMPORTS = {
    "one of several in parentheses": (
        "from app.db import (\n    Base,\n    engine,\n)\n",
        "from app.db import (\n    Base,\n    get_background_session,\n)\n",
        "Base.x",
    ),
    "the only one in parentheses": (
        "from app.db import (\n    engine,\n)\n",
        "from app.db import (\n    get_background_session,\n)\n",
        "",
    ),
    "still used": (
        "from app.db import engine\n",
        "from app.db import engine, get_background_session\n",
        "engine.x",
    ),
    "sorted": (
        "from app.db import Base, engine, setup\n",
        "from app.db import Base, get_background_session, setup\n",
        "Base.x, setup.x",
    ),
    "an alias": (
        "from app.db import engine as e\n",
        "from app.db import get_background_session\n",
        "",
    ),
    "there already": (
        "from app.db import engine, get_background_session\n",
        "from app.db import get_background_session\n",
        "get_background_session.x",
    ),
    "marked": (
        "from app.db import engine  # noqa: F401\n",
        "from app.db import engine, get_background_session  # noqa: F401\n",
        "",
    ),
    "relative": (
        "from .db import engine\n",
        "from .db import get_background_session\n",
        "",
    ),
    "relative to the package": (
        "from . import db\n",
        "from . import db\n",
        "",
    ),
    "the module": ("import app.db\n", "import app.db\n", ""),
    "named in __all__": (
        'from app.db import engine\n__all__ = ["engine"]\n',
        'from app.db import engine, get_background_session\n__all__ = ["engine"]\n',
        "",
    ),
    "used in a quoted annotation": (
        'from app.db import engine\nx: "engine.Kind"\n',
        'from app.db import engine, get_background_session\nx: "engine.Kind"\n',
        "",
    ),
}


@pytest.mark.parametrize(("imports", "expected", "uses"), IMPORTS.values(), ids=IMPORTS.keys())
def test_imports_follow_the_file(imports: str, expected: str, uses: str, project: Project) -> None:
    engine, session = "engine", "get_background_session()"
    if "as e" in imports:
        engine = "e"
    if "import db" in imports:
        engine, session = "db.engine", "db.get_background_session()"
    if imports.startswith("import app.db"):
        engine, session = "app.db.engine", "app.db.get_background_session()"
    head = "from sqlalchemy.ext.asyncio import AsyncSession\n"
    body = (
        "\nasync def job():\n    async with {} as s:\n        await s.commit()\n    return ({})\n"
    )
    data = head + imports + body.format(f"AsyncSession({engine})", uses)
    assert fixed(project, data.encode()).decode() == expected + body.format(session, uses)


HEAD = "from sqlalchemy.ext.asyncio import AsyncSession\n"
JOB = "\nasync def job():\n    async with {} as s:\n        await s.commit()\n"
OPENED = JOB.format("AsyncSession(engine)")
MENDED = JOB.format("get_background_session()")
BRANCHES = {
    "try": (
        "try:\n    from app.db import engine\nexcept ImportError:\n    from .db import engine\n"
        + OPENED
    ),
    "if": "if x:\n    from app.db import engine\nelse:\n    from .db import engine\n" + OPENED,
    "if on one line": "if True: from app.db import engine\n" + OPENED,
    "a parameter of the name": (
        "from app.db import engine\n\nasync def f(get_background_session):\n"
        "    async with AsyncSession(engine) as s:\n        await s.commit()\n"
    ),
    "an import of the name from elsewhere": (
        "from app.db import engine\n\nasync def f():\n"
        "    async with AsyncSession(engine) as s:\n        await s.commit()\n"
        "    from elsewhere import get_background_session\n"
    ),
    "an assignment to the name in the function round it": (
        "from app.db import engine\n\ndef make():\n    get_background_session = 1\n\n"
        "    async def f():\n        async with AsyncSession(engine) as s:\n"
        "            await s.commit()\n"
    ),
    "its own import in a branch of the function": (
        "from app.db import engine\n\nasync def f(x):\n    if x:\n"
        "        from app.db import get_background_session\n"
        "    async with AsyncSession(engine) as s:\n        await s.commit()\n"
    ),
    "its own import in a branch of the module": (
        "from app.db import engine\ntry:\n    from app.db import get_background_session\n"
        "except ImportError:\n    pass\n" + OPENED
    ),
    "its own import behind the use": (
        "from app.db import engine\n\nasync def f():\n"
        "    async with AsyncSession(engine) as s:\n        await s.commit()\n"
        "    from app.db import get_background_session\n"
    ),
    "its own import for type checkers": (
        "from app.db import engine\nif TYPE_CHECKING:\n"
        "    from app.db import get_background_session\n" + OPENED
    ),
    "a use of the name for something else": (
        "from app.db import engine\n\ndef g(get_background_session):\n"
        "    return get_background_session()\n" + OPENED
    ),
    "the name from a star import": (
        "from app.db import engine\nfrom app.others import *\n" + OPENED
    ),
    "the module in one arm alone": (
        "try:\n    from app import db\nexcept ImportError:\n    from app import database as db\n"
        + OPENED.replace("engine", "db.engine")
    ),
}


@pytest.mark.parametrize("code", BRANCHES.values(), ids=BRANCHES.keys())
def test_an_import_that_cannot_be_built_on_is_left(code: str, project: Project) -> None:
    app = project.settings.root / "app"
    (app / "others.py").write_text("def get_background_session(): ...\n")
    (app / "database.py").write_text("from app.db import engine\n")
    assert fixed(project, (HEAD + code).encode()).decode() == HEAD + code


IN_ANOTHER_MODULE = {
    "at the top, not in a branch": (
        "from app.core import engine\n\nif engine:\n"
        "    from sqlalchemy.ext.asyncio import AsyncSession\n\n    from app.db import thing\n"
        + OPENED,
        "from app.core import engine\nfrom app.db import get_background_session\n\nif engine:\n"
        "    from sqlalchemy.ext.asyncio import AsyncSession\n\n    from app.db import thing\n"
        + MENDED,
    ),
    "in a branch": (
        HEAD + "try:\n    from app.core import engine\nexcept ImportError:\n    raise\n" + OPENED,
        HEAD + "try:\n    from app.core import engine\nexcept ImportError:\n    raise\n" + OPENED,
    ),
    "local before any other": (
        HEAD + "\nasync def f():\n    from app.core import engine\n"
        "    async with AsyncSession(engine) as s:\n        await s.commit()\n",
        "async def f():\n    from app.db import get_background_session\n"
        "    async with get_background_session() as s:\n        await s.commit()\n",
    ),
    "local, behind another statement of its line": (
        HEAD + "\nasync def f():\n    x = 1; from app.core import engine\n"
        "    async with AsyncSession(engine) as s:\n        await s.commit()\n",
        "async def f():\n    x = 1\n    from app.db import get_background_session\n"
        "    async with get_background_session() as s:\n        await s.commit()\n",
    ),
    "local, in a block on one line": (
        HEAD + "\nasync def f(lock):\n    with lock: from app.core import engine, other\n"
        "    async with AsyncSession(engine) as s:\n        other(await s.commit())\n",
        "async def f(lock):\n    with lock: from app.core import other\n"
        "    from app.db import get_background_session\n"
        "    async with get_background_session() as s:\n        other(await s.commit())\n",
    ),
    "local, where the class alone is local": (
        "from app.core import engine\n\nasync def f():\n"
        "    from sqlalchemy.ext.asyncio import AsyncSession\n"
        "    async with AsyncSession(engine) as s:\n        await s.commit()\n",
        "async def f():\n    from app.db import get_background_session\n"
        "    async with get_background_session() as s:\n        await s.commit()\n",
    ),
    "local, with the class in a branch": (
        "from app.core import engine\n\nasync def f(x):\n    if x:\n"
        "        from sqlalchemy.ext.asyncio import AsyncSession\n"
        "    async with AsyncSession(engine) as s:\n        await s.commit()\n",
        "from app.core import engine\n\nasync def f(x):\n    if x:\n"
        "        from sqlalchemy.ext.asyncio import AsyncSession\n"
        "    async with AsyncSession(engine) as s:\n        await s.commit()\n",
    ),
    "local, on the last line, which has no end": (
        HEAD + "\ndef f():\n    async def g():\n        async with AsyncSession(engine) as s:\n"
        "            await s.commit()\n    from app.core import engine, x",
        "def f():\n    async def g():\n        async with get_background_session() as s:\n"
        "            await s.commit()\n    from app.core import x\n"
        "    from app.db import get_background_session",
    ),
    "once for two engines": (
        HEAD
        + "from app.core import engine as core\nfrom app.db import engine, setup\n"
        + OPENED
        + OPENED.replace("engine", "core")
        + "    setup()\n",
        "from app.db import get_background_session, setup\n" + MENDED + MENDED + "    setup()\n",
    ),
    "local, in a branch": (
        HEAD + "\nasync def f(x):\n    if x:\n        from app.core import engine\n"
        "    async with AsyncSession(engine) as s:\n        await s.commit()\n",
        HEAD + "\nasync def f(x):\n    if x:\n        from app.core import engine\n"
        "    async with AsyncSession(engine) as s:\n        await s.commit()\n",
    ),
}


@pytest.mark.parametrize(
    ("before", "after"), IN_ANOTHER_MODULE.values(), ids=IN_ANOTHER_MODULE.keys()
)
def test_where_the_engine_is_not_the_handlers_own(
    before: str, after: str, project: Project
) -> None:
    app = project.settings.root / "app"
    start = STANDARD.index("engine = create_async_engine(")
    end = STANDARD.index("\n)\n", start) + 3
    (app / "core.py").write_text(STANDARD[:start] + STANDARD[start:end])
    (app / "db.py").write_text(STANDARD[:start] + "from app.core import engine\n" + STANDARD[end:])
    assert fixed(project, before.encode()).decode() == after


IMPORT = "from app.db import get_background_session"
TIDY = {
    "two statements on a line": ("from app.db import engine; x = 1\n", IMPORT + "; x = 1\n"),
    "a string of the same name": (
        "from app.db import engine\nlog = get('engine')\n",
        IMPORT + "\nlog = get('engine')\n",
    ),
    "a parameter of the same name": (
        "from app.db import engine\ndef f(engine): engine.x\n",
        IMPORT + "\ndef f(engine): engine.x\n",
    ),
    "a comment that says nothing to a tool": (
        "from app.db import engine  # the engine\n",
        IMPORT + "  # the engine\n",
    ),
    "a comment on a name goes with it": (
        "from app.db import (\n    engine,  # the engine\n)\n",
        "from app.db import (\n    get_background_session,\n)\n",
    ),
    "a comment on another name stays with that": (
        "from app.db import (  # ours\n    # first\n    Base,  # base\n    engine,  # engine\n"
        "    # last\n    setup  # setup\n)\nBase, setup\n",
        "from app.db import (  # ours\n    # first\n    Base,  # base\n"
        "    get_background_session,\n    # last\n    setup  # setup\n)\nBase, setup\n",
    ),
    "behind the last of a list": (
        "from app.db import (\n    Base,  # base\n    engine  # engine\n)\nBase, engine\n",
        "from app.db import (\n    Base,  # base\n    engine,  # engine\n"
        "    get_background_session,\n)\nBase, engine\n",
    ),
    "in the place of the last of a list": (
        "from app.db import (\n    Base,\n    engine  # engine\n)\nBase\n",
        "from app.db import (\n    Base,\n    get_background_session,\n)\nBase\n",
    ),
    "a list that is not in order": (
        "from app.db import (\n    setup,\n    engine,\n    Base,\n)\nBase, setup\n",
        "from app.db import (\n    setup,\n    Base,\n    get_background_session,\n)\n"
        "Base, setup\n",
    ),
    "names that are not in order": (
        "from app.db import setup, engine, Base\nBase, setup\n",
        "from app.db import setup, Base, get_background_session\nBase, setup\n",
    ),
    "a name that a comment keeps": (
        "from app.db import (\n    engine,  # noqa: F401\n    setup,\n)\nsetup\n",
        "from app.db import (\n    engine,  # noqa: F401\n    get_background_session,\n"
        "    setup,\n)\nsetup\n",
    ),
    "a name that the line above is about": (
        "from app.db import (\n    # the engine\n    engine,\n)\n",
        "from app.db import (\n    # the engine\n    engine,\n    get_background_session,\n)\n",
    ),
    "names that the first line's comment keeps": (
        "from app.db import (  # noqa: F401\n    engine,\n)\n",
        "from app.db import (  # noqa: F401\n    engine,\n    get_background_session,\n)\n",
    ),
    "a comment in another layout": (
        "from app.db import (engine, setup,  # ours\n)\nsetup\n",
        "from app.db import (engine, setup,  # ours\n)\n" + IMPORT + "\nsetup\n",
    ),
    "a suppression of something else": (
        "from app.db import engine  # noqa: E402\n",
        IMPORT + "  # noqa: E402\n",
    ),
    "two suppressions": (
        "from app.db import engine  # noqa: E402, F401\n",
        "from app.db import engine, get_background_session  # noqa: E402, F401\n",
    ),
    "imported as what it is called, which exports it": (
        "from app.db import engine as engine\n",
        "from app.db import engine as engine, get_background_session\n",
    ),
    "a key of the same name": (
        "from app.db import engine\nx = log['engine']\n",
        IMPORT + "\nx = log['engine']\n",
    ),
    "a type in quotes within quotes": (
        "from app.db import engine\nx: 'list[\"dict[str, \\'engine.Kind\\']\"]'\n",
        "from app.db import engine, get_background_session\n"
        "x: 'list[\"dict[str, \\'engine.Kind\\']\"]'\n",
    ),
    "a type in an argument": (
        "from app.db import engine\nx = typing.cast('engine.Kind', 1)\n",
        "from app.db import engine, get_background_session\nx = typing.cast('engine.Kind', 1)\n",
    ),
    "a type in a generic one": (
        "from app.db import engine\nx = Optional['engine.Kind'], list['int']\n",
        "from app.db import engine, get_background_session\n"
        "x = Optional['engine.Kind'], list['int']\n",
    ),
    "a type in a builtin one": (
        "from app.db import engine\nx = list['engine.Kind']\n",
        "from app.db import engine, get_background_session\nx = list['engine.Kind']\n",
    ),
    "a type in a type statement": (
        "from app.db import engine\ntype X = 'engine.Kind'\n",
        "from app.db import engine, get_background_session\ntype X = 'engine.Kind'\n",
    ),
    "all of the module's names": ("from app.db import *\n", "from app.db import *\n"),
    "a type that has a name": (
        "from app.db import engine\nx: TypeAlias = 'engine.Kind'\n",
        "from app.db import engine, get_background_session\nx: TypeAlias = 'engine.Kind'\n",
    ),
    "added to __all__": (
        "from app.db import engine\n__all__ = []\n__all__.append('engine')\n",
        "from app.db import engine, get_background_session\n__all__ = []\n"
        "__all__.append('engine')\n",
    ),
    "methods, parameters and targets of the same name": (
        "from app.db import engine\n\nclass A:\n    def engine(self, *, engine=None):\n"
        "        engine = engine or 1\n        return lambda engine: engine\n",
        IMPORT + "\n\nclass A:\n    def engine(self, *, engine=None):\n"
        "        engine = engine or 1\n        return lambda engine: engine\n",
    ),
    "used between two imports of it": (
        "from app.db import engine\nprint(engine)\nfrom app.db import engine\n",
        "from app.db import engine\nprint(engine)\n"
        "from app.db import engine, get_background_session\n",
    ),
}


@pytest.mark.parametrize(("before", "after"), TIDY.values(), ids=TIDY.keys())
def test_imports_are_left_tidy(before: str, after: str, project: Project) -> None:
    assert fixed(project, (HEAD + before + OPENED).encode()).decode() == after + MENDED


def test_both_arms_lose_what_neither_needs(project: Project) -> None:
    arms = (
        "try:\n    from sqlalchemy.ext.asyncio import {0}\n"
        "except ImportError:\n    from sqlalchemy.ext.asyncio.session import {0}\n"
    )
    before = arms.format("AsyncSession, other") + "from app.db import engine\n" + OPENED
    after = arms.format("other") + IMPORT + "\n" + MENDED
    assert fixed(project, before.encode()).decode() == after


SEMICOLONS = {
    "first": ("from sqlalchemy.ext.asyncio import AsyncSession; x = 1\n", "x = 1\n"),
    "last": ("x = 1; from sqlalchemy.ext.asyncio import AsyncSession\n", "x = 1\n"),
    "between": (
        "x = 1; from sqlalchemy.ext.asyncio import AsyncSession; y = 2;\n",
        "x = 1; y = 2;\n",
    ),
    "in a block on one line": (
        "class A: from sqlalchemy.ext.asyncio import AsyncSession\n" + HEAD,
        "class A: from sqlalchemy.ext.asyncio import AsyncSession\n",
    ),
}


@pytest.mark.parametrize(("before", "after"), SEMICOLONS.values(), ids=SEMICOLONS.keys())
def test_a_statement_goes_from_its_line(before: str, after: str, project: Project) -> None:
    rest = "from app.db import engine\n" + OPENED
    assert fixed(project, (before + rest).encode()).decode() == after + IMPORT + "\n" + MENDED


def test_statements_of_one_line_go_together(project: Project) -> None:
    before = (
        "from sqlalchemy.ext.asyncio import AsyncSession; from app.core import engine\n" + OPENED
    )
    app = project.settings.root / "app"
    (app / "core.py").write_text("from app.db import engine\n")
    assert fixed(project, before.encode()).decode() == IMPORT + "\n" + MENDED


def test_a_block_is_never_left_empty(project: Project) -> None:
    before = (
        "with lock:\n    from sqlalchemy.ext.asyncio import AsyncSession\n"
        "    from app.core import engine\n" + OPENED
    )
    app = project.settings.root / "app"
    (app / "core.py").write_text("from app.db import engine\n")
    after = IMPORT + "\nwith lock:\n    from app.core import engine\n" + MENDED
    assert fixed(project, before.encode()).decode() == after


def test_local_imports_of_several_functions_go_together(project: Project) -> None:
    local = (
        "async def {}():\n    from sqlalchemy.ext.asyncio import AsyncSession\n\n"
        "    from app.db import engine\n\n"
        "    async with AsyncSession(engine) as s:\n        await s.commit()\n"
    )
    mended = (
        "async def {}():\n    from app.db import get_background_session\n\n"
        "    async with get_background_session() as s:\n        await s.commit()\n"
    )
    data = local.format("a") + "\n\n" + local.format("b")
    expected = mended.format("a") + "\n\n" + mended.format("b")
    assert fixed(project, data.encode()).decode() == expected


def test_a_local_import_gets_a_local_one(project: Project) -> None:
    before = """\
async def job():
    from app.db import engine
    from sqlalchemy.ext.asyncio import AsyncSession

    async with AsyncSession(engine) as s:
        await s.commit()
"""
    after = """\
async def job():
    from app.db import get_background_session

    async with get_background_session() as s:
        await s.commit()
"""
    assert fixed(project, before.encode()).decode() == after


def test_a_local_import_in_parentheses_keeps_its_indentation(project: Project) -> None:
    before = """\
async def job():
    from app.db import (
        engine, setup,
        other
    )
    from sqlalchemy.ext.asyncio import AsyncSession

    async with AsyncSession(engine) as s:
        await s.commit()
    setup, other
"""
    after = """\
async def job():
    from app.db import (
        setup, other, get_background_session
    )

    async with get_background_session() as s:
        await s.commit()
    setup, other
"""
    assert fixed(project, before.encode()).decode() == after


def test_an_import_that_is_exported_stays(project: Project) -> None:
    path = project.settings.root / "app" / "__init__.py"
    result = fix("__init__.py", path, BEFORE.encode(), project, RULES, unsafe=False)
    assert b"import AsyncSession" in result.data
    assert b"import engine, get_background_session" in result.data


@pytest.mark.parametrize(
    "other",
    [
        "from app.jobs import engine\n",
        "from .jobs import other, engine as e\n",
        "from app.jobs import *\n",
        "from app import jobs\n\ndef dispose():\n    return jobs.engine.dispose()\n",
        "import app.jobs\n\ndef dispose():\n    return app.jobs.engine.dispose()\n",
        "import app.jobs as work\n\ndef dispose():\n    return work.engine.dispose()\n",
        "import app\n\ndef dispose(of=app):\n    module = app.jobs\n    module.engine.dispose()\n",
        'from unittest.mock import patch\n\nwith patch("app.jobs.engine"):\n    ...\n',
        'from app import jobs\n\ndef test(mock):\n    mock.setattr(jobs, "engine", 1)\n',
        'import sys\n\nengine = getattr(sys.modules["app.jobs"], "engine")\n',
        'import importlib\n\nimportlib.import_module("app.jobs").engine.dispose()\n',
        'TASKS = ["app.jobs:engine"]\n',
        "from app.jobs import engine\nthis is no Python\n",
    ],
)
@pytest.mark.parametrize("folder", ["app", "app/tests"])
def test_an_import_that_other_files_use_stays(other: str, folder: str, project: Project) -> None:
    path = project.settings.root / folder / "test_other.py"
    path.parent.mkdir(exist_ok=True)
    if folder == "app/tests":
        other = other.replace("from .jobs", "from ..jobs")
    path.write_text(other)
    (project.settings.root / "app" / "jobs.py").write_text(BEFORE)
    after = fixed(project, BEFORE.encode()).decode()
    assert "from app.db import engine, get_background_session" in after


@pytest.mark.parametrize(
    "other",
    [
        "from app.db import engine\n",
        "from app.jobs import job\nfrom app.db import engine\n\nengine.dispose()\n",
        "from app import jobs, db\n\njobs.job(db.engine)\n",
        'from unittest.mock import patch\n\nwith patch("app.db.engine"):\n    ...\n',
        "from app.db import *\n",
    ],
)
def test_an_import_that_others_have_from_elsewhere_goes(other: str, project: Project) -> None:
    root = project.settings.root
    (root / "app" / "__init__.py").write_text("")
    (root / "app" / "other.py").write_text(other)
    (root / "app" / "jobs.py").write_text(BEFORE)
    assert fixed(project, BEFORE.encode()).decode() == AFTER


def test_a_name_that_a_function_makes_global_is_no_import(project: Project) -> None:
    code = """\
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import engine

def setup():
    global Opens
    Opens = AsyncSession

async def job():
    async with Opens(engine) as s:
        await s.commit()
"""
    assert b"get_background_session" in fixed(project, code.encode())


def test_edits_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        apply(b"abcdef", [Edit(0, 3, "x"), Edit(2, 4, "y")], "utf-8")
