"""`session-guard init`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from session_guard import registry
from session_guard.config import ConfigError, Configuration
from session_guard.output.diff import unified
from session_guard.output.masking import masked
from session_guard.output.text import printable
from session_guard.project.project import Project
from session_guard.registry import RuleLoadError
from session_guard.scaffolding import former_engine
from session_guard.scaffolding.former_engine import DATABASE_URL
from session_guard.scaffolding.scaffold import (
    OLDEST_PYTHON,
    ScaffoldError,
    plan,
    root_of,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_guard.scaffolding.scaffold import Scaffold


@click.command("init")
@click.option("--diff", is_flag=True, help="Print what would be written, and write nothing.")
@click.option(
    "--module",
    metavar="NAME",
    help="The module to write, as a dotted name: `app.db.async_session`.",
)
def command(diff: bool, module: str | None) -> int:
    """Give a project that has no handler one: write it, and name it in pyproject.toml.

    The project is the one that the current folder belongs to. The handler is written beside the
    module that builds the engine, or else into the one package; no file is overwritten.
    """
    try:
        root = root_of(os.path.realpath(os.getcwd()))
        project = Project(Configuration((), registry.known_codes).settings(str(root)))
        scaffold = plan(project, module)
        if diff:
            for file in (scaffold.handler, scaffold.configuration):
                name = project.shown(file.path)
                sys.stdout.buffer.write(unified(name, file.before or b"", file.after))
            sys.stdout.buffer.flush()
        else:
            write(scaffold)
    except (ConfigError, RuleLoadError, ScaffoldError) as error:
        raise click.ClickException(str(error)) from error
    for line in _report(scaffold, project, wrote=not diff):
        click.echo(printable(masked(line)), err=diff)
    return 1 if diff else 0


def _report(scaffold: Scaffold, project: Project, *, wrote: bool) -> Iterator[str]:
    handler = project.shown(scaffold.handler.path)
    yield f"{'Wrote' if wrote else 'Would write'} {handler}: the handler."
    if scaffold.overwritten is not None:
        yield (
            f"  It is not called async_session.py: {scaffold.overwritten} is something else, which "
            "the first import of such a module would overwrite."
        )
    imports = [line for line in scaffold.url.imports if line]
    where = f" ({'; '.join(imports)})" if imports else ""
    if scaffold.url_not_told is not None:
        yield (
            "  Its URL is DATABASE_URL of the environment, since the project's own is not known: "
            f"{scaffold.url_not_told}. `configure(SessionSettings(url=...))` sets another."
        )
    elif scaffold.url.expression == DATABASE_URL:
        yield "  Its URL is DATABASE_URL of the environment."
    else:
        yield f"  Its URL is `{scaffold.url.expression}`{where}."
    if scaffold.refused:
        yield _about_refused(scaffold, project)
    if scaffold.is_sqlmodel:
        yield "  Its sessions are SQLModel's."
    if scaffold.older_python is not None:
        yield (
            f"  It needs Python {'.'.join(map(str, OLDEST_PYTHON))}, and the project is for "
            f"`{scaffold.older_python}`: it fails on older ones."
        )
    yield ('  It verifies TLS: for a server without it, `configure(SessionSettings(tls="off"))`.')
    if not scaffold.engine_hides_parameters:
        yield (
            "  It hides parameters in the texts of errors: to have them there, "
            "`configure(SessionSettings(hide_parameters=False))`."
        )
    made = scaffold.configuration.before is None
    verb = ("Wrote" if made else "Added to") if wrote else f"Would {'write' if made else 'add to'}"
    yield f"{verb} {project.shown(scaffold.configuration.path)}, in [tool.session-guard]:"
    yield from (f"  {line}" for line in scaffold.keys.splitlines())
    yield from _about_engine(scaffold, project)
    yield (
        "Next: `session-guard fix --diff` shows what can open its sessions with "
        f"`get_background_session()` of {scaffold.dotted}, and `session-guard fix` does it."
    )


def _about_refused(scaffold: Scaffold, project: Project) -> str:
    """Say which parameters keep the handler from a URL, where they are, and what to write."""
    names = ", ".join(f"`{name}`" for name in sorted(scaffold.refused))
    lines = former_engine.lines_with(scaffold.refused, project)
    where = f" ({', '.join(lines)})" if lines else ""
    instead = "; ".join(former_engine.in_place_of(scaffold.refused))
    return (
        f"  The handler takes no URL with {names} in its query, as the project's has it{where}: "
        f"its sessions fail with one. Take it out there, and where a server's URL is set: "
        f"{instead}."
    )


def _about_engine(scaffold: Scaffold, project: Project) -> Iterator[str]:
    if scaffold.engine is None:
        return
    home = project.shown(scaffold.engine.home.path)
    kept_as = former_engine.kept_as(scaffold.engine, project) or "package.module.name"
    if scaffold.engine_name is None and scaffold.engine_not_same is None:
        yield (
            f"The engine in {home} has the same URL, but no session on it is rewritten while the "
            f'handler refuses that. Say so afterwards with `engines = ["{kept_as}"]`.'
        )
    elif scaffold.engine_name is None:
        yield (
            f"The engine in {home} is not known to be on the same database: "
            f"{scaffold.engine_not_same}. No session on it is rewritten; if it is on the same, "
            f'say so with `engines = ["{kept_as}"]`.'
        )
    else:
        module = project.import_name(scaffold.handler.path, scaffold.engine.home)
        yield (
            f"`{scaffold.engine_name}` has the same URL: sessions on it can be rewritten. Once "
            "they are, "
            + (
                f"have those who import it import `engine` from {module}, and delete it in {home}, "
                "which the handler has its URL from."
                if scaffold.url_is_beside_engine
                else f"let {home} have the engine from the handler, `from {module} import engine`, "
                "or delete its own."
            )
        )
    fields, others = former_engine.carried_over(former_engine.facts(scaffold.engine, project))
    if fields:
        given = ", ".join(f"{name}={value}" for name, value in fields.items())
        yield f"  To carry over what it was set to: `configure(SessionSettings({given}))`."
    if others:
        yield f"  The handler has no setting for its {', '.join(others)}."
