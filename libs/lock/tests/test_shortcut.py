"""The short way of a thread to a free lock: what it saves, and what it leaves when it fails."""

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hiredis
import pytest
from libs.lock.tests.blocking import open_shortcut
from libs.lock.tests.eventually import PATIENCE_SECONDS
from libs.lock.tests.threads import connections, eventually, keys, looking_at, make
from redis import Redis

from devkit.servers import RedisServer
from fencelock import Contended, LockClient, NotOwner, RedisUnavailable
from fencelock._blocking_client import CALL_SECONDS
from fencelock._client import Asked
from fencelock._clock import now
from fencelock._connection import Connection
from fencelock._engine import SETTLE_SECONDS, Engine
from fencelock._lease import AsyncLease
from fencelock._shortcut import OPEN_AFTER_CALLS, Shortcut
from fencelock._spare import Spare

NAME = "order:{1}"
KEY = "fencelock:l:order:{1}"


class Interrupted(Exception):
    """What a signal handler raises."""


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[Redis]:
    with looking_at(redis_server.url) as redis:
        yield redis


@pytest.fixture
def client(redis_server: RedisServer, admin: Redis) -> Iterator[LockClient]:
    with make(redis_server.url) as made:
        made.start()
        open_shortcut(made)
        assert spare_of(made) is not None
        yield made


def shortcut_of(client: LockClient) -> Shortcut:
    return client._start().shortcut


def spare_of(client: LockClient) -> Spare | None:
    return shortcut_of(client)._known()


def engine_of(client: LockClient) -> Engine:
    engine = client._start().client.engine
    assert isinstance(engine, Engine)
    return engine


def fail_after_sending(client: LockClient, error: BaseException) -> None:
    """Let the next reply be lost: the server does what it is asked, and the caller never knows."""
    spare = spare_of(client)
    assert spare is not None
    real = spare.ask

    def ask(packed: bytes, seconds: float) -> Any:
        real(packed, seconds)
        raise error

    spare.ask = ask  # type: ignore[method-assign]


def commands(admin: Redis, name: str) -> int:
    found: dict[str, Any] = admin.info("commandstats")
    return int(found.get(f"cmdstat_{name}", {"calls": 0})["calls"])


def test_a_second_connection_is_there_once_locks_are_taken_often(
    redis_server: RedisServer, admin: Redis
) -> None:
    with make(redis_server.url) as client:
        for _ in range(OPEN_AFTER_CALLS + 1):
            with client.lock(NAME):
                assert connections(admin) == 1
        with client.lock(NAME):
            pass
        eventually(lambda: spare_of(client) is not None, "the second connection")
        for _ in range(20):
            with client.lock(NAME):
                assert connections(admin) == 2
    eventually(lambda: connections(admin) == 0, "both are closed")


def test_a_free_lock_costs_two_requests_and_none_of_the_event_loop(
    client: LockClient, admin: Redis
) -> None:
    link = engine_of(client)._connection._link  # type: ignore[union-attr]
    sent: list[object] = []
    link.send = lambda *words: sent.append(words)  # type: ignore[union-attr, method-assign]
    before = commands(admin, "evalsha")

    for _ in range(10):
        client.acquire(NAME).release()

    assert commands(admin, "evalsha") == before + 20
    # Others may be looked after there: a lease that is held for long is watched.
    assert not [words for words in sent if words[0][0] == "EVALSHA"]  # type: ignore[index]
    assert keys(admin) == []


def test_a_lease_of_the_short_way_is_renewed(redis_server: RedisServer, admin: Redis) -> None:
    with make(redis_server.url, ttl=0.6, reply_timeout=0.25) as client:
        client.start()
        open_shortcut(client)
        with client.lock(NAME) as lease:
            ends = time.monotonic() + 1.5
            while time.monotonic() < ends:
                lease.check()
                assert admin.pttl(KEY) > 0
                time.sleep(0.02)


def test_who_does_not_wait_is_told_by_the_short_way_too(client: LockClient, admin: Redis) -> None:
    with client.lock(NAME):
        before = commands(admin, "evalsha")
        with pytest.raises(Contended, match="held, or waited for, by somebody else"):
            client.acquire(NAME, wait=0)
        assert commands(admin, "evalsha") == before + 1


def test_a_lost_grant_is_undone_before_the_names_are_asked_for_again(
    client: LockClient, admin: Redis
) -> None:
    fail_after_sending(client, TimeoutError("lost"))

    lease = client.acquire(NAME, wait=5.0)

    assert admin.exists(KEY)
    lease.release()
    assert keys(admin) == []


def test_a_lost_grant_is_not_undone_by_a_variant_that_leaves_it(
    client: LockClient, admin: Redis
) -> None:
    """The test above would fail without the undoing."""
    engine_of(client).abandon = lambda *_, **__: None  # type: ignore[method-assign]
    fail_after_sending(client, TimeoutError("lost"))

    with pytest.raises(Exception, match="not free within"):
        client.acquire(NAME, wait=0.3)


@pytest.mark.parametrize("caught", [True, False], ids=["as it is", "broken variant"])
def test_what_was_under_way_when_it_was_dropped_is_never_done(
    client: LockClient, admin: Redis, *, caught: bool
) -> None:
    """The network may deliver a request long after its sender gave it up."""
    spare, engine = spare_of(client), engine_of(client)
    assert spare is not None
    delayed: list[bytes] = []
    # Somebody else on the way keeps the connection open, and the request.
    network = socket.socket(fileno=os.dup(spare._sock.fileno()))
    network.settimeout(PATIENCE_SECONDS)
    if not caught:
        engine.disown = lambda _: None  # type: ignore[method-assign, assignment]

    def ask(packed: bytes, seconds: float) -> Any:
        delayed.append(packed)
        raise TimeoutError(f"no reply within {seconds} s")

    spare.ask = ask  # type: ignore[method-assign]
    client.acquire(NAME).release()
    assert keys(admin) == []

    with network:
        try:
            network.sendall(delayed[0])
            network.recv(1000)
        except OSError:
            pass  # the server ended the connection

    assert keys(admin) == ([] if caught else [KEY])


def test_a_lost_reply_to_a_release_is_no_error(client: LockClient, admin: Redis) -> None:
    lease = client.acquire(NAME)
    fail_after_sending(client, ConnectionResetError("lost"))

    lease.release()

    assert keys(admin) == []
    with client.lock(NAME, wait=0):
        pass


@pytest.mark.parametrize("step", ["acquire", "release"])
def test_a_signal_handler_that_raises_leaves_nothing_held(
    client: LockClient, admin: Redis, step: str
) -> None:
    if step == "acquire":
        fail_after_sending(client, Interrupted())
        with pytest.raises(Interrupted):
            client.acquire(NAME)
    else:
        lease = client.acquire(NAME)
        fail_after_sending(client, Interrupted())
        with pytest.raises(Interrupted):
            lease.release()
    eventually(lambda: not keys(admin), "given back")
    eventually(lambda: not engine_of(client)._keeper.held(), "nobody renews it")
    with client.lock(NAME, wait=5.0):
        pass


def test_a_real_signal_ends_the_wait_for_a_silent_server(
    client: LockClient, redis_server: RedisServer, admin: Redis
) -> None:
    def ring(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, ring)
    try:
        admin.client_pause(1500)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Interrupted):
            client.acquire(NAME)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with client.lock(NAME):
        pass
    assert keys(admin) == []


def test_two_threads_that_release_one_lease_release_it_once(
    client: LockClient, admin: Redis
) -> None:
    for _ in range(30):
        lease = client.acquire(NAME)
        before = commands(admin, "evalsha")
        with ThreadPoolExecutor(4) as pool:
            releases = [pool.submit(lease.release) for _ in range(4)]
        assert [release.exception() for release in releases] == [None] * 4
        assert commands(admin, "evalsha") == before + 1


def test_a_lease_that_is_gone_is_not_released_in_silence(client: LockClient, admin: Redis) -> None:
    lease = client.acquire(NAME)
    engine_of(client)._keeper._look = None  # nobody tells
    admin.delete(KEY)

    with pytest.raises(NotOwner):
        lease.release()


def test_the_names_of_a_gone_holder_in_the_same_process_are_not_held_twice(
    client: LockClient, admin: Redis
) -> None:
    first = client.acquire(NAME)
    engine_of(client)._keeper._look = None
    admin.delete(KEY)

    second = client.acquire(NAME)

    eventually(lambda: first.remaining() == 0.0, "the former holder is told")
    second.check()
    second.release()


def test_a_connection_that_broke_is_replaced(client: LockClient, admin: Redis) -> None:
    spare = spare_of(client)
    assert spare is not None
    assert spare.identity is not None
    admin.client_kill_filter(_id=str(spare.identity[0]))

    with client.lock(NAME):
        pass

    shortcut_of(client)._open_at = 0.0
    for _ in range(OPEN_AFTER_CALLS + 1):
        with client.lock(NAME):
            pass
    eventually(lambda: spare_of(client) is not None, "a new one")
    assert spare_of(client) is not spare


def test_what_is_owed_to_the_server_comes_first(client: LockClient) -> None:
    engine = engine_of(client)
    spare = spare_of(client)
    assert spare is not None
    assert engine.undisturbed(spare.beside)
    engine._debts._owed["owner"] = object()  # type: ignore[assignment]
    try:
        assert not engine.undisturbed(spare.beside)
    finally:
        engine._debts._owed.clear()


def test_a_forked_child_has_a_short_way_of_its_own(client: LockClient, admin: Redis) -> None:
    spare = spare_of(client)
    assert spare is not None

    def run() -> None:
        assert spare._sock.fileno() == -1, "that of the parent is closed in its child"
        for _ in range(OPEN_AFTER_CALLS + 5):
            with client.lock("order:{2}"):
                pass

    with client.lock(NAME) as lease:
        child = multiprocessing.get_context("fork").Process(target=run)
        child.start()
        child.join(30)
        assert child.exitcode == 0
        lease.check()
    assert spare_of(client) is spare
    assert keys(admin) == []


def test_closing_ends_a_call_that_is_under_way(
    client: LockClient, redis_server: RedisServer, admin: Redis
) -> None:
    shortcut = shortcut_of(client)
    admin.client_pause(4000)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.acquire, NAME)
        eventually(lambda: shortcut._call, "a call on the short way")
        client.close()
    assert isinstance(call.exception(), RedisUnavailable)
    eventually(lambda: not keys(admin), "nothing is left")


def test_a_thread_packs_its_commands_without_hiredis(
    client: LockClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks Python for the text of a number, and dies if a signal handler raises then."""
    assert spare_of(client) is not None
    threads: list[str] = []

    def pack(words: tuple[Any, ...]) -> bytes:
        threads.append(threading.current_thread().name)
        return bytes(real(words))

    real = hiredis.pack_command
    monkeypatch.setattr(hiredis, "pack_command", pack)
    client.acquire(NAME).release()
    assert threading.current_thread().name not in threads


def test_a_flush_that_nobody_was_told_of_yet_goes_ahead_of_a_grant(
    client: LockClient, admin: Redis
) -> None:
    first = client.acquire(NAME)
    spare = spare_of(client)
    assert spare is not None
    spare.beside._on_push = lambda _: None  # what the loop is told comes later
    admin.flushall()

    second = client.acquire(NAME)

    assert spare_of(client) is not spare, "the short way was left when the server told of it"
    eventually(lambda: first.remaining() == 0.0, "the former holder is told")
    second.release()


def test_a_grant_of_a_server_that_was_left_meanwhile_is_not_kept(
    client: LockClient, admin: Redis
) -> None:
    engine = engine_of(client)
    spare = spare_of(client)
    assert spare is not None
    real = spare.ask

    def ask(packed: bytes, seconds: float) -> Any:
        reply = real(packed, seconds)
        engine.talks_over = lambda link: False  # type: ignore[method-assign]
        return reply

    spare.ask = ask  # type: ignore[method-assign]
    adopted: list[object] = []
    engine.adopt = lambda lease, link: adopted.append(lease)  # type: ignore[method-assign]
    try:
        lease = client.acquire(NAME)
        lease.check()
    finally:
        del engine.talks_over
    assert adopted == []
    lease.release()
    eventually(lambda: not keys(admin), "the first grant is undone, the second released")


def test_a_lease_that_comes_when_its_server_was_left_is_not_kept(
    client: LockClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(client)
    shortcut = shortcut_of(client)
    adopt, acquire = engine.adopt, shortcut.acquire
    elsewhere: Any = Elsewhere()
    came: list[AsyncLease] = []
    monkeypatch.setattr(engine, "adopt", lambda lease, _: adopt(lease, elsewhere))

    def slowly(asked: Asked) -> AsyncLease | None:
        lease = acquire(asked)
        assert lease is not None
        came.append(lease)
        eventually(lambda: lease.lost, "lost before the caller has it")
        return lease

    monkeypatch.setattr(shortcut, "acquire", slowly)
    lease = client.acquire(NAME)

    lease.check()
    assert lease.fence > came[0].fence
    assert [each.request.owner for each in engine._keeper.held()] == [lease._inner.request.owner]


class Elsewhere:
    """A link over which nobody talks any more."""

    usable = False


def test_a_connection_to_another_server_of_the_same_name_is_refused(
    redis_server: RedisServer, admin: Redis
) -> None:
    with make(redis_server.url) as client:
        client.start()
        engine = engine_of(client)
        # Nobody listens there on the channel of this client.
        engine._connection._channel = "fencelock:c:elsewhere"  # type: ignore[union-attr]
        open_shortcut(client)
        assert spare_of(client) is None


def test_a_connection_that_the_server_cannot_be_told_to_drop_is_refused(
    redis_server: RedisServer, admin: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fencelock._fitness.identity", lambda _: None)
    with make(redis_server.url) as client:
        client.start()
        open_shortcut(client)
        assert spare_of(client) is None


def test_where_there_is_no_short_way_no_connection_is_made_to_find_that_out(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("s", numbered=True)
    with RedisServer(folder, settings={"unixsocket": "s", "unixsocketperm": "700"}) as server:
        url = f"unix://:{server.password}@{folder}/s"
        with looking_at(server.url) as admin, make(url) as client:
            client.start()
            before = admin.info("stats")["total_connections_received"]
            open_shortcut(client)
            with client.lock(NAME):
                assert spare_of(client) is None
            assert admin.info("stats")["total_connections_received"] == before


def test_the_server_is_told_to_drop_it_until_it_answers(client: LockClient) -> None:
    connection = engine_of(client)._connection
    spare = spare_of(client)
    assert isinstance(connection, Connection)
    assert spare is not None
    link, identity = connection._link, spare.identity
    assert link is not None
    running = client._start()

    async def lose_it() -> None:
        connection.disown(identity)
        link.abort("broke with the order on its way")
        await link.closed
        assert identity in connection._disowned
        await connection.ready(deadline=now() + 30.0)

    running.thread.call(lose_it)
    assert identity not in connection._disowned


def test_a_signal_handler_that_closes_the_client_does_not_wait_for_itself(
    client: LockClient, admin: Redis
) -> None:
    def close_and_exit() -> None:
        client.close()
        raise SystemExit(3)

    spare = spare_of(client)
    assert spare is not None
    real = spare.ask

    def ask(packed: bytes, seconds: float) -> Any:
        real(packed, seconds)
        close_and_exit()

    spare.ask = ask  # type: ignore[method-assign]
    began = time.monotonic()
    with pytest.raises(SystemExit):
        client.acquire(NAME)
    assert time.monotonic() - began < CALL_SECONDS
    assert keys(admin) == []


def test_what_is_interrupted_when_it_was_granted_is_renewed_by_nobody(
    client: LockClient, admin: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(shortcut: Shortcut, spare: Spare) -> None:
        raise Interrupted

    async def turn() -> None:
        """What the thread of the loop was told before is done when this is."""

    monkeypatch.setattr(Shortcut, "_leave", interrupted)
    with pytest.raises(Interrupted):
        client.acquire(NAME)
    client._start().thread.call(turn)
    assert engine_of(client)._keeper.held() == []
    eventually(lambda: not keys(admin), "given back")


@pytest.mark.parametrize("step", ["leave", "_enter", "_leave"])
def test_a_release_that_is_interrupted_anywhere_is_made_all_the_same(
    client: LockClient, admin: Redis, step: str
) -> None:
    lease = client.acquire(NAME)
    owner: Any = lease._inner if step == "leave" else shortcut_of(client)
    kind = type(owner)
    real = getattr(kind, step)

    def interrupted(*args: Any) -> Any:
        real(*args)
        raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, step, interrupted)
        with pytest.raises(Interrupted):
            lease.release()
    assert lease._inner.released
    eventually(lambda: not keys(admin), "released")
    eventually(lambda: not engine_of(client)._keeper.held(), "nobody renews it")


def after_asking(client: LockClient, meanwhile: Callable[[Any], object]) -> None:
    """Do something between a reply and what is made of it."""
    spare = spare_of(client)
    assert spare is not None
    real = spare.ask

    def ask(packed: bytes, seconds: float) -> Any:
        reply = real(packed, seconds)
        meanwhile(reply)
        return reply

    spare.ask = ask  # type: ignore[method-assign]


def test_a_grant_that_is_over_when_it_is_read_is_not_handed_out(
    redis_server: RedisServer, admin: Redis
) -> None:
    with make(redis_server.url, ttl=1.0, reply_timeout=0.4) as client:
        client.start()
        open_shortcut(client)
        after_asking(client, lambda _: time.sleep(1.1))
        lease = client.acquire(NAME)
        lease.check()
        spare = spare_of(client)
        assert spare is not None
        del spare.ask
        lease.release()
    assert keys(admin) == []


def test_a_grant_while_others_learn_that_the_server_forgot_them_is_asked_for_again(
    client: LockClient, admin: Redis
) -> None:
    engine = engine_of(client)
    granted: list[int] = []

    def flushed(reply: Any) -> None:
        granted.append(int(reply[1]))
        engine._settled_at = now() + SETTLE_SECONDS

    after_asking(client, flushed)
    lease = client.acquire(NAME)
    assert lease.fence > granted[0]
    lease.check()


def test_a_refusal_is_for_the_usual_way_to_judge(client: LockClient, admin: Redis) -> None:
    admin.script_flush()

    with client.lock(NAME):
        assert admin.exists(KEY)

    assert keys(admin) == []


def test_a_request_that_the_server_takes_for_late_is_made_again(
    client: LockClient, admin: Redis
) -> None:
    spare = spare_of(client)
    assert spare is not None
    spare.beside.clock._ahead -= 3600.0  # the server's clock was set forward

    with client.lock(NAME):
        assert admin.exists(KEY)

    assert keys(admin) == []


def test_a_silent_server_is_waited_for_half_as_long_before_the_usual_way(
    client: LockClient,
) -> None:
    engine = engine_of(client)
    limits: list[float] = []
    spare = spare_of(client)
    assert spare is not None
    real = spare.ask

    def ask(packed: bytes, seconds: float) -> Any:
        limits.append(seconds)
        return real(packed, seconds)

    spare.ask = ask  # type: ignore[method-assign]
    lease = client.acquire(NAME)
    limit = engine.limit(lease._inner.request)
    lease.release()
    assert limits == [limit / 2] * 2
