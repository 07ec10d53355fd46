"""The whole examination, from a URL or an engine to the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_guard.doctor import engine as own
from session_guard.doctor import trial
from session_guard.doctor.report import RECOMMENDED, Report
from session_guard.doctor.server import identify
from session_guard.doctor.target import Target, TargetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from session_guard.doctor.target import Tls

__all__ = ["TargetError", "diagnose"]


async def diagnose(
    url: str | None,
    engine: str | None,
    tls: Tls,
    ca_file: str | None,
    *,
    deep: bool,
    progress: Callable[[str], None],
) -> Report:
    """Find what is at the other end, and which settings are right there.

    `engine` is a reference to the user's own, `package.module:name`; without a `url` its own URL is
    the one to examine. Raises TargetError where the examination cannot be begun.
    """
    load = trial.DEEP if deep else trial.Load()
    outcomes, settings = [], None
    if engine:
        users = own.load(engine)
        settings, own_target = await own.read_back(users)
        outcomes.append(await trial.attempt_engine(users, engine, load, progress))
    target = own_target if engine and not url else Target.parse(url or "", tls, ca_file)
    server = await identify(target, progress)
    names = trial.SETTINGS if not engine or url else [RECOMMENDED]
    outcomes += [await trial.attempt(target, name, load, progress) for name in names]
    return Report(str(target), server, tuple(outcomes), engine or "", settings)
