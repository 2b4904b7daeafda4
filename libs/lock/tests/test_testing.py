"""The server in memory, as the tests of other people use it."""

import asyncio
import threading
from importlib.metadata import entry_points

import pytest

from fencelock import (
    AcquireTimeout,
    AsyncLease,
    AsyncLockClient,
    ConfigurationError,
    Contended,
    InvalidName,
    LeaseLost,
    LockClient,
    RedisUnavailable,
)
from fencelock.testing import Clock, FakeLockClient, FakeServer

pytest_plugins = ["pytester"]


async def test_it_can_stand_in_for_the_real_client() -> None:
    client: AsyncLockClient = FakeServer().client()
    async with client, client.lock("order:{1}") as lease:
        assert isinstance(lease, AsyncLease)
        assert (lease.names, lease.remaining()) == (("order:{1}",), 10.0)


async def test_time_stands_still_and_short_steps_renew() -> None:
    server = FakeServer()
    lease = await server.client(ttl=10.0).acquire("order:{1}")
    for _ in range(10):
        server.clock.advance(9.0)
        lease.check()
    assert lease.remaining() == 10.0
    server.clock.advance(10.0)
    with pytest.raises(LeaseLost, match="expired"):
        lease.check()


async def test_a_body_is_interrupted_when_the_clock_is_turned_past_its_lease() -> None:
    server = FakeServer()

    async def hold() -> None:
        async with server.client().lock("order:{1}"):
            server.clock.advance(60.0)
            await asyncio.Event().wait()

    with pytest.raises(LeaseLost):
        await hold()


async def test_a_hold_ends_at_its_cap_by_the_fake_clock() -> None:
    server = FakeServer()
    lease = await server.client().acquire("order:{1}", max_hold=25.0)
    reasons: list[str] = []
    lease.on_lost(reasons.append)
    for _ in range(3):
        server.clock.advance(9.0)
    await asyncio.sleep(0)
    lease.on_lost(reasons.append)  # it is lost already: told all the same
    await asyncio.sleep(0)
    assert reasons == ["max_hold", "max_hold"]


async def test_a_waiter_gives_up_by_the_fake_clock() -> None:
    server = FakeServer()
    async with server.client().lock("order:{1}"):
        waiting = asyncio.create_task(server.client().acquire("order:{1}", wait=5.0))
        await asyncio.sleep(0)
        assert server.waiting("order:{1}") == 1
        server.clock.advance(4.9)
        await asyncio.sleep(0)
        assert not waiting.done()
        server.clock.advance(0.2)
        with pytest.raises(AcquireTimeout):
            await waiting
    assert server.waiting("order:{1}") == 0
    assert server.holder("order:{1}") is None


async def test_a_grant_that_nobody_takes_goes_to_the_next() -> None:
    """The waiter is cancelled in the very turn of the loop in which it is granted the lock."""
    server = FakeServer()
    lease = await server.client().acquire("order:{1}")
    waiting = asyncio.create_task(server.client().acquire("order:{1}"))
    await asyncio.sleep(0)
    await lease.release()
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert server.holder("order:{1}") is None


async def test_an_outage_refuses_calls_and_ends_leases_in_their_time() -> None:
    server = FakeServer()
    client = server.client()
    lease = await client.acquire("order:{1}")
    server.go_down()
    for call in (client.start(), client.acquire("order:{2}"), client.verify(lease.proof(), ["a"])):
        with pytest.raises(RedisUnavailable):
            await call
    server.clock.advance(6.0)
    lease.check()
    server.clock.advance(6.0)
    with pytest.raises(LeaseLost):
        lease.check()
    server.come_back()
    await (await client.acquire("order:{1}")).release()


async def test_what_is_given_back_in_an_outage_is_free_after_it() -> None:
    server = FakeServer()
    client = server.client()
    lease = await client.acquire("order:{1}")
    waiting = asyncio.create_task(client.acquire("order:{1}"))
    await asyncio.sleep(0)
    server.go_down()
    with pytest.raises(RedisUnavailable):
        await lease.release()
    await lease.release()  # repeating it does nothing
    await asyncio.sleep(0)
    assert not waiting.done()
    server.clock.advance(9.0)
    server.come_back()
    await (await waiting).release()
    assert server.holder("order:{1}") is None


async def test_a_block_that_ends_in_an_outage_ends_well() -> None:
    server = FakeServer()
    async with server.client().lock("order:{1}"):
        server.go_down()
    server.clock.advance(60.0)
    server.come_back()
    assert server.holder("order:{1}") is None


async def test_leases_are_renewed_while_the_clock_runs_and_end_in_an_outage() -> None:
    server = FakeServer(Clock(runs=True))
    client = server.client(ttl=0.1)
    lease, lost = await client.acquire("order:{1}"), asyncio.Event()
    lease.on_lost(lambda _: lost.set())
    await asyncio.sleep(0.2)
    assert lease.remaining() > 0.0
    assert (await client.verify(lease.proof(), ["order:{1}"])).remaining > 0.0
    server.go_down()
    await asyncio.wait_for(lost.wait(), 60.0)
    assert lease.lost
    with pytest.raises(LeaseLost, match="expired"):
        lease.check()


async def test_a_body_that_closes_its_client_is_told_at_its_end() -> None:
    client = FakeServer().client()
    ended: list[bool] = []

    async def hold() -> None:
        async with client.lock("order:{1}") as lease:
            await client.aclose()
            await asyncio.sleep(0)
            ended.append(lease.lost)

    with pytest.raises(LeaseLost, match="closed"):
        await hold()
    assert ended == [True]


def test_what_a_closed_event_loop_left_is_in_nobodys_way() -> None:
    server = FakeServer()

    async def leave_it() -> None:
        lease = await server.client().acquire("order:{1}")
        lease.on_lost(lambda _: None)

    async def take_it() -> None:
        server.clock.advance(60.0)
        await server.client().acquire("order:{1}", wait=0)

    asyncio.run(leave_it())
    asyncio.run(take_it())


async def test_closing_a_client_ends_what_it_holds_and_waits_for() -> None:
    server = FakeServer()
    holding, waiting = server.client(), server.client()
    lease = await holding.acquire("order:{1}")
    task = asyncio.create_task(waiting.acquire("order:{1}"))
    await asyncio.sleep(0)
    await waiting.aclose()
    with pytest.raises(RedisUnavailable):
        await task
    await holding.aclose()
    with pytest.raises(LeaseLost, match="closed"):
        lease.check()


async def test_bad_arguments_are_refused_as_by_the_real_client() -> None:
    client = FakeServer().client()
    with pytest.raises(InvalidName):
        await client.acquire("a b")
    with pytest.raises(ConfigurationError):
        await client.acquire("a", ttl=-1.0)
    with pytest.raises(ConfigurationError):
        FakeServer().client(wait=float("inf"))


@pytest.mark.parametrize(
    ("seconds", "why"),
    [(-1.0, "go back"), (float("nan"), "go back"), (float("inf"), "century"), (1e300, "century")],
)
async def test_a_clock_is_not_turned_where_no_clock_goes(seconds: float, why: str) -> None:
    server = FakeServer()
    before = server.clock.now()

    with pytest.raises(ValueError, match=why):
        server.clock.advance(seconds)

    assert server.clock.now() == before
    async with server.client().lock("order:1"):
        pass


def test_threads_share_it_too() -> None:
    server = FakeServer()
    inside = 0

    def take() -> None:
        nonlocal inside
        with server.blocking_client() as client:
            for _ in range(20):
                with client.lock("order:{1}", wait=60.0):
                    inside += 1
                    assert inside == 1
                    inside -= 1

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    with server.blocking_client() as client:
        assert isinstance(client, LockClient)
        lease = client.acquire("order:{1}")
        with pytest.raises(Contended):
            client.acquire("order:{1}", wait=0)
        server.clock.advance(60.0)
        with pytest.raises(LeaseLost):
            lease.check()


def test_the_plugin_gives_fixtures(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio
        import pytest
        import fencelock

        def test_async(fake_lock_server, fake_lock_client):
            async def use():
                async with fake_lock_client.lock("order:{1}") as lease:
                    fake_lock_server.clock.advance(60)
                    with pytest.raises(fencelock.LeaseLost):
                        lease.check()
            with pytest.raises(fencelock.LeaseLost):
                asyncio.run(use())

        def test_blocking(fake_blocking_lock_client):
            with fake_blocking_lock_client.lock("order:{1}") as lease:
                lease.check()
        """
    )
    # Wherever the package is installed as it is now, pytest finds the plugin by itself.
    found = entry_points(group="pytest11", name="fencelock")
    ran = pytester.runpytest_subprocess(*([] if found else ["-p", "pytest_fencelock"]))
    ran.assert_outcomes(passed=2)


async def test_it_is_a_client_of_its_own_for_each_call() -> None:
    server = FakeServer()
    first, second = server.client(), server.client()
    assert isinstance(first, FakeLockClient)
    lease = await first.acquire("order:{1}")
    verified = await second.verify(lease.proof(), ["order:{1}"])
    assert (verified.fence, verified.remaining) == (lease.fence, 10.0)
