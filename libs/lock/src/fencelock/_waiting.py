"""The waiting room: who in this process stands in line for what, and when to ask again.

Waiters are woken by push. Only two things need a question to the server: the expiry of a lease that
nobody releases, and a push that got lost. One waiter a name asks on behalf of all of them, when the
holder's lease would be over, and at least every :data:`BACKSTOP_SECONDS`.
"""

import asyncio

from fencelock._clock import now
from fencelock._protocol import Blocked, Push, Request, Watch

BACKSTOP_SECONDS = 10.0
# Who blocks a free name (a waiter for several names, mostly) has no expiry that we can see.
UNKNOWN_EXPIRY_SECONDS = 1.0
# Redis counts in milliseconds: ask when the last one has surely passed.
EXPIRY_SLACK_SECONDS = 0.002


class Waiter:
    """One acquisition that stands in line."""

    __slots__ = ("_awake", "_loop", "_woken", "granted_at", "push", "request", "resyncing", "stamp")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, request: Request, stamp: tuple[float, float]
    ) -> None:
        self.request = request
        # A moment before a request was sent, and the server time in its reply.
        self.stamp = stamp
        self.push: Push | None = None
        self.granted_at = 0.0
        # Asks because others lost their places: that it lost its own is no news.
        self.resyncing = False
        self._loop = loop
        # Whether it was woken since it last slept, and the future in which it sleeps.
        self._awake = False
        self._woken: asyncio.Future[bool] | None = None

    def wake(self) -> None:
        """Let :meth:`woken` return: there is a push to read, or it is time to ask again."""
        self._awake = True
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(True)

    async def woken(self, deadline: float) -> bool:
        """Wait to be woken. False if ``deadline`` came first."""
        in_time = True
        if not self._awake:
            self._woken = self._loop.create_future()
            timer = self._loop.call_later(max(0.0, deadline - now()), self._time_up)
            try:
                in_time = await self._woken
            finally:
                timer.cancel()
                self._woken = None
        self._awake = False
        return self.push is not None or (in_time and now() < deadline)

    def _time_up(self) -> None:
        # Said in so many words: a timer may fire before the clock shows its time.
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(False)


class _Line:
    """The waiters of this process for one name, oldest first, and the timer of the first."""

    __slots__ = ("timer", "waiters")

    def __init__(self) -> None:
        self.waiters: dict[str, Waiter] = {}
        self.timer: asyncio.TimerHandle | None = None

    def ask(self) -> None:
        """Let the first in line ask the server."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        for waiter in self.waiters.values():
            waiter.wake()
            return


class WaitingRoom:
    """Every waiter of one client."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiters: dict[str, Waiter] = {}
        self._lines: dict[str, _Line] = {}
        # Owners whose first request is under way, with the push that overtook its answer.
        self._expected: dict[str, tuple[Push, float] | None] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    def expect(self, owner: str) -> None:
        """Keep a push for ``owner``, which may come in the same read as the answer to its request.

        Every call must be followed by :meth:`enter` or :meth:`forget`.
        """
        self._expected[owner] = None

    def forget(self, owner: str) -> None:
        """The request of ``owner`` is over."""
        self._expected.pop(owner, None)

    def enter(self, waiter: Waiter) -> None:
        """Stand in line for every name of the request."""
        early = self._expected.pop(waiter.request.owner, None)
        if early is not None:
            waiter.push, waiter.granted_at = early
            waiter.wake()
        self._waiters[waiter.request.owner] = waiter
        for name in waiter.request.bodies:
            line = self._lines.get(name)
            if line is None:
                line = self._lines[name] = _Line()
            line.waiters[waiter.request.owner] = waiter

    def leave(self, waiter: Waiter) -> None:
        """Step out of every line."""
        if self._waiters.pop(waiter.request.owner, None) is None:
            return
        for name in waiter.request.bodies:
            line = self._lines[name]
            del line.waiters[waiter.request.owner]
            if not line.waiters:
                if line.timer is not None:
                    line.timer.cancel()
                del self._lines[name]
            elif line.timer is None:
                # It was the one that was asking for all of them.
                self._ask_later(line, BACKSTOP_SECONDS)

    def blocked(self, waiter: Waiter, reply: Blocked) -> None:
        """The server said how long the names are taken for: ask again when that is over."""
        left = UNKNOWN_EXPIRY_SECONDS if reply.remaining is None else reply.remaining
        for name in waiter.request.bodies:
            line = self._lines[name]
            # The first in line knows best; the others only fill a gap.
            if line.timer is None or next(iter(line.waiters)) == waiter.request.owner:
                self._ask_later(line, left)

    def pushed(self, news: Push | Watch) -> bool:
        """The server made one of the waiters the holder, or says how long to wait for another.

        False if nobody here is waiting for that.
        """
        if isinstance(news, Watch):
            line = self._lines.get(news.body)
            if line is not None:
                self._ask_later(line, news.lease)
            return line is not None
        waiter = self._waiters.get(news.owner)
        if waiter is not None:
            waiter.push, waiter.granted_at = news, now()
            waiter.wake()
            return True
        if news.owner in self._expected:
            self._expected[news.owner] = (news, now())
            return True
        return False

    def ask_all(self) -> None:
        """Let every waiter ask again, oldest first."""
        for waiter in self._waiters.values():
            waiter.resyncing = True
            waiter.wake()

    def ask_first(self) -> None:
        """Let the first of every line ask: what it finds of its place tells whether all must."""
        for line in list(self._lines.values()):
            line.ask()

    def lost_place(self, waiter: Waiter) -> None:
        """Let those in the same lines ask: if one ticket vanished, theirs may have too.

        They are asked once, however many of them find the same.
        """
        if waiter.resyncing:
            waiter.resyncing = False
            return
        for name in waiter.request.bodies:
            for mate in self._lines[name].waiters.values():
                if mate is not waiter:
                    mate.resyncing = True
                    mate.wake()

    def _ask_later(self, line: _Line, seconds: float) -> None:
        if line.timer is not None:
            line.timer.cancel()
        delay = min(seconds + EXPIRY_SLACK_SECONDS, BACKSTOP_SECONDS)
        line.timer = self._loop.call_later(delay, line.ask)
