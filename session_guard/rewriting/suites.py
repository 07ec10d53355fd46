"""A block in the place of a block: what both hold keeps its text, and the rest is written anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider, WhitespaceInclusivePositionProvider

from session_guard.names.from_libcst import children, walk
from session_guard.rewriting.arguments import NotFixableError
from session_guard.rewriting.spans import Change, Lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from libcst.metadata import CodeRange

    from session_guard.module import Module


class Relaid:
    """What changes where a block that a rule made takes the place of one of the file's.

    The new block holds statements and other nodes of the old one, in their order. They keep their
    text; where they stand deeper, their lines are indented by as much more, but for the lines of
    strings.

    Raises NotFixableError where the changes would not make what LibCST writes of the new block.
    """

    def __init__(self, module: Module, old: cst.IndentedBlock, new: cst.IndentedBlock) -> None:
        self.changes: list[Change] = []
        self.moved: list[tuple[int, int]] = []
        """The offsets of what stays, and is indented anew."""
        first, _ = module.lines.span(module.position(old))
        own = module.tree.default_indent if old.indent is None else old.indent
        written = _Written(module, new, module.lines.before(first).removesuffix(own))
        start, end = module.extent(old)
        behind = written.end
        if not module.text[start:end].endswith(("\n", "\r")):  # at the end of a file without one
            # What stays has its own line ends, which may not be the file's most frequent ones.
            behind -= 2 if written.text[:behind].endswith("\r\n") else 1
        done, written_to = start, written.start
        for node in _kept(old, new):
            first, last = module.lines.span(module.position(node))
            there, there_end = written.span(node)
            self._replace(module.text, done, first, written.text[written_to:there])
            self._keep(module.text, first, last, written.text[there:there_end])
            done, written_to = last, there_end
        self._replace(module.text, done, end, written.text[written_to:behind])
        if self._made_of(module.text, start, end) != written.text[written.start : behind]:
            raise NotFixableError("its lines cannot be laid out anew")

    def _made_of(self, text: str, start: int, end: int) -> str:
        """Return what stands from `start` to `end` when the changes are made."""
        parts = []
        for change in self.changes:
            parts += [text[start : change.start], change.text]
            start = change.end
        return "".join((*parts, text[start:end]))

    def _replace(self, text: str, start: int, end: int, new: str) -> None:
        if text[start:end] != new:
            self.changes.append(Change(start, end, new).trimmed(text[start:end]))

    def _keep(self, text: str, start: int, end: int, new: str) -> None:
        if text[start:end] == new:
            return
        old_lines, new_lines = text[start:end].split("\n"), new.split("\n")
        if [line.strip() for line in old_lines] != [line.strip() for line in new_lines]:
            raise NotFixableError("its lines cannot be indented anew")
        self.moved.append((start, end))
        for old_line, new_line in zip(old_lines, new_lines, strict=True):
            self._replace(text, start, start + len(old_line), new_line)
            start += len(old_line) + 1


class _Written:
    """A new block as LibCST writes it where the old one stands."""

    def __init__(self, module: Module, block: cst.IndentedBlock, indent: str) -> None:
        holder = cst.If(cst.Name("_"), block)
        if indent:
            holder = cst.If(cst.Name("_"), cst.IndentedBlock([holder], indent=indent))
        tree = module.tree.with_changes(
            header=(), body=[holder], footer=(), has_trailing_newline=True
        )
        wrapper = MetadataWrapper(tree, unsafe_skip_copy=True)
        self._positions = wrapper.resolve(PositionProvider)
        self.text = tree.code
        self._lines = Lines(self.text)
        whole = wrapper.resolve(WhitespaceInclusivePositionProvider)[block]
        self.start, self.end = self._span(whole)

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        return self._span(self._positions[node])

    def _span(self, position: CodeRange) -> tuple[int, int]:
        return self._lines.span(position)


def _kept(old: cst.CSTNode, new: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield the largest nodes of `old` that `new` holds, in order."""
    known = {id(part) for part in walk(old)}

    def found(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        for child in children(node):
            if id(child) in known:
                yield child
            else:
                yield from found(child)

    return found(new)
