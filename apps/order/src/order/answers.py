"""The answers of changes, rendered once and kept: a replay sends these very bytes again."""

from typing import Final
from uuid import UUID

from order.domain import Kind, Operation, Order
from order.errors import OperationAborted, OperationRejected
from order.ports import Change
from order.schemas import Acceptance, OrderOut
from servicekit import problems
from servicekit.etags import format_etag
from servicekit.problems import DeadlineExceeded, Problem
from tandem.initiator.ports import Decision
from tandem.operation import Answer, Outcome

OPERATION_HEADER: Final = "operation-id"
"""Names the operation that an answer is about."""
_NO_CONTENT: Final = 204


class OrderAnswers:
    """The answers of changes; see ``tandem.initiator.ports.Answers``."""

    def committed(self, operation: Operation, order: Order | None, /) -> Answer:
        """Return the answer to a change that both sides have; that to a creation shows the order.

        From the moment a creation is recorded the order is as its operation says.
        """
        if order is None and operation.kind is Kind.CREATE:
            order = _created_by(operation)
        return committed(operation, order)

    def dropped(self, operation: Operation, decision: Decision, /) -> Answer:
        """Return the answer to a change that neither side has, nor will have."""
        return refused_by_invoices(operation, decision)

    def accepted(self, change: Change, /) -> Answer:
        """Return the answer to a change whose outcome is not known yet; never kept."""
        return accepted(change.op_id, change.subject_id)

    def out_of_time(self, change: Change, /) -> Answer:
        """Return the answer to a change of which nothing was written in time; never kept."""
        problem = DeadlineExceeded("The time for this request ran out. Nothing was written.")
        return refused(problem, path=change.path)


def _created_by(operation: Operation) -> Order:
    return Order(
        id=operation.order_id,
        version=operation.version,
        body=operation.body,
        pending_op=None,
        created_at=operation.body.update_time,
        updated_at=operation.body.update_time,
    )


def committed(operation: Operation, order: Order | None) -> Answer:
    """Return the answer to a change that both sides have; that to a creation shows the order."""
    etag = ("etag", format_etag(operation.version))
    operation_link = (OPERATION_HEADER, str(operation.id))
    if operation.kind is not Kind.CREATE or order is None:
        return Answer(_NO_CONTENT, (etag, operation_link), b"")
    headers = (
        ("content-type", "application/json"),
        ("location", f"/orders/{order.id}"),
        etag,
        operation_link,
    )
    return Answer(201, headers, OrderOut.of(order).model_dump_json().encode())


def refused_by_invoices(operation: Operation, decision: Decision) -> Answer:
    """Return the answer to a change that neither side has."""
    problem: Problem
    if decision.outcome is Outcome.ABORTED:
        problem = OperationAborted("The operation was cancelled before it was decided.")
    else:
        problem = OperationRejected(f"The invoice service refused the change: {decision.detail}")
    problem.headers[OPERATION_HEADER] = str(operation.id)
    return refused(problem, path=f"/operations/{operation.id}")


def unchanged(order: Order) -> Answer:
    """Return the answer to a change that was in place already."""
    return Answer(_NO_CONTENT, (("etag", format_etag(order.version)),), b"")


def refused(problem: Problem, *, path: str) -> Answer:
    """Return the answer to a change that was refused."""
    rendered = problems.response(problem, instance=path)
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in rendered.raw_headers
        if name != b"content-length"
    ]
    return Answer(rendered.status_code, tuple(headers), bytes(rendered.body))


def accepted(op_id: UUID, order_id: UUID) -> Answer:
    """Return the answer to a change whose outcome is not known yet; never kept."""
    location = f"/operations/{op_id}"
    body = Acceptance(id=op_id, order_id=order_id, operation=location)
    headers = (
        ("content-type", "application/json"),
        ("location", location),
        ("retry-after", "1"),
        (OPERATION_HEADER, str(op_id)),
    )
    return Answer(202, headers, body.model_dump_json().encode())
