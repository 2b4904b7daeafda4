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
from fencelock._protocol import Request, Term, batches

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
# A lease that is held for longer is watched: most end before, and cost nothing.
WATCH_AFTER_SECONDS = 0.003


class Look(Protocol):
    """Finds out whether leases are held."""

    def __call__(
        self, requests: Sequence[Request], deadline: float, *, tracked: bool
    ) -> Awaitable[list[bool]]:
        """Ask by ``deadline``; with ``tracked``, also to be told of changes from then on."""
        ...


Apart = Callable[[Sequence[Kept]], Sequence[Sequence[Kept]]]


def all_together(leases: Sequence[Kept]) -> Sequence[Sequence[Kept]]:
    """One script can be about all keys of one server."""
    return [leases]


class Keeper:
    """The held leases of one client."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        renew: Renew,
        look: Look | None = None,
        apart: Apart = all_together,
    ) -> None:
        self._loop = loop
        self._renew = renew
        self._look = look
        # Which leases one script can be about.
        self._apart = apart
        # Leases that the server does not watch yet, and since when they are held.
        self._unwatched: dict[str, tuple[Kept, float]] = {}
        self._watch_timer: asyncio.TimerHandle | None = None
        # Leases that a change is told of, until somebody looks.
        self._doubted: dict[str, Kept] = {}
        # Leases of which a change was told that did not matter, since they were renewed last.
        self._alarmed: set[str] = set()
        self._looking: set[asyncio.Task[None]] = set()
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
        if self._look is not None:
            self._unwatched[lease.request.owner] = (lease, now())
            if self._watch_timer is None:
                self._watch_timer = self._loop.call_later(WATCH_AFTER_SECONDS, self._watch)
        at = min(lease.term.renew_at, lease.term.deadline)
        # A timer that is early enough stays: short leases come and go without touching it.
        if self._timer is None or at < self._timer_at:
            self._wake_at(at)

    def discard(self, lease: Kept) -> bool:
        """Forget a lease. False if it was not held any more."""
        owner = lease.request.owner
        if self._leases.pop(owner, None) is None:
            return False
        self._unwatched.pop(owner, None)
        self._alarmed.discard(owner)
        for key in lease.request.lock_keys:
            if self._holders.get(key) is lease:
                del self._holders[key]
        return True

    def forget(self, owner: str) -> None:
        """Somebody who never had the lease of this owner in hand gave it up."""
        lease = self._leases.get(owner)
        if lease is not None:
            self.end(lease, "closed")

    def end(self, lease: Kept, reason: LossReason) -> None:
        """A lease is over, and its holder is told."""
        if self.discard(lease):
            isolated(lease.lose, reason)

    def batches(self, leases: Sequence[Kept]) -> Iterator[list[Kept]]:
        """Split leases into those that one script can be about."""
        for together in self._apart(leases):
            yield from batches(together)

    def answered(
        self, batch: Sequence[Kept], wanted: Wanted, extended: list[bool], sent: float
    ) -> None:
        """The server said which leases go on that it was asked for at ``sent``."""
        for lease, (_, ttl), goes_on in zip(batch, wanted, extended, strict=True):
            if self._leases.get(lease.request.owner) is not lease:
                continue
            if goes_on:
                self._alarmed.discard(lease.request.owner)
                lease.term.start(sent, ttl)
            else:
                self.end(lease, "taken")
            isolated(_report, lease, goes_on)

    def doubt(self, keys: Sequence[str] | None) -> None:
        """Somebody else changed these keys, or any (None): look whether their leases are held.

        The same key in another database of the server looks the same, so this proves nothing.
        """
        if self._look is None or self._closed:
            return
        idle = not self._doubted
        if keys is None:
            self._doubted.update(self._leases)
        else:
            for key in keys:
                holder = self._holders.get(key)
                if holder is not None:
                    self._doubted[holder.request.owner] = holder
        if idle and self._doubted:
            # Together with those of which the same read brings news.
            self._loop.call_soon(self._look_at_doubted)

    async def close(self) -> None:
        """Stop renewing."""
        self._closed = True
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        for task in list(self._looking):
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])

    def _watch(self) -> None:
        """Have those watched that are held for long enough, and come again for the others."""
        self._watch_timer = None
        moment = now()
        due: list[Kept] = []
        for lease, since in self._unwatched.values():
            if moment - since < WATCH_AFTER_SECONDS / 2:
                # They are in order of time.
                delay = since + WATCH_AFTER_SECONDS - moment
                self._watch_timer = self._loop.call_later(delay, self._watch)
                break
            due.append(lease)
        for lease in due:
            del self._unwatched[lease.request.owner]
        self._look_at(due, tracked=True)

    def _look_at_doubted(self) -> None:
        doubted, self._doubted = self._doubted, {}
        known = [lease for owner, lease in doubted.items() if self._leases.get(owner) is lease]
        # A key that changes again and again, or that the server has no room to watch, must not
        # keep us busy: it is watched again once, and then after the next renewal.
        first = [lease for lease in known if lease.request.owner not in self._alarmed]
        again = [lease for lease in known if lease.request.owner in self._alarmed]
        self._alarmed.update([lease.request.owner for lease in first])
        self._look_at(first, tracked=True)
        self._look_at(again, tracked=False)

    def _look_at(self, leases: Sequence[Kept], *, tracked: bool) -> None:
        if self._closed:
            return
        for batch in self.batches(leases):
            asking = self._find_out(batch, tracked=tracked)
            task = self._loop.create_task(asking, name="fencelock-look")
            if not task.done():
                self._looking.add(task)
                task.add_done_callback(self._looking.discard)

    async def _find_out(self, batch: list[Kept], *, tracked: bool) -> None:
        if self._look is None:
            return
        deadline = min(lease.term.deadline for lease in batch)
        try:
            requests = [lease.request for lease in batch]
            held = await self._look(requests, deadline, tracked=tracked)
        except (RedisUnavailable, ConfigurationError) as error:
            # The next renewal looks again, or the lease ends at its deadline.
            logger.debug("%d leases were not looked at: %s", len(batch), error)
            return
        for lease, goes_on in zip(batch, held, strict=True):
            if not goes_on and self._leases.get(lease.request.owner) is lease:
                self.end(lease, "taken")

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
            await asyncio.gather(*[self._extend(batch) for batch in self.batches(due)])
        finally:
            self._renewing = False
            self._renewal = None
            self._schedule()

    async def _extend(self, batch: list[Kept]) -> None:
        wanted = wanted_of(batch)
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


def wanted_of(batch: Sequence[Kept]) -> Wanted:
    """For how long each lease is to go on from now."""
    moment = now()
    return [(lease.request, lease.term.next_ttl(moment)) for lease in batch]


def _report(lease: Kept, extended: bool) -> None:  # noqa: FBT001 (called through `isolated`)
    lease.report_renewal(extended=extended)
