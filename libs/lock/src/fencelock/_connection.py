"""The way to one server: connects when needed, again after a loss, and repeats what is safe to.

Every command of this library may be repeated (see the Lua files), so a command whose reply was lost
is sent again on the next connection until its caller's deadline. So is one that was refused for a
reason that passes.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple, TypeVar

import hiredis

from fencelock import _fitness, _forks, _protocol, _wire
from fencelock._attempt import Attempt
from fencelock._clock import now
from fencelock._errors import ConfigurationError, FencelockError, RedisUnavailable
from fencelock._link import Link, Reply, Word, pack
from fencelock._protocol import Command, ServerClock
from fencelock._route import Route
from fencelock._scripts import Scripts
from fencelock._spare import Spare
from fencelock._target import Target

BACKOFF_SECONDS_FIRST = 0.02
BACKOFF_SECONDS_MAX = 1.0
_BACKOFF_DOUBLINGS_MAX = 10
# A failover: this server is not, or not yet, the one that takes writes.
_MOVED_ON = ("READONLY", "LOADING", "MASTERDOWN", "REDIRECT")
# The server will take the same command again soon.
_PASSING = (
    *_MOVED_ON,
    "BUSY",
    "NOREPLICAS",
    "MISCONF",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "OOM",
    "NOGOODSLAVE",
    "IOERR",
    # A slot of a Cluster is on its way to another node, as Redis and as Valkey put it.
    "ERR Script attempted to access a non local key",
    "ERR Attempted to access a non local key",
)
# What a node of a Cluster says of a slot that it has not, or not all of.
_REDIRECTED = ("MOVED ", "ASK ")
_ON_ITS_WAY = (*_REDIRECTED, "TRYAGAIN")
_REFUSED = (
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "ERR AUTH",
    "ERR ACL failure",
    "ERR unknown command",
    "ERR DB index",
)
# Before version 7 the error of a command in a script was wrapped in an error of the script.
_WRAPPED = re.compile(r"^ERR Error running script.*?: -?([A-Z]+ .*)$", re.DOTALL)

_T = TypeVar("_T")


class Answer(NamedTuple):
    """The reply to a command."""

    reply: Reply
    sent: float
    """The moment just before the request was sent that was answered."""
    repeated: bool
    """Whether an earlier attempt may have reached the server."""
    link: Link


class Redirected(RedisUnavailable):
    """A node of a Cluster says that another one has the names. It did nothing."""

    def __init__(self, text: str, target: str) -> None:
        super().__init__(f"{target}: {text}")
        kind, _, where = text.split()[:3]
        host, _, port = where.rpartition(":")
        self.ask = kind == "ASK"
        self.address = (host.strip("[]") or target.rpartition(":")[0].strip("[]"), int(port))
        self.reached = False


class _Passing(RedisUnavailable):
    """The server refused a command for a reason that passes. Never leaves this module."""


class _Broken(RedisUnavailable):
    """The connection broke during the greeting. Never leaves this module."""


class Connection:
    """A connection that heals itself."""

    def __init__(
        self,
        route: Route,
        scripts: Scripts,
        *,
        channel: str,
        connect_timeout: float,
        reply_timeout: float,
        on_push: Callable[[object], None],
        on_down: Callable[[], None],
        on_up: Callable[[Link], Awaitable[None]],
        probe_tag: Callable[[], str] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._generation = _forks.generation()
        self._route = route
        # Where the server was found last.
        self._target: Target | Route = route
        self._scripts = scripts
        self._channel = channel
        self._connect_timeout = connect_timeout
        self._reply_timeout = reply_timeout
        self._on_push = on_push
        self._on_down = on_down
        self._on_up = on_up
        self._probe_tag = probe_tag
        self._link: Link | None = None
        # The connection before this one, as the server knew it.
        self._predecessor: tuple[int, str] | None = None
        # Connections of threads that were dropped, until the server has answered that they are.
        self._disowned: set[tuple[int, str]] = set()
        self._opening: asyncio.Future[Link] | None = None
        self._connecting: asyncio.Task[None] | None = None
        # The one that is being made.
        self._attempt: Attempt | None = None
        # The server that has let us in last.
        self._greeted: Target | None = None
        self._failures = 0
        # Not before this moment is the next attempt to connect.
        self._retry_at = 0.0
        self._trouble: Exception | None = None
        self._fitness = _fitness.Fitness()
        self._closed = False
        route.follow(self._moved)

    async def call(
        self,
        command: Command,
        *,
        deadline: float,
        limit: float | None = None,
        repeat: Callable[[], Command] | None = None,
        asking: bool = False,
    ) -> Answer:
        """Run a script, or a plain command.

        Args:
            command: what to run.
            deadline: the moment at which to give up.
            limit: seconds without a reply after which the connection counts as dead; the reply
                timeout if None.
            repeat: makes what to run instead once the command may have reached the server; the
                command itself if None.
            asking: it is about a slot that this node of a Cluster is getting from another one.

        Raises:
            RedisUnavailable: no answer by the deadline, or a refusal that does not pass.
            ConfigurationError: the server does not allow what a lock needs.
        """
        limit = self._reply_timeout if limit is None else limit
        failed: RedisUnavailable | None = None
        moment = now()
        # The usual case: connected, and nothing else to do.
        link = None if asking else self._prepared(command, moment, deadline, limit)
        if link is not None:
            try:
                reply = await _send(link, command, moment, limit)
            except RedisUnavailable as error:
                failed = error
            else:
                if not isinstance(reply, hiredis.ReplyError):
                    self._failures = 0
                    return Answer(reply, moment, False, link)  # noqa: FBT003 (by name it is slow)
                failed = _half_done(reply)
        return await self._insist(command, deadline, limit, repeat, failed, asking=asking)

    def _prepared(
        self, command: Command, moment: float, deadline: float, limit: float
    ) -> Link | None:
        """The link, if a command can be sent over it as it is."""
        link = self._link
        # A deadline that is about as far away as the link's watchdog needs no other timer.
        if link is None or deadline - moment < limit * 0.9 or not self._mine():
            return None
        if command.dated and not self._fitness.sure(moment):
            return None
        return None if command.shares and link.no_sharing is not None else link

    async def _insist(
        self,
        command: Command,
        deadline: float,
        limit: float,
        repeat: Callable[[], Command] | None,
        failed: RedisUnavailable | None,
        *,
        asking: bool,
    ) -> Answer:
        async def attempt(link: Link, before: RedisUnavailable | None) -> Answer:
            if command.dated:
                await self._fitness.look(link, now())
            if command.shares and link.no_sharing is not None:
                raise ConfigurationError(link.no_sharing)
            sent = now()
            chosen = command if before is None or repeat is None else repeat()
            reply = await self._run(link, chosen, deadline, limit, asking=asking)
            return Answer(reply, sent, repeated=before is not None, link=link)

        return await self._persist(attempt, deadline, failed)

    async def ping(self, *, deadline: float) -> None:
        """Raise :class:`RedisUnavailable` unless the server answers by the deadline."""

        async def attempt(link: Link, _: RedisUnavailable | None) -> None:
            self._accept(link, await self._bounded(link.send(("PING",)), deadline))

        await self._persist(attempt, deadline)

    async def witness(
        self, command: Command, replicas: int, *, seconds: float, deadline: float
    ) -> tuple[Answer, int]:
        """Run a script that writes, and say how many replicas had that after ``seconds`` at most.

        Raises:
            RedisUnavailable: no answer by the deadline, or a refusal that does not pass.
            ConfigurationError: the server does not allow what a lock needs.
        """

        async def attempt(link: Link, before: RedisUnavailable | None) -> tuple[Answer, int]:
            sent = now()
            limit = max(0.001, deadline - sent)
            reply = await self._run(link, command, deadline, limit)
            wait = ("WAIT", replicas, _protocol.milliseconds(min(seconds, limit)))
            seen = self._accept(link, await self._bounded(link.send(wait, limit), deadline))
            if not isinstance(seen, int):
                raise RedisUnavailable(f"{self._target}: the reply to WAIT makes no sense")
            return Answer(reply, sent, repeated=before is not None, link=link), seen

        return await self._persist(attempt, deadline)

    def send_now(self, command: Command) -> asyncio.Future[Reply] | None:
        """Send a script ahead of everything that is sent later, if connected."""
        link = self._link
        if link is None or not link.usable or not self._mine():
            return None
        return _send(link, command, now(), self._reply_timeout)

    async def evaluate(self, link: Link, command: Command) -> Reply:
        """Run a script on a link that is not given to others yet. Error replies are returned."""
        reply = await _send(link, command, now(), self._reply_timeout)
        if _unknown(reply):
            reply = await _send(link, command, now(), self._reply_timeout, whole=True)
        return reply

    def tracks(self, command: Command) -> bool:  # noqa: ARG002 (see ClusterConnection)
        """Whether the server tells of changes to the keys of a command."""
        return self._link is not None and self._link.tracks

    @property
    def up(self) -> bool:
        """Whether it is connected."""
        return self._link is not None and self._link.usable

    def serves(self, link: Link, command: Command) -> bool:  # noqa: ARG002 (see ClusterConnection)
        """Whether a link leads to where the names of a command are."""
        return True

    async def links(self, *, deadline: float) -> list[Link]:
        """Be connected to every server there is; see :meth:`ready`."""
        return [await self.ready(deadline=deadline)]

    def uses(self, link: Link) -> bool:
        """Whether this is the link over which it talks now."""
        return link is self._link and link.usable and self._mine()

    def sure(self, link: Link) -> bool:
        """Whether locks may be asked for beside this link with nothing to look at before."""
        return self.uses(link) and self._fitness.sure(now())

    async def spare(self) -> Spare | None:
        """Another connection to the server of the present link, for a thread that blocks.

        None if there is no such server now, if it is reached by TLS, which belongs to the loop, or
        if it does not say how to end that connection for certain.

        Raises:
            OSError, RedisUnavailable: it cannot be opened.
        """
        beside, target = self._link, self._target
        if beside is None or not isinstance(target, Target) or target.tls is not None:
            return None
        if self._predecessor is None:
            # What it does not say of this connection, as over a socket, it would not of another.
            return None
        async with asyncio.timeout(self._connect_timeout):
            link = await self._attempt_at(target).connect()
            try:
                greeting = _introduction(target)
                if beside.tracks:
                    # No key is tracked, but it is told on this connection too, ahead of any later
                    # reply, when the server drops its data.
                    greeting.append(_fitness.TRACKING)
                greeting += [("PUBSUB", "NUMSUB", self._channel), ("CLIENT", "INFO")]
                *replies, info = await asyncio.gather(*[link.send(words) for words in greeting])
                # The same name may lead to another server by now: ours is who listens there.
                listening = replies[-1] == [self._channel.encode(), 1]
                identity = _fitness.identity(info)
                refused = any(isinstance(reply, hiredis.ReplyError) for reply in replies)
                if refused or not listening or identity is None:
                    return None
                return Spare(link.detach(), identity, beside)
            finally:
                link.abort("handed over")

    def disown(self, identity: tuple[int, str]) -> None:
        """See to it that nothing more is done of what another connection has under way."""
        self._disowned.add(identity)
        link = self._link
        if link is not None and link.usable:
            link.send(_kill(identity)).add_done_callback(partial(self._killed, identity))

    def _killed(self, identity: tuple[int, str], sent: asyncio.Future[Reply]) -> None:
        if not sent.cancelled() and sent.exception() is None:
            self._disowned.discard(identity)

    def look_again(self) -> None:
        """Something vanished before its time: see soon whether the server still is fit."""
        self._fitness.doubt()

    async def ready(self, *, deadline: float) -> Link:
        """Be connected.

        Raises:
            RedisUnavailable: it was not possible by the deadline.
            ConfigurationError: the server is not fit for locks.
        """
        return await self._persist(_itself, deadline)

    def reconnect(self) -> None:
        """Begin to connect, if nobody did, without waiting for it."""
        if not self._closed and self._opening is None and self._mine():
            self._begin()

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
        await self._route.close()

    def _mine(self) -> bool:
        return self._generation == _forks.generation()

    async def _persist(
        self,
        attempt: Callable[[Link, RedisUnavailable | None], Awaitable[_T]],
        deadline: float,
        before: RedisUnavailable | None = None,
    ) -> _T:
        """Attempt something until it succeeds, is refused for good, or the deadline has come.

        An attempt is told how the last one failed that may have reached the server.
        """
        refusals = 0
        refused: _Passing | None = None
        while True:
            link: Link | None = None
            try:
                link = await self._open(deadline, sent=before is not None)
                return await attempt(link, before)
            except RedisUnavailable as error:
                passing = isinstance(error, _Passing)
                refused = error if isinstance(error, _Passing) else refused
                # On a link that still works it was no loss but a refusal.
                if link is not None and link.usable and not passing:
                    # Whoever was sent on now may have done something with an earlier try.
                    error.reached = error.reached or before is not None
                    raise
                if link is not None:
                    before = error
                refusals += passing
                pause = _backoff(refusals) if passing else 0.0
                if self._closed or now() + pause >= deadline:
                    raise self._given_up(error, refused, reached=before is not None) from error
                await asyncio.sleep(pause)

    def _given_up(
        self, error: RedisUnavailable, refused: "_Passing | None", *, reached: bool
    ) -> RedisUnavailable:
        # The last try may have been too short for an answer; what the others were told is why.
        why = "" if refused is None or refused is error else f", after {refused}"
        given_up = RedisUnavailable(f"{error}{why}")
        given_up.reached = reached
        return given_up

    async def _run(
        self, link: Link, command: Command, deadline: float, limit: float, *, asking: bool = False
    ) -> Reply:
        if asking:
            # It holds for the next command, and so does what begins tracking: they exclude each
            # other. The next renewal has the keys watched.
            command = command._replace(tracked=False)
            link.send(("ASKING",), limit)
        reply = await self._bounded(_send(link, command, now(), limit), deadline)
        if _unknown(reply):
            if asking:
                link.send(("ASKING",), limit)
            whole = _send(link, command, now(), limit, whole=True)
            reply = await self._bounded(whole, deadline)
        return self._accept(link, reply)

    def _accept(self, link: Link, reply: Reply) -> Reply:
        if not isinstance(reply, hiredis.ReplyError):
            self._failures = 0
            return reply
        text = refusal(reply)
        if self._route.mode == b"cluster" and text.startswith(_REDIRECTED):
            raise Redirected(text, str(self._target))
        if text.startswith(_REFUSED):
            raise ConfigurationError(
                f"{self._target} refuses a command that locks need: {text}. A user for locks needs "
                f"at least: {_fitness.ACL_LINE}; for shared locks and semaphores "
                f"{_fitness.ACL_KINDS}"
            )
        if text.startswith(_MOVED_ON):
            # The same name may lead to the right server soon.
            self._failed()
            link.abort(text)
        if text.startswith(_PASSING):
            raise _Passing(f"{self._target}: {text}")
        raise RedisUnavailable(f"{self._target}: {text}")

    async def _bounded(
        self, future: asyncio.Future[_T], deadline: float, *, connecting: bool = False
    ) -> _T:
        seconds = deadline - now()
        # The link's own watchdog ends what takes longer than the reply timeout: no second timer.
        if not connecting and seconds >= self._reply_timeout * 0.9:
            return await future
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                return await future
        except TimeoutError as error:
            if self._trouble is not None:
                text = f"no answer from {self._target} in time: {self._trouble}"
                raise RedisUnavailable(text) from self._trouble
            if connecting and self._attempt is not None:
                raise RedisUnavailable(self._attempt.silent("in time")) from error
            silent = (
                "cannot reach {}: no answer in time" if connecting else "no answer from {} in time"
            )
            raise RedisUnavailable(silent.format(self._target)) from error

    async def _open(self, deadline: float, *, sent: bool) -> Link:
        if not self._mine():
            raise RedisUnavailable("this connection belongs to the parent process")
        link = self._link
        if link is not None:
            if link.usable:
                return link
            await asyncio.shield(link.closed)
        if self._closed:
            raise RedisUnavailable("the client is closed")
        opening = self._opening or self._begin()
        # Shielded: others may be waiting for the same connection.
        try:
            return await self._bounded(asyncio.shield(opening), deadline, connecting=True)
        except (ConfigurationError, asyncio.CancelledError) as error:
            if sent:
                raise
            # Whoever undoes what was under way need not undo what never was.
            unsent = _unsent(error)
        # Not above, where it would seem to come of the other, which says the same.
        raise unsent

    def _begin(self) -> asyncio.Future[Link]:
        opening = self._opening = self._loop.create_future()
        # Nobody may be waiting for it any more when it fails.
        opening.add_done_callback(lambda future: future.cancelled() or future.exception())
        # An eager task factory may run the task to its end before this returns.
        self._connecting = self._loop.create_task(self._connect(opening), name="fencelock-connect")
        return opening

    async def _connect(self, opening: asyncio.Future[Link]) -> None:
        try:
            # Also before the first attempt of an eager task, others must have their turn.
            await asyncio.sleep(max(0.0, self._retry_at - now()) if self._failures else 0)
            link = await self._establish()
        except GeneratorExit:
            raise  # the loop is gone, and with it everybody who waits
        except BaseException as error:
            self._opening = None
            self._failed()
            closed = self._closed or isinstance(error, asyncio.CancelledError)
            shown = RedisUnavailable("the client is closed") if closed else error
            if not closed and isinstance(error, Exception):
                self._trouble = error
            opening.set_exception(shown)
            if not isinstance(error, Exception):
                raise
        else:
            self._opening = None
            self._failures = 0
            self._trouble = None
            self._link = link
            opening.set_result(link)

    async def _establish(self) -> Link:
        attempt: Attempt | None = None
        try:
            async with asyncio.timeout(self._connect_timeout):
                target = self._target = await self._route.find()
                attempt = self._attempt = self._attempt_at(target)
                link = await attempt.connect()
                try:
                    await self._introduce(link, target)
                except BaseException:
                    link.abort("the greeting failed")
                    raise
        except _Broken as broken:
            raise self._failure(attempt, broken) from broken.__cause__
        except (OSError, TimeoutError, UnicodeError) as error:
            raise self._failure(attempt, error) from error
        finally:
            self._attempt = None
        try:
            await self._on_up(link)
        except BaseException:
            link.abort("the leases could not be looked after")
            raise
        if not link.usable:
            raise RedisUnavailable(f"{self._target}: the connection broke at once")
        self._greeted = target
        return link

    def _attempt_at(self, target: Target) -> Attempt:
        def make() -> Link:
            return Link(
                self._loop,
                reply_timeout=self._reply_timeout,
                on_push=self._on_push,
                on_lost=self._lost,
            )

        return Attempt(target, make, stranger=self._greeted != target)

    def _failure(self, attempt: Attempt | None, error: Exception) -> FencelockError:
        """What to raise when a server could not be reached, or broke off."""
        seconds = self._connect_timeout
        if attempt is None:
            reason = str(error) or f"no connection within {seconds:g} s"
            return RedisUnavailable(f"cannot reach {self._target}: {reason}")
        return attempt.failed(error, seconds)

    def _failed(self) -> None:
        self._failures += 1
        # Whoever waits for a reply at most gets a fresh attempt in that time.
        self._retry_at = now() + min(_backoff(self._failures), self._reply_timeout / 2)

    def _greeting(self, target: Target) -> tuple[list[tuple[Word, ...]], list[tuple[Word, ...]]]:
        """What to say on a new connection: what must succeed, the probe last; and what may."""
        must = _introduction(target)
        must.append(("SUBSCRIBE", self._channel))
        must += [("SCRIPT", "LOAD", script.text) for script in self._scripts]
        tag = None if self._probe_tag is None else self._probe_tag()
        must.append(_fitness.probe(self._scripts.probe, self._channel, tag))
        may: list[tuple[Word, ...]] = [_fitness.SETTINGS, ("CLIENT", "INFO"), _fitness.TRACKING]
        # What the last connection still has under way must not come after what this one sends.
        former = set(self._disowned)
        if self._predecessor is not None:
            former.add(self._predecessor)
        return must, [*may, *map(_kill, former)]

    async def _introduce(self, link: Link, target: Target) -> None:
        disowned = set(self._disowned)
        must, may = self._greeting(target)
        sent = now()
        futures = [link.send(words) for words in (*must, *may)]
        # Not as soon as one fails: the first says why the server hung up, if it does.
        replies = await asyncio.gather(*futures, return_exceptions=True)
        if isinstance(replies[0], hiredis.ReplyError):
            raise self._greeting_refused(str(replies[0]))
        for reply in replies:
            if isinstance(reply, RedisUnavailable):
                raise _Broken(str(reply)) from reply.__cause__
        _fitness.check_mode(str(target), replies[0], self._route.mode)
        if self._route.master and _fitness.is_replica(replies[0]):
            raise _Passing(f"{target} is a replica: another server is the master")
        *said, probed = replies[: len(must)]
        for reply in said:
            self._accept(link, reply)
        settings, info, tracking = replies[len(must) : len(must) + 3]
        if not self._elsewhere(probed):
            self._check_rights(link, self._accept(link, probed), sent)
        self._fitness.settings_read(settings, sent)
        self._predecessor = _fitness.identity(info)
        link.tracks = tracking == b"OK"
        self._disowned -= disowned

    def _elsewhere(self, probed: Reply) -> bool:
        """Whether the slot that was to be probed is on its way, or this node has none at all.

        That says nothing of our rights, and must not keep us from its other slots, nor from the
        names that it is getting just now.
        """
        if self._route.mode != b"cluster" or not isinstance(probed, hiredis.ReplyError):
            return False
        return refusal(probed).startswith(_ON_ITS_WAY)

    def _check_rights(self, link: Link, probed: Reply, sent: float) -> None:
        rights = _fitness.check_rights(str(self._target), probed)
        if any(text.startswith(_MOVED_ON) for text in rights.refused):
            raise _Passing(f"{self._target}: {rights.refused[0]}")
        link.clock.read(sent, rights.time)
        link.no_sharing = rights.sharing

    def _greeting_refused(self, text: str) -> Exception:
        if text.startswith(("NOPROTO", "ERR unknown command", "ERR syntax")):
            return ConfigurationError(
                f"{self._target} does not speak RESP3, which pushes need: Redis 6.2, Valkey 7.2 or "
                f"newer is required ({text})"
            )
        if text.startswith(_REFUSED):
            return ConfigurationError(f"{self._target} refuses the credentials: {text}")
        if text.startswith(_PASSING):
            return _Passing(f"{self._target}: {text}")
        return RedisUnavailable(f"{self._target}: {text}")

    def _moved(self, target: Target) -> None:
        """The server is elsewhere now: what is sent to the old one counts for nothing."""
        if self._closed or not self._mine():
            return
        self._failures = 0
        if self._link is not None and target != self._target:
            self._link.abort(f"{self._target} is not the master any more: {target} is")

    def _lost(self, link: Link) -> None:
        if self._link is link:
            self._link = None
            self._on_down()


def _introduction(target: Target) -> list[tuple[Word, ...]]:
    """What is said first on every connection."""
    said: list[tuple[Word, ...]] = [target.hello, ("CLIENT", "SETNAME", "fencelock")]
    if target.db:
        said.append(("SELECT", target.db))
    return said


def _kill(identity: tuple[int, str]) -> tuple[Word, ...]:
    number, address = identity
    return ("CLIENT", "KILL", "ID", number, "ADDR", address)


async def _itself(link: Link, _: RedisUnavailable | None) -> Link:
    """What :meth:`Connection.ready` attempts: being connected is all."""
    return link


def _unsent(
    error: ConfigurationError | asyncio.CancelledError,
) -> ConfigurationError | asyncio.CancelledError:
    """The same error for one caller, who has sent nothing yet."""
    unsent = type(error)(*error.args)
    unsent.__cause__ = error.__cause__
    unsent.reached = False  # type: ignore[union-attr]  # the other may be asked, too
    return unsent


def refusal(reply: hiredis.ReplyError) -> str:
    """What the server refused a command with."""
    text = str(reply)
    wrapped = _WRAPPED.match(text)
    return wrapped[1] if wrapped else text


def _half_done(reply: hiredis.ReplyError) -> RedisUnavailable | None:
    """The refusal of a script that may have done something before it came to that."""
    text = refusal(reply)
    return RedisUnavailable(text) if text.startswith(_PASSING) else None


def _backoff(failures: int) -> float:
    doublings = min(failures, _BACKOFF_DOUBLINGS_MAX)
    ceiling = min(BACKOFF_SECONDS_FIRST * 2**doublings, BACKOFF_SECONDS_MAX)
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311 (jitter)


def _unknown(reply: Reply) -> bool:
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT")


def _send(
    link: Link, command: Command, sent: float, limit: float, *, whole: bool = False
) -> asyncio.Future[Reply]:
    """Send a script by its digest, or its whole text, with what it needs to be known just now."""
    if command.tracked and link.tracks:
        # Holds for the next command only. Whether it was heard shows in the pushes.
        link.send(_fitness.CACHING, limit)
    return link.send(packed(command, link.clock, sent, limit, whole=whole), limit, sent)


def packed(
    command: Command, clock: ServerClock, sent: float, limit: float, *, whole: bool = False
) -> bytes:
    """What to send: a script by its digest, or its whole text.

    All of it is text: hiredis asks for that of a number, and dies if a signal handler raises then.
    """
    script, keys, args, dated, _, _ = command
    moment = str(clock.not_after(sent, limit)) if dated else ""
    if script.digest and not whole:
        return _wire.call(script.digest, keys, args, moment)
    if moment:
        args = (*args, moment)
    if whole:
        return pack(("EVAL", script.text, str(len(keys)), *keys, *args))
    return pack((script.text, *keys, *args))
