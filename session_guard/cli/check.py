"""`session-guard check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from session_guard import output
from session_guard.cli.files import arguments, counted, options, running
from session_guard.rule import Applicability

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.rule import Finding
    from session_guard.runner import Run


@click.command("check")
@arguments
def command(
    paths: tuple[str, ...],
    output_format: str,
    overrides: tuple[str, ...],
    force_exclude: bool,
    stdin_filename: str | None,
) -> int:
    """Report what breaks the standard in PATHS.

    PATHS are files and folders, `.` by default; `-` is standard input.
    """
    given = options(paths, overrides, force_exclude=force_exclude, stdin_filename=stdin_filename)
    found: list[Finding] = []
    with running(given) as run:
        for text in output.render(output_format, _collected(run, found)):
            click.echo(text, nl=False)
        if output_format == "text":
            click.echo(_summary(run.checked, found))
    return 1 if found else 0


def _collected(run: Run, into: list[Finding]) -> Iterator[Finding]:
    for findings in run.check():
        into.extend(findings)
        yield from findings


def _summary(checked: int, found: list[Finding]) -> str:
    if not found:
        return f"All checks passed: {counted(checked, 'file')}."
    files = len({finding.path for finding in found})
    fixes = [finding.fix.applicability for finding in found if finding.fix]
    safe, unsafe = fixes.count(Applicability.SAFE), fixes.count(Applicability.UNSAFE)
    fixable = []
    if safe:
        fixable.append(f"{safe} can be fixed with `session-guard fix`")
    if unsafe:
        more = f"{unsafe} more with" if safe else f"{unsafe} can be fixed with `session-guard fix"
        fixable.append(f"{more} `--unsafe-fixes`")
    summary = f"Found {counted(len(found), 'violation')} in {files} of {counted(checked, 'file')}"
    return f"{summary}{'; ' if fixable else ''}{', '.join(fixable)}."
