"""Whether a file, a test mostly, puts another in the place of what a module or a class holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from session_guard.names import openings
from session_guard.names.bindings import Ref, end_of
from session_guard.names.values import UNKNOWN, External, LocalClass, class_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.names.values import Namespace, Value


def replaces(dotted: str, owner: Path | LocalClass, importer: Namespace) -> bool:
    """Return whether what a dotted name of `importer` means may be a module, or of a class."""
    return any(_is_of(value, owner) for value in _named(importer.absolute(dotted), importer))


def _named(dotted: str, importer: Namespace) -> Iterator[Path | Value]:
    """Yield what an absolute dotted name stands for; modules of the project as their paths."""
    found = importer.find_module(dotted)
    if found is None:
        return
    module, rest = found
    if not rest:
        yield module.path
        return
    for value in module.evaluate(Ref(rest), end_of(module.scope)):
        again = module.find_module(value.dotted) if isinstance(value, External) else None
        yield again[0].path if again is not None and not again[1] else value


def _is_of(value: Path | Value, owner: Path | LocalClass) -> bool:
    if not isinstance(owner, LocalClass) or isinstance(value, Path):
        return value == owner
    if value == UNKNOWN:
        return True  # an object of whatever class
    of = class_of(value)
    return of is not None and (_derives_from(of, owner) or _derives_from(owner, of))


def _derives_from(one: LocalClass, other: LocalClass) -> bool:
    """Return whether a class is another or inherits from it, whichever front end read them."""
    wanted = other.home.path, other.definition.name
    return any((base.home.path, base.definition.name) == wanted for base in openings.lineage(one))
