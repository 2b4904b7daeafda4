"""One request and its answer, as all middlewares see them: looked at once, not by each again."""

import time
from dataclasses import dataclass, field
from typing import Final

from starlette.types import Message, Scope, Send

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods of requests that change nothing."""
_KEY: Final = "servicekit.exchange"


@dataclass(slots=True)
class Exchange:
    """What is known of one request."""

    started: float = field(default_factory=time.perf_counter)
    status: int | None = None
    """That of the answer, once it has begun."""
    logged: bool = True
    """Whether the request gets a line of the access log."""

    @property
    def answered(self) -> bool:
        """Whether the answer has begun."""
        return self.status is not None

    @property
    def seconds(self) -> float:
        """How long ago the request came."""
        return time.perf_counter() - self.started


def watch(scope: Scope, send: Send) -> tuple[Exchange, Send]:
    """Return the exchange of a request, and the ``send`` through which its answer is seen.

    The outermost middleware begins it; for those inside, ``send`` is seen through already.
    """
    known: Exchange | None = scope.get(_KEY)
    if known is not None:
        return known, send
    exchange = scope[_KEY] = Exchange()

    async def watched_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
        await send(message)

    return exchange, watched_send


def lines_of(scope: Scope, name: bytes) -> list[str]:
    """Return every line of a header, whose name is given in lower case as ASGI has it."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
