"""The load generator: clients that each send the next request when the last one is answered.

A program of its own (``python -m bench.services.load``), so that its CPU time can be told from
everybody else's: a plan comes in as JSON, what happened goes out as JSON. It speaks just enough
HTTP/1.1 to cost little. It repeats at once what is refused, whatever ``Retry-After`` says: clients
that wait would hide what refusing costs.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final, cast

import httptools
import uvloop

ANSWER_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 10.0
WISHED: Final = {"create": 201, "update": 204, "contended": 204, "delete": 204, "read": 200}


class Connection(asyncio.Protocol):
    """One connection with at most one request on its way."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    @property
    def usable(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # TCP has no other

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that waits."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed by the server"))

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        status, body = self._parser.get_status_code(), b"".join(self._body)
        keep = self._parser.should_keep_alive()
        self._parser, self._body = httptools.HttpResponseParser(self), []
        if not keep:
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((status, body))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and return the status and body of its answer."""
        if self._transport is None:
            raise ConnectionResetError("not connected")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._answer

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


@dataclass(kw_only=True)
class Load:
    """Clients that do one kind of work for a while."""

    host: str
    port: int
    work: str
    clients: int
    seconds: float
    orders: list[str]
    done_ms: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    created: list[str] = field(default_factory=list)

    async def run(self) -> dict[str, Any]:
        """Connect, work, and say what happened."""
        connections = await asyncio.gather(*[self._connect() for _ in range(self.clients)])
        requests = [self._requests(client) for client in range(self.clients)]
        used, began = time.process_time(), time.perf_counter()
        ends = began + self.seconds
        pairs = zip(connections, requests, strict=True)
        last = await asyncio.gather(*[self._client(*pair, ends) for pair in pairs])
        return {
            "seconds": max(max(last) - began, 1e-9),
            "load_seconds": time.process_time() - used,
            "done_ms": self.done_ms,
            "failed": self.failed,
            "created": self.created,
        }

    async def _client(
        self, connection: Connection, requests: Iterator[bytes], ends: float
    ) -> float:
        wished = WISHED[self.work]
        now = time.perf_counter()
        for request in requests:
            began = now
            if began >= ends:
                break
            try:
                if not connection.usable:
                    connection = await self._connect()
                status, body = await connection.ask(request)
            except (OSError, TimeoutError) as error:
                connection.close()
                self.failed[type(error).__name__] += 1
                now = time.perf_counter()
                continue
            now = time.perf_counter()
            if status != wished:
                self.failed[str(status)] += 1
                continue
            self.done_ms.append((now - began) * 1000)
            if self.work == "create":
                self.created.append(json.loads(body)["id"])
        connection.close()
        return now

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_connection(Connection, self.host, self.port)
        return connection

    def _requests(self, client: int) -> Iterator[bytes]:
        """The requests of one client, without end except for deletes: an order has one end."""
        make: Callable[[int], bytes]
        match self.work:
            case "create":
                make = self.creation
            case "read":
                request = self._request("GET", f"/orders/{self._own(client)}")
                make = lambda _: request  # noqa: E731
            case "update" | "contended":
                order = self.orders[0] if self.work == "contended" else self._own(client)
                make = lambda number: self._update(order, number)  # noqa: E731
            case "delete":
                mine = self.orders[client :: self.clients]
                return (self._request("DELETE", f"/orders/{order}") for order in mine)
            case _:
                raise ValueError(f"unknown work {self.work!r}")
        return map(make, count())

    def _own(self, client: int) -> str:
        return self.orders[client % len(self.orders)]

    def creation(self, number: int) -> bytes:
        """A request that creates an order."""
        body = {"user_id": str(uuid.uuid4()), "item_id": str(uuid.uuid4()), "value": "9.50"}
        return self._request("POST", "/orders", {**body, "quantity": 1 + number % 9})

    def _update(self, order: str, number: int) -> bytes:
        body = {"update_time": datetime.now(UTC).isoformat(), "quantity": 1 + number % 9}
        return self._request("PATCH", f"/orders/{order}", body)

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        content = b""
        if body is not None:
            content = json.dumps(body).encode()
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        return "\r\n".join([*lines, "\r\n"]).encode() + content


def main() -> None:
    """Read a plan, carry it out, and write what happened."""
    load = Load(**json.load(sys.stdin))
    json.dump(uvloop.run(load.run()), sys.stdout)


if __name__ == "__main__":
    main()
