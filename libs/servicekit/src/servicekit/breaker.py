"""A circuit breaker: stops calling what has just failed several times in a row."""

import time
from collections.abc import Callable
from enum import StrEnum


class BreakerState(StrEnum):
    """Whether calls go through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerOpen(Exception):
    """The call was not made, since the ones before it failed."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__(f"not called: failing; next try in {retry_after_seconds:.1f} s")
        self.retry_after_seconds = retry_after_seconds


class CircuitBreaker:
    """Opens after ``failure_threshold`` failures in a row; lets one probe through afterwards.

    For one event loop. Use ``check`` before the call and report its end with ``succeeded`` or
    ``failed``; a call that was cancelled reports ``cancelled``, which frees the probe's place.

    Args:
        failure_threshold: failures in a row that open it.
        reset_seconds: how long it stays open before a probe.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        *,
        failure_threshold: int,
        reset_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failure_threshold = failure_threshold
        self._reset_seconds = reset_seconds
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False

    @property
    def state(self) -> BreakerState:
        """Whether calls go through now."""
        if self._opened_at is None:
            return BreakerState.CLOSED
        if self._clock() - self._opened_at >= self._reset_seconds:
            return BreakerState.HALF_OPEN
        return BreakerState.OPEN

    def check(self) -> None:
        """Let one call through.

        Raises:
            BreakerOpen: no call may be made now.
        """
        state = self.state
        if state is BreakerState.OPEN or (state is BreakerState.HALF_OPEN and self._probing):
            raise BreakerOpen(self._retry_after())
        self._probing = state is BreakerState.HALF_OPEN

    def is_open(self) -> bool:
        """Tell whether ``check`` would refuse, without taking the probe's place."""
        state = self.state
        return state is BreakerState.OPEN or (state is BreakerState.HALF_OPEN and self._probing)

    def permits(self, at_most: int) -> int:
        """Return how many calls ``check`` would let through now, none of them beginning here."""
        if self.is_open():
            return 0
        return at_most if self.state is BreakerState.CLOSED else min(1, at_most)

    def succeeded(self) -> None:
        """Report a call that was answered; closes the breaker."""
        self._failures = 0
        self._opened_at = None
        self._probing = False

    def failed(self) -> None:
        """Report a call that failed; may open the breaker."""
        self._failures += 1
        if self._probing or self._failures >= self._failure_threshold:
            self._opened_at = self._clock()
        self._probing = False

    def cancelled(self) -> None:
        """Report a call of which nothing is known."""
        self._probing = False

    def _retry_after(self) -> float:
        if self._opened_at is None:
            return 0.0
        return max(0.1, self._opened_at + self._reset_seconds - self._clock())
