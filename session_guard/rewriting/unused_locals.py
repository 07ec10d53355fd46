"""Which local variables a fix leaves without a use: `maker = get_maker()` before `maker()`."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names import openings
from session_guard.names.from_libcst import walk
from session_guard.names.values import External, LocalFunction
from session_guard.project.besides import does_more
from session_guard.rewriting.arguments import NotFixableError
from session_guard.rewriting.unused_imports import taken_out
from session_guard.rule import Applicability, Rewrite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from session_guard.module import Module
    from session_guard.names.values import Value

_DEEPEST = 4
_Assignment = cst.Assign | cst.AnnAssign | cst.NamedExpr
_Replacement = tuple[cst.CSTNode, cst.CSTNode | None]


def without_unused_locals(module: Module, rewrites: Sequence[Rewrite]) -> list[Rewrite]:
    """Return rewrites that take out the assignments of locals whose last use `rewrites` remove.

    A call that may do more than to give back a session factory or an engine stays, without its
    name. Raises NotFixableError where a comment would be left beside nothing.
    """
    gone = taken_out(rewrites)
    found: list[Rewrite] = []
    while (replacements := next(_leftovers(module, gone, found), None)) is not None:
        for replacement in replacements:
            found.append(Rewrite(Applicability.SAFE, "", (replacement,)))
            gone |= taken_out(found[-1:])
    return found


def _leftovers(
    module: Module, gone: dict[int, cst.CSTNode], found: Sequence[Rewrite]
) -> Iterator[list[_Replacement]]:
    """Yield how the assignments of a local go that nothing uses any more, for each local."""
    lines_gone = {id(old) for rewrite in found for old, new in rewrite.replacements if new is None}
    seen: set[tuple[int, str]] = set()
    for name in gone.values():
        if not isinstance(name, cst.Name) or not _may_be_local(module, name):
            continue
        for function in module.ancestors(name):
            if not isinstance(function, cst.FunctionDef) or (id(function), name.value) in seen:
                continue
            seen.add((id(function), name.value))
            assignments = _assignments(module, function, name.value)
            if not assignments or any(id(one) in gone for one in assignments):
                continue
            targets = {id(_target(one)) for one in assignments}
            if any(
                other.value in (name.value, "locals") and id(other) not in targets | gone.keys()
                for other in walk(function)
                if isinstance(other, cst.Name)
            ):
                continue
            replacements = list(_without_all(module, assignments, lines_gone))
            if len(replacements) == len(assignments):
                yield replacements


def _may_be_local(module: Module, name: cst.Name) -> bool:
    """Return whether a function binds a name: for others, as most are, none need be searched."""
    bound = module.bindings(module.expr(name), module.place(name))
    return any(binding.place.scope.kind == "function" for binding in bound)


def _assignments(module: Module, function: cst.FunctionDef, name: str) -> list[_Assignment]:
    """Return all ways in which a local variable gets its values, or none where some are others."""
    found = [
        node
        for node in walk(function.body)
        if isinstance(node, (cst.Assign, cst.AnnAssign, cst.NamedExpr))
        and node.value is not None
        and isinstance(target := _target(node), cst.Name)
        and target.value == name
    ]
    if not found:
        return []
    assert found[0].value is not None
    bindings = module.place(found[0].value).scope.bindings.get(name, [])
    return found if len(bindings) == len(found) else []


def _target(assignment: _Assignment) -> cst.BaseExpression | None:
    """Return the one thing that is assigned to."""
    if not isinstance(assignment, cst.Assign):
        return assignment.target
    return assignment.targets[0].target if len(assignment.targets) == 1 else None


def _without_all(
    module: Module, assignments: Sequence[_Assignment], lines_gone: set[int]
) -> Iterator[_Replacement]:
    """Yield what becomes of each assignment, up to the first that has to stay."""
    lines_gone = set(lines_gone)
    for assignment in assignments:
        replacement = _without(module, assignment, lines_gone)
        if replacement is None:
            return
        if replacement[1] is None:
            lines_gone.add(id(replacement[0]))
        yield replacement


def _without(module: Module, assignment: _Assignment, lines_gone: set[int]) -> _Replacement | None:
    """Return what becomes of an assignment, or None where it has to stay."""
    value = assignment.value
    assert value is not None
    called = module.evaluate(value.func) if isinstance(value, cst.Call) else ()
    # What builds a factory or an engine is a finding of its own.
    if any(openings.is_maker(one) for one in called):
        return None
    if isinstance(assignment, cst.NamedExpr):
        lpar, rpar = (*assignment.lpar, *value.lpar), (*value.rpar, *assignment.rpar)
        return assignment, value.with_changes(lpar=lpar, rpar=rpar)
    does_no_more = isinstance(value, (cst.Name, cst.Attribute)) or (
        isinstance(value, cst.Call)
        and not value.args
        and len(called) > 0
        and all(
            isinstance(one, LocalFunction) and _only_makes(one) and not does_more(one)
            for one in called
        )
    )
    line = module.parent(assignment)
    suite = module.parent(line) if line is not None else None
    if does_no_more and isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1:
        others = suite.body if isinstance(suite, cst.IndentedBlock) else ()
        if (
            line.trailing_whitespace.comment is None
            and sum(id(other) not in lines_gone for other in others) > 1
        ):
            return line, None
    if isinstance(value, (cst.Call, cst.Await)):
        return assignment, cst.Expr(value)
    if not does_no_more:
        return None
    if (
        isinstance(line, cst.SimpleStatementLine)
        and len(line.body) == 1
        and line.trailing_whitespace.comment is not None
    ):
        name = module.code(_target(assignment) or assignment)
        raise NotFixableError(f"a comment stands beside `{name} = …`, which nothing would use")
    return assignment, cst.Pass()


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
