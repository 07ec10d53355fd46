"""What a finding costs does not grow with the number of findings in the file."""

from __future__ import annotations

import cProfile
import gc
import pstats
from pathlib import Path

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


def calls_of_check(folder: Path, findings: int) -> int:
    """Return how many functions are called to check one file with so many findings."""
    (folder / "app").mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[tool.session-guard]\nhandler = "app.db"\n')
    (folder / "app" / "db.py").write_text(HANDLER.read_text())
    text = "".join(FINDING.format(number=number) for number in range(findings))
    (folder / "app" / "names.py").write_text(HEAD + text)
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
