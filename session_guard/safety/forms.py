"""The forms in which a session is opened, and the block that each opens it for."""

from __future__ import annotations

import itertools
from dataclasses import field, replace
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.from_libcst import children, walk
from session_guard.names.values import External
from session_guard.records import dataclass
from session_guard.rewriting.arguments import NotFixableError
from session_guard.rewriting.rendering import comments
from session_guard.safety.tries import is_close, last_steps, without_finally, without_last_commit
from session_guard.safety.ways_out import is_quiet_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from session_guard.module import Module
    from session_guard.rule import Replacements

_NO_FORM = "the session is not opened by an `async with`"
_EXIT_STACK = External("contextlib.AsyncExitStack")
_ACLOSING = External("contextlib.aclosing")


@dataclass(frozen=True, slots=True)
class Form:
    """How a session is opened, and what runs while it is open."""

    opening: cst.CSTNode
    """The statement that opens it."""
    name: str | None
    """The local name that the session gets."""
    block: cst.BaseSuite
    """What runs with it: statements of the file, in a block that a rule may have made of them."""
    stands_in: cst.BaseSuite
    """The file's own block that `block` is, or that holds the statements it was made of."""
    whole: Sequence[cst.CSTNode]
    """The statements of the file that open, use and close it."""
    entered: Sequence[cst.WithItem] = ()
    """What is entered behind the session, and left before it."""
    reasons: tuple[str, ...] = ()
    """Why the form itself is not surely the same under the handler."""
    is_closed_anyway: bool = True
    """Whether the session is closed where an error leaves the block, too."""
    replaced: cst.IndentedBlock | None = None
    """The block of an `async with` that `block` takes the place of."""
    suite: cst.IndentedBlock | None = None
    """Where `whole` becomes one `async with`: the block that it stands in."""
    leading_lines: Sequence[cst.EmptyLine] = field(default=())
    entering: cst.WithItem | None = None
    """What enters the session by its name, in the `async with` that ends `whole`."""
    around_call: cst.Call | None = None
    """The `aclosing()` round the call that opens it, which goes with that."""

    def replacements(
        self, call: cst.Call, replacement: cst.Call, *, handler_commits: bool
    ) -> Replacements:
        """Return what becomes of the nodes where `replacement` opens the session.

        A last `commit()` goes with what is laid out anew if the handler makes it.
        """
        block = self.block
        if handler_commits and self.name is not None:
            block = without_last_commit(block, self.name)
        if self.replaced is not None and isinstance(block, cst.IndentedBlock):
            return ((call, replacement), (self.replaced, block))
        if self.suite is None or self.name is None:
            return ((self.around_call or call, replacement),)
        if self.entering is not None:
            return self._entered(self.entering, self.suite, self.name, replacement)
        if isinstance(block, cst.IndentedBlock) and not self._is_begun_by(block.body[0]):
            block = _without_gap_above(block)
        statement = cst.With(
            items=[cst.WithItem(replacement, cst.AsName(cst.Name(self.name)))],
            body=block,
            asynchronous=cst.Asynchronous(),
            leading_lines=self.leading_lines,
        )
        return self._with_lines(self.suite, [statement])

    def _is_begun_by(self, statement: cst.CSTNode) -> bool:
        """Return whether a statement began a block before, and keeps what is above it."""
        return any(
            isinstance(holder, (cst.Try, cst.TryStar)) and holder.body.body[0] is statement
            for holder in self.whole
        )

    def _entered(
        self, entering: cst.WithItem, suite: cst.IndentedBlock, name: str, opened: cst.Call
    ) -> Replacements:
        """Return the block without the line that opened the session, and where it is entered."""
        *between, statement = self.whole[1:]
        assert isinstance(statement, cst.With)
        as_name = entering.asname or cst.AsName(cst.Name(name))
        item = entering.with_changes(item=opened, asname=as_name)
        items = [item if other is entering else other for other in statement.items]
        above = statement.leading_lines if between else self.leading_lines
        changed = statement.with_changes(
            items=items, asynchronous=cst.Asynchronous(), leading_lines=above
        )
        return self._with_lines(suite, [*between, changed])

    def _with_lines(
        self, suite: cst.IndentedBlock, statements: Sequence[cst.CSTNode]
    ) -> Replacements:
        """Return the block with other statements in the place of the whole form."""
        lines: list[cst.CSTNode] = list(suite.body)
        first = lines.index(self.whole[0])
        lines[first : first + len(self.whole)] = statements
        return ((suite, suite.with_changes(body=lines)),)


def around(form: Form, module: Module) -> list[cst.CSTNode]:
    """Return what a form stands in: the file's block, and what holds it, up to its function."""
    found: list[cst.CSTNode] = [form.stands_in]
    for holder in module.ancestors(form.stands_in):
        found.append(holder)
        if isinstance(holder, cst.FunctionDef):
            break
    return found


def comes_again(holders: Iterable[cst.CSTNode]) -> bool:
    """Return whether a loop is among what something stands in."""
    return any(isinstance(holder, (cst.For, cst.While)) for holder in holders)


def statements(suite: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield the statements in a suite, those within others too."""
    kinds = (cst.BaseSmallStatement, cst.BaseCompoundStatement)
    return (part for part in walk(suite) if isinstance(part, kinds))


def extent(block: cst.BaseSuite, module: Module) -> tuple[float, float]:
    """Return the first and the last place in which a statement of a form's block stands."""
    orders = [
        module.place(part).order
        for part in statements(block)
        if module.parent(part) is not None  # a rule may have made a `try` of another
    ]
    return min(orders, default=0), max(orders, default=0)


def _without_gap_above(block: cst.IndentedBlock) -> cst.IndentedBlock:
    """Return a block without the blank lines that its first statement had above it."""
    first, *others = block.body
    assert isinstance(first, (cst.SimpleStatementLine, cst.BaseCompoundStatement))
    lines = list(itertools.dropwhile(lambda line: line.comment is None, first.leading_lines))
    return block.with_changes(body=[first.with_changes(leading_lines=lines), *others])


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
            around = module.parent(holder)
            item = module.parent(around) if around is not None else None
            if isinstance(item, cst.WithItem) and _is_aclosing(item.item, module):
                assert isinstance(around, cst.Call)
                return replace(_in_with(item, module), around_call=around)
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
    name = _local_name(item.asname.name if item.asname is not None else None, module)
    entered = statement.items[statement.items.index(item) + 1 :]
    block = _closed_inside(statement.body, name) if name is not None and not entered else None
    if block is not None and isinstance(statement.body, cst.IndentedBlock):
        return Form(statement, name, block, statement.body, [statement], replaced=statement.body)
    return Form(statement, name, statement.body, statement.body, [statement], entered)


def _closed_inside(body: cst.BaseSuite, name: str) -> cst.IndentedBlock | None:
    """Return what the block of an `async with` is without a `try` that closes its session, too.

    None where the block is no such `try` alone, or has a comment on it.
    """
    match body:
        case cst.IndentedBlock(body=[cst.Try() | cst.TryStar() as statement]):
            steps = last_steps(statement)
            if len(steps) != 1 or not is_close(steps[0], name):
                return None
            block = without_finally([], statement, name, body)
            if isinstance(block, cst.IndentedBlock) and (
                [c.value for c in comments(block)] == [c.value for c in comments(body)]
            ):
                return block
    return None


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
        if is_close(last, name):
            block: cst.BaseSuite = cst.IndentedBlock(behind[:number], indent=suite.indent)
        elif isinstance(last, (cst.Try, cst.TryStar)):
            steps = last_steps(last)
            if not any(is_close(step, name) for step in steps):
                continue
            if len(steps) > 1:
                raise NotFixableError("its `finally` does more than to close the session")
            block = without_finally(behind[:number], last, name, suite)
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
            suite,
            whole,
            is_closed_anyway=isinstance(last, (cst.Try, cst.TryStar)),
            suite=suite,
            leading_lines=above,
        )
    else:
        return _entered_by_name(statement, line, name, suite, module) or _opened_in_try(
            statement, line, name, suite, module
        )
    raise NotFixableError(f"{_NO_FORM}, and nothing is done with it")


def _entered_by_name(
    statement: cst.Assign | cst.AnnAssign,
    line: cst.SimpleStatementLine,
    name: str,
    suite: cst.IndentedBlock,
    module: Module,
) -> Form | None:
    """Return the form where an `async with` further down the block enters the session, or None."""
    behind = suite.body[suite.body.index(line) + 1 :]
    for number, entering in enumerate(behind):
        items = entering.items if isinstance(entering, cst.With) else ()
        for item in items:
            if not isinstance(entering, cst.With) or not _enters(item.item, name, module):
                continue
            if entering.asynchronous is None:
                raise NotFixableError("a plain `with` cannot open an async session")
            before = items[: items.index(item)]
            if any(_mentions(part, name) for part in (*behind[:number], *before)):
                raise NotFixableError("it is used before it is entered")
            inner = _local_name(item.asname.name if item.asname is not None else None, module)
            if inner not in (None, name) and _mentions(entering.body, name):
                raise NotFixableError("the session has more than one name")
            whole = [line, *behind[: number + 1]]
            if _is_bound_again(name, statement, whole, module):
                raise NotFixableError("its name is bound again before it is closed")
            comments_above = [one for one in entering.leading_lines if one.comment is not None]
            return Form(
                statement,
                inner or name,
                entering.body,
                entering.body,
                whole,
                items[items.index(item) + 1 :],
                suite=suite,
                leading_lines=[*line.leading_lines, *comments_above],
                entering=item,
            )
    return None


def _enters(item: cst.BaseExpression, name: str, module: Module) -> bool:
    """Return whether an item of an `async with` is the session, or closes it in the end."""
    if _is_aclosing(item, module) and isinstance(item, cst.Call):
        item = item.args[0].value
    return isinstance(item, cst.Name) and item.value == name


def _is_aclosing(item: cst.BaseExpression, module: Module) -> bool:
    return (
        isinstance(item, cst.Call)
        and len(item.args) == 1
        and module.evaluate(item.func) == (_ACLOSING,)
    )


def _mentions(node: cst.CSTNode, name: str) -> bool:
    return any(isinstance(part, cst.Name) and part.value == name for part in walk(node))


def _opened_in_try(
    statement: cst.Assign | cst.AnnAssign,
    line: cst.SimpleStatementLine,
    name: str,
    body: cst.IndentedBlock,
    module: Module,
) -> Form:
    """Return the form where the `try` that closes the session begins with its opening.

    Its name may be bound to None right before. Raises NotFixableError where it is another form.
    """
    holder = module.parent(body)
    suite = module.parent(holder) if holder is not None else None
    if (
        not isinstance(holder, (cst.Try, cst.TryStar))
        or body is not holder.body
        or not any(is_close(step, name) for step in last_steps(holder))
    ):
        raise NotFixableError(_where_entered(name, body, module))
    if not isinstance(suite, cst.IndentedBlock) or body.body[0] is not line:
        raise NotFixableError("it is not what the `try` that closes it begins with")
    if len(last_steps(holder)) > 1:
        raise NotFixableError("its `finally` does more than to close the session")
    rest = holder.with_changes(body=body.with_changes(body=body.body[1:]))
    block = without_finally([], rest, name, suite)
    if len(body.body) < 2 or not block.body:
        raise NotFixableError(f"{_NO_FORM}, and nothing is done with it")
    at = suite.body.index(holder)
    above = suite.body[at - 1] if at else None
    whole: list[cst.SimpleStatementLine | cst.Try | cst.TryStar] = [holder]
    if isinstance(above, cst.SimpleStatementLine) and _binds_none(above, name):
        whole.insert(0, above)
    place = module.place(statement)
    last = max(module.place(part).order for part in walk(holder))
    bound = [b for b in place.scope.bindings[name] if b.place.order <= last + 1]
    if len(bound) > len(whole):
        raise NotFixableError("its name is bound to something else, too")
    comments_above = [
        empty
        for other in (*whole[1:], line)
        for empty in other.leading_lines
        if empty.comment is not None
    ]
    return Form(
        statement,
        name,
        block,
        suite,
        whole,
        suite=suite,
        leading_lines=[*whole[0].leading_lines, *comments_above],
    )


def _where_entered(name: str, body: cst.IndentedBlock, module: Module) -> str:
    """Return why a session that is not closed in the block it is opened in has no form."""
    for part in walk(body):
        match part:
            case cst.Call(
                func=cst.Attribute(attr=cst.Name(value="enter_async_context")), args=[argument]
            ) if _enters(argument.value, name, module):
                return "it is entered on an exit stack by its name: open it there"
            case cst.WithItem() if _enters(part.item, name, module):
                return "it is entered in another block than it is opened in"
    return f"{_NO_FORM}, and not closed in the block that it is opened in"


def _binds_none(line: cst.SimpleStatementLine, name: str) -> bool:
    """Return whether a line is `name = None`."""
    match line:
        case cst.SimpleStatementLine(
            body=[
                cst.Assign(
                    targets=[cst.AssignTarget(target=cst.Name(value=bound))],
                    value=cst.Name(value="None"),
                )
                | cst.AnnAssign(target=cst.Name(value=bound), value=cst.Name(value="None"))
            ]
        ):
            return bound == name
    return False


def _is_bound_again(
    name: str, opening: cst.CSTNode, whole: Sequence[cst.CSTNode], module: Module
) -> bool:
    place = module.place(opening)
    last = max(module.place(part).order for statement in whole for part in walk(statement))
    bound = [b for b in place.scope.bindings[name] if place.order <= b.place.order <= last + 1]
    return len(bound) > 1


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
        suite,
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
