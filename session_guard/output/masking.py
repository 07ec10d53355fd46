"""Credentials in what is printed that is no source: messages, and what they quote of a setting."""

from __future__ import annotations

import re

MASK = "***"
# Compiled by `re` when they are first used.
_SECRETS = (
    # Up to the last `@` of a URL: a password may have one in it, and spaces.
    r"""(?<=://)[^'"`\n]+(?=@)""",
    r"""(?<=[?&])((?:password|passwd|sslpassword)=)[^\s'"`&]+""",
    r"""(?i)((?:password|passwd|passphrase|pwd)["']?\s*[:=]\s*[bru]{0,2}["'])[^"'\n]+""",
)


def masked(text: str) -> str:
    """Return `text` with `***` for each credential."""
    for pattern in _SECRETS:
        text = re.sub(pattern, lambda found: f"{found[1] if found.re.groups else ''}{MASK}", text)
    return text
