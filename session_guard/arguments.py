"""Takes arguments out of calls and puts them in, keeping the layout of the others."""

from __future__ import annotations

import libcst as cst


class NotFixableError(Exception):
    """Why there is no fix; the text goes into the finding's help."""


def argument(call: cst.Call, name: str) -> cst.Arg | None:
    """Return the keyword argument `name` of a call, or None."""
    return next((a for a in call.args if a.keyword is not None and a.keyword.value == name), None)


def without_argument(call: cst.Call, gone: cst.Arg) -> cst.Call:
    """Return the call without one of its arguments."""
    args = [arg for arg in call.args if arg is not gone]
    if not args:
        return call.with_changes(args=[], whitespace_before_args=cst.SimpleWhitespace(""))
    if gone is call.args[-1]:
        args[-1] = args[-1].with_changes(
            comma=gone.comma, whitespace_after_arg=gone.whitespace_after_arg
        )
    return call.with_changes(args=args)


def with_argument(call: cst.Call, name: str, value: cst.BaseExpression) -> cst.Call:
    """Return the call with one more keyword argument behind the others."""
    new = cst.Arg(
        keyword=cst.Name(name),
        value=value,
        equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")),
    )
    if not call.args:
        return call.with_changes(args=[new])
    last = call.args[-1]
    if len(call.args) > 1:
        between = call.args[0].comma
    else:
        between = cst.Comma(whitespace_after=call.whitespace_before_args)
        if not isinstance(between.whitespace_after, cst.ParenthesizedWhitespace):
            between = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    new = new.with_changes(comma=last.comma, whitespace_after_arg=last.whitespace_after_arg)
    last = last.with_changes(comma=between, whitespace_after_arg=cst.SimpleWhitespace(""))
    return call.with_changes(args=[*call.args[:-1], last, new])


def string_keys(node: cst.BaseExpression) -> dict[str, cst.DictElement] | None:
    """Return a dictionary literal's items by key, or None where a key is not a plain string."""
    if not isinstance(node, cst.Dict):
        return None
    items: dict[str, cst.DictElement] = {}
    for element in node.elements:
        if not isinstance(element, cst.DictElement):
            return None
        if not isinstance(element.key, (cst.SimpleString, cst.ConcatenatedString)):
            return None
        key = element.key.evaluated_value
        if not isinstance(key, str):
            return None
        items[key] = element
    return items
