"""How a lock can be observed: a small protocol of hooks.

A client is given any number of :class:`Instrumentation` objects. For every acquisition it asks each
for an :class:`Observation`, and tells it what happens until the lease ends. Hooks are called in the
event loop, so they must not block; what they raise is logged and goes no further.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from fencelock._isolation import isolated

AcquireOutcome = Literal["contended", "timeout", "error", "cancelled"]
LossReason = Literal["expired", "taken", "max_hold", "closed"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is being locked."""

    lock_class: str
    names: tuple[str, ...]
    kind: str = "exclusive"
    """Or ``shared``, or ``permits``."""


class Observation:
    """Follows one acquisition and the lease that may come of it. Every hook does nothing here."""

    __slots__ = ()

    def annotation(self) -> str | None:
        """Text to keep beside the lease, shown to those it blocks: printable, without spaces."""
        return None

    def waiting(self, blocker: str | None) -> None:
        """It stands in line. ``blocker`` is the annotation of whoever is in the way, if known."""

    def blocked_by(self, blocker: str) -> None:
        """The annotation of the holder that handed over, or of one seen later in the way."""

    def acquired(self, fence: int, waited: float) -> None:
        """The lock was granted after ``waited`` seconds."""

    def not_acquired(self, outcome: AcquireOutcome, waited: float) -> None:
        """The attempt ended without a lease."""

    def renewed(self, *, extended: bool) -> None:
        """A renewal was answered, or failed."""

    def released(self, held: float) -> None:
        """The lease ended in order after ``held`` seconds."""

    def lost(self, reason: LossReason, held: float) -> None:
        """The lease ended before it was released."""


class Instrumentation(Protocol):
    """Makes one observation an acquisition."""

    def observe(self, subject: Subject) -> Observation:
        """An acquisition of ``subject`` starts now."""
        ...


def tell(observations: tuple[Observation, ...], call: Callable[[Observation], object]) -> None:
    """Let every observation know; one that raises is logged and keeps no other from hearing."""
    for each in observations:
        isolated(call, each)
