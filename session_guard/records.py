"""Data classes that are quick to define and to make.

The standard library's take most of the time of importing a module that defines many, above all
frozen ones, and these take three times as long to make as others. Here `frozen` is for the type
checker, which sees the standard library's decorator, and for the hash.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass as dataclass
    from typing import TypeVar

    T = TypeVar("T")
else:

    def dataclass(
        *, frozen: bool = False, slots: bool = False, eq: bool = True
    ) -> Callable[[type[T]], type[T]]:
        """Make a class a data class; what is frozen must never be assigned to."""
        return dataclasses.dataclass(slots=slots, eq=eq, repr=False, unsafe_hash=frozen and eq)
