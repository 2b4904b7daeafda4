"""The entry point of a service's process: bad settings end it with one line and status 2."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from pydantic import ValidationError

from servicekit import otel_environment, settings

EXIT_BAD_SETTINGS: Final = 2


def start(service: str, arguments: Sequence[str] | None = None) -> int:
    """Run ``<service>.commands`` and return the process's exit status.

    It is imported here and not above, since OpenTelemetry reads its variables on import.
    """
    prefix = f"{service.upper()}_"
    for complaint in otel_environment.tidy(os.environ):
        _say(service, complaint)
    commands = import_module(f"{service}.commands")
    for complaint in settings.unknown(os.environ, prefix=prefix, known=commands.variables()):
        _say(service, complaint)
    try:
        status: int = commands.main(arguments)
    except ValidationError as error:
        _say(service, settings.explain(error, prefix=prefix))
    except (ValueError, OSError, *commands.REFUSALS) as error:
        _say(service, str(error))
    else:
        return status
    return EXIT_BAD_SETTINGS


def _say(service: str, line: str) -> None:
    print(f"{service}: {line}", file=sys.stderr)  # noqa: T201 - for the person who started it
