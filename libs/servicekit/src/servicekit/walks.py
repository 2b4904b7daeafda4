"""Walks over a list, page by page, that miss nothing.

Rows are sorted by when they were begun, and become visible later, when their transaction commits.
One that does so behind a walk's cursor would be missed. So a walk remembers what could be seen when
it began, as Postgres does for its transactions, and ends with the rows that were begun before it
and have become visible since.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Self
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    and_,
    any_,
    cast,
    func,
    literal,
    or_,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from servicekit.pagination import CursorCodec
from servicekit.problems import ValidationFailed

# What fits into a cursor; whoever has more transactions at once misses what those make.
_LISTED_AT_MOST: Final = 64
_GREATEST_XID: Final = 2**63 - 1
_MAIN, _LATE = "m", "l"
_PARTS: Final = 5

Row = Any
"""What has a statement's columns as attributes: a row of SQLAlchemy's or of psycopg's."""
Rows = Callable[[Select[Any]], Awaitable[Sequence[Row]]]
"""Executes a statement and returns its rows."""


def rows_on(connection: AsyncConnection) -> Rows:
    """Return what executes statements on a connection."""

    async def rows(statement: Select[Any]) -> Sequence[Row]:
        return list(await connection.execute(statement))

    return rows


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which transactions could be seen at one moment (``pg_snapshot``)."""

    xmin: int
    xmax: int
    going_on: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the snapshot that Postgres writes as ``xmin:xmax:xid,xid``.

        Raises:
            ValueError: it is none.
        """
        xmin, xmax, listed = text.split(":")
        found = cls(int(xmin), int(xmax), tuple(int(xid) for xid in listed.split(",") if xid))
        if not all(0 <= xid <= _GREATEST_XID for xid in (found.xmin, found.xmax, *found.going_on)):
            raise ValueError(text)
        return found

    def __str__(self) -> str:
        listed = ",".join(str(xid) for xid in self.going_on[:_LISTED_AT_MOST])
        return f"{self.xmin}:{self.xmax}:{listed}"

    def shows(self, xid: ColumnElement[int]) -> ColumnElement[bool]:
        """Return the condition that the transaction could be seen."""
        # One parameter however many there are: each length of an IN would be a statement by itself.
        going_on = literal(list(self.going_on), ARRAY(BigInteger))
        return or_(xid < self.xmin, and_(xid < self.xmax, ~(xid == any_(going_on))))


@dataclass(frozen=True, slots=True)
class Walk:
    """Where a walk stands after a page."""

    snapshot: Snapshot
    began: datetime
    late: bool
    """Whether it has passed all that could be seen when it began."""
    position: tuple[datetime, UUID] | None

    def encode(self, codec: CursorCodec) -> str:
        """Return the cursor with which a client goes on."""
        created_at, row_id = self.position or (self.began, UUID(int=0))
        return codec.encode(
            (_LATE if self.late else _MAIN) + ("" if self.position else "0"),
            str(self.snapshot),
            self.began.isoformat(),
            created_at.isoformat(),
            str(row_id),
        )

    @classmethod
    def decode(cls, codec: CursorCodec, cursor: str) -> Self:
        """Return the walk that ``encode`` was called on.

        Raises:
            ValidationFailed: the cursor is none, or somebody has made one up.
        """
        phase, snapshot, began, created_at, row_id = codec.decode(cursor, parts=_PARTS)
        try:
            return cls(
                snapshot=Snapshot.parse(snapshot),
                began=_moment(began),
                late=(_MAIN, _LATE).index(phase[:1]) == 1,
                position=None if phase[1:] else (_moment(created_at), UUID(row_id)),
            )
        except ValueError as error:
            raise ValidationFailed.of("cursor", "is not a cursor of this list") from error


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment


@dataclass(frozen=True, slots=True)
class Listing:
    """A list that can be walked.

    Attributes:
        created_at: when a row was begun.
        row_id: what tells rows of the same moment apart.
        made_by: the transaction that made the row visible; NULL in rows from before this was noted.
        newest_first: the direction.
    """

    created_at: ColumnElement[datetime]
    row_id: ColumnElement[UUID]
    made_by: ColumnElement[int]
    newest_first: bool = True

    async def page(
        self,
        execute: Rows,
        base: Select[Any],
        *,
        after: Walk | None,
        limit: int,
    ) -> tuple[list[Row], Walk | None]:
        """Return a page, and how the walk goes on if it does.

        Args:
            execute: executes a statement.
            base: the rows to choose from, with their filters.
            after: where the walk stands; None at its beginning.
            limit: how many rows at most.
        """
        rows: list[Row] = []
        if after is None or not after.late:
            rows = list(await execute(self._main(base, after, limit)))
            if len(rows) > limit:
                return rows[:limit], self._going_on(rows[limit - 1], after)
        if after is None:
            return rows, None
        walk = after if after.late else replace(after, late=True, position=None)
        room = limit - len(rows)
        late = list(await execute(self._late(base, walk, room)))
        if len(late) <= room:
            return rows + late, None
        position = self._position(late[room - 1]) if room else walk.position
        return rows + late[:room], replace(walk, position=position)

    def _main(self, base: Select[Any], walk: Walk | None, limit: int) -> Select[Any]:
        """Return the statement for what could be seen when the walk began."""
        if walk is None:
            return self._sorted(base, None, limit)
        seen = or_(
            self.made_by.is_(None),
            walk.snapshot.shows(self.made_by),
            # A database restored from a dump counts its transactions anew.
            self.made_by >= _current_xmax(),
        )
        return self._sorted(base.where(seen), walk.position, limit)

    def _late(self, base: Select[Any], walk: Walk, limit: int) -> Select[Any]:
        """Return the statement for what was begun before the walk and could not be seen then."""
        came = and_(
            self.made_by >= walk.snapshot.xmin,
            ~walk.snapshot.shows(self.made_by),
            self.made_by < _current_xmax(),
            self.created_at <= walk.began,
        )
        return self._sorted(base.where(came), walk.position, limit)

    def _sorted(
        self, base: Select[Any], position: tuple[datetime, UUID] | None, limit: int
    ) -> Select[Any]:
        key = tuple_(self.created_at, self.row_id)
        if position is not None:
            there = tuple_(*position)
            base = base.where(key < there if self.newest_first else key > there)
        order = (self.created_at, self.row_id)
        return (
            base.add_columns(
                cast(func.pg_current_snapshot(), Text).label("walk_snapshot"),
                func.now().label("walk_began"),
                self.created_at.label("walk_created_at"),
                self.row_id.label("walk_row_id"),
            )
            .order_by(*(each.desc() for each in order) if self.newest_first else order)
            .limit(limit + 1)
        )

    def _going_on(self, last: Row, walk: Walk | None) -> Walk:
        if walk is None:
            snapshot = Snapshot.parse(last.walk_snapshot)
            walk = Walk(snapshot, last.walk_began, late=False, position=None)
        return replace(walk, position=self._position(last))

    @staticmethod
    def _position(row: Row) -> tuple[datetime, UUID]:
        return row.walk_created_at, row.walk_row_id


def this_transaction() -> ColumnElement[int]:
    """Return the number of the transaction that executes the statement."""
    return cast(cast(func.pg_current_xact_id(), Text), BigInteger)


def _current_xmax() -> ColumnElement[int]:
    xmax = func.pg_snapshot_xmax(func.pg_current_snapshot())
    return cast(cast(xmax, Text), BigInteger)
