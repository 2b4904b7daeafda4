"""The database refuses what must not be, and says by name what it refused."""

import uuid
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from apps.order.tests.test_changes import a_change, a_creation
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from devkit.servers import PostgresServer
from order import models
from order.errors import CONSTRAINTS
from order.schema import MIGRATIONS
from order.use_cases import UseCases
from servicekit.database import constraint_name, driver_url


def test_the_migrations_make_exactly_the_tables_that_the_code_uses(database_url: str) -> None:
    engine = create_engine(driver_url(database_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_server_default": True, "compare_type": True}
        )
        assert compare_metadata(context, models.metadata) == []
        assert _constraints(connection) == _declared()
    engine.dispose()


def _constraints(connection: Connection) -> set[str]:
    names = connection.execute(
        text(
            "SELECT conname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid"
            " WHERE t.relnamespace = 'public'::regnamespace AND contype IN ('c', 'f', 'p', 'u')"
            " AND t.relname <> 'alembic_version'"
            " UNION SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE i.indisunique AND c.relnamespace = 'public'::regnamespace"
            " AND c.relname NOT LIKE 'alembic%'"
        )
    )
    return set(names.scalars())


def _declared() -> set[str]:
    constraints = {
        str(constraint.name)
        for table in models.metadata.tables.values()
        for constraint in table.constraints
    }
    unique = {
        str(index.name)
        for table in models.metadata.tables.values()
        for index in table.indexes
        if index.unique
    }
    return constraints | unique


def test_every_constraint_is_mapped_to_an_answer_or_to_a_defect() -> None:
    assert set(CONSTRAINTS) == _declared()


def test_the_schema_can_be_taken_down_and_put_up_again(postgres_server: PostgresServer) -> None:
    name = f"order_{uuid.uuid4().hex}"
    url = postgres_server.create_database(name)
    assert MIGRATIONS.upgrade(url) == MIGRATIONS.head()
    engine = create_engine(driver_url(url))
    config = MIGRATIONS._config()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()
        assert _constraints(connection) == set()
    engine.dispose()
    assert MIGRATIONS.upgrade(url) == MIGRATIONS.head()
    postgres_server.drop_database(name)


_TWICE_IN_THE_ARCHIVE = (
    "INSERT INTO operations_archive SELECT (jsonb_populate_record(NULL::operations_archive,"
    " to_jsonb(o) || jsonb_build_object('op_id', {op_id}, 'archived_at', now(),"
    " 'response_body', ''))).* FROM operations o, generate_series(1, 2)"
)
BROKEN = {
    "orders_quantity_check": "UPDATE orders SET quantity = 0, total = 0",
    "orders_value_check": "UPDATE orders SET value = -1, total = -2",
    "orders_total_check": "UPDATE orders SET total = 1",
    "orders_version_check": "UPDATE orders SET version = -1",
    "orders_status_check": "UPDATE orders SET status = 'lost', version = 2",
    "orders_status_version_check": "UPDATE orders SET status = 'deleted'",
    "orders_pending_op_fkey": "UPDATE orders SET pending_op = gen_random_uuid()",
    "orders_pkey": "INSERT INTO orders SELECT * FROM orders",
    "operations_pkey": "INSERT INTO operations SELECT * FROM operations",
    "operations_order_id_fkey": "UPDATE operations SET order_id = gen_random_uuid()",
    "operations_kind_check": "UPDATE operations SET kind = 'guess', version = 2",
    "operations_state_check": "UPDATE operations SET state = 'maybe'",
    "operations_version_check": "UPDATE operations SET version = 0, kind = 'update'",
    "operations_kind_version_check": "UPDATE operations SET version = 2",
    "operations_attempts_check": "UPDATE operations SET attempts = -1",
    "operations_payload_check": "UPDATE operations SET payload = payload - 'quantity'",
    "operations_finished_check": "UPDATE operations SET finished_at = NULL",
    "operations_order_id_version_idx": (
        "INSERT INTO operations SELECT (jsonb_populate_record(o,"
        " jsonb_build_object('op_id', gen_random_uuid()))).* FROM operations o"
    ),
    "idempotency_keys_pkey": ("INSERT INTO idempotency_keys SELECT * FROM idempotency_keys"),
    "idempotency_keys_op_id_fkey": "UPDATE idempotency_keys SET op_id = gen_random_uuid()",
    "idempotency_keys_answer_check": "UPDATE idempotency_keys SET op_id = NULL",
    "idempotency_keys_request_hash_check": "UPDATE idempotency_keys SET request_hash = ''",
    "idempotency_keys_key_check": "UPDATE idempotency_keys SET idempotency_key = ''",
    "idempotency_keys_op_id_idx": (
        "INSERT INTO idempotency_keys SELECT client, 'other', request_hash, op_id"
        " FROM idempotency_keys"
    ),
    "operations_archive_pkey": _TWICE_IN_THE_ARCHIVE.format(op_id="op_id"),
    "operations_archive_order_id_version_idx": _TWICE_IN_THE_ARCHIVE.format(
        op_id="gen_random_uuid()"
    ),
    "operations_one_pending_idx": (
        "INSERT INTO operations (op_id, order_id, invoice_id, kind, version, payload,"
        " next_attempt_at) SELECT gen_random_uuid(), order_id, invoice_id, 'update', v, payload,"
        " now() FROM operations, generate_series(2, 3) v"
    ),
}


def test_every_constraint_has_a_statement_that_it_refuses() -> None:
    assert set(BROKEN) == set(CONSTRAINTS)


async def test_each_constraint_refuses_what_it_is_there_for(
    use_cases: UseCases, engine: AsyncEngine
) -> None:
    await use_cases.changes.apply(a_change(a_creation(), key="k"))
    for name, statement in BROKEN.items():
        with pytest.raises(IntegrityError) as caught:
            await _execute(engine, statement)
        assert constraint_name(caught.value) == name, statement


async def _execute(engine: AsyncEngine, statement: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(statement))


def test_the_migrations_are_packaged_with_the_service() -> None:
    directory = Path(models.__file__).parent / "migrations"
    assert {path.name for path in directory.iterdir()} >= {"env.py", "script.py.mako", "versions"}
