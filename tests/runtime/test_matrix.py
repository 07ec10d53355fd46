"""A part of `scripts/matrix`: what docs/compatibility.md says, on the versions at both ends."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from session_guard.standard import Names, worth
from session_guard.versions import Version, Versions

from .matrix import page
from .matrix.environments import Combination, python_with
from .matrix.measurement import (
    DIRECT,
    FAILS,
    MODES,
    RIGHT,
    TRANSACTION,
    WRONG,
    Found,
    Load,
    Pooler,
    Programs,
    own_poolers,
)
from .servers import Postgres

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="asyncpg 0.28 can be installed on Python 3.11 and older"
)

INSTALLED = Combination(version("asyncpg"), version("sqlalchemy"))
OLDEST = Combination("0.28.0", "2.0.10")
LAST_WITH_WRONG_ROWS = Combination("0.31.0", "2.0.10")
CLAIMS = page.read(page.FILE.read_text())
ATTEMPTS = 5
PART = Load(processes=2, clients=8, turns=6)
POOLED = {
    "naive": ("execute",),
    "cache0": ("execute",),
    "unique+0+0": ("execute", "AUTOCOMMIT"),
    "standard-2025": ("execute",),
    "anonymous+0": ("execute", "stream twice"),
    "anonymous+0+0": MODES,
}
"""What is run again behind a transaction pooler."""


@pytest.fixture(scope="module")
def poolers(postgres: Postgres) -> Iterator[dict[str, Pooler]]:
    with own_poolers(postgres) as started:
        yield started


def python_of(combination: Combination) -> Path:
    return Path(sys.executable) if combination == INSTALLED else python_with(combination)


def claims_of(pooler: str, settings: str, combination: Combination) -> page.Verdicts:
    measured = {row.combination for row in CLAIMS}
    return CLAIMS[page.Row(pooler, settings, page.nearest(combination, measured))]


def as_claimed(
    programs: Programs, pooler: Pooler, settings: str, mode: str, claim: str
) -> list[Found]:
    """Run a part of the load until what goes wrong by chance was seen; return what was not."""
    attempts = []
    for _ in range(ATTEMPTS if claim in (WRONG, FAILS) else 1):
        load = PART if pooler.load.processes > 1 else pooler.load
        attempts.append(programs.run(pooler, settings, mode, load))
        if attempts[-1].verdict == claim:
            return []
    return attempts


@pytest.mark.parametrize("combination", [INSTALLED, OLDEST], ids=["installed", "oldest"])
def test_page_says_what_is_measured(poolers: dict[str, Pooler], combination: Combination) -> None:
    differs = {}
    with Programs(python_of(combination)) as programs:
        for name, part in (
            (TRANSACTION, POOLED),
            (DIRECT, {"cache0": MODES, "anonymous+0": MODES, "anonymous+0+0": MODES}),
        ):
            for settings, modes in part.items():
                claims = claims_of(name, settings, combination)
                for mode in modes:
                    seen = as_claimed(programs, poolers[name], settings, mode, claims[mode])
                    if seen:
                        differs[name, settings, mode] = (claims[mode], seen)
    assert differs == {}, "run scripts/matrix"


def test_handler_refuses_the_fast_choice_where_it_answers_with_rows_of_other_queries(
    poolers: dict[str, Pooler],
) -> None:
    """In one session without a pooler: a stream, another query, the first stream again."""
    one_session = Load(processes=1, clients=1, turns=1)
    with Programs(python_of(LAST_WITH_WRONG_ROWS)) as programs:
        found = programs.run(poolers[DIRECT], "anonymous+0", "stream twice", one_session)
        handlers = programs.run(poolers[DIRECT], "anonymous+0+0", "stream twice", one_session)
    assert (found.right, found.wrong, found.failed) == (2, 1, 0)
    assert (handlers.right, handlers.wrong, handlers.failed) == (3, 0, 0)

    code = (
        "from session_guard.async_session import SessionSettings\n"
        "SessionSettings(prepared_statement_cache_size=100)"
    )
    run = subprocess.run(
        [python_of(LAST_WITH_WRONG_ROWS), "-P", "-c", code], capture_output=True, text=True
    )
    last_line = run.stderr.splitlines()[-1]
    assert last_line == (
        "ValueError: prepared_statement_cache_size=100 needs asyncpg 0.32 or newer: 0.31.0, "
        "which is installed, would answer with rows of other queries"
    )


RUN_AFTER_RUN = """\
import asyncio

from sqlalchemy import text

from session_guard.async_session import SessionSettings, configure, get_background_session


async def session():
    async with get_background_session() as session:
        await session.execute(text("SELECT 1"))


async def at_once():
    await asyncio.gather(*(session() for _ in range(5)))


configure(SessionSettings(tls="off"))
for _ in range(3):
    asyncio.run(at_once())
"""


@pytest.mark.parametrize("combination", [INSTALLED, OLDEST], ids=["installed", "oldest"])
def test_handler_goes_from_loop_to_loop(postgres: Postgres, combination: Combination) -> None:
    """Before SQLAlchemy 2.0.25 a pool that follows another blocks the thread of its tasks."""
    subprocess.run(
        [python_of(combination), "-P", "-W", "error", "-c", RUN_AFTER_RUN],
        env={**os.environ, "DATABASE_URL": postgres.dsn},
        check=True,
        timeout=60,
    )


def test_page_claims_the_handlers_settings_right_everywhere() -> None:
    claims = [found for row, found in CLAIMS.items() if row.settings == "anonymous+0+0"]
    assert claims
    assert all(verdict == RIGHT for found in claims for verdict in found.values())


SETTINGS = {
    "naive": (Names.DEFAULT, False, False),
    "cache0": (Names.DEFAULT, True, False),
    "unique+0+0": (Names.UNIQUE, True, True),
    "anonymous+0": (Names.ANONYMOUS, True, False),
    "anonymous+0+0": (Names.ANONYMOUS, True, True),
}
"""As the rules see them: names, and whether the driver's and the dialect's cache is off."""


def test_page_says_what_the_rules_say() -> None:
    differs = []
    for row, verdicts in CLAIMS.items():
        if row.settings not in SETTINGS or row.pooler not in (DIRECT, TRANSACTION):
            continue
        names, driver_off, dialect_off = SETTINGS[row.settings]
        numbers = tuple(map(int, row.combination.asyncpg.split(".")))
        asyncpg = Version(
            "asyncpg",
            row.combination.asyncpg,
            ("docs/compatibility.md",),
            numbers,
            (*numbers[:-1], numbers[-1] + 1),
        )
        said = worth(
            names,
            driver_off=driver_off,
            dialect_off=dialect_off,
            versions=Versions(asyncpg=asyncpg),
        )
        is_right = said.is_right or (row.pooler == DIRECT and said.needs_pooler)
        # AUTOCOMMIT with unique names is the business of a rule of its own, SG208.
        modes = [mode for mode in MODES if names is not Names.UNIQUE or mode != "AUTOCOMMIT"]
        if is_right != all(verdicts[mode] == RIGHT for mode in modes):
            differs.append((row, verdicts, said))
    assert differs == []
