"""The routes: HTTP in, use case, HTTP out."""

import uuid
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse, Response

from invoice import failpoints
from invoice.dependencies import (
    IfMatch,
    IfNoneMatch,
    ResourcesDependency,
    TermsDependency,
)
from invoice.domain import Body
from invoice.errors import (
    IdempotencyKeyReused,
    InvoiceDeleted,
    InvoiceExists,
    InvoiceNotFound,
    InvoiceNotLocked,
    OperationAborted,
    OperationNotFound,
    OutcomeUnknown,
    StaleLock,
    VersionMismatch,
)
from invoice.schemas import (
    AbortRequest,
    InvoiceCreation,
    InvoiceDocument,
    InvoiceQuery,
    InvoiceUpdate,
    OperationDocument,
    OperationQuery,
)
from servicekit import access_log, problems
from servicekit.auth.principal import INTERNAL, PrincipalDependency
from servicekit.etags import format_etag, require_match
from servicekit.failpoints import Failpoints
from servicekit.idempotency import StoredResponse
from servicekit.json_body import StrictJsonRoute
from servicekit.pagination import CursorCodec, Page
from servicekit.problems import (
    PreconditionFailed,
    PreconditionRequired,
    ServiceUnavailable,
    ValidationFailed,
)
from servicekit.walks import Walk
from tandem.decider import Record
from tandem.http import OPERATION_ID, OPERATION_OUTCOME

router = APIRouter(route_class=StrictJsonRoute)

_ETAG: Final = {"ETag": {"description": "The version.", "schema": {"type": "string"}}}
_OUTCOME: Final = {
    OPERATION_OUTCOME: {
        "description": "The recorded outcome.",
        "schema": {"type": "string", "enum": ["applied", "rejected", "aborted"]},
    },
    OPERATION_ID: {
        "description": "The operation that it is the outcome of.",
        "schema": {"type": "string", "format": "uuid"},
    },
}
_LOCATION: Final = {"Location": {"description": "The invoice.", "schema": {"type": "string"}}}
_CHANGED: Final[dict[int | str, dict[str, Any]]] = {
    204: {"description": "Changed.", "headers": _ETAG | _OUTCOME},
    **problems.responses(
        InvoiceNotFound,
        InvoiceNotLocked,
        StaleLock,
        OperationAborted,
        VersionMismatch,
        InvoiceDeleted,
        IdempotencyKeyReused,
        ValidationFailed,
        PreconditionRequired,
        ServiceUnavailable,
        OutcomeUnknown,
    ),
}


@router.post(
    "/invoices",
    status_code=201,
    response_model=InvoiceDocument,
    tags=["invoices"],
    responses={
        201: {"description": "Created.", "headers": _ETAG | _OUTCOME | _LOCATION},
        **problems.responses(
            InvoiceNotLocked,
            InvoiceExists,
            OperationAborted,
            IdempotencyKeyReused,
            ValidationFailed,
            PreconditionRequired,
            ServiceUnavailable,
            OutcomeUnknown,
        ),
    },
)
async def create_invoice(
    body: InvoiceCreation,
    resources: ResourcesDependency,
    terms: TermsDependency,
) -> Response:
    """Create an invoice: of an order under the order's lock, or by itself without any."""
    asked = dict(body)
    order_id = asked.pop("order_id")
    recorded = await resources.service.create(Body(**asked), order_id=order_id, terms=terms)
    return await _answer(recorded, resources.runtime.failpoints)


@router.get(
    "/invoices",
    tags=["invoices"],
    responses=problems.responses(ValidationFailed, ServiceUnavailable),
)
async def list_invoices(
    query: Annotated[InvoiceQuery, Query()], resources: ResourcesDependency
) -> Page[InvoiceDocument]:
    """List invoices, the newest first; deleted ones stay in the list with that status."""
    codec = CursorCodec(f"invoices user_id={query.user_id} status={query.status}")
    invoices, walk = await resources.service.page(
        limit=query.limit,
        after=None if query.cursor is None else Walk.decode(codec, query.cursor),
        user_id=query.user_id,
        status=query.status,
    )
    return Page(
        items=[InvoiceDocument.of(invoice) for invoice in invoices],
        next_cursor=None if walk is None else walk.encode(codec),
    )


@router.get(
    "/invoices/{invoice_id}",
    response_model=InvoiceDocument,
    tags=["invoices"],
    responses={
        200: {"headers": _ETAG},
        304: {"description": "Still at the version of If-None-Match.", "headers": _ETAG},
        **problems.responses(
            InvoiceNotFound, PreconditionFailed, ValidationFailed, ServiceUnavailable
        ),
    },
)
async def read_invoice(
    invoice_id: uuid.UUID,
    resources: ResourcesDependency,
    if_match: IfMatch,
    if_none_match: IfNoneMatch,
) -> Response:
    """Read an invoice as last committed; a deleted one stays readable."""
    invoice = await resources.service.invoice(invoice_id)
    headers = {"ETag": format_etag(invoice.version)}
    require_match(if_match, invoice.version)
    if if_none_match is not None and if_none_match.match_weakly(invoice.version):
        return Response(status_code=304, headers=headers)
    return _json(InvoiceDocument.of(invoice).model_dump_json(), headers)


@router.patch("/invoices/{invoice_id}", status_code=204, tags=["invoices"], responses=_CHANGED)
async def update_invoice(
    invoice_id: uuid.UUID,
    body: InvoiceUpdate,
    resources: ResourcesDependency,
    terms: TermsDependency,
) -> Response:
    """Give an invoice another total; only for the holder of its lock."""
    recorded = await resources.service.update(invoice_id, dict(body), terms=terms)
    return await _answer(recorded, resources.runtime.failpoints)


@router.delete("/invoices/{invoice_id}", status_code=204, tags=["invoices"], responses=_CHANGED)
async def delete_invoice(
    invoice_id: uuid.UUID,
    resources: ResourcesDependency,
    terms: TermsDependency,
) -> Response:
    """Mark an invoice as deleted; only for the holder of its lock."""
    recorded = await resources.service.delete(invoice_id, terms=terms)
    return await _answer(recorded, resources.runtime.failpoints)


@router.get(
    "/operations/{op_id}",
    response_model=OperationDocument,
    tags=["operations"],
    responses={
        200: {"headers": _OUTCOME},
        **problems.responses(OperationNotFound, ValidationFailed, ServiceUnavailable),
    },
)
async def read_operation(
    op_id: uuid.UUID,
    query: Annotated[OperationQuery, Query()],
    resources: ResourcesDependency,
    principal: PrincipalDependency,
) -> Response:
    """Tell what has become of an operation; 404 while nothing is recorded, or for other clients."""
    recorded = await resources.service.operation(
        op_id, invoice_id=query.invoice_id, asked_by=principal
    )
    return _operation(recorded)


@router.post(
    "/operations/{op_id}/abort",
    response_model=OperationDocument,
    tags=["operations"],
    responses={
        200: {"description": "What stands.", "headers": _OUTCOME},
        **problems.responses(ValidationFailed, ServiceUnavailable, OutcomeUnknown),
    },
)
async def abort_operation(
    op_id: uuid.UUID,
    body: AbortRequest,
    resources: ResourcesDependency,
    principal: PrincipalDependency,
) -> Response:
    """Make sure that an operation is decided: it is aborted, unless it has been decided before."""
    principal.require(INTERNAL, to="abort the operation of an order")
    access_log.bind(operation_id=str(op_id))
    return _operation(await resources.service.abort(op_id, body.invoice_id))


async def _answer(recorded: Record, points: Failpoints) -> Response:
    access_log.bind(operation_id=str(recorded.identity.op_id))
    await points.hit(failpoints.BEFORE_REPLY)
    answer = StoredResponse(*recorded.answer).to_response()
    # Not kept with the answer: what an earlier release has recorded is named like anything else.
    answer.headers[OPERATION_ID] = str(recorded.identity.op_id)
    return answer


def _operation(recorded: Record) -> Response:
    document = OperationDocument(
        id=recorded.identity.op_id,
        kind=recorded.kind,
        outcome=recorded.outcome,
        invoice_id=recorded.identity.subject_id,
        version=recorded.version,
        status=recorded.answer.status,
        created_at=recorded.created_at,
    )
    outcome = {
        OPERATION_OUTCOME: recorded.outcome.value,
        OPERATION_ID: str(recorded.identity.op_id),
    }
    return _json(document.model_dump_json(), outcome)


def _json(body: str, headers: dict[str, str]) -> Response:
    return Response(body, media_type=JSONResponse.media_type, headers=headers)
