"""`order audit` finds every difference, mends what the journal knows, and leaves the rest alone."""

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from tests.together.conftest import ShopFactory
from tests.together.shop import Shop, create, now, wait_for

from order.__main__ import main
from order.domain import invoice_id_for

Audit = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def audit(shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Audit:
    """Runs the command and returns status and report."""
    monkeypatch.setenv("ORDER_DATABASE_URL", shop.order_database)
    monkeypatch.setenv("ORDER_REDIS_URL", shop.redis.url)
    services = ["--order-url", shop.order.url, "--invoice-url", shop.invoice.url]

    def run(*more: str) -> tuple[int, dict[str, Any]]:
        status = main(["audit", "--json", *services, *more])
        out = capsys.readouterr().out
        return status, json.loads(out) if out else {}

    return run


@pytest.fixture(params=["http", "databases"])
def source(request: pytest.FixtureRequest, shop: Shop) -> list[str]:
    """Where the audit reads: from the services, or from their databases."""
    if request.param == "http":
        return []
    return ["--order-dsn", shop.order_database, "--invoice-dsn", shop.invoice_database]


def execute(url: str, statement: str, **parameters: object) -> None:
    with psycopg.connect(url, connect_timeout=10) as connection:
        connection.execute(statement, parameters)


def update(shop: Shop, order_id: str, **members: object) -> None:
    answer = httpx.patch(
        f"{shop.order.url}/orders/{order_id}",
        json={"update_time": now(), **members},
        timeout=20.0,
        trust_env=False,
    )
    assert answer.status_code == 204


def forget(shop: Shop, order_id: str, *, after: int) -> None:
    """Make the invoice database what it was at version ``after``, as from an old backup."""
    if after == 0:
        execute(shop.invoice_database, "DELETE FROM invoices WHERE order_id = %(id)s", id=order_id)
    else:
        execute(
            shop.invoice_database,
            "UPDATE invoices SET version = %(after)s, total = 19, status = 'created',"
            " last_op = (SELECT op_id FROM applied_operations o WHERE o.invoice_id = invoices.id"
            " AND o.version = %(after)s) WHERE order_id = %(id)s",
            id=order_id,
            after=after,
        )
    execute(
        shop.invoice_database,
        "DELETE FROM applied_operations WHERE invoice_id = %(id)s AND version > %(after)s",
        id=invoice_id_for(uuid.UUID(order_id)),
        after=after,
    )


def test_equal_sides_give_status_0(shop: Shop, audit: Audit, source: list[str]) -> None:
    update(shop, create(shop.order), quantity=4)
    status, report = audit(*source)
    assert (status, report["equal"], report["orders"], report["invoices"]) == (0, True, 1, 1)


@pytest.mark.parametrize("lost_after", [0, 1])
def test_an_invoice_that_lost_changes_is_found_and_given_them_again(
    shop: Shop, audit: Audit, source: list[str], lost_after: int
) -> None:
    order_id = create(shop.order, quantity=2, value="9.50")
    update(shop, order_id, quantity=4)
    update(shop, order_id, quantity=6)
    create(shop.order)
    forget(shop, order_id, after=lost_after)
    status, report = audit(*source)
    assert status == 1
    (difference,) = report["differences"]
    assert difference["order_id"] == order_id
    assert [step["version"] for step in difference["history"]] == [1, 2, 3]
    status, report = audit("--repair", *source)
    assert (status, report["equal"]) == (0, True)
    assert "again" in report["differences"][0]["repaired"]
    shop.assert_true()


def test_what_is_in_the_archives_is_history_that_the_audit_and_its_repair_read(
    shop_of: ShopFactory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    eager = {"OPERATION_RETENTION_SECONDS": "1", "PURGE_INTERVAL_SECONDS": "0.1"}
    shop = shop_of(**{f"ORDER_{name}": value for name, value in eager.items()})
    try:
        for name, value in eager.items():
            shop.invoice.environment[f"INVOICE_{name}"] = value
        shop.invoice.start()
        shop.order.start()
        order_id = create(shop.order, quantity=2, value="9.50")
        update(shop, order_id, quantity=4)
        update(shop, order_id, quantity=6)
        wait_for(lambda: len(shop.operations()) == len(shop.recorded()) == 1)
        shop.invoice.kill()
        forget(shop, order_id, after=0)
        shop.invoice.start()
        monkeypatch.setenv("ORDER_DATABASE_URL", shop.order_database)
        monkeypatch.setenv("ORDER_REDIS_URL", shop.redis.url)
        read = ["--order-dsn", shop.order_database, "--invoice-dsn", shop.invoice_database]
        read += ["--order-url", shop.order.url, "--invoice-url", shop.invoice.url]
        assert main(["audit", "--json", *read]) == 1
        report = json.loads(capsys.readouterr().out)
        (difference,) = report["differences"]
        assert [step["version"] for step in difference["history"]] == [1, 2, 3]
        assert main(["audit", "--repair", *read]) == 0
        wait_for(lambda: len(shop.recorded()) == 1)
        assert main(["audit", *read]) == 0
    finally:
        shop.__exit__()


def test_an_altered_invoice_takes_the_orders_total_again(shop: Shop, audit: Audit) -> None:
    order_id = create(shop.order, quantity=2, value="9.50")
    execute(
        shop.invoice_database,
        "UPDATE invoices SET total = 1 WHERE order_id = %(id)s",
        id=order_id,
    )
    assert audit()[0] == 1
    assert audit("--repair")[0] == 0
    assert str(shop.invoices()[uuid.UUID(order_id)]["total"]) == "19.00"
    shop.assert_true()


def test_an_altered_order_is_written_again_from_its_last_operation(
    shop: Shop, audit: Audit
) -> None:
    order_id = create(shop.order, quantity=2, value="9.50")
    execute(
        shop.order_database,
        "UPDATE orders SET quantity = 3, total = 28.50 WHERE id = %(id)s",
        id=order_id,
    )
    assert audit()[0] == 1
    status, report = audit("--repair")
    assert status == 0
    assert "restored" in report["differences"][0]["repaired"]
    order = shop.orders()[uuid.UUID(order_id)]
    assert (order["quantity"], order["version"]) == (2, 1)
    shop.assert_true()


def test_an_invoice_ahead_of_its_order_is_reported_and_left_alone(shop: Shop, audit: Audit) -> None:
    order_id = create(shop.order)
    execute(
        shop.invoice_database,
        "UPDATE invoices SET version = 2, status = 'updated' WHERE order_id = %(id)s",
        id=order_id,
    )
    status, report = audit("--repair")
    assert status == 1
    assert report["differences"][0]["not_repaired"]
    assert shop.invoices()[uuid.UUID(order_id)]["version"] == 2


def test_an_operation_on_its_way_is_no_difference(shop: Shop, audit: Audit) -> None:
    order_id = create(shop.order)
    shop.order.kill()
    shop.order.start(failpoints="order.after_send=kill", ORDER_RECONCILE_INTERVAL_SECONDS="3600")
    with pytest.raises(httpx.TransportError):
        httpx.delete(f"{shop.order.url}/orders/{order_id}", trust_env=False)
    shop.order.wait_ended()
    shop.order.start(ORDER_RECONCILE_INTERVAL_SECONDS="3600", ORDER_INVOICE_TIMEOUT_SECONDS="10")
    status, report = audit()
    assert (status, report["pending"] + (not shop.pending())) == (0, 1)


def test_an_operation_on_its_way_for_too_long_is_found_and_finished(
    shop: Shop, audit: Audit, source: list[str]
) -> None:
    """Also if both sides still say the same: somebody waits for it."""
    order_id = create(shop.order)
    shop.order.kill()
    shop.order.start(failpoints="order.after_t1=kill", ORDER_RECONCILE_INTERVAL_SECONDS="3600")
    with pytest.raises(httpx.TransportError):
        httpx.delete(f"{shop.order.url}/orders/{order_id}", trust_env=False)
    shop.order.wait_ended()
    # Before the start, whose first look would finish it.
    execute(shop.order_database, "UPDATE operations SET next_attempt_at = now() + interval '1 h'")
    shop.order.start(ORDER_RECONCILE_INTERVAL_SECONDS="3600", ORDER_INVOICE_TIMEOUT_SECONDS="10")
    assert audit(*source)[0] == 0
    status, report = audit("--pending-after", "0", *source)
    assert (status, report["equal"]) == (1, False)
    (finding,) = report["differences"]
    assert (finding["kind"], finding["order_id"]) == ("stuck", order_id)
    status, report = audit("--pending-after", "0", "--repair", *source)
    assert (status, report["equal"]) == (0, True)
    assert shop.invoices()[uuid.UUID(order_id)]["status"] == "deleted"
    shop.assert_true()


ALTERATIONS = {
    "invoice_user": ("invoice", "user_id = gen_random_uuid()", False),
    "invoice_total": ("invoice", "total = 1", True),
    "invoice_deleted": ("invoice", "status = 'deleted'", False),
    "order_user": ("order", "user_id = gen_random_uuid()", True),
    "order_version": ("order", "version = 7", True),
    "order_amounts": ("order", "quantity = 9, total = 9 * value", True),
    "order_deleted": ("order", "status = 'deleted'", True),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_a_repair_mends_a_field_for_good_or_says_why_not_and_writes_nothing(
    shop: Shop, audit: Audit, name: str
) -> None:
    side, alteration, mendable = ALTERATIONS[name]
    order_id = create(shop.order, quantity=2, value="9.50")
    update(shop, order_id, quantity=3)
    database = shop.invoice_database if side == "invoice" else shop.order_database
    execute(database, f"UPDATE {side}s SET {alteration}")
    assert audit()[0] == 1
    first, report = audit("--repair")
    assert first == (0 if mendable else 1)
    (entry,) = report["differences"]
    assert bool(entry["repaired"]) == mendable
    assert bool(entry["not_repaired"]) == (not mendable)
    version = shop.orders()[uuid.UUID(order_id)]["version"]
    assert version == (3 if name == "invoice_total" else 2)
    assert audit("--repair")[0] == (0 if mendable else 1)
    assert shop.orders()[uuid.UUID(order_id)]["version"] == version
    assert len(shop.operations()) == version
    if mendable:
        shop.assert_true()


def test_it_is_safe_while_orders_change(shop: Shop, audit: Audit) -> None:
    orders = [create(shop.order) for _ in range(4)]

    def change(order_id: str) -> None:
        for quantity in range(1, 11):
            update(shop, order_id, quantity=quantity)

    with ThreadPoolExecutor(len(orders)) as pool:
        running = [pool.submit(change, order_id) for order_id in orders]
        while not all(each.done() for each in running):
            assert audit()[0] == 0
        for each in running:
            each.result()
    assert audit()[0] == 0


def test_operations_whose_two_ends_disagree_are_found_in_the_databases(
    shop: Shop, audit: Audit
) -> None:
    create(shop.order)
    execute(
        shop.invoice_database,
        "UPDATE applied_operations SET outcome = 'rejected', response_status = 409",
    )
    assert audit()[0] == 0
    databases = ["--order-dsn", shop.order_database, "--invoice-dsn", shop.invoice_database]
    status, report = audit(*databases)
    assert (status, report["differences"][0]["kind"]) == (1, "history")


def test_a_service_that_does_not_answer_gives_status_2(shop: Shop, audit: Audit) -> None:
    status = main(["audit", "--order-url", shop.order.url, "--invoice-url", "http://127.0.0.1:1"])
    assert status == 2
