"""What `check` and `fix` have in common: their arguments, and how a run of either ends."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from session_guard.cli import report
from session_guard.config import ConfigError
from session_guard.output import FORMATS
from session_guard.output.masking import masked
from session_guard.registry import RuleLoadError
from session_guard.runner import STANDARD_INPUT, Options, Run
from session_guard.sources import PathError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")
R = TypeVar("R")


def arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Add the arguments that say which files, under which configuration, printed how."""
    for decorate in reversed(
        (
            click.argument("paths", nargs=-1, metavar="[PATHS]..."),
            click.option(
                "--output-format",
                type=click.Choice(FORMATS),
                default=FORMATS[0],
                show_default=True,
                help="How findings are printed.",
            ),
            click.option(
                "--config",
                "overrides",
                multiple=True,
                metavar="'KEY = VALUE'",
                help="A key of [tool.session-guard] and its value in TOML. Repeatable.",
            ),
            click.option(
                "--force-exclude/--no-force-exclude",
                default=True,
                show_default=True,
                help="Pass excluded and ignored files by even if they are named.",
            ),
            click.option(
                "--stdin-filename",
                metavar="PATH",
                help="The path to take for the text that `-` reads from standard input.",
            ),
        )
    ):
        function = decorate(function)
    return function


def options(
    paths: tuple[str, ...],
    overrides: tuple[str, ...],
    *,
    force_exclude: bool,
    stdin_filename: str | None,
    cache_dir: str | None = None,
) -> Options:
    """Return what the command line says. Raises click.UsageError."""
    if STANDARD_INPUT in paths and len(paths) > 1:
        raise click.UsageError("`-` is standard input, and no other path can be named with it.")
    if stdin_filename is not None and paths != (STANDARD_INPUT,):
        raise click.UsageError("--stdin-filename needs `-` as the only path.")
    return Options(paths or (".",), overrides, force_exclude, stdin_filename, cache_dir)


@contextmanager
def running(options: Options) -> Iterator[Run]:
    """Give a run; say at its end what concerns it as a whole.

    A wrong path or configuration, or a broken rule package, is raised as click.ClickException, and
    where a rule failed, click.exceptions.Exit with code 2.
    """
    try:
        run = Run(options)
        yield run
    except (ConfigError, PathError, RuleLoadError) as error:
        raise click.ClickException(str(error)) from error
    for notice in run.notices:
        click.echo(f"note: {masked(notice)}", err=True)
    if not run.checked and options.paths != (STANDARD_INPUT,):
        named = ", ".join(options.paths)
        click.echo(f"warning: no Python files to check in: {named}", err=True)
    if run.failures:
        report(run.failures)
        raise click.exceptions.Exit(2)


def counted(number: int, noun: str) -> str:
    """Return `number` and `noun`, in the plural where it has to be."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
