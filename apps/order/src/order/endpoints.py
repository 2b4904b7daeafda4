"""The routes: HTTP in, use case, HTTP out."""

from datetime import UTC
from typing import Annotated, Any, Final
from uuid import UUID, uuid4

from fastapi import APIRouter, Query
from starlette.responses import Response

from order import answers, domain
from order.dependencies import IfMatch, IfNoneMatch, TermsDependency, UseCasesDependency
from order.errors import (
    DatabaseUnavailable,
    InvoiceServiceUnavailable,
    LocksUnavailable,
    OperationAborted,
    OperationNotFound,
    OperationRejected,
    OperationRunning,
    OrderAlreadyDeleted,
    OrderLocked,
    OrderNotFound,
    UpdateIsStale,
)
from order.ports import Unrecorded
from order.repository import OperationRecord
from order.schemas import (
    Acceptance,
    ListedOrder,
    OperationOut,
    OperationQuery,
    OrderIn,
    OrderOut,
    OrderPatch,
    OrderQuery,
    UnrecordedOperation,
    pending_link,
)
from order.service.cancellation import NotCancelledYet
from servicekit import access_log, problems
from servicekit.auth.principal import PrincipalDependency
from servicekit.etags import EntityTags, format_etag, require_match
from servicekit.idempotency import StoredResponse
from servicekit.json_body import StrictJsonRoute
from servicekit.pagination import CursorCodec, Page
from servicekit.problems import (
    DeadlineExceeded,
    IdempotencyKeyReused,
    Overloaded,
    PreconditionFailed,
    ValidationFailed,
)
from servicekit.walks import Walk
from tandem.operation import Answer

PENDING_HEADER: Final = "Pending-Operation"
router = APIRouter(route_class=StrictJsonRoute)

_TEXT: Final = {"schema": {"type": "string"}}
_ETAG: Final = {"ETag": {"description": "The order's version.", **_TEXT}}
_OPERATION: Final = {"Operation-Id": {"description": "The operation that made it.", **_TEXT}}
_LOCATION: Final = {"Location": {"description": "Where to look.", **_TEXT}}
_PENDING: Final = {
    PENDING_HEADER: {"description": "The change that is on its way, if one is.", **_TEXT}
}
_ACCEPTED: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "description": "The outcome is not known yet; the operation's page will tell.",
        "headers": _LOCATION | _OPERATION,
        "model": Acceptance,
    }
}
_UNAVAILABLE: Final = (
    InvoiceServiceUnavailable,
    LocksUnavailable,
    DatabaseUnavailable,
    Overloaded,
    DeadlineExceeded,
)
_OPERATION_ENDS: Final = (OperationRejected, OperationAborted, OperationRunning)
_CHANGED: Final[dict[int | str, dict[str, Any]]] = {
    204: {"description": "Both sides are changed.", "headers": _ETAG | _OPERATION},
    **_ACCEPTED,
    **problems.responses(
        OrderNotFound,
        *_OPERATION_ENDS,
        PreconditionFailed,
        IdempotencyKeyReused,
        ValidationFailed,
        OrderLocked,
        *_UNAVAILABLE,
    ),
}


@router.post(
    "/orders",
    status_code=201,
    response_model=OrderOut,
    tags=["orders"],
    responses={
        201: {"description": "Created.", "headers": _ETAG | _OPERATION | _LOCATION},
        **_ACCEPTED,
        **problems.responses(
            *_OPERATION_ENDS, IdempotencyKeyReused, ValidationFailed, *_UNAVAILABLE
        ),
    },
)
async def create_order(
    body: OrderIn, use_cases: UseCasesDependency, terms: TermsDependency
) -> Response:
    """Create an order together with its invoice."""
    command = domain.Create(order_id=uuid4(), **dict(body))
    change = terms.change(command, operation="POST /orders", content=body.model_dump())
    return _answer(await use_cases.changes.apply(change))


@router.get(
    "/orders",
    tags=["orders"],
    responses=problems.responses(ValidationFailed, DatabaseUnavailable),
)
async def list_orders(
    query: Annotated[OrderQuery, Query()], use_cases: UseCasesDependency
) -> Page[ListedOrder]:
    """List orders at their last committed version, the newest first; deleted ones are included.

    Following `next_cursor` to the end shows every order that was there when the first page was
    read; one whose creation was on its way then comes last.
    """
    codec = CursorCodec(f"orders, newest first, user_id={query.user_id}")
    orders, walk = await use_cases.reading.orders(
        after=_walk(codec, query.cursor), user_id=query.user_id, limit=query.limit
    )
    return Page(
        items=[ListedOrder.of(order) for order in orders],
        next_cursor=None if walk is None else walk.encode(codec),
    )


@router.get(
    "/orders/{order_id}",
    response_model=OrderOut,
    tags=["orders"],
    responses={
        200: {"headers": _ETAG | _PENDING},
        304: {"description": "Still at the version of If-None-Match.", "headers": _ETAG | _PENDING},
        **problems.responses(
            OrderNotFound, PreconditionFailed, ValidationFailed, DatabaseUnavailable
        ),
    },
)
async def read_order(
    order_id: UUID, use_cases: UseCasesDependency, if_match: IfMatch, if_none_match: IfNoneMatch
) -> Response:
    """Read an order at its last committed version; a deleted one stays readable."""
    order = await use_cases.reading.order(order_id)
    headers = {"ETag": format_etag(order.version)}
    # A header, since the body is what the ETag stands for, and does not change with it.
    if (link := pending_link(order)) is not None:
        headers[PENDING_HEADER] = link
    require_match(if_match, order.version)
    if if_none_match is not None and if_none_match.match_weakly(order.version):
        return Response(status_code=304, headers=headers)
    return _json(OrderOut.of(order).model_dump_json(), headers)


@router.patch(
    "/orders/{order_id}",
    status_code=204,
    tags=["orders"],
    responses=_CHANGED
    | problems.responses(UpdateIsStale, *_OPERATION_ENDS)
    | problems.responses(OrderAlreadyDeleted, IdempotencyKeyReused, ValidationFailed),
)
async def update_order(
    order_id: UUID,
    body: OrderPatch,
    use_cases: UseCasesDependency,
    terms: TermsDependency,
    if_match: IfMatch,
) -> Response:
    """Change an order together with its invoice."""
    asked = {**dict(body), "update_time": body.update_time.astimezone(UTC)}
    command = domain.Update(order_id=order_id, accepted_versions=_versions(if_match), **asked)
    content = {"order_id": order_id, "if_match": _sorted(if_match), **body.model_dump()}
    change = terms.change(command, operation="PATCH /orders/{order_id}", content=content)
    return _answer(await use_cases.changes.apply(change))


@router.delete("/orders/{order_id}", status_code=204, tags=["orders"], responses=_CHANGED)
async def delete_order(
    order_id: UUID, use_cases: UseCasesDependency, terms: TermsDependency, if_match: IfMatch
) -> Response:
    """Mark an order and its invoice as deleted; doing it again changes nothing."""
    command = domain.Delete(order_id=order_id, accepted_versions=_versions(if_match))
    content = {"order_id": order_id, "if_match": _sorted(if_match)}
    change = terms.change(command, operation="DELETE /orders/{order_id}", content=content)
    return _answer(await use_cases.changes.apply(change))


@router.get(
    "/operations",
    tags=["operations"],
    responses=problems.responses(ValidationFailed, DatabaseUnavailable),
)
async def list_operations(
    query: Annotated[OperationQuery, Query()],
    use_cases: UseCasesDependency,
    principal: PrincipalDependency,
) -> Page[OperationOut]:
    """List the caller's operations, the oldest first; an operator sees those of all."""
    client = None if principal.sees_all else principal.client
    codec = CursorCodec(f"operations state={query.state} order_id={query.order_id} client={client}")
    records, walk = await use_cases.reading.operations(
        after=_walk(codec, query.cursor),
        state=query.state,
        order_id=query.order_id,
        client=client,
        limit=query.limit,
    )
    return Page(
        items=[OperationOut.of(record) for record in records],
        next_cursor=None if walk is None else walk.encode(codec),
    )


@router.get(
    "/operations/{op_id}",
    response_model=OperationOut | UnrecordedOperation,
    tags=["operations"],
    responses={
        200: {"headers": {"Location": {"description": "The order.", **_TEXT}}},
        **problems.responses(OperationNotFound, ValidationFailed, DatabaseUnavailable),
    },
)
async def read_operation(
    op_id: UUID, use_cases: UseCasesDependency, principal: PrincipalDependency
) -> Response:
    """Tell what has become of an operation; 404 is final.

    The operations of other clients are 404, but for an operator.

    An operation that an answer has named is never 404 on the same day: if the database did not say
    whether it was recorded, the page says `pending` while that may still happen, and `rejected`
    once it cannot any more.
    """
    return _operation(await use_cases.reading.operation(op_id, asked_by=principal))


@router.post(
    "/operations/{op_id}/cancel",
    response_model=OperationOut | UnrecordedOperation,
    tags=["operations"],
    responses={
        200: {"headers": {"Location": {"description": "The order.", **_TEXT}}},
        **_ACCEPTED,
        **problems.responses(OperationNotFound, ValidationFailed, DatabaseUnavailable),
    },
)
async def cancel_operation(
    op_id: UUID, use_cases: UseCasesDependency, principal: PrincipalDependency
) -> Response:
    """Ask that an operation never be applied, and tell what stands: it may be committed.

    Asking again is the same as asking once.
    """
    access_log.bind(operation_id=str(op_id))
    try:
        record = await use_cases.cancellation.cancel(op_id, asked_by=principal)
    except NotCancelledYet as error:
        return _answer(answers.accepted(op_id, error.operation.order_id))
    return _operation(record)


def _answer(answer: Answer) -> Response:
    """Return the answer to a change, and let the log say which operation it is about."""
    if (op_id := dict(answer.headers).get(answers.OPERATION_HEADER)) is not None:
        access_log.bind(operation_id=op_id)
    return StoredResponse(*answer).to_response()


def _operation(record: OperationRecord | Unrecorded) -> Response:
    if isinstance(record, Unrecorded):
        headers = {"Retry-After": "1"} if record.may_come else {}
        return _json(UnrecordedOperation.of(record).model_dump_json(), headers)
    operation = OperationOut.of(record)
    return _json(operation.model_dump_json(), {"Location": operation.order})


def _json(body: str, headers: dict[str, str]) -> Response:
    return Response(body, headers=headers, media_type="application/json")


def _versions(tags: EntityTags | None) -> frozenset[int] | None:
    """Return the versions that If-Match admits; None for any that exists."""
    if tags is None or tags.wildcard:
        return None
    return tags.versions()


def _sorted(tags: EntityTags | None) -> list[str] | None:
    return None if tags is None else ["*"] if tags.wildcard else sorted(tags.strong)


def _walk(codec: CursorCodec, cursor: str | None) -> Walk | None:
    return None if cursor is None else Walk.decode(codec, cursor)
