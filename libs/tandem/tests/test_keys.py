"""Idempotency keys in tables that a service has from the library, on a real database."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, Text, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from devkit.servers import PostgresServer
from tandem.initiator import plain, tables
from tandem.initiator.keys import Keys
from tandem.initiator.records import Key, answer_columns, answer_in
from tandem.operation import Answer

metadata = MetaData()
notes = tables.subjects_table(metadata, "notes", Column("text", Text, nullable=False))
operations = tables.operations_table(metadata, notes, subject_id="note_id")
keys = tables.keys_table(metadata)
SCHEMA: Any = plain.plain_schema(notes, operations, keys, subject_id="note_id", fields=("text",))
REFUSED = Answer(409, (("content-type", "application/json"), ("etag", '"1"')), b'{"a":1}')
LONG_AGO = datetime.now(UTC) - timedelta(days=3)


@pytest.fixture
async def connection(postgres_server: PostgresServer) -> AsyncIterator[AsyncConnection]:
    name = f"keys_{uuid.uuid4().hex}"
    url = postgres_server.create_database(name)
    engine = create_async_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    try:
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            yield connection
    finally:
        await engine.dispose()
        postgres_server.drop_database(name)


async def test_only_old_keys_of_refused_requests_are_purged(connection: AsyncConnection) -> None:
    rows = {
        "refused long ago": {"created_at": LONG_AGO, **answer_columns(REFUSED)},
        "refused just now": answer_columns(REFUSED),
        "of an archived operation": {
            "created_at": LONG_AGO,
            "archived_op_id": uuid.uuid4(),
            **answer_columns(REFUSED),
        },
    }
    for value, row in rows.items():
        named = {"client": "", "idempotency_key": value, "request_hash": b"0" * 32}
        await connection.execute(insert(keys).values({**named, **row}))
    assert await Keys(SCHEMA, connection).purge(older_than_seconds=24 * 3600, limit=10) == 1
    left = set((await connection.execute(select(keys.c.idempotency_key))).scalars())
    assert left == rows.keys() - {"refused long ago"}


async def test_an_answer_that_is_kept_survives_the_database(connection: AsyncConnection) -> None:
    key = Key("", "mine", b"0" * 32)
    found = Keys(SCHEMA, connection)
    assert await found.insert(key, response=REFUSED)
    assert not await found.insert(key, response=REFUSED)
    known = await found.find(key)
    assert known is not None
    assert known.response == REFUSED
    row = (await connection.execute(select(keys))).one()
    assert answer_in(row) == REFUSED
