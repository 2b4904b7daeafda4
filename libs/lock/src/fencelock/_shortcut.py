"""The short way to a free lock for a thread: without the event loop.

Each call that goes through the client's loop wakes its thread, and that wakes the caller: two
switches of threads, which cost more than the call. So one thread at a time may ask for names that
are free, and give them back, over a connection of its own. Nothing else goes this way: who has to
wait, kinds other than the exclusive lock, and all that went wrong is for the loop, which renews the
leases from here as it does its own.

Two connections have no common order. What was sent on this one and not answered is therefore ended
for certain (the server is told to drop the connection) before the loop undoes it or asks anew; and
nothing is asked here while the loop still owes the server a release.
"""

import logging
import threading
from functools import partial

import hiredis

from fencelock import _protocol
from fencelock._client import Asked, AsyncLockClient
from fencelock._clock import now
from fencelock._connection import words_of
from fencelock._engine import HELD_OR_WAITED_FOR, Engine
from fencelock._errors import ConfigurationError, Contended, NotOwner, RedisUnavailable
from fencelock._kinds import EXCLUSIVE
from fencelock._lease import AsyncLease
from fencelock._loop_thread import LoopThread
from fencelock._protocol import Blocked, Granted, Late, Request, Term
from fencelock._spare import Spare

logger = logging.getLogger("fencelock")

# Who takes a lock or two needs no second connection.
OPEN_AFTER_CALLS = 3
RETRY_SECONDS = 5.0
# How long a call takes at most to notice that its connection was shut down.
INTERRUPTED_SECONDS = 1.0

# What a call on a connection that breaks, or its reply, can fail with.
_Failed = (OSError, hiredis.HiredisError, RedisUnavailable)


class Shortcut:
    """The short way of one blocking client."""

    def __init__(self, thread: LoopThread, client: AsyncLockClient) -> None:
        self._thread = thread
        self._client = client
        # Who has it uses the connection. Nobody waits for it: there is the usual way.
        self._guard = threading.Lock()
        self._spare: Spare | None = None
        self._calls = 0
        self._opening = False
        self._open_at = 0.0
        self._closed = False

    def acquire(self, asked: Asked) -> AsyncLease | None:
        """Take names that are free. None if the usual way is to be gone; nothing is left behind.

        Raises:
            Contended: they are not free, and the caller does not wait.
        """
        engine = self._client.engine
        if not isinstance(engine, Engine) or asked.kind is not EXCLUSIVE or self._client.observed:
            return None
        if self._closed or not self._guard.acquire(blocking=False):
            return None
        lease: AsyncLease | None = None
        try:
            try:
                spare = self._at_hand(engine)
                if spare is not None:
                    lease = self._take(engine, spare, asked)
            finally:
                self._guard.release()
        except BaseException:
            # A signal handler raised when it was had already.
            if lease is not None and lease.leave():
                self._thread.spawn(partial(engine.give_back, lease))
            raise
        return lease

    def release(self, lease: AsyncLease) -> bool:
        """Give names back. False if the usual way is to be gone; nothing was done.

        Raises:
            LeaseLost, NotOwner, RedisUnavailable: as :meth:`AsyncLease.release` does.
        """
        engine = self._client.engine
        if not isinstance(engine, Engine) or lease.kind is not EXCLUSIVE or self._client.observed:
            return False
        if not self._guard.acquire(blocking=False):
            return False
        try:
            spare = self._spare
            if spare is None or not engine.talks_over(spare.beside):
                return False
            return self._give_back(engine, spare, lease)
        finally:
            self._guard.release()

    def close(self, seconds: float) -> None:
        """Let nobody in any more; who is inside gets so many seconds."""
        self._closed = True
        alone = self._guard.acquire(timeout=seconds)
        if not alone and self._spare is not None:
            self._spare.interrupt()
            # What it undoes must be on its way before the loop ends.
            alone = self._guard.acquire(timeout=INTERRUPTED_SECONDS)
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.discard()
        if alone:
            self._guard.release()

    def forsake(self) -> None:
        """Called in a forked child: the connection is its parent's."""
        self._closed = True
        if self._spare is not None:
            self._spare.forsake()

    def _at_hand(self, engine: Engine) -> Spare | None:
        """The connection, if it may be used now; else it is opened for the next time."""
        spare = self._spare
        if spare is not None:
            if engine.undisturbed(spare.beside):
                return spare
            if not engine.talks_over(spare.beside):
                self._drop(engine, spare)
            return None
        self._calls += 1
        due = self._calls > OPEN_AFTER_CALLS and now() >= self._open_at
        if due and not (self._opening or self._closed):
            self._opening = True
            self._thread.spawn(partial(self._open, engine))
        return None

    def _take(self, engine: Engine, spare: Spare, asked: Asked) -> AsyncLease | None:
        request = Request(asked.names, engine.client_id, asked.ttl)
        try:
            return self._try(engine, spare, asked, request)
        except Contended:
            raise
        except _Failed as error:
            logger.debug("the short way to %s failed: %s", asked.names, error)
            self._drop(engine, spare, then=partial(engine.abandon, request))
            return None
        except BaseException:
            # A signal handler raised: the names may be held by now, or soon.
            self._drop(engine, spare, then=partial(engine.abandon, request))
            raise

    def _try(
        self, engine: Engine, spare: Spare, asked: Asked, request: Request
    ) -> AsyncLease | None:
        term = Term(asked.ttl, asked.max_hold)
        limit, sent = engine.limit(request), now()
        command = request.acquire(engine.scripts, "try", asked.wait)
        reply = _accepted(spare.ask(words_of(command, spare.beside.clock, sent, limit), limit))
        found = _protocol.read_acquire(reply, sent)
        clock = spare.beside.clock
        if isinstance(found, Late):
            clock.read(sent, found.server_time)
            return None
        if isinstance(found, Blocked):
            clock.read(*found.stamp)
            if not asked.wait:
                raise Contended(HELD_OR_WAITED_FOR.format(", ".join(asked.names)))
            return None
        clock.read(sent, found.server_time)
        return self._hand_out(engine, request, term, found, sent)

    def _hand_out(
        self, engine: Engine, request: Request, term: Term, granted: Granted, sent: float
    ) -> AsyncLease | None:
        term.grant(sent, granted.lease)
        lease = engine.lease(request, term, granted.fence)
        if not engine.settled or now() >= term.deadline:
            # It came too late, or the server forgot others who must be told first: ask anew.
            self._thread.post(partial(engine.abandon, request))
            return None
        self._thread.post(partial(engine.adopt, lease))
        return lease

    def _give_back(self, engine: Engine, spare: Spare, lease: AsyncLease) -> bool:
        command = lease.request.release(engine.scripts, queued=False)
        limit, sent = engine.limit(lease.request), now()
        again = partial(engine.give_back, lease, repeated=True)
        try:
            if not lease.leave():
                return False
            words = words_of(command, spare.beside.clock, sent, limit)
            released, finished = _protocol.read_release(_accepted(spare.ask(words, limit)))
            self._thread.post(partial(engine.returned, lease, command, finished=finished))
        except _Failed as error:
            logger.debug("the short way from %s failed: %s", lease.names, error)
            self._drop(engine, spare)
            self._thread.call(again)
            return True
        except BaseException:
            # A signal handler raised: it is given back all the same.
            lease.leave()
            self._drop(engine, spare)
            self._thread.spawn(again)
            raise
        if not released:
            raise NotOwner(f"{', '.join(lease.names)}: not, or no longer, held by this lease")
        return True

    def _drop(self, engine: Engine, spare: Spare, then: object = None) -> None:
        """End the connection for certain, and then do something in the loop."""
        self._spare = None
        spare.discard()

        def end() -> None:
            engine.disown(spare.identity)
            if callable(then):
                then()

        self._thread.post(end)

    async def _open(self, engine: Engine) -> None:
        """Open the connection (in the loop)."""
        spare: Spare | None = None
        try:
            spare = await engine.spare()
        except (OSError, TimeoutError, RedisUnavailable, ConfigurationError) as error:
            logger.debug("no short way: %s", error)
        finally:
            self._open_at = now() + RETRY_SECONDS
            if spare is not None and self._closed:
                spare.discard()
            else:
                self._spare = spare
            self._opening = False


def _accepted(reply: object) -> object:
    """The reply, unless the server refused: why, and what to do about it, the usual way finds out.

    Raises:
        RedisUnavailable: it did.
    """
    if isinstance(reply, hiredis.ReplyError):
        raise RedisUnavailable(str(reply))
    return reply
