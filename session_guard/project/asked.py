"""What was asked of a project's files: while each answers as it did, what is known stays right.

A file is asked by its bytes, or by its syntax tree. Of the tree the positions do not count, nor do
comments: what is made of it is the same wherever it stands.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from session_guard.names.bindings import mentions_another_database, mentions_postgresql
from session_guard.names.from_ast import parse_quietly
from session_guard.project.questions import plain, read
from session_guard.sources import SourceError, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping
    from pathlib import Path

    from session_guard.config import Settings
    from session_guard.project.questions import Answer, Question

_NOT_TOLD = frozenset({"ctx", "kind", "type_comment"})
"""Fields of `ast` that names are not made of, or that follow from the others."""
_fields: dict[type[ast.AST], tuple[str, ...]] = {}

EACH, OWN, STANDING, ALL = "each", "own", "standing", "all"
"""Of which files of a project something is asked: of single ones, or of all of a kind in turn."""

# Folders that may hold a copy of a handler which is not the project's own.
_NOT_THE_PROJECT = frozenset(
    {"tests", "test", "testing", "examples", "example", "vendor", "vendored", "_vendor"}
    | {"third_party", "fixtures", "docs", "site-packages"}
)


def scopes_of(relative: str, settings: Settings) -> tuple[str, ...]:
    """Return of which kinds a file is, by its path from the root with `/` between the parts.

    Those that stand for the standard are no tests and no migrations; the project's own are no
    examples or copies either.
    """
    if settings.is_outside_the_standard(relative):
        return (ALL,)
    if _NOT_THE_PROJECT.isdisjoint(relative.split("/")[:-1]):
        return (ALL, STANDING, OWN)
    return (ALL, STANDING)


class Answers:
    """What files answered to one question."""

    def __init__(self) -> None:
        self.found: dict[str, Answer] = {}
        """The answers that were not false, by the files' paths."""
        self.none: set[str] = set()
        """The single files whose answer was false."""
        self.asked_to: int = 0
        """How many of the project's files were asked in turn."""


class Asked:
    """What was asked of the files `paths` of a project, and what they answered."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.order = {path: number for number, path in enumerate(paths)}
        self.answers: dict[tuple[str, Question], Answers] = {}
        self.parsed: set[str] = set()
        """The files whose syntax tree was asked for."""
        self.used: set[str] = set()
        """The files of whose bytes anything may have been made."""

    def of(self, scope: str, question: Question) -> Answers:
        """Return what was answered to a question so far."""
        known = self.answers.get((scope, question))
        if known is None:
            known = self.answers[scope, question] = Answers()
        return known

    def in_turn(
        self, scope: str, question: Question, paths: Iterable[Path], read: Callable[[Path], bytes]
    ) -> Iterator[tuple[Path, Answer]]:
        """Yield the files of a kind whose answer is not false, and the answer."""
        known = self.of(scope, question)
        for path in paths:
            answer = question.answer(read(path))
            if answer:
                number = self.order.get(str(path))
                if number is not None:
                    known.found[str(path)] = answer
                    known.asked_to = max(known.asked_to, number + 1)
                yield path, answer
        known.asked_to = len(self.order)

    def one(self, question: Question, path: Path, data: bytes) -> Answer:
        """Return the answer of a single file that holds `data`."""
        answer = question.answer(data)
        if str(path) in self.order:
            known = self.of(EACH, question)
            if answer:
                known.found[str(path)] = answer
            else:
                known.none.add(str(path))
        return answer

    def note(self, question: Question, found: Mapping[Path, Answer]) -> None:
        """Take note of what all the project's own files answered."""
        known = self.of(OWN, question)
        known.found.update((str(path), answer) for path, answer in found.items())
        known.asked_to = len(self.order)

    def plain(self) -> list[object]:
        """Return the questions and answers as JSON has them, files by their numbers."""
        return [
            [
                scope,
                plain(question),
                [[self.order[path], answer] for path, answer in known.found.items()],
                [self.order[path] for path in known.none],
                known.asked_to,
            ]
            for (scope, question), known in self.answers.items()
        ]

    def take_over(self, kept: Any) -> None:
        """Add what an earlier run asked. Raises TypeError, ValueError, LookupError."""
        paths = list(self.order)
        for scope, question, found, none, asked_to in kept:
            known = self.of(scope, read(question))
            for number, answer in found:
                known.found.setdefault(paths[number], _answer(answer))
            known.none.update(paths[number] for number in none)
            known.asked_to = max(known.asked_to, asked_to)


def is_answered_alike(kept: Any, number: int, data: bytes, scopes: Container[str]) -> bool:
    """Return whether a file of a number that holds `data` answers what was asked as it did.

    `scopes` are the kinds of files that it is of. Raises TypeError, ValueError, LookupError and
    re.error where what was kept is none of ours.
    """
    for scope, question, found, none, asked_to in kept:
        answer = next((_answer(said) for of, said in found if of == number), None)
        if answer is None:
            was_asked = number in none if scope == EACH else scope in scopes and number < asked_to
            if not was_asked:
                continue
        if (read(question).answer(data) or None) != answer:
            return False
    return True


def _answer(said: Any) -> Answer:
    return True if said is True else tuple(said)


def shape(data: bytes) -> str:
    """Return a hash of what is made of a file's syntax tree; of a broken file, of its bytes."""
    from hashlib import blake2b  # most runs hash nothing

    try:
        text = decode(data).text
        tree = parse_quietly(text)
    except (SourceError, SyntaxError, ValueError, RecursionError):
        return blake2b(data, digest_size=16).hexdigest()
    told = mentions_another_database(text), mentions_postgresql(text)
    said = f"{' '.join(_pieces(tree))} {told}"
    return blake2b(said.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _pieces(tree: ast.AST) -> list[str]:
    """Return what a tree consists of, without positions: a third of the time of `ast.dump`."""
    pieces: list[str] = []
    waiting: list[object] = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, ast.AST):
            kind = type(item)
            pieces.append(kind.__name__)
            fields = _fields.get(kind)
            if fields is None:
                fields = _fields[kind] = tuple(f for f in kind._fields if f not in _NOT_TOLD)
            waiting.extend([getattr(item, field, None) for field in fields])
        elif isinstance(item, list):
            pieces.append(f"[{len(item)}")
            waiting.extend(item)
        else:
            pieces.append(repr(item))
    return pieces
