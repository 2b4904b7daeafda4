import pytest
from hypothesis import given
from hypothesis import strategies as st

from fencelock import NotOwner
from fencelock._proof import decode, encode
from fencelock._protocol import Request, new_client_id


@given(fence=st.integers(min_value=1, max_value=9_007_199_254_740_991))
def test_a_proof_says_who_and_which_fence(fence: int) -> None:
    owner = Request(("a",), new_client_id(), 10.0).owner
    assert decode(encode(owner, fence)) == (owner, fence)


def test_a_proof_fits_an_http_header() -> None:
    proof = encode(Request(("a",), new_client_id(), 10.0).owner, 1_795_373_943_855_033)
    assert proof.isascii()
    assert proof.isprintable()
    assert " " not in proof
    assert len(proof) < 64


@given(text=st.text(max_size=80))
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(NotOwner):
        decode(text)
