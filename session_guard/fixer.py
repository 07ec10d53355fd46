"""One file -> the same file with its findings mended, as far as that can be proven right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.linter import asking, finding, lint, parse, unfixable, violations
from session_guard.records import dataclass
from session_guard.rule import Applicability, Finding

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from session_guard.module import Module
    from session_guard.project.project import Project
    from session_guard.rewriting.edits import Plan
    from session_guard.rule import Edit, Rule, Violation

# A fix may bring about what another rule finds; more passes than this mean that fixes undo others.
_MOST_PASSES = 100


@dataclass(frozen=True, slots=True)
class FixResult:
    """What became of one file."""

    data: bytes
    """The file's bytes after the fixes; those it came with where nothing was fixed."""
    applied: list[Finding]
    """The findings that were fixed, with the positions they had when they were."""
    remaining: list[Finding]
    """What is found in `data`; the help of each says why it was not fixed."""


def fix(
    display_path: str,
    path: Path,
    data: bytes,
    project: Project,
    rules: Sequence[Rule],
    *,
    unsafe: bool,
    fingerprints: bool = False,
) -> FixResult:
    """Apply the safe fixes, and the unsafe ones if `unsafe`, until there are none left.

    A file whose fixed form could not be parsed, or would still have the findings, is given back as
    it came. Raises RuleError.
    """

    from session_guard.rewriting.edits import apply

    def found_in(data: bytes) -> list[Finding]:
        return lint(display_path, path, data, project, rules, fingerprints=fingerprints)

    original, applied, mended = data, list[Finding](), set[_Mark]()
    for _ in range(_MOST_PASSES):
        parsed = parse(display_path, path, data, project, rules)
        if parsed is None:
            return FixResult(data, applied, [])
        if isinstance(parsed, Finding):
            if not applied:
                return FixResult(data, [], found_in(data))
            return _given_up(original, found_in(original), "parse")
        module, asked = parsed
        found = violations(module, asked)
        if not mended.isdisjoint(_marks(module, found)):
            return _given_up(original, found_in(original), "be free of it")
        chosen, edits = _rendered(module, _chosen(module, found, unsafe=unsafe))
        if not chosen:
            remaining = [
                finding(display_path, module, *item, fingerprints=fingerprints) for item in found
            ]
            return FixResult(data, applied, remaining)
        done = [(rule, violation) for rule, violation, _ in chosen]
        applied.extend(
            finding(display_path, module, *item, fingerprints=fingerprints) for item in done
        )
        encoding = module.decoded.encoding
        mended = {(c, m, _moved(at, edits, encoding)) for c, m, at in _marks(module, done)}
        data = apply(data, edits, encoding)
    return _given_up(original, found_in(original), "settle")


_Mark = tuple[str, str, int]
"""What a finding is known by from one pass to the next: code, message, the byte it begins at."""


def _marks(module: Module, found: Sequence[tuple[Rule, Violation]]) -> list[_Mark]:
    decoded = module.decoded
    marks = []
    for rule, violation in found:
        start = module.position(violation.node).start
        before = module.text[: module.lines.offset(start.line, start.column)]
        at = len(decoded.bom) + len(before.encode(decoded.encoding))
        marks.append((rule.code, violation.message, at))
    return marks


def _moved(offset: int, edits: Sequence[Edit], encoding: str) -> int:
    """Return where the byte at `offset`, or what takes its place, is behind `edits`."""
    moved = offset
    for edit in edits:
        if edit.end <= offset:
            moved += len(edit.text.encode(encoding)) - (edit.end - edit.start)
        elif edit.start <= offset:
            moved -= offset - edit.start
    return moved


def _chosen(
    module: Module, found: Sequence[tuple[Rule, Violation]], *, unsafe: bool
) -> list[tuple[Rule, Violation, Plan]]:
    """Return the findings to mend in this pass: of those whose fixes overlap, the first."""
    from session_guard.rewriting.arguments import NotFixableError
    from session_guard.rewriting.edits import plan

    if unfixable(module) is not None:
        return []
    chosen: list[tuple[Rule, Violation, Plan]] = []
    for rule, violation in found:
        rewrite = violation.rewrite
        if rewrite is None or (rewrite.applicability is Applicability.UNSAFE and not unsafe):
            continue
        with asking(rule):
            try:
                planned = plan(module, rewrite)
            except NotFixableError:
                continue
        if not any(planned.meets(other) for _, _, other in chosen):
            chosen.append((rule, violation, planned))
    return chosen


def _rendered(
    module: Module, chosen: Sequence[tuple[Rule, Violation, Plan]]
) -> tuple[Sequence[tuple[Rule, Violation, Plan]], tuple[Edit, ...]]:
    """Return the findings that can be mended together, and the edits that do it.

    The last that use a name whose import or assignment could not go are left out.
    """
    from session_guard.rewriting.arguments import NotFixableError
    from session_guard.rewriting.edits import render

    try:
        return chosen, render(module, [item for _, _, item in chosen])
    except NotFixableError:
        fitting: list[tuple[Rule, Violation, Plan]] = []
        edits: tuple[Edit, ...] = ()
        for one in chosen:
            try:
                edits = render(module, [item for _, _, item in (*fitting, one)])
            except NotFixableError:
                continue
            fitting.append(one)
        return fitting, edits


def _given_up(data: bytes, found: Sequence[Finding], what: str) -> FixResult:
    """Return the file as it came, its findings without the fixes that did not work."""
    remaining = [
        item._replace(
            fix=None,
            help=f"{item.help}; not fixed: the fixed file would not {what}; please report this",
        )
        for item in found
    ]
    return FixResult(data, [], remaining)
