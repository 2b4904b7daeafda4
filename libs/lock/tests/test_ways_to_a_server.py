"""TLS with a private authority and certificates of clients, IPv6, a socket: each with a server."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from devkit.servers import RedisServer
from fencelock import AsyncLockClient, ConfigurationError, RedisUnavailable

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the keys")


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def certificate(folder: Path, name: str, authority: str, alternative: str) -> None:
    (folder / f"{name}.ext").write_text(f"subjectAltName={alternative}\n")
    openssl(
        folder,
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"),
    )
    openssl(
        folder,
        *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.crt", "-CAcreateserial"),
        *("-CAkey", f"{authority}.key", "-out", f"{name}.crt", "-days", "2"),
        *("-extfile", f"{name}.ext"),
    )


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private authority with a server and a client, and another one that nobody trusts."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ca", "other"):
        openssl(
            folder,
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *(
                "-keyout",
                f"{name}.key",
                "-out",
                f"{name}.crt",
                "-days",
                "2",
                "-subj",
                f"/CN={name}",
            ),
        )
    certificate(folder, "server", "ca", "IP:127.0.0.1")
    certificate(folder, "client", "ca", "DNS:client")
    return folder


@asynccontextmanager
async def in_front_of(
    server: RedisServer, *, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A port that leads to the server, with TLS if a context is given."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_connection(server.host, server.port)
        await asyncio.gather(pump(reader, upstream[1]), pump(upstream[0], writer))

    listening = await asyncio.start_server(serve, host, 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def tls(keys: Path, *, client_certificate: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(keys / "ca.crt"))
    context.load_cert_chain(keys / "server.crt", keys / "server.key")
    if client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def url_of(
    server: RedisServer, port: int, options: Mapping[str, object], host: str = "127.0.0.1"
) -> str:
    query = "&".join(f"{name}={quote(str(value))}" for name, value in options.items())
    return f"rediss://:{server.password}@{host}:{port}/0?{query}"


def client_of(url: str) -> AsyncLockClient:
    return AsyncLockClient.from_url(url, connect_timeout=10.0)


async def test_a_private_authority_is_trusted_when_the_url_names_it(
    redis_server: RedisServer, admin: Redis, keys: Path
) -> None:
    async with in_front_of(redis_server, context=tls(keys, client_certificate=False)) as port:
        url = url_of(redis_server, port, {"ssl_ca_certs": keys / "ca.crt"})
        async with client_of(url) as client, client.lock("order:{1}") as lease:
            assert lease.fence


@pytest.mark.parametrize("options", [{}, {"ssl_ca_certs": "other.crt"}])
async def test_a_server_that_nobody_vouches_for_is_refused(
    redis_server: RedisServer, admin: Redis, keys: Path, options: dict[str, str]
) -> None:
    files = {name: keys / value for name, value in options.items()}
    async with (
        in_front_of(redis_server, context=tls(keys, client_certificate=False)) as port,
        client_of(url_of(redis_server, port, files)) as client,
    ):
        with pytest.raises(ConfigurationError, match="ssl_ca_certs") as caught:
            await client.start()
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def test_a_server_of_another_name_is_refused(
    redis_server: RedisServer, admin: Redis, keys: Path
) -> None:
    async with in_front_of(redis_server, context=tls(keys, client_certificate=False)) as port:
        url = url_of(redis_server, port, {"ssl_ca_certs": keys / "ca.crt"}, "localhost")
        async with client_of(url) as client:
            with pytest.raises(ConfigurationError, match="host name"):
                await client.start()


async def test_a_client_shows_its_certificate(
    redis_server: RedisServer, admin: Redis, keys: Path
) -> None:
    files = {"ssl_certfile": keys / "client.crt", "ssl_keyfile": keys / "client.key"}
    async with in_front_of(redis_server, context=tls(keys, client_certificate=True)) as port:
        url = url_of(redis_server, port, {"ssl_ca_certs": keys / "ca.crt", **files})
        async with client_of(url) as client, client.lock("order:{1}") as lease:
            assert lease.fence


async def test_a_client_without_a_certificate_is_told_that_the_server_hung_up(
    redis_server: RedisServer, admin: Redis, keys: Path
) -> None:
    async with in_front_of(redis_server, context=tls(keys, client_certificate=True)) as port:
        url = url_of(redis_server, port, {"ssl_ca_certs": keys / "ca.crt"})
        async with AsyncLockClient.from_url(url, reply_timeout=1.0) as client:
            # What the server says to it may be lost when it hangs up.
            with pytest.raises((RedisUnavailable, ConfigurationError), match=r"certificate|lost"):
                await client.start()


async def test_a_server_without_tls_is_told_apart_from_one_that_is_gone(
    redis_server: RedisServer, admin: Redis
) -> None:
    url = url_of(
        redis_server,
        redis_server.port,
        {"ssl_cert_reqs": "none", "ssl_check_hostname": "false"},
    )
    async with AsyncLockClient.from_url(url, reply_timeout=0.5) as client:
        with pytest.raises(RedisUnavailable) as caught:
            await client.start()
    assert "refused" not in str(caught.value)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_an_ipv6_address_is_reached(redis_server: RedisServer, admin: Redis) -> None:
    async with in_front_of(redis_server, host="::1") as port:
        url = f"redis://:{redis_server.password}@[::1]:{port}/0"
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
