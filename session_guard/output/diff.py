"""A unified diff of bytes, as `git apply` and `patch -p1` take it."""

from __future__ import annotations

import difflib
import re

_NO_NEWLINE = b"\n\\ No newline at end of file\n"


def unified(shown: str, before: bytes, after: bytes) -> bytes:
    """Return the diff from `before` to `after`, empty where they are equal."""
    lines = difflib.diff_bytes(
        difflib.unified_diff,
        _lines(before),
        _lines(after),
        _header("a", shown),
        _header("b", shown),
    )
    return b"".join(line if line.endswith(b"\n") else line + _NO_NEWLINE for line in lines)


def _lines(data: bytes) -> list[bytes]:
    # A lone carriage return ends no line for `patch`.
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


def _header(side: str, shown: str) -> bytes:
    path = f"{side}/{shown.replace(chr(92), '/').lstrip('/')}"
    # As in git: a name with a space is ended by a tab, so that `patch` sees its end.
    return f"{path}\t".encode() if " " in path else path.encode()
