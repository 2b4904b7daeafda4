"""The shop: what its users feel, and whether operations finish."""

from __future__ import annotations

from typing import Final

from tools.dashboards.grafana import Dashboard, Panel, Query, Row
from tools.dashboards.selectors import NAMESPACE, REQUESTS, SERVICE, SERVICES

_COUNT: Final = "http_server_request_duration_seconds_count"
_BUCKET: Final = "http_server_request_duration_seconds_bucket"


def _rate(selector: str, *, by: str) -> str:
    return f"sum by ({by}) (rate({_COUNT}{{{selector}}}[$__rate_interval]))"


def _quantile(quantile: float, *, by: str) -> str:
    rate = f"rate({_BUCKET}{{{REQUESTS}}}[$__rate_interval])"
    return f"histogram_quantile({quantile}, sum by ({by}, le) ({rate}))"


_ALL: Final = _rate(REQUESTS, by="job")
_FAILED: Final = _rate(f'{REQUESTS}, status=~"5.."', by="job")
# "or 0": a service that never failed has no series of failures.
_ERROR_RATIO: Final = f"({_FAILED} or {_ALL} * 0) / {_ALL}"

_NOW: Final = Row(
    "Now",
    (
        Panel(
            "Replicas up",
            "Replicas that Prometheus reaches, by service. 0 is an outage: see OrderDown and "
            "InvoiceDown.",
            "short",
            (Query(f"sum by (job) (up{{{SERVICES}}})", "{{job}}"),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Requests",
            "Requests a second by service, probes left out.",
            "reqps",
            (Query(_ALL, "{{job}}"),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Server errors",
            "Share of the requests answered 5xx. The objective is below 0.1 % over 30 days.",
            "percentunit",
            (Query(_ERROR_RATIO, "{{job}}"),),
            kind="stat",
            thresholds=(0.001, 0.01),
            width=4,
            height=4,
        ),
        Panel(
            "Slowest 5 %",
            "95 of 100 requests are faster. The objective is 99 of 100 within one second.",
            "s",
            (Query(_quantile(0.95, by="job"), "{{job}}"),),
            kind="stat",
            thresholds=(0.5, 1.0),
            width=4,
            height=4,
        ),
        Panel(
            "Operations pending",
            "Operations that have begun and are not finished; a few under load, 0 when idle.",
            "short",
            (Query(f"max by (job) (shop_operations_pending{{{SERVICES}}})", "pending"),),
            kind="stat",
            thresholds=(50, 200),
            width=4,
            height=4,
        ),
        Panel(
            "Oldest pending",
            "Age of the oldest operation that is not finished. Seconds are usual while a service "
            "is being healed; a minute raises OperationsPendingTooLong.",
            "s",
            (Query(f"max by (job) (shop_operation_oldest_seconds{{{SERVICES}}})", "age"),),
            kind="stat",
            thresholds=(10, 60),
            width=4,
            height=4,
        ),
    ),
)

_REQUESTS: Final = Row(
    "Requests by route: rate, errors, duration",
    (
        Panel(
            "Rate",
            "Requests a second by route.",
            "reqps",
            (Query(_rate(REQUESTS, by="job, method, route"), "{{job}} {{method}} {{route}}"),),
        ),
        Panel(
            "Answers other than success",
            "Answers of 4xx and 5xx a second by route and status. 423 is a busy order, 409 an "
            "outdated update or an invoice changed without its lock, 503 a dependency that is "
            "down.",
            "reqps",
            (
                Query(
                    _rate(f'{REQUESTS}, status=~"[45].."', by="job, method, route, status"),
                    "{{job}} {{method}} {{route}} {{status}}",
                ),
            ),
        ),
        Panel(
            "Duration, 95th percentile",
            "95 of 100 requests of a route are faster. The dots are exemplars: a click opens the "
            "trace.",
            "s",
            (
                Query(
                    _quantile(0.95, by="job, method, route"),
                    "{{job}} {{method}} {{route}}",
                    exemplars=True,
                ),
            ),
            thresholds=(1.0,),
        ),
    ),
)

_OPERATIONS: Final = Row(
    "Operations: one change of an order and its invoice",
    (
        Panel(
            "Finished by outcome",
            "Operations finished a second by kind and outcome. Committed is both sides changed, "
            "rejected is neither.",
            "ops",
            (
                Query(
                    f"sum by (kind, outcome) "
                    f"(rate(shop_operations_total{{{SERVICES}}}[$__rate_interval]))",
                    "{{kind}} {{outcome}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Pending",
            "Operations that have begun and are not finished. A level that only grows means that "
            "the reconciler cannot finish them.",
            "short",
            (Query(f"max by (job) (shop_operations_pending{{{SERVICES}}})", "pending"),),
        ),
        Panel(
            "Oldest pending",
            "Age of the oldest operation that is not finished. A straight line upwards is one "
            "that is stuck: see OperationsPendingTooLong.",
            "s",
            (Query(f"max by (job) (shop_operation_oldest_seconds{{{SERVICES}}})", "age"),),
            thresholds=(60,),
        ),
    ),
)


def _by(metric: str, label: str) -> str:
    return f"sum by ({label}) (rate({metric}{{{SERVICES}}}[$__rate_interval]))"


_RECOVERY: Final = Row(
    "Recovery: what requests left behind, and who finishes it",
    (
        Panel(
            "Attempts of the reconciler",
            "Attempts a second to finish a pending operation, by result. Locked is somebody else "
            "at work on it, unknown is a service or Redis that did not answer, failed is a fault "
            "in the code.",
            "ops",
            (Query(_by("shop_reconciler_attempts_total", "result"), "{{result}}"),),
            width=6,
        ),
        Panel(
            "Handed over and helped",
            "Requests a second answered 202 because their outcome was not known in time, and "
            "operations that a later request on the same order finished first.",
            "ops",
            (
                Query(_by("shop_operations_handed_over_total", "kind"), "{{kind}} handed over"),
                Query(_by("shop_operations_helped_total", "kind"), "{{kind}} helped"),
            ),
            width=6,
        ),
        Panel(
            "Breaker for the invoice service",
            "Order replicas by the state of their circuit breaker. Open or half open for a minute "
            "raises InvoiceUnreachable.",
            "short",
            (
                Query(
                    f"sum by (state) (shop_invoice_breaker_state{{{SERVICES}}})",
                    "{{state}}",
                ),
            ),
            width=6,
        ),
        Panel(
            "Lock checks of the invoice service",
            "Checks a second whether a caller holds the lock, by result. Not held and missing are "
            "refused with 409; unavailable is a Redis that does not answer: 503.",
            "ops",
            (Query(_by("shop_invoice_lock_checks_total", "result"), "{{result}}"),),
            width=6,
        ),
    ),
)

SHOP: Final = Dashboard(
    uid="shop",
    title="Shop",
    description="What users of the shop feel, by route, and whether every operation finishes.",
    rows=(_NOW, _REQUESTS, _OPERATIONS, _RECOVERY),
    variables=(NAMESPACE, SERVICE),
)
