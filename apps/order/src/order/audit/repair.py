"""What mending needs to know of orders; see ``tandem.audit.mending``.

An order whose invoice was altered is said once more, by an ordinary update that changes nothing.
What no operation can change, an invoice's user, is left alone.
"""

from typing import Final

from order.audit.facts import fact_of_body
from order.domain import INVOICED_FOR_GOOD, Operation, Status, Update
from order.identifiers import new_operation_id
from order.ports import Change
from order.service.changes import Changes
from servicekit.auth.principal import ANONYMOUS
from tandem.audit.facts import Fact
from tandem.audit.mending import NotMended

_NO_CONTENT: Final = 204


class OrdersAgain:
    """Says orders once more; see ``tandem.audit.mending.Restating``.

    Args:
        changes: how an ordinary change is made.
    """

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    def require_possible(self, there: Fact, last: Operation) -> None:
        """Return if saying the order once more gives the invoice all it lacks.

        Raises:
            NotMended: it does not.
        """
        for name, ours in fact_of(last).content.items():
            if name in INVOICED_FOR_GOOD and there.content[name] != ours:
                raise NotMended(f"no operation changes the {name} of an invoice")
        if Status.DELETED in {there.status, last.body.status}:
            raise NotMended("no operation changes what is deleted")

    async def restate(self, last: Operation) -> None:
        """Make an ordinary update that says what the order says.

        Raises:
            NotMended: it was not made.
            Problem: nothing was written.
        """
        change = Change(
            command=Update(order_id=last.order_id, update_time=last.body.update_time),
            op_id=new_operation_id(),
            path=f"/orders/{last.order_id}",
            key=None,
            client=ANONYMOUS.client,
            traceparent=None,
        )
        response = await self._changes.apply(change)
        if response.status != _NO_CONTENT:
            raise NotMended(f"the change that restates the order was answered {response.status}")


def fact_of(last: Operation) -> Fact:
    """Return what both sides should say after an operation."""
    return fact_of_body(last.version, last.body)
