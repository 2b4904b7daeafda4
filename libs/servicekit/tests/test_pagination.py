"""Cursors."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicekit.pagination import CursorCodec
from servicekit.problems import ValidationFailed


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_a_position_survives_the_way_out_and_back(position: list[str]) -> None:
    codec = CursorCodec("list")
    assert codec.decode(codec.encode(*position), parts=len(position)) == tuple(position)


@given(st.text(max_size=200))
def test_a_text_that_was_not_made_here_is_refused(text: str) -> None:
    with pytest.raises(ValidationFailed):
        CursorCodec("list").decode(text, parts=1)


@pytest.mark.parametrize(("scope", "parts"), [("other list", 2), ("list", 3)])
def test_the_cursor_of_another_list_is_refused(scope: str, parts: int) -> None:
    cursor = CursorCodec("list").encode("a", "b")
    with pytest.raises(ValidationFailed):
        CursorCodec(scope).decode(cursor, parts=parts)


def forged(payload: bytes) -> str:
    """A cursor with a right check, which everybody can compute."""
    key = hashlib.sha256(b"list").digest()
    check = hashlib.blake2b(payload, key=key, digest_size=8).digest()
    return base64.urlsafe_b64encode(check + payload).rstrip(b"=").decode()


def test_a_cursor_can_be_forged() -> None:
    assert CursorCodec("list").decode(forged(b'["a"]'), parts=1) == ("a",)


@pytest.mark.parametrize(
    "payload",
    [b"", b"7", b"null", b'"a"', b'{"a":1}', b"[1]", b"[null]", b'[["a"]]', b"[" * 1400, b"\xff"],
)
def test_whatever_a_forged_cursor_holds_it_is_refused_and_no_error(payload: bytes) -> None:
    with pytest.raises(ValidationFailed):
        CursorCodec("list").decode(forged(payload), parts=1)
