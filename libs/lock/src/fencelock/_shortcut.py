"""The short way to a free lock for a thread: without the event loop.

Each call that goes through the client's loop wakes its thread, and that wakes the caller: two
switches of threads, which cost more than the call. So one thread at a time may ask for names that
are free, and give them back, over a connection of its own. Nothing else goes this way: who has to
wait, kinds other than the exclusive lock, and all that went wrong is for the loop, which renews the
leases from here as it does its own.

Two connections have no common order. What was sent on this one and not answered is therefore ended
for certain (the server is told to drop the connection) before the loop undoes it or asks anew; and
nothing is asked here while the loop still owes the server a release.

Signal handlers may raise at any line here, in the main thread. Whatever they interrupt is undone.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import hiredis

from fencelock import _protocol
from fencelock._client import Asked, AsyncLockClient
from fencelock._clock import now
from fencelock._connection import packed
from fencelock._engine import HELD_OR_WAITED_FOR, Engine
from fencelock._errors import (
    ConfigurationError,
    Contended,
    FencelockError,
    NotOwner,
    RedisUnavailable,
)
from fencelock._kinds import EXCLUSIVE, Kind
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
LOOK_SECONDS = 0.005
# A server that is silent here is asked again by the loop: the limits add up.
PATIENCE = 0.5

# What a call on a connection that breaks can fail with. What is no reply to it, such as a refusal
# or the news that the server dropped its data, is RedisUnavailable: the usual way finds out more.
_Failed = (OSError, hiredis.HiredisError, RedisUnavailable)


class _Call(NamedTuple):
    """Somebody who is on the short way."""

    thread: int
    spare: Spare
    request: Request


class Shortcut:
    """The short way of one blocking client."""

    def __init__(self, thread: LoopThread, client: AsyncLockClient) -> None:
        self._thread = thread
        self._client = client
        # The connection while nobody uses it. To take it out is one step for all threads, and who
        # is interrupted after that loses it, and nothing else.
        self._free: list[Spare] = []
        self._known: Callable[[], Spare | None] = _none
        self._call: _Call | None = None
        self._calls = 0
        self._opening = False
        self._open_at = 0.0
        self._closed = False

    def acquire(self, asked: Asked) -> AsyncLease | None:
        """Take names that are free. None if the usual way is to be gone; nothing is left behind.

        Raises:
            Contended: they are not free, and the caller does not wait.
        """
        engine = self._engine_for(asked.kind)
        if engine is None:
            return None
        try:
            spare = self._free.pop()
        except IndexError:
            self._open_if_due(engine)
            return None
        request = Request(asked.names, engine.client_id, asked.ttl)
        try:
            lease = self._try(engine, spare, asked, request)
            self._leave(spare)
        except Contended:
            self._leave(spare)
            raise
        except _Failed as error:
            logger.debug("the short way to %s failed: %s", asked.names, error)
            self._drop(engine, spare, request)
            return None
        except BaseException:
            # A signal handler raised: the names may be held by now, or soon.
            self._drop(engine, spare, request)
            raise
        return lease

    def release(self, lease: AsyncLease) -> bool:
        """Give names back. False if the usual way is to be gone; nothing was done.

        Raises:
            LeaseLost, NotOwner, RedisUnavailable: as :meth:`AsyncLease.release` does.
        """
        engine = self._engine_for(lease.kind)
        if engine is None:
            return False
        try:
            spare = self._free.pop()
        except IndexError:
            return False
        try:
            return self._give_back(engine, spare, lease)
        except FencelockError:
            raise
        except BaseException:
            # A signal handler raised: it is given back all the same.
            lease.left()
            self._drop(engine, spare)
            self._thread.spawn(partial(engine.give_back, lease, repeated=True))
            raise

    def close(self, seconds: float) -> None:
        """Let nobody in any more; who is inside gets so many seconds, unless it is the caller."""
        self._closed = True
        self._wait_for_others(seconds)
        call = self._call
        if call is not None:
            call.spare.interrupt()
            # What it undoes must be on its way before the loop ends.
            self._wait_for_others(INTERRUPTED_SECONDS)
        call, engine = self._call, self._client.engine
        if call is not None and isinstance(engine, Engine):
            self._undo(engine, call.spare, call.request)
        while self._free:
            self._free.pop().discard()

    def forsake(self) -> None:
        """Called in a forked child: the connection is its parent's."""
        self._closed = True
        spare = self._known()
        if spare is not None:
            spare.forsake()

    def _engine_for(self, kind: Kind) -> Engine | None:
        """What runs in the loop, if it is one server's, and the short way is for such names."""
        engine = self._client.engine
        if not isinstance(engine, Engine) or kind is not EXCLUSIVE or self._client.observed:
            return None
        return engine

    def _try(
        self, engine: Engine, spare: Spare, asked: Asked, request: Request
    ) -> AsyncLease | None:
        if not self._enter(spare, request) or not engine.undisturbed(spare.beside):
            if not engine.talks_over(spare.beside):
                raise RedisUnavailable("the client is connected to another server now")
            return None
        term = Term(asked.ttl, asked.max_hold)
        limit, sent = engine.limit(request) * PATIENCE, now()
        command = request.acquire(engine.scripts, "try", asked.wait)
        clock = spare.beside.clock
        reply = spare.ask(packed(command, clock, sent, limit), limit)
        found = _protocol.read_acquire(reply, sent)
        if isinstance(found, Late):
            clock.read(sent, found.server_time)
            return None
        if isinstance(found, Blocked):
            clock.read(*found.stamp)
            if not asked.wait:
                raise Contended(HELD_OR_WAITED_FOR.format(", ".join(asked.names)))
            return None
        clock.read(sent, found.server_time)
        term.grant(sent, found.lease)
        return self._hand_out(engine, spare, request, term, found)

    def _hand_out(
        self, engine: Engine, spare: Spare, request: Request, term: Term, granted: Granted
    ) -> AsyncLease | None:
        fresh = engine.settled and engine.talks_over(spare.beside) and now() < term.deadline
        if not fresh:
            # It came too late, or others must be told first that the server forgot them.
            self._thread.post(partial(engine.abandon, request))
            return None
        lease = engine.lease(request, term, granted.fence)
        self._thread.post(partial(engine.adopt, lease, spare.beside))
        return lease

    def _give_back(self, engine: Engine, spare: Spare, lease: AsyncLease) -> bool:
        command = lease.request.release(engine.scripts, queued=False)
        limit = engine.limit(lease.request) * PATIENCE
        if not self._enter(spare, lease.request) or not engine.talks_over(spare.beside):
            self._drop(engine, spare)
            return False
        if not lease.leave():
            self._leave(spare)
            return False
        try:
            asked = packed(command, spare.beside.clock, now(), limit)
            released, finished = _protocol.read_release(spare.ask(asked, limit))
        except _Failed as error:
            logger.debug("the short way from %s failed: %s", lease.names, error)
            self._drop(engine, spare)
            self._thread.call(partial(engine.give_back, lease, repeated=True))
            return True
        self._thread.post(partial(engine.returned, lease, command, finished=finished))
        self._leave(spare)
        if not released:
            raise NotOwner(f"{', '.join(lease.names)}: not, or no longer, held by this lease")
        return True

    def _enter(self, spare: Spare, request: Request) -> bool:
        """Begin a call, unless the client is closed: then it does not wait for us."""
        self._call = _Call(threading.get_ident(), spare, request)
        return not self._closed

    def _leave(self, spare: Spare) -> None:
        """End a call, and let the next one have the connection."""
        self._call = None
        if self._closed:
            spare.discard()
        else:
            self._free.append(spare)

    def _drop(self, engine: Engine, spare: Spare, request: Request | None = None) -> None:
        """End the connection for certain, and undo what was asked for over it."""
        self._known = _none
        spare.discard()
        self._undo(engine, spare, request)
        self._call = None

    def _undo(self, engine: Engine, spare: Spare, request: Request | None) -> None:
        def undo() -> None:
            engine.disown(spare.identity)
            if request is not None:
                engine.withdraw(request)

        self._thread.post_if_open(undo)

    def _wait_for_others(self, seconds: float) -> None:
        end = now() + seconds
        while (call := self._call) is not None and now() < end:
            if call.thread == threading.get_ident():
                # A signal handler closes the client below which it runs.
                return
            time.sleep(LOOK_SECONDS)

    def _open_if_due(self, engine: Engine) -> None:
        self._calls += 1
        due = self._calls > OPEN_AFTER_CALLS and now() >= self._open_at
        if due and self._known() is None and not (self._opening or self._closed):
            self._opening = True
            self._thread.spawn(partial(self._open, engine))

    async def _open(self, engine: Engine) -> None:
        """Open the connection (in the loop)."""
        spare: Spare | None = None
        try:
            spare = await engine.spare()
        except (OSError, TimeoutError, RedisUnavailable, ConfigurationError) as error:
            logger.debug("no short way: %s", error)
        finally:
            self._open_at = now() + RETRY_SECONDS
            self._opening = False
        if spare is not None:
            if self._closed:
                spare.discard()
            else:
                self._known = weakref.ref(spare)
                self._free.append(spare)


def _none() -> None:
    """No connection is known."""
