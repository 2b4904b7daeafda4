"""TCP connections that can be cut: a wire stands before each database.

They run in a thread with an event loop of their own, since services are started and stopped by
calls that block.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Final, Self, TypeVar

from devkit.ports import HOST

CHUNK_BYTES: Final = 65_536
CONNECT_SECONDS: Final = 5.0
CALL_SECONDS: Final = 10.0

T = TypeVar("T")


class WireLoop:
    """The thread that all wires run in."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wires", daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it; wires that are still open are closed with it."""
        self.run(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_SECONDS)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the thread and wait for its result, for ten seconds at most."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Wire:
    """Passes connections on to a server, until it is cut."""

    def __init__(self, loop: WireLoop, *, port: int) -> None:
        """Describe a wire to ``port`` on this machine; nothing listens yet."""
        self._loop = loop
        self._target = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        """Where to connect instead; 0 before it is laid."""
        self.whole = False
        """Whether connections pass."""

    def __enter__(self) -> Self:
        """Lay it."""
        self._loop.run(self._lay())
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        self._loop.run(self._remove())

    def cut(self) -> None:
        """Reset every connection, and each new one at once, until it is mended."""
        self._loop.run(self._cut())

    def mend(self) -> None:
        """Let new connections pass."""
        self.whole = True

    async def _lay(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.whole = True

    async def _remove(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cut()

    async def _cut(self) -> None:
        self.whole = False
        for writer in tuple(self._open):
            writer.transport.abort()

    def _is_cut(self) -> bool:
        return not self.whole

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut():
            writer.transport.abort()
            return
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                far_reader, far_writer = await asyncio.open_connection(HOST, self._target)
        except (OSError, TimeoutError):
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._open |= ends
        try:
            if self._is_cut():  # meanwhile
                return
            await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer))
        finally:
            self._open -= ends
            _abort(ends)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()


def _abort(writers: set[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.transport.abort()
