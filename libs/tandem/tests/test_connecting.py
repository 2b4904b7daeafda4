"""How a connection is made where a name leads to the wrong address, or nowhere, or only slowly."""

import asyncio
import socket
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from devkit.ports import silent_port
from devkit.servers import PostgresServer
from tandem.connecting import Connector
from tandem.store import Store

LIVE, SILENT, CLOSED = "127.0.0.1", "127.0.0.2", "127.0.0.3"


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    return postgres_server.url("postgres").replace(LIVE, "db.test")


@pytest.fixture
def port(url: str) -> int:
    return int(str(conninfo_to_dict(url)["port"]))


@pytest.fixture
def silent(port: int) -> Iterator[None]:
    """At the database's port of another address, one that lets nobody in and says so to nobody."""
    with silent_port(SILENT, port):
        yield


class Names:
    """Looks names up, and counts how often."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, host: str, port: int) -> list[str]:
        assert host == "db.test"
        self.asked += 1
        await self.open.wait()
        if not self.addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return self.addresses


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize(
    "addresses", [(LIVE,), (CLOSED, LIVE), (SILENT, LIVE), (SILENT, CLOSED, SILENT, LIVE)]
)
async def test_an_address_where_nobody_is_is_passed_over(
    url: str, addresses: tuple[str, ...]
) -> None:
    store = Store(
        url,
        parameters={"connect_timeout": 60},
        size=4,
        connect=Connector(Names(*addresses)).connect,
    )
    async with store.session() as session:
        found = await session.connection.execute("SELECT host(inet_server_addr())")
        assert await found.fetchall() == [(LIVE,)]
    await store.close()


async def test_the_database_url_may_ask_for_any_of_the_addresses(url: str) -> None:
    """As libpq does, and here each of them is tried at once, since the others refuse."""
    names = Names(CLOSED, LIVE)
    connector = Connector(names)
    for _ in range(3):
        await (await connector.connect(url, load_balance_hosts="random")).close()
    assert names.addresses == [CLOSED, LIVE]


@pytest.mark.usefixtures("silent")
async def test_addresses_that_are_silent_and_names_that_are_not_found_take_one_limit(
    url: str,
) -> None:
    for names, said in (
        (Names(SILENT), f"within 0.2 s: connecting to 'db.test' .{SILENT}"),
        (Names(*[SILENT] * 9), f"within 0.2 s: connecting to 'db.test' .{SILENT}"),
        (Names(), "failed to resolve host 'db.test': .*Temporary failure"),
    ):
        with pytest.raises(psycopg.OperationalError, match=said):
            await Connector(names).connect(url, connect_timeout=0.2)


async def test_a_name_that_is_not_answered_for_is_asked_for_once_and_each_caller_has_its_limit(
    url: str,
) -> None:
    names = Names(LIVE)
    names.open.clear()
    connector = Connector(names)
    for _ in range(2):
        outcomes = await asyncio.gather(
            *(connector.connect(url, connect_timeout=0.05) for _ in range(20)),
            return_exceptions=True,
        )
        assert {type(outcome) for outcome in outcomes} == {psycopg.errors.ConnectionTimeout}
        assert "looking up 'db.test'" in str(outcomes[0])
    assert names.asked == 1
    # It goes on by itself, and a next one is looked up anew.
    patient = asyncio.create_task(connector.connect(url, connect_timeout=60))
    await asyncio.sleep(0)
    names.open.set()
    await (await patient).close()
    await (await connector.connect(url)).close()
    assert names.asked == 2


@pytest.mark.usefixtures("silent")
async def test_who_gives_up_in_the_middle_leaves_no_connection_behind(url: str) -> None:
    begun = asyncio.create_task(Connector(Names(SILENT, SILENT)).connect(url, connect_timeout=60))
    await asyncio.sleep(0.05)
    begun.cancel()
    with pytest.raises(asyncio.CancelledError):
        await begun
    assert not [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]


async def test_the_servers_own_refusal_is_told_from_the_first_address(url: str) -> None:
    wrong = url.replace("/postgres", "/no_such_database")
    with pytest.raises(psycopg.OperationalError, match="no_such_database"):
        await Connector(Names(LIVE, CLOSED)).connect(wrong)
