"""How a suite of statements is left, and what may keep an error from leaving it."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names import openings
from session_guard.names.from_libcst import walk
from session_guard.names.values import External, LocalFunction

if TYPE_CHECKING:
    from session_guard.module import Module
    from session_guard.names.values import Value

WAYS_OUT = (cst.Return, cst.Break, cst.Continue)
"""The statements that leave a suite and raise nothing."""

# Built-in exceptions that none of SQLAlchemy's is one of.
OTHER_ERRORS = frozenset(
    name
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception
)
# Context managers that are known not to swallow what is raised in them.
_QUIET_CONTEXTS = frozenset(
    """
    open asyncio.timeout asyncio.timeout_at asyncio.Lock asyncio.Semaphore
    httpx.AsyncClient httpx.Client aiohttp.ClientSession aiofiles.open threading.Lock
    """.split()
)


def always_raises(suite: cst.BaseSuite) -> bool:
    """Return whether a block leaves with an exception, whatever it does before."""
    if any(isinstance(part, WAYS_OUT) for part in walk(suite)):
        return False
    return _ends_in(suite, (cst.Raise,))


def _ends_in(suite: cst.BaseSuite, kinds: tuple[type[cst.CSTNode], ...]) -> bool:
    last = suite.body[-1] if suite.body else None
    if isinstance(last, cst.SimpleStatementLine):
        last = last.body[-1]
    if isinstance(last, cst.If):
        orelse = last.orelse
        if orelse is None:
            return False
        other = cst.IndentedBlock([orelse]) if isinstance(orelse, cst.If) else orelse.body
        return _ends_in(last.body, kinds) and _ends_in(other, kinds)
    return isinstance(last, kinds)


def leaves_the_function(suite: cst.BaseSuite) -> bool:
    """Return whether a suite ends the function that it stands in, by a value or an exception."""
    if any(isinstance(part, (cst.Break, cst.Continue)) for part in walk(suite)):
        return False
    return _ends_in(suite, (cst.Raise, cst.Return))


def may_swallow(handler: cst.ExceptHandler | cst.ExceptStarHandler) -> bool:
    """Return whether a handler may catch an error of SQLAlchemy's, and goes on."""
    if always_raises(handler.body):
        return False
    kinds = handler.type.elements if isinstance(handler.type, cst.Tuple) else ()
    types = [kind.value for kind in kinds] if kinds else [handler.type]
    return not all(isinstance(kind, cst.Name) and kind.value in OTHER_ERRORS for kind in types)


def is_quiet_context(module: Module, node: cst.BaseExpression) -> bool:
    """Return whether a context manager is known not to swallow what is raised in it."""
    if isinstance(node, cst.Call):
        found = module.evaluate(node)
        if found and all(openings.opening(value) is not None for value in found):
            return True  # another session closes, and raises on
        node = node.func
    return all(_is_quiet(value, module) for value in module.evaluate(node))


def _is_quiet(value: Value, module: Module) -> bool:
    if isinstance(value, LocalFunction):
        handler = module.handler
        return handler is not None and any(
            value.home is manager.namespace
            and value.definition.name == manager.manager
            and manager.shortfall is None
            for manager in (handler, module.project.request_handler)
            if manager is not None
        )
    return isinstance(value, External) and value.dotted in _QUIET_CONTEXTS
