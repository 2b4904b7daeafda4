"""A service below a path of its host, such as ``/shop``: the front may cut it off or not.

Inside of ``RootPathMiddleware`` nothing knows of the prefix: routes, stored answers and log lines
stay the same wherever the service is mounted, and a stored answer is right again after a move.
"""

from typing import Annotated, Final

from pydantic import AfterValidator, Field
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The headers that carry a path of ours.
_LINKS: Final = frozenset({b"location", b"link", b"pending-operation", b"content-location"})


def _without_last_slash(path: str) -> str:
    return path.rstrip("/")


RootPath = Annotated[
    str,
    Field(pattern=r"^(/[A-Za-z0-9._~-]+)*/?$", max_length=255),
    AfterValidator(_without_last_slash),
]
"""A path such as ``/shop``; empty for the root of the host."""


class RootPathMiddleware:
    """Takes the prefix off a request's path, and puts it before the paths in an answer's headers.

    A path is only cut where a route is left: below ``/orders``, a front that has cut the prefix off
    asks for ``/orders``, and means the list.
    """

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self.app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or not self._root_path:
            await self.app(scope, receive, send)
            return
        inside = self._inside(scope)
        prefix = self._root_path.encode("ascii")

        async def send_outside(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _moved(message["headers"], prefix)}
            await send(message)

        await self.app(inside, receive, send_outside)

    def _inside(self, scope: Scope) -> Scope:
        path: str = scope["path"]
        if not path.startswith(f"{self._root_path}/"):
            return scope
        cut = {**scope, "path": path.removeprefix(self._root_path)}
        routes: list[BaseRoute] = scope["app"].router.routes
        known = any(route.matches(cut)[0] is not Match.NONE for route in routes)
        uncut = any(route.matches(scope)[0] is not Match.NONE for route in routes)
        return cut if known or not uncut else scope


def _moved(headers: list[tuple[bytes, bytes]], prefix: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, _moved_link(name.lower(), value, prefix)) for name, value in headers]


def _moved_link(name: bytes, value: bytes, prefix: bytes) -> bytes:
    if name not in _LINKS:
        return value
    if value.startswith(b"/"):
        return prefix + value
    return value.replace(b"</", b"<" + prefix + b"/")
