"""What the first release has left is taken over by this one, whatever state it is in."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.together import first_release
from tests.together.first_release import History
from tests.together.processes import Nursery
from tests.together.shop import Shop, Templates

from devkit.servers import PostgresServer, RedisServer
from order.__main__ import main


@pytest.fixture
def histories() -> list[History]:
    return first_release.histories()


@pytest.fixture
def upgraded(
    histories: list[History],
    nursery: Nursery,
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    tmp_path: Path,
) -> Iterator[Shop]:
    """A shop on databases that the first release had filled, and that were migrated since."""
    names = Templates(f"order_first_{uuid.uuid4().hex}", f"invoice_first_{uuid.uuid4().hex}")
    order, invoice = (
        postgres_server.create_database(name) for name in (names.order, names.invoice)
    )
    first_release.migrate(order, invoice, revision=first_release.FIRST)
    first_release.fill(order, invoice, histories)
    first_release.migrate(order, invoice, revision="head")
    with Shop(
        tmp_path,
        nursery=nursery,
        postgres=postgres_server,
        redis_server=redis_server,
        templates=names,
    ) as shop:
        yield shop


def test_an_upgrade_finishes_and_keeps_what_the_first_release_had_begun(
    upgraded: Shop,
    histories: list[History],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    upgraded.wait_settled()
    assert upgraded.differences() == []
    orders = upgraded.orders()
    found = {order_id: (row["version"], row["status"]) for order_id, row in orders.items()}
    assert found == {
        each.order_id: (each.version, each.status) for each in histories if each.version
    }
    states = {row["op_id"]: row["state"] for row in upgraded.operations()}
    assert states == {
        step.op_id: "committed" if step.takes_effect else "rejected"
        for each in histories
        for step in each.steps
    }

    with httpx.Client(base_url=upgraded.order.url, timeout=20.0, trust_env=False) as client:
        assert every_id(client, "/orders", "id") == set(map(str, orders))
        assert every_id(client, "/operations", "id") == set(map(str, states))
        for each in histories:
            assert_a_repetition_gets_the_answer_that_is_kept(client, each)
            assert_it_can_be_changed(client, each)
    upgraded.assert_true()
    with httpx.Client(base_url=upgraded.invoice.url, timeout=20.0, trust_env=False) as client:
        assert every_id(client, "/invoices", "order_id") == set(map(str, orders))

    monkeypatch.setenv("ORDER_DATABASE_URL", upgraded.order_database)
    monkeypatch.setenv("ORDER_REDIS_URL", upgraded.redis.url)
    services = ["--order-url", upgraded.order.url, "--invoice-url", upgraded.invoice.url]
    assert main(["audit", "--json", *services]) == 0
    assert json.loads(capsys.readouterr().out)["equal"] is True


def every_id(client: httpx.Client, path: str, member: str) -> set[str]:
    """What a walk over all pages shows."""
    seen: set[str] = set()
    query: dict[str, str | int] = {"limit": 5}
    while True:
        page = client.get(path, params=query).json()
        seen |= {item[member] for item in page["items"]}
        if page["next_cursor"] is None:
            return seen
        query["cursor"] = page["next_cursor"]


def assert_a_repetition_gets_the_answer_that_is_kept(client: httpx.Client, each: History) -> None:
    creation = each.steps[0]
    key = {"Idempotency-Key": str(creation.op_id)}
    answer = client.post("/orders", json=first_release.CREATION, headers=key)
    assert answer.status_code == (201 if creation.takes_effect else 409), answer.text
    if creation.state == "pending" and creation.takes_effect:
        assert answer.json()["id"] == str(each.order_id)
    elif creation.state != "pending":
        assert answer.content == first_release.kept_answer(creation)


def assert_it_can_be_changed(client: httpx.Client, each: History) -> None:
    path = f"/orders/{each.order_id}"
    body = {"update_time": first_release.MOMENT.isoformat(), "quantity": 5}
    answer = client.patch(path, json=body)
    if each.version == 0:
        assert answer.status_code == 404
    elif each.status == "deleted":
        assert (answer.status_code, answer.json()["title"]) == (422, "The order is deleted")
    else:
        assert answer.status_code == 204, answer.text
        assert client.get(path).json()["total"] == "47.50"
