"""A lease: the right to act on some names until it is released or its time is up."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from fencelock import _forks, _proof
from fencelock._clock import now
from fencelock._errors import ConfigurationError, LeaseLost, NotOwner
from fencelock._instrumentation import LossReason, Observation, tell
from fencelock._isolation import isolated
from fencelock._kinds import Kind
from fencelock._protocol import Request, Term

# The lease asks the clock itself, not the event loop: uvloop answers with the time at which it last
# looked, and a body that blocks the loop must not see an old time.
OnLost = Callable[[LossReason], object]
_REASONS: dict[LossReason, str] = {
    "expired": "it could not be renewed in time",
    "taken": "the server says that it is not, or no longer, the holder",
    "closed": "the client was closed",
    "max_hold": "it was held for as long as max_hold allows",
}


class LeaseKeeper(Protocol):
    """What ends leases at the server."""

    async def give_back(self, lease: "AsyncLease") -> None:
        """Release a lease."""

    def abandon(self, request: Request) -> None:
        """Clean up in the background after a lease that was lost."""


class AsyncLease:
    """Names that are held. Made by :meth:`AsyncLockClient.acquire`; renewed until it ends."""

    __slots__ = (
        "_acquired_at",
        "_fence",
        "_generation",
        "_keeper",
        "_loop",
        "_lost",
        "_observations",
        "_on_lost",
        "_released",
        "_undone",
        "request",
        "term",
    )

    def __init__(
        self,
        keeper: LeaseKeeper,
        loop: asyncio.AbstractEventLoop,
        request: Request,
        term: Term,
        fence: int,
        *,
        acquired_at: float,
        observations: tuple[Observation, ...],
    ) -> None:
        self.request: Request = request
        self.term: Term = term
        self._keeper = keeper
        self._loop = loop
        self._generation = _forks.generation()
        self._fence = fence
        self._acquired_at = acquired_at
        self._observations = observations
        self._on_lost: list[OnLost] = []
        self._lost: LossReason | None = None
        self._released = False
        # What is in here goes to the one who releases it: taking it is one step for all threads.
        self._undone = [None]

    def __repr__(self) -> str:
        # Without the owner token: whoever has it can pass for the holder.
        state = "lost" if self._lost else "released" if self._released else "held"
        return f"<AsyncLease {' '.join(self.names)} fence={self._fence} {state}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The names held, sorted."""
        return self.request.names

    @property
    def kind(self) -> Kind:
        """How the names are held."""
        return self.request.kind

    @property
    def fence(self) -> int:
        """A number that is higher than that of every earlier lease of any of the names."""
        return self._fence

    @property
    def released(self) -> bool:
        """Whether it was given back, in order or in vain."""
        return self._released

    @property
    def lost(self) -> bool:
        """Whether it ended before it was given back."""
        return self._lost is not None

    def remaining(self) -> float:
        """Seconds that the lease certainly still runs if it is not renewed; 0.0 once it ended."""
        if self._lost or self._released or self._generation != _forks.generation():
            return 0.0
        return max(0.0, self.term.deadline - now())

    def check(self) -> None:
        """Raise unless the lease is held now.

        Raises:
            LeaseLost: it was lost.
            NotOwner: it was released, or a process that forked off calls.
        """
        self._require_own_process()
        if self._lost is not None:
            raise self._lost_error(self._lost)
        if self._released:
            raise NotOwner(f"the lease of {', '.join(self.names)} was released")
        if now() >= self.term.deadline:
            raise self._lost_error("expired")

    def proof(self) -> str:
        """A short printable string with which another process can verify this lease.

        It contains the secret of the lease: send it over trusted connections, never log it.
        """
        return _proof.encode(self.request.owner, self.request.secret, self._fence)

    def on_lost(self, callback: OnLost) -> None:
        """Call ``callback(reason)`` in the event loop when the lease is lost; now if it was.

        What it raises is logged and keeps no other callback from being called.

        Raises:
            NotOwner: a process that forked off calls.
        """
        self._require_own_process()
        if self._lost is not None:
            isolated(callback, self._lost)
        else:
            self._on_lost.append(callback)

    async def release(self) -> None:
        """Give the names back and let the next waiter proceed. Repeating it does nothing.

        Raises:
            LeaseLost: it had been lost before; or its time was over, and nothing says that it was
                held to the end.
            NotOwner: the server says that it was not the holder any more, or a process that forked
                off calls.
            RedisUnavailable: no answer; the names stay locked until the lease ends, unless one of
                the further attempts that are made in the background gets through.
            ConfigurationError: the client runs in another event loop; nothing was done.
        """
        self._require_own_process()
        if self._lost is not None:
            raise self._lost_error(self._lost)
        if not self._released and asyncio.get_running_loop() is not self._loop:
            raise ConfigurationError("the client of this lease runs in another event loop")
        if self.leave():
            await self._keeper.give_back(self)

    def leave(self) -> bool:
        """Begin to release it, unless that was begun or it is lost (called from any thread)."""
        if self._lost is not None:
            return False
        # First, since a signal handler may raise as soon as the next step is done.
        self._released = True
        try:
            self._undone.pop()
        except IndexError:
            return False
        # Nobody is told of a loss any more. What is called may refer to the lease: without it both
        # go at once, and need no garbage collector.
        self._on_lost.clear()
        return True

    def left(self) -> None:
        """Its release began, however far that came."""
        self._undone.clear()
        self._released = True
        self._on_lost.clear()

    def lose(self, reason: LossReason) -> None:
        """End the lease (called by the keeper)."""
        if self._lost is not None or self._released:
            return
        self._lost = reason
        self._keeper.abandon(self.request)
        # Whoever must stop comes first, those that only watch last.
        for callback in self._on_lost:
            isolated(callback, reason)
        self._on_lost.clear()
        self.report_end(reason)

    def report_renewal(self, *, extended: bool) -> None:
        """Tell observers how a renewal went (called by the keeper)."""
        if self._observations:
            tell(self._observations, lambda each: each.renewed(extended=extended))

    def report_end(self, lost: LossReason | None) -> None:
        """Tell observers that it ended in order, or was found gone (called by the engine)."""
        if not self._observations:
            return
        held = now() - self._acquired_at
        if lost is None:
            tell(self._observations, lambda each: each.released(held))
        else:
            tell(self._observations, lambda each: each.lost(lost, held))

    def found_lost(self, reason: LossReason) -> LeaseLost:
        """The release found it lost: the error that says so (called by the engine)."""
        self._lost = reason
        self.report_end(reason)
        return self._lost_error(reason)

    def _require_own_process(self) -> None:
        if self._generation != _forks.generation():
            raise NotOwner(
                f"the lease of {', '.join(self.names)} is that of the process from which this one "
                "was forked"
            )

    def _lost_error(self, reason: LossReason) -> LeaseLost:
        return LeaseLost(f"the lease of {', '.join(self.names)} was lost: {_REASONS[reason]}")
