"""What the protocol needs from the outside, and the little it knows about it."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from order.domain import Command, Operation
from order.repository import Key
from servicekit.idempotency import StoredResponse
from tandem.commits import Attempt
from tandem.operation import Outcome


class OutcomeUnknown(Exception):
    """Whether the invoice service has applied an operation, or will, cannot be told now.

    Attributes:
        retryable: whether sending it again at once may tell.
    """

    def __init__(self, reason: str, *, retryable: bool) -> None:
        super().__init__(reason)
        self.retryable = retryable


class RecordUnknown(Exception):
    """Whether an operation was recorded cannot be told now: the database went away in between."""


class LeaseLost(Exception):
    """The locks of an order were lost before they were released."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the invoice service has recorded for an operation, for good."""

    outcome: Outcome
    detail: str = ""


class Lease(Protocol):
    """The locks of one order and its invoice, held."""

    def proof(self) -> str:
        """Return what shows another service that they are held."""
        ...


class Locks(Protocol):
    """The locks on orders and their invoices."""

    def hold(self, order_id: UUID, *, wait_seconds: float) -> AbstractAsyncContextManager[Lease]:
        """Hold both locks of an order inside the ``async with``.

        Raises:
            OrderLocked: somebody else holds one, and did so for all of ``wait_seconds``.
            LocksUnavailable: they cannot be reached; none was taken.
            LeaseLost: they were lost while held; the body was cancelled.
        """
        ...


class Invoices(Protocol):
    """The invoice service, which decides."""

    async def send(self, operation: Operation, *, proof: str, timeout_seconds: float) -> Decision:
        """Ask it to apply an operation; asking twice is the same as asking once.

        Raises:
            OutcomeUnknown: it gave no recorded outcome.
        """
        ...

    async def recorded(self, operation: Operation, *, timeout_seconds: float) -> Decision | None:
        """Return what it has recorded for an operation, None if nothing yet.

        What is recorded under the same id for another invoice, version or kind is no decision.

        Raises:
            OutcomeUnknown: it did not say.
        """
        ...

    async def abort(self, operation: Operation, *, timeout_seconds: float) -> Decision:
        """Ask it never to apply an operation; return what stands, which may be that it did.

        Raises:
            OutcomeUnknown: it did not say.
        """
        ...

    def permits(self, at_most: int) -> int:
        """Return how many calls are worth making now, without making any."""
        ...

    def require_available(self) -> None:
        """Return if it is worth asking.

        Raises:
            InvoiceServiceUnavailable: it failed several times in a row a moment ago.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One request to change an order: what is asked for, and under which names."""

    command: Command
    op_id: UUID
    path: str
    key: Key | None
    client: str
    """Who asks, and so whose operation it becomes."""
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """The operation is recorded as pending, or was before."""

    operation: Operation


@dataclass(frozen=True, slots=True)
class Answered:
    """The request has its answer without an operation: a replay, a refusal, or nothing to do."""

    response: StoredResponse
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Blocked:
    """Another operation of the order is pending and has to be finished first."""

    pending: Operation


Intent = Recorded | Answered | Blocked


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """An operation whose id was made here, and which is not recorded."""

    op_id: UUID
    may_come: bool
    """Whether a transaction that records it is just going on."""


class Intents(Protocol):
    """The record of what is about to be done, in the order database."""

    async def replay(self, key: Key) -> StoredResponse | None:
        """Return the answer kept under a key, None if the key is new.

        Raises:
            IdempotencyKeyReused: the key belongs to another request.
            OperationRunning: the request is still being worked on.
            DatabaseUnavailable: the database does not answer.
        """
        ...

    async def record(self, change: Change, attempt: Attempt | None = None) -> Intent:
        """Record the operation that carries out ``change``, unless the order does not admit it.

        Args:
            change: what is asked for.
            attempt: says at any time, also when this is cancelled, how far it has come.

        Raises:
            Problem: the change is refused, or nothing was written for another reason.
            RecordUnknown: it cannot be told whether it is recorded.
        """
        ...

    async def hand_over(self, op_id: UUID, *, reason: str) -> None:
        """Leave a pending operation to recovery, now."""
        ...


class Completions(Protocol):
    """The end of operations, in the order database."""

    async def complete(self, operation: Operation, decision: Decision) -> StoredResponse:
        """Make the order follow the decision and return the answer, the same for whoever asks.

        Raises:
            ProtocolViolated: the order is not where the operation found it.
            OutcomeUnknown: the order database does not say in time that the order follows.
        """
        ...
