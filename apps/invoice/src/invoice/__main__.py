"""``invoice serve`` and ``invoice migrate``."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from pydantic import ValidationError

from invoice import failpoints
from invoice.app import create_app
from invoice.schema import MIGRATIONS
from invoice.settings import MigrateSettings, Settings
from servicekit import logging, migrate, server
from servicekit.failpoints import Failpoints
from servicekit.runtime import Runtime
from servicekit.settings import explain

_SERVICE = "invoice"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit status."""
    parser = argparse.ArgumentParser(prog=_SERVICE, description="The invoice service.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve until SIGTERM")
    commands.add_parser("migrate", help="bring the database to the newest schema")
    command = parser.parse_args(arguments).command
    try:
        return _serve() if command == "serve" else _migrate()
    except ValidationError as error:
        print(f"{_SERVICE}: {explain(error, prefix='INVOICE_')}", file=sys.stderr)  # noqa: T201
    except ValueError as error:
        print(f"{_SERVICE}: {error}", file=sys.stderr)  # noqa: T201
    return 2


def _serve() -> int:
    settings = Settings()
    logging.configure(service=_SERVICE, level=settings.log_level, form=settings.log_format)
    runtime = Runtime.of_process(
        service=_SERVICE,
        version=version("shop-invoice"),
        failpoints=Failpoints(failpoints.NAMES, armed=settings.failpoints),
    )
    runtime.telemetry.instrument()
    return server.run(create_app(settings, runtime=runtime), runtime=runtime, settings=settings)


def _migrate() -> int:
    return migrate.run(MIGRATIONS, service=_SERVICE, settings=MigrateSettings())


if __name__ == "__main__":
    sys.exit(main())
