"""Money."""

from decimal import Decimal

import pytest
from pydantic import BaseModel, ValidationError

from servicekit.money import MAXIMUM, Money, to_text


class Bill(BaseModel):
    total: Money


@pytest.mark.parametrize("given", ["1.5", "1.50", Decimal("1.5"), Decimal("15e-1")])
def test_equal_amounts_have_one_text(given: str | Decimal) -> None:
    assert Bill.model_validate({"total": given}).model_dump_json() == '{"total":"1.50"}'


def test_the_greatest_amount_fits_and_the_next_does_not() -> None:
    assert Bill(total=MAXIMUM).total == MAXIMUM
    with pytest.raises(ValidationError):
        Bill(total=MAXIMUM + Decimal("0.01"))


@pytest.mark.parametrize("given", ["-0.01", "0.001", "NaN", "Infinity", "1,5", "", None])
def test_what_is_no_amount_is_refused(given: str | None) -> None:
    with pytest.raises(ValidationError):
        Bill.model_validate({"total": given})


def test_no_amount_is_written_with_an_exponent() -> None:
    assert to_text(Decimal("1E+3")) == "1000.00"
