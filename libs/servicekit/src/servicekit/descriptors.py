"""The descriptors that the system lets this process have: asked for at the start, watched later."""

import errno
import os
import resource
from typing import Final

import structlog

from servicekit.connections import RESERVED_FOR_PROBES, Connections
from servicekit.quiet_log import Interval

# Listeners, the log, the event loop, the database's pools, Redis, the other service.
_OWN: Final = 48
_FEWEST_CONNECTIONS: Final = 4
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE})
_log = structlog.stdlib.get_logger(__name__)


def affordable(wanted: int) -> int:
    """Return how many clients may be connected, asking the system for descriptors first.

    At its limit the system would reset new clients, probes among them, and nobody would know.
    """
    own = _OWN + RESERVED_FOR_PROBES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + own:
        most = wanted + own if hard == resource.RLIM_INFINITY else min(hard, wanted + own)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
        soft = max(soft, most)
    if soft == resource.RLIM_INFINITY or soft >= wanted + own:
        return wanted
    found = max(_FEWEST_CONNECTIONS, soft - own)
    _log.warning("connections_limited", wanted=wanted, maximum=found, descriptors=soft)
    return found


class DescriptorWatch:
    """Notices that there are none left, whoever has them, and makes a silent client give its up.

    Where the limit of connections is kept it has nothing to do; but other things take descriptors
    too, and the limit is the system's as well as the process's. The event loop resets clients then
    and says nothing.

    Args:
        descriptor: any open one; that another can be had beside it is what is tried.
        connections: the clients.
    """

    def __init__(self, descriptor: int, connections: Connections) -> None:
        self._descriptor = descriptor
        self._connections = connections
        self._exhausted = Interval()

    def look(self) -> None:
        """See whether there is one left; costs two system calls."""
        try:
            os.close(os.dup(self._descriptor))
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            if (times := self._exhausted.due()) is not None:
                limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
                _log.error(
                    "descriptors_exhausted",
                    error=os.strerror(error.errno),
                    limit=limit,
                    connections=self._connections.count,
                    times=times,
                )
            self._connections.make_room()
