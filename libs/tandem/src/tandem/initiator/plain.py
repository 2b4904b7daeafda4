"""Operations and subjects for services whose body is a few columns that JSON can hold.

A service that has types of its own writes a ``Schema`` for them; this one is for all others.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Table

from tandem.initiator.ports import Decision
from tandem.initiator.records import Key
from tandem.initiator.schema import Row, Schema
from tandem.operation import Answer, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainOperation:
    """One change of one subject, carried by its full resulting body."""

    id: UUID
    subject_id: UUID
    kind: Kind
    version: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainSubject:
    """A subject at its last committed version."""

    id: UUID
    version: int
    pending_op: UUID | None
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainChange:
    """One request to change a subject."""

    op_id: UUID
    subject_id: UUID
    kind: Kind
    body: Mapping[str, Any]
    """What it gives the subject; what it does not name stays as it is."""
    key: Key | None = None
    client: str = ""
    traceparent: str | None = None


class PlainAnswers:
    """Answers in JSON; see ``tandem.initiator.ports.Answers``."""

    def committed(self, operation: PlainOperation, subject: PlainSubject | None, /) -> Answer:  # noqa: ARG002
        """Return the body as both sides have it now."""
        status = 201 if operation.kind is Kind.CREATE else 200
        return answer_of(status, id=str(operation.subject_id), **operation.body)

    def dropped(self, operation: PlainOperation, decision: Decision, /) -> Answer:  # noqa: ARG002
        """Return why neither side has it."""
        return answer_of(409, error=decision.outcome.value, detail=decision.detail)

    def accepted(self, change: PlainChange, /) -> Answer:
        """Return where to see what becomes of it."""
        return answer_of(202, operation=f"/operations/{change.op_id}")

    def out_of_time(self, change: PlainChange, /) -> Answer:  # noqa: ARG002
        """Return that nothing was written."""
        return answer_of(503, error="out of time")


def answer_of(status: int, **content: object) -> Answer:
    """Return an answer in JSON, the same bytes for the same content."""
    body = json.dumps(content, sort_keys=True).encode()
    return Answer(status, (("content-type", "application/json"),), body)


PlainSchema = Schema[PlainOperation, PlainSubject]


def plain_schema(
    subjects: Table,
    operations: Table,
    keys: Table,
    *,
    subject_id: str,
    fields: tuple[str, ...],
) -> PlainSchema:
    """Return what an initiator's statements are made of.

    Args:
        subjects: the table of subjects, as ``tables`` makes it.
        operations: that of operations.
        keys: that of idempotency keys.
        subject_id: the column of ``operations`` that names the subject.
        fields: the columns of the body; JSON must hold their values, and give them back.
    """

    def operation_of(row: Row) -> PlainOperation:
        return PlainOperation(
            id=row.op_id,
            subject_id=getattr(row, subject_id),
            kind=Kind(row.kind),
            version=row.version,
            body=row.payload,
        )

    def subject_of(row: Row) -> PlainSubject:
        body = {name: getattr(row, name) for name in fields}
        return PlainSubject(id=row.id, version=row.version, pending_op=row.pending_op, body=body)

    def body_of(operation: PlainOperation) -> dict[str, Any]:
        return {name: operation.body[name] for name in fields}

    return Schema(
        subjects=subjects,
        operations=operations,
        keys=keys,
        subject_id=subject_id,
        fields=fields,
        subject_of=subject_of,
        operation_of=operation_of,
        columns_of=body_of,
        payload_of=body_of,
    )
