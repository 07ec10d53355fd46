"""What code does with the sessions that it holds: who shares, closes and commits them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from session_guard.rule import ProjectNames

_HANDLER_WORDS = (b"get_background_session", b"get_session")


def may_use_handler(source: bytes, names: ProjectNames) -> bool:
    """Return whether a file may open sessions from the handler."""
    return any(word in source for word in (*_HANDLER_WORDS, *names.managers))
