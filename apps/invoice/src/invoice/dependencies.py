"""What endpoints get handed."""

import uuid
from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import WithJsonSchema

from invoice.resources import Resources
from invoice.terms import Terms
from servicekit import idempotency
from servicekit.auth.principal import INTERNAL, PrincipalDependency
from servicekit.etags import (
    EntityTags,
    TagsHeader,
    conditional,
    entity_tags_of,
    refuse_if_none_match,
)
from tandem.http import LOCK_TOKEN

LockToken = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[!-~]{1,8192}$"})]


async def _resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


async def _terms(
    request: Request,
    *,
    principal: PrincipalDependency,
    idempotency_key: Annotated[
        idempotency.KeyHeader | None,
        Header(
            description="Identifies the operation: a repetition with the same key gets the same"
            " answer. A UUID, and required, for an order's invoice."
        ),
    ] = None,
    if_match: Annotated[
        TagsHeader | None,
        Header(description="The version to build on; required for an order's invoice."),
    ] = None,
    lock_token: Annotated[
        LockToken | None, Header(description="The proof of the lock, from the lock's holder.")
    ] = None,
    order_id: Annotated[
        uuid.UUID | None,
        Header(
            description="The order of an order's invoice: with it, and under the lock, a change of"
            " an invoice that is not there is refused for good."
        ),
    ] = None,
) -> Terms:
    refuse_if_none_match(request.headers)
    idempotency.require_one_line(request.headers, idempotency.HEADER, LOCK_TOKEN, "Order-Id")
    if order_id is not None:
        principal.require(INTERNAL, to="send the header Order-Id")
    return Terms(
        key=None if idempotency_key is None else idempotency.parse_key(idempotency_key),
        if_match=None if if_match is None else entity_tags_of(request.headers, header="If-Match"),
        proof=lock_token,
        order_id=order_id,
        principal=principal,
    )


ResourcesDependency = Annotated[Resources, Depends(_resources)]
TermsDependency = Annotated[Terms, Depends(_terms)]
IfMatch = Annotated[
    EntityTags | None,
    conditional("If-Match", "Reads only this version, else answers 412."),
]
IfNoneMatch = Annotated[
    EntityTags | None,
    conditional("If-None-Match", "Answers 304 if the invoice is still at this version."),
]
