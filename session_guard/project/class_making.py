"""Which classes a file makes otherwise than by `class X(A, B)`, and which methods it borrows."""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING, NamedTuple

from session_guard.names import openings
from session_guard.names.bindings import Ref, end_of
from session_guard.names.values import UNKNOWN, External, LocalClass
from session_guard.project.takers import parts_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from session_guard.names.values import Namespace, Value

MAKES_CLASSES = (
    rb"\btype\s*\((?:[^()]|\([^()]*\))*,|\btype\s*\(\s*[A-Za-z]{0,2}[\"']"
    rb"|\b(?:new_class|make_dataclass|create_model)\b|\bABCMeta\s*\(|\b__bases__\b"
    rb"|(?m:^[ \t]*class\s+\w+\s*(?:\[[^\]]*\]\s*)?\([^)]*\*[ \t]*[^*\s])"
)
"""What is in the bytes of a file that makes classes so."""
_MAKERS = frozenset({"type", "new_class", "make_dataclass", "create_model", "ABCMeta"})
_BASES = frozenset({"bases", "__base__"})


class Made(NamedTuple):
    """A class that is made, or of which the bases are set: what it is made of."""

    bases: tuple[tuple[str, ...], ...] | None
    """Dotted names; what is no plain name has an empty first part; None where they are unknown."""


def made_in(tree: ast.Module) -> Iterator[Made]:
    """Yield the classes that a file makes otherwise, each with what it may derive from."""
    of_node = _classes(tree)
    tuples = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(bases=bases):
                for base in bases:
                    if isinstance(base, ast.Starred):
                        yield _made_of(base.value, tuples)
            case ast.Call(func, args, keywords) if parts_of(func)[-1] in _MAKERS:
                if len(args) > 1:
                    yield _made_of(args[1], tuples)
                for keyword in keywords:
                    if keyword.arg in _BASES:
                        yield _made_of(keyword.value, tuples)
            case ast.Assign(targets, value):
                for target in targets:
                    if isinstance(target, ast.Attribute) and target.attr == "__bases__":
                        made = _made_of(value, tuples)
                        changed = _of_receiver(target.value, of_node.get(node))
                        yield made if made.bases is None else Made((changed, *made.bases))


def _made_of(bases: ast.expr, tuples: dict[str, ast.expr]) -> Made:
    if isinstance(bases, ast.Name):
        bases = tuples.get(bases.id, bases)
    if isinstance(bases, (ast.Tuple, ast.List)):
        return Made(tuple(map(parts_of, bases.elts)))
    return Made(None)


def _classes(tree: ast.Module) -> dict[ast.AST, str]:
    """Return in which class each part of a file stands, the innermost."""
    return {
        part: node.name
        for node in ast.walk(tree)  # a class in another comes behind that
        if isinstance(node, ast.ClassDef)
        for part in ast.walk(node)
    }


def _of_receiver(node: ast.expr, around: str | None) -> tuple[str, ...]:
    """Return a dotted name; of `self.__class__` and `type(self)` that of the class round it."""
    match node:
        case (
            ast.Attribute(ast.Name("self"), "__class__")
            | ast.Call(ast.Name("type"), [ast.Name("self")])
            | ast.Name("cls")
        ) if around is not None:
            return (around,)
    return parts_of(node)


def may_derive(made: Made, owner: LocalClass, names: Namespace) -> bool:
    """Return whether what a file makes may derive from a class."""
    return made.bases is None or any(
        not isinstance(value, External)
        and (not isinstance(value, LocalClass) or _derives_from(value, owner))
        for parts in made.bases
        for value in _evaluated(parts, names) or (UNKNOWN,)
    )


def _derives_from(one: Value, other: LocalClass) -> bool:
    return isinstance(one, LocalClass) and any(
        base.key == other.key for base in openings.lineage(one)
    )


def _evaluated(parts: tuple[str, ...], names: Namespace) -> tuple[Value, ...]:
    """Return what a dotted name stands for at the end of a file; nothing for a local name."""
    scope = names.scope
    if parts[0] in scope.bindings or scope.star_imports or hasattr(builtins, parts[0]):
        return names.evaluate(Ref(parts), end_of(scope))
    return ()


def borrows(
    tree: ast.Module, method: str, owner: LocalClass, known: Container[str], names: Namespace
) -> bool:
    """Return whether a file may run a method of a class for objects of others.

    It does where it takes the method from the class: `show = Plain.show`, `Plain.show(other)`.
    `known` are the names of the class, and of those that it derives from and that derive from it.
    """
    of_node = _classes(tree)
    own: set[ast.AST] = set()
    """Methods that are called for an object of a class that derives from it."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func, [ast.Name("self"), *_]) if node in of_node and any(
                _derives_from(value, owner) for value in _evaluated((of_node[node],), names)
            ):
                own.add(func)
            case ast.Attribute(value, attr) if attr == method and node not in own:
                found = _evaluated(parts_of(value), names)
                if any(
                    _derives_from(one, owner)
                    or (isinstance(one, LocalClass) and _derives_from(owner, one))
                    for one in found
                ):
                    return True
                if set(found) <= {UNKNOWN} and parts_of(value)[-1] in known:
                    return True
    return False
