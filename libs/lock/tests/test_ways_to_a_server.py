"""TLS with a private authority and certificates of clients, IPv6, a socket: each with a server."""

import asyncio
import contextlib
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from libs.lock.tests.clients import Clients, connection_of, engine_of
from libs.lock.tests.eventually import eventually
from libs.lock.tests.server_view import queue_length
from libs.lock.tests.tls import in_front_of, make_keys, served_by, url_of
from redis.asyncio import Redis

from devkit.servers import RedisServer
from fencelock import AsyncLockClient, ConfigurationError, RedisUnavailable
from fencelock._attempt import Attempt
from fencelock._cli.exits import Exit
from fencelock._cli.main import main
from fencelock._link import Link
from fencelock._target import Target

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the keys")


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys"))


@asynccontextmanager
async def mute(context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A port on which somebody listens to all, and says nothing."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                pass
        writer.close()

    listening = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def client_of(url: str) -> AsyncLockClient:
    return AsyncLockClient.from_url(url, connect_timeout=10.0)


async def test_a_private_authority_is_trusted_when_the_url_names_it(
    redis_server: RedisServer, admin: Redis, keys: Path
) -> None:
    async with in_front_of(redis_server, context=served_by(keys)) as gate:
        url = url_of(redis_server, gate.port, {"ssl_ca_certs": keys / "ca.crt"})
        async with client_of(url) as client, client.lock("order:{1}") as lease:
            assert lease.fence


@pytest.mark.parametrize("options", [{}, {"ssl_ca_certs": "other.crt"}])
async def test_a_server_that_nobody_vouches_for_is_refused(
    redis_server: RedisServer, admin: Redis, keys: Path, options: dict[str, str]
) -> None:
    files = {name: keys / value for name, value in options.items()}
    async with (
        in_front_of(redis_server, context=served_by(keys)) as gate,
        client_of(url_of(redis_server, gate.port, files)) as client,
    ):
        with pytest.raises(ConfigurationError, match="ssl_ca_certs") as caught:
            await client.start()
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def test_a_server_of_another_name_is_refused(
    redis_server: RedisServer, admin: Redis, keys: Path
) -> None:
    async with in_front_of(redis_server, context=served_by(keys)) as gate:
        url = url_of(redis_server, gate.port, {"ssl_ca_certs": keys / "ca.crt"}, "localhost")
        async with client_of(url) as client:
            with pytest.raises(ConfigurationError, match="host name"):
                await client.start()


async def test_a_certificate_that_is_not_made_by_the_letter_can_be_taken_all_the_same(
    redis_server: RedisServer, admin: Redis, keys: Path
) -> None:
    trusted = {"ssl_ca_certs": keys / "ca.crt"}
    # Python 3.13 has that without being asked.
    strict = {**trusted, "ssl_include_verify_flags": "VERIFY_X509_STRICT"}
    lenient = {**trusted, "ssl_exclude_verify_flags": "VERIFY_X509_STRICT"}
    async with in_front_of(redis_server, context=served_by(keys, prefix="loose-")) as gate:
        async with client_of(url_of(redis_server, gate.port, strict)) as client:
            with pytest.raises(
                ConfigurationError, match="ssl_exclude_verify_flags=VERIFY_X509_STRICT"
            ):
                await client.start()
        async with client_of(url_of(redis_server, gate.port, lenient)) as client:
            await client.start()


@pytest.mark.parametrize(
    ("verify_code", "advice"),
    [(9, "its dates"), (10, "its dates"), (62, "host name"), (64, "host name"), (20, "ssl_ca")],
)
def test_what_to_do_about_a_certificate_depends_on_what_is_wrong_with_it(
    verify_code: int, advice: str
) -> None:
    attempt = Attempt(Target.from_url("rediss://h"), lambda: pytest.fail("nobody connects"))
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = verify_code, "why."
    failed = attempt.failed(error, 1.0)
    assert isinstance(failed, ConfigurationError)
    assert advice in str(failed)


async def test_threads_share_the_one_connection_that_has_tls(
    redis_server: RedisServer, admin: Redis, keys: Path
) -> None:
    async with in_front_of(redis_server, context=served_by(keys)) as gate:
        url = url_of(redis_server, gate.port, {"ssl_ca_certs": keys / "ca.crt"})
        async with Clients(url, "blocking") as clients:
            client = clients.make()
            await client.start()

            async def take() -> int:
                async with client.lock("order:{1}") as lease:
                    return lease.fence

            fences = await asyncio.gather(*[take() for _ in range(30)])
            assert len(set(fences)) == 30
            assert gate.accepted == 1


async def test_what_comes_in_several_parts_of_a_tls_connection_at_once_is_whole(keys: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        for part in (b"$3\r\no", b"ne\r\n$3\r\n", b"two\r\n"):
            writer.write(part)
        await reader.read(65536)
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=served_by(keys))
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        target = Target.from_url(f"rediss://127.0.0.1:{port}?ssl_ca_certs={keys / 'ca.crt'}")
        link = await Attempt(
            target,
            lambda: Link(loop, reply_timeout=10.0, on_push=lambda _: None, on_lost=lambda _: None),
        ).connect()
        replies = [link.send(("ECHO", text)) for text in ("one", "two")]
        assert await asyncio.gather(*replies) == [b"one", b"two"]
        link.abort("end of test")
        await link.closed


async def test_a_client_shows_its_certificate(
    redis_server: RedisServer, admin: Redis, keys: Path
) -> None:
    files = {"ssl_certfile": keys / "client.crt", "ssl_keyfile": keys / "client.key"}
    async with in_front_of(redis_server, context=served_by(keys, clients=True)) as gate:
        url = url_of(redis_server, gate.port, {"ssl_ca_certs": keys / "ca.crt", **files})
        async with client_of(url) as client, client.lock("order:{1}") as lease:
            assert lease.fence


async def test_who_waits_outlives_certificates_that_do_not_fit_for_a_while(
    redis_server: RedisServer, admin: Redis, keys: Path
) -> None:
    context = served_by(keys)
    async with in_front_of(redis_server, context=context) as gate:
        url = url_of(redis_server, gate.port, {"ssl_ca_certs": keys / "ca.crt"})
        async with Clients(url) as clients:
            client = clients.make()
            lease = await client.acquire("order:{1}")
            waiting = asyncio.create_task(client.acquire("order:{1}"))

            async def in_line() -> bool:
                return await queue_length(admin, "order:{1}") == 1

            await eventually(in_line, "somebody in line")
            context.load_cert_chain(keys / "other-server.crt", keys / "other-server.key")
            gate.cut()

            async def refused() -> bool:
                return "certificate" in str(connection_of(client)._trouble)

            await eventually(refused, "a certificate that is not trusted")
            with pytest.raises(RedisUnavailable, match="certificate is not one to trust"):
                await client.ping(timeout=0.1)
            context.load_cert_chain(keys / "server.crt", keys / "server.key")
            await lease.release()
            assert (await waiting).fence > lease.fence


async def test_what_is_cancelled_before_it_was_sent_need_not_be_undone() -> None:
    async with mute() as port, client_of(f"rediss://127.0.0.1:{port}") as client:
        asking = [asyncio.create_task(client.acquire(f"order:{{{i}}}")) for i in range(3)]
        await asyncio.sleep(0)
        for each in asking:
            each.cancel()
        await asyncio.wait(asking)
        assert all(each.cancelled() for each in asking)
        assert len(engine_of(client)._debts) == 0


@pytest.mark.parametrize("module", ["asyncio", "uvloop"])
def test_a_server_that_is_gone_is_said_to_be_gone_in_either_loop(module: str) -> None:
    runner = pytest.importorskip(module)

    async def start() -> None:
        with socket.create_server(("127.0.0.1", 0)) as former:
            url = f"rediss://127.0.0.1:{former.getsockname()[1]}"
        async with AsyncLockClient.from_url(url, reply_timeout=0.2, connect_timeout=5.0) as client:
            await client.ping(timeout=0.5)

    with (
        asyncio.Runner(loop_factory=runner.new_event_loop) as loop,
        pytest.raises(RedisUnavailable, match="cannot reach"),
    ):
        loop.run(start())


async def test_what_was_never_sent_need_not_be_undone(
    redis_server: RedisServer, admin: Redis, keys: Path
) -> None:
    async with (
        in_front_of(redis_server, context=served_by(keys)) as gate,
        client_of(url_of(redis_server, gate.port, {})) as client,
    ):
        with pytest.raises(ConfigurationError) as caught:
            await client.acquire("order:{1}")
        assert not caught.value.reached
        assert len(engine_of(client)._debts) == 0


@pytest.mark.parametrize("verb", ["ls", "doctor"])
async def test_the_command_says_of_a_certificate_what_the_library_says(
    redis_server: RedisServer,
    admin: Redis,
    keys: Path,
    capsys: pytest.CaptureFixture[str],
    verb: str,
) -> None:
    async with in_front_of(redis_server, context=served_by(keys)) as gate:
        arguments = [verb, "--url", url_of(redis_server, gate.port, {})]
        assert await asyncio.to_thread(main, arguments) == Exit.CONFIGURATION
    assert "certificate is not one to trust" in capsys.readouterr().err


@pytest.mark.parametrize("shown", ["", "other-client"])
async def test_who_shows_no_certificate_that_is_trusted_is_told_which_option_is_for_that(
    redis_server: RedisServer, admin: Redis, keys: Path, shown: str
) -> None:
    options = {"ssl_ca_certs": keys / "ca.crt"}
    if shown:
        options |= {"ssl_certfile": keys / f"{shown}.crt", "ssl_keyfile": keys / f"{shown}.key"}
    async with in_front_of(redis_server, context=served_by(keys, clients=True)) as gate:
        url = url_of(redis_server, gate.port, options)
        async with AsyncLockClient.from_url(url, reply_timeout=1.0) as client:
            # What the server says to it may be lost when it hangs up.
            with pytest.raises((RedisUnavailable, ConfigurationError), match="ssl_certfile"):
                await client.start()


@pytest.mark.parametrize("topology", ["sentinel", "cluster"])
async def test_those_who_know_the_servers_must_be_trusted_too(
    redis_server: RedisServer, admin: Redis, keys: Path, topology: str
) -> None:
    options = {"ssl_ca_certs": keys / "other.crt"}
    async with in_front_of(redis_server, context=served_by(keys)) as gate:
        url = url_of(redis_server, gate.port, options, scheme=f"rediss+{topology}")
        async with client_of(url.replace("/0?", "/locks?" if topology == "sentinel" else "?")) as c:
            with pytest.raises(ConfigurationError, match="certificate is not one to trust"):
                await c.start()


@pytest.mark.parametrize("limits", [(60.0, 0.3), (0.3, 0.3)], ids=["the call's", "to connect"])
async def test_a_server_without_tls_is_told_apart_from_one_that_is_gone(
    limits: tuple[float, float],
) -> None:
    async with mute() as port:
        connect, reply = limits
        url = f"rediss://127.0.0.1:{port}"
        client = AsyncLockClient.from_url(url, connect_timeout=connect, reply_timeout=reply)
        async with client, asyncio.timeout(20.0):
            with pytest.raises(RedisUnavailable, match=r"reached .* TLS handshake") as caught:
                await client.acquire("order:{1}", wait=0)
    assert "must begin with redis" in str(caught.value)


async def test_an_answer_that_is_not_tls_is_a_matter_of_configuration() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-ERR unknown command\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with client_of(f"rediss://127.0.0.1:{port}") as client:
            with pytest.raises(ConfigurationError, match="must begin with redis") as caught:
                await client.start()
    assert isinstance(caught.value.__cause__, ssl.SSLError)


async def test_a_server_that_speaks_only_tls_is_told_apart_from_one_that_is_gone(
    redis_server: RedisServer, keys: Path
) -> None:
    async with in_front_of(redis_server, context=served_by(keys)) as gate:
        url = f"redis://127.0.0.1:{gate.port}"
        async with AsyncLockClient.from_url(url, reply_timeout=0.5) as client:
            with pytest.raises(RedisUnavailable, match="TLS"):
                await client.start()


async def test_a_server_that_was_reached_before_and_breaks_off_is_not_taken_for_one_with_tls(
    redis_server: RedisServer, admin: Redis
) -> None:
    async with in_front_of(redis_server) as gate:
        url = url_of(redis_server, gate.port, {}, scheme="redis").rstrip("?")
        async with client_of(url) as client:
            await client.start()
            gate.refusing = True
            gate.cut()
            with pytest.raises(RedisUnavailable, match="greeting failed") as caught:
                await client.ping(timeout=1.0)
    assert "TLS" not in str(caught.value)


async def test_certificates_that_were_renewed_on_disk_are_used_by_a_client_that_lives(
    redis_server: RedisServer, admin: Redis, keys: Path, tmp_path: Path
) -> None:
    options = {
        "ssl_ca_certs": tmp_path / "ca.crt",
        "ssl_certfile": tmp_path / "client.crt",
        "ssl_keyfile": tmp_path / "client.key",
    }

    def install(*files: str) -> None:
        for path, file in zip(options.values(), files, strict=True):
            shutil.copy(keys / file, path)

    install("ca.crt", "client.crt", "client.key")
    context = served_by(keys, clients=True)
    async with (
        in_front_of(redis_server, context=context) as gate,
        client_of(url_of(redis_server, gate.port, options)) as client,
    ):
        lease = await client.acquire("order:{1}")
        assert "'ca'" in str(gate.vouched)
        context.load_verify_locations(keys / "other.crt")
        context.load_cert_chain(keys / "other-server.crt", keys / "other-server.key")
        install("other.crt", "other-client.crt", "other-client.key")
        gate.cut()
        await client.ping(timeout=20.0)
        assert "'other'" in str(gate.vouched)
        await lease.release()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_an_ipv6_address_is_reached(redis_server: RedisServer, admin: Redis) -> None:
    async with in_front_of(redis_server, host="::1") as gate:
        url = f"redis://:{redis_server.password}@[::1]:{gate.port}/0"
        async with client_of(url) as client, client.lock("order:{1}") as lease:
            assert lease.fence


async def test_a_socket_is_reached(tmp_path_factory: pytest.TempPathFactory) -> None:
    # The path of a socket has 107 characters at most.
    folder = tmp_path_factory.mktemp("s", numbered=True)
    settings = {"unixsocket": "s", "unixsocketperm": "700"}
    with RedisServer(folder, settings=settings) as server:
        url = f"unix://:{server.password}@{folder}/s?db=1"
        async with client_of(url) as client, client.lock("order:{1}") as lease:
            assert lease.fence
