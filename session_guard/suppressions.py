"""Comments that silence findings: `# noqa` and `# noqa: SG101, SG103`."""

from __future__ import annotations

import re
from dataclasses import field
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.records import dataclass
from session_guard.rule import Applicability, Rewrite, Violation

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from session_guard.module import Module

# As flake8 and ruff read it; a list of other tools' codes silences nothing here.
_NOQA = re.compile(
    r"#\s*noqa\b(?P<codes>\s*:\s*(?P<list>[A-Z]+[0-9]+(?:[\s,]+[A-Z]+[0-9]+)*))?(?!\s*:)",
    re.IGNORECASE,
)
_WORD = re.compile(r"noqa", re.IGNORECASE)
_CODE = re.compile(r"[A-Z]+[0-9]+", re.IGNORECASE)
_DASH = re.compile(r"^\s*(?:[-\N{EN DASH}\N{EM DASH}:,;]+\s+)?")
"""What stands between the codes and the reason that is given for them."""


@dataclass(frozen=True, slots=True)
class _Suppression:
    comment: cst.Comment
    holder: cst.TrailingWhitespace | cst.EmptyLine
    matches: tuple[re.Match[str], ...]
    """Each `# noqa` in the comment."""
    used: set[str] = field(default_factory=set)

    @property
    def codes(self) -> list[str]:
        """The codes that are named, in capitals."""
        return [code for match in self.matches for code in _codes(match)]

    def means(self, code: str) -> bool:
        """Return whether it silences `code`: it names it, or no code at all."""
        return any(not match["list"] or code in _codes(match) for match in self.matches)


def _codes(match: re.Match[str]) -> list[str]:
    return [code.upper() for code in _CODE.findall(match["list"] or "")]


class Suppressions:
    """The suppressions of one file, by line."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._by_line: dict[int, _Suppression] = {}
        for holder, top in _comments_in(module) if "noqa" in module.text.lower() else ():
            matches = tuple(_NOQA.finditer(holder.comment.value)) if holder.comment else ()
            if holder.comment is not None and matches:
                line = module.position(holder.comment, top).start.line
                self._by_line[line] = _Suppression(holder.comment, holder, matches)

    def silences(self, code: str, node: cst.CSTNode) -> bool:
        """Return whether a comment on the statement of `node`, or on its header, silences `code`.

        The statement is the simple one that holds the node; of a compound statement, the lines
        from its first to the one whose colon begins its block.
        """
        if not self._by_line:
            return False
        first, last = self._lines(node)
        silencing = [
            found
            for line in range(first, last + 1)
            if (found := self._by_line.get(line)) and found.means(code)
        ]
        for suppression in silencing:
            suppression.used.add(code)
        return bool(silencing)

    def unused(self, codes: Collection[str]) -> Iterator[Violation]:
        """Yield the comments that name one of `codes` and silenced nothing of it so far.

        A comment without codes may be meant for another tool and is never among them.
        """
        for suppression in self._by_line.values():
            unused = [
                code for code in suppression.codes if code in codes and code not in suppression.used
            ]
            if unused:
                listed = ", ".join(unused)
                yield Violation(
                    suppression.comment,
                    f"`# noqa: {listed}` suppresses nothing",
                    "remove it, or a finding that comes back here will not be seen",
                    Rewrite(
                        Applicability.SAFE,
                        f"remove the suppression of {listed}",
                        tuple(_without(suppression, unused)),
                    ),
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


def _without(
    suppression: _Suppression, codes: Collection[str]
) -> Iterator[tuple[cst.CSTNode, cst.CSTNode | None]]:
    """Yield what takes `codes` out of a comment, and the comment away if nothing is left of it."""
    text = suppression.comment.value
    for match in reversed(suppression.matches):
        if not set(codes).isdisjoint(_codes(match)):
            text = _text_without(text, match, codes)
    holder = suppression.holder
    if text:
        yield suppression.comment, cst.Comment(text)
    elif isinstance(holder, cst.EmptyLine):
        yield suppression.comment, None
    else:
        yield holder.whitespace, cst.SimpleWhitespace("")
        yield suppression.comment, cst.SimpleWhitespace("")


def _text_without(text: str, match: re.Match[str], codes: Collection[str]) -> str:
    """Return a comment without codes of one `# noqa` in it; what comes before that is as it was."""
    start, end = match.span("list")
    listed, done = "", start
    for code in _CODE.finditer(text, start, end):
        if code[0].upper() not in codes:
            listed += text[done : code.start()] + code[0] if listed else code[0]
        done = code.end()
    if listed:
        return text[:start] + listed + text[end:]
    before, reason = text[: match.start()], _DASH.sub("", text[end:])
    if reason:
        return before + (reason if reason.startswith("#") else f"# {reason}")
    return before.rstrip().rstrip("#").rstrip()


def _comments_in(
    module: Module,
) -> Iterator[tuple[cst.TrailingWhitespace | cst.EmptyLine, cst.CSTNode]]:
    """Yield what holds the comments near a `noqa`, each with the part of the module it is in."""
    lines = {module.lines.line_at(match.start()) for match in _WORD.finditer(module.text)}
    for part in module.parts_with(lines):
        collector = _Comments()
        part.visit(collector)
        yield from ((holder, part) for holder in collector.holders)


class _Comments(cst.CSTVisitor):
    def __init__(self) -> None:
        self.holders: list[cst.TrailingWhitespace | cst.EmptyLine] = []

    def visit_TrailingWhitespace(  # noqa: N802 - LibCST's name
        self, node: cst.TrailingWhitespace
    ) -> None:
        self.holders.append(node)

    def visit_EmptyLine(self, node: cst.EmptyLine) -> None:  # noqa: N802 - LibCST's name
        self.holders.append(node)
