"""Money: decimal from the request's text to the database and back, never a float.

``servicekit.json_body`` parses JSON numbers as ``Decimal``, so a client may send ``12.30`` or
``"12.30"``; answers always carry a string with two decimals.
"""

import re
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

SCALE: Final = 2
PRECISION: Final = 18
CENT: Final = Decimal("0.01")
MAXIMUM: Final = Decimal("9999999999999999.99")
"""The greatest amount a column ``numeric(18,2)`` holds."""
EXACT_NUMBER: Final = 9_007_199_254_740_991
"""The greatest whole number that every client's JSON numbers hold (RFC 8259, 6)."""


def to_text(amount: Decimal) -> str:
    """Return the amount with exactly two decimals and no exponent."""
    return f"{amount.quantize(CENT):f}"


# One way to write an amount: no sign, no exponent, no leading zeros, only the digits 0 to 9.
_PATTERN: Final = r"(0|[1-9][0-9]{0,15})(\.[0-9]{1,2})?"
_CANONICAL: Final = re.compile(_PATTERN)


def _require_canonical(value: Any) -> Any:  # noqa: ANN401 - whatever the client sent
    if isinstance(value, str) and not _CANONICAL.fullmatch(value):
        raise ValueError('must be an amount such as "129.90": digits, at most two decimals')
    if isinstance(value, bool | float):
        raise ValueError("must be an amount as a JSON number or string")  # noqa: TRY004 - pydantic reports these
    if isinstance(value, Decimal) and value.is_signed():
        raise ValueError("must not be negative")
    if isinstance(value, Decimal) and int(value.as_tuple().exponent) > 0:
        raise ValueError("must be written without an exponent")
    return value


Money = Annotated[
    Decimal,
    BeforeValidator(_require_canonical),
    Field(
        ge=0,
        max_digits=PRECISION,
        decimal_places=SCALE,
        description="An amount with at most two decimals, as a JSON number or string.",
        examples=["129.90"],
    ),
    PlainSerializer(to_text, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": EXACT_NUMBER, "multipleOf": 0.01},
                {"type": "string", "pattern": f"^{_PATTERN}$"},
            ]
        },
        mode="validation",
    ),
    WithJsonSchema(
        {"type": "string", "pattern": r"^(0|[1-9][0-9]{0,15})\.[0-9]{2}$"}, mode="serialization"
    ),
]
"""An amount from 0 to ``MAXIMUM``: pydantic refuses more digits or decimals by name."""
