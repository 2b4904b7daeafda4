"""The asyncio client."""

import asyncio
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from fencelock import _forks, _kinds, _names, _proof, _protocol, _topology
from fencelock._classes import Classes
from fencelock._engine import Engine, Verified
from fencelock._errors import ConfigurationError, RedisUnavailable
from fencelock._instrumentation import Instrumentation, Observation, Subject
from fencelock._isolation import isolated
from fencelock._kinds import EXCLUSIVE, Kind
from fencelock._lease import AsyncLease
from fencelock._lock import AsyncLock, Wanted
from fencelock._protocol import Request
from fencelock._quorum import QuorumEngine
from fencelock._reentry import Reentry
from fencelock._scripts import Scripts, packaged
from fencelock._target import Target
from fencelock._topology import Quorum, Single, Topology


class Asked(NamedTuple):
    """What somebody asks for."""

    names: tuple[str, ...]
    ttl: float
    wait: float
    max_hold: float
    kind: Kind
    first: str
    """The name that was given first."""


class AsyncLockClient:
    """Locks on Redis, over one connection to each server that all tasks share.

    Use one client in one event loop. Making it does no I/O: it connects at the first use, and
    again when the connection breaks.
    """

    def __init__(
        self,
        where: Topology | Target,
        *,
        ttl: float = 10.0,
        wait: float = 10.0,
        max_hold: float = 300.0,
        connect_timeout: float = 1.0,
        reply_timeout: float | None = None,
        instrumentation: Sequence[Instrumentation] = (),
        scripts: Scripts | None = None,
    ) -> None:
        _protocol.validate_ttl(ttl, max_hold)
        _protocol.validate_wait(wait)
        # If nobody said, each lease has a limit that suits it.
        self._reply_timeout_given = reply_timeout is not None
        if reply_timeout is None:
            reply_timeout = _protocol.default_reply_timeout(ttl)
        _protocol.validate_timeouts(connect_timeout, reply_timeout, ttl)
        self._ttl = ttl
        self._wait = wait
        self._max_hold = max_hold
        self._connect_timeout = connect_timeout
        self._reply_timeout = reply_timeout
        self._instrumentation = tuple(instrumentation)
        self._scripts = scripts or packaged()
        if isinstance(where, Target):
            where = Single(where)
        self._where: Topology = where
        self._classes = Classes()
        self._running: Engine | QuorumEngine | None = None
        self._former: Engine | QuorumEngine | None = None
        self._generation = _forks.generation()
        self._closed = False

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
        """Make a client. No I/O yet.

        Args:
            url: where the locks are kept, with credentials, database and TLS options as redis-py
                reads them: ``redis://``, ``rediss://`` (TLS), ``unix://``; or
                ``redis+sentinel://HOST:26379,HOST:26379/NAME`` (``rediss+sentinel`` with TLS) for
                the master that Sentinels call NAME; ``redis+cluster://HOST:6379,HOST:6379`` for
                a Cluster, of which some nodes are named; or several URLs of independent servers,
                of which a majority decides.
            ttl: seconds a lease runs unless it is renewed, which happens by itself.
            wait: seconds to stand in line at most; 0 never queues.
            max_hold: seconds from the grant after which a lease ends even though it is renewed.
            connect_timeout: seconds to connect and greet.
            reply_timeout: seconds without a reply after which the connection counts as dead, and
                for which a command without a limit of its own is repeated; if None, 2 s or a
                quarter of the TTL, that of a single lock included, whichever is less.
            instrumentation: observers, such as those of :mod:`fencelock.contrib`.

        Raises:
            ConfigurationError: the URL or the times make no sense.
        """
        return cls(
            _topology.read(url),
            ttl=ttl,
            wait=wait,
            max_hold=max_hold,
            connect_timeout=connect_timeout,
            reply_timeout=reply_timeout,
            instrumentation=instrumentation,
        )

    async def start(self) -> None:
        """Connect and check the server now rather than at the first use.

        Raises:
            RedisUnavailable: the server cannot be reached.
            ConfigurationError: it is not fit for locks.
        """
        await self.ping(timeout=self._connect_timeout + self._reply_timeout)

    async def aclose(self) -> None:
        """Release every lease that is still held, end background work, and disconnect.

        Takes no longer than the reply timeout. Holders find their lease lost, and calls that are
        under way fail with :class:`RedisUnavailable`. If the caller is cancelled it goes on.

        Raises:
            ConfigurationError: it runs in another event loop.
        """
        running = self._running
        # What a parent process has open is not for its child to close, and of an event loop that
        # was closed nothing is left.
        if running is None or self._generation != _forks.generation() or running.loop.is_closed():
            self._closed = True
            return
        if running.loop is not asyncio.get_running_loop():
            raise ConfigurationError("this client runs in another event loop: close it there")
        self._closed = True
        await running.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def ping(self, *, timeout: float) -> None:  # noqa: ASYNC109 (part of the contract)
        """Ask the server for a sign of life, for at most ``timeout`` seconds.

        Raises:
            RedisUnavailable: none came.
            ConfigurationError: the server is not fit for locks, or ``timeout`` is no time.
        """
        _protocol.validate_timeout(timeout)
        await self._engine().ping(timeout)

    def lock(
        self,
        *names: str,
        ttl: float | None = None,
        wait: float | None = None,
        max_hold: float | None = None,
        kind: Kind = EXCLUSIVE,
        reentrant: bool = False,
    ) -> AsyncLock:
        """Hold names for the length of an ``async with``; the arguments are those of `acquire`.

        With ``reentrant``, a block inside one of the same task that holds all of the names by
        this client, also with ``reentrant``, is let in under the same lease, without a request.

        If the lease is lost the body is cancelled and the ``async with`` raises
        :class:`LeaseLost`. An error of the body's own passes unchanged.
        """
        reentry = Reentry[AsyncLease](self, names, kind) if reentrant else None
        return AsyncLock(self, (names, ttl, wait, max_hold, kind), reentry)

    async def acquire(
        self,
        *names: str,
        ttl: float | None = None,
        wait: float | None = None,
        max_hold: float | None = None,
        kind: Kind = EXCLUSIVE,
    ) -> AsyncLease:
        """Take all of the names or none.

        Args:
            names: what to lock. Several names must share a Cluster hash tag: ``a:{7}``, ``b:{7}``.
            ttl: seconds the lease runs unless it is renewed, which happens by itself.
            wait: seconds to stand in line at most; with 0 it never queues.
            max_hold: seconds from the grant after which the lease ends even though it is renewed.
            kind: `Kind.EXCLUSIVE`, `Kind.SHARED`, or a semaphore, ``Kind.permits(n)``.

        Raises:
            Contended: ``wait`` is 0 and the lock is not free.
            AcquireTimeout: it did not become free in time.
            RedisUnavailable: the server did not answer in time.
            LeaseLost: an observer blocked for so long that the lease was over.
            InvalidName, CrossSlot, ConfigurationError: the request makes no sense.
        """
        return await self.obtain(self.asked(names, ttl, wait, max_hold, kind))

    def take(self, wanted: Wanted) -> Coroutine[Any, Any, AsyncLease]:
        """Call :meth:`acquire`, which a subclass may have replaced."""
        names, ttl, wait, max_hold, kind = wanted
        return self.acquire(*names, ttl=ttl, wait=wait, max_hold=max_hold, kind=kind)

    def obtain(self, asked: Asked, *, waited: float = 0.0) -> Coroutine[Any, Any, AsyncLease]:
        """What :meth:`acquire` does with valid arguments, of whose wait a part is over."""
        engine = self._engine()
        observations: tuple[Observation, ...] = ()
        annotation: str | None = None
        if self._instrumentation:
            observations, annotation = self._observe(asked)
        request = Request(asked.names, engine.client_id, asked.ttl, annotation, asked.kind)
        return engine.acquire(request, asked.wait, asked.max_hold, observations, waited)

    def asked(
        self,
        names: tuple[str, ...],
        ttl: float | None,
        wait: float | None,
        max_hold: float | None,
        kind: Kind,
    ) -> Asked:
        """Fill in the defaults of what :meth:`acquire` is given.

        Raises:
            InvalidName, CrossSlot, ConfigurationError: it makes no sense.
        """
        if ttl is None and max_hold is None:
            ttl, max_hold = self._ttl, self._max_hold
        else:
            ttl = self._ttl if ttl is None else ttl
            max_hold = self._max_hold if max_hold is None else max_hold
            _protocol.validate_ttl(ttl, max_hold)
            if self._reply_timeout_given and ttl != self._ttl:
                _protocol.validate_timeouts(self._connect_timeout, self._reply_timeout, ttl)
        if wait is None:
            wait = self._wait
        else:
            _protocol.validate_wait(wait)
        if kind is not EXCLUSIVE:
            _kinds.validate(kind)
        return Asked(_names.normalise(names), ttl, wait, max_hold, kind, names[0])

    @property
    def observed(self) -> bool:
        """Whether somebody watches what it does."""
        return bool(self._instrumentation)

    @property
    def engine(self) -> Engine | QuorumEngine | None:
        """What runs in the event loop of this process; None before the first use."""
        return self._running if self._generation == _forks.generation() else None

    def _observe(self, asked: Asked) -> tuple[tuple[Observation, ...], str | None]:
        lock_class = self._classes.value(_names.lock_class(asked.first))
        subject = Subject(lock_class, asked.names, asked.kind.name)
        made = [isolated(each.observe, subject) for each in self._instrumentation]
        observations = tuple([each for each in made if each is not None])
        for each in observations:
            text = isolated(each.annotation)
            if text is not None and _protocol.is_annotation(text):
                return observations, text
        return observations, None

    async def verify(
        self,
        proof: str,
        names: Sequence[str],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 (part of the contract)
    ) -> Verified:
        """Check in one round trip that the lease behind a proof still holds all of ``names``.

        Raises:
            NotOwner: it does not, or the proof is malformed.
            RedisUnavailable: no answer within ``timeout`` seconds (the reply timeout if None); the
                caller must act as if the lock were not held.
            InvalidName, CrossSlot: the names make no sense.
            ConfigurationError: ``timeout`` is no time.
        """
        if timeout is not None:
            _protocol.validate_timeout(timeout)
        claim = _proof.decode(proof)
        chosen = _names.normalise(names)
        limit = self._reply_timeout if timeout is None else timeout
        return await self._engine().verify(claim, chosen, limit)

    def _engine(self) -> Engine | QuorumEngine:
        """The running parts, made at the first use, when there is an event loop.

        Raises:
            RedisUnavailable: the client is closed.
            ConfigurationError: it runs in another event loop.
        """
        if self._closed:
            raise RedisUnavailable("the client is closed")
        running = self._running
        if running is not None and self._generation == _forks.generation():
            if running.loop is asyncio.get_running_loop():
                return running
            if not running.loop.is_closed():
                raise ConfigurationError("this client runs in another event loop")
        # A child process, or the next event loop, has an identity and a connection of its own. The
        # parent's stays untouched: what it has open is not ours to close.
        self._former = running
        self._generation = _forks.generation()
        self._running = self._run(_protocol.new_client_id())
        return self._running

    def _run(self, client_id: str) -> Engine | QuorumEngine:
        where = self._where
        times = {"connect_timeout": self._connect_timeout, "reply_timeout": self._reply_timeout}
        if isinstance(where, Quorum):
            return QuorumEngine(where, self._scripts, client_id=client_id, **times)
        return Engine(where, self._scripts, client_id=client_id, **times)
