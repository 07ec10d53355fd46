"""All that a rule's author needs: what a rule is, what it reports and how it describes a fix.

Importing this module never imports LibCST, so that rules can be listed and their gates asked
without paying for a parser.
"""

from __future__ import annotations

import enum
import functools
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeAlias

# Rules take them from here.
from session_guard.gate import ProjectNames as ProjectNames  # noqa: TC001
from session_guard.gate import Subject as Subject  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from session_guard.module import Module
    from session_guard.names.values import Namespace


class Applicability(enum.Enum):
    """How sure a fix is."""

    SAFE = "safe"
    """The behaviour after the fix is provably the standard's."""

    UNSAFE = "unsafe"
    """The fix may change behaviour, and its message says what; needs `--unsafe-fixes`."""


class Edit(NamedTuple):
    """Replace the bytes from `start` to `end` of the file as it was read by `text`."""

    start: int
    end: int
    text: str


class Fix(NamedTuple):
    """What mends one finding, as edits that can be applied without any other finding's."""

    applicability: Applicability
    message: str
    edits: tuple[Edit, ...]
    """None where they would write again a string of the file that may be a secret."""


class Finding(NamedTuple):
    """One breach of the standard, as plain data: it can be printed, cached and sent elsewhere.

    Lines and columns count from 1, columns in characters; the end column is exclusive.
    """

    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    code: str
    name: str
    message: str
    help: str
    """What to do; where there is no fix, why not."""
    source_line: str
    """The line that it begins on as it is shown: what may be a secret is masked."""
    spot: tuple[int, int] = (0, 0)
    """From where to where in `source_line` it is; the end is exclusive."""
    fix: Fix | None = None
    fingerprint: str = ""
    """A hash of the statement it is in, where that was asked for; empty where it is in none."""


class Import(NamedTuple):
    """`from module import name`, to be added where the file has no such import yet."""

    module: str
    name: str
    beside: cst.CSTNode | None = None
    """An import statement to put it into, or next to where that is inside a function."""
    function: cst.FunctionDef | None = None
    """A function to put it at the beginning of, since at the top it would close a cycle."""
    alias: str | None = None
    """The other name that it gets, where its own is taken."""

    @property
    def written(self) -> str:
        """What an import statement has of it: `name`, or `name as alias`."""
        return self.name if self.alias is None else f"{self.name} as {self.alias}"


class Appended(NamedTuple):
    """An argument or an item that a call or a dictionary display is to have behind the others."""

    item: cst.Arg | cst.BaseDictElement


Replacements: TypeAlias = "tuple[tuple[cst.CSTNode, cst.CSTNode | Appended | None], ...]"
"""Nodes of the file with what becomes of them.

An expression, an argument or an item takes the place of one; it may hold the one that it takes the
place of. None takes an argument out of its call, an item out of its dictionary display, and any
other node away with its line. `Appended` leaves a call or a display and all that is in it.

An indented block takes the place of one. Statements and other nodes of the old block that the new
one holds keep their text, and are indented by more where they stand deeper.
"""


class Rewrite(NamedTuple):
    """A fix as a rule describes it: in nodes. The core turns it into edits of bytes.

    Where a comment would be lost, doubled or left beside something else, there is no fix: the core
    sees to it, and says so.
    """

    applicability: Applicability
    message: str
    replacements: Replacements
    imports: tuple[Import, ...] = ()


class Violation(NamedTuple):
    """What a rule yields: the node at fault, what is wrong, what to do, and the fix if any."""

    node: cst.CSTNode
    message: str
    help: str
    rewrite: Rewrite | None = None


class Valid(NamedTuple):
    """An example that the rule must not report, in a project whose handler is `app/db.py`."""

    code: str
    handler: str | None = None
    """The text of `app/db.py`; the 2025 standard's where it is None."""
    config: str = ""
    """Further lines of the `[tool.session-guard]` table."""


class Invalid(NamedTuple):
    """An example that the rule must report, with the text after the fix where it has one."""

    code: str
    fixed: str | None = None
    """The text after `fix`, or after `fix --unsafe-fixes` where `unsafe` is true."""
    unsafe: bool = False
    count: int = 1  # type: ignore[assignment]  # a tuple has a method of that name
    """How many findings of this rule the example has."""
    because: str = ""
    """A part of the finding's message, help or fix message that must be there."""
    handler: str | None = None
    config: str = ""


@functools.lru_cache(maxsize=1)
def _has_maker(source: bytes, makers: frozenset[bytes]) -> bool:
    """Return whether a file has one of some names; most rules ask it of one file after another."""
    return any(name in source for name in makers)


class Rule(ABC):
    """One rule: its texts, its gate, the nodes it looks at, its verdict, and its examples.

    A rule's module imports no LibCST when it is loaded; `check` may.
    """

    code: ClassVar[str]
    """`SG` and three digits, or a prefix of your own for a team's own rules."""
    name: ClassVar[str]
    """In kebab-case."""
    summary: ClassVar[str]
    """One line: what it finds."""
    why: ClassVar[str]
    """Why that is bad, in plain Markdown."""
    fix_safety: ClassVar[str]
    """When its fix is safe, unsafe or absent."""
    since: ClassVar[str]
    """The version of session-guard that first had it."""
    references: ClassVar[tuple[str, ...]] = ()
    tokens: ClassVar[tuple[bytes, ...]]
    """The gate's fixed part: a file with none of these bytes, and no name of the project's
    that the rule looks at, has no finding of this rule."""
    in_handler: ClassVar[bool] = False
    """Whether the handler itself is held to it; most rules forbid what the handler is there for."""
    needs_handler: ClassVar[bool] = False
    """Whether it finds nothing in a project without a handler, and need not be asked there."""
    project_names: ClassVar[bool] = False
    """Whether the project's names of what makes sessions open the gate too."""
    subject: ClassVar[Subject | None] = None
    """What every finding is about; in a file in which `ast` sees none of it the rule is not asked,
    so that LibCST need not parse it."""
    project_words: ClassVar[tuple[bytes, ...]] = ()
    """A project in none of whose files one of these bytes is has no finding of this rule; where
    there are none, it is asked in every project."""
    judges_suppressions: ClassVar[bool] = False
    """Whether it stands for suppressions that suppress nothing: every other rule is then asked,
    whatever its gate says, and the core finds what this one reports."""
    node_types: ClassVar[tuple[str, ...]]
    """Names of the LibCST node classes that `check` is called with."""
    valid: ClassVar[tuple[Valid, ...]]
    invalid: ClassVar[tuple[Invalid, ...]]

    def gate(self, source: bytes, names: ProjectNames) -> bool:
        """Return whether `source` may hold a finding; it may say yes too often, never no."""
        if any(token in source for token in self.tokens):
            return True
        return self.project_names and _has_maker(source, names.makers)

    def subject_in(self, source: bytes) -> Subject | None:
        """Return what every finding in `source` is about, or None where that may be anything."""
        return self.subject

    def may_find_in(self, source: bytes, names: Namespace) -> bool:
        """Return whether `check` may find something in `source`, by its names as `ast` has them.

        It may say yes too often, never no; it imports no LibCST.
        """
        return True

    @abstractmethod
    def check(self, node: cst.CSTNode, module: Module) -> Iterator[Violation]:
        """Yield what is wrong at `node`, which is of one of `node_types`."""
