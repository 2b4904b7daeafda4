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


@pytest.mark.parametrize(
    "given",
    [
        *("-0", "-0.00", "+5", "1_000", "\uff11\uff12", " 5", "5 ", "1e3", "1E+2", "05", "00"),
        *(".5", "5.", "5.000", "0x10", "9" * 17, "9" * 5000, "1\x00"),
        *(Decimal("-0"), Decimal("1E+3"), True, 1.5),
    ],
)
def test_an_amount_has_one_form(given: object) -> None:
    with pytest.raises(ValidationError):
        Bill.model_validate({"total": given})
