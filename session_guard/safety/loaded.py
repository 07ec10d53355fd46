"""Which names may hold objects that the session loaded or was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.from_libcst import children, walk
from session_guard.safety.statements import statement_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.module import Module

READS = frozenset({"execute", "scalar", "scalars", "stream", "stream_scalars", "exec"})
# Builtins that change nothing that they are given.
PURE_BUILTINS = frozenset(
    """
    len str int float bool repr sum isinstance issubclass hash format any all print list
    tuple set frozenset dict sorted enumerate zip reversed min max iter next range abs
    round id type
    """.split()
)
# Those of them whose result holds what went in.
_CONTAINERS = frozenset(
    """
    list tuple set frozenset dict sorted enumerate zip reversed min max iter next
    """.split()
)


def tracked_names(module: Module, block: cst.BaseSuite, session: str | None) -> frozenset[str]:
    """Return the names that may hold objects of the session at any place of the block."""
    tracked: frozenset[str] = frozenset()
    while True:
        found = set(tracked)
        for node in walk(block):
            match node:
                case cst.Assign() if carries_objects(module, node.value, session, tracked):
                    for target in node.targets:
                        found.update(_bound(target.target))
                case cst.AnnAssign() if node.value is not None and carries_objects(
                    module, node.value, session, tracked
                ):
                    found.update(_bound(node.target))
                case cst.NamedExpr() if carries_objects(module, node.value, session, tracked):
                    found.update(_bound(node.target))
                case cst.For() | cst.CompFor() if carries_objects(
                    module, node.iter, session, tracked
                ):
                    found.update(_bound(node.target))
                case cst.WithItem() if node.asname is not None and carries_objects(
                    module, node.item, session, tracked
                ):
                    found.update(_bound(node.asname.name))
                case cst.Match() if carries_objects(module, node.subject, session, tracked):
                    for part in walk(node):
                        if isinstance(part, (cst.MatchAs, cst.MatchStar)) and part.name:
                            found.add(part.name.value)
                case cst.Call(func=cst.Attribute(value=cst.Name(value=owner), attr=method)) if (
                    owner == session
                ):
                    if method.value in ("add", "add_all", "delete", "refresh", "merge"):
                        for argument in node.args:
                            found.update(
                                part.value
                                for part in walk(argument.value)
                                if isinstance(part, cst.Name)
                                and not isinstance(argument.value, cst.Call)
                            )
                case _:
                    pass
        found.discard(session or "")
        if found == tracked:
            return tracked
        tracked = frozenset(found)


def _bound(target: cst.CSTNode) -> Iterator[str]:
    if isinstance(target, cst.Name):
        yield target.value
    elif isinstance(target, (cst.Tuple, cst.List)):
        for element in target.elements:
            yield from _bound(element.value)


def carries_objects(
    module: Module, node: cst.CSTNode, session: str | None, tracked: frozenset[str]
) -> bool:
    """Return whether an expression's value may be, or hold, an object that the session knows."""

    def carries(part: cst.CSTNode) -> bool:
        match part:
            case cst.Name():
                return part.value in tracked
            case cst.Await():
                return carries(part.expression)
            case cst.Call(func=cst.Attribute(value=cst.Name(value=owner), attr=method)) if (
                owner == session
            ):
                name = method.value
                if name in READS:
                    return not part.args or (
                        statement_kind(module, part.args[0].value) in ("read", "other")
                    )
                return name not in ("flush", "commit", "rollback", "close", "refresh")
            case cst.Call(func=cst.Name(value=name)) if name in PURE_BUILTINS:
                return name in _CONTAINERS and any(carries(a.value) for a in part.args)
            case cst.Call():
                inside = isinstance(part.func, cst.Attribute) and carries(part.func.value)
                return inside or any(carries(a.value) for a in part.args)
            case (
                cst.FormattedString()
                | cst.SimpleString()
                | cst.ConcatenatedString()
                | cst.Comparison()
                | cst.UnaryOperation()
                | cst.Lambda()
            ):
                return False
            case cst.ListComp() | cst.SetComp() | cst.GeneratorExp():
                return carries(part.elt)
            case cst.DictComp():
                return carries(part.key) or carries(part.value)
            case cst.Attribute() | cst.Subscript():
                return carries(part.value)
            case cst.IfExp():
                return carries(part.body) or carries(part.orelse)
            case _:
                return any(carries(child) for child in children(part))

    return carries(node)
