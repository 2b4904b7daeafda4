"""A failover is felt as what the library says, within its deadlines; and fences grow through it."""

import asyncio
import time
from functools import partial
from typing import Any

import pytest
from libs.lock.tests.clients import Clients, connection_of
from libs.lock.tests.eventually import eventually
from libs.lock.tests.topologies.servers import Replicated, ask, until

from fencelock import (
    AsyncLease,
    AsyncLockClient,
    ConfigurationError,
    LeaseLost,
    LockClient,
    NotOwner,
    RedisUnavailable,
)
from fencelock._debts import Debts

NAME = "order:{1}"
TTL_SECONDS = 4.0
# Sentinels need their time to notice, to vote and to promote; what comes on top is ours.
PATIENCE_SECONDS = 60.0


def made(clients: Clients, url: str, **options: Any) -> AsyncLockClient:
    chosen: dict[str, Any] = {"ttl": TTL_SECONDS, "reply_timeout": 0.9, **options}
    return clients.make(url=url, **chosen)


async def run(call: object) -> None:
    await asyncio.get_running_loop().run_in_executor(None, call)  # type: ignore[arg-type]


async def test_locks_are_taken_waited_for_and_proven_at_the_master(
    replicated: Replicated, clients: Clients
) -> None:
    first, second = made(clients, replicated.url), made(clients, replicated.url)
    fences = []
    async with first.lock(NAME, "invoice:{1}") as lease:
        fences.append(lease.fence)
        assert (await second.verify(lease.proof(), [NAME])).fence == lease.fence
        waiting = asyncio.create_task(second.acquire(NAME, wait=60.0))
        key = f"fencelock:q:{NAME}"

        async def queued() -> bool:
            return bool(ask(replicated.master.port, "LLEN", key))

        await eventually(queued, "it stands in line")
    after = await waiting
    fences.append(after.fence)
    await after.release()
    assert fences == sorted(set(fences))


async def test_threads_have_the_same(replicated: Replicated) -> None:
    def work() -> None:
        with LockClient.from_url(replicated.url) as client, client.lock(NAME) as lease:
            assert lease.fence

    await run(work)


async def test_a_planned_failover_ends_no_lease_and_loses_no_order(
    doomed: Replicated, clients: Clients
) -> None:
    """The replica has everything: the holder goes on there, and the fence grows."""
    client = made(clients, doomed.url, ttl=20.0)
    async with client.lock(NAME) as lease:
        former = doomed.master
        await eventually(lambda: _has(doomed.replica.port, NAME), "the replica has the lock")
        await run(doomed.fail_over)

        async def follows() -> bool:
            connection = connection_of(client)
            link, target = connection._link, connection._target
            return link is not None and link.usable and getattr(target, "port", 0) != former.port

        await eventually(follows, "the client is at the new master")
        assert ask(doomed.master.port, "PTTL", f"fencelock:l:{NAME}") > 0
        lease.check()
        fence = lease.fence
    async with made(clients, doomed.url).lock(NAME) as later:
        assert later.fence > fence


async def test_a_crash_of_the_master_ends_at_the_latest_with_the_lease(
    doomed: Replicated, clients: Clients
) -> None:
    """What asynchronous replication loses: the holder is told in time, and the fence grows."""
    holder, other = made(clients, doomed.url), made(clients, doomed.url)
    await holder.start()
    await run(doomed.replica.pause)
    ask(doomed.master.port, "CLIENT", "KILL", "TYPE", "replica")
    lease = await holder.acquire(NAME)
    doomed.master.kill()
    doomed.second.resume()
    again = await until_granted(other, NAME)
    assert again.fence > lease.fence

    async def told() -> bool:
        try:
            lease.check()
        except LeaseLost:
            return True
        return False

    await eventually(told, "the holder knows")
    assert lease.remaining() == 0.0
    await again.release()


async def release_without_the_replica(doomed: Replicated, client: AsyncLockClient) -> int:
    """Release at a master whose replica does not hear of it and takes over; the lease's fence."""
    lease = await client.acquire(NAME)
    await eventually(lambda: _has(doomed.replica.port, NAME), "the replica has the lock")
    await run(doomed.replica.pause)
    ask(doomed.master.port, "CLIENT", "KILL", "TYPE", "replica")
    await lease.release()
    doomed.master.kill()
    doomed.second.resume()

    def promoted() -> bool:
        return bool(ask(doomed.second.port, "ROLE")[0] == "master")

    await run(partial(until, promoted, "the replica is the master"))
    # What is owed is paid before anything else is sent to it.
    await client.ping(timeout=PATIENCE_SECONDS)
    return lease.fence


async def test_a_release_that_the_replica_did_not_hear_of_is_made_again_there(
    doomed: Replicated, clients: Clients
) -> None:
    """Else the name would be held by nobody for the rest of the lease."""
    client, other = (made(clients, doomed.url, ttl=600.0, max_hold=600.0) for _ in range(2))
    fence = await release_without_the_replica(doomed, client)
    assert not await _has(doomed.second.port, NAME)
    after = await until_granted(other, NAME)
    assert after.fence > fence
    await after.release()


async def test_a_client_that_forgets_its_releases_leaves_the_name_to_nobody(
    doomed: Replicated, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant of what stands above."""
    monkeypatch.setattr(Debts, "paid", lambda *_: None)
    client = made(clients, doomed.url, ttl=600.0, max_hold=600.0)
    await release_without_the_replica(doomed, client)
    assert await _has(doomed.second.port, NAME)


async def test_a_master_that_was_cut_off_gets_nothing_any_more(
    doomed: Replicated, clients: Clients
) -> None:
    """It is frozen, replaced, and comes back as if nothing had been: its clients have left it."""
    client = made(clients, doomed.url, ttl=20.0)
    lease = await client.acquire(NAME)
    await eventually(lambda: _has(doomed.replica.port, NAME), "the replica has the lock")
    former = doomed.master
    former.pause()

    async def replaced() -> bool:
        try:
            return doomed.master is not former
        except AssertionError:
            return False

    await eventually(replaced, "there is another master")

    async def renewed() -> bool:
        return bool(ask(doomed.master.port, "PTTL", f"fencelock:l:{NAME}") > 15_000)

    await eventually(renewed, "the lease goes on at the new master")
    former.resume()
    await lease.release()
    async with client.lock(NAME) as later:
        assert later.fence > lease.fence
        assert ask(doomed.master.port, "EXISTS", f"fencelock:l:{NAME}") == 1


async def test_a_grant_waits_for_the_replicas_that_the_url_asks_for(
    replicated: Replicated, clients: Clients
) -> None:
    client = made(clients, replicated.url + "?replicas=1")
    async with client.lock(NAME) as lease:
        assert lease.fence
        assert await _has(replicated.replica.port, NAME)
    await run(replicated.replica.pause)
    began = time.monotonic()
    # Two at once are told either way; they share a question where their grants came together.
    results = await asyncio.gather(
        client.acquire(NAME, wait=0.0),
        client.acquire("order:{2}", wait=0.0),
        return_exceptions=True,
    )
    took = time.monotonic() - began
    assert [type(each) for each in results] == [RedisUnavailable] * 2, results
    assert "0 of 1 replicas confirmed the grant in time" in str(results[0])
    assert took < TTL_SECONDS

    async def gone() -> bool:
        return not ask(replicated.master.port, "EXISTS", f"fencelock:l:{NAME}")

    await eventually(gone, "what was not confirmed is given back")


async def test_more_replicas_than_there_are_is_a_clear_error(
    replicated: Replicated, clients: Clients
) -> None:
    client = made(clients, replicated.url + "?replicas=2")
    with pytest.raises(RedisUnavailable, match="of 2 replicas"):
        await client.acquire(NAME, wait=0.0)


async def test_what_is_wrong_with_the_sentinels_is_said(
    replicated: Replicated, clients: Clients
) -> None:
    unknown = made(clients, replicated.url.replace("/locks", "/others"))
    with pytest.raises(ConfigurationError, match="knows no master 'others'"):
        await unknown.start()
    server = f"redis+sentinel://:pw@127.0.0.1:{replicated.first.port}/locks"
    with pytest.raises(ConfigurationError, match="Sentinel"):
        await made(clients, server).start()
    sentinel = f"redis://127.0.0.1:{replicated.sentinels[0].port}"
    with pytest.raises(ConfigurationError, match=r"redis\+sentinel://"):
        await made(clients, sentinel).start()
    wrong = replicated.url.replace("pw-of-the-servers", "s3cret")
    with pytest.raises(ConfigurationError, match="credentials") as caught:
        await made(clients, wrong).start()
    assert "s3cret" not in str(caught.value)


async def test_sentinels_that_have_named_a_master_may_say_no_for_a_while(
    doomed: Replicated, clients: Clients
) -> None:
    """The URL was right then, so it is no reason to give up before the deadline."""
    client = made(clients, doomed.url)
    await client.start()

    def may(right: str) -> None:
        for each in doomed.sentinels:
            ask(each.port, "ACL", "SETUSER", "default", right, password=None)

    def cut_off() -> None:
        for kind in ("normal", "pubsub"):
            ask(doomed.first.port, "CLIENT", "KILL", "TYPE", kind)

    may("-sentinel|master")
    cut_off()
    with pytest.raises(RedisUnavailable, match="refuses us"):
        await client.acquire(NAME, wait=0.0)
    with pytest.raises(ConfigurationError, match="refuses us"):
        await made(clients, doomed.url).acquire(NAME, wait=60.0)
    waiting = asyncio.create_task(client.acquire(NAME, wait=60.0))
    await asyncio.sleep(0.5)
    may("+sentinel|master")
    await (await waiting).release()


async def test_one_sentinel_of_three_is_enough_to_start(
    doomed: Replicated, clients: Clients
) -> None:
    doomed.sentinels[0].kill()
    doomed.sentinels[1].pause()
    async with made(clients, doomed.url, connect_timeout=10.0).lock(NAME) as lease:
        assert lease.fence


async def test_a_lease_of_a_client_that_was_closed_stays_released_after_a_failover(
    doomed: Replicated, clients: Clients
) -> None:
    client = made(clients, doomed.url, ttl=20.0)
    lease = await client.acquire(NAME)
    await run(doomed.fail_over)
    await client.aclose()
    with pytest.raises((LeaseLost, NotOwner)):
        lease.check()

    async def gone() -> bool:
        return not ask(doomed.master.port, "EXISTS", f"fencelock:l:{NAME}")

    await eventually(gone, "the new master has nothing of it")


async def until_granted(client: AsyncLockClient, name: str) -> AsyncLease:
    """Try again and again, as one who does not know of the failover."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await client.acquire(name, wait=0.0)
        except RedisUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


async def _has(port: int, name: str) -> bool:
    return bool(ask(port, "EXISTS", f"fencelock:l:{name}"))
