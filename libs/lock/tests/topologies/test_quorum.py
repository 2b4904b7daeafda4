"""A majority decides; a minority may be dead, slow, or have forgotten everything."""

import asyncio
import math
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from libs.lock.tests.clients import Clients
from libs.lock.tests.eventually import eventually
from libs.lock.tests.topologies.servers import ask

from devkit.ports import free_port
from devkit.servers import RedisServer
from fencelock import (
    AcquireTimeout,
    AsyncLockClient,
    ConfigurationError,
    Contended,
    Kind,
    LeaseLost,
    LockClient,
    NotOwner,
    RedisUnavailable,
    _proof,
    _protocol,
)
from fencelock._quorum import QuorumEngine

NAME = "order:{1}"
KEY = f"fencelock:l:{NAME}"


def urls(servers: Sequence[RedisServer]) -> list[str]:
    return [each.url for each in servers]


def made(clients: Clients, servers: Sequence[RedisServer], **options: Any) -> AsyncLockClient:
    return clients.make(url=",".join(urls(servers)), **options)


def holding(servers: Sequence[RedisServer]) -> int:
    return sum(ask(each.port, "EXISTS", KEY) for each in servers)


async def until_free(servers: Sequence[RedisServer]) -> None:
    async def free() -> bool:
        return holding(servers) == 0

    await eventually(free, "nothing is left")


@pytest.mark.parametrize("count", [2, 3, 4, 5])
async def test_never_two_inside_whatever_the_number_of_servers(
    five: list[RedisServer], clients: Clients, count: int
) -> None:
    """An even number settles too, and fences grow in the order of the turns."""
    pair = [made(clients, five[:count]) for _ in range(2)]
    inside = 0
    fences: list[int] = []

    async def contend(index: int) -> None:
        nonlocal inside
        for _ in range(3):
            async with pair[index % 2].lock(NAME) as lease:
                inside += 1
                assert inside == 1, "two leases hold the name"
                fences.append(lease.fence)
                await asyncio.sleep(0.001)
                inside -= 1

    async with asyncio.timeout(60):
        await asyncio.gather(*[contend(index) for index in range(6)])
    assert len(fences) == 18
    assert fences == sorted(set(fences))
    await until_free(five)


async def test_threads_have_the_same(five: list[RedisServer]) -> None:
    def work() -> None:
        with LockClient.from_url(urls(five)) as client, client.lock(NAME) as lease:
            assert client.verify(lease.proof(), [NAME]).fence == lease.fence
            with pytest.raises(Contended):
                client.acquire(NAME, wait=0)

    await asyncio.get_running_loop().run_in_executor(None, work)


async def test_whoever_does_not_wait_is_told_and_leaves_nothing(
    five: list[RedisServer], clients: Clients
) -> None:
    async with made(clients, five).lock(NAME):
        with pytest.raises(Contended):
            await made(clients, five).acquire(NAME, wait=0)
        with pytest.raises(AcquireTimeout):
            await made(clients, five).acquire(NAME, wait=0.2)
    await until_free(five)


async def test_a_client_whose_idea_of_the_servers_clocks_is_old_asks_again(
    five: list[RedisServer], clients: Clients
) -> None:
    """As after a pause of its whole machine: its own clock stood still."""
    client = made(clients, five)
    await client.start()
    engine = client._running
    assert isinstance(engine, QuorumEngine)
    for node in engine._nodes:
        link = await node.connection.ready(deadline=math.inf)
        link.clock.read(1000.0, 1000.0)
    async with client.lock(NAME, wait=0) as lease:
        lease.check()


async def check_fence_over_a_wiped_minority(
    five: list[RedisServer], clients: Clients
) -> tuple[int, int]:
    """One server's clock is an hour ahead: it gives the fence. Then it forgets everything."""
    client = made(clients, five)
    async with client.lock(NAME) as lease:
        ahead = lease.fence + 3_600_000_000
    await until_free(five)
    ask(five[0].port, "SET", "fencelock:fence", ahead)
    while True:
        # Which majority answers first is chance: until the server with the clock is among it.
        async with client.lock(NAME) as lease:
            first = lease.fence
        await until_free(five)
        if first > ahead:
            break
    ask(five[0].port, "FLUSHALL")
    async with client.lock(NAME) as lease:
        return first, lease.fence


async def test_a_fence_grows_when_the_server_that_gave_it_is_wiped(
    five: list[RedisServer], clients: Clients
) -> None:
    first, second = await check_fence_over_a_wiped_minority(five, clients)
    assert second > first


async def test_a_fence_that_is_not_written_back_is_caught(
    five: list[RedisServer], clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def agree(*_: object) -> None:
        """The variant: one round trip is enough."""

    monkeypatch.setattr(QuorumEngine, "_agree", agree)
    first, second = await check_fence_over_a_wiped_minority(five, clients)
    assert not second > first


async def test_a_dead_and_a_silent_server_of_five_keep_nobody_waiting_for_the_lock(
    five: list[RedisServer], clients: Clients
) -> None:
    client = made(clients, five)
    await client.start()
    five[0].kill()
    five[1].pause()
    async with client.lock(NAME) as lease:
        lease.check()
        assert (await client.verify(lease.proof(), [NAME])).fence == lease.fence
    await until_free(five[2:])
    five[1].resume()
    # What the silent one was told in the meantime comes to the same.
    await until_free(five[1:])


async def test_without_a_majority_nobody_acquires_and_nothing_stays(
    five: list[RedisServer], clients: Clients
) -> None:
    client = made(clients, five)
    await client.start()
    for each in five[:3]:
        each.kill()
    with pytest.raises(RedisUnavailable, match="2 of 5 servers answered, and 3 are needed"):
        await client.acquire(NAME, wait=0)
    await until_free(five[3:])


async def test_a_lease_goes_on_while_a_majority_renews_it(
    five: list[RedisServer], clients: Clients
) -> None:
    client = made(clients, five, ttl=2.0)
    lease = await client.acquire(NAME)
    ask(five[0].port, "FLUSHALL")
    five[1].kill()
    loop = asyncio.get_running_loop()
    until = loop.time() + 2.5
    while loop.time() < until:
        lease.check()
        await asyncio.sleep(0.05)
    await lease.release()


async def test_a_lease_that_a_majority_forgot_is_lost(
    five: list[RedisServer], clients: Clients
) -> None:
    client = made(clients, five, ttl=3.0)
    lease = await client.acquire(NAME)
    lost = asyncio.get_running_loop().create_future()
    lease.on_lost(lost.set_result)
    for each in five[:3]:
        ask(each.port, "FLUSHALL")
    async with asyncio.timeout(30):
        assert await lost == "taken"
    with pytest.raises(LeaseLost):
        lease.check()


async def test_a_lease_that_no_majority_renews_ends_at_its_deadline(
    five: list[RedisServer], clients: Clients
) -> None:
    client = made(clients, five, ttl=2.0)
    lease = await client.acquire(NAME)
    lost = asyncio.get_running_loop().create_future()
    lease.on_lost(lost.set_result)
    for each in five[:3]:
        each.pause()
    async with asyncio.timeout(30):
        assert await lost == "expired"
    assert lease.remaining() == 0.0


async def test_a_release_reaches_also_those_that_did_not_answer(
    five: list[RedisServer], clients: Clients
) -> None:
    client = made(clients, five, ttl=60.0)
    lease = await client.acquire(NAME)

    async def everywhere() -> bool:
        return holding(five) == 5

    await eventually(everywhere, "all five have it")
    for each in five[:2]:
        each.pause()
    await lease.release()
    for each in five[:2]:
        each.resume()
    await until_free(five)


async def test_a_proof_counts_as_long_as_a_majority_holds_the_lease(
    five: list[RedisServer], clients: Clients
) -> None:
    client, other = made(clients, five), made(clients, five)
    lease = await client.acquire(NAME)

    async def everywhere() -> bool:
        return all(str(lease.fence) in str(ask(each.port, "GET", KEY)) for each in five)

    await eventually(everywhere, "all five have it, with the fence that was agreed on")
    for each in five[:2]:
        ask(each.port, "FLUSHALL")
    verified = await other.verify(lease.proof(), [NAME])
    assert verified.fence == lease.fence
    assert 0 < verified.remaining < 30.0
    await lease.release()
    with pytest.raises(NotOwner):
        await other.verify(lease.proof(), [NAME])


async def test_cancelling_leaves_nothing_on_any_server(
    five: list[RedisServer], clients: Clients
) -> None:
    client = made(clients, five)
    await client.start()
    for pause in (0, 0, 0.001, 0.002, 0.004, 0.01):
        doomed = asyncio.create_task(client.acquire(NAME))
        await asyncio.sleep(pause)
        doomed.cancel()
        (lease,) = await asyncio.gather(doomed, return_exceptions=True)
        if not isinstance(lease, BaseException):
            await lease.release()
        await until_free(five)


async def test_closing_gives_back_everything(five: list[RedisServer], clients: Clients) -> None:
    client = made(clients, five)
    lease = await client.acquire(NAME)
    await client.aclose()
    assert holding(five) == 0
    with pytest.raises(LeaseLost):
        lease.check()


async def test_one_server_that_is_not_fit_is_named_at_the_start(
    five: list[RedisServer], clients: Clients
) -> None:
    wrong = ",".join([*urls(five[:4]), five[4].url.replace("pw-of-the-servers", "s3cret")])
    with pytest.raises(ConfigurationError, match=str(five[4].port)) as caught:
        await clients.make(url=wrong).start()
    assert "s3cret" not in str(caught.value)


async def test_readers_share_a_name_and_a_writer_does_not(
    five: list[RedisServer], clients: Clients
) -> None:
    client, other = made(clients, five), made(clients, five)
    readers = [await each.acquire(NAME, kind=Kind.SHARED, wait=5.0) for each in (client, other)]
    assert readers[0].fence < readers[1].fence
    assert (await other.verify(readers[0].proof(), [NAME])).fence == readers[0].fence
    with pytest.raises(Contended):
        await client.acquire(NAME, wait=0)
    for reader in readers:
        await reader.release()
    await until_free(five)
    async with client.lock(NAME, wait=5.0) as writer:
        assert writer.fence > readers[1].fence
        with pytest.raises(Contended):
            await other.acquire(NAME, kind=Kind.SHARED, wait=0)


async def test_a_semaphore_on_a_quorum_is_refused(
    five: list[RedisServer], clients: Clients
) -> None:
    """Three of five servers admit two each: three clients could find a majority."""
    with pytest.raises(ConfigurationError, match="no semaphores"):
        await made(clients, five).acquire(NAME, kind=Kind.permits(2))


async def test_a_verification_ends_in_its_own_time_though_no_server_answers(
    clients: Clients,
) -> None:
    with ExitStack() as stack:
        # Whoever connects waits for an answer.
        mute = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        addresses = [f"redis://127.0.0.1:{each.getsockname()[1]}" for each in mute]
        client = clients.make(url=",".join(addresses), connect_timeout=60.0)
        proof = _proof.encode(_protocol.new_client_id() + ".owner", _proof.new_secret(), 1)
        async with asyncio.timeout(20.0):
            with pytest.raises(RedisUnavailable):
                await client.verify(proof, [NAME], timeout=0.1)
        await client.aclose()


@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "silent"])
async def test_nothing_is_owed_to_a_server_that_was_never_reached(
    five: list[RedisServer], clients: Clients, *, silent: bool
) -> None:
    """It holds nothing: whoever closes the client need not wait for it to come back."""
    with ExitStack() as stack:
        port = free_port()
        if silent:
            # Whoever connects waits for an answer.
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        url = ",".join([*urls(five[:2]), f"redis://127.0.0.1:{port}"])
        client = clients.make(url=url, connect_timeout=0.2, reply_timeout=20.0, ttl=120.0)
        for _ in range(2):
            async with client.lock(NAME):
                pass
        await client.acquire(NAME)
        # One try after the other is given up.
        with pytest.raises(AcquireTimeout):
            await client.acquire(NAME, wait=0.5)
        async with asyncio.timeout(10.0):
            await client.aclose()
    assert holding(five) == 0


async def test_whoever_waits_is_told_that_the_client_is_closed(
    five: list[RedisServer], clients: Clients
) -> None:
    client = made(clients, five)
    async with made(clients, five).lock(NAME):
        waiting = asyncio.create_task(client.acquire(NAME, wait=60.0))
        await asyncio.sleep(0.2)
        await client.aclose()
        with pytest.raises(RedisUnavailable, match="the client was closed"):
            await waiting
    await until_free(five)
