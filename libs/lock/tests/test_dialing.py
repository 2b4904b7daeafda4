"""How a server is reached whose name leads to the wrong address, or nowhere, or only slowly."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from libs.lock.tests.clients import Clients, connection_of
from libs.lock.tests.eventually import eventually

from devkit.ports import silent_port
from fencelock import RedisUnavailable
from fencelock._target import Target

LIVE, SILENT, CLOSED = "127.0.0.1", "127.0.0.2", "127.0.0.3"
NAME = "redis.test"


@pytest.fixture
def port(url: str) -> int:
    return Target.from_url(url).port


@pytest.fixture
def named(url: str) -> str:
    """The server's URL with a name for its address."""
    return url.replace(LIVE, NAME)


@pytest.fixture
def silent(port: int) -> Iterator[None]:
    """At the server's port of another address, one that lets nobody in and says so to nobody."""
    with silent_port(SILENT, port):
        yield


class Names:
    """What the event loop is told of ``NAME``, and how often it has asked."""

    def __init__(self) -> None:
        self.addresses: list[str] = [LIVE]
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        assert host == NAME
        self.asked += 1
        await self.open.wait()
        if not self.addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*stream, (address, port)) for address in self.addresses]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    told = Names()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", told.getaddrinfo)
    return told


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize(
    "addresses", [[LIVE], [CLOSED, LIVE], [SILENT, LIVE], [SILENT, CLOSED, SILENT, LIVE]]
)
async def test_an_address_where_nobody_is_is_passed_over(
    clients: Clients, named: str, names: Names, addresses: list[str]
) -> None:
    names.addresses = addresses
    async with clients.make(url=named).lock("name"):
        pass


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        ([SILENT] * 9, "no connection within 0.2 s"),
        ([CLOSED, SILENT], "no connection within 0.2 s"),
        ([CLOSED, CLOSED], CLOSED),
        ([], "Temporary failure in name resolution"),
    ],
)
async def test_what_cannot_be_reached_is_said_within_the_limit_with_its_cause(
    clients: Clients, named: str, names: Names, addresses: list[str], said: str
) -> None:
    names.addresses = addresses
    client = clients.make(url=named, connect_timeout=0.2)
    with pytest.raises(RedisUnavailable, match=rf"cannot reach {NAME}.*{said}"):
        await client.ping(timeout=0.5)


async def test_a_name_that_takes_longer_than_there_is_to_connect_is_asked_for_once_and_found(
    clients: Clients, named: str, names: Names
) -> None:
    names.open.clear()
    client = clients.make(url=named, connect_timeout=0.05)
    for _ in range(3):
        with pytest.raises(RedisUnavailable):
            await client.ping(timeout=0.2)
    assert names.asked == 1
    names.open.set()

    async def answers() -> bool:
        try:
            await client.ping(timeout=0.2)
        except RedisUnavailable:
            return False
        return True

    await eventually(answers, "an answer")


@pytest.mark.usefixtures("names")
async def test_a_small_request_goes_out_at_once(clients: Clients, named: str) -> None:
    """Otherwise it would wait for the acknowledgement of the one before."""
    client = clients.make(url=named)
    await client.start()
    link = connection_of(client)._link
    assert link is not None
    assert link._transport is not None
    sock = link._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
