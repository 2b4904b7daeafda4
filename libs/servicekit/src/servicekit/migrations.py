"""Alembic under an advisory lock, so that any number of replicas may migrate at once.

A service keeps its scripts inside its package, as ``<service>.migrations``, whose ``env.py`` is::

    from servicekit.migrations import run_in_context
    run_in_context(Base.metadata)
"""

import asyncio
import hashlib
from functools import cached_property
from pathlib import Path
from typing import Final

import structlog
from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool

from servicekit.database import detail_of, driver_url
from servicekit.health import NotReady
from servicekit.quiet_log import Interval

_LOCK_WAIT_SECONDS: Final = 60.0
_DDL_LOCK_WAIT_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 15.0
"""Limit for one look at the schema, also on a connection that has gone silent."""
_log = structlog.stdlib.get_logger(__name__)


class Migrations:
    """The schema of one service.

    Args:
        directory: where ``env.py`` and ``versions/`` are.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def head(self) -> str:
        """Return the newest revision that this code brings."""
        revision = self._scripts.get_current_head()
        if revision is None:
            raise RuntimeError("there are no migrations")
        return revision

    def upgrade(self, url: str, *, revision: str = "head") -> str | None:
        """Bring the database to ``revision`` and return what it is at afterwards.

        A database that is ahead of this code, as a newer release has left it, is left as it is:
        migrations expand first and contract one release later, so the code works with it.

        Waits up to 60 s for another process that is migrating, and at most 5 s for each lock on a
        table, so that a long transaction cannot make the migration block the whole service. Any
        number of processes may call it at once, but in one process only one thread: Alembic keeps
        its context in a global.

        Raises:
            ValueError: the URL is not one of Postgres, or the database is not encoded in UTF8.
        """
        engine = create_engine(
            driver_url(url), poolclass=NullPool, connect_args={"client_encoding": "utf8"}
        )
        config = self._config()
        try:
            with engine.connect() as connection:
                _require_utf8(connection)
                ahead = self._unknown(_current_heads(connection))
                if ahead is not None:
                    return ahead
                connection.rollback()
                config.attributes["connection"] = connection
                command.upgrade(config, revision)
                connection.commit()
                return MigrationContext.configure(connection).get_current_revision()
        finally:
            engine.dispose()

    async def require_head(self, engine: AsyncEngine) -> None:
        """Return if the database has every revision that this code brings.

        A database ahead of the code is fine: migrations expand first and contract one release
        later, so the previous release keeps working while a new one rolls out.

        Raises:
            NotReady: it lacks one.
        """
        async with engine.connect() as connection:
            found = await connection.run_sync(_current_heads)
        head = self.head()
        if head in found or self._unknown(found) is not None:
            return
        raise NotReady(f"schema at {', '.join(found) or 'nothing'}, needs {head}: run migrate")

    async def wait_for_head(self, engine: AsyncEngine, *, every_seconds: float = 1.0) -> None:
        """Return once the database has every revision that this code brings, however late.

        For background work, which begins with the process and not when it is ready: it would fail
        in every round, and fill the logs of the service and of the database. The reason is said
        once, and then at intervals. How long it may last is for whoever migrates to limit.

        Args:
            engine: the database.
            every_seconds: the pause between two looks.
        """
        said = Interval()
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    return await self.require_head(engine)
            except Exception as error:  # noqa: BLE001 - it may pass: the database starts, or migrates
                if (times := said.due()) is not None:
                    reason = str(error) if isinstance(error, NotReady) else detail_of(error)
                    _log.info("waiting_for_schema", times=times, reason=reason)
            await asyncio.sleep(every_seconds)

    def _unknown(self, found: tuple[str, ...]) -> str | None:
        """Return the revision of a newer release that the database is at, if it is."""
        return next((each for each in found if each not in self._revisions), None)

    def _config(self) -> Config:
        config = Config()
        config.set_main_option("script_location", str(self._directory).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        return config

    @cached_property
    def _scripts(self) -> ScriptDirectory:
        return ScriptDirectory.from_config(self._config())

    @cached_property
    def _revisions(self) -> frozenset[str]:
        return frozenset(script.revision for script in self._scripts.walk_revisions())


def _current_heads(connection: Connection) -> tuple[str, ...]:
    return tuple(MigrationContext.configure(connection).get_current_heads())


def _require_utf8(connection: Connection) -> None:
    """See that the database checks and keeps text as what it is, not as any bytes."""
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise ValueError(f"the database is encoded in {encoding}: create it with ENCODING 'UTF8'")


def run_in_context(metadata: MetaData) -> None:
    """Run the migrations that Alembic was asked for; the whole of a service's ``env.py``."""
    connection: Connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, compare_server_default=True)
    with context.begin_transaction():
        # Inside the transaction: taken before it, the lock's own transaction would make Alembic
        # see one as already begun, and nothing would ever be committed.
        _lock(connection)
        context.run_migrations()


def _lock(connection: Connection) -> None:
    """Wait for our turn; the lock goes with the transaction."""
    key = int.from_bytes(hashlib.sha256(b"servicekit.migrations").digest()[:8], signed=True)
    _limit_lock_wait(connection, _LOCK_WAIT_SECONDS)
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
    _limit_lock_wait(connection, _DDL_LOCK_WAIT_SECONDS)


def _limit_lock_wait(connection: Connection, seconds: float) -> None:
    connection.execute(
        text("SELECT set_config('lock_timeout', :limit, true)"),
        {"limit": f"{round(seconds * 1000)}ms"},
    )
