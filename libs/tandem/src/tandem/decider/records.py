"""The table of decisions and that of what they are about, and the statements on both.

The usual path is one statement: it changes the row if it is where the operation left off, and
records the decision only if it did. The primary key of the records refuses an operation that is
decided already, or has a tombstone, and with it the change of the row. The careful path has the
same steps one by one, in a transaction, and says why the row does not let the operation through.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    bindparam,
    delete,
    func,
    literal_column,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from tandem.operation import STATUSES, Answer, Kind, Outcome
from tandem.statements import Statement
from tandem.store import Row, Session, Store

PURGE_BATCH: Final = 1000


class Identity(NamedTuple):
    """What tells one operation from every other."""

    op_id: UUID
    subject_id: UUID
    direct: bool
    """Whether the id is a direct client's key, which means the same on every subject."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A decision."""

    identity: Identity
    request_hash: bytes | None
    kind: Kind
    outcome: Outcome
    version: int | None
    fence: int
    answer: Answer
    created_at: datetime


class Look(NamedTuple):
    """What one look shows."""

    subject: Row | None
    record: Record | None


class Records:
    """The statements of a decider.

    Args:
        decisions: the table of decisions. It has ``op_id``, the subject's id, ``request_hash``,
            ``kind``, ``outcome``, ``version``, ``fence``, ``direct``, ``response_status``,
            ``response_headers``, ``response_body``, ``created_at``; its primary key is the
            operation's id with the subject's.
        subjects: the table of what is decided about. It has ``id``, ``version``, ``status``,
            ``fence``, ``last_op``, ``created_at``, ``updated_at``, and what the service adds.
        subject_id: the column of ``decisions`` that names the subject.
        fields: the columns of the body, which an update replaces.
        direct: whether a subject belongs to direct clients, as a condition on ``subjects``.
    """

    def __init__(
        self,
        decisions: Table,
        subjects: Table,
        *,
        subject_id: str,
        fields: tuple[str, ...],
        direct: ColumnElement[bool],
    ) -> None:
        self.decisions = decisions
        self.subjects = subjects
        self.fields = fields
        self._subject_id = decisions.c[subject_id]
        self._direct = direct
        self._look = Statement(self._looking())
        self._subject = Statement(select(subjects).where(self._is_subject()))
        self._find = Statement(self._finding(direct=_given(decisions.c.direct)))
        self._find_anywhere = Statement(self._finding_anywhere())
        self._purge = Statement(self._purging())
        self._record = Statement(self._recording())
        self._overrule = Statement(self._overruling())
        self._add = Statement(self._adding().on_conflict_do_nothing().returning(subjects.c.id))
        self._changes = {
            Kind.UPDATE: Statement(self._changing(fields).returning(subjects.c.id)),
            Kind.DELETE: Statement(self._changing(()).returning(subjects.c.id)),
        }
        self._at_once = {
            Kind.CREATE: Statement(self._deciding(self._adding())),
            Kind.UPDATE: Statement(self._deciding(self._changing(fields))),
            Kind.DELETE: Statement(self._deciding(self._changing(()))),
        }

    async def look(self, store: Store, subject_id: UUID, op_id: UUID | None) -> Look:
        """Return a subject as last committed, with what is recorded of an operation on it."""
        row = await store.one(self._look, subject_id=subject_id, op_id=op_id)
        return Look(
            subject=None if row is None or row.id is None else row,
            record=None if row is None or row.decision_op_id is None else self._of(row),
        )

    async def find(self, within: Store | Session, identity: Identity) -> Record | None:
        """Return what is recorded of an operation, and of no other that happens to have its id."""
        row = await within.one(self._find, **identity._asdict())
        return None if row is None else self._of(row)

    async def find_anywhere(self, store: Store, op_id: UUID) -> Record | None:
        """Return what was recorded first under an id, operations of pairs before others."""
        row = await store.one(self._find_anywhere, op_id=op_id)
        return None if row is None else self._of(row)

    async def subject(self, within: Store | Session, subject_id: UUID) -> Row | None:
        """Return a subject as last committed."""
        return await within.one(self._subject, subject_id=subject_id)

    async def decide_at_once(
        self, session: Session, record: Record, values: Mapping[str, Any]
    ) -> bool:
        """Change the row and record the decision, in one statement that does both or nothing.

        Returns:
            Whether it did; if not, the row is not where the operation left off.

        Raises:
            psycopg.errors.UniqueViolation: something stands under the operation's id or its
                version, or the subject exists; nothing was written.
        """
        statement = self._at_once[record.kind]
        return await session.one(statement, **self._parameters(record, values)) is not None

    async def record(self, session: Session, record: Record) -> bool:
        """Record a decision unless another has its id or its version; tell whether it did.

        Waits for a transaction that is just recording the same: one INSERT, never a look before
        it, so that of two at once exactly one is told yes.
        """
        return await session.one(self._record, **self._parameters(record)) is not None

    async def overrule(self, session: Session, record: Record) -> None:
        """Replace what this transaction recorded under the same id."""
        await session.one(self._overrule, **self._parameters(record))

    async def write(self, session: Session, record: Record, values: Mapping[str, Any]) -> bool:
        """Write the row if it is where the operation left off; tell whether it was."""
        statement = self._add if record.kind is Kind.CREATE else self._changes[record.kind]
        return await session.one(statement, **self._parameters(record, values)) is not None

    async def purge(self, store: Store, *, before: datetime) -> int:
        """Remove one batch of direct clients' decisions recorded before ``before``.

        A pair's operations and tombstones are never removed, nor is a subject's last operation, to
        which its row refers. Returns how many were removed.
        """
        return await store.run(self._purge, before=before)

    def conditions(self) -> list[ColumnElement[bool]]:
        """What a row must be like to take the operation: where it left off, and no newer lock."""
        subjects = self.subjects.c
        return [
            subjects.version == _given(subjects.version) - 1,
            subjects.status != STATUSES[Kind.DELETE],
            subjects.fence <= _given(subjects.fence),
        ]

    def _looking(self) -> Select[Any]:
        one = select(literal_column("1")).subquery("one")
        of_direct_client = self.subjects.c.id.is_not(None) & self._direct
        decision = self._finding(direct=of_direct_client).lateral("decision")
        return select(self.subjects, decision).select_from(
            one.outerjoin(self.subjects, self._is_subject()).outerjoin(decision, true())
        )

    def _finding(self, *, direct: ColumnElement[bool]) -> Select[Any]:
        """What is recorded of an operation on a subject, ``direct`` if it is direct clients'."""
        return (
            select(*self._as_columns())
            .where(
                self.decisions.c.op_id == _given(self.decisions.c.op_id),
                or_(
                    self._subject_id == self._decision_value(self._subject_id),
                    self.decisions.c.direct & direct,
                ),
            )
            # One of a direct client's is the only one of its kind.
            .order_by(self.decisions.c.direct.desc())
            .limit(1)
        )

    def _finding_anywhere(self) -> Select[Any]:
        return (
            select(*self._as_columns())
            .where(self.decisions.c.op_id == _given(self.decisions.c.op_id))
            .order_by(self.decisions.c.direct, self.decisions.c.created_at)
            .limit(1)
        )

    def _recording(self) -> Any:  # noqa: ANN401 (SQLAlchemy's own generic types say no more)
        values = {column.name: self._decision_value(column) for column in self.decisions.c}
        return (
            insert(self.decisions)
            .values(values)
            .on_conflict_do_nothing()
            .returning(self.decisions.c.op_id)
        )

    def _overruling(self) -> Any:  # noqa: ANN401
        keys = {"op_id", self._subject_id.name}
        values = {
            column.name: self._decision_value(column)
            for column in self.decisions.c
            if column.name not in keys
        }
        return (
            update(self.decisions)
            .where(
                self.decisions.c.op_id == _given(self.decisions.c.op_id),
                self._subject_id == self._decision_value(self._subject_id),
            )
            .values(values)
        ).returning(self.decisions.c.op_id)

    def _adding(self) -> Any:  # noqa: ANN401
        # What has a default of the server's is the database's to say.
        values = {
            column.name: self._subject_value(column)
            for column in self.subjects.c
            if column.server_default is None
        }
        return insert(self.subjects).values(values)

    def _changing(self, fields: tuple[str, ...]) -> Any:  # noqa: ANN401
        subjects = self.subjects.c
        names = ("version", "status", "fence", "last_op", *fields)
        values: dict[str, Any] = {name: self._subject_value(subjects[name]) for name in names}
        # Replicas' clocks differ; a row's time never goes back.
        now = _given(self.decisions.c.created_at)
        values["updated_at"] = func.greatest(subjects.updated_at, now)
        return update(self.subjects).where(self._is_subject(), *self.conditions()).values(values)

    def _deciding(self, writing: Any) -> Any:  # noqa: ANN401
        """The write and, only if it did something, the record of it."""
        written = writing.returning(self.subjects.c.id).cte("written")
        columns = list(self.decisions.c)
        values = [
            written.c.id if column is self._subject_id else self._decision_value(column)
            for column in columns
        ]
        return (
            insert(self.decisions)
            .from_select([column.name for column in columns], select(*values).select_from(written))
            .returning(self.decisions.c.op_id)
        )

    def _purging(self) -> Any:  # noqa: ANN401
        decisions, subjects = self.decisions.c, self.subjects.c
        last = select(subjects.id).where(
            subjects.last_op == decisions.op_id, subjects.id == self._subject_id
        )
        expired = (
            select(decisions.op_id)
            .where(
                decisions.direct,
                decisions.created_at < bindparam("before", type_=decisions.created_at.type),
                ~last.exists(),
            )
            .order_by(decisions.created_at)
            .limit(PURGE_BATCH)
            .with_for_update(skip_locked=True, of=self.decisions)
        )
        return delete(self.decisions).where(decisions.op_id.in_(expired), decisions.direct)

    def _is_subject(self) -> Any:  # noqa: ANN401
        return self.subjects.c.id == self._subject_value(self.subjects.c.id)

    def _decision_value(self, column: Any) -> Any:  # noqa: ANN401
        name = "subject_id" if column is self._subject_id else column.name
        return bindparam(name, type_=column.type)

    def _subject_value(self, column: Any) -> Any:  # noqa: ANN401
        """The parameter of a subject's column: those that a decision has too have its name."""
        names = {"id": "subject_id", "last_op": "op_id", "updated_at": "created_at"}
        return bindparam(names.get(column.name, column.name), type_=column.type)

    def _as_columns(self) -> list[Any]:
        """The columns of a decision, by names that a subject's columns do not have."""
        return [
            column.label(
                "decision_subject_id" if column is self._subject_id else f"decision_{column.name}"
            )
            for column in self.decisions.c
        ]

    def _parameters(
        self, record: Record, values: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        return {
            **(values or {}),
            **record.identity._asdict(),
            "request_hash": record.request_hash,
            "kind": record.kind.value,
            "outcome": record.outcome.value,
            "version": record.version,
            "fence": record.fence,
            "response_status": record.answer.status,
            "response_headers": Jsonb([list(header) for header in record.answer.headers]),
            "response_body": record.answer.body,
            "created_at": record.created_at,
        }

    def _of(self, row: Row) -> Record:
        headers = tuple((name, value) for name, value in row.decision_response_headers)
        return Record(
            identity=Identity(row.decision_op_id, row.decision_subject_id, row.decision_direct),
            request_hash=row.decision_request_hash,
            kind=Kind(row.decision_kind),
            outcome=Outcome(row.decision_outcome),
            version=row.decision_version,
            fence=row.decision_fence,
            answer=Answer(row.decision_response_status, headers, bytes(row.decision_response_body)),
            created_at=row.decision_created_at,
        )


def _given(column: Any) -> Any:  # noqa: ANN401
    """The parameter that is named after a column."""
    return bindparam(column.name, type_=column.type)
