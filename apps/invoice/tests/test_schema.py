"""The migrations, and what the database refuses whatever the code does."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from devkit.servers import PostgresServer
from invoice.models import metadata
from invoice.schema import MIGRATIONS
from servicekit.database import constraint_name, driver_url

OP, OTHER, INVOICE, USER = (str(uuid.uuid4()) for _ in range(4))


@pytest.fixture
def empty_database(postgres_server: PostgresServer) -> Iterator[str]:
    name = f"empty_{uuid.uuid4().hex}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


def test_an_empty_database_gets_exactly_the_schema_of_the_models(empty_database: str) -> None:
    assert MIGRATIONS.upgrade(empty_database) == MIGRATIONS.head()
    engine = create_engine(driver_url(empty_database))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        found = {
            (table, str(check["name"]))
            for table in ("invoices", "applied_operations")
            for check in inspect(connection).get_check_constraints(table)
        }
    engine.dispose()
    assert found == {
        (table.name, str(constraint.name))
        for table in metadata.tables.values()
        for constraint in table.constraints
        if constraint.__visit_name__ in {"check_constraint", "table_or_column_check_constraint"}
    }


def test_data_of_the_first_release_survive_the_migrations(empty_database: str) -> None:
    MIGRATIONS.upgrade(empty_database, revision="0001")
    engine = create_engine(driver_url(empty_database))
    order, direct, tombstone, gone = (str(uuid.uuid4()) for _ in range(4))
    with engine.begin() as connection:
        for op_id, invoice_id, kind, outcome, is_direct in (
            (order, INVOICE, "create", "applied", False),
            (direct, OTHER, "create", "applied", True),
            (tombstone, INVOICE, "abort", "aborted", False),
            (gone, str(uuid.uuid4()), "delete", "rejected", True),
        ):
            connection.execute(
                text(
                    "INSERT INTO applied_operations VALUES (:op, :hash, :kind, :outcome, :invoice,"
                    " 1, 0, :direct, :status, '[]', '', now())"
                ),
                {
                    "op": op_id,
                    "hash": None if kind == "abort" else b"x",
                    "kind": kind,
                    "outcome": outcome,
                    "invoice": invoice_id,
                    "direct": is_direct,
                    "status": 201 if outcome == "applied" else 409,
                },
            )
        connection.execute(
            text(
                "INSERT INTO invoices SELECT invoice_id, CASE WHEN direct THEN NULL ELSE"
                " invoice_id END, invoice_id, 1, 'created', 1, 1, op_id, now(), now()"
                " FROM applied_operations WHERE outcome = 'applied'"
            )
        )
    assert MIGRATIONS.upgrade(empty_database) == MIGRATIONS.head()
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT count(*) FROM applied_operations")).scalar_one()
        held = connection.execute(
            text("SELECT count(*) FROM invoices JOIN applied_operations ON op_id = last_op")
        ).scalar_one()
    engine.dispose()
    assert (kept, held) == (4, 2)


def test_migrating_again_changes_nothing(empty_database: str) -> None:
    assert MIGRATIONS.upgrade(empty_database) == MIGRATIONS.upgrade(empty_database)


async def test_three_migrations_at_once_all_succeed(empty_database: str) -> None:
    environment = os.environ | {"INVOICE_DATABASE_URL": empty_database}
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "invoice", "migrate", env=environment, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    outputs = await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert all(f'"revision": "{MIGRATIONS.head()}"'.encode() in out for out, _ in outputs)


def applied(**change: object) -> dict[str, object]:
    """A row of ``applied_operations`` that is allowed."""
    return {
        "op_id": OP,
        "request_hash": b"x",
        "kind": "create",
        "outcome": "applied",
        "invoice_id": INVOICE,
        "version": 1,
        "fence": 1,
        "direct": False,
        "response_status": 201,
        "response_headers": "[]",
        "response_body": b"",
        "created_at": "2026-01-01T00:00:00Z",
    } | change


def row(**change: object) -> dict[str, object]:
    """A row of ``invoices`` that is allowed."""
    return {
        "id": INVOICE,
        "order_id": None,
        "user_id": USER,
        "total": "1.00",
        "status": "created",
        "version": 1,
        "fence": 1,
        "last_op": OP,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    } | change


async def insert(engine: AsyncEngine, table: str, *rows: dict[str, object]) -> None:
    async with engine.begin() as connection:
        for values in rows:
            columns = ", ".join(values)
            parameters = ", ".join(f":{name}" for name in values)
            await connection.execute(
                text(f"INSERT INTO {table} ({columns}) VALUES ({parameters})"), values
            )


async def refusal(engine: AsyncEngine, table: str, *rows: dict[str, object]) -> str | None:
    with pytest.raises(IntegrityError) as caught:
        await insert(engine, table, *rows)
    return constraint_name(caught.value)


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"kind": "merge", "version": 2}, "kind"),
        ({"outcome": "lost"}, "outcome"),
        ({"kind": "abort", "request_hash": None}, "abort_is_aborted"),
        ({"request_hash": None}, "request_hash_unless_abort"),
        ({"version": None}, "applied_has_version"),
        ({"version": 2}, "create_is_version_one"),
        ({"kind": "update", "response_status": 204}, "create_is_version_one"),
        ({"kind": "update", "version": 0, "response_status": 204}, "version_positive"),
        ({"fence": -1}, "fence_not_negative"),
        ({"response_status": 409}, "response_fits_outcome"),
        ({"outcome": "rejected"}, "response_fits_outcome"),
        (
            {
                "kind": "abort",
                "outcome": "aborted",
                "request_hash": None,
                "version": None,
                "response_status": 409,
                "direct": True,
            },
            "abort_is_kept",
        ),
    ],
)
async def test_the_database_refuses_an_operation_that_cannot_be(
    engine: AsyncEngine, change: dict[str, object], constraint: str
) -> None:
    found = await refusal(engine, "applied_operations", applied(**change))
    assert found == f"ck_applied_operations_{constraint}"


async def test_the_database_refuses_a_second_operation_for_one_version(
    engine: AsyncEngine,
) -> None:
    found = await refusal(engine, "applied_operations", applied(), applied(op_id=OTHER))
    assert found == "uq_applied_operations_invoice_id_version"


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"status": "paid", "version": 2}, "ck_invoices_status"),
        ({"total": "-0.01"}, "ck_invoices_total_not_negative"),
        ({"version": 0, "status": "updated"}, "ck_invoices_version_positive"),
        ({"version": 2}, "ck_invoices_created_is_version_one"),
        ({"status": "deleted"}, "ck_invoices_created_is_version_one"),
        ({"fence": -1}, "ck_invoices_fence_not_negative"),
        ({"order_id": OTHER, "fence": 0}, "ck_invoices_order_bound_has_fence"),
        ({"updated_at": "2025-12-31T00:00:00Z"}, "ck_invoices_updated_after_created"),
        ({"last_op": OTHER}, "fk_invoices_last_op"),
    ],
)
async def test_the_database_refuses_an_invoice_that_cannot_be(
    engine: AsyncEngine, change: dict[str, object], constraint: str
) -> None:
    await insert(engine, "applied_operations", applied())
    assert await refusal(engine, "invoices", row(**change)) == constraint


async def test_the_database_refuses_a_second_invoice_of_one_order(engine: AsyncEngine) -> None:
    await insert(engine, "applied_operations", applied())
    found = await refusal(engine, "invoices", row(order_id=OTHER), row(id=USER, order_id=OTHER))
    assert found == "uq_invoices_order_id"
