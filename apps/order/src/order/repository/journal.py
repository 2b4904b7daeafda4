"""The statements of the usual path: each is a transaction that does all of its step, or nothing.

An intent marks the order and records the operation only if the order is still what the operation
was planned on; a completion moves the order on and ends the operation only if that one is pending
on it. Both write the order first and then the operation, as the careful path does: the other way
round the two would wait for each other. Whoever gets nothing done here takes the careful path,
which has the same steps one by one and says why.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
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

from order.domain import Kind, Operation, Order, State
from order.models import idempotency_keys, operations, orders
from order.repository.idempotency_keys import Key, KnownKey, finding, known_of
from order.repository.operations import ANSWER, OperationRecord, answer_columns, record_of
from order.repository.orders import admitted, order_of
from order.repository.payload import FIELDS, to_columns, to_payload
from servicekit.idempotency import StoredResponse
from servicekit.walks import this_transaction
from tandem.statements import Statement
from tandem.store import Session, Store

_PENDING: Final = operations.c.state == text("'pending'")


class Journal:
    """The statements; whoever has an instance shares what is compiled once."""

    def __init__(self) -> None:
        self._order = Statement(select(orders).where(_is(orders.c.id), orders.c.version > 0))
        self._look = Statement(select(orders, func.now().label("moment")).where(_is(orders.c.id)))
        self._operation = Statement(select(operations).where(_is(operations.c.op_id)))
        self._known_key = Statement(finding())
        self._keep = Statement(_keeping())
        self._intents = {
            (creates, keyed): Statement(self._intending(creates=creates, keyed=keyed))
            for creates in (True, False)
            for keyed in (True, False)
        }
        self._advances = {
            creates: Statement(self._advancing(creates=creates)) for creates in (True, False)
        }
        self._drop = Statement(self._dropping())

    async def order(self, store: Store, order_id: UUID) -> Order | None:
        """Return the order at its last committed version; None also while it has none."""
        row = await store.one(self._order, id=order_id)
        return None if row is None else order_of(row)

    async def look(self, store: Store, order_id: UUID) -> tuple[Order | None, datetime]:
        """Return the order at any version, and the time by the database's clock."""
        row = await store.one(self._look, id=order_id)
        if row is None:
            return None, datetime.max.replace(tzinfo=UTC)
        return order_of(row), row.moment

    async def operation(self, store: Store, op_id: UUID) -> OperationRecord | None:
        """Return one operation."""
        row = await store.one(self._operation, op_id=op_id)
        return None if row is None else record_of(row)

    async def known_key(self, store: Store, key: Key) -> KnownKey | None:
        """Return what is known under a key."""
        row = await store.one(self._known_key, client=key.client, idempotency_key=key.value)
        return None if row is None else known_of(row)

    async def keep(self, store: Store, key: Key, response: StoredResponse) -> bool:
        """Bind a key to the answer that needs no operation; False if the key is taken."""
        values = _key_values(key) | _answer_values(response)
        return await store.one(self._keep, **values) is not None

    async def record(
        self,
        session: Session,
        operation: Operation,
        *,
        key: Key | None,
        client: str,
        due_in_seconds: float,
        traceparent: str | None,
    ) -> Operation | None:
        """Record an operation as pending, and return it as recorded; None if nothing was written.

        In the same statement the database proves that the order's row will take what the operation
        says, since there is no way back from a decision. A creation gets the database's time.

        Raises:
            psycopg.Error: whatever is wrong; unless it is transient, nothing was written.
        """
        creates = operation.kind is Kind.CREATE
        if not _can_be_read_again(operation.body.update_time):
            return None
        values: dict[str, Any] = {
            **_operation_values(operation),
            "invoice_id": operation.invoice_id,
            "kind": operation.kind.value,
            "payload": Jsonb(to_payload(operation.body)),
            "due_in": timedelta(seconds=due_in_seconds),
            "client": client,
            "traceparent": traceparent,
        }
        if key is not None:
            values |= _key_values(key)
        row = await session.one(self._intents[creates, key is not None], **values)
        if row is None:
            return None
        if not creates:
            return operation
        return replace(operation, body=replace(operation.body, update_time=row.created_at))

    async def complete(
        self, session: Session, operation: Operation, *, state: State, response: StoredResponse
    ) -> bool:
        """Give a pending operation its end and let its order follow; False if nothing was written.

        Raises:
            psycopg.Error: as for ``record``.
        """
        creates = operation.kind is Kind.CREATE
        statement = self._advances[creates] if state is State.COMMITTED else self._drop
        values = _operation_values(operation) | _answer_values(response) | {"state": state.value}
        return await session.one(statement, **values) is not None

    def unchanged(self) -> list[ColumnElement[bool]]:
        """What an order must be like for an operation to be recorded on it."""
        return [orders.c.version == _given(orders.c.version) - 1, orders.c.pending_op.is_(None)]

    def awaiting(self) -> list[ColumnElement[bool]]:
        """What an order must be like to take an operation."""
        return [
            orders.c.version == _given(orders.c.version) - 1,
            orders.c.pending_op == _given(operations.c.op_id),
        ]

    def _intending(self, *, creates: bool, keyed: bool) -> Any:  # noqa: ANN401 (SQLAlchemy's types)
        completed = _completed(creates=creates)
        written = (_reserving(completed) if creates else self._marking(completed)).cte("written")
        values = {
            "op_id": _given(operations.c.op_id),
            "order_id": written.c.id,
            "invoice_id": _given(operations.c.invoice_id),
            "kind": _given(operations.c.kind),
            "version": _given(operations.c.version),
            "payload": _payload(creates=creates),
            "next_attempt_at": func.now() + bindparam("due_in", type_=Interval()),
            # The same parameter as the key's: a client's key is its own.
            "client": _given(operations.c.client),
            "traceparent": _given(operations.c.traceparent),
        }
        statement = (
            insert(operations)
            .from_select(list(values), select(*values.values()).select_from(written))
            .returning(operations.c.op_id, operations.c.created_at)
        )
        return statement.add_cte(_binding(written)) if keyed else statement

    def _marking(self, completed: CTE) -> Any:  # noqa: ANN401
        # It never waits for the row: at a deadline nobody would know what it will still write. The
        # careful path waits, before it writes.
        this = orders.alias("this")
        free = (
            select(this.c.id)
            .where(this.c.id == _given(operations.c.order_id))
            .with_for_update(key_share=True, skip_locked=True)
            .scalar_subquery()
        )
        return (
            update(orders)
            .where(
                orders.c.id == free,
                *self.unchanged(),
                select(completed.c.version).exists(),
            )
            .values(pending_op=_given(operations.c.op_id))
            .returning(orders.c.id)
        )

    def _advancing(self, *, creates: bool) -> Any:  # noqa: ANN401
        values: dict[str, Any] = {name: _given(orders.c[name]) for name in FIELDS}
        values |= {"version": _given(orders.c.version), "pending_op": null()}
        conditions = self.awaiting()
        if creates:
            # Its answer shows the order, whose creation and first update are the same moment.
            values["created_by_xid"] = this_transaction()
            conditions.append(orders.c.created_at == _given(orders.c.update_time))
        else:
            values["updated_at"] = func.now()
        return _ending(conditions, values)

    def _dropping(self) -> Any:  # noqa: ANN401
        conditions = [orders.c.pending_op == _given(operations.c.op_id)]
        return _ending(conditions, {"pending_op": null()})


def _completed(*, creates: bool) -> CTE:
    """The order's row once the operation is completed, or no row if the table would not take it."""
    given = {name: _as_sent(orders.c[name]) for name in (*FIELDS, "version")}
    if creates:
        given["update_time"] = func.now()
    typed = select(
        *(cast(value, orders.c[name].type).label(name) for name, value in given.items())
    ).subquery("typed")
    kept = [typed.c[name] == value for name, value in given.items()]
    return select(typed).where(admitted(), *kept).cte("completed")


def _reserving(completed: CTE) -> Any:  # noqa: ANN401
    """The row of an order to come, which no reader sees yet."""
    values = {
        "id": _given(operations.c.order_id),
        **{name: completed.c[name] for name in FIELDS},
        "version": literal_column("0"),
        "pending_op": _given(operations.c.op_id),
    }
    return (
        insert(orders)
        .from_select(list(values), select(*values.values()).select_from(completed))
        .returning(orders.c.id)
    )


def _binding(written: CTE) -> CTE:
    """The idempotency key, if the order was written; one that is taken fails the statement."""
    values = {
        "client": _given(idempotency_keys.c.client),
        "idempotency_key": _given(idempotency_keys.c.idempotency_key),
        "request_hash": _given(idempotency_keys.c.request_hash),
        "op_id": _given(operations.c.op_id),
    }
    return (
        insert(idempotency_keys)
        .from_select(list(values), select(*values.values()).select_from(written))
        .returning(idempotency_keys.c.client)
        .cte("bound")
    )


def _ending(conditions: list[ColumnElement[bool]], values: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Write the order if the operation is pending on it, and only then end the operation."""
    this = _is(operations.c.op_id)
    written = (
        update(orders)
        .where(
            orders.c.id == _given(operations.c.order_id),
            *conditions,
            select(operations.c.op_id).where(this, _PENDING).exists(),
        )
        .values(values)
        .returning(orders.c.id)
        .cte("written")
    )
    return (
        update(operations)
        .where(this, _PENDING, operations.c.order_id == written.c.id)
        .values(
            state=_given(operations.c.state),
            finished_at=func.now(),
            last_error=null(),
            **{name: _given(operations.c[name]) for name in ANSWER},
        )
        .returning(operations.c.op_id)
    )


def _keeping() -> Any:  # noqa: ANN401
    names = ("client", "idempotency_key", "request_hash", *ANSWER)
    return (
        insert(idempotency_keys)
        .values({name: _given(idempotency_keys.c[name]) for name in names})
        .on_conflict_do_nothing(constraint="idempotency_keys_pkey")
        .returning(idempotency_keys.c.client)
    )


def _payload(*, creates: bool) -> Any:  # noqa: ANN401
    given = _given(operations.c.payload)
    if not creates:
        return given
    return given.op("||")(func.jsonb_build_object(literal_column("'update_time'"), func.now()))


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


def _can_be_read_again(time: datetime) -> bool:
    """Tell whether a time is one in UTC too: the database goes on where Python's calendar ends."""
    try:
        time.astimezone(UTC)
    except OverflowError:
        return False
    return True


def _operation_values(operation: Operation) -> dict[str, Any]:
    return {
        **to_columns(operation.body),
        "op_id": operation.id,
        "order_id": operation.order_id,
        "version": operation.version,
    }


def _key_values(key: Key) -> dict[str, Any]:
    return {
        "client": key.client,
        "idempotency_key": key.value,
        "request_hash": key.request_hash,
    }


def _answer_values(response: StoredResponse) -> dict[str, Any]:
    return answer_columns(response) | {"response_headers": Jsonb(response.headers_json())}
