"""During a rollout two releases share one schema: the older one must go on working."""

import uuid

from alembic.script import ScriptDirectory
from apps.order.tests.compatibility import incompatibilities, schema_of
from sqlalchemy import create_engine, text

from devkit.servers import PostgresServer
from order import schema
from order.schema import MIGRATIONS
from servicekit.database import driver_url

BREAKING = {
    "ALTER TABLE orders DROP COLUMN total": "orders.total is gone",
    "ALTER TABLE orders RENAME COLUMN value TO price": "orders.value is gone",
    "ALTER TABLE orders ALTER COLUMN quantity TYPE bigint": "quantity is BIGINT, was INTEGER",
    "ALTER TABLE orders ALTER COLUMN pending_op SET NOT NULL": "pending_op must be given now",
    "ALTER TABLE orders ADD COLUMN colour text NOT NULL": "colour is new and must be given",
    "DROP TABLE idempotency_keys": "table idempotency_keys is gone",
}


def revisions() -> list[str]:
    """All revisions, the oldest first."""
    directory = ScriptDirectory(str(schema.DIRECTORY))
    return [script.revision for script in directory.walk_revisions()][::-1]


def test_each_revision_leaves_the_code_of_the_one_before_it_working(
    postgres_server: PostgresServer,
) -> None:
    url = postgres_server.create_database(f"order_{uuid.uuid4().hex}")
    engine = create_engine(driver_url(url))
    before = None
    for revision in revisions():
        MIGRATIONS.upgrade(url, revision=revision)
        with engine.connect() as connection:
            after = schema_of(connection)
        if before is not None:
            assert incompatibilities(before, after) == [], revision
        before = after
    engine.dispose()


def test_a_breaking_revision_would_be_noticed(migrated_database: str) -> None:
    engine = create_engine(driver_url(migrated_database))
    for statement, expected in BREAKING.items():
        with engine.connect() as connection:
            before = schema_of(connection)
            connection.execute(text("TRUNCATE orders, operations, idempotency_keys"))
            connection.execute(text(statement))
            (found,) = incompatibilities(before, schema_of(connection))[:1]
            assert expected in found
            connection.rollback()
    engine.dispose()
