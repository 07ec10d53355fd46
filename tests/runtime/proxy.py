"""A TCP proxy on 127.0.0.1 that can slow connections down, hold them up and cut them."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """What lies between a program and its server; it runs in a thread and a loop of its own."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.delay = 0.0
        """Seconds that each piece of data takes longer."""
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._passes = asyncio.Event()
        self._passes.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Cut every connection in the middle of what it does."""
        self._loop.call_soon_threadsafe(self._cut)

    def hold(self) -> None:
        """Let nothing pass, while connections stay as they are."""
        self._loop.call_soon_threadsafe(self._passes.clear)

    def let_pass(self) -> None:
        """Let data pass again, what was held up first."""
        self._loop.call_soon_threadsafe(self._passes.set)

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, to_server}
        try:
            await asyncio.gather(self._pump(reader, to_server), self._pump(upstream, writer))
        finally:
            self._writers -= {writer, to_server}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await asyncio.sleep(self.delay)
                await self._passes.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _listen(self) -> asyncio.Server:
        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._serve(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _end(self, server: asyncio.Server) -> None:
        server.close()
        self._passes.set()
        self._cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextmanager
def running_proxy(target: int) -> Iterator[Proxy]:
    """Run a proxy before the server on port `target`."""
    proxy = Proxy(target)
    loop = proxy._loop
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(proxy._listen(), loop).result(10)
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy._end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
