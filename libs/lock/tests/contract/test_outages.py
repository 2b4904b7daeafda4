"""The lock is judged in outages: nothing is believed, kept or left behind that should not be."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from libs.lock.tests.clients import Clients, connection_of, crash, engine_of
from libs.lock.tests.eventually import eventually
from libs.lock.tests.proxy import Proxy
from libs.lock.tests.server_view import holder, lock_connections, lock_keys, queue_length
from libs.lock.tests.variants import broken, sound
from redis.asyncio import Redis

from fencelock import (
    AcquireTimeout,
    AsyncLockClient,
    ConfigurationError,
    Contended,
    Kind,
    LeaseLost,
    RedisUnavailable,
    _waiting,
)
from fencelock._fitness import ACL_KINDS, ACL_LINE
from fencelock._protocol import Request
from fencelock._scripts import Scripts

NAME = "order:{1}"


async def in_line(admin: Redis, count: int) -> None:
    async def reached() -> bool:
        return await queue_length(admin, NAME) == count

    await eventually(reached, f"{count} in line")


async def nothing_left(admin: Redis) -> None:
    async def empty() -> bool:
        return await lock_keys(admin) == []

    await eventually(empty, "nothing left")


async def test_a_grant_that_was_read_too_late_is_not_handed_out(
    clients: Clients, admin: Redis
) -> None:
    client = clients.make(ttl=0.3, reply_timeout=0.1)
    await client.start()
    asking = asyncio.create_task(client.acquire(NAME, wait=0.1))
    await asyncio.sleep(0)
    time.sleep(0.6)  # noqa: ASYNC251 (something else blocks the loop)
    with pytest.raises((AcquireTimeout, RedisUnavailable)):
        await asking
    await nothing_left(admin)


async def check_late_request(admin: Redis, scripts: Scripts) -> None:
    """The network delivers a request after its sender has given it up."""
    command = Request((NAME,), "clientclien", 30.0).acquire(scripts, "queue", 1.0)
    seconds, _ = await admin.time()
    late = str((seconds - 1) * 1_000_000)
    reply = await admin.eval(
        command.script.text, len(command.keys), *command.keys, *map(str, command.args), late
    )
    assert reply[0] == b"late"
    assert await lock_keys(admin) == []


async def test_a_request_that_comes_after_its_time_is_not_carried_out(
    clients: Clients, admin: Redis
) -> None:
    await check_late_request(admin, sound())


async def test_carrying_out_a_late_request_is_caught(clients: Clients, admin: Redis) -> None:
    with pytest.raises(AssertionError):
        await check_late_request(admin, broken("acquire ignores its time"))


async def test_a_client_whose_idea_of_the_servers_clock_is_old_asks_again(
    clients: Clients, admin: Redis
) -> None:
    client = clients.make()
    await client.start()
    link = connection_of(client)._link
    assert link is not None
    link.clock.read(1000.0, 1000.0)
    async with client.lock(NAME) as lease:
        lease.check()


async def test_the_last_connection_is_ended_before_its_successor_is_used(
    clients: Clients, proxy: Proxy, admin: Redis
) -> None:
    client = clients.make(url=proxy.url)
    await client.start()
    proxy.lose_clients()
    async with client.lock(NAME):
        assert await lock_connections(admin) == 1


async def test_max_hold_counts_from_the_grant(clients: Clients) -> None:
    client = clients.make(ttl=1.0)
    lease = await clients.make().acquire(NAME)
    asking = asyncio.create_task(client.acquire(NAME, max_hold=1.2))
    await asyncio.sleep(1.3)
    await lease.release()
    granted = await asking
    assert granted.remaining() > 0.5
    await granted.release()


async def test_tickets_are_withdrawn_after_an_outage_longer_than_the_lease(
    clients: Clients, proxy: Proxy, admin: Redis
) -> None:
    lease = await clients.make().acquire(NAME)
    client = clients.make(url=proxy.url, ttl=0.4, reply_timeout=0.1)
    waiting = [asyncio.create_task(client.acquire(NAME, wait=1.5)) for _ in range(5)]
    await in_line(admin, 5)
    proxy.refusing = True
    proxy.cut()
    await asyncio.wait(waiting)
    assert all(task.exception() is not None for task in waiting)
    await asyncio.sleep(0.6)
    proxy.refusing = False
    await in_line(admin, 0)
    await lease.release()


async def test_a_grant_that_nobody_waits_for_goes_to_the_next_at_once(
    clients: Clients, admin: Redis
) -> None:
    lease = await clients.make().acquire(NAME)
    forgetful = clients.make()
    ghost = asyncio.create_task(forgetful.acquire(NAME))
    await in_line(admin, 1)
    live = asyncio.create_task(clients.make().acquire(NAME))
    await in_line(admin, 2)
    engine = engine_of(forgetful)
    for waiter in list(engine._room._waiters.values()):
        engine._room.leave(waiter)
    await lease.release()
    async with asyncio.timeout(5):  # a claim of its lease takes ten
        await (await live).release()
    ghost.cancel()


async def test_closing_beside_an_acquisition_leaves_nothing_and_hands_nothing_out(
    clients: Clients, admin: Redis
) -> None:
    client = clients.make()
    await client.start()
    asking = asyncio.create_task(client.acquire(NAME))
    await asyncio.sleep(0)
    await client.aclose()
    with pytest.raises(RedisUnavailable, match="closed"):
        await asking
    assert await lock_keys(admin) == []


async def test_closing_while_connecting_cancels_nobody(clients: Clients, proxy: Proxy) -> None:
    proxy.refusing = True
    client = clients.make(url=proxy.url)
    asking = asyncio.create_task(client.acquire(NAME))
    await asyncio.sleep(0.1)
    await client.aclose()
    with pytest.raises(RedisUnavailable, match="closed"):
        await asking


async def test_closing_inside_a_body_closes(clients: Clients, admin: Redis) -> None:
    client = clients.make()
    with pytest.raises(LeaseLost, match="closed"):
        async with client.lock(NAME):
            await client.aclose()
    await nothing_left(admin)

    async def disconnected() -> bool:
        return await lock_connections(admin) == 0

    await eventually(disconnected, "disconnected")


async def test_a_dead_holder_with_many_waiters_of_its_own_is_succeeded_by_another_process(
    clients: Clients, admin: Redis
) -> None:
    first, doomed, patient = clients.make(ttl=30.0), clients.make(ttl=1.0), clients.make(ttl=1.0)
    lease = await first.acquire(NAME)
    doomed_tasks = [asyncio.create_task(doomed.acquire(NAME)) for _ in range(8)]
    await in_line(admin, 8)
    last = asyncio.create_task(patient.acquire(NAME))
    await in_line(admin, 9)
    await lease.release()
    await asyncio.wait(doomed_tasks, return_when=asyncio.FIRST_COMPLETED)
    await crash(doomed, [task for task in doomed_tasks if not task.done()])
    async with asyncio.timeout(8):  # below the back-stop of ten seconds
        await (await last).release()


async def test_refusals_that_pass_are_waited_for(clients: Clients, admin: Redis) -> None:
    client = clients.make(ttl=30.0, reply_timeout=0.3)
    lease = await client.acquire("order:{2}")
    await admin.config_set("min-replicas-to-write", "1")
    try:
        asking = asyncio.create_task(client.acquire(NAME))
        with pytest.raises(RedisUnavailable, match="NOREPLICAS"):
            await lease.release()
        assert not asking.done()
    finally:
        await admin.config_set("min-replicas-to-write", "0")
    await (await asking).release()
    await nothing_left(admin)


async def test_a_body_that_outlives_its_lease_while_the_server_is_silent_is_told(
    clients: Clients, proxy: Proxy
) -> None:
    client = clients.make(url=proxy.url, ttl=0.4, reply_timeout=0.1)

    async def hold() -> None:
        async with client.lock(NAME):
            proxy.black_hole()
            proxy.refusing = True
            time.sleep(0.5)  # noqa: ASYNC251 (the body blocks the loop)

    with pytest.raises(LeaseLost):
        await hold()


async def test_the_cause_of_an_outage_is_kept(proxy: Proxy, url: str) -> None:
    async with AsyncLockClient.from_url("redis://127.0.0.1:1") as client:
        with pytest.raises(RedisUnavailable, match=r"127\.0\.0\.1:1") as caught:
            await client.start()
        causes: list[BaseException] = [caught.value]
        while (cause := causes[-1].__cause__) is not None:
            causes.append(cause)
        assert type(caught.value) is RedisUnavailable
        assert isinstance(causes[-1], ConnectionRefusedError)
    async with AsyncLockClient.from_url(url.rpartition("/")[0] + "/9999") as client:
        with pytest.raises(ConfigurationError, match="DB index"):
            await client.start()


async def test_a_key_without_expiry_or_of_another_kind_is_in_the_way(
    clients: Clients, admin: Redis
) -> None:
    client = clients.make()
    lease = await client.acquire(NAME)
    await admin.persist("fencelock:l:order:{1}")
    await admin.rpush("fencelock:l:order:{2}", "somebody else's")
    await admin.set("fencelock:l:order:{3}", "maintenance")
    for name in (NAME, "order:{2}", "order:{3}"):
        with pytest.raises(Contended):
            await client.acquire(name, wait=0)
    assert (await client.verify(lease.proof(), [NAME])).fence == lease.fence
    await lease.release()


Users = Callable[[list[str]], Awaitable[AsyncLockClient]]


@pytest.fixture
async def user(clients: Clients, admin: Redis, url: str) -> AsyncIterator[Users]:
    """Makes a client of a user with these rights and no others."""
    host = url.rpartition("@")[2]

    async def acl(*words: str) -> None:
        await admin.execute_command("ACL", *words)  # type: ignore[no-untyped-call]

    async def make(rights: list[str]) -> AsyncLockClient:
        await acl("SETUSER", "locks", "reset", "on", ">pw", *rights)
        return clients.make(url=f"redis://locks:pw@{host}")

    yield make
    await acl("DELUSER", "locks")


async def test_the_least_rights_are_enough_and_each_of_them_is_tried_at_the_start(
    user: Users, admin: Redis
) -> None:
    rights = ACL_LINE.split()
    holding, waiting = await user(rights), await user(rights)
    lease = await holding.acquire(NAME)
    second = asyncio.create_task(waiting.acquire(NAME))
    await in_line(admin, 1)
    await waiting.verify(lease.proof(), [NAME])
    await lease.release()
    await (await second).release()
    for right in ("+publish", "+rpush", "+lset", "+hrandfield", "+eval", "&fencelock:c:*"):
        lacking = await user([each for each in rights if each != right])
        with pytest.raises(ConfigurationError, match="at least"):
            await lacking.start()


async def test_the_rights_to_share_are_enough_and_without_one_nothing_is_half_done(
    user: Users, admin: Redis
) -> None:
    rights = [*ACL_LINE.split(), *ACL_KINDS.split()]
    sharing = await user(rights)
    readers = [await sharing.acquire(NAME, kind=Kind.SHARED) for _ in range(2)]
    writing = asyncio.create_task(sharing.acquire(NAME))
    await in_line(admin, 1)
    for reader in readers:
        await reader.release()
    await (await writing).release()
    async with sharing.lock(NAME, kind=Kind.permits(2)):
        pass
    for right in ACL_KINDS.split():
        lacking = await user([each for each in rights if each != right])
        await lacking.start()
        for kind in (Kind.SHARED, Kind.permits(2)):
            with pytest.raises(ConfigurationError, match=right[1:]):
                await lacking.acquire(NAME, kind=kind)
        assert [each async for each in admin.scan_iter("fencelock:[lpqr]:*")] == []
        async with lacking.lock(NAME):
            pass


async def test_holders_learn_of_a_loss_before_others_ask_over_the_new_connection(
    clients: Clients, proxy: Proxy, admin: Redis
) -> None:
    client = clients.make(url=proxy.url, ttl=30.0)
    events: list[str] = []

    async def hold(label: str) -> None:
        try:
            async with client.lock(NAME):
                events.append(f"{label} in")
                await asyncio.sleep(0.05 if label == "next" else 60)
        except LeaseLost:
            events.append(f"{label} lost")

    first = asyncio.create_task(hold("first"))

    async def held() -> bool:
        return await holder(admin, NAME) is not None

    await eventually(held, "held")
    following = asyncio.create_task(hold("next"))
    await in_line(admin, 1)
    await admin.flushall()
    proxy.cut()
    async with asyncio.timeout(20):
        await asyncio.gather(first, following)
    assert events == ["first in", "first lost", "next in"]


async def test_a_policy_that_changes_later_is_noticed(clients: Clients, admin: Redis) -> None:
    client = clients.make(ttl=1.0)
    lease = await client.acquire(NAME)
    lost = asyncio.Event()
    lease.on_lost(lambda _: lost.set())
    await admin.config_set("maxmemory", "100mb")
    await admin.config_set("maxmemory-policy", "allkeys-lru")
    try:
        await admin.delete("fencelock:l:order:{1}")
        await lost.wait()
        with pytest.raises(ConfigurationError, match="noeviction"):
            await client.acquire(NAME)
    finally:
        await admin.config_set("maxmemory-policy", "noeviction")
        await admin.config_set("maxmemory", "0")
    await (await client.acquire(NAME)).release()


async def test_places_in_the_line_outlive_a_reconnect(
    clients: Clients, proxy: Proxy, admin: Redis
) -> None:
    shaken, steady = clients.make(url=proxy.url), clients.make()
    lease = await clients.make().acquire(NAME)
    served: list[str] = []

    async def take(client: AsyncLockClient, label: str) -> None:
        async with client.lock(NAME):
            served.append(label)

    tasks = []
    for index in range(8):
        client, label = (shaken, "early") if index < 4 else (steady, "late")
        tasks.append(asyncio.create_task(take(client, f"{label} {index}")))
        await in_line(admin, index + 1)
    proxy.cut()
    await lease.release()
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks)
    assert served == sorted(served)


async def test_a_line_that_the_server_forgot_forms_again_at_once_and_in_order(
    clients: Clients, admin: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is left to hand over, and whoever came later must not be the first to ask."""
    monkeypatch.setattr(_waiting, "BACKSTOP_SECONDS", 3600.0)
    pair = [clients.make(ttl=3000.0, max_hold=3000.0) for _ in range(2)]
    await clients.make(ttl=3000.0, max_hold=3000.0).acquire(NAME)
    served: list[int] = []

    async def take(index: int) -> None:
        async with pair[index % 2].lock(NAME):
            served.append(index)

    tasks = []
    for index in range(8):
        tasks.append(asyncio.create_task(take(index)))
        await in_line(admin, index + 1)
    await admin.flushall()
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks)
    # Two ask at the same moment, each for its own; the second may be the first.
    assert sorted(served[:2]) == [0, 1]
    assert served[2:] == list(range(2, 8))


async def test_a_long_line_of_the_dead_is_cleared_in_bounded_steps(
    clients: Clients, admin: Redis
) -> None:
    lease = await clients.make().acquire(NAME)
    live = asyncio.create_task(clients.make().acquire(NAME))
    await in_line(admin, 1)
    dead = [f"deadclient.{index:016} 1 3333 - order:{{1}}" for index in range(3000)]
    await admin.lpush("fencelock:q:order:{1}", *dead)
    await admin.hset("fencelock:w:order:{1}", "deadclient", "3000")
    await admin.config_resetstat()
    await lease.release()
    async with asyncio.timeout(20):
        await (await live).release()
    stats = await admin.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] > 3000 / 500
    await nothing_left(admin)


async def test_what_others_publish_breaks_nothing(clients: Clients, admin: Redis) -> None:
    client = clients.make()
    lease = await clients.make().acquire(NAME)
    waiting = asyncio.create_task(client.acquire(NAME))
    await in_line(admin, 1)
    before = (await admin.info("stats"))["total_connections_received"]
    for channel in await admin.pubsub_channels("fencelock:c:*"):
        for text in (b"grant a NaN 1 1 -", b"watch \xff 1", b"", b"grant a 5 -1 1 - b"):
            await admin.publish(channel, text)
    await lease.release()
    await (await waiting).release()
    assert (await admin.info("stats"))["total_connections_received"] == before


async def test_a_callback_that_comes_after_the_loss_is_called(
    clients: Clients, admin: Redis
) -> None:
    lease = await clients.make(ttl=0.9).acquire(NAME)
    reasons: list[str] = []
    lost = asyncio.Event()
    lease.on_lost(lambda _: 1 / 0)
    lease.on_lost(lambda _: lost.set())
    await admin.flushall()
    await lost.wait()
    lease.on_lost(reasons.append)
    assert reasons == ["taken"]
