"""What tests of the blocking client and of the command line share: they wait in threads."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from libs.lock.tests.eventually import PATIENCE_SECONDS
from redis import Redis

from fencelock import LockClient


@contextmanager
def looking_at(url: str) -> Iterator[Redis]:
    """A plain client that looks at a server from outside; the server is empty."""
    with Redis.from_url(url, decode_responses=True) as redis:
        redis.flushall()
        yield redis


def make(url: str, **options: Any) -> LockClient:
    """A client whose limits a busy machine does not reach."""
    defaults = {"ttl": 30.0, "wait": 60.0, "reply_timeout": 7.0, "connect_timeout": 10.0}
    return LockClient.from_url(url, **{**defaults, **options})


def eventually(condition: Callable[[], object], what: str) -> None:
    """Poll until the condition holds.

    Raises:
        AssertionError: it did not, for as long as a very busy machine could need.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in {PATIENCE_SECONDS:g} s: {what}"
        time.sleep(0.005)


def keys(admin: Redis) -> list[str]:
    """What the server has of locks."""
    return sorted(set(admin.scan_iter("fencelock:*")) - {"fencelock:fence"})


def connections(admin: Redis) -> int:
    """How many connections lock clients have open."""
    return sum(each["name"] == "fencelock" for each in admin.client_list())
