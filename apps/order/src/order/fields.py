"""How an order's body is kept: as columns of its row, as JSON in its operations, and as it is sent.

What the fields are is the domain's; here is only how their types are kept.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from sqlalchemy import DateTime, Numeric

from order.domain import Body
from servicekit.money import PRECISION, SCALE, to_text
from tandem.fields import Fields, Form


def _instant(text: str) -> datetime:
    """Return a time in UTC, the last that there is if it lies after that.

    The first release recorded such times, whose orders could then never be completed.
    """
    time = datetime.fromisoformat(text)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


BODY: Final = Fields(
    Body,
    computed=("total",),
    forms={
        Decimal: Form(Numeric(PRECISION, SCALE), to_json=to_text, from_json=Decimal),
        datetime: Form(DateTime(timezone=True), to_json=datetime.isoformat, from_json=_instant),
    },
)
