"""Whether a server is fit for locks: its mode, the rights of our user, and what it may throw away.

Mode and rights are looked at whenever a connection is made. The eviction policy too, and again
every :data:`LOOK_SECONDS` while locks are taken, and at once when a lease vanished before its time.
"""

import asyncio
import math
import re
from typing import Final, NamedTuple

import hiredis

from fencelock._errors import ConfigurationError, RedisUnavailable
from fencelock._link import Link, Reply, Word
from fencelock._protocol import FENCE_KEY, fence_key
from fencelock._scripts import Script

LOOK_SECONDS: Final = 15.0
SETTINGS: Final[tuple[Word, ...]] = ("CONFIG", "GET", "maxmemory*")
# Tell us when somebody else changes a key that a command read after CACHING.
TRACKING: Final[tuple[Word, ...]] = ("CLIENT", "TRACKING", "ON", "OPTIN", "NOLOOP")
CACHING: Final[tuple[Word, ...]] = ("CLIENT", "CACHING", "YES")
ACL_LINE: Final = (
    "~fencelock:* &fencelock:c:* +hello +auth +client|setname +select +ping +subscribe "
    "+script|load +eval +evalsha +time +exists +get +mget +set +del +pttl +pexpire +publish "
    "+pubsub|numsub +rpush +lpop +lpos +lrange +lindex +linsert +lset +lrem +ltrim +hincrby +hset "
    "+hdel +hexists +hlen +hrandfield"
)
"""The least rights; see also :data:`ACL_BETTER`."""
ACL_KINDS: Final = "+zadd +zrem +zcount +zrange +pexpireat"
"""Rights that names need which several hold at once."""
_OF_KINDS: Final = frozenset(ACL_KINDS.replace("+", "").split())
ACL_BETTER: Final = "+client|info +client|kill +config|get +client|tracking +client|caching"
"""Rights that are used if they are there: a connection that broke is ended for certain before its
successor is used; a server that may evict locks is refused; and a holder is told at once when its
key is gone."""
# How servers of several ages say that a script may not do something.
_NO_RIGHT: Final = ("NOPERM", "ACL failure", "permission", "can't run this", "can't access")
_USE_OTHER: Final = "use redis://HOST:PORT"
_USE: Final = {
    b"sentinel": "use redis+sentinel://HOST:26379,HOST:26379/NAME, which finds the master",
    b"cluster": "use redis+cluster://HOST:6379,HOST:6379",
}
_IDENTITY: Final = re.compile(r"\bid=(\d+) addr=(\S+:[1-9]\d*) ")


class Fitness:
    """What is known of one server's settings."""

    def __init__(self) -> None:
        self._unfit: str | None = None
        self._look_at = -math.inf

    def sure(self, now: float) -> bool:
        """Whether there is no need to look."""
        return now < self._look_at and self._unfit is None

    def doubt(self) -> None:
        """Look before the next lock is taken."""
        self._look_at = -math.inf

    async def look(self, link: Link, now: float) -> None:
        """Look if there is need to.

        Raises:
            ConfigurationError: the server may evict locks.
            RedisUnavailable: it did not answer.
        """
        if not self.sure(now):
            # Others need not ask the same meanwhile.
            self._look_at = now + LOOK_SECONDS
            try:
                self.settings_read(await link.send(SETTINGS), now)
            except (RedisUnavailable, asyncio.CancelledError):
                self.doubt()
                raise

    def settings_read(self, settings: Reply, now: float) -> None:
        """Judge the answer to :data:`SETTINGS`.

        Raises:
            ConfigurationError: the server may evict locks.
        """
        self._unfit = eviction(settings)
        self._look_at = now + LOOK_SECONDS
        if self._unfit is not None:
            raise ConfigurationError(self._unfit)


def probe(script: Script, channel: str, tag: str | None = None) -> tuple[Word, ...]:
    """The command that tries every right that the scripts need.

    ``tag`` is the hash tag of a slot that the server has, if it is a node of a Cluster.
    """
    own = f"probe-{channel.rpartition(':')[2]}"
    fence = FENCE_KEY if tag is None else fence_key(tag)
    place = f"{{{own}}}" if tag is None else f"{{{tag}}}{own}"
    keys = [f"fencelock:{kind}:{place}" for kind in "lqwp"]
    return ("EVAL", script.text, 5, fence, *keys, channel)


class Rights(NamedTuple):
    """What the probe found."""

    time: float
    """Of the server, in seconds since 1970."""
    refused: list[str]
    """Refusals that are no matter of rights."""
    sharing: str | None
    """Why names cannot be shared here; None if they can."""


def check_rights(target: str, reply: Reply) -> Rights:
    """Refuse a server that lets us do only a part of what the scripts do.

    Raises:
        ConfigurationError: a right is missing, or the server does not know a command.
        RedisUnavailable: the reply makes no sense.
    """
    match reply:
        case [bytes(micros), *refused] if micros.isdigit():
            said = [each.decode("utf-8", "replace") for each in refused if isinstance(each, bytes)]
        case _:
            raise RedisUnavailable(f"{target}: the reply to the probe of rights makes no sense")
    sharing = None
    for what, text in zip(said[::2], said[1::2], strict=True):
        why = _why_not(target, what, text)
        if why is not None and what not in _OF_KINDS:
            raise ConfigurationError(why)
        sharing = sharing or why
    return Rights(int(micros[:16]) / 1e6, said[1::2], sharing)


def _why_not(target: str, what: str, text: str) -> str | None:
    """What to say of a refusal; None if it is no matter of rights, and passes."""
    if "nknown" in text:
        return f"{target} does not know {what}: Redis 6.2 or newer is needed"
    if any(sign in text for sign in _NO_RIGHT):
        return (
            f"{target} does not allow {what} ({text}). A user for locks needs at least: "
            f"{ACL_LINE}; for shared locks and semaphores {ACL_KINDS}; better also {ACL_BETTER}"
        )
    return None


def check_mode(target: str, greeting: Reply, expected: bytes) -> None:
    """Refuse a server of another kind than the URL says.

    Raises:
        ConfigurationError: it is.
    """
    mode = greeting.get(b"mode") if isinstance(greeting, dict) else None
    if isinstance(mode, bytes) and mode != expected:
        raise ConfigurationError(
            f"{target} runs in {mode.decode('ascii', 'replace')} mode: {_USE.get(mode, _USE_OTHER)}"
        )


def is_replica(greeting: Reply) -> bool:
    """Whether the server says that it copies another one."""
    role = greeting.get(b"role") if isinstance(greeting, dict) else None
    return role in (b"replica", b"slave")


def eviction(settings: Reply) -> str | None:
    """Why a server may throw locks away when its memory is full; None if it does not.

    A server that does not let us read its settings is trusted.
    """
    if not isinstance(settings, dict):
        return None
    policy = settings.get(b"maxmemory-policy", b"noeviction")
    if settings.get(b"maxmemory", b"0") == b"0" or policy == b"noeviction":
        return None
    return (
        f"maxmemory-policy is {policy.decode()}: the server may evict locks that are held. "
        "Set it to noeviction, or keep locks on a server of their own"
    )


def identity(info: Reply) -> tuple[int, str] | None:
    """Read from CLIENT INFO under which id and address the server knows a connection.

    None if it did not say, or over a unix socket: an id alone may be that of somebody else once
    the server has been started again.
    """
    if isinstance(info, hiredis.ReplyError) or not isinstance(info, (bytes, str)):
        return None
    text = info.decode("utf-8", "replace") if isinstance(info, bytes) else info
    found = _IDENTITY.search(text)
    return (int(found[1]), found[2]) if found else None
