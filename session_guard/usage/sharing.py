"""Whether a call lets several tasks use one session at once."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import libcst as cst

from session_guard.names.from_libcst import walk
from session_guard.names.held import annotated_parameter
from session_guard.names.values import External, Result
from session_guard.usage.concurrency import Coroutines, Started

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from session_guard.module import Module
    from session_guard.names.held import Key
    from session_guard.usage.concurrency import Uses

_GATHER = frozenset(
    {"asyncio.gather", "asyncio.tasks.gather"}
    | {"tqdm.asyncio.tqdm.gather", "tqdm.asyncio.tqdm_asyncio.gather"}
)
_GATHER_ITERABLE = frozenset({"asyncio.wait", "asyncio.as_completed"})
_CREATE = frozenset({"asyncio.create_task", "asyncio.ensure_future"})
_LOOPS = frozenset({"asyncio.get_event_loop", "asyncio.get_running_loop", "asyncio.new_event_loop"})
_GROUPS = frozenset({"asyncio.TaskGroup", "anyio.create_task_group", "anyio.abc.TaskGroup"})
_BACKGROUND = frozenset(
    {"fastapi.BackgroundTasks", "fastapi.background.BackgroundTasks"}
    | {"starlette.background.BackgroundTasks"}
)
_BACKGROUND_TASK = frozenset(
    {"starlette.background.BackgroundTask", "fastapi.background.BackgroundTask"}
    | {"litestar.background_tasks.BackgroundTask"}
)

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
        self._coroutines = Coroutines(module)

    def problem(self, call: cst.Call) -> str | None:
        """Return how `call` lets tasks share a session, or None."""
        names = {v.dotted for v in self._module.evaluate(call.func) if isinstance(v, External)}
        if names & _GATHER:
            return self._together(self._coroutines.expanded(call.args))
        if names & _GATHER_ITERABLE and call.args:
            return self._together(self._coroutines.items(call.args[0].value))
        if names & _CREATE:
            return self._task(call)
        if names & _BACKGROUND_TASK and call.args:
            return self._background(call)
        if isinstance(call.func, cst.Attribute):
            return self._method(call, call.func)
        return None

    def _method(self, call: cst.Call, function: cst.Attribute) -> str | None:
        method = function.attr.value
        if method not in ("create_task", "start_soon", "add_task"):
            return None
        kinds = self._kinds(function.value)
        if method == "add_task":
            return self._background(call) if kinds & _BACKGROUND and call.args else None
        if kinds & _GROUPS:
            return self._group(call, function)
        return self._task(call) if kinds & _LOOPS and method == "create_task" else None

    def _kinds(self, owner: cst.BaseExpression) -> set[str]:
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

    # -- started together -----------------------------------------------------------------------

    def _together(self, started: Iterable[Started]) -> str | None:
        counts: dict[Key, int] = {}
        for item in started:
            for key, held in self._coroutines.uses(item.node).items():
                many = item.is_many and not self._coroutines.is_new_each_time(held, item.node)
                counts[key] = counts.get(key, 0) + (_MANY if many else 1)
        for key, count in counts.items():
            if count > 1:
                number = "any number of" if count >= _MANY else str(count)
                return f"one session, `{key[1]}`, is used by {number} coroutines that run at once"
        return None

    def _uses(self, call: cst.Call) -> Uses:
        """Return the sessions that the task which `call` starts uses."""
        if isinstance(call.func, cst.Attribute) and call.func.attr.value == "start_soon":
            return self._coroutines.calling(call.args[0].value, call.args[1:]) if call.args else {}
        return self._coroutines.uses(call.args[0].value) if call.args else {}

    def _group(self, call: cst.Call, function: cst.Attribute) -> str | None:
        """Look at a task of a group: at those beside it, and at the rest of the group's block."""
        uses = self._uses(call)
        if not uses:
            return None
        block = self._block_of(function.value)
        others = [c for c in self._starts(block, function.value) if c is not call]
        for key, held in uses.items():
            in_loop = self._coroutines.loop_of(call) is not None
            if in_loop and not self._coroutines.is_new_each_time(held, call):
                return f"one session, `{key[1]}`, is used by any number of tasks of a task group"
            first = next((c for c in others if key in self._uses(c)), None)
            if first is not None and self._module.position(first).start.line <= (
                self._module.position(call).start.line
            ):
                return f"one session, `{key[1]}`, is used by several tasks of a task group"
            if block is not None and self._used_after(call, block, {key}, others):
                return f"one session, `{key[1]}`, is used by a task of a task group and beside it"
        return None

    def _block_of(self, group: cst.BaseExpression) -> cst.CSTNode | None:
        """Return the `async with` that a group belongs to, or else the function."""
        function = None
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
                function = ancestor
                break
        return function

    def _starts(self, block: cst.CSTNode | None, group: cst.BaseExpression) -> Iterator[cst.Call]:
        wanted = self._module.code(group)
        for part in walk(block) if block is not None else ():
            if (
                isinstance(part, cst.Call)
                and isinstance(part.func, cst.Attribute)
                and part.func.attr.value in ("create_task", "start_soon")
                and self._module.code(part.func.value) == wanted
            ):
                yield part

    # -- a task of its own ------------------------------------------------------------------------

    def _task(self, call: cst.Call) -> str | None:
        uses = self._uses(call)
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
        loop = self._coroutines.loop_of(call)
        name = next(iter(uses))[1]
        if loop is not None:
            shared = [h for h in uses.values() if not self._coroutines.is_new_each_time(h, call)]
            if shared and self._waits_for(call, loop) is None:
                return f"one session, `{shared[0].name}`, is used by any number of tasks at once"
        waited = self._waits_for(call, function.body)
        if waited is None:
            if self._is_handed_on(call) or not any(
                # A worker may keep a session of its own in `self.session` for its task.
                held.is_parameter or held.key[0] == id(held.place.scope)
                for held in uses.values()
            ):
                return None
            return (
                f"nobody waits for this task, which uses `{name}` while others do or after it was "
                "closed"
            )
        if self._used_after(call, function.body, set(uses), (), until=waited):
            return f"`{name}` is used while this task, which uses it too, is running"
        return None

    def _is_gathered(self, call: cst.Call) -> bool:
        """Return whether a task is started right inside a call that is looked at by itself."""
        for ancestor in self._module.ancestors(call):
            if isinstance(ancestor, cst.Call):
                names = {
                    v.dotted
                    for v in self._module.evaluate(ancestor.func)
                    if isinstance(v, External)
                }
                if names & (_GATHER | _GATHER_ITERABLE):
                    return True
            if isinstance(ancestor, cst.BaseStatement):
                return False
        return False

    def _task_names(self, call: cst.Call) -> set[str]:
        """Return the names of a task, and of the collections that it goes into."""
        names: set[str] = set()
        for ancestor in self._module.ancestors(call):
            match ancestor:
                case cst.Assign():
                    names.update(
                        part.value
                        for target in ancestor.targets
                        for part in walk(target.target)
                        if isinstance(part, cst.Name)
                    )
                case cst.AnnAssign() | cst.NamedExpr():
                    names.update(p.value for p in walk(ancestor.target) if isinstance(p, cst.Name))
                case cst.Call(func=cst.Attribute(value=cst.Name(value=owner), attr=method)) if (
                    method.value in ("append", "add", "extend")
                ):
                    names.add(owner)
            if isinstance(ancestor, cst.BaseSmallStatement):
                break
        return names

    def _waits_for(self, call: cst.Call, body: cst.CSTNode) -> cst.CSTNode | None:
        """Return the first `await` in `body`, behind the call, that a task of it goes into."""
        names = self._task_names(call)
        before = True
        for part in walk(body):
            if part is call:
                before = False
                if any(isinstance(a, cst.Await) for a in self._expression(call)):
                    return call
            elif isinstance(part, cst.Call) and not before and not names:
                continue
            if before:
                continue
            match part:
                case cst.Call(func=cst.Attribute(value=cst.Name(value=owner), attr=method)) if (
                    method.value in ("append", "add", "extend")
                    and any(isinstance(p, cst.Name) and p.value in names for p in walk(part))
                ):
                    names.add(owner)
                case cst.Await() if any(
                    isinstance(p, cst.Name) and p.value in names for p in walk(part)
                ):
                    return part
                case cst.For() if part.asynchronous is not None and any(
                    isinstance(p, cst.Name) and p.value in names for p in walk(part.iter)
                ):
                    return part
                case cst.For(target=cst.Name(value=target)) if any(
                    isinstance(p, cst.Name) and p.value in names for p in walk(part.iter)
                ):
                    names.add(target)
        return None

    def _expression(self, call: cst.Call) -> Iterator[cst.CSTNode]:
        for ancestor in self._module.ancestors(call):
            if isinstance(ancestor, (cst.BaseSmallStatement, cst.BaseStatement)):
                return
            yield ancestor

    def _is_handed_on(self, call: cst.Call) -> bool:
        """Return whether the task is returned, or kept where others may wait for it."""
        for ancestor in self._module.ancestors(call):
            if isinstance(ancestor, (cst.Return, cst.Yield)):
                return True
            if isinstance(ancestor, cst.Assign):
                return any(isinstance(t.target, cst.Attribute) for t in ancestor.targets)
        return False

    def _used_after(
        self,
        call: cst.Call,
        body: cst.CSTNode,
        keys: set[Key],
        tasks: Sequence[cst.CSTNode],
        until: cst.CSTNode | None = None,
    ) -> bool:
        """Return whether one of the sessions is used behind `call`, and before `until`."""
        skipped = {id(part) for task in tasks for part in walk(task)}
        seen = False
        own = {id(part) for part in walk(call)}
        for part in walk(body):
            if part is until:
                return False
            if part is call:
                seen = True
            if not seen or id(part) in own or id(part) in skipped:
                continue
            if (
                isinstance(part, cst.Await)
                and isinstance(part.expression, cst.Call)
                and keys & self._coroutines.uses(part.expression).keys()
            ):
                return True
        return False

    # -- background tasks -----------------------------------------------------------------------

    def _background(self, call: cst.Call) -> str | None:
        first, *others = call.args
        if first.keyword is not None:
            return None
        uses = self._coroutines.calling(first.value, others)
        name = next((held.name for held in uses.values()), None)
        if name is None:
            return None
        return (
            f"`{name}` is handed to a background task, which runs when the response is sent and "
            "the request's session may be closed"
        )


_MANY = 1000
