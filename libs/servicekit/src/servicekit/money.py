"""Money: decimal from the request's text to the database and back, never a float.

``servicekit.json_body`` parses JSON numbers as ``Decimal``, so a client may send ``12.30`` or
``"12.30"``; answers always carry a string with two decimals.
"""

from decimal import Decimal
from typing import Annotated, Final

from pydantic import Field, PlainSerializer

SCALE: Final = 2
PRECISION: Final = 18
CENT: Final = Decimal("0.01")
MAXIMUM: Final = Decimal("9999999999999999.99")
"""The greatest amount a column ``numeric(18,2)`` holds."""


def to_text(amount: Decimal) -> str:
    """Return the amount with exactly two decimals and no exponent."""
    return f"{amount.quantize(CENT):f}"


Money = Annotated[
    Decimal,
    Field(
        ge=0,
        max_digits=PRECISION,
        decimal_places=SCALE,
        description="An amount with at most two decimals, as a JSON number or string.",
        examples=["129.90"],
    ),
    PlainSerializer(to_text, return_type=str),
]
"""An amount from 0 to ``MAXIMUM``: pydantic refuses more digits or decimals by name."""
