"""Databases as the first release left them: its first schema, with rows in every state.

What has its end is there, and what was on its way, stopped at each step of the protocol. Written as
the first release wrote it: an operation's id says nothing yet, and nobody is named as its client.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from invoice.schema import MIGRATIONS as INVOICE_MIGRATIONS
from order.schema import MIGRATIONS as ORDER_MIGRATIONS

FIRST: Final = "0001"
_INVOICES: Final = uuid.UUID("6f2d6c0e-6a0e-5d5c-9a53-3f0e0b6b5a11")
MOMENT: Final = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
USER: Final = uuid.UUID("5f0c2c49-31c8-4a55-b1f2-5a1f5b2f7a10")
ITEM: Final = uuid.UUID("0d2f6f2e-9d0a-4f5b-8a53-6e1c6d1c2b11")
_FENCE: Final = 7
_STATUS: Final = {"create": "created", "update": "updated", "delete": "deleted"}
_QUANTITY: Final = {"create": 2, "update": 3, "delete": 2}


@dataclass(frozen=True)
class Step:
    """One operation of an order.

    Attributes:
        kind: what it does.
        state: what the order service knew: ``pending``, ``committed`` or ``rejected``.
        decided: what the invoice service had recorded: ``applied``, ``rejected``, ``aborted``, or
            nothing.
    """

    kind: str
    state: str
    decided: str | None
    op_id: uuid.UUID = field(default_factory=uuid.uuid4)

    @property
    def takes_effect(self) -> bool:
        """Whether it is part of both sides once it is finished."""
        return self.decided == "applied" or (self.state, self.decided) == ("pending", None)


@dataclass(frozen=True)
class History:
    """An order by its operations."""

    steps: tuple[Step, ...]
    order_id: uuid.UUID = field(default_factory=uuid.uuid4)

    @property
    def version(self) -> int:
        """The version that both sides have in the end; 0 if there is no order."""
        return sum(step.takes_effect for step in self.steps)

    @property
    def status(self) -> str:
        """The status that both sides have in the end."""
        return [_STATUS[step.kind] for step in self.steps if step.takes_effect][-1]

    @property
    def invoice_id(self) -> uuid.UUID:
        """The id that the order's invoice has, or would have."""
        return uuid.uuid5(_INVOICES, str(self.order_id))


def histories() -> list[History]:
    """Every way in which an order could stand."""
    ends = [
        ("committed", "applied"),
        ("rejected", "rejected"),
        ("rejected", "aborted"),
        ("pending", None),
        ("pending", "applied"),
        ("pending", "rejected"),
        ("pending", "aborted"),
    ]
    made = [History((Step("create", *end),)) for end in ends]
    made += [
        History((Step("create", "committed", "applied"), Step(kind, *end)))
        for kind in ("update", "delete")
        for end in ends
    ]
    return made


CREATION: Final = {"user_id": str(USER), "item_id": str(ITEM), "quantity": 2, "value": "9.50"}
"""The body of each request that made an order, under its operation's id as idempotency key."""


def migrate(order_database: str, invoice_database: str, *, revision: str) -> None:
    """Bring both databases to a revision."""
    ORDER_MIGRATIONS.upgrade(order_database, revision=revision)
    INVOICE_MIGRATIONS.upgrade(invoice_database, revision=revision)


def fill(order_database: str, invoice_database: str, found: list[History]) -> None:
    """Write the rows of both services."""
    with psycopg.connect(order_database) as orders, psycopg.connect(invoice_database) as invoices:
        for history in found:
            _write_order(orders, history)
            _write_invoice(invoices, history)


def _write_order(database: psycopg.Connection, history: History) -> None:
    committed = [step for step in history.steps if step.state == "committed"]
    shown = committed[-1] if committed else history.steps[-1]
    pending = [step.op_id for step in history.steps if step.state == "pending"]
    row = {
        "id": history.order_id,
        **_body(shown, update_time=MOMENT),
        "version": len(committed),
        "created_at": MOMENT,
        "updated_at": MOMENT,
        "pending_op": pending[0] if pending else None,
    }
    _insert(database, "orders", row)
    for version, step in enumerate(history.steps, start=1):
        _insert(database, "operations", _operation(history, step, version))
        if step.kind == "create":
            _insert(database, "idempotency_keys", _key(step))


def _body(step: Step, *, update_time: object) -> dict[str, Any]:
    quantity = _QUANTITY[step.kind]
    return {
        "user_id": str(USER),
        "item_id": str(ITEM),
        "quantity": quantity,
        "value": "9.50",
        "total": _total(step),
        "status": _STATUS[step.kind],
        "update_time": update_time,
    }


def _total(step: Step) -> str:
    return f"{_QUANTITY[step.kind] * 9.5:.2f}"


def _operation(history: History, step: Step, version: int) -> dict[str, Any]:
    row = {
        "op_id": step.op_id,
        "order_id": history.order_id,
        "invoice_id": history.invoice_id,
        "kind": step.kind,
        "version": version,
        "payload": Jsonb(_body(step, update_time=MOMENT.isoformat())),
        "state": step.state,
        "attempts": 0,
        "next_attempt_at": MOMENT,
        "created_at": MOMENT,
    }
    if step.state == "pending":
        return row
    created = step.state == "committed" and step.kind == "create"
    status = 201 if created else 204 if step.state == "committed" else 409
    return row | {
        "response_status": status,
        "response_headers": Jsonb([["etag", f'"{version}"']]),
        "response_body": kept_answer(step) if status != 204 else b"",
        "finished_at": MOMENT,
    }


def kept_answer(step: Step) -> bytes:
    """The body of the answer that the first release had given."""
    return json.dumps({"answer of": str(step.op_id)}).encode()


def _key(step: Step) -> dict[str, Any]:
    canonical = json.dumps(CREATION, sort_keys=True, separators=(",", ":"))
    return {
        "client": "anonymous",
        "idempotency_key": str(step.op_id),
        "request_hash": hashlib.sha256(f"POST /orders\n{canonical}".encode()).digest(),
        "op_id": step.op_id,
        "created_at": MOMENT,
    }


def _write_invoice(database: psycopg.Connection, history: History) -> None:
    for version, step in enumerate(history.steps, start=1):
        if step.decided is not None:
            _insert(database, "applied_operations", _decision(history, step, version))
    applied = [step for step in history.steps if step.decided == "applied"]
    if applied:
        row = {
            "id": history.invoice_id,
            "order_id": history.order_id,
            "user_id": USER,
            "total": _total(applied[-1]),
            "status": _STATUS[applied[-1].kind],
            "version": len(applied),
            "fence": _FENCE,
            "last_op": applied[-1].op_id,
            "created_at": MOMENT,
            "updated_at": MOMENT,
        }
        _insert(database, "invoices", row)


def _decision(history: History, step: Step, version: int) -> dict[str, Any]:
    aborted = step.decided == "aborted"
    body = {"detail": "refused by the first release", "title": "refused", "status": 409}
    return {
        "op_id": step.op_id,
        # Not what was asked: nobody asks it again, since recovery looks for what is recorded.
        "request_hash": None if aborted else hashlib.sha256(step.op_id.bytes).digest(),
        "kind": "abort" if aborted else step.kind,
        "outcome": step.decided,
        "invoice_id": history.invoice_id,
        "version": None if aborted else version,
        "fence": 0 if aborted else _FENCE,
        "direct": False,
        "response_status": 204 if step.decided == "applied" else 409,
        "response_headers": Jsonb([]),
        "response_body": b"" if step.decided == "applied" else json.dumps(body).encode(),
        "created_at": MOMENT,
    }


def _insert(database: psycopg.Connection, table: str, row: Mapping[str, Any]) -> None:
    columns, values = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    database.execute(f"INSERT INTO {table} ({columns}) VALUES ({values})", row)
