"""Calls of another service over HTTP: the only module that knows by which library.

One deadline covers a whole call: the wait for a connection, the name, the connection, the request
and the answer to its last byte. No redirect is followed, no cookie kept, no proxy taken from the
environment, and an answer that is too large is not read to its end.

``HttpError`` and what is derived of it mean that no answer came that counts, never whether the
other side has done what was asked for::

    HttpError
    ├── NoAnswerInTime
    └── AnswerTooLarge
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Final, Protocol

import aiohttp
from opentelemetry import trace
from opentelemetry.propagate import inject
from opentelemetry.trace import Span, SpanKind, StatusCode
from yarl import URL

_CONNECTIONS: Final = 64
# Shorter than the other service keeps an idle connection (30 s), so that none is closed under us.
_KEEP_ALIVE_SECONDS: Final = 5.0
# A machine that is gone answers nothing; another address, or another try, may.
_CONNECT_SECONDS: Final = 2.0
_NAME_SECONDS: Final = 10
_MAXIMUM_ANSWER_BYTES: Final = 1_048_576
_MAXIMUM_HEADERS: Final = 100
_MAXIMUM_HEADER_BYTES: Final = 8_190
# These aiohttp repeats by itself on a connection that was closed under it (RFC 9110, 9.2.2).
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_CLIENT_ERROR: Final = 400


class HttpError(Exception):
    """No answer came; the cause says why."""


class NoAnswerInTime(HttpError):
    """No whole answer came before the call's deadline."""


class AnswerTooLarge(HttpError):
    """The answer is larger than is read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, whatever its status."""

    status: int
    reason: str
    headers: Mapping[str, str]
    """By names in any case."""
    body: bytes = b""


class HttpClient(Protocol):
    """Calls one service."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        timeout_seconds: float,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        repeatable: bool = False,
    ) -> Answer:
        """Send a request and return the answer, whatever its status.

        Args:
            method: in capitals.
            path: what follows the base URL.
            timeout_seconds: the deadline, from now.
            headers: the request's own.
            query: parameters in the URL.
            body: what to send.
            repeatable: whether the request may arrive twice. It is then sent once more if a
                connection from the pool was closed before any byte of an answer came.

        Raises:
            HttpError: no answer came.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections; calls that are on their way fail."""
        ...


@dataclass(slots=True)
class _Course:
    """How one try goes."""

    reused: bool = False
    answered: bool = False


class AiohttpClient:
    """Calls one service by aiohttp; connects to nothing before the first request.

    Args:
        base_url: ``http://`` or ``https://``, perhaps with a path that all paths follow. The
            certificate is checked against the system's authorities, or those of the file that
            ``SSL_CERT_FILE`` names.
        user_agent: who calls.
        tracer: makes a span of each call and sends ``traceparent`` with it; None for neither.
        connections: how many at once; further calls wait for one, within their deadline.
        maximum_answer_bytes: how large an answer's body may be.
        connect_seconds: limit for making one connection, from its begin.
    """

    def __init__(
        self,
        base_url: str,
        *,
        user_agent: str,
        tracer: trace.Tracer | None = None,
        connections: int = _CONNECTIONS,
        maximum_answer_bytes: int = _MAXIMUM_ANSWER_BYTES,
        connect_seconds: float = _CONNECT_SECONDS,
    ) -> None:
        self._base = URL(base_url.rstrip("/"))
        self._user_agent = user_agent
        self._tracer = tracer
        self._connections = connections
        self._maximum_answer_bytes = maximum_answer_bytes
        self._connect_seconds = connect_seconds
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def request(
        self,
        method: str,
        path: str,
        *,
        timeout_seconds: float,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        repeatable: bool = False,
    ) -> Answer:
        """Send a request and return the answer; see ``HttpClient``."""
        url = self._url(path, query)
        if self._tracer is None:
            return await self._within(
                timeout_seconds, method, url, dict(headers), body, repeatable=repeatable
            )
        with self._tracer.start_as_current_span(
            method,
            kind=SpanKind.CLIENT,
            attributes=_attributes(method, url),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            traced = dict(headers)
            inject(traced)
            try:
                answer = await self._within(
                    timeout_seconds, method, url, traced, body, repeatable=repeatable
                )
            except HttpError as error:
                _failed(span, type(error.__cause__ or error).__qualname__)
                raise
            span.set_attribute("http.response.status_code", answer.status)
            if answer.status >= _CLIENT_ERROR:
                _failed(span, str(answer.status))
            return answer

    async def aclose(self) -> None:
        """Close all connections; see ``HttpClient``."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _url(self, path: str, query: Mapping[str, str] | None) -> URL:
        url = self._base.with_path(self._base.raw_path.rstrip("/") + path, encoded=True)
        return url if query is None else url.with_query(query)

    async def _within(
        self,
        timeout_seconds: float,
        method: str,
        url: URL,
        headers: dict[str, str],
        body: bytes | None,
        *,
        repeatable: bool,
    ) -> Answer:
        """Send it, once more if that is called for, and give up at the deadline."""
        try:
            async with asyncio.timeout(timeout_seconds):
                course = _Course()
                try:
                    return await self._once(course, method, url, headers, body)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                    if not repeatable or method in _IDEMPOTENT or not _was_stale(course, error):
                        raise
                return await self._once(_Course(), method, url, headers, body)
        except TimeoutError as error:
            # aiohttp's own limit, that of the connection, is one too.
            if isinstance(error, aiohttp.ClientError):
                raise HttpError(_said(error)) from error
            raise NoAnswerInTime(f"no answer within {timeout_seconds:.2f} s") from error
        except aiohttp.ClientError as error:
            raise HttpError(_said(error)) from error

    async def _once(
        self, course: _Course, method: str, url: URL, headers: dict[str, str], body: bytes | None
    ) -> Answer:
        async with self._open_session().request(
            method,
            url,
            headers=headers,
            data=body,
            allow_redirects=False,
            trace_request_ctx=course,
        ) as response:
            course.answered = True
            content = await self._body_of(response)
            return Answer(response.status, response.reason or "", response.headers, content)

    async def _body_of(self, response: aiohttp.ClientResponse) -> bytes:
        maximum = self._maximum_answer_bytes
        announced = response.content_length
        if announced is not None and announced > maximum:
            response.close()
            raise AnswerTooLarge(f"an answer of {announced} bytes; at most {maximum} are read")
        content = bytearray()
        async for part in response.content.iter_any():
            content += part
            if len(content) > maximum:
                response.close()
                raise AnswerTooLarge(f"an answer of more than {maximum} bytes")
        return bytes(content)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise HttpError("the client is closed")
        if self._session is None:
            tracing = aiohttp.TraceConfig()
            tracing.on_connection_reuseconn.append(_note_reuse)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections,
                    # aiohttp's own is made when it is imported, whatever the environment says now.
                    ssl=ssl.create_default_context() if self._base.scheme == "https" else True,
                    keepalive_timeout=_KEEP_ALIVE_SECONDS,
                    ttl_dns_cache=_NAME_SECONDS,
                ),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": self._user_agent, "Accept-Encoding": "identity"},
                skip_auto_headers=("Accept", "Content-Type"),
                auto_decompress=False,
                max_line_size=_MAXIMUM_HEADER_BYTES,
                max_field_size=_MAXIMUM_HEADER_BYTES,
                max_headers=_MAXIMUM_HEADERS,
                trace_configs=[tracing],
            )
        return self._session


async def _note_reuse(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _parameters: aiohttp.TraceConnectionReuseconnParams,
) -> None:
    context.trace_request_ctx.reused = True


def _was_stale(course: _Course, error: aiohttp.ClientError) -> bool:
    """Tell whether a connection from the pool was closed before any byte of an answer came."""
    if not course.reused or course.answered:
        return False
    # Otherwise it is the part of an answer that did come.
    return not isinstance(error, aiohttp.ServerDisconnectedError) or isinstance(error.message, str)


def _attributes(method: str, url: URL) -> dict[str, str | int]:
    """Return what a span says of a call, by OpenTelemetry's stable conventions for HTTP."""
    shown = url if url.user is None and url.password is None else url.with_user(None)
    return {
        "http.request.method": method,
        "server.address": url.host or "",
        "server.port": url.port or 0,
        "url.full": str(shown),
    }


def _failed(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def _said(error: Exception) -> str:
    """Return the error in one line, its kind first: some have no text of their own."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
