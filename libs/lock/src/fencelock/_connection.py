"""The way to one server: connects when needed, again after a loss, and repeats what is safe to.

Every command of this library may be repeated (see the Lua files), so a command whose reply was lost
is sent again on the next connection until its caller's deadline.
"""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import hiredis

from fencelock._clock import now
from fencelock._errors import ConfigurationError, RedisUnavailable
from fencelock._link import Link, Reply, Word
from fencelock._protocol import Command
from fencelock._scripts import Scripts
from fencelock._target import Target

BACKOFF_SECONDS_FIRST = 0.02
BACKOFF_SECONDS_MAX = 1.0
# A failover: this server is not, or not yet, the one that takes writes.
_MOVED_ON = ("READONLY", "LOADING", "MASTERDOWN")
_REFUSED = ("NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH", "ERR unknown command")

_T = TypeVar("_T")


class Answer(NamedTuple):
    """The reply to a command."""

    reply: Reply
    sent: float
    """Loop time just before the request was sent that was answered."""
    repeated: bool
    """Whether an earlier attempt may have reached the server."""


class NotSent(RedisUnavailable):
    """No attempt got as far as the server: nothing needs to be undone."""


class Connection:
    """A connection that heals itself."""

    def __init__(
        self,
        target: Target,
        scripts: Scripts,
        *,
        channel: str,
        connect_timeout: float,
        reply_timeout: float,
        on_push: Callable[[object], None],
        on_down: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._target = target
        self._scripts = scripts
        self._channel = channel
        self._connect_timeout = connect_timeout
        self._reply_timeout = reply_timeout
        # A deadline that is about as far away as the watchdog's needs no timer of its own.
        self._unhurried = reply_timeout * 0.9
        self._on_push = on_push
        self._on_down = on_down
        self._link: Link | None = None
        self._connecting: asyncio.Task[Link] | None = None
        self._failures = 0
        self._closed = False

    async def call(
        self,
        command: Command,
        *,
        deadline: float,
        repeat: Callable[[], Command] | None = None,
    ) -> Answer:
        """Run a script.

        Args:
            command: what to run.
            deadline: loop time at which to give up.
            repeat: makes what to run instead once the command may have reached the server; the
                command itself if None.

        Raises:
            RedisUnavailable: no answer by the deadline, or a refusal that does not pass.
            ConfigurationError: the server does not allow what a lock needs.
        """
        before: RedisUnavailable | None = None
        link = self._link
        if link is not None and deadline - (sent := now()) >= self._unhurried:
            # The usual case: connected, and the link's own watchdog is the only timer needed.
            try:
                reply = await link.send(_words(command))
            except RedisUnavailable as error:
                before = error
            else:
                if not isinstance(reply, hiredis.ReplyError):
                    return Answer(reply, sent, repeated=False)

        async def attempt(link: Link, before: RedisUnavailable | None) -> Answer:
            sent = now()
            chosen = command if before is None or repeat is None else repeat()
            reply = await self._run(link, chosen, deadline)
            return Answer(reply, sent, repeated=before is not None)

        return await self._persist(attempt, deadline, before)

    async def ping(self, *, deadline: float) -> None:
        """Raise :class:`RedisUnavailable` unless the server answers by the deadline."""

        async def attempt(link: Link, _: RedisUnavailable | None) -> None:
            self._accept(link, await self._bounded(link.send(("PING",)), deadline))

        await self._persist(attempt, deadline)

    def send_now(self, command: Command) -> asyncio.Future[Reply] | None:
        """Send a script ahead of everything that is sent later, if connected."""
        if self._link is None or not self._link.usable:
            return None
        return self._link.send(_words(command))

    async def settled(self, future: asyncio.Future[Reply]) -> bool:
        """Wait for a :meth:`send_now`. False if it has to be sent again."""
        try:
            return not isinstance(await future, hiredis.ReplyError)
        except RedisUnavailable:
            return False

    async def close(self) -> None:
        """Close for good. Commands without a reply fail."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._link is not None:
            link = self._link
            link.abort("the client was closed")
            await asyncio.shield(link.closed)

    async def _persist(
        self,
        attempt: Callable[[Link, RedisUnavailable | None], Awaitable[_T]],
        deadline: float,
        before: RedisUnavailable | None = None,
    ) -> _T:
        """Attempt something until it succeeds, is refused, or the deadline has come.

        An attempt is told how the last one failed that may have reached the server.
        """
        while True:
            try:
                link = await self._open(deadline)
            except RedisUnavailable as error:
                if self._closed or now() >= deadline:
                    raise before or NotSent(str(error)) from error
                continue
            try:
                return await attempt(link, before)
            except RedisUnavailable as error:
                if now() >= deadline:
                    # Why it came to be repeated says more than that time is up.
                    raise before or error from error.__cause__
                # On a link that still works it was no loss but a refusal.
                if self._closed or link.usable:
                    raise
                before = error

    async def _run(self, link: Link, command: Command, deadline: float) -> Reply:
        reply = await self._bounded(link.send(_words(command)), deadline)
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            script, keys, args = command
            words = ("EVAL", script.text, len(keys), *keys, *args)
            reply = await self._bounded(link.send(words), deadline)
        return self._accept(link, reply)

    def _accept(self, link: Link, reply: Reply) -> Reply:
        if not isinstance(reply, hiredis.ReplyError):
            self._failures = 0
            return reply
        text = str(reply)
        if text.startswith(_REFUSED):
            raise ConfigurationError(f"{self._target} refuses a command that locks need: {text}")
        if text.startswith(_MOVED_ON):
            # The same name may lead to the right server soon.
            self._failures += 1
            link.abort(text)
        raise RedisUnavailable(f"{self._target}: {text}")

    async def _bounded(self, future: asyncio.Future[_T], deadline: float) -> _T:
        # The link's own watchdog ends what takes longer than the reply timeout: no second timer.
        if deadline - now() >= self._unhurried:
            return await future
        try:
            async with asyncio.timeout(max(0.0, deadline - now())):
                return await future
        except TimeoutError as error:
            raise RedisUnavailable(f"no answer from {self._target} in time") from error

    async def _open(self, deadline: float) -> Link:
        link = self._link
        if link is not None:
            if link.usable:
                return link
            await asyncio.shield(link.closed)
        if self._closed:
            raise RedisUnavailable("the client is closed")
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect(), name="fencelock-connect")
            self._connecting.add_done_callback(self._connected)
        # Shielded: others may be waiting for the same connection.
        return await self._bounded(asyncio.shield(self._connecting), deadline)

    def _connected(self, task: asyncio.Task[Link]) -> None:
        self._connecting = None
        if task.cancelled() or task.exception() is not None:
            self._failures += 1
        elif task.result().usable:
            self._link = task.result()

    async def _connect(self) -> Link:
        if self._failures:
            ceiling = min(BACKOFF_SECONDS_FIRST * 2**self._failures, BACKOFF_SECONDS_MAX)
            await asyncio.sleep(random.uniform(ceiling / 2, ceiling))  # noqa: S311 (jitter)
        try:
            async with asyncio.timeout(self._connect_timeout):
                link = await self._dial()
                try:
                    await self._introduce(link)
                except BaseException:
                    link.abort("the greeting failed")
                    raise
        except (OSError, TimeoutError) as error:
            reason = str(error) or f"no connection within {self._connect_timeout:g} s"
            raise RedisUnavailable(f"cannot reach {self._target}: {reason}") from error
        return link

    async def _dial(self) -> Link:
        loop, target = self._loop, self._target

        def make() -> Link:
            return Link(
                loop,
                reply_timeout=self._reply_timeout,
                on_push=self._on_push,
                on_lost=self._lost,
            )

        if target.path is not None:
            return (await loop.create_unix_connection(make, target.path))[1]
        made = await loop.create_connection(make, target.host, target.port, ssl=target.tls)
        sock: socket.socket = made[0].get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return made[1]

    async def _introduce(self, link: Link) -> None:
        target = self._target
        hello: tuple[Word, ...] = ("HELLO", "3")
        if target.password is not None:
            hello += ("AUTH", target.username or "default", target.password)
        commands: list[tuple[Word, ...]] = [hello, ("CLIENT", "SETNAME", "fencelock")]
        if target.db:
            commands.append(("SELECT", target.db))
        commands.append(("SUBSCRIBE", self._channel))
        commands += [("SCRIPT", "LOAD", script.text) for script in self._scripts]
        commands.append(("CONFIG", "GET", "maxmemory*"))
        *replies, settings = await asyncio.gather(*[link.send(words) for words in commands])
        if isinstance(replies[0], hiredis.ReplyError):
            raise self._greeting_refused(str(replies[0]))
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                self._accept(link, reply)
        check_mode(replies[0])
        check_eviction(settings)

    def _greeting_refused(self, text: str) -> Exception:
        if text.startswith(("NOPROTO", "ERR unknown command", "ERR syntax")):
            return ConfigurationError(
                f"{self._target} does not speak RESP3, which pushes need: Redis 7, Valkey 7.2 or "
                f"newer is required ({text})"
            )
        if text.startswith(_REFUSED):
            return ConfigurationError(f"{self._target} refuses the credentials: {text}")
        return RedisUnavailable(f"{self._target}: {text}")

    def _lost(self, link: Link) -> None:
        if self._link is link:
            self._link = None
            self._on_down()


def _words(command: Command) -> tuple[Word, ...]:
    script, keys, args = command
    return ("EVALSHA", script.digest, len(keys), *keys, *args)


def check_mode(greeting: Reply) -> None:
    """Refuse a node of a Cluster and a Sentinel.

    Raises:
        ConfigurationError: the server is not a server of its own.
    """
    mode = greeting.get(b"mode") if isinstance(greeting, dict) else None
    if isinstance(mode, bytes) and mode != b"standalone":
        raise ConfigurationError(f"the server runs in {mode.decode()} mode: use a standalone one")


def check_eviction(settings: Reply) -> None:
    """Refuse a server that may throw locks away when its memory is full.

    A server that does not let us read its settings is trusted.

    Raises:
        ConfigurationError: ``maxmemory`` is set and the policy is not ``noeviction``.
    """
    if not isinstance(settings, dict):
        return
    policy = settings.get(b"maxmemory-policy", b"noeviction")
    if settings.get(b"maxmemory", b"0") != b"0" and policy != b"noeviction":
        raise ConfigurationError(
            f"maxmemory-policy is {policy.decode()}: the server may evict locks that are held. "
            "Set it to noeviction, or keep locks on a server of their own"
        )
