"""Whether, and how surely, a session opened elsewhere can come from the handler instead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names import openings
from session_guard.names.from_libcst import children, walk
from session_guard.names.values import LocalClass
from session_guard.project.besides import does_more
from session_guard.project.handing import Use
from session_guard.project.handler import CONTEXT_MANAGER, REQUEST_MANAGER
from session_guard.rewriting.arguments import NotFixableError
from session_guard.rewriting.imports import has_comment
from session_guard.rule import Applicability, Rewrite, Violation
from session_guard.safety.block import reasons_against
from session_guard.safety.callers import Caller, caller_of, is_request_dependency
from session_guard.safety.forms import enclosing_function, form_of, yields
from session_guard.safety.matching import (
    all_openings,
    argument_reasons,
    check_attribute,
    check_class,
    check_engine,
    check_way,
    option,
)
from session_guard.safety.reference import reference
from session_guard.safety.replaced import Way, replaced_names, way_to
from session_guard.safety.state import Terms
from session_guard.safety.tries import COMMITTING, calls_one

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from session_guard.module import Module
    from session_guard.names.bindings import Binding
    from session_guard.names.openings import Opening
    from session_guard.project.handler import Handler
    from session_guard.safety.forms import Form

_BEGINNING = frozenset({"begin"})
_ENDING = frozenset({"__aexit__", "close", "commit", "rollback"})
# Where a reason is: the functions that were followed to there, and the line.
_PLACES = re.compile(r"\bin `\w+\(\)`, | \((?:line |[^()]*:)\d+\)")
_MOST_PLACES = 3
"""Those that are all named for one reason; a service may have hundreds."""


def report_opening(call: cst.Call, opening: Opening, module: Module, message: str) -> Violation:
    """Return the violation that a session's opening is, with its fix or the reason for none."""
    try:
        rewrite = rewrite_opening(call, opening, module)
    except NotFixableError as error:
        help_text = f"open it with `async with {CONTEXT_MANAGER}() as session:`"
        return Violation(call, message, f"{help_text}; not fixed: {error}")
    return Violation(call, message, rewrite.message, rewrite)


def is_no_async_session(call: cst.Call, module: Module) -> bool:
    """Return whether what a call opens cannot be an async session, whatever else it may be.

    A plain `with` enters none; a name that is also a sync factory makes sync sessions in a `def`.
    """
    item = module.parent(call)
    statement = module.parent(item) if isinstance(item, cst.WithItem) else None
    found = module.evaluate(call)
    if isinstance(statement, cst.With):
        is_certain = all(openings.opening(value) is not None for value in found)
        return statement.asynchronous is None and not is_certain
    function = next((a for a in module.ancestors(call) if isinstance(a, cst.FunctionDef)), None)
    return (
        function is not None
        and function.asynchronous is None
        and any(map(openings.is_sync_session, found))
    )


def rewrite_opening(call: cst.Call, opening: Opening, module: Module) -> Rewrite:
    """Return the rewrite of a session's opening into the handler's context manager.

    Raises:
        NotFixableError: it is not known to use the handler's engine, its class differs, or it is
            not opened in a form that can be rewritten.
    """
    handler = module.handler
    if handler is None:
        raise NotFixableError(
            f"no handler is known: the one module that defines `{CONTEXT_MANAGER}()`, or that is "
            "named in [tool.session-guard]"
            if not module.project.handlers
            else f"the project's handlers do not define exactly one `{CONTEXT_MANAGER}()`"
        )
    form = form_of(call, module)
    function = enclosing_function(form.opening, module)
    caller = caller_of(function, module) if function is not None else Caller(Use.OTHER)
    manager = _manager(form, function, handler, caller, module)
    every = all_openings(call, module)
    way = way_to(module.expr(call), module.place(call), module)
    check_way(way.names, module)
    check_attribute(module.expr(call.func), module.place(call), module)
    for one in every:
        if one.bind is not None and one.bind.home is module.names:
            check_attribute(one.bind.expr, one.bind.place, module)
        check_engine(one, manager, module)
        check_class(one, manager)
    if has_comment(call):
        raise NotFixableError("a comment stands inside the call")
    reasons = [
        *(reason for one in every for reason in argument_reasons(one, manager)),
        *_manager_reasons(manager, caller),
        *form.reasons,
        *_block_reasons(form, opening, manager, module),
        *_hook_reasons(form, opening, manager, module),
        *dict.fromkeys(replaced_names(way.names, module)),
        *_left_undone(way, handler),
    ]
    if reasons and not form.is_closed_anyway:
        raise NotFixableError(f"no `finally` closes the session, and {_summed_up(reasons)}")
    written, imports = reference(manager, module, call)
    replacements = form.replacements(
        call,
        cst.Call(func=written, lpar=call.lpar, rpar=call.rpar),
        # An endpoint's own commit comes before its response is sent.
        handler_commits=manager.shortfall is None and not caller.keeps_its_commit,
    )
    message = f"open it with `async with {manager.manager}() as session:`"
    if reasons:
        message = f"{message}; not safe, since {_summed_up(reasons)}"
    applicability = Applicability.UNSAFE if reasons else Applicability.SAFE
    return Rewrite(applicability, message, replacements, imports)


def _summed_up(reasons: Iterable[str]) -> str:
    """Return reasons one after the other; of one that many places give, the first place."""
    by_kind: dict[str, list[str]] = {}
    for reason in reasons:
        by_kind.setdefault(_PLACES.sub("", reason), []).append(reason)
    told: list[str] = []
    for alike in by_kind.values():
        if len(alike) > _MOST_PLACES:
            told.append(f"{alike[0]} and in {len(alike) - 1} other places")
        else:
            told.extend(alike)
    return "; ".join(told)


def _left_undone(way: Way, handler: Handler) -> Iterator[str]:
    """Yield what is done besides where the session is opened, and would be done no more."""
    for function in way.functions:
        # The handler's own are the handler's matter.
        if function.home.path != handler.path and does_more(function):
            yield f"`{function.definition.name}()` does more than to give what opens it"


def _manager(
    form: Form,
    function: cst.FunctionDef | None,
    handler: Handler,
    caller: Caller,
    module: Module,
) -> Handler:
    """Return the handler by the context manager that is for such a function.

    Raises NotFixableError where the function yields its session, to whom is not known.
    """
    if function is None:
        return handler
    for_requests = module.project.request_handler
    if not yields(form.block):
        return for_requests if caller.is_request and for_requests is not None else handler
    is_dependency = is_request_dependency(function, module)
    if is_dependency is None:
        is_session = any(
            isinstance(part, cst.Yield)
            and part.value is not None
            and _hands_on(part.value, form.name)
            for part in walk(form.block)
        )
        raise NotFixableError(
            "the block yields the session, and nothing in the project tells a framework to run "
            f"its function for a parameter; a request dependency uses `{REQUEST_MANAGER}()`"
            if is_session
            else "the block yields, and whoever gets that may never resume it"
        )
    if not is_dependency:
        return handler
    if for_requests is None:
        raise NotFixableError(
            f"{handler.dotted} has no `{REQUEST_MANAGER}()` that an `async with` can enter"
        )
    return for_requests


def _hands_on(value: cst.CSTNode, name: str | None) -> bool:
    """Return whether a value may be a session of that name, or have it: what it loads is neither.

    What is awaited, or read of its attributes, was loaded.
    """
    if isinstance(value, (cst.Await, cst.Attribute)):
        return False
    if isinstance(value, cst.Name):
        return value.value == name
    if isinstance(value, cst.Arg):
        return _hands_on(value.value, name)
    return any(_hands_on(part, name) for part in children(value))


def _manager_reasons(handler: Handler, caller: Caller) -> list[str]:
    """Return what the context manager does not do as the standard asks."""
    assert handler.opening is not None
    reasons: list[str] = []
    if caller.is_request and handler.manager != REQUEST_MANAGER:
        reasons.append(f"it stands in a request handler, which uses `{REQUEST_MANAGER}()`")
    if caller.reason:
        reasons.append(f"{caller.reason}, for which it would use `{REQUEST_MANAGER}()`")
    if handler.shortfall is not None:
        reasons.append(f"`{handler.manager}()` of {handler.dotted} {handler.shortfall}")
    if handler.opening.begins:
        reasons.append(
            f"`{handler.manager}()` of {handler.dotted} begins the transaction itself, which "
            "neither a `begin()` nor a read after a `commit()` in the block survives"
        )
    if option(handler.opening, "expire_on_commit") is not False:
        reasons.append("the handler's factory does not set `expire_on_commit=False`")
    return reasons


def _block_reasons(form: Form, opening: Opening, handler: Handler, module: Module) -> list[str]:
    """Return what would be different in the block that the session is opened for."""
    assert handler.opening is not None
    terms = Terms(
        autoflush_ends=option(opening, "autoflush") is not False
        and option(handler.opening, "autoflush") is not True,
        expiry_ends=option(opening, "expire_on_commit") is not False,
        commits_itself=opening.begins,
        is_handed_out=yields(form.block),
    )
    reasons = reasons_against(module, form, terms)
    if form.name is not None and _is_used_elsewhere(form.name, form, module):
        reasons.append(f"`{form.name}` is used outside the block too")
    return reasons


def _hook_reasons(form: Form, opening: Opening, handler: Handler, module: Module) -> Iterator[str]:
    """Yield what the handler's commit and rollback set off, where there may have been none."""
    assert handler.opening is not None
    made, project = handler.opening.session_class, module.project
    is_others = not openings.is_same_or_subclass(opening.session_class, made)
    commits = opening.begins or _commits_last(form)
    rolls_back = opening.begins or (bool(form.entered) and _begins(form.entered[0], form))
    anew = frozenset() if commits else _ENDING
    if is_others:
        anew = _ENDING
    elif not rolls_back:
        anew |= {"rollback"}
    if isinstance(made, LocalClass) and any(
        anew.intersection(one.definition.scope.bindings) for one in openings.lineage(made)
    ):
        yield f"`{made.definition.name}` has a way of its own to end a session"
    if project.listener_to_commits is not None and not commits:
        shown = project.shown(project.listener_to_commits)
        yield f"{shown} listens to commits, and a block that only reads makes none"
    if project.writer_in_reads is not None and not commits:
        shown = project.shown(project.writer_in_reads)
        yield f"{shown} listens to what sessions read, and may write then"
    if project.listener_to_rollbacks is not None and not rolls_back:
        shown = project.shown(project.listener_to_rollbacks)
        yield f"{shown} listens to rollbacks, and an error in the block makes none"


def _commits_last(form: Form) -> bool:
    """Return whether the block commits at its end anyway, in a `begin()` or by itself."""
    entered = [*form.entered]
    last = form.block.body[-1] if form.block.body else None
    match last:
        case cst.With(items=items):
            entered += items
        case cst.SimpleStatementLine(body=[*_, cst.Expr(cst.Await(call))]):
            return calls_one(call, form.name, COMMITTING)
    return any(_begins(item, form) for item in entered)


def _begins(item: cst.WithItem, form: Form) -> bool:
    return calls_one(item.item, form.name, _BEGINNING)


def _is_used_elsewhere(name: str, form: Form, module: Module) -> bool:
    """Return whether the session's name is used round the block, in a way that may mean it.

    Other blocks that bind the name anew are no such use.
    """
    inside = {id(part) for statement in form.whole for part in walk(statement)}
    function = enclosing_function(form.opening, module)
    around: cst.CSTNode = function.body if function is not None else module.tree
    for part in walk(around):
        if (
            isinstance(part, cst.Name)
            and part.value == name
            and id(part) not in inside
            and not isinstance(module.parent(part), (cst.AsName, cst.AssignTarget))
            and any(
                binding.kind == "assign" and _binds_here(binding, form, module)
                for binding in module.bindings(module.expr(part), module.place(part))
            )
        ):
            return True
    return False


def _binds_here(binding: Binding, form: Form, module: Module) -> bool:
    """Return whether a binding is made where the form opens its session."""
    statements = (cst.BaseSmallStatement, cst.BaseCompoundStatement)
    behind = next(
        part
        for part in walk(form.block)
        if isinstance(part, statements) and module.parent(part) is not None
    )
    first, last = module.place(form.opening), module.place(behind)
    return binding.place.scope is first.scope and first.order <= binding.place.order <= last.order
