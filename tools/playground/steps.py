"""The moments at which an order service can be made to fail, by the names of its failpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LEASE_SECONDS: Final = 4.0
"""How long a lock outlives its holder here: long enough to watch, short enough to wait for."""
NAP_SECONDS: Final = 6.0
"""How long a service is stretched beyond the lease."""
SLOW_SECONDS: Final = 0.35
"""How long a service rests at each of the slow steps, so that a person can follow."""


@dataclass(frozen=True)
class Step:
    """One moment in the life of a change."""

    point: str
    label: str


AFTER_LOCK: Final = Step("order.after_lock", "the lock is taken, nothing is written")
AFTER_INTENT: Final = Step("order.after_t1", "the intent is written")
BEFORE_SEND: Final = Step("order.before_send", "the invoice is about to be asked")
AFTER_SEND: Final = Step("order.after_send", "the invoice is changed, the order is not")
IN_COMPLETION: Final = Step("order.in_t3", "the order is changed, but not committed")
BEFORE_RELEASE: Final = Step("order.before_release", "both are changed, the lock is still held")
BEFORE_REPLY: Final = Step("order.before_reply", "all is done but the answer")

STEPS: Final = (
    AFTER_LOCK,
    AFTER_INTENT,
    BEFORE_SEND,
    AFTER_SEND,
    IN_COMPLETION,
    BEFORE_RELEASE,
    BEFORE_REPLY,
)
"""In the order in which one request passes them."""

SLOW_STEPS: Final = (AFTER_LOCK, AFTER_INTENT, AFTER_SEND)


def slow_motion(*, seconds: float = SLOW_SECONDS) -> str:
    """The failpoints of an order service that a person can follow."""
    return ";".join(f"{step.point}=delay:{seconds}" for step in SLOW_STEPS)


def failing(step: Step, action: str, *, slowly: bool) -> str:
    """The failpoints of an order service that fails once at a step, in slow motion or not.

    ``action`` is ``kill``, ``drop``, ``stall:<seconds>`` or ``delay:<seconds>``.
    """
    armed = {slow.point: f"delay:{SLOW_SECONDS}" for slow in SLOW_STEPS} if slowly else {}
    armed[step.point] = f"{action}*1"
    return ";".join(f"{point}={what}" for point, what in armed.items())


def by_point(point: str) -> Step:
    """The step of a failpoint.

    Raises:
        KeyError: There is none of that name among those that the page offers.
    """
    return {step.point: step for step in STEPS}[point]
