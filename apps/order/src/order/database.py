"""The order database, as requests use it."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from order.repository import Journal
from tandem.store import Store


@dataclass(frozen=True, slots=True)
class OrderDatabase:
    """Two ways to one database."""

    store: Store
    """For the journal's statements, each a transaction by itself: the usual path."""
    journal: Journal
    engine: AsyncEngine
    """For what takes several statements, and does not run at every request: the careful path
    and probes."""
