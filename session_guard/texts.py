"""What stands in a project's Python files: each is read once, as long as memory allows it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MOST_KEPT = 48_000_000
"""Bytes of one project that are kept; what is beyond them is read again when it is asked for."""


class Texts:
    """The bytes of the files of one project; `paths` are absolute, in a fixed order."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self.being_read: str | None = None
        """The file that is being opened just now."""
        self._kept: dict[str, bytes] = {}
        self._room = _MOST_KEPT
        self.absent: set[bytes] = set()
        """Words that were looked for, and are in no file."""
        self.present: dict[bytes, str] = {}
        """Words that were looked for, each with a file that it is in."""

    def read(self, path: str) -> bytes:
        """Return a file's bytes. Raises OSError."""
        data = self._kept.get(path)
        if data is None:
            self.being_read = path
            try:
                data = read(path)
            finally:
                self.being_read = None
            if len(data) <= self._room:
                self._room -= len(data)
                self._kept[path] = data
        return data

    def have_one(self, words: Iterable[bytes]) -> bool:
        """Return whether any of `words` is in a file; one that cannot be read has none."""
        if not self.present.keys().isdisjoint(words):
            return True
        wanted = [word for word in words if word not in self.absent]
        if not wanted:
            return False
        for path in self.paths:
            try:
                data = self.read(path)
            except OSError:
                continue
            for word in wanted:
                if word in data:
                    self.present[word] = path
                    return True
        self.absent.update(wanted)
        return False

    def replace(self, path: str, data: bytes) -> None:
        """Have a file hold `data` from now on, whether it was written or would be."""
        self.absent.clear()
        self.present.clear()
        self._room += len(self._kept.get(path, b"")) - len(data)
        self._kept[path] = data


def read(path: str) -> bytes:
    """Return a file's bytes, with no more system calls than it takes. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        data = os.read(descriptor, size + 1)
        if len(data) == size:
            return data
        pieces = [data]  # it is none of a fixed size, or is being written
        while piece := os.read(descriptor, 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)
