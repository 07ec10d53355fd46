"""What becomes of an order, by its number."""

ENDLESS = -1
"""It takes longer than any test."""


def is_refused(number: int) -> bool:
    return number % 10 == 7


def is_busy(number: int) -> bool:
    """Whether the first attempt fails."""
    return number % 10 == 3
