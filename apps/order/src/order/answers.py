"""The answers of changes, rendered once and kept: a replay sends these very bytes again."""

from typing import Final
from uuid import UUID

from order.domain import Kind, Operation, Order
from order.errors import OperationAborted, OperationRejected
from order.ports import Decision
from order.schemas import Acceptance, OrderOut
from servicekit import problems
from servicekit.etags import format_etag
from servicekit.idempotency import StoredResponse
from servicekit.problems import Problem
from tandem.operation import Outcome

OPERATION_HEADER: Final = "operation-id"
"""Names the operation that an answer is about."""
_NO_CONTENT: Final = 204


def committed(operation: Operation, order: Order | None) -> StoredResponse:
    """Return the answer to a change that both sides have; that to a creation shows the order."""
    etag = ("etag", format_etag(operation.version))
    operation_link = (OPERATION_HEADER, str(operation.id))
    if operation.kind is not Kind.CREATE or order is None:
        return StoredResponse(_NO_CONTENT, (etag, operation_link), b"")
    headers = (
        ("content-type", "application/json"),
        ("location", f"/orders/{order.id}"),
        etag,
        operation_link,
    )
    return StoredResponse(201, headers, OrderOut.of(order).model_dump_json().encode())


def refused_by_invoices(operation: Operation, decision: Decision) -> StoredResponse:
    """Return the answer to a change that neither side has."""
    problem: Problem
    if decision.outcome is Outcome.ABORTED:
        problem = OperationAborted("The operation was cancelled before it was decided.")
    else:
        problem = OperationRejected(f"The invoice service refused the change: {decision.detail}")
    problem.headers[OPERATION_HEADER] = str(operation.id)
    return refused(problem, path=f"/operations/{operation.id}")


def unchanged(order: Order) -> StoredResponse:
    """Return the answer to a change that was in place already."""
    return StoredResponse(_NO_CONTENT, (("etag", format_etag(order.version)),), b"")


def refused(problem: Problem, *, path: str) -> StoredResponse:
    """Return the answer to a change that was refused."""
    rendered = problems.response(problem, instance=path)
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in rendered.raw_headers
        if name != b"content-length"
    ]
    return StoredResponse(rendered.status_code, tuple(headers), bytes(rendered.body))


def accepted(op_id: UUID, order_id: UUID) -> StoredResponse:
    """Return the answer to a change whose outcome is not known yet; never kept."""
    location = f"/operations/{op_id}"
    body = Acceptance(id=op_id, order_id=order_id, operation=location)
    headers = (
        ("content-type", "application/json"),
        ("location", location),
        ("retry-after", "1"),
        (OPERATION_HEADER, str(op_id)),
    )
    return StoredResponse(202, headers, body.model_dump_json().encode())
