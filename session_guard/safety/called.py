"""The functions of the project that a block hands its session to, and with what."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.module import Module
from session_guard.names.bindings import Function, Ref, class_of_receiver
from session_guard.names.values import LocalClass, LocalFunction
from session_guard.project import assigning
from session_guard.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from session_guard.names.bindings import Scope
    from session_guard.project.project import Project
    from session_guard.sources import Decoded

DEEPEST = 4
"""Functions that a session is followed through, one called by the next."""


@dataclass(frozen=True, slots=True)
class Called:
    """A coroutine function that surely runs where it is awaited, and what it gets."""

    module: Module
    function: cst.FunctionDef
    session: str
    """The parameter that the session is given for."""
    given: Mapping[str, cst.BaseExpression]
    """What the other parameters are given, in the file of the call."""


def called_with(module: Module, call: cst.Call, session: str | None) -> Called | None:
    """Return what a call that is awaited hands the session to; None where that is not known.

    It is a function at a module's top level, or a method of the caller's own class that no class
    overrides; nothing decorates it, and nobody puts another in its place.
    """
    if session is None or not isinstance(module.parent(call), cst.Await):
        return None
    known, key = module.once(_answers), (id(call), session)
    if key not in known:
        known[key] = _called_with(module, call, session)
    return known[key]


def _answers(module: Module) -> dict[tuple[int, str], Called | None]:
    """Return where answers are kept, by the `id` of nodes of the module's tree."""
    return {}


def _called_with(module: Module, call: cst.Call, session: str) -> Called | None:
    if any(argument.star for argument in call.args):
        return None
    found = module.evaluate(call.func)
    function = found[0] if len(found) == 1 else None
    if not isinstance(function, LocalFunction) or not _is_plain(function, call, module):
        return None
    home = (
        module
        if function.home.path == module.path
        else _module_of(module.project, function.home.path)
    )
    node = _node_of(function, home) if home is not None else None
    if home is None or node is None:
        return None
    given = _given(call, node, is_method=function.definition.scope.receiver is not None)
    if given is None:
        return None
    names = [
        name
        for name, value in given.items()
        if isinstance(value, cst.Name) and value.value == session
    ]
    others = {name: value for name, value in given.items() if name not in names}
    return Called(home, node, names[0], others) if len(names) == 1 else None


def _is_plain(function: LocalFunction, call: cst.Call, module: Module) -> bool:
    """Return whether a call runs this very function, and nothing round it."""
    definition, project = function.definition, module.project
    if not definition.is_async or definition.is_generator or definition.decorators:
        return False
    home = function.home.path
    looked_up = {definition.name, *_names_in(call.func, module), "__class__"}
    if any(project.assigned_elsewhere(name) is not None for name in sorted(looked_up)):
        return False
    if home != module.path and project.is_another_module(home):
        return False
    if module.once(_sets_any_global):
        return False
    around = definition.place.scope
    if around.definition is None:
        return around.kind == "module"
    owner = LocalClass(around.definition, function.home)
    # A comprehension has a scope of its own, and the method's names round it.
    name = call.func.value if isinstance(call.func, cst.Attribute) else None
    if not isinstance(name, cst.Name):
        return False
    bindings = module.bindings(module.expr(name), module.place(call))
    callers = [binding.place.scope for binding in bindings if binding.kind == "parameter"]
    return (
        0 < len(callers) == len(bindings)
        and all(name.value == caller.receiver for caller in callers)
        and not project.may_run_another(owner, definition.name)
        and not any(_is_borrowed(caller, module) for caller in callers)
    )


def _is_borrowed(caller: Scope, module: Module) -> bool:
    """Return whether a method may run for an object of a class that it does not stand in."""
    function, around = caller.function, caller.parent
    if function is None or around is None or around.definition is None:
        return True
    owner = LocalClass(around.definition, module.names)
    # One of the class itself gets the class that it is taken from.
    return not function.is_decorated("classmethod") and module.project.is_borrowed(
        owner, function.name
    )


def _sets_any_global(module: Module) -> bool:
    return assigning.sets_any_global(module.names)


def _names_in(function: cst.BaseExpression, module: Module) -> Iterator[str]:
    """Yield the names by which a function is looked up, but for a receiver's."""
    match module.expr(function):
        case Ref((first, *rest)):
            is_receiver = class_of_receiver(first, module.place(function)) is not None
            yield from rest if is_receiver else (first, *rest)


def _module_of(project: Project, path: Path) -> Module | None:
    """Return another file of the project, parsed; None where it cannot be."""
    decoded = project.decoded(path)
    return _parsed(project, path, decoded) if decoded is not None else None


@functools.lru_cache(maxsize=8)  # one file's functions are handed sessions by many others
def _parsed(project: Project, path: Path, decoded: Decoded) -> Module | None:
    try:
        return Module(path, decoded, project, frozenset())
    except (cst.ParserSyntaxError, RecursionError):
        return None


def _node_of(function: LocalFunction, home: Module) -> cst.FunctionDef | None:
    """Return a function in the tree of its file, where there is one of its name."""
    owner = function.definition.place.scope.definition
    scopes = [home.names.scope]
    if owner is not None:
        scopes = [one.scope for one in home.names.scope.classes if one.name == owner.name]
    found = [
        binding.value.node if isinstance(binding.value, Function) else None
        for scope in scopes
        for binding in scope.bindings.get(function.definition.name, ())
    ]
    node = found[0] if len(found) == 1 else None
    return node if isinstance(node, cst.FunctionDef) else None


def _given(
    call: cst.Call, function: cst.FunctionDef, *, is_method: bool
) -> dict[str, cst.BaseExpression] | None:
    """Return what each parameter is given by a call; None where that is not plain."""
    parameters = function.params
    positional = [p.name.value for p in (*parameters.posonly_params, *parameters.params)]
    if is_method:
        positional = positional[1:]
    every = {*positional, *(p.name.value for p in parameters.kwonly_params)}
    given: dict[str, cst.BaseExpression] = {}
    names: Iterator[str] = iter(positional)
    for argument in call.args:
        name = argument.keyword.value if argument.keyword is not None else next(names, None)
        if name is None or name not in every or name in given:
            return None
        given[name] = argument.value
    return given
