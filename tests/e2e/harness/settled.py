"""What has to hold some time after the last fault."""

from __future__ import annotations

from typing import Final

from tests.e2e.harness.installation import INVOICE_URL, Shop
from tests.e2e.harness.shop import Body, disagreements, lost, pending
from tests.e2e.harness.waiting import eventually

HEAL_SECONDS: Final = 90


def assert_settled(shop: Shop, acknowledged: dict[str, Body]) -> None:
    """No operation stays undecided, no lock is left, nothing is lost, and both sides agree."""
    with shop.orders() as orders, shop.invoices() as invoices:
        eventually(
            lambda: pending(orders),
            until=lambda operations: not operations,
            what="the end of every operation",
            timeout_seconds=HEAL_SECONDS,
        )
        eventually(
            shop.lock_keys,
            until=lambda keys: not keys,
            what="the end of every lock",
            timeout_seconds=HEAL_SECONDS,
        )
        differences = disagreements(orders, invoices)
        assert not differences, differences
        missed = lost(orders, acknowledged)
        assert not missed, missed
    audit(shop)


def audit(shop: Shop) -> None:
    """Let the order service compare both databases itself; it fails when they differ."""
    pod = shop.wait_serving("order", pods=2, timeout_seconds=HEAL_SECONDS)[0]
    command = ("python", "-m", "order", "audit", "--json", f"--invoice-url={INVOICE_URL}")
    shop.namespace.exec(pod.name, *command, timeout_seconds=120)
