"""A decided operation and the answer that is kept with it."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from invoice.domain import Command, Invoice, OperationKind, Outcome, Refusal
from invoice.errors import (
    InvoiceDeleted,
    InvoiceExists,
    InvoiceNotFound,
    OperationAborted,
    VersionMismatch,
)
from invoice.schemas import InvoiceDocument
from servicekit import problems
from servicekit.etags import format_etag
from servicekit.idempotency import StoredResponse
from servicekit.problems import Problem

OUTCOME_HEADER: Final = "Operation-Outcome"


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one operation from every other."""

    op_id: uuid.UUID
    invoice_id: uuid.UUID
    direct: bool
    """Whether the id is a direct client's key, which means the same on every invoice."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A command with the identity under which it is decided once."""

    id: uuid.UUID
    request_hash: bytes
    command: Command
    direct: bool
    """Made by a client without an order, so that its record may be purged one day."""
    demands_version: bool
    """The client named the version; otherwise a change builds on whichever is there."""
    instance: str
    """The path that the request named."""

    @property
    def identity(self) -> Identity:
        """What tells it from every other."""
        return Identity(self.id, self.command.invoice_id, self.direct)


@dataclass(frozen=True, slots=True)
class RecordedOperation:
    """A row of ``applied_operations``."""

    op_id: uuid.UUID
    request_hash: bytes | None
    kind: OperationKind
    outcome: Outcome
    invoice_id: uuid.UUID
    version: int | None
    fence: int
    direct: bool
    response: StoredResponse
    created_at: datetime

    @property
    def identity(self) -> Identity:
        """What tells it from every other."""
        return Identity(self.op_id, self.invoice_id, self.direct)


def applied(
    operation: Operation, *, created: Invoice | None, fence: int, now: datetime
) -> RecordedOperation:
    """Return the record of an operation that takes effect.

    Args:
        operation: what is applied.
        created: the invoice that a creation makes; None for a change, which answers no body.
        fence: the fence of the caller's lock.
        now: when it is decided.
    """
    command = operation.command
    headers = [(OUTCOME_HEADER, Outcome.APPLIED.value), ("ETag", format_etag(command.version))]
    body = b""
    if created is not None:
        headers += [("Location", f"/invoices/{created.id}"), ("Content-Type", "application/json")]
        body = InvoiceDocument.of(created).model_dump_json().encode()
    return RecordedOperation(
        op_id=operation.id,
        request_hash=operation.request_hash,
        kind=command.kind,
        outcome=Outcome.APPLIED,
        invoice_id=command.invoice_id,
        version=command.version,
        fence=fence,
        direct=operation.direct,
        response=StoredResponse(204 if created is None else 201, tuple(headers), body),
        created_at=now,
    )


def rejected(
    operation: Operation, refusal: Refusal, *, fence: int, now: datetime
) -> RecordedOperation:
    """Return the record of an operation that was refused for a reason that will not go away."""
    problem = problem_of(refusal, operation.command)
    return RecordedOperation(
        op_id=operation.id,
        request_hash=operation.request_hash,
        kind=operation.command.kind,
        outcome=Outcome.REJECTED,
        invoice_id=operation.command.invoice_id,
        version=operation.command.version,
        fence=fence,
        direct=operation.direct,
        response=_stored(problem, Outcome.REJECTED, instance=operation.instance),
        created_at=now,
    )


def aborted(op_id: uuid.UUID, invoice_id: uuid.UUID, *, now: datetime) -> RecordedOperation:
    """Return the tombstone of an operation that must never be applied."""
    problem = OperationAborted("The operation was cancelled before it took effect.")
    return RecordedOperation(
        op_id=op_id,
        request_hash=None,
        kind=OperationKind.ABORT,
        outcome=Outcome.ABORTED,
        invoice_id=invoice_id,
        version=None,
        fence=0,
        direct=False,
        response=_stored(problem, Outcome.ABORTED, instance=f"/operations/{op_id}"),
        created_at=now,
    )


def problem_of(refusal: Refusal, command: Command) -> Problem:
    """Return the answer that a refusal deserves."""
    invoice_id = command.invoice_id
    if refusal is Refusal.NOT_FOUND:
        return InvoiceNotFound(f"There is no invoice {invoice_id}.")
    if refusal is Refusal.EXISTS:
        return InvoiceExists(f"Invoice {invoice_id} exists already.")
    if refusal is Refusal.DELETED:
        return InvoiceDeleted(f"Invoice {invoice_id} is deleted; nothing was changed.")
    return VersionMismatch(
        f"Invoice {invoice_id} is not at the version that If-Match names; nothing was changed."
    )


def _stored(problem: Problem, outcome: Outcome, *, instance: str) -> StoredResponse:
    answer = problems.response(problem, instance=instance)
    headers = ((OUTCOME_HEADER, outcome.value), ("Content-Type", problems.MEDIA_TYPE))
    return StoredResponse(problem.status, headers, bytes(answer.body))
