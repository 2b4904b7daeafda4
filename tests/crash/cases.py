"""What is made to fail: where, how, and during which kind of change."""

from dataclasses import dataclass
from itertools import product

from invoice import failpoints as invoice_points
from order import failpoints as order_points

KINDS = ("create", "update", "delete")
ACTIONS = ("kill", "error", "stall", "drop")

# Only a cancellation passes these; tests/crash/test_cancellation.py makes them fail.
ABORT_POINTS = (invoice_points.BEFORE_ABORT, invoice_points.AFTER_ABORT)
POINTS = {
    "order": order_points.NAMES,
    "invoice": tuple(name for name in invoice_points.NAMES if name not in ABORT_POINTS),
}


@dataclass(frozen=True)
class Case:
    """One failure."""

    service: str
    point: str
    action: str
    kind: str

    def __str__(self) -> str:
        return f"{self.point}={self.action} during {self.kind}"


def cases(service: str, action: str) -> list[Case]:
    """All failures of one service by one action."""
    return [Case(service, point, action, kind) for point, kind in product(POINTS[service], KINDS)]
