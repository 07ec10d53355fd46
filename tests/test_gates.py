"""What the quick checks pass by holds no finding: on real packages, and on the rules' examples.

A rule's gate looks at bytes, `Rule.subject_in` and `Project.may_be_about` at what `ast` sees. Both
are there for speed alone, so that a run without them must find the same. So must a run over a file
that is named alone, as editors and pre-commit name it.
"""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from session_guard.registry import load_rules
from session_guard.runner import Options, Run

if TYPE_CHECKING:
    from types import ModuleType

    from session_guard.rule import Finding

HERE = Path(__file__).parent
# Small ones that use sessions in many ways: a library of bindings, a vector store, services.
PACKAGES = (
    "fastapi-tenancy",
    "kmvpy",
    "langchain-postgres",
    "sqlalchemy-bind-manager",
    "tgbotcore",
)
# Files that hold no word of SQLAlchemy's, and reach sessions by names of the project's alone.
BY_NAME = {
    "names.py": """\
from typing import Annotated
from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession
from app.db import background_task_session_factory as open_it, get_session

Db = Annotated[AsyncSession, Depends(get_session)]
""",
    "opens.py": """\
from app.names import open_it

async def job():
    async with open_it() as s:
        await s.commit()
""",
    "shares.py": """\
import asyncio
from app.names import Db
from app.work import load

async def run(db: Db):
    await asyncio.gather(load(db, 1), load(db, 2))
""",
}
HANDLER = (HERE / "fixtures" / "standard_2025" / "async_session.py").read_text()


def measure() -> ModuleType:
    """Return the module that fetches the projects of the field."""
    spec = importlib.util.spec_from_file_location("measure", HERE / "field" / "measure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=[*PACKAGES, "examples of rules"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("projects")
    if request.param in PACKAGES:
        field = measure()
        path: Path = field.fetch(field.read_projects()[request.param], folder)
        return path
    (folder / "pyproject.toml").touch()
    (folder / "app").mkdir()
    (folder / "app" / "db.py").write_text(HANDLER)
    for name, text in BY_NAME.items():
        (folder / "app" / name).write_text(text)
    for rule in load_rules():
        for number, example in enumerate((*rule.valid, *rule.invalid)):
            if example.handler is None:
                file = folder / "app" / f"{rule.code.lower()}_{number}.py"
                file.write_text(example.code)
    return folder


def found(*paths: Path, without_gates: bool = False) -> list[tuple[str, int, int, str, str]]:
    run = Run(Options(paths=tuple(map(str, paths))))
    if without_gates:
        run._rules = [copy.copy(rule) for rule in run._rules]  # others ask the same ones
        for rule in run._rules:
            rule.gate = lambda *_: True  # type: ignore[method-assign] # this is what is compared
            rule.subject_in = lambda _: None  # type: ignore[method-assign]
    return sorted(plain(item) for items in run.check() for item in items)


def plain(item: Finding) -> tuple[str, int, int, str, str]:
    return (Path(item.path).name, item.line, item.column, item.code, item.message)


def test_gates_pass_by_no_finding(project: Path) -> None:
    assert found(project) == found(project, without_gates=True)


def test_a_file_has_the_same_findings_alone_and_with_others(project: Path) -> None:
    run = Run(Options(paths=(str(project),)))
    by_file = {items[0].path: sorted(map(plain, items)) for items in run.check() if items}
    assert by_file
    paths = [Path(path) for path in by_file]
    # A run alone reads the project anew; a few files of each kind are enough of them.
    chosen = paths[:: max(1, len(paths) // 6)]
    for path in chosen:
        assert found(path) == by_file[str(path)]
    assert found(*chosen[:3]) == sorted(item for path in chosen[:3] for item in by_file[str(path)])
