"""`# noqa`: what it silences, what it does not, and what is said of one that silences nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from session_guard.config import Settings
from session_guard.linter import lint
from session_guard.project.project import Project
from session_guard.registry import load_rules
from session_guard.runner import Options, Run

RULES = tuple(rule for rule in load_rules() if rule.code.startswith("SG10"))
HEAD = "from sqlalchemy.ext.asyncio import AsyncSession\n"


def lines(tmp_path: Path, code: str) -> list[int]:
    path = tmp_path / "jobs.py"
    found = lint("jobs.py", path, (HEAD + code).encode(), Project(Settings(tmp_path)), RULES)
    return [item.line for item in found if item.code != "SG002"]


SILENCED = {
    "all": "s = AsyncSession(e)  # noqa\n",
    "one": "s = AsyncSession(e)  # noqa: SG101\n",
    "one of several": "s = AsyncSession(e)  # noqa: E501, SG101\n",
    "one of several, apart by blanks": "s = AsyncSession(e)  # noqa: E501 SG101\n",
    "without a blank": "s = AsyncSession(e)  #noqa:SG101\n",
    "in other letters": "s = AsyncSession(e)  # NoQA: sg101\n",
    "with a reason": "s = AsyncSession(e)  # noqa: SG101 - the migration's own\n",
    "after another comment": "s = AsyncSession(e)  # type: ignore  # noqa: SG101\n",
    "after another suppression": "s = AsyncSession(e)  # noqa: E501 # noqa: SG101\n",
    "all, after another suppression": "s = AsyncSession(e)  # noqa: E501 # noqa\n",
    "else": "if x:\n    pass\nelse: AsyncSession(e)  # noqa: SG101\n",
    "header of an except": (
        "try:\n    pass\nexcept f(AsyncSession(e)):  # noqa: SG101\n    pass\n"
    ),
    "except on one line": "try: pass\nexcept E: AsyncSession(e)  # noqa: SG101\n",
    "first line of a statement": "s = AsyncSession(  # noqa: SG101\n    e,\n)\n",
    "middle line of a statement": "s = AsyncSession(\n    e,  # noqa: SG101\n)\n",
    "last line of a statement": "s = f(\n    AsyncSession(e),\n)  # noqa: SG101\n",
    "header": "async def f():\n    async with AsyncSession(e) as s:  # noqa: SG101\n        pass\n",
    "header of several lines": (
        "async def f():\n    async with (\n        g(),  # noqa: SG101\n"
        "        AsyncSession(e) as s,\n    ):\n        pass\n"
    ),
    "end of a header of several lines": (
        "async def f():\n    async with (\n        AsyncSession(e) as s,\n"
        "    ):  # noqa: SG101\n        pass\n"
    ),
    "decorator": "@f(AsyncSession(e))  # noqa: SG101\ndef g(): pass\n",
    "header of a function": "def g(s=AsyncSession(e)):  # noqa: SG101\n    pass\n",
    "if": "if AsyncSession(e):  # noqa: SG101\n    pass\n",
    "elif": "if x:\n    pass\nelif AsyncSession(e):  # noqa: SG101\n    pass\n",
    "block on one line": "if x: AsyncSession(e)  # noqa: SG101\n",
}


@pytest.mark.parametrize("code", SILENCED.values(), ids=SILENCED.keys())
def test_silenced(code: str, tmp_path: Path) -> None:
    assert lines(tmp_path, re.sub("noqa", "nope", code, flags=re.IGNORECASE)) != []
    assert lines(tmp_path, code) == []


NOT_SILENCED = {
    "another code": ("s = AsyncSession(e)  # noqa: E501\n", 2),
    "a longer code": ("s = AsyncSession(e)  # noqa: SG1010\n", 2),
    "several other codes": ("s = AsyncSession(e)  # noqa: E501,F401\n", 2),
    "a prefix": ("s = AsyncSession(e)  # noqa: SG1\n", 2),
    "in a string": ("s = AsyncSession('# noqa')\n", 2),
    "in a string of several lines": ("s = AsyncSession('''\n# noqa: SG101\n''')\n", 2),
    "the line before": ("# noqa: SG101\ns = AsyncSession(e)\n", 3),
    "the line behind": ("s = AsyncSession(e)\n# noqa: SG101\n", 2),
    "the header above": ("def f():  # noqa: SG101\n    AsyncSession(e)\n", 3),
    "the if above its else": ("if x:  # noqa: SG101\n    pass\nelse: AsyncSession(e)\n", 4),
    "the try above its except": (
        "try:  # noqa: SG101\n    pass\nexcept f(AsyncSession(e)):\n    pass\n",
        4,
    ),
    "the body of the except": (
        "try:\n    pass\nexcept f(AsyncSession(e)):\n    pass  # noqa: SG101\n",
        4,
    ),
    "the body below": (
        "async def f():\n    async with AsyncSession(e) as s:\n        pass  # noqa: SG101\n",
        3,
    ),
    "a colon and nothing": ("s = AsyncSession(e)  # noqa:\n", 2),
    "a word that begins so": ("s = AsyncSession(e)  # noqatall\n", 2),
}


@pytest.mark.parametrize(("code", "line"), NOT_SILENCED.values(), ids=NOT_SILENCED.keys())
def test_not_silenced(code: str, line: int, tmp_path: Path) -> None:
    assert lines(tmp_path, code) == [line]


# -- suppressions that silence nothing --------------------------------------------------------

STANDARD = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()


def reported(path: Path, *overrides: str) -> list[tuple[int, int, str, str]]:
    """Return what a run says of a file: line, column, code and message."""
    findings = [item for found in Run(Options((str(path),), overrides)).check() for item in found]
    return [(item.line, item.column, item.code, item.message) for item in findings]


def fixed(path: Path, *overrides: str) -> bytes:
    (result,) = Run(Options((str(path),), overrides)).fix(unsafe=False, write=True)
    assert [item.code for item in result.remaining] == []
    (again,) = Run(Options((str(path),), overrides)).fix(unsafe=False, write=True)
    assert again.after == again.before == path.read_bytes()
    return path.read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("[tool.session-guard]\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "db.py").write_text(STANDARD)
    return tmp_path / "app" / "jobs.py"


UNUSED = {
    "the whole comment": ("x = 1  # noqa: SG101\n", "x = 1\n"),
    "without blanks": ("x = 1#noqa:SG101\n", "x = 1\n"),
    "in other letters": ("x = 1  # NoQA: sg101\n", "x = 1\n"),
    "several": ("x = 1  # noqa: SG101 SG102,SG103 , SG104\n", "x = 1\n"),
    "twice": ("x = 1  # noqa: SG101, SG101\n", "x = 1\n"),
    "CRLF": ("x = 1\t# noqa: SG101 \r\ny\r\n", "x = 1\r\ny\r\n"),
    "no end of line": ("x = 1  # noqa: SG101", "x = 1"),
    "beside other codes": ("x = 1  # noqa: E501,  SG101,F401\n", "x = 1  # noqa: E501,F401\n"),
    "before other codes": ("x = 1  # noqa:SG101, E501 why\n", "x = 1  # noqa:E501 why\n"),
    "between codes": ("x = 1  # noqa: A1 SG101, SG102 B2\n", "x = 1  # noqa: A1 B2\n"),
    "a code like ours": ("x = 1  # noqa: SG1, SG101, SG999\n", "x = 1  # noqa: SG1, SG999\n"),
    "a reason": ("x = 1  # noqa: SG101 the team's own\n", "x = 1  # the team's own\n"),
    "a reason behind a dash": ("x = 1  # noqa: SG101 \u2014 own\n", "x = 1  # own\n"),
    "a reason that is a number": ("x = 1  # noqa: SG101 -1 is it\n", "x = 1  # -1 is it\n"),
    "before a comment": ("x = 1  # noqa: SG101 # own\n", "x = 1  # own\n"),
    "behind a comment": ("x = 1  # own # noqa: SG101\n", "x = 1  # own\n"),
    "between comments": ("x = 1  # a # noqa: SG101  # b\n", "x = 1  # a # b\n"),
    "two in one comment": ("x = 1  # noqa: SG101 # noqa: SG102\n", "x = 1\n"),
    "the same twice": ("x = 1  # noqa: SG101 # noqa: SG101\n", "x = 1\n"),
    "the first of two": ("x = 1  # noqa: SG101 # noqa: E501\n", "x = 1  # noqa: E501\n"),
    "the second of two": ("x = 1  # noqa: E501,F1 # noqa: SG101\n", "x = 1  # noqa: E501,F1\n"),
    "some of each": (
        "x = 1  # noqa: E501,SG101 # noqa: SG102 why\n",
        "x = 1  # noqa: E501 # why\n",
    ),
    "a double sign": ("x = 1  ## noqa: SG101\n", "x = 1\n"),
    "a line of its own": ("x = 1\n\n    # noqa: SG101\ny = 2\n", "x = 1\n\ny = 2\n"),
    "the first line": ("# noqa: SG101\nx = 1\n", "x = 1\n"),
    "the last line": ("if x:\n    y\n    # noqa: SG101\n", "if x:\n    y\n"),
    "within brackets": (
        "x = [\n    # noqa: SG101\n    1,  # noqa: SG102\n]\n",
        "x = [\n    1,\n]\n",
    ),
    "behind a backslash": ("x = 1 + \\\n    2  # noqa: SG101\n", "x = 1 + \\\n    2\n"),
    "the header": ("def f():  # noqa: SG101\n    pass\n", "def f():\n    pass\n"),
    "a character of two bytes": ("x = 'ü'  # noqa: SG101 ä\n", "x = 'ü'  # ä\n"),
}


@pytest.mark.parametrize(("code", "expected"), UNUSED.values(), ids=UNUSED.keys())
@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["", "byte order mark"])
def test_unused_suppressions_go(code: str, expected: str, start: str, file: Path) -> None:
    file.write_bytes((start + code).encode())
    assert {item[2] for item in reported(file)} == {"SG002"}
    assert fixed(file).decode() == start + expected


USED = {
    "one": "s = AsyncSession(e)  # noqa: SG101\n",
    "on two lines of a statement": "s = AsyncSession(  # noqa: SG101\n    e,\n)  # noqa: SG101\n",
    "beside one of all codes": "s = AsyncSession(  # noqa\n    e,\n)  # noqa: SG101\n",
    "no codes": "x = 1  # noqa\n",
    "no codes and a colon": "x = 1  # noqa: the team's own SG101\n",
    "another's codes": "x = 1  # noqa: F401, TEAM001\n",
    "a code like ours": "x = 1  # noqa: SG1, SG1010\n",
    "a file that cannot be read": "x = 1  # noqa: SG001\n",
    "in a string": "x = '# noqa: SG101'\n",
    "for a whole file": "# ruff: noqa: SG101\n# flake8: noqa: SG101\nx = 1\n",
    "kept on purpose": "x = 1  # noqa: SG101, SG002\n",
}


@pytest.mark.parametrize("code", USED.values(), ids=USED.keys())
def test_other_suppressions_stay(code: str, file: Path) -> None:
    file.write_text(HEAD + code)
    assert reported(file) == []
    assert fixed(file).decode() == HEAD + code


def test_an_unused_suppression_is_reported_at_its_comment(file: Path) -> None:
    file.write_text(f"{HEAD}s = f(\n    AsyncSession(e),  # noqa: SG101, E501, SG103\n)\n")
    assert reported(file) == [(3, 23, "SG002", "`# noqa: SG103` suppresses nothing")]


def test_only_rules_that_were_asked_are_judged(file: Path) -> None:
    file.write_text("x = 1  # noqa: SG101, SG102\n")
    assert reported(file, 'ignore = ["SG101"]')[0][3] == "`# noqa: SG102` suppresses nothing"
    ignored = 'per-file-ignores = { "jobs.py" = ["SG102"] }'
    assert reported(file, ignored)[0][3] == "`# noqa: SG101` suppresses nothing"
    assert reported(file, 'select = ["SG0"]') == []
    assert reported(file, 'ignore = ["SG002"]') == []
    assert reported(file, 'per-file-ignores = { "jobs.py" = ["SG002"] }') == []
    test = file.with_name("test_jobs.py")
    test.write_text("x = 1  # noqa: SG101\n")
    assert reported(test) == []


def test_the_handler_is_not_judged_by_rules_it_is_not_held_to(file: Path) -> None:
    handler = file.with_name("db.py")
    handler.write_text(f"{STANDARD}\nx = 1  # noqa: SG101, SG104\n")
    (found,) = reported(handler)
    assert found[2:] == ("SG002", "`# noqa: SG104` suppresses nothing")
    assert fixed(handler).decode() == f"{STANDARD}\nx = 1  # noqa: SG101\n"


def test_what_a_fix_leaves_without_use_goes_with_it(file: Path) -> None:
    file.write_text(
        "from app.db import engine\n"
        "from sqlalchemy.ext.asyncio import AsyncSession\n\n"
        "async def job():\n"
        "    async with AsyncSession(engine, execution_options={}) as s:  # noqa: SG104, E501\n"
        "        await s.commit()\n"
    )
    (result,) = Run(Options((str(file),))).fix(unsafe=True, write=True)
    assert [item.code for item in result.applied] == ["SG101", "SG002"]
    assert "    async with get_background_session() as s:  # noqa: E501\n" in file.read_text()


def test_comments_of_others_cost_no_parser(file: Path) -> None:
    file.write_text("import os  # noqa: F401\nmsg = 1  # noqa\n# SG101 is about sessions\n")
    done = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", "-m", "session_guard", "check", str(file)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert "session_guard.runner" in done.stderr
    assert "libcst" not in done.stderr
