"""What a file must have in it for a rule to be asked about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProjectNames:
    """The names of its own by which a project's files reach sessions, as bytes of their text."""

    makers: frozenset[bytes] = frozenset()
    """Of session classes, factories and what gives them, and of functions that build engines."""

    managers: frozenset[bytes] = frozenset()
    """Other names of the handler's functions."""


class Subject(enum.Enum):
    """What a rule's findings are about."""

    MAKERS = "makers"
    """Calls of what makes sessions, factories or engines."""

    SESSIONS = "sessions"
    """Sessions that code holds, and what it does with them."""

    HANDLER = "handler"
    """Calls of the handler's functions."""

    FOREIGN_SQL = "foreign SQL"
    """SQL that is executed, and written in another file."""
