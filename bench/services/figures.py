"""The arithmetic: percentiles, samples of one row, and what all rounds of it amount to."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

PERCENTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (nearest rank).

    Raises:
        ValueError: There are no values, or the share is not above 0 and at most 1.
    """
    if not values or not 0 < share <= 1:
        raise ValueError(f"no percentile {share} of {len(values)} values")
    # Rounded first: 0.999 * 1000 is a little more than 999 in floating point.
    rank = math.ceil(round(share * len(values), 9))
    return sorted(values)[max(rank, 1) - 1]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row, measured once."""

    seconds: float
    """From the first request to the last answer."""
    done_ms: Sequence[float]
    """How long each request took that was answered as wished."""
    failed: Mapping[str, int]
    """How many were answered otherwise, by status or error."""
    cpu_seconds: Mapping[str, float]
    """What each process used meanwhile."""
    load_seconds: float
    """What the load generator used."""

    @property
    def rate(self) -> float:
        """Successes a second."""
        return len(self.done_ms) / self.seconds


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the rounds of one row amount to."""

    rate: float
    """Successes a second, the median of the rounds."""
    rates: Sequence[float]
    served: float
    """The share of requests that succeeded."""
    latency_ms: Mapping[str, float]
    """Percentiles of the successes of all rounds; empty if there were none."""
    cpu_ms: Mapping[str, float]
    """What one success costs each process; empty if there were none."""
    load_busy: float
    """The greatest share of one core that the load generator used."""
    failed: Mapping[str, int] = field(default_factory=dict)

    def services_cpu_ms(self) -> float | None:
        """What one success costs both services together; None if there was none."""
        found = [self.cpu_ms.get(name) for name in ("order", "invoice")]
        known = [each for each in found if each is not None]
        return sum(known) if known else None

    def as_json(self) -> dict[str, Any]:
        """The figures as JSON holds them."""
        return {
            "rate": self.rate,
            "rates": list(self.rates),
            "served": self.served,
            "latency_ms": dict(self.latency_ms),
            "cpu_ms": dict(self.cpu_ms),
            "failed": dict(self.failed),
            "load_busy": self.load_busy,
        }


def figures_of(samples: Sequence[Sample]) -> Figures:
    """Sum up the rounds of one row.

    Raises:
        ValueError: There are none.
    """
    if not samples:
        raise ValueError("no samples")
    done = [each for sample in samples for each in sample.done_ms]
    failed: Counter[str] = Counter()
    cpu: defaultdict[str, float] = defaultdict(float)
    for sample in samples:
        failed.update(sample.failed)
        for name, seconds in sample.cpu_seconds.items():
            cpu[name] += seconds
    asked = len(done) + failed.total()
    return Figures(
        rate=median(sample.rate for sample in samples),
        rates=[sample.rate for sample in samples],
        served=len(done) / asked if asked else 0.0,
        latency_ms={name: percentile(done, share) for name, share in PERCENTILES.items()}
        if done
        else {},
        cpu_ms={name: seconds * 1000 / len(done) for name, seconds in cpu.items()} if done else {},
        load_busy=max(sample.load_seconds / sample.seconds for sample in samples),
        failed=dict(failed),
    )


def ratio(value: float | None, base: float | None) -> float | None:
    """How many times ``base`` it is; None where one of them is missing or the base is 0."""
    return None if value is None or not base else value / base
