"""How orders and their operations are rows, and the statements on them that the protocol has."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from order.domain import Kind, Operation, Order
from order.fields import BODY
from order.models import idempotency_keys, operations, orders
from servicekit.walks import this_transaction
from tandem.initiator import Dated, Schema
from tandem.initiator import Journal as OperationJournal
from tandem.initiator.journal import ALWAYS
from tandem.initiator.records import Key
from tandem.store import Session


def operation_of(row: Any) -> Operation:  # noqa: ANN401 (a row of SQLAlchemy's or of psycopg's)
    """Return the operation that a row holds."""
    return Operation(
        id=row.op_id,
        order_id=row.order_id,
        invoice_id=row.invoice_id,
        kind=Kind(row.kind),
        version=row.version,
        body=BODY.from_payload(row.payload),
    )


def order_of(row: Any) -> Order:  # noqa: ANN401 (likewise)
    """Return the order that a row holds."""
    return Order(
        id=row.id,
        version=row.version,
        body=BODY.from_row(row),
        pending_op=row.pending_op,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _dated(operation: Operation, moment: datetime) -> Operation:
    return replace(operation, body=replace(operation.body, update_time=moment))


ORDERS: Final = Schema(
    subjects=orders,
    operations=operations,
    keys=idempotency_keys,
    subject_id="order_id",
    fields=BODY.names,
    subject_of=order_of,
    operation_of=operation_of,
    columns_of=lambda operation: BODY.to_columns(operation.body),
    payload_of=lambda operation: BODY.to_payload(operation.body),
    more=("invoice_id",),
    more_of=lambda operation: {"invoice_id": operation.invoice_id},
    # The answer to a creation shows the order, whose creation and first update are one moment.
    dated=Dated("update_time", _dated),
    at_creation={"created_by_xid": this_transaction()},
)


class Journal(OperationJournal[Operation, Order]):
    """The statements of the usual path; see ``tandem.initiator.journal``."""

    def __init__(self) -> None:
        super().__init__(ORDERS)

    async def record(
        self,
        session: Session,
        operation: Operation,
        *,
        key: Key | None,
        client: str,
        due_in_seconds: float,
        traceparent: str | None,
        until: datetime = ALWAYS,
    ) -> Operation | None:
        """Record an operation as pending; None if nothing was written."""
        if not _can_be_read_again(operation.body.update_time):
            return None
        return await super().record(
            session,
            operation,
            key=key,
            client=client,
            due_in_seconds=due_in_seconds,
            traceparent=traceparent,
            until=until,
        )


def _can_be_read_again(time: datetime) -> bool:
    """Tell whether a time is one in UTC too: the database goes on where Python's calendar ends."""
    try:
        time.astimezone(UTC)
    except OverflowError:
        return False
    return True
