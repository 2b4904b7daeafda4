"""A database that says nothing costs a request its own time, and hardly more."""

import time
import uuid
from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from apps.order.tests.fakes import FakeInvoices
from apps.order.tests.test_truth import served

from devkit.database_proxy import DatabaseProxy
from order.settings import Settings

DEADLINE_SECONDS = 0.5
# Psycopg alone adds ten seconds for each statement.
PATIENCE_SECONDS = 8.0
ORDER = f"/orders/{uuid.uuid4()}"
OPERATION = f"/operations/{uuid.uuid4()}"


class Call(NamedTuple):
    method: str
    path: str
    json: object = None


CALLS = [
    Call("GET", "/orders"),
    Call("GET", "/operations"),
    Call("GET", ORDER),
    Call("GET", OPERATION),
    Call(
        "PATCH",
        ORDER,
        {"value": "1.00", "update_time": datetime.now(UTC).isoformat()},
    ),
    Call("DELETE", ORDER),
    Call("POST", f"{OPERATION}/cancel"),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path[:8]}")
@pytest.mark.parametrize("connected", [True, False])
async def test_a_request_ends_when_its_time_does_though_no_statement_is_answered(
    behind: Settings, proxy: DatabaseProxy, invoices: FakeInvoices, call: Call, *, connected: bool
) -> None:
    async with served(behind, invoices) as client:
        if connected:
            await client.request(*call[:2], json=call.json)
        proxy.go_dark()
        try:
            began = time.monotonic()
            answer = await client.request(
                *call[:2],
                json=call.json,
                headers={"Request-Timeout-Ms": f"{DEADLINE_SECONDS * 1000:.0f}"},
            )
            took = time.monotonic() - began
        finally:
            proxy.go_dark(dark=False)
    assert (answer.status_code, took < PATIENCE_SECONDS) == (503, True), (took, answer.text)
    # A change ends its own waits, and so knows what it has done.
    assert ("Nothing was written" in answer.text) == (call.method != "GET")
