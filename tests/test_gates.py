"""What is passed by unparsed has no finding, and what is found depends on no other file named.

Gates and the look at a file by `ast` are there for speed alone: with and without them the findings
are the same, one by one, on the examples of all rules and on packages that use async sessions.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from session_guard import registry
from session_guard.registry import load_rules
from session_guard.runner import Options, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from session_guard.rule import Finding, Invalid, Rule, Valid

STANDARD = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()
RULES = load_rules()

# What a file that re-exports all that examples import from elsewhere calls it.
NAMES = {
    "AsyncSession": "DbSession",
    "async_sessionmaker": "make_factory",
    "async_scoped_session": "make_registry",
    "create_async_engine": "make_database",
    "async_engine_from_config": "read_database",
    "get_background_session": "open_scope",
    "get_session": "request_scope",
    "background_task_session_factory": "open_it",
}
RE_EXPORTING = """\
from sqlalchemy.ext.asyncio import *
from sqlalchemy.ext.asyncio import (
    AsyncSession as DbSession,
    async_sessionmaker as make_factory,
    async_scoped_session as make_registry,
    create_async_engine as make_database,
    async_engine_from_config as read_database,
)
from app.db import *
from app.db import (
    background_task_session_factory as open_it,
    get_background_session as open_scope,
    get_session as request_scope,
)
"""


def without_gates(rule: Rule) -> Rule:
    """Return a rule that is asked about every file: no gate, no subject to look for first."""
    always = {
        "gate": lambda *_: True,
        "subject": None,
        "subject_in": lambda *_: None,
        "needs_handler": False,
    }
    return type(type(rule).__name__, (type(rule),), always)()


def findings_in(paths: Iterable[Path]) -> list[Finding]:
    """Return what is found in some files or folders that are named together, by place."""
    run = Run(Options(paths=tuple(map(str, paths))))
    found = [item for findings in run.check() for item in findings]
    return sorted(found, key=lambda item: (item.path, item.line, item.column, item.code))


def files_of(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py"))


def lay_out(root: Path, rule: Rule, change: Callable[[str], str] = str) -> list[Path]:
    """Lay out all examples of a rule, a project for each handler and configuration they ask for."""

    def asked(example: Valid | Invalid) -> tuple[str, str]:
        return example.handler or STANDARD, example.config

    projects = []
    examples = sorted((*rule.valid, *rule.invalid), key=asked)
    for number, ((handler, config), group) in enumerate(groupby(examples, asked)):
        folder = root / f"{rule.code}-{number}"
        (folder / "app").mkdir(parents=True)
        (folder / "pyproject.toml").write_text(f"[tool.session-guard]\n{config}\n")
        (folder / "app" / "__init__.py").write_text("")
        (folder / "app" / "db.py").write_text(handler)
        (folder / "app" / "names.py").write_text(RE_EXPORTING)
        for index, example in enumerate(group):
            (folder / "app" / f"example_{index}.py").write_text(change(example.code))
        projects.append(folder)
    return projects


def renamed(code: str) -> str:
    """Return an example that has everything from `app.names`, and not under its usual name."""
    code = re.sub(
        r"\bfrom (sqlalchemy\.ext\.asyncio|app\.db) import", "from app.names import", code
    )
    return re.sub(r"\b\w+\b", lambda match: NAMES.get(match[0], match[0]), code)


def check_gates(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """Hold a run against one without gates, and return what is found."""
    found = findings_in([root])
    with monkeypatch.context() as patch:
        patch.setattr(registry, "load_rules", lambda: tuple(map(without_gates, RULES)))
        assert findings_in([root]) == found
    return found


def check_alone(root: Path, found: list[Finding]) -> None:
    """Hold each file's findings, alone and with one other, against those of the whole project."""
    files = files_of(root)
    for file, other in zip(files, [*files[1:], files[0]], strict=True):
        own = [item for item in found if Path(item.path) == file]
        assert findings_in([file]) == own
        if own:
            together = findings_in([other, file])
            assert [item for item in together if Path(item.path) == file] == own


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_of_a_rules_examples(rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = set()
    for root in lay_out(tmp_path, rule):
        found = check_gates(root, monkeypatch)
        codes |= {item.code for item in found}
        check_alone(root, found)
    assert rule.code in codes


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_of_a_rules_examples_under_other_names(
    rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = set()
    for root in lay_out(tmp_path, rule, renamed):
        codes |= {item.code for item in check_gates(root, monkeypatch)}
    assert rule.code in codes


PACKAGES = {
    "sqlalchemy": "ext/asyncio",
    "sqlmodel": "",
    "fastapi_async_sqlalchemy": "",
    "sqlalchemy_bind_manager": "",
}


@pytest.mark.parametrize("package", PACKAGES)
def test_of_a_package(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    source, part = Path(spec.submodule_search_locations[0]), PACKAGES[package]
    (tmp_path / "pyproject.toml").write_text("[tool.session-guard]\n")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source / part, tmp_path / package / part, ignore=ignored)
    assert files_of(tmp_path)
    check_alone(tmp_path, check_gates(tmp_path, monkeypatch))
