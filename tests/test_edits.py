"""What a fix leaves alone: every byte outside its edits, in whatever encoding and layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from session_guard.config import Settings
from session_guard.fixer import fix
from session_guard.linter import lint
from session_guard.project.project import Project
from session_guard.registry import load_rules
from session_guard.rewriting.edits import apply
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


def test_edits_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        apply(b"abcdef", [Edit(0, 3, "x"), Edit(2, 4, "y")], "utf-8")
