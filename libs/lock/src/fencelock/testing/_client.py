"""The asyncio client of a server in memory, and its lease."""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fencelock import _forks, _names, _proof, _protocol
from fencelock._client import Asked, AsyncLockClient
from fencelock._engine import Verified
from fencelock._errors import LeaseLost, NotOwner, RedisUnavailable
from fencelock._instrumentation import LossReason
from fencelock._lease import AsyncLease, OnLost
from fencelock._protocol import Request

if TYPE_CHECKING:
    from fencelock.testing._server import FakeServer, Ticket

logger = logging.getLogger("fencelock")


class FakeLease(AsyncLease):
    """A lease on a server in memory."""

    __slots__ = (
        "_callbacks",
        "_number",
        "_reason",
        "_returned",
        "_server",
        "cap",
        "deadline",
        "loop",
    )

    def __init__(self, server: "FakeServer", ticket: "Ticket", fence: int, now: float) -> None:
        self.request: Request = ticket.request
        self.loop: asyncio.AbstractEventLoop = ticket.loop
        self.cap: float = now + ticket.max_hold
        self.deadline: float = min(now + ticket.request.ttl, self.cap)
        self._server = server
        self._number = fence
        self._callbacks: list[OnLost] = []
        self._reason: LossReason | None = None
        self._returned = False

    def __repr__(self) -> str:
        state = "lost" if self._reason else "released" if self._returned else "held"
        return f"<FakeLease {' '.join(self.names)} fence={self.fence} {state}>"

    @property
    def fence(self) -> int:
        """A number that is higher than that of every earlier lease of any of the names."""
        return self._number

    @property
    def released(self) -> bool:
        """Whether it was given back."""
        return self._returned

    @property
    def lost(self) -> bool:
        """Whether it ended before it was given back."""
        return self._reason is not None

    def remaining(self) -> float:
        """Seconds that the lease still runs if it is not renewed; 0.0 once it ended."""
        self._server.look()
        if self._reason or self._returned:
            return 0.0
        return max(0.0, self.deadline - self._server.clock.now())

    def check(self) -> None:
        """Raise :class:`LeaseLost` if it was lost, :class:`NotOwner` if it was released."""
        self._server.look()
        if self._reason is not None:
            raise LeaseLost(f"the lease of {', '.join(self.names)} was lost: {self._reason}")
        if self._returned:
            raise NotOwner(f"the lease of {', '.join(self.names)} was released")

    def proof(self) -> str:
        """What another client of the same server can verify."""
        return _proof.encode(self.request.owner, self.request.secret, self.fence)

    def on_lost(self, callback: OnLost) -> None:
        """Call ``callback(reason)`` in the event loop when the lease is lost, or was already."""
        if self._reason is not None:
            soon(self.loop, _call, callback, self._reason)
        else:
            self._callbacks.append(callback)

    async def release(self) -> None:
        """Give the names back; errors are those of a real lease."""
        if self._reason is not None:
            self.check()
        if not self._returned:
            self._returned = True
            self._callbacks.clear()
            self._server.release(self)

    def lose(self, reason: LossReason) -> None:
        """End the lease, unless it was given back (called by the server)."""
        if self._returned:
            return
        self._reason = reason
        for callback in self._callbacks:
            if reason == "closed":
                # By its own client, in its loop: as a real one, it does not wait for its turn.
                _call(callback, reason)
            else:
                soon(self.loop, _call, callback, reason)


class FakeLockClient(AsyncLockClient):
    """A client of a :class:`FakeServer`; made by :meth:`FakeServer.client`."""

    def __init__(self, server: "FakeServer", *, ttl: float, wait: float, max_hold: float) -> None:
        _protocol.validate_ttl(ttl, max_hold)
        _protocol.validate_wait(wait)
        self._server = server
        self._ttl, self._wait, self._max_hold = ttl, wait, max_hold
        # There is no connection: no limit of one to be kept, and nothing that runs.
        self._reply_timeout_given = False
        self._running = None
        self._generation = _forks.generation()
        self._id = _protocol.new_client_id()
        self._ended = False

    async def start(self) -> None:
        """Raise :class:`RedisUnavailable` while the server is down."""
        self._require_open()

    async def ping(self, *, timeout: float) -> None:  # noqa: ASYNC109 (as the real one)
        """Raise :class:`RedisUnavailable` while the server is down."""
        _protocol.validate_timeout(timeout)
        self._require_open()

    async def aclose(self) -> None:
        """End every lease and every wait of this client."""
        self._ended = True
        self._server.leave(self._id)

    async def obtain(self, asked: Asked, *, waited: float = 0.0) -> FakeLease:  # noqa: ARG002
        """Take all of the names or none, with the errors of the real client.

        Time that was waited before went by on no clock of this server.
        """
        request = Request(asked.names, self._id, asked.ttl, kind=asked.kind)
        self._require_open()
        loop = asyncio.get_running_loop()
        ticket = self._server.enter(request, asked.wait, asked.max_hold, loop)
        try:
            return await ticket.outcome
        except BaseException:
            # Also when it was cancelled: what was granted to nobody goes to the next.
            self._server.withdraw(ticket)
            raise

    async def verify(
        self,
        proof: str,
        names: Sequence[str],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 (as the real one)
    ) -> Verified:
        """Check that the lease behind a proof still holds all of ``names``."""
        if timeout is not None:
            _protocol.validate_timeout(timeout)
        claim = _proof.decode(proof)
        chosen = _names.normalise(names)
        self._require_open()
        self._server.look()
        left = math.inf
        for name in chosen:
            holders = self._server.holders(name)
            found = [each for each in holders if (each.request.owner, each.fence) == claim]
            if not found:
                raise NotOwner(f"the lease behind the proof does not hold {', '.join(chosen)}")
            left = min(left, found[0].remaining())
        return Verified(claim.fence, left)

    def _require_open(self) -> None:
        if self._ended:
            raise RedisUnavailable("the client is closed")
        self._server.require_up()


def soon(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *arguments: object) -> None:
    """Call it in an event loop, unless that was closed, which ended all that ran in it."""
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:
        logger.debug("the event loop of %r was closed", call)


def _call(callback: OnLost, reason: LossReason) -> None:
    try:
        callback(reason)
    except Exception:
        logger.exception("a callback for the loss of a lease raised")
