"""A clock that a test turns."""

from collections.abc import Callable
from time import monotonic

START_SECONDS = 1_750_000_000.0  # some moment in 2025, so that fences look like real ones
# Far more than any lease, and little enough for every number on the way.
CENTURY_SECONDS = 100 * 365.25 * 24 * 3600


class Clock:
    """Stands still until :meth:`advance`; with ``runs=True`` it also goes along with real time."""

    def __init__(self, *, runs: bool = False) -> None:
        self.runs = runs
        self._ahead = START_SECONDS
        self._began = monotonic()
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> float:
        """Seconds since 1970, in its own time."""
        return self._ahead + (monotonic() - self._began if self.runs else 0.0)

    def advance(self, seconds: float) -> None:
        """Let time pass at once. May be called from any thread.

        Leases that a step leaves some time are renewed, as a living client does. A step longer than
        what they have left is a pause of their process: they are lost. Whoever waits for longer
        than its limit gives up.

        Raises:
            ValueError: time does not go back, nor further than a century at once.
        """
        if not seconds >= 0:
            raise ValueError(f"time does not go back: {seconds}")
        if seconds > CENTURY_SECONDS:
            raise ValueError(f"time does not go on by more than a century at once: {seconds}")
        self._ahead += seconds
        for listener in self._listeners:
            listener()

    def tell(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever the clock was turned."""
        self._listeners.append(listener)
