"""The service as its clients see it."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from apps.order.tests.fakes import FakeInvoices, FakeLocks
from apps.order.tests.waiting import until

from order import failpoints
from order.app import create_app
from order.settings import Settings
from servicekit.runtime import Runtime

NOW = datetime.now(UTC).isoformat().replace("+00:00", "Z")
PROBLEM = "application/problem+json"


async def created(client: httpx.AsyncClient, body: dict[str, Any]) -> str:
    answer = await client.post("/orders", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_a_created_order_can_be_read_where_location_says(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    answer = await client.post("/orders", json=new_order)
    assert answer.status_code == 201
    read = await client.get(answer.headers["location"])
    assert read.content == answer.content
    assert read.headers["etag"] == answer.headers["etag"] == '"1"'
    body = read.json()
    assert (body["value"], body["total"], body["status"]) == ("9.50", "19.00", "created")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": 0}, "quantity"),
        ({"quantity": 1.5}, "quantity"),
        ({"quantity": "2"}, "quantity"),
        ({"quantity": 2**31}, "quantity"),
        ({"value": -1}, "value"),
        ({"value": "1.005"}, "value"),
        ({"value": "NaN"}, "value"),
        ({"user_id": "x"}, "user_id"),
        ({"item_id": 5}, "item_id"),
        ({"colour": "red"}, "colour"),
        ({"quantity": 2**31 - 1, "value": "9999999999999999.99"}, "value"),
    ],
)
async def test_a_field_that_is_not_acceptable_is_named(
    client: httpx.AsyncClient, new_order: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    answer = await client.post("/orders", json=new_order | change)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == PROBLEM
    problem = answer.json()
    assert problem["type"] == "/problems/validation-failed"
    assert field in {error["field"] for error in problem["errors"]}
    assert problem["trace_id"]


@pytest.mark.parametrize(
    "update_time",
    [None, 1, "2030-01-01", "2030-01-01T00:00:00", "yesterday", "2030-13-01T00:00:00Z"],
)
async def test_an_update_time_must_be_rfc_3339(
    client: httpx.AsyncClient, new_order: dict[str, Any], update_time: object
) -> None:
    order_id = await created(client, new_order)
    answer = await client.patch(f"/orders/{order_id}", json={"update_time": update_time})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "update_time"


@pytest.mark.parametrize(
    "update_time",
    [
        "9999-12-31T23:59:59-01:00",
        "9999-12-31T23:59:59.999999Z",
        "0001-01-01T00:00:00+00:01",
        "2099-01-01T00:00:00Z",
        "in two hours",
    ],
)
async def test_an_update_time_that_no_clock_can_show_is_422_and_changes_nothing(
    client: httpx.AsyncClient, new_order: dict[str, Any], update_time: str
) -> None:
    path = f"/orders/{await created(client, new_order)}"
    if update_time == "in two hours":
        update_time = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    body = {"update_time": update_time, "quantity": 7}
    for key in ("a", "a"):
        answer = await client.patch(path, json=body, headers={"Idempotency-Key": key})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "update_time"
    assert (await client.get(path)).json()["version"] == 1
    honest = await client.patch(path, json={"update_time": NOW, "quantity": 3})
    assert honest.status_code == 204


async def test_a_client_whose_clock_is_behind_can_change_a_new_order(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    path = f"/orders/{await created(client, new_order)}"
    behind = (datetime.now(UTC) - timedelta(seconds=2)).isoformat()
    assert (await client.patch(path, json={"update_time": behind})).status_code == 204


async def test_an_instant_is_the_same_in_every_offset(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    path = f"/orders/{await created(client, new_order)}"
    here = datetime.now(UTC).astimezone(timezone(timedelta(hours=14)))
    assert (await client.patch(path, json={"update_time": here.isoformat()})).status_code == 204
    shown = datetime.fromisoformat((await client.get(path)).json()["update_time"])
    assert shown == here


async def test_rubbish_after_the_body_is_refused(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    answer = await client.post(
        "/orders", content=b'{"a":1} x', headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400


async def test_an_update_time_older_than_the_orders_is_409_and_an_equal_one_passes(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    path = f"/orders/{await created(client, new_order)}"
    assert (await client.patch(path, json={"update_time": NOW, "quantity": 3})).status_code == 204
    assert (await client.patch(path, json={"update_time": NOW, "quantity": 4})).status_code == 204
    older = await client.patch(path, json={"update_time": "2001-01-01T00:00:00Z", "quantity": 5})
    assert (older.status_code, older.json()["type"]) == (409, "/problems/stale-update")
    order = (await client.get(path)).json()
    assert (order["quantity"], order["update_time"]) == (4, NOW)


async def test_an_update_may_carry_only_its_time(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    path = f"/orders/{await created(client, new_order)}"
    answer = await client.patch(path, json={"update_time": NOW})
    assert (answer.status_code, answer.headers["etag"]) == (204, '"2"')


async def test_a_deletion_may_be_repeated_and_ends_updates(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    path = f"/orders/{await created(client, new_order)}"
    assert (await client.delete(path)).status_code == 204
    again = await client.delete(path, headers={"If-Match": '"1"'})
    assert (again.status_code, again.headers["etag"]) == (204, '"2"')
    assert (await client.get(path)).json()["status"] == "deleted"
    late = await client.patch(path, json={"update_time": NOW})
    assert (late.status_code, late.json()["type"]) == (422, "/problems/order-deleted")


async def test_an_unknown_order_is_404_and_a_malformed_id_422(client: httpx.AsyncClient) -> None:
    path = f"/orders/{uuid.uuid4()}"
    for answer in (
        await client.get(path),
        await client.delete(path),
        await client.patch(path, json={"update_time": NOW}),
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM)
    assert (await client.get("/orders/nonsense")).status_code == 422
    assert (await client.get(f"/operations/{uuid.uuid4()}")).status_code == 404
    assert (await client.post(f"/operations/{uuid.uuid4()}/cancel")).status_code == 404


async def test_conditional_requests_follow_the_version(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    path = f"/orders/{await created(client, new_order)}"
    body = {"update_time": NOW, "quantity": 3}
    wrong = await client.patch(path, json=body, headers={"If-Match": '"2"'})
    assert wrong.status_code == 412
    weak = await client.patch(path, json=body, headers={"If-Match": 'W/"1"'})
    assert weak.status_code == 412
    right = await client.patch(path, json=body, headers={"If-Match": '"1"'})
    assert right.status_code == 204
    known = await client.get(path, headers={"If-None-Match": '"2"'})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", '"2"')
    assert (await client.get(path, headers={"If-None-Match": '"1"'})).status_code == 200
    for tag, status in [('"2"', 200), ('"1"', 412), ('W/"2"', 412), ("*", 200), ("2", 422)]:
        read = await client.get(path, headers={"If-Match": tag, "If-None-Match": '"1"'})
        assert (read.status_code, tag) == (status, tag)
    malformed = await client.delete(path, headers={"If-Match": "2"})
    assert malformed.status_code == 422


async def test_pages_show_every_order_once_and_can_be_narrowed_to_a_user(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    mine = [await created(client, new_order) for _ in range(3)]
    other = await created(client, new_order | {"user_id": str(uuid.uuid4())})
    seen, cursor = [], None
    while True:
        query = {"limit": 2} | ({} if cursor is None else {"cursor": cursor})
        page = (await client.get("/orders", params=query)).json()
        seen += [order["id"] for order in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [other, *reversed(mine)]
    narrowed = await client.get("/orders", params={"user_id": new_order["user_id"]})
    assert [order["id"] for order in narrowed.json()["items"]] == mine[::-1]
    assert (await client.get("/orders", params={"cursor": "x"})).status_code == 422
    assert (await client.get("/orders", params={"limit": 0})).status_code == 422


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/orders?limit=1&limit=2", "limit"),
        ("/orders?cursor=a&cursor=a", "cursor"),
        (f"/orders?user_id={uuid.UUID(int=1)}&user_id={uuid.UUID(int=2)}", "user_id"),
        ("/operations?limit=1&limit=1", "limit"),
        ("/operations?state=pending&state=committed", "state"),
        (f"/operations?order_id={uuid.UUID(int=1)}&order_id={uuid.UUID(int=2)}", "order_id"),
    ],
)
async def test_a_parameter_that_is_given_twice_is_refused_by_name(
    client: httpx.AsyncClient, path: str, field: str
) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation-failed")
    assert answer.json()["errors"] == [{"field": field, "message": "is given more than once"}]


async def test_a_replay_is_the_same_byte_for_byte(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    headers = {"Idempotency-Key": "one"}
    first = await client.post("/orders", json=new_order, headers=headers)
    again = await client.post("/orders", json=new_order, headers={"Idempotency-Key": '"one"'})
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert sorted(again.headers.raw) == sorted(first.headers.raw)
    other = await client.post("/orders", json=new_order | {"quantity": 9}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")
    path = first.headers["location"]
    elsewhere = await client.delete(path, headers=headers)
    assert elsewhere.status_code == 422
    assert len((await client.get("/orders")).json()["items"]) == 1


async def test_the_same_amount_written_otherwise_is_the_same_request(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    headers = {"Idempotency-Key": "one"}
    first = await client.post("/orders", json=new_order | {"value": 10}, headers=headers)
    again = await client.post("/orders", json=new_order | {"value": "10.00"}, headers=headers)
    assert again.content == first.content


async def test_a_refusal_replayed_is_the_same_byte_for_byte(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    path = f"/orders/{await created(client, new_order)}"
    headers = {"Idempotency-Key": "k"}
    body = {"update_time": "2001-01-01T00:00:00Z"}
    first = await client.patch(path, json=body, headers=headers)
    await client.delete(path)
    again = await client.patch(path, json=body, headers=headers)
    assert (first.status_code, again.content) == (409, first.content)
    assert first.headers["content-type"] == again.headers["content-type"] == PROBLEM


async def test_a_busy_order_is_423_with_retry_after(
    client: httpx.AsyncClient, new_order: dict[str, Any], locks: FakeLocks
) -> None:
    order_id = await created(client, new_order)
    async with locks.hold(uuid.UUID(order_id), wait_seconds=1):
        answer = await client.patch(f"/orders/{order_id}", json={"update_time": NOW})
    assert (answer.status_code, answer.json()["type"]) == (423, "/problems/order-locked")
    assert int(answer.headers["retry-after"]) >= 1
    assert len((await client.get("/operations")).json()["items"]) == 1


async def test_a_dependency_that_is_down_is_503_with_retry_after(
    client: httpx.AsyncClient,
    new_order: dict[str, Any],
    invoices: FakeInvoices,
    locks: FakeLocks,
) -> None:
    invoices.available = False
    answer = await client.post("/orders", json=new_order)
    assert answer.json()["type"] == "/problems/invoice-service-unavailable"
    invoices.available, locks.available = True, False
    other = await client.post("/orders", json=new_order)
    assert other.json()["type"] == "/problems/lock-unavailable"
    for each in (answer, other):
        assert each.status_code == 503
        assert "retry-after" in each.headers
    assert (await client.get("/operations")).json()["items"] == []


async def test_an_unknown_outcome_is_202_and_can_be_followed_and_cancelled(
    client: httpx.AsyncClient, new_order: dict[str, Any], invoices: FakeInvoices
) -> None:
    order_id = await created(client, new_order)
    path = f"/orders/{order_id}"
    invoices.deaf = True
    answer = await client.patch(path, json={"update_time": NOW, "quantity": 7})
    assert answer.status_code == 202
    operation = await client.get(answer.headers["location"])
    assert operation.headers["location"] == path
    assert (operation.json()["state"], operation.json()["version"]) == ("pending", 2)
    order = await client.get(path)
    assert order.headers["pending-operation"] == answer.headers["location"]
    assert order.json()["quantity"] == 2
    listed = (await client.get("/orders")).json()["items"][0]
    assert listed["pending_operation"] == answer.headers["location"]
    pending = await client.get("/operations", params={"state": "pending"})
    assert [each["id"] for each in pending.json()["items"]] == [operation.json()["id"]]
    cancelled = await client.post(f"{answer.headers['location']}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "rejected")
    assert "pending-operation" not in (await client.get(path)).headers
    again = await client.post(f"{answer.headers['location']}/cancel")
    assert again.json()["state"] == "rejected"


async def test_a_creation_on_its_way_is_not_visible(
    client: httpx.AsyncClient, new_order: dict[str, Any], invoices: FakeInvoices
) -> None:
    invoices.deaf = True
    answer = await client.post("/orders", json=new_order)
    assert answer.status_code == 202
    assert (await client.get(f"/orders/{answer.json()['order_id']}")).status_code == 404
    assert (await client.get("/orders")).json()["items"] == []


async def test_a_short_deadline_of_the_caller_is_kept(
    client: httpx.AsyncClient, new_order: dict[str, Any], runtime: Runtime
) -> None:
    runtime.failpoints.arm(f"{failpoints.AFTER_LOCK}=delay:60")
    answer = await client.post("/orders", json=new_order, headers={"Request-Timeout-Ms": "300"})
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/deadline-exceeded")
    assert (await client.get("/operations")).json()["items"] == []


async def test_what_could_not_be_begun_in_time_is_503_before_any_work(
    settings: Settings, runtime: Runtime, invoices: FakeInvoices, locks: FakeLocks
) -> None:
    narrow = settings.model_copy(update={"max_concurrent_requests": 2, "lock_wait_seconds": 50})
    app = create_app(narrow, runtime=runtime, invoices=invoices, locks=locks)
    path = f"/orders/{uuid.uuid4()}"
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://order") as client,
    ):
        async with locks.hold(uuid.UUID(path.rpartition("/")[2]), wait_seconds=1):
            first = asyncio.create_task(client.delete(path))
            active = "http_server_requests_active"
            await until(lambda: runtime.registry.get_sample_value(active) == 1)
            others = [f"/orders/{uuid.uuid4()}" for _ in range(9)]
            shed = await asyncio.gather(
                *(client.delete(each, headers={"Request-Timeout-Ms": "300"}) for each in others)
            )
        assert (await first).status_code == 404
    assert {answer.json()["type"] for answer in shed} == {"/problems/overloaded"}
    assert all("retry-after" in answer.headers for answer in shed)


async def test_the_probes_name_what_they_checked(client: httpx.AsyncClient) -> None:
    assert (await client.get("/ping")).status_code == 200
    assert (await client.get("/livez")).status_code == 200
    ready = await client.get("/readyz")
    assert ready.status_code == 200
    assert set(ready.json()["checks"]) == {"draining", "database", "schema"}


async def test_the_api_document_describes_every_route_and_its_problems(
    client: httpx.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()
    changes = document["paths"]["/orders/{order_id}"]["patch"]["responses"]
    assert set(changes) >= {"202", "204", "404", "409", "412", "422", "423", "503"}
    assert "stale-update" in changes["409"]["description"]
    assert "order-deleted" in changes["422"]["description"]
    assert set(document["paths"]) >= {
        "/orders",
        "/orders/{order_id}",
        "/operations",
        "/operations/{op_id}",
        "/operations/{op_id}/cancel",
    }


async def test_a_head_is_answered_as_the_get_without_its_body(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    path = f"/orders/{await created(client, new_order)}"
    for each in (path, "/orders", "/operations", "/livez", "/openapi.json"):
        head, get = await client.head(each), await client.get(each)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == get.headers["content-length"]
    assert "HEAD" in (await client.put(path)).headers["allow"]


@pytest.mark.parametrize("tag", ["0", "01", "1" * 5000])
async def test_a_tag_that_is_no_version_is_412_never_an_error(
    client: httpx.AsyncClient, new_order: dict[str, Any], tag: str
) -> None:
    path = f"/orders/{await created(client, new_order)}"
    answer = await client.delete(path, headers={"If-Match": f'"{tag}"'})
    assert answer.status_code == 412


async def test_every_line_of_a_header_counts(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    path = f"/orders/{await created(client, new_order)}"
    lines = [("If-None-Match", '"999"'), ("If-None-Match", '"1"')]
    assert (await client.get(path, headers=lines)).status_code == 304
    assert (await client.delete(path, headers=[("If-None-Match", "*")])).status_code == 412
    keys = [("Idempotency-Key", "k1"), ("Idempotency-Key", "k2")]
    assert (await client.post("/orders", json=new_order, headers=keys)).status_code == 422
    match = [("If-Match", '"999"'), ("If-Match", '"1"')]
    assert (await client.delete(path, headers=match)).status_code == 204


@pytest.mark.parametrize(
    ("given", "status"), [("2.0", 201), ("2e0", 201), ("-0", 422), ("true", 422), ("1e30", 422)]
)
async def test_a_quantity_is_an_integer_as_json_means_it(
    client: httpx.AsyncClient, new_order: dict[str, Any], given: str, status: int
) -> None:
    body = json.dumps(new_order).replace('"quantity": 2', f'"quantity": {given}')
    answer = await client.post(
        "/orders", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == status


async def test_a_compressed_body_is_415(
    client: httpx.AsyncClient, new_order: dict[str, Any]
) -> None:
    answer = await client.post("/orders", json=new_order, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415
