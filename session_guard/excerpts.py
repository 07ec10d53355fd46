"""What of a file's text is shown: its names and how it is built, not the values written in it.

A URL, a password or a parameter of a statement may stand in any string, so that every string is
masked of which it is not known that it is none of these.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.from_libcst import children, dotted_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.module import Module

MASK = "***"

_STRING = re.compile(r"""([a-z]{0,2})('''|\"\"\"|'|")(.*)\2""", re.DOTALL | re.IGNORECASE)
_QUOTED = re.compile(r"""(?:\b[bfrtu]{1,2})?(['"]).*?\1""", re.DOTALL | re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.]*://", re.IGNORECASE)
_VERB = re.compile(
    r"(?:ALTER|BEGIN|COPY|CREATE|DEALLOCATE|DECLARE|DELETE|DISCARD|DROP|INSERT|LISTEN|LOCK|NOTIFY"
    r"|PREPARE|RESET|SELECT|SET|SHOW|TRUNCATE|UNLISTEN|UPDATE|WITH)\b",
    re.IGNORECASE,
)
_KEY = re.compile(r"[\w.-]+")
_NUMBER = re.compile(r"(?<![\w.])(?:\d[\d_]{4,}[\w.]*)")
_SECRET_NUMBER = re.compile(
    r"""(?:passw|passphrase|pwd|secret|token|key)\w*["']?\s*[:=]\s*(?P<number>\d[\w.]*)""",
    re.IGNORECASE,
)
_CODES = re.compile(r"#\s*noqa(?::\s*[A-Z]+\d+(?:,?\s*[A-Z]+\d+)*)?", re.IGNORECASE)
# Values of settings, none of which is a secret.
_HARMLESS = frozenset(
    {"", "autocommit", "read committed", "read uncommitted", "repeatable read", "serializable"}
    | {"allow", "disable", "prefer", "require", "verify-ca", "verify-full"}
    | {"auto", "direct", "supavisor", "pgbouncer", "on", "off", "true", "false"}
)

_Span = tuple[int, int, str]
"""From where to where something is hidden, and what is shown for it."""


def excerpt(module: Module, node: cst.CSTNode) -> tuple[str, tuple[int, int]]:
    """Return the line that a node begins on, as it is shown, and from where to where the node is.

    Comments are left out, unless the node is one.
    """
    position = module.position(node)
    number = position.start.line
    line = module.lines.text(number)
    end = position.end.column if position.end.line == number else len(line)
    spans = list(_spans(module, node, number, line))
    shown, done = "", 0
    for first, last, text in spans:
        shown += line[done:first] + text
        done = last
    shown += line[done:]
    start = _moved(position.start.column, spans, is_end=False)
    return shown.rstrip(), (start, max(start, _moved(end, spans, is_end=True)))


def code(module: Module, node: cst.CSTNode) -> str:
    """Return a node's text on one line, with its strings masked."""
    text = module.tree.code_for_node(node)
    strings = {module.tree.code_for_node(part): part for part in _strings(node)}
    for string in sorted(strings, key=len, reverse=True):
        text = text.replace(string, _shown(module, strings[string], string))
    return " ".join(text.split())


def concealed(module: Module, text: str) -> str:
    """Return a message about a file with the strings masked that it quotes from the file."""

    def shown(quoted: re.Match[str]) -> str:
        masked = _masked(quoted[0])
        return masked if masked != quoted[0] and quoted[0] in module.text else quoted[0]

    return _QUOTED.sub(shown, text)


def repeats_a_value(module: Module, text: str) -> bool:
    """Return whether what a fix writes has a string in it that the file has, and that is masked."""
    for quoted in _QUOTED.finditer(text):
        is_key = text[quoted.end() :].lstrip().startswith((":", "]"))
        if not is_key and _masked(quoted[0]) != quoted[0] and quoted[0] in module.text:
            return True
    return False


def _spans(module: Module, node: cst.CSTNode, number: int, line: str) -> Iterator[_Span]:
    """Yield what is hidden in a line, in order."""
    begin, done = module.lines.start(number), 0
    for first, last, part in module.strings(node).get(number, ()):
        string = _shown(module, part, module.text[first:last])
        yield from _numbers(line, done, max(first - begin, done))
        is_whole = begin <= first and last <= begin + len(line)
        first, last = max(first - begin, done), min(last - begin, len(line))
        yield first, last, string if is_whole else MASK
        done = last
    comment = line.find("#", done)
    yield from _numbers(line, done, len(line) if comment < 0 else comment)
    if comment >= 0:
        codes = _CODES.match(line, comment) if isinstance(node, cst.Comment) else None
        if codes is None:
            yield comment, len(line), ""
        elif line[codes.end() :].strip():
            yield codes.end(), len(line), f" {MASK}"


def strings_by_line(
    module: Module, holder: cst.CSTNode
) -> dict[int, list[tuple[int, int, cst.CSTNode]]]:
    """Return the strings of a node that each line has in it or a part of, and where they are."""
    found: dict[int, list[tuple[int, int, cst.CSTNode]]] = {}
    for node in _strings(holder):
        position = module.position(node)
        start, end = module.lines.span(position)
        for number in range(position.start.line, position.end.line + 1):
            found.setdefault(number, []).append((start, end, node))
    for strings in found.values():
        strings.sort(key=lambda item: item[:2])
    return found


def _numbers(line: str, start: int, end: int) -> Iterator[_Span]:
    spans = {match.span() for match in _NUMBER.finditer(line, start, end)}
    for match in _SECRET_NUMBER.finditer(line[:end]):
        if match.start("number") >= start:
            spans.add(match.span("number"))
    for first, last in sorted(spans):
        yield first, last, MASK


def _moved(column: int, spans: list[_Span], *, is_end: bool) -> int:
    """Return where a column of a line is in what is shown of it."""
    moved = column
    for first, last, text in spans:
        if last <= column:
            moved += len(text) - (last - first)
        elif first < column:
            moved -= column - first - (len(text) if is_end else 0)
    return moved


def _strings(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    if _is_string(node):
        yield node
        return
    for child in children(node):
        yield from _strings(child)


def _is_string(node: cst.CSTNode) -> bool:
    return isinstance(node, (cst.SimpleString, cst.FormattedString, cst.TemplatedString))


def _shown(module: Module, node: cst.CSTNode, string: str) -> str:
    """Return what is shown of a string's text: all of it where it is a key."""
    match = _STRING.fullmatch(string)
    if match is not None and _KEY.fullmatch(match[3]) and _is_key(module, node):
        return string
    return _masked(string)


def _masked(string: str) -> str:
    """Return a string with its value masked, but for how a URL or a statement begins."""
    match = _STRING.fullmatch(string)
    if match is None:
        return MASK
    prefix, quote, value = match.groups()
    if value.lower() in _HARMLESS or (value.isdecimal() and len(value) < 4):
        return string
    scheme, verb = _SCHEME.match(value), _VERB.match(value.lstrip())
    begins = scheme[0] if scheme else f"{verb[0]} " if verb else ""
    return f"{prefix}{quote}{begins}{MASK}{quote}"


def _is_key(module: Module, node: cst.CSTNode) -> bool:
    """Return whether a string names what is looked up: in a dictionary or in the environment."""
    parent = module.parent(node)
    if isinstance(parent, cst.DictElement):
        return parent.key is node
    if isinstance(parent, cst.Index):
        return True
    call = module.parent(parent) if isinstance(parent, cst.Arg) else None
    if not isinstance(call, cst.Call) or call.args[0] is not parent:
        return False
    function = dotted_parts(call.func) or ()
    return function[-1:] == ("getenv",) or function[-2:] == ("environ", "get")
