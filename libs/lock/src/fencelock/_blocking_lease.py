"""The lease and the lock of the blocking client."""

import contextlib
import logging
import os
import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from fencelock._errors import FencelockError, LeaseLost, NotOwner, RedisUnavailable
from fencelock._instrumentation import LossReason
from fencelock._kinds import Kind
from fencelock._lease import AsyncLease, OnLost
from fencelock._reentry import Reentry, end_inner

logger = logging.getLogger("fencelock")


class Bridge(Protocol):
    """What a lease needs of the client that made it."""

    def drop(self, lease: AsyncLease) -> None:
        """Release a lease without waiting for it."""

    def give_back(self, lease: AsyncLease) -> None:
        """Release a lease, and wait until that is done."""

    def watch(self, lease: AsyncLease, callback: OnLost) -> None:
        """Call back when the lease is lost."""


class Lease:
    """Names that are held. Made by :meth:`LockClient.acquire`; renewed until it ends.

    Any thread of the process that made it may use it.
    """

    __slots__ = ("_bridge", "_inner", "_pid")

    def __init__(self, bridge: Bridge, inner: AsyncLease) -> None:
        self._bridge = bridge
        self._inner = inner
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return repr(self._inner).replace("AsyncLease", "Lease", 1)

    @property
    def names(self) -> tuple[str, ...]:
        """The names held, sorted."""
        return self._inner.names

    @property
    def kind(self) -> Kind:
        """How the names are held."""
        return self._inner.kind

    @property
    def fence(self) -> int:
        """A number that is higher than that of every earlier lease of any of the names."""
        return self._inner.fence

    def remaining(self) -> float:
        """Seconds that the lease certainly still runs if it is not renewed; 0.0 once it ended."""
        return self._inner.remaining() if self._pid == os.getpid() else 0.0

    def check(self) -> None:
        """Raise unless the lease is held now. It asks nobody, so it may be called often.

        Raises:
            LeaseLost: it was lost.
            NotOwner: it was released, or a process that forked off calls.
        """
        self._require_own_process()
        self._inner.check()

    def proof(self) -> str:
        """A short printable string with which another process can verify this lease.

        It contains the owner token: treat it as a secret and never log it.
        """
        return self._inner.proof()

    def on_lost(self, callback: OnLost) -> None:
        """Call ``callback(reason)`` when the lease is lost.

        All callbacks of a client run in one thread of their own, one after the other: a slow one
        holds up the others, and neither the renewal of leases nor :meth:`check`.

        Raises:
            LeaseLost: it was lost when the client was closed.
            NotOwner: it was released and the client closed, or a process that forked off calls.
        """
        self._require_own_process()
        self._bridge.watch(self._inner, callback)

    def release(self) -> None:
        """Give the names back and let the next waiter proceed. Repeating it does nothing.

        Raises:
            LeaseLost: it had been lost before.
            NotOwner: the server says that it was not the holder any more, or a process that forked
                off calls.
            RedisUnavailable: no answer; the names stay locked until the lease ends, unless one of
                the further attempts that are made in the background gets through.
        """
        self._require_own_process()
        self._bridge.give_back(self._inner)

    def drop(self) -> None:
        """Give it back without waiting for it, if nobody did (called by a block that vanished)."""
        if self._pid == os.getpid():
            self._bridge.drop(self._inner)

    def _require_own_process(self) -> None:
        if self._pid != os.getpid():
            raise NotOwner(
                f"the lease of {', '.join(self.names)} is that of process {self._pid}, from which "
                "this one was forked"
            )


class Lock:
    """A lock that is taken by entering it. One block at a time; make one for each thread."""

    def __init__(
        self, acquire: Callable[[list[Lease]], Lease], reentry: Reentry[Lease] | None = None
    ) -> None:
        """Take nothing yet; ``acquire`` also puts what it takes into the list it is given."""
        self._acquire = acquire
        self._reentry = reentry
        self._outer: Lease | None = None
        self._guard = threading.Lock()
        self._lease: Lease | None = None

    def __enter__(self) -> Lease:
        if not self._guard.acquire(blocking=False):
            raise RuntimeError("this lock object is in use: make one for each `with`")
        # A signal handler may raise when the lease is handed over, before it has a name here.
        taken: list[Lease] = []
        try:
            self._outer = None if self._reentry is None else self._reentry.held()
            if self._outer is not None:
                return self._outer
            lease = self._lease = self._acquire(taken)
            if self._reentry is not None:
                self._reentry.enter(lease)
        except BaseException:
            # A signal handler may raise when it is held already.
            self._lease = None
            self._guard.release()
            for each in taken:
                _release_quietly(each)
            raise
        return lease

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lease, self._lease = self._lease, None
        outer, self._outer = self._outer, None
        try:
            self._guard.release()
            if outer is not None:
                end_inner(outer, exc)
            if lease is not None:
                self._end(lease, exc)
        except FencelockError:
            raise
        except BaseException:
            # A signal handler raised, perhaps before the release was begun.
            _release_quietly(lease)
            raise

    def __del__(self) -> None:
        # A signal handler may raise before the first line of `__exit__`, which is not called again.
        if self._lease is not None:
            self._lease.drop()

    def _end(self, lease: Lease, exc: BaseException | None) -> None:
        if self._reentry is not None:
            self._reentry.leave(lease)
        try:
            _release(lease)
        except LeaseLost as lost:
            if exc is None:
                raise
            exc.add_note(str(lost))


def _release_quietly(lease: Lease | None) -> None:
    if lease is not None:
        with contextlib.suppress(FencelockError):
            lease.release()


def _release(lease: Lease) -> None:
    try:
        lease.release()
    except NotOwner as error:
        raise LeaseLost(str(error)) from error
    except RedisUnavailable as error:
        # The block ran under the lock to its end. The release is repeated in the background, and
        # the lease ends by itself at the latest.
        logger.warning("release of %s was not confirmed: %s", lease.names, error)


class Announcer:
    """Calls back in a thread of its own, which is started by the first loss."""

    def __init__(self) -> None:
        self._news: queue.SimpleQueue[tuple[OnLost, LossReason] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def announce(self, callback: OnLost, reason: LossReason) -> None:
        """Call ``callback(reason)`` soon. Called in the loop's thread only."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="fencelock-lost", daemon=True)
            thread.start()
            self._thread = thread
        self._news.put((callback, reason))

    def stop(self, timeout: float) -> None:
        """Let what was announced be called, for at most ``timeout`` seconds."""
        if self._thread is None or self._thread is threading.current_thread():
            return
        self._news.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (news := self._news.get()) is not None:
            callback, reason = news
            try:
                callback(reason)
            except BaseException:  # also SystemExit, which ends no process here
                logger.exception("a callback for the loss of a lease raised")
