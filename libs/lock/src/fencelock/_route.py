"""How a connection finds its server each time it is made anew."""

from collections.abc import Callable
from typing import Protocol

from fencelock._sentinel import SentinelRoute
from fencelock._target import Target
from fencelock._topology import Sentinels, Single


class Route(Protocol):
    """Knows where the server is; as a text, how people call it."""

    @property
    def mode(self) -> bytes:
        """What the server must say that it is."""

    @property
    def master(self) -> bool:
        """Whether a replica means that the server is elsewhere now."""

    async def find(self) -> Target:
        """Where the server is now. The caller limits the time."""

    def follow(self, moved: Callable[[Target], None]) -> None:
        """Call back when the server is known to be elsewhere."""

    async def close(self) -> None:
        """End what runs in the background."""


class Fixed:
    """A server that is always at the same address."""

    master = False

    def __init__(self, target: Target, mode: bytes = b"standalone") -> None:
        self._target = target
        self.mode = mode

    def __str__(self) -> str:
        return str(self._target)

    async def find(self) -> Target:
        """The address."""
        return self._target

    def follow(self, moved: Callable[[Target], None]) -> None:
        """It never moves."""

    async def close(self) -> None:
        """Nothing runs."""


def route_to(where: Single | Sentinels) -> Route:
    """The way to the one server that counts."""
    return SentinelRoute(where) if isinstance(where, Sentinels) else Fixed(where.server)
