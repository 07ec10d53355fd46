"""What a fix does to imports: the one it adds, and those that it leaves without a use."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from session_guard.config import Settings
from session_guard.fixer import fix
from session_guard.project.project import Project
from session_guard.registry import load_rules

if TYPE_CHECKING:
    from collections.abc import Iterator

RULES = tuple(rule for rule in load_rules() if rule.code.startswith("SG10"))
OPENINGS = tuple(rule for rule in RULES if rule.code in ("SG101", "SG103"))
STANDARD = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "db.py").write_text(STANDARD)
    return Project(Settings(root=tmp_path))


def fixed(project: Project, data: bytes) -> bytes:
    path = project.settings.root / "app" / "jobs.py"
    path.write_bytes(data)
    return fix("jobs.py", path, data, project, RULES, unsafe=False).data


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
        "from app.db import (\n    # the\n    # engine\n    engine,\n)\n",
        "from app.db import (\n    get_background_session,\n)\n",
    ),
    "a name that the line above is about, and another with a line of its own": (
        "from app.db import (\n    Base,\n    # ours\n    engine,  # engine\n    # theirs\n"
        "    setup,\n)\nBase, setup\n",
        "from app.db import (\n    Base,\n    get_background_session,\n    # theirs\n"
        "    setup,\n)\nBase, setup\n",
    ),
    "a name that the line above has in it": (
        "from app.db import (\n    # the engine of ours\n    engine,\n    setup,\n)\nsetup\n",
        "from app.db import (\n    get_background_session,\n    setup,\n)\nsetup\n",
    ),
    "a line above that others stand under": (
        "from app.db import (\n    # ours\n    Base,\n    engine,\n)\nBase\n",
        "from app.db import (\n    # ours\n    Base,\n    get_background_session,\n)\nBase\n",
    ),
    "a name that the line above keeps": (
        "from app.db import (\n    # re-exported\n    engine,\n    setup,\n)\nsetup\n",
        "from app.db import (\n    # re-exported\n    engine,\n    get_background_session,\n"
        "    setup,\n)\nsetup\n",
    ),
    "names that the first line's comment keeps": (
        "from app.db import (  # noqa: F401\n    engine,\n)\n",
        "from app.db import (  # noqa: F401\n    engine,\n    get_background_session,\n)\n",
    ),
    "a comment in another layout that keeps them": (
        "from app.db import (engine, setup,  # noqa: F401\n)\nsetup\n",
        "from app.db import (engine, setup,  # noqa: F401\n)\n" + IMPORT + "\nsetup\n",
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
        "from app.db import engine as engine\n" + IMPORT + "\n",
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


FOR_TYPES = {
    "with others": (
        "    from app import A\n    from app.db import Maker\n",
        "    from app import A\n",
    ),
    "alone": ("    from app.db import Maker\n", "    pass\n"),
    "with names that stay": ("    from app.db import A, Maker\n", "    from app.db import A\n"),
}


@pytest.mark.parametrize(("before", "after"), FOR_TYPES.values(), ids=FOR_TYPES.keys())
def test_an_import_for_types_goes_with_the_annotation(
    before: str, after: str, project: Project
) -> None:
    code = (
        "from typing import TYPE_CHECKING\n\nfrom app.db import get_background_task_session_factory"
        "\n\nif TYPE_CHECKING:\n{}\n\nasync def job():\n"
        "    make: Maker = get_background_task_session_factory()\n"
        "    async with make() as s:\n        print(await s.get(A, 1))\n"
    )
    mended = fixed(project, code.format(before).encode()).decode()
    assert f"if TYPE_CHECKING:\n{after}\n\nasync def job" in mended
    assert "make" not in mended


def test_both_arms_lose_what_neither_needs(project: Project) -> None:
    arms = (
        "try:\n    from sqlalchemy.ext.asyncio import {0}\n"
        "except ImportError:\n    from sqlalchemy.ext.asyncio.session import {0}\n"
    )
    before = arms.format("AsyncSession, other") + "from app.db import engine\n" + OPENED
    after = arms.format("other") + IMPORT + "\n" + MENDED
    assert fixed(project, before.encode()).decode() == after


ABOUT_OTHERS = {
    "the line above": "from app.db import (\n    # ours\n    engine,\n    setup,\n)\n",
    "in another layout": "from app.db import (engine, setup,  # ours\n)\n",
    "for a tool": "from app.db import (\n    # isort: off\n    engine,\n)\n",
}


@pytest.mark.parametrize("imports", ABOUT_OTHERS.values(), ids=ABOUT_OTHERS.keys())
def test_what_a_comment_on_others_would_keep_without_a_use_is_not_fixed(
    imports: str, project: Project
) -> None:
    path = project.settings.root / "app" / "jobs.py"

    def fixed_of(code: str) -> tuple[str, list[str]]:
        result = fix("jobs.py", path, code.encode(), project, OPENINGS, unsafe=True)
        return result.data.decode(), [finding.help for finding in result.remaining]

    once = HEAD + imports + OPENED
    after, told = fixed_of(once)
    assert after == once
    assert len(told) == 1
    assert "not fixed: a comment in the import of `engine`" in told[0]
    # The last use stays, and with it the import.
    after, told = fixed_of(once + OPENED)
    assert after.endswith(MENDED + OPENED)
    assert imports.split("engine")[0] in after
    assert len(told) == 1
    assert "not fixed: a comment in the import of `engine`" in told[0]
    # Where it has another use, nothing would be left without one.
    after, told = fixed_of(once + "engine.x\n")
    assert after.endswith(MENDED + "engine.x\n")
    assert told == []


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


def test_an_import_of_another_module_is_relative_where_the_engines_is(project: Project) -> None:
    app = project.settings.root / "app"
    (app / "__init__.py").write_text("")
    (app / "core.py").write_text("from app.db import engine\n")
    before = HEAD + "\nfrom .core import engine\nfrom .zeta import b\n" + OPENED
    after = "from .db import get_background_session\nfrom .zeta import b\n" + MENDED
    assert fixed(project, before.encode()).decode() == after


CLASS = "from sqlalchemy.ext.asyncio import AsyncSession\n"
WITHOUT_A_MODEL = {
    "in a section of its own": (
        "import os\n\nimport httpx\n" + CLASS,
        "import os\n\nimport httpx\n\nfrom app.db import get_background_session\n",
    ),
    "in the place of the only one": (
        '"""Jobs."""\n\n' + CLASS,
        '"""Jobs."""\n\nfrom app.db import get_background_session\n',
    ),
    "relative, as all of the project's": (
        "import os\n\n" + CLASS + "\nfrom .core import b\n",
        "import os\n\nfrom .core import b\nfrom .db import get_background_session\n",
    ),
    "absolute, as some of the project's": (
        CLASS + "\nfrom app.core import b\n\nfrom .core import c\n",
        "from app.core import b\nfrom app.db import get_background_session\n\n"
        "from .core import c\n",
    ),
}


@pytest.mark.parametrize(("before", "after"), WITHOUT_A_MODEL.values(), ids=WITHOUT_A_MODEL.keys())
def test_where_no_import_leads_to_the_engine(before: str, after: str, project: Project) -> None:
    app = project.settings.root / "app"
    (app / "__init__.py").write_text("")
    (app / "core.py").write_text("from app.db import engine\n\nb = c = 1\n")
    held = "\n\ndef its_engine():\n    from app.core import engine\n    return engine\n"
    opened = held + JOB.format("AsyncSession(its_engine())")
    mended = held + JOB.format("get_background_session()")
    assert fixed(project, (before + opened).encode()).decode() == after + mended


def test_what_is_done_between_imports_stays_before_the_new_one(project: Project) -> None:
    top = "import app.zeta\nfrom dotenv import load_dotenv\n\nload_dotenv()\n\n{}"
    before = top.format(HEAD + "from app.db import engine\n") + OPENED
    app = project.settings.root / "app"
    (app / "core.py").write_text("from app.db import engine\n")
    after = top.format(IMPORT + "\n") + MENDED
    assert fixed(project, before.replace("app.db", "app.core").encode()).decode() == after


def test_a_block_is_never_left_empty(project: Project) -> None:
    before = (
        "with lock:\n    from sqlalchemy.ext.asyncio import AsyncSession\n"
        "    from app.core import engine\n" + OPENED
    )
    app = project.settings.root / "app"
    (app / "core.py").write_text("from app.db import engine\n")
    after = IMPORT + "\n\nwith lock:\n    from app.core import engine\n" + MENDED
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
    before = (HEAD + "from app.db import engine\n" + OPENED).encode()
    result = fix("__init__.py", path, before, project, RULES, unsafe=False)
    assert b"import AsyncSession" in result.data
    assert b"import engine, get_background_session" in result.data


# -- cycles ---------------------------------------------------------------------------------------

CYCLES = {
    "the handler itself": {"app/db.py": "import app.jobs\n"},
    "through another module": {
        "app/db.py": "from app import models\n",
        "app/models.py": "from . import jobs\n",
    },
    "through a package": {
        "app/db.py": "from app.models.user import User\n",
        "app/models/__init__.py": "from app.jobs import job\n",
        "app/models/user.py": "class User: ...\n",
    },
    "in a branch, and in a class": {
        "app/db.py": "try:\n    import app.models\nexcept ImportError:\n    pass\n",
        "app/models.py": "class A:\n    from app.jobs import job\n",
    },
    "through what the package of both imports first": {
        "app/db.py": "from app import setting\n",
        "app/__init__.py": "from app.jobs import job\nsetting = 1\n",
    },
    "through what cannot be parsed": {
        "app/db.py": "import app.models\n",
        "app/models.py": "def (:\n",
    },
}
NO_CYCLES = {
    "later": {"app/db.py": "def late():\n    import app.jobs\n"},
    "for type checkers": {
        "app/db.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import app.jobs\n"
    },
    "of the package that began to run before": {
        "app/db.py": "from app.models import User\n",
        "app/models.py": "class User: ...\n",
        "app/__init__.py": "from app.jobs import job\n",
    },
}


def lay(root: Path, files: dict[str, str]) -> None:
    """Write files; what is given of the handler stands above its own text."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + (STANDARD if name == "app/db.py" else ""))


@pytest.mark.parametrize("files", CYCLES.values(), ids=CYCLES.keys())
def test_an_import_that_would_close_a_cycle_goes_into_the_function(
    files: dict[str, str], project: Project
) -> None:
    lay(project.settings.root, {"app/__init__.py": ""} | files)
    before = HEAD + "from app.db import engine\n" + JOB.format("AsyncSession(engine)")
    after = (
        "async def job():\n    from app.db import get_background_session\n\n"
        "    async with get_background_session() as s:\n        await s.commit()\n"
    )
    assert fixed(project, before.encode()).decode() == after


@pytest.mark.parametrize("files", NO_CYCLES.values(), ids=NO_CYCLES.keys())
def test_an_import_that_closes_no_cycle_stays_at_the_top(
    files: dict[str, str], project: Project
) -> None:
    lay(project.settings.root, {"app/__init__.py": ""} | files)
    before = HEAD + "from app.db import engine\n" + OPENED
    assert fixed(project, before.encode()).decode() == IMPORT + "\n" + MENDED


IN_FUNCTIONS = {
    "behind the docstring": (
        'async def job():\n    """Work."""\n    {opened}\n        await s.commit()\n',
        'async def job():\n    """Work."""\n    {imported}\n\n    {mended}\n'
        "        await s.commit()\n",
    ),
    "above a comment": (
        "async def job():\n    # now\n    {opened}\n        await s.commit()\n",
        "async def job():\n    {imported}\n\n    # now\n    {mended}\n        await s.commit()\n",
    ),
    "above a comment behind a gap": (
        'async def job():\n    """Work."""\n\n    # now\n    {opened}\n        await s.commit()\n',
        'async def job():\n    """Work."""\n\n    {imported}\n\n    # now\n    {mended}\n'
        "        await s.commit()\n",
    ),
    "among other imports": (
        "async def job():\n    import os\n\n    from app.core import a\n    from app.z import b\n\n"
        "    {opened}\n        await s.commit(os, a, b)\n",
        "async def job():\n    import os\n\n    from app.core import a\n    {imported}\n"
        "    from app.z import b\n\n    {mended}\n        await s.commit(os, a, b)\n",
    ),
    "into the innermost function, once": (
        "def make():\n    async def job():\n        {opened}\n            await s.commit()\n"
        "        {opened}\n            await s.commit()\n    return job\n",
        "def make():\n    async def job():\n        {imported}\n\n        {mended}\n"
        "            await s.commit()\n        {mended}\n            await s.commit()\n"
        "    return job\n",
    ),
    "into each function": (
        "async def a():\n    {opened}\n        await s.commit()\n\n\n"
        "async def b():\n    {opened}\n        await s.commit()\n",
        "async def a():\n    {imported}\n\n    {mended}\n        await s.commit()\n\n\n"
        "async def b():\n    {imported}\n\n    {mended}\n        await s.commit()\n",
    ),
}


@pytest.mark.parametrize(("before", "after"), IN_FUNCTIONS.values(), ids=IN_FUNCTIONS.keys())
def test_where_in_the_function_it_goes(before: str, after: str, project: Project) -> None:
    lay(project.settings.root, {"app/__init__.py": "", "app/db.py": "import app.jobs\n"})
    texts = {
        "opened": "async with AsyncSession(engine) as s:",
        "mended": "async with get_background_session() as s:",
        "imported": "from app.db import get_background_session",
    }
    top = HEAD + "from app.db import engine\n\n\n"
    got = fixed(project, (top + before.format(**texts)).encode()).decode()
    assert got == after.format(**texts)


# -- as ruff's rules F and I have it --------------------------------------------------------------

JOBS = "\n\nasync def job():\n    async with {} as s:\n        await s.commit()\n    return {}\n"
SA = "from sqlalchemy.ext.asyncio import AsyncSession\n"
AS_RUFF_HAS_IT = {
    "three sections": ("import os\n\n" + SA + "\nfrom app.core import engine\n", "os"),
    "between others": (
        "import sys\n\nimport sqlalchemy\n" + SA + "\nfrom app.alpha import a\n"
        "from app.core import engine\nfrom app.zeta import b\n",
        "sys, sqlalchemy, a, b",
    ),
    "a new section between two": (
        "import os\n\nimport httpx\n" + SA + "\nfrom .core import engine\n",
        "os, httpx",
    ),
    "its own section alone": (SA + "\nfrom app.core import engine\n", "1"),
    "behind what is to be done before": (
        "import os\n\nfrom app.zeta import b\n\nos.chdir('/')\n\n"
        + SA
        + "\nfrom app.core import engine\n",
        "b",
    ),
    "behind __future__ and a docstring": (
        '"""Jobs."""\n\nfrom __future__ import annotations\n\n'
        + SA
        + "\nfrom app.core import engine\n",
        "1",
    ),
    "relative, two levels": (
        SA + "\nfrom ..other import a\nfrom .core import engine\nfrom .zeta import b\n",
        "a, b",
    ),
    "absolute, in a file with relative ones": (
        SA + "\nfrom app.core import engine\n\nfrom .zeta import b\n",
        "b",
    ),
    "an import of the module": (
        SA + "\nimport app.core\nfrom app.alpha import a\n",
        "a",
    ),
    "a heading over the section": (
        "import os\n\n" + SA + "\n# ours\nfrom app.core import engine\nfrom app.zeta import b\n",
        "os, b",
    ),
    "a comment on the next one": (
        SA + "\nfrom app.core import engine\n\n# the last\nfrom app.zeta import b\n",
        "b",
    ),
    "conditional imports behind": (
        SA + "\nfrom app.core import engine\n\ntry:\n    import orjson\nexcept ImportError:\n"
        "    orjson = None\n",
        "orjson",
    ),
    "imports for type checkers behind": (
        "from typing import TYPE_CHECKING\n\n" + SA + "\nfrom app.core import engine\n\n"
        'if TYPE_CHECKING:\n    from app.db import Base\n\nx: "Base"\n',
        "1",
    ),
    "a list with a name to a line": (
        SA + "\nfrom app.db import (\n    LIMIT,\n    Base,\n    engine,\n    setup,\n)\n",
        "LIMIT, Base, setup",
    ),
    "a list that gets too long": (
        SA + "\nfrom app.db import Base, engine, exceptions, middlewares, settings, setup, stop\n",
        "Base, engine, exceptions, middlewares, settings, setup, stop",
    ),
    "an alias beside a plain import": (
        SA + "\nfrom app.db import Base, setup\nfrom app.db import engine as engine_of_ours\n",
        "Base, setup",
    ),
    "an alias that stays": (
        SA + "\nfrom app.db import engine as engine_of_ours\n",
        "engine_of_ours",
    ),
    "numbers in names": (
        SA + "\nfrom app.core import engine\nfrom app.v2 import a\nfrom app.v10 import b\n",
        "a, b",
    ),
    "both forms of import": (
        SA + "\nimport app.beta as beta\nimport app.zeta as zeta\nfrom app.alpha import a\n"
        "from app.core import engine\n",
        "a, beta, zeta",
    ),
    "a factory": ("from app.core import SessionLocal\nfrom app.zeta import b\n", "b"),
}
STYLES = {
    "default": ("", True),
    "one name to a statement": ("[tool.ruff.lint.isort]\nforce-single-line = true\n", True),
    "one name to a statement, not configured": (
        "[tool.ruff.lint.isort]\nforce-single-line = true\n",
        False,
    ),
    "aliases with others": ("[tool.ruff.lint.isort]\ncombine-as-imports = true\n", True),
    "both forms together": ("[tool.ruff.lint.isort]\nforce-sort-within-sections = true\n", True),
    "no order by type": ("[tool.ruff.lint.isort]\norder-by-type = false\n", True),
    "short lines": ("[tool.ruff]\nline-length = 40\n", True),
    "long lines": ("[tool.ruff]\nline-length = 120\n", True),
}


def ruff(root: Path, *arguments: str) -> set[str]:
    """Return the names of the files below `root/app` that ruff finds something in."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ruff", "check", "--output-format=json", "--no-cache"),
            *("--config", "ruff-in-use.toml", "app", *arguments),
        ],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return {Path(found["filename"]).name for found in json.loads(done.stdout)}


def lay_project(root: Path, style: str, is_told: bool) -> Project:
    """Lay out a project with an engine of its own module, and the style that ruff has."""
    start = STANDARD.index("engine = create_async_engine(")
    end = STANDARD.index("\n)\n", start) + 3
    top = STANDARD[:start]
    factory = "\nSessionLocal = async_sessionmaker(engine, expire_on_commit=False)\n"
    (root / "app").mkdir()
    (root / "app" / "__init__.py").write_text("")
    (root / "app" / "core.py").write_text(top + STANDARD[start:end] + factory)
    (root / "app" / "db.py").write_text(top + "from app.core import engine\n" + STANDARD[end:])
    (root / "pyproject.toml").write_text(style if is_told else "")
    in_use = style.replace("tool.ruff.", "").replace("[tool.ruff]", "")
    (root / "ruff-in-use.toml").write_text(in_use)
    return Project(Settings(root=root, handler=("app.db",)))


def compared(root: Path, project: Project, sources: dict[str, str]) -> dict[str, str]:
    """Fix files, as ruff would have their imports before, and return those that ruff faults then.

    Each comes with its text; what ruff faulted before as well is left out.
    """
    for name, text in sources.items():
        (root / "app" / name).write_text(text)
    ruff(root, "--select=I", "--fix", "--quiet")
    faulted = ruff(root, "--select=F,I")
    sources = {name: (root / "app" / name).read_text() for name in sources if name not in faulted}
    assert sources
    for name, text in sources.items():
        path = root / "app" / name
        result = fix(name, path, text.encode(), project, OPENINGS, unsafe=False)
        assert result.data != text.encode(), f"{name} was not fixed: {result.remaining}"
        path.write_bytes(result.data)
    return {
        name: (root / "app" / name).read_text()
        for name in ruff(root, "--select=F,I")
        if name in sources
    }


FOR_REQUESTS = """

@asynccontextmanager
async def get_session():
    async with get_background_session() as session:
        yield session
"""
WEB = """\
from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

{imports}
router = APIRouter()


@router.get("/")
async def listed():
    async with AsyncSession(engine) as session:
        return (await session.scalars(select(1))).all()


@router.get("/all")
async def listed_all():
    async with AsyncSession(engine) as session:
        return (await session.scalars(select(1))).all()

"""
WEB_JOB = """
async def job():
    async with AsyncSession(engine) as session:
        return (await session.scalars(select(1))).all()
"""
OF_ITS_OWN = "\n\nasync def get_session():\n    yield {uses}\n"
TAKEN_NAMES = {
    "its own": ("from app.db import engine\n", OF_ITS_OWN.format(uses="1")),
    "its own, beside others": (
        "from app.db import Base, engine, zero\n",
        OF_ITS_OWN.format(uses="Base, zero"),
    ),
    "its own, beside what comes later": (
        "from app.db import engine, zero\n",
        OF_ITS_OWN.format(uses="zero"),
    ),
    "imported": ("from app.db import engine\nfrom app.orm import get_session\n", "get_session()\n"),
    "imported, in a list": (
        "from app.db import (\n    Base,\n    engine,\n)\nfrom app.orm import get_session\n",
        "get_session(Base)\n",
    ),
    "imported with the engine": (
        "from app.core import engine, get_session\n",
        "get_session()\n",
    ),
    "imported relatively": (
        "from .db import engine\nfrom .orm import get_session\n",
        "get_session()\n",
    ),
}


@pytest.mark.parametrize(("style", "is_told"), STYLES.values(), ids=STYLES.keys())
def test_ruff_finds_nothing_where_the_name_is_taken(
    style: str, is_told: bool, tmp_path: Path
) -> None:
    project = lay_project(tmp_path, style, is_told)
    with open(tmp_path / "app" / "db.py", "a") as stream:
        stream.write(FOR_REQUESTS)
    sources = {}
    for number, (imports, uses) in enumerate(TAKEN_NAMES.values()):
        code = WEB.format(imports=imports) + uses
        sources |= {f"web{number}.py": code, f"jobs{number}.py": f"{code}\n{WEB_JOB}"}
    assert compared(tmp_path, project, sources) == {}
    for name in sources:
        text = (tmp_path / "app" / name).read_text()
        assert text.count("async with get_request_session() as session:") == 2
        assert text.count("get_session as get_request_session") == 1
        assert "AsyncSession" not in text


@pytest.mark.parametrize(
    ("line", "called"),
    [
        ("get_request_session = None", None),
        ("from app.db import get_session as get_request_session", "get_request_session"),
        ("from app.db import get_session", "get_session"),
    ],
)
def test_a_name_that_stands_for_the_handlers_is_used_and_any_other_is_not(
    line: str, called: str | None, project: Project
) -> None:
    (project.settings.root / "app" / "db.py").write_text(STANDARD + FOR_REQUESTS)
    code = WEB.format(imports=f"from app.db import engine\n{line}\n")
    if called != "get_session":
        code += OF_ITS_OWN.format(uses="1")
    text = fixed(project, code.encode()).decode()
    assert text.count(f"async with {called}() as session:") == (2 if called else 0)
    assert text.count(line) == 1
    assert text.count("get_session as get_request_session") == (called == "get_request_session")


@pytest.mark.parametrize(("style", "is_told"), STYLES.values(), ids=STYLES.keys())
def test_ruff_finds_nothing_where_it_found_nothing(
    style: str, is_told: bool, tmp_path: Path
) -> None:
    project = lay_project(tmp_path, style, is_told)
    sources = {}
    for number, (imports, uses) in enumerate(AS_RUFF_HAS_IT.values()):
        opened = "AsyncSession(engine)"
        if "SessionLocal" in imports:
            opened = "SessionLocal()"
        elif "engine_of_ours" in imports:
            opened = "AsyncSession(engine_of_ours)"
        elif "import app.core\n" in imports:
            opened = "AsyncSession(app.core.engine)"
        sources[f"job_{number}.py"] = imports + JOBS.format(opened, f"({uses})")
    assert compared(tmp_path, project, sources) == {}


PLACED = {
    "not sorted": ("isort:skip", "isort:skip", "F,I"),
    "below code": ("noqa: E402", "noqa: E402", "F,E402"),
    "both": ("isort:skip # noqa:E402", "isort:skip  # noqa: E402", "F,I,E402"),
    "among other codes": ("noqa: F401, E402, I001", "noqa: E402, I001", "F,I,E402"),
}


@pytest.mark.parametrize(("mark", "kept", "codes"), PLACED.values(), ids=PLACED.keys())
@pytest.mark.parametrize("style", ["", "[tool.ruff]\nline-length = 40\n"], ids=["short", "wrapped"])
def test_what_allows_an_imports_place_holds_for_the_new_one(
    mark: str, kept: str, codes: str, style: str, tmp_path: Path
) -> None:
    project = lay_project(tmp_path, style, is_told=True)
    code = (
        "import os\n\nos.environ.setdefault('X', 'y')\n\n"
        f"from app.core import engine  # {mark}\n"
        f"from sqlalchemy.ext.asyncio import AsyncSession  # {mark}\n\n\n"
        "async def job():\n    async with AsyncSession(engine) as session:\n"
        "        await session.commit()\n\n\n"
        "async def other(**options):\n    session = AsyncSession(engine, **options)\n"
        "    return session\n"
    )
    path = tmp_path / "app" / "jobs.py"
    path.write_text(code)
    assert "jobs.py" not in ruff(tmp_path, f"--select={codes}")
    path.write_bytes(fix("jobs.py", path, code.encode(), project, OPENINGS, unsafe=False).data)
    written = path.read_text()
    if style:
        assert f"from app.db import (  # {kept}\n    get_background_session,\n)\n" in written
    else:
        assert f"from app.db import get_background_session  # {kept}\n" in written
    assert "jobs.py" not in ruff(tmp_path, f"--select={codes}")


def test_the_examples_are_as_ruff_has_them(tmp_path: Path) -> None:
    lay_project(tmp_path, "", True)
    for number, (imports, uses) in enumerate(AS_RUFF_HAS_IT.values()):
        (tmp_path / "app" / f"job_{number}.py").write_text(imports + JOBS.format("x", f"({uses})"))
    assert ruff(tmp_path, "--select=I") == set()


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
    path = project.settings.root / "app" / "jobs.py"
    after = fix("jobs.py", path, BEFORE.encode(), project, RULES, unsafe=True).data.decode()
    assert "from app.db import engine, get_background_session  # noqa: F401\n" in after


def test_what_two_statements_lead_to_is_imported_once(project: Project) -> None:
    root = project.settings.root
    (root / "app" / "made.py").write_text("from app.db import engine\n")
    (root / "app" / "kept.py").write_text("from app.db import engine as kept\n")
    code = (
        "from sqlalchemy.ext.asyncio import AsyncSession\n\nfrom app.kept import kept\n"
        "from app.made import engine\n\n\n"
        "async def one():\n    async with AsyncSession(engine) as s:\n"
        "        await s.commit()\n\n\nasync def two():\n"
        "    async with AsyncSession(kept) as s:\n        await s.commit()\n"
    )
    after = fixed(project, code.encode()).decode()
    assert after.count("import") == after.count("import get_background_session\n") == 1


HAD_BY_TEXT = {
    "globals": "print(globals()['engine'])\n",
    "a doctest": 'def f():\n    """Do.\n\n    >>> f(engine)\n    """\n',
    "a type comment": "def g(a):\n    # type: (engine) -> None\n    pass\n",
}


@pytest.mark.parametrize("use", HAD_BY_TEXT.values(), ids=HAD_BY_TEXT.keys())
def test_an_import_that_a_text_names_stays(use: str, project: Project) -> None:
    after = fixed(project, (BEFORE + use).encode()).decode()
    assert "from app.db import engine, get_background_session  # noqa: F401\n" in after


STAYING = {
    "with a comment": (
        "from app.db import engine  # ours\n",
        "from app.db import engine, get_background_session  # ours  # noqa: F401\n",
    ),
    "marked before": (
        "from app.db import engine  # noqa: F401\n",
        "from app.db import engine, get_background_session  # noqa: F401\n",
    ),
    "in a list": (
        "from app.db import (\n    engine,\n    other,\n)\n",
        "from app.db import (  # noqa: F401\n    engine,\n    get_background_session,\n"
        "    other,\n)\n",
    ),
    "over two lines": (
        "from app.db import engine, \\\n    other\n",
        "from app.db import engine, \\\n    get_background_session, \\\n    other  # noqa: F401\n",
    ),
}


@pytest.mark.parametrize(("before", "after"), STAYING.values(), ids=STAYING.keys())
def test_linters_are_told_of_an_import_that_stays(
    before: str, after: str, project: Project
) -> None:
    root = project.settings.root
    (root / "app" / "other.py").write_text("from app.jobs import engine\n")
    path = root / "app" / "jobs.py"
    code = BEFORE.replace("from app.db import engine\n", before)
    assert code.count("noqa") == before.count("noqa")
    if "other" in before:
        code += "print(other)\n"
    path.write_text(code)
    fixed_text = fix("jobs.py", path, code.encode(), project, RULES, unsafe=True).data.decode()
    assert after in fixed_text
    path.write_text(fixed_text)
    (root / "ruff-in-use.toml").write_text("")
    assert "jobs.py" not in ruff(root, "--select", "F401")


@pytest.mark.parametrize(
    "other",
    [
        "from app.db import engine\n",
        "from app.jobs import job\nfrom app.db import engine\n\nengine.dispose()\n",
        "from app import jobs, db\n\njobs.job(db.engine)\n",
        'NAMES = ["app.db.engine"]\n',
        "from app.db import *\n",
        "from app.{{ name }} import engine\n",
        'print "engine"\n',
        "from app.myjobs import engine\nthis is no Python\n",
        "from app.db import engine\n\0",
    ],
)
def test_an_import_that_others_have_from_elsewhere_goes(other: str, project: Project) -> None:
    root = project.settings.root
    (root / "app" / "__init__.py").write_text("")
    (root / "app" / "other.py").write_text(other)
    (root / "app" / "jobs.py").write_text(BEFORE)
    assert fixed(project, BEFORE.encode()).decode() == AFTER


# In real files these stand among the imports that are there, and some of the code in them.
INJECTED = (
    (SA + "from app.core import engine\n", "AsyncSession(engine)", "1"),
    ("from app.core import SessionLocal\n", "SessionLocal()", "1"),
    (SA + "from .core import engine\n", "AsyncSession(engine)", "1"),
    (SA + "from app.db import Base, engine, setup\n", "AsyncSession(engine)", "Base, setup"),
    (SA + "from app import core\n", "AsyncSession(core.engine)", "1"),
    (SA + "import app.core as core\n", "AsyncSession(core.engine)", "1"),
    (SA + "from app.db import engine as e, setup\n", "AsyncSession(e)", "setup"),
)
REAL_PACKAGES = ("hypothesis", "libcst", "mypy", "pydantic", "sqlmodel", "virtualenv")


def real_files() -> Iterator[Path]:
    """Yield files of packages that tests are run with, spread over each of them."""
    for name in REAL_PACKAGES:
        found = importlib.util.find_spec(name)
        assert found is not None
        package = Path(str(found.origin)).parent
        files = sorted(package.rglob("*.py"))
        files = [f for f in files if f.name != "__init__.py" and 500 < f.stat().st_size < 3000]
        yield from files[:: len(files) // 4 + 1]


@pytest.mark.parametrize("style", ["default", "one name to a statement", "aliases with others"])
def test_ruff_finds_nothing_in_real_files_where_it_found_nothing(
    style: str, tmp_path: Path
) -> None:
    project = lay_project(tmp_path, *STYLES[style])
    sources = {}
    for number, path in enumerate(real_files()):
        text = path.read_text(encoding="utf-8")
        imports = [
            statement.end_lineno
            for statement in ast.parse(text).body
            if isinstance(statement, (ast.Import, ast.ImportFrom))
        ]
        if imports and "engine" not in text:
            injected, opened, uses = INJECTED[number % len(INJECTED)]
            lines = text.splitlines(keepends=True)
            lines.insert(imports[-1], injected)
            sources[f"real_{number}.py"] = "".join(lines) + JOBS.format(opened, uses)
    assert len(sources) > 15
    assert compared(tmp_path, project, sources) == {}


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


def test_a_name_of_several_modules_is_none_that_leads_to_the_handler(tmp_path: Path) -> None:
    for service in ("api", "worker"):
        folder = tmp_path / "services" / service / "app"
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / "db.py").write_text(STANDARD if service == "api" else "engine = make()\n")
    path = tmp_path / "main.py"
    path.write_text(
        "from sqlalchemy.ext.asyncio import AsyncSession\nfrom app.db import engine\n\n"
        "async def job():\n    async with AsyncSession(engine) as s:\n        await s.commit()\n"
    )
    project = Project(Settings(root=tmp_path))
    result = fix("main.py", path, path.read_bytes(), project, OPENINGS, unsafe=True)
    assert result.applied == []
    assert "more than one module of the project may be meant" in result.remaining[0].help
