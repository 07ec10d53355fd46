"""Replacing files: each is the old one or the new one at any moment, whatever ends the process."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_PREFIX, _SUFFIX = ".session-guard-", ".tmp"


class WriteError(Exception):
    """A file was left as it was; the message says why, and does not name it."""


def write_atomically(path: Path, new: bytes, expected: bytes) -> None:
    """Replace a file that still holds `expected` by `new`, whole or not at all.

    Mode, owner and extended attributes are kept; a symbolic link stays one. Raises WriteError.
    """
    target = os.path.realpath(path)
    try:
        _replace(target, new, expected)
    except OSError as error:
        raise WriteError(f"cannot be written: {error.strerror}") from error


def _replace(target: str, new: bytes, expected: bytes) -> None:
    status = os.stat(target)
    folder = os.path.dirname(target)
    if not stat.S_ISREG(status.st_mode):
        raise WriteError("is no longer a file")
    # To root every file is writable; that its mode says otherwise is still someone's wish.
    if not status.st_mode & 0o222 or not os.access(target, os.W_OK):
        raise WriteError("is read-only")
    if not os.stat(folder).st_mode & 0o222 or not os.access(folder, os.W_OK):
        raise WriteError("is in a folder that is read-only")
    if status.st_nlink > 1:
        raise WriteError(f"has {status.st_nlink} hard links, which replacing it would part")
    with _Temporary(folder) as temporary:
        temporary.write(new)
        _take_over(target, status, temporary.descriptor)
        temporary.finish()
        # The last thing to look at: no system call replaces a file only if it is unchanged.
        if _identity(os.stat(target)) != _identity(status) or Path(target).read_bytes() != expected:
            raise WriteError("was changed by another program meanwhile")
        temporary.move_to(target)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Return what must not change while a file is replaced: which one it is, and whose."""
    return (
        *(status.st_dev, status.st_ino, status.st_nlink),
        *(status.st_mode, status.st_uid, status.st_gid),
    )


def _take_over(target: str, status: os.stat_result, descriptor: int) -> None:
    """Give the new file the owner, mode and, where that can be, attributes of the old one."""
    if sys.platform != "win32":
        own = os.fstat(descriptor)
        if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
            os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
    if sys.platform == "linux":
        names: list[str] = []
        with contextlib.suppress(OSError):
            names = os.listxattr(target)
        for name in names:
            with contextlib.suppress(OSError):
                os.setxattr(descriptor, name, os.getxattr(target, name))


class _Temporary:
    """A new file that is to take another's place; what there is of it goes at the end.

    On Linux it has no name while it is written, so that nothing is left of it when the process is
    killed. A file without a name cannot take another's place: it is given one for the instant
    before, in a folder of the user's own where that is on the same file system. Elsewhere it stands
    under a hidden name beside the other file. As long as it is in use it is locked, and what was
    left by a process that was killed is not: that goes when the next file is written there.
    """

    def __init__(self, folder: str) -> None:
        """Make the file in, or for, `folder`. Raises OSError."""
        self._folder = folder
        self._name: str | None = None
        _remove_stale(folder)
        self.descriptor = self._nameless()
        if self.descriptor < 0:
            self.descriptor = self._named()

    def __enter__(self) -> _Temporary:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        if self._name is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._name)

    def write(self, data: bytes) -> None:
        """Write all of `data`. Raises OSError."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.descriptor, rest) :]

    def finish(self) -> None:
        """Bring what was written to the disk, and see to it that the file has a name."""
        os.fsync(self.descriptor)
        if self._name is None:
            self._give_name()
        if sys.platform == "win32":  # where an open file cannot be moved
            os.close(self.descriptor)
            self.descriptor = -1

    def move_to(self, target: str) -> None:
        """Put the file into the place of `target`, which is on the same file system."""
        assert self._name is not None
        os.replace(self._name, target)
        self._name = None

    def _nameless(self) -> int:
        """Return the descriptor of a file without a name, -1 where there is no such thing."""
        if sys.platform == "linux" and os.path.isdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                descriptor = os.open(self._folder, os.O_TMPFILE | os.O_RDWR, 0o600)
                _lock(descriptor)
                return descriptor
        return -1

    def _named(self) -> int:
        while True:
            self._name = _new_name(self._folder)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            descriptor = os.open(self._name, flags, 0o600)
            _lock(descriptor)
            # Another process may have taken it for stale before it was locked.
            if sys.platform == "win32" or os.fstat(descriptor).st_nlink:
                return descriptor
            os.close(descriptor)

    def _give_name(self) -> None:
        own = _own_folder()
        if own is not None:
            _remove_stale(own)
            with contextlib.suppress(OSError):  # another file system, or not allowed
                self._link(own)
                return
        self._link(self._folder)

    def _link(self, folder: str) -> None:
        self._name = _new_name(folder)
        source = f"/proc/self/fd/{self.descriptor}"
        # Without a folder's descriptor Python links to the link in /proc, and not through it.
        os.link(source, self._name, src_dir_fd=self.descriptor, follow_symlinks=True)


def _new_name(folder: str) -> str:
    return os.path.join(folder, f"{_PREFIX}{os.urandom(8).hex()}{_SUFFIX}")


def _own_folder() -> str | None:
    """Return the folder for what is about to be moved, which nobody else may write to, or None."""
    if sys.platform == "win32":
        return None
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    own = os.path.join(base, "session-guard")
    for folder in (base, own):
        with contextlib.suppress(OSError):
            os.mkdir(folder, 0o700)
    try:
        status = os.stat(own)
    except OSError:
        return None
    return own if status.st_uid == os.geteuid() and not status.st_mode & 0o022 else None


def _remove_stale(folder: str) -> None:
    """Remove from `folder` what processes left there that were killed."""
    if sys.platform == "win32":
        return
    for path in _temporaries(folder):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                # Who still writes it has locked it.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)
            finally:
                os.close(descriptor)


def _temporaries(folder: str) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
                yield os.path.join(folder, name)


def _lock(descriptor: int) -> None:
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # a file system without locks: nothing is stale there
            fcntl.flock(descriptor, fcntl.LOCK_EX)
