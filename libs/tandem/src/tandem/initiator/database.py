"""The initiator's database, as requests use it."""

from dataclasses import dataclass
from typing import Generic

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tandem.initiator.journal import Journal
from tandem.initiator.keys import Keys
from tandem.initiator.operations import Operations
from tandem.initiator.schema import Schema
from tandem.initiator.subject import OpT, SubjectT
from tandem.initiator.subjects import Subjects
from tandem.store import Store


@dataclass(frozen=True, slots=True)
class Database(Generic[OpT, SubjectT]):
    """Two ways to one database."""

    store: Store
    """For the journal's statements, each a transaction by itself: the usual path."""
    journal: Journal[OpT, SubjectT]
    engine: AsyncEngine
    """For what takes several statements, and does not run at every request: the careful path
    and probes."""

    @property
    def schema(self) -> Schema[OpT, SubjectT]:
        """The tables."""
        return self.journal.schema

    def subjects(self, connection: AsyncConnection) -> Subjects[OpT, SubjectT]:
        """Return the subjects, on one connection."""
        return Subjects(self.schema, connection)

    def operations(self, connection: AsyncConnection) -> Operations[OpT]:
        """Return the operations, on one connection."""
        return Operations(self.schema, connection)

    def keys(self, connection: AsyncConnection) -> Keys:
        """Return the idempotency keys, on one connection."""
        return Keys(self.schema, connection)
