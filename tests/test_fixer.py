"""The fixer's own guards: fixes that meet, that break a file, or that mend nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from session_guard.config import Settings
from session_guard.fixer import fix
from session_guard.project.project import Project
from session_guard.rule import Applicability, Rewrite, Rule, Violation
from session_guard.runner import Options, Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.module import Module

STANDARD = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()


class _Replacing(Rule):
    """Reports each call of `old`, and puts `new` in its place."""

    name = summary = why = fix_safety = since = "test"
    tokens = (b"(",)
    node_types = ("Call",)
    valid = ()
    invalid = ()

    def __init__(self, code: str, old: str, new: str) -> None:
        self._code, self.old, self.new = code, old, new

    @property
    def code(self) -> str:  # type: ignore[override]
        return self._code

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        import libcst as cst

        assert isinstance(node, cst.Call)
        if isinstance(node.func, cst.Name) and node.func.value == self.old:
            replacement: cst.BaseExpression = cst.Integer("1")
            if self.new != "1":
                replacement = node.with_changes(func=cst.Name(self.new))
            rewrite = Rewrite(Applicability.SAFE, "replace it", ((node, replacement),))
            yield Violation(node, "old", "replace it", rewrite)


def fixed(tmp_path: Path, code: str, *rules: Rule) -> tuple[str, list[str]]:
    project = Project(Settings(root=tmp_path))
    result = fix("a.py", tmp_path / "a.py", code.encode(), project, rules, unsafe=False)
    return result.data.decode(), [finding.help for finding in result.remaining]


def test_fixes_that_meet_are_done_one_after_the_other(tmp_path: Path) -> None:
    rules = (_Replacing("X1", "outer", "a"), _Replacing("X2", "inner", "b"))
    assert fixed(tmp_path, "outer(inner(1))\n", *rules) == ("a(b(1))\n", [])


def test_of_two_fixes_for_one_place_the_first_is_done(tmp_path: Path) -> None:
    rules = (_Replacing("X1", "old", "a"), _Replacing("X2", "old", "b"))
    assert fixed(tmp_path, "old(1)\n", *rules) == ("a(1)\n", [])


def test_a_file_that_would_no_longer_parse_stays_as_it_was(tmp_path: Path) -> None:
    data, [help_text] = fixed(tmp_path, "old(1).x\n", _Replacing("X1", "old", "1"))  # 1.x
    assert data == "old(1).x\n"
    assert "would not parse" in help_text


def test_a_fix_that_mends_nothing_is_taken_back(tmp_path: Path) -> None:
    data, [help_text] = fixed(tmp_path, "old(1)\n", _Replacing("X1", "old", "old"))
    assert data == "old(1)\n"
    assert "would not be free of it" in help_text


def test_what_a_fix_brings_about_is_no_failure_of_it(tmp_path: Path) -> None:
    rules = (_Replacing("X1", "old", "new"), _Replacing("X2", "new", "newer"))
    assert fixed(tmp_path, "old(1)\n", *rules) == ("newer(1)\n", [])
    assert fixed(tmp_path, "é = 1; old(1); new(1)\n", *rules) == ("é = 1; newer(1); newer(1)\n", [])


def test_a_finding_that_moved_is_still_there(tmp_path: Path) -> None:
    rules = (_Replacing("X1", "a", "abcdef"), _Replacing("X2", "old", "old"))
    data, help_texts = fixed(tmp_path, "a(1); é = 1; old(1)\n", *rules)
    assert data == "a(1); é = 1; old(1)\n"
    assert all("would not be free of it" in text for text in help_texts)


def test_fixes_that_undo_each_other_are_taken_back(tmp_path: Path) -> None:
    rules = (_Replacing("X1", "old", "new"), _Replacing("X2", "new", "old"))
    data, [help_text] = fixed(tmp_path, "old(1)\n", *rules)
    assert data == "old(1)\n"
    assert "would not settle" in help_text


def test_what_a_fix_writes_is_held_to_every_rule(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.session-guard]\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "db.py").write_text(STANDARD)
    job = tmp_path / "app" / "job.py"
    job.write_text(
        "from sqlalchemy.ext.asyncio import AsyncSession\n\nfrom app.db import engine\n\n\n"
        "async def job(x):\n    async with AsyncSession(engine) as s:\n"
        "        s.add(x)\n        await s.commit()\n"
    )
    [result] = Run(Options((str(job),))).fix(unsafe=False, write=True)
    assert [item.code for item in result.applied] == ["SG101", "SG303"]
    assert job.read_text() == (
        "from app.db import get_background_session\n\n\n"
        "async def job(x):\n    async with get_background_session() as s:\n        s.add(x)\n"
    )
    assert [*Run(Options((str(job),))).check()] == []


@pytest.mark.parametrize("user", ["aa.py", "zz.py"])
def test_what_a_finding_waits_for_may_be_fixed_in_another_file(user: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.session-guard]\n")
    app = tmp_path / "app"
    app.mkdir()
    (app / "db.py").write_text(STANDARD)
    (app / "making.py").write_text(
        "from sqlalchemy.ext.asyncio import async_sessionmaker\n\nfrom app.db import engine\n\n"
        "make = async_sessionmaker(engine)\nNAME = 'making'\n"
    )
    (app / user).write_text(
        "from app.making import make\n\n\nasync def job(x):\n    async with make() as s:\n"
        "        s.add(x)\n        await s.commit()\n"
    )
    shown = [*Run(Options((str(app),))).fix(unsafe=True, write=False)]
    done = [*Run(Options((str(app),))).fix(unsafe=True, write=True)]
    assert shown == done
    assert {Path(file.shown).name for file in done if file.applied} == {"making.py", user}
    assert not any(file.remaining for file in done)
    assert (app / "making.py").read_text() == "NAME = 'making'\n"
    assert "make" not in (app / user).read_text()
    again = [*Run(Options((str(app),))).fix(unsafe=True, write=True)]
    assert not any(file.applied for file in again)
