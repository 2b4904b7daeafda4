"""Calls of another service: one deadline, bounded answers, and what is sent a second time."""

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from opentelemetry.trace import StatusCode

from servicekit.http_client import AiohttpClient, Answer, AnswerTooLarge, HttpError, NoAnswerInTime
from servicekit.testing import spans
from servicekit.testing.polling import eventually

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LONG_SECONDS = 30.0
Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[bool]]
"""Gets a request's head, answers, and says whether the connection stays."""


@dataclass
class Peer:
    """What a server made for one test has seen."""

    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0

    async def has_heard(self, requests: int) -> None:
        """Return once so many requests have come."""

        async def heard() -> bool:
            return len(self.heads) >= requests

        await eventually(heard)


@asynccontextmanager
async def peer(
    handler: Handler, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Peer]:
    seen = Peer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        seen.connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    seen.heads.append(await reader.readuntil(b"\r\n\r\n"))
                    if not await handler(seen.heads[-1], writer):
                        return
                    await writer.drain()
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    seen.url = f"{'https' if tls else 'http'}://{shown}:{port}"
    try:
        yield seen
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def client_of(url: str, **options: float) -> AsyncIterator[AiohttpClient]:
    client = AiohttpClient(url, user_agent="kit-test", **options)  # type: ignore[arg-type]
    try:
        yield client
    finally:
        await client.aclose()


async def get(client: AiohttpClient, path: str = "/", *, seconds: float = LONG_SECONDS) -> Answer:
    return await client.request("GET", path, timeout_seconds=seconds, headers={})


async def patch(client: AiohttpClient, *, repeatable: bool = True) -> Answer:
    return await client.request(
        "PATCH", "/", timeout_seconds=LONG_SECONDS, headers={}, body=b"{}", repeatable=repeatable
    )


async def answer_ok(_: bytes, writer: asyncio.StreamWriter) -> bool:
    writer.write(OK)
    return True


def answering(*parts: bytes) -> Handler:
    async def handler(_: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.writelines(parts)
        return True

    return handler


async def test_an_answer_comes_with_status_headers_and_body() -> None:
    text = b"HTTP/1.1 409 Conflict\r\nOperation-Outcome: rejected\r\ncontent-length: 2\r\n\r\n{}"
    async with peer(answering(text)) as seen, client_of(seen.url) as client:
        answer = await get(client)
    assert (answer.status, answer.reason, answer.body) == (409, "Conflict", b"{}")
    assert answer.headers.get("operation-outcome") == "rejected"
    assert b"User-Agent: kit-test\r\n" in seen.heads[0]


async def test_paths_follow_the_path_of_the_base_url_and_keep_their_query() -> None:
    async with peer(answer_ok) as seen, client_of(f"{seen.url}/shop/invoices-api/") as client:
        await client.request(
            "GET", "/operations/7", query={"a": "b c"}, timeout_seconds=LONG_SECONDS, headers={}
        )
    assert seen.heads[0].startswith(b"GET /shop/invoices-api/operations/7?a=b+c HTTP/1.1\r\n")


async def test_a_server_by_its_ipv6_address_is_called() -> None:
    try:
        async with peer(answer_ok, host="::1") as seen, client_of(seen.url) as client:
            assert (await get(client)).body == b"ok"
    except OSError:
        pytest.skip("this machine has no IPv6")


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", OK[:-1]])
async def test_the_deadline_covers_the_answer_to_its_last_byte(sent: bytes) -> None:
    async with peer(answering(sent)) as seen, client_of(seen.url) as client:
        with pytest.raises(NoAnswerInTime) as caught:
            await get(client, seconds=0.2)
        assert isinstance(caught.value.__cause__, TimeoutError)


async def test_the_deadline_covers_the_wait_for_a_connection() -> None:
    async with peer(answering(b"")) as seen, client_of(seen.url, connections=2) as client:
        calls = [asyncio.create_task(get(client)) for _ in range(2)]
        await seen.has_heard(2)
        with pytest.raises(NoAnswerInTime):
            await get(client, seconds=0.1)
        assert len(seen.heads) == seen.connections == 2
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


async def test_a_server_that_lets_nobody_in_fails_at_the_limit_for_connections() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        try:
            url = f"http://127.0.0.1:{address[1]}"
            async with client_of(url, connect_seconds=0.2) as client:
                with pytest.raises(HttpError, match="ConnectionTimeoutError") as caught:
                    await get(client)
                assert not isinstance(caught.value, NoAnswerInTime)
        finally:
            for filler in fillers:
                filler.close()


async def test_a_redirect_is_an_answer_like_any_other() -> None:
    moved = b"HTTP/1.1 307 Moved\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"
    async with peer(answering(moved)) as seen, client_of(seen.url) as client:
        assert (await get(client)).status == 307
    assert len(seen.heads) == 1


HALF = b"1f5\r\n%b\r\n" % (b"x" * 501)


@pytest.mark.parametrize(
    "parts",
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n",),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            *(b"1f5\r\n%b\r\n" % (b"x" * 501),) * 2,
        ),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", b"x" * 1001),
    ],
)
async def test_an_answer_that_is_too_large_is_given_up(parts: tuple[bytes, ...]) -> None:
    async with (
        peer(answering(*parts)) as seen,
        client_of(seen.url, maximum_answer_bytes=1000) as client,
    ):
        with pytest.raises(AnswerTooLarge):
            await get(client)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nx: %b\r\ncontent-length: 0\r\n\r\n" % (b"y" * 20_000),
        b"HTTP/1.1 200 OK\r\n%b\r\n" % (b"x: y\r\n" * 1000),
        b"not HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\nok",
    ],
)
async def test_a_head_that_is_too_large_or_none_is_an_error_with_its_cause(head: bytes) -> None:
    async with peer(answering(head)) as seen, client_of(seen.url) as client:
        with pytest.raises(HttpError) as caught:
            await get(client)
        assert caught.value.__cause__ is not None


def closing_at(number: int, sent: bytes = b"") -> Handler:
    """Answer, but close the connection at the request with this number."""
    arrived = 0

    async def handler(_: bytes, writer: asyncio.StreamWriter) -> bool:
        nonlocal arrived
        arrived += 1
        writer.write(sent if arrived == number else OK)
        return arrived != number

    return handler


@pytest.mark.parametrize("method", ["GET", "PATCH", "POST", "DELETE"])
async def test_what_a_kept_connection_swallowed_is_sent_again_on_another(method: str) -> None:
    async with peer(closing_at(2)) as seen, client_of(seen.url) as client:
        for _ in range(2):
            answer = await client.request(
                method, "/", timeout_seconds=LONG_SECONDS, headers={}, repeatable=True
            )
            assert answer.body == b"ok"
    assert (len(seen.heads), seen.connections) == (3, 2)


async def test_what_must_not_arrive_twice_is_not_sent_again() -> None:
    async with peer(closing_at(2)) as seen, client_of(seen.url) as client:
        await patch(client)
        with pytest.raises(HttpError):
            await patch(client, repeatable=False)
    assert len(seen.heads) == 2


async def test_nothing_is_sent_again_once_a_part_of_an_answer_came() -> None:
    for part in (b"HTTP/1.1 200", OK[:-1]):
        async with peer(closing_at(2, part)) as seen, client_of(seen.url) as client:
            await patch(client)
            with pytest.raises(HttpError):
                await patch(client)
        assert len(seen.heads) == 2


async def test_a_new_connection_that_breaks_is_an_error_at_once() -> None:
    async with peer(closing_at(1)) as seen, client_of(seen.url) as client:
        with pytest.raises(HttpError):
            await patch(client)
    assert len(seen.heads) == 1


async def test_connections_are_kept_and_cookies_are_not() -> None:
    cookie = b"HTTP/1.1 200 OK\r\nset-cookie: a=b; Path=/\r\ncontent-length: 0\r\n\r\n"
    async with peer(answering(cookie)) as seen, client_of(seen.url) as client:
        for _ in range(3):
            await get(client)
    assert seen.connections == 1
    assert b"ookie" not in seen.heads[-1]


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with peer(answer_ok) as seen, client_of(seen.url) as client:
        assert (await get(client)).body == b"ok"


async def test_closing_fails_the_calls_that_are_on_their_way_and_those_that_come() -> None:
    async with peer(answering(b"")) as seen:
        client = AiohttpClient(seen.url, user_agent="kit-test")
        call = asyncio.create_task(get(client))
        await seen.has_heard(1)
        await client.aclose()
        with pytest.raises(HttpError):
            await call
        with pytest.raises(HttpError):
            await get(client)


async def test_a_call_is_a_span_and_carries_its_trace() -> None:
    failing = closing_at(2)
    with spans.recorded() as (telemetry, recorded):
        async with peer(failing) as seen:
            client = AiohttpClient(
                seen.url.replace("http://", "http://me:secret@"),
                user_agent="kit-test",
                tracer=telemetry.tracer("test"),
            )
            with telemetry.tracer("test").start_as_current_span("request") as request:
                await get(client, "/invoices")
                with pytest.raises(HttpError):
                    await patch(client, repeatable=False)
            await client.aclose()
    told, failed, _ = recorded.all()
    trace_id = request.get_span_context().trace_id
    assert told.context is not None
    sent = f"traceparent: 00-{trace_id:032x}-{told.context.span_id:016x}-"
    assert sent.encode() in seen.heads[0]
    assert dict(told.attributes or {}) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": int(seen.url.rpartition(":")[2]),
        "url.full": f"{seen.url}/invoices",
    }
    assert failed.status.status_code is StatusCode.ERROR
    assert (failed.attributes or {})["error.type"] == "ServerDisconnectedError"


def issue(folder: Path) -> tuple[Path, Path, Path]:
    """Make an authority and a certificate of it for 127.0.0.1; return CA, certificate and key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on the PATH")
    ca, ca_key, certificate, key = (folder / name for name in ("ca", "ca.key", "crt", "crt.key"))
    new = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    new += ["-nodes", "-days", "2"]
    authority = ["-subj", "/CN=Private CA", "-keyout", str(ca_key), "-out", str(ca)]
    leaf = ["-subj", "/CN=invoice", "-keyout", str(key), "-out", str(certificate)]
    leaf += ["-addext", "subjectAltName=IP:127.0.0.1", "-CA", str(ca), "-CAkey", str(ca_key)]
    leaf += ["-addext", "basicConstraints=critical,CA:FALSE"]
    for command in ([*new, *authority], [*new, *leaf]):
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    return ca, certificate, key


async def test_a_certificate_of_a_private_authority_is_trusted_if_the_environment_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, certificate, key = issue(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with peer(answer_ok, tls=tls) as seen:
        async with client_of(seen.url) as client:
            with pytest.raises(HttpError, match="CERTIFICATE_VERIFY_FAILED"):
                await get(client)
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        async with client_of(seen.url) as client:
            assert (await get(client)).body == b"ok"
