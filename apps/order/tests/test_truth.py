"""Whatever the time or the network does to a request, its answer is true, and so is its page."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import httpx
import psycopg
import pytest
from apps.order.tests.fakes import FakeInvoices, FakeLocks, lost_reply
from apps.order.tests.test_changes import a_change, a_creation, an_update, created
from apps.order.tests.test_intent import NothingAtOnce
from sqlalchemy import text
from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import AsyncEngine

from devkit.database_proxy import DatabaseProxy, Loss
from order import failpoints
from order.app import create_app
from order.database import OrderDatabase
from order.domain import Kind, Operation, Status, plan_creation
from order.fields import BODY
from order.identifiers import made_at, new_operation_id
from order.repository import Journal, Operations
from order.service.intent import PostgresIntents
from order.settings import Settings
from order.use_cases import UseCases
from servicekit.failpoints import Failpoints
from servicekit.problems import ValidationFailed
from servicekit.runtime import Runtime
from servicekit.testing.polling import eventually
from servicekit.testing.server import serving
from tandem.errors import Unstorable
from tandem.initiator.journal import ALWAYS
from tandem.initiator.ports import Decision
from tandem.operation import Outcome
from tandem.store import Session

# A busy machine may need it all before anything is recorded: then 503 is the truth.
DEADLINE = {"Request-Timeout-Ms": "1500"}
INTENT = "INSERT INTO operations"
COMPLETION = "UPDATE operations SET state"
OURS = {"intent_commit_lost", "completion_commit_lost"}


@asynccontextmanager
async def served(
    settings: Settings,
    invoices: FakeInvoices,
    *,
    armed: str = "",
    journal: Journal | None = None,
) -> AsyncIterator[httpx.AsyncClient]:
    """The service over real HTTP, so that deadlines are what they are in use."""
    runtime = Runtime.bare(service="order", failpoints=Failpoints(failpoints.NAMES, armed=armed))
    app = create_app(
        settings, runtime=runtime, invoices=invoices, locks=FakeLocks(), journal=journal
    )
    async with (
        serving(app) as url,
        httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client,
    ):
        yield client


async def nothing_goes_on() -> bool:
    return not any(task.get_name() in OURS for task in asyncio.all_tasks())


async def refused_before(answer: httpx.Response, engine: AsyncEngine, *, operations: int) -> bool:
    """Whether the time ran out before anything was recorded, so that there is nothing to see."""
    if answer.status_code != 503:
        return False
    await eventually(nothing_goes_on)
    assert await count(engine, "operations") == operations
    return True


async def count(engine: AsyncEngine, table: str) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())


@pytest.mark.parametrize(
    ("journal", "loss", "lost"),
    [
        (Journal(), Loss.REPLY_CUT, 3),
        (Journal(), Loss.REQUEST_CUT, 3),
        # A second try that finds the completion made writes nothing more, so nothing more is lost.
        (NothingAtOnce(), Loss.REPLY_CUT, 2),
        (NothingAtOnce(), Loss.REQUEST_CUT, 3),
    ],
)
async def test_a_lost_reply_to_any_commit_ends_with_the_change_made_once(  # noqa: PLR0917
    behind: Settings,
    proxy: DatabaseProxy,
    invoices: FakeInvoices,
    new_order: dict[str, Any],
    engine: AsyncEngine,
    journal: Journal,
    loss: Loss,
    lost: int,
) -> None:
    async with served(behind, invoices, journal=journal) as client:
        proxy.lose(loss, after=INTENT)
        first = await client.post("/orders", json=new_order)
        proxy.lose(loss, loss, after=COMPLETION)
        second = await client.delete(f"/orders/{first.json()['id']}")
    assert (first.status_code, second.status_code) == (201, 204)
    assert proxy.lost == lost
    assert await count(engine, "operations") == 2


@pytest.mark.parametrize("loss", [Loss.REPLY_CUT, Loss.REQUEST_CUT])
async def test_a_lost_reply_to_a_refusal_that_is_kept_ends_with_that_refusal(
    behind: Settings,
    proxy: DatabaseProxy,
    invoices: FakeInvoices,
    engine: AsyncEngine,
    loss: Loss,
) -> None:
    path, headers = f"/orders/{uuid.uuid4()}", {"Idempotency-Key": "k"}
    async with served(behind, invoices) as client:
        proxy.lose(loss, after="INSERT INTO idempotency_keys")
        first = await client.delete(path, headers=headers)
        again = await client.delete(path, headers=headers)
    assert (first.status_code, proxy.lost) == (404, 1)
    assert (again.status_code, again.content) == (404, first.content)
    assert await count(engine, "idempotency_keys") == 1


async def test_an_intent_whose_commit_goes_unanswered_is_202_and_its_page_says_how_it_ends(
    behind: Settings,
    proxy: DatabaseProxy,
    invoices: FakeInvoices,
    new_order: dict[str, Any],
    engine: AsyncEngine,
) -> None:
    async with served(behind, invoices) as client:
        proxy.lose(Loss.REPLY_SILENT, after=INTENT)
        answer = await client.post("/orders", json=new_order, headers=DEADLINE)
        if await refused_before(answer, engine, operations=0):
            return
        assert answer.status_code == 202

        async def is_finished() -> bool:
            """Recovery was woken, and may have been quicker than we are."""
            page = await client.get(answer.headers["location"])
            assert page.status_code == 200
            assert page.json()["state"] in {"pending", "committed"}
            return bool(page.json()["state"] == "committed")

        await eventually(is_finished)
        proxy.close()
        await eventually(nothing_goes_on)


async def test_an_intent_that_never_reached_the_database_has_a_page_that_says_so_for_good(
    behind: Settings,
    proxy: DatabaseProxy,
    invoices: FakeInvoices,
    new_order: dict[str, Any],
    engine: AsyncEngine,
) -> None:
    quick = behind.model_copy(update={"request_timeout_seconds": 2.0})
    async with served(quick, invoices) as client:
        proxy.lose(Loss.REQUEST_CUT, after=INTENT, then_dark=True)
        answer = await client.post("/orders", json=new_order, headers=DEADLINE)
        proxy.go_dark(dark=False)
        if await refused_before(answer, engine, operations=0):
            return
        assert answer.status_code == 202
        await eventually(nothing_goes_on)
        page = await dropped(client, answer.headers["location"])
        cancelled = await client.post(answer.headers["location"] + "/cancel")
        assert cancelled.json() == page.json()
        assert (await client.get("/orders")).json()["items"] == []
    assert invoices.rows == {}


async def dropped(client: httpx.AsyncClient, location: str) -> httpx.Response:
    """Return an operation's page as soon as it says that it will never be recorded."""
    page = await client.get(location)

    async def says_so() -> bool:
        nonlocal page
        page = await client.get(location)
        assert (page.status_code, page.json()["recorded"]) == (200, False)
        return bool(page.json()["state"] == "rejected")

    await eventually(says_so)
    return page


class TakesWhatIsLate(Journal):
    """The variant: whatever reaches the database is done, however late."""

    async def record(
        self, session: Session, operation: Operation, **given: Any
    ) -> Operation | None:
        return await super().record(session, operation, **{**given, "until": ALWAYS})


@pytest.mark.parametrize(("journal", "recorded"), [(Journal(), 0), (TakesWhatIsLate(), 1)])
async def test_what_reaches_the_database_after_its_page_said_never_is_not_done(  # noqa: PLR0917
    behind: Settings,
    proxy: DatabaseProxy,
    invoices: FakeInvoices,
    new_order: dict[str, Any],
    engine: AsyncEngine,
    journal: Journal,
    recorded: int,
) -> None:
    """What was sent may still be in the network, or before a database that stands still."""
    quick = behind.model_copy(update={"request_timeout_seconds": 2.0})
    async with served(quick, invoices, journal=journal) as client:
        proxy.lose(Loss.REQUEST_LATE, after=INTENT)
        answer = await client.post("/orders", json=new_order, headers=DEADLINE)
        if await refused_before(answer, engine, operations=0):
            return
        assert answer.status_code == 202
        early = await client.get(answer.headers["location"])
        assert early.json()["state"] == "pending"
        await dropped(client, answer.headers["location"])
        proxy.deliver()

        async def arrived() -> bool:
            return proxy.delivered == 1

        await eventually(arrived)
        assert await count(engine, "operations") == recorded
        # What was given up is tried again meanwhile, and must not outlive its database.
        await eventually(nothing_goes_on)


async def test_a_request_that_waits_for_a_row_is_503_and_is_never_carried_out_later(
    settings: Settings, invoices: FakeInvoices, new_order: dict[str, Any], engine: AsyncEngine
) -> None:
    async with served(settings, invoices) as client:
        order_id = (await client.post("/orders", json=new_order)).json()["id"]
        async with engine.begin() as connection:
            await connection.execute(text("SELECT 1 FROM orders FOR UPDATE"))
            answer = await client.delete(f"/orders/{order_id}", headers=DEADLINE)
        assert answer.status_code == 503
        await eventually(nothing_goes_on)
        assert (await client.get(f"/orders/{order_id}")).json()["version"] == 1
    assert await count(engine, "operations") == 1


@pytest.mark.parametrize("deadline", [DEADLINE, {}])
async def test_a_database_that_goes_silent_after_the_decision_is_202(  # noqa: PLR0917
    behind: Settings,
    proxy: DatabaseProxy,
    invoices: FakeInvoices,
    new_order: dict[str, Any],
    engine: AsyncEngine,
    deadline: dict[str, str],
) -> None:
    settings = behind.model_copy(update={"request_timeout_seconds": 3.0})
    async with served(settings, invoices) as client:
        first = (await client.post("/orders", json=new_order)).json()["id"]

        async def go_dark(_: Operation) -> None:
            proxy.go_dark()

        invoices.trouble = go_dark
        answer = await client.delete(f"/orders/{first}", headers=deadline)
        invoices.trouble = None
        proxy.go_dark(dark=False)
        if await refused_before(answer, engine, operations=1):
            return
        assert answer.status_code == 202
        page = await client.get(answer.headers["location"])
        assert page.status_code == 200
        assert page.json()["state"] in {"pending", "committed"}
        await eventually(nothing_goes_on)


@pytest.mark.parametrize(
    "point", [failpoints.AFTER_T1, failpoints.AFTER_SEND, failpoints.IN_T3, failpoints.AFTER_T3]
)
async def test_once_it_is_recorded_no_stall_of_the_whole_process_makes_it_a_503(
    settings: Settings,
    invoices: FakeInvoices,
    new_order: dict[str, Any],
    engine: AsyncEngine,
    point: str,
) -> None:
    """A paused process wakes up with all of its limits passed at once."""
    quick = settings.model_copy(update={"request_timeout_seconds": 1.5})
    async with served(quick, invoices, armed=f"{point}=stall:7*1") as client:
        answer = await client.post("/orders", json=new_order)
        if await refused_before(answer, engine, operations=0):
            return
        assert answer.status_code in {201, 202}
        if answer.status_code == 202:

            async def page_is_there() -> bool:
                page = await client.get(answer.headers["location"])
                assert page.status_code in {200, 503}  # 503: it was too slow to be read
                return page.status_code == 200

            await eventually(page_is_there)
        await eventually(nothing_goes_on)


@pytest.mark.parametrize(
    ("point", "recorded", "status"),
    [
        (failpoints.AFTER_LOCK, 0, 503),
        (failpoints.AFTER_T1, 1, 202),
        (failpoints.AFTER_SEND, 1, 202),
        (failpoints.AFTER_T3, 1, 201),
    ],
)
async def test_a_request_that_the_end_of_the_process_cuts_off_is_answered_what_is_true(  # noqa: PLR0917
    settings: Settings,
    invoices: FakeInvoices,
    new_order: dict[str, Any],
    engine: AsyncEngine,
    point: str,
    recorded: int,
    status: int,
) -> None:
    points = Failpoints(failpoints.NAMES, armed=f"{point}=delay:60*1")
    runtime = Runtime.bare(service="order", failpoints=points)
    app = create_app(settings, runtime=runtime, invoices=invoices, locks=FakeLocks())
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        async with serving(app, stop_seconds=0) as url:
            asked = asyncio.create_task(client.post(f"{url}/orders", json=new_order))

            async def is_inside() -> bool:
                return points.hits[point] == 1

            await eventually(is_inside)
        assert (await asked).status_code == status
    await eventually(nothing_goes_on)
    assert await count(engine, "operations") == recorded


async def test_a_cancellation_that_the_order_cannot_follow_now_is_202_and_happens(
    settings: Settings, invoices: FakeInvoices, new_order: dict[str, Any], engine: AsyncEngine
) -> None:
    async with served(settings, invoices) as client:
        order_id = (await client.post("/orders", json=new_order)).json()["id"]
        invoices.deaf = True
        operation = (await client.delete(f"/orders/{order_id}")).headers["location"]
        async with engine.begin() as connection:
            await connection.execute(text("SELECT 1 FROM orders FOR UPDATE"))
            answer = await client.post(f"{operation}/cancel", headers=DEADLINE)
        if answer.status_code == 503:
            assert invoices.decisions == {}
            return
        assert (answer.status_code, answer.headers["location"]) == (202, operation)
        invoices.deaf = False

        async def cancelled() -> bool:
            state: str = (await client.get(operation)).json()["state"]
            return state == "rejected"

        await eventually(cancelled)


async def test_a_cancellation_during_which_the_database_goes_silent_is_202(
    behind: Settings, proxy: DatabaseProxy, invoices: FakeInvoices, new_order: dict[str, Any]
) -> None:
    async with served(behind, invoices) as client:
        order_id = (await client.post("/orders", json=new_order)).json()["id"]
        invoices.deaf = True
        operation = (await client.delete(f"/orders/{order_id}")).headers["location"]

        async def go_dark(_: Operation) -> None:
            proxy.go_dark()

        invoices.trouble = go_dark
        answer = await client.post(f"{operation}/cancel", headers=DEADLINE)
        proxy.go_dark(dark=False)
        assert answer.status_code == 202 or len(invoices.decisions) == 1
        await eventually(nothing_goes_on)


async def test_a_page_waits_for_an_operation_that_is_just_being_recorded(
    client: httpx.AsyncClient, database: OrderDatabase, engine: AsyncEngine
) -> None:
    change = a_change(a_creation())
    # Made long ago, so that only a transaction that goes on can record it yet.
    op_id = new_operation_id(at=datetime.now(UTC) - timedelta(hours=1))
    intents: Any = PostgresIntents(
        database, failpoints=Failpoints(failpoints.NAMES), due_in_seconds=3600
    )
    async with engine.connect() as connection:
        transaction = await connection.begin()
        await intents._plan(connection, replace(change, op_id=op_id))
        pending = await client.get(f"/operations/{op_id}")
        assert (pending.json()["state"], pending.json()["recorded"]) == ("pending", False)
        assert pending.headers["retry-after"]
        await transaction.rollback()
    ended = await client.get(f"/operations/{op_id}")
    assert (ended.json()["state"], ended.json()["recorded"]) == ("rejected", False)


async def test_an_id_that_no_answer_has_named_is_404(client: httpx.AsyncClient) -> None:
    for op_id in (uuid.uuid4(), uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)):
        assert (await client.get(f"/operations/{op_id}")).status_code == 404
        assert (await client.post(f"/operations/{op_id}/cancel")).status_code == 404


def test_an_operations_id_says_that_it_was_made_here_and_when() -> None:
    ids = [new_operation_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    for op_id in ids:
        made = made_at(op_id)
        assert made is not None
        assert abs(datetime.now(UTC) - made) < timedelta(minutes=1)
    assert made_at(uuid.UUID(int=ids[0].int ^ 1)) is None


# What is decided can be stored.


@pytest.mark.parametrize(
    "command",
    [
        replace(a_creation(), quantity=2**31, value=Decimal(0)),
        replace(a_creation(), value=Decimal("0.001")),
        replace(a_creation(), value=Decimal(-1)),
        replace(a_creation(), quantity=0),
    ],
)
async def test_a_creation_that_cannot_be_stored_is_refused_before_anything_is_recorded(
    database: OrderDatabase, engine: AsyncEngine, command: Any
) -> None:
    intents = PostgresIntents(
        database, failpoints=Failpoints(failpoints.NAMES), due_in_seconds=3600
    )
    with pytest.raises(ValidationFailed):
        await intents.record(a_change(command))
    assert await count(engine, "operations") == await count(engine, "orders") == 0


@pytest.mark.parametrize(
    "field",
    [
        {"update_time": datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-1)))},
        {"update_time": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))},
        {"quantity": 2**31},
        {"quantity": 0},
        {"value": Decimal("0.005")},
        {"value": Decimal(99999999999999999)},
        {"value": Decimal(-1)},
    ],
    ids=str,
)
async def test_an_operation_is_recorded_only_if_the_orders_row_will_take_it(
    use_cases: UseCases, database: OrderDatabase, engine: AsyncEngine, field: dict[str, Any]
) -> None:
    """Every field, whatever the checks before it would have said."""
    order_id = await created(use_cases)
    planned = plan_creation(
        replace(a_creation(), order_id=order_id), op_id=uuid.uuid4(), now=datetime.now(UTC)
    )
    body = replace(planned.body, status=Status.UPDATED, **field)
    operation = replace(planned, kind=Kind.UPDATE, version=2, body=body)
    with pytest.raises((Unstorable, DataError)):
        async with engine.begin() as connection:
            await Operations(connection).insert(
                operation, client="anonymous", due_in_seconds=0, traceparent=None
            )
    assert not await recorded_at_once(database, operation)
    assert await count(engine, "operations") == 1


async def recorded_at_once(database: OrderDatabase, operation: Operation) -> bool:
    async with database.store.session() as session:
        try:
            recorded = await database.journal.record(
                session, operation, key=None, client="a", due_in_seconds=0, traceparent=None
            )
        except psycopg.DataError:
            return False
    return recorded is not None


async def test_an_operation_of_the_first_release_that_could_not_be_completed_now_is(
    use_cases: UseCases, engine: AsyncEngine, invoices: FakeInvoices
) -> None:
    order_id = await created(use_cases)
    invoices.after = [lost_reply()]
    change = a_change(an_update(order_id))
    await use_cases.changes.apply(change)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE operations SET payload = payload ||"
                """ '{"update_time": "9999-12-31T23:59:59-01:00"}' WHERE state = 'pending'"""
            )
        )
        stuck = await Operations(connection).find(change.op_id)
    assert stuck is not None
    assert BODY.from_payload(BODY.to_payload(stuck.operation.body)) == stuck.operation.body
    completions: Any = use_cases.cancellation._finishing._completions
    response = await completions.complete(stuck.operation, Decision(Outcome.APPLIED))
    assert response.status == 204
    assert (await use_cases.reading.order(order_id)).version == 2
    healed = await use_cases.changes.apply(a_change(an_update(order_id)))
    assert healed.status == 204
