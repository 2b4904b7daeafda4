"""A server in memory: who holds what, who stands in line, and what a test does to them."""

import asyncio
import threading
from collections.abc import Callable

from fencelock import _names
from fencelock._blocking_client import LockClient
from fencelock._errors import AcquireTimeout, Contended, RedisUnavailable
from fencelock._instrumentation import LossReason
from fencelock._kinds import EXCLUSIVE, Kind
from fencelock._protocol import Request
from fencelock.testing._client import FakeLease, FakeLockClient, soon
from fencelock.testing._clock import Clock

SLACK_SECONDS = 0.002


class Ticket:
    """One that asks for names: its place in line, and what came of it."""

    def __init__(
        self, request: Request, deadline: float, max_hold: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.request = request
        self.deadline = deadline
        self.max_hold = max_hold
        self.loop = loop
        self.outcome: asyncio.Future[FakeLease] = loop.create_future()
        self.lease: FakeLease | None = None

    def grant(self, lease: FakeLease) -> None:
        """Tell whoever waits that it holds the names."""
        self.lease = lease
        self._tell(lambda: self.outcome.set_result(lease))

    def refuse(self, error: Exception) -> None:
        """Tell whoever waits that nothing comes of it."""
        self._tell(lambda: self.outcome.set_exception(error))

    def _tell(self, news: Callable[[], None]) -> None:
        # From whatever thread or loop turned the clock, or released.
        soon(self.loop, lambda: None if self.outcome.done() else news())


class FakeServer:
    """Keeps locks in memory, for any number of clients in any number of threads."""

    def __init__(self, clock: Clock | None = None) -> None:
        """Start empty.

        Args:
            clock: the server's time; one that stands still if None.
        """
        self.clock: Clock = clock or Clock()
        self._guard = threading.RLock()
        self._held: dict[str, list[FakeLease]] = {}
        self._line: list[Ticket] = []
        self._owed: list[FakeLease] = []
        self._fence = 0
        self._down = False
        self.clock.tell(self._time_passed)

    def client(
        self, *, ttl: float = 10.0, wait: float = 10.0, max_hold: float = 300.0
    ) -> FakeLockClient:
        """An asyncio client of this server."""
        return FakeLockClient(self, ttl=ttl, wait=wait, max_hold=max_hold)

    def blocking_client(
        self, *, ttl: float = 10.0, wait: float = 10.0, max_hold: float = 300.0
    ) -> LockClient:
        """A client of this server for threads; close it when done."""
        return LockClient(lambda: self.client(ttl=ttl, wait=wait, max_hold=max_hold))

    # What a test looks at, and does.

    def holder(self, name: str) -> FakeLease | None:
        """The lease that holds a name; of those that share it the first."""
        return next(iter(self.holders(name)), None)

    def holders(self, name: str) -> list[FakeLease]:
        """The leases that hold a name: more than one if they share it."""
        return list(self._held.get(_names.body(name), ()))

    def waiting(self, name: str) -> int:
        """How many stand in line for a name."""
        body = _names.body(name)
        with self._guard:
            return sum(body in _bodies(ticket.request) for ticket in self._line)

    def take_away(self, name: str) -> None:
        """Let everybody who holds the name lose its lease, as `fencelock break` does."""
        with self._guard:
            for lease in self.holders(name):
                self._lose(lease, "taken")
            self._advance()

    def lose_data(self) -> None:
        """Restart empty: every lease is lost, and whoever waits is served anew, in order."""
        with self._guard:
            for lease in self._leases():
                self._lose(lease, "taken")
            self._advance()

    def go_down(self) -> None:
        """Answer nobody from now on; leases run until the clock has gone past their end."""
        with self._guard:
            self.look()
            self._down = True
            if self.clock.runs:
                for lease in self._leases():
                    self._look_in(lease.loop, lease.remaining())

    def come_back(self) -> None:
        """Answer again, also those that gave something back meanwhile."""
        with self._guard:
            self._down = False
            for lease in self._owed:
                self._forget(lease)
            self._owed.clear()
            self._advance()

    # What clients do.

    def look(self) -> None:
        """See what the time that went by by itself has ended."""
        if self.clock.runs:
            self._time_passed()

    def require_up(self) -> None:
        """Raise :class:`RedisUnavailable` while it is down."""
        if self._down:
            raise RedisUnavailable("the fake server is down")

    def enter(
        self, request: Request, wait: float, max_hold: float, loop: asyncio.AbstractEventLoop
    ) -> Ticket:
        """Stand in line, and be served at once if nobody is in the way.

        Raises:
            Contended: somebody is, and ``wait`` is 0.
        """
        with self._guard:
            ticket = Ticket(request, self.clock.now() + wait, max_hold, loop)
            self._line.append(ticket)
            self._advance()
            if ticket in self._line and not wait:
                self._line.remove(ticket)
                raise Contended(f"{', '.join(request.names)}: held, or waited for")
        if self.clock.runs:
            self._look_in(loop, wait)
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """Nobody waits for the ticket any more; a grant that nobody took is given back."""
        with self._guard:
            if ticket.lease is not None:
                self._give_back(ticket.lease)
            elif ticket in self._line:
                self._line.remove(ticket)
                self._advance()

    def release(self, lease: FakeLease) -> None:
        """Free the names of a lease.

        Raises:
            RedisUnavailable: it is down; they are free once it is back.
        """
        with self._guard:
            self._give_back(lease)
        self.require_up()

    def leave(self, client_id: str) -> None:
        """End what a client holds and waits for."""
        with self._guard:
            for ticket in [each for each in self._line if _client(each.request) == client_id]:
                self._line.remove(ticket)
                ticket.refuse(RedisUnavailable("the client was closed"))
            for lease in self._leases():
                if _client(lease.request) == client_id:
                    self._lose(lease, "closed")
            self._advance()

    def _give_back(self, lease: FakeLease) -> None:
        if self._down:
            self._owed.append(lease)
        else:
            self._forget(lease)
            self._advance()

    def _time_passed(self) -> None:
        with self._guard:
            now = self.clock.now()
            for lease in self._leases():
                if now >= lease.cap:
                    self._lose(lease, "max_hold")
                elif now >= lease.deadline and (self._down or not self.clock.runs):
                    self._lose(lease, "expired")
                elif not self._down:
                    lease.deadline = min(now + lease.request.ttl, lease.cap)
            for ticket in [each for each in self._line if now >= each.deadline]:
                self._line.remove(ticket)
                names = ", ".join(ticket.request.names)
                ticket.refuse(AcquireTimeout(f"{names}: not free in time"))
            self._advance()

    def _advance(self) -> None:
        """Serve the line: whoever wants what is free, and what nobody before wants."""
        if self._down:
            return
        wanted: set[str] = set()
        for ticket in list(self._line):
            bodies = _bodies(ticket.request)
            if wanted.isdisjoint(bodies) and self._admits(ticket.request.kind, bodies):
                self._line.remove(ticket)
                self._grant(ticket, bodies)
            else:
                wanted.update(bodies)

    def _admits(self, kind: Kind, bodies: list[str]) -> bool:
        held = [self._held.get(body, []) for body in bodies]
        if kind == EXCLUSIVE:
            return not any(held)
        together = all(each.request.kind != EXCLUSIVE for leases in held for each in leases)
        return together and (not kind.limit or all(len(each) < kind.limit for each in held))

    def _grant(self, ticket: Ticket, bodies: list[str]) -> None:
        now = self.clock.now()
        self._fence = max(self._fence + 1, int(now * 1e6))
        lease = FakeLease(self, ticket, self._fence, now)
        for body in bodies:
            self._held.setdefault(body, []).append(lease)
        ticket.grant(lease)
        if self.clock.runs:
            self._look_in(ticket.loop, ticket.max_hold)

    def _look_in(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """See what time has ended when so much more has gone by."""
        # A timer may fire a little early.
        soon(loop, loop.call_later, seconds + SLACK_SECONDS, self._time_passed)

    def _leases(self) -> list[FakeLease]:
        return list(dict.fromkeys(each for leases in self._held.values() for each in leases))

    def _lose(self, lease: FakeLease, reason: LossReason) -> None:
        self._forget(lease)
        lease.lose(reason)

    def _forget(self, lease: FakeLease) -> None:
        for body in _bodies(lease.request):
            leases = self._held.get(body, [])
            if lease in leases:
                leases.remove(lease)
            if not leases:
                self._held.pop(body, None)


def _bodies(request: Request) -> list[str]:
    return [_names.body(name) for name in request.names]


def _client(request: Request) -> str:
    return request.owner.partition(".")[0]
