"""Execution options: what a call is given of them, and which calls take them for sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.names import dictionaries, openings, values
from session_guard.names.bindings import Call
from session_guard.names.values import Located

if TYPE_CHECKING:
    import libcst as cst

    from session_guard.module import Module
    from session_guard.names.dictionaries import Contents


def takes_session_options(call: cst.Call, module: Module) -> bool:
    """Return whether a call makes or configures async sessions or a factory of them."""
    for function in module.evaluate(call.func):
        if isinstance(function, values.Method) and function.name == "configure":
            if openings.factory(function.owner) is not None:
                return True
        elif openings.is_session_class(function) or openings.factory(function) is not None:
            return True
    found = (*module.results(call), *module.provided(call))
    return any(openings.factory(value) is not None for value in found)


def of_expression(node: cst.BaseExpression, module: Module) -> Contents:
    """Return what is in the dictionary that an expression of a file stands for."""
    return dictionaries.contents(Located(module.expr(node), module.place(node), module.names))


def of_keywords(call: cst.Call, module: Module) -> Contents:
    """Return the keyword arguments of a call of a file; what comes with `**` where it is known."""
    expr = module.expr(call)
    assert isinstance(expr, Call)
    return dictionaries.keywords(expr, module.place(call), module.names)
