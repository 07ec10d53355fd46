"""What the pages of figures have in common: who runs when, and how figures are written."""

import statistics
from collections.abc import Iterator, Sequence


def turns(names: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Yield who runs next, behind the number of the round; the one with number 0 only warms up.

    They are gone through forwards and backwards by turns, so that each is first as often.
    """
    for number in range(rounds + 1):
        for name in names[:: 1 if number % 2 else -1]:
            yield number, name


def spread(figures: Sequence[float], style: str) -> str:
    """Write the median, and between which figures the middle half lies."""
    if len(figures) == 1:
        return style.format(figures[0])
    low, middle, high = statistics.quantiles(figures, n=4, method="inclusive")
    return f"{style.format(middle)} ({style.format(low)} to {style.format(high)})"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown; the first row is its head."""
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def megabytes(memory: float) -> str:
    """Write an amount of memory, given in bytes."""
    return f"{memory / 1e6:,.0f} MB"
