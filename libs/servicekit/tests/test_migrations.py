"""Migrations: readiness tells a database that lacks one from one that is ahead."""

import asyncio
import itertools
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import event, text
from structlog.testing import capture_logs

from devkit.servers import PostgresServer
from servicekit.database import create_engine
from servicekit.health import NotReady
from servicekit.migrations import Migrations

ENV = """
from sqlalchemy import MetaData
from servicekit.migrations import run_in_context
run_in_context(MetaData())
"""
REVISION = """
from alembic import op
revision = {revision!r}
down_revision = {down!r}
def upgrade():
    op.execute({statement!r})
"""


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    name = f"migrations_{uuid.uuid4().hex}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


def release(folder: Path, *statements: str) -> Migrations:
    """A release that brings one revision for each statement."""
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENV)
    for number, statement in enumerate(statements, start=1):
        source = REVISION.format(
            revision=f"{number:04}",
            down=f"{number - 1:04}" if number > 1 else None,
            statement=statement,
        )
        (folder / "versions" / f"{number:04}.py").write_text(source)
    return Migrations(folder)


async def test_a_database_behind_is_not_ready_and_one_ahead_is(url: str, tmp_path: Path) -> None:
    old = release(tmp_path / "old", "CREATE TABLE a ()")
    new = release(tmp_path / "new", "CREATE TABLE a ()", "CREATE TABLE b ()")
    engine = create_engine(url, application_name="kit")
    try:
        with pytest.raises(NotReady, match="schema at nothing, needs 0001: run migrate"):
            await old.require_head(engine)
        assert old.upgrade(url) == "0001"
        await old.require_head(engine)
        with pytest.raises(NotReady, match="schema at 0001, needs 0002"):
            await new.require_head(engine)
        assert new.upgrade(url) == "0002"
        await new.require_head(engine)
        # The release before keeps its readiness while the new one rolls out.
        await old.require_head(engine)
    finally:
        await engine.dispose()


async def test_background_work_waits_for_the_schema_and_says_so_once(
    url: str, tmp_path: Path
) -> None:
    """A first installation migrates beside the services, whose work would fail until then."""
    schema = release(tmp_path / "new", "CREATE TABLE a ()")
    engine = create_engine(url, application_name="kit")
    failed: list[object] = []
    looks, enough = itertools.count(1), asyncio.Event()
    event.listen(engine.sync_engine, "handle_error", failed.append)

    def look(*_: object) -> None:
        if next(looks) == 5:
            enough.set()

    event.listen(engine.sync_engine, "checkout", look)
    try:
        with capture_logs() as lines:
            waiting = asyncio.create_task(schema.wait_for_head(engine, every_seconds=0.01))
            async with asyncio.timeout(30):
                await enough.wait()
            assert not waiting.done()
            assert await asyncio.to_thread(schema.upgrade, url) == "0001"
            async with asyncio.timeout(30):
                await waiting
    finally:
        await engine.dispose()
    assert failed == []
    (said,) = [line for line in lines if line["event"] == "waiting_for_schema"]
    assert said["reason"] == "schema at nothing, needs 0001: run migrate"


def test_migrating_a_database_that_is_ahead_leaves_it_as_it_is(url: str, tmp_path: Path) -> None:
    """An older release's migrate runs again when somebody rolls back."""
    old = release(tmp_path / "old", "CREATE TABLE a ()")
    new = release(tmp_path / "new", "CREATE TABLE a ()", "CREATE TABLE b ()")
    assert new.upgrade(url) == "0002"
    assert old.upgrade(url) == "0002"
    assert new.upgrade(url) == "0002"


async def test_a_migration_that_fails_leaves_nothing_of_itself_or_its_predecessors(
    url: str, tmp_path: Path
) -> None:
    broken = release(tmp_path / "broken", "CREATE TABLE a ()", "CREATE TABLE nonsense (")
    with pytest.raises(Exception, match="syntax error"):
        broken.upgrade(url)
    engine = create_engine(url, application_name="kit")
    async with engine.connect() as connection:
        tables = text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert (await connection.execute(tables)).scalar_one() == 0
    await engine.dispose()


def test_a_database_that_does_not_check_its_text_is_refused_in_a_clear_line(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    name = f"ascii_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        made = "CREATE DATABASE {} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"
        connection.execute(sql.SQL(made).format(sql.Identifier(name)))
    try:
        with pytest.raises(ValueError, match="encoded in SQL_ASCII: create it with ENCODING"):
            release(tmp_path / "one", "CREATE TABLE a ()").upgrade(postgres_server.url(name))
    finally:
        postgres_server.drop_database(name)
