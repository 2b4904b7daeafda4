"""What to send to the server and how to read its answers, free of I/O.

A driver (the asyncio client here; a blocking one, or one for another topology) sends a
:class:`Command`, and passes the reply to the matching ``read_*`` function together with the moment
at which it sent the request. All moments are of one monotonic clock, in seconds.
"""

import math
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from fencelock import _names
from fencelock._errors import ConfigurationError, RedisUnavailable
from fencelock._scripts import Script, Scripts

LOCK_PREFIX: Final = "fencelock:l:"
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

_ANNOTATION: Final = re.compile(r"[!-~]{1,128}")

Mode = Literal["try", "queue", "again"]


class Command(NamedTuple):
    """One call of a script."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[str | int, ...]


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


class Watch(NamedTuple):
    """The names that a waiter wants have a new holder in another process."""

    owner: str
    lease: float


class Push(NamedTuple):
    """The server made a waiter the holder."""

    owner: str
    granted: Granted
    blocker: str | None


class Request:
    """One attempt to hold some names: its owner token makes every repeat of it recognisable."""

    __slots__ = ("_ticket_head", "all_keys", "lock_keys", "names", "owner", "ttl")

    def __init__(
        self, names: tuple[str, ...], client_id: str, ttl: float, annotation: str | None = None
    ) -> None:
        """Make a request for names that :func:`fencelock._names.normalise` has passed.

        Raises:
            ConfigurationError: the annotation is not printable ASCII without spaces.
        """
        if annotation is None:
            annotation = "-"
        elif not _ANNOTATION.fullmatch(annotation):
            raise ConfigurationError("an annotation is 1 to 128 printable ASCII characters")
        bodies = [_names.body(name) for name in names]
        self.names = names
        self.ttl = ttl
        self.owner = f"{client_id}.{secrets.token_urlsafe(12)}"
        self.lock_keys = tuple([LOCK_PREFIX + body for body in bodies])
        self.all_keys = (FENCE_KEY, *self.lock_keys, *[QUEUE_PREFIX + body for body in bodies])
        claim_ms = milliseconds(claim_seconds(ttl))
        self._ticket_head = (self.owner, milliseconds(ttl), claim_ms, annotation)

    def acquire(self, scripts: Scripts, mode: Mode, wait: float) -> Command:
        """Ask for the names."""
        queue_ms = milliseconds(wait + QUEUE_SLACK_SECONDS)
        return Command(scripts.acquire, self.all_keys, (*self._ticket_head, mode, queue_ms))

    def release(self, scripts: Scripts, *, queued: bool) -> Command:
        """Give the names up, and withdraw the ticket if one may stand in the queue."""
        ticket = ""
        if queued:
            bodies = [key.removeprefix(LOCK_PREFIX) for key in self.lock_keys]
            ticket = " ".join([*map(str, self._ticket_head), *bodies])
        return Command(scripts.release, self.all_keys, (self.owner, ticket))


@dataclass(slots=True)
class Term:
    """How long the holder may act: decided by the local clock, never later than the server's.

    ``deadline`` counts from before the request was sent, less the drift margin; ``renew_at`` leaves
    two more tries before it; ``cap`` is the moment at which even a renewed hold ends.
    """

    ttl: float
    cap: float
    deadline: float = -math.inf
    renew_at: float = -math.inf

    def start(self, sent: float, lease: float) -> None:
        """Count a lease of ``lease`` seconds from ``sent``."""
        self.deadline = min(sent + lease - drift_margin(lease), self.cap)
        self.renew_at = math.inf if self.capped else sent + lease / 3

    def start_pushed(
        self, stamp: tuple[float, float], granted: Granted, *, received: float
    ) -> None:
        """Count a lease that was granted while waiting, without asking the server again.

        ``stamp`` pairs a moment before some request was sent with the server time in its reply.
        The server was not yet at that time at that moment, so its clock reaches the end of the
        lease no earlier than as many seconds after the moment. If the server's clock was stepped
        forward in between, counting from the receipt is the closer bound.
        """
        sent, server_time = stamp
        until_end = granted.server_time + granted.lease - server_time
        end = sent + until_end - drift_margin(until_end)
        latest = received + granted.lease - drift_margin(granted.lease)
        self.deadline = min(end, latest, self.cap)
        self.renew_at = math.inf if self.capped else received + granted.lease / 3

    @property
    def capped(self) -> bool:
        """Whether renewing is pointless, since the cap is what ends the hold."""
        return self.deadline >= self.cap

    def postpone(self, now: float) -> None:
        """A renewal failed at ``now``: try again a little later."""
        self.renew_at = now + max(RENEW_RETRY_SECONDS, (self.deadline - now) / 4)

    def next_ttl(self, now: float) -> float:
        """The lease to ask for when renewing at ``now``: it never reaches far past the cap."""
        return max(MIN_TTL_SECONDS, min(self.ttl, self.cap - now))


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
    if not MIN_TTL_SECONDS <= ttl < math.inf:
        raise ConfigurationError(f"ttl must be at least {MIN_TTL_SECONDS} s and finite, not {ttl}")
    if not ttl <= max_hold:
        raise ConfigurationError(f"max_hold ({max_hold} s) must not be shorter than ttl ({ttl} s)")


def validate_wait(wait: float) -> None:
    """Refuse a wait without a limit.

    Raises:
        ConfigurationError: the wait is negative or not finite.
    """
    if not 0 <= wait < math.inf:
        raise ConfigurationError(f"wait must be 0 or more seconds and finite, not {wait}")


def new_client_id() -> str:
    """Name one client process: 64 random bits."""
    return secrets.token_urlsafe(8)


def renew(scripts: Scripts, leases: Sequence[tuple[Request, float]]) -> Command:
    """Extend every lease, each for its own number of seconds, in one call."""
    keys: list[str] = []
    args: list[str | int] = []
    for request, ttl in leases:
        keys.extend(request.lock_keys)
        args += (request.owner, milliseconds(ttl), len(request.lock_keys))
    return Command(scripts.renew, tuple(keys), tuple(args))


def verify(scripts: Scripts, owner: str, fence: int, names: tuple[str, ...]) -> Command:
    """Ask whether one lease holds all of these names."""
    keys = tuple(LOCK_PREFIX + _names.body(name) for name in names)
    return Command(scripts.verify, keys, (owner, fence))


def read_acquire(reply: object, sent: float) -> Granted | Blocked:
    """Read the answer to :meth:`Request.acquire`, which was sent at ``sent``."""
    match reply:
        case [b"granted" | b"regranted" as state, bytes(fence), bytes(lease_ms), bytes(stamp), _]:
            lease, server_time = int(lease_ms) / 1000, int(stamp) / 1e6
            return Granted(int(fence), lease, server_time, lost_place=state == b"regranted")
        case [bytes(state), _, int(left), bytes(stamp), bytes(blocker)]:
            return Blocked(
                queued=state != b"busy",
                lost_place=state == b"requeued",
                remaining=left / 1000 if left >= 0 else None,
                blocker=_annotation(blocker),
                stamp=(sent, int(stamp) / 1e6),
            )
    raise _unexpected("acquire", reply)


def read_release(reply: object) -> bool:
    """Read the answer to :meth:`Request.release`: whether the owner held every name."""
    if isinstance(reply, int):
        return reply == 1
    raise _unexpected("release", reply)


def read_renew(reply: object, count: int) -> list[bool]:
    """Read the answer to :func:`renew`: for each lease whether it goes on."""
    if isinstance(reply, list) and len(reply) == count:
        return [held == 1 for held in reply]
    raise _unexpected("renew", reply)


def read_verify(reply: object) -> float | None:
    """Read the answer to :func:`verify`: seconds left at the server, or None if not held."""
    if isinstance(reply, int):
        return reply / 1000 if reply >= 0 else None
    raise _unexpected("verify", reply)


def read_push(message: object) -> Push | Watch | None:
    """Read a push: news for one of this process's waiters, or something to ignore."""
    match message:
        case [b"message", bytes(), bytes(payload)]:
            return _read_news(payload.split())
    return None


def _read_news(fields: list[bytes]) -> Push | Watch | None:
    match fields:
        case [b"grant", owner, fence, lease_ms, stamp, blocker]:
            granted = Granted(int(fence), int(lease_ms) / 1000, int(stamp) / 1e6)
            return Push(owner.decode(), granted, _annotation(blocker))
        case [b"watch", owner, lease_ms]:
            return Watch(owner.decode(), int(lease_ms) / 1000)
    return None


def _annotation(raw: bytes) -> str | None:
    return None if raw == b"-" else raw.decode()


def _unexpected(what: str, reply: object) -> RedisUnavailable:
    return RedisUnavailable(f"the server's reply to {what} makes no sense: {type(reply).__name__}")
