"""What an expression is, as far as its spelling alone tells."""

from __future__ import annotations

import libcst as cst

from session_guard.names.from_libcst import dotted_parts
from session_guard.project.besides import LOGGERS
from session_guard.safety.statements import PURE_BUILTINS, SHOWING

_LEVELS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})


def method_of(node: cst.CSTNode, name: str | None) -> str | None:
    """Return the method that an expression calls of what a name stands for, or None."""
    match node:
        case cst.Call(func=cst.Attribute(value=cst.Name(value=owner), attr=method)) if (
            owner == name
        ):
            return method.value
    return None


def is_literal(node: cst.CSTNode) -> bool:
    """Return whether an expression is a literal, which nothing can be done through."""
    return isinstance(node, (cst.SimpleString, cst.Integer, cst.Float, cst.ConcatenatedString))


def is_construction(call: cst.Call) -> bool:
    """Return whether a call makes an object, by the spelling of its class."""
    parts = dotted_parts(call.func)
    return parts is not None and parts[-1][:1].isupper()


def is_of_logger(call: cst.Call) -> bool:
    """Return whether a call logs, by the name of what it is a method of."""
    parts = dotted_parts(call.func)
    return (
        parts is not None
        and len(parts) > 1
        and parts[-2].lower().strip("_") in LOGGERS
        and parts[-1] in _LEVELS
    )


def is_setattr(call: cst.Call) -> bool:
    """Return whether a call is `setattr(owner, name, value)`."""
    return (
        isinstance(call.func, cst.Name)
        and call.func.value == "setattr"
        and len(call.args) == 3
        and all(argument.star == "" and argument.keyword is None for argument in call.args)
    )


def shows(call: cst.Call) -> bool:
    """Return whether a call may show more of its arguments than how many there are, or which."""
    function = call.func
    return not isinstance(function, cst.Name) or function.value not in PURE_BUILTINS - SHOWING
