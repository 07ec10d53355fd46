"""What the doctor found, as text and as data, with its verdict."""

from __future__ import annotations

import enum
import json
from collections import Counter
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
connect_args={{
    "prepared_statement_name_func": lambda: "",
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
{kept}}}"""
_IN_ITSELF = """\
or have it hand these three to the `connect` of SQLAlchemy's dialect, or of its `dbapi`."""
_IN_PLACE = {
    "async_creator": """\
or have it connect with statement_cache_size=0, and give create_async_engine in its place:
creator=lambda: engine.dialect.dbapi.connect(
    async_creator_fn=...,  # your async_creator
    prepared_statement_name_func=lambda: "",
    prepared_statement_cache_size=0,
)"""
}


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
        is_wrong = outcome.refusal or any(counts.is_wrong for counts in outcome.modes.values())
        if is_wrong or self._remedies or self.server.mode == "statement":
            return Verdict.UNSAFE
        return Verdict.UNKNOWN if self._doubt else Verdict.SAFE

    @property
    def _remedies(self) -> tuple[str, ...]:
        """What to do about settings of the engine that are refused or dropped."""
        return tuple(self.settings.faults.remedies.values()) if self.settings else ()

    @property
    def _doubt(self) -> str:
        """What stands in the way of a proof, as the end of a sentence; empty where nothing does."""
        outcome = self.judged
        counts = outcome.modes.values()
        if outcome.trouble:
            return f"could not connect ({outcome.trouble}); try again under less load"
        errors: Counter[str] = sum((one.errors for one in counts), Counter())
        if errors:
            [(error, _)] = errors.most_common(1)
            return f"lost connections ({error}), for which no setting is to blame; try again"
        if any(one.is_cut_short or not one.right for one in counts):
            return "could not be tried to the end in the time; try again under less load"
        if self.server.mode not in ("none", "session") and not all(o.is_mixed for o in counts):
            return (
                "was right, but its clients did not meet on two server connections or more, "
                "as they do under load; try again when more of the pool is free, or --deep"
            )
        leaves = self.server.mode == "session" and self.server.leftovers != ()
        if leaves and not all(one.is_shared for one in counts):
            return (
                "was right, but no program came after another on a server connection, as they do "
                "in the end; try again when more of the pool is free"
            )
        if self.server.mode == "transaction" and outcome.left is None:
            return "was right, but what it left on the server connections could not be looked at"
        return ""

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
                modes = "every mode" if len(outcome.modes) > 1 else "AUTOCOMMIT, the mode it is in"
                return f"Safe: {what} was right in {modes}.{left}"
            case Verdict.UNSAFE if self.server.mode == "statement":
                return "Unsafe: no transaction can run in statement mode; use transaction mode."
            case Verdict.UNSAFE if outcome.refusal:
                where = " in some of its programs" if outcome.modes else ""
                fails = f"{what} fails before its first query{where} ({outcome.refusal})."
                return " ".join((f"Unsafe: {fails}", *self._remedies))
            case Verdict.UNSAFE:
                bad = [mode for mode, counts in outcome.modes.items() if counts.is_wrong]
                fails = f"was wrong or failed in {', '.join(bad)}" if bad else "loses its settings"
                return " ".join((f"Unsafe: {what} {fails}.", *self._remedies))
            case _:
                return f"Not known: {what} {self._doubt}."

    def as_data(self) -> dict[str, Any]:
        """The report for JSON."""
        is_followed = self.advice and self.settings and not self.settings.opened_by
        return {
            "target": self.target,
            "versions": _versions(),
            "server": asdict(self.server),
            "engine": self.engine or None,
            "settings": self.settings.shown() if self.settings else None,
            "outcomes": [_outcome(outcome) for outcome in self.outcomes],
            "verdict": self.verdict.name.lower(),
            "conclusion": self.conclusion,
            "connect_args": self._connect_args if is_followed else None,
            "advice": self.advice or None,
        }

    def lines(self) -> Iterator[str]:
        """The report for people."""
        versions = ", ".join(f"{name} {number}" for name, number in _versions().items())
        yield f"{self.target}: {_described(self.server)} ({versions})"
        startup = [f"{name} {fate}" for name, fate in self.server.startup.items()]
        yield f"startup parameters: {', '.join(startup)}"
        yield f"state of a session: {_STATES[self.server.session_state]}"
        if self.server.mode == "session":
            yield (
                "session mode: each client keeps a server connection for itself; transaction mode "
                "is `pool_mode = transaction` in PgBouncer, and port 6543 in Supavisor"
            )
            yield from _handed_on(self.server.leftovers)
        yield from (f"not known: {what}" for what in self.server.unknown)
        if self.settings is not None:
            yield ""
            yield f"{self.engine} connects with:"
            for key, value in self.settings.shown().items():
                if key == "opened_by":
                    continue
                yield f"  {key}: {self._shown(value)}"
        yield ""
        yield from _table(self.outcomes)
        if self.settings is not None and self.settings.names != "anonymous":
            if_named = ", if it names them" if self.settings.names is None else ""
            yield (
                "not counted, and not taken away: statements with which SQLAlchemy begins, as each "
                f"start of your program leaves them behind a pooler{if_named}"
            )
        yield ""
        yield self.conclusion
        if self.advice:
            yield self.advice

    def _shown(self, value: str | tuple[str, ...] | None) -> str:
        if value is None and self.settings is not None:
            return f"not known: your own {self.settings.opened_by} opens the connections"
        return ", ".join(value) or "none" if isinstance(value, tuple) else f"{value}"

    @property
    def advice(self) -> str:
        """What to use in place of the engine's settings, and where; empty where there is none."""
        best = next((o for o in self.outcomes if o.name == RECOMMENDED), None)
        if self.verdict is not Verdict.UNSAFE or best is None or not best.is_right:
            return ""
        if self.settings is None:
            return ""
        opener = self.settings.opened_by
        if not opener:
            return (
                f"Use instead; all but what says `not tried` was right here:\n{self._connect_args}"
            )
        is_used = "would be" if opener == "async_creator" else "may be"
        return (
            f"connect_args {is_used} ignored: your own {opener} opens the connections. Leave it "
            f"away, and use what was right here:\n{self._connect_args}\n"
            + _IN_PLACE.get(opener, _IN_ITSELF)
        )

    @property
    def _connect_args(self) -> str:
        if self.settings is None:
            return ""
        if self.settings.opened_by:
            return CONNECT_ARGS.format(
                kept=f"    # and what else your {self.settings.opened_by} gives\n"
            )
        kept = (f"    {json.dumps(name)}: {code}\n" for name, code in self.settings.kept.items())
        return CONNECT_ARGS.format(kept="".join(kept))


_STATES = {
    "kept": "kept for its client",
    "lost": "lost between transactions",
    "shared": "seen by other clients",
    "unknown": "not known",
}


def _outcome(outcome: Outcome) -> dict[str, Any]:
    modes = {
        mode: {
            "right": counts.right,
            "wrong": counts.wrong,
            "failed": counts.failed,
            "lost": counts.lost,
            "errors": dict(counts.errors),
            "is_cut_short": counts.is_cut_short,
        }
        for mode, counts in outcome.modes.items()
    }
    return {
        "name": outcome.name,
        "is_right": outcome.is_right,
        "refusal": outcome.refusal or None,
        "trouble": outcome.trouble or None,
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


def _handed_on(leftovers: tuple[str, ...] | None) -> Iterator[str]:
    """Say what the next client on a server connection finds there."""
    if leftovers:
        yield (
            f"left to the next client: {' and '.join(leftovers)}, which fails where another one's "
            "statement has the name, and works with its settings; PgBouncer takes all away with "
            "`server_reset_query = DISCARD ALL`, its default"
        )
    elif leftovers is not None:
        yield "left to the next client: neither prepared statements nor settings"


def _table(outcomes: tuple[Outcome, ...]) -> Iterator[str]:
    modes = ("transactions", "AUTOCOMMIT", "cursors")
    rows: list[tuple[str, ...]] = [("settings", *modes, "left")]
    for outcome in outcomes:
        obstacle = outcome.refusal or outcome.trouble
        cells = [f"cannot connect: {obstacle}", "", ""]
        if outcome.modes:  # of several processes, one could
            cells = [_cell(outcome.modes.get(mode)) for mode in modes]
            cells[0] += f", others cannot connect: {obstacle}" if obstacle else ""
        elif not obstacle:
            cells = ["not tried", "", ""]
        rows.append((outcome.name, *cells, "?" if outcome.left is None else str(outcome.left)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()


def _cell(counts: Counts | None) -> str:
    if counts is None:
        return "none in AUTOCOMMIT"
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
