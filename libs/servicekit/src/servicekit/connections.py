"""How many clients may be connected, and who has to go when all places are taken.

A client that has nothing to do here costs a descriptor and some memory, so places are bounded.
When they run out, whoever has kept the server waiting longest makes room: first those who have
never sent a whole request, then the idle ones. Only if every client is being served are newcomers
turned away, except for probes, for which a few places more are kept.
"""

from enum import Enum, auto
from typing import Final, Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from servicekit.quiet_log import Interval

RESERVED_FOR_PROBES: Final = 8
_log = structlog.stdlib.get_logger(__name__)


class Client(Protocol):
    """One client's connection."""

    def evict(self) -> None:
        """End the connection at once."""
        ...


class Place(Enum):
    """What a newly connected client may do."""

    ANY = auto()
    PROBES_ONLY = auto()
    NONE = auto()


class Connections:
    """Keeps count of the clients of one process.

    Args:
        maximum: places for clients of any kind.
        registry: where the metrics go.
    """

    def __init__(self, *, maximum: int, registry: CollectorRegistry) -> None:
        self._maximum = maximum
        # Ordered: whoever has waited longest stands first.
        self._never_served: dict[Client, None] = {}
        self._idle: dict[Client, None] = {}
        self._clients: set[Client] = set()
        self._full = Interval()
        Gauge(
            "http_server_connections", "Clients that are connected", registry=registry
        ).set_function(lambda: len(self._clients))
        self._refused = Counter(
            "http_server_connections_refused",
            "Connections ended by the server before they were served, by reason",
            ("reason",),
            registry=registry,
        )

    def enter(self, client: Client) -> Place:
        """Count a client in, and say what it may do."""
        if len(self._clients) >= self._maximum:
            self._say_full()
            if not self._evict_one() and len(self._clients) >= self._maximum + RESERVED_FOR_PROBES:
                self.refused("full")
                return Place.NONE
        place = Place.ANY if len(self._clients) < self._maximum else Place.PROBES_ONLY
        self._clients.add(client)
        self._never_served[client] = None
        return place

    def working(self, client: Client) -> None:
        """Note that the server has a request of this client's in hand."""
        self._never_served.pop(client, None)
        self._idle.pop(client, None)

    def idle(self, client: Client) -> None:
        """Note that the client has been served, and may send its next request."""
        if client in self._clients:
            self._idle[client] = None

    def leave(self, client: Client) -> None:
        """Count a client out."""
        self._clients.discard(client)
        self.working(client)

    @property
    def count(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    def make_room(self) -> None:
        """End the connection that has kept the server waiting longest, if one does."""
        self._evict_one()

    def refused(self, reason: str) -> None:
        """Count a connection that is ended before it was served."""
        self._refused.labels(reason).inc()

    def _evict_one(self) -> bool:
        for waiting in (self._never_served, self._idle):
            for client in waiting:
                self.leave(client)
                self.refused("evicted")
                client.evict()
                return True
        return False

    def _say_full(self) -> None:
        if (times := self._full.due()) is not None:
            _log.warning("connections_full", maximum=self._maximum, times=times)
