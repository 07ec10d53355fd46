"""Findings as one JSON array, for programs; docs/usage.md describes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from session_guard.output.masking import masked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from session_guard.rule import Finding, Fix


def render(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield the whole array."""
    yield json.dumps([_object(finding) for finding in findings], indent=2) + "\n"


def _object(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "name": finding.name,
        "path": finding.path,
        "line": finding.line,
        "column": finding.column,
        "end_line": finding.end_line,
        "end_column": finding.end_column,
        "message": masked(finding.message),
        "help": masked(finding.help),
        "fix": _fix(finding.fix) if finding.fix else None,
    }


def _fix(fix: Fix) -> dict[str, Any]:
    return {
        "applicability": fix.applicability.value,
        "message": masked(fix.message),
        "edits": [{"start": e.start, "end": e.end, "text": e.text} for e in fix.edits] or None,
    }
