"""Strict JSON."""

from decimal import Decimal

import pytest

from servicekit.json_body import MalformedJson, loads


def test_numbers_are_exact() -> None:
    assert loads(b'{"a": 0.1, "b": 7, "c": 1e2}') == {
        "a": Decimal("0.1"),
        "b": 7,
        "c": Decimal("1e2"),
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{} {}",
        b"NaN",
        b"-Infinity",
        b"1e999999999",
        b"1" * 5000,
        b'{"a": 1, "a": 1}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_what_is_not_one_unambiguous_document_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedJson):
        loads(body)


def test_a_byte_order_mark_is_refused_in_our_own_words() -> None:
    with pytest.raises(MalformedJson, match="byte order mark"):
        loads(b"\xef\xbb\xbf{}")


def test_a_zero_keeps_its_sign_until_somebody_judges_it() -> None:
    assert str(loads(b"-0")) == "-0"
