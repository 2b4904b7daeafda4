"""Both databases as an audit reads them, for when a service is not to be trusted or not there.

The decider's database is another service's: what is read of it is the least that the protocol
itself is about, the versions of what it has and what is recorded for operations.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final
from uuid import UUID

import psycopg
from sqlalchemy import FromClause, Row, Table, literal, select, true, union_all
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.selectable import CompoundSelect, Select

from tandem.audit.facts import Fact, Step
from tandem.audit.sources import SourceUnavailable
from tandem.errors import cause_of
from tandem.initiator.schema import Schema
from tandem.operation import Outcome, State

FactOf = Callable[[Row[Any]], Fact]
"""Returns what a row says."""
_PAGE: Final = 1000
_STEP: Final = (
    "op_id",
    "kind",
    "state",
    "version",
    "created_at",
    "finished_at",
    "last_error",
)


class HereInDatabase:
    """The database of the side that begins; see ``sources.Here``.

    Args:
        engine: the database.
        schema: its tables.
        fact_of: what a row of subjects says.
        archive: where operations are moved that were superseded long ago.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        schema: Schema[Any, Any],
        *,
        fact_of: FactOf,
        archive: Table | None = None,
    ) -> None:
        self._engine = engine
        self._subjects = schema.subjects
        self._operations = schema.operations
        self._subject_id = schema.subject_id
        self._fact_of = fact_of
        self._journals = [schema.operations] if archive is None else [schema.operations, archive]

    async def all(self) -> AsyncIterator[tuple[UUID, Fact]]:
        """Iterate over all committed subjects, page by page."""
        exists = self._subjects.c.version > 0
        async for row in _paged(self._engine, self._subjects, "id", exists):
            yield row.id, self._fact_of(row)

    async def one(self, subject_id: UUID, /) -> Fact | None:
        """Return one subject."""
        subjects = self._subjects
        wanted = select(subjects).where(subjects.c.id == subject_id, subjects.c.version > 0)
        rows = await _rows(self._engine, wanted)
        return self._fact_of(rows[0]) if rows else None

    async def pending(self) -> AsyncIterator[tuple[UUID, Step]]:
        """Iterate over all pending operations by the subject's id."""
        operations = self._operations
        statement = select(operations).where(operations.c.state == State.PENDING.value)
        for row in await _rows(self._engine, statement.order_by(operations.c.op_id)):
            yield getattr(row, self._subject_id), _step(row)

    async def history(self, subject_id: UUID, /) -> tuple[Step, ...]:
        """Return a subject's operations, the oldest first."""
        history = union_all(
            *(
                select(*(each.c[name] for name in _STEP)).where(
                    each.c[self._subject_id] == subject_id
                )
                for each in self._journals
            )
        )
        rows = await _rows(self._engine, history.order_by("created_at", "op_id"))
        return tuple(_step(row) for row in rows)


class ThereInDatabase:
    """The database of the side that decides; see ``sources.There`` and ``sources.Outcomes``.

    Args:
        engine: the database.
        table: what it has of the subjects.
        subject_id: the column by which that is the subject's.
        fact_of: what a row of it says.
        decisions: the tables of decisions, those that were made first last.
        own_id: the column by which decisions name what they are about.
        own_id_of: returns that of a subject; the subject's own unless they differ.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        table: FromClause,
        *,
        subject_id: str,
        fact_of: FactOf,
        decisions: Sequence[FromClause],
        own_id: str,
        own_id_of: Callable[[UUID], UUID] | None = None,
    ) -> None:
        self._engine = engine
        self._table = table
        self._subject_id = subject_id
        self._fact_of = fact_of
        self._decisions = decisions
        self._own_id = own_id
        self._own_id_of = own_id_of

    async def all(self) -> AsyncIterator[tuple[UUID, Fact]]:
        """Iterate over everything that is of a subject, page by page."""
        of_subject = self._table.c[self._subject_id].is_not(None)
        async for row in _paged(self._engine, self._table, self._subject_id, of_subject):
            yield getattr(row, self._subject_id), self._fact_of(row)

    async def one(self, subject_id: UUID, /) -> Fact | None:
        """Return what there is of one subject."""
        wanted = select(self._table).where(self._table.c[self._subject_id] == subject_id)
        rows = await _rows(self._engine, wanted)
        return self._fact_of(rows[0]) if rows else None

    async def outcomes(self, subject_id: UUID, op_ids: list[UUID], /) -> dict[UUID, Outcome]:
        """Return what is recorded for these operations of a subject, on what it has of it."""
        own_id = subject_id if self._own_id_of is None else self._own_id_of(subject_id)
        # What is in an archive comes last, and counts: it was recorded first.
        recorded = union_all(
            *(
                select(each.c.op_id, each.c.outcome, literal(rank).label("rank")).where(
                    each.c.op_id.in_(op_ids), each.c[self._own_id] == own_id
                )
                for rank, each in enumerate(self._decisions)
            )
        )
        rows = await _rows(self._engine, recorded.order_by("rank"))
        return {row.op_id: Outcome(row.outcome) for row in rows}


async def _paged(
    engine: AsyncEngine, table: FromClause, key: str, condition: ColumnElement[bool]
) -> AsyncIterator[Row[Any]]:
    statement = select(table).where(condition).order_by(table.c[key]).limit(_PAGE)
    after: ColumnElement[bool] = true()
    while True:
        rows = await _rows(engine, statement.where(after))
        for row in rows:
            yield row
        if len(rows) < _PAGE:
            return
        after = table.c[key] > getattr(rows[-1], key)


async def _rows(
    engine: AsyncEngine, statement: Select[Any] | CompoundSelect[Any]
) -> list[Row[Any]]:
    try:
        async with engine.connect() as connection:
            return list(await connection.execute(statement))
    except SQLAlchemyError as error:
        raise SourceUnavailable(f"{engine.url.database}: {_said(error)}") from error


def _said(error: SQLAlchemyError) -> str:
    """Return in one line what went wrong, for those who operate the services."""
    original = getattr(error, "orig", None)
    said = str(original).partition("\n")[0] if isinstance(original, psycopg.Error) else ""
    return said or cause_of(error)


def _step(row: Row[Any]) -> Step:
    return Step(
        id=row.op_id,
        kind=row.kind,
        state=State(row.state),
        version=row.version,
        created_at=row.created_at,
        finished_at=row.finished_at,
        detail=row.last_error,
    )
