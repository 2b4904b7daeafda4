"""Keeps the leases of one process: renews them together, and ends those whose time is up.

One timer serves all of them. Whether a lease still runs is decided by the local clock alone, so a
server that never answers cannot keep a holder believing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from fencelock._clock import now
from fencelock._errors import ConfigurationError, RedisUnavailable
from fencelock._instrumentation import LossReason
from fencelock._protocol import Request, Term

logger = logging.getLogger("fencelock")


class Kept(Protocol):
    """What the keeper needs to know of a lease."""

    request: Request
    term: Term

    def lose(self, reason: LossReason) -> None:
        """End the lease: its time is up or somebody else has it."""

    def report_renewal(self, *, extended: bool) -> None:
        """Tell observers how a renewal went."""


Renew = Callable[[Sequence[tuple[Request, float]], float], Awaitable[tuple[list[bool], float]]]


class Keeper:
    """The held leases of one client."""

    def __init__(self, loop: asyncio.AbstractEventLoop, renew: Renew) -> None:
        self._loop = loop
        self._renew = renew
        self._leases: dict[str, Kept] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._renewal: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._leases)

    def held(self) -> list[Kept]:
        """The leases that are held now."""
        return list(self._leases.values())

    def add(self, lease: Kept) -> None:
        """Look after a lease from now on."""
        self._leases[lease.request.owner] = lease
        at = min(lease.term.renew_at, lease.term.deadline)
        # A timer that is early enough stays: short leases come and go without touching it.
        if self._timer is None or at < self._timer_at:
            self._wake_at(at)

    def discard(self, lease: Kept) -> bool:
        """Forget a lease. False if it was not held any more."""
        return self._leases.pop(lease.request.owner, None) is not None

    async def close(self) -> None:
        """Stop renewing."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - now()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        moment = now()
        for lease in self.held():
            if moment >= lease.term.deadline:
                self._end(lease, "max_hold" if moment >= lease.term.cap else "expired")
        if self._renewal is None:
            self._start_renewal(moment)
        self._schedule()

    def _schedule(self) -> None:
        if not self._leases or self._closed:
            return
        at = min(lease.term.deadline for lease in self._leases.values())
        if self._renewal is None:
            at = min(at, *(lease.term.renew_at for lease in self._leases.values()))
        self._wake_at(at)

    def _start_renewal(self, moment: float) -> None:
        if not any(moment >= lease.term.renew_at for lease in self._leases.values()):
            return
        # Those that are due within half an interval come along, so that all share one call.
        batch = [
            lease
            for lease in self._leases.values()
            if moment >= lease.term.renew_at - lease.term.ttl / 6
        ]
        if batch:
            self._renewal = self._loop.create_task(self._run(batch), name="fencelock-renew")

    async def _run(self, batch: list[Kept]) -> None:
        try:
            await self._extend(batch)
        finally:
            self._renewal = None
            self._schedule()

    async def _extend(self, batch: list[Kept]) -> None:
        moment = now()
        wanted = [(lease.request, lease.term.next_ttl(moment)) for lease in batch]
        deadline = min(lease.term.deadline for lease in batch)
        try:
            extended, sent = await self._renew(wanted, deadline)
        except (RedisUnavailable, ConfigurationError) as error:
            # Not lost yet: the timer ends each lease at its own deadline, if nothing gets through.
            logger.warning("%d leases were not renewed: %s", len(batch), error)
            for lease in batch:
                lease.term.postpone(now())
                lease.report_renewal(extended=False)
            return
        for lease, (_, ttl), goes_on in zip(batch, wanted, extended, strict=True):
            if lease.request.owner not in self._leases:
                continue
            lease.report_renewal(extended=goes_on)
            if goes_on:
                lease.term.start(sent, ttl)
            else:
                self._end(lease, "taken")

    def _end(self, lease: Kept, reason: LossReason) -> None:
        if self.discard(lease):
            lease.lose(reason)
