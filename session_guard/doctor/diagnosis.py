"""The whole examination, from a URL or an engine to the report."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from session_guard.doctor import engine as own
from session_guard.doctor import trial
from session_guard.doctor.report import RECOMMENDED, Report
from session_guard.doctor.server import PREFIX, identify
from session_guard.doctor.target import Target, TargetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from session_guard.doctor.engine import EngineSettings
    from session_guard.doctor.server import Server
    from session_guard.doctor.target import Tls
    from session_guard.doctor.trial import Load, Outcome

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
    settings = None
    if engine:
        target, settings = await _read_back(engine, url and Target.parse(url, tls, ca_file))
    else:
        target = Target.parse(url or "", tls, ca_file)
    server = await identify(target, progress)
    load = _fitting(load, server)
    outcomes = []
    if engine:
        outcomes.append(await _attempt_own(engine, target, _of_programs(load), progress))
    names = trial.SETTINGS if not engine or url else [RECOMMENDED]
    outcomes += [await trial.attempt(target, name, load, progress) for name in names]
    return Report(str(target), server, tuple(outcomes), engine or "", settings)


async def _read_back(engine: str, given: Target | str | None) -> tuple[Target, EngineSettings]:
    """Return where an engine connects to, and with what."""
    users = own.load(engine)
    if own.connect_arguments(users) is None and isinstance(given, Target):
        target = given
    else:
        target = own.target_of(users, engine)
        if isinstance(given, Target) and str(given) != str(target):
            raise TargetError(
                f"--engine {engine} connects to {target}, and --url names {given}: what is true of "
                "one need not be of the other; leave --url away"
            )
    return target, await own.read_back(users, target)


def _fitting(load: Load, server: Server) -> Load:
    """Ask for no more connections than it takes, where each keeps a server connection."""
    if server.mode != "session":
        return load
    return replace(load, clients=2 if server.serves_two else 1, processes=1)


def _of_programs(load: Load) -> Load:
    """Share a load among two programs: what asyncpg calls statements is only unique inside one."""
    if load.processes > 1 or load.clients == 1:
        return load
    return replace(load, clients=load.clients // 2, processes=2)


async def _attempt_own(
    engine: str, target: Target, load: Load, progress: Callable[[str], None]
) -> Outcome:
    progress(f"trying {engine} in programs of its own: {load.processes}")
    make = partial(own.probed, engine, load.clients)
    try:
        outcome = await trial.attempt_in_processes(make, engine, load)
    except BrokenProcessPool:
        raise TargetError(f"--engine {engine}: a process that imported it ended") from None
    removed = await trial.take_away(target, load)
    if removed is not None:  # what an earlier run left may be among it
        outcome.left = sum(not name.startswith(PREFIX) for name in removed)
    return outcome
