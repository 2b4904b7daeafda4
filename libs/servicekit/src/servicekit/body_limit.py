"""A limit on the size of request bodies, whether their length is announced or not."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servicekit.exchange import lines_of


class BodyTooLarge(HTTPException):
    """The request's body is larger than the service takes.

    An ``HTTPException``, because FastAPI lets only those through while it reads a body.
    """

    def __init__(self, maximum_bytes: int) -> None:
        super().__init__(
            status_code=413,
            detail=f"The body is larger than {maximum_bytes} bytes.",
            # The rest of the body is not read, so the connection cannot be used again.
            headers={"Connection": "close"},
        )


class BodyLimitMiddleware:
    """Raises ``BodyTooLarge`` to the application that reads more than ``maximum_bytes``."""

    def __init__(self, app: ASGIApp, *, maximum_bytes: int) -> None:
        self.app = app
        self._maximum_bytes = maximum_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = next(iter(lines_of(scope, b"content-length")), "")
        excessive = announced.isdecimal() and int(announced[:20]) > self._maximum_bytes
        received = 0

        async def limited_receive() -> Message:
            nonlocal received
            if excessive:
                raise BodyTooLarge(self._maximum_bytes)
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._maximum_bytes:
                raise BodyTooLarge(self._maximum_bytes)
            return message

        await self.app(scope, limited_receive, send)
