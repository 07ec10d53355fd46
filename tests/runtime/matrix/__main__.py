"""Runs the whole matrix and writes its page: `scripts/matrix`."""

import asyncio
import os
import platform
import sys
from collections.abc import Iterable

from packaging.version import Version

from ..servers import (
    PgBouncer,
    Postgres,
    pgbouncer_version,
    running_pgbouncer,
    running_postgres,
)
from . import page
from .environments import Combination, UnavailableError, all_combinations, python_with
from .measurement import (
    DIRECT,
    MODES,
    REFUSED,
    SETTINGS,
    TRANSACTION,
    Load,
    Pooler,
    Programs,
    given_poolers,
    own_poolers,
    pooler_of,
)

POOLERS_VARIABLE = "SESSION_GUARD_MATRIX_POOLERS"
ONE_PROCESS = Load(processes=1, clients=20, turns=15)
SEVERAL_PROCESSES = Load(processes=4, clients=8, turns=40)
AUTOCOMMIT = Load(processes=1, clients=20, turns=40)
ONE_SESSION = Load(processes=1, clients=1, turns=1)


def main() -> None:
    with running_postgres() as server, own_poolers(server) as own:
        poolers = [*own.values(), *given_poolers(os.environ.get(POOLERS_VARIABLE, ""))]
        result = page.Page(asyncio.run(_environment(server)))
        measured = _measure(result, all_combinations(), poolers)
        with running_pgbouncer(server) as pgbouncer:
            _count(result, measured, own[DIRECT], pgbouncer)
    page.FILE.write_text(page.written(result))


async def _environment(server: Postgres) -> str:
    [[postgresql]] = await server.fetch("SHOW server_version")
    pgbouncer = ".".join(map(str, pgbouncer_version()))
    return (
        f"Measured on Python {platform.python_version()}, PostgreSQL {postgresql.split()[0]} and "
        f"PgBouncer {pgbouncer}\nwithout translation of named statements."
    )


def _measure(
    result: page.Page, combinations: Iterable[Combination], poolers: Iterable[Pooler]
) -> list[Combination]:
    """Fill in the verdicts, and return the versions that could be installed."""
    measured = []
    for combination in combinations:
        try:
            python = python_with(combination)
        except UnavailableError as reason:
            result.unavailable[combination] = str(reason)
            continue
        measured.append(combination)
        with Programs(python) as programs:
            for pooler in poolers:
                for settings in SETTINGS:
                    _say(f"{combination.asyncpg} {combination.sqlalchemy} {pooler.name} {settings}")
                    row = page.Row(pooler.name, settings, combination)
                    result.verdicts[row] = _verdicts(programs, pooler, settings)
    return measured


def _verdicts(programs: Programs, pooler: Pooler, settings: str) -> page.Verdicts:
    verdicts: page.Verdicts = {}
    for mode in MODES:
        is_refused = REFUSED in verdicts.values()
        verdicts[mode] = REFUSED if is_refused else programs.settle(pooler, settings, mode).verdict
    return verdicts


def _count(
    result: page.Page, measured: list[Combination], direct: Pooler, pgbouncer: PgBouncer
) -> None:
    """Count what comes of loads that are large enough for figures; they vary from run to run."""
    pooler = pooler_of(pgbouncer)
    newest = measured[-1]
    versions = f"SQLAlchemy {newest.sqlalchemy}, asyncpg {newest.asyncpg}"
    through = f"through {TRANSACTION}"
    before = [each for each in measured if _is_series(each, "0.30", "2.0")][-1]
    newest_by_driver = {each.asyncpg: each for each in measured}.values()
    result.counted = {
        f"Counts: one program {through} ({versions})": _one_program(newest, pooler, pgbouncer),
        f"Counts: four programs {through} (SQLAlchemy / asyncpg)": _four_programs(
            [newest, before], pooler
        ),
        f"Counts: AUTOCOMMIT, one program {through}": _autocommit(newest_by_driver, pooler),
        "One session, no pooler: a stream, another query, the first stream again": _cursors(
            newest_by_driver, direct
        ),
    }


def _one_program(newest: Combination, pooler: Pooler, pgbouncer: PgBouncer) -> page.Table:
    table = [["settings", "transactions right", "statements left per connection", "errors"]]
    asked = ONE_PROCESS.clients * ONE_PROCESS.turns
    with Programs(python_with(newest)) as programs:
        for settings in SETTINGS:
            _say(f"one program {settings}")
            found = programs.run(pooler, settings, "execute", ONE_PROCESS)
            if found.verdict == REFUSED:
                table.append([f"`{settings}`", f"0 of {asked}", page.NONE, f"`{found.refusal}`"])
                continue
            left = map(str, asyncio.run(pgbouncer.named_statements()))
            errors = page.common_errors(found.errors)
            right = f"{asked - found.failed} of {asked}"
            table.append([f"`{settings}`", right, ", ".join(left), errors])
    return table


def _four_programs(combinations: list[Combination], pooler: Pooler) -> page.Table:
    shown = ("naive", "cache0", "unique+0+0", "anonymous+0+0")
    columns = []
    for each in combinations:
        _say(f"four programs {each}")
        with Programs(python_with(each)) as programs:
            columns.append(
                [
                    page.outcome(programs.run(pooler, settings, "execute", SEVERAL_PROCESSES))
                    for settings in shown
                ]
            )
    head = ["settings", *(f"{each.sqlalchemy} / {each.asyncpg}" for each in combinations)]
    return [head, *([f"`{name}`", *cells] for name, *cells in zip(shown, *columns, strict=True))]


def _autocommit(combinations: Iterable[Combination], pooler: Pooler) -> page.Table:
    shown = ("unique+0+0", "anonymous+0+0")
    table = [["asyncpg", *(f"`{name}`" for name in shown)]]
    for each in combinations:
        _say(f"AUTOCOMMIT {each}")
        with Programs(python_with(each)) as programs:
            found = [programs.run(pooler, name, "AUTOCOMMIT", AUTOCOMMIT) for name in shown]
        table.append([each.asyncpg, *map(page.outcome, found)])
    return table


def _cursors(combinations: Iterable[Combination], direct: Pooler) -> page.Table:
    shown = ("cache0", "anonymous+0", "anonymous+0+0")
    table = [["asyncpg", *(f"`{name}`" for name in shown)]]
    for each in combinations:
        with Programs(python_with(each)) as programs:
            found = [programs.run(direct, name, "stream twice", ONE_SESSION) for name in shown]
        answers = [
            "third answer is **the second query's**" if one.wrong else one.verdict for one in found
        ]
        table.append([each.asyncpg, *answers])
    return table


def _is_series(combination: Combination, asyncpg: str, sqlalchemy: str) -> bool:
    return combination.asyncpg.startswith(f"{asyncpg}.") and (
        Version(f"{sqlalchemy}.10") < Version(combination.sqlalchemy) < Version("2.1.dev0")
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
