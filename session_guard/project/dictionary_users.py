"""Who uses a dictionary beside the call whose fix would edit it where it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.bindings import lookup
from session_guard.names.values import External
from session_guard.rewriting.arguments import NotFixableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from session_guard.module import Module

    _Test = Callable[[cst.Call], bool]

# What has the keys of a dictionary in it that stands in it.
_HOLDERS = (cst.Dict, cst.DictElement, cst.StarredDictElement, cst.Arg, cst.IfExp)
_JOINING = (cst.BooleanOperation, cst.BinaryOperation)
_COPIERS = (External("dict"), External("functools.partial"))
_CHANGING = frozenset({"update", "setdefault"})
_METHODS = _CHANGING | {"copy"}


def ensure_own(
    call: cst.Call, node: cst.CSTNode, module: Module, may_have: _Test = lambda _: False
) -> None:
    """Raise NotFixableError where other code may use what `node` is, or sets a key of, than a call.

    Calls that `may_have` it as well are no other code.
    """
    waiting, known = [node], set[int]()
    while waiting:
        current = waiting.pop()
        for target in _targets(current, module, lambda other: other is call or may_have(other)):
            if id(target) not in known:
                known.add(id(target))
                waiting.extend(_uses(target, module))


def _targets(node: cst.CSTNode, module: Module, takes: _Test) -> Iterator[cst.Name]:
    """Yield the names under which a value is to be had; none where a call takes it that may.

    Raises NotFixableError where something else may take it.
    """
    parent = module.parent(node)
    while parent is not None:
        if isinstance(parent, cst.Call) and takes(parent):
            return
        match parent:
            case cst.Assign(targets=targets) if parent.value is node:
                for item in targets:
                    yield _name(item.target, item, module)
                return
            case cst.AnnAssign(target=target) if parent.value is node:
                yield _name(target, parent, module)
                return
            case cst.AssignTarget(target=cst.Subscript() as item):
                yield _name(item, parent, module)
                return
            case cst.Expr(value=cst.Call(func=cst.Attribute(value=owner, attr=attr))):
                if attr.value in _CHANGING:
                    yield _name(owner, parent, module)
                    return
            case cst.Return():
                yield _function(parent, module)
                return
        if not _hands_on(parent, node, module):
            break
        node, parent = parent, module.parent(parent)
    raise NotFixableError(f"`{module.code(node)}` has other users")


def _hands_on(parent: cst.CSTNode, node: cst.CSTNode, module: Module) -> bool:
    """Return whether an expression has the keys of a part of it, and nothing else is done there."""
    match parent:
        case cst.Call(func=func):
            is_changed = isinstance(func, cst.Attribute) and func.attr.value in _CHANGING
            copies = any(value in _COPIERS for value in module.evaluate(func))
            return node is func or is_changed or copies
        case cst.Attribute(attr=attr):
            is_called = isinstance(module.parent(parent), cst.Call)
            return node is attr or (is_called and attr.value in _METHODS)
        case cst.Subscript(value=owner):
            return node is owner and isinstance(module.parent(parent), cst.AssignTarget)
    return isinstance(parent, (*_HOLDERS, *_JOINING))


def _name(node: cst.BaseExpression, of: cst.CSTNode, module: Module) -> cst.Name:
    match node:
        case cst.Name():
            return node
        case cst.Attribute(attr=attr):
            return attr
        case cst.Subscript(value=owner):
            return _name(owner, of, module)
    raise NotFixableError(f"`{module.code(of)}` may have other users")


def _function(returning: cst.Return, module: Module) -> cst.Name:
    function = next(a for a in module.ancestors(returning) if isinstance(a, cst.FunctionDef))
    return function.name


def _uses(target: cst.Name, module: Module) -> Iterator[cst.CSTNode]:
    """Yield where a file uses what it binds to a name.

    Raises NotFixableError where other files use it.
    """
    name, own = target.value, _own_function(target, module)
    if own is None:
        if f'"{name}"' in module.text or f"'{name}'" in module.text:
            raise NotFixableError(f"`{name}` may be used by its name")
        user = module.project.user_of(name, module.path)
        if user is not None:
            raise NotFixableError(f"{user} uses `{name}` too, or may")
    is_plain = isinstance(module.parent(target), (cst.AssignTarget, cst.AnnAssign))
    for use in module.named(name):
        if use is target or _binds(use, module):
            continue
        if own is not None and own not in module.ancestors(use):
            continue
        if own is None and is_plain and _is_local(use, module):
            continue
        yield use


def _own_function(target: cst.Name, module: Module) -> cst.FunctionDef | None:
    """Return the function that a name is local to, or None where other files may use it."""
    parent = module.parent(target)
    if isinstance(parent, cst.Attribute) and parent.attr is target:
        return None
    if target.value in module.place(target).scope.globals:
        return None
    around = module.ancestors(parent if isinstance(parent, cst.FunctionDef) else target)
    for ancestor in around:
        if isinstance(ancestor, cst.ClassDef):
            return None
        if isinstance(ancestor, cst.FunctionDef):
            return ancestor
    return None


def _binds(use: cst.Name, module: Module) -> bool:
    """Return whether a name stands where it is bound or is an argument's, and is no use."""
    match module.parent(use):
        case cst.AssignTarget() | cst.ImportAlias() | cst.FunctionDef():
            return True
        case cst.AnnAssign(target=bound) | cst.Arg(keyword=bound) | cst.Param(name=bound):
            return bound is use
        case cst.Attribute(attr=attr) as attribute if attr is use:
            return isinstance(module.parent(attribute), cst.AssignTarget)
    return False


def _is_local(use: cst.Name, module: Module) -> bool:
    """Return whether a name is another one, of the function that it stands in."""
    parent = module.parent(use)
    if isinstance(parent, cst.Attribute) and parent.attr is use:
        return False
    bindings = lookup(use.value, module.place(use)) or ()
    return bool(bindings) and all(b.place.scope.kind == "function" for b in bindings)
