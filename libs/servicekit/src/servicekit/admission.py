"""Bounded concurrency: a queue with a limit in time, and a refusal that costs next to nothing.

Only so many requests are worked on at once. What comes on top waits its turn, the oldest first, as
long as it can still be answered before its deadline; one that could not be is refused at once,
before anything of it is parsed. Some places are for reads only, so that changes that wait for each
other leave room to look.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.types import ASGIApp, Receive, Scope, Send

from servicekit.deadlines import remaining_seconds
from servicekit.exchange import READS, watch
from servicekit.problems import Overloaded, response
from servicekit.quiet_log import Interval

# Of all places, those that changes may take.
_SHARE_OF_CHANGES: Final = 0.75
_WEIGHT_OF_LATEST: Final = 0.1
# The time that must be left when a turn comes, in typical durations. Where the queue is long all
# get their turn just before this limit; with one, half of them would be begun and not end in time.
_TYPICAL_DURATIONS_LEFT: Final = 2.0
_LONGEST_RETRY_AFTER_SECONDS: Final = 30
_log = structlog.stdlib.get_logger(__name__)


class Refused(Exception):
    """There is no place now, and there will be none in time."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"no place within {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds


@dataclass(eq=False)
class _Lane:
    """One kind of requests.

    Attributes:
        places: how many of them may be worked on.
        until_busy: how many requests of any kind may be worked on when one of them begins, less it.
    """

    places: int
    until_busy: int
    busy: int = 0
    # A guess until the first is done.
    typical_seconds: float = 0.05
    waiting: deque[tuple[float, asyncio.Future[None]]] = field(default_factory=deque)

    def first(self) -> tuple[float, asyncio.Future[None]] | None:
        """Return who has waited longest, dropping those who have gone."""
        while self.waiting and self.waiting[0][1].done():
            self.waiting.popleft()
        return self.waiting[0] if self.waiting else None


class Places:
    """The places of one process; for one event loop.

    Args:
        maximum: places at all; where a change has the only one, a read gets one beside it.
        clock: seconds that only grow.
    """

    def __init__(self, maximum: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        changes = max(1, math.floor(maximum * _SHARE_OF_CHANGES))
        # However few places there are, changes leave one for reads.
        self._reads = _Lane(maximum, until_busy=max(maximum, changes + 1))
        self._changes = _Lane(changes, until_busy=maximum)

    @property
    def busy(self) -> int:
        """How many places are taken."""
        return self._reads.busy + self._changes.busy

    @property
    def waiting(self) -> int:
        """How many requests wait for one."""
        return len(self._reads.waiting) + len(self._changes.waiting)

    async def enter(self, *, reads: bool, within_seconds: float) -> None:
        """Take a place, waiting for it at most until the request could still be answered in time.

        Raises:
            Refused: there is none, and there will be none in time.
        """
        lane = self._reads if reads else self._changes
        if self._free(lane) and lane.first() is None:
            lane.busy += 1
            return
        expected = lane.typical_seconds * (len(lane.waiting) + 1) / lane.places
        limit = within_seconds - _TYPICAL_DURATIONS_LEFT * lane.typical_seconds
        if expected > limit:
            raise Refused(_retry_after(expected))
        turn = asyncio.get_running_loop().create_future()
        lane.waiting.append((self._clock(), turn))
        try:
            async with asyncio.timeout(limit):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._give_back(lane)
            turn.cancel()
            if isinstance(error, TimeoutError):
                raise Refused(_retry_after(expected)) from error
            raise

    def leave(self, *, reads: bool, after_seconds: float) -> None:
        """Give the place back to whoever has waited longest.

        Args:
            reads: as in ``enter``.
            after_seconds: how long it was taken.
        """
        lane = self._reads if reads else self._changes
        lane.typical_seconds += _WEIGHT_OF_LATEST * (after_seconds - lane.typical_seconds)
        self._give_back(lane)

    def _give_back(self, lane: _Lane) -> None:
        lane.busy -= 1
        while (chosen := self._next()) is not None:
            chosen.busy += 1
            chosen.waiting.popleft()[1].set_result(None)

    def _next(self) -> _Lane | None:
        waiting = [
            (first[0], lane)
            for lane in (self._reads, self._changes)
            if (first := lane.first()) is not None and self._free(lane)
        ]
        return min(waiting, key=lambda entry: entry[0])[1] if waiting else None

    def _free(self, lane: _Lane) -> bool:
        return self.busy < lane.until_busy and lane.busy < lane.places


class AdmissionMiddleware:
    """Lets requests in by ``Places`` and answers the rest 503 with ``Retry-After``.

    Stands inside of the deadline, which counts from the request's arrival, and outside of
    everything that parses.

    Args:
        app: the application.
        maximum_requests: how many requests are worked on at once.
        registry: where the metrics go.
        apart_paths: what has as many places of its own: whoever reads it slowly, and need not even
            show a token for it, keeps no other request waiting.
        limit_seconds: the longest time a request may take.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        maximum_requests: int,
        registry: CollectorRegistry,
        limit_seconds: float,
        apart_paths: Collection[str] = (),
    ) -> None:
        self.app = app
        self._places = Places(maximum_requests)
        self._apart = dict.fromkeys(apart_paths, Places(maximum_requests))
        self._limit_seconds = limit_seconds
        self._interval = Interval()
        self._refused = Counter(
            "http_server_requests_refused",
            "Requests refused before anything was done, for want of a place in time",
            registry=registry,
        )
        Gauge(
            "http_server_requests_active", "Requests being worked on", registry=registry
        ).set_function(lambda: self._places.busy)
        Gauge(
            "http_server_requests_waiting", "Requests waiting for their turn", registry=registry
        ).set_function(lambda: self._places.waiting)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        reads = scope["method"] in READS
        places = self._apart.get(scope["path"], self._places)
        try:
            await places.enter(
                reads=reads, within_seconds=remaining_seconds(at_most_seconds=self._limit_seconds)
            )
        except Refused as error:
            await self._refuse(error, scope, receive, send)
            return
        started = time.perf_counter()
        try:
            await self.app(scope, receive, send)
        finally:
            places.leave(reads=reads, after_seconds=time.perf_counter() - started)

    async def _refuse(self, error: Refused, scope: Scope, receive: Receive, send: Send) -> None:
        self._refused.inc()
        # One line for many: under overload a line each would cost more than the refusals.
        watch(scope, send)[0].logged = False
        if (times := self._interval.due()) is not None:
            _log.warning("requests_refused", times=times, waiting=self._places.waiting)
        problem = Overloaded(
            "The service is busy; nothing was done. Try again later.",
            retry_after_seconds=error.retry_after_seconds,
        )
        await response(problem, instance=scope["path"])(scope, receive, send)


def _retry_after(seconds: float) -> int:
    return max(1, min(_LONGEST_RETRY_AFTER_SECONDS, math.ceil(seconds)))
