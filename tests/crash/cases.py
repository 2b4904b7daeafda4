"""What is made to fail: the points of both services."""

from invoice import failpoints as invoice_points
from order import failpoints as order_points
from tandem.testing import crashes
from tandem.testing.crashes import Case

# Only a cancellation passes these; tests/crash/test_cancellation.py makes them fail.
ABORT_POINTS = (invoice_points.BEFORE_ABORT, invoice_points.AFTER_ABORT)
POINTS = {
    "order": order_points.NAMES,
    "invoice": tuple(name for name in invoice_points.NAMES if name not in ABORT_POINTS),
}


def cases(service: str, action: str) -> list[Case]:
    """All failures of one service by one action."""
    return crashes.cases(service, POINTS[service], actions=(action,))
