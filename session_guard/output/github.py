"""Findings as GitHub's workflow commands, which it shows beside the lines of a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.output.masking import masked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from session_guard.rule import Finding


def render(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield one `::error` command a finding."""
    for finding in findings:
        properties = {
            "title": f"session-guard ({finding.code})",
            "file": finding.path,
            "line": finding.line,
            "endLine": finding.end_line,
            "col": finding.column,
            "endColumn": finding.end_column,
        }
        listed = ",".join(f"{key}={_property(str(value))}" for key, value in properties.items())
        text = f"{finding.code} {finding.message}\n{finding.help}"
        yield f"::error {listed}::{_data(masked(text))}\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
