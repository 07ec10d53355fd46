"""How a suite of statements is left."""

from __future__ import annotations

import libcst as cst

from session_guard.names.from_libcst import walk

WAYS_OUT = (cst.Return, cst.Break, cst.Continue)
"""The statements that leave a suite and raise nothing."""


def always_raises(suite: cst.BaseSuite) -> bool:
    """Return whether a block leaves with an exception, whatever it does before."""
    if any(isinstance(part, WAYS_OUT) for part in walk(suite)):
        return False
    last = suite.body[-1] if suite.body else None
    if isinstance(last, cst.SimpleStatementLine):
        last = last.body[-1]
    if isinstance(last, cst.If):
        orelse = last.orelse
        if orelse is None:
            return False
        other = cst.IndentedBlock([orelse]) if isinstance(orelse, cst.If) else orelse.body
        return always_raises(last.body) and always_raises(other)
    return isinstance(last, cst.Raise)
