"""`commit()`, `rollback()` and `close()` in a handler's block that the handler does anyway."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.records import dataclass
from session_guard.rewriting.imports import has_comment
from session_guard.rule import Applicability, Rewrite
from session_guard.safety.callers import caller_of
from session_guard.safety.loaded import tracked_names
from session_guard.safety.ways_out import always_raises
from session_guard.usage.blocks import handler_blocks, may_leave, mentions, method_call

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from session_guard.module import Module
    from session_guard.usage.blocks import Block


@dataclass(frozen=True, slots=True)
class Redundant:
    """A call that the handler makes too."""

    node: cst.CSTNode
    method: str
    session: str
    rewrite: Rewrite | None
    reason: str
    """Why there is no fix."""


def redundant_control(statement: cst.With, module: Module) -> Iterator[Redundant]:
    """Yield what a handler's block does for the handler, on its ways out."""
    function = next(
        (a for a in module.ancestors(statement) if isinstance(a, cst.FunctionDef)), None
    )
    for block in handler_blocks(statement, module):
        if not block.keeps_the_contract:
            continue
        search = _Search(block, module)
        for found in search.in_suite(statement.body, is_last=True, in_loop=False):
            # What may be an endpoint commits before its response is sent, whoever else does.
            if (
                found.method != "commit"
                or function is None
                or not caller_of(function, module).keeps_its_commit
            ):
                yield found
        yield from search.on_errors(statement.body)


class _Search:
    def __init__(self, block: Block, module: Module) -> None:
        self._block = block
        self._module = module
        self._name = block.name
        self._tracked = tracked_names(module, block.statement.body, block.name)

    # -- ways out that raise nothing --------------------------------------------------------------

    def in_suite(
        self, suite: cst.BaseSuite, *, is_last: bool, in_loop: bool
    ) -> Iterator[Redundant]:
        """Yield the closing calls of a suite; `is_last` says that the block ends where it ends."""
        lines = list(suite.body)
        way_out = lines[-1] if lines and self._leaves(lines[-1], in_loop) else None
        if way_out is not None:
            lines.pop()
        if way_out is not None or is_last:
            yield from self._closing(lines, way_out)
        for number, line in enumerate(lines):
            ends_here = is_last and way_out is None and number == len(lines) - 1
            if isinstance(line, cst.If):
                arm: cst.If | cst.Else | None = line
                while arm is not None:
                    yield from self.in_suite(arm.body, is_last=ends_here, in_loop=in_loop)
                    arm = arm.orelse if isinstance(arm, cst.If) else None
            elif isinstance(line, (cst.For, cst.While)):
                yield from self.in_suite(line.body, is_last=False, in_loop=True)

    def _leaves(self, line: cst.CSTNode, in_loop: bool) -> bool:
        statement = _single(line)
        if isinstance(statement, (cst.Break, cst.Continue)):
            return not in_loop
        return isinstance(statement, cst.Return)

    def _closing(
        self, lines: Sequence[cst.CSTNode], way_out: cst.CSTNode | None
    ) -> Iterator[Redundant]:
        """Yield the calls that end `lines`: a commit, a close, or one behind the other."""
        returned = _single(way_out)
        value = returned.value if isinstance(returned, cst.Return) else None
        # `return row.id` needs the flush that a commit brings.
        if value is not None and not _is_plain(value) and self._reads_objects(value):
            return
        rest = list(lines)
        is_closed = False
        while rest:
            line = rest[-1]
            method = self._method(line)
            if method == "close" and not is_closed:
                is_closed = True
                before = self._method(rest[-2]) if len(rest) > 1 else None
                safe = before == "commit"
                reason = "" if safe else "what it throws away would be committed"
                yield self._redundant(line, "close", lines, reason, value)
            elif method == "commit":
                reason = ""
                if not self._block.is_innermost:
                    reason = "what the `with` enters behind the session is left before the commit"
                elif value is not None and not _is_plain(value):
                    reason = "what is returned would be worked out before the commit"
                yield self._redundant(line, "commit", lines, reason, value)
                return
            else:
                return
            rest.pop()

    def _reads_objects(self, value: cst.BaseExpression) -> bool:
        return mentions(value, self._tracked | {self._name})

    def _method(self, line: cst.CSTNode) -> str | None:
        statement = _single(line)
        if isinstance(statement, cst.Expr) and isinstance(statement.value, cst.Await):
            call = statement.value.expression
            if isinstance(call, cst.Call) and not call.args:
                return method_call(call, self._name)
        return None

    def _redundant(
        self,
        line: cst.CSTNode,
        method: str,
        suite: Sequence[cst.CSTNode],
        reason: str,
        value: cst.BaseExpression | None,
    ) -> Redundant:
        return self._with_fix(
            line,
            method,
            reason,
            is_alone=all(self._method(other) in ("commit", "close") for other in suite)
            and value is None,
        )

    def _with_fix(
        self, line: cst.CSTNode, method: str, reason: str, *, is_alone: bool
    ) -> Redundant:
        """Return the finding, with a removal that is safe where no `reason` speaks against it."""
        text = f"remove `{self._name}.{method}()`"
        if is_alone:
            return Redundant(line, method, self._name, None, "nothing would be left of the block")
        if has_comment(line):
            return Redundant(line, method, self._name, None, "a comment stands beside it")
        rewrite = Rewrite(
            Applicability.UNSAFE if reason else Applicability.SAFE,
            f"{text}; not safe, since {reason}" if reason else f"{text}: the handler does it",
            ((line, None),),
        )
        return Redundant(line, method, self._name, rewrite, "")

    # -- ways out that raise ----------------------------------------------------------------------

    def on_errors(self, suite: cst.CSTNode, *, waits: bool = False) -> Iterator[Redundant]:
        """Yield rollbacks before an error leaves the block, and a `close()` in a `finally`.

        A `with` inside the block may swallow errors, and an `except` round it may catch what an
        inner one raises on: what stands in them is not looked at. `waits` says that a `finally`
        round the suite awaits something.
        """
        for child in suite.children:
            if isinstance(child, (cst.FunctionDef, cst.ClassDef, cst.Lambda, cst.With)):
                continue
            if not isinstance(child, (cst.Try, cst.TryStar)):
                yield from self.on_errors(child, waits=waits)
                continue
            last = child.finalbody.body.body if child.finalbody is not None else ()
            for line in last:
                if self._method(line) == "close":
                    yield self._with_fix(
                        line,
                        "close",
                        "what it throws away would be committed",
                        is_alone=len(last) == 1,
                    )
            names = self._tracked | {self._name}
            if any(mentions(line, names) for line in last) or (
                child.finalbody is not None and may_leave(child.finalbody.body)
            ):
                continue
            waits_here = waits or any(map(_awaits, last))
            for handler in child.handlers:
                yield from self._rollback(handler.body, waits=waits_here)
            if not child.handlers:
                yield from self.on_errors(child.body, waits=waits_here)

    def _rollback(self, body: cst.BaseSuite, *, waits: bool) -> Iterator[Redundant]:
        if not always_raises(body):
            return
        lines = list(body.body)
        names = self._tracked | {self._name}
        for number, line in enumerate(lines):
            if self._method(line) != "rollback":
                continue
            behind = lines[number + 1 :]
            if any(mentions(other, names) for other in behind):
                return
            reason = ""
            if waits or any(map(_awaits, behind)):
                reason = "what is awaited behind it would hold the transaction open"
            elif not self._block.is_innermost:
                reason = "what the `with` enters behind the session would hold the transaction open"
            yield self._with_fix(line, "rollback", reason, is_alone=False)
            return


def _single(line: cst.CSTNode | None) -> cst.CSTNode | None:
    """Return the one small statement of a line, or None."""
    if isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1:
        return line.body[0]
    return None


def _awaits(node: cst.CSTNode) -> bool:
    """Return whether something in a statement is awaited; `async with` and `async for` await."""
    return isinstance(node, (cst.Await, cst.Asynchronous)) or any(map(_awaits, node.children))


def _is_plain(value: cst.BaseExpression) -> bool:
    """Return whether an expression is the same before a commit and after, and cannot fail."""
    if isinstance(value, (cst.Tuple, cst.List, cst.Set)):
        return all(_is_plain(element.value) for element in value.elements)
    if isinstance(value, cst.Dict):
        return all(
            isinstance(item, cst.DictElement) and _is_plain(item.key) and _is_plain(item.value)
            for item in value.elements
        )
    return isinstance(value, (cst.Name, cst.BaseString, cst.BaseNumber)) and not isinstance(
        value, cst.FormattedString
    )
