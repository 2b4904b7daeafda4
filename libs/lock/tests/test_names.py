from typing import Any

import pytest

from fencelock import CrossSlot, InvalidName
from fencelock._names import MAX_NAME_LENGTH, MAX_NAMES, body, lock_class, normalise

LONG = "x" * (MAX_NAME_LENGTH + 1)


def test_names_are_sorted_and_without_duplicates() -> None:
    assert normalise(["order:{7}", "invoice:{7}", "order:{7}"]) == ("invoice:{7}", "order:{7}")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "a\n",
        "\u00e4",
        "a{}",
        "a{b",
        "a}b",
        "{a}{b}",
        "{{a}}",
        "x" * (MAX_NAME_LENGTH + 1),
    ],
)
def test_a_name_outside_the_rules_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        normalise([name])


@pytest.mark.parametrize("names", ["order:1", b"order:1", None, 5, [["order:1"]], [b"order:1"]])
def test_names_that_are_no_list_of_text_are_refused(names: Any) -> None:
    """Above all one name without a list around it, which would be taken for its letters."""
    with pytest.raises(InvalidName):
        normalise(names)


def test_at_least_one_name_is_needed() -> None:
    with pytest.raises(InvalidName):
        normalise([])


def test_names_in_different_slots_are_refused_with_a_way_out() -> None:
    with pytest.raises(CrossSlot, match=r"order:\{42\}") as caught:
        normalise(["order:1", "invoice:1"])
    assert "slot" in str(caught.value)


def test_a_common_hash_tag_is_one_slot() -> None:
    assert len(normalise([f"{kind}:{{42}}" for kind in "abcdef"])) == 6


def test_every_key_of_a_name_has_a_hash_tag() -> None:
    assert body("order:{42}") == "order:{42}"
    assert body("report") == "{report}"


def test_the_class_is_what_stands_before_the_first_colon() -> None:
    assert [lock_class(name) for name in ("order:{42}", "a:b:c", "report", "{7}:x")] == [
        "order",
        "a",
        "other",
        "other",
    ]


def test_a_name_and_the_same_in_braces_are_one() -> None:
    assert normalise(["x", "{x}"]) == ("x",)
    assert normalise(["{x}"]) == ("{x}",)


def test_there_is_a_limit_to_the_names_of_one_lock() -> None:
    assert len(normalise([f"{index}:{{7}}" for index in range(MAX_NAMES)])) == MAX_NAMES
    with pytest.raises(InvalidName, match=str(MAX_NAMES)):
        normalise([f"{index}:{{7}}" for index in range(MAX_NAMES + 1)])
