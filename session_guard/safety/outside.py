"""Objects from outside that a block takes into its session, and what cannot fail while it has them.

A session that is only closed lets go of them as they are. The handler rolls back after an error:
that expires what they hold, and what was stored is new again.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.bindings import Call, Ref, lookup
from session_guard.names.from_libcst import walk
from session_guard.names.values import LocalClass
from session_guard.safety.columns import is_made_silently
from session_guard.safety.forms import around, comes_again, extent
from session_guard.safety.loaded import (
    FILLS,
    bound_names,
    given_names,
    is_given_to_column,
    is_plain,
    makes_of_values,
)
from session_guard.safety.spelling import is_construction, is_literal, is_of_logger, method_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from session_guard.module import Module
    from session_guard.names.bindings import Binding
    from session_guard.safety.forms import Form

_QUIET_CALLS = frozenset({"bool", "isinstance", "print", "repr", "str"})
_NEVER_FAILING = (cst.Is, cst.IsNot, cst.Equal, cst.NotEqual)
_ENDING = frozenset({"close", "commit", "flush", "rollback"})
_TAKING = frozenset({"add", "add_all", "begin", "begin_nested"})


class Outside:
    """What a block has of objects that were there before, and that others may use behind it."""

    def __init__(
        self,
        module: Module,
        form: Form,
        own: frozenset[str] = frozenset(),
        untold: frozenset[str] = frozenset(),
    ) -> None:
        """`own` are the names from round the block whose objects the program made for it.

        Of those, nobody was told of the ones that are `untold`.
        """
        self._module = module
        self._own = own
        self._untold = untold
        self._block = block = form.block
        self._session = form.name
        self._around = around(form, module)
        self._first, self._last = extent(block, module)
        self._values: dict[str, list[cst.CSTNode]] = {}
        """What the block binds names to, and puts into the collections that they hold."""
        for part in walk(block):
            value, names = bound_names(part)
            for name in names:
                assert value is not None
                self._values.setdefault(name, []).append(value)
            match part:
                case cst.Call(func=cst.Attribute(value=cst.Name(value=name), attr=method)) if (
                    method.value in FILLS
                ):
                    self._values.setdefault(name, []).extend(a.value for a in part.args)

    def gives(self, node: cst.CSTNode, seen: frozenset[str] = frozenset()) -> bool:
        """Return whether an expression may give, or hold, an object from outside the block."""

        def any_of(*parts: cst.CSTNode) -> bool:
            return any(self.gives(part, seen) for part in parts)

        if self._is_read(node) or is_literal(node):
            return False
        match node:
            case cst.Name(value=name):
                if name in seen:
                    return False
                seen |= {name}
                values = self._values.get(name, [])
                if name in self._own:
                    return any_of(*values)
                outside = [
                    binding
                    for binding in lookup(name, self._module.place(node)) or ()
                    if not self._first <= binding.place.order <= self._last + 1
                ]
                if any_of(*values):
                    return True
                return not self._is_made_for_it(node, outside) if outside else not values
            case cst.Attribute() | cst.Subscript() | cst.NamedExpr():
                return any_of(node.value)
            case cst.Call(func=cst.Attribute(attr=cst.Name("model_dump"))):
                return self._module.project.dumps_objects  # pydantic's gives data
            case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name("items" | "values"))):
                return any_of(inner)
            case cst.Call() if is_construction(node):
                return any_of(*(a.value for a in node.args if not self._is_value(a)))
            case cst.Call() if makes_of_values(self._module, node):
                return False
            case cst.ListComp() | cst.SetComp() | cst.GeneratorExp():
                return any_of(node.elt)
            case cst.List() | cst.Tuple() | cst.Set():
                return any_of(*(element.value for element in node.elements))
            case cst.IfExp():
                return any_of(node.body, node.orelse)
            case cst.BooleanOperation():
                return any_of(node.left, node.right)
        return True

    def is_untold(self, node: cst.CSTNode, tracked: frozenset[str]) -> bool:
        """Return whether only the block has what an expression gives: nobody else can change it.

        It loaded or made it, no code of the project saw that it was made, and it goes by the names
        `tracked` alone. What the block does by these is not asked about.
        """
        project = self._module.project
        if (
            project.tracks_mutations
            or project.replaces_constructors
            or project.listener_to_objects is not None
        ):
            return False
        return not self.gives(node) and all(
            part.value in tracked and (part.value not in self._own or part.value in self._untold)
            if isinstance(part, cst.Name)
            else self._is_made_silently(part)
            for part in self._made_of(node)
        )

    def _made_of(self, node: cst.CSTNode) -> Iterator[cst.Name | cst.Call]:
        """Yield the names that an expression's objects go by, and the calls that make them."""
        waiting, seen = [node], set[str]()
        while waiting:
            given = waiting.pop()
            if self._is_read(given):
                continue
            yield from (
                part
                for part in walk(given)
                if isinstance(part, cst.Call)
                and (is_construction(part) or makes_of_values(self._module, part))
            )
            for part in given_names(self._module, given):
                if part.value in seen:
                    continue
                seen.add(part.value)
                yield part
                waiting.extend(self._values.get(part.value, ()))
                for binding in lookup(part.value, self._module.place(part)) or ():
                    made_by = binding.value.node if isinstance(binding.value, Call) else None
                    if isinstance(made_by, cst.Call):
                        waiting.append(made_by)

    def _is_made_silently(self, call: cst.Call) -> bool:
        """Return whether nobody sees a call make its object, and no second name gets it."""
        holder = self._module.parent(call)
        if isinstance(holder, cst.Assign) and len(holder.targets) > 1:
            return False
        owners = self._module.evaluate(call.func)
        return (
            bool(owners)
            and all(isinstance(owner, LocalClass) and is_made_silently(owner) for owner in owners)
            # What is given to anything else may run a property of the class.
            and all(is_given_to_column(self._module, argument) for argument in call.args)
        )

    def _is_value(self, argument: cst.Arg) -> bool:
        """Return whether an argument gives a new object a value, and no other object."""
        value = argument.value
        if is_given_to_column(self._module, argument):
            return True
        if isinstance(value, cst.Name):
            return is_plain(self._module, value)
        return is_literal(value) or isinstance(value, (cst.FormattedString, cst.Comparison))

    def _is_read(self, node: cst.CSTNode) -> bool:
        """Return whether an expression gives what the block's session loaded, or a part of it."""
        while True:
            match node:
                case cst.Await():
                    node = node.expression
                case cst.Attribute() | cst.Subscript():
                    node = node.value
                case cst.Call():
                    if method_of(node, self._session) is not None:
                        return True
                    node = node.func
                case _:
                    return False
            if isinstance(node, cst.Name):
                return False

    def _is_made_for_it(self, name: cst.Name, bindings: Sequence[Binding]) -> bool:
        """Return whether a name holds what its function made for the block, and only reads else."""
        function = self._around[-1]
        inside = {id(part) for part in walk(self._block)}
        made = [
            part.value
            for part in walk(function)
            if isinstance(part, (cst.Assign, cst.AnnAssign))
            and id(part) not in inside
            and name.value in bound_names(part)[1]
        ]
        return (
            not comes_again(self._around)
            and all(
                isinstance(binding.value, Call)
                and isinstance(binding.value.function, Ref)
                and binding.place.scope is self._module.place(name).scope
                for binding in bindings
            )
            and all(
                isinstance(value, cst.Call)
                and is_construction(value)
                and all(self._is_value(argument) for argument in value.args)
                for value in made
            )
            and all(
                self._is_read_of(part)
                for part in walk(function)
                if isinstance(part, cst.Name)
                and part.value == name.value
                and id(part) not in inside
            )
        )

    def _is_read_of(self, name: cst.Name) -> bool:
        """Return whether a name is bound, or an attribute of its object is read."""
        parent = self._module.parent(name)
        if isinstance(parent, cst.Attribute):
            holder = self._module.parent(parent)
            return not (isinstance(holder, cst.Call) and holder.func is parent)
        return isinstance(parent, cst.AssignTarget)

    # -- what cannot fail -------------------------------------------------------------------

    def may_fail(self, node: cst.CSTNode) -> bool:
        """Return whether an error may leave the block from a statement, the session's own aside.

        What stands in the blocks of a statement is not asked about.
        """
        match node:
            case cst.Expr():
                return not self._is_its_own(node.value) and not self._is_quiet(node.value)
            case cst.Assign() | cst.AnnAssign():
                targets = (
                    [target.target for target in node.targets]
                    if isinstance(node, cst.Assign)
                    else [node.target]
                )
                # An attribute may be one that a model validates, or a property.
                is_plain_target = all(isinstance(target, cst.Name) for target in targets)
                return not is_plain_target or (
                    node.value is not None and not self._is_quiet(node.value)
                )
            case cst.Return():
                return node.value is not None and not self._is_quiet(node.value)
            case cst.If() | cst.While():
                return not self._is_quiet(node.test)
            case cst.For():
                return (
                    node.asynchronous is not None
                    or not isinstance(node.target, cst.Name)
                    or not self._is_quiet(node.iter)
                )
            case cst.With():
                return not all(self._is_its_own(item.item) for item in node.items)
            case cst.Raise():
                return not self._is_in_handler(node)
            case cst.Try() | cst.TryStar() | cst.Pass() | cst.Break() | cst.Continue():
                return False
            case cst.Global() | cst.Nonlocal():
                return False
        return True

    def _is_its_own(self, node: cst.BaseExpression) -> bool:
        """Return whether an expression ends a transaction, or takes an object in."""
        call = node.expression if isinstance(node, cst.Await) else node
        method = method_of(call, self._session)
        if not isinstance(call, cst.Call):
            return False
        if method == "refresh":
            # Of another object the row may be gone.
            return all(self._is_taken_in(argument.value) for argument in call.args)
        return method in _ENDING or (
            method in _TAKING and all(self._is_quiet_to_take(a.value) for a in call.args)
        )

    def _is_quiet_to_take(self, node: cst.CSTNode) -> bool:
        """Return whether an argument cannot fail; an object that is made for it, where none may."""
        if isinstance(node, cst.Call) and is_construction(node):
            validates = self._module.project.validates_values
            return not validates and all(self._is_quiet(a.value) for a in node.args)
        return self._is_quiet(node)

    @cached_property
    def _taken_in(self) -> frozenset[str]:
        """The names of what the block gives to `add()` or `add_all()`."""
        return frozenset(
            argument.value.value
            for call in walk(self._block)
            if isinstance(call, cst.Call) and method_of(call, self._session) in ("add", "add_all")
            for argument in call.args
            if isinstance(argument.value, cst.Name)
        )

    def _is_taken_in(self, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.Name) and node.value in self._taken_in

    def _is_quiet(self, node: cst.CSTNode) -> bool:
        def all_of(*parts: cst.CSTNode) -> bool:
            return all(map(self._is_quiet, parts))

        match node:
            case cst.Name():
                return True
            case cst.Attribute():
                return self._has_attributes(node.value)
            case cst.NamedExpr():
                return all_of(node.value)
            case cst.Comparison():
                return all(
                    isinstance(target.operator, _NEVER_FAILING)
                    and all_of(node.left, target.comparator)
                    for target in node.comparisons
                )
            case cst.BooleanOperation():
                return all_of(node.left, node.right)
            case cst.UnaryOperation(operator=cst.Not()):
                return all_of(node.expression)
            case cst.List() | cst.Tuple() | cst.Set():
                return all_of(*(element.value for element in node.elements))
            case cst.Dict():
                return all(
                    isinstance(element, cst.DictElement) and all_of(element.key, element.value)
                    for element in node.elements
                )
            case cst.FormattedString():
                return all(
                    part.format_spec is None and self._is_quiet(part.expression)
                    for part in node.parts
                    if isinstance(part, cst.FormattedStringExpression)
                )
            case cst.Call():
                function = node.func
                is_known = is_of_logger(node) or (
                    isinstance(function, cst.Name) and function.value in _QUIET_CALLS
                )
                return is_known and all_of(*(argument.value for argument in node.args))
        return is_literal(node)

    def _has_attributes(self, node: cst.CSTNode) -> bool:
        """Return whether what stands before a dot is no `None`: taken in, a module or `self`."""
        return self._is_taken_in(node) or (
            isinstance(node, cst.Name)
            and (
                node.value in ("self", "cls")
                or any(
                    binding.kind == "import"
                    for binding in lookup(node.value, self._module.place(node)) or ()
                )
            )
        )

    def _is_in_handler(self, node: cst.CSTNode) -> bool:
        """Return whether a node stands in an `except` of the block: what it catches came before."""
        for holder in self._module.ancestors(node):
            if isinstance(holder, (cst.ExceptHandler, cst.ExceptStarHandler)):
                return True
            if holder is self._around[0]:
                break
        return False
