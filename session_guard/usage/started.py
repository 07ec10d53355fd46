"""Which awaitables a call starts at once: given to it one by one, or in what was built before."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.bindings import lookup
from session_guard.names.from_libcst import walk
from session_guard.names.held import annotated_parameter
from session_guard.names.values import External, LocalFunction, Result
from session_guard.records import dataclass
from session_guard.usage.starters import CREATE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from session_guard.module import Module
    from session_guard.names.held import Held, Key

_DEEPEST = 5


@dataclass(frozen=True, slots=True)
class Started:
    """A coroutine that is started, with whether more than one may be started there."""

    node: cst.BaseExpression
    is_many: bool
    mapped: Sequence[cst.Arg] | None = None
    """Of `map(node, …)`: what `node`, which is a function then, is called with."""


class Starting:
    """Finds what the calls of one module start."""

    def __init__(self, module: Module) -> None:
        self._module = module

    def names(self, node: cst.BaseExpression) -> set[str]:
        """Return the dotted names of what an expression stands for, where others define it."""
        return {v.dotted for v in self._module.evaluate(node) if isinstance(v, External)}

    def kinds(self, owner: cst.BaseExpression) -> set[str]:
        """Return the dotted names of what made an object, or of its annotation."""
        found: set[str] = set()
        for value in self._module.evaluate(owner):
            if isinstance(value, Result) and isinstance(value.function, External):
                found.add(value.function.dotted)
        if isinstance(owner, cst.Name):
            place = self._module.place(owner)
            classes = annotated_parameter(owner.value, place, self._module.names)
            found.update(value.dotted for value in classes if isinstance(value, External))
        return found

    def is_task(self, node: cst.CSTNode) -> bool:
        """Return whether an expression starts a task of its own."""
        return isinstance(node, cst.Call) and (
            bool(self.names(node.func) & CREATE)
            or self.method(node.func) in ("create_task", "run_in_executor")
        )

    def method(self, function: cst.BaseExpression) -> str:
        """Return the name of a method that is no function of the project, or nothing."""
        if not isinstance(function, cst.Attribute) or any(
            isinstance(value, LocalFunction) for value in self._module.evaluate(function)
        ):
            return ""
        return function.attr.value

    def expanded(self, args: Sequence[cst.Arg]) -> Iterator[Started]:
        """Yield the awaitables that `gather(*args)` starts."""
        for argument in args:
            if argument.keyword is not None:
                continue
            if argument.star == "*":
                yield from self.items(argument.value)
            else:
                yield Started(argument.value, is_many=False)

    def items(self, node: cst.CSTNode, depth: int = 0) -> Iterator[Started]:
        """Yield the awaitables that an iterable holds, whether built here or before."""
        if depth > _DEEPEST:
            return
        match node:
            case cst.ListComp() | cst.GeneratorExp() | cst.SetComp():
                yield Started(node.elt, is_many=True)
            case cst.DictComp():
                yield Started(node.value, is_many=True)
            case cst.List() | cst.Tuple() | cst.Set():
                for element in node.elements:
                    if isinstance(element, cst.StarredElement):
                        yield from self.items(element.value, depth + 1)
                    else:
                        yield Started(element.value, is_many=False)
            case cst.Dict():
                for item in node.elements:
                    if isinstance(item, cst.DictElement):
                        yield Started(item.value, is_many=False)
            case cst.BinaryOperation(operator=cst.Add()):
                yield from self.items(node.left, depth + 1)
                yield from self.items(node.right, depth + 1)
            case cst.IfExp():
                yield from self.items(node.body, depth + 1)
                yield from self.items(node.orelse, depth + 1)
            case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value="values"))):
                yield from self.items(owner, depth + 1)
            case cst.Call(args=[first, *others]):
                names = self.names(node.func)
                if names & {"list", "tuple", "set"}:
                    yield from self.items(first.value, depth + 1)
                elif "map" in names and others and self.names(first.value) & CREATE:
                    yield from self.items(others[0].value, depth + 1)
                elif "map" in names:
                    yield Started(first.value, is_many=True, mapped=others)
            case cst.Name():
                yield from self._built(node, depth)

    @cached_property
    def _assigned(self) -> dict[Key, list[cst.BaseExpression]]:
        """What statements of the module assign to names, by scope and name."""
        found: dict[Key, list[cst.BaseExpression]] = {}
        for node in walk(self._module.tree):
            match node:
                case cst.Assign(value=value):
                    targets = [target.target for target in node.targets]
                case cst.AnnAssign(value=cst.BaseExpression() as value):
                    targets = [node.target]
                case _:
                    continue
            for target in targets:
                if isinstance(target, cst.Name):
                    key = (id(self._module.place(node).scope), target.value)
                    found.setdefault(key, []).append(value)
        return found

    def _built(self, node: cst.Name, depth: int) -> Iterator[Started]:
        """Yield what a list that was built before holds: as assigned, and what was appended.

        Tasks in it have run since they were made, and are looked at there.
        """
        place = self._module.place(node)
        scopes = {id(b.place.scope): b.place.scope for b in lookup(node.value, place) or ()}
        for scope in scopes.values():
            for value in self._assigned.get((id(scope), node.value), ()):
                for item in self.items(value, depth + 1):
                    if not self.is_task(item.node):
                        yield item
            body = scope.function.node if scope.function is not None else None
            for part in walk(body) if isinstance(body, cst.FunctionDef) else ():
                is_many = self.loop_of(part) is not None
                for item in self._added(part, node.value, depth):
                    if not self.is_task(item.node):
                        yield Started(item.node, item.is_many or is_many, item.mapped)

    def _added(self, part: cst.CSTNode, name: str, depth: int) -> Iterator[Started]:
        """Yield what a statement or a call puts into the collection called `name`."""
        match part:
            case cst.Call(
                func=cst.Attribute(value=cst.Name(value=owner), attr=cst.Name(value=method)),
                args=[given, *_],
            ) if owner == name:
                if method == "extend":
                    yield from self.items(given.value, depth + 1)
                elif method in ("append", "add"):
                    yield Started(given.value, is_many=False)
            case cst.AugAssign(target=cst.Name(value=owner)) if owner == name:
                yield from self.items(part.value, depth + 1)
            case cst.Assign(
                targets=[cst.AssignTarget(target=cst.Subscript(value=cst.Name(value=owner)))]
            ) if owner == name:
                yield Started(part.value, is_many=False)

    def loop_of(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """Return the innermost loop of the same function that runs `node` again and again."""
        inner = node
        for ancestor in self._module.ancestors(node):
            if isinstance(ancestor, (cst.FunctionDef, cst.Lambda)):
                return None
            if isinstance(ancestor, (cst.For, cst.While)) and inner is ancestor.body:
                return ancestor
            if isinstance(ancestor, (cst.ListComp, cst.SetComp, cst.GeneratorExp, cst.DictComp)):
                return ancestor
            if isinstance(ancestor, cst.IndentedBlock) and _leaves(ancestor):
                return None
            inner = ancestor
        return None

    def is_new_each_time(self, session: Held, node: cst.CSTNode) -> bool:
        """Return whether the loop round `node` gets the session, or its object, on each round."""
        loop = self.loop_of(node)
        if loop is None:
            return False
        first = session.name.partition(".")[0]
        targets = [
            part.target if isinstance(part, (cst.For, cst.CompFor)) else part
            for part in walk(loop)
            if isinstance(part, (cst.AsName, cst.AssignTarget, cst.For, cst.CompFor))
        ]
        return any(
            isinstance(name, cst.Name) and name.value == first
            for target in targets
            for name in walk(target)
        )


def _leaves(suite: cst.IndentedBlock) -> bool:
    """Return whether a suite ends by leaving the loop round it."""
    last = suite.body[-1] if suite.body else None
    if isinstance(last, cst.SimpleStatementLine):
        return isinstance(last.body[-1], (cst.Return, cst.Raise, cst.Break))
    return False
