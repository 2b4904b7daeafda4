"""Keys, request hashes and stored answers."""

from decimal import Decimal

import pytest
from starlette.datastructures import Headers

from servicekit import idempotency
from servicekit.idempotency import StoredResponse, parse_key, request_hash
from servicekit.problems import ValidationFailed


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("abc", "abc"),
        ('"abc"', "abc"),
        (' "a b" ', "a b"),
        (r'"a\"b\\c"', r'a"b\c'),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
    ],
)
def test_a_key_is_taken_quoted_as_in_the_draft_or_bare(value: str, key: str) -> None:
    assert parse_key(value) == key


@pytest.mark.parametrize(
    "value", ["", '""', "a b", '"open', 'open"', r'"bad \x escape"', "ü", "x" * 256]
)
def test_what_is_no_key_is_refused(value: str) -> None:
    with pytest.raises(ValidationFailed):
        parse_key(value)


def test_the_hash_depends_on_operation_and_content_but_not_on_the_order_of_keys() -> None:
    first = request_hash("POST /x", {"a": 1, "b": Decimal("1.00")})
    assert first == request_hash("POST /x", {"b": Decimal("1.00"), "a": 1})
    assert first != request_hash("PATCH /x", {"a": 1, "b": Decimal("1.00")})
    assert first != request_hash("POST /x", {"a": 1, "b": Decimal("1.01")})


def test_a_stored_answer_is_replayed_byte_for_byte() -> None:
    stored = StoredResponse(
        201, (("ETag", '"1"'), ("Content-Type", "application/json")), b'{"a":1}'
    )
    response = stored.to_response()
    assert (response.status_code, response.body) == (201, b'{"a":1}')
    assert response.raw_headers == [
        (b"etag", b'"1"'),
        (b"content-type", b"application/json"),
        (b"content-length", b"7"),
    ]


def test_an_answer_without_content_has_no_length() -> None:
    assert StoredResponse(204, (), b"").to_response().raw_headers == []


def test_a_header_that_has_one_value_is_refused_with_two() -> None:
    lines = [(b"idempotency-key", b"a"), (b"idempotency-key", b"b")]
    with pytest.raises(ValidationFailed, match="more than once"):
        idempotency.require_one_line(Headers(raw=lines), "Lock-Token", "Idempotency-Key")
    idempotency.require_one_line(Headers(raw=lines[:1]), "Idempotency-Key")
    idempotency.require_one_line(Headers(), "Idempotency-Key")
