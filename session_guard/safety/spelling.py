"""What an expression is, as far as its spelling alone tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.from_libcst import dotted_parts
from session_guard.project.besides import LOGGERS
from session_guard.safety.statements import PURE_BUILTINS, SHOWING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.module import Module

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


def argument_of(call: cst.Call, keyword: str) -> cst.BaseExpression | None:
    """Return what a call gives by a keyword, or None."""
    for argument in call.args:
        if argument.keyword is not None and argument.keyword.value == keyword:
            return argument.value
    return None


def attributes_of_key(key: cst.BaseExpression) -> Iterator[cst.Attribute]:
    """Yield the attributes that the key of a sort reads of its object, if it does nothing else."""
    read: list[cst.Attribute] = []
    parts: list[cst.CSTNode] = [key.body] if isinstance(key, cst.Lambda) else [key]
    while parts:
        part = parts.pop()
        match part:
            case cst.Attribute():
                read.append(part)
                parts.append(part.value)
            case cst.Tuple():
                parts.extend(element.value for element in part.elements)
            case cst.UnaryOperation(operator=cst.Minus() | cst.Not()):
                parts.append(part.expression)
            case cst.Name() if isinstance(key, cst.Lambda):
                pass
            case _:
                return
    yield from read


def is_of_lambda(module: Module, name: cst.Name) -> bool:
    """Return whether a name is a parameter of the `lambda` that it stands in."""
    inner: cst.CSTNode = name
    for holder in module.ancestors(name):
        match holder:
            case cst.Lambda(params=parameters) if inner is holder.body:
                every = [
                    *(*parameters.posonly_params, *parameters.params, *parameters.kwonly_params),
                    parameters.star_arg,
                    parameters.star_kwarg,
                ]
                names = [one.name.value for one in every if isinstance(one, cst.Param)]
                if name.value in names:
                    return True
            case cst.Param() if inner is holder.name:
                signature = module.parent(holder)
                return signature is not None and isinstance(module.parent(signature), cst.Lambda)
            case cst.BaseSmallStatement() | cst.BaseCompoundStatement():
                return False
        inner = holder
    return False


def shows(call: cst.Call) -> bool:
    """Return whether a call may show more of its arguments than how many there are, or which."""
    function = call.func
    return not isinstance(function, cst.Name) or function.value not in PURE_BUILTINS - SHOWING
