"""Calls of other people's code: hooks and callbacks.

What they raise is theirs. It is logged, and neither the lock nor the next callback suffers from it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

logger = logging.getLogger("fencelock")

_T = TypeVar("_T")


def isolated(call: Callable[..., _T], *args: object) -> _T | None:
    """Call it; None if it raised. Only what ends the process (`KeyboardInterrupt`) passes."""
    try:
        return call(*args)
    except (Exception, asyncio.CancelledError):  # any error of foreign code ends here
        logger.exception("%r raised", call)
        return None
