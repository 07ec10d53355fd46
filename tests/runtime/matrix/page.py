"""The page of the documentation that says what was measured: written here, and read again."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packaging.version import Version

from .environments import Combination
from .measurement import MODES, REFUSED, RIGHT, SETTINGS, WRONG, Found

NONE = "\N{EN DASH}"
FILE = Path(__file__).parents[3] / "docs/compatibility.md"

Verdicts = dict[str, str]
"""The verdict of each mode."""
Table = list[list[str]]


@dataclass(frozen=True)
class Row:
    """What was measured of one way to set an engine up."""

    pooler: str
    settings: str
    combination: Combination


@dataclass
class Page:
    """Everything that is written there."""

    environment: str
    """What all of it ran on, in words."""
    verdicts: dict[Row, Verdicts] = field(default_factory=dict)
    unavailable: dict[Combination, str] = field(default_factory=dict)
    """What could not be installed, and pip's reason."""
    counted: dict[str, Table] = field(default_factory=dict)
    """Tables of counts by heading, with their head first."""


_HEAD = """\
# Which settings are right on which versions

Written by `scripts/matrix`; do not edit. {environment}

[poolers.md](poolers.md) says what the settings are. `anonymous+0` is the handler's
[fast choice](handler.md#the-fast-choice): anonymous names and `statement_cache_size=0`, with
SQLAlchemy's own cache left on.

| mode | one transaction of it |
|---|---|
| execute | three queries |
| executemany | three rows inserted at once, and read back |
| stream twice | a stream, another query, the first stream again |
| query in a stream | a stream of 120 rows, and other queries while it is open |
| AUTOCOMMIT | three queries on a connection in AUTOCOMMIT |

Every row says which query of which program it answers. **wrong rows**: at least one was the answer
to another query, or a row that was written was not there. fails: no row was wrong, but transactions
ended with an error. cannot connect: no connection could be opened. Through a transaction pooler
three programs share three server connections; elsewhere it is one program with four connections.
"""


def written(page: Page) -> str:
    """Return the page as Markdown."""
    parts = [_HEAD.format(environment=page.environment)]
    for pooler in dict.fromkeys(row.pooler for row in page.verdicts):
        rows = {row: found for row, found in page.verdicts.items() if row.pooler == pooler}
        parts += [f"## {pooler}\n", _table([_COLUMNS, *_grouped(rows)])]
    for heading, table in page.counted.items():
        parts += [f"## {heading}\n", _table(table)]
    if page.unavailable:
        reasons = [
            [each.asyncpg, each.sqlalchemy, reason] for each, reason in page.unavailable.items()
        ]
        parts += [
            "## Not measured\n",
            _table([["asyncpg", "SQLAlchemy", "why it could not be installed"], *reasons]),
        ]
    return "\n".join(parts)


_COLUMNS = ["settings", "asyncpg", "SQLAlchemy", *MODES]


def _table(rows: Iterable[Iterable[str]]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|---" * (head.count(" | ") + 1) + "|", *body, ""])


def _grouped(rows: Mapping[Row, Verdicts]) -> list[list[str]]:
    """Write versions with the same verdicts into one row of the table."""
    groups: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for settings in SETTINGS:
        of_driver: dict[str, dict[tuple[str, ...], list[str]]] = {}
        for row, verdicts in rows.items():
            if row.settings == settings:
                found = tuple(verdicts[mode] for mode in MODES)
                alike = of_driver.setdefault(row.combination.asyncpg, {})
                alike.setdefault(found, []).append(row.combination.sqlalchemy)
        for driver, alike in of_driver.items():
            for found, versions in alike.items():
                groups.setdefault((settings, tuple(versions), found), []).append(driver)
    return [
        [
            f"`{settings}`",
            ", ".join(drivers),
            ", ".join(versions),
            *(f"**{verdict}**" if verdict == WRONG else verdict for verdict in found),
        ]
        for (settings, versions, found), drivers in groups.items()
    ]


def read(text: str) -> dict[Row, Verdicts]:
    """Return what a page says of each pooler, way to set an engine up and pair of versions."""
    verdicts: dict[Row, Verdicts] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        cells = [cell.strip(" `*") for cell in line.strip("|").split("|")]
        if len(cells) != len(_COLUMNS) or cells[0] not in SETTINGS:
            continue
        settings, drivers, versions, *found = cells
        for driver in drivers.split(", "):
            for version in versions.split(", "):
                row = Row(heading, settings, Combination(driver, version))
                verdicts[row] = dict(zip(MODES, found, strict=True))
    return verdicts


def nearest(installed: Combination, claimed: Iterable[Combination]) -> Combination:
    """Return the versions that a claim was measured on which holds for those installed."""
    claims = sorted(claimed, key=lambda each: (Version(each.asyncpg), Version(each.sqlalchemy)))
    return [
        each
        for each in claims
        if Version(each.asyncpg) <= Version(installed.asyncpg)
        and Version(each.sqlalchemy) <= Version(installed.sqlalchemy)
    ][-1]


def common_errors(errors: Counter[str]) -> str:
    """Name the errors that came most."""
    return ", ".join(f"`{name}`" for name, _ in errors.most_common(2)) or NONE


def outcome(found: Found) -> str:
    """Say in numbers what came of a load."""
    if found.verdict == REFUSED:
        return f"{REFUSED}: `{found.refusal}`"
    if found.verdict == RIGHT:
        return f"{found.right:,} right"
    wrong = f"**{found.wrong:,} wrong**, " if found.wrong else ""
    return f"{found.right:,} right, {wrong}{found.failed:,} transactions failed"
