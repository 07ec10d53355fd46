"""Processes of the doctor's own, in which the user's code runs, and which end in any case."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from multiprocessing.process import BaseProcess

SPAWN = multiprocessing.get_context("spawn")

END_SECONDS = 5.0
"""How long a process with nothing more to do may take to end: code of the user's may run then."""


@contextmanager
def running(
    number: int, prepare: Callable[..., None], *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Run that many processes, each of which begins with `prepare`.

    They are killed on leaving where work was left undone, and where they do not end by themselves.
    """
    pool = ProcessPoolExecutor(number, SPAWN, _begin, (prepare, arguments))
    try:
        yield pool
    except BaseException:
        _kill(pool._processes)  # what hangs would be waited for
        raise
    finally:
        late = threading.Timer(END_SECONDS, _kill, [pool._processes])
        late.start()
        pool.shutdown()
        late.cancel()


def _kill(processes: Mapping[int, BaseProcess]) -> None:
    for process in list(processes.values()):
        process.kill()


def _begin(prepare: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare(*arguments)


def _end_with_parent() -> None:
    """End where the one that waits for this process was killed: nothing else would end it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
