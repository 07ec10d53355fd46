"""Uses the handler, forks with connections in the pool, and uses it again on both sides.

A program: it prints the server processes that each side was served by as JSON.
"""

import asyncio
import gc
import json
import os
import sys

from sqlalchemy import text

from session_guard import async_session
from session_guard.async_session import SessionSettings, configure, get_background_session

CONNECTIONS = 3


async def server_processes() -> list[int]:
    async def one() -> int:
        async with get_background_session() as session:
            pid: int = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await asyncio.sleep(0.1)  # long enough that no two take turns at one connection
            return pid

    return await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


def fork(inherited: asyncio.Runner | None = None) -> list[int]:
    """Fork; return what the child saw, which ends as a worker does.

    It works in a loop of its own, or in one that it inherited.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work = server_processes()
            found = asyncio.run(work) if inherited is None else inherited.run(work)
            gc.collect()  # what is left of the parent's must survive it
            os.write(writing, json.dumps(found).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        seen: list[int] = json.loads(answer.read())
    os.waitpid(child, 0)
    return seen


def main(moment: str) -> None:
    seen: dict[str, list[int]] = {}

    async def inside() -> None:
        seen["parent before"] = await server_processes()
        if moment == "inside the running loop":
            seen["child"] = fork()
            seen["parent after"] = await server_processes()

    with asyncio.Runner() as runner:
        runner.run(inside())
        if "child" not in seen:
            seen["child"] = fork(runner if moment == "and both go on with the loop" else None)
            seen["parent after"] = runner.run(server_processes())
    print(json.dumps(seen))


if __name__ == "__main__":
    configure(SessionSettings(tls="off"))
    imported = async_session.engine  # as gunicorn's `preload_app` has it: before any loop
    main(*sys.argv[1:])
    assert async_session.engine is imported
