"""Builds a module's table of names; what the front ends for `ast` and LibCST have in common."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from session_guard.names.bindings import (
    Assigned,
    Binding,
    Call,
    Class,
    Constant,
    Display,
    Function,
    Place,
    Ref,
    Scope,
    Store,
    tells_of_another_database,
    tells_of_postgresql,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from session_guard.names.bindings import Branches, Expr, ScopeKind


_NEGATION = re.compile(r"\bnot\b|!=")
_EITHER, _BOTH = re.compile(r"\bor\b"), re.compile(r"\band\b")

# A parameter's name, annotation and default.
Parameter = tuple[str, "Expr | None", "Expr | None"]


class TableBuilder:
    """Keeps track of the scope, the order and the branches while a front end walks a module."""

    def __init__(self) -> None:
        self.module_scope = Scope("module", None)
        self.scope = self.module_scope
        self.order = 0
        self.branches: Branches = ()
        self.functions: list[Function] = []
        self.type_checking = False
        self._branchings = 0
        self._here = Place(self.scope, self.order, self.branches)

    def here(self) -> Place:
        """Return the place of the statement that is being walked."""
        here = self._here
        if (
            here.order != self.order
            or here.scope is not self.scope
            or here.branches is not self.branches
        ):
            here = self._here = Place(self.scope, self.order, self.branches)
        return here

    def advance(self) -> None:
        """Begin the next statement or binding: what comes now is later than what came."""
        self.order += 1

    def bind(
        self,
        name: str,
        kind: Literal["import", "assign", "class", "function", "parameter", "other"],
        value: Expr | Function | Class | None = None,
        target: str = "",
        *,
        entered: bool = False,
    ) -> None:
        """Bind `name` in the current scope; comprehensions leave walrus targets to their owner."""
        place, type_checking = self.here(), self.type_checking
        self.scope.bind(name, Binding(kind, place, target, value, type_checking, entered))

    def annotate(self, target: Expr, annotation: Expr) -> None:
        """Record the annotation of a name, or of an attribute of a method's receiver."""
        found = (annotation, self.here())
        self.module_scope.annotated.append(found)
        if not isinstance(target, Ref):
            return
        *owner, name = target.parts
        around = self.scope.parent
        if not owner:
            self.scope.annotations.setdefault(name, []).append(found)
        elif owner == [self.scope.receiver] and around is not None:
            around.annotations.setdefault(name, []).append(found)

    def bind_parameters(self, parameters: Iterable[Parameter], outside: Place) -> None:
        """Bind parameters; what is said of them is evaluated `outside` of the function."""
        for name, annotation, default in parameters:
            self.bind(name, "parameter")
            if annotation is not None:
                found = (annotation, outside)
                self.module_scope.annotated.append(found)
                self.scope.annotations[name] = [found]
            if default is not None:
                self.scope.defaults[name] = (default, outside)
        self.advance()

    def defined(
        self, name: str, bases: tuple[Expr, ...], place: Place, scope: Scope, *, is_made_over: bool
    ) -> Class:
        """Record a class, and return it."""
        definition = Class(name, bases, place, scope, is_made_over)
        self.module_scope.classes.append(definition)
        return definition

    def annotate_result(self, function: Function, annotation: Expr | None) -> None:
        """Record what a function is annotated to give back."""
        function.returned_type = annotation
        if annotation is not None:
            self.module_scope.annotated.append((annotation, function.place))

    def bind_attribute(self, owner: Expr, name: str, value: Expr | None, node: object) -> None:
        """Bind `owner.name`: where the owner is the receiver of a method, in the class.

        Where it is deleted, `value` is None.
        """
        if not isinstance(owner, Ref):
            return
        around = self.scope.parent
        if owner.parts == (self.scope.receiver,) and around is not None:
            if value is not None:
                binding = Binding("assign", self.here(), "", value)
                around.attributes.setdefault(name, []).append(binding)
        else:
            assigned = self.module_scope.assigned_attributes.setdefault((*owner.parts, name), [])
            assigned.append(Assigned(value, self.here(), node))
            if owner.parts[-1] == "state" and value is not None:
                self.module_scope.state.setdefault(name, []).append((value, self.here()))

    def bind_type_alias(self, name: str, value: Expr) -> None:
        """Bind what `type name = value` binds."""
        self.scope.bind(name, Binding("assign", self.here(), value=value, deferred=True))

    def star_import(self, module: str) -> None:
        """Record what `from module import *` may bind."""
        self.scope.star_imports.append((module, self.here()))

    def bind_outside_comprehensions(self, name: str, value: Expr) -> None:
        """Bind the target of a `:=`, which belongs to the scope round the comprehensions."""
        scope = self.scope
        while scope.kind == "comprehension" and scope.parent is not None:
            scope = scope.parent
        place = Place(scope, self.order, self.branches if scope is self.scope else ())
        scope.bind(name, Binding("assign", place, "", value, self.type_checking))

    def bind_import(self, dotted: str, alias: str | None) -> None:
        """Bind what `import dotted` or `import dotted as alias` binds."""
        if alias is not None:
            self.bind(alias, "import", target=dotted)
        else:
            first = dotted.split(".", 1)[0]
            self.bind(first, "import", target=first)

    def bind_import_from(self, module: str, names: Iterable[tuple[str, str | None]]) -> None:
        """Bind what `from module import names` binds; `module` keeps its leading dots."""
        prefix = module if module.endswith(".") else f"{module}."
        for name, alias in names:
            self.bind(alias or name, "import", target=f"{prefix}{name}")

    def receiver(self, parameters: Iterable[str]) -> str | None:
        """Return the first of a function's parameters where the function is a method."""
        is_method = self.scope.parent is not None and self.scope.parent.kind == "class"
        return next(iter(parameters), None) if is_method else None

    def new_branching(self) -> int:
        """Number a statement whose parts may or may not run."""
        self._branchings += 1
        return self._branchings

    @contextmanager
    def branch(self, branching: int, arm: int = 0) -> Iterator[None]:
        """Walk one arm of a branching statement."""
        outer = self.branches
        self.branches = (*outer, (branching, arm))
        try:
            yield
        finally:
            self.branches = outer

    def tested(self, branching: int, arm: int, other_arm: int, test: str) -> None:
        """Record the test of a branch, as it is written, and what it says of the database."""
        if arm != other_arm:
            self.module_scope.tests[branching] = test
        if tells_of_postgresql(test) and not _EITHER.search(test) and not _BOTH.search(test):
            if "!=" in test:
                self.module_scope.elsewhere.add((branching, arm))
            elif "==" in test:
                self.module_scope.elsewhere.add((branching, other_arm))
        if not tells_of_another_database(test) or _EITHER.search(test):
            return
        if not _NEGATION.search(test):
            self.module_scope.elsewhere.add((branching, arm))
        elif not _BOTH.search(test):
            self.module_scope.elsewhere.add((branching, other_arm))

    @contextmanager
    def within(self, kind: ScopeKind) -> Iterator[Scope]:
        """Walk an inner scope."""
        outer, branches = self.scope, self.branches
        self.scope, self.branches = Scope(kind, outer, self.here()), ()
        try:
            yield self.scope
        finally:
            self.scope, self.branches = outer, branches

    @contextmanager
    def returning_to(self, function: Function) -> Iterator[None]:
        """Walk a function's body: `return` and `yield` belong to it."""
        self.functions.append(function)
        try:
            yield
        finally:
            self.functions.pop()

    @contextmanager
    def under_type_checking(self, applies: bool) -> Iterator[None]:
        """Walk the body of an `if`, which is `if TYPE_CHECKING` where `applies`."""
        outer = self.type_checking
        self.type_checking = outer or applies
        try:
            yield
        finally:
            self.type_checking = outer

    def returned(self, value: Expr) -> None:
        """Record what the function that is being walked returns."""
        if self.functions:
            self.functions[-1].returns.append((value, self.here()))

    def called(self, call: Expr) -> None:
        """Record a call, for the module and for the function that is being walked."""
        assert isinstance(call, Call)
        found = (call, self.here())
        self.module_scope.calls.append(found)
        if self.functions:
            self.functions[-1].calls.append(found)

    def stored(self, owner: Expr, key: Expr, value: Expr | None, node: object) -> None:
        """Record an assignment to an item, or its removal."""
        self.module_scope.stores.append(Store(owner, key, value, self.here(), node))

    def yielded(self, value: Expr | None) -> None:
        """Record what the function that is being walked yields, which makes it a generator."""
        if self.functions:
            function = self.functions[-1]
            function.is_generator = True
            if value is not None:
                function.yields.append((value, self.here()))
                # A lifespan: it takes the application and yields what is to be in its state.
                if function.is_async and len(function.given_by_position) == 1:
                    for key, item in _entries(value):
                        self.module_scope.state.setdefault(key, []).append((item, self.here()))


def _entries(value: Expr) -> Iterator[tuple[str, Expr]]:
    """Yield the keys and values of a dictionary, or of a call that makes a typed one."""
    if isinstance(value, Display):
        for key, item in value.items:
            if isinstance(key, Constant) and isinstance(key.value, str):
                yield key.value, item
    elif isinstance(value, Call):
        for name, item in value.keywords:
            if name is not None:
                yield name, item
