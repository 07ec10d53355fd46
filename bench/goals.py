"""What is compared, what it may take, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from bench.comparing import megabytes, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bench.processes import Command, Run, Runs

LINEAR = 1.3
"""How many times as much a further line may cost as it did in a project a tenth as large."""


@dataclass(frozen=True)
class Goal:
    """What the first command of a case may take, as a figure of one of its runs and another's."""

    text: str
    limit: float
    style: str
    figure: Callable[[Run, Run], float]
    than: str


def times(than: str, factor: float) -> Goal:
    """Return the goal of at most so many times the wall time of another command."""

    def figure(ours: Run, other: Run) -> float:
        return ours.seconds / other.seconds

    return Goal(f"wall ≤ {factor:g} × {than}", factor, "{:.2f} ×", figure, than)


def plus(than: str, milliseconds: float) -> Goal:
    """Return the goal of at most the wall time of another command and something more."""

    def figure(ours: Run, other: Run) -> float:
        return (ours.seconds - other.seconds) * 1000

    text = f"wall ≤ {than} + {milliseconds:g} ms"
    return Goal(text, milliseconds, "{:+.0f} ms", figure, than)


@dataclass(frozen=True)
class MemoryGoal:
    """What the first command may have of memory, in bytes or in times of what another has."""

    text: str
    limit: float
    than: str | None = None


@dataclass(frozen=True)
class Case:
    """Commands that take turns; the first one is what is measured."""

    title: str
    commands: Mapping[str, Command]
    goals: Sequence[Goal] = ()
    memory: Sequence[MemoryGoal] = ()
    rounds: int | None = None
    """How often each runs, if it is not as the command line says; 0 is once, without a warm-up."""
    before: Sequence[Command] = ()
    """What runs first, to fill caches."""


def verdicts(case: Case, found: Mapping[str, Runs]) -> Iterator[list[str]]:
    """Yield a row for each goal of a case."""
    ours, *_ = found.values()
    if ours.failure:
        goals = [goal.text for goal in case.goals] + [limit.text for limit in case.memory]
        for text in goals:
            yield [case.title, text, ours.failure, _verdict(False)]
        return
    for goal in case.goals:
        other = found.get(goal.than)
        if other is None or other.failure:
            yield [case.title, goal.text, "–", f"not measured: no {goal.than}"]
            continue
        figures = [goal.figure(*pair) for pair in zip(ours.runs, other.runs, strict=True)]
        shown = spread(figures, goal.style)
        yield [case.title, goal.text, shown, _verdict(median(figures) <= goal.limit)]
    for limit in case.memory:
        if limit.than is None:
            yield [
                case.title,
                limit.text,
                megabytes(ours.memory),
                _verdict(ours.memory <= limit.limit),
            ]
        else:
            ratio = ours.memory / found[limit.than].memory
            yield [case.title, limit.text, f"{ratio:.2f} ×", _verdict(ratio <= limit.limit)]


def growth_verdict(title: str, lines: list[int], seconds: list[float], failure: str) -> list[str]:
    """Return the row that says whether wall time is linear in lines."""
    goal = f"a further line ≤ {LINEAR} × one in a tenth of the size"
    if failure:
        return [title, goal, failure, _verdict(False)]
    if len(lines) < 3:
        return [title, goal, "–", "not measured: too few sizes"]
    *_, before, last = _slopes(lines, seconds)
    if before <= 0:
        return [title, goal, "–", "not measured: the difference is below what disturbs it"]
    return [title, goal, f"{last / before:.2f} ×", _verdict(last / before <= LINEAR)]


def _slopes(lines: list[int], seconds: list[float]) -> list[float]:
    """Return what a further line costs, from each size to the next, in seconds."""
    steps = range(len(lines) - 1)
    return [(seconds[at + 1] - seconds[at]) / (lines[at + 1] - lines[at]) for at in steps]


def _verdict(is_met: bool) -> str:
    """Say whether a goal is met."""
    return "met" if is_met else "**not met**"
