"""An invoice changes only under the caller's lock; whatever cannot be verified is refused."""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Sequence

import httpx
import pytest
from apps.invoice.tests.shop import Query, Serve, Shop
from apps.invoice.tests.variants import Lease, LockNotChecked
from opentelemetry import trace
from prometheus_client import CollectorRegistry

import fencelock
from invoice.app import create_app
from invoice.errors import InvoiceNotLocked
from invoice.locks import LockGuard
from invoice.metrics import InvoiceMetrics
from invoice.settings import Settings
from servicekit.problems import ServiceUnavailable
from servicekit.runtime import Runtime
from servicekit.testing import spans

Attempt = Callable[[Shop, str | None], Awaitable[httpx.Response]]


def refused(answer: httpx.Response) -> bool:
    return (
        answer.status_code == 409
        and answer.json()["type"] == "/problems/invoice-not-locked"
        and "operation-outcome" not in answer.headers
    )


async def attempts(shop: Shop, order_id: uuid.UUID, proof: str | None) -> list[httpx.Response]:
    """Every kind of change, each with the same proof."""
    invoice_id = await shop.created(order_id)
    return [
        await shop.update(invoice_id, base=1, proof=proof),
        await shop.delete(invoice_id, base=1, proof=proof),
    ]


async def assert_untouched(query: Query) -> None:
    (row,) = await query("SELECT * FROM invoices")
    assert (row["version"], row["status"]) == (1, "created")
    assert len(await query("SELECT * FROM applied_operations")) == 1


async def test_without_a_proof_nothing_changes(shop: Shop, query: Query) -> None:
    assert all(map(refused, await attempts(shop, uuid.uuid4(), None)))
    await assert_untouched(query)


@pytest.mark.parametrize("proof", ["", "nonsense", "f1.AAAAAAAAAAA.AAAAAAAAAAAAAAAA.1"])
async def test_with_an_invented_proof_nothing_changes(shop: Shop, query: Query, proof: str) -> None:
    assert all(map(refused, await attempts(shop, uuid.uuid4(), proof)))
    await assert_untouched(query)


async def test_with_the_proof_of_a_released_lease_nothing_changes(shop: Shop, query: Query) -> None:
    order_id = uuid.uuid4()
    async with shop.locked(order_id) as lease:
        proof = lease.proof()
    assert all(map(refused, await attempts(shop, order_id, proof)))
    await assert_untouched(query)


async def test_with_the_lock_of_another_order_nothing_changes(shop: Shop, query: Query) -> None:
    async with shop.locked(uuid.uuid4()) as lease:
        assert all(map(refused, await attempts(shop, uuid.uuid4(), lease.proof())))
    await assert_untouched(query)


async def test_with_only_one_of_the_two_names_nothing_changes(shop: Shop, query: Query) -> None:
    order_id = uuid.uuid4()
    invoice_id = await shop.created(order_id)
    for name in (f"order:{{{order_id}}}", f"invoice:{{{order_id}}}"):
        async with shop.locks.lock(name, ttl=30, wait=30) as lease:
            assert refused(await shop.update(invoice_id, base=1, proof=lease.proof()))
    await assert_untouched(query)


async def test_no_orders_invoice_is_created_without_the_lock(shop: Shop, query: Query) -> None:
    assert refused(await shop.create(uuid.uuid4(), proof=None))
    async with shop.locked(uuid.uuid4()) as lease:
        assert refused(await shop.create(uuid.uuid4(), proof=lease.proof()))
    assert await query("SELECT * FROM invoices") == []
    assert await query("SELECT * FROM applied_operations") == []


async def test_an_older_lock_does_not_overwrite_what_a_newer_one_wrote(
    shop: Shop, settings: Settings, runtime: Runtime, serve: Serve, query: Query
) -> None:
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    invoice_id = await shop.created(order_id)
    (before,) = await query("SELECT * FROM invoices")
    # The lease was good when it was checked; a newer one has written since.
    older = LockNotChecked(fence=before["fence"] - 1)
    stale_app = create_app(
        settings, runtime=Runtime.bare(service="i", failpoints=runtime.failpoints), verifier=older
    )
    async with serve(stale_app) as client:
        answer = await Shop(client, shop.locks).update(
            invoice_id, base=1, proof="checked", op_id=op_id
        )
    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/stale-lock"
    # Not a decision: the same operation succeeds under a fresh lock.
    assert "operation-outcome" not in answer.headers
    assert await query("SELECT * FROM invoices") == [before]
    async with shop.locked(order_id) as lease:
        again = await shop.update(invoice_id, base=1, proof=lease.proof(), op_id=op_id)
    assert again.status_code == 204


async def test_while_redis_is_down_changes_answer_503_and_write_nothing(
    shop: Shop, settings: Settings, runtime: Runtime, serve: Serve, query: Query
) -> None:
    order_id = uuid.uuid4()
    invoice_id = await shop.created(order_id)
    async with shop.locked(order_id) as lease:
        proof = lease.proof()
        # Nobody listens on port 1.
        nowhere = settings.model_copy(
            update={
                "redis_url": type(settings.redis_url)("redis://127.0.0.1:1/0"),
                "lock_check_timeout_seconds": 0.5,
            }
        )
        app = create_app(nowhere, runtime=Runtime.bare(service="i", failpoints=runtime.failpoints))
        async with serve(app) as client:
            blind = Shop(client, shop.locks)
            answers = [
                await blind.update(invoice_id, base=1, proof=proof),
                await blind.delete(invoice_id, base=1, proof=proof),
                await blind.create(uuid.uuid4(), proof=proof),
            ]
    for answer in answers:
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "operation-outcome" not in answer.headers
    await assert_untouched(query)


async def test_while_redis_is_down_recorded_operations_are_still_answered(
    shop: Shop, settings: Settings, runtime: Runtime, serve: Serve
) -> None:
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    async with shop.locked(order_id) as lease:
        first = await shop.create(order_id, proof=lease.proof(), op_id=op_id)
    nowhere = settings.model_copy(
        update={"redis_url": type(settings.redis_url)("redis://127.0.0.1:1/0")}
    )
    app = create_app(nowhere, runtime=Runtime.bare(service="i", failpoints=runtime.failpoints))
    async with serve(app) as client:
        again = await Shop(client, shop.locks).create(order_id, proof=None, op_id=op_id)
        read = await client.get(f"/invoices/{first.json()['id']}")
    assert (again.status_code, again.content) == (201, first.content)
    assert read.status_code == 200


async def test_a_redis_that_never_answers_costs_only_the_limit_and_fails_closed() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with silent, fencelock.AsyncLockClient.from_url(f"redis://127.0.0.1:{port}") as client:
        guard = LockGuard(
            client,
            timeout_seconds=0.2,
            metrics=InvoiceMetrics(CollectorRegistry()),
            tracer=trace.NoOpTracer(),
        )
        with pytest.raises(ServiceUnavailable):
            await guard.fence_of("f1.AAAAAAAAAAA.AAAAAAAAAAAAAAAA.1", ["invoice:{1}"])


@pytest.mark.parametrize(("proof", "outcome"), [("good", "held"), ("bad", "not_held")])
async def test_the_check_is_a_span_with_its_outcome(proof: str, outcome: str) -> None:
    class Known(LockNotChecked):
        async def verify(
            self,
            proof: str,
            names: Sequence[str],
            *,
            timeout: float | None = None,  # noqa: ASYNC109 - fencelock's own signature
        ) -> Lease:
            if proof != "good":
                raise fencelock.NotOwner("not held")
            return Lease(17)

    with spans.recorded() as (telemetry, recorded):
        guard = LockGuard(
            Known(),
            timeout_seconds=1,
            metrics=InvoiceMetrics(CollectorRegistry()),
            tracer=telemetry.tracer("t"),
        )
        with contextlib.suppress(InvoiceNotLocked):
            assert await guard.fence_of(proof, ["invoice:{1}"]) == 17
        (span,) = recorded.all()
    assert span.name == "lock.verify invoice"
    assert (span.attributes or {})["lock.outcome"] == outcome
    assert "good" not in str(span.attributes)
