"""Both databases as the audit reads them.

The invoice database is another service's: what is read of it here is the least that the protocol
itself is about, the invoices' versions and what is recorded for operations.
"""

from typing import Final

from sqlalchemy import TableClause, column, table
from sqlalchemy.ext.asyncio import AsyncEngine

from order import models
from order.audit.facts import fact_of_row
from order.domain import INVOICED, invoice_id_for
from order.repository import ORDERS
from tandem.audit.databases import HereInDatabase, ThereInDatabase

_INVOICES: Final = table(
    "invoices", *(column(name) for name in ("order_id", "version", "status", *INVOICED))
)


def orders_in(engine: AsyncEngine) -> HereInDatabase:
    """Return the order database."""
    return HereInDatabase(engine, ORDERS, fact_of=fact_of_row, archive=models.operations_archive)


def invoices_in(engine: AsyncEngine) -> ThereInDatabase:
    """Return the invoice database."""
    return ThereInDatabase(
        engine,
        _INVOICES,
        subject_id="order_id",
        fact_of=fact_of_row,
        decisions=[_decisions("applied_operations"), _decisions("applied_operations_archive")],
        own_id="invoice_id",
        own_id_of=invoice_id_for,
    )


def _decisions(name: str) -> TableClause:
    return table(name, *(column(each) for each in ("op_id", "invoice_id", "outcome")))
