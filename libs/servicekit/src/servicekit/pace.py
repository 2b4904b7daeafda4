"""Holds back what comes too often and costs something each time, such as probes and refusals."""

import asyncio
import time
from typing import Final

# What comes on top of this is held back, so that whoever asks without a pause has to make one.
_UNHURRIED_PER_SECOND: Final = 20
_LONGEST_HOLD_SECONDS: Final = 0.5


class Pace:
    """Lets a usual rate through at once, and holds back what comes on top of it a moment.

    Whoever asks again as soon as it is answered can so ask two times a second on one connection,
    and connections are bounded.

    Args:
        unhurried_per_second: how many a second are not held back.
        longest_hold_seconds: the most that one is held back.
    """

    def __init__(
        self,
        *,
        unhurried_per_second: float = _UNHURRIED_PER_SECOND,
        longest_hold_seconds: float = _LONGEST_HOLD_SECONDS,
    ) -> None:
        self._between_seconds = 1 / unhurried_per_second
        self._longest_hold_seconds = longest_hold_seconds
        self._next = 0.0

    async def wait(self) -> None:
        """Return at once at a usual rate, else after a moment."""
        now = time.monotonic()
        # A second's worth may come at once.
        turn = max(self._next, now - 1.0) + self._between_seconds
        self._next = min(turn, now + self._longest_hold_seconds)
        if self._next > now:
            await asyncio.sleep(self._next - now)
