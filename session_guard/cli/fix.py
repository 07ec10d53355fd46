"""`session-guard fix`."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import click

from session_guard import output
from session_guard.cli.files import arguments, counted, options, running
from session_guard.output.masking import masked
from session_guard.output.text import printable
from session_guard.runner import STANDARD_INPUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.rule import Finding
    from session_guard.runner import Fixed, Run


@click.command("fix")
@click.option("--diff", is_flag=True, help="Print what would change, and change nothing.")
@click.option("--unsafe-fixes", is_flag=True, help="Apply fixes that may change behaviour too.")
@arguments
def command(
    diff: bool,
    unsafe_fixes: bool,
    paths: tuple[str, ...],
    output_format: str,
    overrides: tuple[str, ...],
    force_exclude: bool,
    stdin_filename: str | None,
) -> int:
    """Rewrite what breaks the standard in PATHS, and list what cannot be rewritten.

    PATHS are files and folders, `.` by default; with `-`, standard input is read and its new
    text printed.
    """
    given = options(paths, overrides, force_exclude=force_exclude, stdin_filename=stdin_filename)
    # Ended from outside, it still removes the temporary file that it may be writing.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    reads_stdin = given.paths == (STANDARD_INPUT,)
    report = _Report(
        diff=diff, prints_result=reads_stdin and not diff, is_text=output_format == "text"
    )
    with running(given) as run:
        files = run.fix(unsafe=unsafe_fixes, write=not diff and not reads_stdin)
        for text in output.render(output_format, report.follow(files)):
            click.echo(text, nl=False, err=report.stdout_is_taken)
        report.end(run)
    return 1 if report.remaining or (diff and report.changed) else 0


class _Report:
    """What is printed of each file, and what there is to say at the end.

    Standard output holds the diff or the new text where there is one, the findings where not.
    """

    def __init__(self, *, diff: bool, prints_result: bool, is_text: bool) -> None:
        self._diff = diff
        self._prints_result = prints_result
        self._is_text = is_text
        self.stdout_is_taken = diff or prints_result
        self.changed = 0
        self.applied = 0
        self.remaining = 0

    def follow(self, files: Iterator[Fixed]) -> Iterator[Finding]:
        """Print what was done to each file, and yield what was not done."""
        for file in files:
            self.applied += len(file.applied)
            self.remaining += len(file.remaining)
            self.changed += file.after != file.before
            if self._diff:
                from session_guard.output.diff import unified

                _to_stdout(unified(file.shown, file.before, file.after))
            elif self._prints_result:
                _to_stdout(file.after)
            if file.applied and not self._diff:
                self._say(f"{printable(file.shown)}: fixed {_violations(file.applied)}")
                for finding in file.applied:
                    done = printable(
                        masked(finding.fix.message if finding.fix else finding.message)
                    )
                    self._say(f"  {finding.line}:{finding.column}: {finding.code} {done}")
            yield from file.remaining

    def end(self, run: Run) -> None:
        """Print how many violations and files it was about."""
        would = "Would fix" if self._diff else "Fixed"
        failed = f"; {counted(len(run.failures), 'file')} not checked" if run.failures else ""
        if not self.applied and not self.remaining:
            checked = counted(run.checked - len(run.failures), "file")
            self._say(f"Nothing to fix: {checked}{failed}.")
            return
        left = f"; {self.remaining} not fixed" if self.remaining else ""
        left += failed
        done = f"{would} {counted(self.applied, 'violation')} in {counted(self.changed, 'file')}"
        self._say(f"{done}{left}.")

    def _say(self, text: str) -> None:
        click.echo(text, err=self.stdout_is_taken or not self._is_text)


def _violations(findings: tuple[Finding, ...]) -> str:
    return counted(len(findings), "violation")


def _to_stdout(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
