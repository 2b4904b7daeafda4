"""The blocking client: the asyncio client, run by a thread of its own."""

import atexit
import contextlib
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from fencelock._blocking_lease import Announcer, Lease, Lock
from fencelock._client import AsyncLockClient
from fencelock._clock import now
from fencelock._engine import Verified
from fencelock._errors import (
    ConfigurationError,
    FencelockError,
    LeaseLost,
    NotOwner,
    RedisUnavailable,
)
from fencelock._instrumentation import Instrumentation
from fencelock._kinds import EXCLUSIVE, Kind
from fencelock._lease import AsyncLease, OnLost
from fencelock._loop_thread import LoopThread
from fencelock._reentry import Reentry
from fencelock._shortcut import Shortcut

logger = logging.getLogger("fencelock")

CALLBACK_SECONDS = 5.0
CALL_SECONDS = 2.0

T = TypeVar("T")


class _Running(NamedTuple):
    """What a client has while it runs."""

    thread: LoopThread
    client: AsyncLockClient
    announcer: Announcer
    shortcut: Shortcut
    # A client that is dropped without being closed must not leave its thread behind.
    finalizer: "weakref.finalize[..., LockClient]"


class LockClient:
    """Locks on Redis for threads, which share its connections.

    Making it does no I/O and starts nothing. At the first use it starts one daemon thread, which
    keeps a connection to each server and renews all leases; a second one, to a single server, is
    for a thread at a time that takes a free lock or gives it back. After a fork the child starts
    anew, with connections and an identity of its own, and holds nothing of what its parent holds.
    What is still held when the interpreter ends is released.
    """

    def __init__(self, make: Callable[[], AsyncLockClient]) -> None:
        """Wrap what ``make`` makes; use :meth:`from_url` for a server.

        Args:
            make: makes an asyncio client; called in the event loop that will run it, and again in
                each process that forks off.
        """
        _refuse_green_threads()
        self._make = make
        self._closed = False
        # A signal handler may close the client that its own thread is just starting.
        self._guard = threading.RLock()
        self._running: _Running | None = None
        _remember(self)

    @classmethod
    def from_url(
        cls,
        url: str | Sequence[str],
        *,
        ttl: float = 10.0,
        wait: float = 10.0,
        max_hold: float = 300.0,
        connect_timeout: float = 1.0,
        reply_timeout: float | None = None,
        instrumentation: Sequence[Instrumentation] = (),
    ) -> Self:
        """Make a client; the arguments are those of :meth:`AsyncLockClient.from_url`. No I/O yet.

        Observers are called in the client's thread, in the context (`contextvars`) of the caller.

        Raises:
            ConfigurationError: the URL or the times make no sense, or threads are green here.
        """
        make = partial(
            AsyncLockClient.from_url,
            url,
            ttl=ttl,
            wait=wait,
            max_hold=max_hold,
            connect_timeout=connect_timeout,
            reply_timeout=reply_timeout,
            instrumentation=instrumentation,
        )
        make()  # says now what is wrong with the arguments
        return cls(make)

    def start(self) -> None:
        """Connect and check the server now rather than at the first use.

        Raises:
            RedisUnavailable: the server cannot be reached.
            ConfigurationError: it is not fit for locks.
        """
        self._run(lambda client: client.start())

    def close(self) -> None:
        """Release every lease that is still held, end the thread, and disconnect.

        Takes no longer than the reply timeout, two seconds more if a thread waits for a reply, and
        a few seconds for callbacks if leases are lost by it. Holders find their lease lost.
        Repeating it does nothing. An observer that calls it, or an exception that interrupts it,
        does not wait for that end.
        """
        with self._guard:
            self._closed = True
            running, self._running = self._running, None
        if running is None:
            return
        running.finalizer.detach()
        if running.thread.is_current:
            _wind_up(running.thread, running.client, running.shortcut)
            return
        try:
            running.shortcut.close(CALL_SECONDS)
            running.thread.call(running.client.aclose)
        except BaseException:
            _wind_up(running.thread, running.client, running.shortcut)
            raise
        running.thread.stop()
        # One that was just being opened.
        running.shortcut.close(0.0)
        running.announcer.stop(CALLBACK_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def ping(self, *, timeout: float) -> None:
        """Ask the server for a sign of life, for at most ``timeout`` seconds.

        Raises:
            RedisUnavailable: none came.
            ConfigurationError: the server is not fit for locks.
        """
        self._run(lambda client: client.ping(timeout=timeout))

    def lock(
        self,
        *names: str,
        ttl: float | None = None,
        wait: float | None = None,
        max_hold: float | None = None,
        kind: Kind = EXCLUSIVE,
        reentrant: bool = False,
    ) -> Lock:
        """Hold names for the length of a ``with``; the arguments are those of `acquire`.

        With ``reentrant``, a block inside one of the same thread that holds all of the names by
        this client, also with ``reentrant``, is let in under the same lease, without a request.

        A block cannot be interrupted from another thread. If the lease is lost, ``lease.check()``
        raises :class:`LeaseLost` in it, callbacks are called, and so does the ``with`` at its end,
        unless the block raised an error of its own: that one passes, with a note.
        """

        def take(taken: list[Lease]) -> Lease:
            if getattr(self.acquire, "__func__", None) is LockClient.acquire:
                return self._take(taken, names, ttl=ttl, wait=wait, max_hold=max_hold, kind=kind)
            # A subclass has replaced it.
            taken.append(self.acquire(*names, ttl=ttl, wait=wait, max_hold=max_hold, kind=kind))
            return taken[0]

        return Lock(take, Reentry(self, names, kind) if reentrant else None)

    def acquire(
        self,
        *names: str,
        ttl: float | None = None,
        wait: float | None = None,
        max_hold: float | None = None,
        kind: Kind = EXCLUSIVE,
    ) -> Lease:
        """Take all of the names or none; arguments and errors are those of the asyncio client.

        An exception that a signal handler raises while it waits withdraws the request.

        Args:
            names: what to lock. Several names must share a Cluster hash tag: ``a:{7}``, ``b:{7}``.
            ttl: seconds the lease runs unless it is renewed, which happens by itself.
            wait: seconds to stand in line at most; with 0 it never queues.
            max_hold: seconds after which the lease ends even though it is renewed.
            kind: `Kind.EXCLUSIVE`, `Kind.SHARED`, or a semaphore, ``Kind.permits(n)``.

        Raises:
            Contended: ``wait`` is 0 and the lock is not free.
            AcquireTimeout: it did not become free in time.
            RedisUnavailable: the server did not answer in time.
            LeaseLost: the process stood still for so long that the lease was over.
            InvalidName, CrossSlot, ConfigurationError: the request makes no sense.
        """
        return self._take([], names, ttl=ttl, wait=wait, max_hold=max_hold, kind=kind)

    def _take(
        self,
        taken: list[Lease],
        names: tuple[str, ...],
        *,
        ttl: float | None,
        wait: float | None,
        max_hold: float | None,
        kind: Kind,
    ) -> Lease:
        """Acquire a lease that is in ``taken`` before anybody could lose it on its way."""
        running = self._start()
        began = now()
        asked = running.client.asked(names, ttl, wait, max_hold, kind)
        inner: AsyncLease | None = None
        try:
            inner = running.shortcut.acquire(asked)
            if inner is None or inner.lost:
                inner = running.thread.call(
                    lambda: running.client.obtain(asked, waited=now() - began), unclaimed=_give_back
                )
            # Other threads may have kept us from running since it was granted.
            inner.check()
            taken.append(Lease(self, inner))
            return taken[0]
        except BaseException:
            # Or a signal handler raised.
            if inner is not None:
                running.thread.spawn(partial(_give_back, inner))
            raise

    def verify(self, proof: str, names: Sequence[str], *, timeout: float | None = None) -> Verified:
        """Check in one round trip that the lease behind a proof still holds all of ``names``.

        Raises:
            NotOwner: it does not, or the proof is malformed.
            RedisUnavailable: no answer within ``timeout`` seconds (the reply timeout if None); the
                caller must act as if the lock were not held.
        """
        return self._run(lambda client: client.verify(proof, names, timeout=timeout))

    def give_back(self, lease: AsyncLease) -> None:
        """Release a lease (called by the lease)."""
        if lease.released:
            return
        running = self._running_for(lease)
        try:
            if not running.shortcut.release(lease):
                running.thread.call(lease.release)
        except FencelockError:
            raise
        except BaseException:
            # A signal handler raised, perhaps before anything was begun.
            running.thread.spawn(lambda: _give_back(lease))
            raise

    def drop(self, lease: AsyncLease) -> None:
        """Release a lease without waiting for it (called by the lease)."""
        running = self._running
        if running is not None and not lease.released:
            running.thread.spawn(lambda: _give_back(lease))

    def watch(self, lease: AsyncLease, callback: OnLost) -> None:
        """Call back when a lease is lost (called by the lease)."""
        running = self._running_for(lease)
        announce = running.announcer.announce
        running.thread.post(lambda: lease.on_lost(lambda reason: announce(callback, reason)))

    def forget_parent(self) -> None:
        """Start anew in a child process (called after a fork)."""
        running, self._running = self._running, None
        self._guard = threading.RLock()
        if running is not None:
            running.finalizer.detach()
            running.shortcut.forsake()
            running.thread.forsake(keep=running)

    def _run(self, work: Callable[[AsyncLockClient], Coroutine[Any, Any, T]]) -> T:
        running = self._start()
        return running.thread.call(lambda: work(running.client))

    def _start(self) -> _Running:
        """The running parts, started at the first use."""
        if self._running is not None:
            return self._running
        with self._guard:
            if self._closed:
                raise RedisUnavailable("the client is closed")
            running = self._running
            if running is None:
                client, thread = self._make(), LoopThread("fencelock")
                shortcut = Shortcut(thread, client)
                finalizer = weakref.finalize(self, _wind_up, thread, client, shortcut)
                finalizer.atexit = False  # close() is called then
                running = self._adopt(_Running(thread, client, Announcer(), shortcut, finalizer))
            return running

    def _adopt(self, made: _Running) -> _Running:
        """Run with these parts from now on, unless a signal handler was here meanwhile.

        Raises:
            RedisUnavailable: it closed the client.
        """
        if self._running is not None:
            made.finalizer()
            return self._running
        self._running = made
        if self._closed:
            self.close()
            raise RedisUnavailable("the client is closed")
        return made

    def _running_for(self, lease: AsyncLease) -> _Running:
        """The running parts; if the client is closed, what that means for the lease is raised."""
        running = self._running
        if running is None:
            lease.check()
            raise NotOwner("the client is closed")
        return running


_clients: "weakref.WeakSet[LockClient]" = weakref.WeakSet()
_watching = False


def _remember(client: LockClient) -> None:
    """See to it that a client learns of forks and of the end of the interpreter."""
    global _watching  # noqa: PLW0603 (hooks of the process are there once, and not at import)
    if not _watching:
        _watching = True
        os.register_at_fork(after_in_child=_forked)
        atexit.register(_close_all)
    _clients.add(client)


def _forked() -> None:
    for client in list(_clients):
        client.forget_parent()


def _close_all() -> None:
    for client in list(_clients):
        try:
            client.close()
        except Exception:  # the others are to be closed too
            logger.exception("a client could not be closed")


def _wind_up(thread: LoopThread, client: AsyncLockClient, shortcut: Shortcut) -> None:
    shortcut.close(0.0)
    thread.wind_up(client.aclose)


async def _give_back(lease: AsyncLease) -> None:
    with contextlib.suppress(LeaseLost):  # as good
        await lease.release()


def _refuse_green_threads() -> None:
    """A thread of its own is what keeps leases alive: a green one would starve beside others.

    Raises:
        ConfigurationError: gevent or eventlet has replaced ``threading``.
    """
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    patched = (gevent is not None and gevent.is_module_patched("threading")) or (
        eventlet is not None and eventlet.is_monkey_patched("thread")
    )
    if patched:
        raise ConfigurationError(
            "LockClient needs real threads, and gevent or eventlet has replaced them: use a pool "
            "of threads or processes, or AsyncLockClient"
        )
