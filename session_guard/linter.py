"""One file -> findings: parses it once, walks it once, and asks every rule."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from session_guard import sources
from session_guard.config import OUTSIDE_THE_STANDARD
from session_guard.names.fixtures import is_in_fixture
from session_guard.registry import UNREADABLE
from session_guard.rule import Applicability, Finding, Fix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import libcst as cst

    from session_guard.module import Module
    from session_guard.project.project import Project
    from session_guard.rule import Rule, Violation


class RuleError(Exception):
    """The rule `code` failed, which it never should; the cause says how."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@contextmanager
def asking(rule: Rule) -> Iterator[None]:
    """Say of an unexpected error which rule it came with, as RuleError."""
    try:
        yield
    except Exception as error:
        raise RuleError(rule.code) from error


def unreadable(display_path: str, reason: str, line: int = 1, column: int = 1) -> Finding:
    """Return the finding for a file that cannot be read, decoded or parsed."""
    return Finding(
        path=display_path,
        line=line,
        column=column,
        end_line=line,
        end_column=column,
        code=UNREADABLE,
        name="unreadable-file",
        message=f"this file was not checked: {reason}",
        help="mend it, or leave it out with `exclude` in [tool.session-guard]",
        source_line="",
    )


def lint(
    display_path: str,
    path: Path,
    data: bytes,
    project: Project,
    rules: Sequence[Rule],
    *,
    fingerprints: bool = False,
) -> list[Finding]:
    """Return what `rules` find in a file, in the order of lines; what is suppressed is left out.

    `data` are the file's bytes, `path` its absolute path; `fingerprints` asks for those too. Raises
    RuleError.
    """
    parsed = parse(display_path, path, data, project, rules)
    if parsed is None:
        return []
    if isinstance(parsed, Finding):
        return [parsed]
    module, rules = parsed
    return [
        finding(display_path, module, rule, violation, fingerprints=fingerprints)
        for rule, violation in violations(module, rules)
    ]


def parse(
    display_path: str, path: Path, data: bytes, project: Project, rules: Sequence[Rule]
) -> tuple[Module, Sequence[Rule]] | Finding | None:
    """Return the parsed file, or the finding that says why it cannot be parsed.

    With it come those of `rules` that may find something; None stands for a file that need not be
    parsed, since nothing in it is what they look at.
    """
    try:
        decoded = sources.decode(data)
    except sources.SourceError as error:
        return unreadable(display_path, error.message, error.line)

    rules = _concerned(path, data, decoded.text, project, rules)
    if not rules:
        return None

    import libcst as cst

    from session_guard.module import Module

    node_types = frozenset(name for rule in rules for name in rule.node_types)
    try:
        module = Module(path, decoded, project, node_types | {"Name", "ImportFrom", "Import"})
        return module, rules
    except cst.ParserSyntaxError as error:
        return unreadable(display_path, *_syntax_error(decoded.text, error))
    except RecursionError:
        return unreadable(display_path, "its expressions are nested too deeply to be parsed")


def _concerned(
    path: Path, data: bytes, text: str, project: Project, rules: Sequence[Rule]
) -> Sequence[Rule]:
    """Return the rules that may find something by what `ast` sees; all where it cannot parse.

    All too where one judges what the others find.
    """
    if any(rule.judges_suppressions for rule in rules):
        return rules
    names = project.names_in(path, text)
    if names is None:
        return rules
    asked = [(rule, rule.subject_in(data)) for rule in rules]
    there = project.may_be_about({subject for _, subject in asked if subject is not None}, names)
    return [
        rule
        for rule, subject in asked
        if (subject is None or subject in there) and rule.may_find_in(data, names)
    ]


def _syntax_error(text: str, error: cst.ParserSyntaxError) -> tuple[str, int, int]:
    """Return what is wrong with a text, with line and column: in Python's own words if it can."""
    import ast

    try:
        ast.parse(text)
    except SyntaxError as own:
        return f"syntax error: {own.msg}", own.lineno or 1, own.offset or 1
    except (ValueError, RecursionError):
        pass
    return f"syntax error: {error.message}", error.raw_line, error.raw_column + 1


def violations(module: Module, rules: Sequence[Rule]) -> list[tuple[Rule, Violation]]:
    """Return what `rules` find in a parsed file and no comment silences, in the order of lines.

    Raises RuleError.
    """
    from session_guard.suppressions import Suppressions

    judges = [rule for rule in rules if rule.judges_suppressions]
    found = list(_violations(module, rules))
    if not found and not judges:
        return []
    suppressions = Suppressions(module)
    found = [item for item in found if not suppressions.silences(item[0].code, item[1].node)]
    asked = {rule.code for rule in rules if not rule.judges_suppressions}
    found.extend(
        (rule, violation)
        for rule in judges
        for violation in suppressions.unused(asked)
        if not suppressions.silences(rule.code, violation.node)
    )

    def order(item: tuple[Rule, Violation]) -> tuple[int, int, str]:
        start = module.position(item[1].node).start
        return start.line, start.column, item[0].code

    return sorted(found, key=order)


def _violations(module: Module, rules: Sequence[Rule]) -> Iterator[tuple[Rule, Violation]]:
    for rule in rules:
        with asking(rule):
            for node_type in rule.node_types:
                for node in module.nodes(node_type):
                    for violation in rule.check(node, module):
                        if not _is_a_tests(violation, rule, module):
                            yield rule, violation


def _is_a_tests(violation: Violation, rule: Rule, module: Module) -> bool:
    """Return whether what is found is a test's business, in a file that is no test."""
    return rule.code.startswith(OUTSIDE_THE_STANDARD) and is_in_fixture(
        module.place(violation.node), module.names
    )


def finding(
    display_path: str,
    module: Module,
    rule: Rule,
    violation: Violation,
    *,
    fingerprints: bool = False,
) -> Finding:
    """Return a violation as plain data, its fix as edits. Raises RuleError."""
    from session_guard.excerpts import concealed, excerpt, repeats_a_value
    from session_guard.rewriting.arguments import NotFixableError
    from session_guard.rewriting.edits import plan, render

    position = module.position(violation.node)
    source_line, spot = excerpt(module, violation.node)
    help_text, fix = violation.help, None
    if violation.rewrite is not None:
        reason = unfixable(module)
        if reason is not None:
            help_text = f"{help_text} (not fixed: {reason})"
        else:
            rewrite = violation.rewrite
            with asking(rule):
                try:
                    edits = render(module, [plan(module, rewrite)])
                except NotFixableError as error:
                    help_text = f"{help_text}; not fixed: {error}"
                else:
                    if any(repeats_a_value(module, edit.text) for edit in edits):
                        edits = ()
                    message = concealed(module, rewrite.message)
                    fix = Fix(rewrite.applicability, message, edits)
                    if fix.applicability is Applicability.UNSAFE:
                        is_said = rewrite.message == help_text
                        does = " does it" if is_said else f": {rewrite.message}"
                        help_text = f"{help_text} (`--unsafe-fixes`{does})"
    return Finding(
        path=display_path,
        line=position.start.line,
        column=position.start.column + 1,
        end_line=position.end.line,
        end_column=position.end.column + 1,
        code=rule.code,
        name=rule.name,
        message=concealed(module, violation.message),
        help=concealed(module, help_text),
        source_line=source_line,
        spot=spot,
        fix=fix,
        fingerprint=_fingerprint(module, violation) if fingerprints else "",
    )


def _fingerprint(module: Module, violation: Violation) -> str:
    from session_guard.fingerprint import fingerprint

    return fingerprint(module, violation.node)


def unfixable(module: Module) -> str | None:
    """Return why no fix can be laid into this file, or None where one can."""
    if not module.round_trips:
        return "the parser does not give this file back as it is (a form feed or a lone \\ or \\r)"
    decoded = module.decoded
    if sources.encode(decoded) != decoded.data:
        return f"the encoding {decoded.encoding} does not give this file back as it is"
    return None
