"""What a statement is known by, wherever it stands and however it is laid out."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import libcst as cst

if TYPE_CHECKING:
    from session_guard.module import Module

LENGTH = 16
"""Hexadecimal digits of a fingerprint."""

_STATEMENTS = (
    cst.BaseSmallStatement,
    cst.BaseCompoundStatement,
    cst.Decorator,
    cst.ExceptHandler,
    cst.ExceptStarHandler,
    cst.MatchCase,
)
# Of a compound statement the header counts: its blocks are statements of their own.
_APART = (
    cst.BaseSuite,
    cst.BaseStatement,
    cst.Decorator,
    cst.Else,
    cst.Finally,
    cst.ExceptHandler,
    cst.ExceptStarHandler,
    cst.MatchCase,
)
_LAYOUT = (
    cst.BaseParenthesizableWhitespace,
    cst.TrailingWhitespace,
    cst.EmptyLine,
    cst.LeftParen,
    cst.RightParen,
    cst.Comma,
    cst.Semicolon,
    cst.Colon,
    cst.AssignEqual,
)


def fingerprint(module: Module, node: cst.CSTNode) -> str:
    """Return a hash of the statement that `node` is in, or of its header; a comment's of itself.

    Neither layout and comments nor the version of Python change it.
    """
    statement = next(
        (held for held in (node, *module.ancestors(node)) if isinstance(held, _STATEMENTS)), node
    )
    parts: list[str] = []
    _collect(statement, parts)
    text = "\0".join(parts).encode(errors="surrogatepass")
    return hashlib.sha256(text).hexdigest()[:LENGTH]


def _collect(node: cst.CSTNode, parts: list[str]) -> None:
    """Append the kinds of a node and of what it holds, each with its end, and all names and values.

    `ast.dump` would do, but that it differs between versions of Python.
    """
    string = _string(node)
    if string is not None:
        parts.extend(string)
        return
    parts.append(f"{type(node).__name__}(")
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if isinstance(value, str):
            is_quotes = field.name in ("start", "end")
            parts.append(value.strip("'\"").lower() if is_quotes else value)
        for held in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(held, cst.CSTNode) and not isinstance(held, (*_LAYOUT, *_APART)):
                _collect(held, parts)
    parts.append(")")


def _string(node: cst.CSTNode) -> tuple[str, str] | None:
    """Return the prefix and the content of a string, in one piece or in several alike ones."""
    if isinstance(node, cst.SimpleString):
        return node.prefix.lower().replace("u", ""), node.raw_value
    if isinstance(node, cst.ConcatenatedString):
        left, right = _string(node.left), _string(node.right)
        if left is not None and right is not None and left[0] == right[0]:
            return left[0], left[1] + right[1]
    return None
