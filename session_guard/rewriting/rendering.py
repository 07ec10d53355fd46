"""Nodes that rules made -> their text, in the layout of the place where it is to stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.module import Module


def rendered(module: Module, node: cst.CSTNode, place: cst.CSTNode) -> str:
    """Return the text of an expression, an argument or an item that is to stand at `place`.

    LibCST counts the spaces at the beginning of a line from the indentation of the block that the
    line is in, and a node by itself is in none.
    """
    return module.tree.code_for_node(_in_block(node, indentation(module, place)))


def indentation(module: Module, node: cst.CSTNode) -> str:
    """Return what the lines of the block that holds `node` begin with."""
    start = module.position(line_of(module, node)).start
    return module.lines.text(start.line)[: start.column]


def line_of(module: Module, node: cst.CSTNode) -> cst.CSTNode:
    """Return what holds `node` and begins a line of its own: the line, or a block on one line."""
    for holder in (node, *module.ancestors(node)):
        if isinstance(module.parent(holder), (cst.IndentedBlock, cst.Module)):
            return holder
    return node


def comments(node: cst.CSTNode) -> Iterator[cst.Comment]:
    """Yield the comments in a node and in the layout that belongs to it, in source order."""
    if isinstance(node, cst.Comment):
        yield node
    for child in node.children:
        yield from comments(child)


def _in_block(node: cst.CSTNode, indent: str) -> cst.CSTNode:
    if not indent:
        return node
    moved = node.visit(_Indented(indent))
    assert isinstance(moved, cst.CSTNode)
    return moved


class _Indented(cst.CSTTransformer):
    """Writes the block's indentation out where LibCST would add it."""

    def __init__(self, indent: str) -> None:
        super().__init__()
        self._indent = indent

    def leave_ParenthesizedWhitespace(  # noqa: N802 - LibCST's name
        self,
        original_node: cst.ParenthesizedWhitespace,
        updated_node: cst.ParenthesizedWhitespace,
    ) -> cst.ParenthesizedWhitespace:
        if not updated_node.indent:
            return updated_node
        last_line = cst.SimpleWhitespace(self._indent + updated_node.last_line.value)
        return updated_node.with_changes(indent=False, last_line=last_line)

    def leave_EmptyLine(  # noqa: N802 - LibCST's name
        self, original_node: cst.EmptyLine, updated_node: cst.EmptyLine
    ) -> cst.EmptyLine:
        if not updated_node.indent:
            return updated_node
        whitespace = cst.SimpleWhitespace(self._indent + updated_node.whitespace.value)
        return updated_node.with_changes(indent=False, whitespace=whitespace)
