"""The hall, which decides whose each seat is: ``python -m examples.box_office.seats 8102``."""

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

import psycopg
import uvicorn
from fastapi import FastAPI, Header, HTTPException
from fastapi.responses import Response
from sqlalchemy import Column, Index, MetaData, Text, false, text

import fencelock
from examples.box_office.shared import answer_errors, create_tables, http, lock_names
from servicekit.failpoints import DroppableConnectionMiddleware, Failpoints
from tandem import errors, sessions, wire
from tandem.decider import DecisionPoint, Identity, Points, Records, Unobserved, tables
from tandem.store import Store

POINTS: Final = Points.of("seats")
NOTHING_DECIDED: Final = (
    errors.StaleFence,
    errors.ChangedMeanwhile,
    errors.GivenUp,
    errors.CommitUnknown,
    fencelock.FencelockError,
    psycopg.Error,
)
SECONDS: Final = 2.0

metadata: Final = MetaData()
decisions: Final = tables.decisions_table(metadata, subject_id="ticket_id")
seats: Final = tables.subjects_table(
    metadata,
    "seats",
    decisions,
    Column("seat", Text, nullable=False),
    Column("holder", Text, nullable=False),
)
# What only the hall can say: a seat is one person's. A seat that was given back is free again.
Index("seats_taken_idx", seats.c.seat, unique=True, postgresql_where=text("status <> 'deleted'"))


def create_app() -> FastAPI:
    """Return the service, set up by its environment."""
    url = os.environ["SEATS_DATABASE_URL"]
    limits = sessions.parameters(statement_timeout_seconds=SECONDS)
    store = Store(url, parameters=limits, size=10)
    locks = fencelock.AsyncLockClient.from_url(os.environ["REDIS_URL"])
    records = Records(
        decisions, seats, subject_id="ticket_id", fields=("seat", "holder"), direct=false()
    )
    point = DecisionPoint(
        store,
        records,
        answers=wire.WireAnswers(),
        observer=Unobserved(),
        failpoints=Failpoints(POINTS.names(), armed=os.environ.get("FAILPOINTS", "")),
        points=POINTS,
        clock=lambda: datetime.now(UTC),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await locks.aclose()
        await store.close()

    app = FastAPI(title="Seats", lifespan=lifespan)

    @app.put("/operations/{op_id}")
    async def decide(
        op_id: UUID, document: dict[str, Any], lock_token: Annotated[str, Header()]
    ) -> Response:
        try:
            proposal = wire.proposal_of(wire.operation_of(op_id, document))
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        known = await records.find(store, proposal.identity)
        if known is None:
            held = lock_names(proposal.identity.subject_id)
            lease = await locks.verify(lock_token, held, timeout=SECONDS)
            decision = await point.decide(proposal, fence=lease.fence, deadline_seconds=SECONDS)
            known = decision.record
        if known.request_hash not in {None, proposal.request_hash}:
            raise HTTPException(422, "This id belongs to another operation.")
        return http(known.answer)

    @app.get("/operations/{op_id}")
    async def recorded(op_id: UUID, subject_id: UUID) -> Response:
        known = await records.find(store, Identity(op_id, subject_id, direct=False))
        return http(wire.not_recorded() if known is None else known.answer)

    @app.post("/operations/{op_id}/abort")
    async def abort(op_id: UUID, subject_id: UUID) -> Response:
        identity = Identity(op_id, subject_id, direct=False)
        return http((await point.abort(identity, deadline_seconds=SECONDS)).record.answer)

    answer_errors(app, dict.fromkeys(NOTHING_DECIDED, 503))
    return app


def main(arguments: Sequence[str]) -> int:
    """Serve on the port given."""
    create_tables(metadata, os.environ["SEATS_DATABASE_URL"])
    app = DroppableConnectionMiddleware(create_app())
    uvicorn.run(app, host="127.0.0.1", port=int(arguments[0]), log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
