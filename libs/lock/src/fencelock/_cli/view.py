"""What a server knows about locks, read through redis-py without ever listing all keys at once."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from fencelock import _names
from fencelock._errors import ConfigurationError
from fencelock._protocol import (
    CHANNEL_PREFIX,
    LOCK_PREFIX,
    PERMIT_PREFIX,
    PERMITS_PREFIX,
    QUEUE_PREFIX,
)
from fencelock._target import Target

BROKEN_PREFIX = "fencelock:b:"
ANY = "*"
SCAN_COUNT = 1000
# What PTTL says of a key that is not there (any more).
GONE = -2
TICKETS_SHOWN = 50
PERMITS_SHOWN = 50
# "<owner> <since us> <claim ms> <annotation> <body>", and more bodies.
TICKET_FIELDS = 5
FENCE_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Held:
    """A name that somebody holds, at the time of the server's clock."""

    name: str
    client: str
    fence: int
    since: float | None
    """When it was granted, in seconds since 1970; None if the record does not say."""
    remaining: float | None
    """Seconds; None if the key never expires, which no lock of this library does."""
    waiting: int
    annotation: str | None
    now: float
    kind: str = "exclusive"
    holders: int = 1
    """How many share it; then client, fence, since and annotation are those of the latest."""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "name": self.name,
            "client": self.client,
            "fence": self.fence,
            "since": iso(self.since),
            "held_seconds": None if self.since is None else round(self.now - self.since, 3),
            "remaining_seconds": self.remaining,
            "waiting": self.waiting,
            "annotation": self.annotation,
            "kind": self.kind,
            "holders": self.holders,
        }


@dataclass(frozen=True, slots=True)
class Permit:
    """One of those that share a name."""

    client: str
    fence: int
    remaining: float

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "client": self.client,
            "fence": self.fence,
            "remaining_seconds": self.remaining,
        }


@dataclass(frozen=True, slots=True)
class Ticket:
    """One that stands in line."""

    client: str
    since: float | None
    """When it first stood in line, in seconds since 1970."""
    names: tuple[str, ...]
    annotation: str | None
    listens: bool
    """Whether its client is connected; one that is not is skipped when its turn comes."""
    kind: str = "exclusive"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "client": self.client,
            "since": iso(self.since),
            "names": list(self.names),
            "annotation": self.annotation,
            "listens": self.listens,
            "kind": self.kind,
        }


def connect(url: str, timeout: float) -> "Redis":
    """A client that gives up after ``timeout`` seconds without a reply and never repeats.

    Raises:
        ConfigurationError: the URL makes no sense.
    """
    Target.from_url(url)  # the same words for the same mistakes
    try:
        return Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            client_name="fencelock-cli",
        )
    except ValueError as error:
        raise ConfigurationError(f"not a Redis URL: {error}") from error


def held_names(redis: "Redis", pattern: str = ANY) -> Iterator[Held]:
    """The names that are held, batch by batch. A name may come only once."""
    # SCAN may give a key twice.
    seen: set[bytes] = set()
    fresh = (key for key in _keys(redis, pattern) if not (key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    while batch := list(islice(fresh, SCAN_COUNT)):
        yield from _read(redis, [text(key).removeprefix(LOCK_PREFIX) for key in batch])


def held(redis: "Redis", name: str) -> Held | None:
    """One name, or None if nobody holds it."""
    return next(_read(redis, [_names.body(name)]), None)


def tickets(redis: "Redis", name: str) -> tuple[list[Ticket], int]:
    """The first tickets of the line for a name, and how many there are in all."""
    key = QUEUE_PREFIX + _names.body(name)
    with redis.pipeline(transaction=True) as pipe:
        pipe.lrange(key, 0, TICKETS_SHOWN)
        pipe.llen(key)
        lines, total = pipe.execute()
    fields = [text(line).split() for line in lines]
    waiting = [each for each in fields if len(each) >= TICKET_FIELDS and each[0][0] != "*"]
    clients = sorted({_client(each[0]) for each in waiting})
    listening = dict(redis.pubsub_numsub(*[CHANNEL_PREFIX + each for each in clients]))
    return [
        Ticket(
            client=_client(owner),
            since=int(since) / 1e6 if since.isdecimal() and len(since) <= FENCE_DIGITS else None,
            names=tuple(name_of(body) for body in bodies),
            annotation=None if annotation == "-" else annotation,
            listens=listening.get((CHANNEL_PREFIX + _client(owner)).encode(), 0) > 0,
            kind=_kind(claim.partition("/")[2]),
        )
        for owner, since, claim, annotation, *bodies in waiting[:TICKETS_SHOWN]
    ], total - (len(fields) - len(waiting))


def permits(redis: "Redis", name: str) -> list[Permit]:
    """Those that share a name, oldest grant first; of many the ones whose leases end first."""
    body = _names.body(name)
    found: list[Any] = list(redis.zrange(PERMITS_PREFIX + body, 0, PERMITS_SHOWN - 1))
    owners = [text(each) for each in found]
    keys = [f"{PERMIT_PREFIX}{owner}:{body}" for owner in owners]
    with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.get(key)
            pipe.pttl(key)
        replies = pipe.execute()
    held = []
    for owner, value, left in zip(owners, replies[::2], replies[1::2], strict=True):
        # One whose time is over is in the set until the next comes or goes.
        if isinstance(value, bytes):
            fence = [*text(value).split(" "), "", ""][1]
            held.append(Permit(_client(owner), _number(fence), max(left, 0) / 1000))
    # The set has those whose leases end in the same millisecond in the order of their secrets.
    return sorted(held, key=lambda each: each.fence)


def last_break(redis: "Redis", name: str) -> dict[str, str] | None:
    """Who broke the name last, when and why; None if nobody did within a week."""
    found = redis.hgetall(BROKEN_PREFIX + _names.body(name))
    note = {text(key): text(value) for key, value in found.items()}
    return note if {"by", "reason"} <= note.keys() and _number(note.get("at", "")) else None


def name_of(body: str) -> str:
    """The name behind what keys end with: a lone hash tag was put there by the library."""
    inner = body[1:-1]
    plain = body.startswith("{") and body.endswith("}") and "{" not in inner
    return inner if plain else body


def iso(seconds: float | None) -> str | None:
    """A moment as ISO 8601 in UTC."""
    return (
        None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat("T", "seconds")
    )


def _keys(redis: "Redis", pattern: str) -> Iterator[bytes]:
    """The keys of locks whose names fit. A name without a hash tag is one in its key."""
    yield from redis.scan_iter(match=LOCK_PREFIX + pattern, count=SCAN_COUNT)
    if pattern != ANY:
        yield from redis.scan_iter(match=f"{LOCK_PREFIX}{{{pattern}}}", count=SCAN_COUNT)


def _read(redis: "Redis", bodies: list[str]) -> Iterator[Held]:
    with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        for body in bodies:
            pipe.get(LOCK_PREFIX + body)
            pipe.pttl(LOCK_PREFIX + body)
            pipe.llen(QUEUE_PREFIX + body)
            pipe.lindex(QUEUE_PREFIX + body, 0)
            pipe.zcard(PERMITS_PREFIX + body)
        (seconds, microseconds), *replies = pipe.execute(raise_on_error=False)
    now = seconds + microseconds / 1e6
    for place, body in enumerate(bodies):
        value, left, length, head, sharing = replies[5 * place : 5 * place + 5]
        # One that ended between the two questions is not one that never does.
        if isinstance(value, bytes) and left != GONE:
            # A holder who came from the line keeps its ticket, marked, at the head.
            came_from_line = isinstance(head, bytes) and head.startswith(b"*")
            waiting = length - came_from_line if isinstance(length, int) else 0
            found = _held(name_of(body), text(value), left, waiting, now)
            if value.startswith(b"*") and isinstance(sharing, int):
                kind = _kind(found.client[1:])
                found = replace(found, client=f"{sharing} share it", kind=kind, holders=sharing)
            yield found


def _held(name: str, value: str, left: int, waiting: int, now: float) -> Held:
    """Read a record: owner, fence, annotation. What is not one is shown all the same."""
    owner, fence, annotation = [*value.split(" "), "", "", ""][:3]
    number = _number(fence)
    return Held(
        name=name,
        client=_client(owner),
        fence=number,
        # A fence is the server's time of the grant in microseconds, unless the clock was set back.
        since=number / 1e6 if 0 < number <= now * 1e6 else None,
        remaining=left / 1000 if left >= 0 else None,
        waiting=waiting,
        annotation=annotation if annotation not in ("", "-") else None,
        now=now,
    )


def _number(fence: str) -> int:
    return int(fence) if fence.isdecimal() and len(fence) <= FENCE_DIGITS else 0


def _kind(limit: str) -> str:
    if not limit:
        return "exclusive"
    return "shared" if limit == "0" else f"permits({limit})"


def _client(owner: str) -> str:
    # What follows the point is the owner's secret: whoever knows it can pass for the holder.
    return owner.partition(".")[0]


def text(raw: bytes | str) -> str:
    """What the server keeps; what is not UTF-8 in it is shown escaped."""
    return raw if isinstance(raw, str) else raw.decode("utf-8", "backslashreplace")
