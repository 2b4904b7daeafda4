"""``order serve``, ``order migrate`` and ``order audit``."""

import argparse
from collections.abc import Sequence
from typing import Any, Final

import fencelock
from order import failpoints
from order.app import create_app
from order.audit import command as audit
from order.schema import MIGRATIONS
from order.settings import MigrateSettings, Settings
from servicekit import migrate, serve
from servicekit.settings import variables as read_variables

_SERVICE: Final = "order"
# What the settings say and a part refuses when it is made: no fault of the program.
REFUSALS = (fencelock.ConfigurationError,)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit status."""
    parser = argparse.ArgumentParser(prog=_SERVICE, description="The order service.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve until SIGTERM")
    commands.add_parser("migrate", help="bring the database to the newest schema")
    audit.add_arguments(
        commands.add_parser(
            "audit", help="compare both services; exit status 0: equal, 1: different, 2: unknown"
        )
    )
    chosen = parser.parse_args(arguments)
    match chosen.command:
        case "serve":
            return _serve()
        case "migrate":
            return _migrate()
        case _:
            return audit.run(audit.options_of(chosen))


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
