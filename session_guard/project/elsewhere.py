"""What the files of a project do with a name: who sets an attribute, calls or extends a class.

A file is parsed where its bytes say that it may do so to the name that is asked about.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from session_guard.names.bindings import Ref
from session_guard.names.values import Elsewhere, LocalClass, Located
from session_guard.project.asked import OWN
from session_guard.project.questions import (
    Among,
    Every,
    Extends,
    Has,
    Matches,
    Some,
    extending,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from session_guard.names.values import Namespace
    from session_guard.project.asked import Asked
    from session_guard.project.questions import Answer, Question

_SETS_ATTRIBUTE = rb"(?<!\bself)\.(\w+)[ \t]*(?::[^=\n]*)?=(?!=)"
# It may be assigned to among others: `db.engine, x = ...`, `for db.engine in ...`.
_MAY_SET_ATTRIBUTE = rb"\.\s*(\w+)\b(?!\s*[.(\[])"
_CALLS = rb"\b(\w+)\s*\("
_QUOTES = rb"[\"'](\w+)(?=[\"'])"
# A string that a call gets behind another argument, or that begins with what its name is of.
_NAMES_IN_STRING = rb"(?:[,=]\s*|\(\s*(?=[\"'][\w.]+[.:]))[\"'](?:[\w.]*[.:])?(\w+)[\"']"
# What sets attributes of a `state`, or has async functions that yield.
_MAY_FILL_STATE = Some((Every((Has((b"yield",)), Has((b"async",)))), Matches(rb"\bstate\s*\.")))


class ProjectElsewhere(Elsewhere):
    """What the files `paths` do; `read` gives one's bytes, and `names_of` parses it.

    `asked` hears what is asked of them; `mentions` says of a name whether a file other than one
    has it in its text.
    """

    def __init__(
        self,
        paths: tuple[Path, ...],
        asked: Asked,
        read: Callable[[Path], bytes],
        names_of: Callable[[Path], Namespace | None],
        mentions: Callable[[str, Path], bool],
    ) -> None:
        self._paths = paths
        self._asked = asked
        self._read = read
        self._names_of = names_of
        self._mentions = mentions
        self._states: dict[str, tuple[Located, ...]] = {}
        self._set: dict[str, tuple[tuple[Located, Located], ...]] = {}
        self._calls: dict[str, tuple[Located, ...]] = {}
        self._words: dict[str, dict[Path, bool]] = {}
        self._subclasses: dict[tuple[str, str], tuple[LocalClass, ...]] = {}

    def in_state(self, name: str) -> tuple[Located, ...]:
        """Return what is assigned to `app.state.name`, whatever `app` is, or yielded as that."""
        if name not in self._states:
            self._states[name] = tuple(
                Located(value, place, names)
                for names in self._parsed(self._giving_state(name.encode()))
                for value, place in names.scope.state.get(name, ())
            )
        return self._states[name]

    def _giving_state(self, name: bytes) -> Iterator[Path]:
        """Yield the files that may give an attribute of `app.state` a value."""
        # The name comes first in it, since `re` looks for that by itself.
        pattern = rb"%s(?:(?<=\.state\.%s)\b[^\n=]*=|(?<=[\"']%s)[\"']|(?<!\w%s)\s*=)"
        wanted = Every((Has((name,)), Matches(pattern % ((re.escape(name),) * 4))))
        return (path for path in self._filling_state if self._ask(wanted, path))

    def set_outside(self, name: str) -> tuple[tuple[Located, Located], ...]:
        """Return the objects that an attribute is set on, and to what.

        What methods set on their own object is not among them.
        """
        if name not in self._set:
            self._set[name] = tuple(
                (
                    Located(Ref(parts[:-1]), assigned.place, names),
                    Located(assigned.value, assigned.place, names),
                )
                for names in self._parsed(
                    self._having(_SETS_ATTRIBUTE, name.encode(), self._setting)
                )
                for parts, every in names.scope.assigned_attributes.items()
                if parts[-1] == name
                for assigned in every
                if assigned.value is not None
            )
        return self._set[name]

    def may_set(self, name: str) -> list[Path]:
        """Return the files that may assign to an attribute of a name, of whatever object."""
        return self._having(_MAY_SET_ATTRIBUTE, name.encode(), self._may_be_setting)

    def may_use(self, name: str) -> dict[Path, None]:
        """Return the files that may have an attribute of a name, of whatever object, or call it."""
        calling = self._having(_CALLS, name.encode(), self._calling)
        return dict.fromkeys((*self.may_set(name), *calling))

    def quotes(self, name: str) -> list[Path]:
        """Return the files that have a name in quotes."""
        return self._having(_QUOTES, name.encode(), self._quoting)

    def names_in_string(self, name: str) -> list[Path]:
        """Return the files that may give a call a name in a string."""
        return self._having(_NAMES_IN_STRING, name.encode(), self._naming_in_strings)

    def calls(self, name: str) -> tuple[Located, ...]:
        """Return the calls of what has a name, as an attribute of a module or without one."""
        if name not in self._calls:
            self._calls[name] = tuple(
                Located(call, place, names)
                for names in self._parsed(self._having(_CALLS, name.encode(), self._calling))
                for call, place in names.scope.calls
                if isinstance(call.function, Ref) and call.function.parts[-1] == name
            )
        return self._calls[name]

    def subclasses(self, name: str, attribute: str) -> tuple[LocalClass, ...]:
        """Return the classes that may derive from one of a name and have an attribute of a name."""
        key = name, attribute
        if key not in self._subclasses:
            paths = dict.fromkeys(self.below(name))
            self._subclasses[key] = tuple(
                LocalClass(definition, names)
                for names in self._parsed(p for p in paths if self._has(p, attribute))
                for definition in names.scope.classes
                if definition.bases
                and (
                    attribute in definition.scope.bindings
                    or attribute in definition.scope.attributes
                )
            )
        return self._subclasses[key]

    def is_mentioned(self, name: str, besides: Path) -> bool:
        """Return whether a file other than `besides` has a name anywhere in its text."""
        return self._mentions(name, besides)

    def _has(self, path: Path, word: str) -> bool:
        """Return whether a file has a word in it: it is asked about the same few of each file."""
        known = self._words.setdefault(word, {})
        if path not in known:
            known[path] = bool(self._ask(Has((word.encode(),)), path))
        return known[path]

    def below(self, name: str) -> Iterator[Path]:
        """Yield the files with classes that have a base of a name, and with those below them."""
        waiting, seen = [name.encode()], set[bytes]()
        while waiting:
            base = waiting.pop()
            if base in seen:
                continue
            seen.add(base)
            found = self._extending.get(base, {})
            self._asked.note(
                Extends(base),
                {
                    path: tuple(name.decode("latin-1") for name in names)
                    for path, names in found.items()
                },
            )
            for path, names in found.items():
                waiting.extend(names)
                yield path

    def _parsed(self, paths: Iterable[Path]) -> Iterator[Namespace]:
        return (names for path in paths if (names := self._names_of(path)) is not None)

    def _ask(self, question: Question, path: Path) -> Answer:
        return self._asked.one(question, path, self._read(path))

    @cached_property
    def _filling_state(self) -> tuple[Path, ...]:
        """The files that may put something into `app.state`, or yield it as a lifespan does."""
        found = self._asked.in_turn(OWN, _MAY_FILL_STATE, self._paths, self._read)
        return tuple(path for path, _ in found)

    @cached_property
    def _setting(self) -> dict[bytes, list[Path]]:
        return self._files_by_name(_SETS_ATTRIBUTE)

    @cached_property
    def _may_be_setting(self) -> dict[bytes, list[Path]]:
        return self._files_by_name(_MAY_SET_ATTRIBUTE)

    @cached_property
    def _quoting(self) -> dict[bytes, list[Path]]:
        return self._files_by_name(_QUOTES)

    @cached_property
    def _naming_in_strings(self) -> dict[bytes, list[Path]]:
        return self._files_by_name(_NAMES_IN_STRING)

    @cached_property
    def _calling(self) -> dict[bytes, list[Path]]:
        return self._files_by_name(_CALLS)

    @cached_property
    def _extending(self) -> dict[bytes, dict[Path, list[bytes]]]:
        """By a word among the bases of classes, the files and the classes in each."""
        found: dict[bytes, dict[Path, list[bytes]]] = {}
        for path in self._paths:
            for base, names in extending(self._read(path)).items():
                found.setdefault(base, {})[path] = names
        return found

    def _having(
        self, pattern: bytes, name: bytes, by_name: Mapping[bytes, list[Path]]
    ) -> list[Path]:
        """Return the files in which a pattern matches a name, by an index of all names."""
        found = by_name.get(name, [])
        self._asked.note(Among(pattern, name), dict.fromkeys(found, True))
        return found

    def _files_by_name(self, pattern: bytes) -> dict[bytes, list[Path]]:
        found: dict[bytes, list[Path]] = {}
        find = re.compile(pattern).findall
        for path in self._paths:
            for name in set(find(self._read(path))):
                found.setdefault(name, []).append(path)
        return found
