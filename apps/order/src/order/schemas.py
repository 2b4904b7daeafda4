"""The bodies of requests and answers."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)

from order.domain import MAXIMUM_QUANTITY, Kind, Order, Status, invoice_id_for
from order.fields import BODY
from order.ports import Unrecorded
from order.repository import OperationRecord
from servicekit.money import Money
from servicekit.pagination import DEFAULT_LIMIT, MAXIMUM_LIMIT, Cursor
from tandem.operation import State

# RFC 3339, section 5.6; pydantic alone would take numbers and dates as well.
_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def _require_rfc_3339(value: Any) -> Any:  # noqa: ANN401 - whatever the client sent
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError("must be a time in RFC 3339 with its offset, such as 2030-01-31T12:00:00Z")
    return value


def _require_calendar(value: datetime) -> datetime:
    try:
        value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must lie between the years 1 and 9999 in UTC") from error
    return value


def _require_text(value: Any) -> Any:  # noqa: ANN401 - whatever the client sent
    if not isinstance(value, str):
        raise ValueError("must be a UUID in text form")  # noqa: TRY004 - pydantic reports these
    return value


Timestamp = Annotated[
    AwareDatetime,
    BeforeValidator(_require_rfc_3339),
    AfterValidator(_require_calendar),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="validation"),
]
Identifier = Annotated[
    UUID,
    BeforeValidator(_require_text),
    WithJsonSchema({"type": "string", "format": "uuid"}, mode="validation"),
]


def _integral(value: Any) -> Any:  # noqa: ANN401 - whatever the client sent
    """Take 1.0 for the integer that it is in JSON."""
    if isinstance(value, Decimal) and not value.is_signed() and value == value.to_integral_value():
        return int(value)
    return value


Quantity = Annotated[
    int,
    Field(strict=True, ge=1, le=MAXIMUM_QUANTITY, description="How many; a whole number."),
    BeforeValidator(_integral),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OrderIn(_Request):
    """A new order."""

    user_id: Identifier
    item_id: Identifier
    quantity: Quantity
    value: Money = Field(description="The price of one.")


class OrderPatch(_Request):
    """A change of an order; what is left out, or null, stays."""

    update_time: Timestamp = Field(
        description="When the change was made; must not lie before the order's, nor ahead of the"
        " service's clock by more than it allows (5 minutes by default), and becomes the order's."
    )
    quantity: Quantity | None = None
    value: Money | None = None


class OrderQuery(_Request):
    """Which orders to list."""

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAXIMUM_LIMIT, description="How many at most.")
    cursor: Cursor | None = Field(None, description="The `next_cursor` of the page before.")
    user_id: UUID | None = Field(None, description="Only orders of this user.")


class OperationQuery(_Request):
    """Which operations to list."""

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAXIMUM_LIMIT, description="How many at most.")
    cursor: Cursor | None = Field(None, description="The `next_cursor` of the page before.")
    state: State | None = Field(None, description="Only operations in this state.")
    order_id: UUID | None = Field(None, description="Only operations of this order.")


class OrderOut(BaseModel):
    """An order at its last committed version."""

    id: UUID
    user_id: UUID
    item_id: UUID
    quantity: int
    value: Money
    total: Money = Field(description="What the invoice asks for: quantity times value.")
    status: Status
    version: int = Field(description="Counts the committed changes; also the ETag.")
    update_time: datetime
    created_at: datetime
    updated_at: datetime
    invoice_id: UUID

    @classmethod
    def of(cls, order: Order) -> Self:
        """Return the order as clients see it."""
        return cls(**_members(order))


class ListedOrder(OrderOut):
    """An order in a list."""

    pending_operation: str | None = Field(
        description="Where to follow the change that is on its way, if one is."
    )

    @classmethod
    def of(cls, order: Order) -> Self:
        """Return the order as lists show it."""
        return cls(**_members(order), pending_operation=pending_link(order))


class Acceptance(BaseModel):
    """The answer to a change whose outcome is not known yet."""

    id: UUID
    order_id: UUID
    operation: str = Field(examples=["/operations/0b9c3f9e-6a1f-4a7e-8c38-0f5c0f4f7d11"])
    detail: str = (
        "The outcome is not known yet. The operation will be finished or dropped as a whole; its"
        " page says which."
    )


class OperationOut(BaseModel):
    """What became of one change."""

    id: UUID
    kind: Kind
    state: State
    order_id: UUID
    order: str = Field(examples=["/orders/4f2b8e0c-0a57-4f0b-9d5a-0a54bbfb8a3e"])
    invoice_id: UUID
    version: int = Field(description="The order's version once this is committed.")
    response_status: int | None = Field(description="The status of the answer, once there is one.")
    detail: str | None = Field(description="Why it is not committed, if something is known.")
    attempts: int = Field(description="How often recovery has taken it up.")
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, record: OperationRecord) -> Self:
        """Return the operation as clients see it."""
        operation = record.operation
        return cls(
            id=operation.id,
            kind=operation.kind,
            state=record.state,
            order_id=operation.order_id,
            order=f"/orders/{operation.order_id}",
            invoice_id=operation.invoice_id,
            version=operation.version,
            response_status=record.response.status if record.response else None,
            detail=_shown(record.last_error),
            attempts=record.attempts,
            created_at=record.created_at,
            finished_at=record.finished_at,
        )


class UnrecordedOperation(BaseModel):
    """An operation that an answer named while the database did not say whether it was recorded."""

    id: UUID
    state: Literal[State.PENDING, State.REJECTED] = Field(
        description="`pending`: it is not recorded yet, ask again. `rejected`: it was never"
        " recorded and never will be; nothing was written."
    )
    recorded: Literal[False] = False
    detail: str

    @classmethod
    def of(cls, unrecorded: Unrecorded) -> Self:
        """Return the operation as clients see it."""
        if unrecorded.may_come:
            return cls(id=unrecorded.op_id, state=State.PENDING, detail="It is not recorded yet.")
        detail = "It was never recorded; nothing was written. The request may be repeated."
        return cls(id=unrecorded.op_id, state=State.REJECTED, detail=detail)


def _shown(error: str | None) -> str | None:
    """Return why an attempt failed, without what earlier releases noted of statements."""
    if error is not None and ("[SQL" in error or "psycopg" in error):
        return "the database failed"
    return error


def pending_link(order: Order) -> str | None:
    """Return where the order's pending operation can be followed."""
    return None if order.pending_op is None else f"/operations/{order.pending_op}"


def _members(order: Order) -> dict[str, Any]:
    return {
        **BODY.values(order.body),
        "id": order.id,
        "version": order.version,
        "created_at": order.created_at,
        "updated_at": order.updated_at,
        "invoice_id": invoice_id_for(order.id),
    }
