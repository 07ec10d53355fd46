"""Which versions a project runs, as its own files say, and how that is put into words."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from session_guard import versions
from session_guard.config import Settings
from session_guard.project import Project
from session_guard.runner import Options, Run
from session_guard.versions import Version, Versions

if TYPE_CHECKING:
    from pathlib import Path

UV = """\
version = 1
requires-python = ">=3.11"

[[package]]
name = "asyncpg"
version = "0.30.0"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "sqlalchemy"
version = "2.0.41"
dependencies = [{ name = "greenlet" }]
"""
POETRY = """\
[[package]]
name = "SQLAlchemy"
version = "2.0.36"
description = "Database Abstraction Library"

[[package]]
name = "asyncpg"
version = "0.29.0"
"""


def read(root: Path, files: dict[str, str], **settings: str) -> Versions:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return versions.read(Settings(root=root, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("files", "sqlalchemy", "asyncpg"),
    [
        (
            {"uv.lock": UV},
            "SQLAlchemy 2.0.41, as uv.lock says",
            "asyncpg 0.30.0, as uv.lock says",
        ),
        (
            {"poetry.lock": POETRY},
            "SQLAlchemy 2.0.36, as poetry.lock says",
            "asyncpg 0.29.0, as poetry.lock says",
        ),
        (
            {"pdm.lock": POETRY.replace("\n", "\r\n")},
            "SQLAlchemy 2.0.36, as pdm.lock says",
            "asyncpg 0.29.0, as pdm.lock says",
        ),
        (
            {"pylock.toml": POETRY.replace("[[package]]", "[[packages]]")},
            "SQLAlchemy 2.0.36, as pylock.toml says",
            "asyncpg 0.29.0, as pylock.toml says",
        ),
        (
            {
                "requirements.txt": "# pins\nSQLAlchemy[asyncio]==2.0.38 ; python_version > '3'\n"
                "asyncpg==0.30.0 \\\n    --hash=sha256:aa\n-r other.txt\n"
            },
            "SQLAlchemy 2.0.38, as requirements.txt says",
            "asyncpg 0.30.0, as requirements.txt says",
        ),
        (
            {"requirements/base.txt": "sqlalchemy ~= 2.0.38\nasyncpg>=0.29,<0.31\n"},
            "SQLAlchemy ~=2.0.38, as requirements/base.txt says",
            "asyncpg >=0.29,<0.31, as requirements/base.txt says",
        ),
        (
            {
                "pyproject.toml": '[project]\nname = "a"\n'
                'dependencies = ["sqlalchemy[asyncio]>=2.0,<2.1"]\n'
                '[project.optional-dependencies]\npg = ["asyncpg==0.31.0"]\n'
            },
            "SQLAlchemy >=2.0,<2.1, as pyproject.toml says",
            "asyncpg 0.31.0, as pyproject.toml says",
        ),
        (
            {
                "pyproject.toml": '[tool.poetry.dependencies]\nasyncpg = "^0.30.0"\n'
                'sqlalchemy = { version = "^2.0.25", extras = ["asyncio"] }\n'
            },
            "SQLAlchemy ^2.0.25, as pyproject.toml says",
            "asyncpg ^0.30.0, as pyproject.toml says",
        ),
        (
            {"uv.lock": UV, "requirements.txt": "sqlalchemy==2.1.0\nasyncpg==0.32.0\n"},
            "SQLAlchemy 2.0.41, as uv.lock says",
            "asyncpg 0.30.0, as uv.lock says",
        ),
        ({"pyproject.toml": "asyncpg = [broken"}, "None", "None"),
        (
            {"pyproject.toml": '[project]\ndependencies = ["asyncpg", "sqlalchemy"]\n'},
            "None",
            "None",
        ),
        ({"requirements-dev.txt": "asyncpg==0.27.0\n"}, "None", "None"),
    ],
)
def test_read(tmp_path: Path, files: dict[str, str], sqlalchemy: str, asyncpg: str) -> None:
    found = read(tmp_path, files)
    assert (str(found.sqlalchemy), str(found.asyncpg)) == (sqlalchemy, asyncpg)


def test_the_configuration_comes_first(tmp_path: Path) -> None:
    found = read(tmp_path, {"uv.lock": UV}, asyncpg_version="0.32")
    assert str(found.asyncpg) == "asyncpg 0.32, as `asyncpg-version` says"
    assert str(found.sqlalchemy) == "SQLAlchemy 2.0.41, as uv.lock says"


def test_a_workspaces_lock_file_stands_above(tmp_path: Path) -> None:
    member = tmp_path / "packages" / "api"
    member.mkdir(parents=True)
    (tmp_path / "uv.lock").write_text(UV)
    (member / "pyproject.toml").write_text('[project]\ndependencies = ["asyncpg>=0.28"]\n')
    # Without a repository the folders above are not the project's.
    assert str(versions.read(Settings(root=member)).asyncpg) == (
        "asyncpg >=0.28, as pyproject.toml says"
    )
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert str(versions.read(Settings(root=member)).sqlalchemy) == (
        "SQLAlchemy 2.0.41, as uv.lock says"
    )


def test_two_versions_in_one_lock_file(tmp_path: Path) -> None:
    forked = UV + '\n[[package]]\nname = "asyncpg"\nversion = "0.32.0"\n'
    asyncpg = read(tmp_path, {"uv.lock": forked}).asyncpg
    assert asyncpg is not None
    assert str(asyncpg) == "asyncpg 0.30.0 or 0.32.0, as uv.lock says"
    assert not asyncpg.is_surely_at_least(0, 32)
    assert not asyncpg.is_surely_below(0, 32)
    assert asyncpg.is_surely_at_least(0, 30)


@pytest.mark.parametrize(
    ("specifier", "at_least_0_32", "below_0_32"),
    [
        ("==0.32.0", True, False),
        ("==0.31.*", False, True),
        ("===0.30.0", False, True),
        ("~=0.30.0", False, True),
        ("~=0.30", False, False),
        (">=0.32", True, False),
        (">0.31", False, False),
        (">=0.28", False, False),
        ("<0.32", False, True),
        ("<0.32.0", False, True),
        ("<=0.32", False, False),
        ("!=0.30", False, False),
        (">=0.29,<0.31", False, True),
        ("", False, False),
    ],
)
def test_a_range_is_taken_for_what_it_proves(
    tmp_path: Path, specifier: str, at_least_0_32: bool, below_0_32: bool
) -> None:
    asyncpg = read(tmp_path, {"requirements.txt": f"asyncpg{specifier}\n"}).asyncpg
    known = asyncpg or Version("asyncpg", "", "", (0,), (10,))
    assert known.is_surely_at_least(0, 32) is at_least_0_32
    assert known.is_surely_below(0, 32) is below_0_32


def test_a_series_is_not_its_first_version(tmp_path: Path) -> None:
    sqlalchemy = read(tmp_path, {}, sqlalchemy_version="2.0").sqlalchemy
    assert sqlalchemy is not None
    assert sqlalchemy.is_surely_below(2, 1)
    assert not sqlalchemy.is_surely_below(2, 0, 10)
    assert not sqlalchemy.is_surely_at_least(2, 0, 10)


@pytest.mark.parametrize(
    ("files", "only"),
    [
        ({"requirements.txt": "asyncpg==0.30.0\nfastapi\n"}, True),
        ({"requirements.txt": "asyncpg\naiosqlite\n"}, False),
        ({"requirements.txt": "asyncpg\n", "requirements-test.txt": "aiosqlite\n"}, True),
        ({"pyproject.toml": '[project]\ndependencies = ["asyncpg", "psycopg[binary]"]\n'}, False),
        ({"uv.lock": UV}, False),
        ({}, False),
    ],
)
def test_the_only_driver(tmp_path: Path, files: dict[str, str], only: bool) -> None:
    assert read(tmp_path, files).only_driver_is_asyncpg is only


def test_files_are_read_once_for_a_project(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_text(UV)
    project = Project(Settings(root=tmp_path))
    first = versions.of(project)
    (tmp_path / "uv.lock").unlink()
    assert versions.of(project) is first
    assert versions.of(Project(Settings(root=tmp_path))).asyncpg is None


@pytest.mark.parametrize(
    ("version", "says"),
    [
        (
            "2.0.41",
            "raises a TypeError when a session is made (SQLAlchemy 2.0.41, as uv.lock says)",
        ),
        ("2.1.0", "settings of the driver do nothing (SQLAlchemy 2.1.0, as uv.lock says)"),
    ],
)
def test_sg104_speaks_of_the_projects_version(tmp_path: Path, version: str, says: str) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.session-guard]\nselect = ["SG104"]\n')
    (tmp_path / "uv.lock").write_text(UV.replace("2.0.41", version))
    file = tmp_path / "db.py"
    file.write_text(
        "from sqlalchemy.ext.asyncio import async_sessionmaker\n"
        "S = async_sessionmaker(execution_options={'populate_existing': True})\n"
    )
    (finding,) = (item for found in Run(Options((str(file),))).check() for item in found)
    assert says in finding.message
    # On 2.0 every call raised; on 2.1 the option may be wanted.
    assert (finding.fix is not None) is (version == "2.0.41")
