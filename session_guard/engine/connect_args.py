"""Edits of an engine's `connect_args`: keys set or taken out, and the rest kept as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.arguments import (
    NotFixableError,
    argument,
    with_argument,
    without_argument,
)
from session_guard.imports import has_comment
from session_guard.names.values import Dictionary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from session_guard.engine.dictionaries import Contents, Entry
    from session_guard.engine.facts import Engine
    from session_guard.module import Module

Replacements = tuple[tuple[cst.CSTNode, cst.CSTNode | None], ...]


def node_of(contents: Contents, key: str, module: Module) -> cst.CSTNode | None:
    """Return the node that sets a key, or None where that is not in this file."""
    entries = contents.entries.get(key, [])
    return node_of_entry(entries[0], key, module) if len(entries) == 1 else None


def node_of_entry(entry: Entry, key: str, module: Module) -> cst.CSTNode | None:
    """Return the node that sets a key in one way, or None where that is not in this file."""
    node = entry.node
    if not isinstance(node, cst.CSTNode) or module.parent(node) is None:
        return None
    if isinstance(node, cst.Dict):
        return element(node, key)
    if isinstance(node, cst.Call):
        return argument(node, key) or node
    return node


def element(node: cst.Dict, key: str) -> cst.DictElement | None:
    """Return the last item of a dictionary display with a key, or None."""
    found = None
    for item in node.elements:
        if isinstance(item, cst.DictElement) and _text(item.key) == key:
            found = item
    return found


def _text(node: cst.BaseExpression) -> str | None:
    if isinstance(node, (cst.SimpleString, cst.ConcatenatedString)):
        value = node.evaluated_value
        return value if isinstance(value, str) else None
    return None


def setting(engine: Engine, module: Module, wanted: Mapping[str, str]) -> Replacements:
    """Return the edits that give keys of `connect_args` new values, written as code.

    A display is edited where it stands, if this engine alone uses it; otherwise what is given is
    unpacked into a new one, which leaves it alone.

    Raises NotFixableError.
    """
    call = engine.call
    given = argument(call, "connect_args")
    items = {key: cst.parse_expression(code) for key, code in wanted.items()}
    if given is None:
        if not engine.arguments.is_absent("connect_args"):
            raise NotFixableError("its `connect_args` come with `**`")
        display = cst.Dict([_item(key, value) for key, value in items.items()])
        return ((call, with_argument(call, "connect_args", display)),)
    if isinstance(given.value, cst.Dict):
        return ((given.value, with_items(given.value, items)),)
    own = _own_display(engine, given.value, module)
    if own is not None:
        return ((own, with_items(own, items)),)
    unpacked = cst.StarredDictElement(given.value, comma=_COMMA)
    display = cst.Dict([unpacked, *(_item(key, value) for key, value in items.items())])
    return ((given.value, display),)


def removal(contents: Contents, key: str, module: Module) -> Replacements:
    """Return the edits that take a key out of the dictionary display it stands in.

    Raises NotFixableError.
    """
    item = node_of(contents, key, module)
    display = module.parent(item) if item is not None else None
    if not isinstance(item, cst.DictElement) or not isinstance(display, cst.Dict):
        raise NotFixableError("it is not an item of a dictionary display in this file")
    if has_comment(item):
        raise NotFixableError("a comment stands beside it")
    return ((display, without_item(display, item)),)


def _own_display(engine: Engine, given: cst.BaseExpression, module: Module) -> cst.Dict | None:
    """Return the display that a name stands for, if nothing but this engine uses the name."""
    if not isinstance(given, cst.Name):
        return None
    entries = engine.arguments.entries["connect_args"]
    found = entries[0].value.values() if entries[0].value is not None else ()
    if len(found) != 1 or not isinstance(found[0], Dictionary) or len(found[0].names) != 1:
        return None
    node = found[0].display.node
    if not isinstance(node, cst.Dict) or module.parent(node) is None:
        return None
    uses = (
        module.parent(name)
        for name in module.nodes("Name")
        if isinstance(name, cst.Name) and name.value == given.value and name is not given
    )
    # The name of a keyword argument is no use; what binds the name is none either.
    own = all(
        isinstance(use, (cst.AssignTarget, cst.AnnAssign))
        or (isinstance(use, cst.Arg) and (use.value is given or _is_keyword(use, given.value)))
        for use in uses
    )
    return node if own else None


def _is_keyword(use: cst.Arg, name: str) -> bool:
    """Return whether an argument has a name as its keyword, and another expression as its value."""
    is_value = isinstance(use.value, cst.Name) and use.value.value == name
    return use.keyword is not None and use.keyword.value == name and not is_value


_COMMA = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))


def _item(key: str, value: cst.BaseExpression) -> cst.DictElement:
    return cst.DictElement(cst.SimpleString(f'"{key}"'), value)


def with_items(node: cst.Dict, items: Mapping[str, cst.BaseExpression]) -> cst.Dict:
    """Return a dictionary display with keys set, in the layout of what is there."""
    elements = list(node.elements)
    for key, value in items.items():
        old = element(node, key)
        if old is not None:
            index = next(i for i, item in enumerate(elements) if item is old)
            elements[index] = old.with_changes(value=value)
        elif not elements:
            elements = [_item(key, value)]
        else:
            last = elements[-1]
            new = _item(key, value).with_changes(comma=last.comma)
            elements[-1:] = [last.with_changes(comma=_between(node)), new]
    return node.with_changes(elements=elements)


def _between(node: cst.Dict) -> cst.Comma:
    """Return the comma that separates items of a display."""
    if len(node.elements) > 1:
        comma = node.elements[0].comma
        if isinstance(comma, cst.Comma) and not has_comment(comma):
            return comma
    whitespace = node.lbrace.whitespace_after
    if isinstance(whitespace, cst.ParenthesizedWhitespace) and not has_comment(whitespace):
        return cst.Comma(whitespace_after=whitespace)
    return _COMMA


def without_item(node: cst.Dict, gone: cst.BaseDictElement) -> cst.Dict:
    """Return a dictionary display without one of its items."""
    elements = [item for item in node.elements if item is not gone]
    if elements and gone is node.elements[-1]:
        elements[-1] = elements[-1].with_changes(comma=gone.comma)
    if not elements:
        empty = cst.LeftCurlyBrace()
        return node.with_changes(elements=[], lbrace=empty, rbrace=cst.RightCurlyBrace())
    return node.with_changes(elements=elements)


def renamed(contents: Contents, key: str, new: str, module: Module) -> Replacements:
    """Return the edits that give a key another name.

    Raises NotFixableError.
    """
    if not contents.is_absent(new):
        raise NotFixableError(f"`{new}` is there as well, or may be")
    item = node_of(contents, key, module)
    if isinstance(item, cst.DictElement):
        return ((item.key, cst.SimpleString(f'"{new}"')),)
    if isinstance(item, cst.Arg) and item.keyword is not None:
        return ((item.keyword, cst.Name(new)),)
    raise NotFixableError("it is not set in this file")


def number_without_quotes(node: cst.CSTNode | None) -> Replacements | None:
    """Return the edits that turn the string that an item has into the number in it."""
    value = _value(node)
    if isinstance(value, cst.SimpleString) and str(value.evaluated_value).isdecimal():
        return ((value, cst.Integer(str(int(value.evaluated_value)))),)
    return None


def number_in_quotes(node: cst.CSTNode | None) -> Replacements | None:
    """Return the edits that turn the number that an item has into a string."""
    value = _value(node)
    if isinstance(value, (cst.Integer, cst.Float)):
        return ((value, cst.SimpleString(f'"{value.value}"')),)
    return None


def _value(node: cst.CSTNode | None) -> cst.BaseExpression | None:
    return node.value if isinstance(node, (cst.DictElement, cst.Arg)) else None


def moved(engine: Engine, call: cst.Call, values: Mapping[str, cst.BaseExpression]) -> Replacements:
    """Return the edit that gives an engine's call with `values` in its `connect_args`.

    `call` is the engine's call as it is without what is moved. Raises NotFixableError.
    """
    given = argument(call, "connect_args")
    if given is None:
        if not engine.arguments.is_absent("connect_args"):
            raise NotFixableError("its `connect_args` come with `**`")
        display = cst.Dict([_item(key, value) for key, value in values.items()])
        return ((engine.call, with_argument(call, "connect_args", display)),)
    if isinstance(given.value, cst.Dict):
        display = with_items(given.value, values)
    else:
        unpacked = cst.StarredDictElement(given.value, comma=_COMMA)
        display = cst.Dict([unpacked, *(_item(key, value) for key, value in values.items())])
    return ((engine.call, cst.ensure_type(call.with_deep_changes(given, value=display), cst.Call)),)


def without_option(call: cst.Call, given: cst.Arg, key: str) -> cst.Call:
    """Return a call without `key` in the dictionary display that its argument `given` is.

    Raises NotFixableError.
    """
    assert isinstance(given.value, cst.Dict)
    item = element(given.value, key)
    assert item is not None
    if has_comment(given):
        raise NotFixableError("a comment stands in the dictionary")
    if len(given.value.elements) == 1:
        return without_argument(call, given)
    display = without_item(given.value, item)
    return cst.ensure_type(call.with_deep_changes(given, value=display), cst.Call)


def without_method_option(call: cst.Call, gone: cst.Arg, *, is_awaited: bool) -> cst.BaseExpression:
    """Return `x.execution_options(…)` without one option; `x` where it was the only one."""
    if len(call.args) == 1 and not is_awaited:
        assert isinstance(call.func, cst.Attribute)
        return call.func.value
    return without_argument(call, gone)


def out_of_url(engine: Engine, key: str, value: str) -> Replacements:
    """Return the edit that moves a number from a literal URL's query to `connect_args`.

    Raises NotFixableError.
    """
    first = engine.call.args[0] if engine.call.args else None
    if first is None or first.keyword is not None or not isinstance(first.value, cst.SimpleString):
        raise NotFixableError("its URL is not a literal in the call")
    if not value.isdecimal():
        raise NotFixableError("its value is no number")
    text = first.value.value
    pair = f"{key}={value}"
    for found, instead in ((f"?{pair}&", "?"), (f"&{pair}", ""), (f"?{pair}", "")):
        if found in text:
            literal = first.value.with_changes(value=text.replace(found, instead, 1))
            call = engine.call.with_deep_changes(first, value=literal)
            bare = cst.ensure_type(call, cst.Call)
            return moved(engine, bare, {key: cst.Integer(str(int(value)))})
    raise NotFixableError("it is not written plainly in the URL")
