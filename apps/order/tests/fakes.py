"""Ports in memory: an invoice service that decides as the real one does, and locks."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal

from order.domain import Kind, Operation, Status
from order.errors import InvoiceServiceUnavailable, LocksUnavailable, OrderLocked
from tandem.errors import LeaseLost, OutcomeUnknown
from tandem.initiator.ports import Decision, Lease
from tandem.operation import Outcome

Trouble = Callable[[Operation], Awaitable[None]]


@dataclass
class InvoiceRow:
    version: int
    total: Decimal
    status: Status


@dataclass
class FakeInvoices:
    """Decides each operation once; ``before`` and ``after`` make trouble around the decision."""

    rows: dict[uuid.UUID, InvoiceRow] = field(default_factory=dict)
    decisions: dict[uuid.UUID, Decision] = field(default_factory=dict)
    sent: list[tuple[uuid.UUID, str]] = field(default_factory=list)
    before: list[Exception] = field(default_factory=list)
    after: list[Exception] = field(default_factory=list)
    available: bool = True
    trouble: Trouble | None = None
    """What happens once a decision is made."""
    deaf: bool = False
    """Whether it neither applies nor tells anything; it can still be asked to abort."""

    def permits(self, at_most: int) -> int:
        return at_most if self.available else 0

    def require_available(self) -> None:
        if not self.available:
            raise InvoiceServiceUnavailable("It is down.")

    async def send(self, operation: Operation, *, proof: str, timeout_seconds: float) -> Decision:
        self.sent.append((operation.id, proof))
        self._require_hearing()
        if self.before:
            raise self.before.pop(0)
        decision = self._decide(operation)
        if self.trouble is not None:
            await self.trouble(operation)
        if self.after:
            raise self.after.pop(0)
        return decision

    async def recorded(self, operation: Operation, *, timeout_seconds: float) -> Decision | None:
        self._require_hearing()
        return self.decisions.get(operation.id)

    async def abort(self, operation: Operation, *, timeout_seconds: float) -> Decision:
        decision = self.decisions.setdefault(operation.id, Decision(Outcome.ABORTED))
        if self.trouble is not None:
            await self.trouble(operation)
        return decision

    def _require_hearing(self) -> None:
        if self.deaf:
            raise lost_reply()

    def _decide(self, operation: Operation) -> Decision:
        if operation.id not in self.decisions:
            self.decisions[operation.id] = self._apply(operation)
        return self.decisions[operation.id]

    def _apply(self, operation: Operation) -> Decision:
        row = self.rows.get(operation.invoice_id)
        version = 0 if row is None else row.version
        if version != operation.version - 1:
            return Decision(Outcome.REJECTED, f"it is at version {version}")
        body = operation.body
        assert (operation.kind is Kind.CREATE) == (row is None)
        self.rows[operation.invoice_id] = InvoiceRow(operation.version, body.total, body.status)
        return Decision(Outcome.APPLIED)


def lost_reply() -> OutcomeUnknown:
    return OutcomeUnknown("no answer", retryable=False)


@dataclass(frozen=True)
class FakeLease:
    order_id: uuid.UUID

    def proof(self) -> str:
        return f"proof of {self.order_id}"


class FakeLocks:
    """Locks of one event loop; ``lose`` takes them away from whoever holds them."""

    def __init__(self) -> None:
        self.available = True
        self.held: dict[uuid.UUID, asyncio.Task[None]] = {}
        self.log: list[str] = []
        self._locks: dict[uuid.UUID, asyncio.Lock] = {}
        self._lost: set[uuid.UUID] = set()

    @asynccontextmanager
    async def hold(self, order_id: uuid.UUID, *, wait_seconds: float) -> AsyncIterator[Lease]:
        if not self.available:
            raise LocksUnavailable("They are down.")
        lock = self._locks.setdefault(order_id, asyncio.Lock())
        if not await _acquire(lock, wait_seconds):
            raise OrderLocked("Somebody holds it.")
        self.log.append("lock")
        task = asyncio.current_task()
        assert task is not None
        self.held[order_id] = task
        try:
            yield FakeLease(order_id)
        except asyncio.CancelledError:
            if order_id not in self._lost:
                raise
            self._lost.discard(order_id)
            task.uncancel()
            raise LeaseLost("lost") from None
        finally:
            del self.held[order_id]
            lock.release()
            self.log.append("release")

    def lose(self, order_id: uuid.UUID) -> None:
        self._lost.add(order_id)
        self.held[order_id].cancel()


async def _acquire(lock: asyncio.Lock, wait_seconds: float) -> bool:
    if wait_seconds <= 0 and lock.locked():
        return False
    try:
        async with asyncio.timeout(max(wait_seconds, 1.0) if not lock.locked() else wait_seconds):
            return await lock.acquire()
    except TimeoutError:
        return False
