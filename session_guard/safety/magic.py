"""What Python calls on an object where an expression uses it: `__str__` in a text, for example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.project.setters import READING_METHODS

if TYPE_CHECKING:
    from session_guard.module import Module

_TEXTS = frozenset({"__str__", "__repr__", "__format__"})
_TRUTH = frozenset({"__bool__", "__len__"})
_ITEMS = frozenset({"__iter__", "__next__", "__getitem__", "__len__", "__contains__"})
_HASHES = frozenset({"__hash__", "__eq__"})
_COMPARES = _ITEMS | _HASHES | {"__ne__", "__lt__", "__le__", "__gt__", "__ge__"}
_IDENTITY = (cst.Is, cst.IsNot)
_NUMBERS = READING_METHODS - _TEXTS - _TRUTH - _COMPARES - {"__getattr__", "__getattribute__"}


def methods_called_on(module: Module, node: cst.CSTNode) -> frozenset[str]:
    """Return which methods of its value the code right round an expression may call.

    Giving it on, or back, calls none; a function may call any of what it is given.
    """
    match parent := module.parent(node):
        case cst.Attribute():
            return frozenset({"__getattr__", "__getattribute__"})
        case cst.FormattedStringExpression():
            return _TEXTS
        case cst.BinaryOperation():
            return _TEXTS | _NUMBERS
        case cst.AugAssign():
            return _NUMBERS
        case cst.UnaryOperation():
            return _TRUTH | _NUMBERS
        case cst.BooleanOperation() | cst.If() | cst.While() | cst.Assert() | cst.CompIf():
            return _TRUTH
        case cst.IfExp() if parent.test is node:
            return _TRUTH
        case cst.MatchCase():
            return _TRUTH
        case cst.ComparisonTarget(operator=operator):
            return frozenset() if isinstance(operator, _IDENTITY) else _COMPARES
        case cst.Comparison():
            compares = any(not isinstance(c.operator, _IDENTITY) for c in parent.comparisons)
            return _COMPARES if compares else frozenset()
        case cst.Subscript():
            return _ITEMS
        case cst.Index() | cst.DictElement() | cst.DictComp() | cst.SetComp():
            return _HASHES
        case cst.Element() if isinstance(module.parent(parent), cst.Set):
            return _HASHES
        case cst.For() | cst.CompFor() | cst.StarredElement() | cst.Match():
            return _COMPARES
        case cst.Assign() if any(
            isinstance(target.target, (cst.Tuple, cst.List)) for target in parent.targets
        ):
            return _ITEMS
        case cst.Arg():
            return READING_METHODS
    return frozenset()
