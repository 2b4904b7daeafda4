"""The tables of an initiator, and how its operations and subjects are rows of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, NamedTuple

from sqlalchemy import CheckConstraint, Column, ColumnElement, Table, and_, text

from tandem.initiator.subject import OpT, SubjectT

Row = Any
"""A row of SQLAlchemy's or of psycopg's."""


class Dated(NamedTuple, Generic[OpT]):
    """The field of the body that a creation takes from the database's clock."""

    field: str
    at: Callable[[OpT, datetime], OpT]
    """Returns an operation with that time in its body."""


def _nothing(_: object) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema(Generic[OpT, SubjectT]):
    """What the statements are made of."""

    subjects: Table
    """It has ``id``, ``version``, ``pending_op``, ``created_at``, ``updated_at``, and the fields.
    """
    operations: Table
    """It has the columns of ``tables.operations_table``, and perhaps more."""
    keys: Table
    """It has the columns of ``tables.keys_table``."""
    subject_id: str
    """The column of ``operations`` that names the subject."""
    fields: tuple[str, ...]
    """What a body consists of: columns of ``subjects``, and members of the payload."""
    subject_of: Callable[[Row], SubjectT]
    """Returns the subject that a row of ``subjects`` holds."""
    operation_of: Callable[[Row], OpT]
    """Returns the operation that a row of ``operations`` holds."""
    columns_of: Callable[[OpT], dict[str, Any]]
    """Returns the body of an operation as the fields' columns."""
    payload_of: Callable[[OpT], dict[str, Any]]
    """Returns the same as JSON holds it, from which ``operation_of`` makes it again."""
    more: tuple[str, ...] = ()
    """Columns of its own that the service has in ``operations``."""
    more_of: Callable[[OpT], dict[str, Any]] = _nothing
    """Returns what they say of an operation."""
    dated: Dated[OpT] | None = None
    at_creation: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    """What columns of its own it has in ``subjects`` that a creation's completion writes."""

    @property
    def operation_subject(self) -> Column[Any]:
        """The column of ``operations`` that names the subject."""
        return self.operations.c[self.subject_id]

    @property
    def noun(self) -> str:
        """What a subject is called in messages."""
        return self.subject_id.removesuffix("_id")

    @property
    def one_pending(self) -> str:
        """The name of the index that admits one pending operation a subject."""
        return f"{self.operations.name}_one_pending_idx"

    @property
    def channel(self) -> str:
        """Where a notification says that a pending operation is due."""
        return f"{self.noun}_{self.operations.name}"

    def admitted(self) -> ColumnElement[bool]:
        """Return what the table demands of a row, about columns that have the names of its own."""
        return and_(
            *(
                text(str(constraint.sqltext))
                for constraint in sorted(self.subjects.constraints, key=lambda each: str(each.name))
                if isinstance(constraint, CheckConstraint)
            )
        )

    def identity_of(self, operation: OpT) -> dict[str, Any]:
        """Return the columns that say which operation it is, and of which version of what."""
        return {
            "op_id": operation.id,
            self.subject_id: operation.subject_id,
            "version": operation.version,
        }

    def logged(self, operation: OpT) -> dict[str, str]:
        """Return the names by which a line of the log says which operation it is about."""
        return {"operation_id": str(operation.id), self.subject_id: str(operation.subject_id)}
