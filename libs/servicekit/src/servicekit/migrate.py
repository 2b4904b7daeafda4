"""The ``migrate`` command of a service."""

import structlog
from sqlalchemy.exc import SQLAlchemyError

from servicekit import logging
from servicekit.migrations import Migrations
from servicekit.settings import MigrateSettings

_log = structlog.stdlib.get_logger(__name__)


def run(migrations: Migrations, *, service: str, settings: MigrateSettings) -> int:
    """Bring the database to the newest schema and return the process's exit status."""
    logging.configure(service=service, level=settings.log_level, form=settings.log_format)
    try:
        revision = migrations.upgrade(settings.database_url.get_secret_value())
    except SQLAlchemyError as error:
        _log.error("migration_failed", error=str(error).splitlines()[0])
        return 1
    _log.info("migrated", revision=revision)
    return 0
