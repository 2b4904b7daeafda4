"""Many clients of one order leave places for those of others."""

import asyncio
import uuid

import pytest
from apps.order.tests.fakes import FakeLocks

from order.bulkhead import BoundedLocks
from order.errors import OrderLocked

HOT, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


async def test_only_so_many_wait_for_one_order_and_the_next_is_refused_at_once() -> None:
    locks = BoundedLocks(FakeLocks(), maximum_per_order=3)
    done = 0

    async def change() -> None:
        nonlocal done
        async with locks.hold(HOT, wait_seconds=60):
            done += 1

    async with locks.hold(HOT, wait_seconds=1):
        waiting = [asyncio.create_task(change()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OrderLocked, match="Too many"):
            await change()
        async with locks.hold(OTHER, wait_seconds=1):
            pass
    await asyncio.gather(*waiting)
    await change()
    assert done == 3


async def test_a_refused_or_failed_wait_gives_its_place_back() -> None:
    fakes = FakeLocks()
    locks = BoundedLocks(fakes, maximum_per_order=1)
    async with fakes.hold(HOT, wait_seconds=0):
        for _ in range(3):
            with pytest.raises(OrderLocked, match="Somebody holds it"):
                async with locks.hold(HOT, wait_seconds=0):
                    pass
    async with locks.hold(HOT, wait_seconds=0):
        pass
