"""A pod that is told to stop loses nobody's request, of its clients nor of the other service."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Self

import httpx
from tests.together.conftest import ShopFactory
from tests.together.processes import Service
from tests.together.shop import Shop, create, new_order, now

from servicekit.testing.polling import eventually

CLIENTS = 80


class Connection:
    """A client that keeps its one connection, and never opens another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, service: Service) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", service.port))

    async def get(self, path: str) -> tuple[int, bool]:
        """Return the status, and whether the connection ends with it."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
        await self._reader.readexactly(length)
        return int(head.split(b" ", 2)[1]), b"\r\nconnection: close\r\n" in head

    async def ended(self) -> bool:
        """Whether the server closes it without another word."""
        return await self._reader.read() == b""

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


async def test_80_clients_on_kept_connections_lose_no_request_when_a_pod_stops(
    shop_of: ShopFactory,
) -> None:
    with shop_of(ORDER_DRAIN_SECONDS="1") as shop:
        path = f"/orders/{create(shop.order)}"
        connections = [await Connection.to(shop.order) for _ in range(CLIENTS)]
        begun = asyncio.Event()
        answers: Counter[int] = Counter()

        async def until_told(connection: Connection) -> None:
            chance = random.Random(id(connection))
            last = False
            while not last:
                status, last = await connection.get(path)
                answers[status] += 1
                if sum(answers.values()) > 3 * CLIENTS:
                    begun.set()
                await asyncio.sleep(chance.uniform(0, 0.2))
            assert await connection.ended()

        clients = [asyncio.create_task(until_told(each)) for each in connections]
        await begun.wait()
        stopped = asyncio.create_task(asyncio.to_thread(shop.order.stop))
        ends = await asyncio.gather(*clients, return_exceptions=True)
        await stopped
        for each in connections:
            await each.close()
        assert Counter(map(repr, ends)) == {"None": CLIENTS}
        assert set(answers) == {200}
        assert shop.order.status == 0


class Switch:
    """What stands before the pods of a service: a new connection goes to the one that is named."""

    def __init__(self, target: Service) -> None:
        self.target = target
        self.made: Counter[int] = Counter()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        ends: set[asyncio.Task[None]] = set()

        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ends.add(asyncio.create_task(self._serve(reader, writer)))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*ends)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self.target.port
        self.made[port] += 1
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pump(reader, forth), _pump(back, writer))
        for end in (forth, writer):
            with suppress(ConnectionError):
                await end.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def test_no_change_of_an_order_fails_when_a_pod_of_the_invoice_service_stops(
    shop_of: ShopFactory,
) -> None:
    # Long, so that a busy machine makes nobody wait in vain.
    shop = shop_of(ORDER_INVOICE_TIMEOUT_SECONDS="10", ORDER_LOCK_TTL_SECONDS="30")
    switch = Switch(shop.invoice)
    successor = shop.another_invoice_service()
    async with switch.listening() as url:
        try:
            for service in (shop.invoice, successor):
                await asyncio.to_thread(service.start, INVOICE_DRAIN_SECONDS="1")
            await asyncio.to_thread(shop.order.start, ORDER_INVOICE_URL=url)
            answers = await _changes_during(shop, switch, successor)
            assert set(answers) == {201, 204}, answers
            assert switch.made[successor.port] > 0
            assert shop.invoice.status == 0
            shop.assert_true()
        finally:
            shop.__exit__()


async def _changes_during(shop: Shop, switch: Switch, successor: Service) -> Counter[int]:
    """Change orders until well after the invoice service's first pod is gone; count the answers."""
    answers: Counter[int] = Counter()
    gone = asyncio.Event()
    async with httpx.AsyncClient(base_url=shop.order.url, timeout=30, trust_env=False) as client:

        async def change() -> None:
            while not gone.is_set():
                made = await client.post("/orders", json=new_order())
                answers[made.status_code] += 1
                update = {"update_time": now(), "quantity": 3}
                changed = await client.patch(made.headers["location"], json=update)
                answers[changed.status_code] += 1

        def changed(times: int) -> Callable[[], Awaitable[bool]]:
            async def is_so() -> bool:
                return answers[204] >= times or any(each.done() for each in clients)

            return is_so

        clients = [asyncio.create_task(change()) for _ in range(6)]
        await eventually(changed(6))
        switch.target = successor
        await asyncio.to_thread(shop.invoice.stop)
        await eventually(changed(answers[204] + 6))
        gone.set()
        await asyncio.gather(*clients)
    return answers
