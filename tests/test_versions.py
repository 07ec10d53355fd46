"""Which versions a project runs, as its own files say, and how that is put into words."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from session_guard import versions
from session_guard.config import Settings
from session_guard.project.project import Project
from session_guard.runner import Options, Run
from session_guard.versions import Version, Versions

if TYPE_CHECKING:
    from collections.abc import Mapping
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


def write(root: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        (root / name).write_bytes(data)


def read(
    root: Path, files: Mapping[str, str | bytes], checked: str = "db.py", **settings: str
) -> Versions:
    write(root, files)
    project = Project(Settings(root=root, **settings))  # type: ignore[arg-type]
    return versions.of(project, root / checked)


def asyncpg_in(root: Path, files: Mapping[str, str | bytes], checked: str = "db.py") -> str:
    return str(read(root, files, checked).asyncpg)


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
        (
            {
                "poetry.lock": '[[package]]\ncategory = "main"\nname = "SQLAlchemy"\n'
                'optional = false\npython-versions = "*"\nversion = "1.4.46"\n\n'
                '[package.dependencies]\nasyncpg = {version = "*"}\n'
            },
            "SQLAlchemy 1.4.46, as poetry.lock says",
            "None",
        ),
        (
            {
                "pylock.toml": '[[packages]]\nname = "asyncpg"\nmarker = "x"\n'
                'version = "0.31.0"\n\n[[packages.wheels]]\nname = "sqlalchemy"\n'
            },
            "None",
            "asyncpg 0.31.0, as pylock.toml says",
        ),
        (
            {
                "Pipfile.lock": '{"default": {"SQLAlchemy": {"version": "==2.0.31"}, '
                '"asyncpg": {"git": "https://x", "ref": "a"}}, '
                '"develop": {"asyncpg": {"version": "==0.27.0"}}}'
            },
            "SQLAlchemy 2.0.31, as Pipfile.lock says",
            "None",
        ),
        ({"Pipfile.lock": "{broken", "poetry.lock": "", "uv.lock": ""}, "None", "None"),
        (
            {
                "pyproject.toml": "[dependency-groups]\n"
                'server = ["asyncpg==0.30.0", {include-group = "db"}]\n'
                'db = ["sqlalchemy~=2.0.30"]\ndev = ["asyncpg==0.28.0", "sqlalchemy==2.1.0"]\n'
            },
            "SQLAlchemy ~=2.0.30, as pyproject.toml says",
            "asyncpg 0.30.0, as pyproject.toml says",
        ),
        (
            {
                "pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.11"\n'
                '[tool.poetry.group.db.dependencies]\nasyncpg = "0.30.0"\n'
                '[tool.poetry.group.test.dependencies]\nasyncpg = "0.28.0"\nsqlalchemy = "2.0.1"\n'
            },
            "None",
            "asyncpg 0.30.0, as pyproject.toml says",
        ),
        (
            {
                "pyproject.toml": '[project]\ndependencies = ["asyncpg (>=0.30.0,<0.31.0)", '
                '"sqlalchemy[asyncio] (>=2.0.36,<3.0.0)"]\n'
            },
            "SQLAlchemy >=2.0.36,<3.0.0, as pyproject.toml says",
            "asyncpg >=0.30.0,<0.31.0, as pyproject.toml says",
        ),
        (
            {"requirements.txt": "# goes on nowhere \\\nasyncpg==0.30.0\nSQLAlchemy \\\n==2.0.1\n"},
            "SQLAlchemy 2.0.1, as requirements.txt says",
            "asyncpg 0.30.0, as requirements.txt says",
        ),
        (
            {
                "pyproject.toml": "[tool.poetry.dependencies]\n"
                'asyncpg = "^0.32,!=0.32.1 || ^0.29"\nsqlalchemy = {git = "https://x"}\n'
            },
            "None",
            "asyncpg ^0.29 or ^0.32,!=0.32.1, as pyproject.toml says",
        ),
        (
            {"requirements.txt": "asyncpg == 0.30.* # pin\nsqlalchemy [asyncio] === 2.0.30\n"},
            "SQLAlchemy 2.0.30, as requirements.txt says",
            "asyncpg 0.30.*, as requirements.txt says",
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
    write(
        tmp_path,
        {
            "uv.lock": UV,
            "packages/api/pyproject.toml": '[project]\ndependencies = ["asyncpg>=0.28"]\n',
        },
    )
    # Without a repository the folders above are not the project's.
    assert read(member, {}).sqlalchemy is None
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert str(read(member, {}).sqlalchemy) == "SQLAlchemy 2.0.41, as ../../uv.lock says"


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
    known = asyncpg or Version("asyncpg", "", (), (0,), (10,))
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
    write(tmp_path, {"uv.lock": UV})
    project = Project(Settings(root=tmp_path))
    first = versions.of(project, tmp_path / "a.py")
    (tmp_path / "uv.lock").unlink()
    assert versions.of(project, tmp_path / "b.py") is first
    assert versions.of(project, tmp_path / "app" / "b.py") == first
    assert versions.of(Project(Settings(root=tmp_path)), tmp_path / "a.py").asyncpg is None


@pytest.mark.parametrize(
    ("files", "asyncpg"),
    [
        # As `poetry export` and `uv pip compile --universal` write it.
        (
            {
                "requirements.txt": 'asyncpg==0.32.0 ; python_version >= "3.12" \\\n'
                '    --hash=sha256:aa\nasyncpg==0.29.0 ; python_version < "3.12" \\\n'
                "    --hash=sha256:bb\n"
            },
            "asyncpg 0.29.0 or 0.32.0, as requirements.txt says",
        ),
        (
            {"requirements.txt": 'asyncpg==0.30.0 ; python_version >= "3.11"\n'},
            "asyncpg 0.30.0, as requirements.txt says",
        ),
        (
            {
                "pyproject.toml": '[project]\ndependencies = ["asyncpg>=0.29,<0.30; '
                "sys_platform=='win32'\", \"asyncpg>=0.32; sys_platform!='win32'\"]\n"
            },
            "asyncpg >=0.29,<0.30 or >=0.32, as pyproject.toml says",
        ),
        (
            {
                "pyproject.toml": "[tool.poetry.dependencies]\nasyncpg = [{version = '^0.29', "
                "python = '<3.12'}, {version = '^0.30', python = '>=3.12'}]\n"
            },
            "asyncpg ^0.29 or ^0.30, as pyproject.toml says",
        ),
        # What holds in some environments alone says nothing of the others.
        (
            {"requirements.txt": "asyncpg>=0.29\nasyncpg==0.32.0 ; python_version >= '3.13'\n"},
            "asyncpg >=0.29, as requirements.txt says",
        ),
        (
            {
                "pyproject.toml": '[project]\ndependencies = ["asyncpg>=0.29"]\n'
                '[project.optional-dependencies]\nfast = ["asyncpg==0.32.0"]\n'
            },
            "asyncpg >=0.29, as pyproject.toml says",
        ),
        (
            {"pyproject.toml": '[project]\ndependencies = ["asyncpg>=0.25", "asyncpg<0.32"]\n'},
            "asyncpg >=0.25,<0.32, as pyproject.toml says",
        ),
        # pip installs neither; which one the project means is not known.
        (
            {"requirements.txt": "asyncpg==0.32.0\nasyncpg==0.29.0\n"},
            "asyncpg 0.29.0 or 0.32.0, as requirements.txt says",
        ),
    ],
)
def test_all_requirements_count(tmp_path: Path, files: dict[str, str], asyncpg: str) -> None:
    assert asyncpg_in(tmp_path, files) == asyncpg


@pytest.mark.parametrize(
    ("files", "asyncpg"),
    [
        (
            {"requirements/base.txt": "asyncpg>=0.30.0\n", "requirements.txt": "asyncpg==0.30.0\n"},
            "asyncpg 0.30.0, as requirements.txt says",
        ),
        (
            {"requirements-gpu.txt": "asyncpg==0.32.0\n", "requirements.txt": "asyncpg==0.29.0\n"},
            "asyncpg 0.29.0 or 0.32.0, as requirements.txt and requirements-gpu.txt say",
        ),
        (
            {"requirements-gpu.txt": "asyncpg==0.32.0\n", "requirements.txt": "asyncpg>=0.29\n"},
            "asyncpg >=0.29, as requirements.txt says",
        ),
        (
            {"requirements-gpu.txt": "asyncpg==0.32.0\n", "requirements.txt": "asyncpg\n"},
            "None",
        ),
        (
            {"requirements-gpu.txt": "asyncpg==0.32.0\n", "requirements.txt": "fastapi\n"},
            "asyncpg 0.32.0, as requirements-gpu.txt says",
        ),
        (
            {
                "requirements.txt": "asyncpg\n",
                "pyproject.toml": '[project]\ndependencies = ["asyncpg<0.31"]\n',
            },
            "asyncpg <0.31, as pyproject.toml says",
        ),
    ],
)
def test_several_requirements_files(tmp_path: Path, files: dict[str, str], asyncpg: str) -> None:
    assert asyncpg_in(tmp_path, files) == asyncpg


@pytest.mark.parametrize(
    ("files", "asyncpg"),
    [
        (
            {
                "requirements.txt": "-r deps/pinned.in\nasyncpg\n",
                "deps/pinned.in": "--requirement=more.in\n",
                "deps/more.in": "asyncpg==0.30.0\n-r pinned.in\n",
            },
            "asyncpg 0.30.0, as deps/more.in says",
        ),
        (
            {
                "requirements.txt": "-c constraints.txt\nasyncpg>=0.28\n",
                "constraints.txt": "asyncpg==0.29.0\n",
            },
            "asyncpg 0.29.0, as constraints.txt says",
        ),
        (
            {
                "requirements.txt": "--constraint constraints.txt\nasyncpg>=0.28\n",
                "constraints.txt": "asyncpg<0.31\n",
            },
            "asyncpg <0.31,>=0.28, as constraints.txt and requirements.txt say",
        ),
        (
            {
                "requirements.txt": "-c constraints.txt\nasyncpg==0.32.0 ; sys_platform == 'x'\n"
                "asyncpg==0.29.0 ; sys_platform != 'x'\n",
                "constraints.txt": "asyncpg<1\n",
            },
            "asyncpg 0.29.0 or 0.32.0, as requirements.txt says",
        ),
        # What is included is no environment of its own.
        (
            {
                "requirements/base.txt": "asyncpg>=0.28\n",
                "requirements/prod.txt": "-r base.txt\nasyncpg==0.30.0\n",
            },
            "asyncpg 0.30.0, as requirements/prod.txt says",
        ),
        # But that is what is installed by default.
        (
            {
                "requirements-gpu.txt": "-r requirements.txt\nasyncpg==0.32.0\n",
                "requirements.txt": "asyncpg>=0.28\n",
            },
            "asyncpg >=0.28, as requirements.txt says",
        ),
        ({"requirements.txt": "-r requirements.txt\n-r gone.txt\n-r https://x/y.txt\n"}, "None"),
    ],
)
def test_included_files(tmp_path: Path, files: dict[str, str], asyncpg: str) -> None:
    assert asyncpg_in(tmp_path, files) == asyncpg


def test_constraints_ask_for_no_driver(tmp_path: Path) -> None:
    files = {
        "requirements.txt": "-c constraints.txt\nasyncpg\n",
        "constraints.txt": "asyncpg==0.30.0\naiosqlite==0.20.0\n",
    }
    assert read(tmp_path, files).only_driver_is_asyncpg


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    mark = "" if encoding in ("utf-8-sig", "utf-16") else "\ufeff"
    text = f"{mark}asyncpg==0.30.0\r\nSQLAlchemy==2.0.30\r\n"
    found = read(tmp_path, {"requirements.txt": text.encode(encoding)})
    assert str(found.asyncpg) == "asyncpg 0.30.0, as requirements.txt says"
    assert str(found.sqlalchemy) == "SQLAlchemy 2.0.30, as requirements.txt says"


@pytest.mark.parametrize(
    "requirement",
    [
        "asyncpg @ https://example.org/asyncpg-0.30.0.tar.gz",
        "asyncpg@git+https://example.org/asyncpg@v0.30.0",
        "asyncpg @ https://example.org/a,0.30.0",
        "asyncpg ; python_version > '3'",
        "asyncpg==$VERSION",
        "# asyncpg==0.30.0",
    ],
)
def test_what_says_no_version(tmp_path: Path, requirement: str) -> None:
    assert asyncpg_in(tmp_path, {"requirements.txt": f"{requirement}\n"}) == "None"


def test_a_development_version_may_lack_what_the_release_has(tmp_path: Path) -> None:
    asyncpg = read(tmp_path, {"uv.lock": UV.replace("0.30.0", "0.32.0.dev0")}).asyncpg
    assert asyncpg is not None
    assert not asyncpg.is_surely_at_least(0, 32)
    assert not asyncpg.is_surely_below(0, 32)
    assert asyncpg.is_surely_at_least(0, 31)


@pytest.mark.parametrize(
    ("name", "is_read"),
    [
        ("requirements/contest.txt", True),
        ("requirements-latest.txt", True),
        ("requirements-device.txt", True),
        ("requirements-dev.txt", False),
        ("requirements_dev.txt", False),
        ("requirementsdev.txt", False),
        ("requirements.test.txt", False),
        ("requirements/ci.txt", False),
        ("requirements/docs-3.12.txt", False),
    ],
)
def test_files_for_development(tmp_path: Path, name: str, is_read: bool) -> None:
    found = asyncpg_in(tmp_path, {name: "asyncpg==0.30.0\n"})
    assert found == (f"asyncpg 0.30.0, as {name} says" if is_read else "None")


# -- several services in one project ----------------------------------------------------------


def test_each_service_has_its_own_versions(tmp_path: Path) -> None:
    files = {
        "services/a/uv.lock": UV,
        "services/b/requirements.txt": "asyncpg==0.32.0\n",
        "pyproject.toml": '[project]\ndependencies = ["sqlalchemy==2.1.0"]\n',
    }
    assert asyncpg_in(tmp_path, files, "services/a/app/db/engine.py") == (
        "asyncpg 0.30.0, as services/a/uv.lock says"
    )
    in_b = read(tmp_path, files, "services/b/db.py")
    assert str(in_b.asyncpg) == "asyncpg 0.32.0, as services/b/requirements.txt says"
    assert str(in_b.sqlalchemy) == "SQLAlchemy 2.1.0, as pyproject.toml says"
    assert in_b.only_driver_is_asyncpg
    # What lies above them may run in either.
    above = read(tmp_path, files, "services/shared.py")
    assert above.asyncpg is None
    assert not above.only_driver_is_asyncpg


def test_the_configuration_holds_for_all_services(tmp_path: Path) -> None:
    found = read(tmp_path, {"backend/uv.lock": UV}, "backend/db.py", asyncpg_version="0.32")
    assert str(found.asyncpg) == "asyncpg 0.32, as `asyncpg-version` says"


@pytest.mark.parametrize(
    ("lock", "entry"),
    [
        ("uv.lock", '[[package]]\nname = "api"\nsource = { editable = "packages/api" }\n'),
        ("uv.lock", '[[package]]\nname = "api"\nsource = { virtual = "packages/api/" }\n'),
        (
            "poetry.lock",
            '[[package]]\nname = "api"\nversion = "1"\n\n[package.source]\n'
            'type = "directory"\nurl = "packages/api"\n',
        ),
        ("pdm.lock", '[[package]]\nname = "api"\npath = "./packages/api"\n'),
        ("pylock.toml", '[[packages]]\nname = "api"\ndirectory = { path = "packages/api" }\n'),
    ],
)
def test_a_lock_file_above_locks_the_folders_that_it_names(
    tmp_path: Path, lock: str, entry: str
) -> None:
    asks = '[project]\ndependencies = ["asyncpg>=0.28"]\n'
    files = {
        lock: UV.replace("[[package]]", "[[packages]]" if lock == "pylock.toml" else "[[package]]")
        + "\n"
        + entry,
        "packages/api/pyproject.toml": asks,
        "packages/other/pyproject.toml": asks,
        "packages/unpinned/requirements.txt": "asyncpg\n",
    }
    assert (
        asyncpg_in(tmp_path, files, "packages/api/src/db.py") == f"asyncpg 0.30.0, as {lock} says"
    )
    # These are installed by themselves, for all that is known.
    assert asyncpg_in(tmp_path, files, "packages/other/db.py") == (
        "asyncpg >=0.28, as packages/other/pyproject.toml says"
    )
    assert asyncpg_in(tmp_path, files, "packages/unpinned/db.py") == "None"


@pytest.mark.parametrize(
    "line",
    ["-e packages/api", "-e ./packages/api[pg]", "--editable=file:packages/api", "./packages/api"],
)
def test_requirements_above_pin_for_the_folders_that_they_install(
    tmp_path: Path, line: str
) -> None:
    files = {
        "requirements.txt": f"{line}\nasyncpg<0.31\n",
        "packages/api/pyproject.toml": '[project]\ndependencies = ["asyncpg>=0.28"]\n',
    }
    assert asyncpg_in(tmp_path, files, "packages/api/src/db.py") == (
        "asyncpg <0.31,>=0.28, as requirements.txt and packages/api/pyproject.toml say"
    )


def test_findings_do_not_depend_on_what_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine\n"
        'engine = create_async_engine("postgresql+asyncpg://app@db:6432/app",\n'
        '    connect_args={"statement_cache_size": 0})\n'
        "S = async_sessionmaker(engine, execution_options={'populate_existing': True})\n"
    )
    write(
        tmp_path,
        {
            "old/uv.lock": UV,
            "old/app/db.py": code,
            "new/requirements.txt": "asyncpg==0.32.0\nsqlalchemy==2.1.0\n",
            "new/app/db.py": code,
        },
    )
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)

    def found(folder: Path, *paths: str) -> list[str]:
        monkeypatch.chdir(folder)
        run = Run(Options(paths, ('select = ["SG104", "SG202"]',)))
        return [item.message for findings in run.check() for item in findings]

    new, *old = found(tmp_path, ".")
    assert "(SQLAlchemy 2.1.0, as new/requirements.txt says)" in new
    assert "(asyncpg 0.30.0, as old/uv.lock says)" in old[0]
    assert "(SQLAlchemy 2.0.41, as old/uv.lock says)" in old[1]
    assert found(tmp_path, "old/app/db.py") == old
    assert found(tmp_path / "old" / "app", "db.py") == old
    assert found(tmp_path, "new") == [new]


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
