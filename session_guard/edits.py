"""Turns rewrites, which are nodes, into edits of the bytes of the file as it was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.imports import import_changes, without_line
from session_guard.rule import Edit
from session_guard.spans import Change, Lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from session_guard.module import Module
    from session_guard.rule import Rewrite
    from session_guard.sources import Decoded


def render(module: Module, rewrites: Sequence[Rewrite]) -> tuple[Edit, ...]:
    """Return the edits that carry out `rewrites` together, their imports included, in order.

    What is not part of a replaced node or of an import stays the same byte for byte.
    """
    lines = Lines(module.text)
    changes = {change for rewrite in rewrites for change in _replacements(module, rewrite, lines)}
    changes.update(import_changes(module, rewrites, lines))
    ordered = sorted(changes, key=lambda change: (change.start, change.end))
    return tuple(_in_bytes(ordered, module.decoded))


def meet(module: Module, one: Rewrite, other: Rewrite) -> bool:
    """Return whether two rewrites touch the same text, their imports apart."""
    lines = Lines(module.text)
    return any(
        a.start < b.end and b.start < a.end
        for a in _replacements(module, one, lines)
        for b in _replacements(module, other, lines)
    )


def _replacements(module: Module, rewrite: Rewrite, lines: Lines) -> Iterable[Change]:
    for old, new in rewrite.replacements:
        if new is None:
            yield without_line(module, old, lines)
        else:
            yield Change(*lines.span(module.position(old)), module.tree.code_for_node(new))


def _in_bytes(changes: Iterable[Change], decoded: Decoded) -> Iterable[Edit]:
    """Count in bytes what was counted in characters: behind a BOM, and in the file's encoding."""
    done_characters, done_bytes = 0, len(decoded.bom)
    for change in changes:
        before = decoded.text[done_characters : change.start].encode(decoded.encoding)
        replaced = decoded.text[change.start : change.end].encode(decoded.encoding)
        start = done_bytes + len(before)
        yield Edit(start, start + len(replaced), change.text)
        done_characters, done_bytes = change.end, start + len(replaced)


def apply(data: bytes, edits: Iterable[Edit], encoding: str) -> bytes:
    """Return `data` with `edits` applied; they must be in order and must not overlap."""
    parts: list[bytes] = []
    done = 0
    for edit in edits:
        parts.extend((data[done : edit.start], edit.text.encode(encoding)))
        done = edit.end
    return b"".join((*parts, data[done:]))
