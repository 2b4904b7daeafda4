"""The order database, as requests use it."""

from dataclasses import dataclass

from order.domain import Operation, Order
from tandem.initiator import Database


@dataclass(frozen=True, slots=True)
class OrderDatabase(Database[Operation, Order]):
    """Two ways to one database."""
