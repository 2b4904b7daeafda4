"""Change an order and its invoice, or neither, and say in HTTP's words what came of it."""

from order.domain import Operation, Order
from order.errors import answering
from order.ports import Change
from tandem import initiator
from tandem.operation import Answer


class Changes(initiator.Changes[Change, Operation, Order]):
    """Carries out changes; see ``tandem.initiator.changes``."""

    async def apply(self, change: Change) -> Answer:
        """Carry out ``change`` and return its answer.

        Raises:
            Problem: nothing was written.
        """
        with answering():
            return await super().apply(change)
