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
    changes = {
        _trimmed(change, module.text)
        for rewrite in rewrites
        for change in _replacements(module, rewrite, lines)
    }
    changes.update(import_changes(module, rewrites, lines))
    return tuple(_in_bytes(_tidied(changes, lines), module.decoded))


def _trimmed(change: Change, text: str) -> Change:
    """Leave out what a change has in common with what it replaces.

    A call's URL may have a password in it, which edits that are printed must not repeat.
    """
    old, new = text[change.start : change.end], change.text
    if not new or old == new:
        return change
    shorter = min(len(old), len(new))
    before = next((i for i in range(shorter) if old[i] != new[i]), shorter)
    rest = shorter - before
    behind = next((i for i in range(rest) if old[-1 - i] != new[-1 - i]), rest)
    return Change(change.start + before, change.end - behind, new[before : len(new) - behind])


def _tidied(changes: Iterable[Change], lines: Lines) -> list[Change]:
    """Return changes in order: what meets a removal joined with it, gaps closed behind it."""
    joined: list[Change] = []
    for change in sorted(changes, key=lambda change: (change.start, change.end)):
        last = joined[-1] if joined else None
        if last is not None and last.end == change.start and "" in (last.text, change.text):
            joined[-1] = Change(last.start, change.end, last.text + change.text)
        else:
            joined.append(change)
    return [change if change.text else _with_gap(change, lines) for change in joined]


def _with_gap(removal: Change, lines: Lines) -> Change:
    """Take the blank line behind removed lines along, where a gap or a block begins before them."""
    first, behind = lines.line_at(removal.start), lines.line_at(removal.end)
    before = lines.text(first - 1).strip() if first > 1 else ""
    is_set_apart = not before or before.endswith(":")
    if is_set_apart and removal.end < lines.length and not lines.text(behind).strip():
        return Change(removal.start, lines.start(behind + 1), "")
    return removal


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
    """Return `data` with `edits` applied.

    Raises ValueError where they are not in order, or overlap.
    """
    parts: list[bytes] = []
    done = 0
    for edit in edits:
        if edit.start < done:
            raise ValueError(f"edits overlap at byte {edit.start}")
        parts.extend((data[done : edit.start], edit.text.encode(encoding)))
        done = edit.end
    return b"".join((*parts, data[done:]))
