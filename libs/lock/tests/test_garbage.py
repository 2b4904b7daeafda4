"""What a lock leaves behind is gone at once: a busy process has no garbage of ours to collect."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fencelock import AcquireTimeout, AsyncLockClient, Contended, Kind, LockClient

NAME = "order:{1}"


@contextmanager
def no_garbage() -> Iterator[None]:
    """Fail if the body leaves cycles of our objects, which only the collector would find."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        ours = [each for each in gc.garbage if type(each).__module__.startswith("fencelock")]
        assert ours == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("kind", [Kind.EXCLUSIVE, Kind.SHARED, Kind.permits(2)], ids=str)
async def test_locks_that_were_held_or_waited_for_leave_none(url: str, kind: Kind) -> None:
    async with AsyncLockClient.from_url(url) as client:

        async def hold() -> None:
            async with client.lock(NAME, kind=kind):
                await asyncio.sleep(0)

        await hold()
        with no_garbage():
            await asyncio.gather(*[hold() for _ in range(10)])


async def test_locks_that_were_not_had_leave_none(url: str) -> None:
    async with AsyncLockClient.from_url(url) as client, client.lock(NAME):

        async def fail(wait: float) -> None:
            try:
                await client.acquire(NAME, wait=wait)
            except (Contended, AcquireTimeout):
                return
            raise AssertionError("it was had")

        with no_garbage():
            await asyncio.gather(*[fail(wait) for wait in (0.0, 0.02) for _ in range(5)])


def test_blocking_locks_leave_none(url: str) -> None:
    with LockClient.from_url(url) as client:

        def hold_often() -> None:
            for _ in range(20):
                with client.lock(NAME):
                    pass

        hold_often()
        with no_garbage():
            hold_often()
