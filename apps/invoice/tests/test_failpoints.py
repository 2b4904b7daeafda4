"""Failing at any step leaves all of a change or nothing, and a repetition completes it."""

import uuid
from collections.abc import Awaitable, Callable

import httpx
import pytest
from apps.invoice.tests.shop import Query, Shop
from fastapi import FastAPI

from invoice import failpoints
from invoice.domain import invoice_id_for_order
from servicekit.failpoints import Failpoints
from servicekit.runtime import Runtime

DECIDED = {failpoints.AFTER_T2, failpoints.BEFORE_REPLY}
ACTIONS = ("error", "drop")
POINTS = [name for name in failpoints.NAMES if "abort" not in name]
Attempt = Callable[[str, uuid.UUID], Awaitable[httpx.Response]]


async def outcome_of(attempt: Awaitable[httpx.Response]) -> str:
    """What a caller learns: an outcome, or nothing."""
    try:
        answer = await attempt
    except httpx.RemoteProtocolError:
        return "no reply"
    return str(answer.headers.get("operation-outcome", f"unknown ({answer.status_code})"))


async def assert_whole(query: Query) -> None:
    """Each invoice is at the version of its last applied operation, and there is no other."""
    rows = await query("SELECT id, version, last_op FROM invoices ORDER BY id")
    last = await query(
        "SELECT DISTINCT ON (invoice_id) invoice_id AS id, version, op_id AS last_op"
        " FROM applied_operations WHERE outcome = 'applied' ORDER BY invoice_id, version DESC"
    )
    assert rows == last


@pytest.mark.parametrize("kind", ["create", "update", "delete"])
@pytest.mark.parametrize("fault", [(point, action) for point in POINTS for action in ACTIONS])
async def test_failing_there_leaves_all_or_nothing_and_a_repetition_completes_it(
    shop: Shop, runtime: Runtime, query: Query, fault: tuple[str, str], kind: str
) -> None:
    point, action = fault
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    invoice_id = invoice_id_for_order(order_id)
    if kind != "create":
        await shop.created(order_id)

    async def attempt(proof: str) -> httpx.Response:
        if kind == "create":
            return await shop.create(order_id, proof=proof, op_id=op_id)
        if kind == "update":
            return await shop.update(invoice_id, base=1, proof=proof, op_id=op_id)
        return await shop.delete(invoice_id, base=1, proof=proof, op_id=op_id)

    async with shop.locked(order_id) as lease:
        runtime.failpoints.arm(f"{point}={action}*1")
        learned = await outcome_of(attempt(lease.proof()))
        assert learned == ("no reply" if action == "drop" else "unknown (500)")
        assert runtime.failpoints.hits[point] == 1
        await assert_whole(query)
        recorded = await shop.client.get(f"/operations/{op_id}")
        assert recorded.status_code == (200 if point in DECIDED else 404)
        assert await outcome_of(attempt(lease.proof())) == "applied"
    await assert_whole(query)
    assert (await shop.client.get(f"/operations/{op_id}")).json()["outcome"] == "applied"


@pytest.mark.parametrize("action", ["error", "drop"])
@pytest.mark.parametrize("point", [failpoints.BEFORE_ABORT, failpoints.AFTER_ABORT])
async def test_an_abort_that_fails_can_be_repeated(
    shop: Shop, runtime: Runtime, point: str, action: str
) -> None:
    op_id, invoice_id = uuid.uuid4(), uuid.uuid4()
    runtime.failpoints.arm(f"{point}={action}*1")
    await outcome_of(shop.abort(op_id, invoice_id))
    assert (await shop.abort(op_id, invoice_id)).json()["outcome"] == "aborted"


def test_every_name_says_whose_it_is_and_is_listed_once() -> None:
    listed = {
        value for name, value in vars(failpoints).items() if name.isupper() and name != "NAMES"
    }
    assert listed == set(failpoints.NAMES)
    assert len(failpoints.NAMES) == len(set(failpoints.NAMES))
    assert all(name.startswith("invoice.") for name in failpoints.NAMES)


def test_none_is_armed_unless_asked_for(app: FastAPI, runtime: Runtime) -> None:
    assert not runtime.failpoints.active
    assert isinstance(runtime.failpoints, Failpoints)
