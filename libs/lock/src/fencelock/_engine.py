"""What a client runs in its event loop: acquisitions, releases, renewals, and their clean-up."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from fencelock import _protocol
from fencelock._clock import now
from fencelock._connection import Connection, NotSent
from fencelock._errors import (
    AcquireTimeout,
    ConfigurationError,
    Contended,
    NotOwner,
    RedisUnavailable,
)
from fencelock._instrumentation import AcquireOutcome, Observation
from fencelock._keeper import Keeper
from fencelock._lease import AsyncLease
from fencelock._proof import Claim
from fencelock._protocol import Blocked, Command, Granted, Mode, Push, Request, Term
from fencelock._scripts import Scripts
from fencelock._target import Target
from fencelock._waiting import Waiter, WaitingRoom

logger = logging.getLogger("fencelock")


class Verified(NamedTuple):
    """A lease that was found to hold the names that were asked about."""

    fence: int
    remaining: float
    """Seconds that it still runs at least, if it is neither renewed nor released."""


class Engine:
    """The running parts of one client, bound to one event loop."""

    def __init__(
        self,
        target: Target,
        scripts: Scripts,
        *,
        client_id: str,
        connect_timeout: float,
        reply_timeout: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._scripts = scripts
        self._reply_timeout = reply_timeout
        self._room = WaitingRoom(self._loop)
        self._keeper = Keeper(self._loop, self._renew)
        self._background: set[asyncio.Task[None]] = set()
        # Calls that must not be cut off half-way when the client is closed.
        self._operations = 0
        self._closing: asyncio.Event | None = None
        self._connection = Connection(
            target,
            scripts,
            channel=_protocol.CHANNEL_PREFIX + client_id,
            connect_timeout=connect_timeout,
            reply_timeout=reply_timeout,
            on_push=self._on_push,
            # Pushes may have been missed: everybody asks again, which also reconnects.
            on_down=self._room.ask_all,
        )

    async def ping(self, seconds: float) -> None:
        """Raise :class:`RedisUnavailable` unless the server answers within ``seconds``."""
        await self._connection.ping(deadline=now() + seconds)

    async def acquire(
        self,
        request: Request,
        wait: float,
        max_hold: float,
        observations: tuple[Observation, ...],
    ) -> AsyncLease:
        """Obtain a lease, or leave nothing behind."""
        started = now()
        term = Term(ttl=request.ttl, cap=started + max_hold)
        answered = False
        self._operations += 1
        try:
            reply = await self._ask(request, term, "queue" if wait else "try", wait, started + wait)
            answered = True
            if isinstance(reply, Blocked):
                reply = await self._wait_for_turn(
                    request,
                    term,
                    reply,
                    wait=wait,
                    deadline=started + wait,
                    observations=observations,
                )
        except BaseException as error:
            for each in observations:
                each.not_acquired(_outcome(error), now() - started)
            never_sent = isinstance(error, NotSent) and not answered
            if not never_sent and not isinstance(error, Contended):
                self.abandon(request, queued=wait > 0)
            raise
        finally:
            self._room.forget(request.owner)
            self._ended()
        had = now()
        lease = AsyncLease(
            self, self._loop, request, term, reply.fence, acquired_at=had, observations=observations
        )
        self._keeper.add(lease)
        for each in observations:
            each.acquired(reply.fence, had - started)
        return lease

    async def give_back(self, lease: AsyncLease) -> None:
        """Release a lease and hand over to the next in line.

        Raises:
            NotOwner: the server says that it was not the holder.
            RedisUnavailable: no answer yet; further attempts are made in the background.
        """
        self._keeper.discard(lease)
        command = lease.request.release(self._scripts, queued=False)
        self._operations += 1
        try:
            deadline = now() + self._reply_timeout
            answer = await self._connection.call(command, deadline=deadline)
        except BaseException:
            lease.report_release(held_to_the_end=True)
            self.abandon(lease.request)
            raise
        finally:
            self._ended()
        # A repeated release finds nothing if the first one worked. That it worked, and the lease
        # had not ended before, is known from the local deadline.
        held = _protocol.read_release(answer.reply) or (
            answer.repeated and answer.sent < lease.term.deadline
        )
        lease.report_release(held_to_the_end=held)
        if not held:
            raise NotOwner(f"{', '.join(lease.names)}: not, or no longer, held by this lease")

    def abandon(self, request: Request, *, queued: bool = False) -> None:
        """Undo a request in the background, ahead of whatever this client sends next."""
        command = request.release(self._scripts, queued=queued)
        self._operations += 1
        sent = self._connection.send_now(command)
        task = self._loop.create_task(self._undo(request, command, sent), name="fencelock-undo")
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def verify(self, claim: Claim, names: tuple[str, ...], seconds: float) -> Verified:
        """Ask whether the lease behind a claim holds all of the names."""
        command = _protocol.verify(self._scripts, claim.owner, claim.fence, names)
        answer = await self._connection.call(command, deadline=now() + seconds)
        remaining = _protocol.read_verify(answer.reply)
        if remaining is None:
            raise NotOwner(f"the lease behind the proof does not hold {', '.join(names)}")
        left = answer.sent + remaining - _protocol.drift_margin(remaining) - now()
        return Verified(claim.fence, max(0.0, left))

    async def close(self) -> None:
        """Release what is held, let what is under way end within the reply timeout, disconnect."""
        self._closing = asyncio.Event()
        await self._keeper.close()
        for lease in self._keeper.held():
            self._keeper.discard(lease)
            lease.lose("closed")
        self._room.ask_all()
        try:
            async with asyncio.timeout(self._reply_timeout):
                while self._operations:
                    self._closing.clear()
                    await self._closing.wait()
        except TimeoutError:
            logger.warning("closed with %d operations under way", self._operations)
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)
        await self._connection.close()

    async def _ask(
        self, request: Request, term: Term, mode: Mode, wait: float, deadline: float
    ) -> Granted | Blocked:
        if mode == "queue":
            self._room.expect(request.owner)
        answer = await self._connection.call(
            request.acquire(self._scripts, mode, wait),
            # Near the end of the wait an answer still gets its time.
            deadline=max(deadline, now() + self._reply_timeout),
            repeat=partial(request.acquire, self._scripts, "again" if wait else "try", wait),
        )
        reply = _protocol.read_acquire(answer.reply, answer.sent)
        if isinstance(reply, Granted):
            term.start(answer.sent, reply.lease)
        return reply

    async def _wait_for_turn(
        self,
        request: Request,
        term: Term,
        reply: Blocked,
        *,
        wait: float,
        deadline: float,
        observations: tuple[Observation, ...],
    ) -> Granted:
        if not reply.queued:
            _report_blocker(reply, observations)
            raise Contended(f"{', '.join(request.names)}: held, or waited for, by somebody else")
        for each in observations:
            each.waiting(reply.blocker)
        waiter = Waiter(self._loop, request, reply.stamp)
        self._room.enter(waiter)
        try:
            while self._closing is None:
                self._room.blocked(waiter, reply)
                if not await waiter.woken(deadline) and self._closing is None:
                    raise AcquireTimeout(f"{', '.join(request.names)}: not free within {wait:g} s")
                if (pushed := self._accept_push(waiter, term, observations)) is not None:
                    return pushed
                found = await self._ask(request, term, "again", wait, deadline)
                if found.lost_place:
                    self._room.ask_mates(waiter)
                if isinstance(found, Granted):
                    return found
                reply = found
                waiter.stamp = reply.stamp
                _report_blocker(reply, observations)
            raise RedisUnavailable("the client was closed")
        finally:
            self._room.leave(waiter)

    def _accept_push(
        self, waiter: Waiter, term: Term, observations: tuple[Observation, ...]
    ) -> Granted | None:
        """Take the lease that was pushed, unless it is so old that asking again is safer."""
        push, waiter.push = waiter.push, None
        if push is None or push.granted.server_time <= waiter.stamp[1]:
            # Older than the last answer, which knew of no such lease (any more).
            return None
        term.start_pushed(waiter.stamp, push.granted, received=waiter.granted_at)
        if now() >= term.deadline:
            return None
        _report_blocker(push, observations)
        return push.granted

    async def _undo(
        self, request: Request, command: Command, sent: asyncio.Future[object] | None
    ) -> None:
        deadline = now() + max(request.ttl, self._reply_timeout)
        try:
            if sent is not None and await self._connection.settled(sent):
                return
            await self._connection.call(command, deadline=deadline)
        except (RedisUnavailable, ConfigurationError) as error:
            logger.warning("%s stay locked until the lease ends: %s", request.names, error)
        finally:
            self._ended()

    def _ended(self) -> None:
        self._operations -= 1
        if self._closing is not None and self._operations == 0:
            self._closing.set()

    async def _renew(
        self, leases: Sequence[tuple[Request, float]], deadline: float
    ) -> tuple[list[bool], float]:
        command = _protocol.renew(self._scripts, leases)
        answer = await self._connection.call(command, deadline=deadline)
        return _protocol.read_renew(answer.reply, len(leases)), answer.sent

    def _on_push(self, message: object) -> None:
        news = _protocol.read_push(message)
        if news is not None:
            self._room.pushed(news)


def _report_blocker(news: Blocked | Push, observations: tuple[Observation, ...]) -> None:
    if news.blocker is not None:
        for each in observations:
            each.blocked_by(news.blocker)


def _outcome(error: BaseException) -> AcquireOutcome:
    match error:
        case Contended():
            return "contended"
        case AcquireTimeout():
            return "timeout"
        case asyncio.CancelledError():
            return "cancelled"
    return "error"
