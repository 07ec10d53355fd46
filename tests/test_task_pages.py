"""The pages on background tasks show the code that is run in `tests/runtime`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from session_guard.runner import Options, Run

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "tasks"
APPS = ROOT / "tests" / "runtime" / "background_tasks"
NAIVE = "celery_naive_app.py"


def test_the_pages_show_each_application_to_the_letter() -> None:
    shown = [
        block
        for page in PAGES.glob("*.md")
        for block in re.findall(
            r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE
        )
    ]
    run = [path.read_text() for path in APPS.glob("*_app.py") if path.name != NAIVE]
    assert sorted(shown) == sorted(run)


def test_every_page_is_in_the_index() -> None:
    index = (PAGES / "README.md").read_text()
    linked = set(re.findall(r"\]\((\w[\w-]*\.md)\b", index))
    assert linked == {path.name for path in PAGES.glob("*.md")} - {"README.md"}


def test_the_linter_has_nothing_against_what_the_pages_show(tmp_path: Path) -> None:
    shutil.copytree(APPS, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pyproject.toml").write_text("[tool.session-guard]\n")
    found = [item for items in Run(Options(paths=(str(tmp_path),))).check() for item in items]
    assert {Path(item.path).name for item in found} == {NAIVE}
    assert {item.code for item in found} == {"SG102", "SG103", "SG201", "SG202"}
