"""Finish an operation that somebody else has left pending."""

from order.domain import Operation
from order.ports import Completions, Decision, Invoices, Lease, Locks
from order.service.delivery import Delivery
from servicekit.idempotency import StoredResponse


class Helping:
    """Brings pending operations to their end, whoever began them.

    Args:
        invoices: the invoice service.
        locks: the locks, for sending an operation again.
        delivery: how an operation is sent.
        completions: how an operation is finished here.
        ask_timeout_seconds: limit for asking for a recorded outcome.
        lock_wait_seconds: how long to wait for the locks.
    """

    def __init__(
        self,
        *,
        invoices: Invoices,
        locks: Locks,
        delivery: Delivery,
        completions: Completions,
        ask_timeout_seconds: float,
        lock_wait_seconds: float,
    ) -> None:
        self._invoices = invoices
        self._locks = locks
        self._delivery = delivery
        self._completions = completions
        self._ask_timeout_seconds = ask_timeout_seconds
        self._lock_wait_seconds = lock_wait_seconds

    async def help_under(self, operation: Operation, lease: Lease) -> StoredResponse:
        """Finish an operation for a request that holds the order's locks and is in its way.

        Raises:
            OutcomeUnknown: the invoice service gives no recorded outcome.
        """
        decision = await self._delivery.deliver(operation, lease)
        return await self._completions.complete(operation, decision)

    async def recover(
        self, operation: Operation, *, lock_wait_seconds: float | None = None
    ) -> Decision:
        """Finish an operation that was left behind.

        The invoice service is asked first, since what it has recorded needs no lock. Only an
        operation it has never seen is sent again, under locks of its own.

        Args:
            operation: what is to be finished.
            lock_wait_seconds: how long to wait for its locks, if not as long as usual.

        Raises:
            OutcomeUnknown: the invoice service gives no recorded outcome.
            OrderLocked: somebody holds the order's locks, perhaps the request itself.
            LocksUnavailable, LeaseLost: see ``order.ports.Locks``.
        """
        decision = await self._invoices.recorded(
            operation, timeout_seconds=self._ask_timeout_seconds
        )
        if decision is None:
            wait_seconds = (
                self._lock_wait_seconds if lock_wait_seconds is None else lock_wait_seconds
            )
            decision = await self._send_again(operation, wait_seconds=wait_seconds)
        await self._completions.complete(operation, decision)
        return decision

    async def _send_again(self, operation: Operation, *, wait_seconds: float) -> Decision:
        async with self._locks.hold(operation.order_id, wait_seconds=wait_seconds) as lease:
            return await self._delivery.deliver(operation, lease)
