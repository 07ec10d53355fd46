"""Turns rewrites, which are nodes, into edits of the bytes of the file as it was read."""

from __future__ import annotations

from collections import Counter
from dataclasses import field
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.from_libcst import walk
from session_guard.records import dataclass
from session_guard.rewriting.arguments import NotFixableError, item_changes
from session_guard.rewriting.imports import import_changes, without_line
from session_guard.rewriting.rendering import comments, rendered
from session_guard.rewriting.spans import Change
from session_guard.rewriting.suites import Relaid
from session_guard.rewriting.unused_locals import without_unused_locals
from session_guard.rule import Appended, Edit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from session_guard.module import Module
    from session_guard.rewriting.arguments import Container
    from session_guard.rewriting.spans import Lines
    from session_guard.rule import Rewrite
    from session_guard.sources import Decoded


@dataclass(frozen=True, slots=True)
class Plan:
    """A rewrite as changes of the text, its imports apart."""

    rewrite: Rewrite
    changes: tuple[Change, ...]
    containers: frozenset[int]
    """The calls and displays whose arguments and items change, by `id`."""
    moved: tuple[tuple[int, int], ...] = ()
    """The offsets of what is indented anew: nothing else may change there meanwhile."""

    def meets(self, other: Plan) -> bool:
        """Return whether both change the same text, or arguments or items of the same container."""
        return (
            not self.containers.isdisjoint(other.containers)
            or any(one.meets(another) for one in self.changes for another in other.changes)
            or self._moves_what_changes(other)
            or other._moves_what_changes(self)
        )

    def _moves_what_changes(self, other: Plan) -> bool:
        return any(
            start <= change.end and change.start <= end
            for start, end in self.moved
            for change in other.changes
        )


def plan(module: Module, rewrite: Rewrite) -> Plan:
    """Return the changes that a rewrite makes.

    What is not part of a replaced node stays the same byte for byte. Raises NotFixableError where a
    comment would be lost, doubled or left beside something else.
    """
    containers: dict[int, _ItemsChange] = {}
    changes: list[Change] = []
    moved: list[tuple[int, int]] = []
    gone, written = Counter[str](), Counter[str]()
    for old, new in rewrite.replacements:
        _check_bound(old, new)
        if isinstance(new, cst.IndentedBlock):
            assert isinstance(old, cst.IndentedBlock)
            relaid = Relaid(module, old, new)
            changes.extend(relaid.changes)
            moved.extend(relaid.moved)
            gone.update(comment.value for comment in comments(old))
            written.update(comment.value for comment in comments(new))
            continue
        container = _container_of(module, new, old)
        if container is not None:
            of_items = containers.setdefault(id(container), _ItemsChange(container))
        if isinstance(new, Appended):
            assert container is not None
            of_items.added.append(rendered(module, new.item, container))
            written.update(comment.value for comment in comments(new.item))
        elif new is None and container is not None:
            of_items.removed.append(old)
            gone.update(_comments_within(module, old, *module.lines.span(module.position(old))))
        elif new is None:
            change = without_line(module, old, module.lines)
            changes.append(change)
            gone.update(_comments_within(module, old, change.start, change.end))
        else:
            changes.extend(_replacement(module, old, new))
            gone.update(_comments_within(module, old, *_replaced_span(module, old, new)))
            written.update(comment.value for comment in comments(new))
    if gone != written and not _is_about_comments(rewrite):
        raise NotFixableError("a comment in it would be lost")
    for item in containers.values():
        changes.extend(item_changes(module, item.node, item.removed, item.added))
    changing = tuple(change for change in changes if change.start < change.end or change.text)
    return Plan(rewrite, changing, frozenset(containers), tuple(moved))


def _check_bound(old: cst.CSTNode, new: cst.CSTNode | Appended | None) -> None:
    """Raise NotFixableError where a name that is bound inside an expression would be no more."""
    if isinstance(old, cst.NamedExpr) or isinstance(new, Appended):
        return
    kept = {id(part) for part in walk(new)} if new is not None else set()
    for part in walk(old):
        if isinstance(part, cst.NamedExpr) and id(part) not in kept:
            raise NotFixableError("it binds a name by `:=`, which would be lost")


def render(module: Module, plans: Sequence[Plan]) -> tuple[Edit, ...]:
    """Return the edits that carry out `plans` together, in order.

    Imports are added with them, and names that nothing uses any more taken out. Raises
    NotFixableError where such an import or local could not go.
    """
    rewrites = [item.rewrite for item in plans]
    changes = [change for item in plans for change in item.changes]
    for rewrite in without_unused_locals(module, rewrites):
        try:
            leftover = plan(module, rewrite)
        except NotFixableError:  # for its comment, which stays with its line
            continue
        if not any(leftover.meets(item) for item in plans):
            changes.extend(leftover.changes)
            rewrites.append(rewrite)
    changes.extend(import_changes(module, rewrites, module.lines))
    return tuple(_in_bytes(_tidied(dict.fromkeys(changes), module.lines), module.decoded))


@dataclass(slots=True)
class _ItemsChange:
    node: Container
    removed: list[cst.CSTNode] = field(default_factory=list)
    added: list[str] = field(default_factory=list)


def _container_of(
    module: Module, new: cst.CSTNode | Appended | None, old: cst.CSTNode
) -> Container | None:
    """Return the call or the display that a replacement adds to or changes an item of, or None."""
    node = old if isinstance(new, Appended) else module.parent(old)
    is_item = isinstance(new, Appended) or isinstance(old, (cst.Arg, cst.BaseDictElement))
    return node if is_item and isinstance(node, (cst.Call, cst.Dict)) else None


def _replacement(module: Module, old: cst.CSTNode, new: cst.CSTNode) -> Iterator[Change]:
    """Yield the changes that put `new` in the place of `old`, and leave alone what they share.

    A call's URL may have a password in it, which edits that are printed must not repeat.
    """
    start, end = _replaced_span(module, old, new)
    before, text = module.text[start:end], rendered(module, new, old)
    at = text.find(before)
    if at >= 0:
        yield Change(start, start, text[:at])
        yield Change(end, end, text[at + len(before) :])
    else:
        yield Change(start, end, text).trimmed(before)


def _replaced_span(module: Module, old: cst.CSTNode, new: cst.CSTNode) -> tuple[int, int]:
    """Return the offsets of what `new` takes the place of.

    Parentheses round an expression stay, unless they stand in what takes its place.
    """
    start, end = module.lines.span(module.position(old))
    if isinstance(old, cst.BaseExpression) and old.lpar:
        own = old.lpar[0]
        if any(own is other for part in walk(new) for other in getattr(part, "lpar", ())):
            start, _ = module.lines.span(module.position(own))
            _, end = module.lines.span(module.position(old.rpar[-1]))
    return start, end


def _comments_within(module: Module, node: cst.CSTNode, start: int, end: int) -> Iterator[str]:
    """Yield a node's comments that stand between two offsets."""
    if "#" not in module.text[start:end]:
        return
    for comment in comments(node):
        at, _ = module.lines.span(module.position(comment))
        if start <= at < end:
            yield comment.value


def _is_about_comments(rewrite: Rewrite) -> bool:
    """Return whether it is comments themselves that are to be changed."""
    return any(isinstance(old, cst.Comment) for old, _ in rewrite.replacements)


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
    end = removal.end
    while is_set_apart and end < lines.length and not lines.text(behind).strip():
        behind += 1
        end = lines.start(behind)
        if first > 1:
            break  # at the beginning of a file no blank line is left
    return Change(removal.start, end, "")


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
