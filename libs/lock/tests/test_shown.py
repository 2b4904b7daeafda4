from typing import Any

import pytest

from fencelock import ConfigurationError, InvalidName, Kind
from fencelock._names import normalise
from fencelock._protocol import validate_wait
from fencelock._shown import SHOWN_MAX, shown


class Unshowable:
    def __repr__(self) -> str:
        raise ValueError("no")


UNSHOWABLE: list[Any] = [Unshowable(), 10**5000, -(10**5000)]


@pytest.mark.parametrize("value", UNSHOWABLE, ids=["raises", "huge", "tiny"])
def test_what_cannot_be_shown_is_refused_like_anything_else(value: Any) -> None:
    with pytest.raises(ConfigurationError):
        validate_wait(value)
    with pytest.raises(ConfigurationError):
        Kind.permits(value)
    with pytest.raises(InvalidName):
        normalise([value])
    with pytest.raises(InvalidName):
        normalise(value)


def test_what_is_long_is_cut() -> None:
    assert shown("short") == "'short'"
    assert len(shown("x" * 1_000_000)) < SHOWN_MAX + 50
    with pytest.raises(InvalidName) as caught:
        normalise(["x" * 1_000_000])
    assert len(str(caught.value)) < SHOWN_MAX + 300


def test_names_in_many_slots_are_refused_in_a_few_words() -> None:
    with pytest.raises(InvalidName) as caught:
        normalise([f"{'x' * 200}:{index}" for index in range(1001)])
    assert len(str(caught.value)) < 300
    with pytest.raises(ValueError, match="and 996 more") as crossed:
        normalise([f"{'x' * 200}:{index}" for index in range(1000)])
    assert len(str(crossed.value)) < 2000
