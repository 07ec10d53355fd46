"""`session-guard doctor`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from session_guard.doctor.report import Report
    from session_guard.doctor.target import Tls


@click.command("doctor")
@click.option("--url", help="The database URL; that of --engine or DATABASE_URL by default.")
@click.option(
    "--engine",
    metavar="MODULE:NAME",
    help="Try your own engine too. This imports your code, from the current folder.",
)
@click.option(
    "--tls",
    type=click.Choice(["verify", "off"]),
    default="verify",
    help="Whether to connect with TLS, verified, or without; --engine has its own.",
)
@click.option("--tls-ca-file", metavar="FILE", help="Certificates of the authorities to trust.")
@click.option("--deep", is_flag=True, help="Ask for more, from four processes at once.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    url: str | None,
    engine: str | None,
    tls: Tls,
    tls_ca_file: str | None,
    *,
    deep: bool,
    as_json: bool,
) -> int:
    """Connect to the real pooler and prove settings right or wrong there.

    It reads constants in a few connections and takes away what it leaves on the server.

    Exit codes: 0 proven safe, 1 unsafe, 2 it could not be told.
    """
    try:
        from session_guard.doctor import diagnosis
    except ImportError as error:
        raise click.ClickException(
            f'doctor needs SQLAlchemy and asyncpg: pip install "session-guard[runtime]" ({error})'
        ) from error
    if not engine:  # which knows its own
        url = url or os.environ.get("DATABASE_URL")
    if not url and not engine:
        raise click.UsageError("no database: give --url or --engine, or set DATABASE_URL")
    try:
        if engine:
            click.echo(f"importing {engine.partition(':')[0]}, which runs its code", err=True)
            report = diagnosis.diagnose_engine(
                url, engine, tls, tls_ca_file, deep=deep, progress=_progress
            )
        else:
            report = asyncio.run(
                diagnosis.diagnose(url, None, tls, tls_ca_file, deep=deep, progress=_progress)
            )
    except diagnosis.TargetError as error:
        raise click.ClickException(str(error)) from error
    _show(report, as_json=as_json)
    return report.verdict.value


def _progress(step: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{step} …", err=True, nl=False)
    else:
        click.echo(f"{step} …", err=True)


def _show(report: Report, *, as_json: bool) -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    if as_json:
        click.echo(json.dumps(report.as_data(), indent=2))
    else:
        click.echo("\n".join(report.lines()))
