"""Which module is the handler, and what its source tells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from session_guard.config import ConfigError
from session_guard.linter import lint
from session_guard.registry import load_rules
from session_guard.runner import Options, Run

if TYPE_CHECKING:
    from session_guard.rule import Finding

STANDARD = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()
JOB = """\
from sqlalchemy.ext.asyncio import AsyncSession
from {module} import engine

async def job():
    async with AsyncSession(engine) as s:
        await s.commit()
"""


def lay_out(root: Path, files: dict[str, str], table: str = "") -> None:
    (root / "pyproject.toml").write_text(f'[tool.session-guard]\nselect = ["SG10"]\n{table}\n')
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def check(path: Path) -> tuple[list[Finding], list[str]]:
    run = Run(Options(paths=(str(path),)))
    found = [item for findings in run.check() for item in findings]
    return found, run.notices


def is_fixable(root: Path, name: str) -> bool:
    [finding] = check(root / name)[0]
    return finding.fix is not None


def test_the_standard_of_2025_as_a_handler_is_clean(tmp_path: Path) -> None:
    lay_out(tmp_path, {"app/db.py": STANDARD})
    assert check(tmp_path) == ([], [])


NO_HANDLER = STANDARD.replace("get_background_session", "open_session")


def test_without_a_handler_a_lone_builder_may_build_and_it_is_said(tmp_path: Path) -> None:
    lay_out(tmp_path, {"app/db.py": NO_HANDLER, "app/jobs.py": JOB.format(module="app.db")})
    [finding], [notice] = check(tmp_path)
    assert finding.path.endswith("jobs.py")
    assert finding.fix is None
    assert "app/db.py alone builds" in notice
    assert "handler = " in notice


def test_tests_and_migrations_do_not_make_a_builder_less_lone(tmp_path: Path) -> None:
    files = {"app/db.py": NO_HANDLER, "tests/conftest.py": NO_HANDLER, "alembic/env.py": NO_HANDLER}
    lay_out(tmp_path, files)
    assert check(tmp_path)[0] == []


def test_sqlite_does_not_make_a_builder_less_lone(tmp_path: Path) -> None:
    lite = (
        "from sqlalchemy.ext.asyncio import create_async_engine\n"
        'engine = create_async_engine("sqlite+aiosqlite://")\n'
    )
    lay_out(tmp_path, {"app/db.py": NO_HANDLER, "app/lite.py": lite})
    assert check(tmp_path)[0] == []


def test_two_builders_are_none(tmp_path: Path) -> None:
    lay_out(tmp_path, {"app/db.py": NO_HANDLER, "lib/db.py": NO_HANDLER})
    found, notices = check(tmp_path)
    assert {item.code for item in found} >= {"SG102", "SG103"}
    assert notices == []


@pytest.mark.parametrize(
    ("place", "module"),
    [
        ("app/db.py", "app.db"),
        ("src/app/db.py", "app.db"),
        ("src/session/async_session.py", "src.session.async_session"),
        ("backend/app/db/__init__.py", "app.db"),
        ("db.py", "db"),
    ],
)
def test_it_is_found_and_recognised_in_imports(place: str, module: str, tmp_path: Path) -> None:
    lay_out(tmp_path, {place: STANDARD, "app/jobs.py": JOB.format(module=module)})
    assert is_fixable(tmp_path, "app/jobs.py")


def test_a_relative_import_is_recognised(tmp_path: Path) -> None:
    lay_out(tmp_path, {"app/core/db.py": STANDARD, "app/jobs/a.py": JOB.format(module="..core.db")})
    assert is_fixable(tmp_path, "app/jobs/a.py")


def test_a_package_of_the_same_name_elsewhere_is_not_it(tmp_path: Path) -> None:
    files = {"app/__init__.py": "", "app/db.py": STANDARD, "other/jobs.py": JOB.format(module="db")}
    lay_out(tmp_path, files)
    assert not is_fixable(tmp_path, "other/jobs.py")


@pytest.mark.parametrize("name", ["app.db", "app/db.py"])
def test_it_can_be_configured(name: str, tmp_path: Path) -> None:
    files = {
        "app/db.py": STANDARD,
        "lib/db.py": STANDARD,
        "app/jobs.py": JOB.format(module="app.db"),
    }
    lay_out(tmp_path, files, f'handler = "{name}"')
    found, notices = check(tmp_path / "app")
    assert notices == []
    assert [item.fix is not None for item in found] == [True]
    assert check(tmp_path / "lib")[0] != []


def test_several_of_them_are_none_and_it_is_said(tmp_path: Path) -> None:
    files = {
        "app/db.py": STANDARD,
        "lib/db.py": STANDARD,
        "app/jobs.py": JOB.format(module="app.db"),
    }
    lay_out(tmp_path, files)
    found, [notice] = check(tmp_path)
    assert "app/db.py, lib/db.py" in notice
    assert "handler = " in notice
    assert all(item.fix is None for item in found)


def test_several_can_be_configured(tmp_path: Path) -> None:
    other = STANDARD.replace("get_background_session", "open_session")
    files = {"app/db.py": STANDARD, "lib/db.py": other, "app/jobs.py": JOB.format(module="app.db")}
    lay_out(tmp_path, files, 'handler = ["app.db", "lib.db"]')
    [finding] = check(tmp_path)[0]
    assert finding.fix is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("@asynccontextmanager\n", ""),
        ("async def get_background_session()", "async def get_background_session(name)"),
        ("async def get_background_session()", "def get_background_session()"),
    ],
)
def test_only_an_async_context_manager_without_arguments_is_one(
    old: str, new: str, tmp_path: Path
) -> None:
    assert old in STANDARD
    files = {"app/db.py": STANDARD.replace(old, new), "app/jobs.py": JOB.format(module="app.db")}
    lay_out(tmp_path, files)
    assert not is_fixable(tmp_path, "app/jobs.py")


@pytest.mark.parametrize("folder", ["tests", "examples", "vendor", ".venv", "docs", "build"])
def test_copies_that_are_not_the_projects_own_do_not_count(folder: str, tmp_path: Path) -> None:
    files = {
        "app/db.py": STANDARD,
        f"{folder}/db.py": STANDARD,
        "app/jobs.py": JOB.format(module="app.db"),
    }
    lay_out(tmp_path, files)
    assert is_fixable(tmp_path, "app/jobs.py")


def test_one_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    lay_out(tmp_path, {"app/jobs.py": JOB.format(module="app.db")}, 'handler = "app.gone"')
    with pytest.raises(ConfigError, match=r'`handler`: "app\.gone" is no module of this project'):
        check(tmp_path)


def test_one_that_cannot_be_parsed_is_an_error(tmp_path: Path) -> None:
    files = {"app/db.py": "def (:\n", "app/jobs.py": JOB.format(module="app.db")}
    lay_out(tmp_path, files, 'handler = "app.db"')
    with pytest.raises(ConfigError, match="cannot be parsed"):
        check(tmp_path)


@pytest.mark.parametrize("imported", [True, False])
def test_the_reference_handler_serves_copied_or_imported(imported: bool, tmp_path: Path) -> None:
    import session_guard

    reference = Path(session_guard.__file__).with_name("async_session.py").read_text()
    module = "session_guard.async_session" if imported else "app.async_session"
    files = {"app/jobs.py": JOB.format(module=module)}
    if not imported:
        files["app/async_session.py"] = reference
    lay_out(tmp_path, files, f'handler = "{module}"' if imported else "")
    [finding] = check(tmp_path)[0]
    assert finding.fix is not None
    assert finding.fix.applicability.value == "safe"


def test_one_with_newer_syntax_is_read_all_the_same(tmp_path: Path) -> None:
    newer = "type Name = str\n" + STANDARD
    lay_out(tmp_path, {"app/db.py": newer, "app/jobs.py": JOB.format(module="app.db")})
    assert is_fixable(tmp_path, "app/jobs.py")


def test_a_file_alone_has_the_findings_it_has_in_the_project(tmp_path: Path) -> None:
    files = {"app/db.py": STANDARD, "app/a.py": JOB.format(module="app.db")}
    files["app/b.py"] = "from app.db import background_task_session_factory as f\nf()\n"
    lay_out(tmp_path, files)
    together = check(tmp_path)[0]
    alone = [item for name in ("app/a.py", "app/b.py") for item in check(tmp_path / name)[0]]
    assert len(together) == 2
    assert [(i.code, i.line, i.fix) for i in alone] == [(i.code, i.line, i.fix) for i in together]


def test_the_handlers_own_factory_opens_the_gate(tmp_path: Path) -> None:
    lay_out(tmp_path, {"app/db.py": STANDARD})
    code = b"from app.db import background_task_session_factory as f\nf()\n"
    run = Run(Options(paths=(str(tmp_path),)))
    list(run.check())
    [project] = run._projects.values()
    names = project.exported_names
    assert b"background_task_session_factory" in names.makers
    assert any(rule.gate(code, names) for rule in load_rules())
    assert lint("x.py", tmp_path / "app" / "x.py", code, project, load_rules())
