"""The database's own defaults change nothing of what the protocol rests on."""

import uuid
from typing import Any

import psycopg
import pytest
from sqlalchemy import Column, MetaData, Text, text

from devkit.servers import PostgresServer
from tandem import sessions
from tandem.initiator import plain, tables
from tandem.initiator.assembly import Initiator, assemble
from tandem.initiator.points import Points
from tandem.store import Store

SETTINGS = (
    "synchronous_commit",
    "default_transaction_isolation",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
)
OURS = ["on", "read committed", "5s", "2s", "10s"]
LOOK = "SELECT " + ", ".join(f"current_setting('{name}') AS {name}" for name in SETTINGS)


@pytest.fixture(scope="module")
def careless(postgres_server: PostgresServer) -> str:
    """A database that loses commits in a crash, and whose transactions see nothing new."""
    name = f"careless_{uuid.uuid4().hex}"
    url = postgres_server.create_database(name)
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in ("synchronous_commit = off", "default_transaction_isolation = serializable"):
            connection.execute(f"ALTER DATABASE {name} SET {setting}".encode())
    return url


def _schema() -> Any:
    metadata = MetaData()
    notes = tables.subjects_table(metadata, "notes", Column("text", Text, nullable=False))
    operations = tables.operations_table(metadata, notes, subject_id="note_id")
    keys = tables.keys_table(metadata)
    return plain.plain_schema(notes, operations, keys, subject_id="note_id", fields=("text",))


async def test_every_connection_starts_with_what_the_protocol_rests_on(careless: str) -> None:
    nothing: Any = None
    initiator: Initiator[Any, Any, Any] = assemble(
        _schema(),
        database_url=careless,
        plan=nothing,
        answers=nothing,
        decider=nothing,
        locks=nothing,
        points=Points.of("notes"),
    )
    for engine in (initiator.database.engine, initiator.recovery_engine):
        async with engine.connect() as connection:
            assert list((await connection.execute(text(LOOK))).one()) == OURS
        await engine.dispose()
    async with initiator.database.store.session() as session:
        cursor = await session.connection.execute(LOOK.encode())
        assert list((await cursor.fetchone()) or ()) == OURS
    await initiator.database.store.close()


async def test_a_silent_network_is_given_up_and_limits_are_those_that_are_given(
    careless: str,
) -> None:
    given = sessions.parameters(statement_timeout_seconds=0.5, lock_timeout_seconds=0.25)
    store = Store(careless, parameters=given, size=1)
    async with store.session() as session:
        cursor = await session.connection.execute(LOOK.encode())
        assert list((await cursor.fetchone()) or ())[2:] == ["500ms", "250ms", "1s"]
        known = session.connection.info.get_parameters()
        assert (known["keepalives_idle"], known["tcp_user_timeout"]) == ("15", "15000")
    await store.close()
