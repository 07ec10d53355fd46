"""What some work has read and asked for beyond the files that it was given, as Python tells it."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from session_guard.texts import Texts

FILE, FOLDER, PLACE = "file", "folder", "place"
"""What was done: a file was read, a folder listed, or it was asked what there is at a place."""

_ASKED = "session_guard.exists"
_KINDS = {"open": FILE, "os.listdir": FOLDER, "os.scandir": FOLDER, _ASKED: PLACE}


class Witnesses:
    """The files and folders that answers were drawn from, without those that are `known`.

    Of these, what `texts` reads is known too.
    """

    _listeners: list[Witnesses] | None = None

    def __init__(self, known: Container[str], texts: Texts) -> None:
        self._known = known
        self._texts = texts
        self.seen: dict[tuple[str, str], bool] = {}
        """What was done with which absolute path, and whether there was anything then."""
        self.opened: set[str] = set()
        """The known files that were read by other ways."""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of what is read meanwhile, by whatever code."""
        if Witnesses._listeners is None:
            # Python keeps a hook for good: it is there once.
            Witnesses._listeners = []
            sys.addaudithook(_hear)
        Witnesses._listeners.append(self)
        try:
            yield
        finally:
            Witnesses._listeners.pop()

    def hear(self, kind: str, path: str) -> None:
        """Take note of one path."""
        if path == self._texts.being_read and path in self._known:
            return
        path = os.path.abspath(path)
        if path in self._known:
            if kind == FILE:
                self.opened.add(path)
        elif (kind, path) not in self.seen:
            self.seen[kind, path] = os.path.lexists(path)


def exists(path: os.PathLike[str]) -> bool:
    """Return whether there is a file or a folder; unlike other ways to ask, this one is heard."""
    sys.audit(_ASKED, path)
    return os.path.exists(path)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    kind = _KINDS.get(event)
    if kind is not None and Witnesses._listeners:
        path = arguments[0]
        if isinstance(path, os.PathLike):
            path = os.fspath(path)
        if isinstance(path, str):
            Witnesses._listeners[-1].hear(kind, path)
