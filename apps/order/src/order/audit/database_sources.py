"""Both databases as an audit reads them, for when a service is not to be trusted or not there.

The invoice database is another service's: what is read of it here is the least that the protocol
itself is about, the invoices' versions and what is recorded for operations.
"""

from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, column, literal, select, table, union_all
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql.selectable import CompoundSelect, Select

from order import models
from order.audit.facts import Fact, Step
from order.audit.sources import SourceUnavailable
from order.domain import INVOICED, Kind, Status, invoice_id_for
from order.fields import BODY
from servicekit.database import detail_of
from tandem.operation import Outcome, State

_PAGE: Final = 1000
_INVOICES: Final = table(
    "invoices",
    *(column(name) for name in ("order_id", "version", "status", *INVOICED)),
)
_APPLIED: Final = table(
    "applied_operations", column("op_id"), column("invoice_id"), column("outcome")
)
_ARCHIVED: Final = table(
    "applied_operations_archive", column("op_id"), column("invoice_id"), column("outcome")
)
_STEP: Final = (
    "op_id",
    "kind",
    "state",
    "version",
    "created_at",
    "finished_at",
    "last_error",
)


class DatabaseOrders:
    """The order database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def orders(self) -> AsyncIterator[tuple[UUID, Fact]]:
        """Iterate over all committed orders, page by page."""
        orders = models.orders
        statement = select(orders).where(orders.c.version > 0).order_by(orders.c.id).limit(_PAGE)
        last: UUID | None = None
        while True:
            page = statement if last is None else statement.where(orders.c.id > last)
            rows = await _rows(self._engine, page)
            for row in rows:
                last = row.id
                yield row.id, _fact(row)
            if len(rows) < _PAGE:
                return

    async def order(self, order_id: UUID) -> Fact | None:
        """Return one order."""
        orders = models.orders
        rows = await _rows(
            self._engine, select(orders).where(orders.c.id == order_id, orders.c.version > 0)
        )
        return _fact(rows[0]) if rows else None

    async def pending(self) -> AsyncIterator[tuple[UUID, Step]]:
        """Iterate over all pending operations by the order's id."""
        operations = models.operations
        statement = select(operations).where(operations.c.state == State.PENDING.value)
        for row in await _rows(self._engine, statement.order_by(operations.c.op_id)):
            yield row.order_id, _step(row)

    async def history(self, order_id: UUID) -> tuple[Step, ...]:
        """Return an order's operations, the oldest first."""
        journal, archive = (
            select(*(each.c[name] for name in _STEP)).where(each.c.order_id == order_id)
            for each in (models.operations, models.operations_archive)
        )
        history = union_all(journal, archive)
        rows = await _rows(self._engine, history.order_by("created_at", "op_id"))
        return tuple(_step(row) for row in rows)


class DatabaseInvoices:
    """The invoice database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def invoices(self) -> AsyncIterator[tuple[UUID, Fact]]:
        """Iterate over all invoices of orders, page by page."""
        statement = select(_INVOICES).where(_INVOICES.c.order_id.is_not(None))
        statement = statement.order_by(_INVOICES.c.order_id).limit(_PAGE)
        last: UUID | None = None
        while True:
            page = statement if last is None else statement.where(_INVOICES.c.order_id > last)
            rows = await _rows(self._engine, page)
            for row in rows:
                last = row.order_id
                yield row.order_id, _fact(row)
            if len(rows) < _PAGE:
                return

    async def invoice(self, order_id: UUID) -> Fact | None:
        """Return the invoice of one order."""
        rows = await _rows(self._engine, select(_INVOICES).where(_INVOICES.c.order_id == order_id))
        return _fact(rows[0]) if rows else None

    async def outcomes(self, order_id: UUID, op_ids: list[UUID]) -> dict[UUID, Outcome]:
        """Return what is recorded for these operations of an order, on its own invoice."""
        # What is in the archive comes last, and counts: it was recorded first.
        journal, archive = (
            select(each, literal(rank).label("rank")).where(
                each.c.op_id.in_(op_ids), each.c.invoice_id == invoice_id_for(order_id)
            )
            for rank, each in enumerate((_APPLIED, _ARCHIVED))
        )
        rows = await _rows(self._engine, union_all(journal, archive).order_by("rank"))
        return {row.op_id: Outcome(row.outcome) for row in rows}


async def _rows(
    engine: AsyncEngine, statement: Select[Any] | CompoundSelect[Any]
) -> list[Row[Any]]:
    try:
        async with engine.connect() as connection:
            return list(await connection.execute(statement))
    except SQLAlchemyError as error:
        raise SourceUnavailable(f"{engine.url.database}: {detail_of(error)}") from error


def _fact(row: Row[Any]) -> Fact:
    return Fact(row.version, Status(row.status), BODY.from_columns(row, INVOICED))


def _step(row: Row[Any]) -> Step:
    return Step(
        id=row.op_id,
        kind=Kind(row.kind),
        state=State(row.state),
        version=row.version,
        created_at=row.created_at,
        finished_at=row.finished_at,
        detail=row.last_error,
    )
