"""The errors of the invoice service, each with a fixed status, slug and title."""

import uuid

from servicekit.problems import IdempotencyKeyReused, Problem, ServiceUnavailable

__all__ = [
    "ChangedMeanwhile",
    "IdempotencyKeyReused",
    "InvoiceDeleted",
    "InvoiceExists",
    "InvoiceNotFound",
    "InvoiceNotLocked",
    "OperationAborted",
    "OperationNotFound",
    "OutcomeUnknown",
    "StaleLock",
    "VersionMismatch",
]


class InvoiceNotFound(Problem):
    """There is no such invoice."""

    status = 404
    slug = "invoice-not-found"
    title = "There is no such invoice"


class OperationNotFound(Problem):
    """No operation is recorded under this id."""

    status = 404
    slug = "operation-not-found"
    title = "Nothing is recorded under this operation id"


class InvoiceNotLocked(Problem):
    """The caller does not hold the lock that the change demands."""

    status = 409
    slug = "invoice-not-locked"
    title = "The invoice is not locked by the caller"


class StaleLock(Problem):
    """A holder of a newer lock has written since the caller's lock was granted."""

    status = 409
    slug = "stale-lock"
    title = "The caller's lock is older than the last change"


class InvoiceExists(Problem):
    """The order has an invoice already."""

    status = 409
    slug = "invoice-exists"
    title = "The order has an invoice already"


class InvoiceDeleted(Problem):
    """The invoice is deleted and cannot be changed any more."""

    status = 422
    slug = "invoice-deleted"
    title = "The invoice is deleted"


class VersionMismatch(Problem):
    """The invoice is not at the version that If-Match names."""

    status = 412
    slug = "precondition-failed"
    title = "The version does not match"


class OperationAborted(Problem):
    """The operation was aborted before it was applied, and never will be."""

    status = 409
    slug = "operation-aborted"
    title = "The operation was aborted"


class OutcomeUnknown(Problem):
    """The database went away during the COMMIT: whether anything was written cannot be told now."""

    status = 504
    slug = "outcome-unknown"
    title = "The outcome is not known"

    def __init__(self, op_id: uuid.UUID) -> None:
        location = f"/operations/{op_id}"
        super().__init__(
            "Whether this was written cannot be told now. Repeat it under the same Idempotency-Key,"
            f" or see {location}.",
            headers={"Location": location, "Retry-After": "1"},
            extensions={"operation": location},
        )


class ChangedMeanwhile(ServiceUnavailable):
    """Another request got in between; nothing was written, and the same request may succeed."""

    slug = "changed-meanwhile"
    title = "Changed by another request at this moment"
