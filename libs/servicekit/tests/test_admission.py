"""Who may begin, who waits, and who is refused."""

import asyncio

import pytest

from servicekit.admission import Places, Refused


async def entering(places: Places, *, reads: bool, within: float = 60.0) -> "asyncio.Task[None]":
    task = asyncio.create_task(places.enter(reads=reads, within_seconds=within))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_the_oldest_request_gets_the_next_place_whatever_it_wants() -> None:
    places = Places(2)
    for _ in range(2):
        await places.enter(reads=True, within_seconds=1)
    wanted = (False, True, False)
    waiting = [await entering(places, reads=reads) for reads in wanted]
    for leaving, turn in zip((True, True, False), waiting, strict=True):
        assert not turn.done()
        places.leave(reads=leaving, after_seconds=0.0)
        await turn


async def test_changes_leave_places_for_reads() -> None:
    places = Places(4)
    for _ in range(3):
        await places.enter(reads=False, within_seconds=1)
    change = await entering(places, reads=False)
    assert not change.done()
    await places.enter(reads=True, within_seconds=1)
    places.leave(reads=False, after_seconds=0.01)
    await change


@pytest.mark.parametrize("maximum", range(1, 9))
async def test_however_few_places_there_are_changes_leave_one_for_reads(maximum: int) -> None:
    places = Places(maximum)
    changes = [await entering(places, reads=False) for _ in range(2 * maximum)]
    assert 1 <= sum(change.done() for change in changes) <= maximum
    for _ in range(2):  # a place that a read gave back is not for changes either
        await places.enter(reads=True, within_seconds=1)
        places.leave(reads=True, after_seconds=0.0)
    for _ in changes:
        places.leave(reads=False, after_seconds=0.0)
    await asyncio.gather(*changes)
    assert (places.busy, places.waiting) == (0, 0)


@pytest.mark.parametrize("maximum", range(1, 9))
async def test_reads_take_all_places_and_none_beside_them(maximum: int) -> None:
    places = Places(maximum)
    reads = [await entering(places, reads=True) for _ in range(2 * maximum)]
    change = await entering(places, reads=False)
    assert (sum(read.done() for read in reads), change.done()) == (maximum, False)
    for _ in reads:
        places.leave(reads=True, after_seconds=0.0)
    await asyncio.gather(*reads, change)


async def test_200_requests_on_few_places_are_all_served_if_there_is_time() -> None:
    places = Places(8)
    served = 0

    async def request() -> None:
        nonlocal served
        await places.enter(reads=False, within_seconds=60)
        await asyncio.sleep(0)
        places.leave(reads=False, after_seconds=0.0)
        served += 1

    await asyncio.gather(*(request() for _ in range(200)))
    assert (served, places.busy, places.waiting) == (200, 0, 0)


async def test_a_request_that_could_not_be_answered_in_time_is_refused_at_once() -> None:
    places = Places(1)
    await places.enter(reads=True, within_seconds=1)
    places.leave(reads=True, after_seconds=100.0)  # so it takes about ten seconds
    await places.enter(reads=True, within_seconds=1)
    with pytest.raises(Refused) as refused:
        await places.enter(reads=True, within_seconds=5)
    assert 5 <= refused.value.retry_after_seconds <= 30
    assert places.waiting == 0


async def test_a_turn_that_comes_too_late_to_end_in_time_is_not_taken() -> None:
    places = Places(1)
    await places.enter(reads=True, within_seconds=60)
    places.leave(reads=True, after_seconds=100.0)  # so it takes about ten seconds
    await places.enter(reads=True, within_seconds=60)
    # Twelve seconds are enough for a typical one, but half of all take longer.
    with pytest.raises(Refused):
        await places.enter(reads=True, within_seconds=12)
    assert places.waiting == 0


async def test_a_request_whose_turn_does_not_come_in_time_is_refused() -> None:
    places = Places(1)
    await places.enter(reads=True, within_seconds=1)
    with pytest.raises(Refused):
        await places.enter(reads=True, within_seconds=0.1)
    places.leave(reads=True, after_seconds=0.0)
    await places.enter(reads=True, within_seconds=1)


async def test_a_request_that_is_cancelled_as_its_turn_comes_passes_the_place_on() -> None:
    places = Places(1)
    await places.enter(reads=True, within_seconds=1)
    first, second = [await entering(places, reads=True) for _ in range(2)]
    places.leave(reads=True, after_seconds=0.0)
    first.cancel()
    await second
    with pytest.raises(asyncio.CancelledError):
        await first
    places.leave(reads=True, after_seconds=0.0)
    assert (places.busy, places.waiting) == (0, 0)
