"""What to send to the server and how to read its answers, free of I/O.

A driver (the asyncio client here; a blocking one, or one for another topology) sends a
:class:`Command`, and passes the reply to the matching ``read_*`` function together with the moment
at which it sent the request. All moments are of one monotonic clock, in seconds.
"""

import math
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, NamedTuple, Protocol, TypeVar

from fencelock import _names, _proof
from fencelock._errors import ConfigurationError, RedisUnavailable
from fencelock._kinds import EXCLUSIVE, Kind
from fencelock._scripts import Script, Scripts
from fencelock._shown import shown

LOCK_PREFIX: Final = "fencelock:l:"
PERMIT_PREFIX: Final = "fencelock:r:"
PERMITS_PREFIX: Final = "fencelock:p:"
QUEUE_PREFIX: Final = "fencelock:q:"
CHANNEL_PREFIX: Final = "fencelock:c:"
FENCE_KEY: Final = "fencelock:fence"

# Clocks of two machines drift apart; the allowance is Redlock's: 1 % of the time plus 2 ms.
DRIFT_FACTOR: Final = 0.01
DRIFT_SECONDS: Final = 0.002
# A grant to a waiter runs for one heartbeat until the new holder renews it: a third of its lease.
CLAIM_FRACTION: Final = 1 / 3
CLAIM_SECONDS_MIN: Final = 1.0
# The queue outlives its waiters a little, so that none that is about to give up loses its place.
QUEUE_SLACK_SECONDS: Final = 60.0
RENEW_RETRY_SECONDS: Final = 0.05
MIN_TTL_SECONDS: Final = 0.05
# No time that is longer makes sense, and all up to it fit into every number on the way.
MAX_SECONDS: Final = 365 * 24 * 3600.0
# A request says until when the server may still run it: as long as its sender waits for the reply,
# and a little more, since its idea of the server's clock may be old.
NOT_AFTER_SLACK_SECONDS: Final = 0.5
# One script renews so many keys at most: about a millisecond of the server's time.
RENEWED_KEYS_MAX: Final = 500
# A fence has 16 digits until the year 2286.
_FENCE_DIGITS_MAX: Final = 19

# How many fields there are in an answer to a request, in pushes, and in news.
_ACQUIRE_FIELDS: Final = 5
_MESSAGE_FIELDS: Final = 3
_INVALIDATE_FIELDS: Final = 2
_GRANT_FIELDS: Final = 6
_WATCH_FIELDS: Final = 3
_GRANTED: Final = (b"granted", b"regranted")
_BLOCKED: Final = (b"busy", b"queued", b"requeued")

_MGET: Final = Script("MGET", "")
_ANNOTATION: Final = re.compile(r"[!-~]{1,128}")

Mode = Literal["try", "queue", "again"]


class Command(NamedTuple):
    """One call of a script, or of a plain command, which is one without a digest."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[str, ...]
    dated: bool = False
    """The last argument, added when it is sent, says until when the server may run it."""
    tracked: bool = False
    """The server shall tell when one of the keys changes, if it can."""
    shares: bool = False
    """It is about names that several may hold, which needs rights of its own."""


class Granted(NamedTuple):
    """The request holds every name it asked for."""

    fence: int
    lease: float
    server_time: float
    lost_place: bool = False
    """It had stood in line, and its ticket had vanished."""


class Blocked(NamedTuple):
    """Somebody else is in the way."""

    queued: bool
    lost_place: bool
    remaining: float | None
    blocker: str | None
    stamp: tuple[float, float]
    """A moment before the request was sent, and the server time in its reply."""
    since: str = ""
    """Server time at which it first stood in line; it keeps its place with it."""


class Late(NamedTuple):
    """The request reached the server when its sender had given it up; nothing was done."""

    server_time: float


class Watch(NamedTuple):
    """A name that this process waits for has a new holder in another process."""

    body: str
    lease: float


class Push(NamedTuple):
    """The server made a waiter the holder."""

    owner: str
    granted: Granted
    blocker: str | None
    bodies: tuple[str, ...] = ()


class Changed(NamedTuple):
    """Somebody else changed or deleted keys that this process holds, or the server forgot them."""

    keys: tuple[str, ...] | None
    """None: any of them, since the server dropped all of its data or of one database."""


class Request:
    """One attempt to hold some names: its owner token makes every repeat of it recognisable.

    The server knows only a fingerprint of the secret in the proof of the lease, so whoever reads
    the server's data or its logs cannot make a proof.
    """

    __slots__ = (
        "_annotation",
        "_claim",
        "_ttl_ms",
        "all_keys",
        "bodies",
        "kind",
        "lock_keys",
        "names",
        "owner",
        "reply_limit",
        "secret",
        "since",
        "ttl",
    )

    def __init__(
        self,
        names: tuple[str, ...],
        client_id: str,
        ttl: float,
        annotation: str | None = None,
        kind: Kind = EXCLUSIVE,
    ) -> None:
        """Make a request for names that :func:`fencelock._names.normalise` has passed.

        Raises:
            ConfigurationError: the annotation is not printable ASCII without spaces.
        """
        if annotation is None:
            annotation = "-"
        elif not is_annotation(annotation):
            raise ConfigurationError("an annotation is 1 to 128 printable ASCII characters")
        self.names: tuple[str, ...] = names
        self.kind: Kind = kind
        self.ttl: float = ttl
        self.secret: str = _proof.new_secret()
        self.owner: str = f"{client_id}.{_proof.fingerprint(self.secret)}"
        # Server time at which it first stood in line, when that is known.
        self.since: str = ""
        keys = _keys(names) if len(names) > _KEYS_REMEMBERED_NAMES else _known_keys(names)
        self.bodies: tuple[str, ...] = keys.bodies
        self.lock_keys: tuple[str, ...] = keys.lock_keys
        self.all_keys: tuple[str, ...] = keys.all_keys
        self._ttl_ms, self._claim, self.reply_limit = _times(ttl)
        if kind.name != "exclusive":
            # What is to be renewed and watched of a name that is shared: this owner's permit.
            permit = f"{PERMIT_PREFIX}{self.owner}:"
            self.lock_keys = tuple([permit + body for body in self.bodies])
            self._claim = f"{self._claim}{kind.ticket_suffix}"
        self._annotation = annotation

    def anew(self) -> "Request":
        """The same question with a token of its own."""
        client_id = self.owner.partition(".")[0]
        annotation = None if self._annotation == "-" else self._annotation
        return Request(self.names, client_id, self.ttl, annotation, self.kind)

    def acquire(self, scripts: Scripts, mode: Mode, wait: float) -> Command:
        """Ask for the names."""
        args = (
            self.owner,
            self._ttl_ms,
            self._claim,
            self._annotation,
            mode,
            _line_ms(wait),
            self.since,
        )
        shares = self.kind.name != "exclusive"
        # Not by name, which takes three times as long.
        return Command(scripts.acquire, self.all_keys, args, True, False, shares)  # noqa: FBT003

    def release(self, scripts: Scripts, *, queued: bool) -> Command:
        """Give the names up, and withdraw the ticket if one may stand in the queue."""
        ticket = ""
        if queued:
            # Without knowing since when it stands there, the server has to look for it.
            head = (self.owner, self.since, self._claim, self._annotation)
            ticket = " ".join([*head, *self.bodies]) if self.since else "?"
        return Command(scripts.release, self.all_keys, (self.owner, ticket))


def fence_key(tag: str) -> str:
    """The fence counter of a slot of a Cluster, to which a hash tag leads."""
    return f"{FENCE_KEY}:{{{tag}}}"


class _Keys(NamedTuple):
    bodies: tuple[str, ...]
    lock_keys: tuple[str, ...]
    all_keys: tuple[str, ...]


def _keys(names: tuple[str, ...]) -> _Keys:
    """The keys of names, which are the same for every request."""
    bodies = tuple([_names.body(name) for name in names])
    lock_keys = tuple([LOCK_PREFIX + body for body in bodies])
    queue_keys = [QUEUE_PREFIX + body for body in bodies]
    return _Keys(bodies, lock_keys, (FENCE_KEY, *lock_keys, *queue_keys))


# A few megabytes at most, whatever the names are.
_KEYS_REMEMBERED: Final = 1024
_KEYS_REMEMBERED_NAMES: Final = 8
_known_keys = lru_cache(_KEYS_REMEMBERED)(_keys)


@lru_cache(256)
def _times(ttl: float) -> tuple[str, str, float]:
    """Lease and claim in milliseconds, and how long a reply about it may take at most."""
    lease, claim = milliseconds(ttl), milliseconds(claim_seconds(ttl))
    return str(lease), str(claim), default_reply_timeout(ttl)


@lru_cache(256)
def _line_ms(wait: float) -> str:
    """How long the line must last for somebody who waits so long in it."""
    return str(milliseconds(wait + QUEUE_SLACK_SECONDS))


def give_back(scripts: Scripts, owner: str, bodies: tuple[str, ...]) -> Command:
    """Return a grant that nobody in this process waits for."""
    keys = (FENCE_KEY, *[LOCK_PREFIX + body for body in bodies])
    keys += tuple([QUEUE_PREFIX + body for body in bodies])
    return Command(scripts.release, keys, (owner, "?"))


@dataclass(slots=True)
class Term:
    """How long the holder may act: decided by the local clock, never later than the server's.

    ``deadline`` counts from before the request was sent, less the drift margin; ``renew_at`` leaves
    two more tries before it; ``cap`` is the moment at which even a renewed hold ends: ``max_hold``
    seconds after the grant, however long it had to be waited for.
    """

    ttl: float
    max_hold: float
    cap: float = math.inf
    deadline: float = -math.inf
    renew_at: float = -math.inf
    capped: bool = False
    """Renewing is pointless, since the cap is what ends the hold."""

    @property
    def granted(self) -> bool:
        """Whether there ever was a lease."""
        return self.cap < math.inf

    def grant(self, sent: float, lease: float) -> None:
        """A new lease of ``lease`` seconds was asked for at ``sent``."""
        self.cap = sent + self.max_hold
        self.start(sent, lease)

    def start(self, sent: float, lease: float) -> None:
        """Count a lease of ``lease`` seconds from ``sent``."""
        self.deadline = min(sent + lease - drift_margin(lease), self.cap)
        self._plan(sent, lease)

    def grant_pushed(
        self, stamp: tuple[float, float], granted: Granted, *, received: float
    ) -> None:
        """Count a lease that was granted while waiting, without asking the server again.

        ``stamp`` pairs a moment before some request was sent with the server time in its reply.
        The server was not yet at that time at that moment, so its clock reaches the end of the
        lease no earlier than as many seconds after the moment. If the server's clock was stepped
        forward in between, counting from the receipt is the closer bound.
        """
        self.cap = received + self.max_hold
        sent, server_time = stamp
        until_end = granted.server_time + granted.lease - server_time
        end = sent + until_end - drift_margin(until_end)
        latest = received + granted.lease - drift_margin(granted.lease)
        self.deadline = min(end, latest, self.cap)
        self._plan(received, granted.lease)

    def _plan(self, since: float, lease: float) -> None:
        self.capped = since + lease >= self.cap
        self.renew_at = math.inf if self.capped else since + lease / 3

    def postpone(self, now: float) -> None:
        """A renewal failed at ``now``: try again a little later."""
        self.renew_at = now + max(RENEW_RETRY_SECONDS, (self.deadline - now) / 4)

    def next_ttl(self, now: float) -> float:
        """The lease to ask for when renewing at ``now``: it never reaches far past the cap."""
        to_the_cap = (self.cap - now + 2 * DRIFT_SECONDS) / (1 - DRIFT_FACTOR)
        return max(MIN_TTL_SECONDS, min(self.ttl, to_the_cap))


class ServerClock:
    """What this process knows of the server's clock."""

    def __init__(self) -> None:
        self._ahead = -math.inf

    def read(self, sent: float, server_time: float) -> None:
        """The server's clock showed ``server_time`` after ``sent``."""
        self._ahead = server_time - sent

    def not_after(self, now: float, seconds: float) -> int:
        """The server's microseconds at which a sender will have waited ``seconds`` from now."""
        if self._ahead == -math.inf:
            return 0
        return int((now + self._ahead + seconds + NOT_AFTER_SLACK_SECONDS) * 1e6)


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, at least one."""
    return max(1, int(seconds * 1000))


def drift_margin(seconds: float) -> float:
    """How far two clocks may have drifted apart after ``seconds``."""
    return seconds * DRIFT_FACTOR + DRIFT_SECONDS


def claim_seconds(ttl: float) -> float:
    """The first, short lease of a waiter that is granted by push."""
    return min(ttl, max(CLAIM_SECONDS_MIN, ttl * CLAIM_FRACTION))


def validate_ttl(ttl: float, max_hold: float) -> None:
    """Refuse times that no lease can have.

    Raises:
        ConfigurationError: the TTL is too short, not finite, or longer than the cap on the hold.
    """
    _validate_seconds("ttl", ttl, at_least=MIN_TTL_SECONDS)
    _validate_seconds("max_hold", max_hold, at_least=MIN_TTL_SECONDS)
    if not ttl <= max_hold:
        raise ConfigurationError(f"max_hold ({max_hold} s) must not be shorter than ttl ({ttl} s)")


def validate_wait(wait: float) -> None:
    """Refuse a wait without a limit.

    Raises:
        ConfigurationError: the wait is negative or not finite.
    """
    _validate_seconds("wait", wait, at_least=0)


def validate_timeout(timeout: float) -> None:
    """Refuse a limit of one call that is no time. One that is over already is.

    Raises:
        ConfigurationError: it is no number, or not finite.
    """
    _validate_seconds("timeout", timeout, at_least=-MAX_SECONDS)


def validate_timeouts(connect_timeout: float, reply_timeout: float, ttl: float) -> None:
    """Refuse limits of the connection that cannot work.

    Raises:
        ConfigurationError: one is not a positive time, or a renewal could not be repeated in time.
    """
    _validate_seconds("connect_timeout", connect_timeout, at_least=0.001)
    _validate_seconds("reply_timeout", reply_timeout, at_least=0.001)
    if not reply_timeout < ttl / 2:
        raise ConfigurationError(
            f"reply_timeout ({reply_timeout} s) must be below half the ttl ({ttl} s): "
            "a renewal must be able to fail once and be repeated in time"
        )


def _validate_seconds(what: str, value: object, *, at_least: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not at_least <= value <= MAX_SECONDS:  # type: ignore[operator]
        raise ConfigurationError(
            f"{what} must be {at_least:g} to {MAX_SECONDS:.0f} seconds, not {shown(value)}"
        )


def default_reply_timeout(ttl: float) -> float:
    """How long to wait for a reply if nobody said: long, but with time to repeat a renewal."""
    return min(2.0, ttl / 4)


def is_annotation(text: object) -> bool:
    """Whether a text may be kept beside a lease."""
    return isinstance(text, str) and _ANNOTATION.fullmatch(text) is not None


def new_client_id() -> str:
    """Name one client process: 64 random bits."""
    return secrets.token_urlsafe(8)


class Asking(Protocol):
    """Somebody whose lease a script is about."""

    @property
    def request(self) -> Request:
        """What it asked for."""


A = TypeVar("A", bound=Asking)


def batches(leases: Iterable[A]) -> Iterator[list[A]]:
    """Split leases into as many as one script renews."""
    batch: list[A] = []
    keys = 0
    for lease in leases:
        count = len(lease.request.lock_keys)
        if batch and keys + count > RENEWED_KEYS_MAX:
            yield batch
            batch, keys = [], 0
        batch.append(lease)
        keys += count
    if batch:
        yield batch


def renew(scripts: Scripts, leases: Sequence[tuple[Request, float]]) -> Command:
    """Extend every lease, each for its own number of seconds, in one call."""
    keys: list[str] = []
    args: list[str] = []
    for request, ttl in leases:
        keys.extend(request.lock_keys)
        args += (request.owner, str(milliseconds(ttl)), str(len(request.lock_keys)))
    return Command(scripts.renew, tuple(keys), tuple(args), tracked=True)


def look(requests: Sequence[Request], *, tracked: bool) -> Command:
    """Ask whether leases are held.

    Args:
        requests: those whose leases are looked at.
        tracked: the server shall tell when one of their keys changes from now on.
    """
    keys = [key for request in requests for key in request.lock_keys]
    return Command(_MGET, tuple(keys), (), tracked=tracked)


def verify(scripts: Scripts, owner: str, fence: int, names: tuple[str, ...]) -> Command:
    """Ask whether one lease holds all of these names."""
    keys = tuple(LOCK_PREFIX + _names.body(name) for name in names)
    return Command(scripts.verify, keys, (owner, str(fence)))


def read_acquire(reply: object, sent: float) -> Granted | Blocked | Late:
    """Read the answer to :meth:`Request.acquire`, which was sent at ``sent``.

    Raises:
        RedisUnavailable: it makes no sense.
    """
    # Not by patterns, which take three times as long: this is done for every lock.
    if type(reply) is list and len(reply) == _ACQUIRE_FIELDS:
        state, first, left, stamp, blocker = reply
        try:
            if type(left) is bytes and state in _GRANTED:
                return _granted(first, left, stamp, state == b"regranted")
            if type(left) is int and state in _BLOCKED:
                return Blocked(
                    state != b"busy",
                    state == b"requeued",
                    min(left / 1000, MAX_SECONDS) if left >= 0 else None,
                    _annotation(blocker),
                    (sent, int(stamp) / 1e6),
                    first.decode(),
                )
            if state == b"late":
                return Late(int(stamp) / 1e6)
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise _unexpected("acquire", reply) from error
    raise _unexpected("acquire", reply)


def read_release(reply: object) -> tuple[bool, bool]:
    """Read the answer to :meth:`Request.release`.

    Whether the owner held every name, and whether the hand-over is done: if so many tickets of the
    dead stand in line that one script does not clear them, the release is to be repeated.
    """
    if isinstance(reply, int) and 0 <= reply <= 3:  # noqa: PLR2004 (two bits)
        return reply % 2 == 1, reply < 2  # noqa: PLR2004
    raise _unexpected("release", reply)


def read_renew(reply: object, count: int) -> list[bool]:
    """Read the answer to :func:`renew`: for each lease whether it goes on."""
    if isinstance(reply, list) and len(reply) == count:
        return [held == 1 for held in reply]
    raise _unexpected("renew", reply)


def read_look(reply: object, requests: Sequence[Request]) -> list[bool]:
    """Read the answer to :func:`look`: for each lease whether it is held."""
    if not isinstance(reply, list) or len(reply) != sum(len(each.lock_keys) for each in requests):
        raise _unexpected("look", reply)
    held, first = [], 0
    for request in requests:
        last = first + len(request.lock_keys)
        held.append(all(_owned(record, request.owner) for record in reply[first:last]))
        first = last
    return held


def _owned(record: object, owner: str) -> bool:
    return isinstance(record, bytes) and record.startswith(owner.encode() + b" ")


def read_verify(reply: object) -> float | None:
    """Read the answer to :func:`verify`: seconds left at the server, or None if not held."""
    if isinstance(reply, int) and not isinstance(reply, bool):
        return min(reply / 1000, MAX_SECONDS) if reply >= 0 else None
    raise _unexpected("verify", reply)


def read_push(message: object) -> Push | Watch | Changed | None:
    """Read a push: news for one of this process's waiters or holders, or something to ignore."""
    # Not by patterns, which take longer: this is done for every lock that was waited for.
    if not isinstance(message, list) or not message:
        return None
    if message[0] == b"message" and len(message) == _MESSAGE_FIELDS and type(message[2]) is bytes:
        try:
            return _read_news(message[2].split())
        except (ValueError, OverflowError):
            # Anybody may publish anything: what is not ours is not for us.
            return None
    if message[0] == b"invalidate" and len(message) == _INVALIDATE_FIELDS:
        return _read_changed(message[1])
    return None


def _read_changed(keys: object) -> Changed | None:
    if keys is None:
        return Changed(None)
    if not isinstance(keys, list):
        return None
    return Changed(tuple([k.decode("ascii", "replace") for k in keys if isinstance(k, bytes)]))


def _read_news(fields: list[bytes]) -> Push | Watch | None:
    if len(fields) >= _GRANT_FIELDS and fields[0] == b"grant":
        names = tuple([body.decode("ascii") for body in fields[6:]])
        granted = _granted(fields[2], fields[3], fields[4])
        return Push(fields[1].decode("ascii"), granted, _annotation(fields[5]), names)
    if len(fields) == _WATCH_FIELDS and fields[0] == b"watch":
        return Watch(fields[1].decode("ascii"), min(int(fields[2]) / 1000, MAX_SECONDS))
    return None


def _granted(fence: bytes, lease: bytes, stamp: bytes, lost_place: bool = False) -> Granted:  # noqa: FBT001, FBT002 (by name it is slow)
    number, seconds = int(fence), int(lease) / 1000
    if number <= 0 or len(fence) > _FENCE_DIGITS_MAX or not 0 < seconds <= MAX_SECONDS:
        raise ValueError("no such lease can have been asked for")
    return Granted(number, seconds, int(stamp) / 1e6, lost_place)


def _annotation(raw: bytes) -> str | None:
    return None if raw == b"-" else raw.decode("ascii", "replace")


def _unexpected(what: str, reply: object) -> RedisUnavailable:
    return RedisUnavailable(f"the server's reply to {what} makes no sense: {type(reply).__name__}")
