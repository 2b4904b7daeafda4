"""The load generator, on the server that does nothing and on one that fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from bench.services.load import Load
from bench.services.null import Nothing

HOST = "127.0.0.1"


@asynccontextmanager
async def listening(protocol: type[asyncio.Protocol]) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(protocol, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def load(port: int, work: str, *, orders: list[str] | None = None, clients: int = 3) -> Load:
    return Load(
        host=HOST, port=port, work=work, clients=clients, seconds=0.05, orders=orders or ["a", "b"]
    )


@pytest.mark.parametrize("work", ["create", "read", "update", "contended"])
async def test_every_client_asks_again_and_again_until_the_time_is_over(work: str) -> None:
    async with listening(Nothing) as port:
        found = await load(port, work).run()

    assert len(found["done_ms"]) > 3
    assert found["failed"] == {}
    assert found["seconds"] >= 0.05
    assert found["load_seconds"] > 0
    assert len(found["created"]) == (len(found["done_ms"]) if work == "create" else 0)


async def test_each_order_is_deleted_once_and_then_the_row_ends() -> None:
    orders = [str(number) for number in range(7)]

    async with listening(Nothing) as port:
        found = await load(port, "delete", orders=orders, clients=4).run()

    assert len(found["done_ms"]) == 7


class Refusing(Nothing):
    def on_message_complete(self) -> None:
        self._transport.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")


class HangingUp(Nothing):
    def on_message_complete(self) -> None:
        self._transport.close()


async def test_what_is_refused_counts_by_status_and_not_as_done() -> None:
    async with listening(Refusing) as port:
        found = await load(port, "update").run()

    assert found["done_ms"] == []
    assert found["failed"]["503"] > 3


async def test_a_lost_connection_is_counted_and_another_one_is_made() -> None:
    async with listening(HangingUp) as port:
        found = await load(port, "read").run()

    assert found["done_ms"] == []
    assert found["failed"]["ConnectionResetError"] > 3
