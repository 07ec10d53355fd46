"""Comments that silence findings: `# noqa` and `# noqa: SG101, SG103`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import libcst as cst

if TYPE_CHECKING:
    from session_guard.module import Module

# As flake8 and ruff read it; a list of other tools' codes silences nothing here.
_NOQA = re.compile(
    r"#\s*noqa\b(?P<codes>\s*:\s*(?P<list>[A-Z]+[0-9]+(?:[\s,]+[A-Z]+[0-9]+)*))?(?!\s*:)",
    re.IGNORECASE,
)


class Suppressions:
    """The suppressions of one file, by line."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._by_line: dict[int, frozenset[str] | None] = {}
        if "noqa" in module.text.lower():
            collector = _Comments()
            module.tree.visit(collector)
            for comment in collector.found:
                match = _NOQA.search(comment.value)
                if match is not None:
                    line = module.position(comment).start.line
                    codes = match["list"]
                    self._by_line[line] = (
                        None
                        if codes is None
                        else frozenset(code.upper() for code in re.split(r"[\s,]+", codes))
                    )

    def silences(self, code: str, node: cst.CSTNode) -> bool:
        """Return whether a comment on the statement of `node`, or on its header, silences `code`.

        The statement is the simple one that holds the node; of a compound statement, the lines
        from its first to the one whose colon begins its block.
        """
        if not self._by_line:
            return False
        first, last = self._lines(node)
        return any(
            line in self._by_line and ((codes := self._by_line[line]) is None or code in codes)
            for line in range(first, last + 1)
        )

    def _lines(self, node: cst.CSTNode) -> tuple[int, int]:
        position = self._module.position
        held = node
        for holder in (node, *self._module.ancestors(node)):
            if isinstance(holder, cst.SimpleStatementLine):
                span = position(holder)
                return span.start.line, span.end.line
            if isinstance(holder, (cst.BaseCompoundStatement, cst.Else, cst.ExceptHandler)):
                body = getattr(holder, "body", None)
                first = position(holder).start.line
                if isinstance(holder, (cst.FunctionDef, cst.ClassDef)) and holder.decorators:
                    first = min(first, position(holder.decorators[0]).start.line)
                if isinstance(body, cst.IndentedBlock):
                    return first, max(position(body.header).start.line, position(node).end.line)
                return first, position(holder).end.line
            held = holder
        span = position(held)
        return span.start.line, span.end.line


class _Comments(cst.CSTVisitor):
    def __init__(self) -> None:
        self.found: list[cst.Comment] = []

    def visit_Comment(self, node: cst.Comment) -> None:  # noqa: N802 - LibCST's name
        self.found.append(node)
