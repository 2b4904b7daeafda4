"""How a connection is made: by whichever of the host's addresses answers first.

An address where nobody is, as a name has for a while after a failover, costs a moment and not the
whole time that there is to connect. Whoever comes while a name is looked up waits for that look-up:
each takes one of few threads, however long the name server is silent, and what it takes longer for
than there is to connect would never be known otherwise.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from fencelock._clock import now

# How long an address may take before the next one is tried beside it: the least that RFC 8305, 5
# recommends, since there may be a part of a second only for all of them.
_NEXT_ADDRESS_SECONDS = 0.1
# So long is an answer good for who has given up waiting for it, and tries again.
_GOOD_SECONDS = 1.0

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)
_Address = tuple[int, Any]
"""Family and socket address."""


async def dial(
    make: Callable[[], _ProtocolT], host: str, port: int
) -> tuple[asyncio.Transport, _ProtocolT]:
    """A connection to a server, without TLS so far. The caller limits the time.

    Raises:
        OSError: there is none; of several addresses, the first one's error.
    """
    loop = asyncio.get_running_loop()
    if _is_address(host):
        return await loop.create_connection(make, host, port)
    sock = await _first(loop, await _names.setdefault(loop, _Names()).addresses(host, port))
    try:
        return await loop.create_connection(make, sock=sock)
    except BaseException:
        sock.close()
        raise


class _Names:
    """The addresses of hosts, as one event loop finds them out."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, int], asyncio.Future[list[_Address]]] = {}
        self._known: dict[tuple[str, int], tuple[float, list[_Address]]] = {}

    async def addresses(self, host: str, port: int) -> list[_Address]:
        """The addresses, in the order in which they are to be tried.

        Raises:
            OSError: there are none.
        """
        name = host, port
        good_until, known = self._known.get(name, (0.0, []))
        if now() < good_until:
            return known
        lookup = self._running.get(name)
        if lookup is None:
            lookup = self._running[name] = asyncio.ensure_future(_look_up(host, port))
            lookup.add_done_callback(lambda done: self._looked_up(name, done))
        # Whoever goes away does not end it for the others; nothing could end its thread anyway.
        return await asyncio.shield(lookup)

    def _looked_up(self, name: tuple[str, int], lookup: "asyncio.Future[list[_Address]]") -> None:
        del self._running[name]
        self._known.pop(name, None)
        if not lookup.cancelled() and lookup.exception() is None:
            self._known[name] = now() + _GOOD_SECONDS, lookup.result()


_names: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Names]" = WeakKeyDictionary()


async def _look_up(host: str, port: int) -> list[_Address]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [(family, address) for family, _, _, _, address in found]


async def _first(loop: asyncio.AbstractEventLoop, addresses: list[_Address]) -> socket.socket:
    """The connection that is there first, beginning with an address after the other."""
    waiting = list(addresses)
    errors: list[BaseException] = []
    async with _begun() as tries:
        while waiting or not all(each.done() for each in tries):
            if waiting:
                tries.append(asyncio.ensure_future(_reach(loop, waiting.pop(0))))
            done, _ = await asyncio.wait(
                [each for each in tries if not each.done()],
                timeout=_NEXT_ADDRESS_SECONDS if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for each in done:
                if (error := each.exception()) is None:
                    tries.remove(each)
                    return each.result()
                errors.append(error)
    raise errors[0]


@asynccontextmanager
async def _begun() -> "AsyncIterator[list[asyncio.Future[socket.socket]]]":
    """Give up the tries that are left in the list at the end, and what they have brought."""
    tries: list[asyncio.Future[socket.socket]] = []
    try:
        yield tries
    finally:
        for each in tries:
            each.cancel()
        for brought in await asyncio.gather(*tries, return_exceptions=True):
            if isinstance(brought, socket.socket):
                brought.close()


async def _reach(loop: asyncio.AbstractEventLoop, address: _Address) -> socket.socket:
    # asyncio lets small requests go out at once over what it knows to be TCP.
    sock = socket.socket(address[0], socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)  # noqa: FBT003 - its only argument
        await loop.sock_connect(sock, address[1])
    except BaseException:
        sock.close()
        raise
    return sock


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
