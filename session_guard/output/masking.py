"""Credentials in what is printed: an offending line may have a URL with a password in it."""

from __future__ import annotations

import re

MASK = "***"
_SECRETS = (
    # Up to the last `@` of a URL: a password may have one in it.
    re.compile(r"""://(?P<secret>[^\s'"]+)@"""),
    re.compile(r"""[?&](?:password|passwd|sslpassword)=(?P<secret>[^\s'"&]+)"""),
    re.compile(
        r"""(?:password|passwd|passphrase|pwd)["']?\s*[:=]\s*[bru]{0,2}(["'])(?P<secret>.+?)\1""",
        re.IGNORECASE,
    ),
)


def secrets(text: str) -> list[tuple[int, int]]:
    """Return where credentials stand in `text`: (start, end), in order, none within another."""
    found = sorted(m.span("secret") for pattern in _SECRETS for m in pattern.finditer(text))
    apart: list[tuple[int, int]] = []
    for start, end in found:
        if apart and start < apart[-1][1]:
            start, end = apart[-1][0], max(end, apart.pop()[1])
        apart.append((start, end))
    return apart


def masked(text: str) -> str:
    """Return `text` with `***` for each credential."""
    for start, end in reversed(secrets(text)):
        text = text[:start] + MASK + text[end:]
    return text
