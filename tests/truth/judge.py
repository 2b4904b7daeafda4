"""Compares what clients were told with what both databases hold in the end."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
from tests.together.shop import Shop
from tests.truth.client import Attempt

_UNKNOWN = {None, 202, 504}
_UNRECORDED_SECONDS = 30
_SUCCESS = {200, 201, 204}


class Judge:
    """Knows what was written.

    Args:
        shop: the shop, with nothing pending any more.
    """

    def __init__(self, shop: Shop) -> None:
        self._order_url = shop.order.url
        self._operations: dict[str, dict[str, Any]] = {
            str(row["op_id"]): row for row in shop.operations()
        }
        committed = [row for row in self._operations.values() if row["state"] == "committed"]
        self._changed = {
            f"{row['order_id']} {row['payload']['quantity']}"
            for row in committed
            if row["kind"] == "update"
        }
        self._deleted = {str(row["order_id"]) for row in committed if row["kind"] == "delete"}
        self._order_users = {str(row["user_id"]) for row in shop.orders().values()}
        invoices = shop.invoice_look.rows("SELECT user_id, order_id FROM invoices")
        self._invoice_users = {str(row["user_id"]) for row in invoices}
        self._of_orders = {str(row["user_id"]) for row in invoices if row["order_id"] is not None}
        self._aborted = {
            str(row["op_id"])
            for row in shop.invoice_look.rows(
                "SELECT op_id FROM applied_operations WHERE outcome = 'aborted'"
            )
        }

    def faults(self, attempts: list[Attempt]) -> list[str]:
        """Return every answer that was not true."""
        return [f"{attempt}: {fault}" for attempt in attempts for fault in self._judge(attempt)]

    def _judge(self, attempt: Attempt) -> Iterator[str]:
        if attempt.status is not None and attempt.status >= httpx.codes.INTERNAL_SERVER_ERROR:
            if attempt.status not in {503, 504}:
                yield "a failure without a meaning"
            if attempt.status == httpx.codes.GATEWAY_TIMEOUT and attempt.kind != "invoice":
                yield "unknown, where something finishes it"
        written = self._written(attempt)
        if attempt.status in _SUCCESS and not written:
            yield "a success, and nothing is written"
        if attempt.status not in _SUCCESS | _UNKNOWN and written:
            yield "a refusal, and it is written"
        if attempt.status == httpx.codes.ACCEPTED:
            yield from self._judge_accepted(attempt, written=written)
        if attempt.kind == "create" and (attempt.mark in self._of_orders) != written:
            yield "an order without its invoice, or the other way round"

    def _judge_accepted(self, attempt: Attempt, *, written: bool) -> Iterator[str]:
        if attempt.page != httpx.codes.OK:
            yield f"its page answered {attempt.page}"
        if attempt.said == "rejected" and attempt.kind != "cancel" and written:
            yield "its page said that nothing is written, and it is"
        page = self._last_page(f"{self._order_url}{attempt.operation}")
        if page.status_code != httpx.codes.OK:
            yield f"its page ends with {page.status_code}"
        elif attempt.kind != "cancel":
            state = page.json()["state"]
            if state == "pending" or (state == "committed") != written:
                yield f"its page ends with {state}"

    def _last_page(self, url: str) -> httpx.Response:
        """Return an operation's page once it is final: what is not recorded may come for a time."""
        deadline = time.monotonic() + _UNRECORDED_SECONDS
        while True:
            page = httpx.get(url, timeout=30, trust_env=False)
            if "retry-after" not in page.headers or time.monotonic() >= deadline:
                return page
            time.sleep(0.2)

    def _written(self, attempt: Attempt) -> bool:
        match attempt.kind:
            case "create":
                return attempt.mark in self._order_users
            case "patch":
                return attempt.mark in self._changed
            case "delete":
                return attempt.mark in self._deleted
            case "cancel":
                # Whatever it finds is a success; what it may not deny is that it has cancelled.
                return attempt.status in _SUCCESS or attempt.mark in self._aborted
            case _:
                return attempt.mark in self._invoice_users | self._order_users
