"""The whole examination, from a URL or an engine to the report."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from session_guard.doctor import engine as own
from session_guard.doctor import processes, trial
from session_guard.doctor.report import RECOMMENDED, Report
from session_guard.doctor.server import PREFIX, identify
from session_guard.doctor.target import Target, TargetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.synchronize import Event

    from session_guard.doctor.engine import EngineSettings
    from session_guard.doctor.server import Server
    from session_guard.doctor.target import Tls
    from session_guard.doctor.trial import Load, Outcome

__all__ = ["TargetError", "diagnose", "diagnose_engine"]


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
    if settings and settings.faults.error:
        outcomes.append(trial.Outcome(engine or "", {}, refusal=settings.faults.error))
    elif engine:
        outcomes.append(await _attempt_own(engine, target, _of_programs(load), progress))
    names = trial.SETTINGS if not engine or url else [RECOMMENDED]
    outcomes += [await trial.attempt(target, name, load, progress) for name in names]
    return Report(str(target), server, tuple(outcomes), engine or "", settings)


def diagnose_engine(
    url: str | None,
    engine: str,
    tls: Tls,
    ca_file: str | None,
    *,
    deep: bool,
    progress: Callable[[str], None],
) -> Report:
    """Do as `diagnose` in a process of its own, whose module may print, hang and quit.

    What it prints goes to standard error. `progress` must be a function of a module.
    """
    is_read = processes.SPAWN.Event()
    with processes.running(1, _keep_out_of_report, is_read) as pool:
        run = pool.submit(_diagnose_here, url, engine, tls, ca_file, deep, progress)
        run.add_done_callback(lambda _: is_read.set())
        if not is_read.wait(trial.SPARE_SECONDS):
            raise TargetError(
                f"--engine {engine}: importing it and connecting once took more than "
                f"{trial.SPARE_SECONDS:.0f} s and was ended; see what its module waits for"
            )
        try:
            return run.result()
        except BrokenProcessPool:
            raise TargetError(_ENDED.format(engine)) from None


_ENDED = "--engine {}: a process that imported it ended"
_is_read: Event


def _keep_out_of_report(is_read: Event) -> None:
    global _is_read
    _is_read = is_read
    os.dup2(2, 1)  # further processes inherit it, and programs that the user's code runs


def _diagnose_here(
    url: str | None,
    engine: str,
    tls: Tls,
    ca_file: str | None,
    deep: bool,
    progress: Callable[[str], None],
) -> Report:
    def tell(step: str) -> None:
        _is_read.set()  # the first step comes when the engine was read
        progress(step)

    return asyncio.run(diagnose(url, engine, tls, ca_file, deep=deep, progress=tell))


async def _read_back(engine: str, given: Target | str | None) -> tuple[Target, EngineSettings]:
    """Return where an engine connects to, and with what."""
    users = own.load(engine)
    opened = await own.opening(users)
    if opened.opened_by and isinstance(given, Target):
        target = given
    else:
        target = own.target_of(opened, engine)
        if isinstance(given, Target) and str(given) != str(target):
            raise TargetError(
                f"--engine {engine} connects to {target}, and --url names {given}: what is true of "
                "one need not be of the other; leave --url away"
            )
    return target, await own.read_back(users, opened, target, engine)


def _fitting(load: Load, server: Server) -> Load:
    """Ask for no more connections than it takes, where each keeps a server connection."""
    if server.mode != "session":
        return load
    # What one client leaves is in the way of the next one, which is another program.
    generations = 1 if server.leftovers == () else 2
    clients = 2 if server.serves_two else 1
    return replace(load, clients=clients, processes=1, generations=generations)


def _of_programs(load: Load) -> Load:
    """Share a load among two programs: what asyncpg calls statements is only unique inside one."""
    if load.processes > 1 or load.clients == 1:
        return load
    return replace(load, clients=load.clients // 2, processes=2)


async def _attempt_own(
    engine: str, target: Target, load: Load, progress: Callable[[str], None]
) -> Outcome:
    progress(f"trying {engine} in programs of its own: {load.processes * load.generations}")
    make = partial(own.probed, engine, load.clients)
    try:
        outcome = await trial.attempt_in_processes(make, engine, load)
    except BrokenProcessPool:
        raise TargetError(_ENDED.format(engine)) from None
    removed = await trial.take_away(target, load)
    if removed is not None:  # what an earlier run left may be among it
        outcome.left = sum(not name.startswith(PREFIX) for name in removed)
    return outcome
