"""Deadlines that travel with a request: no hop works longer than its caller waits.

A caller sends ``Request-Timeout-Ms``; each hop takes the smaller of that and its own limit, and
passes on what is left.
"""

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from servicekit.exchange import READS, lines_of, watch
from servicekit.problems import (
    DeadlineExceeded,
    ServiceUnavailable,
    ValidationFailed,
    response,
)

HEADER: Final = "Request-Timeout-Ms"
_HEADER: Final = HEADER.lower().encode()
_MAXIMUM_DIGITS: Final = 9


@dataclass(slots=True)
class _Cut:
    """The end that the middleware puts to a request."""

    deadline: float
    limit: asyncio.Timeout
    last_word: Callable[[], Response] | None = None


_cut: ContextVar[_Cut | None] = ContextVar("servicekit_cut", default=None)


def remaining_seconds(*, at_most_seconds: float) -> float:
    """Return the time left for the current request, at most ``at_most_seconds``, at least 0.

    Outside of a request (a background task) that is ``at_most_seconds``.
    """
    cut = _cut.get()
    if cut is None:
        return at_most_seconds
    return max(0.0, min(at_most_seconds, cut.deadline - time.monotonic()))


def header_value(timeout_seconds: float) -> str:
    """Return the header's value for a call that waits ``timeout_seconds``."""
    return str(max(1, int(timeout_seconds * 1000)))


def commit_to(last_word: Callable[[], Response], *, within_seconds: float) -> None:
    """Say, before anything may be written, what is true of this request from now on.

    A request that has begun to write looks after its own time: it is not cut off for another
    ``within_seconds``, and should it still not be done then, it is answered ``last_word``, never
    that nothing was done. Outside of a request (a background task) this does nothing.

    Raises:
        DeadlineExceeded: the time has run out already; nothing must be begun any more.
    """
    cut = _cut.get()
    if cut is None:
        return
    if cut.limit.expired() or remaining_seconds(at_most_seconds=1.0) <= 0:
        raise DeadlineExceeded("The time for this request ran out. Nothing was written.")
    end = asyncio.get_running_loop().time() + within_seconds
    cut.limit.reschedule(max(end, cut.limit.when() or end))
    cut.last_word = last_word


class DeadlineMiddleware:
    """Sets the deadline of each request and answers 503 when it passes.

    A request that the end of the process cuts off is answered here too: what is true of it, or
    else 503.

    Args:
        app: the application.
        limit_seconds: this service's own limit for a request.
        grace_seconds: how long after the deadline a change is cancelled; one that ends its own
            waits at the deadline, and then still has something to say, needs some. A read has not.
    """

    def __init__(self, app: ASGIApp, *, limit_seconds: float, grace_seconds: float = 0.0) -> None:
        self.app = app
        self._limit_seconds = limit_seconds
        self._grace_seconds = grace_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            seconds = min(self._limit_seconds, _requested_seconds(scope))
        except ValidationFailed as error:
            await response(error, instance=scope["path"])(scope, receive, send)
            return
        await self._run(seconds, scope, receive, send)

    async def _run(self, seconds: float, scope: Scope, receive: Receive, send: Send) -> None:
        exchange, watched_send = watch(scope, send)
        grace = 0.0 if scope["method"] in READS else self._grace_seconds
        cut = _Cut(time.monotonic() + seconds, asyncio.timeout(seconds + grace))
        token = _cut.set(cut)
        try:
            async with cut.limit:
                await self.app(scope, receive, watched_send)
        except TimeoutError:
            if exchange.answered or not cut.limit.expired():
                raise
            await _last_word(cut, scope)(scope, receive, send)
        except asyncio.CancelledError:
            # Without an answer of ours it would be 500, whatever has been written.
            if not exchange.answered:
                await _word_at_the_end(cut, scope)(scope, receive, watched_send)
            raise
        finally:
            _cut.reset(token)


def _last_word(cut: _Cut, scope: Scope) -> Response:
    if cut.last_word is not None:
        return cut.last_word()
    problem = DeadlineExceeded("The time for this request ran out before it was done.")
    return response(problem, instance=scope["path"])


def _word_at_the_end(cut: _Cut, scope: Scope) -> Response:
    if cut.last_word is not None:
        return cut.last_word()
    problem = ServiceUnavailable("The service is stopping; this was not done.")
    return response(problem, instance=scope["path"])


def _requested_seconds(scope: Scope) -> float:
    lines = lines_of(scope, _HEADER)
    if not lines:
        return float("inf")
    value = lines[0] if len(lines) == 1 else ""
    if not (value.isascii() and value.isdecimal() and 0 < len(value) <= _MAXIMUM_DIGITS):
        raise ValidationFailed.of(HEADER, "must be a whole number of milliseconds")
    return int(value) / 1000
