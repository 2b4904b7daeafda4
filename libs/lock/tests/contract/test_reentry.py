"""Code under a lock may take the same lock, if both say so: under one lease, without a request."""

import asyncio
import contextvars
import threading

import pytest
from libs.lock.tests.clients import Clients
from libs.lock.tests.server_view import holder, lock_keys, script_calls
from redis.asyncio import Redis

from fencelock import (
    AcquireTimeout,
    AsyncLockClient,
    ConfigurationError,
    Contended,
    Kind,
    LeaseLost,
    LockClient,
)

NAME = "order:{1}"


async def test_the_same_task_is_let_in_again_under_the_same_lease(
    client: AsyncLockClient, admin: Redis
) -> None:
    await client.start()
    before = await script_calls(admin)
    async with client.lock(NAME, "invoice:{1}", reentrant=True) as outer:
        async with (
            client.lock("invoice:{1}", reentrant=True) as inner,
            client.lock(NAME, kind=Kind.SHARED, reentrant=True) as innermost,
        ):
            assert outer is inner is innermost
        await _nest(client, 3)
        outer.check()
        assert await holder(admin, NAME) == outer.request.owner
    assert await lock_keys(admin) == []
    assert await script_calls(admin) - before == 2


async def _nest(client: AsyncLockClient, depth: int) -> None:
    async with client.lock(NAME, reentrant=True):
        if depth:
            await _nest(client, depth - 1)


async def test_after_an_early_release_it_is_taken_anew(client: AsyncLockClient) -> None:
    async with client.lock(NAME, reentrant=True) as outer:
        await outer.release()
        async with client.lock(NAME, reentrant=True, wait=0) as anew:
            assert anew.fence > outer.fence


async def test_a_task_started_under_the_lock_waits_like_anybody(client: AsyncLockClient) -> None:
    async def take(wait: float) -> None:
        async with client.lock(NAME, reentrant=True, wait=wait):
            pass

    async with client.lock(NAME, reentrant=True):
        with pytest.raises(Contended):
            await asyncio.create_task(take(0))
        with pytest.raises(AcquireTimeout):
            await asyncio.wait_for(take(0.01), 30)
        later = asyncio.create_task(take(30))
    await later


async def test_both_must_say_so(client: AsyncLockClient) -> None:
    async with client.lock(NAME):
        with pytest.raises(Contended):
            async with client.lock(NAME, reentrant=True, wait=0):
                pass
    async with client.lock(NAME, reentrant=True):
        with pytest.raises(Contended):
            async with client.lock(NAME, wait=0):
                pass
    async with client.lock(NAME, reentrant=True, wait=0):
        pass


async def test_another_client_is_somebody_else(clients: Clients) -> None:
    async with clients.make().lock(NAME, reentrant=True):
        with pytest.raises(Contended):
            async with clients.make().lock(NAME, reentrant=True, wait=0):
                pass


@pytest.mark.parametrize("names", [(NAME, "invoice:{1}"), ("{1}", NAME)])
async def test_who_would_wait_for_itself_is_told(
    client: AsyncLockClient, names: tuple[str, ...]
) -> None:
    async with client.lock(NAME, reentrant=True):
        with pytest.raises(ConfigurationError, match="wait for itself"):
            async with client.lock(*names, reentrant=True):
                pass
    async with client.lock(NAME, kind=Kind.SHARED, reentrant=True):
        with pytest.raises(ConfigurationError, match="held here as shared"):
            async with client.lock(NAME, reentrant=True):
                pass
        async with client.lock("other:{1}", kind=Kind.permits(2), reentrant=True):
            pass


async def test_a_loss_ends_the_inner_block_and_the_outer(clients: Clients, admin: Redis) -> None:
    client = clients.make(ttl=1.0)
    reached = []

    async def hold() -> None:
        async with client.lock(NAME, reentrant=True):
            async with client.lock(NAME, reentrant=True):
                await admin.delete(f"fencelock:l:{NAME}")
                await asyncio.Event().wait()
            reached.append("after the inner block")

    with pytest.raises(LeaseLost):
        await hold()
    assert reached == []
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    async with client.lock(NAME, reentrant=True):
        pass


async def test_an_error_of_the_inner_block_passes(client: AsyncLockClient, admin: Redis) -> None:
    async with client.lock(NAME, reentrant=True) as outer:
        with pytest.raises(KeyError):
            async with client.lock(NAME, reentrant=True):
                raise KeyError
        outer.check()
    assert await lock_keys(admin) == []


def test_a_thread_is_let_in_again_and_others_are_not(url: str) -> None:
    seen: list[str] = []
    with LockClient.from_url(url) as client:

        def take() -> None:
            try:
                with client.lock(NAME, reentrant=True, wait=0):
                    seen.append("in")
            except Contended:
                seen.append("out")

        with client.lock(NAME, reentrant=True) as outer:
            with client.lock(NAME, reentrant=True) as inner:
                assert inner is outer
            outer.check()
            # Also with a copy of the context, as thread pools make it, another thread is another.
            context = contextvars.copy_context()
            other = threading.Thread(target=context.run, args=(take,))
            other.start()
            other.join()
            take()
        take()
    assert seen == ["out", "in", "in"]
