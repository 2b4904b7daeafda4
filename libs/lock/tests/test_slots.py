import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis.crc import key_slot

from fencelock import _slots
from fencelock._protocol import Request
from fencelock._scripts import packaged
from fencelock._slots import SLOTS, placed, slot_of, slot_of_command, tag


@pytest.mark.parametrize("slot", [0, 1, 8191, 16383])
def test_a_tag_leads_to_its_slot_and_is_short(slot: int) -> None:
    assert key_slot(f"fencelock:fence:{{{tag(slot)}}}".encode()) == slot
    assert len(tag(slot)) <= 6


def test_a_tag_is_the_same_whatever_was_asked_for_before() -> None:
    first = tag(77)
    for slot in range(0, SLOTS, 1000):
        tag(slot)
    assert tag(77) == first


@pytest.mark.parametrize(
    ("slot", "expected"), [(0, "265b"), (77, "491c4"), (9000, "4695b"), (key_slot(b"f00"), "f00")]
)
def test_a_tag_never_changes(slot: int, expected: str) -> None:
    """The counters of the fences are called after it."""
    assert tag(slot) == expected


def test_no_smaller_number_leads_to_the_same_slot() -> None:
    first: dict[int, str] = {}
    for number in range(20_000):
        first.setdefault(key_slot(f"{number:x}".encode()), f"{number:x}")
    assert {slot: tag(slot) for slot in first} == first


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns at nearly every step."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_clients_in_several_threads_find_tags_at_once() -> None:
    for each in (_slots.tag, _slots._shortest, _slots._last_digits):
        each.cache_clear()
    slots = range(0, SLOTS, 7)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: [tag(slot) for slot in slots], range(4)))
    assert all(each == [tag(slot) for slot in slots] for each in found)


def test_the_fence_counter_lies_where_the_names_are() -> None:
    request = Request(("invoice:{7}", "order:{7}"), "client", 10.0)
    acquire = placed(request.acquire(packaged(), "queue", 1.0))
    assert len({slot_of(key) for key in acquire.keys}) == 1
    release = placed(request.release(packaged(), queued=False))
    assert release.keys == acquire.keys
    assert slot_of_command(request.release(packaged(), queued=False)) == slot_of("{7}")
