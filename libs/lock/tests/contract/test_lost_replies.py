"""A request whose reply is lost is repeated, and does not get in its own way."""

import asyncio

import pytest
from libs.lock.tests.clients import Clients, connection_of, engine_of
from libs.lock.tests.eventually import eventually
from libs.lock.tests.proxy import Proxy
from libs.lock.tests.server_view import lock_keys, queue_length, record
from libs.lock.tests.variants import broken, sound
from redis.asyncio import Redis

from fencelock import AcquireTimeout, Contended, LockNotAcquired, RedisUnavailable
from fencelock._scripts import Scripts


async def check_acquire(clients: Clients, proxy: Proxy, admin: Redis, scripts: Scripts) -> None:
    client = clients.make(url=proxy.url, scripts=scripts)
    await client.start()
    proxy.lose_next_reply()
    try:
        lease = await client.acquire("order:{1}", wait=0)
    except Contended as error:
        raise AssertionError("it took its own key for somebody else's") from error
    assert await record(admin, "order:{1}") == f"{lease.request.owner} {lease.fence} -"
    await lease.release()
    assert await lock_keys(admin) == []


async def test_a_lost_grant_is_found_again(clients: Clients, proxy: Proxy, admin: Redis) -> None:
    await check_acquire(clients, proxy, admin, sound())


async def test_not_knowing_oneself_is_caught(clients: Clients, proxy: Proxy, admin: Redis) -> None:
    with pytest.raises(AssertionError):
        await check_acquire(clients, proxy, admin, broken("acquire does not know itself"))


async def test_a_lost_reply_while_queueing_makes_no_second_ticket(
    clients: Clients, proxy: Proxy, admin: Redis
) -> None:
    lease = await clients.make().acquire("order:{1}")
    client = clients.make(url=proxy.url)
    await client.start()
    proxy.lose_next_reply()
    waiting = asyncio.create_task(client.acquire("order:{1}"))

    async def one_ticket_and_connected() -> bool:
        return await queue_length(admin, "order:{1}") == 1 and proxy.connections == 1

    await eventually(one_ticket_and_connected, "one ticket")
    await lease.release()
    async with asyncio.timeout(30):
        await (await waiting).release()
    assert await lock_keys(admin) == []


async def test_a_lost_reply_to_a_release_is_no_error(
    clients: Clients, proxy: Proxy, admin: Redis
) -> None:
    client = clients.make(url=proxy.url)
    lease = await client.acquire("order:{1}")
    proxy.lose_next_reply()
    await lease.release()
    assert await lock_keys(admin) == []


async def test_a_lost_reply_to_a_renewal_loses_nothing(
    clients: Clients, proxy: Proxy, admin: Redis
) -> None:
    lease = await clients.make(url=proxy.url, ttl=3.0, reply_timeout=1.0).acquire("order:{1}")
    first_deadline = lease.term.deadline
    proxy.lose_next_reply()

    async def renewed() -> bool:
        return lease.term.deadline > first_deadline

    await eventually(renewed, "renewed over a new connection")
    lease.check()
    await lease.release()


async def test_a_lost_push_is_noticed_when_the_connection_comes_back(
    clients: Clients, proxy: Proxy, admin: Redis
) -> None:
    lease = await clients.make().acquire("order:{1}")
    waiting = asyncio.create_task(clients.make(url=proxy.url).acquire("order:{1}"))

    async def in_line() -> bool:
        return await queue_length(admin, "order:{1}") == 1

    await eventually(in_line, "one in line")
    proxy.cut()
    await lease.release()
    async with asyncio.timeout(30):
        await (await waiting).release()


async def test_no_server_is_an_error_of_its_own(clients: Clients, proxy: Proxy) -> None:
    proxy.refusing = True
    client = clients.make(url=proxy.url, ttl=3.0, reply_timeout=0.2)
    with pytest.raises(RedisUnavailable):
        await client.acquire("order:{1}", wait=0)
    with pytest.raises(RedisUnavailable):
        await client.acquire("order:{1}", wait=0.3)
    with pytest.raises(RedisUnavailable):
        await client.ping(timeout=0.1)
    assert not issubclass(RedisUnavailable, LockNotAcquired)


async def test_a_black_hole_is_left_for_a_new_connection(
    clients: Clients, proxy: Proxy, admin: Redis
) -> None:
    client = clients.make(url=proxy.url, ttl=10.0, reply_timeout=0.3)
    await client.start()
    proxy.black_hole()
    async with client.lock("order:{1}", wait=30.0) as lease:
        lease.check()
    assert await lock_keys(admin) == []


async def test_scripts_that_the_server_forgot_are_sent_again(
    clients: Clients, admin: Redis
) -> None:
    client = clients.make()
    await client.start()
    await admin.script_flush()
    async with client.lock("order:{1}") as lease:
        await client.verify(lease.proof(), lease.names)


async def test_a_waiter_that_gives_up_while_the_server_is_away_leaves_no_ticket(
    clients: Clients, proxy: Proxy, admin: Redis
) -> None:
    lease = await clients.make().acquire("order:{1}")
    client = clients.make(url=proxy.url, ttl=3.0, reply_timeout=0.3)
    waiting = asyncio.create_task(client.acquire("order:{1}", wait=1.0))

    async def tickets(count: int) -> bool:
        return await queue_length(admin, "order:{1}") == count

    await eventually(lambda: tickets(1), "one in line")
    proxy.refusing = True
    proxy.cut()
    with pytest.raises((RedisUnavailable, AcquireTimeout)):
        await waiting
    proxy.refusing = False
    await eventually(lambda: tickets(0), "the ticket withdrawn")
    await lease.release()


async def test_a_grant_that_was_lost_with_all_data_is_not_believed(
    clients: Clients, admin: Redis
) -> None:
    """The push is read only after the server has forgotten it and somebody else holds the lock."""
    client = clients.make()
    lease = await clients.make().acquire("order:{1}")
    waiting = asyncio.create_task(client.acquire("order:{1}"))

    async def in_line() -> bool:
        return await queue_length(admin, "order:{1}") == 1

    await eventually(in_line, "one in line")
    engine = engine_of(client)
    pushes: list[object] = []
    link = connection_of(client)._link
    assert link is not None
    link._on_push = pushes.append
    await lease.release()

    async def pushed() -> bool:
        return bool(pushes)

    await eventually(pushed, "the push has arrived, and is not read yet")
    await admin.flushall()
    async with clients.make().lock("order:{1}"):
        engine._room.ask_all()
        await eventually(in_line, "in line again")
        engine._on_push(pushes[0])
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        link._on_push = engine._on_push
    async with asyncio.timeout(30):
        await (await waiting).release()
