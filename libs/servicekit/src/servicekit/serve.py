"""The ``serve`` command of a service."""

from collections.abc import Callable, Iterable
from importlib.metadata import version

from starlette.types import ASGIApp

from servicekit import logging, server
from servicekit.failpoints import Failpoints
from servicekit.runtime import Runtime
from servicekit.settings import ServeSettings


def run(
    create_app: Callable[[Runtime], ASGIApp],
    *,
    service: str,
    failpoints: Iterable[str],
    settings: ServeSettings,
) -> int:
    """Serve until a signal says stop, and return the process's exit status.

    Args:
        create_app: makes the application of a process.
        service: its name; its distribution is called ``shop-<service>``.
        failpoints: every failpoint that it has.
        settings: how it listens and logs, and which failpoints are armed.

    Raises:
        ValueError: a failpoint is armed that does not exist.
    """
    logging.configure(service=service, level=settings.log_level, form=settings.log_format)
    runtime = Runtime.of_process(
        service=service,
        version=version(f"shop-{service}"),
        failpoints=Failpoints(failpoints, armed=settings.failpoints),
    )
    runtime.telemetry.instrument()
    return server.run(create_app(runtime), runtime=runtime, settings=settings)
