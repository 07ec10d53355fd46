"""What the functions do for a block that it hands its session to, and that are followed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.from_libcst import walk
from session_guard.safety.called import DEEPEST, called_with
from session_guard.safety.loaded import classes_named, reachable, tracked_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.module import Module
    from session_guard.names.values import LocalClass
    from session_guard.safety.called import Called


def classes_of_called(
    module: Module, block: cst.BaseSuite, session: str | None, depth: int = 0
) -> Iterator[LocalClass]:
    """Yield the project's classes that the functions name which a block hands its session to."""
    for called in _all_called(module, block, session, depth):
        yield from classes_named(called.module, called.function)
        body, name = called.function.body, called.session
        yield from classes_of_called(called.module, body, name, depth + 1)


def taken_in(
    module: Module, block: cst.BaseSuite, session: str | None, depth: int = 0
) -> Iterator[cst.BaseExpression]:
    """Yield what the functions that a block hands its session to take into it."""
    for called in _all_called(module, block, session, depth):
        body, name = called.function.body, called.session
        names = set(tracked_names(called.module, body, name))
        for expression in taken_in(called.module, body, name, depth + 1):
            names.update(reachable(called.module, expression))
        for parameter, value in called.given.items():
            if parameter in names:
                yield value


def _all_called(
    module: Module, block: cst.BaseSuite, session: str | None, depth: int
) -> Iterator[Called]:
    """Yield the functions that a block hands its session to, unless that is too deep."""
    for part in walk(block) if depth < DEEPEST else ():
        called = called_with(module, part, session) if isinstance(part, cst.Call) else None
        if called is not None:
            yield called
