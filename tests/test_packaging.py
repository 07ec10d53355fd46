"""The built wheel: it has every rule, and it brings no top-level `rules`."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution, requires
from pathlib import Path

import pytest

import session_guard
from session_guard.registry import load_rules

ROOT = Path(__file__).parent.parent
BUILD_LIST = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that this source tree makes."""
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(target), str(ROOT)],
        check=True,
        capture_output=True,
    )
    [path] = target.glob("*.whl")
    return zipfile.ZipFile(path)


def test_every_module_of_the_source_tree_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    inside = {name for name in wheel.namelist() if name.endswith(".py")}
    sources = {
        f"session_guard/{prefix}{path.relative_to(ROOT / folder).as_posix()}"
        for folder, prefix in (("session_guard", ""), ("rules", "rules/"))
        for path in (ROOT / folder).rglob("*.py")
    }
    assert len(sources) > 30
    assert inside == sources


def test_the_wheel_is_typed_and_licensed(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert "session_guard/py.typed" in names
    assert any(name.endswith("LICENSE") for name in names)


def test_every_folder_of_the_sources_is_listed_as_a_package() -> None:
    folders = {
        ".".join(("session_guard", *prefix, *path.parent.relative_to(ROOT / folder).parts))
        for folder, prefix in (("session_guard", ()), ("rules", ("rules",)))
        for path in (ROOT / folder).rglob("*.py")
    }
    assert folders == set(BUILD_LIST)


def test_rules_is_no_importable_top_level_name(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", "import rules"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "No module named 'rules'" in result.stderr


def test_what_is_tested_is_the_installed_package() -> None:
    """The test command installs the wheel; a source tree that shadows it would prove nothing."""
    assert not Path(session_guard.__file__).is_relative_to(ROOT / "session_guard")


def test_the_rules_come_through_the_entry_point() -> None:
    points = [
        p for p in distribution("session-guard").entry_points if p.group == "session_guard.rules"
    ]
    assert [point.value for point in points] == ["session_guard.rules"]
    files = {path for path in (ROOT / "rules").rglob("*.py") if path.name != "__init__.py"}
    assert len(load_rules()) == len(files)


def test_the_tool_needs_no_database_packages() -> None:
    needed = [line for line in requires("session-guard") or [] if "extra ==" not in line]
    assert sorted(line.split(">")[0] for line in needed) == ["click", "libcst"]
