"""Whatever the time or the network does around a COMMIT, the answer is true."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from apps.invoice.tests.shop import USER, Query, Serve, Shop

import fencelock
from devkit.database_proxy import DatabaseProxy, Loss
from invoice import failpoints
from invoice.app import create_app
from invoice.domain import invoice_id_for_order
from invoice.settings import Settings
from servicekit.failpoints import Failpoints
from servicekit.runtime import Runtime
from servicekit.testing.polling import eventually

# A busy machine may need it all before anything is written: then 503 is the truth.
DEADLINE = {"Request-Timeout-Ms": "1500"}


async def nothing_goes_on() -> bool:
    """Whether every transaction has ended, also those that nobody waits for any more."""
    return all(task.get_name() != "decision_commit_lost" for task in asyncio.all_tasks())


@pytest.fixture
async def impatient(
    behind: Settings, runtime: Runtime, serve: Serve, locks: fencelock.AsyncLockClient
) -> AsyncIterator[Shop]:
    """The service behind the proxy, with little patience for a commit of which it hears nothing."""
    hasty = behind.model_copy(update={"commit_patience_seconds": 0.5})
    async with serve(create_app(hasty, runtime=runtime)) as client:
        yield Shop(client, locks)


@asynccontextmanager
async def armed(settings: Settings, serve: Serve, points: str) -> AsyncIterator[httpx.AsyncClient]:
    runtime = Runtime.bare(service="invoice", failpoints=Failpoints(failpoints.NAMES, armed=points))
    async with serve(create_app(settings, runtime=runtime)) as client:
        yield client


@pytest.mark.parametrize("loss", [Loss.REPLY_CUT, Loss.REQUEST_CUT])
async def test_a_lost_reply_to_the_commit_is_found_out_about(
    proxied: Shop, proxy: DatabaseProxy, query: Query, loss: Loss
) -> None:
    order_id = uuid.uuid4()
    async with proxied.locked(order_id) as lease:
        proof = lease.proof()
        proxy.lose(loss)
        created = await proxied.create(order_id, proof=proof)
        invoice_id = created.json()["id"]
        proxy.lose(loss, loss)
        updated = await proxied.update(invoice_id, base=1, proof=proof)
        proxy.lose(loss)
        rejected = await proxied.update(invoice_id, base=1, proof=proof)
        proxy.lose(loss)
        aborted = await proxied.abort(uuid.uuid4(), invoice_id)
        proxy.lose(loss)
        deleted = await proxied.delete(invoice_id, base=2, proof=proof)
    proxy.lose(loss)
    direct = await proxied.client.post("/invoices", json={"user_id": str(USER), "total": "1"})
    answers = (created, updated, rejected, aborted, deleted, direct)
    assert [each.status_code for each in answers] == [201, 204, 412, 200, 204, 201]
    assert proxy.lost == 7
    rows = await query("SELECT version FROM invoices ORDER BY version")
    assert [row["version"] for row in rows] == [1, 3]
    assert len(await query("SELECT * FROM applied_operations")) == 6


async def test_while_the_end_of_a_commit_cannot_be_found_out_the_answer_is_no_refusal(
    impatient: Shop, proxy: DatabaseProxy, query: Query
) -> None:
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    async with impatient.locked(order_id) as lease:
        proxy.lose(Loss.REPLY_SILENT)
        proof = {"Lock-Token": lease.proof(), "Idempotency-Key": str(op_id)}
        body = {"user_id": str(USER), "total": "1", "order_id": str(order_id)}
        answer = await impatient.client.post("/invoices", json=body, headers=proof | DEADLINE)
        if answer.status_code == 503:
            assert await query("SELECT * FROM invoices") == []
            return
        assert (answer.status_code, answer.json()["type"]) == (504, "/problems/outcome-unknown")
        assert answer.headers["location"] == f"/operations/{op_id}"
        page = await impatient.client.get(answer.headers["location"])
        assert page.json()["outcome"] == "applied"
        again = await impatient.client.post("/invoices", json=body, headers=proof)
        proxy.close()
        await eventually(nothing_goes_on)
    assert again.status_code == 201
    assert len(await query("SELECT * FROM invoices")) == 1


@pytest.mark.parametrize(
    "point",
    [
        failpoints.BEFORE_T2,
        failpoints.AFTER_T2,
        failpoints.BEFORE_REPLY,
    ],
)
async def test_a_deadline_that_passes_on_the_way_leaves_a_true_answer(
    settings: Settings, serve: Serve, query: Query, point: str
) -> None:
    async with armed(settings, serve, f"{point}=delay:2") as client:
        answer = await client.post(
            "/invoices", json={"user_id": str(USER), "total": "1"}, headers=DEADLINE
        )
        # What was given up must not be committed by the task that was left behind.
        await eventually(nothing_goes_on)
    written = len(await query("SELECT * FROM invoices"))
    assert answer.status_code == (201 if written else 503)
    if point == failpoints.BEFORE_T2:
        assert not written


async def test_with_any_deadline_503_means_nothing_was_written(
    client: httpx.AsyncClient, query: Query
) -> None:
    chance = random.Random(4)
    users = [uuid.uuid4() for _ in range(120)]
    deadlines = [{"Request-Timeout-Ms": str(chance.randint(1, 60))} for _ in users]
    answers = [
        await client.post("/invoices", json={"user_id": str(user), "total": "1"}, headers=deadline)
        for user, deadline in zip(users, deadlines, strict=True)
    ]
    written = {row["user_id"] for row in await query("SELECT user_id FROM invoices")}
    for user, answer in zip(users, answers, strict=True):
        assert answer.status_code == (201 if user in written else 503)


async def test_an_abort_that_is_answered_503_has_left_no_tombstone(
    settings: Settings, serve: Serve, query: Query
) -> None:
    invoice_id = str(invoice_id_for_order(uuid.uuid4()))
    before = 0
    for point in (failpoints.BEFORE_ABORT, failpoints.AFTER_ABORT):
        async with armed(settings, serve, f"{point}=delay:2") as client:
            answer = await client.post(
                f"/operations/{uuid.uuid4()}/abort",
                json={"invoice_id": invoice_id},
                headers=DEADLINE,
            )
        after = len(await query("SELECT * FROM applied_operations"))
        assert answer.status_code == (200 if after > before else 503)
        before = after
