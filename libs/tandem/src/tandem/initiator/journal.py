"""The statements of the usual path: each is a transaction that does all of its step, or nothing.

An intent marks the subject and records the operation only if the subject is still what the
operation was planned on; a completion moves the subject on and ends the operation only if that one
is pending on it. Both write the subject first and then the operation, as the careful path does: the
other way round the two would wait for each other. Whoever gets nothing done here takes the careful
path, which has the same steps one by one and says why.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Integer,
    Interval,
    Numeric,
    bindparam,
    cast,
    func,
    literal_column,
    null,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.selectable import CTE

from tandem.initiator.keys import finding, known_of
from tandem.initiator.records import (
    ANSWER,
    Key,
    KnownKey,
    OperationRecord,
    answer_columns,
    key_columns,
    record_of,
)
from tandem.initiator.schema import Schema
from tandem.initiator.subject import OpT, SubjectT
from tandem.operation import Answer, Kind, State
from tandem.statements import Statement
from tandem.store import Session, Store

ALWAYS: Final = datetime.max.replace(tzinfo=UTC)
"""No end to the time in which an operation may be recorded."""


class Journal(Generic[OpT, SubjectT]):
    """The statements; whoever has an instance shares what is compiled once.

    Args:
        schema: the tables.
    """

    def __init__(self, schema: Schema[OpT, SubjectT]) -> None:
        self.schema = schema
        subjects, operations = schema.subjects, schema.operations
        self._subject = Statement(
            select(subjects).where(_is(subjects.c.id), subjects.c.version > 0)
        )
        self._look = Statement(
            select(subjects, func.now().label("moment")).where(_is(subjects.c.id))
        )
        self._operation = Statement(select(operations).where(_is(operations.c.op_id)))
        self._known_key = Statement(finding(schema))
        self._keep = Statement(self._keeping())
        self._intents = {
            (creates, keyed): Statement(self._intending(creates=creates, keyed=keyed))
            for creates in (True, False)
            for keyed in (True, False)
        }
        self._advances = {
            creates: Statement(self._advancing(creates=creates)) for creates in (True, False)
        }
        self._drop = Statement(self._dropping())

    async def subject(self, store: Store, subject_id: UUID) -> SubjectT | None:
        """Return the subject at its last committed version; None also while it has none."""
        row = await store.one(self._subject, id=subject_id)
        return None if row is None else self.schema.subject_of(row)

    async def look(self, store: Store, subject_id: UUID) -> tuple[SubjectT | None, datetime]:
        """Return the subject at any version, and the time by the database's clock."""
        row = await store.one(self._look, id=subject_id)
        if row is None:
            return None, ALWAYS
        return self.schema.subject_of(row), row.moment

    async def operation(self, store: Store, op_id: UUID) -> OperationRecord[OpT] | None:
        """Return one operation."""
        row = await store.one(self._operation, op_id=op_id)
        return None if row is None else record_of(row, self.schema.operation_of(row))

    async def known_key(self, store: Store, key: Key) -> KnownKey | None:
        """Return what is known under a key."""
        row = await store.one(self._known_key, client=key.client, idempotency_key=key.value)
        return None if row is None else known_of(row)

    async def keep(self, store: Store, key: Key, response: Answer) -> bool:
        """Bind a key to the answer that needs no operation; False if the key is taken."""
        values = {**key_columns(key), **_answer_values(response)}
        return await store.one(self._keep, **values) is not None

    async def record(
        self,
        session: Session,
        operation: OpT,
        *,
        key: Key | None,
        client: str,
        due_in_seconds: float,
        traceparent: str | None,
        until: datetime = ALWAYS,
    ) -> OpT | None:
        """Record an operation as pending, and return it as recorded; None if nothing was written.

        In the same statement the database proves that the subject's row will take what the
        operation says, since there is no way back from a decision. A creation gets the database's
        time, if the schema says so. Should the statement reach the database after ``until``, by the
        database's own clock, it does nothing: no network brings back what was given up.

        Raises:
            psycopg.Error: whatever is wrong; unless it is transient, nothing was written.
        """
        creates = operation.kind == Kind.CREATE
        values: dict[str, Any] = {
            **self._values(operation),
            **self.schema.more_of(operation),
            "kind": str(operation.kind),
            "payload": Jsonb(self.schema.payload_of(operation)),
            "due_in": timedelta(seconds=due_in_seconds),
            "client": client,
            "traceparent": traceparent,
            "until": until,
        }
        if key is not None:
            values |= key_columns(key)
        row = await session.one(self._intents[creates, key is not None], **values)
        if row is None:
            return None
        if not creates or self.schema.dated is None:
            return operation
        return self.schema.dated.at(operation, row.created_at)

    async def complete(
        self, session: Session, operation: OpT, *, state: State, response: Answer
    ) -> bool:
        """Give a pending operation its end and let its subject follow; False if nothing happened.

        Raises:
            psycopg.Error: as for ``record``.
        """
        creates = operation.kind == Kind.CREATE
        statement = self._advances[creates] if state is State.COMMITTED else self._drop
        values = {**self._values(operation), **_answer_values(response), "state": state.value}
        return await session.one(statement, **values) is not None

    def unchanged(self) -> list[ColumnElement[bool]]:
        """What a subject must be like for an operation to be recorded on it."""
        subjects = self.schema.subjects.c
        return [subjects.version == _given(subjects.version) - 1, subjects.pending_op.is_(None)]

    def awaiting(self) -> list[ColumnElement[bool]]:
        """What a subject must be like to take an operation."""
        subjects = self.schema.subjects.c
        return [
            subjects.version == _given(subjects.version) - 1,
            subjects.pending_op == _given(self.schema.operations.c.op_id),
        ]

    def _values(self, operation: OpT) -> dict[str, Any]:
        return {**self.schema.columns_of(operation), **self.schema.identity_of(operation)}

    def _intending(self, *, creates: bool, keyed: bool) -> Any:  # noqa: ANN401 (SQLAlchemy's types)
        operations = self.schema.operations
        completed = self._completed(creates=creates)
        writing = self._reserving(completed) if creates else self._marking(completed)
        written = writing.cte("written")
        values = {
            "op_id": _given(operations.c.op_id),
            self.schema.subject_id: written.c.id,
            "kind": _given(operations.c.kind),
            "version": _given(operations.c.version),
            "payload": self._payload(creates=creates),
            "next_attempt_at": func.now() + bindparam("due_in", type_=Interval()),
            # The same parameter as the key's: a client's key is its own.
            "client": _given(operations.c.client),
            "traceparent": _given(operations.c.traceparent),
            **{name: _given(operations.c[name]) for name in self.schema.more},
        }
        statement = (
            insert(operations)
            .from_select(list(values), select(*values.values()).select_from(written))
            .returning(operations.c.op_id, operations.c.created_at)
        )
        return statement.add_cte(self._binding(written)) if keyed else statement

    def _marking(self, completed: CTE) -> Any:  # noqa: ANN401
        # It never waits for the row: at a deadline nobody would know what it will still write. The
        # careful path waits, before it writes.
        subjects = self.schema.subjects
        this = subjects.alias("this")
        free = (
            select(this.c.id)
            .where(this.c.id == _given(self.schema.operation_subject))
            .with_for_update(key_share=True, skip_locked=True)
            .scalar_subquery()
        )
        return (
            update(subjects)
            .where(
                subjects.c.id == free,
                *self.unchanged(),
                select(completed.c.version).exists(),
            )
            .values(pending_op=_given(self.schema.operations.c.op_id))
            .returning(subjects.c.id)
        )

    def _completed(self, *, creates: bool) -> CTE:
        """The row once the operation is completed, or no row if the table would not take it."""
        columns = self.schema.subjects.c
        given = {name: _as_sent(columns[name]) for name in (*self.schema.fields, "version")}
        if creates and self.schema.dated is not None:
            given[self.schema.dated.field] = func.now()
        typed = select(
            *(cast(value, columns[name].type).label(name) for name, value in given.items())
        ).subquery("typed")
        kept = [typed.c[name] == value for name, value in given.items()]
        in_time = func.now() < bindparam("until", type_=DateTime(timezone=True))
        return select(typed).where(self.schema.admitted(), *kept, in_time).cte("completed")

    def _reserving(self, completed: CTE) -> Any:  # noqa: ANN401
        """The row of a subject to come, which no reader sees yet."""
        subjects = self.schema.subjects
        values = {
            "id": _given(self.schema.operation_subject),
            **{name: completed.c[name] for name in self.schema.fields},
            "version": literal_column("0"),
            "pending_op": _given(self.schema.operations.c.op_id),
        }
        return (
            insert(subjects)
            .from_select(list(values), select(*values.values()).select_from(completed))
            .returning(subjects.c.id)
        )

    def _binding(self, written: CTE) -> CTE:
        """The idempotency key, if the subject was written; a taken one fails the statement."""
        keys = self.schema.keys
        values = {
            "client": _given(keys.c.client),
            "idempotency_key": _given(keys.c.idempotency_key),
            "request_hash": _given(keys.c.request_hash),
            "op_id": _given(self.schema.operations.c.op_id),
        }
        return (
            insert(keys)
            .from_select(list(values), select(*values.values()).select_from(written))
            .returning(keys.c.client)
            .cte("bound")
        )

    def _advancing(self, *, creates: bool) -> Any:  # noqa: ANN401
        subjects, dated = self.schema.subjects.c, self.schema.dated
        values: dict[str, Any] = {name: _given(subjects[name]) for name in self.schema.fields}
        values |= {"version": _given(subjects.version), "pending_op": null()}
        conditions = self.awaiting()
        if creates:
            # A subject's creation and its first update are the same moment.
            values |= self.schema.at_creation
            if dated is not None:
                conditions.append(subjects.created_at == _given(subjects[dated.field]))
        else:
            values["updated_at"] = func.now()
        return self._ending(conditions, values)

    def _dropping(self) -> Any:  # noqa: ANN401
        pending_op = self.schema.subjects.c.pending_op
        conditions = [pending_op == _given(self.schema.operations.c.op_id)]
        return self._ending(conditions, {"pending_op": null()})

    def _ending(self, conditions: list[ColumnElement[bool]], values: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Write the subject if the operation is pending on it, and only then end the operation."""
        subjects, operations = self.schema.subjects, self.schema.operations
        this, pending = _is(operations.c.op_id), operations.c.state == text("'pending'")
        written = (
            update(subjects)
            .where(
                subjects.c.id == _given(self.schema.operation_subject),
                *conditions,
                select(operations.c.op_id).where(this, pending).exists(),
            )
            .values(values)
            .returning(subjects.c.id)
            .cte("written")
        )
        return (
            update(operations)
            .where(this, pending, self.schema.operation_subject == written.c.id)
            .values(
                state=_given(operations.c.state),
                finished_at=func.now(),
                last_error=null(),
                **{name: _given(operations.c[name]) for name in ANSWER},
            )
            .returning(operations.c.op_id)
        )

    def _keeping(self) -> Any:  # noqa: ANN401
        keys = self.schema.keys
        names = ("client", "idempotency_key", "request_hash", *ANSWER)
        return (
            insert(keys)
            .values({name: _given(keys.c[name]) for name in names})
            .on_conflict_do_nothing(constraint=keys.primary_key)
            .returning(keys.c.client)
        )

    def _payload(self, *, creates: bool) -> Any:  # noqa: ANN401
        given, dated = _given(self.schema.operations.c.payload), self.schema.dated
        if not creates or dated is None:
            return given
        return given.op("||")(
            func.jsonb_build_object(literal_column(f"'{dated.field}'"), func.now())
        )


def _is(column: Column[Any]) -> Any:  # noqa: ANN401
    return column == _given(column)


def _given(column: Column[Any]) -> Any:  # noqa: ANN401
    """The parameter that is named after a column."""
    return bindparam(column.name, type_=column.type)


def _as_sent(column: Column[Any]) -> Any:  # noqa: ANN401
    """The same before the column's type rounds it, or is too small for it."""
    if isinstance(column.type, Numeric):
        return bindparam(column.name, type_=Numeric())
    if isinstance(column.type, Integer):
        return bindparam(column.name, type_=BigInteger())
    return _given(column)


def _answer_values(response: Answer) -> dict[str, Any]:
    columns = answer_columns(response)
    return columns | {"response_headers": Jsonb(columns["response_headers"])}
