"""An order's body as JSON, as operations keep it, and as columns of its row."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from order.domain import Body, Order, Status
from servicekit.money import to_text

FIELDS: Final = ("user_id", "item_id", "quantity", "value", "total", "status", "update_time")
"""What a body consists of, as members of the payload and as columns of an order's row."""


def to_payload(body: Body) -> dict[str, Any]:
    """Return the body as JSON holds it: amounts as text, times in RFC 3339."""
    return {
        "user_id": str(body.user_id),
        "item_id": str(body.item_id),
        "quantity": body.quantity,
        "value": to_text(body.value),
        "total": to_text(body.total),
        "status": body.status.value,
        "update_time": body.update_time.isoformat(),
    }


def from_payload(payload: Mapping[str, Any]) -> Body:
    """Return the body that ``to_payload`` was given."""
    return Body(
        user_id=UUID(payload["user_id"]),
        item_id=UUID(payload["item_id"]),
        quantity=payload["quantity"],
        value=Decimal(payload["value"]),
        status=Status(payload["status"]),
        update_time=_instant(payload["update_time"]),
    )


def _instant(text: str) -> datetime:
    """Return a time in UTC, the last that there is if it lies after that.

    The first release recorded such times, whose orders could then never be completed.
    """
    time = datetime.fromisoformat(text)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def to_columns(body: Body) -> dict[str, Any]:
    """Return the body as the columns of an order's row."""
    return {
        "user_id": body.user_id,
        "item_id": body.item_id,
        "quantity": body.quantity,
        "value": body.value,
        "total": body.total,
        "status": body.status.value,
        "update_time": body.update_time,
    }


def order_of(row: Any) -> Order:  # noqa: ANN401 (a row of SQLAlchemy's or of psycopg's)
    """Return the order that a row holds."""
    body = Body(
        user_id=row.user_id,
        item_id=row.item_id,
        quantity=row.quantity,
        value=row.value,
        status=Status(row.status),
        update_time=row.update_time,
    )
    return Order(
        id=row.id,
        version=row.version,
        body=body,
        pending_op=row.pending_op,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
