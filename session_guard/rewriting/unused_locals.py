"""Which local variables a fix leaves without a use: `maker = get_maker()` before `maker()`."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names import openings
from session_guard.names.from_libcst import walk
from session_guard.names.values import External, LocalFunction
from session_guard.rule import Appended, Applicability, Rewrite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from session_guard.module import Module
    from session_guard.names.values import Value

_DEEPEST = 4


def without_unused_locals(module: Module, rewrites: Sequence[Rewrite]) -> list[Rewrite]:
    """Return rewrites that take out the assignments of locals whose last use `rewrites` remove.

    A call that may do more than to give back a session factory or an engine stays, without its
    name.
    """
    gone = _gone(rewrites)
    found: list[Rewrite] = []
    while True:
        more = [
            Rewrite(Applicability.SAFE, "", (replacement,))
            for replacement in _leftovers(module, gone)
        ]
        if not more:
            return found
        found.extend(more)
        gone |= _gone(more)


def _gone(rewrites: Sequence[Rewrite]) -> dict[int, cst.CSTNode]:
    """Return the nodes, by `id`, that rewrites take out of the file."""
    replaced: dict[int, cst.CSTNode] = {}
    written: set[int] = set()
    for rewrite in rewrites:
        for old, new in rewrite.replacements:
            if not isinstance(new, Appended):
                replaced.update((id(part), part) for part in walk(old))
            if new is not None:
                written.update(map(id, walk(new.item if isinstance(new, Appended) else new)))
    return {at: part for at, part in replaced.items() if at not in written}


def _leftovers(
    module: Module, gone: dict[int, cst.CSTNode]
) -> Iterator[tuple[cst.CSTNode, cst.CSTNode | None]]:
    seen: set[tuple[int, str]] = set()
    for name in gone.values():
        if not isinstance(name, cst.Name):
            continue
        for function in module.ancestors(name):
            if not isinstance(function, cst.FunctionDef) or (id(function), name.value) in seen:
                continue
            seen.add((id(function), name.value))
            line = _only_assignment(module, function, name.value)
            if line is None:
                continue
            (assignment,) = line.body
            assert isinstance(assignment, (cst.Assign, cst.AnnAssign))
            if id(assignment) not in gone and _is_unused(function, assignment, name.value, gone):
                yield from _without(module, line, assignment)


def _names(node: cst.CSTNode) -> Iterator[cst.Name]:
    return (part for part in walk(node) if isinstance(part, cst.Name))


def _only_assignment(
    module: Module, function: cst.FunctionDef, name: str
) -> cst.SimpleStatementLine | None:
    """Return the line `name = value` where that is how a local variable gets its only value."""
    bindings = module.bindings(module.expr(cst.Name(name)), module.place(function.body.body[0]))
    found = [
        line
        for line in walk(function.body)
        if isinstance(line, cst.SimpleStatementLine)
        and len(line.body) == 1
        and _is_assignment_of(line.body[0], name)
    ]
    if len(found) != 1 or len(bindings) > 1:
        return None
    suite = module.parent(found[0])
    is_alone = not isinstance(suite, cst.IndentedBlock) or len(suite.body) == 1
    return None if is_alone else found[0]


def _is_assignment_of(node: cst.CSTNode, name: str) -> bool:
    match node:
        case cst.Assign(targets=[cst.AssignTarget(cst.Name(target))]):
            return target == name
        case cst.AnnAssign(target=cst.Name(target), value=cst.BaseExpression()):
            return target == name
    return False


def _is_unused(
    function: cst.FunctionDef,
    assignment: cst.Assign | cst.AnnAssign,
    name: str,
    gone: dict[int, cst.CSTNode],
) -> bool:
    """Return whether nothing in the function has the name any more but the assignment."""
    target = assignment.target if isinstance(assignment, cst.AnnAssign) else None
    if isinstance(assignment, cst.Assign):
        target = assignment.targets[0].target
    return not any(
        other.value in (name, "locals") and other is not target and id(other) not in gone
        for other in _names(function)
    )


def _without(
    module: Module, line: cst.SimpleStatementLine, assignment: cst.Assign | cst.AnnAssign
) -> Iterator[tuple[cst.CSTNode, cst.CSTNode | None]]:
    value = assignment.value
    assert value is not None
    called = module.evaluate(value.func) if isinstance(value, cst.Call) else ()
    # What builds a factory or an engine is a finding of its own.
    if any(openings.is_maker(one) for one in called):
        return
    does_no_more = isinstance(value, (cst.Name, cst.Attribute)) or (
        isinstance(value, cst.Call)
        and not value.args
        and len(called) > 0
        and all(isinstance(one, LocalFunction) and _only_makes(one) for one in called)
    )
    if does_no_more and line.trailing_whitespace.comment is None:
        yield line, None
    elif isinstance(value, (cst.Call, cst.Await)):
        yield assignment, cst.Expr(value)


def _only_makes(function: LocalFunction, depth: int = 0) -> bool:
    """Return whether a call does nothing but give back a factory or an engine, kept or made.

    It may also refuse to, before there is one: the handler needs none.
    """
    definition = function.definition
    if definition.is_async or definition.is_generator or depth > _DEEPEST:
        return False
    for call, place in definition.calls:
        called = function.home.evaluate(call.function, place)
        if not called or not all(
            _only_makes(one, depth + 1)
            if isinstance(one, LocalFunction)
            else openings.is_maker(one) or _is_builtin_error(one)
            for one in called
        ):
            return False
    return True


def _is_builtin_error(value: Value) -> bool:
    found = getattr(builtins, value.dotted, None) if isinstance(value, External) else None
    return isinstance(found, type) and issubclass(found, BaseException)
