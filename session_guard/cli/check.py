"""`session-guard check`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from session_guard import output
from session_guard.cli.files import arguments, counted, options, running
from session_guard.rule import Applicability
from session_guard.runner import STANDARD_INPUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.rule import Finding
    from session_guard.runner import Run


@click.command("check")
@click.option(
    "--write-baseline",
    is_flag=True,
    help="Freeze what is found: it is in the baseline from now on, and not reported.",
)
@click.option("--no-cache", is_flag=True, help="Neither use nor keep what is found.")
@click.option(
    "--cache-dir",
    metavar="FOLDER",
    envvar="SESSION_GUARD_CACHE_DIR",
    help="Where what is found is kept for the next run; by default, the user's folder for caches.",
)
@arguments
def command(
    write_baseline: bool,
    no_cache: bool,
    cache_dir: str | None,
    paths: tuple[str, ...],
    output_format: str,
    overrides: tuple[str, ...],
    force_exclude: bool,
    stdin_filename: str | None,
) -> int:
    """Report what breaks the standard in PATHS.

    PATHS are files and folders, `.` by default; `-` is standard input.
    """
    given = options(
        paths,
        overrides,
        force_exclude=force_exclude,
        stdin_filename=stdin_filename,
        cache_dir=None if no_cache else cache_dir or _default_cache_folder(),
    )
    if write_baseline and given.paths == (STANDARD_INPUT,):
        raise click.UsageError("--write-baseline needs files; `-` is standard input.")
    found: list[Finding] = []
    with running(given) as run:
        findings = _collected(run, found, freeze=write_baseline)
        for text in output.render(output_format, findings):
            click.echo(text, nl=False)
        if output_format == "text":
            click.echo(_summary(run, found))
    return 1 if found else 0


def _default_cache_folder() -> str | None:
    """Return the user's own folder for caches; None where there is none.

    It is not in the project: whoever gives a project away would give findings away with it.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    elif not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    return os.path.join(base, "session-guard") if os.path.isabs(base) else None


def _collected(run: Run, into: list[Finding], *, freeze: bool) -> Iterator[Finding]:
    for findings in run.check(freeze=freeze):
        into.extend(findings)
        yield from findings


def _summary(run: Run, found: list[Finding]) -> str:
    checked = counted(run.checked - len(run.failures), "file")
    rest = f"; {counted(run.known, 'violation')} in the baseline" if run.known else ""
    if run.failures:
        rest += f"; {counted(len(run.failures), 'file')} not checked"
    if not found:
        passed = "Found no violation in" if run.failures else "All checks passed:"
        return f"{passed} {checked}{rest}."
    files = len({finding.path for finding in found})
    fixes = [finding.fix.applicability for finding in found if finding.fix]
    safe, unsafe = fixes.count(Applicability.SAFE), fixes.count(Applicability.UNSAFE)
    fixable = []
    if safe:
        fixable.append(f"{safe} can be fixed with `session-guard fix`")
    if unsafe:
        more = "more with `" if safe else "can be fixed with `session-guard fix "
        fixable.append(f"{unsafe} {more}--unsafe-fixes`")
    summary = f"Found {counted(len(found), 'violation')} in {files} of {checked}"
    return f"{summary}{'; ' if fixable else ''}{', '.join(fixable)}{rest}."
