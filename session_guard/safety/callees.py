"""What the functions do for a block that it hands its session to, and that are followed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from session_guard.names.from_libcst import walk
from session_guard.safety.called import DEEPEST, called_with
from session_guard.safety.loaded import classes_named, reachable, tracked_names

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

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
        names = _names_taken_in(called, depth + 1)
        for parameter, value in called.given.items():
            if parameter in names:
                yield value


def _names_taken_in(called: Called, depth: int) -> Container[str]:
    """Return the names of a function whose objects its session may take in."""
    module, body = called.module, called.function.body
    known, key = module.once(_names_so_far), (id(body), called.session, depth)
    if key not in known:
        known[key] = set(tracked_names(module, body, called.session))
        for expression in taken_in(module, body, called.session, depth):
            known[key].update(reachable(module, expression))
    return known[key]


def _names_so_far(module: Module) -> dict[tuple[int, str, int], set[str]]:
    """Return where answers are kept, by the `id` of blocks of the module's tree."""
    return {}


def _all_called(
    module: Module, block: cst.BaseSuite, session: str | None, depth: int
) -> Sequence[Called]:
    """Return the functions that a block hands its session to, unless that is too deep."""
    if session is None or depth >= DEEPEST:
        return ()
    known, key = module.once(_called_so_far), (id(block), session)
    if key not in known:
        calls = [part for part in walk(block) if isinstance(part, cst.Call)]
        found = [called_with(module, call, session) for call in calls]
        known[key] = [called for called in found if called is not None]
    return known[key]


def _called_so_far(module: Module) -> dict[tuple[int, str], list[Called]]:
    """Return where answers are kept, by the `id` of blocks of the module's tree."""
    return {}
