import pytest
from redis.crc import key_slot

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


def test_the_fence_counter_lies_where_the_names_are() -> None:
    request = Request(("invoice:{7}", "order:{7}"), "client", 10.0)
    acquire = placed(request.acquire(packaged(), "queue", 1.0))
    assert len({slot_of(key) for key in acquire.keys}) == 1
    release = placed(request.release(packaged(), queued=False))
    assert release.keys == acquire.keys
    assert slot_of_command(request.release(packaged(), queued=False)) == slot_of("{7}")
