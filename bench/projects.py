"""What the linters run on: packages from PyPI, only unpacked, and projects that are made up."""

from __future__ import annotations

import fnmatch
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peers import TESTS
from tests.field.measure import fetch, read_projects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HERE = Path(__file__).parent
HANDLER = HERE.parent / "examples/src/session/async_session.py"

_LINES_OF_A_FILE = 200
_FILES_OF_A_FOLDER = 50
_HEAD = '''\
"""Module {number} of a project that was made up to be measured."""

import logging

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import engine
from app.models import Domain
'''
_PLAIN_HEAD = '''\
"""Module {number} of a project that was made up to be measured."""

import logging
'''
_LOGGER = "\nlogger = logging.getLogger(__name__)\n"
# Ten lines each.
_PLAIN = '''

async def total_{number}(rows: list[dict[str, int]], limit: int = {number}) -> int:
    """Return what the first rows of a kind amount to."""
    total = 0
    for row in rows[:limit]:
        if row.get("kind") == {number}:
            total += row["amount"] * row.get("count", 1)
    logger.debug("%s of %s rows", total, len(rows))
    return total
'''
_VIOLATION = '''

async def names_{number}(batch: int) -> list[str]:
    """Return the names of a batch."""
    async with AsyncSession(engine) as session:
        query = select(Domain.name)
        query = query.where(Domain.batch == batch)
        query = query.where(Domain.id > {number}).limit(100)
        query = query.order_by(Domain.name)
        return list(await session.scalars(query))
'''
_LINES_OF_A_FUNCTION = 10
_MODELS = '''\
"""The table."""

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Domain(Base):
    __tablename__ = "domains"

    id: Mapped[int] = mapped_column(primary_key=True)
    batch: Mapped[int]
    name: Mapped[str]
'''


@dataclass(frozen=True)
class Size:
    """How much code there is."""

    files: int
    lines: int


def read_corpus() -> dict[str, str]:
    """Return the pinned requirement of each package of the corpus, by its name."""
    return {**read_projects(), **read_projects(HERE / "corpus.txt")}


def unpack(requirements: Iterable[str], folder: Path) -> None:
    """Download and unpack packages below `folder`, each in a folder called like its requirement.

    Raises subprocess.CalledProcessError where pip cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for requirement in requirements:
        fetch(requirement, folder)


def lay_application(requirements: Iterable[str], projects: Path, folder: Path) -> None:
    """Lay unpacked packages side by side, as the packages of one application."""
    shutil.rmtree(folder, ignore_errors=True)
    for requirement in requirements:
        shutil.copytree(projects / requirement, folder, dirs_exist_ok=True)


def lay_project(folder: Path, lines: int, *, violations: int = 0) -> None:
    """Make up a project of so many lines, in files of 200; `violations` are spread over them.

    A file without violations holds nothing that a rule looks at.
    """
    files = max(1, lines // _LINES_OF_A_FILE)
    _lay_common(folder)
    for number in range(files):
        package = folder / "app" / f"part_{number // _FILES_OF_A_FOLDER}"
        if number % _FILES_OF_A_FOLDER == 0:
            package.mkdir()
            (package / "__init__.py").touch()
        of_this = violations * (number + 1) // files - violations * number // files
        text = _module(number, min(lines, _LINES_OF_A_FILE), of_this)
        (package / f"module_{number}.py").write_text(text)


def lay_file(folder: Path, lines: int, violations: int) -> None:
    """Make up a project whose code is in one file of so many lines."""
    _lay_common(folder)
    (folder / "app" / "module.py").write_text(_module(0, lines, violations))


def _lay_common(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "app").mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[tool.session-guard]\nhandler = "app.db"\n')
    (folder / "app" / "__init__.py").touch()
    (folder / "app" / "models.py").write_text(_MODELS)
    (folder / "app" / "db.py").write_text(HANDLER.read_text())


def _module(number: int, lines: int, violations: int) -> str:
    """Return a module of about so many lines; its violations are spread evenly."""
    head = (_HEAD if violations else _PLAIN_HEAD).format(number=number) + _LOGGER
    functions = max(1, violations, (lines - head.count("\n")) // _LINES_OF_A_FUNCTION)
    body = (
        (_VIOLATION if at * violations % functions < violations else _PLAIN).format(number=at)
        for at in range(functions)
    )
    return head + "".join(body)


def size_of(folders: Iterable[Path]) -> Size:
    """Count the Python files below folders that are no tests, and their lines."""
    texts = [path.read_bytes() for folder in folders for path in _files(folder)]
    return Size(len(texts), sum(text.count(b"\n") for text in texts))


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _is_test(name)]
        for name in files:
            if name.endswith(".py") and not _is_test(name):
                yield Path(parent, name)


def _is_test(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in TESTS)
