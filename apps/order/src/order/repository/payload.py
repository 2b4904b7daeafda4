"""An order's full body as JSON, as operations keep it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from order.domain import Body, Status
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
