"""Finds the rules: those that come with session-guard and those of other packages, alike."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from importlib.metadata import entry_points

from session_guard.rule import Rule

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
    for entry_point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            found = _rules_in(entry_point.value)
        except ImportError as error:
            raise RuleLoadError(
                f"the rules of the entry point {entry_point.name!r} ({entry_point.value}) "
                f"cannot be imported: {error}"
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
    modules = [module]
    if hasattr(module, "__path__"):
        modules.extend(
            importlib.import_module(info.name)
            for info in pkgutil.walk_packages(module.__path__, f"{name}.")
        )
    return [
        value()
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Rule)
        and value is not Rule
        and value.__module__ == module.__name__
    ]


def known_codes() -> frozenset[str]:
    """Return the codes of all rules, and of what is not a rule: a file that cannot be read."""
    return frozenset({UNREADABLE, *(rule.code for rule in load_rules())})
