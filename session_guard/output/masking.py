"""Credentials in what is printed that is no source: messages, and what they quote of a setting."""

from __future__ import annotations

import re

MASK = "***"
_SECRETS = (
    # Up to the last `@` of a URL: a password may have one in it, and spaces.
    re.compile(r"""(?<=://)[^'"`\n]+(?=@)"""),
    re.compile(r"""(?<=[?&])((?:password|passwd|sslpassword)=)[^\s'"`&]+"""),
    re.compile(
        r"""((?:password|passwd|passphrase|pwd)["']?\s*[:=]\s*[bru]{0,2}["'])[^"'\n]+""",
        re.IGNORECASE,
    ),
)


def masked(text: str) -> str:
    """Return `text` with `***` for each credential."""
    for pattern in _SECRETS:
        text = pattern.sub(lambda found: f"{found[1] if found.re.groups else ''}{MASK}", text)
    return text
