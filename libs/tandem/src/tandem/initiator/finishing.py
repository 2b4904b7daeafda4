"""Bring an operation to its end, whoever began it: help, recover and cancel end in one way.

Whoever finishes an operation learns what the decider has recorded for it, and lets the subject
follow that. They differ only in how they ask.
"""

from typing import Generic

from tandem.initiator.completion import Completions
from tandem.initiator.delivery import Delivery
from tandem.initiator.ports import Decider, Decision, Lease, Locks
from tandem.initiator.subject import OpT, SubjectT
from tandem.operation import Answer


class Finishing(Generic[OpT, SubjectT]):
    """Finishes pending operations.

    Args:
        decider: the service that decides.
        locks: the locks, for sending an operation again.
        delivery: how an operation is sent.
        completions: how an operation is finished here.
        ask_timeout_seconds: limit for asking for a recorded outcome.
        lock_wait_seconds: how long to wait for the locks.
    """

    def __init__(
        self,
        *,
        decider: Decider[OpT],
        locks: Locks,
        delivery: Delivery[OpT],
        completions: Completions[OpT, SubjectT],
        ask_timeout_seconds: float,
        lock_wait_seconds: float,
    ) -> None:
        self._decider = decider
        self._locks = locks
        self._delivery = delivery
        self._completions = completions
        self._ask_timeout_seconds = ask_timeout_seconds
        self._lock_wait_seconds = lock_wait_seconds

    async def carry_out(self, operation: OpT, lease: Lease) -> Answer:
        """Send an operation under the locks of its subject, and follow the decision.

        Raises:
            OutcomeUnknown: the decider gives no recorded outcome.
        """
        decision = await self._delivery.deliver(operation, lease)
        return await self._completions.complete(operation, decision)

    async def recover(self, operation: OpT, *, lock_wait_seconds: float | None = None) -> Decision:
        """Finish an operation that was left behind.

        The decider is asked first, since what it has recorded needs no lock. Only an operation it
        has never seen is sent again, under locks of its own.

        Args:
            operation: what is to be finished.
            lock_wait_seconds: how long to wait for its locks, if not as long as usual.

        Raises:
            OutcomeUnknown: the decider gives no recorded outcome.
            Locked: somebody holds the subject's locks, perhaps the request itself.
            LocksUnavailable, LeaseLost: see ``ports.Locks``.
        """
        decision = await self._decider.recorded(
            operation, timeout_seconds=self._ask_timeout_seconds
        )
        if decision is None:
            wait_seconds = (
                self._lock_wait_seconds if lock_wait_seconds is None else lock_wait_seconds
            )
            decision = await self._send_again(operation, wait_seconds=wait_seconds)
        # Without the locks: the decision stands, and whoever is second finds it followed already.
        await self._completions.complete(operation, decision)
        return decision

    async def cancel(self, operation: OpT, *, timeout_seconds: float) -> Decision:
        """Ask for an operation never to be applied, and let the subject follow what stands.

        That may be that it is applied: whoever is recorded first wins, and nothing is decided here.

        Raises:
            OutcomeUnknown: the tombstone may be recorded, and what stands cannot be told now.
        """
        decision = await self._decider.abort(operation, timeout_seconds=timeout_seconds)
        await self._completions.complete(operation, decision)
        return decision

    async def _send_again(self, operation: OpT, *, wait_seconds: float) -> Decision:
        async with self._locks.hold(operation.subject_id, wait_seconds=wait_seconds) as lease:
            return await self._delivery.deliver(operation, lease)
