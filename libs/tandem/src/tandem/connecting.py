"""How a connection to a database is made: within one limit, by whichever address answers first.

psycopg looks a name up without any limit, and tries its addresses one after the other, each for the
whole limit. An address where nobody is, as a name has for a while after a failover, would so cost
every connection seconds; and a name server that does not answer would hold up every request, and by
the few threads that look names up all other names of the process too.
"""

import asyncio
import ipaddress
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import ConnectionTimeout

from tandem.connection import Connection

Connect: TypeAlias = Callable[..., Awaitable[Connection[Any]]]
"""Makes a connection of a conninfo and libpq's parameters."""
LookUp: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
# RFC 8305, 5: how long an address may take before the next one is tried beside it.
NEXT_ADDRESS_SECONDS: Final = 0.25
_LIMIT_SECONDS: Final = 5.0
_ANY_PORT: Final = 5432


class Connector:
    """Makes connections; for one event loop.

    A name is looked up once at a time, however many want a connection.

    Args:
        look_up: returns the addresses of a host's name, in the order in which they are to be tried;
            raises ``OSError`` if there are none.
    """

    def __init__(self, look_up: LookUp | None = None) -> None:
        self._look_up = look_up or _look_up
        self._lookups: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def connect(self, conninfo: str = "", **parameters: Any) -> Connection[Any]:  # noqa: ANN401
        """Return a new connection, as ``psycopg.AsyncConnection.connect`` does.

        Args:
            conninfo: of libpq.
            parameters: more of libpq's and of psycopg's. ``connect_timeout`` is the limit for all
                of it, the look-up and every address, from now.

        Raises:
            psycopg.OperationalError: there is none; of several addresses, the first one's error.
        """
        known = {**conninfo_to_dict(conninfo), **parameters}
        seconds = float(known.get("connect_timeout") or _LIMIT_SECONDS)
        host = str(known.get("host") or "")
        if not _is_a_name(host) or known.get("hostaddr"):
            return await Connection.connect(conninfo, **parameters)
        what = f"looking up {host!r}"
        try:
            async with asyncio.timeout(seconds):
                addresses = await self._addresses(host, int(known.get("port") or _ANY_PORT))
                if known.get("load_balance_hosts") == "random":
                    addresses = random.sample(addresses, len(addresses))
                what = f"connecting to {host!r} ({', '.join(addresses)})"
                return await _by_the_first(addresses, conninfo, parameters)
        except TimeoutError as error:
            raise ConnectionTimeout(f"no connection within {seconds:g} s: {what}") from error

    async def _addresses(self, host: str, port: int) -> list[str]:
        lookup = self._lookups.get((host, port))
        if lookup is None:
            lookup = asyncio.ensure_future(self._look_up(host, port))
            self._lookups[host, port] = lookup
            lookup.add_done_callback(lambda done: self._looked_up(host, port, done))
        try:
            # Whoever goes away does not end it for the others; nothing could end its thread anyway.
            return await asyncio.shield(lookup)
        except (OSError, UnicodeError) as error:
            raise psycopg.OperationalError(f"failed to resolve host {host!r}: {error}") from error

    def _looked_up(self, host: str, port: int, lookup: "asyncio.Future[list[str]]") -> None:
        del self._lookups[host, port]
        if not lookup.cancelled():
            lookup.exception()  # seen, also if nobody waits any more


async def _look_up(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def _by_the_first(
    addresses: Sequence[str], conninfo: str, parameters: Mapping[str, Any]
) -> Connection[Any]:
    """Return the connection that is there first, beginning with an address after the other."""
    waiting = list(addresses)
    errors: list[BaseException] = []
    async with _begun() as tries:
        while waiting or not all(each.done() for each in tries):
            if waiting:
                connecting = Connection.connect(
                    conninfo, **{**parameters, "hostaddr": waiting.pop(0)}
                )
                tries.append(asyncio.ensure_future(connecting))
            done, _ = await asyncio.wait(
                [each for each in tries if not each.done()],
                timeout=NEXT_ADDRESS_SECONDS if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for each in done:
                if (error := each.exception()) is None:
                    tries.remove(each)
                    return each.result()
                errors.append(error)
    raise errors[0]


@asynccontextmanager
async def _begun() -> AsyncIterator[list[asyncio.Future[Connection[Any]]]]:
    """Give up the tries that are left in the list at the end, and what they have brought."""
    tries: list[asyncio.Future[Connection[Any]]] = []
    try:
        yield tries
    finally:
        for each in tries:
            each.cancel()
        for brought in await asyncio.gather(*tries, return_exceptions=True):
            if isinstance(brought, Connection):
                await brought.close()


def _is_a_name(host: str) -> bool:
    """Tell whether a host is one that has to be looked up: no address, no folder, no list."""
    if not host or host.startswith(("/", "@")) or "," in host:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False
