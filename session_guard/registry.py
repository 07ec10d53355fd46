"""Finds the rules: those that come with session-guard and those of other packages, alike."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from typing import TYPE_CHECKING

from session_guard.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

GROUP = "session_guard.rules"
UNREADABLE = "SG001"


class RuleLoadError(Exception):
    """A rule package could not be loaded, or two rules have one code."""


@functools.cache
def load_rules() -> tuple[Rule, ...]:
    """Return every rule of every package in the entry-point group, ordered by code.

    An entry point names a module or a package; a package is walked, so that a new rule is one
    file.

    Raises:
        RuleLoadError: a package cannot be imported, or two rules have one code.
    """
    rules: dict[str, Rule] = {}
    for name, value in entry_points():
        try:
            found = _rules_in(value)
        except ImportError as error:
            raise RuleLoadError(
                f"the rules of the entry point {name!r} ({value}) cannot be imported: {error}"
            ) from error
        for rule in found:
            known = rules.setdefault(rule.code, rule)
            if type(known) is not type(rule):
                raise RuleLoadError(
                    f"two rules have the code {rule.code}: "
                    f"{type(known).__module__} and {type(rule).__module__}"
                )
    return tuple(rules[code] for code in sorted(rules))


def _rules_in(name: str) -> list[Rule]:
    module = importlib.import_module(name)
    return [
        value()
        for module in (module, *_submodules(module))
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Rule)
        and value is not Rule
        and value.__module__ == module.__name__
    ]


def _submodules(package: ModuleType) -> Iterator[ModuleType]:
    """Import the modules of a package, and of the packages in it, by name."""
    for folder in getattr(package, "__path__", ()):
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except NotADirectoryError:  # in an archive
            import pkgutil

            for info in pkgutil.walk_packages([folder], f"{package.__name__}."):
                yield importlib.import_module(info.name)
            continue
        for entry in entries:
            name, suffix = os.path.splitext(entry.name)
            if (suffix == ".py" and name.isidentifier() and name != "__init__") or (
                not suffix
                and name.isidentifier()
                and os.path.isfile(os.path.join(entry.path, "__init__.py"))
            ):
                module = importlib.import_module(f"{package.__name__}.{name}")
                yield module
                yield from _submodules(module)


# -- entry points -------------------------------------------------------------------------------


def entry_points() -> list[tuple[str, str]]:
    """Return the entry points of the group, each with its name and value, ordered by name.

    `importlib.metadata`, which reads all that there is to know of every installed package, takes
    longer than all the rest of a run over one file.
    """
    folders = [folder or os.curdir for folder in sys.path]
    if any(
        hasattr(finder, "find_distributions") and getattr(finder, "__name__", "") != "PathFinder"
        for finder in sys.meta_path
    ) or any(os.path.isfile(folder) or folder.endswith(".egg") for folder in folders):
        from importlib import metadata

        return sorted((point.name, point.value) for point in metadata.entry_points(group=GROUP))
    found: set[tuple[str, str]] = set()
    seen: set[str] = set()
    for path in distributions():
        stem = os.path.basename(path).partition("-")[0].removesuffix(".egg")
        name = stem.replace(".", "_").lower()
        if name not in seen:
            # The first on the path hides others of its name.
            seen.add(name)
            found.update(_declared_in(path))
    return sorted(found)


@functools.cache
def distributions() -> tuple[str, ...]:
    """Return the paths of the folders that say what is installed, in the order of `sys.path`."""
    found = []
    for folder in dict.fromkeys(folder or os.curdir for folder in sys.path):
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        found += [
            os.path.join(folder, name)
            for name in sorted(names)
            if name.endswith((".dist-info", ".egg-info"))
        ]
    return tuple(found)


def _declared_in(distribution: str) -> Iterator[tuple[str, str]]:
    try:
        with open(os.path.join(distribution, "entry_points.txt"), "rb") as file:
            data = file.read()
    except OSError:
        return
    if GROUP.encode() not in data:
        return
    group = ""
    for line in map(str.strip, data.decode().splitlines()):
        if line.startswith("["):
            group = line.strip("[]")
        elif group == GROUP and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield name.rstrip(), value.lstrip()


def known_codes() -> frozenset[str]:
    """Return the codes of all rules, and of what is not a rule: a file that cannot be read."""
    return frozenset({UNREADABLE, *(rule.code for rule in load_rules())})
