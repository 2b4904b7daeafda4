"""The objectives: how fast their error budgets burn, and what is left of them."""

from __future__ import annotations

from typing import Final

from tools.dashboards.grafana import Dashboard, Panel, Query, Row
from tools.dashboards.selectors import NAMESPACE, SERVICE, SERVICES

# The windows of the two alerts, with the burn rates at which they fire.
_PAIRS: Final = (("5m", "1h", 14.4), ("30m", "6h", 6.0), ("2h", "1d", 3.0), ("6h", "3d", 1.0))


def _burn(short: str, long: str, factor: float) -> Panel:
    queries = [
        Query(f"job_slo:burn_rate:{window}{{{SERVICES}}}", f"{{{{job}}}} {{{{slo}}}} {window}")
        for window in (short, long)
    ]
    return Panel(
        f"Burn rate over {short} and {long}",
        "1 spends the budget in exactly 30 days. The alert fires while both windows of a service "
        f"are above {factor:g}.",
        "none",
        queries,
        thresholds=(factor,),
        width=12,
    )


_BUDGETS: Final = Row(
    "Over the time shown",
    (
        Panel(
            "Budget left",
            "What is left of the errors that the objective allows in as many requests as there "
            "were in the time shown. Below 0 the objective was missed.",
            "percentunit",
            (
                Query(
                    f"1 - avg_over_time(job_slo:bad_requests:rate5m{{{SERVICES}}}[$__range])"
                    f" / on (namespace, job) group_left ()"
                    f" avg_over_time(job:requests:rate5m{{{SERVICES}}}[$__range])"
                    f" / on (slo) group_left () slo:error_budget:ratio",
                    "{{job}} {{slo}}",
                ),
            ),
            kind="stat",
            thresholds=(0.0, 0.25),
            good_above=True,
            width=8,
            height=6,
        ),
        Panel(
            "Bad requests",
            "Share of the requests that miss the objective: answered 5xx (availability), or later "
            "than one second (latency).",
            "percentunit",
            (
                Query(
                    f"job_slo:bad_requests:rate5m{{{SERVICES}}}"
                    f" / on (namespace, job) group_left () job:requests:rate5m{{{SERVICES}}}",
                    "{{job}} {{slo}}",
                ),
            ),
            thresholds=(0.01,),
            width=8,
            height=6,
        ),
        Panel(
            "Requests",
            "Requests a second that count for the objectives: those of users, not probes.",
            "reqps",
            (Query(f"job:requests:rate5m{{{SERVICES}}}", "{{job}}"),),
            width=8,
            height=6,
        ),
    ),
)

_FAST: Final = Row("Burning fast: somebody is called", tuple(_burn(*pair) for pair in _PAIRS[:2]))
_SLOW: Final = Row("Burning slowly: a ticket", tuple(_burn(*pair) for pair in _PAIRS[2:]))

SLO: Final = Dashboard(
    uid="shop-slo",
    title="Shop: objectives",
    description=(
        "99.9 % of the requests without a server error and 99 % within one second, over 30 days: "
        "how fast each service spends what that allows."
    ),
    rows=(_BUDGETS, _FAST, _SLOW),
    variables=(NAMESPACE, SERVICE),
)
