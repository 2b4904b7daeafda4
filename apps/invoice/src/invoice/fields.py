"""How an invoice's body is kept: as columns of its row, and as JSON in what tells requests apart.

What the fields are is the domain's; here is only how their types are kept.
"""

from decimal import Decimal
from typing import Final

from sqlalchemy import Numeric

from invoice.domain import Body
from servicekit.money import PRECISION, SCALE, to_text
from tandem.fields import Fields, Form

BODY: Final = Fields(
    Body, forms={Decimal: Form(Numeric(PRECISION, SCALE), to_json=to_text, from_json=Decimal)}
)
