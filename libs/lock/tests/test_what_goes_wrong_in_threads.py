"""What goes wrong in python-redis-lock and in pottery goes right here: each is tried on both.

A promise is a function that raises if it is not kept. Every one is kept by fencelock, and broken by
the lock that it is listed for, for the reason that stands beside it.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Protocol

import pytest
from libs.lock.tests.clients import crash
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from devkit.servers import RedisServer
from fencelock import LockClient

redis_lock: Any = pytest.importorskip("redis_lock", reason="see `make env`")
pottery: Any = pytest.importorskip("pottery", reason="see `make env`")

NAME = "order:1"
PATIENCE_SECONDS = 20.0
SOON_SECONDS = 2.0


class Locks(Protocol):
    """A way to lock, for threads."""

    def take(self, ttl: float) -> Any:
        """Hold the name, renewed if that can be had."""

    def leave_behind(self, ttl: float) -> None:
        """Hold the name, and die."""

    def wait_and_release(self) -> None:
        """Wait for the name, and give it back."""

    def script_keys(self) -> list[str]:
        """All keys that one script is given; the first is the one that says that it is held."""


class Ours:
    def __init__(self, url: str, stack: ExitStack) -> None:
        self._url = url
        self._stack = stack
        self._client = self._make()

    def _make(self) -> LockClient:
        client = LockClient.from_url(
            self._url, ttl=30.0, wait=PATIENCE_SECONDS, connect_timeout=5.0
        )
        return self._stack.enter_context(client)

    def take(self, ttl: float) -> Any:
        return self._client.acquire(NAME, ttl=ttl)

    def leave_behind(self, ttl: float) -> None:
        doomed = self._make()
        doomed.acquire(NAME, ttl=ttl)
        running = doomed._running
        assert running is not None
        running.thread.call(lambda: crash(running.client))

    def wait_and_release(self) -> None:
        self._client.acquire(NAME).release()

    def script_keys(self) -> list[str]:
        return ["fencelock:l:{order:1}", "fencelock:q:{order:1}", "fencelock:w:{order:1}"]


class PythonRedisLock:
    def __init__(self, url: str, stack: ExitStack) -> None:
        self._redis = stack.enter_context(Redis.from_url(url, socket_timeout=60.0))

    def take(self, ttl: float) -> Any:
        lock = redis_lock.Lock(self._redis, NAME, expire=int(ttl), auto_renewal=True)
        assert lock.acquire()
        return lock

    def leave_behind(self, ttl: float) -> None:
        assert redis_lock.Lock(self._redis, NAME, expire=int(ttl)).acquire()

    def wait_and_release(self) -> None:
        lock = redis_lock.Lock(self._redis, NAME, expire=int(PATIENCE_SECONDS))
        assert lock.acquire(timeout=PATIENCE_SECONDS)
        lock.release()

    def script_keys(self) -> list[str]:
        lock = redis_lock.Lock(self._redis, NAME)
        return [lock._name, lock._signal]


class Pottery:
    def __init__(self, url: str, stack: ExitStack) -> None:
        self._redis = stack.enter_context(Redis.from_url(url))
        self._stack = stack
        self._over = threading.Event()

    def _lock(self, ttl: float) -> Any:
        return pottery.Redlock(key=NAME, masters={self._redis}, auto_release_time=ttl)

    def take(self, ttl: float) -> Any:
        lock = self._lock(ttl)
        assert lock.acquire()
        # It renews nothing itself: its users do.
        renewing = threading.Thread(target=self._renew, args=(lock, ttl), daemon=True)
        renewing.start()
        # Before the connections are closed under it.
        self._stack.callback(renewing.join)
        self._stack.callback(self._over.set)
        return lock

    def _renew(self, lock: Any, ttl: float) -> None:
        while not self._over.wait(ttl / 3):
            try:
                lock.extend()
            except (pottery.PotteryError, RedisError):
                return

    def leave_behind(self, ttl: float) -> None:
        assert self._lock(ttl).acquire()

    def wait_and_release(self) -> None:
        lock = self._lock(PATIENCE_SECONDS)
        assert lock.acquire(timeout=PATIENCE_SECONDS)
        lock.release()

    def script_keys(self) -> list[str]:
        return [self._lock(1.0).key]


def those_who_wait_share_one_connection(
    locks: Locks, admin: Redis, pool: ThreadPoolExecutor
) -> None:
    held = locks.take(20.0)
    before = _connections(admin)
    waiting = [pool.submit(locks.wait_and_release) for _ in range(3)]
    with pytest.raises(TimeoutError):
        _until(lambda: _connections(admin) > before, 1.0)
    held.release()
    for each in waiting:
        each.result(PATIENCE_SECONDS)


def a_lock_that_expires_wakes_the_next(
    locks: Locks, admin: Redis, pool: ThreadPoolExecutor
) -> None:
    locks.leave_behind(1.0)
    waiting = pool.submit(locks.wait_and_release)
    _arrange(lambda: waiting.done() or not admin.exists(locks.script_keys()[0]))
    waiting.result(SOON_SECONDS)


def a_refusal_that_passes_ends_no_lease(
    locks: Locks, admin: Redis, pool: ThreadPoolExecutor
) -> None:
    held = locks.take(2.0)
    admin.config_resetstat()
    admin.config_set("min-replicas-to-write", 1)
    try:
        _arrange(lambda: "errorstat_NOREPLICAS" in _info(admin, "errorstats"))
    finally:
        admin.config_set("min-replicas-to-write", 0)
    _is_held_for(2.5, locks, admin)
    del held  # python-redis-lock renews for as long as somebody has the lock object


def what_one_script_touches_is_in_one_slot(
    locks: Locks, admin: Redis, pool: ThreadPoolExecutor
) -> None:
    assert len({key_slot(key.encode()) for key in locks.script_keys()}) == 1


def waiting_costs_the_server_nothing(locks: Locks, admin: Redis, pool: ThreadPoolExecutor) -> None:
    held = locks.take(20.0)
    waiting = pool.submit(locks.wait_and_release)
    _arrange(lambda: _asked(admin) > 0)
    before = _asked(admin)
    with pytest.raises(TimeoutError):
        _until(lambda: _asked(admin) > before + 2, 1.0)
    held.release()
    waiting.result(PATIENCE_SECONDS)


def a_lease_is_renewed_as_often_as_needed(
    locks: Locks, admin: Redis, pool: ThreadPoolExecutor
) -> None:
    held = locks.take(1.0)
    _is_held_for(3.0, locks, admin)
    del held


def _until(true: Callable[[], bool], seconds: float) -> None:
    """Wait until something is true.

    Raises:
        TimeoutError: it was not within ``seconds``.
    """
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.01)


def _arrange(true: Callable[[], bool]) -> None:
    """Wait for what a promise is tried on.

    Raises:
        RuntimeError: it did not come about, which is no answer to whether the promise is kept.
    """
    try:
        _until(true, PATIENCE_SECONDS)
    except TimeoutError as error:
        raise RuntimeError("what the promise is tried on did not come about") from error


def _is_held_for(seconds: float, locks: Locks, admin: Redis) -> None:
    # The server's own time, which a busy machine does not stretch for one side only.
    began = _time(admin)
    while _time(admin) < began + seconds:
        assert admin.exists(locks.script_keys()[0]), "others get in while it is held"
        time.sleep(0.02)


def _time(admin: Redis) -> float:
    seconds, micros = admin.time()
    return seconds + micros / 1e6


def _info(admin: Redis, section: str) -> dict[str, Any]:
    return admin.info(section)


def _connections(admin: Redis) -> int:
    return int(_info(admin, "clients")["connected_clients"])


def _asked(admin: Redis) -> int:
    """What those who wait may ask with: scripts, or one command that sets a key."""
    stats = _info(admin, "commandstats")
    names = ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_set")
    return max(int(stats[name]["calls"]) if name in stats else 0 for name in names)


Promise = Callable[[Locks, Redis, ThreadPoolExecutor], None]
Make = Callable[[str, ExitStack], Locks]

BROKEN_THERE: dict[tuple[Promise, Make], str] = {
    (those_who_wait_share_one_connection, PythonRedisLock): "each waiter blocks one in BLPOP",
    (a_lock_that_expires_wakes_the_next, PythonRedisLock): "only a release rings",
    (a_refusal_that_passes_ends_no_lease, PythonRedisLock): "its thread ends with the error",
    (what_one_script_touches_is_in_one_slot, PythonRedisLock): "its keys have no hash tag",
    (waiting_costs_the_server_nothing, Pottery): "it polls, every 0.1 s on average",
    (a_lease_is_renewed_as_often_as_needed, Pottery): "three times at most",
}


def _name(value: object) -> str:
    return str(getattr(value, "__name__", value))


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(redis_server.url, decode_responses=True) as redis:
        redis.flushall()
        redis.config_resetstat()
        yield redis


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(8)
    yield pool
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("promise", {promise: 0 for promise, _ in BROKEN_THERE}, ids=_name)
def test_it_is_kept_here(
    promise: Promise, redis_server: RedisServer, admin: Redis, pool: ThreadPoolExecutor
) -> None:
    with ExitStack() as stack:
        promise(Ours(redis_server.url, stack), admin, pool)


# Its thread for renewals ends with an error that nobody sees.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(("promise", "make"), BROKEN_THERE, ids=_name)
def test_the_lock_that_is_named_does_not_keep_it(
    promise: Promise,
    make: Make,
    redis_server: RedisServer,
    admin: Redis,
    pool: ThreadPoolExecutor,
) -> None:
    with ExitStack() as stack:
        try:
            # `pytest.raises` fails with an error of its own if there was none.
            with pytest.raises((AssertionError, TimeoutError, pytest.fail.Exception)):
                promise(make(redis_server.url, stack), admin, pool)
        finally:
            # Nobody goes on waiting for what the test left behind, whatever its key is.
            admin.flushall()
            admin.rpush("lock-signal:" + NAME, *["1"] * 8)
