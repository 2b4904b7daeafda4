import asyncio
from collections.abc import Callable, Sequence
from itertools import count

import pytest
from libs.lock.tests.eventually import eventually

from fencelock import RedisUnavailable
from fencelock._clock import now
from fencelock._instrumentation import LossReason
from fencelock._keeper import Keeper
from fencelock._protocol import RENEWED_KEYS_MAX, Request, Term

_NUMBERS = count()


class Lease:
    """A lease that only records what happens to it."""

    def __init__(self, ttl: float, *, cap: float = 3600.0) -> None:
        began = now()
        self.request = Request((f"a{next(_NUMBERS)}",), "clientclien", ttl)
        self.term = Term(ttl=ttl, max_hold=cap)
        self.term.grant(began, ttl)
        self.lost: list[LossReason] = []
        self.renewals: list[bool] = []

    def lose(self, reason: LossReason) -> None:
        self.lost.append(reason)

    def report_renewal(self, *, extended: bool) -> None:
        self.renewals.append(extended)


class Server:
    """Answers renewals as it is told."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.answer: Callable[[], bool] = lambda: True
        self.silent = False

    async def renew(
        self, leases: Sequence[tuple[Request, float]], deadline: float
    ) -> tuple[list[bool], float]:
        self.batches.append(len(leases))
        if self.silent:
            await asyncio.sleep(deadline - now())
            raise RedisUnavailable("silence")
        return [self.answer() for _ in leases], now()


@pytest.fixture
def server() -> Server:
    return Server()


async def test_leases_that_are_due_together_share_a_call(server: Server) -> None:
    keeper = Keeper(asyncio.get_running_loop(), server.renew)
    leases = [Lease(6.0) for _ in range(20)]
    for lease in leases:
        keeper.add(lease)

    async def renewed() -> bool:
        return all(lease.renewals for lease in leases)

    await eventually(renewed, "all renewed")
    assert server.batches == [20]
    await keeper.close()


async def test_silence_ends_a_lease_at_its_own_deadline(server: Server) -> None:
    server.silent = True
    keeper = Keeper(asyncio.get_running_loop(), server.renew)
    lease = Lease(0.3)
    keeper.add(lease)

    async def lost() -> bool:
        return lease.lost == ["expired"]

    await eventually(lost, "lost by the local clock")
    assert now() >= lease.term.deadline
    assert len(keeper) == 0
    await keeper.close()


async def test_a_refused_renewal_ends_the_lease_at_once(server: Server) -> None:
    server.answer = lambda: False
    keeper = Keeper(asyncio.get_running_loop(), server.renew)
    lease = Lease(1.5)
    keeper.add(lease)

    async def lost() -> bool:
        return lease.lost == ["taken"]

    await eventually(lost, "taken")
    assert lease.renewals == [False]
    await keeper.close()


async def test_the_cap_ends_a_lease_without_renewals(server: Server) -> None:
    keeper = Keeper(asyncio.get_running_loop(), server.renew)
    lease = Lease(0.3, cap=0.1)
    keeper.add(lease)

    async def lost() -> bool:
        return lease.lost == ["max_hold"]

    await eventually(lost, "capped")
    assert server.batches == []
    await keeper.close()


async def test_a_lease_that_was_given_back_is_left_alone(server: Server) -> None:
    keeper = Keeper(asyncio.get_running_loop(), server.renew)
    short, long = Lease(0.2), Lease(1.0)
    keeper.add(short)
    keeper.add(long)
    assert keeper.discard(short)
    assert not keeper.discard(short)

    async def renewed() -> bool:
        return bool(long.renewals)

    await eventually(renewed, "the other one renewed")
    assert (short.lost, short.renewals) == ([], [])
    await keeper.close()


async def test_closing_stops_a_renewal_under_way(server: Server) -> None:
    server.silent = True
    keeper = Keeper(asyncio.get_running_loop(), server.renew)
    lease = Lease(9.0)
    lease.term.renew_at = 0.0
    keeper.add(lease)

    async def asked() -> bool:
        return bool(server.batches)

    await eventually(asked, "a renewal under way")
    await keeper.close()
    assert lease.lost == []


@pytest.mark.parametrize("module", ["asyncio", "uvloop"])
def test_a_lease_may_come_while_the_timer_is_overdue(server: Server, module: str) -> None:
    """uvloop's timers in the past cannot say when they are due."""
    loops = pytest.importorskip(module)

    async def add_two() -> None:
        keeper = Keeper(asyncio.get_running_loop(), server.renew)
        overdue, next_one = Lease(9.0), Lease(9.0)
        overdue.term.renew_at = 0.0
        keeper.add(overdue)
        keeper.add(next_one)

        async def renewed() -> bool:
            return bool(overdue.renewals)

        await eventually(renewed, "the overdue one renewed")
        assert len(keeper) == 2
        await keeper.close()

    with asyncio.Runner(loop_factory=loops.new_event_loop) as runner:
        runner.run(add_two())


async def test_a_lease_whose_end_raises_spares_the_others(server: Server) -> None:
    class Raising(Lease):
        def lose(self, reason: LossReason) -> None:
            raise ValueError(reason)

        def report_renewal(self, *, extended: bool) -> None:
            raise ValueError(extended)

    keeper = Keeper(asyncio.get_running_loop(), server.renew)
    bad, good = Raising(0.9, cap=0.4), Lease(0.9)
    keeper.add(bad)
    keeper.add(good)

    async def renewed_after() -> bool:
        return len(keeper) == 1 and len(good.renewals) > 1

    await eventually(renewed_after, "the bad one is over and the good one renewed")
    assert good.lost == []
    await keeper.close()


async def test_many_leases_are_renewed_in_bounded_batches(server: Server) -> None:
    keeper = Keeper(asyncio.get_running_loop(), server.renew)
    leases = [Lease(1.5) for _ in range(2 * RENEWED_KEYS_MAX + 1)]
    for lease in leases:
        keeper.add(lease)

    async def renewed() -> bool:
        return all(lease.renewals for lease in leases)

    await eventually(renewed, "all renewed")
    assert max(server.batches) == RENEWED_KEYS_MAX
    await keeper.close()


async def test_a_lease_as_long_as_its_cap_is_not_renewed(server: Server) -> None:
    keeper = Keeper(asyncio.get_running_loop(), server.renew)
    lease = Lease(0.4, cap=0.4)
    keeper.add(lease)

    async def over() -> bool:
        return lease.lost == ["max_hold"]

    await eventually(over, "over at its cap")
    assert server.batches == []
    await keeper.close()
