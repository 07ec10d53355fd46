"""What a block does with its session, and what would be different under the handler.

The block is run in the abstract: each statement changes a small state, branches are joined, loops
run until nothing new comes of them. Whatever is not understood becomes a reason why the rewrite is
not safe; it is never taken for a read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.from_libcst import children, dotted_parts, walk
from session_guard.names.values import External
from session_guard.safety.behind import GivenAway, reasons_behind
from session_guard.safety.called import DEEPEST, called_with
from session_guard.safety.callees import classes_of_called, taken_in
from session_guard.safety.forms import Form, around, comes_again
from session_guard.safety.loaded import (
    EMPTIES,
    FILLS,
    READS,
    TAKES,
    bound_names,
    carries_objects,
    cascaded,
    classes_held,
    classes_named,
    held_names,
    is_column_value,
    is_list_of_result,
    is_loaded_value,
    is_own_collection,
    is_plain,
    is_result,
    reachable,
    reads_attributes,
    result_names,
    tracked_names,
)
from session_guard.safety.magic import methods_called_on
from session_guard.safety.outside import Outside
from session_guard.safety.refreshing import reads_others
from session_guard.safety.spelling import (
    argument_of,
    attributes_of_key,
    is_construction,
    is_literal,
    is_of_lambda,
    is_of_logger,
    is_setattr,
    method_of,
    shows,
)
from session_guard.safety.state import ENDED, State, Terms
from session_guard.safety.statements import (
    PURE_BUILTINS,
    VALUE_MODULES,
    builds_sql,
    statement_kind,
)
from session_guard.safety.ways_out import WAYS_OUT, always_raises, is_quiet_context, may_swallow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from session_guard.module import Module
    from session_guard.names.values import LocalClass
    from session_guard.safety.called import Called

_LOADS_ONE = frozenset({"get", "get_one"})
# What a result answers without changing anything that was loaded.
_RESULT_METHODS = frozenset(
    """
    scalars scalar scalar_one scalar_one_or_none one one_or_none first all fetchall
    fetchone fetchmany mappings unique partitions columns keys tuples yield_per freeze
    """.split()
)
# What no model has a method for that does something else.
_VALUE_METHODS = frozenset(
    """
    lower upper strip lstrip rstrip startswith endswith splitlines isoformat strftime
    timestamp hex
    """.split()
)
# What reaches a function's names otherwise than by naming them.
_GIVES_NAMES = frozenset({"eval", "exec", "locals"})
_MISSING_ROWS = frozenset(
    f"sqlalchemy.{home}.{name}"
    for home in ("exc", "orm.exc")
    for name in ("NoResultFound", "MultipleResultsFound")
)
"""The errors of a result that has no row, or too many."""
_CONSUMERS = frozenset("list tuple set frozenset dict sorted sum min max any all len".split())
_QUIET_FUNCTIONS = ("logging.", "asyncio.sleep", *VALUE_MODULES)


_EXPIRED = ", which the handler's rollback expires after an error"


def reasons_against(
    module: Module,
    form: Form,
    terms: Terms,
) -> list[str]:
    """Return why a form's block may behave otherwise under the handler; nothing if it does not."""
    block, session, items = form.block, form.name, form.entered
    analysis = _Analysis(module, session, terms, Outside(module, form))
    analysis.look_at(block)
    if terms.commits_itself and terms.expiry_ends:
        analysis.expired |= analysis.objects
    begins = terms.commits_itself or (bool(items) and analysis.begins(items[0]))
    analysis.begun = begins
    captured = list(analysis.captured_outside(form))
    for function in captured:
        if not begins and isinstance(function, cst.FunctionDef):
            analysis.object_to(f"`{function.name.value}()` uses what it loaded{_EXPIRED}", function)
    start = State(escaped=bool(captured))
    state = analysis.entered(list(items), block, start)
    analysis.leave(state, block)
    behind = reasons_behind(
        module,
        form,
        analysis.tracked,
        analysis.taken,
        expires=terms.expiry_ends,
        expired=frozenset(analysis.expired),
        read=analysis.read,
        given_away=analysis.given_away,
        kept=not begins,
    )
    return [*analysis.reasons, *behind]


class _Analysis:
    def __init__(self, module: Module, session: str | None, terms: Terms, outside: Outside) -> None:
        self.module = module
        self.session = session
        self.terms = terms
        self.tracked: frozenset[str] = frozenset()
        self.taken: frozenset[str] = frozenset()
        """The names by which the session is given objects."""
        self.results: frozenset[str] = frozenset()
        self.reasons: list[str] = []
        self.committing = 1 if terms.commits_itself else 0
        self.raising = False
        self.loops: list[list[State]] = []
        self.last_write = ""
        self.outside = outside
        self.begun = False
        """Whether an error that left the old form rolled back, and so expired what it loaded."""
        self.classes: Sequence[LocalClass] = ()
        """Those that the block names: it is their columns that it reads."""
        self.objects: frozenset[str] = frozenset()
        """Those of the tracked names that hold more than values of columns."""
        self.expired: set[str] = set()
        """The names of objects that the block may be left with expired, by its own commit."""
        self.read: list[cst.Attribute] = []
        """The attributes that are read of such objects in the block, which fails."""
        self.given_away: list[GivenAway] = []
        """What it gives back or keeps of what a commit expires."""
        self.knows_others = False
        """Whether the session may know objects by other names than those of the block."""
        self.following: tuple[cst.FunctionDef, ...] = ()
        """The functions that it runs in, of those that get the session."""

    def look_at(self, block: cst.BaseSuite, known: frozenset[str] = frozenset()) -> None:
        """Find out which names of a block hold what; `known` are those that hold its objects."""
        self.block = block
        module, session = self.module, self.session
        given = [
            argument.value
            for call in walk(block)
            if isinstance(call, cst.Call) and method_of(call, session) in TAKES
            for argument in call.args
        ]
        by_others = list(taken_in(module, block, session))
        # A value that is given to a column is no object of the session.
        values = module.project.tracks_mutations
        known |= {n for one in by_others for n in reachable(module, one, values=values)}
        taken = {n for one in (*given, *by_others) for n in reachable(module, one, values=values)}
        self.taken = cascaded(module, block, frozenset(taken))
        self.classes = [*classes_named(module, block), *classes_of_called(module, block, session)]
        self.tracked = tracked_names(module, block, session, known=known)
        self.objects = tracked_names(module, block, session, self.classes, known)
        self.results = result_names(module, block, session)

    def object_to(self, reason: str, node: cst.CSTNode) -> None:
        """Record a reason, once, with the line it stands on."""
        text = f"{reason} ({self.line_of(node)})"
        if text not in self.reasons:
            self.reasons.append(text)

    def line_of(self, node: cst.CSTNode) -> str:
        """Return where a node stands, as messages say it."""
        return f"line {self.module.position(node).start.line}"

    def captured_outside(self, form: Form) -> Iterator[cst.CSTNode]:
        """Yield the functions round about, but outside the block, that use names of its objects.

        What it does when it is called in the block is not followed.
        """
        holders = around(form, self.module)
        inside = {id(part) for part in walk(form.block)}
        for part in walk(holders[-1]):
            if isinstance(part, cst.Call) and isinstance(part.func, cst.Name):
                if part.func.value in _GIVES_NAMES or (part.func.value == "vars" and not part.args):
                    yield part
            elif (
                isinstance(part, (cst.FunctionDef, cst.Lambda, cst.GeneratorExp))
                and id(part) not in inside
                and not any(holder is part for holder in holders)
                and self.mentions(part)
            ):
                yield part

    # -- statements -------------------------------------------------------------------------

    def suite(self, suite: cst.BaseSuite, state: State) -> State:
        for line in suite.body:
            statements: Sequence[cst.CSTNode] = (
                line.body if isinstance(line, cst.SimpleStatementLine) else [line]
            )
            for statement in statements:
                if not state.reached:
                    return state
                state = self.statement(statement, state)
        return state

    def statement(self, node: cst.CSTNode, state: State) -> State:
        if state.foreign and self.outside.may_fail(node):
            self.object_to(
                "an error may leave the block when it has taken in an object from outside, which "
                "the handler's rollback would put back",
                node,
            )
        match node:
            case cst.Expr():
                return self.value(node.value, state)
            case cst.Assign():
                state = self.value(node.value, state)
                named = (t.target for t in node.targets if isinstance(t.target, cst.Name))
                # Of `user = self.user = User()` the name tells whether the session gets it.
                value = next((one for one in named if one.value in self.objects), node.value)
                for target in node.targets:
                    state = self.target(target.target, state)
                    state = self.stored(target.target, value, state)
                    state = self.related(target.target, node.value, state)
                return self.bound(node, state)
            case cst.AnnAssign():
                if node.value is None:
                    return state
                state = self.target(node.target, self.value(node.value, state))
                state = self.stored(node.target, node.value, state)
                state = self.related(node.target, node.value, state)
                return self.bound(node, state)
            case cst.AugAssign():
                state = self.target(node.target, self.value(node.value, state), augmented=True)
                state = self.stored(node.target, node.value, state)
                match node.target:
                    case cst.Attribute(attr=cst.Name(name)) if (
                        name in self.module.project.relationships
                    ):
                        return self.given(node.value, state)  # `user.items += items`
                return state
            case cst.Del():
                return self.target(node.target, state)
            case cst.Return():
                if node.value is not None:
                    if self.mentions_session(node.value) and self.bare_session(node.value):
                        self.object_to("the session is returned", node)
                    else:
                        state = self.value(node.value, state)
                    self.gives_back(node.value, state)
                self.leave(state, node)
                return ENDED
            case cst.Break() | cst.Continue():
                if self.loops:
                    self.loops[-1].append(state)
                else:
                    self.leave(state, node)
                return ENDED
            case cst.Raise():
                for part in children(node):
                    state = self.value(part, state)
                if not self.committing and any(map(self.hands_out, _raised(node))):
                    self.object_to(f"an error carries what it loaded{_EXPIRED}", node)
                return ENDED
            case cst.If():
                state = self.value(node.test, state)
                after = self.suite(node.body, state)
                if isinstance(node.orelse, cst.If):
                    return after.joined(self.statement(node.orelse, state))
                if node.orelse is not None:
                    return after.joined(self.suite(node.orelse.body, state))
                return after.joined(state)
            case cst.For():
                return self.loop(node, self.value(node.iter, state))
            case cst.While():
                return self.loop(node, state)
            case cst.With():
                return self.entered(list(node.items), node.body, state)
            case cst.Try() | cst.TryStar():
                return self.attempt(node, state)
            case cst.Match():
                state = self.value(node.subject, state)
                after = state
                for case in node.cases:
                    if case.guard is not None:
                        state = state.joined(self.value(case.guard, state))
                    after = after.joined(state).joined(self.suite(case.body, state))
                return after
            case cst.FunctionDef() | cst.ClassDef():
                if self.mentions(node):
                    self.object_to("a function inside the block uses the session", node)
                return state
            case cst.Assert():
                state = self.value(node.test, state)
                if node.msg is None:
                    return state
                if not self.committing and self.hands_on(node.msg):
                    self.object_to(f"an error carries what it loaded{_EXPIRED}", node)
                return self.value(node.msg, state)
            case (
                cst.Pass()
                | cst.Import()
                | cst.ImportFrom()
                | cst.Global()
                | cst.Nonlocal()
                | cst.TypeAlias()
            ):
                return state
            case _:
                self.object_to("a statement here is not understood", node)
                return state

    def loop(self, node: cst.For | cst.While, state: State) -> State:
        """Run a loop's body until its state no longer changes; both flags only ever rise."""
        while True:
            self.loops.append([])
            inner = self.value(node.test, state) if isinstance(node, cst.While) else state
            if isinstance(node, cst.For):
                inner = self.stored(node.target, node.iter, self.target(node.target, inner))
                inner = self.bound(node, inner)
            if (
                isinstance(node, cst.For)
                and node.asynchronous is not None
                and inner.escaped
                and not self.is_result(node.iter)
            ):
                inner = self.written(inner, "what is iterated over may change it", node)
            inner = self.suite(node.body, inner)
            for left in self.loops.pop():
                inner = inner.joined(left)
            joined = state.joined(inner)
            if joined == state:
                break
            state = joined
        if isinstance(node, cst.While):
            state = state.joined(self.value(node.test, state))
        if node.orelse is not None:
            state = state.joined(self.suite(node.orelse.body, state))
        return state

    def entered(self, items: list[cst.WithItem], body: cst.BaseSuite, state: State) -> State:
        """Run a `with`, its first item round the others."""
        if not items:
            return self.suite(body, state)
        item, rest = items[0], items[1:]
        method = self.session_method(item.item)
        if method is not None:
            self.check_begun(method[0], item, state)
        if method is not None and method[0] in ("begin", "begin_nested") and not method[1].args:
            if item.asname is not None and self.mentions_tracked(item.asname):
                self.object_to("the transaction's name is one of the session's objects", item)
            if method[0] == "begin":
                self.committing += 1
                state = self.entered(rest, body, state)
                self.committing -= 1
                return self.committed(state)
            state = self.entered(rest, body, replace(state, unflushed=False))
            return replace(state, unflushed=False)
        state = self.value(item.item, state)
        is_quiet = is_quiet_context(self.module, item.item)
        if not is_quiet and any(self.mentions(part) for part in (*rest, body)):
            self.object_to("a context manager that may swallow errors stands in the block", item)
        if item.asname is not None:
            state = self.target(item.asname.name, state)
        state = self.entered(rest, body, state)
        is_call = isinstance(item.item, cst.Call)  # which was minded as such
        if not is_call and self.hands_on(item.item) and not self.is_result(item.item):
            return self.written(state, "what it loaded is entered and may change", item)
        if state.reached and state.escaped and not is_quiet:
            return self.written(state, "what a context manager does may change it", item)
        return state

    def attempt(self, node: cst.Try | cst.TryStar, state: State) -> State:
        entry = state
        after = self.suite(node.body, state)
        # An error can come after any part of the body was done.
        caught = replace(after.joined(entry), reached=True)
        caught = caught.joined(self.effects(node.body, entry))
        if node.orelse is not None and after.reached:
            after = self.suite(node.orelse.body, after)
        for handler in node.handlers:
            outer, self.raising = self.raising, always_raises(handler.body)
            is_harmless = (
                self.is_savepoint(node.body) and _catches_refusals(handler)
            ) or self.catches_missing_rows(handler, node.body, caught)
            if not self.raising and not is_harmless:
                failing = self.failing_in(node.body, caught, swallows=may_swallow(handler))
                if failing is not None:
                    self.object_to(f"an `except` catches errors of {failing} and goes on", handler)
            after = after.joined(self.suite(handler.body, caught))
            self.raising = outer
        if node.finalbody is not None:
            if any(isinstance(part, WAYS_OUT) for part in walk(node.finalbody)):
                self.object_to("a way out in `finally` swallows errors", node.finalbody)
            if self.mentions(node.finalbody) and any(
                isinstance(part, WAYS_OUT)
                for suite in (node.body, *node.handlers, *([node.orelse] if node.orelse else ()))
                for part in walk(suite)
            ):
                self.object_to("a `finally` uses the session after a way out", node.finalbody)
            reached = after.reached
            after = self.suite(node.finalbody.body, replace(after.joined(caught), reached=True))
            if not reached:
                after = ENDED
        return after

    def failing_in(self, body: cst.BaseSuite, state: State, *, swallows: bool) -> str | None:
        """Return whose errors may leave a suite that are others under the handler, or None.

        What only reads and sets attributes of loaded objects fails as before. A read that loads
        fails without a greenlet, but flushes first where the session flushes before queries:
        `swallows` says that such an error may go unseen.
        """
        expired = state.stale and self.terms.expiry_ends
        flushes = swallows and state.unflushed and self.terms.autoflush_ends
        for part in walk(body):
            match part:
                case cst.Name(value=name) if is_of_lambda(self.module, part):
                    continue
                case cst.Name(value=name) if name == self.session or name in self.results:
                    return "the session"
                case cst.Name(value=name) if name in self.tracked:
                    holder = self.module.parent(part)
                    if expired or (
                        flushes
                        and not (
                            name not in self.taken
                            and holder is not None
                            and is_loaded_value(self.module, holder, self.classes)
                        )
                    ):
                        return "reading what may have to be loaded"
                case cst.Attribute(attr=cst.Name(value="awaitable_attrs")):
                    return "the session"
                case cst.Await(expression=expression) if not isinstance(expression, cst.Call):
                    if self.carries(expression):
                        return "code that gets what it loaded"
                case cst.WithItem(item=item) if self.carries(item):
                    return "code that gets what it loaded"
                case (
                    cst.For(asynchronous=cst.Asynchronous(), iter=value)
                    | cst.CompFor(asynchronous=cst.Asynchronous(), iter=value)
                ) if self.carries(value):
                    return "code that gets what it loaded"
                case cst.Call() if self.gets_objects(part):
                    return "code that gets what it loaded"
        return None

    def gets_objects(self, call: cst.Call) -> bool:
        """Return whether code that was not followed gets objects of the session by a call."""
        owner = call.func.value if isinstance(call.func, cst.Attribute) else call.func
        if self.is_pure(call) or (
            isinstance(call.func, cst.Attribute)
            and call.func.attr.value in FILLS | EMPTIES
            and self.is_own_collection(owner)
        ):
            return False
        return self.carries(owner) or any(self.hands_on(one.value) for one in call.args)

    def catches_missing_rows(
        self,
        handler: cst.ExceptHandler | cst.ExceptStarHandler,
        body: cst.BaseSuite,
        state: State,
    ) -> bool:
        """Return whether a handler catches only what a result raises that has not one row.

        The query went well, so the transaction goes on. No flush comes before it, and no other
        code could raise the like after an error of the session.
        """
        kinds = [handler.type]
        if isinstance(handler.type, cst.Tuple):
            kinds = [element.value for element in handler.type.elements]
        found = [self.module.evaluate(kind) if kind is not None else () for kind in kinds]
        if state.unflushed or not all(
            values
            and all(isinstance(one, External) and one.dotted in _MISSING_ROWS for one in values)
            for values in found
        ):
            return False
        return not any(
            isinstance(part, (cst.Raise, cst.Yield))
            or (isinstance(part, cst.Await) and not isinstance(part.expression, cst.Call))
            or (
                isinstance(part, cst.Call)
                and self.session_method(part) is None
                and (
                    self.gets_objects(part)
                    or any(self.mentions_session(one.value) for one in part.args)
                )
            )
            for part in walk(body)
        )

    def is_savepoint(self, body: cst.BaseSuite) -> bool:
        """Return whether a suite is one savepoint, which takes back what an error left."""
        match body.body:
            case [cst.With(items=[cst.WithItem(item=item)])]:
                return method_of(item, self.session) == "begin_nested"
        return False

    def effects(self, body: cst.BaseSuite, entry: State) -> State:
        """Return what may be true where an error leaves a `try` body: after any of its parts."""
        state, seen = entry, entry
        reasons = list(self.reasons)
        loops = self.loops
        self.loops = [*loops, []]
        for line in body.body:
            if not state.reached:
                break
            parts = line.body if isinstance(line, cst.SimpleStatementLine) else [line]
            for part in parts:
                state = self.statement(part, state)
                seen = seen.joined(state)
        self.loops = loops
        self.reasons = reasons
        return seen

    def leave(self, state: State, node: cst.CSTNode) -> None:
        """Check a way out of the block that raises nothing."""
        expires = state.stale or (self.committing > 0 and state.loaded)
        if state.reached and self.terms.expiry_ends and expires:
            self.expired |= self.objects - (state.fresh if not self.committing else frozenset())
        if state.reached and state.dirty and not self.committing:
            reason = f"{self.last_write}, and nothing commits that; the handler would"
            if reason not in self.reasons:
                self.reasons.append(reason)

    def gives_back(self, value: cst.BaseExpression, state: State) -> None:
        """Mind that who called the function gets what a commit has expired, or will."""
        if not self.committing and not state.stale:
            return
        names = self.objects if self.committing else self.expired_names(state)
        given: Iterator[cst.BaseExpression] = held_names(value, names)
        loaded = isinstance(value, cst.Await) or (
            isinstance(value, cst.Call)
            and isinstance(value.func, cst.Attribute)
            and self.is_result(value.func.value)
        )
        for one in (value,) if loaded else given:
            self.give_away(one)

    def give_away(self, value: cst.BaseExpression) -> None:
        """Note what others get of the session's objects, which may have expired then."""
        if self.terms.expiry_ends and self.hands_on(value):
            classes = classes_held(self.module, value, self.session)
            given = GivenAway(self.module.code(value), self.line_of(value), classes)
            self.given_away.append(given)

    def committed(self, state: State) -> State:
        return replace(
            state,
            dirty=False,
            unflushed=False,
            stale=state.stale or state.loaded,
            # What a commit expired a rollback does not change.
            foreign=state.foreign and not self.terms.expiry_ends,
            had_foreign=state.had_foreign or state.foreign,
            fresh=frozenset(),
        )

    # -- targets ----------------------------------------------------------------------------

    def target(self, node: cst.CSTNode, state: State, *, augmented: bool = False) -> State:
        if isinstance(node, cst.Name):
            if node.value == self.session:
                self.object_to("the session's name is bound again", node)
            if augmented and node.value in self.objects:
                return self.changed(state, node)
            return state
        if isinstance(node, (cst.Tuple, cst.List)):
            for element in node.elements:
                state = self.target(element.value, state)
            return state
        if isinstance(node, cst.StarredElement):
            return self.target(node.value, state)
        if self.mentions_session(node):
            self.object_to("the session is stored or changed", node)
            return state
        if isinstance(node, cst.Subscript) and self.is_own_collection(node.value):
            return state
        if isinstance(node, (cst.Attribute, cst.Subscript)) and (
            state.escaped or self.mentions_tracked(node.value)
        ):
            return self.changed(state, node)
        return state

    def stored(self, target: cst.CSTNode, value: cst.BaseExpression, state: State) -> State:
        """Store an object where other names than those tracked lead to it, if a target does that.

        An error that leaves the block then expires it in other hands.
        """
        if isinstance(target, (cst.Tuple, cst.List)):
            for element in target.elements:
                state = self.stored(element.value, value, state)
            return state
        if not self.hands_on(value) or (isinstance(target, cst.Name) and self.is_local(target)):
            return state
        if isinstance(target, cst.Subscript) and self.is_own_collection(target.value):
            return state
        is_objects = isinstance(target, (cst.Attribute, cst.Subscript)) and self.carries(
            target.value
        )
        if not self.begun and not is_objects:
            self.object_to(f"what it loaded is kept beyond the block{_EXPIRED}", target)
        if not is_objects and (self.begun or self.committing):
            self.give_away(value)
        return replace(state, escaped=True)

    def related(self, target: cst.CSTNode, value: cst.BaseExpression, state: State) -> State:
        """Mind that the session takes in by a cascade what an object is given to keep."""
        if not isinstance(target, (cst.Attribute, cst.Subscript)):
            return state
        if isinstance(target, cst.Subscript) and self.is_own_collection(target.value):
            return state
        if is_column_value(self.module, target, self.classes):
            return state
        return self.given(value, state)

    def given(self, value: cst.BaseExpression, state: State) -> State:
        """Mind that an object of the session may be given one that others have."""
        if (
            (isinstance(value, cst.Name) and is_plain(self.module, value))
            or isinstance(value, (cst.FormattedString, cst.Comparison))
            or not self.outside.gives(value)
        ):
            return state
        return replace(state, escaped=True, foreign=state.foreign or not self.begun)

    def is_own_collection(self, node: cst.CSTNode) -> bool:
        """Return whether an expression is a collection of the function's own, by its name."""
        return isinstance(node, cst.Name) and is_own_collection(self.module, node)

    def is_local(self, name: cst.Name) -> bool:
        """Return whether a name is one of the function's own."""
        place = self.module.place(name)
        return name.value in place.scope.bindings

    def bound(self, node: cst.CSTNode, state: State) -> State:
        """Mind that a name which is bound to none of the session's objects has no expired one."""
        value, names = bound_names(node)
        if value is None or self.carries(value):
            return replace(state, fresh=state.fresh.difference(names))
        return replace(state, fresh=state.fresh.union(names))

    def changed(self, state: State, node: cst.CSTNode) -> State:
        """Return the state after the block has changed an object itself: nobody else gets it."""
        return replace(
            self.written(state, "it changes what it loaded", node), escaped=state.escaped
        )

    def written(self, state: State, what: str, node: cst.CSTNode, *, fresh: bool = False) -> State:
        """Return the state after an object may have changed, or a `fresh` one came."""
        self.last_write = f"{what} ({self.line_of(node)})"
        if state.stale and self.terms.expiry_ends and not fresh:
            self.object_to("it changes after a commit what would have expired", node)
        if self.terms.commits_itself and state.ended:
            self.object_to(
                f"{what}, which fails in the transaction that is begun round it and ended", node
            )
        return replace(state, dirty=True, unflushed=True, loaded=True, escaped=True)

    # -- expressions ------------------------------------------------------------------------

    def value(self, node: cst.CSTNode, state: State) -> State:
        """Evaluate an expression, and use what it gives as the code round it does."""
        state = self.evaluated(node, state)
        called = methods_called_on(self.module, node)
        setting = called & self.module.project.setting_methods if called else called
        if setting and (state.escaped or self.hands_on(node)) and not self.is_result(node):
            what = f"`{min(setting)}()` of a model of the project changes what it loaded"
            return self.written(state, what, node)
        return state

    def evaluated(self, node: cst.CSTNode, state: State) -> State:
        """Evaluate an expression: what it does to the session, part by part."""
        match node:
            case cst.Await(expression=cst.Call() as call):
                method = self.session_method(call)
                if method is not None:
                    return self.session_call(method[0], call, state)
                return self.call(call, state)
            case cst.Await():
                state = self.value(node.expression, state)
                if state.escaped:
                    return self.written(state, "what was begun before may change it", node)
                return state
            case cst.GeneratorExp() if not self.is_consumed_here(node):
                if self.mentions(node) or state.escaped:
                    self.object_to("a generator may use the session's objects later", node)
                return state
            case cst.Call():
                method = self.session_method(node)
                if method is not None and method[0] in ("add", "add_all"):
                    return self.session_call(method[0], node, state)
                if method is not None and method[0] in ("in_transaction", "is_active"):
                    return state
                return self.call(node, state)
            case cst.Name():
                if node.value == self.session:
                    self.object_to("the session goes to code that was not followed", node)
                return state
            case cst.Lambda():
                if self.mentions(node):
                    self.object_to("a function inside the block uses the session", node)
                return state
            case cst.Yield() if self.terms.is_handed_out and self.yields_session(node):
                return self.handed_out(node, state)
            case cst.Yield():
                self.object_to("it yields inside the block, and may never be resumed", node)
                return state
            case cst.Attribute():
                if self.is_session(node.value):
                    self.object_to(f"`{self.session}.{node.attr.value}` is not understood", node)
                    return state
                state = self.value(node.value, state)
                shown = next(held_names(node.value, self.expired_names(state)), None)
                if shown is not None and node.attr.value == "__dict__":
                    self.object_to(f"`{shown.value}.__dict__` shows what has expired", node)
                elif shown is not None:
                    self.read.append(node)
                if node.attr.value == "awaitable_attrs":
                    return self.query(node, state, loads=True)
                if self.sets_when_read(node) and (state.escaped or self.carries(node.value)):
                    what = f"`{node.attr.value}` changes what it loaded when it is read"
                    return self.written(state, what, node)
                return state
            case cst.FormattedStringExpression() | cst.BinaryOperation():
                parts = [*children(node)]
                for part in parts:
                    state = self.value(part, state)
                    self.check_shown(part, state)
                return state
            case cst.NamedExpr():
                state = self.target(node.target, self.value(node.value, state))
                return self.bound(node, self.stored(node.target, node.value, state))
            case cst.IfExp():
                state = self.value(node.test, state)
                body = self.value(node.body, state)
                return body.joined(self.value(node.orelse, state))
            case cst.BooleanOperation():
                state = self.value(node.left, state)
                return state.joined(self.value(node.right, state))
            case cst.ListComp() | cst.SetComp() | cst.GeneratorExp() | cst.DictComp():
                once = state
                for _ in range(2):
                    for part in children(node):
                        once = state.joined(self.value(part, once))
                return once
            case cst.CompFor():
                state = self.target(node.target, self.value(node.iter, state))
                state = self.stored(node.target, node.iter, state)
                for condition in node.ifs:
                    state = self.value(condition.test, state)
                return state if node.inner_for_in is None else self.value(node.inner_for_in, state)
            case _:
                for part in children(node):
                    state = self.value(part, state)
                return state

    def expired_names(self, state: State) -> frozenset[str]:
        """Return the names whose objects a commit expired, and would no longer."""
        if not (state.stale and self.terms.expiry_ends):
            return frozenset()
        return self.objects - state.fresh

    def check_shown(self, node: cst.CSTNode, state: State) -> None:
        """Object to an expired object whose text is made: what that shows, its class says."""
        shown = next(held_names(node, self.expired_names(state)), None)
        if shown is not None:
            self.object_to(f"the text of `{shown.value}` may show that it has expired", node)

    def read_by_key(self, call: cst.Call, state: State) -> None:
        """Mind that `sorted(users, key=lambda user: user.name)` reads what may have expired."""
        key, expired = argument_of(call, "key"), self.expired_names(state)
        sorted_ones = [argument.value for argument in call.args]
        if isinstance(call.func, cst.Attribute):
            sorted_ones.append(call.func.value)
        if key is not None and any(any(held_names(one, expired)) for one in sorted_ones):
            self.read.extend(attributes_of_key(key))

    def sets_when_read(self, node: cst.Attribute) -> bool:
        """Return whether an attribute is named like a property of the project that sets something.

        What is not known of an attribute is a read: most are columns.
        """
        return node.attr.value in self.module.project.setting_properties

    def yields_session(self, node: cst.Yield) -> bool:
        return node.value is not None and self.is_session(node.value)

    def handed_out(self, node: cst.Yield, state: State) -> State:
        """Yield the session to code that was not followed, and does with it what it likes."""
        if self.terms.autoflush_ends:
            self.object_to("who gets the session may rely on autoflush, which would end", node)
        if self.terms.expiry_ends:
            self.object_to("who gets the session may rely on what expires on commit", node)
        self.last_write = f"who gets the session may leave changes ({self.line_of(node)})"
        return replace(state, dirty=True, unflushed=True, loaded=True, escaped=True)

    def session_call(self, name: str, call: cst.Call, state: State) -> State:
        if any(argument.star for argument in call.args):
            self.object_to(f"the arguments of `{self.session}.{name}()` are not known", call)
            return state
        for argument in call.args:
            state = self.value(argument.value, state)
        self.check_begun(name, call, state)
        if name in READS:
            kind = self.statement_kind(call)
            state = self.query(call, state, loads=kind in ("read", "other"))
            if kind in ("write", "other"):
                self.last_write = f"`{self.session}.{name}()` may write ({self.line_of(call)})"
                state = replace(state, dirty=True)
            return state
        if name in _LOADS_ONE:
            given = {a.keyword.value for a in call.args if a.keyword is not None}
            if not given <= {"options", "with_for_update"}:
                self.object_to(f"an argument of `{self.session}.{name}()` is not understood", call)
            state = self.query(call, state, loads=True)
            if "with_for_update" in given:
                self.last_write = f"`{self.session}.{name}()` locks ({self.line_of(call)})"
                state = replace(state, dirty=True)
            return state
        if name == "refresh":
            state = self.query(call, state, loads=self.refreshes_others(call, state))
            state = replace(state, foreign=state.foreign or state.had_foreign)
            match call.args:
                case [cst.Arg(value=cst.Name(value=read), keyword=None)]:
                    return replace(state, fresh=state.fresh | {read})
            return state
        if name in ("add", "add_all"):
            return self.added(call, state)
        if name == "delete":
            state = self.query(call, state, loads=False)
            return self.taken_in(call, state, self.written(state, "it deletes", call))
        if name == "merge":
            return self.written(self.query(call, state, loads=True), "it merges", call)
        if name == "flush":
            return replace(state, unflushed=False)
        if name == "commit":
            return replace(self.committed(state), ended=True)
        if name == "rollback" and self.raising:
            return replace(state, unflushed=False, ended=True, foreign=False)
        if name == "rollback":
            self.object_to("the block rolls back, and goes on", call)
        else:
            self.object_to(f"`{self.session}.{name}()` is not understood", call)
        return state

    def check_begun(self, name: str, node: cst.CSTNode, state: State) -> None:
        """Object to what fails in the transaction that the old form begins, and the handler's not.

        It takes no second `begin()`, and nothing at all behind a `commit()` or a `rollback()`.
        """
        if self.terms.commits_itself and (state.ended or name == "begin"):
            self.object_to(
                f"`{self.session}.{name}()` fails in the transaction that is begun round it", node
            )

    def query(self, node: cst.CSTNode, state: State, *, loads: bool) -> State:
        """Run a query: what was not flushed is not seen, what was not expired is not read anew."""
        if state.unflushed and self.terms.autoflush_ends:
            self.object_to("a query runs after a change without a `flush()` between", node)
        if loads and state.stale and self.terms.expiry_ends:
            self.object_to("it reads again after a commit, and would see old values", node)
        return replace(state, loaded=state.loaded or loads)

    def refreshes_others(self, call: cst.Call, state: State) -> bool:
        """Return whether a `refresh()` after a commit may lead to objects that were there before.

        What no name holds, the session has let go: it only knows what others keep.
        """
        if not state.stale or not reads_others(
            self.module, call, self.block, self.session, self.classes
        ):
            return False
        if self.knows_others:
            return True
        own = {a.value.value for a in call.args[:1] if isinstance(a.value, cst.Name)}
        at = self.module.place(call)
        line = self.module.position(call).start.line
        again = comes_again(self.module.ancestors(call))
        return any(
            self.module.place(use).scope is at.scope
            and (again or self.module.position(use).start.line < line)
            for name in self.objects - own - state.fresh
            for use in self.module.named(name)
        )

    def added(self, call: cst.Call, state: State) -> State:
        after = self.written(state, "it adds rows", call, fresh=True)
        return self.taken_in(call, state, after)

    def taken_in(self, call: cst.Call, before: State, after: State) -> State:
        """Mind that others have an object that the session takes in.

        The handler's rollback would expire what it loaded, and make what it stored new again; a
        session that is only closed lets go of it as it is. What nobody else has stays so.
        """
        given = [argument.value for argument in call.args]
        foreign = not self.begun and any(map(self.outside.gives, given))
        is_untold = all(self.outside.is_untold(one, self.objects) for one in given)
        return replace(
            after,
            foreign=after.foreign or foreign,
            escaped=before.escaped or not is_untold,
        )

    def is_consumed_here(self, node: cst.GeneratorExp) -> bool:
        """Return whether a generator is an argument of a builtin that runs it to its end."""
        argument = self.module.parent(node)
        call = self.module.parent(argument) if isinstance(argument, cst.Arg) else None
        if not isinstance(call, cst.Call):
            return False
        method = self.session_method(call)
        if method is not None:
            return method[0] == "add_all"
        if isinstance(call.func, cst.Attribute):
            return isinstance(call.func.value, cst.SimpleString)  # `", ".join(...)`
        return isinstance(call.func, cst.Name) and call.func.value in _CONSUMERS

    def call(self, call: cst.Call, state: State) -> State:
        """Evaluate a call that is not the session's own."""
        if (called := called_with(self.module, call, self.session)) is not None:
            return self.followed(called, call, state)
        function = call.func
        if isinstance(function, cst.Attribute):
            if self.is_session(function.value):
                self.object_to(
                    f"`{self.session}.{function.attr.value}()` is not understood here", call
                )
            else:
                state = self.value(function.value, state)
        elif not isinstance(function, cst.Name):
            state = self.value(function, state)
        elif function.value in ("map", "filter"):
            self.object_to("a lazy call may use the session's objects later", call)
        takes_objects = False
        for argument in call.args:
            if self.bare_session(argument.value):
                self.object_to("the session goes to code that was not followed", call)
                continue
            state = self.value(argument.value, state)
            takes_objects = takes_objects or self.hands_on(argument.value)
        if is_setattr(call):
            return self.set_by_name(call, state)
        if self.is_pure(call):
            self.read_by_key(call, state)
            if shows(call):
                for argument in call.args:
                    self.check_shown(argument.value, state)
            return state
        if (
            isinstance(function, cst.Attribute)
            and function.attr.value in FILLS | EMPTIES
            and self.is_own_collection(function.value)
        ):
            return state
        is_related = (  # `user.items.append(item)`
            isinstance(function, cst.Attribute)
            and function.attr.value in FILLS
            and self.carries(function.value)
        )
        if is_related:
            state = self.taken_in(call, state, state)
        owner = function.value if isinstance(function, cst.Attribute) else function
        owner_tracked = self.carries(owner)
        if takes_objects and not (is_related or is_construction(call)):
            if not self.begun:
                self.object_to(f"what it loaded is kept beyond the block{_EXPIRED}", call)
            for argument in call.args if self.begun or self.committing else ():
                self.give_away(argument.value)
        if takes_objects or owner_tracked:
            what = "what it loaded goes to code that was not followed and may change it"
            return self.written(state, what, call)
        if state.escaped and not is_construction(call):
            return self.written(state, "code that was not followed may change what it loaded", call)
        return state

    def followed(self, called: Called, call: cst.Call, state: State) -> State:
        """Run a function of the project that gets the session."""
        if len(self.following) == DEEPEST or called.function in self.following:
            self.object_to("the session goes to code that was not followed", call)
            return state
        for argument in call.args:
            if not self.is_session(argument.value):
                state = self.value(argument.value, state)
        callee = _Callee(self, called)
        after = callee.run(replace(state, fresh=frozenset()))
        for reason in callee.reasons:
            text = f"in `{called.function.name.value}()`, {reason}"
            if text not in self.reasons:
                self.reasons.append(text)
        self.given_away += callee.given_away
        if callee.last_write:
            self.last_write = f"in `{called.function.name.value}()`, {callee.last_write}"
        awaited = self.module.parent(call)
        use = self.module.parent(awaited) if awaited is not None else None
        is_named = isinstance(use, (cst.Assign, cst.AnnAssign, cst.Expr, cst.Return))
        if after.stale and self.terms.expiry_ends and not is_named:
            # Only names are known to be what has expired.
            self.object_to(f"what `{called.function.name.value}()` gives may have expired", call)
        return after

    def set_by_name(self, call: cst.Call, state: State) -> State:
        """Run `setattr(user, field, value)`: it is an assignment to an attribute."""
        owner, _, value = (argument.value for argument in call.args)
        if self.hands_on(value):
            if not self.begun and not self.carries(owner):
                self.object_to(f"what it loaded is kept beyond the block{_EXPIRED}", call)
            state = replace(state, escaped=True)
        if not (state.escaped or self.mentions_tracked(owner) or self.carries(owner)):
            return state
        return self.given(value, self.changed(state, call))

    def is_pure(self, call: cst.Call) -> bool:
        """Return whether a call is known to change nothing that was loaded."""
        function = call.func
        if isinstance(function, cst.Attribute):
            owner, method = function.value, function.attr.value
            if method in _RESULT_METHODS and self.is_result(owner):
                return all(is_literal(argument.value) for argument in call.args)
            if isinstance(owner, (cst.SimpleString, cst.ConcatenatedString, cst.FormattedString)):
                return True
            if method in _VALUE_METHODS and isinstance(owner, (cst.Attribute, cst.Call)):
                is_value = isinstance(owner, cst.Attribute) or self.is_pure(owner)
                return is_value and all(is_literal(argument.value) for argument in call.args)
            if is_of_logger(call):
                return True
        key = argument_of(call, "key")  # `sorted(users, key=touch)` calls what it is given
        read = list(attributes_of_key(key)) if key is not None else []
        if key is not None and (not read or any(map(self.sets_when_read, read))):
            return False
        if (
            isinstance(function, cst.Attribute)
            and function.attr.value == "sort"
            and is_list_of_result(self.module, function.value, self.session, self.results)
        ):
            # Without a key, objects are compared as their class has it.
            return key is not None and not self.module.project.setting_methods
        if reads_attributes(self.module, call):
            return True
        values = self.module.evaluate(function)
        if values and all(
            isinstance(value, External)
            and (value.dotted in PURE_BUILTINS or value.dotted.startswith(_QUIET_FUNCTIONS))
            for value in values
        ):
            return True
        return builds_sql(self.module, call)

    def statement_kind(self, call: cst.Call) -> str:
        """Return what the statement that is executed does, its other arguments minded."""
        if not call.args or any(a.keyword is not None for a in call.args[:1]):
            return "other"
        extra = {a.keyword.value for a in call.args if a.keyword is not None}
        if not extra <= {"params", "execution_options"}:
            return "other"
        return statement_kind(self.module, call.args[0].value)

    # -- the session and what it loaded -------------------------------------------------------

    def is_session(self, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.Name) and node.value == self.session

    def is_result(self, node: cst.CSTNode) -> bool:
        """Return whether an expression is the result of a query, not yet an object of it."""
        return is_result(node, self.session, self.results)

    def bare_session(self, node: cst.CSTNode) -> bool:
        """Return whether an expression hands on the session itself."""
        if self.is_session(node):
            return True
        if isinstance(node, (cst.Tuple, cst.List, cst.Dict, cst.Set)):
            return any(self.bare_session(element.value) for element in node.elements)
        return False

    def session_method(self, node: cst.CSTNode) -> tuple[str, cst.Call] | None:
        method = method_of(node, self.session)
        return (method, node) if method is not None and isinstance(node, cst.Call) else None

    def mentions_session(self, node: cst.CSTNode) -> bool:
        return any(self.is_session(part) for part in walk(node))

    def mentions_tracked(self, node: cst.CSTNode) -> bool:
        return any(isinstance(part, cst.Name) and part.value in self.tracked for part in walk(node))

    def mentions(self, node: cst.CSTNode) -> bool:
        """Return whether a node names the session, its objects or results still to be read."""
        return any(
            isinstance(part, cst.Name)
            and (
                part.value == self.session
                or part.value in self.tracked
                or part.value in self.results
            )
            and not is_of_lambda(self.module, part)
            for part in walk(node)
        )

    def begins(self, item: cst.WithItem) -> bool:
        """Return whether a `with` enters the session's transaction, which an error rolls back."""
        method = self.session_method(item.item)
        return method is not None and method[0] == "begin"

    def hands_out(self, error: cst.BaseExpression) -> bool:
        """Return whether an exception that is raised holds an object of the session."""
        if not isinstance(error, cst.Call):
            return self.hands_on(error)
        return any(
            self.carries(argument.value)
            and not is_column_value(self.module, argument.value, self.classes)
            for argument in error.args
        )

    def carries(self, node: cst.CSTNode) -> bool:
        return carries_objects(self.module, node, self.session, self.tracked)

    def hands_on(self, node: cst.CSTNode) -> bool:
        """Return whether who gets a value may change objects of the session through it.

        A column's value is no object, unless the project has its changes tracked.
        """
        if self.module.project.tracks_mutations:
            return self.carries(node)
        return carries_objects(self.module, node, self.session, self.objects, self.classes)


class _Callee(_Analysis):
    """A function that a block hands its session to: what is true where it has given back."""

    def __init__(self, caller: _Analysis, called: Called) -> None:
        function, module = called.function, called.module
        given, asked = called.given.items(), caller.outside
        own = frozenset(name for name, value in given if not asked.gives(value))
        untold = frozenset(
            name for name in own if asked.is_untold(called.given[name], caller.objects)
        )
        form = Form(function, called.session, function.body, function.body, [function])
        outside = Outside(module, form, own, untold)
        super().__init__(module, called.session, caller.terms, outside)
        self.function, self.form = function, form
        self.following = (*caller.following, function)
        self.committing, self.raising, self.begun = caller.committing, caller.raising, caller.begun
        self.left: list[State] = []
        known = {name for name, value in called.given.items() if caller.carries(value)}
        self.look_at(function.body, frozenset(known))

    def run(self, state: State) -> State:
        """Return what is true behind the call."""
        self.knows_others = state.loaded
        if any(self.captured_outside(self.form)):
            state = replace(state, escaped=True)
        self.left.append(self.suite(self.function.body, state))
        for node in self.read:
            self.object_to("it reads what a commit expired", node)
        after = ENDED
        for left in self.left:
            after = after.joined(left)
        return replace(after, fresh=frozenset())

    def gives_back(self, value: cst.BaseExpression, state: State) -> None:
        """Leave it to the caller what becomes of what it is given back."""

    def leave(self, state: State, node: cst.CSTNode) -> None:
        """Note what is true where it gives back: its caller goes on."""
        self.left.append(state)

    def line_of(self, node: cst.CSTNode) -> str:
        """Return where a node stands, with the file, which may be another."""
        shown = self.module.project.shown(self.module.path)
        return f"{shown}:{self.module.position(node).start.line}"


def _catches_refusals(handler: cst.ExceptHandler | cst.ExceptStarHandler) -> bool:
    """Return whether an `except` catches what the database refuses, and no lost connection."""
    parts = dotted_parts(handler.type) if handler.type is not None else None
    return parts is not None and parts[-1] == "IntegrityError"


def _raised(node: cst.Raise) -> Iterator[cst.BaseExpression]:
    """Yield the error that is raised, and its cause."""
    if node.exc is not None:
        yield node.exc
    if node.cause is not None:
        yield node.cause.item
