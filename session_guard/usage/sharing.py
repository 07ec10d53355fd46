"""Whether a call lets several tasks use one session at once."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import libcst as cst

from session_guard.names.from_libcst import walk
from session_guard.usage.coroutines import Coroutines
from session_guard.usage.ownership import Ownership
from session_guard.usage.started import Starting
from session_guard.usage.starters import (
    BACKGROUND,
    BACKGROUND_TASK,
    CREATE,
    GATHER,
    GATHER_ITERABLE,
    GROUPS,
    LOOPS,
    SCHEDULERS,
)
from session_guard.usage.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from session_guard.module import Module
    from session_guard.names.held import Held, Key
    from session_guard.usage.coroutines import Uses
    from session_guard.usage.started import Started

_MANY = 1000

_of_modules: WeakKeyDictionary[Module, Sharing] = WeakKeyDictionary()


def sharing(module: Module) -> Sharing:
    """Return what is known of a module's tasks; worked out once."""
    found = _of_modules.get(module)
    if found is None:
        found = _of_modules[module] = Sharing(module)
    return found


class Sharing:
    """Looks at each call of a module that starts coroutines."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._starting = Starting(module)
        self._coroutines = Coroutines(module, self._starting)
        self._ownership = Ownership(module, self._coroutines)

    def problem(self, call: cst.Call) -> str | None:
        """Return how `call` lets tasks share a session, or None."""
        names = self._starting.names(call.func)
        if names & GATHER:
            return self._together(self._starting.expanded(call.args))
        if names & GATHER_ITERABLE and call.args:
            return self._together(self._starting.items(call.args[0].value))
        if names & CREATE:
            return self._task(call)
        if names & BACKGROUND_TASK:
            return self._background(call)
        if isinstance(call.func, cst.Attribute):
            return self._method(call, call.func)
        return None

    def _method(self, call: cst.Call, function: cst.Attribute) -> str | None:
        method = function.attr.value
        if method in ("create_task", "start_soon", "add_task", "run_in_executor"):
            kinds = self._starting.kinds(function.value)
            if method == "add_task":
                return self._background(call) if kinds & BACKGROUND else None
            if kinds & GROUPS:
                return self._group(call, function)
            return self._task(call) if kinds & LOOPS and method != "start_soon" else None
        if method in ("add_job", "add_schedule"):
            kinds = self._starting.kinds(function.value)
            if any(kind.startswith(SCHEDULERS) for kind in kinds):
                return self._scheduled(call)
        return None

    # -- started together -----------------------------------------------------------------------

    def _together(self, started: Iterable[Started]) -> str | None:
        counts: dict[Key, int] = {}
        sessions: Uses = {}
        for item in started:
            for key, held in self._coroutines.used_by(item).items():
                many = item.is_many and not self._starting.is_new_each_time(held, item.node)
                counts[key] = counts.get(key, 0) + (_MANY if many else 1)
                sessions.setdefault(key, held)
        for key, held in sessions.items():
            count = counts[key]
            if count > 1:
                number = "any number of" if count >= _MANY else str(count)
                return (
                    f"one session, `{held.text}`, is used by {number} coroutines that run at once"
                )
        return None

    # -- task groups ----------------------------------------------------------------------------

    def _uses(self, call: cst.Call) -> Uses:
        """Return the sessions that the task which `call` starts uses."""
        if isinstance(call.func, cst.Attribute) and call.func.attr.value == "start_soon":
            return self._coroutines.calling(call.args[0].value, call.args[1:]) if call.args else {}
        return self._coroutines.uses(call)

    def _group(self, call: cst.Call, function: cst.Attribute) -> str | None:
        """Look at a task of a group: at those beside it, and at the rest of the group's block."""
        uses = self._uses(call)
        block = self._block_of(function.value) if uses else None
        if block is None:
            return None
        starts = list(self._starts(block, function.value))
        before, behind = starts[: starts.index(call)], starts[starts.index(call) + 1 :]
        for key, held in uses.items():
            in_loop = self._starting.loop_of(call) is not None
            if in_loop and not self._starting.is_new_each_time(held, call):
                return f"one session, `{held.text}`, is used by any number of tasks of a task group"
            if any(
                key in self._uses(other) and self._task_of(other, block).runs_beside_call(call)
                for other in before
            ):
                return f"one session, `{held.text}`, is used by several tasks of a task group"
            if self._task_of(call, block).runs_beside({key}, behind):
                return (
                    f"one session, `{held.text}`, is used by a task of a task group and beside it"
                )
        return None

    def _block_of(self, group: cst.BaseExpression) -> cst.CSTNode | None:
        """Return the `async with` that a group belongs to, or else the function."""
        for ancestor in self._module.ancestors(group):
            if isinstance(ancestor, cst.With) and any(
                item.asname is not None
                and isinstance(item.asname.name, cst.Name)
                and isinstance(group, cst.Name)
                and item.asname.name.value == group.value
                for item in ancestor.items
            ):
                return ancestor.body
            if isinstance(ancestor, cst.FunctionDef):
                return ancestor.body
        return None

    def _starts(self, block: cst.CSTNode, group: cst.BaseExpression) -> Iterator[cst.Call]:
        wanted = self._module.tree.code_for_node(group)
        for part in walk(block):
            if (
                isinstance(part, cst.Call)
                and isinstance(part.func, cst.Attribute)
                and part.func.attr.value in ("create_task", "start_soon")
                and self._module.tree.code_for_node(part.func.value) == wanted
            ):
                yield part

    # -- a task of its own ------------------------------------------------------------------------

    def _task_of(self, call: cst.Call, body: cst.CSTNode) -> Task:
        return Task(call, self._module, self._starting, self._coroutines, body)

    def _task(self, call: cst.Call) -> str | None:
        uses = self._coroutines.uses(call)
        if not uses or self._is_gathered(call):
            return None
        function = next(
            (
                a
                for a in self._module.ancestors(call)
                if isinstance(a, (cst.FunctionDef, cst.Lambda))
            ),
            None,
        )
        if not isinstance(function, cst.FunctionDef):
            return None
        loop = self._starting.loop_of(call)
        if loop is not None and self._task_of(call, loop).waited is None:
            for held in uses.values():
                if not self._starting.is_new_each_time(held, call):
                    return f"one session, `{held.text}`, is used by any number of tasks at once"
        task = self._task_of(call, function.body)
        if task.waited is None and not task.is_handed_on:
            left = self._left_behind(uses.values(), *self._started_by(call))
            if left is not None:
                return (
                    f"nobody waits for this task, which uses `{left.text}` while others do or "
                    "after it was closed"
                )
        if task.runs_beside(set(uses)):
            name = next(iter(uses.values())).text
            return f"`{name}` is used while this task, which uses it too, is running"
        return None

    def _started_by(self, call: cst.Call) -> tuple[cst.BaseExpression, Sequence[cst.Arg]]:
        """Return the function that a task runs, and what it is given."""
        args = call.args
        if isinstance(call.func, cst.Attribute) and call.func.attr.value == "run_in_executor":
            return args[1].value, args[2:]
        started = args[0].value
        if isinstance(started, cst.Name):
            started = next(self._coroutines.made(started), started)
        return (started.func, started.args) if isinstance(started, cst.Call) else (started, ())

    def _is_gathered(self, call: cst.Call) -> bool:
        """Return whether a task is started right inside a call that is looked at by itself."""
        for ancestor in self._module.ancestors(call):
            if isinstance(ancestor, cst.Call) and self._starting.names(ancestor.func) & (
                GATHER | GATHER_ITERABLE
            ):
                return True
            if isinstance(ancestor, cst.BaseStatement):
                return False
        return False

    def _left_behind(
        self, uses: Iterable[Held], function: cst.BaseExpression, args: Sequence[cst.Arg]
    ) -> Held | None:
        """Return a session that is closed where it came from, while others go on with it."""
        return next(
            (
                held
                for held in uses
                if self._ownership.ends_here(held)
                and not self._ownership.is_taken_over(function, args, held)
            ),
            None,
        )

    # -- what runs later ------------------------------------------------------------------------

    def _background(self, call: cst.Call) -> str | None:
        function, args = _handed_over(call)
        if function is None:
            return None
        uses = self._coroutines.calling(function, args)
        held = self._left_behind(uses.values(), function, args)
        if held is None:
            return None
        return (
            f"`{held.text}` is handed to a background task, which runs when the response is sent "
            "and the request's session may be closed"
        )

    def _scheduled(self, call: cst.Call) -> str | None:
        """Look at a job of APScheduler, which is given its arguments as a list and a dictionary."""
        function, others = _handed_over(call)
        if function is None:
            return None
        args: list[cst.Arg] = []
        for other in others:
            match other:
                case cst.Arg(keyword=cst.Name("args"), value=cst.List() | cst.Tuple() as given):
                    args.extend(cst.Arg(element.value) for element in given.elements)
                case cst.Arg(keyword=cst.Name("kwargs"), value=cst.Dict() as named):
                    args.extend(
                        cst.Arg(item.value, cst.Name(str(item.key.evaluated_value)))
                        for item in named.elements
                        if isinstance(item, cst.DictElement)
                        and isinstance(item.key, cst.SimpleString)
                    )
        uses = self._coroutines.calling(function, args)
        held = self._left_behind(uses.values(), function, args)
        # An object that is kept may have a session that is kept as well.
        scope = self._module.place(call).scope
        if held is None or held.place.scope is not scope:
            return None
        return f"`{held.text}` is handed to a scheduled job, which runs when it may be closed"


def _handed_over(call: cst.Call) -> tuple[cst.BaseExpression | None, list[cst.Arg]]:
    """Return the function that a call is given to run later, and its other arguments."""
    for number, argument in enumerate(call.args):
        keyword = argument.keyword.value if argument.keyword is not None else None
        if (number == 0 and keyword is None) or keyword in ("func", "fn"):
            return argument.value, [other for other in call.args if other is not argument]
    return None, []
