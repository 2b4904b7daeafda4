"""What a client runs in its event loop: acquisitions, releases, renewals, and their clean-up."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple, TypedDict

import hiredis

from fencelock import _protocol
from fencelock._clock import now
from fencelock._cluster import ClusterConnection
from fencelock._connection import Connection
from fencelock._debts import TICKET_SECONDS, Debts
from fencelock._errors import (
    AcquireTimeout,
    Contended,
    NotOwner,
    RedisUnavailable,
)
from fencelock._instrumentation import AcquireOutcome, Observation, tell
from fencelock._keeper import Keeper, Kept, all_together, wanted_of
from fencelock._lease import AsyncLease
from fencelock._link import Link
from fencelock._operations import Operations
from fencelock._proof import Claim
from fencelock._protocol import Blocked, Changed, Command, Granted, Mode, Push, Request, Term
from fencelock._replication import Replication
from fencelock._route import route_to
from fencelock._scripts import Scripts
from fencelock._slots import slot_of
from fencelock._spare import Spare
from fencelock._topology import Cluster, Sentinels, Single
from fencelock._waiting import Waiter, WaitingRoom

# What is granted about when the server dropped its data is handed out a little later: every holder
# is told at the same time as we are, and needs a round trip to be sure.
SETTLE_SECONDS = 0.02
# The channel of a connection that asks replicas only.
WITNESS = ".w"
HELD_OR_WAITED_FOR = "{}: held, or waited for, by somebody else"


class Verified(NamedTuple):
    """A lease that was found to hold the names that were asked about."""

    fence: int
    remaining: float
    """Seconds that it still runs at least, if it is neither renewed nor released."""


class _Ears(TypedDict):
    """What a connection tells."""

    on_push: Callable[[object], None]
    on_down: Callable[[], None]
    on_up: Callable[[Link], Awaitable[None]]


class Engine:
    """The running parts of one client, bound to one event loop."""

    def __init__(
        self,
        where: Single | Sentinels | Cluster,
        scripts: Scripts,
        *,
        client_id: str,
        connect_timeout: float,
        reply_timeout: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.client_id = client_id
        self._scripts = scripts
        self._reply_timeout = reply_timeout
        self._room = WaitingRoom(self._loop)
        apart = by_slot if isinstance(where, Cluster) else all_together
        self._keeper = Keeper(self._loop, self._renew, self._look, apart)
        self._operations = Operations(self._loop, lambda: len(self._debts))
        self._debts = Debts(
            self._loop,
            lambda: self._connection,
            self._operations.look,
            replicated=not isinstance(where, Single),
        )
        self._settled_at = 0.0
        self._pushes_count = not isinstance(where, Cluster)
        self._connection: Connection | ClusterConnection
        self._replication: Replication | None = None
        channel = _protocol.CHANNEL_PREFIX + client_id
        ears: _Ears = {"on_push": self._on_push, "on_down": self._on_down, "on_up": self._on_up}
        if isinstance(where, Cluster):
            self._connection = ClusterConnection(
                where,
                scripts,
                channel=channel,
                connect_timeout=connect_timeout,
                reply_timeout=reply_timeout,
                **ears,
            )
            return
        connect = partial(
            Connection,
            route_to(where),
            scripts,
            connect_timeout=connect_timeout,
            reply_timeout=reply_timeout,
        )
        self._connection = connect(channel=channel, **ears)
        if where.replicas:
            witness = connect(
                channel=channel + WITNESS, on_push=_ignore, on_down=_ignore, on_up=_nothing
            )
            self._replication = Replication(self._loop, witness, scripts, where.replicas)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop in which it runs."""
        return self._loop

    @property
    def scripts(self) -> Scripts:
        """What it runs at the server."""
        return self._scripts

    @property
    def settled(self) -> bool:
        """Whether all who held know by now what the server forgot."""
        return now() >= self._settled_at

    async def ping(self, seconds: float) -> None:
        """Raise :class:`RedisUnavailable` unless the server answers within ``seconds``."""
        await self._connection.ping(deadline=now() + seconds)

    async def acquire(
        self,
        request: Request,
        wait: float,
        max_hold: float,
        observations: tuple[Observation, ...],
        waited: float = 0.0,
    ) -> AsyncLease:
        """Obtain a lease, or leave nothing behind. A part of the wait may be over."""
        started = now() - waited
        term = Term(request.ttl, max_hold)
        with self._operations:
            try:
                mode: Mode = "queue" if wait else "try"
                granted = await self._ask(request, term, mode, wait, started + wait)
                if not (type(granted) is Granted and self._stands(term)):
                    granted = await self._insist(
                        request,
                        term,
                        granted,
                        wait=wait,
                        deadline=started + wait,
                        observations=observations,
                    )
                if self._replication is not None:
                    await self._replication.confirm(request, term, self.limit(request))
                    self._require_lasting(request, term)
            except BaseException as error:
                never_sent = not getattr(error, "reached", True) and not term.granted
                if request.since or not (never_sent or isinstance(error, Contended)):
                    self.abandon(request, queued=wait > 0)
                said, took = outcome(error), now() - started
                tell(observations, lambda each: each.not_acquired(said, took))
                raise
            finally:
                self._room.forget(request.owner)
        lease = AsyncLease(
            self,
            self._loop,
            request,
            term,
            granted.fence,
            acquired_at=now(),
            observations=observations,
        )
        return hand_out(lease, self._keeper, now() - started, observations)

    def _require_lasting(self, request: Request, term: Term) -> None:
        """Hand out nothing that nobody looks after, or that was over before it could be.

        Raises:
            RedisUnavailable: the client was closed meanwhile, or the time of the lease is over.
        """
        if self._operations.closing:
            raise RedisUnavailable("the client was closed")
        if now() >= term.deadline:
            text = f"{', '.join(request.names)}: the grant was confirmed when its lease was over"
            raise RedisUnavailable(text)

    async def give_back(self, lease: AsyncLease, *, repeated: bool = False) -> None:
        """Release a lease and hand over to the next in line.

        Args:
            lease: what to release.
            repeated: an earlier attempt may have reached the server.

        Raises:
            LeaseLost: its time was over, and the server did not say that it was held to the end.
            NotOwner: the server says that it was not the holder.
            RedisUnavailable: no answer yet; further attempts are made in the background.
        """
        self._keeper.discard(lease)
        command = lease.request.release(self._scripts, queued=False)
        began = now()
        with self._operations:
            try:
                answer = await self._connection.call(
                    command, deadline=began + self._reply_timeout, limit=self.limit(lease.request)
                )
                released, finished = _protocol.read_release(answer.reply)
            except BaseException as error:
                self.abandon(lease.request)
                if began >= lease.term.deadline and isinstance(error, RedisUnavailable):
                    raise lease.found_lost("expired") from error
                lease.report_end(None)
                raise
        self._released(lease, command, finished=finished)
        # A repeated release finds nothing if the first one worked. That it worked, and the lease
        # had not ended before, is known from the local deadline.
        repeated = repeated or answer.repeated
        held = released or (repeated and answer.sent < lease.term.deadline)
        lease.report_end(None if held else "taken")
        if not held:
            raise NotOwner(f"{', '.join(lease.names)}: not, or no longer, held by this lease")

    def returned(self, lease: AsyncLease, command: Command, *, finished: bool) -> None:
        """The server answered a release that was sent beside this client's connection."""
        self._keeper.discard(lease)
        self._released(lease, command, finished=finished)

    def _released(self, lease: AsyncLease, command: Command, *, finished: bool) -> None:
        if not finished:
            self.abandon(lease.request)
        else:
            self._debts.paid(lease.request.owner, command, lease.request.ttl)

    def abandon(self, request: Request, *, queued: bool = False) -> None:
        """Undo a request in the background, ahead of whatever this client sends next."""
        seconds = max(request.ttl, self._reply_timeout, TICKET_SECONDS if queued else 0.0)
        command = request.release(self._scripts, queued=queued)
        self._debts.owe(request.owner, command, seconds)

    def lease(self, request: Request, term: Term, fence: int) -> AsyncLease:
        """A lease that nobody observes, to be adopted."""
        return AsyncLease(
            self, self._loop, request, term, fence, acquired_at=now(), observations=()
        )

    def adopt(self, lease: AsyncLease, link: Link) -> None:
        """Look after a lease that was obtained beside a link of this client."""
        if self._operations.closing:
            lease.lose("closed")
        elif not self.talks_over(link):
            # Leases are looked at when a link is replaced, and this one was not.
            lease.lose("taken")
        else:
            self._keeper.add(lease)

    def withdraw(self, request: Request) -> None:
        """Undo a request that was made beside this client's connection, however far it came."""
        self._keeper.forget(request.owner)
        self.abandon(request)

    async def spare(self) -> Spare | None:
        """A connection for a thread that blocks; see :meth:`Connection.spare`.

        None too where locks are kept on several servers, or replicas are asked.
        """
        if self._replication is not None or not isinstance(self._connection, Connection):
            return None
        return await self._connection.spare()

    def talks_over(self, link: Link) -> bool:
        """Whether this is the link over which it talks now."""
        return isinstance(self._connection, Connection) and self._connection.uses(link)

    def undisturbed(self, link: Link) -> bool:
        """Whether locks may be asked for beside this link: nothing must come before it."""
        return (
            not self._operations.closing
            and not len(self._debts)
            and self.settled
            and isinstance(self._connection, Connection)
            and self._connection.sure(link)
        )

    def disown(self, identity: tuple[int, str]) -> None:
        """Have the server drop what a spare connection has under way."""
        if isinstance(self._connection, Connection):
            self._connection.disown(identity)

    async def verify(self, claim: Claim, names: tuple[str, ...], seconds: float) -> Verified:
        """Ask whether the lease behind a claim holds all of the names."""
        command = _protocol.verify(self._scripts, claim.owner, claim.fence, names)
        deadline = now() + seconds
        while True:
            answer = await self._connection.call(command, deadline=deadline)
            remaining = _protocol.read_verify(answer.reply)
            if remaining is None:
                raise NotOwner(f"the lease behind the proof does not hold {', '.join(names)}")
            left = answer.sent + remaining - _protocol.drift_margin(remaining) - now()
            if left > 0:
                return Verified(claim.fence, left)
            if now() >= deadline:
                raise RedisUnavailable("the answer came when what it says was over")

    async def close(self) -> None:
        """Release what is held, let what is under way end within the reply timeout, disconnect.

        It goes on if the caller is cancelled, and a second call waits for the same end.
        """
        closing = self._operations.close(self._close)
        # Those that hold are told before anything else happens, the caller among them.
        for lease in self._keeper.held():
            self._keeper.end(lease, "closed")
        await asyncio.shield(closing)

    async def _close(self) -> None:
        await self._keeper.close()
        self._room.ask_all()
        try:
            await self._operations.over(self._reply_timeout)
        finally:
            await self._debts.close()
            if self._replication is not None:
                await self._replication.close()
            await self._connection.close()

    def _stands(self, term: Term) -> bool:
        """Whether what was granted now may be handed out."""
        return not self._operations.closing and self._settled_at <= now() < term.deadline

    async def _insist(
        self,
        request: Request,
        term: Term,
        reply: Granted | Blocked,
        *,
        wait: float,
        deadline: float,
        observations: tuple[Observation, ...],
    ) -> Granted:
        """Go on until something may be handed out; ``reply`` is the first answer."""
        settled = waited = False
        while True:
            if isinstance(reply, Blocked):
                _report_wait(reply, observations, again=waited)
                waited = True
                reply = await self._wait_for_turn(
                    request, term, reply, wait=wait, deadline=deadline, observations=observations
                )
            if self._operations.closing:
                raise RedisUnavailable("the client was closed")
            mode: Mode = "again"
            if not settled and now() < self._settled_at:
                # The server lost its data. Those who held before are told first; and whether this
                # grant came before or after is asked again. Once: somebody may go on flushing.
                settled = True
                await asyncio.sleep(SETTLE_SECONDS)
                mode = "again" if wait else "try"
            elif now() < term.deadline:
                return reply
            elif now() >= deadline:
                # It came when it was over already: nobody may act on it.
                text = f"{', '.join(request.names)}: the grant came when its lease was over"
                raise AcquireTimeout(text) if wait else RedisUnavailable(text)
            reply = await self._ask(request, term, mode, wait, deadline)

    def limit(self, request: Request) -> float:
        """How long a reply about one lease may take: not so long that its renewal comes late."""
        return min(self._reply_timeout, request.reply_limit)

    async def _ask(
        self, request: Request, term: Term, mode: Mode, wait: float, deadline: float
    ) -> Granted | Blocked:
        if mode == "queue":
            self._room.expect(request.owner)
        scripts = self._scripts
        while True:
            answer = await self._connection.call(
                request.acquire(scripts, mode, wait),
                # Near the end of the wait an answer still gets its time.
                deadline=max(deadline, now() + self._reply_timeout),
                limit=self.limit(request),
                repeat=lambda: request.acquire(scripts, "again" if wait else "try", wait),
            )
            reply = _protocol.read_acquire(answer.reply, answer.sent)
            if isinstance(reply, Granted):
                answer.link.clock.read(answer.sent, reply.server_time)
                term.grant(answer.sent, reply.lease)
                return reply
            if isinstance(reply, Blocked):
                answer.link.clock.read(*reply.stamp)
                request.since = reply.since
                return reply
            # The server's clock was set forward, or the request was long on its way.
            answer.link.clock.read(answer.sent, reply.server_time)
            if now() >= max(deadline, answer.sent + self._reply_timeout):
                raise RedisUnavailable("the request reached the server when its time was over")

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
            raise Contended(HELD_OR_WAITED_FOR.format(", ".join(request.names)))
        waiter = Waiter(self._loop, request, reply.stamp)
        self._room.enter(waiter)
        try:
            while not self._operations.closing:
                self._room.blocked(waiter, reply)
                if not await waiter.woken(deadline) and not self._operations.closing:
                    raise AcquireTimeout(f"{', '.join(request.names)}: not free within {wait:g} s")
                if (pushed := self._accept_push(waiter, term, observations)) is not None:
                    return pushed
                found = await self._ask(request, term, "again", wait, deadline)
                if found.lost_place:
                    self._room.lost_place(waiter)
                waiter.resyncing = False
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
        """Take the lease that was pushed, unless asking again is safer.

        It is when the push is old; and on a Cluster, where any node passes on what another one
        published, whose clock and whose idea of who listens are not those of the node we asked.
        """
        push, waiter.push = waiter.push, None
        if not self._pushes_count:
            return None
        if push is None or push.granted.server_time <= waiter.stamp[1]:
            # Older than the last answer, which knew of no such lease (any more).
            return None
        term.grant_pushed(waiter.stamp, push.granted, received=waiter.granted_at)
        if now() >= term.deadline:
            return None
        _report_blocker(push, observations)
        return push.granted

    async def _renew(
        self, leases: Sequence[tuple[Request, float]], deadline: float
    ) -> tuple[list[bool], float]:
        command = _protocol.renew(self._scripts, leases)
        limit = min(self.limit(request) for request, _ in leases)
        answer = await self._connection.call(command, deadline=deadline, limit=limit)
        extended = _protocol.read_renew(answer.reply, len(leases))
        if not all(extended):
            # A lease that vanished before its time may have been evicted.
            self._connection.look_again()
        return extended, answer.sent

    async def _look(
        self, requests: Sequence[Request], deadline: float, *, tracked: bool
    ) -> list[bool]:
        command = _protocol.look(requests, tracked=tracked)
        if not self._connection.tracks(command):
            # The answer would be old at once, and the next renewal asks anyhow.
            return [True] * len(requests)
        limit = min(self.limit(request) for request in requests)
        answer = await self._connection.call(command, deadline=deadline, limit=limit)
        held = _protocol.read_look(answer.reply, requests)
        if not all(held):
            self._connection.look_again()
        return held

    def _on_push(self, message: object) -> None:
        news = _protocol.read_push(message)
        if isinstance(news, Changed):
            self._keeper.doubt(news.keys)
            if news.keys is None:
                self._settled_at = now() + SETTLE_SECONDS
                # With the lines those are gone who would hand over to us.
                self._room.ask_first()
            return
        if news is None or self._room.pushed(news) or not isinstance(news, Push):
            return
        if news.owner not in self._keeper and news.bodies:
            # Nobody waits for it any more: the next in line shall have it.
            command = _protocol.give_back(self._scripts, news.owner, news.bodies)
            self._debts.owe(news.owner, command, self._reply_timeout)

    def _on_down(self) -> None:
        # Pushes may have been missed: everybody asks again.
        self._room.ask_all()
        self._debts.recall()
        if len(self._keeper) or len(self._debts):
            self._connection.reconnect()

    async def _on_up(self, link: Link) -> None:
        """On a new connection, before it is used: return what is owed, look what is still held.

        The server may have lost its data. Those that hold must know before others ask for the same.
        """
        await self._debts.pay(link)
        for batch in self._keeper.batches(self._keeper.held()):
            sent = now()
            wanted = wanted_of(batch)
            command = _protocol.renew(self._scripts, wanted)
            if not self._connection.serves(link, command):
                continue
            reply = await self._connection.evaluate(link, command)
            if not isinstance(reply, hiredis.ReplyError):
                extended = _protocol.read_renew(reply, len(batch))
                self._keeper.answered(batch, wanted, extended, sent)


def hand_out(
    lease: AsyncLease, keeper: Keeper, waited: float, observations: tuple[Observation, ...]
) -> AsyncLease:
    """Look after a lease, and tell observers of it.

    Raises:
        LeaseLost: an observer blocked for so long that it was over.
    """
    keeper.add(lease)
    if observations:
        try:
            tell(observations, lambda each: each.acquired(lease.fence, waited))
        except BaseException:
            keeper.end(lease, "closed")
            raise
        if now() >= lease.term.deadline:
            # An observer took its time.
            keeper.end(lease, "expired")
            lease.check()
    return lease


def by_slot(leases: Sequence[Kept]) -> Sequence[Sequence[Kept]]:
    """One script is about one slot of a Cluster."""
    slots: dict[int, list[Kept]] = {}
    for lease in leases:
        slots.setdefault(slot_of(lease.request.lock_keys[0]), []).append(lease)
    return list(slots.values())


def _ignore(*_: object) -> None:
    """A connection that neither waits nor holds hears nothing."""


async def _nothing(_: Link) -> None:
    """Nor does it have anything to look after."""


def _report_wait(news: Blocked, observations: tuple[Observation, ...], *, again: bool) -> None:
    """That it stands in line is told once, also if what it was granted then was no use."""
    if again or not news.queued:
        _report_blocker(news, observations)
    else:
        tell(observations, lambda each: each.waiting(news.blocker))


def _report_blocker(news: Blocked | Push, observations: tuple[Observation, ...]) -> None:
    blocker = news.blocker
    if blocker is not None:
        tell(observations, lambda each: each.blocked_by(blocker))


def outcome(error: BaseException) -> AcquireOutcome:
    """How observers call the end of an acquisition."""
    match error:
        case Contended():
            return "contended"
        case AcquireTimeout():
            return "timeout"
        case asyncio.CancelledError():
            return "cancelled"
    return "error"
