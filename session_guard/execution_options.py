"""Execution options: what a call is given of them, and which calls take them for sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.names import dictionaries, openings, values
from session_guard.names.bindings import Call, Constant, Display, method_of
from session_guard.names.values import Located
from session_guard.standard import ONLY_ASYNCPG

if TYPE_CHECKING:
    import libcst as cst

    from session_guard.module import Module
    from session_guard.names.bindings import Expr
    from session_guard.names.dictionaries import Contents
    from session_guard.names.values import Namespace

# Settings of asyncpg, which do nothing there, and what sets AUTOCOMMIT.
_LOOKED_AT = ONLY_ASYNCPG | {"isolation_level"}


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


def gives_options(names: Namespace) -> bool:
    """Return whether a call of a module may be given an execution option that rules look at."""
    return any(
        any(key is None or key in _LOOKED_AT for key, _ in call.keywords)
        if method_of(call) == "execution_options"
        else _may_hold(call.keyword("execution_options"))
        for call, _ in names.scope.calls
    )


def _may_hold(options: Expr | None) -> bool:
    if not isinstance(options, Display):
        return options is not None
    return any(not isinstance(key, Constant) or key.value in _LOOKED_AT for key, _ in options.items)
