"""Columns, payload and rows derive from a body's dataclass."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from types import SimpleNamespace
from uuid import UUID

import pytest
from sqlalchemy import Numeric, Text

from tandem.fields import Fields, Form


class Grade(StrEnum):
    """How good a seat is."""

    STALLS = "stalls"
    GALLERY = "gallery"


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """A body with a field of every kind."""

    buyer: UUID
    seats: int
    price: Decimal
    grade: Grade
    sold: datetime
    note: str | None = None

    @property
    def total(self) -> Decimal:
        """What is paid."""
        return self.seats * self.price


MONEY: dict[type, Form] = {Decimal: Form(Numeric(9, 2), to_json=str, from_json=Decimal)}
TICKETS = Fields(Ticket, computed=("total",), forms=MONEY)
TICKET = Ticket(
    buyer=UUID(int=7),
    seats=2,
    price=Decimal("9.50"),
    grade=Grade.GALLERY,
    sold=datetime(2030, 1, 31, tzinfo=UTC),
)
PAYLOAD = {
    "buyer": str(UUID(int=7)),
    "seats": 2,
    "price": "9.50",
    "grade": "gallery",
    "sold": "2030-01-31T00:00:00+00:00",
    "total": "19.00",
}


def test_a_payload_gives_back_the_body_that_it_was_made_of() -> None:
    assert TICKETS.to_payload(TICKET) == PAYLOAD
    assert TICKETS.from_payload(PAYLOAD) == TICKET


def test_a_row_gives_back_the_body_that_it_was_made_of() -> None:
    columns = TICKETS.to_columns(TICKET)
    assert columns["grade"] == "gallery"
    assert type(columns["grade"]) is str
    assert columns["total"] == Decimal("19.00")
    assert TICKETS.from_row(SimpleNamespace(**columns)) == TICKET


def test_a_field_with_a_default_is_left_out_where_it_has_it_and_may_be_missing() -> None:
    assert "note" in TICKETS.names
    assert "note" not in TICKETS.required
    noted = {**PAYLOAD, "note": "aisle"}
    assert TICKETS.to_payload(TICKETS.from_payload(noted)) == noted
    assert TICKETS.from_json(PAYLOAD, ("note",)) == {"note": None}
    with pytest.raises(KeyError):
        TICKETS.from_json({}, ("price",))


def test_only_what_may_be_none_is_a_column_that_may_be_null() -> None:
    columns = {column.name: column for column in TICKETS.columns()}
    assert tuple(columns) == TICKETS.names
    assert [name for name, column in columns.items() if column.nullable] == ["note"]
    assert isinstance(columns["grade"].type, Text)
    assert isinstance(columns["total"].type, Numeric)


def test_a_type_that_nobody_has_explained_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="price"):
        Fields(Ticket)
