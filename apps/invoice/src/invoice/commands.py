"""``invoice serve`` and ``invoice migrate``."""

import argparse
from collections.abc import Sequence
from typing import Any

import fencelock
from invoice import failpoints
from invoice.app import create_app
from invoice.schema import MIGRATIONS
from invoice.settings import MigrateSettings, Settings
from servicekit import migrate, serve
from servicekit.settings import variables as read_variables

_SERVICE = "invoice"
# What the settings say and a part refuses when it is made: no fault of the program.
REFUSALS = (fencelock.ConfigurationError,)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit status."""
    parser = argparse.ArgumentParser(prog=_SERVICE, description="The invoice service.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve until SIGTERM")
    commands.add_parser("migrate", help="bring the database to the newest schema")
    command = parser.parse_args(arguments).command
    return _serve() if command == "serve" else _migrate()


def variables() -> dict[str, dict[str, Any]]:
    """Return every environment variable of the service, with the JSON schema of its value."""
    return read_variables(Settings, MigrateSettings)


def _serve() -> int:
    settings = Settings()
    # Connects to nothing: what it refuses is said before anything has started.
    fencelock.AsyncLockClient.from_url(settings.redis_url.get_secret_value())
    return serve.run(
        lambda runtime: create_app(settings, runtime=runtime),
        service=_SERVICE,
        failpoints=failpoints.NAMES,
        settings=settings,
    )


def _migrate() -> int:
    return migrate.run(MIGRATIONS, service=_SERVICE, settings=MigrateSettings())
