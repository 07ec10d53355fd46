"""What a file must have in it for a rule to be asked about it."""

from __future__ import annotations

import enum
from typing import NamedTuple


class ProjectNames(NamedTuple):
    """The names of its own by which a project's files reach sessions, as bytes of their text."""

    makers: frozenset[bytes] = frozenset()
    """Of session classes, factories and what gives them, and of functions that build engines."""

    managers: frozenset[bytes] = frozenset()
    """Other names of the handler's functions."""


ASYNC_SESSION_WORDS = (
    *(b"AsyncSession", b"async_sessionmaker", b"async_scoped_session", b"create_async_engine"),
    *(b"async_engine_from_config", b"get_background_session", b"session_guard"),
    b"nonebot_plugin_orm",
)
"""A project in none of whose files one of these is written has no async session, no factory or
engine of one, and no handler: each begins with a class or function of such a name."""

SQL_WORDS = (b"sqlalchemy", b"sqlmodel", b"driver_connection", *ASYNC_SESSION_WORDS)
"""Likewise, a project without one of these executes no SQL by way of SQLAlchemy."""


class Subject(enum.Enum):
    """What a rule's findings are about."""

    MAKERS = "makers"
    """Calls of what makes sessions, factories or engines."""

    SESSIONS = "sessions"
    """Sessions that code holds, and what it does with them."""

    HANDLER = "handler"
    """Calls of the handler's functions."""

    OPTIONS = "options"
    """Calls of what makes sessions, factories or engines, and those given execution options which
    mean the driver or the isolation level."""
