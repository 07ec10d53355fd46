"""Which `refresh()` reads other objects too, those that the session has not anew.

An object that a relationship leads to and that the session knows already keeps its values, unless
a commit expired them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names import openings
from session_guard.names.from_libcst import walk
from session_guard.safety.loaded import classes_held

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from session_guard.module import Module
    from session_guard.names.values import LocalClass

# Options that load nothing together with an object.
_LOADS_LATER = frozenset(
    "defer lazyload load_only noload raiseload undefer with_expression".split()
)


def reads_others(
    module: Module,
    call: cst.Call,
    block: cst.BaseSuite,
    session: str | None,
    classes: Sequence[LocalClass],
) -> bool:
    """Return whether `refresh()` in a block, which names some classes, may follow a relationship.

    It follows those that it is told of, and else those that are loaded together with the object.
    """
    if not call.args:
        return False
    project = module.project
    for argument in call.args[1:]:
        if argument.keyword is None or argument.keyword.value == "attribute_names":
            names = _written_out(argument.value)
            return names is None or not project.relationships.isdisjoint(names)
    held = classes_held(module, call.args[0].value, session)
    known = [owner for owner in held if owner is not None]
    owners = known if len(known) == len(held) else classes
    eager = project.eager_relationships
    return _has_loader(module, block) or bool(
        eager and (not owners or any(_has_one_of(owner, eager) for owner in owners))
    )


def _written_out(node: cst.BaseExpression) -> set[str] | None:
    """Return the strings of a list, a tuple or a set, or None where there may be others."""
    if not isinstance(node, (cst.List, cst.Tuple, cst.Set)):
        return None
    items = [element.value for element in node.elements]
    texts = [item.raw_value for item in items if isinstance(item, cst.SimpleString)]
    return set(texts) if len(texts) == len(items) else None


def _has_one_of(owner: LocalClass, names: Iterable[str]) -> bool:
    return any(
        name in one.definition.scope.bindings for one in openings.lineage(owner) for name in names
    )


def _has_loader(module: Module, block: cst.BaseSuite) -> bool:
    """Return whether a block may load related objects together: by `.options(joinedload(...))`.

    The statement may have been built before it.
    """
    parts = list(walk(block))
    for name in [part for part in parts if isinstance(part, cst.Name)]:
        for binding in module.bindings(module.expr(name), module.place(name)):
            built = getattr(binding.value, "node", None)
            if isinstance(built, cst.Call):
                parts += walk(built)
    return any(not _loads_later(option) for part in parts for option in _options(part))


def _options(node: cst.CSTNode) -> Iterator[cst.BaseExpression]:
    """Yield the options that a part of a statement gives to a query."""
    match node:
        case cst.Call(func=cst.Attribute(attr=cst.Name("options"))):
            yield from (argument.value for argument in node.args)
        case cst.Arg(keyword=cst.Name("options"), value=cst.List() | cst.Tuple() as listed):
            yield from (element.value for element in listed.elements)
        case cst.Arg(keyword=cst.Name("options")):
            yield node.value


def _loads_later(option: cst.BaseExpression) -> bool:
    """Return whether an option begins with what loads nothing together: `defer(User.photo)`."""
    called: cst.BaseExpression | None = None
    while isinstance(option, cst.Call):
        called = option.func
        option = called.value if isinstance(called, cst.Attribute) else called
    match called:
        case cst.Name(value=name) | cst.Attribute(attr=cst.Name(value=name)):
            return name in _LOADS_LATER
    return False
