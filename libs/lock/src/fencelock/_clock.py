"""The clock that leases are measured by.

It goes on while the machine sleeps, where the system has such a clock: the server's does too. Event
loops are not asked for the time, since uvloop answers with the moment at which it last looked; and
a timer may fire a little early, so whoever is woken looks at this clock.
"""

import time
from collections.abc import Callable
from functools import partial

_SLEEPLESS: int | None = getattr(time, "CLOCK_BOOTTIME", None)

now: Callable[[], float] = (
    time.monotonic if _SLEEPLESS is None else partial(time.clock_gettime, _SLEEPLESS)
)
"""Seconds since some moment that is the same for the whole life of a process."""
