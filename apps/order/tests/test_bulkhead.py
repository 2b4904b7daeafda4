"""Many clients of one order leave places for those of others."""

import asyncio
import itertools
import uuid

import httpx
import pytest
from apps.order.tests.fakes import FakeLocks
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from order.bulkhead import INSIDE_PER_ORDER, BoundedLocks, OneOrderMiddleware
from order.errors import OrderLocked
from servicekit.testing.polling import eventually

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


class World:
    """An application whose changes end when they are told to."""

    def __init__(self, *, maximum_per_order: int = 4, wait_seconds: float = 60) -> None:
        self.gate = asyncio.Event()
        self.inside: list[str] = []
        self.app = OneOrderMiddleware(
            self._serve, maximum_per_order=maximum_per_order, wait_seconds=wait_seconds
        )

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.inside.append(scope["path"])
        if scope["method"] in {"PATCH", "DELETE"}:
            await self.gate.wait()
        await Response(status_code=204)(scope, receive, send)

    async def ask(self, method: str, path: str, *headers: tuple[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://pod") as client:
            return await client.request(method, path, headers=list(headers))

    async def crowd(self, number: int, path: str) -> list[asyncio.Task[httpx.Response]]:
        """Ask ``number`` times at once, and return when the requests stand where they will wait."""
        before = len(self.inside)
        tasks = [asyncio.create_task(self.ask("PATCH", path)) for _ in range(number)]
        await self.holds(before + INSIDE_PER_ORDER)
        return tasks

    async def holds(self, number: int) -> None:
        async def does() -> bool:
            return len(self.inside) >= number

        await eventually(does)


async def test_of_one_orders_changes_few_are_let_in_and_the_surplus_is_refused_unread() -> None:
    world = World()
    hot = await world.crowd(6, f"/orders/{HOT}")
    refused = [await answer for answer in itertools.islice(asyncio.as_completed(hot), 2)]
    assert [answer.status_code for answer in refused] == [423, 423]
    assert refused[0].headers["retry-after"] == "2"
    assert refused[0].json()["type"] == "/problems/order-locked"
    assert len(world.inside) == INSIDE_PER_ORDER
    # Others are not kept waiting, nor are those who look.
    others = await world.crowd(2, f"/orders/{OTHER}")
    assert (await world.ask("GET", f"/orders/{HOT}")).status_code == 204
    world.gate.set()
    for task in (*hot, *others):
        await task
    assert [task.result().status_code for task in hot].count(204) == 4
    assert world.inside.count(f"/orders/{HOT}") == 5


@pytest.mark.parametrize("spelt", [HOT.hex, f"{{{HOT}}}", HOT.urn, str(HOT).upper()])
async def test_another_spelling_of_the_order_stands_in_the_same_line(spelt: str) -> None:
    world = World(maximum_per_order=2)
    hot = await world.crowd(2, f"/orders/{HOT}")
    assert (await world.ask("DELETE", f"/orders/{spelt}")).status_code == 423
    world.gate.set()
    await asyncio.gather(*hot)


async def test_whoever_waits_too_long_is_refused_and_leaves_nothing_behind() -> None:
    world = World(wait_seconds=0.05)
    hot = await world.crowd(2, f"/orders/{HOT}")
    late = await world.ask("PATCH", f"/orders/{HOT}")
    assert (late.status_code, late.headers["retry-after"]) == (423, "1")
    world.gate.set()
    await asyncio.gather(*hot)
    assert [(await world.ask("PATCH", f"/orders/{HOT}")).status_code for _ in range(5)] == [204] * 5
    assert not world.app._lines


@pytest.mark.parametrize(
    "world",
    [World(maximum_per_order=2), World(wait_seconds=0.05)],
    ids=["too many", "too long"],
)
async def test_a_repetition_is_not_refused_outside_where_its_answer_is_not_known(
    world: World,
) -> None:
    hot = await world.crowd(2, f"/orders/{HOT}")
    repeated = asyncio.create_task(
        world.ask("PATCH", f"/orders/{HOT}", ("Idempotency-Key", "first"))
    )
    await world.holds(INSIDE_PER_ORDER + 1)
    world.gate.set()
    assert (await repeated).status_code == 204
    await asyncio.gather(*hot)
