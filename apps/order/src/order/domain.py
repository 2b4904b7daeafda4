"""Orders and the operations that change them: the rules, without any input or output."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final
from uuid import UUID, uuid5

INVOICE_NAMESPACE: Final = UUID("6f2d6c0e-6a0e-5d5c-9a53-3f0e0b6b5a11")
"""Both services derive an invoice's id in this namespace, so that it is known before it exists."""
MAXIMUM_QUANTITY: Final = 2_147_483_647
"""The greatest quantity a column ``integer`` holds."""
MAXIMUM_AMOUNT: Final = Decimal("9999999999999999.99")
"""The greatest amount a column ``numeric(18,2)`` holds."""


class Status(StrEnum):
    """What happened last to an order."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


class Kind(StrEnum):
    """What an operation does to its order."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class Refusal(Exception):
    """The order's state does not admit the change; nothing is written."""


class UnknownOrder(Refusal):
    """There is no such order, or its creation is not committed."""


class AlreadyDeleted(Refusal):
    """A deleted order is not changed any more."""


class StaleUpdate(Refusal):
    """The change is older than the last one the order took."""


class UpdateFromTheFuture(Refusal):
    """The change is dated further ahead than clocks may differ."""

    def __init__(self, skew: timedelta) -> None:
        super().__init__(skew)
        self.skew = skew


class VersionMismatch(Refusal):
    """The order is not at a version that the caller accepts."""


class AmountTooGreat(Refusal):
    """Quantity times value is more than an invoice can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What an order says: everything an operation replaces as a whole."""

    user_id: UUID
    item_id: UUID
    quantity: int
    value: Decimal
    status: Status
    update_time: datetime

    @property
    def total(self) -> Decimal:
        """What the invoice asks for: the quantity times the value of one."""
        return self.quantity * self.value


INVOICED: Final = ("user_id", "total")
"""What of the body the invoice has too."""
INVOICED_FOR_GOOD: Final = frozenset({"user_id"})
"""What of it no update changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order at its last committed version; version 0 is a creation not committed yet."""

    id: UUID
    version: int
    body: Body
    pending_op: UUID | None
    created_at: datetime
    updated_at: datetime

    @property
    def exists(self) -> bool:
        """Whether its creation is committed."""
        return self.version > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One change of one order, carried by its full resulting body.

    With the whole body in it, finishing an operation needs nothing that was read before it began.
    """

    id: UUID
    order_id: UUID
    invoice_id: UUID
    kind: Kind
    version: int
    body: Body

    @property
    def subject_id(self) -> UUID:
        """What the protocol calls the order."""
        return self.order_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """A new order."""

    order_id: UUID
    user_id: UUID
    item_id: UUID
    quantity: int
    value: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A change of an order's quantity or value, as of ``update_time``."""

    order_id: UUID
    update_time: datetime
    quantity: int | None = None
    value: Decimal | None = None
    accepted_versions: frozenset[int] | None = None
    """The versions the caller accepts (If-Match); None accepts any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """The end of an order."""

    order_id: UUID
    accepted_versions: frozenset[int] | None = None


Command = Create | Update | Delete


def invoice_id_for(order_id: UUID) -> UUID:
    """Return the id of the order's invoice, a name-based UUID (RFC 9562, version 5)."""
    return uuid5(INVOICE_NAMESPACE, str(order_id))


def lock_names(order_id: UUID) -> tuple[str, str]:
    """Return the names of both locks; the braces keep them in one slot of a Redis Cluster."""
    return f"order:{{{order_id}}}", f"invoice:{{{order_id}}}"


def kind_of(command: Command) -> Kind:
    """Return the kind of operation that carries out ``command``."""
    match command:
        case Create():
            return Kind.CREATE
        case Update():
            return Kind.UPDATE
        case Delete():
            return Kind.DELETE


def plan_creation(command: Create, *, op_id: UUID, now: datetime) -> Operation:
    """Return the operation that creates an order.

    Raises:
        AmountTooGreat: its total has no place in an invoice.
    """
    body = Body(
        user_id=command.user_id,
        item_id=command.item_id,
        quantity=command.quantity,
        value=command.value,
        status=Status.CREATED,
        update_time=now,
    )
    return _operation(op_id, command.order_id, Kind.CREATE, 1, body)


def plan_change(
    order: Order | None, command: Update | Delete, *, op_id: UUID, now: datetime, skew: timedelta
) -> Operation | None:
    """Return the operation that changes ``order``, or None if the wanted state is reached.

    Args:
        order: the order as it is.
        command: what is asked for.
        op_id: the operation's id.
        now: this moment.
        skew: how far the clocks of clients may differ from ours.

    Raises:
        UnknownOrder: there is none.
        VersionMismatch: it is at a version the caller does not accept.
        AlreadyDeleted: an update of a deleted order.
        StaleUpdate: the update is older than the last.
        UpdateFromTheFuture: the update is dated ahead of us by more than ``skew``.
        AmountTooGreat: its total would have no place in an invoice.
    """
    if order is None or not order.exists:
        raise UnknownOrder
    if isinstance(command, Delete):
        return _plan_deletion(order, command, op_id)
    _require_version(order, command.accepted_versions)
    if order.body.status is Status.DELETED:
        raise AlreadyDeleted
    if command.update_time > now + skew:
        raise UpdateFromTheFuture(skew)
    if _is_stale(order, command.update_time, now=now, skew=skew):
        raise StaleUpdate
    body = replace(
        order.body,
        quantity=order.body.quantity if command.quantity is None else command.quantity,
        value=order.body.value if command.value is None else command.value,
        status=Status.UPDATED,
        update_time=command.update_time,
    )
    return _operation(op_id, order.id, Kind.UPDATE, order.version + 1, body)


def _is_stale(order: Order, update_time: datetime, *, now: datetime, skew: timedelta) -> bool:
    """Tell whether an update lies before what the order has taken already."""
    last = order.body.update_time
    if order.body.status is Status.CREATED:
        # Our own clock dated the creation; the client's may be behind it.
        return update_time < last - skew
    # A time that no honest clock can have shown, from before there was a bound, binds nobody.
    return update_time < last <= now + skew


def _plan_deletion(order: Order, command: Delete, op_id: UUID) -> Operation | None:
    # RFC 9110, 13.1.1: a change that is already in place succeeds whatever If-Match says, so that
    # a repeated DELETE does not fail on the version its first try has made.
    if order.body.status is Status.DELETED:
        return None
    _require_version(order, command.accepted_versions)
    body = replace(order.body, status=Status.DELETED)
    return _operation(op_id, order.id, Kind.DELETE, order.version + 1, body)


def _require_version(order: Order, accepted: frozenset[int] | None) -> None:
    if accepted is not None and order.version not in accepted:
        raise VersionMismatch


def _operation(op_id: UUID, order_id: UUID, kind: Kind, version: int, body: Body) -> Operation:
    if body.total > MAXIMUM_AMOUNT:
        raise AmountTooGreat
    return Operation(
        id=op_id,
        order_id=order_id,
        invoice_id=invoice_id_for(order_id),
        kind=kind,
        version=version,
        body=body,
    )
