"""Keeps the leases of one process: renews them together, and ends those whose time is up.

One timer serves all of them. Whether a lease still runs is decided by the local clock alone, so a
server that never answers cannot keep a holder believing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Protocol

from fencelock._clock import now
from fencelock._errors import ConfigurationError, RedisUnavailable
from fencelock._instrumentation import LossReason
from fencelock._isolation import isolated
from fencelock._protocol import RENEWED_KEYS_MAX, Request, Term

logger = logging.getLogger("fencelock")


class Kept(Protocol):
    """What the keeper needs to know of a lease."""

    request: Request
    term: Term

    def lose(self, reason: LossReason) -> None:
        """End the lease: its time is up or somebody else has it."""

    def report_renewal(self, *, extended: bool) -> None:
        """Tell observers how a renewal went."""


Wanted = list[tuple[Request, float]]
Renew = Callable[[Sequence[tuple[Request, float]], float], Awaitable[tuple[list[bool], float]]]


class Keeper:
    """The held leases of one client."""

    def __init__(self, loop: asyncio.AbstractEventLoop, renew: Renew) -> None:
        self._loop = loop
        self._renew = renew
        self._leases: dict[str, Kept] = {}
        self._holders: dict[str, Kept] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._renewing = False
        self._renewal: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._leases)

    def __contains__(self, owner: str) -> bool:
        return owner in self._leases

    def held(self) -> list[Kept]:
        """The leases that are held now."""
        return list(self._leases.values())

    def add(self, lease: Kept) -> None:
        """Look after a lease from now on. Whoever held one of its names until now has lost it."""
        for key in lease.request.lock_keys:
            former = self._holders.get(key)
            if former is not None and former is not lease:
                self.end(former, "taken")
            self._holders[key] = lease
        self._leases[lease.request.owner] = lease
        at = min(lease.term.renew_at, lease.term.deadline)
        # A timer that is early enough stays: short leases come and go without touching it.
        if self._timer is None or at < self._timer_at:
            self._wake_at(at)

    def discard(self, lease: Kept) -> bool:
        """Forget a lease. False if it was not held any more."""
        if self._leases.pop(lease.request.owner, None) is None:
            return False
        for key in lease.request.lock_keys:
            if self._holders.get(key) is lease:
                del self._holders[key]
        return True

    def end(self, lease: Kept, reason: LossReason) -> None:
        """A lease is over, and its holder is told."""
        if self.discard(lease):
            isolated(lease.lose, reason)

    def batches(self, leases: Sequence[Kept]) -> Iterator[tuple[list[Kept], Wanted]]:
        """Split leases into as many as one script renews, each with what to ask for."""
        batch: list[Kept] = []
        keys = 0
        for lease in leases:
            count = len(lease.request.lock_keys)
            if batch and keys + count > RENEWED_KEYS_MAX:
                yield batch, _wanted(batch)
                batch, keys = [], 0
            batch.append(lease)
            keys += count
        if batch:
            yield batch, _wanted(batch)

    def answered(
        self, batch: Sequence[Kept], wanted: Wanted, extended: list[bool], sent: float
    ) -> None:
        """The server said which leases go on that it was asked for at ``sent``."""
        for lease, (_, ttl), goes_on in zip(batch, wanted, extended, strict=True):
            if self._leases.get(lease.request.owner) is not lease:
                continue
            if goes_on:
                lease.term.start(sent, ttl)
            else:
                self.end(lease, "taken")
            isolated(_report, lease, goes_on)

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
                self.end(lease, "max_hold" if lease.term.capped else "expired")
        if not self._renewing and not self._closed:
            self._start_renewal(moment)
        self._schedule()

    def _schedule(self) -> None:
        if not self._leases or self._closed:
            return
        at = min(lease.term.deadline for lease in self._leases.values())
        if not self._renewing:
            at = min(at, *(lease.term.renew_at for lease in self._leases.values()))
        self._wake_at(at)

    def _start_renewal(self, moment: float) -> None:
        if not any(moment >= lease.term.renew_at for lease in self._leases.values()):
            return
        # Those that are due within half an interval come along, so that all share one call.
        due = [
            lease
            for lease in self._leases.values()
            if moment >= lease.term.renew_at - lease.term.ttl / 6
        ]
        # Said before the task is made: an eager one may be over when it is.
        self._renewing = True
        task = self._loop.create_task(self._run(due), name="fencelock-renew")
        self._renewal = None if task.done() else task

    async def _run(self, due: list[Kept]) -> None:
        try:
            await asyncio.gather(*[self._extend(*batch) for batch in self.batches(due)])
        finally:
            self._renewing = False
            self._renewal = None
            self._schedule()

    async def _extend(self, batch: list[Kept], wanted: Wanted) -> None:
        deadline = min(lease.term.deadline for lease in batch)
        try:
            extended, sent = await self._renew(wanted, deadline)
        except (RedisUnavailable, ConfigurationError) as error:
            # Not lost yet: the timer ends each lease at its own deadline, if nothing gets through.
            logger.warning("%d leases were not renewed: %s", len(batch), error)
            for lease in batch:
                lease.term.postpone(now())
                isolated(_report, lease, False)  # noqa: FBT003 (it was not extended)
            return
        self.answered(batch, wanted, extended, sent)


def _wanted(batch: Sequence[Kept]) -> Wanted:
    moment = now()
    return [(lease.request, lease.term.next_ttl(moment)) for lease in batch]


def _report(lease: Kept, extended: bool) -> None:  # noqa: FBT001 (called through `isolated`)
    lease.report_renewal(extended=extended)
