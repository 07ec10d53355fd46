"""The fixer's own guards: fixes that meet, that break a file, or that mend nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.config import Settings
from session_guard.fixer import fix
from session_guard.project import Project
from session_guard.rule import Applicability, Rewrite, Rule, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import libcst as cst

    from session_guard.module import Module


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
