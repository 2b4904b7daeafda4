"""Who may talk to the page: a browser on this machine, from this page itself.

The page can kill processes, so that a page of somebody else's in the same browser must not reach
it: neither by a name that was pointed at this machine (DNS rebinding, which the Host header gives
away), nor by a form or a script that posts across (which the Origin header gives away).
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAXIMUM_BODY_BYTES: Final = 4_096
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses requests that do not come from the page itself; pure ASGI, outermost."""

    def __init__(self, app: ASGIApp, *, port: int) -> None:
        """Protect ``app``, which is served on ``port`` of the loopback interface."""
        self._app = app
        self._hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            raise ValueError(f"The page is served over HTTP only, not {scope['type']}.")
        refusal = self._refusal(scope)
        answer = self._app if refusal is None else refusal
        await answer(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if headers.getlist("host") not in [[host] for host in self._hosts]:
            return _refuse(
                421, "This page is served to http://127.0.0.1 and http://localhost only."
            )
        if scope["method"] not in SAFE_METHODS:
            return _refused_change(headers)
        if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return _refuse(403, "This page is not for other pages.")
        return None


def _refused_change(headers: Headers) -> JSONResponse | None:
    if headers.getlist("origin") != [f"http://{headers['host']}"]:
        return _refuse(403, "Changes are made from the page itself only.")
    if headers.get("content-type") != "application/json":
        return _refuse(415, "The body must be application/json.")
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit() and int(length) <= MAXIMUM_BODY_BYTES):
        return _refuse(413, f"The body must say its length, {MAXIMUM_BODY_BYTES} at most.")
    return None


def _refuse(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status_code=status)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
        await send(message)

    return sending
