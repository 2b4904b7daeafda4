"""Names that several hold at once: shared, and counted; with all that an exclusive lock promises.

Every promise here is tried with both clients, on a real server, and most on the one in memory.
"""

import asyncio
from collections.abc import Callable

import pytest
from libs.lock.tests.clients import Clients, both_apis, crash, deafen
from libs.lock.tests.eventually import eventually
from libs.lock.tests.server_view import lock_keys, queue_length, script_calls, watched
from libs.lock.tests.variants import broken, sound
from redis.asyncio import Redis

from fencelock import (
    AcquireTimeout,
    AsyncLease,
    AsyncLockClient,
    ConfigurationError,
    Contended,
    Kind,
    LeaseLost,
    NotOwner,
)
from fencelock._scripts import Scripts

NAME = "report:{1}"
PATIENCE_SECONDS = 30.0
TWO = Kind.permits(2)
sharing = pytest.mark.parametrize("kind", [Kind.SHARED, TWO, Kind.permits(500)], ids=str)
every_kind = pytest.mark.parametrize("kind", [Kind.EXCLUSIVE, Kind.SHARED, TWO], ids=str)


async def in_line(admin: Redis, count: int, name: str = NAME) -> None:
    async def there() -> bool:
        return await queue_length(admin, name) == count

    await eventually(there, f"{count} in line")


def started(client: AsyncLockClient, kind: Kind, *names: str) -> asyncio.Task[AsyncLease]:
    return asyncio.create_task(client.acquire(*(names or (NAME,)), kind=kind))


async def check_readers_and_writers(clients: Clients, scripts: Scripts) -> None:
    """Readers together, writers alone, at any time."""
    readers = writers = most_readers = 0
    pair = [clients.make(scripts=scripts), clients.make(scripts=scripts)]

    async def read(client: AsyncLockClient) -> None:
        nonlocal readers, most_readers
        async with client.lock(NAME, kind=Kind.SHARED):
            readers += 1
            most_readers = max(most_readers, readers)
            assert not writers, "a reader beside a writer"
            await asyncio.sleep(0.002)
            readers -= 1

    async def write(client: AsyncLockClient) -> None:
        nonlocal writers
        async with client.lock(NAME):
            writers += 1
            assert writers == 1, "two writers"
            assert not readers, "a writer beside a reader"
            await asyncio.sleep(0.001)
            writers -= 1

    async def work(index: int) -> None:
        for turn in range(4):
            await (write if (index + turn) % 4 == 0 else read)(pair[index % 2])

    async with asyncio.timeout(60):
        await asyncio.gather(*[work(index) for index in range(16)])
    assert most_readers > 1, "readers never were together"


async def check_permits(clients: Clients, scripts: Scripts) -> None:
    """Never more inside than there are permits, and as many when enough want to be."""
    inside = most = 0
    pair = [clients.make(scripts=scripts), clients.make(scripts=scripts)]

    async def work(index: int) -> None:
        nonlocal inside, most
        for _ in range(4):
            async with pair[index % 2].lock(NAME, kind=Kind.permits(3)):
                inside += 1
                most = max(most, inside)
                assert inside <= 3, "more inside than there are permits"
                await asyncio.sleep(0.002)
                inside -= 1

    async with asyncio.timeout(60):
        await asyncio.gather(*[work(index) for index in range(16)])
    assert most == 3


async def check_the_writer_is_not_starved(clients: Clients, admin: Redis, scripts: Scripts) -> None:
    """Readers who come while a writer waits stand behind it."""
    client = clients.make(scripts=scripts)
    first = await client.acquire(NAME, kind=Kind.SHARED)
    writing = started(client, Kind.EXCLUSIVE)
    await in_line(admin, 1)
    with pytest.raises(Contended):
        await client.acquire(NAME, kind=Kind.SHARED, wait=0)
    reading = [started(client, Kind.SHARED) for _ in range(3)]
    await in_line(admin, 4)
    await first.release()
    writer = await writing
    assert not any(task.done() for task in reading)
    await writer.release()
    readers = await asyncio.gather(*reading)
    assert all(reader.fence > writer.fence > first.fence for reader in readers)
    for reader in readers:
        await reader.release()


@both_apis
async def test_readers_are_together_and_writers_alone(clients: Clients) -> None:
    await check_readers_and_writers(clients, sound())


async def test_a_writer_beside_readers_is_caught(clients: Clients) -> None:
    with pytest.raises((AssertionError, LeaseLost, ExceptionGroup)):
        await check_readers_and_writers(clients, broken("acquire ignores the holder"))


@both_apis
async def test_no_more_are_inside_than_there_are_permits(clients: Clients) -> None:
    await check_permits(clients, sound())


async def test_one_more_than_there_are_permits_is_caught(clients: Clients) -> None:
    with pytest.raises(AssertionError):
        await check_permits(clients, broken("permits are not counted"))


@both_apis
async def test_a_writer_is_not_starved_by_readers(clients: Clients, admin: Redis) -> None:
    await check_the_writer_is_not_starved(clients, admin, sound())


async def test_a_reader_that_overtakes_a_writer_is_caught(clients: Clients, admin: Redis) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await check_the_writer_is_not_starved(clients, admin, broken("readers overtake"))


@both_apis
@sharing
async def test_those_who_share_have_fences_and_proofs_of_their_own(
    clients: Clients, kind: Kind
) -> None:
    client, other = clients.make(), clients.make()
    one = await client.acquire(NAME, kind=kind)
    two = await other.acquire(NAME, kind=kind)
    assert two.fence > one.fence
    assert (one.kind, two.kind) == (kind, kind)
    assert (await other.verify(one.proof(), [NAME])).fence == one.fence
    assert 0 < (await client.verify(two.proof(), [NAME])).remaining <= 30.0
    await one.release()
    with pytest.raises(NotOwner):
        await other.verify(one.proof(), [NAME])
    assert (await client.verify(two.proof(), [NAME])).fence == two.fence
    await two.release()
    exclusive = await client.acquire(NAME, wait=0)
    assert exclusive.fence > two.fence
    await exclusive.release()


@both_apis
@every_kind
async def test_nothing_is_left_behind(clients: Clients, admin: Redis, kind: Kind) -> None:
    client, other = clients.make(), clients.make()
    for _ in range(3):
        held = [await client.acquire(NAME, kind=kind, wait=0)]
        if kind != Kind.EXCLUSIVE:
            held.append(await other.acquire(NAME, kind=kind, wait=0))
        waiting = started(other, Kind.EXCLUSIVE)
        await in_line(admin, 1)
        with pytest.raises(AcquireTimeout):
            await client.acquire(NAME, kind=kind, wait=0.01)
        for lease in held:
            await lease.release()
            await lease.release()
        await (await waiting).release()
    assert await lock_keys(admin) == []


@every_kind
async def test_cancelling_a_waiter_lets_those_behind_it_proceed(
    clients: Clients, admin: Redis, kind: Kind
) -> None:
    client = clients.make()
    held = await client.acquire(NAME, kind=Kind.SHARED)
    writing = started(client, Kind.EXCLUSIVE)
    await in_line(admin, 1)
    behind = started(client, kind)
    await in_line(admin, 2)
    writing.cancel()
    if kind == Kind.EXCLUSIVE:
        await held.release()
    await (await behind).release()
    if kind != Kind.EXCLUSIVE:
        await held.release()
    assert await lock_keys(admin) == []


@both_apis
@every_kind
async def test_one_request_to_take_and_one_to_give_back(
    clients: Clients, admin: Redis, kind: Kind
) -> None:
    client = clients.make()
    await client.start()
    names = (NAME, "reports:{1}")
    before = await script_calls(admin)
    for _ in range(5):
        async with client.lock(*names, kind=kind):
            pass
    assert await script_calls(admin) - before == 10
    assert await lock_keys(admin) == []


@both_apis
async def test_a_freed_permit_goes_to_the_first_in_line(clients: Clients, admin: Redis) -> None:
    client, other = clients.make(), clients.make()
    held = [await client.acquire(NAME, kind=TWO) for _ in range(2)]
    order: list[int] = []

    async def take(index: int) -> None:
        lease = await (client, other)[index % 2].acquire(NAME, kind=TWO)
        order.append(index)
        await lease.release()

    tasks = []
    for index in range(6):
        tasks.append(asyncio.create_task(take(index)))
        await in_line(admin, index + 1)
    before = await script_calls(admin)
    await held[0].release()
    await asyncio.gather(*tasks)
    assert order == sorted(order)
    # A release each: nobody asked twice.
    assert await script_calls(admin) - before == 7
    await held[1].release()


async def test_a_release_lets_all_readers_in_at_once(clients: Clients, admin: Redis) -> None:
    client = clients.make()
    writer = await client.acquire(NAME)
    reading = [started(client, Kind.SHARED) for _ in range(300)]
    await in_line(admin, 300)
    await writer.release()
    async with asyncio.timeout(PATIENCE_SECONDS):
        readers = await asyncio.gather(*reading)
    assert len({reader.fence for reader in readers}) == 300
    await asyncio.gather(*[reader.release() for reader in readers])
    assert await lock_keys(admin) == []


@sharing
async def test_a_permit_is_renewed_on_its_own(clients: Clients, admin: Redis, kind: Kind) -> None:
    client, doomed = clients.make(ttl=1.2), clients.make(ttl=1.2)
    kept = await client.acquire(NAME, kind=kind)
    await doomed.acquire(NAME, kind=kind)
    await crash(doomed)
    deadline = kept.term.deadline

    async def renewed_often() -> bool:
        return kept.term.deadline > deadline + 2.4

    await eventually(renewed_often, "renewed past the end of the other")
    kept.check()
    assert await admin.zcount(f"fencelock:p:{NAME}", "-inf", "+inf") >= 1
    await kept.release()

    async def all_gone() -> bool:
        return await lock_keys(admin) == []

    await eventually(all_gone, "nothing is left")


async def test_the_permit_of_a_crashed_holder_goes_to_the_next(
    clients: Clients, admin: Redis
) -> None:
    doomed, client = clients.make(ttl=1.0), clients.make()
    await doomed.acquire(NAME, kind=TWO)
    kept = await client.acquire(NAME, kind=TWO)
    waiting = started(client, TWO)
    await in_line(admin, 1)
    await crash(doomed)
    async with asyncio.timeout(PATIENCE_SECONDS):
        lease = await waiting
    kept.check()
    await lease.release()
    await kept.release()


@pytest.mark.parametrize("kind", [Kind.SHARED, Kind.EXCLUSIVE], ids=str)
async def test_waiters_of_a_dead_client_cost_no_more_than_a_moment(
    clients: Clients, admin: Redis, kind: Kind
) -> None:
    client, doomed = clients.make(), clients.make()
    held = await client.acquire(NAME)
    dead = [started(doomed, TWO) for _ in range(8)]
    await in_line(admin, 8)
    waiting = started(client, kind)
    await in_line(admin, 9)
    await crash(doomed, dead)
    await held.release()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await (await waiting).release()
    assert await queue_length(admin, NAME) == 0


LOSSES: dict[str, Callable[[Redis, AsyncLease], object]] = {
    "its permit was deleted": lambda admin, lease: admin.delete(lease.request.lock_keys[0]),
    "everything was": lambda admin, _: admin.flushall(),
}


@both_apis
@sharing
@pytest.mark.parametrize("way", sorted(LOSSES))
async def test_who_shares_is_told_of_a_loss(
    clients: Clients, admin: Redis, kind: Kind, way: str
) -> None:
    lease = await clients.make(ttl=3000.0, max_hold=3000.0).acquire(NAME, kind=kind)
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    lease.on_lost(lost.set_result)
    await watched(admin)
    await LOSSES[way](admin, lease)  # type: ignore[misc]
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await lost == "taken"


async def test_others_who_come_and_go_are_no_news(clients: Clients, admin: Redis) -> None:
    client, other = clients.make(ttl=3000.0, max_hold=3000.0), clients.make()
    await other.start()
    deafen(other)
    lease = await client.acquire(NAME, kind=Kind.SHARED)
    await watched(admin)
    await admin.config_resetstat()
    for _ in range(10):
        await (await other.acquire(NAME, kind=Kind.SHARED)).release()
    await client.ping(timeout=PATIENCE_SECONDS)
    assert "cmdstat_client|caching" not in await admin.info("commandstats")
    await lease.release()


@sharing
async def test_a_renewal_finds_that_the_name_was_taken_away(
    clients: Clients, admin: Redis, kind: Kind
) -> None:
    lease = await clients.make(ttl=1.0).acquire(NAME, kind=kind)
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    lease.on_lost(lost.set_result)
    await admin.set(f"fencelock:l:{NAME}", "somebody.else 1 -", px=60_000)
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await lost == "taken"


@sharing
async def test_a_release_of_what_is_gone_says_so(
    clients: Clients, admin: Redis, kind: Kind
) -> None:
    client = clients.make()
    await client.start()
    deafen(client)
    lease = await client.acquire(NAME, kind=kind)
    await admin.flushall()
    with pytest.raises((NotOwner, LeaseLost)):
        await lease.release()


async def test_several_names_are_shared_or_held_together(clients: Clients, admin: Redis) -> None:
    client = clients.make()
    both = await client.acquire("a:{1}", "b:{1}", kind=Kind.SHARED)
    with pytest.raises(Contended):
        await client.acquire("b:{1}", "c:{1}", wait=0)
    writing = started(client, Kind.EXCLUSIVE, "b:{1}", "c:{1}")
    await in_line(admin, 1, "c:{1}")
    # Behind a writer who waits for more, on the name that they have in common only.
    free = await client.acquire("a:{1}", kind=Kind.SHARED, wait=0)
    reading = started(client, Kind.SHARED, "a:{1}", "b:{1}")
    await in_line(admin, 2, "b:{1}")
    await both.release()
    writer = await writing
    assert not reading.done()
    await writer.release()
    await (await reading).release()
    await free.release()
    assert await lock_keys(admin) == []


async def test_a_limit_that_changes_counts_for_those_who_ask(clients: Clients) -> None:
    client = clients.make()
    held = [await client.acquire(NAME, kind=Kind.permits(3), wait=0) for _ in range(3)]
    with pytest.raises(Contended):
        await client.acquire(NAME, kind=TWO, wait=0)
    held.append(await client.acquire(NAME, kind=Kind.permits(4), wait=0))
    for lease in held:
        await lease.release()


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "2", 10**9])
def test_a_semaphore_without_a_sensible_limit_is_refused(limit: object) -> None:
    with pytest.raises(ConfigurationError, match="permits"):
        Kind.permits(limit)  # type: ignore[arg-type]


@both_apis
async def test_what_is_no_kind_is_refused(clients: Clients) -> None:
    with pytest.raises(ConfigurationError, match="kind"):
        await clients.make().acquire(NAME, kind="shared")  # type: ignore[arg-type]
