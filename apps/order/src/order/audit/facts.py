"""What orders and invoices must agree on, however they are read."""

from typing import Any, Final

from sqlalchemy import Row

from order.domain import INVOICED, Body
from order.fields import BODY
from tandem.audit.facts import Fact, Nouns

NOUNS: Final = Nouns(here="order", there="invoice")


def fact_of_row(row: Row[Any]) -> Fact:
    """Return what a row of orders, or of invoices, says."""
    return Fact(row.version, row.status, BODY.from_columns(row, INVOICED))


def fact_of_body(version: int, body: Body) -> Fact:
    """Return what a body says."""
    kept = BODY.values(body)
    return Fact(version, body.status.value, {name: kept[name] for name in INVOICED})
