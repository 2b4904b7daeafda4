"""What keeps a service from the locks, for the log and for whoever is on call."""

from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter

from servicekit.quiet_log import Interval

_CONFIGURATION: Final = "configuration"
_UNREACHABLE: Final = "unreachable"
_DEFECT: Final = "defect"
_log = structlog.stdlib.get_logger(__name__)


class LockTrouble:
    """Counts by its cause what keeps changes from being made, and logs it at intervals.

    An outage passes by itself; a password that is refused, or a policy that evicts locks, waits for
    a person, and looks the same to clients.

    Args:
        registry: where the metric goes.
        configuration: the error that says that somebody has to change something.
        foreseen: what the locks' client raises; anything else is a defect.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        configuration: type[Exception],
        foreseen: type[Exception],
    ) -> None:
        self._configuration = configuration
        self._foreseen = foreseen
        self._interval = Interval()
        self._counter = Counter(
            "shop_locks_unavailable",
            "Times that the locks could not be had or checked, by cause",
            ("cause",),
            registry=registry,
        )
        # An increase from nothing to 1 is invisible to Prometheus, so begin at 0.
        for cause in (_CONFIGURATION, _UNREACHABLE, _DEFECT):
            self._counter.labels(cause)

    def report(self, error: Exception) -> None:
        """Count and, if it is due, log what one request met."""
        cause = self._cause_of(error)
        self._counter.labels(cause).inc()
        self._interval.report(_log, "locks_unavailable", error, foreseen=cause != _DEFECT)

    def _cause_of(self, error: Exception) -> str:
        if isinstance(error, self._configuration):
            return _CONFIGURATION
        return _UNREACHABLE if isinstance(error, self._foreseen) else _DEFECT
