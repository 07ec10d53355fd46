"""What is asked of the bytes of a project's files, before any of them is parsed.

A question is plain data: it can be kept, and asked again of a file that has changed. Where the
answer is the same, nothing that was made of it has changed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

# A module with none of these makes no sessions, factories or engines, unless by names of others.
_MAKING = (b"sessionmaker", b"async_scoped_session", b"create_async_engine", b"async_engine_from")
_SESSION_CLASS = b"AsyncSession"
# Where the class is only imported or annotated with; most files that name it do nothing else.
_NO_USE = (
    rb"(?m)^[ \t]*from\b[^\n#]*\bimport\b[^\n#(]*\bAsyncSession\b(?!\s+as\b)"
    rb"|^[ \t]*from\b[^\n#]*\bimport[ \t]*\([^)#]*\bAsyncSession\b(?!\s+as\b)[^)]*\)"
    rb"|(?::|->)[ \t]*\"?(?:\w+\[)*(?:\w+\.)*AsyncSession\b(?![ \t]*[(\[])"
)
# Behind a colon that is no annotation's.
_AS_A_VALUE = rb"(?:\blambda\b[^\n:]*|\{(?:[^{}]|\{[^{}]*\})*):\s*(?:\w+\.)*AsyncSession\b"
_HANDLERS_FUNCTIONS = (b"get_session", b"get_background_session")
# Where the handler's functions get another name.
_RENAMES_HANDLER = (
    rb"\bget_(background_)?session\s+as\b"
    rb"|([=:\[{]|\breturn\b)\s*[\w.]*\bget_(background_)?session\b(?!\s*\()"
)
_FROM_IMPORT = rb"\bfrom\s+([\w.]+)\s+import\b\s*(\([^)]*\)|[^\n;#(]*)"
# The bases of a class may be calls themselves, and it may have parameters of its own.
_EXTENDS = (
    rb"(?m)^[ \t]*class\s+(\w+)\s*(?:\[[^\]]*\]\s*)?"
    rb"\(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)"
)
# Another name of what may be a class. `re` looks for what a pattern begins with by itself, and
# much faster than for any word: the one before `as` is looked at afterwards.
_RENAMES_AS = rb"as(?<=[ \t]as)[ \t]+(\w+)"
_RENAMED = rb"\b(\w+)[ \t]+as$"
_LONGEST_NAME = 200
_RENAMES = rb"(?m)^([A-Z]\w*)[ \t]*=[ \t]*(?:\w+\.)*(\w+)[ \t]*(?:#.*)?$"

Answer = bool | tuple[str, ...]
"""Whether something is in a file, or what of it: nothing is false."""


class Has(NamedTuple):
    """Whether a file has one of some words anywhere in it."""

    words: tuple[bytes, ...]

    def answer(self, data: bytes) -> bool:
        """Return the answer of a file that holds `data`."""
        return any(word in data for word in self.words)


class Matches(NamedTuple):
    """Whether a regular expression matches anywhere in a file."""

    pattern: bytes

    def answer(self, data: bytes) -> bool:
        """Return the answer of a file that holds `data`."""
        return _compiled(self.pattern).search(data) is not None


class Every(NamedTuple):
    """Whether the answers of several questions are all true."""

    questions: tuple[Question, ...]

    def answer(self, data: bytes) -> bool:
        """Return the answer of a file that holds `data`."""
        return all(question.answer(data) for question in self.questions)


class Some(NamedTuple):
    """Whether the answer of one of several questions is true."""

    questions: tuple[Question, ...]

    def answer(self, data: bytes) -> bool:
        """Return the answer of a file that holds `data`."""
        return any(question.answer(data) for question in self.questions)


class Makes(NamedTuple):
    """Whether a file may make sessions, factories or engines, or classes of sessions."""

    renames: bool = False
    """Whether it counts as well to give the handler's functions other names."""

    def answer(self, data: bytes) -> bool:
        """Return the answer of a file that holds `data`."""
        if any(word in data for word in _MAKING):
            return True
        count = data.count(_SESSION_CLASS)
        if count:
            unused = _compiled(_NO_USE).finditer(data)
            idle = sum(match.group().count(_SESSION_CLASS) for match in unused)
            if idle < count or _compiled(_AS_A_VALUE).search(data) is not None:
                return True
        return (
            self.renames
            and any(word in data for word in _HANDLERS_FUNCTIONS)
            and _compiled(_RENAMES_HANDLER).search(data) is not None
        )


class Found(NamedTuple):
    """What the groups of a regular expression match in a file, each once and sorted."""

    pattern: bytes

    def answer(self, data: bytes) -> tuple[str, ...]:
        """Return the answer of a file that holds `data`."""
        found = _compiled(self.pattern).findall(data)
        groups = (group for match in found for group in _groups(match))
        return tuple(sorted({group.decode("latin-1") for group in groups if group}))


class Among(NamedTuple):
    """Whether a word is among what a regular expression with one group matches in a file."""

    pattern: bytes
    word: bytes

    def answer(self, data: bytes) -> bool:
        """Return the answer of a file that holds `data`."""
        return self.word in data and self.word in _compiled(self.pattern).findall(data)


class Sources(NamedTuple):
    """The modules that a file may have a name from, as they are written."""

    name: bytes

    def answer(self, data: bytes) -> tuple[str, ...]:
        """Return the answer of a file that holds `data`."""
        wanted = _compiled(rb"\b%s\b" % re.escape(self.name))
        return tuple(
            source.decode("latin-1")
            for source, brought in _compiled(_FROM_IMPORT).findall(data)
            if brought.strip() == b"*" or wanted.search(brought)
        )


class Extends(NamedTuple):
    """The names of the classes in a file that have a base of a name, or one with it in it.

    Another name that the file gives the base counts as such a class.
    """

    base: bytes

    def answer(self, data: bytes) -> tuple[str, ...]:
        """Return the answer of a file that holds `data`."""
        return tuple(name.decode("latin-1") for name in extending(data).get(self.base, ()))


Question = Has | Matches | Every | Some | Makes | Found | Among | Sources | Extends
_KINDS: tuple[type[Any], ...] = (
    *(Has, Matches, Every, Some, Makes, Found, Among, Sources, Extends),
)


def extending(data: bytes) -> dict[bytes, list[bytes]]:
    """Return the classes of a file, by each word among their bases, and by what they rename."""
    found: dict[bytes, list[bytes]] = {}
    for name, bases in _compiled(_EXTENDS).findall(data):
        for base in _compiled(rb"\w+").findall(bases):
            found.setdefault(base, []).append(name)
    renamed = _compiled(_RENAMED)
    for match in _compiled(_RENAMES_AS).finditer(data):
        named = renamed.search(data, max(0, match.start() - _LONGEST_NAME), match.start() + 2)
        if named is not None and named[1] != match[1]:
            found.setdefault(named[1], []).append(match[1])
    for name, base in _compiled(_RENAMES).findall(data):
        if base != name:
            found.setdefault(base, []).append(name)
    return found


def plain(question: Question) -> list[object]:
    """Return a question as JSON has it."""
    return [_KINDS.index(type(question)), *map(_plain, question)]


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, _KINDS):
        return plain(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def read(kept: Any) -> Question:
    """Return the question that `plain` made JSON of. Raises TypeError, ValueError, LookupError."""
    number, *fields = kept
    kind = _KINDS[number]
    if kind is Has:
        [words] = fields
        return Has(tuple(map(_bytes, words)))
    if kind in (Every, Some):
        [questions] = fields
        return kind(tuple(map(read, questions)))  # type: ignore[no-any-return]
    if kind is Makes:
        [renames] = fields
        return Makes(renames is True)
    return kind(*map(_bytes, fields))  # type: ignore[no-any-return]


def _bytes(text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError(text)
    return text.encode("latin-1")


def _groups(match: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    return match if isinstance(match, tuple) else (match,)


@lru_cache(maxsize=1_000)
def _compiled(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern)
