"""Every request that is not acceptable is refused by name, and nothing is written."""

import json
import uuid
from typing import Any

import httpx
import pytest
from apps.invoice.tests.shop import USER, Query

GOOD: dict[str, Any] = {"user_id": str(USER), "total": "1.00"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user_id": "17"}, "user_id"),
        ({"user_id": None}, "user_id"),
        ({"user_id": 17}, "user_id"),
        ({"total": "-0.01"}, "total"),
        ({"total": "1.001"}, "total"),
        ({"total": "10000000000000000"}, "total"),
        ({"total": "abc"}, "total"),
        ({"total": "NaN"}, "total"),
        ({"total": "Infinity"}, "total"),
        ({"total": None}, "total"),
        ({"total": True}, "total"),
        ({"total": [1]}, "total"),
        ({"order_id": "x"}, "order_id"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_field_is_named(
    client: httpx.AsyncClient, query: Query, change: dict[str, Any], field: str
) -> None:
    answer = await client.post("/invoices", json=GOOD | change)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["type"] == "/problems/validation-failed"
    assert [error["field"] for error in body["errors"]] == [field]
    assert field in body["detail"]
    assert await query("SELECT * FROM applied_operations") == []


@pytest.mark.parametrize("missing", ["user_id", "total"])
async def test_a_missing_field_is_named(client: httpx.AsyncClient, missing: str) -> None:
    body = {key: value for key, value in GOOD.items() if key != missing}
    answer = await client.post("/invoices", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == missing


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"not json",
        json.dumps(GOOD).encode() + b" and rubbish",
        json.dumps(GOOD).encode() * 2,
        b'{"user_id": "%s", "total": NaN}' % str(USER).encode(),
        b'{"user_id": "%s", "total": 1, "total": 2}' % str(USER).encode(),
        b'{"user_id": "%s", "total": 1e999999999}' % str(USER).encode(),
        b'{"total": "\xff"}',
        b"[" * 5000,
    ],
)
async def test_a_body_that_is_not_one_json_document_is_refused(
    client: httpx.AsyncClient, body: bytes
) -> None:
    answer = await client.post("/invoices", content=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["type"] == "/problems/malformed-json"


@pytest.mark.parametrize("body", [b"", b"[]", b'"text"', b"17", b"null"])
async def test_a_body_that_is_not_an_object_is_refused(
    client: httpx.AsyncClient, body: bytes
) -> None:
    answer = await client.post("/invoices", content=body)
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/validation-failed"


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_large_is_refused_whether_announced_or_not(
    client: httpx.AsyncClient, announced: bool
) -> None:
    body = json.dumps(GOOD | {"colour": "x" * 70_000}).encode()

    async def chunks() -> Any:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    answer = await client.post("/invoices", content=body if announced else chunks())
    assert answer.status_code == 413
    assert answer.json()["type"] == "/problems/body-too-large"


async def test_another_media_type_is_refused_with_the_remedy(client: httpx.AsyncClient) -> None:
    answer = await client.post("/invoices", data={"total": "1"})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"129.90", "129.90"),
        (b'"129.90"', "129.90"),
        (b"0", "0.00"),
        (b"9999999999999999.99", "9999999999999999.99"),
        # As a float this one would become 0.28999999999999998 or 90071992547409.92.
        (b"0.29", "0.29"),
        (b"90071992547409.91", "90071992547409.91"),
    ],
)
async def test_money_is_exact_from_the_request_to_the_answer(
    client: httpx.AsyncClient, query: Query, sent: bytes, answered: str
) -> None:
    body = b'{"user_id": "%s", "total": %s}' % (str(USER).encode(), sent)
    answer = await client.post("/invoices", content=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["total"] == answered
    read = await client.get(answer.headers["location"])
    assert read.json()["total"] == answered
    (row,) = await query("SELECT total::text AS total FROM invoices")
    assert row["total"] == answered


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Idempotency-Key", ""),
        ("Idempotency-Key", "x" * 256),
        ("Idempotency-Key", '"open'),
        ("Idempotency-Key", "two words"),
        ("If-Match", "17"),
        ("If-Match", '"1'),
        ("Request-Timeout-Ms", "soon"),
        ("Request-Timeout-Ms", "-1"),
    ],
)
async def test_a_wrong_header_is_named(client: httpx.AsyncClient, header: str, value: str) -> None:
    answer = await client.post("/invoices", json=GOOD, headers={header: value})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == header


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/invoices/17", "invoice_id"),
        ("/operations/17", "op_id"),
        ("/invoices?limit=0", "limit"),
        ("/invoices?limit=201", "limit"),
        ("/invoices?limit=many", "limit"),
        ("/invoices?status=paid", "status"),
        ("/invoices?user_id=me", "user_id"),
        ("/invoices?colour=red", "colour"),
        ("/invoices?limit=1&limit=2", "limit"),
        ("/invoices?limit=1&status=paid&li%6Dit=1", "limit"),
        ("/invoices?cursor&cursor=", "cursor"),
        (f"/invoices?user_id={uuid.UUID(int=1)}&user_id={uuid.UUID(int=1)}", "user_id"),
        ("/invoices?status=created&status=created", "status"),
        (f"/operations/{uuid.UUID(int=1)}?invoice_id={uuid.UUID(int=1)}&invoice_id=", "invoice_id"),
    ],
)
async def test_a_wrong_parameter_is_named(client: httpx.AsyncClient, path: str, field: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


async def test_unknown_paths_and_methods_answer_problem_details(
    client: httpx.AsyncClient,
) -> None:
    nothing = await client.get("/nothing")
    assert (nothing.status_code, nothing.json()["type"]) == (404, "/problems/not-found")
    method = await client.put("/invoices", json={})
    assert (method.status_code, method.json()["type"]) == (405, "/problems/method-not-allowed")
    assert {part.strip() for part in method.headers["allow"].split(",")} >= {"POST"}


async def test_problems_carry_the_trace_id_that_the_caller_sent(
    client: httpx.AsyncClient,
) -> None:
    trace_id = uuid.uuid4().hex
    answer = await client.get(
        "/nothing", headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    )
    assert answer.json()["trace_id"] == trace_id
