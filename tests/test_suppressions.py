"""`# noqa`: what it silences, and what it does not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from session_guard.config import Settings
from session_guard.linter import lint
from session_guard.project import Project
from session_guard.registry import load_rules

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "from sqlalchemy.ext.asyncio import AsyncSession\n"


def lines(tmp_path: Path, code: str) -> list[int]:
    path = tmp_path / "jobs.py"
    found = lint("jobs.py", path, (HEAD + code).encode(), Project(Settings(tmp_path)), load_rules())
    return [item.line for item in found]


SILENCED = {
    "all": "s = AsyncSession(e)  # noqa\n",
    "one": "s = AsyncSession(e)  # noqa: SG101\n",
    "one of several": "s = AsyncSession(e)  # noqa: E501, SG101\n",
    "one of several, apart by blanks": "s = AsyncSession(e)  # noqa: E501 SG101\n",
    "without a blank": "s = AsyncSession(e)  #noqa:SG101\n",
    "in other letters": "s = AsyncSession(e)  # NoQA: sg101\n",
    "with a reason": "s = AsyncSession(e)  # noqa: SG101 - the migration's own\n",
    "after another comment": "s = AsyncSession(e)  # type: ignore  # noqa: SG101\n",
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
