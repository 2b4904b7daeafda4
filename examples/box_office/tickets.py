"""The box office, which sells tickets: ``python -m examples.box_office.tickets 8101``."""

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID, uuid4

import httpx
import uvicorn
from fastapi import Body as JsonBody
from fastapi import FastAPI, Header
from fastapi.responses import Response
from sqlalchemy import Boolean, CheckConstraint, Column, MetaData, Text

import fencelock
from examples.box_office.shared import answer_errors, create_tables, http, lock_names
from servicekit.failpoints import DroppableConnectionMiddleware, Failpoints
from tandem.client import HttpxAsk
from tandem.http import NOTHING_WRITTEN
from tandem.initiator import Points, plain, tables
from tandem.initiator.assembly import Limits, assemble
from tandem.initiator.ports import Answered
from tandem.initiator.records import Key
from tandem.locks import RedisLocks
from tandem.operation import Kind
from tandem.wire import WireDecider

Body = Mapping[str, str | bool]
Text1 = Annotated[str, JsonBody(min_length=1)]
Holder = Annotated[str, JsonBody(min_length=1, embed=True)]
KeyHeader = Annotated[str | None, Header()]
POINTS: Final = Points.of("tickets")
metadata: Final = MetaData()
tickets: Final = tables.subjects_table(
    metadata,
    "tickets",
    Column("seat", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("returned", Boolean, nullable=False),
    CheckConstraint("length(seat) <= 9", name="tickets_seat_check"),
)
SCHEMA: Final = plain.plain_schema(
    tickets,
    tables.operations_table(metadata, tickets, subject_id="ticket_id"),
    tables.keys_table(metadata),
    subject_id="ticket_id",
    fields=("seat", "holder", "returned"),
)


def plan(
    ticket: plain.PlainSubject | None, change: plain.PlainChange, /, *, now: datetime
) -> plain.PlainOperation | Answered:
    """Return what a change means for a ticket: the operation, or the answer if there is none."""
    if change.kind is not Kind.CREATE:
        if ticket is None or ticket.version == 0:
            return Answered(plain.answer_of(404, error="no such ticket"))
        if ticket.body["returned"]:
            return Answered(plain.answer_of(409, error="the ticket was returned"))
    before = {"returned": False} if ticket is None else ticket.body
    return plain.PlainOperation(
        id=change.op_id,
        subject_id=change.subject_id,
        kind=change.kind,
        version=1 if ticket is None else ticket.version + 1,
        body={**before, **change.body},
    )


def create_app(decider: Callable[[HttpxAsk], WireDecider] = WireDecider) -> FastAPI:
    """Return the service, set up by its environment."""
    client = httpx.AsyncClient(base_url=os.environ["SEATS_URL"], trust_env=False)
    ttl = float(os.environ.get("LOCK_TTL_SECONDS", "10"))
    locks = fencelock.AsyncLockClient.from_url(os.environ["REDIS_URL"], ttl=ttl)
    initiator = assemble(
        SCHEMA,
        database_url=os.environ["TICKETS_DATABASE_URL"],
        plan=plan,
        answers=plain.PlainAnswers(),
        decider=decider(HttpxAsk(client)),
        locks=RedisLocks(locks, lock_names),
        points=POINTS,
        failpoints=Failpoints(POINTS.names(), armed=os.environ.get("FAILPOINTS", "")),
        limits=Limits(recovery_interval=float(os.environ.get("RECOVERY_SECONDS", "1"))),
    )
    store, journal = initiator.database.store, initiator.database.journal

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client, initiator.running():
            yield
        await locks.aclose()

    app = FastAPI(title="Tickets", lifespan=lifespan)

    async def change(kind: Kind, ticket_id: UUID | None, body: Body, key: str | None) -> Response:
        asked = plain.PlainChange(
            op_id=uuid4(),
            subject_id=ticket_id or uuid4(),
            kind=kind,
            body=body,
            key=Key.of(key, kind, ticket_id, body),
        )
        return http(await initiator.changes.apply(asked))

    @app.post("/tickets")
    async def sell(seat: Text1, holder: Text1, idempotency_key: KeyHeader = None) -> Response:
        body = {"seat": seat, "holder": holder}
        return await change(Kind.CREATE, None, body, idempotency_key)

    @app.patch("/tickets/{ticket_id}")
    async def give(ticket_id: UUID, holder: Holder, idempotency_key: KeyHeader = None) -> Response:
        return await change(Kind.UPDATE, ticket_id, {"holder": holder}, idempotency_key)

    @app.delete("/tickets/{ticket_id}")
    async def give_back(ticket_id: UUID, idempotency_key: KeyHeader = None) -> Response:
        return await change(Kind.DELETE, ticket_id, {"returned": True}, idempotency_key)

    @app.get("/tickets/{ticket_id}")
    async def read(ticket_id: UUID) -> Response:
        ticket = await journal.subject(store, ticket_id)
        return http(None if ticket is None else plain.answer_of(200, **ticket.body))

    @app.get("/operations/{op_id}")
    async def operation(op_id: UUID) -> Response:
        record = await journal.operation(store, op_id)
        return http(None if record is None else plain.answer_of(200, state=record.state))

    @app.post("/operations/{op_id}/cancel")
    async def cancel(op_id: UUID) -> Response:
        record = await initiator.cancel(op_id)
        return http(None if record is None else plain.answer_of(200, state=record.state))

    answer_errors(app, NOTHING_WRITTEN)
    return app


def main(arguments: Sequence[str], make_app: Callable[[], FastAPI] = create_app) -> int:
    """Serve on the port given."""
    create_tables(metadata, os.environ["TICKETS_DATABASE_URL"])
    app = DroppableConnectionMiddleware(make_app())
    uvicorn.run(app, host="127.0.0.1", port=int(arguments[0]), log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
