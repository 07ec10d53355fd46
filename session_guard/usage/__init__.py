"""What code does with the sessions that it holds: who shares, closes and commits them."""

from __future__ import annotations

# A file that holds a session has one of these, or a name that the project exports; `SessionDep` is
# what FastAPI's documentation calls an annotated dependency that another file defines.
_WORDS = (b"sqlalchemy", b"sqlmodel", b"AsyncSession", b"SessionDep")
_HANDLER_WORDS = (b"get_background_session", b"get_session")


def may_hold_sessions(source: bytes, exported: frozenset[bytes]) -> bool:
    """Return whether a file may hold an async session; it may say yes too often, never no."""
    return any(word in source for word in (*_WORDS, *_HANDLER_WORDS, *exported))


def may_use_handler(source: bytes, exported: frozenset[bytes]) -> bool:
    """Return whether a file may open sessions from the handler."""
    return any(word in source for word in (*_HANDLER_WORDS, *exported))
