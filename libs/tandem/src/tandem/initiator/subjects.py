"""The table of subjects, as the careful path reads and writes it."""

from datetime import UTC, datetime
from typing import Generic
from uuid import UUID

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from tandem.initiator.schema import Schema
from tandem.initiator.subject import OpT, SubjectT
from tandem.operation import FIRST_VERSION


class Subjects(Generic[OpT, SubjectT]):
    """Reads and writes subjects on one connection."""

    def __init__(self, schema: Schema[OpT, SubjectT], connection: AsyncConnection) -> None:
        self._schema = schema
        self._subjects = schema.subjects
        self._connection = connection

    async def lock(self, subject_id: UUID) -> SubjectT | None:
        """Return the subject with its row locked until the transaction ends, at any version."""
        statement = (
            select(self._subjects).where(self._subjects.c.id == subject_id).with_for_update()
        )
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else self._schema.subject_of(row)

    async def lock_at(self, subject_id: UUID) -> tuple[SubjectT | None, datetime]:
        """Return the same, and the time of this transaction by the database's clock."""
        statement = select(self._subjects, func.now().label("moment")).where(
            self._subjects.c.id == subject_id
        )
        row = (await self._connection.execute(statement.with_for_update())).one_or_none()
        if row is None:
            return None, datetime.max.replace(tzinfo=UTC)
        return self._schema.subject_of(row), row.moment

    async def now(self) -> datetime:
        """Return the time of this transaction by the database's clock."""
        return (await self._connection.execute(select(func.now()))).scalar_one()

    async def reserve(self, operation: OpT) -> None:
        """Make the row of a subject whose creation is about to be recorded, if it is not there.

        It waits for another transaction that is making the same row.
        """
        statement = (
            postgresql.insert(self._subjects)
            .values(id=operation.subject_id, version=0, **self._schema.columns_of(operation))
            .on_conflict_do_nothing(constraint=self._subjects.primary_key)
        )
        await self._connection.execute(statement)

    async def mark_pending(self, operation: OpT) -> None:
        """Note on the subject which operation is on its way."""
        await self._connection.execute(
            update(self._subjects)
            .where(self._subjects.c.id == operation.subject_id)
            .values(pending_op=operation.id)
        )

    async def advance(self, operation: OpT) -> SubjectT | None:
        """Bring the subject to the operation's version; None if it was not at the one before.

        The version is compared in the same statement: of two that try, one changes the row.
        """
        statement = (
            update(self._subjects)
            .where(
                and_(
                    self._subjects.c.id == operation.subject_id,
                    self._subjects.c.version == operation.version - 1,
                    self._subjects.c.pending_op == operation.id,
                )
            )
            .values(
                version=operation.version,
                pending_op=None,
                # A subject's creation and its first update are the same moment.
                **(
                    self._schema.at_creation
                    if operation.version == FIRST_VERSION
                    else {"updated_at": func.now()}
                ),
                **self._schema.columns_of(operation),
            )
            .returning(self._subjects)
        )
        row = (await self._connection.execute(statement)).one_or_none()
        return None if row is None else self._schema.subject_of(row)

    async def restore(self, operation: OpT) -> bool:
        """Write what a committed operation says into its subject's row; False if it says so."""
        said = {"version": operation.version, **self._schema.columns_of(operation)}
        differs = or_(*(self._subjects.c[name].is_distinct_from(said[name]) for name in said))
        statement = (
            update(self._subjects)
            .where(self._subjects.c.id == operation.subject_id, differs)
            .values(said)
            .returning(self._subjects.c.id)
        )
        return (await self._connection.execute(statement)).one_or_none() is not None

    async def unmark_pending(self, operation: OpT) -> None:
        """Forget an operation that came to nothing."""
        await self._connection.execute(
            update(self._subjects)
            .where(
                self._subjects.c.id == operation.subject_id,
                self._subjects.c.pending_op == operation.id,
            )
            .values(pending_op=None)
        )
