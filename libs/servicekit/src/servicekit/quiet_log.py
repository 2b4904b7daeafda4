"""Says once what would otherwise be said with every request, and then at intervals how often."""

import time
from collections.abc import Callable
from typing import Final

import structlog

_INTERVAL_SECONDS: Final = 10.0


class Interval:
    """Tells when a repeated event is to be logged: at once, then at most every so many seconds.

    Args:
        seconds: the shortest time between two lines.
        clock: seconds that only grow.
    """

    def __init__(
        self, seconds: float = _INTERVAL_SECONDS, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next: float | None = None
        self._times = 0

    def due(self) -> int | None:
        """Count one event; return how many a line written now stands for, None for no line."""
        self._times += 1
        now = self._clock()
        if self._next is not None and now < self._next:
            return None
        times, self._times, self._next = self._times, 0, now + self._seconds
        return times

    def report(
        self,
        log: structlog.stdlib.BoundLogger,
        event: str,
        error: Exception,
        *,
        foreseen: bool,
    ) -> None:
        """Log a failure that many requests meet, when it is due; only this says its cause.

        Args:
            log: where to.
            event: the line's name.
            error: the cause.
            foreseen: whether it is a failure of its kind; any other is a defect and shows where.
        """
        if (times := self.due()) is not None:
            log.error(
                event,
                times=times,
                error_type=type(error).__name__,
                error=str(error),
                exc_info=not foreseen,
            )
