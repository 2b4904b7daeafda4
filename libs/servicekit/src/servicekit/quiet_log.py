"""Says once what would otherwise be said with every request, and then at intervals how often."""

import time
from collections.abc import Callable
from typing import Final

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
