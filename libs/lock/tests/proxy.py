"""A TCP proxy that loses replies, or everything, on demand."""

import asyncio
from types import TracebackType
from typing import Self

from fencelock._target import Target


class Proxy:
    """Stands between a client and the server."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._pipes: set[_Pipe] = set()
        self.refusing = False

    @property
    def url(self) -> str:
        """Where clients connect to."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        password = f":{self._target.password}@" if self._target.password else ""
        return f"redis://{password}127.0.0.1:{port}/{self._target.db}"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._pipes)

    def lose_next_reply(self) -> None:
        """Pass the next request on, then break the connection instead of passing the reply back."""
        for pipe in self._pipes:
            pipe.lose_next_reply = True

    def black_hole(self) -> None:
        """Keep the open connections, and let nothing through in either direction any more."""
        for pipe in self._pipes:
            pipe.black_hole()

    def lose_clients(self) -> None:
        """Break the connections to the clients; the server does not notice."""
        for pipe in self._pipes:
            pipe.lose_client()

    def cut(self) -> None:
        """Break every open connection."""
        for pipe in list(self._pipes):
            pipe.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.close()
            return
        upstream = await asyncio.open_connection(self._target.host, self._target.port)
        pipe = _Pipe(writer, upstream[1])
        self._pipes.add(pipe)
        try:
            await asyncio.gather(
                pipe.requests(reader, upstream[1]), pipe.replies(upstream[0], writer)
            )
        except OSError:
            pass  # either side went away: that is what a proxy is for
        finally:
            pipe.close()
            self._pipes.discard(pipe)


class _Pipe:
    """One connection through the proxy."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers
        self._open = asyncio.Event()
        self._open.set()
        self.lose_next_reply = False
        self._keep_upstream = False

    def black_hole(self) -> None:
        self._open.clear()

    def lose_client(self) -> None:
        self._keep_upstream = True
        self._writers[0].transport.abort()

    def close(self) -> None:
        self._open.set()
        for writer in self._writers:
            writer.close()

    async def requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        if not self._keep_upstream:
            self.close()

    async def replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.lose_next_reply:
                break
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        self.close()
