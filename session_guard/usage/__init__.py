"""What code does with the sessions that it holds: who shares, closes and commits them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from session_guard.rule import ProjectNames

# A file that holds a session has one of these, or a name of the project's.
_WORDS = (b"sqlalchemy", b"sqlmodel", b"AsyncSession")
_HANDLER_WORDS = (b"get_background_session", b"get_session")


def may_hold_sessions(source: bytes, names: ProjectNames) -> bool:
    """Return whether a file may hold an async session; it may say yes too often, never no."""
    words = (*_WORDS, *_HANDLER_WORDS, *names.makers, *names.sessions)
    return any(word in source for word in words)


def may_use_handler(source: bytes, names: ProjectNames) -> bool:
    """Return whether a file may open sessions from the handler."""
    return any(word in source for word in (*_HANDLER_WORDS, *names.sessions))
