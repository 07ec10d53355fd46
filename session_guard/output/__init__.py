"""How findings are printed: one module a format, imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from session_guard.rule import Finding

FORMATS = ("text", "json", "github")


def render(output_format: str, findings: Iterable[Finding]) -> Iterator[str]:
    """Yield `findings` in one of `FORMATS`, in pieces that each end in a newline."""
    module = importlib.import_module(f"{__name__}.{output_format}")
    function = cast("Callable[[Iterable[Finding]], Iterator[str]]", module.render)
    return function(findings)
