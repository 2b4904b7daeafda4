"""Locks on several servers that know nothing of each other: held where a majority says so.

There is no waiting line across servers: whoever does not get a majority gives back what it got, and
tries again after a pause of random length. So nobody is served in order, and two round trips are
needed: one to take the names, one to write the highest fence of a majority back to a majority.
"""

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from fencelock import _protocol
from fencelock._clock import now
from fencelock._connection import Answer, Connection
from fencelock._debts import Debts
from fencelock._engine import Verified, hand_out, outcome
from fencelock._errors import (
    AcquireTimeout,
    ConfigurationError,
    Contended,
    FencelockError,
    NotOwner,
    RedisUnavailable,
)
from fencelock._instrumentation import Observation, tell
from fencelock._keeper import Keeper
from fencelock._lease import AsyncLease
from fencelock._link import Link
from fencelock._operations import Operations
from fencelock._proof import Claim
from fencelock._protocol import Blocked, Command, Granted, Request, Term
from fencelock._route import Fixed
from fencelock._scripts import Scripts
from fencelock._target import Target
from fencelock._topology import Quorum

# A server that does not answer costs each call so much of the TTL, and no less than the floor.
NODE_FRACTION = 1 / 20
NODE_SECONDS_MIN = 0.05
PAUSE_SECONDS_FIRST = 0.02
PAUSE_SECONDS_MAX = 0.25
_PAUSE_DOUBLINGS_MAX = 5

T = TypeVar("T")


class _Node:
    """One of the servers: a connection, and what is owed there."""

    def __init__(
        self,
        target: Target,
        loop: asyncio.AbstractEventLoop,
        make: "Callable[..., Connection]",
        on_paid: Callable[[], None],
    ) -> None:
        self.target = target
        self.connection = make(
            Fixed(target), on_push=_ignore, on_down=self._on_down, on_up=self._on_up
        )
        self.debts = Debts(loop, lambda: self.connection, on_paid)
        # Owners that may have something here. Nothing is owed of others: a server that was never
        # reached would keep whoever closes the client waiting.
        self._asked: set[str] = set()

    async def acquire(self, owner: str, command: Command, limit: float) -> Answer:
        """Ask for names, and remember that something is to be undone if that was sent."""
        self._asked.add(owner)
        try:
            return await self.connection.call(command, deadline=now() + limit, limit=limit)
        except BaseException as error:
            if not getattr(error, "reached", True):
                self._asked.discard(owner)
                # Whoever went on without this answer may have taken it for sent.
                self.debts.forgive(owner)
            raise

    def owe(self, owner: str, command: Command, seconds: float) -> None:
        """Undo what an owner may have here."""
        if owner in self._asked:
            self._asked.discard(owner)
            self.debts.owe(owner, command, seconds)

    def settled(self, owner: str) -> None:
        """It is known that an owner has nothing here."""
        self._asked.discard(owner)

    async def close(self) -> None:
        await self.debts.close()
        await self.connection.close()

    def _on_down(self) -> None:
        if len(self.debts):
            self.connection.reconnect()

    async def _on_up(self, link: Link) -> None:
        await self.debts.pay(link)


class _Tally(NamedTuple):
    """What the servers said so far."""

    yes: list[Any]
    no: list[Any]
    errors: list[Exception]

    @property
    def answered(self) -> int:
        return len(self.yes) + len(self.no)


class QuorumEngine:
    """The running parts of one client of a quorum, bound to one event loop."""

    def __init__(
        self,
        quorum: Quorum,
        scripts: Scripts,
        *,
        client_id: str,
        connect_timeout: float,
        reply_timeout: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.client_id = client_id
        self._quorum = quorum
        self._scripts = scripts
        self._connect_timeout = connect_timeout
        self._reply_timeout = reply_timeout
        self._keeper = Keeper(self._loop, self._renew)
        self._operations = Operations(
            self._loop, lambda: sum(len(node.debts) for node in self._nodes)
        )
        self._greeted: asyncio.Task[None] | None = None
        make = partial(
            Connection,
            scripts=scripts,
            channel=_protocol.CHANNEL_PREFIX + client_id,
            connect_timeout=connect_timeout,
            reply_timeout=reply_timeout,
        )
        self._nodes = [
            _Node(each, self._loop, make, self._operations.look) for each in quorum.servers
        ]

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop in which it runs."""
        return self._loop

    async def ping(self, seconds: float) -> None:
        """Raise unless a majority answers within ``seconds``, and none is unfit for locks."""
        deadline = now() + seconds
        tally = await self._poll(
            lambda node: node.connection.ping(deadline=deadline), lambda _: True, everybody=True
        )
        _raise_unfit(tally)
        if not self._granted(tally):
            raise self._too_few(tally) from tally.errors[0]

    async def acquire(
        self,
        request: Request,
        wait: float,
        max_hold: float,
        observations: tuple[Observation, ...],
        waited: float = 0.0,
    ) -> AsyncLease:
        """Obtain a lease, or leave nothing behind. A part of the wait may be over."""
        if request.kind.limit > 1:
            # Any two majorities have a server in common, which sees to it that two exclude each
            # other; that three of a limit of two had one in common is not certain.
            raise ConfigurationError("a quorum keeps exclusive and shared locks, no semaphores")
        started = now() - waited
        with self._operations:
            try:
                await self._greet(self._connect_timeout)
                request, term, fence = await self._persist(
                    request, max_hold, wait, started + wait, observations
                )
            except BaseException as error:
                said, took = outcome(error), now() - started
                tell(observations, lambda each: each.not_acquired(said, took))
                raise
        lease = AsyncLease(
            self, self._loop, request, term, fence, acquired_at=now(), observations=observations
        )
        return hand_out(lease, self._keeper, now() - started, observations)

    async def give_back(self, lease: AsyncLease) -> None:
        """Release a lease everywhere.

        Raises:
            LeaseLost: its time was over, and no majority said that it was held to the end.
            NotOwner: a majority says that it was not the holder.
            RedisUnavailable: too few answered; further attempts are made in the background.
        """
        self._keeper.discard(lease)
        began = now()
        with self._operations:
            try:
                tally = await self._poll(lambda node: self._release_at(node, lease), bool)
            except BaseException:
                self.abandon(lease.request)
                lease.report_end(None)
                raise
        if self._granted(tally):
            lease.report_end(None)
        elif self._denied(tally):
            lease.report_end("taken")
            raise NotOwner(f"{', '.join(lease.names)}: not, or no longer, held by this lease")
        else:
            if began >= lease.term.deadline:
                raise lease.found_lost("expired") from tally.errors[0]
            lease.report_end(None)
            raise self._too_few(tally) from tally.errors[0]

    def abandon(self, request: Request, *, queued: bool = False) -> None:
        """Undo a request everywhere in the background, ahead of whatever is sent later."""
        seconds = max(request.ttl, self._reply_timeout)
        command = request.release(self._scripts, queued=queued)
        for node in self._nodes:
            node.owe(request.owner, command, seconds)

    async def verify(self, claim: Claim, names: tuple[str, ...], seconds: float) -> Verified:
        """Ask whether the lease behind a claim holds all of the names at a majority."""
        command = _protocol.verify(self._scripts, claim.owner, claim.fence, names)
        deadline = now() + seconds
        await self._greet(seconds)

        async def ask(node: _Node) -> float | None:
            answer = await node.connection.call(command, deadline=deadline)
            remaining = _protocol.read_verify(answer.reply)
            if remaining is None:
                return None
            return answer.sent + remaining - _protocol.drift_margin(remaining)

        tally = await self._poll(ask, lambda until: until is not None)
        if self._granted(tally):
            # So many hold it at least until the earliest of their times.
            left = float(min(tally.yes)) - now()
            if left > 0:
                return Verified(claim.fence, left)
            raise RedisUnavailable("the answer came when what it says was over")
        if self._denied(tally):
            raise NotOwner(f"the lease behind the proof does not hold {', '.join(names)}")
        raise self._too_few(tally) from tally.errors[0]

    async def close(self) -> None:
        """Release what is held, let what is under way end within the reply timeout, disconnect."""
        closing = self._operations.close(self._close)
        for lease in self._keeper.held():
            self._keeper.end(lease, "closed")
        await asyncio.shield(closing)

    async def _close(self) -> None:
        await self._keeper.close()
        try:
            await self._operations.over(self._reply_timeout)
        finally:
            await asyncio.gather(*[node.close() for node in self._nodes])

    async def _greet(self, seconds: float) -> None:
        """Give every server time to be connected to, once, and for at most ``seconds`` here."""
        if self._greeted is None:
            self._greeted = self._loop.create_task(self._connect_all(), name="fencelock-quorum")
        if not self._greeted.done():
            await asyncio.wait([self._greeted], timeout=max(0.0, seconds))

    async def _connect_all(self) -> None:
        deadline = now() + self._connect_timeout
        opening = [
            asyncio.ensure_future(node.connection.ready(deadline=deadline)) for node in self._nodes
        ]
        await asyncio.wait(opening)
        for each in opening:
            each.exception()  # whoever asks next is told

    async def _persist(
        self,
        request: Request,
        max_hold: float,
        wait: float,
        deadline: float,
        observations: tuple[Observation, ...],
    ) -> tuple[Request, Term, int]:
        """Try until a majority is had, or the deadline has come."""
        for tries in itertools.count():
            term = Term(request.ttl, max_hold)
            try:
                return request, term, await self._try(request, term)
            except (Contended, RedisUnavailable) as error:
                self.abandon(request)
                if self._operations.closing:
                    raise RedisUnavailable("the client was closed") from error
                if now() >= deadline:
                    if wait and isinstance(error, Contended):
                        text = f"{', '.join(request.names)}: not free within {wait:g} s"
                        raise AcquireTimeout(text) from error
                    raise
            except BaseException:
                self.abandon(request)
                raise
            if tries == 0:
                tell(observations, lambda each: each.waiting(None))
            await asyncio.sleep(min(_pause(tries), max(0.0, deadline - now())))
            # Each try has a token of its own: what is still owed of the last one cannot hurt it.
            request = request.anew()
        raise AssertionError

    async def _try(self, request: Request, term: Term) -> int:
        """Take the names at a majority, and agree on a fence: what it is."""
        limit = self._limit(request)
        command = request.acquire(self._scripts, "try", 0.0)
        sent = now()

        async def ask(node: _Node) -> Granted | None:
            for _ in range(2):
                answer = await node.acquire(request.owner, command, limit)
                reply = _protocol.read_acquire(answer.reply, answer.sent)
                if isinstance(reply, Blocked):
                    answer.link.clock.read(*reply.stamp)
                    return None
                answer.link.clock.read(answer.sent, reply.server_time)
                if isinstance(reply, Granted):
                    return reply
                # Its clock was set forward, or ours stood still with the machine: known by now.
            raise RedisUnavailable("the request reached the server when its time was over")

        tally = await self._poll(ask, lambda granted: granted is not None)
        self._judge(tally, request)
        term.grant(sent, request.ttl)
        fence: int = max(granted.fence for granted in tally.yes)
        await self._agree(request, fence, limit)
        if now() >= term.deadline:
            raise RedisUnavailable("a majority answered when the lease was over")
        if self._operations.closing:
            raise RedisUnavailable("the client was closed")
        return fence

    async def _agree(self, request: Request, fence: int, limit: float) -> None:
        """Write the fence to a majority: whoever comes next meets one of them."""
        keys = (request.all_keys[0], *request.lock_keys)
        args = (request.owner, str(fence), str(_protocol.milliseconds(request.ttl)))
        command = Command(self._scripts.confirm, keys, args)

        async def ask(node: _Node) -> bool:
            answer = await node.connection.call(command, deadline=now() + limit, limit=limit)
            return answer.reply == 1

        self._judge(await self._poll(ask, bool), request)

    def _judge(self, tally: _Tally, request: Request) -> None:
        if self._granted(tally):
            return
        if self._denied(tally) or (tally.no and tally.answered >= self._quorum.majority):
            raise Contended(
                f"{', '.join(request.names)}: held by somebody else, or wanted by several at once "
                f"({len(tally.yes)} of {len(self._nodes)} servers granted it)"
            )
        _raise_unfit(tally)
        raise self._too_few(tally) from tally.errors[0]

    async def _renew(
        self, leases: Sequence[tuple[Request, float]], deadline: float
    ) -> tuple[list[bool], float]:
        command = _protocol.renew(self._scripts, leases)
        limit = min(self._limit(request) for request, _ in leases)
        until = min(deadline, now() + limit)
        sent = now()

        async def ask(node: _Node) -> list[bool]:
            answer = await node.connection.call(command, deadline=until, limit=limit)
            extended = _protocol.read_renew(answer.reply, len(leases))
            if not all(extended):
                node.connection.look_again()
            return extended

        majority, nodes = self._quorum.majority, len(self._nodes)
        # One answer is about all of them, so everybody is heard.
        tally = await self._poll(ask, lambda _: False, everybody=True)
        counts = [sum(answers) for answers in zip(*tally.no, strict=True)]
        if not counts or any(
            count < majority and len(tally.no) - count <= nodes - majority for count in counts
        ):
            raise self._too_few(tally) from next(iter(tally.errors), None)
        return [count >= majority for count in counts], sent

    async def _release_at(self, node: _Node, lease: AsyncLease) -> bool:
        command = lease.request.release(self._scripts, queued=False)
        limit = self._limit(lease.request)
        try:
            answer = await node.connection.call(command, deadline=now() + limit, limit=limit)
            released, finished = _protocol.read_release(answer.reply)
        except BaseException:
            # What it did there is not known.
            node.owe(lease.request.owner, command, max(lease.request.ttl, limit))
            raise
        if finished:
            node.settled(lease.request.owner)
        else:
            node.owe(lease.request.owner, command, max(lease.request.ttl, limit))
        return released or (answer.repeated and answer.sent < lease.term.deadline)

    async def _poll(
        self,
        ask: Callable[[_Node], Coroutine[Any, Any, T]],
        counts: Callable[[T], bool],
        *,
        everybody: bool = False,
    ) -> _Tally:
        """Ask every server at once; return when the answers of a majority are in, or all are.

        What is still under way then is carried out by its server, but never repeated.
        """
        tally = _Tally([], [], [])
        waiting: set[asyncio.Future[T]] = {asyncio.ensure_future(ask(node)) for node in self._nodes}
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    _count(each, tally, counts)
                if not everybody and (self._granted(tally) or self._denied(tally)):
                    break
        finally:
            for each in waiting:
                each.add_done_callback(_heard)
                each.cancel()
        return tally

    def _granted(self, tally: _Tally) -> bool:
        return len(tally.yes) >= self._quorum.majority

    def _denied(self, tally: _Tally) -> bool:
        """Whether there can be no majority any more, whatever the others say."""
        return len(tally.no) > len(self._nodes) - self._quorum.majority

    def _limit(self, request: Request) -> float:
        """How long one server may take: far below the TTL, since others are waiting for it."""
        return min(self._reply_timeout, max(NODE_SECONDS_MIN, request.ttl * NODE_FRACTION))

    def _too_few(self, tally: _Tally) -> RedisUnavailable:
        said = "; ".join(sorted({str(error) for error in tally.errors}))
        return RedisUnavailable(
            f"{tally.answered} of {len(self._nodes)} servers answered, and "
            f"{self._quorum.majority} are needed: {said or 'they disagree'}"
        )


def _raise_unfit(tally: _Tally) -> None:
    """Whatever the others say, a server that is not fit for locks is to be mended."""
    for error in tally.errors:
        if not isinstance(error, RedisUnavailable):
            raise error


def _count(answer: "asyncio.Future[T]", tally: _Tally, counts: Callable[[T], bool]) -> None:
    if answer.cancelled():
        tally.errors.append(RedisUnavailable("the client was closed"))
        return
    error = answer.exception()
    if isinstance(error, FencelockError):
        tally.errors.append(error)
    elif error is not None:
        raise error
    elif counts(answer.result()):
        tally.yes.append(answer.result())
    else:
        tally.no.append(answer.result())


def _heard(answer: "asyncio.Future[Any]") -> None:
    if not answer.cancelled():
        answer.exception()  # nobody waits for it any more


def _pause(tries: int) -> float:
    ceiling = min(PAUSE_SECONDS_FIRST * 2 ** min(tries, _PAUSE_DOUBLINGS_MAX), PAUSE_SECONDS_MAX)
    return random.uniform(ceiling / 4, ceiling)  # noqa: S311 (jitter)


def _ignore(*_: object) -> None:
    """Nobody waits in a line, so no news is for us."""
