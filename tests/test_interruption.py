"""`fix` as real processes that are killed, that meet each other, and whose files others change.

`SESSION_GUARD_KILLS=300` in the environment kills as many, in a project of 200 files.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from session_guard.rule import Applicability, Rewrite, Rule, Violation
from session_guard.runner import Options, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import libcst as cst

    from session_guard.module import Module

KILLS = int(os.environ.get("SESSION_GUARD_KILLS", "10"))
FILES = 200 if "SESSION_GUARD_KILLS" in os.environ else 24
HANDLER = (Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py").read_text()
OLD = """\
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import engine


async def number_{number}():
    async with AsyncSession(engine) as session:
        return await session.scalar(select({number}))
"""
NEW = """\
from sqlalchemy import select

from app.db import get_background_session


async def number_{number}():
    async with get_background_session() as session:
        return await session.scalar(select({number}))
"""
MODES = (0o644, 0o600, 0o755, 0o640)
FIX = (sys.executable, "-P", "-m", "session_guard", "fix")

Tree = dict[str, tuple[bytes, int, int, int]]
"""Each file's bytes, mode, owner and group, by its path."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a project of many files with something to fix, some of them another user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "project"
    for number in range(FILES):
        package = folder / "app" / f"p{number % 8}"
        package.mkdir(parents=True, exist_ok=True)
        file = package / f"m{number}.py"
        file.write_text(OLD.format(number=number))
        if os.getuid() == 0 and number % 3 == 0:
            os.chown(file, 1234, 2345)
        file.chmod(MODES[number % len(MODES)])
    (folder / "app" / "db.py").write_text(HANDLER)
    (folder / "pyproject.toml").write_text('[tool.session-guard]\nhandler = "app.db"\n')
    monkeypatch.chdir(folder)
    return folder


def tree(folder: Path) -> Tree:
    found = {}
    for path in folder.rglob("*"):
        if not path.is_dir():
            status = path.stat()
            data = path.read_bytes()
            found[str(path.relative_to(folder))] = (
                *(data, status.st_mode),
                *(status.st_uid, status.st_gid),
            )
    return found


def mended(before: Tree) -> Tree:
    """Return what a project is to be in the end."""
    after = dict(before)
    for number in range(FILES):
        path = f"app/p{number % 8}/m{number}.py"
        after[path] = (NEW.format(number=number).encode(), *before[path][1:])
    return after


def assert_whole(folder: Path, before: Tree, after: Tree) -> int:
    """Hold every file against its old and its new form; return how many are new."""
    now = tree(folder)
    assert now.keys() == before.keys()
    assert not [path for path in now if now[path] not in (before[path], after[path])]
    return sum(now[path] != before[path] for path in now)


def put_back(folder: Path, before: Tree) -> None:
    for path, (data, *_) in before.items():
        if (folder / path).read_bytes() != data:
            (folder / path).write_bytes(data)


def started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(FIX, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(process: subprocess.Popen[bytes]) -> str:
    out, err = process.communicate(timeout=100)
    assert process.returncode in (0, 1), err.decode()
    assert not err
    return out.decode()


def killed(process: subprocess.Popen[bytes], chance: random.Random) -> None:
    """Kill a process at a moment between its start and its end."""
    assert process.stdout is not None
    # It says two lines of each file that it has written.
    for _ in range(chance.choice((0, 2, chance.randrange(2 * FILES)))):
        process.stdout.readline()
    time.sleep(chance.uniform(0, 0.01))
    process.kill()
    process.communicate(timeout=100)


def test_killed_at_any_moment_each_file_is_the_old_one_or_the_new_one(project: Path) -> None:
    before = tree(project)
    after = mended(before)
    chance, written = random.Random(KILLS), set()
    for _ in range(KILLS):
        process = started()
        killed(process, chance)
        assert process.returncode in (-signal.SIGKILL, 0)
        written.add(assert_whole(project, before, after))
        put_back(project, before)
    assert len(written) > KILLS // 4
    assert ended(started()).endswith(f"\nFixed {FILES} violations in {FILES} files.\n")
    assert tree(project) == after
    assert not list(project.parent.rglob("*.tmp"))


def test_two_at_once_do_no_harm(project: Path) -> None:
    before = tree(project)
    after = mended(before)
    for _ in range(max(1, KILLS // 10)):
        first, second = started(), started()
        for text in (ended(first), ended(second)):
            assert "please report" not in text
        assert tree(project) == after
        put_back(project, before)
    chance = random.Random(KILLS)
    for _ in range(max(1, KILLS // 20)):
        first, second = started(), started()
        killed(first, chance)
        ended(second)
        assert_whole(project, before, after)
        assert tree(project) == after
        put_back(project, before)


# -- files that others change meanwhile --------------------------------------------------------


class _Meddling(Rule):
    """Mends each call of `old`, and does something to the file while it looks at it."""

    code = "SG999"
    name = summary = why = fix_safety = since = "test"
    tokens = (b"old",)
    node_types = ("Call",)
    valid = ()
    invalid = ()

    def __init__(self, meddle: Callable[[Path], object]) -> None:
        self._meddle = meddle

    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        import libcst as cst

        assert isinstance(node, cst.Call)
        if isinstance(node.func, cst.Name) and node.func.value == "old":
            self._meddle(module.path)
            replacement = node.with_changes(func=cst.Name("new"))
            rewrite = Rewrite(Applicability.SAFE, "replace it", ((node, replacement),))
            yield Violation(node, "old", "replace it", rewrite)


def change(path: Path) -> None:
    path.write_text("mine()\n")


def replace(path: Path) -> None:
    path.with_suffix(".new").write_text("mine()\n")
    path.with_suffix(".new").replace(path)


def delete(path: Path) -> None:
    path.unlink()


def lead_elsewhere(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("mine()\n")
    path.unlink()
    path.symlink_to(other)


def take_the_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("meddle", "reason", "left"),
    [
        (change, "was changed by another program", "mine()\n"),
        (replace, "was changed by another program", "mine()\n"),
        (delete, "cannot be written: No such file", None),
        (lead_elsewhere, "was changed by another program", "mine()\n"),
        (take_the_folder, "cannot be written: No such file", None),
        (make_a_folder, "is no longer a file", None),
        (lambda path: path.chmod(0o444), "is read-only", "old()\n"),
        (lambda path: path.parent.chmod(0o555), "is in a folder that is read-only", "old()\n"),
        (lambda path: os.link(path, f"{path}.twin"), "has 2 hard links", "old()\n"),
    ],
)
def test_a_file_that_someone_else_changes_meanwhile_is_theirs(
    tmp_path: Path, meddle: Callable[[Path], object], reason: str, left: str | None
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.session-guard]\n")
    file = tmp_path / "app" / "a.py"
    file.parent.mkdir()
    file.write_text("old()\n")
    done: list[Path] = []

    def once(path: Path) -> None:
        if not done:
            done.append(path)
            meddle(path)

    run = Run(Options((str(tmp_path),)))
    run._rules = (_Meddling(once),)
    [result] = run.fix(unsafe=False, write=True)
    assert result.applied == ()
    [finding] = result.remaining
    assert finding.help.startswith(f"not fixed: the file {reason}")
    assert (file.read_text() if file.is_file() else None) == left
    assert not list(tmp_path.rglob("*.tmp"))
