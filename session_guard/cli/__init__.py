"""The command line: a command is a module of this package, imported when it is called."""

from __future__ import annotations

import gc
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from session_guard import __version__
from session_guard.output.masking import masked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TRACEBACK = "SESSION_GUARD_TRACEBACK"
_RECURSION_LIMIT = 5000
_GARBAGE_THRESHOLD = 200_000
_COMMANDS = ("check", "doctor", "fix", "init", "rule")


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(f"{__name__}.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands)
@click.version_option(__version__, message="%(prog)s %(version)s")
def _commands() -> None:
    """Keep SQLAlchemy's async sessions behind a connection pooler to one standard.

    Exit codes: 0 nothing to report, 1 violations, 2 bad usage, bad configuration or an error.
    """


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    # Little of what a run makes is garbage in cycles: look for it more seldom.
    gc.set_threshold(_GARBAGE_THRESHOLD, 20, 20)
    # Names lead through many modules, and each step takes several frames.
    sys.setrecursionlimit(max(sys.getrecursionlimit(), _RECURSION_LIMIT))
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks must not end the run.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    code = _run()
    # Python would look for garbage once more: a tenth of the time of a large project.
    gc.freeze()
    sys.exit(code)


def _run() -> int:
    color = False if os.environ.get("NO_COLOR") else None
    try:
        code = _commands.main(prog_name="session-guard", standalone_mode=False, color=color)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        # What was typed, or stands in a configuration, is quoted to say what is wrong with it.
        said = io.StringIO()
        error.show(said)
        click.echo(masked(said.getvalue()), err=True, nl=False)
        return 2
    except click.Abort:
        return 130
    except Exception as error:
        report([error])
        return 2


def report(errors: Sequence[Exception]) -> None:
    """Say briefly what went wrong that never should, and with which files."""
    from session_guard.runner import FileError

    for error in errors:
        shown = (
            str(error)
            if isinstance(error, FileError)
            else f"internal error: {type(error).__name__}"
        )
        click.echo(f"error: {shown}", err=True)
    if os.environ.get(TRACEBACK):
        for error in errors:
            click.echo("".join(_traceback(error)), err=True, nl=False)
    else:
        click.echo(f"{TRACEBACK}=1 in the environment shows where; please report it.", err=True)


def _traceback(error: BaseException) -> Iterator[str]:
    """Yield the lines of our code that led to an error; its text may quote what is secret."""
    import traceback

    cause = error.__cause__ or error.__context__
    if cause is not None:
        yield from _traceback(cause)
        yield "\nwhich led to\n\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{type(error).__name__}\n"
