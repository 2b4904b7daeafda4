"""Calls of other people's code: hooks and callbacks.

What they raise is theirs. It is logged, and neither the lock nor the next callback suffers from it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn, TypeVar

logger = logging.getLogger("fencelock")

_T = TypeVar("_T")


def isolated(call: Callable[..., _T], *args: object) -> _T | None:
    """Call it; None if it raised.

    What ends the process (`KeyboardInterrupt`, `SystemExit`) is raised by the event loop in its
    next turn: it ends the loop as it would have done, but not in the middle of what we do.
    """
    try:
        return call(*args)
    except (KeyboardInterrupt, SystemExit) as error:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # nobody's work is in the way
            raise error from None
        logger.exception("%r ends the event loop", call)
        loop.call_soon(_end, error)
    except BaseException:  # any error of foreign code ends here
        logger.exception("%r raised", call)
    return None


def _end(error: BaseException) -> NoReturn:
    raise error
