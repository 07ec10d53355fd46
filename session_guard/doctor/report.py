"""What the doctor found, as text and as data, with its verdict."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.doctor.engine import EngineSettings
    from session_guard.doctor.server import Server
    from session_guard.doctor.trial import Counts, Outcome

RECOMMENDED = "anonymous+0+0"
CONNECT_ARGS = """\
connect_args={
    "prepared_statement_name_func": lambda: "",
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
}"""


class Verdict(enum.Enum):
    """What is proven; the value is the exit code."""

    SAFE = 0
    UNSAFE = 1
    UNKNOWN = 2


@dataclass(frozen=True)
class Report:
    """All that was found."""

    target: str
    server: Server
    outcomes: tuple[Outcome, ...]
    engine: str = ""
    """How the user's engine was named; empty where none was."""
    settings: EngineSettings | None = None

    @property
    def judged(self) -> Outcome:
        """The outcome that the verdict is about: the user's engine, or what is recommended."""
        name = self.engine or RECOMMENDED
        return next(outcome for outcome in self.outcomes if outcome.name == name)

    @property
    def verdict(self) -> Verdict:
        """Whether the engine, or what is recommended, is right here."""
        outcome = self.judged
        counts = outcome.modes.values()
        if outcome.refusal or any(one.wrong or one.failed for one in counts):
            return Verdict.UNSAFE
        if any(one.is_cut_short or not one.right for one in counts):
            return Verdict.UNKNOWN
        if self.server.mode == "transaction" and outcome.left is None and not self.engine:
            return Verdict.UNKNOWN
        return Verdict.SAFE

    @property
    def conclusion(self) -> str:
        """The verdict in a sentence or two."""
        outcome = self.judged
        what = f"the engine {self.engine}" if self.engine else f"`{RECOMMENDED}`"
        match self.verdict:
            case Verdict.SAFE:
                left = (
                    f" It leaves {outcome.left} prepared statements on the server connections."
                    if outcome.left
                    else ""
                )
                return f"Safe: {what} was right in every mode.{left}"
            case Verdict.UNSAFE if self.server.mode == "statement":
                return "Unsafe: no transaction can run in statement mode; use transaction mode."
            case Verdict.UNSAFE if outcome.refusal:
                return f"Unsafe: {what} fails before its first query ({outcome.refusal})."
            case Verdict.UNSAFE:
                bad = [mode for mode, counts in outcome.modes.items() if not counts.is_right]
                return f"Unsafe: {what} was wrong or failed in {', '.join(bad)}."
            case _:
                return f"Not known: {what} could not be tried to the end."

    def as_data(self) -> dict[str, Any]:
        """The report for JSON."""
        return {
            "target": self.target,
            "versions": _versions(),
            "server": asdict(self.server),
            "engine": self.engine or None,
            "settings": asdict(self.settings) if self.settings else None,
            "outcomes": [_outcome(outcome) for outcome in self.outcomes],
            "verdict": self.verdict.name.lower(),
            "conclusion": self.conclusion,
            "connect_args": None if self.verdict is Verdict.SAFE else CONNECT_ARGS,
        }

    def lines(self) -> Iterator[str]:
        """The report for people."""
        versions = ", ".join(f"{name} {number}" for name, number in _versions().items())
        yield f"{self.target}: {_described(self.server)} ({versions})"
        startup = [f"{name} {fate}" for name, fate in self.server.startup.items()]
        yield f"startup parameters: {', '.join(startup)}"
        yield from (f"not known: {what}" for what in self.server.unknown)
        if self.settings is not None:
            yield ""
            yield f"{self.engine} connects with:"
            for key, value in asdict(self.settings).items():
                shown = ", ".join(value) or "none" if isinstance(value, tuple) else value
                yield f"  {key}: {shown}"
        yield ""
        yield from _table(self.outcomes)
        yield ""
        yield self.conclusion
        if self.verdict is Verdict.UNSAFE and self.engine:
            best = next((o for o in self.outcomes if o.name == RECOMMENDED), None)
            if best is not None and best.is_right:
                yield f"Use instead, which was right here:\n{CONNECT_ARGS}"


def _outcome(outcome: Outcome) -> dict[str, Any]:
    modes = {
        mode: {
            "right": counts.right,
            "wrong": counts.wrong,
            "failed": counts.failed,
            "errors": dict(counts.errors),
            "is_cut_short": counts.is_cut_short,
        }
        for mode, counts in outcome.modes.items()
    }
    return {
        "name": outcome.name,
        "is_right": outcome.is_right,
        "refusal": outcome.refusal or None,
        "modes": modes,
        "left": outcome.left,
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("sqlalchemy", "asyncpg")}


def _described(server: Server) -> str:
    if server.mode == "none":
        return f"PostgreSQL {server.postgresql}, without a pooler"
    mode = "a mode that could not be told" if server.mode == "unknown" else f"{server.mode} mode"
    text = f"{server.kind} in {mode}, before PostgreSQL {server.postgresql}"
    if server.named_statements is not None:
        text += (
            ", which translates named statements"
            if server.named_statements
            else ", which does not translate named statements"
        )
    return text


def _table(outcomes: tuple[Outcome, ...]) -> Iterator[str]:
    modes = ("transactions", "AUTOCOMMIT", "cursors")
    rows: list[tuple[str, ...]] = [("settings", *modes, "left")]
    for outcome in outcomes:
        cells = (
            (f"cannot connect: {outcome.refusal}", "", "")
            if outcome.refusal
            else tuple(_cell(outcome.modes.get(mode)) for mode in modes)
        )
        rows.append((outcome.name, *cells, "?" if outcome.left is None else str(outcome.left)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()


def _cell(counts: Counts | None) -> str:
    if counts is None:
        return "not tried"
    if counts.is_right and not counts.is_cut_short:
        return f"right ({counts.right})"
    parts = [f"{counts.right} right"]
    if counts.wrong:
        parts.append(f"{counts.wrong} WRONG")
    if counts.failed:
        [(error, _)] = counts.errors.most_common(1)
        parts.append(f"{counts.failed} failed ({error})")
    if counts.is_cut_short:
        parts.append("time over")
    return ", ".join(parts)
