import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hiredis import ReplyError
from libs.lock.tests.clients import Clients, connection_of
from libs.lock.tests.proxy import Proxy
from libs.lock.tests.server_view import lock_connections
from redis.asyncio import Redis

from fencelock import AsyncLockClient, ConfigurationError, RedisUnavailable
from fencelock._clock import now
from fencelock._connection import BACKOFF_SECONDS_MAX, _backoff
from fencelock._fitness import check_mode, eviction

Answer = Callable[[bytes], bytes]


@asynccontextmanager
async def server_that_says(answer: Answer) -> AsyncIterator[str]:
    """A server that gives one answer to each chunk it reads."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(answer(data))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def client_of(url: str) -> AsyncLockClient:
    return AsyncLockClient.from_url(url, ttl=2.0, connect_timeout=5.0, reply_timeout=0.5)


@pytest.mark.parametrize(
    "refusal",
    [b"-ERR unknown command `HELLO`\r\n", b"-NOPROTO unsupported protocol version\r\n"],
)
async def test_a_server_without_resp3_is_refused_with_a_clear_word(refusal: bytes) -> None:
    def answer(data: bytes) -> bytes:
        return refusal + b"-ERR unknown command\r\n" * (data.count(b"*") - 1)

    async with server_that_says(answer) as url, client_of(url) as client:
        with pytest.raises(ConfigurationError, match="RESP3"):
            await client.acquire("order:{1}")


async def test_a_wrong_password_is_a_matter_of_configuration(url: str) -> None:
    wrong = url.replace("redis://:", "redis://:not")
    async with client_of(wrong) as client:
        with pytest.raises(ConfigurationError, match="refuses") as caught:
            await client.start()
    assert "not" not in str(caught.value).split()


async def test_a_server_that_may_evict_locks_is_refused(clients: Clients, admin: Redis) -> None:
    await admin.config_set("maxmemory", "100mb")
    await admin.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(ConfigurationError, match="noeviction"):
            await clients.make().acquire("order:{1}")
    finally:
        await admin.config_set("maxmemory-policy", "noeviction")
        await admin.config_set("maxmemory", "0")
    async with clients.make().lock("order:{1}"):
        pass


def test_settings_that_cannot_be_read_are_trusted() -> None:
    assert eviction(PermissionError("NOPERM")) is None
    assert eviction({b"maxmemory": b"0", b"maxmemory-policy": b"allkeys-lru"}) is None
    assert eviction({b"maxmemory": b"1000", b"maxmemory-policy": b"noeviction"}) is None


@pytest.mark.parametrize("mode", [b"cluster", b"sentinel"])
def test_a_server_that_is_not_on_its_own_is_refused(mode: bytes) -> None:
    with pytest.raises(ConfigurationError, match=mode.decode()):
        check_mode("host:1", {b"mode": mode}, b"standalone")
    check_mode("host:1", {b"mode": b"standalone"}, b"standalone")


async def test_tasks_that_start_at_once_share_one_connection(
    clients: Clients, admin: Redis
) -> None:
    client = clients.make()
    await asyncio.gather(*[client.ping(timeout=30.0) for _ in range(20)])
    assert await lock_connections(admin) == 1


async def test_a_connection_that_broke_is_made_again(clients: Clients, proxy: Proxy) -> None:
    client = clients.make(url=proxy.url)
    for _ in range(3):
        async with client.lock("order:{1}"):
            pass
        proxy.cut()
    await client.ping(timeout=30.0)


async def test_cancelling_one_of_those_who_wait_for_the_connection_spares_the_others(
    clients: Clients, proxy: Proxy
) -> None:
    client = clients.make(url=proxy.url)
    doomed = asyncio.create_task(client.ping(timeout=30.0))
    other = asyncio.create_task(client.ping(timeout=30.0))
    await asyncio.sleep(0)
    doomed.cancel()
    await other
    with pytest.raises(asyncio.CancelledError):
        await doomed


async def test_a_refusal_that_does_not_pass_is_not_repeated(clients: Clients, admin: Redis) -> None:
    client = clients.make()
    await client.start()
    await admin.rpush("fencelock:fence", "not a number")
    with pytest.raises(RedisUnavailable, match="WRONGTYPE"):
        await client.acquire("order:{1}")


@pytest.mark.parametrize("said", ["Script attempted", "Attempted"])
async def test_a_script_that_was_refused_for_a_while_may_have_done_something(
    clients: Clients, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """Also the first time: a release whose second run finds nothing held was one."""
    client = clients.make()
    lease = await client.acquire("order:{1}")
    connection = connection_of(client)
    link = connection._link
    assert link is not None
    send = link.send

    error = ReplyError(f"ERR {said} to access a non local key in a cluster node")

    def refuse_once(*args: Any) -> asyncio.Future[object]:
        monkeypatch.setattr(link, "send", send)
        refused: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        send(*args).add_done_callback(lambda _: refused.set_result(error))
        return refused

    monkeypatch.setattr(link, "send", refuse_once)
    await lease.release()


async def test_a_replica_is_no_place_for_locks(clients: Clients, admin: Redis) -> None:
    client = clients.make(ttl=30.0, reply_timeout=3.0)
    await client.start()
    await admin.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(RedisUnavailable, match="READONLY"):
            await client.acquire("order:{1}", wait=0)
    finally:
        await admin.replicaof("NO", "ONE")
    async with client.lock("order:{1}"):
        pass


async def test_a_closed_client_says_so(clients: Clients) -> None:
    client = clients.make()
    await client.start()
    await client.aclose()
    await client.aclose()
    with pytest.raises(RedisUnavailable, match="closed"):
        await client.acquire("order:{1}")


def test_the_pause_between_attempts_is_bounded_however_long_the_outage() -> None:
    assert 0 < _backoff(1) <= BACKOFF_SECONDS_MAX
    assert 0 < _backoff(100_000) <= BACKOFF_SECONDS_MAX


async def test_who_waits_for_a_connection_does_so_in_its_own_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"redis://127.0.0.1:{mute.getsockname()[1]}"
        async with AsyncLockClient.from_url(url, reply_timeout=0.3, connect_timeout=60.0) as client:
            async with asyncio.timeout(20.0):
                with pytest.raises(RedisUnavailable, match="did not answer"):
                    await client.acquire("order:{1}", wait=0)


async def test_after_an_outage_the_next_attempt_comes_within_the_time_of_a_call(
    clients: Clients, proxy: Proxy
) -> None:
    client = clients.make(url=proxy.url, reply_timeout=0.4)
    await client.start()
    connection = connection_of(client)
    proxy.refusing = True
    proxy.cut()
    # A long outage.
    connection._failures = 1000
    with pytest.raises(RedisUnavailable):
        await client.ping(timeout=0.1)
    assert connection._retry_at - now() <= 0.2
    assert connection._failures > 1000
    # It counts from the attempt that failed, not from the next call.
    connection._retry_at = now() - 1.0
    proxy.refusing = False
    await client.ping(timeout=20.0)
