"""The table of idempotency keys: which request a key stands for, and where its answer is."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Select, bindparam, delete, func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from tandem.initiator.records import (
    ANSWER,
    Key,
    KnownKey,
    answer_columns,
    answer_in,
    key_columns,
)
from tandem.initiator.schema import Schema
from tandem.operation import Answer


def finding(schema: Schema[Any, Any]) -> Select[Any]:
    """Return the statement that finds a key, given ``client`` and ``idempotency_key``."""
    operations, keys = schema.operations, schema.keys.c
    answered = operations.c.response_status.is_not(None)
    answer = [func.coalesce(operations.c[name], keys[name]).label(name) for name in ANSWER]
    return (
        select(keys.request_hash, keys.op_id, *answer)
        .select_from(schema.keys)
        .outerjoin(operations, (operations.c.op_id == keys.op_id) & answered)
        .where(
            keys.client == bindparam("client", type_=keys.client.type),
            keys.idempotency_key == bindparam("idempotency_key", type_=keys.idempotency_key.type),
        )
    )


def known_of(row: Any) -> KnownKey:  # noqa: ANN401 (a row of SQLAlchemy's or of psycopg's)
    """Return what a row that ``finding`` finds says."""
    return KnownKey(bytes(row.request_hash), row.op_id, answer_in(row))


class Keys:
    """Reads and writes idempotency keys on one connection."""

    def __init__(self, schema: Schema[Any, Any], connection: AsyncConnection) -> None:
        self._schema = schema
        self._keys = schema.keys
        self._connection = connection

    async def find(self, key: Key) -> KnownKey | None:
        """Return what is known under a key."""
        named = {"client": key.client, "idempotency_key": key.value}
        row = (await self._connection.execute(finding(self._schema), named)).one_or_none()
        return None if row is None else known_of(row)

    async def insert(
        self, key: Key, *, op_id: UUID | None = None, response: Answer | None = None
    ) -> bool:
        """Bind a key to an operation, or to the answer that refused it; False if it is taken.

        It waits for a transaction that is inserting the same key.
        """
        answer = {} if response is None else answer_columns(response)
        statement = (
            postgresql.insert(self._keys)
            .values(**key_columns(key), op_id=op_id, **answer)
            .on_conflict_do_nothing(constraint=self._keys.primary_key)
            .returning(self._keys.c.client)
        )
        return (await self._connection.execute(statement)).one_or_none() is not None

    async def purge(self, *, older_than_seconds: float, limit: int) -> int:
        """Delete up to ``limit`` keys past their retention, except those of operations."""
        keys = self._keys
        old = (
            select(keys.c.client, keys.c.idempotency_key)
            .where(
                keys.c.created_at < func.now() - timedelta(seconds=older_than_seconds),
                keys.c.op_id.is_(None),
                keys.c.archived_op_id.is_(None),
            )
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("old")
        )
        statement = delete(keys).where(
            keys.c.client == old.c.client,
            keys.c.idempotency_key == old.c.idempotency_key,
        )
        return (await self._connection.execute(statement)).rowcount
