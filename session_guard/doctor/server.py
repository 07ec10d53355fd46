"""What is at the other end, found by how it behaves."""

from __future__ import annotations

import asyncio
import io
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import asyncpg

from session_guard.doctor.target import CONNECT_SECONDS, TargetError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from session_guard.doctor.target import Target

Kind = Literal["PostgreSQL", "PgBouncer", "Supavisor", "a pooler"]
Mode = Literal["none", "session", "transaction", "statement", "unknown"]

SessionState = Literal["kept", "lost", "shared", "unknown"]

PREFIX = "__session_guard_"
"""What the names that the probe gives to statements begin with, which it takes away at the end."""

MARK = "session-guard doctor"
"""What stands in every query of the probe, by which those are told that an engine named."""

_WAIT_SECONDS = 1.0
"""How long a client waits for a server connection before the pooler is said to have no other."""

_TURNS = 8
"""How often two clients are made to compete before their pooler is said to be in session mode."""


@dataclass
class Server:
    """What was found of a server and of what stands before it."""

    kind: Kind
    mode: Mode
    postgresql: str
    """The version of PostgreSQL behind it."""
    serves_two: bool
    """Whether two clients could be served at the same time."""
    session_state: SessionState = "unknown"
    """What becomes of the state of a session, such as a statement that SQL prepared."""
    leftovers: tuple[str, ...] | None = None
    """What a client leaves to the next one on its server connection, in session mode: of
    `prepared statements` and `settings`. None in other modes, or where that could not be told."""
    named_statements: bool | None = None
    """Whether a named statement can be run on another server connection than the one that it was
    prepared on; None where there is only one, or where that could not be told."""
    startup: dict[str, str] = field(default_factory=dict)
    """What becomes of startup parameters: `kept`, `dropped` or `refused`."""
    unknown: list[str] = field(default_factory=list)
    """What could not be told, and why."""


async def ask(connection: asyncpg.Connection[Any], query: str) -> list[list[str]]:
    """Return the rows of a query, fetched without preparing a statement."""
    answer = io.BytesIO()
    # COPY goes by the simple protocol, which no pooler has to translate.
    await connection.copy_from_query(query, output=answer)
    return [line.split("\t") for line in answer.getvalue().decode().splitlines()]


async def process_of(connection: asyncpg.Connection[Any]) -> int:
    """Return the id of the server process that answers."""
    [[pid]] = await ask(connection, "SELECT pg_backend_pid()")
    return int(pid)


async def identify(target: Target, progress: Callable[[str], None]) -> Server:
    """Tell what is at the other end.

    Raises TargetError where no connection can be opened, or where one that was gives no answer.
    """
    try:
        return await _identify(target, progress)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise TargetError(target.explain_loss(error)) from error


async def _identify(target: Target, progress: Callable[[str], None]) -> Server:
    progress("connecting")
    async with _clients(target, 2) as (one, other):
        progress("asking who is there")
        [[application]] = await ask(one, _APPLICATION)
        mode, serves_two = await _mode(one, other)
        version = one.get_server_version()
        server = Server(
            "PostgreSQL" if mode == "none" else "a pooler",
            mode,
            f"{version.major}.{version.micro}",
            serves_two,
        )
    progress("asking which startup parameters are kept")
    refusal = await _startup(target, server)
    if mode != "none":
        if application == "Supavisor":
            server.kind = "Supavisor"
        elif "unsupported startup parameter" in refusal:
            server.kind = "PgBouncer"
        else:
            server.unknown.append("which pooler it is: it neither names itself nor refuses")
        if server.kind == "PgBouncer":
            server.unknown.append("PgBouncer's version: only its console tells")
    if not serves_two:
        server.unknown.append(
            "what happens on a second server connection: only one was to be had within "
            f"{_WAIT_SECONDS:.0f} s"
        )
    if mode != "statement" and serves_two:
        progress("asking what becomes of a session's state")
        async with _clients(target, 2) as (one, other):
            server.session_state = await _session_state(one, other)
    if mode == "session":
        progress("asking what a client leaves to the next one")
        server.leftovers = await _leftovers(target)
        if server.leftovers is None:
            server.unknown.append("what a client leaves to the next one: none came after another")
    if server.session_state == "unknown":
        server.unknown.append("whether the state of a session survives")
    if mode == "transaction" and serves_two:
        progress("moving a named statement to another server connection")
        async with _clients(target, 2) as (one, other):
            server.named_statements = await _takes_named_statements(one, other)
    if mode == "transaction" and server.named_statements is None:
        server.unknown.append("whether named statements are translated: nothing moved")
    return server


_APPLICATION = (
    "SELECT coalesce(max(application_name), '') FROM pg_stat_activity WHERE pid = pg_backend_pid()"
)


@asynccontextmanager
async def _clients(target: Target, number: int) -> AsyncIterator[list[asyncpg.Connection[Any]]]:
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(number):
            try:
                client = await target.connect()
            except Exception as error:
                raise TargetError(target.explain(error)) from error
            stack.push_async_callback(close, client)
            clients.append(client)
        yield clients


async def close(connection: asyncpg.Connection[Any]) -> None:
    """Close a connection, and cut it where it waits for something else."""
    try:
        await connection.close(timeout=_WAIT_SECONDS)
    except Exception:
        connection.terminate()


async def _mode(one: asyncpg.Connection[Any], other: asyncpg.Connection[Any]) -> tuple[Mode, bool]:
    """Tell how server connections are shared, from which server process answers whom.

    Returns whether two clients could be served at the same time, too.
    """
    if await process_of(one) == one.get_server_pid():
        return "none", True
    mine = set[int]()
    theirs = set[int]()
    serves_two = False
    for _ in range(_TURNS):
        try:
            await one.execute("BEGIN")
        except asyncpg.PostgresError as error:
            if "statement pooling mode" in str(error):
                return "statement", True
            raise
        mine.add(await process_of(one))
        # Where there is no second server connection it waits, until the transaction is over.
        async with _waiting(process_of(other)) as waiting:
            served = await _within(waiting, _WAIT_SECONDS)
            serves_two |= served
            await one.execute("COMMIT")
            if not served and not await _within(waiting, _WAIT_SECONDS):
                await close(one)
                await _within(waiting, CONNECT_SECONDS)
                # It came to the server when the first client had left, not before: that kept it.
                return ("session" if await waiting in mine else "unknown"), False
            theirs.add(await waiting)
        if served:
            theirs.add(await process_of(other))
        if mine & theirs or len(mine) > 1:
            return "transaction", serves_two
    return "session", serves_two


@asynccontextmanager
async def _waiting(work: Coroutine[Any, Any, int]) -> AsyncIterator[asyncio.Task[int]]:
    """Run work beside what is done meanwhile, and end it at the end."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(Exception, asyncio.CancelledError):
            await task


async def _within(task: asyncio.Task[Any], seconds: float) -> bool:
    """Return whether a task is over within that time; it goes on otherwise."""
    done, _ = await asyncio.wait([task], timeout=seconds)
    return bool(done)


async def _session_state(
    one: asyncpg.Connection[Any], other: asyncpg.Connection[Any]
) -> SessionState:
    """Tell what becomes of a statement that SQL prepared, which no pooler looks into."""
    name = f"{PREFIX}{uuid4().hex}"
    look = f"SELECT count(*) FROM pg_prepared_statements WHERE name = '{name}'"  # noqa: S608
    await one.execute(f'PREPARE "{name}" AS SELECT 1')
    try:
        for _ in range(_TURNS):
            if await ask(other, look) != [["0"]]:
                return "shared"
            if await ask(one, look) != [["1"]]:
                return "lost"
        return "kept"
    finally:
        await remove_statements(one, other)


async def _leftovers(target: Target) -> tuple[str, ...] | None:
    """Tell what of its state a client leaves on its server connection as it goes."""
    name = f"{PREFIX}{uuid4().hex}"
    look = (
        f"SELECT (SELECT count(*) FROM pg_prepared_statements WHERE name = '{name}'), "  # noqa: S608
        f"coalesce(current_setting('{_SETTING}', true), '')"
    )
    marked = set[int]()
    for _ in range(_TURNS):
        async with _clients(target, 1) as [client]:
            process = await process_of(client)
            if process in marked:
                [[statements, setting]] = await ask(client, look)
                await client.execute(f"RESET {_SETTING}")
                await remove_statements(client)
                left = {"prepared statements": statements != "0", "settings": setting == name}
                return tuple(what for what, is_left in left.items() if is_left)
            if marked and not await _running_of(client, marked):
                return ()  # the pooler closes what a client had
            marked.add(process)
            await client.execute(f'PREPARE "{name}" AS SELECT 1')
            await client.execute(f"SET {_SETTING} = '{name}'")
        await asyncio.sleep(_REST_SECONDS)
    return None


_SETTING = "session_guard.probe"
"""A setting that nothing reads."""

_REST_SECONDS = 0.1
"""How long a pooler is given to make ready what a client had."""


async def _running_of(connection: asyncpg.Connection[Any], processes: set[int]) -> int:
    """Return how many of these server processes still run."""
    numbers = ", ".join(map(str, processes))
    query = f"SELECT count(*) FROM pg_stat_activity WHERE pid IN ({numbers})"  # noqa: S608
    [[count]] = await ask(connection, query)
    return int(count)


async def _takes_named_statements(
    one: asyncpg.Connection[Any], other: asyncpg.Connection[Any]
) -> bool | None:
    """Tell whether a statement prepared on one server connection runs on another."""
    name = f"{PREFIX}{uuid4().hex}"
    statement = await one.prepare("SELECT pg_backend_pid() AS pid", name=name)
    try:
        first = await statement.fetchval()
        for _ in range(_TURNS):
            async with other.transaction():
                if await process_of(other) != first:
                    continue
                # Where another program has the last one, it waits until this transaction is over.
                async with _waiting(statement.fetchval()) as waiting:
                    if not await _within(waiting, _WAIT_SECONDS):
                        return None
                    if await waiting != first:
                        return True
    except asyncpg.PostgresError:
        return False
    finally:
        await remove_statements(one, other)
    return None


async def remove_statements(*clients: asyncpg.Connection[Any]) -> list[str]:
    """Take the probe's statements off the server connections that these clients reach at once.

    Returns their names, one for each server connection.
    """
    removed: list[str] = []
    async with AsyncExitStack() as stack:
        for client in clients:
            try:
                # Each holds another server connection; who gets none has seen the last of them.
                await client.execute("BEGIN", timeout=_WAIT_SECONDS)
            except TimeoutError:
                break
            stack.push_async_callback(client.execute, "ROLLBACK")
            rows = await ask(client, _OURS)
            for [name] in rows:
                await client.execute(f"DEALLOCATE {name}")
            removed += (name.strip('"') for [name] in rows)
    return removed


# A pooler that translates names counts on those that it gave itself, and drops them when it likes.
_OURS = (
    "SELECT quote_ident(name) FROM pg_prepared_statements "  # noqa: S608
    f"WHERE starts_with(name, '{PREFIX}') "
    f"OR (strpos(statement, '{MARK}') > 0 AND NOT starts_with(name, 'PGBOUNCER_'))"
)

_PARAMETERS = {
    "application_name": ("session-guard", "application_name"),
    "statement_timeout": ("12345", "statement_timeout"),
    "search_path": ("pg_catalog", "search_path"),
    "statement_cache_size": ("0", ""),
    "session_guard_probe": ("1", ""),
}


async def _startup(target: Target, server: Server) -> str:
    """Find what becomes of startup parameters; return how an unknown one was refused."""
    refusal = ""
    for name, (value, setting) in _PARAMETERS.items():
        try:
            connection = await target.connect({name: value})
        except asyncpg.PostgresError as error:
            server.startup[name] = "refused"
            refusal = str(error)
            continue
        except (OSError, TimeoutError) as error:
            server.unknown.append(f"the startup parameter {name}: {type(error).__name__}")
            continue
        try:
            kept = "dropped"
            if setting:
                [[found]] = await ask(connection, f"SELECT current_setting('{setting}')")
                kept = "kept" if found.replace("ms", "") == value else "dropped"
            server.startup[name] = kept
        finally:
            await close(connection)
    return refusal
