import string

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fencelock import _wire

DIGEST = "d" * 40
ascii_words = st.text(string.printable, max_size=200)
some = st.lists(ascii_words, max_size=20).map(tuple)


@given(keys=some, args=some, moment=ascii_words)
def test_it_is_what_hiredis_would_send(
    keys: tuple[str, ...], args: tuple[str, ...], moment: str
) -> None:
    last = (moment,) if moment else ()
    words = ("EVALSHA", DIGEST, str(len(keys)), *keys, *args, *last)

    packed = _wire.call(DIGEST, keys, args, moment)

    assert packed == hiredis.pack_command(words)


def test_what_is_remembered_of_one_call_does_not_show_in_another() -> None:
    first = _wire.call(DIGEST, ("key",), ("me", "same"), "1")
    second = _wire.call(DIGEST, ("key",), ("you!", "same"), "12")

    assert first == _wire.call(DIGEST, ("key",), ("me", "same"), "1")
    assert second.endswith(b"$4\r\nyou!\r\n$4\r\nsame\r\n$2\r\n12\r\n")


def test_what_is_not_ascii_is_refused_rather_than_sent_with_a_wrong_length() -> None:
    with pytest.raises(UnicodeEncodeError):
        _wire.call(DIGEST, ("key",), ("me", "café"))
