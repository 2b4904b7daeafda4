"""The promises that keep invoices true; each is shown to notice a service that breaks it."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from apps.invoice.tests.shop import Query, Serve, Shop
from apps.invoice.tests.variants import (
    LockCheckFailsOpen,
    LockNotChecked,
    LookThenInsert,
    NoFenceCheck,
    NoVersionCheck,
    RecordedBeforeChanged,
)
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

import fencelock
from invoice import failpoints
from invoice.app import create_app
from invoice.settings import Settings
from servicekit.failpoints import Failpoints
from servicekit.runtime import Runtime


class Bench:
    """Runs a service, whole or broken, and looks into its database."""

    def __init__(
        self,
        settings: Settings,
        locks: fencelock.AsyncLockClient,
        serve: Serve,
        query: Query,
        engine: AsyncEngine,
    ) -> None:
        self._settings = settings
        self.locks = locks
        self._serve = serve
        self.query = query
        self._engine = engine

    async def execute(self, statement: str) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(text(statement))

    @asynccontextmanager
    async def shop(
        self, *, armed: str = "", redis_down: bool = False, **parts: Any
    ) -> AsyncIterator[Shop]:
        settings = self._settings
        if redis_down:
            url = type(settings.redis_url)("redis://127.0.0.1:1/0")
            settings = settings.model_copy(
                update={"redis_url": url, "lock_check_timeout_seconds": 0.5}
            )
        runtime = Runtime.bare(
            service="invoice", failpoints=Failpoints(failpoints.NAMES, armed=armed)
        )
        async with self._serve(create_app(settings, runtime=runtime, **parts)) as client:
            yield Shop(client, self.locks)


@pytest.fixture
def bench(
    settings: Settings,
    locks: fencelock.AsyncLockClient,
    serve: Serve,
    query: Query,
    engine: AsyncEngine,
) -> Bench:
    return Bench(settings, locks, serve, query, engine)


async def changes_only_under_the_callers_lock(bench: Bench, **parts: Any) -> None:
    async with bench.shop() as whole:
        invoice_id = await whole.created(uuid.uuid4())
    async with bench.shop(**parts) as shop, shop.locked(uuid.uuid4()) as other:
        await shop.update(invoice_id, base=1, proof=other.proof())
        await shop.create(uuid.uuid4(), proof=other.proof())
    rows = await bench.query("SELECT version FROM invoices")
    assert [row["version"] for row in rows] == [1]


async def changes_nothing_while_the_lock_cannot_be_checked(bench: Bench, **parts: Any) -> None:
    order_id = uuid.uuid4()
    async with bench.shop() as whole:
        invoice_id = await whole.created(order_id)
    async with bench.shop(redis_down=True, **parts) as shop, shop.locked(order_id) as lease:
        await shop.update(invoice_id, base=1, proof=lease.proof())
    (row,) = await bench.query("SELECT version FROM invoices")
    assert row["version"] == 1


async def makes_versions_without_a_gap(bench: Bench, **parts: Any) -> None:
    order_id = uuid.uuid4()
    async with bench.shop(**parts) as shop:
        invoice_id = await shop.created(order_id)
        async with shop.locked(order_id) as lease:
            for base in (7, 1, 1, 2):
                await shop.update(invoice_id, base=base, proof=lease.proof())
    operations = await bench.query(
        "SELECT version FROM applied_operations WHERE outcome = 'applied' ORDER BY version"
    )
    assert [row["version"] for row in operations] == [1, 2, 3]


async def never_lets_an_older_lock_overwrite_a_newer_one(bench: Bench, **parts: Any) -> None:
    async with bench.shop() as whole:
        invoice_id = await whole.created(uuid.uuid4())
    # The lease was good when it was checked, and a newer one has written since.
    async with bench.shop(verifier=LockNotChecked(fence=1), **parts) as shop:
        await shop.update(invoice_id, base=1, proof="checked")
    (row,) = await bench.query("SELECT version FROM invoices")
    assert row["version"] == 1


async def never_leaves_half_of_a_change(bench: Bench, **parts: Any) -> None:
    order_id = uuid.uuid4()
    async with bench.shop() as whole:
        invoice_id = await whole.created(order_id)
    # The database takes the record of the operation and refuses what it does to the invoice.
    await bench.execute("ALTER TABLE invoices ADD CONSTRAINT no_change CHECK (version < 2)")
    async with bench.shop(**parts) as shop, shop.locked(order_id) as lease:
        await shop.update(invoice_id, base=1, proof=lease.proof())
    (row,) = await bench.query("SELECT version FROM invoices")
    (last,) = await bench.query(
        "SELECT max(version) AS version FROM applied_operations WHERE outcome = 'applied'"
    )
    assert row["version"] == last["version"]


async def gives_copies_of_a_request_one_answer(bench: Bench, **parts: Any) -> None:
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    async with bench.shop(**parts) as shop, shop.locked(order_id) as lease:
        answers = await asyncio.gather(
            *(shop.create(order_id, proof=lease.proof(), op_id=op_id) for _ in range(6))
        )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1


Promise = Callable[..., Awaitable[None]]
PROMISES: dict[Promise, dict[str, Any]] = {
    changes_only_under_the_callers_lock: {"verifier": LockNotChecked()},
    makes_versions_without_a_gap: {"records": NoVersionCheck},
    never_lets_an_older_lock_overwrite_a_newer_one: {"records": NoFenceCheck},
    never_leaves_half_of_a_change: {"records": RecordedBeforeChanged},
    gives_copies_of_a_request_one_answer: {"records": LookThenInsert},
}


def name(value: object) -> str:
    return getattr(value, "__name__", "broken")


@pytest.mark.parametrize(
    "promise", [*PROMISES, changes_nothing_while_the_lock_cannot_be_checked], ids=name
)
async def test_the_service_keeps_the_promise(bench: Bench, promise: Promise) -> None:
    await promise(bench)


@pytest.mark.parametrize(("promise", "broken"), PROMISES.items(), ids=name)
async def test_the_promise_notices_a_service_that_breaks_it(
    bench: Bench, promise: Promise, broken: dict[str, Any]
) -> None:
    with pytest.raises(AssertionError):
        await promise(bench, **broken)


async def test_the_promise_notices_a_lock_check_that_fails_open(bench: Bench) -> None:
    async with fencelock.AsyncLockClient.from_url("redis://127.0.0.1:1/0") as client:
        with pytest.raises(AssertionError):
            await changes_nothing_while_the_lock_cannot_be_checked(
                bench, verifier=LockCheckFailsOpen(client)
            )
