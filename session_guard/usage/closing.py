"""Whether a session that a function makes is closed on every way out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names import databases, openings
from session_guard.names.bindings import Await, Call, Ref, lookup
from session_guard.names.from_libcst import walk
from session_guard.names.held import annotated_parameter
from session_guard.names.values import External, Method, Result
from session_guard.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.module import Module
    from session_guard.names.values import Located

_CLOSING = frozenset({"close", "aclose", "invalidate", "reset", "remove", "__aexit__"})
_TAKING_OVER = frozenset({"enter_async_context", "push_async_exit", "push_async_callback"})
_CLOSERS = frozenset({"contextlib.aclosing"})
# What leaves no connection behind: it sends nothing to the database, or gives it back.
_LOCAL = frozenset(
    """
    rollback
    add add_all begin begin_nested expunge expunge_all in_transaction is_active get_bind bind
    sync_session info new dirty deleted no_autoflush is_modified
    """.split()
)
_CONNECTING = frozenset({"connect", "begin", "execution_options"})
_OWNING = frozenset({"contextlib.asynccontextmanager", "pytest.fixture", "pytest_asyncio.fixture"})
_STATEMENTS = (cst.BaseSmallStatement, cst.BaseCompoundStatement)


@dataclass(frozen=True, slots=True)
class LeftOpen:
    """A session that is not closed on every way out."""

    name: str
    """What it is called, or the text that makes it where it has no name."""
    is_ever_closed: bool
    """Whether it is closed where nothing raises."""
    unawaited: str | None = None
    """What was to close it and does not run, since it is not awaited."""


def left_open(call: cst.Call, module: Module) -> LeftOpen | None:
    """Return how the session that `call` makes is left open, or None."""
    if not any(_is_new_session(value, module) for value in module.results(call)):
        return None
    parent = module.parent(call)
    if isinstance(parent, cst.Attribute):
        outer = module.parent(parent)
        method = parent.attr.value
        if isinstance(outer, cst.Call) and outer.func is parent and not method.startswith("__"):
            if method in _LOCAL | _CLOSING:
                return None
            return LeftOpen(module.code(call), is_ever_closed=False)
        return None
    name = _bound_name(call, module)
    function = next((a for a in module.ancestors(call) if isinstance(a, cst.FunctionDef)), None)
    if name is None or function is None or _is_declared_outside(function, name):
        return None
    return _Life(module, function, name, call).verdict()


def _is_new_session(value: object, module: Module) -> bool:
    """Return whether a value is a session that nobody else keeps, and that takes a connection."""
    if not isinstance(value, Result):
        return False
    found = openings.opening(value)
    if found is None or found.begins or databases.is_on_another_database(found.bind):
        return False
    if found.bind is not None and _is_connection(found.bind, module):
        return False  # which whoever opened it gives back
    maker = value.function
    return not (
        isinstance(maker, Result)
        and openings.derives_from(maker.function, openings.SCOPED_SESSION_CLASS)
    )


def _is_connection(bind: Located, module: Module) -> bool:
    """Return whether a session's bind is a connection, and no engine."""
    if any(
        isinstance(value, Result)
        and isinstance(value.function, Method)
        and value.function.name in _CONNECTING
        for value in bind.values()
    ):
        return True
    if not isinstance(bind.expr, Ref) or len(bind.expr.parts) != 1 or bind.home is not module.names:
        return False
    name = bind.expr.parts[0]
    return any(
        isinstance(value, External) and value.dotted == "sqlalchemy.ext.asyncio.AsyncConnection"
        for value in annotated_parameter(name, bind.place, bind.home)
    ) or any(
        isinstance(binding.value, Await)
        and isinstance(binding.value.value, Call)
        and isinstance(binding.value.value.function, Ref)
        and binding.value.value.function.parts[-1] in _CONNECTING
        for binding in lookup(name, bind.place) or ()
    )


def _bound_name(call: cst.Call, module: Module) -> str | None:
    """Return the local name that a new session gets, or None where it goes elsewhere."""
    node: cst.CSTNode = call
    for ancestor in module.ancestors(call):
        if isinstance(ancestor, (cst.IfExp, cst.BooleanOperation)):
            node = ancestor
            continue
        target: cst.CSTNode | None = None
        if isinstance(ancestor, cst.Assign) and len(ancestor.targets) == 1:
            target = ancestor.targets[0].target
        elif isinstance(ancestor, (cst.AnnAssign, cst.NamedExpr)) and ancestor.value is node:
            target = ancestor.target
        return target.value if isinstance(target, cst.Name) else None
    return None


def _is_declared_outside(function: cst.FunctionDef, name: str) -> bool:
    return any(
        isinstance(part, (cst.Global, cst.Nonlocal))
        and any(item.name.value == name for item in part.names)
        for part in walk(function.body)
    )


class _Life:
    """What becomes of one session of a function."""

    def __init__(
        self, module: Module, function: cst.FunctionDef, name: str, made: cst.Call
    ) -> None:
        self._module = module
        self._function = function
        self._name = name
        self._made = made
        self._uses: list[cst.CSTNode] = []
        self._closes: list[cst.CSTNode] = []
        self._unawaited: str | None = None
        # A name may stand for a sync session too, which is closed without `await`.
        self._is_surely_async = all(
            _is_new_session(value, module) for value in module.evaluate(made)
        )
        self._yields: list[cst.CSTNode] = []
        self._is_handed_on = False
        self._is_taken_over = False

    def verdict(self) -> LeftOpen | None:
        """Return how it is left open, or None where the session is closed or another's."""
        for node in self._names():
            self._classify(node)
        chosen = (cst.IfExp, cst.BooleanOperation)
        around = self._module.ancestors(self._made)
        named = next((one for one in around if not isinstance(one, chosen)), None)
        if isinstance(named, cst.NamedExpr) and not isinstance(
            self._module.parent(named), cst.Expr
        ):
            self._classify(named)  # `async with (session := AsyncSession(engine)):`
        if self._is_taken_over:
            return None
        means_to_close = bool(self._closes) or self._unawaited is not None
        if self._yields and not means_to_close and not self._owns_what_it_yields():
            return None
        if not self._closes:
            is_left = (self._uses or self._yields) and (means_to_close or not self._is_handed_on)
            return LeftOpen(self._name, False, self._unawaited) if is_left else None
        order = {id(part): number for number, part in enumerate(walk(self._function.body))}
        for use in (*self._uses, *self._yields):
            if not self._is_closed_if_it_fails(use, order):
                return LeftOpen(self._name, True, self._unawaited)
        return None

    def _names(self) -> Iterator[cst.Name]:
        """Yield the uses of the name behind the place where the session is made."""
        is_behind = False
        for part in walk(self._function.body):
            is_behind = is_behind or part is self._made
            if is_behind and isinstance(part, cst.Name) and part.value == self._name:
                yield part

    def _classify(self, node: cst.Name | cst.NamedExpr) -> None:
        if self._is_in_inner_function(node):
            self._is_handed_on = True
            return
        parent = self._module.parent(node)
        match parent:
            case cst.AssignTarget() | cst.NamedExpr() | cst.Comparison() | cst.ComparisonTarget():
                pass
            case cst.UnaryOperation() | cst.FormattedStringExpression() | cst.Del() | cst.While():
                pass
            case cst.If() | cst.BooleanOperation() | cst.IfExp() | cst.Assert():
                pass
            case cst.WithItem():
                self._is_taken_over = True
            case cst.Arg():
                self._given(parent)
            case cst.Attribute():
                self._attribute(parent)
            case cst.Yield():
                self._yields.append(parent)
            case _:
                self._is_handed_on = True

    def _is_in_inner_function(self, node: cst.CSTNode) -> bool:
        for ancestor in self._module.ancestors(node):
            if ancestor is self._function:
                return False
            if isinstance(ancestor, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
                return True
        return True

    def _given(self, argument: cst.Arg) -> None:
        call = self._module.parent(argument)
        if not isinstance(call, cst.Call):
            self._is_handed_on = True
            return
        found = self._module.evaluate(call.func)
        if any(isinstance(value, External) and value.dotted in _CLOSERS for value in found) or (
            isinstance(call.func, cst.Attribute) and call.func.attr.value in _TAKING_OVER
        ):
            self._is_taken_over = True
        elif found == (External("contextlib.closing"),) and self._is_surely_async:
            self._unawaited = self._module.code(call)
        elif found != (External("isinstance"),):
            self._is_handed_on = True
            if any(isinstance(a, cst.Await) for a in self._expression(call)):
                self._uses.append(call)

    def _expression(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        for ancestor in self._module.ancestors(node):
            if isinstance(ancestor, _STATEMENTS):
                return
            yield ancestor

    def _attribute(self, attribute: cst.Attribute) -> None:
        method = attribute.attr.value
        call = self._module.parent(attribute)
        is_called = isinstance(call, cst.Call) and call.func is attribute
        if method in _CLOSING:
            if is_called and call is not None:
                if self._is_surely_async and isinstance(self._module.parent(call), cst.Expr):
                    self._unawaited = self._module.code(call)
                else:
                    self._closes.append(call)
            else:
                self._is_taken_over = True  # `stack.push_async_callback(session.close)`
        elif method == "__aenter__":
            self._is_handed_on = True
        elif is_called and call is not None and method not in _LOCAL:
            self._uses.append(call)

    def _owns_what_it_yields(self) -> bool:
        """Return whether the code that gets the session from a generator will not close it."""
        for decorator in self._function.decorators:
            target = decorator.decorator
            target = target.func if isinstance(target, cst.Call) else target
            if any(
                isinstance(value, External) and value.dotted in _OWNING
                for value in self._module.evaluate(target)
            ):
                return True
        returns = self._function.returns
        return returns is not None and any(
            isinstance(part, cst.Name) and part.value in ("AsyncGenerator", "AsyncIterator")
            for part in walk(returns.annotation)
        )

    def _is_closed_if_it_fails(self, use: cst.CSTNode, order: dict[int, int]) -> bool:
        inner: cst.CSTNode = use
        for ancestor in self._module.ancestors(use):
            if ancestor is self._function:
                break
            if isinstance(ancestor, (cst.Try, cst.TryStar)):
                last = ancestor.finalbody
                if last is not None and inner is not last and self._closes_in(last):
                    return True
                if inner is ancestor.body and any(
                    self._catches_all(handler) and self._closes_in(handler.body)
                    for handler in ancestor.handlers
                ):
                    return True
            inner = ancestor
        # What runs when it is closed already, or closes it, leaves nothing behind.
        return order[id(use)] > max(order[id(call)] for call in self._closes)

    def _closes_in(self, node: cst.CSTNode) -> bool:
        inside = {id(part) for part in walk(node)}
        return any(id(call) in inside for call in self._closes)

    def _catches_all(self, handler: cst.ExceptHandler | cst.ExceptStarHandler) -> bool:
        if handler.type is None:
            return True
        return any(
            value in (External("Exception"), External("BaseException"))
            for value in self._module.evaluate(handler.type)
        )
