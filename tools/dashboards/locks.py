"""The locks: who waits, for how long, what is held, and whether the guard behind them had work."""

from __future__ import annotations

from typing import Final

from tools.dashboards.grafana import Dashboard, Panel, Query, Row
from tools.dashboards.selectors import LOCK, LOCKS, NAMESPACE, SERVICE, SERVICES

_QUANTILES: Final = (0.5, 0.95, 0.99)


def _rate(metric: str, *, by: str, selector: str = LOCKS) -> str:
    return f"sum by ({by}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def _increase(metric: str, window: str, *, by: str) -> str:
    selector = SERVICES if by == "resource" else LOCKS
    return f"sum by ({by}) (increase({metric}{{{selector}}}[{window}]))"


def _quantile(quantile: float, metric: str, *, selector: str = LOCKS) -> str:
    rate = f"rate({metric}_bucket{{{selector}}}[$__rate_interval])"
    return f"histogram_quantile({quantile}, sum by (lock, le) ({rate}))"


def _quantiles(metric: str) -> list[Query]:
    return [
        Query(
            _quantile(quantile, metric),
            f"{{{{lock}}}} p{quantile * 100:g}",
            quantile == _QUANTILES[-1],
        )
        for quantile in _QUANTILES
    ]


_ACQUIRE: Final = "fencelock_acquire_duration_seconds"
_HOLD: Final = "fencelock_hold_duration_seconds"
_CONTENDED: Final = (
    f"{_rate('fencelock_contended_total', by='lock')} / {_rate(f'{_ACQUIRE}_count', by='lock')}"
)

_NOW: Final = Row(
    "Now",
    (
        Panel(
            "Held",
            "Locks held at this moment, by class.",
            "short",
            (Query(f"sum by (lock) (fencelock_held{{{LOCKS}}})", "{{lock}}"),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Waiting",
            "Requests that stand in line for a lock at this moment, by class.",
            "short",
            (Query(f"sum by (lock) (fencelock_waiters{{{LOCKS}}})", "{{lock}}"),),
            kind="stat",
            thresholds=(10, 50),
            width=4,
            height=4,
        ),
        Panel(
            "Contention",
            "Share of the acquisitions that found the lock taken, by class. It is the share of "
            "requests that pay for somebody else's.",
            "percentunit",
            (Query(_CONTENDED, "{{lock}}"),),
            kind="stat",
            thresholds=(0.2, 0.5),
            width=4,
            height=4,
        ),
        Panel(
            "Wait, slowest 5 %",
            "95 of 100 acquisitions are faster. A second raises LockWaitTooLong; after two "
            "seconds a request gives up with 423.",
            "s",
            (Query(_quantile(0.95, _ACQUIRE), "{{lock}}"),),
            kind="stat",
            thresholds=(0.5, 1.0),
            width=4,
            height=4,
        ),
        Panel(
            "Leases lost",
            "Leases that ended before their holder had finished, in the time shown: see "
            "LeasesLost.",
            "short",
            (Query(_increase("fencelock_lost_total", "$__range", by="lock"), "{{lock}}"),),
            kind="stat",
            thresholds=(1,),
            width=4,
            height=4,
        ),
        Panel(
            "Writes refused by fence",
            "Writes under a lock older than the row's last one, refused by the storage, in the "
            "time shown: see FencesRejecting.",
            "short",
            (
                Query(
                    _increase("fencelock_fence_rejections_total", "$__range", by="resource"),
                    "{{resource}}",
                ),
            ),
            kind="stat",
            thresholds=(1,),
            width=4,
            height=4,
        ),
    ),
)

_WAITING: Final = Row(
    "Waiting: from asking for a lock to having it, or not",
    (
        Panel(
            "Time to acquire",
            "How long an acquisition takes, by class. The dots are exemplars: a click opens the "
            "trace, whose lock.acquire span links to the holder that was waited for.",
            "s",
            _quantiles(_ACQUIRE),
            thresholds=(1.0,),
        ),
        Panel(
            "Time to acquire, all of it",
            "Each column is the acquisitions of one interval, darker where there are more. Two "
            "bands are usual: one round trip to Redis, and those that had to wait.",
            "s",
            (
                Query(
                    f"sum by (le) (increase({_ACQUIRE}_bucket{{{LOCKS}}}[$__rate_interval]))",
                    "{{le}}",
                    exemplars=True,
                ),
            ),
            kind="heatmap",
        ),
        Panel(
            "In line",
            "Requests that wait for a lock, by class and service.",
            "short",
            (Query(f"sum by (job, lock) (fencelock_waiters{{{LOCKS}}})", "{{job}} {{lock}}"),),
        ),
        Panel(
            "Contention ratio",
            "Share of the acquisitions that found the lock taken. High with short waits is a busy "
            "order; high with long waits is a slow holder: look at the hold time.",
            "percentunit",
            (Query(_CONTENDED, "{{lock}}"),),
            thresholds=(0.5,),
            width=12,
        ),
        Panel(
            "Acquisitions by outcome",
            "Acquired; contended (busy and not waited for); timeout (waited in vain, answered 423, "
            "or the caller went away); error (Redis did not answer, answered 503).",
            "ops",
            (Query(_rate(f"{_ACQUIRE}_count", by="lock, outcome"), "{{lock}} {{outcome}}"),),
            stacked=True,
            width=12,
        ),
    ),
)

_HOLDING: Final = Row(
    "Holding: from having a lock to its release or loss",
    (
        Panel(
            "Time held",
            "How long locks are held, by class. Everybody in line waits this long. The dots are "
            "exemplars: a click opens the holder's trace.",
            "s",
            _quantiles(_HOLD),
            thresholds=(5.0,),
        ),
        Panel(
            "Held",
            "Locks held, by class and service.",
            "short",
            (Query(f"sum by (job, lock) (fencelock_held{{{LOCKS}}})", "{{job}} {{lock}}"),),
        ),
        Panel(
            "Renewals by outcome",
            "Renewals of leases a second. Only work that lasts longer than a third of the lease "
            "is renewed; failures come before losses.",
            "ops",
            (Query(_rate("fencelock_renewals_total", by="lock, outcome"), "{{lock}} {{outcome}}"),),
        ),
    ),
)

_SAFETY: Final = Row(
    "Safety: what the lock could not prevent, and what stopped it",
    (
        Panel(
            "Leases lost by reason",
            "Leases that ended before they were released, an hour. Their work was cancelled. "
            "Expected when Redis restarts or a process is paused; otherwise see LeasesLost.",
            "short",
            (
                Query(
                    _increase("fencelock_lost_total", "1h", by="lock, reason"),
                    "{{lock}} {{reason}}",
                ),
            ),
            thresholds=(1,),
            width=12,
        ),
        Panel(
            "Writes refused by fence",
            "Writes with a fence older than the row's, an hour. Each was refused by the storage, "
            "so the data is right; as a rule the clock of Redis has gone back.",
            "short",
            (
                Query(
                    _increase("fencelock_fence_rejections_total", "1h", by="resource"),
                    "{{resource}}",
                ),
            ),
            thresholds=(1,),
            width=12,
        ),
    ),
)

_REDIS: Final = Row(
    "Redis, as the services see it",
    (
        Panel(
            "Acquisitions that Redis did not answer",
            "Acquisitions a second that ended with an error. Anything above 0 refuses changes "
            "with 503: see LockRedisUnreachable.",
            "ops",
            (
                Query(
                    _rate(f"{_ACQUIRE}_count", by="job", selector=f'{LOCKS}, outcome="error"'),
                    "{{job}}",
                ),
            ),
            thresholds=(0.01,),
            width=12,
        ),
        Panel(
            "Fastest acquisitions",
            "The 5 % fastest acquisitions find the lock free: this is one round trip to Redis. "
            "When it grows, Redis or the network is slow, not the lock's holders.",
            "s",
            (
                Query(
                    _quantile(0.05, _ACQUIRE, selector=f'{LOCKS}, outcome="acquired"'), "{{lock}}"
                ),
            ),
            thresholds=(0.05,),
            width=12,
        ),
    ),
)

LOCKS_DASHBOARD: Final = Dashboard(
    uid="shop-locks",
    title="Shop: locks",
    description="Who waits for whom, how long, and what is stuck.",
    rows=(_NOW, _WAITING, _HOLDING, _SAFETY, _REDIS),
    variables=(NAMESPACE, SERVICE, LOCK),
)
