"""Logs as tests want them: plain, through the standard library, where pytest collects them."""

import structlog

from servicekit import log_context


def route_to_stdlib() -> None:
    """Send structlog's events to the standard library as one plain line each.

    Unconfigured, structlog draws each exception with all local variables, which takes seconds.
    """
    structlog.configure(
        processors=[
            log_context.merge,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
