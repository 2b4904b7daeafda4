"""Everything this service answers instead of a success, and where database refusals lead.

Problem
├── OrderNotFound                404
├── OperationNotFound            404
├── OrderAlreadyDeleted          422
├── UpdateIsStale                409
├── OrderLocked                  423
├── OperationRunning             409
├── OperationRejected            409
├── OperationAborted             409
└── ServiceUnavailable           503
├── InvoiceServiceUnavailable
├── LocksUnavailable
└── DatabaseUnavailable

What the protocol says in errors of its own, ``answering`` says in these.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from order import domain
from servicekit.problems import (
    DeadlineExceeded,
    IdempotencyKeyReused,
    PreconditionFailed,
    Problem,
    ServiceUnavailable,
    ValidationFailed,
)
from tandem import errors as protocol


class OrderNotFound(Problem):
    """There is no order with this id."""

    status = 404
    slug = "order-not-found"
    title = "No such order"


class OperationNotFound(Problem):
    """There is no operation with this id."""

    status = 404
    slug = "operation-not-found"
    title = "No such operation"


class OrderAlreadyDeleted(Problem):
    """A deleted order is not changed any more."""

    status = 422
    slug = "order-deleted"
    title = "The order is deleted"


class UpdateIsStale(Problem):
    """The update's time lies before the order's."""

    status = 409
    slug = "stale-update"
    title = "The update is older than the order"


class OrderLocked(Problem, protocol.Locked):
    """Another request is changing the order, and was not done in time; nothing was written."""

    status = 423
    slug = "order-locked"
    title = "The order is locked"

    def __init__(self, detail: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


class OperationRunning(Problem):
    """The request with this idempotency key is still being worked on."""

    status = 409
    slug = "operation-running"
    title = "The request is still running"

    def __init__(self, op_id: UUID) -> None:
        location = f"/operations/{op_id}"
        super().__init__(
            f"The request with this idempotency key is still running. See {location}.",
            headers={"Location": location, "Retry-After": "1"},
            extensions={"operation": location},
        )


class OperationRejected(Problem):
    """The invoice service refused the change; neither side was changed."""

    status = 409
    slug = "operation-rejected"
    title = "The invoice service refused the change"


class OperationAborted(Problem):
    """The operation was cancelled before it was decided; neither side was changed."""

    status = 409
    slug = "operation-aborted"
    title = "The operation was cancelled"


class InvoiceServiceUnavailable(ServiceUnavailable):
    """The invoice service does not answer; nothing was written."""

    slug = "invoice-service-unavailable"
    title = "The invoice service is unavailable"


class LocksUnavailable(ServiceUnavailable, protocol.LocksUnavailable):
    """The lock service does not answer; nothing was written."""

    slug = "lock-unavailable"
    title = "The lock service is unavailable"


class DatabaseUnavailable(ServiceUnavailable):
    """The order database does not answer; nothing was written."""

    slug = "database-unavailable"
    title = "The order database is unavailable"


def problem_of(refusal: domain.Refusal) -> Problem:
    """Return the answer to a change that the order's state does not admit."""
    match refusal:
        case domain.UnknownOrder():
            return OrderNotFound("There is no order with this id.")
        case domain.AlreadyDeleted():
            return OrderAlreadyDeleted("The order is deleted and is not changed any more.")
        case domain.StaleUpdate():
            return UpdateIsStale("update_time lies before the time of the order's last update.")
        case domain.UpdateFromTheFuture(skew=skew):
            return ValidationFailed.of(
                "update_time",
                f"must not lie more than {skew.total_seconds():g} s ahead of this service's clock",
            )
        case domain.VersionMismatch():
            return PreconditionFailed("The order is not at a version that If-Match names.")
        case _:
            return ValidationFailed.of(
                "value", f"quantity times value must be at most {domain.MAXIMUM_AMOUNT}"
            )


# What a client can cause, as the answer; what only a defect can cause, as None: such a violation
# stays an error, answered with 500 and logged with its name.
CONSTRAINTS: Final[dict[str, Callable[[], Problem] | None]] = {
    "orders_quantity_check": lambda: ValidationFailed.of("quantity", "must be at least 1"),
    "orders_value_check": lambda: ValidationFailed.of("value", "must not be negative"),
    # Races that the code resolves where they are lost.
    "operations_one_pending_idx": lambda: OrderLocked("Another operation is pending."),
    "idempotency_keys_pkey": None,
    "orders_pkey": None,
    "operations_pkey": None,
    # The protocol's invariants.
    "orders_total_check": None,
    "orders_version_check": None,
    "orders_status_check": None,
    "orders_status_version_check": None,
    "orders_pending_op_fkey": None,
    "operations_order_id_fkey": None,
    "operations_kind_check": None,
    "operations_state_check": None,
    "operations_version_check": None,
    "operations_kind_version_check": None,
    "operations_attempts_check": None,
    "operations_payload_check": None,
    "operations_finished_check": None,
    "operations_order_id_version_idx": None,
    "idempotency_keys_op_id_fkey": None,
    "idempotency_keys_answer_check": None,
    "idempotency_keys_request_hash_check": None,
    "idempotency_keys_key_check": None,
    "idempotency_keys_op_id_idx": None,
    "operations_archive_pkey": None,
    "operations_archive_order_id_version_idx": None,
}


def unstorable() -> Problem:
    """Return the answer to a change whose result does not fit into the database."""
    return ValidationFailed("The order cannot be stored with these values. Nothing was written.")


@contextmanager
def answering() -> Iterator[None]:
    """Answer with a problem what the protocol raises when nothing was written.

    Raises:
        Problem: that is what has happened in the body.
    """
    try:
        yield
    except Problem:
        raise  # some of ours are the protocol's as well
    except _ANSWERED as error:
        raise _problem_for(error) from error


_ANSWERED: Final = (
    protocol.GivenUp,
    protocol.Locked,
    protocol.PredecessorUnfinished,
    protocol.DatabaseUnavailable,
    protocol.KeyReused,
    protocol.StillRunning,
    protocol.Unstorable,
)


def _problem_for(error: Exception) -> Problem:
    match error:
        case protocol.Locked():
            return OrderLocked(str(error))
        case protocol.KeyReused():
            return IdempotencyKeyReused(
                "This idempotency key was used before, for another request."
            )
        case protocol.StillRunning(op_id=op_id):
            return OperationRunning(op_id)
        case protocol.Unstorable():
            return unstorable()
        case _:
            return _unavailability_for(error)


def _unavailability_for(error: Exception) -> Problem:
    match error:
        case protocol.GivenUp():
            return DeadlineExceeded("The time for this request ran out. Nothing was written.")
        case protocol.PredecessorUnfinished():
            return InvoiceServiceUnavailable(
                "An earlier change of this order cannot be finished yet. Nothing was written."
            )
        case _:
            return DatabaseUnavailable("The order database does not answer.")
