"""The forms in which a session is opened, and the block that each opens it for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.arguments import NotFixableError
from session_guard.imports import has_comment
from session_guard.names.from_libcst import children, walk
from session_guard.names.values import External
from session_guard.safety.block import is_quiet_context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_guard.module import Module
    from session_guard.rule import Replacements

_NO_FORM = "the session is not opened by an `async with`"
_EXIT_STACK = External("contextlib.AsyncExitStack")
_CLOSING = frozenset({"close", "aclose"})
_COMMITTING = frozenset({"commit"})
_ROLLING_BACK = frozenset({"rollback"})


@dataclass(frozen=True, slots=True)
class Form:
    """How a session is opened, and what runs while it is open."""

    opening: cst.CSTNode
    """The statement that opens it."""
    name: str | None
    """The local name that the session gets."""
    block: cst.BaseSuite
    """What runs with it: statements of the file, in a block that a rule may have made of them."""
    whole: Sequence[cst.CSTNode]
    """The statements of the file that open, use and close it."""
    entered: Sequence[cst.WithItem] = ()
    """What is entered behind the session, and left before it."""
    reasons: tuple[str, ...] = ()
    """Why the form itself is not surely the same under the handler."""
    is_closed_anyway: bool = True
    """Whether the session is closed where an error leaves the block, too."""
    suite: cst.IndentedBlock | None = None
    """Where `whole` becomes one `async with`: the block that it stands in."""
    leading_lines: Sequence[cst.EmptyLine] = field(default=())

    def replacements(
        self, call: cst.Call, replacement: cst.Call, *, handler_commits: bool
    ) -> Replacements:
        """Return what becomes of the nodes where `replacement` opens the session.

        A last `commit()` goes with what is laid out anew if the handler makes it.
        """
        if self.suite is None:
            return ((call, replacement),)
        assert self.name is not None
        block = self.block
        if handler_commits:
            block = _without_last_commit(block, self.name)
        statement = cst.With(
            items=[cst.WithItem(replacement, cst.AsName(cst.Name(self.name)))],
            body=block,
            asynchronous=cst.Asynchronous(),
            leading_lines=self.leading_lines,
        )
        lines = list(self.suite.body)
        first = lines.index(self.whole[0])  # type: ignore[arg-type]  # it is one of them
        lines[first : first + len(self.whole)] = [statement]
        return ((self.suite, self.suite.with_changes(body=lines)),)


def form_of(call: cst.Call, module: Module) -> Form:
    """Return the form in which `call` opens a session.

    Raises:
        NotFixableError: it is opened in none that can be rewritten.
    """
    holder = module.parent(call)
    match holder:
        case cst.WithItem():
            return _in_with(holder, module)
        case cst.Assign() | cst.AnnAssign():
            return _assigned(holder, module)
        case cst.Arg():
            return _on_stack(holder, module)
    raise NotFixableError(_NO_FORM)


def enclosing_function(node: cst.CSTNode, module: Module) -> cst.FunctionDef | None:
    """Return the innermost function that holds a statement."""
    return next((a for a in module.ancestors(node) if isinstance(a, cst.FunctionDef)), None)


def yields(node: cst.CSTNode) -> bool:
    """Return whether a block yields, but for the functions defined in it."""
    if isinstance(node, cst.Yield):
        return True
    if isinstance(node, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
        return False
    return any(yields(child) for child in children(node))


def _local_name(target: cst.CSTNode | None, module: Module) -> str | None:
    """Return the name that a session gets, if any.

    Raises NotFixableError where it is none of the function's own.
    """
    if target is None:
        return None
    if isinstance(target, cst.Name):
        scope = module.place(target).scope
        if target.value not in scope.globals | scope.nonlocals:
            return target.value
    raise NotFixableError("the session is stored elsewhere than in a local name")


# -- `async with AsyncSession(engine) as session:` ------------------------------------------------


def _in_with(item: cst.WithItem, module: Module) -> Form:
    statement = module.parent(item)
    assert isinstance(statement, cst.With)
    if statement.asynchronous is None:
        raise NotFixableError("a plain `with` cannot open an async session")
    return Form(
        statement,
        _local_name(item.asname.name if item.asname is not None else None, module),
        statement.body,
        [statement],
        statement.items[statement.items.index(item) + 1 :],
    )


# -- `session = AsyncSession(engine)`, and a `close()` by hand ------------------------------------


def _assigned(statement: cst.Assign | cst.AnnAssign, module: Module) -> Form:
    targets = statement.targets if isinstance(statement, cst.Assign) else [statement]
    name = _local_name(targets[0].target, module)
    if len(targets) > 1 or name is None:
        raise NotFixableError("the session has more than one name")
    line = module.parent(statement)
    suite = module.parent(line) if line is not None else None
    if (
        not isinstance(line, cst.SimpleStatementLine)
        or not isinstance(suite, cst.IndentedBlock)
        or len(line.body) > 1
    ):
        raise NotFixableError(f"{_NO_FORM}, nor on a line of its own in a function")
    behind = suite.body[suite.body.index(line) + 1 :]
    for number, last in enumerate(behind):
        if _is_call_of(last, name, _CLOSING):
            block: cst.BaseSuite = cst.IndentedBlock(behind[:number], indent=suite.indent)
        elif isinstance(last, (cst.Try, cst.TryStar)) and _closes(last, name):
            block = _of_try(behind[:number], last, name, suite)
        else:
            continue
        if not block.body:
            break
        whole = [line, *behind[: number + 1]]
        if _is_bound_again(name, statement, whole, module):
            raise NotFixableError("its name is bound again before it is closed")
        above = [*line.leading_lines]
        if not number and isinstance(last, (cst.Try, cst.TryStar)):
            above += [empty for empty in last.leading_lines if empty.comment is not None]
        return Form(
            statement,
            name,
            block,
            whole,
            is_closed_anyway=isinstance(last, (cst.Try, cst.TryStar)),
            suite=suite,
            leading_lines=above,
        )
    else:
        raise NotFixableError(f"{_NO_FORM}, and not closed in the block that it is opened in")
    raise NotFixableError(f"{_NO_FORM}, and nothing is done with it")


def _is_bound_again(
    name: str, opening: cst.CSTNode, whole: Sequence[cst.CSTNode], module: Module
) -> bool:
    place = module.place(opening)
    last = max(module.place(part).order for statement in whole for part in walk(statement))
    bound = [b for b in place.scope.bindings[name] if place.order <= b.place.order <= last + 1]
    return len(bound) > 1


def _closes(statement: cst.Try | cst.TryStar, name: str) -> bool:
    """Return whether a `finally` closes the session, and does nothing else."""
    if statement.finalbody is None:
        return False
    steps = _statements(statement.finalbody.body)
    if not any(_is_call_of(step, name, _CLOSING) for step in steps):
        return False
    if len(steps) > 1:
        raise NotFixableError("its `finally` does more than to close the session")
    return True


def _of_try(
    before: Sequence[cst.BaseStatement],
    statement: cst.Try | cst.TryStar,
    name: str,
    suite: cst.IndentedBlock,
) -> cst.BaseSuite:
    """Return the block that a `try` is with its session closed by someone else.

    An `except` that only rolls back and raises on is what the handler does; any other stays, in a
    `try` inside the block.
    """
    if not all(_only_rolls_back(handler, name) for handler in statement.handlers):
        return cst.IndentedBlock(
            [*before, statement.with_changes(finalbody=None)], indent=suite.indent
        )
    body = statement.body
    if statement.orelse is None and not before:
        return body
    lines = [*before, *_lines(body)]
    last = body
    if statement.orelse is not None:
        last = statement.orelse.body
        lines.extend(_lines(last))
    # What stands between two that are joined is written nowhere: a comment there would be lost.
    return cst.IndentedBlock(
        lines,
        header=body.header if isinstance(body, cst.IndentedBlock) else cst.TrailingWhitespace(),
        indent=suite.indent,
        footer=last.footer if isinstance(last, cst.IndentedBlock) else (),
    )


def _lines(suite: cst.BaseSuite) -> list[cst.BaseStatement]:
    """Return the lines of a block; that of a block on one line as one of its own."""
    if isinstance(suite, cst.SimpleStatementSuite):
        return [cst.SimpleStatementLine(suite.body, trailing_whitespace=suite.trailing_whitespace)]
    assert isinstance(suite, cst.IndentedBlock)
    return list(suite.body)


def _only_rolls_back(handler: cst.ExceptHandler | cst.ExceptStarHandler, name: str) -> bool:
    *steps, raised = _statements(handler.body)
    if (
        not isinstance(handler, cst.ExceptHandler)
        or has_comment(handler)
        or not all(_is_call_of(step, name, _ROLLING_BACK) for step in steps)
        or not isinstance(raised, cst.Raise)
        or raised.cause is not None
    ):
        return False
    own = handler.name.name if handler.name is not None else None
    return raised.exc is None or (
        isinstance(raised.exc, cst.Name)
        and isinstance(own, cst.Name)
        and raised.exc.value == own.value
    )


def _statements(suite: cst.BaseSuite) -> list[cst.CSTNode]:
    """Return the statements of a block, of each line all of them."""
    found: list[cst.CSTNode] = []
    for line in _lines(suite):
        found.extend(line.body if isinstance(line, cst.SimpleStatementLine) else [line])
    return found


def _is_call_of(node: cst.CSTNode, name: str, methods: frozenset[str]) -> bool:
    """Return whether a statement is `await name.method()`, for one of some methods."""
    match node:
        case cst.SimpleStatementLine(body=[statement]):
            return _is_call_of(statement, name, methods)
        case cst.Expr(
            cst.Await(
                cst.Call(func=cst.Attribute(value=cst.Name(value=owner), attr=method), args=[])
            )
        ):
            return owner == name and method.value in methods
    return False


def _without_last_commit(block: cst.BaseSuite, name: str) -> cst.BaseSuite:
    """Return a block without the `commit()` that ends it; one with a comment stays."""
    if (
        isinstance(block, cst.IndentedBlock)
        and len(block.body) > 1
        and _is_call_of(block.body[-1], name, _COMMITTING)
        and not has_comment(block.body[-1])
        and not any(line.comment for line in block.footer)
    ):
        return block.with_changes(body=block.body[:-1])
    return block


# -- `session = await stack.enter_async_context(AsyncSession(engine))` ----------------------------


def _on_stack(argument: cst.Arg, module: Module) -> Form:
    entering = module.parent(argument)
    awaiting = module.parent(entering) if entering is not None else None
    if (
        not isinstance(entering, cst.Call)
        or len(entering.args) > 1
        or not isinstance(entering.func, cst.Attribute)
        or entering.func.attr.value != "enter_async_context"
        or not isinstance(awaiting, cst.Await)
    ):
        raise NotFixableError(_NO_FORM)
    statement = module.parent(awaiting)
    match statement:
        case cst.Assign(targets=[cst.AssignTarget(target=target)]) | cst.AnnAssign(target=target):
            name = _local_name(target, module)
        case cst.Expr():
            name = None
        case _:
            raise NotFixableError("the session is stored elsewhere than in a local name")
    line = module.parent(statement)
    suite = module.parent(line) if line is not None else None
    holder = module.parent(suite) if suite is not None else None
    stack = entering.func.value
    if (
        not isinstance(stack, cst.Name)
        or not isinstance(line, cst.SimpleStatementLine)
        or len(line.body) > 1
        or not isinstance(suite, cst.IndentedBlock)
        or not isinstance(holder, cst.With)
        or (item := _item_of(holder, stack.value, module)) is None
    ):
        raise NotFixableError(
            "it is entered on an exit stack that no `async with` right round it closes"
        )
    behind = suite.body[suite.body.index(line) + 1 :]
    if not behind:
        raise NotFixableError("nothing is done with the session")
    return Form(
        statement,
        name,
        cst.IndentedBlock(behind, indent=suite.indent),
        [line, *behind],
        holder.items[holder.items.index(item) + 1 :],
        reasons=_entered_on(stack.value, suite, behind, module),
    )


def _item_of(statement: cst.With, stack: str, module: Module) -> cst.WithItem | None:
    """Return the item of an `async with` that opens the exit stack of that name, or None."""
    for item in statement.items:
        if (
            statement.asynchronous is not None
            and item.asname is not None
            and isinstance(item.asname.name, cst.Name)
            and item.asname.name.value == stack
            and isinstance(item.item, cst.Call)
            and module.evaluate(item.item.func) == (_EXIT_STACK,)
        ):
            return item
    return None


def _entered_on(
    stack: str, suite: cst.IndentedBlock, behind: Sequence[cst.CSTNode], module: Module
) -> tuple[str, ...]:
    """Return why what else is put on an exit stack may keep an error from the session.

    Raises NotFixableError where the stack may be closed sooner or later than its block.
    """
    later = {id(part) for line in behind for part in walk(line)}
    reasons = []
    for part in walk(suite):
        if not isinstance(part, cst.Name) or part.value != stack:
            continue
        attribute = module.parent(part)
        call = module.parent(attribute) if attribute is not None else None
        if (
            not isinstance(attribute, cst.Attribute)
            or attribute.attr.value not in ("enter_async_context", "enter_context")
            or not isinstance(call, cst.Call)
            or call.func is not attribute
            or len(call.args) != 1
        ):
            raise NotFixableError(f"`{stack}` does more than to enter context managers")
        if id(part) in later and not is_quiet_context(module, call.args[0].value):
            line = module.position(call).start.line
            reasons.append(
                f"a context manager that may swallow errors is entered behind it (line {line})"
            )
    return tuple(reasons)
