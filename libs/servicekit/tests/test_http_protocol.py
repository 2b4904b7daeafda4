"""What one client may hold: connections, heads and bodies, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

from servicekit.connections import RESERVED_FOR_PROBES, Connections
from servicekit.http_protocol import HttpLimits
from servicekit.lifecycle import Lifecycle
from servicekit.testing.polling import eventually
from servicekit.testing.server import serving

GET = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"


class App:
    """Answers every request with what it was, and counts those it was given."""

    def __init__(self) -> None:
        self.begun = 0
        self.bodies: list[bytes] = []
        self.headers: list[dict[bytes, bytes]] = []
        self.gate = asyncio.Event()
        self.gated = {"/gate"}
        self.answered = 0
        self.answer = b"ok"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.begun += 1
        self.headers.append(dict(scope["headers"]))
        self.bodies.append((await receive())["body"])
        if scope["path"] in self.gated:
            await self.gate.wait()
        answer = b"ok" if scope["path"] == "/x" else self.answer
        length = (b"content-length", b"%d" % len(answer))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": answer})
        self.answered += 1


class Raw:
    """A client that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self) -> bytes:
        head = await self.head()
        return head + await self.reader.readexactly(2)

    async def to_the_end(self) -> bytes:
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""


class World:
    def __init__(self, url: str, app: App, registry: CollectorRegistry) -> None:
        self.url, self.app, self._registry = url, app, registry
        self.opened: list[Raw] = []
        self.keep_open = False

    async def connect(self) -> Raw:
        host, port = self.url.removeprefix("http://").split(":")
        raw = Raw(*await asyncio.open_connection(host, int(port)))
        self.opened.append(raw)
        return raw

    async def close(self) -> None:
        for raw in self.opened:
            raw.writer.close()
            with suppress(OSError):
                await raw.writer.wait_closed()

    def refused(self, reason: str) -> float:
        name = "http_server_connections_refused_total"
        return self._registry.get_sample_value(name, {"reason": reason}) or 0.0

    def connected(self) -> float:
        return self._registry.get_sample_value("http_server_connections") or 0.0


@asynccontextmanager
async def world_with(
    *, maximum: int = 100, lifecycle: Lifecycle | None = None, **limits: float
) -> AsyncIterator[World]:
    app, registry = App(), CollectorRegistry()
    made = HttpLimits(**{"idle_grace_seconds": 0.0, **limits})  # type: ignore[arg-type]
    connections = Connections(maximum=maximum, registry=registry)
    async with serving(app, limits=made, connections=connections, lifecycle=lifecycle) as url:
        world = World(url, app, registry)
        try:
            yield world
        finally:
            app.gate.set()
            if not world.keep_open:
                await world.close()


async def test_a_request_reaches_the_application_only_once_its_body_is_there() -> None:
    async with world_with() as world:
        slow, quick = await world.connect(), await world.connect()
        slow.send(POST + b"\r\n12345")
        quick.send(GET)
        await quick.answer()
        assert world.app.begun == 1
        slow.send(b"67890")
        assert (await slow.answer()).endswith(b"ok")
        assert world.app.bodies == [b"", b"1234567890"]


async def test_a_client_that_asks_whether_to_go_on_is_told_to() -> None:
    async with world_with() as world:
        client = await world.connect()
        client.send(POST + b"Expect: 100-continue\r\n\r\n")
        assert b"100 Continue" in await client.head()
        client.send(b"1234567890")
        assert b"200 OK" in await client.answer()


async def test_pipelined_requests_are_answered_in_their_order_the_last_one_when_it_is_whole() -> (
    None
):
    async with world_with() as world:
        client = await world.connect()
        client.send(GET + GET + POST + b"\r\n1234567")
        await client.answer()
        await client.answer()
        client.send(b"890")
        await client.answer()
        assert world.app.bodies == [b"", b"", b"1234567890"]


@pytest.mark.parametrize(
    "begin",
    [b"", b"GET /x HT", b"GET /x HTTP/1.1\r\nHost: x\r\nX-A: ", b"\r\n\r\n"],
    ids=["silence", "request line", "header", "blank lines"],
)
async def test_a_head_that_does_not_come_is_answered_408_and_closed(begin: bytes) -> None:
    async with world_with(head_seconds=0.2) as world:
        client = await world.connect()
        client.send(begin)
        assert (await client.to_the_end()).startswith(b"HTTP/1.1 408 ")
        assert world.refused("slow_head") == 1
        assert world.app.begun == 0


async def test_dripping_bytes_do_not_lengthen_the_time_of_a_head() -> None:
    async with world_with(head_seconds=0.5) as world:
        client = await world.connect()
        client.send(b"GET /x HTTP/1.1\r\n")

        async def refused() -> bool:
            client.send(b"A: b\r\n")
            return world.refused("slow_head") == 1

        await eventually(refused)


async def test_the_head_of_a_later_request_has_its_time_too() -> None:
    async with world_with(head_seconds=0.2) as world:
        client = await world.connect()
        client.send(GET)
        await client.answer()
        client.send(b"GET /x")
        assert (await client.to_the_end()).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "limits",
    [
        {"body_seconds": 0.2, "body_grace_seconds": 100.0},
        {"body_seconds": 100.0, "body_grace_seconds": 0.0, "body_bytes_per_second": 10_000},
    ],
    ids=["time", "rate"],
)
async def test_a_body_that_does_not_come_is_answered_408_and_closed(
    limits: dict[str, float],
) -> None:
    async with world_with(lifecycle=None, maximum=100, **limits) as world:
        client = await world.connect()
        client.send(POST + b"\r\n123")
        assert (await client.to_the_end()).startswith(b"HTTP/1.1 408 ")
        assert world.refused("slow_body") == 1
        assert world.app.begun == 0


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 5000,
        b"GET /x HTTP/1.1\r\nX-A: " + b"x" * 5000,
        b"GET /x HTTP/1.1\r\n" + b"A: b\r\n" * 11 + b"\r\n",
        b"GET /x HTTP/1.1\r\nX-A: " + b"x" * 5000 + b"\r\n\r\n",
    ],
    ids=["endless line", "endless field", "many fields", "whole but large"],
)
async def test_a_head_beyond_its_limits_is_answered_431_and_closed(head: bytes) -> None:
    async with world_with(head_bytes=4096, head_fields=10) as world:
        client = await world.connect()
        client.send(head)
        assert (await client.to_the_end()).startswith(b"HTTP/1.1 431 ")
        assert world.refused("large_head") == 1
        assert world.app.begun == 0


async def test_what_is_no_http_is_answered_400_as_a_problem_and_closed() -> None:
    async with world_with() as world:
        client = await world.connect()
        client.send(b"\x16\x03\x01\x00\xa5\r\n\r\n")
        answer = await client.to_the_end()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in answer


@pytest.mark.parametrize(
    "hosts",
    [
        b"",
        b"Host: x\r\nHost: x\r\n",
        b"Host: [\r\n",
        b"Host: a b\r\n",
        b"Host: x/evil\r\n",
        b"Host: a:b\r\n",
        b"Host: u@h\r\n",
        b"Host: \xff\r\n",
    ],
)
async def test_a_request_that_does_not_say_for_whom_it_is_is_refused(hosts: bytes) -> None:
    async with world_with() as world:
        client = await world.connect()
        client.send(b"GET /x HTTP/1.1\r\n" + hosts + b"\r\n")
        answer = await client.to_the_end()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"Host" in answer
        assert world.app.begun == 0


@pytest.mark.parametrize(
    "head",
    [
        b"GET /x HTTP/1.0\r\n",
        b"GET /x HTTP/1.1\r\nHost:\r\n",
        b"GET /x HTTP/1.1\r\nHost: [::1]:3000\r\n",
        b"GET /x HTTP/1.1\r\nHost: shop-order.shop.svc.cluster.local:3000\r\n",
        b"GET /x HTTP/1.1\r\nHost: an_odd~name\r\n",
    ],
)
async def test_and_one_that_does_is_taken(head: bytes) -> None:
    async with world_with() as world:
        client = await world.connect()
        client.send(head + b"Connection: close\r\n\r\n")
        assert (await client.to_the_end()).startswith(b"HTTP/1.1 200 ")


async def test_a_field_after_the_body_is_not_one_of_the_request() -> None:
    async with world_with() as world:
        client = await world.connect()
        client.send(
            b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"1\r\na\r\n0\r\nIdempotency-Key: smuggled\r\n\r\n"
        )
        await client.answer()
        assert world.app.bodies == [b"a"]
        assert b"idempotency-key" not in world.app.headers[0]


async def test_a_body_without_an_announced_end_is_not_kept_beyond_the_limit() -> None:
    async with world_with(body_bytes=1000) as world:
        client = await world.connect()
        client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        client.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        await client.answer()
        assert world.app.begun == 1  # the application has its say: 413
        client.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")


async def test_when_all_places_are_taken_the_longest_silent_client_makes_room() -> None:
    async with world_with(maximum=3) as world:
        first = await world.connect()
        first.send(GET)
        await first.answer()
        silent = [await world.connect() for _ in range(2)]

        async def all_in() -> bool:
            return world.connected() == 3

        await eventually(all_in)
        newcomer = await world.connect()
        newcomer.send(GET)
        await newcomer.answer()
        assert await silent[0].to_the_end() == b""
        assert world.refused("evicted") == 1
        first.send(GET)  # served before, so it stayed
        await first.answer()


async def test_when_every_client_is_being_served_only_probes_get_in() -> None:
    async with world_with(maximum=2) as world:
        busy = [await world.connect() for _ in range(2)]
        for client in busy:
            client.send(b"GET /gate HTTP/1.1\r\nHost: x\r\n\r\n")

        async def begun() -> bool:
            return world.app.begun == 2

        await eventually(begun)
        other = await world.connect()
        other.send(GET)
        assert (await other.to_the_end()).startswith(b"HTTP/1.1 503 ")
        probe = await world.connect()
        probe.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in await probe.answer()
        world.app.gated.add("/livez")
        for number in range(RESERVED_FOR_PROBES):
            more = await world.connect()
            more.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")

            async def taken(wanted: int = number + 4) -> bool:
                return world.app.begun == wanted

            await eventually(taken)
        last = await world.connect()
        assert await last.to_the_end() == b""
        assert world.refused("full") == 2


async def test_while_draining_an_answer_says_that_the_connection_closes_and_then_it_does() -> None:
    lifecycle = Lifecycle()
    async with world_with(lifecycle=lifecycle) as world:
        client = await world.connect()
        client.send(GET)
        assert b"connection: close" not in await client.answer()
        lifecycle.start_draining()
        client.send(GET)
        assert b"connection: close" in await client.to_the_end()


async def test_once_the_listener_is_closed_a_request_on_an_open_connection_is_answered() -> None:
    stopping = asyncio.Event()

    async def request_after_stop(world: World, client: Raw) -> bytes:
        await stopping.wait()

        async def closed() -> bool:
            try:
                await world.connect()
            except ConnectionRefusedError:
                return True
            except ConnectionResetError:
                # It was in the listener's queue when that closed; the next look is refused.
                return False
            return False

        await eventually(closed)
        client.send(GET)
        return await client.to_the_end()

    async with world_with(idle_grace_seconds=30.0) as world:
        client = await world.connect()
        client.send(GET)
        await client.answer()
        late = asyncio.create_task(request_after_stop(world, client))
        world.keep_open = True
        stopping.set()
    try:
        assert (await late).endswith(b"ok")
    finally:
        await world.close()


OFFER = (
    b"POST /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
)


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 10_000])
async def test_a_request_that_offers_another_protocol_keeps_its_body_and_its_connection(
    body: bytes, piece: int
) -> None:
    async with world_with() as world:
        raw = await world.connect()
        sent = OFFER + body + GET + OFFER + body
        for start in range(0, len(sent), piece):
            raw.send(sent[start : start + piece])
            await raw.writer.drain()
        for _ in range(3):
            assert (await raw.answer()).startswith(b"HTTP/1.1 200 ")
        assert world.app.bodies == [b"hello", b"", b"hello"]
        assert {b"upgrade", b"http2-settings", b"connection"}.isdisjoint(world.app.headers[0])


async def test_an_offer_takes_no_request_beyond_the_limits() -> None:
    async with world_with(head_bytes=1000) as world:
        raw = await world.connect()
        raw.send(OFFER + b"X: " + b"y" * 1000 + b"\r\n\r\n")
        assert (await raw.to_the_end()).startswith(b"HTTP/1.1 431 ")
    async with world_with() as world:
        for first in (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", OFFER + b"Host: y\r\n\r\n"):
            raw = await world.connect()
            raw.send(first)
            assert (await raw.to_the_end()).startswith(b"HTTP/1.1 400 ")
        assert world.app.begun == 0


# More than the buffers of both ends take.
LARGE = b"x" * 32_000_000
GET_LARGE = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_whoever_does_not_read_an_answer_gets_no_further_request_begun() -> None:
    async with world_with() as world:
        world.app.answer = LARGE
        reader, other = await world.connect(), await world.connect()
        reader.send(GET_LARGE * 3)

        async def answered() -> bool:
            return world.app.answered == 1

        await eventually(answered)
        for _ in range(3):
            other.send(GET)
            await other.answer()
        assert world.app.begun == 1 + 3
        for _ in range(3):
            await reader.head()
            await reader.reader.readexactly(len(LARGE))
        assert world.app.begun == 3 + 3


async def test_whoever_stops_reading_an_answer_is_cut_off() -> None:
    async with world_with(answer_seconds=0.2) as world:
        world.app.answer = LARGE
        reader = await world.connect()
        reader.send(GET_LARGE * 2)

        async def cut_off() -> bool:
            return (world.refused("slow_reader"), world.connected()) == (1, 0)

        await eventually(cut_off)
        assert world.app.begun == 1
