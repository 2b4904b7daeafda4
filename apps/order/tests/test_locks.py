"""What the locks' own troubles are answered with."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

import fencelock
from order.errors import LocksUnavailable
from order.locks import RedisLocks
from order.metrics import Metrics
from servicekit.testing.logs import route_to_stdlib


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    """Let pytest collect what the service logs."""
    route_to_stdlib()


class Failing:
    """A client whose locks cannot be had."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    @asynccontextmanager
    async def lock(self, *names: str, wait: float) -> AsyncIterator[None]:
        self._refuse()
        yield

    def _refuse(self) -> None:
        raise self._error


class Granting:
    @asynccontextmanager
    async def lock(self, *names: str, wait: float) -> AsyncIterator[None]:
        yield


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (fencelock.ConfigurationError("refuses the credentials: WRONGPASS"), "configuration"),
        (fencelock.ConfigurationError("maxmemory-policy evicts"), "configuration"),
        (fencelock.RedisUnavailable("LOADING"), "unreachable"),
        (fencelock.RedisUnavailable("NOPERM"), "unreachable"),
        (RuntimeError("a defect"), "defect"),
    ],
)
async def test_whatever_keeps_it_from_a_lock_is_503_with_the_cause_in_a_metric_and_the_log_once(
    error: Exception, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    registry = CollectorRegistry()
    locks = RedisLocks(cast("Any", Failing(error)), trouble=Metrics(registry).lock_trouble)
    for _ in range(3):
        with pytest.raises(LocksUnavailable) as caught:
            async with locks.hold(uuid.uuid4(), wait_seconds=0):
                pytest.fail("granted")
        assert str(error) not in caught.value.detail
        assert "Retry-After" in caught.value.headers
    assert caplog.text.count("locks_unavailable") == 1
    assert str(error) in caplog.text
    counted = {
        each: registry.get_sample_value("shop_locks_unavailable_total", {"cause": each})
        for each in ("configuration", "unreachable", "defect")
    }
    assert counted == dict.fromkeys(counted, 0.0) | {cause: 3.0}


@pytest.fixture
def own_authority(tmp_path: Path) -> ssl.SSLContext:
    """What a server shows whose certificate nobody else has signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on the PATH")
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "crt")]
    command = [openssl, *new, *files, "-subj", "/CN=localhost"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    return tls


@pytest.fixture
async def untrusted(own_authority: ssl.SSLContext) -> AsyncIterator[str]:
    """The URL of a server that clients have no reason to trust."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=own_authority) as server:
        yield f"rediss://localhost:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
def blocked() -> Iterator[str]:
    """The URL of a port whose packets are dropped: nobody accepts, and the queue is full."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        socket.create_connection(server.getsockname()),
    ):
        yield f"redis://127.0.0.1:{server.getsockname()[1]}"


async def assert_said_once(url: str, cause: str, log: pytest.LogCaptureFixture) -> None:
    """Locks there are refused each time, and the log says why and where once."""
    client = fencelock.AsyncLockClient.from_url(url, connect_timeout=0.2, reply_timeout=0.2)
    locks = RedisLocks(client, trouble=Metrics(CollectorRegistry()).lock_trouble)
    try:
        for _ in range(3):
            with pytest.raises(LocksUnavailable):
                async with locks.hold(uuid.uuid4(), wait_seconds=0.1):
                    pytest.fail("granted")
    finally:
        await client.aclose()
    assert log.text.count("locks_unavailable") == 1
    assert cause in log.text
    assert url.split("//")[1] in log.text


async def test_the_log_says_that_the_certificate_of_redis_is_not_trusted(
    untrusted: str, caplog: pytest.LogCaptureFixture
) -> None:
    await assert_said_once(untrusted, "certificate is not one to trust", caplog)


async def test_the_log_says_that_the_port_of_redis_does_not_answer(
    blocked: str, caplog: pytest.LogCaptureFixture
) -> None:
    await assert_said_once(blocked, "cannot reach 127.0.0.1", caplog)


async def test_an_error_of_the_work_under_the_lock_stays_what_it_is() -> None:
    locks = RedisLocks(cast("Any", Granting()), trouble=Metrics(CollectorRegistry()).lock_trouble)
    with pytest.raises(ZeroDivisionError):
        async with locks.hold(uuid.uuid4(), wait_seconds=0):
            raise ZeroDivisionError
