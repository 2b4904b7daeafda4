from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fencelock import NotOwner
from fencelock._proof import decode, encode
from fencelock._protocol import Request, new_client_id


@given(fence=st.integers(min_value=1, max_value=9_007_199_254_740_991))
def test_a_proof_says_who_and_which_fence(fence: int) -> None:
    request = Request(("a",), new_client_id(), 10.0)
    assert decode(encode(request.owner, request.secret, fence)) == (request.owner, fence)


def test_a_proof_fits_an_http_header() -> None:
    request = Request(("a",), new_client_id(), 10.0)
    proof = encode(request.owner, request.secret, 1_795_373_943_855_033)
    assert proof.isascii()
    assert proof.isprintable()
    assert " " not in proof
    assert len(proof) < 64


def test_what_the_server_knows_is_no_proof() -> None:
    request = Request(("a",), new_client_id(), 10.0)
    stolen = decode(f"f1.{request.owner}.7")
    assert stolen.owner != request.owner


@pytest.mark.parametrize("value", [None, 5, b"f1.", ["f1"]])
def test_what_is_no_text_is_refused_alike(value: Any) -> None:
    with pytest.raises(NotOwner):
        decode(value)


@given(text=st.text(max_size=80))
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(NotOwner):
        decode(text)
