"""A server that does nothing: what the load generator reaches on it is the most it can measure.

``python -m bench.services.null PORT``. It answers every request as it would be answered in the
shop, without looking at it. Traces are sent to it as well: somebody has to take them.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final, cast

import httptools
import uvloop

from devkit.ports import HOST

_CREATED: Final = b'{"id": "00000000-0000-4000-8000-000000000000"}'
_HEADERS: Final = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
ANSWERS: Final = {
    b"GET": b"HTTP/1.1 200 OK\r\n" + _HEADERS % (len(_CREATED), _CREATED),
    b"POST": b"HTTP/1.1 201 Created\r\n" + _HEADERS % (len(_CREATED), _CREATED),
}
NO_CONTENT: Final = b"HTTP/1.1 204 No Content\r\n\r\n"


class Nothing(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # TCP has no other
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Answer; called by the parser."""
        self._transport.write(ANSWERS.get(self._parser.get_method(), NO_CONTENT))


async def serve(port: int) -> None:
    """Answer until the process is stopped."""
    server = await asyncio.get_running_loop().create_server(Nothing, HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
