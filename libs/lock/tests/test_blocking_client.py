"""What is particular to the blocking client: threads, signals, forks and the end of a process."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any

import pytest
from libs.lock.tests.eventually import PATIENCE_SECONDS
from libs.lock.tests.threads import connections, eventually, keys, looking_at, make
from redis import Redis

from devkit.servers import RedisServer
from fencelock import (
    AcquireTimeout,
    AsyncLockClient,
    ConfigurationError,
    Contended,
    Kind,
    Lease,
    LeaseLost,
    Lock,
    LockClient,
    NotOwner,
    Observation,
    RedisUnavailable,
    Subject,
)
from fencelock._loop_thread import LoopThread
from fencelock._reentry import Reentry
from fencelock._shortcut import Shortcut
from fencelock._spare import Spare


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[Redis]:
    with looking_at(redis_server.url) as redis:
        yield redis


@pytest.fixture
def client(redis_server: RedisServer, admin: Redis) -> Iterator[LockClient]:
    with make(redis_server.url) as made:
        yield made


def test_a_lock_goes_through_acquire_which_a_subclass_may_replace(
    redis_server: RedisServer, admin: Redis
) -> None:
    asked: list[tuple[str, ...]] = []

    class Counting(LockClient):
        def acquire(self, *names: str, **options: Any) -> Lease:
            asked.append(names)
            return super().acquire(*names, **options)

    with Counting.from_url(redis_server.url) as client, client.lock("order:1", wait=0) as lease:
        lease.check()

    assert asked == [("order:1",)]
    assert keys(admin) == []


def test_threads_share_two_connections_and_one_thread(client: LockClient, admin: Redis) -> None:
    threads_before = threading.active_count()
    inside = 0
    turns = 0

    def take_turns() -> None:
        nonlocal inside, turns
        for _ in range(3):
            with client.lock("order:{1}"):
                inside += 1
                assert inside == 1
                turns += 1
                inside -= 1

    with client.lock("order:{1}"):
        workers = [threading.Thread(target=take_turns) for _ in range(32)]
        for worker in workers:
            worker.start()
        eventually(lambda: admin.llen("fencelock:q:order:{1}") == 32, "32 threads in line")
        # One on which whoever waits is told, and one for the names that are free.
        assert connections(admin) <= 2
        assert threading.active_count() == threads_before + 32 + 1
    for worker in workers:
        worker.join()
    assert turns == 96
    assert keys(admin) == []


def test_errors_are_those_of_the_asyncio_client(client: LockClient) -> None:
    with client.lock("order:{1}"):
        with pytest.raises(Contended):
            client.acquire("order:{1}", wait=0)
        with pytest.raises(AcquireTimeout):
            client.acquire("order:{1}", wait=0.05)


def test_a_signal_handler_that_raises_withdraws_the_request(
    client: LockClient, admin: Redis
) -> None:
    class TimeLimit(Exception):
        pass

    def ring(number: int, frame: object) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGUSR1, ring)
    try:
        with client.lock("order:{1}"):

            def send() -> None:
                eventually(lambda: admin.exists("fencelock:q:order:{1}"), "in line")
                os.kill(os.getpid(), signal.SIGUSR1)

            sender = threading.Thread(target=send)
            sender.start()
            with pytest.raises(TimeLimit):
                client.acquire("order:{1}")
            sender.join()
            eventually(lambda: not admin.exists("fencelock:q:order:{1}"), "ticket withdrawn")
        assert keys(admin) == []
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_lease_that_nobody_takes_is_given_back(client: LockClient, admin: Redis) -> None:
    """The exception comes after the grant, and before the caller has it."""
    running = client._start()
    granted = threading.Event()

    async def acquire() -> Any:
        lease = await running.client.acquire("order:{1}")
        granted.set()
        return lease

    from fencelock._blocking_client import _give_back
    from fencelock._loop_thread import _Job

    job = _Job(running.thread._loop, acquire, _give_back)
    running.thread.post(job.start)
    assert job.done.acquire(timeout=PATIENCE_SECONDS)
    assert granted.is_set()
    running.thread.post(job.cancel)
    eventually(lambda: keys(admin) == [], "given back")


def test_a_loss_is_told_by_check_by_callback_and_at_the_end(
    redis_server: RedisServer, admin: Redis
) -> None:
    told: list[str] = []

    def hold(client: LockClient) -> None:
        with client.lock("order:{1}") as lease:
            lease.check()
            lease.on_lost(lambda reason: told.append(f"{reason} {threading.current_thread().name}"))
            admin.flushall()
            eventually(lambda: told, "told")
            with pytest.raises(LeaseLost):
                lease.check()
            assert lease.remaining() == 0.0

    with make(redis_server.url, ttl=1.0, reply_timeout=0.25) as client, pytest.raises(LeaseLost):
        hold(client)
    assert told == ["taken fencelock-lost"]


def test_an_error_of_the_block_passes_with_a_note(client: LockClient, admin: Redis) -> None:
    def fail() -> None:
        with client.lock("order:{1}"):
            admin.flushall()
            raise ValueError("own")

    with pytest.raises(ValueError, match="own") as caught:
        fail()
    assert "order:{1}" in caught.value.__notes__[0]


def test_callbacks_that_raise_or_hang_keep_nothing_from_being_renewed(
    redis_server: RedisServer, admin: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    hang = threading.Event()
    called: list[str] = []

    def hang_up(_: object) -> None:
        called.append("second")
        hang.wait(PATIENCE_SECONDS)

    with make(redis_server.url, ttl=1.5, reply_timeout=0.7) as client:
        other = client.acquire("order:{2}")
        lease = client.acquire("order:{1}")
        lease.on_lost(lambda _: 1 / 0)
        lease.on_lost(hang_up)
        admin.delete("fencelock:l:order:{1}")
        eventually(lambda: called, "the second callback")
        until = time.monotonic() + 3.0
        eventually(lambda: time.monotonic() > until, "two terms later")
        other.check()
        other.release()
        hang.set()
    assert "ZeroDivisionError" in caplog.text


def test_closing_ends_leases_and_the_thread(redis_server: RedisServer, admin: Redis) -> None:
    client = make(redis_server.url)
    threads_before = threading.active_count()
    lease = client.acquire("order:{1}")
    client.close()
    client.close()
    assert threading.active_count() == threads_before
    assert keys(admin) == []
    eventually(lambda: connections(admin) == 0, "disconnected")
    with pytest.raises(LeaseLost):
        lease.check()
    with pytest.raises(LeaseLost):
        lease.release()
    with pytest.raises(RedisUnavailable, match="closed"):
        client.acquire("order:{1}")


def test_a_caller_that_waits_while_the_client_is_closed_is_told(
    redis_server: RedisServer, admin: Redis
) -> None:
    holding, client = make(redis_server.url), make(redis_server.url)
    lease = holding.acquire("order:{1}")
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            client.acquire("order:{1}")
        except RedisUnavailable as error:
            errors.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    eventually(lambda: admin.exists("fencelock:q:order:{1}"), "in line")
    client.close()
    waiter.join(PATIENCE_SECONDS)
    assert [str(error) for error in errors] == ["the client was closed"]
    lease.release()
    assert keys(admin) == []
    holding.close()


def test_a_client_that_is_dropped_releases_and_ends_its_thread(
    redis_server: RedisServer, admin: Redis
) -> None:
    threads_before = threading.active_count()
    client = make(redis_server.url)
    client.acquire("order:{1}")
    del client
    gc.collect()
    eventually(lambda: threading.active_count() == threads_before, "the thread ended")
    assert keys(admin) == []


def test_a_script_that_ends_releases_what_it_holds(redis_server: RedisServer, admin: Redis) -> None:
    program = (
        "import sys, fencelock\n"
        "client = fencelock.LockClient.from_url(sys.argv[1], ttl=30.0)\n"
        "lease = client.acquire('order:{1}')\n"
        "raise SystemExit(3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, redis_server.url],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, b"")
    assert keys(admin) == []


def in_child(work: Callable[[], object]) -> str:
    """Fork, run ``work`` in the child, and return what it returned or raised."""
    receiver, sender = multiprocessing.get_context("fork").Pipe(duplex=False)

    def run() -> None:
        try:
            sender.send(repr(work()))
        except Exception as error:  # noqa: BLE001 (the parent looks at it)
            sender.send(f"{type(error).__name__}: {error}")

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    assert receiver.poll(PATIENCE_SECONDS), "the child said nothing"
    said: str = receiver.recv()
    child.join(PATIENCE_SECONDS)
    assert child.exitcode == 0
    return said


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_anew_and_leaves_its_parents_leases_alone(
    redis_server: RedisServer, client: LockClient, admin: Redis
) -> None:
    lease = client.acquire("order:{1}")

    def use_in_child() -> object:
        with pytest.raises(Contended):
            client.acquire("order:{1}", wait=0)
        with client.lock("order:{2}") as own, Redis.from_url(redis_server.url) as other:
            names = [each["name"] for each in other.client_list()]
            return own.proof()[:14] != lease.proof()[:14], names.count("fencelock")

    assert in_child(use_in_child) == "(True, 2)"
    assert in_child(lease.release).startswith("NotOwner")
    assert in_child(lease.check).startswith("NotOwner")
    assert in_child(lease.remaining) == "0.0"
    # The parent's loop still hears its own connection.
    lease.check()
    with client.lock("order:{2}"):
        pass
    lease.release()
    assert keys(admin) == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_does_not_keep_its_parents_connection_open(
    redis_server: RedisServer, admin: Redis
) -> None:
    client = make(redis_server.url)
    client.start()
    context = multiprocessing.get_context("fork")
    go_on = context.Event()
    child = context.Process(target=go_on.wait, args=(PATIENCE_SECONDS,))
    child.start()
    client.close()
    eventually(lambda: connections(admin) == 0, "the server saw it close")
    go_on.set()
    child.join(PATIENCE_SECONDS)


def test_a_blocking_call_in_an_observer_is_refused_rather_than_hanging(
    redis_server: RedisServer, admin: Redis
) -> None:
    raised: list[str] = []

    class Reentrant:
        def observe(self, subject: Subject) -> Observation:
            try:
                reentrant.ping(timeout=1.0)
            except RuntimeError as error:
                raised.append(str(error))
            return Observation()

    with make(redis_server.url, instrumentation=[Reentrant()]) as reentrant:
        reentrant.acquire("order:{1}").release()
    assert "would never end" in raised[0]


def test_observers_see_the_context_of_the_caller(redis_server: RedisServer, admin: Redis) -> None:
    request_id = contextvars.ContextVar("request_id", default="none")
    seen: list[str] = []

    class Noting:
        def observe(self, subject: Subject) -> Observation:
            seen.append(request_id.get())
            return Observation()

    request_id.set("r-17")
    with make(redis_server.url, instrumentation=[Noting()]) as client:
        client.acquire("order:{1}").release()
    assert seen == ["r-17"]


def test_what_is_raised_before_a_call_begins_to_wait_reaches_the_caller() -> None:
    """Nobody else is there to wake it: it would wait until the client is closed."""
    thread = LoopThread("fencelock")
    outcome: list[BaseException] = []

    def refuse() -> Coroutine[Any, Any, None]:
        raise ConfigurationError("no coroutine is made")

    def call() -> None:
        with pytest.raises(ConfigurationError) as raised:
            thread.call(refuse)
        outcome.append(raised.value)

    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    try:
        caller.join(PATIENCE_SECONDS)
        assert [str(each) for each in outcome] == ["no coroutine is made"]
    finally:
        thread.stop()


def test_an_observer_that_lacks_a_hook_keeps_no_thread_waiting(
    redis_server: RedisServer, admin: Redis
) -> None:
    class Hookless:
        def observe(self, subject: Subject) -> Observation:
            return object()  # type: ignore[return-value]  # as one without types may

    raised: list[str] = []
    client = make(redis_server.url, instrumentation=[Hookless()])

    def acquire() -> None:
        try:
            client.acquire("order:{1}")
        except AttributeError as error:
            raised.append(str(error.name))

    caller = threading.Thread(target=acquire, daemon=True)
    caller.start()
    try:
        caller.join(PATIENCE_SECONDS)
        assert raised == ["annotation"]
    finally:
        client.close()


def test_green_threads_are_refused(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched = types.SimpleNamespace(is_module_patched=lambda _: True)
    monkeypatch.setitem(sys.modules, "gevent.monkey", patched)
    with pytest.raises(ConfigurationError, match="real threads"):
        LockClient.from_url(redis_server.url)


def test_a_bad_url_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError):
        LockClient.from_url("amqp://localhost")


def test_a_lock_object_is_for_one_block_at_a_time(client: LockClient) -> None:
    lock = client.lock("order:{1}")
    with lock, pytest.raises(RuntimeError), lock:
        pass
    with lock as lease:
        assert isinstance(lease, Lease)
    lease.release()
    with pytest.raises(NotOwner):
        lease.check()


class Ending(Observation):
    """An observer that wants to end the process."""

    __slots__ = ("_error", "_hook")

    def __init__(self, hook: str, error: type[BaseException]) -> None:
        self._hook = hook
        self._error = error

    def _at(self, hook: str) -> None:
        if hook == self._hook:
            raise self._error

    def observe(self, subject: Subject) -> Observation:
        self._at("observe")
        return self

    def annotation(self) -> str | None:
        self._at("annotation")
        return None

    def acquired(self, fence: int, waited: float) -> None:
        self._at("acquired")

    def not_acquired(self, outcome: str, waited: float) -> None:
        self._at("not_acquired")

    def lost(self, reason: str, held: float) -> None:
        self._at("lost")

    def released(self, held: float) -> None:
        self._at("released")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize(
    "hook", ["observe", "annotation", "acquired", "not_acquired", "lost", "released"]
)
def test_an_observer_that_wants_to_end_the_process_ends_no_client(
    hook: str, error: type[BaseException], redis_server: RedisServer, admin: Redis
) -> None:
    with make(redis_server.url, instrumentation=[Ending(hook, error)]) as client:
        with client.lock("order:{1}"), pytest.raises(Contended):
            client.acquire("order:{1}", wait=0)
        lost = client.acquire("order:{1}")
        admin.delete("fencelock:l:order:{1}")
        eventually(lambda: lost.remaining() == 0.0, "told of the loss")
        with client.lock("order:{1}"):
            pass
    assert keys(admin) == []


def test_a_callback_that_wants_to_end_its_thread_keeps_no_other_from_being_called(
    client: LockClient, admin: Redis
) -> None:
    first, second = client.acquire("order:{1}"), client.acquire("order:{2}")
    ended, told = threading.Event(), threading.Event()

    def end(_: str) -> None:
        ended.set()
        sys.exit("lost")

    first.on_lost(end)
    second.on_lost(lambda _: told.set())
    admin.delete("fencelock:l:order:{1}")
    assert ended.wait(PATIENCE_SECONDS)
    admin.delete("fencelock:l:order:{2}")
    assert told.wait(PATIENCE_SECONDS)


def test_a_lease_that_is_over_when_it_gets_to_its_thread_is_not_handed_out(
    redis_server: RedisServer, admin: Redis
) -> None:
    class Blocking(Observation):
        __slots__ = ()

        def observe(self, subject: Subject) -> Observation:
            return self

        def acquired(self, fence: int, waited: float) -> None:
            # Between the end of the acquisition and the news of it.
            asyncio.get_running_loop().call_soon(time.sleep, 0.5)

    with make(redis_server.url, ttl=0.4, reply_timeout=0.1, instrumentation=[Blocking()]) as client:
        with pytest.raises(LeaseLost):
            client.acquire("order:{1}")
        eventually(lambda: keys(admin) == [], "given back")


def test_an_observer_may_close_the_client(redis_server: RedisServer, admin: Redis) -> None:
    class Closing(Observation):
        __slots__ = ()

        def observe(self, subject: Subject) -> Observation:
            return self

        def acquired(self, fence: int, waited: float) -> None:
            ours.close()

    before = threading.active_count()
    lost: list[Lease] = []
    ours = make(redis_server.url, instrumentation=[Closing()])
    # The end of the client and the news of the grant race.
    with contextlib.suppress(LeaseLost):
        lost.append(ours.acquire("order:{1}"))
    eventually(lambda: threading.active_count() == before, "its thread has ended")
    assert [lease for lease in lost if lease.remaining() > 0] == []
    assert keys(admin) == []


def test_a_lease_that_was_released_may_be_released_again_after_the_end_of_its_client(
    redis_server: RedisServer,
) -> None:
    client = make(redis_server.url)
    with client.lock("order:{1}") as lease:
        lease.release()
        client.close()
    lease.release()


def test_closing_that_is_interrupted_goes_on(redis_server: RedisServer, admin: Redis) -> None:
    class TimeLimit(Exception):
        pass

    def ring(number: int, frame: object) -> None:
        raise TimeLimit

    threads = threading.active_count()
    client = make(redis_server.url)
    client.acquire("order:{1}")
    before = signal.signal(signal.SIGALRM, ring)
    try:
        admin.client_pause(500)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(TimeLimit):
            client.close()
    finally:
        signal.signal(signal.SIGALRM, before)
    eventually(lambda: threading.active_count() == threads, "its thread has ended")
    assert keys(admin) == []


def test_a_client_that_a_signal_handler_closes_while_it_starts_leaves_no_thread(
    redis_server: RedisServer,
) -> None:
    def interrupted() -> AsyncLockClient:
        ours.close()
        return AsyncLockClient.from_url(redis_server.url)

    threads = threading.active_count()
    ours = LockClient(interrupted)
    with pytest.raises(RedisUnavailable, match="closed"):
        ours.start()
    eventually(lambda: threading.active_count() == threads, "its thread has ended")


def test_a_client_that_a_signal_handler_uses_while_it_starts_has_one_thread(
    redis_server: RedisServer,
) -> None:
    leases: list[Lease | None] = []

    def interrupted() -> AsyncLockClient:
        if not leases:
            leases.append(None)
            leases[0] = ours.acquire("order:{1}")
        return AsyncLockClient.from_url(redis_server.url)

    threads = threading.active_count()
    ours = LockClient(interrupted)
    ours.start()
    eventually(lambda: threading.active_count() == threads + 1, "one thread")
    (lease,) = leases
    assert lease is not None
    lease.release()
    ours.close()


def test_that_no_thread_can_be_had_is_said_and_leaves_nothing_open(
    redis_server: RedisServer,
) -> None:
    client = make(redis_server.url)
    before = threading.stack_size(2**60)  # more than there are addresses
    try:
        with pytest.raises(RedisUnavailable, match="no thread"):
            client.start()
    finally:
        threading.stack_size(before)
    client.start()
    client.close()
    gc.collect()  # which would warn of a loop that was not closed


def test_a_forked_child_cannot_watch_a_lease_of_its_parent(client: LockClient) -> None:
    lease = client.acquire("order:{1}")

    def watch() -> None:
        client.start()
        try:
            lease.on_lost(print)
        except NotOwner:
            os._exit(0)

    child = multiprocessing.get_context("fork").Process(target=watch)
    child.start()
    child.join(PATIENCE_SECONDS)
    assert child.exitcode == 0


class TimeLimit(Exception):
    """What a signal handler raises, at any moment."""


class InterruptedThread(LoopThread):
    """A loop's thread to whose caller a signal comes as soon as something was posted."""

    interrupting = False

    def post(
        self, callback: Callable[[], object], context: contextvars.Context | None = None
    ) -> None:
        super().post(callback, context)
        if self.interrupting:
            self.interrupting = False
            raise TimeLimit


def test_a_signal_that_comes_when_a_call_was_posted_withdraws_it() -> None:
    thread = InterruptedThread("interrupted")
    begun, ended = threading.Event(), threading.Event()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def undo(_: None) -> None:
        """There is nothing to undo."""

    thread.interrupting = True
    with pytest.raises(TimeLimit):
        thread.call(endless, unclaimed=undo)
    thread.call(functools.partial(asyncio.sleep, 0))
    # It may have been cancelled before it began, which it does no more by now.
    assert not begun.is_set() or ended.wait(PATIENCE_SECONDS)
    thread.stop()


class Interrupting(Reentry[Lease]):
    """A signal comes at one of the moments in which a block begins or ends."""

    def __init__(self, client: LockClient, at: str) -> None:
        super().__init__(client, ("order:{1}",), Kind.EXCLUSIVE)
        self._at = at

    def enter(self, lease: Lease) -> None:
        super().enter(lease)
        if self._at == "enter":
            raise TimeLimit

    def leave(self, lease: Lease) -> None:
        if self._at == "leave":
            raise TimeLimit
        super().leave(lease)


@pytest.mark.parametrize("at", ["enter", "leave"])
def test_a_signal_at_the_edge_of_a_block_leaves_nothing(
    client: LockClient, admin: Redis, at: str
) -> None:
    with (
        pytest.raises(TimeLimit),
        Lock(
            lambda taken: client._take(
                taken, ("order:{1}",), ttl=None, wait=None, max_hold=None, kind=Kind.EXCLUSIVE
            ),
            Interrupting(client, at),
        ),
    ):
        pass
    eventually(lambda: keys(admin) == [], "given back")


def test_a_signal_while_a_lease_is_handed_to_its_block_leaves_nothing(
    client: LockClient, admin: Redis
) -> None:
    def ring(_frame: object, event: str, value: object) -> None:
        if event == "return" and isinstance(value, Lease):
            sys.setprofile(None)
            raise TimeLimit

    lock = client.lock("order:{1}")
    sys.setprofile(ring)
    try:
        with pytest.raises(TimeLimit), lock:
            pass
    finally:
        sys.setprofile(None)
    eventually(lambda: keys(admin) == [], "given back")


def test_a_signal_before_the_end_of_a_block_begins_leaves_nothing(
    client: LockClient, admin: Redis
) -> None:
    def ring(frame: FrameType, event: str, _value: object) -> None:
        if event == "call" and frame.f_code is Lock.__exit__.__code__:
            sys.setprofile(None)
            raise TimeLimit

    rung = False
    try:
        with client.lock("order:{1}"):
            sys.setprofile(ring)
    except TimeLimit:
        rung = True
    finally:
        sys.setprofile(None)
    assert rung
    eventually(lambda: keys(admin) == [], "given back")


def test_a_signal_as_soon_as_the_short_way_is_over_leaves_nothing(
    client: LockClient, admin: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupting: list[None] = []
    leave = Shortcut._leave

    def interrupted(shortcut: Shortcut, spare: Spare) -> None:
        leave(shortcut, spare)
        if interrupting:
            interrupting.pop()
            raise TimeLimit

    monkeypatch.setattr(Shortcut, "_leave", interrupted)

    def is_open() -> bool:
        client.acquire("order:{1}").release()
        assert client._running is not None
        return client._running.shortcut._known() is not None

    def open_again() -> None:
        client._start().shortcut._open_at = 0.0
        eventually(is_open, "the short way is open")

    open_again()
    interrupting.append(None)
    with pytest.raises(TimeLimit):
        client.acquire("order:{1}")
    eventually(lambda: keys(admin) == [], "given back")
    open_again()
    lease = client.acquire("order:{1}")
    interrupting.append(None)
    with pytest.raises(TimeLimit):
        lease.release()
    eventually(lambda: keys(admin) == [], "given back")
