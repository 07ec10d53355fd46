"""What a finding costs does not grow with their number, and a file's memory not with the files."""

from __future__ import annotations

import cProfile
import gc
import pstats
from pathlib import Path

import libcst as cst

from session_guard.runner import Options, Run

HANDLER = Path(__file__).parent / "fixtures" / "standard_2025" / "async_session.py"
HEAD = """\
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import engine
from app.models import Domain
"""
FINDING = """

async def names_{number}(batch):
    async with AsyncSession(engine) as session:
        query = select(Domain.name).where(Domain.batch == batch, Domain.id > {number})
        return list(await session.scalars(query))
"""
_FEW = 15


def lay(folder: Path, findings: int) -> None:
    """Make a project with one file that has so many findings."""
    (folder / "app").mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[tool.session-guard]\nhandler = "app.db"\n')
    (folder / "app" / "db.py").write_text(HANDLER.read_text())
    text = "".join(FINDING.format(number=number) for number in range(findings))
    (folder / "app" / "names.py").write_text(HEAD + text)


def calls_of_check(folder: Path, findings: int) -> int:
    """Return how many functions are called to check one file with so many findings."""
    lay(folder, findings)
    gc.disable()  # whose callbacks count
    with cProfile.Profile() as profiler:
        found = [item for items in Run(Options(paths=(str(folder),))).check() for item in items]
    gc.enable()
    assert len(found) == findings
    return int(pstats.Stats(profiler).total_calls)  # type: ignore[attr-defined]


def test_each_finding_costs_the_same(tmp_path: Path) -> None:
    calls_of_check(tmp_path / "first", 1)  # what is imported and kept counts once
    once, twice, fourfold = (
        calls_of_check(tmp_path / str(times), times * _FEW) for times in (1, 2, 4)
    )
    # A search of the file for each finding would make it 2.5 and more.
    assert 1.9 < (fourfold - twice) / (twice - once) < 2.1


def trees() -> int:
    """Return how many trees of LibCST with code in them there are."""
    return sum(type(held) is cst.Module and len(held.body) > 0 for held in gc.get_objects())


def test_no_tree_outlives_its_file(tmp_path: Path) -> None:
    lay(tmp_path, findings=2)
    # One for the tasks and one for the SQL, which keep what they know of a file.
    (tmp_path / "app" / "tasks.py").write_text(
        "import asyncio\nfrom sqlalchemy import text\n"
        "from sqlalchemy.ext.asyncio import AsyncSession\n\n\n"
        "async def run(session: AsyncSession):\n"
        "    await session.execute(text('SET search_path = a'))\n"
        "    await asyncio.gather(session.get(1), session.get(2))\n"
    )
    gc.collect()
    gc.disable()
    before, found = trees(), 0
    try:
        for items in Run(Options(paths=(str(tmp_path),))).check():
            found += len(items)
            assert trees() == before
    finally:
        gc.enable()
    assert found == 4
