import asyncio

from fencelock._clock import now
from fencelock._protocol import Blocked, Granted, Push, Request, Watch
from fencelock._waiting import Waiter, WaitingRoom


def enter(room: WaitingRoom, *names: str) -> Waiter:
    request = Request(names, "clientclien", 10.0)
    waiter = Waiter(asyncio.get_running_loop(), request, (0.0, 0.0))
    room.enter(waiter)
    return waiter


def blocked(remaining: float | None) -> Blocked:
    return Blocked(
        queued=True, lost_place=False, remaining=remaining, blocker=None, stamp=(0.0, 0.0)
    )


def soon() -> float:
    return now() + 30.0


async def test_a_push_wakes_the_one_it_is_for() -> None:
    room = WaitingRoom(asyncio.get_running_loop())
    first, second = enter(room, "a"), enter(room, "a")
    room.pushed(Push(second.request.owner, Granted(5, 3.0, 1.0), None))
    assert await second.woken(soon())
    assert second.push is not None
    assert second.push.granted.fence == 5
    assert first.push is None
    room.leave(first)
    room.leave(second)
    assert len(room) == 0


async def test_a_push_for_somebody_who_left_is_ignored() -> None:
    room = WaitingRoom(asyncio.get_running_loop())
    waiter = enter(room, "a")
    room.leave(waiter)
    room.leave(waiter)
    room.pushed(Push(waiter.request.owner, Granted(5, 3.0, 1.0), None))
    room.pushed(Watch("{a}", 3.0))
    assert waiter.push is None


async def test_time_up_is_told_apart_from_being_woken() -> None:
    room = WaitingRoom(asyncio.get_running_loop())
    waiter = enter(room, "a")
    assert not await waiter.woken(now() + 0.01)
    room.ask_all()
    assert await waiter.woken(soon())
    room.leave(waiter)


async def test_only_the_first_in_line_asks_when_the_lease_is_over() -> None:
    room = WaitingRoom(asyncio.get_running_loop())
    waiters = [enter(room, "a") for _ in range(3)]
    for waiter in waiters:
        room.blocked(waiter, blocked(0.01))
    assert await waiters[0].woken(soon())
    others = [asyncio.ensure_future(waiter.woken(soon())) for waiter in waiters[1:]]
    done, _ = await asyncio.wait(others, timeout=0.05)
    assert not done
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def test_the_next_asks_when_the_first_has_left() -> None:
    room = WaitingRoom(asyncio.get_running_loop())
    first, second = enter(room, "a"), enter(room, "a")
    room.blocked(first, blocked(0.01))
    room.leave(first)
    assert await second.woken(soon())
    room.leave(second)


async def test_a_new_holder_elsewhere_moves_the_question() -> None:
    room = WaitingRoom(asyncio.get_running_loop())
    waiter = enter(room, "a")
    room.blocked(waiter, blocked(60.0))
    room.pushed(Watch("{a}", 0.01))
    assert await waiter.woken(soon())
    assert waiter.push is None
    room.leave(waiter)


async def test_an_unknown_blocker_is_asked_about_too() -> None:
    room = WaitingRoom(asyncio.get_running_loop())
    waiter = enter(room, "a", "b")
    room.blocked(waiter, blocked(None))
    assert await waiter.woken(soon())
    room.leave(waiter)


async def test_mates_are_those_in_the_same_lines() -> None:
    room = WaitingRoom(asyncio.get_running_loop())
    pair, mate, stranger = enter(room, "a", "b"), enter(room, "b"), enter(room, "c")
    room.lost_place(pair)
    assert await mate.woken(soon())
    assert not await stranger.woken(now())


async def test_a_push_that_overtakes_the_answer_is_kept() -> None:
    room = WaitingRoom(asyncio.get_running_loop())
    request = Request(("a",), "clientclien", 10.0)
    room.expect(request.owner)
    room.pushed(Push(request.owner, Granted(5, 3.0, 1.0), None))
    waiter = Waiter(asyncio.get_running_loop(), request, (0.0, 0.0))
    room.enter(waiter)
    assert await waiter.woken(soon())
    assert waiter.push is not None
    room.leave(waiter)
    room.forget(request.owner)
    room.pushed(Push(request.owner, Granted(6, 3.0, 1.0), None))
