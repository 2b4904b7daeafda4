"""How decisions are answered: what is returned here is kept, and repeated byte for byte."""

from datetime import datetime
from typing import Final

from invoice.domain import Body, Invoice, InvoiceStatus
from invoice.errors import (
    InvoiceDeleted,
    InvoiceExists,
    InvoiceNotFound,
    OperationAborted,
    VersionMismatch,
)
from invoice.fields import BODY
from invoice.schemas import InvoiceDocument
from servicekit import problems
from servicekit.etags import format_etag
from servicekit.problems import Problem
from tandem.decider import Identity, Proposal
from tandem.http import OPERATION_OUTCOME
from tandem.operation import Answer, Kind, Outcome, Refusal

_CREATED: Final = 201
_NO_CONTENT: Final = 204


class InvoiceAnswers:
    """The answers of this service; see ``tandem.decider.Answers``."""

    def applied(self, proposal: Proposal, *, fence: int, now: datetime) -> Answer:
        """Return the answer to a change that takes effect: at a creation, the invoice itself."""
        headers = [
            (OPERATION_OUTCOME, Outcome.APPLIED.value),
            ("ETag", format_etag(proposal.version)),
        ]
        if proposal.kind is not Kind.CREATE:
            return Answer(_NO_CONTENT, tuple(headers), b"")
        invoice = _created(proposal, fence=fence, now=now)
        headers += [("Location", f"/invoices/{invoice.id}"), ("Content-Type", "application/json")]
        body = InvoiceDocument.of(invoice).model_dump_json().encode()
        return Answer(_CREATED, tuple(headers), body)

    def rejected(self, proposal: Proposal, refusal: Refusal) -> Answer:
        """Return the answer to a change that was refused for a reason that will not go away."""
        return _answer(problem_of(refusal, proposal), Outcome.REJECTED, path=proposal.path)

    def aborted(self, identity: Identity) -> Answer:
        """Return the answer to an operation that must never be applied."""
        problem = OperationAborted("The operation was cancelled before it took effect.")
        return _answer(problem, Outcome.ABORTED, path=f"/operations/{identity.op_id}")


def problem_of(refusal: Refusal, proposal: Proposal) -> Problem:
    """Return the answer that a refusal deserves."""
    invoice_id = proposal.identity.subject_id
    if refusal is Refusal.NOT_FOUND:
        return InvoiceNotFound(f"There is no invoice {invoice_id}.")
    if refusal is Refusal.EXISTS:
        return InvoiceExists(f"Invoice {invoice_id} exists already.")
    if refusal is Refusal.DELETED:
        return InvoiceDeleted(f"Invoice {invoice_id} is deleted; nothing was changed.")
    return VersionMismatch(
        f"Invoice {invoice_id} is not at the version that If-Match names; nothing was changed."
    )


def _created(proposal: Proposal, *, fence: int, now: datetime) -> Invoice:
    return Invoice(
        id=proposal.identity.subject_id,
        order_id=proposal.values["order_id"],
        body=Body(**{name: proposal.values[name] for name in BODY.names}),
        status=InvoiceStatus.CREATED,
        version=proposal.version,
        fence=fence,
        created_at=now,
        updated_at=now,
    )


def _answer(problem: Problem, outcome: Outcome, *, path: str) -> Answer:
    answer = problems.response(problem, instance=path)
    headers = ((OPERATION_OUTCOME, outcome.value), ("Content-Type", problems.MEDIA_TYPE))
    return Answer(problem.status, headers, bytes(answer.body))
