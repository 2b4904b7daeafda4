"""One connection to each master; what moves between nodes is followed, and fences grow."""

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest
from libs.lock.tests.clients import Clients
from libs.lock.tests.eventually import eventually
from libs.lock.tests.topologies.servers import PASSWORD, SLOTS, Clustered, Move, ask, server, until
from redis.crc import key_slot

from devkit.ports import HOST, free_port
from fencelock import (
    AsyncLease,
    AsyncLockClient,
    ConfigurationError,
    CrossSlot,
    LeaseLost,
    LockClient,
    RedisUnavailable,
)
from fencelock._cluster import read_map
from fencelock._topology import Cluster, read

NAME = "order:{1}"
KEY = f"fencelock:l:{NAME}"
# One on each of the three masters, and more.
NAMES = [f"order:{{{number}}}" for number in range(12)]


def made(clients: Clients, servers: Clustered, **options: Any) -> AsyncLockClient:
    return clients.make(url=servers.url, **options)


async def run(call: Any, *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, call, *args)


async def in_line(servers: Clustered, name: str) -> None:
    async def queued() -> bool:
        key = f"fencelock:q:{name}"
        return bool(ask(servers.master_of(key).port, "LLEN", key))

    await eventually(queued, "it stands in line")


async def test_names_on_all_masters_are_held_waited_for_and_proven(
    clustered: Clustered, clients: Clients
) -> None:
    first, second = made(clients, clustered), made(clients, clustered)
    assert len({clustered.master_of(name).port for name in NAMES}) == 3
    leases = await asyncio.gather(*[first.acquire(name) for name in NAMES])
    waiting = [asyncio.create_task(second.acquire(name)) for name in NAMES]
    for name, lease in zip(NAMES, leases, strict=True):
        await in_line(clustered, name)
        assert (await second.verify(lease.proof(), [name])).fence == lease.fence
        await lease.release()
    later = await asyncio.gather(*waiting)
    for lease, after in zip(leases, later, strict=True):
        assert after.fence > lease.fence
        await after.release()


async def test_a_client_has_one_connection_to_each_master(
    clustered: Clustered, clients: Clients
) -> None:
    client = made(clients, clustered)
    before = [named(node.port) for node in clustered.nodes]
    for name in NAMES:
        async with client.lock(name):
            pass
    after = [named(node.port) for node in clustered.nodes]
    assert sorted(b - a for a, b in zip(before, after, strict=True)) == [0, 0, 0, 1, 1, 1]


async def test_a_grant_comes_once_though_every_node_passes_it_on(
    clustered: Clustered, clients: Clients
) -> None:
    """A second one would be given back, which costs a script."""
    first, second = made(clients, clustered), made(clients, clustered)
    await first.start()
    await second.start()
    port = clustered.master_of(NAME).port
    lease = await first.acquire(NAME)
    waiting = asyncio.create_task(second.acquire(NAME))
    await in_line(clustered, NAME)
    ask(port, "CONFIG", "RESETSTAT")
    await lease.release()
    after = await waiting
    await after.release()
    # So late that an answer to a second grant would have come.
    await asyncio.gather(*[second.ping(timeout=10.0) for _ in range(3)])
    scripts = ask(port, "INFO", "commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
    # Two releases, and the question of the one that was told.
    assert scripts == 3


async def test_names_in_two_slots_are_refused_before_anything_is_sent(clients: Clients) -> None:
    client = clients.make(url="redis+cluster://127.0.0.1:1")
    with pytest.raises(CrossSlot, match="hash tag"):
        await client.acquire("order:{1}", "order:{2}")


async def test_several_names_of_one_slot_are_one_lease(
    clustered: Clustered, clients: Clients
) -> None:
    async with made(clients, clustered).lock("order:{7}", "invoice:{7}") as lease:
        assert lease.names == ("invoice:{7}", "order:{7}")


async def test_threads_have_the_same(clustered: Clustered) -> None:
    def work() -> None:
        with LockClient.from_url(clustered.url) as client:
            for name in NAMES:
                with client.lock(name) as lease:
                    assert lease.fence

    await run(work)


async def test_leases_of_many_slots_are_renewed(clustered: Clustered, clients: Clients) -> None:
    client = made(clients, clustered, ttl=2.0)
    leases = [await client.acquire(name) for name in NAMES]
    until_then = time.monotonic() + 2.5
    while time.monotonic() < until_then:
        for lease in leases:
            lease.check()
        await asyncio.sleep(0.05)
    for lease in leases:
        await lease.release()


async def test_a_slot_that_moves_takes_its_leases_and_its_line_along(
    clustered: Clustered, clients: Clients
) -> None:
    """ASK while it moves, MOVED after it; nobody notices."""
    name = "moved:{5}"
    holder, other = made(clients, clustered), made(clients, clustered)
    lease = await holder.acquire(name)
    waiting = asyncio.create_task(other.acquire(name))
    await in_line(clustered, name)
    source = clustered.master_of(name)
    target = next(
        clustered.master_of(each) for each in NAMES if clustered.master_of(each).port != source.port
    )
    move = Move(key_slot(b"5"), source, target)
    move.begin()
    assert (await other.verify(lease.proof(), [name])).fence == lease.fence
    move.carry(*move.left())
    # The source has none of its keys any more and says ASK.
    assert (await other.verify(lease.proof(), [name])).fence == lease.fence
    move.end()
    await lease.release()
    after = await waiting
    assert after.fence > lease.fence
    await after.release()
    async with holder.lock(name) as again:
        assert again.fence > after.fence


async def test_leases_are_renewed_while_their_slot_moves_to_a_node_that_had_none(
    doomed_cluster: Clustered, clients: Clients
) -> None:
    """It stands half-way for as long as it likes: ASK is followed for whatever a holder needs."""
    name = "moved:{5}"
    client, other = made(clients, doomed_cluster, ttl=2.0), made(clients, doomed_cluster)
    lease = await client.acquire(name)
    source = doomed_cluster.master_of(name)
    move = Move(key_slot(b"5"), source, await run(doomed_cluster.add))
    move.begin()
    move.carry(*move.left())
    first = lease.term.deadline

    async def two_terms_later() -> bool:
        lease.check()
        return lease.term.deadline > first + 4.0

    await eventually(two_terms_later, "renewed several times")
    assert (await other.verify(lease.proof(), [name])).fence == lease.fence
    move.end()
    await lease.release()
    async with other.lock(name) as after:
        assert after.fence > lease.fence


async def test_a_release_that_was_done_half_before_its_slot_moved_was_one(
    clustered: Clustered, clients: Clients
) -> None:
    """The script met a key that was gone already; its second run, elsewhere, finds nothing held."""
    name = "halves:{9}"
    holder, other = made(clients, clustered), made(clients, clustered)
    lease = await holder.acquire(name)
    waiting = asyncio.create_task(other.acquire(name))
    await in_line(clustered, name)
    source = clustered.master_of(name)
    target = next(node for node in clustered.nodes[:3] if node.port != source.port)
    move = Move(key_slot(b"9"), source, target)
    move.begin()
    move.carry(f"fencelock:w:{name}")
    releasing = asyncio.create_task(lease.release())

    async def half_done() -> bool:
        return f"fencelock:l:{name}" not in move.left()

    await eventually(half_done, "the script has deleted the lock")
    while keys := move.left():
        move.carry(*keys)
    move.end()
    await releasing
    after = await waiting
    assert after.fence > lease.fence
    await after.release()


async def test_a_slot_that_is_on_its_way_keeps_nobody_from_the_others_of_its_node(
    clustered: Clustered, clients: Clients
) -> None:
    """A move that was broken off leaves it so for days; clients that come then can connect."""
    # The first of its slots, which is the one that a client tries its rights at.
    move = Move(0, *clustered.nodes[:2])
    move.begin()
    try:
        client = made(clients, clustered, connect_timeout=1.0)
        await client.start()
        for name in NAMES:
            async with client.lock(name):
                pass
    finally:
        move.forget()


async def test_a_node_that_is_not_of_the_cluster_any_more_has_no_say(
    clustered: Clustered, tmp_path: Path
) -> None:
    """It may be in the URL still; `CLUSTER RESET` left it the epoch, and no slots."""
    with server(tmp_path, **{"cluster-enabled": "yes", "cluster-port": str(free_port())}) as former:
        known = str(ask(clustered.nodes[0].port, "CLUSTER", "INFO"))
        epoch = re.search(r"current_epoch:(\d+)", known)
        assert epoch is not None
        ask(former.port, "CLUSTER", "SET-CONFIG-EPOCH", epoch[1])
        hosts = f"{HOST}:{former.port},{HOST}:{clustered.nodes[0].port}"
        where = read(f"redis+cluster://:{PASSWORD}@{hosts}")
        assert isinstance(where, Cluster)
        for _ in range(10):
            assert len((await read_map(where.seeds)).served) == SLOTS


async def test_the_nodes_of_the_url_may_all_be_gone_by_the_time_a_master_crashes(
    doomed_cluster: Clustered, clients: Clients
) -> None:
    """Others know who takes over, also those of whose slots nothing was needed so far."""
    master = doomed_cluster.master_of(NAME)
    another = next(node for node in doomed_cluster.nodes[:3] if node.port != master.port)
    named_in_url = doomed_cluster.replica_of(another)
    client = clients.make(url=f"redis+cluster://:{PASSWORD}@{HOST}:{named_in_url.port}")
    async with client.lock(NAME) as lease:
        pass
    named_in_url.kill()
    master.kill()
    after = await until_granted(client)
    assert after.fence > lease.fence
    await after.release()


async def test_a_planned_failover_ends_no_lease(
    doomed_cluster: Clustered, clients: Clients
) -> None:
    holder, other = made(clients, doomed_cluster), made(clients, doomed_cluster)
    lease = await holder.acquire(NAME)
    waiting = asyncio.create_task(other.acquire(NAME))
    await in_line(doomed_cluster, NAME)
    former = doomed_cluster.master_of(NAME)
    replica = doomed_cluster.replica_of(former)
    ask(replica.port, "CLUSTER", "FAILOVER")

    def replaced() -> bool:
        return doomed_cluster.master_of(NAME).port == replica.port

    await run(until, replaced, "the replica is the master")
    lease.check()
    await lease.release()
    after = await waiting
    assert after.fence > lease.fence
    await after.release()


async def test_a_crash_of_a_master_is_outlived(doomed_cluster: Clustered, clients: Clients) -> None:
    """Its slots are served again by its replica; the others are served all the time."""
    holder, other = made(clients, doomed_cluster), made(clients, doomed_cluster)
    await other.start()
    lease = await holder.acquire(NAME)
    master = doomed_cluster.master_of(NAME)
    replica = doomed_cluster.replica_of(master)

    async def copied() -> bool:
        return any(NAME in each for each in ask(replica.port, "KEYS", "*"))

    await eventually(copied, "the replica has the lock")
    elsewhere = next(name for name in NAMES if doomed_cluster.master_of(name).port != master.port)
    master.kill()
    async with other.lock(elsewhere):
        pass
    waiting = asyncio.create_task(until_granted(other))

    async def renewed() -> bool:
        return bool(ask(replica.port, "INFO", "replication")["role"] == "master")

    await eventually(renewed, "the replica is the master")
    lease.check()
    await lease.release()
    after = await waiting
    assert after.fence > lease.fence
    await after.release()


async def test_a_holder_is_told_by_push_though_another_master_is_gone(
    doomed_cluster: Clustered, clients: Clients
) -> None:
    client = made(clients, doomed_cluster, ttl=3000.0, max_hold=3000.0)
    for name in NAMES:
        async with client.lock(name):
            pass
    port = doomed_cluster.master_of(NAME).port
    victim = next(node for node in doomed_cluster.nodes[:3] if node.port != port)
    # Nobody takes over, so it stays gone; the others serve their slots all the same.
    for node in doomed_cluster.nodes:
        ask(node.port, "CONFIG", "SET", "cluster-require-full-coverage", "no")
    doomed_cluster.replica_of(victim).kill()
    victim.kill()
    lease = await client.acquire(NAME)
    lost = asyncio.get_running_loop().create_future()
    lease.on_lost(lost.set_result)

    async def watched() -> bool:
        return bool(ask(port, "INFO", "stats")["tracking_total_keys"])

    await eventually(watched, "its key is watched")
    ask(port, "DEL", KEY)
    async with asyncio.timeout(30):
        assert await lost == "taken"


async def test_a_lease_that_no_replica_had_is_lost_and_its_holder_told(
    doomed_cluster: Clustered, clients: Clients
) -> None:
    holder, other = made(clients, doomed_cluster), made(clients, doomed_cluster)
    await holder.start()
    master = doomed_cluster.master_of(NAME)
    replica = doomed_cluster.replica_of(master)
    replica.pause()
    ask(master.port, "CLIENT", "KILL", "TYPE", "replica")
    lease = await holder.acquire(NAME)
    master.kill()
    replica.resume()
    after = await until_granted(other)
    assert after.fence > lease.fence

    async def told() -> bool:
        try:
            lease.check()
        except LeaseLost:
            return True
        return False

    await eventually(told, "the holder knows")
    await after.release()


async def test_what_is_no_cluster_is_said_and_the_other_way_round(
    clustered: Clustered, clients: Clients
) -> None:
    node = clients.make(url=f"redis://:{PASSWORD}@127.0.0.1:{clustered.nodes[0].port}")
    with pytest.raises(ConfigurationError, match=r"redis\+cluster://"):
        await node.start()
    wrong = clustered.url.replace(PASSWORD, "s3cret")
    stranger = clients.make(url=wrong)
    with pytest.raises(ConfigurationError, match="WRONGPASS") as caught:
        await stranger.start()
    assert "s3cret" not in str(caught.value)
    nowhere = clients.make(url="redis+cluster://127.0.0.1:1", connect_timeout=0.2)
    with pytest.raises(RedisUnavailable, match="cannot reach"):
        await nowhere.acquire(NAME, wait=0)


async def until_granted(client: AsyncLockClient) -> AsyncLease:
    deadline = time.monotonic() + 60.0
    while True:
        try:
            return await client.acquire(NAME, wait=30.0)
        except RedisUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


def named(port: int) -> int:
    """How many connections of lock clients a node has."""
    return str(ask(port, "CLIENT", "LIST")).count(" name=fencelock ")
