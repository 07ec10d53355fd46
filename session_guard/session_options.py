"""Which calls take execution options for sessions: they make sessions, or factories of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.names import openings, values

if TYPE_CHECKING:
    import libcst as cst

    from session_guard.module import Module


def takes_session_options(call: cst.Call, module: Module) -> bool:
    """Return whether a call makes or configures async sessions or a factory of them."""
    for function in module.evaluate(call.func):
        if isinstance(function, values.Method) and function.name == "configure":
            if openings.factory(function.owner) is not None:
                return True
        elif openings.is_session_class(function) or openings.factory(function) is not None:
            return True
    return any(openings.factory(value) is not None for value in module.results(call))
