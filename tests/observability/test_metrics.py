"""Metrics: what dashboards and alerts name is exported, and every question has an answer."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterable
from functools import partial

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tests.e2e.harness.waiting import eventually
from tests.observability.otlp import Receiver
from tests.observability.rule_files import DASHBOARD_FILES, ROOT, alerts, rules
from tests.observability.stage import Stage
from tools import metrics_page

from devkit.observability.servers import PrometheusServer
from fencelock import Subject
from fencelock.contrib.prometheus import PrometheusInstrumentation

pytestmark = pytest.mark.timeout(300)

METRIC = re.compile(r"\b(?:fencelock|shop|http_server|slo|job|job_slo)[_:]\w[\w:]*")
ANSWER_SECONDS = 90.0
# What Grafana fills in before it asks.
VARIABLES = {
    "$__rate_interval": "1m",
    "$__range": "5m",
    "$namespace": ".*",
    "$job": ".*",
    "$lock": ".*",
}


def panel_queries() -> list[tuple[str, str]]:
    """Each expression of each panel, with a name that finds it."""
    return [
        (f"{path.stem}: {panel['title']} {target['refId']}", target["expr"])
        for path in DASHBOARD_FILES
        for panel in json.loads(path.read_text())["panels"]
        for target in panel.get("targets", ())
    ]


def as_asked(expr: str) -> str:
    for variable, value in VARIABLES.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr
    return expr


def measured(expr: str) -> str:
    """What an alert looks at, whatever its value and now: without comparisons and offsets."""
    return re.sub(r"(?:>|<|==)\s*[\d.]+|offset \d+[mhd]", "", expr)


def families(stage: Stage, service: str) -> list[Metric]:
    """What a service exports, as Prometheus reads it."""
    parse: Callable[[str], Iterable[Metric]] = text_string_to_metric_families
    return list(parse(stage.metrics(service)))


def exported(stage: Stage) -> set[str]:
    """The names of all samples that either service exports."""
    return {
        sample.name
        for service in ("order", "invoice")
        for family in families(stage, service)
        for sample in family.samples
    }


def test_the_reference_page_is_what_the_registries_say() -> None:
    assert (ROOT / metrics_page.PAGE).read_text() == metrics_page.page(), "run `make generated`"


@pytest.mark.parametrize("service", ["order", "invoice"])
def test_the_reference_page_has_what_a_running_service_exports(stage: Stage, service: str) -> None:
    stage.traffic.days(1)
    documented = {
        each.name.removesuffix("_total"): each
        for each in getattr(metrics_page, f"{service}_metrics")()
    }

    running = {
        family.name: family
        for family in families(stage, service)
        if not family.name.startswith(("process_", "python_"))
    }

    assert running.keys() == documented.keys()
    for name, family in running.items():
        assert (family.type, family.documentation) == (
            documented[name].kind,
            documented[name].meaning,
        )
        for sample in family.samples:
            assert set(sample.labels) - {"le"} <= set(documented[name].labels)


def test_every_metric_that_a_dashboard_or_an_alert_names_is_exported(stage: Stage) -> None:
    recorded = {rule["record"] for _, rule in rules() if "record" in rule}
    expressions = [expr for _, expr in panel_queries()]
    expressions += [rule["expr"] for _, rule in rules()]
    named = {name for expr in expressions for name in METRIC.findall(expr)}

    assert len(named) > 15
    assert named - recorded <= exported(stage)


def test_every_query_of_every_panel_returns_data(
    stage: Stage, prometheus: PrometheusServer
) -> None:
    assert_all_answered(stage, prometheus, dict(panel_queries()))


def test_what_every_alert_and_rule_looks_at_returns_data(
    stage: Stage, prometheus: PrometheusServer
) -> None:
    looked_at = {
        rule.get("alert") or f"{rule['record']} {number}": measured(rule["expr"])
        for number, (_, rule) in enumerate(rules())
    }
    assert looked_at.keys() >= {alert.name for alert in alerts()}

    assert_all_answered(stage, prometheus, looked_at)


def assert_all_answered(
    stage: Stage, prometheus: PrometheusServer, expressions: dict[str, str]
) -> None:
    def unanswered() -> set[str]:
        stage.traffic.rush(stage.traffic.create().json()["id"], 4)
        return {
            name
            for name, expr in expressions.items()
            if not any(
                math.isfinite(float(sample["value"][1]))
                for sample in prometheus.query(as_asked(expr))
            )
        }

    eventually(
        unanswered,
        until=lambda names: not names,
        what="an answer to every query",
        timeout_seconds=ANSWER_SECONDS,
    )


def test_prometheus_accepts_every_rule_file(prometheus: PrometheusServer) -> None:
    groups = prometheus.get("/api/v1/rules")["data"]["groups"]

    loaded = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert loaded.keys() >= {alert.name for alert in alerts()}
    assert set(loaded.values()) <= {"ok", "unknown"}


def test_exemplars_lead_from_a_histogram_to_a_trace(
    stage: Stage, prometheus: PrometheusServer
) -> None:
    receiver = stage.receiver
    assert receiver is not None
    for metric in (
        "fencelock_acquire_duration_seconds_bucket",
        "fencelock_hold_duration_seconds_bucket",
        "http_server_request_duration_seconds_bucket",
    ):
        trace_ids = eventually(
            partial(exemplar_traces, prometheus, metric),
            what=f"an exemplar of {metric}",
            timeout_seconds=ANSWER_SECONDS,
        )
        eventually(
            partial(any_arrived, receiver, trace_ids),
            what="the trace of an exemplar",
            timeout_seconds=ANSWER_SECONDS,
        )


def any_arrived(receiver: Receiver, trace_ids: set[str]) -> bool:
    return any(receiver.trace(trace_id) for trace_id in trace_ids)


def exemplar_traces(prometheus: PrometheusServer, metric: str) -> set[str]:
    now = time.time()
    answer = prometheus.get("/api/v1/query_exemplars", query=metric, start=now - 600, end=now + 1)
    return {
        exemplar["labels"]["trace_id"]
        for series in answer["data"]
        for exemplar in series["exemplars"]
    }


def test_a_scrape_without_openmetrics_is_answered_too(stage: Stage) -> None:
    text = stage.metrics("order", accept="text/plain")

    assert "fencelock_held" in text
    assert "trace_id" not in text


def test_the_number_of_series_does_not_grow_with_the_orders(stage: Stage) -> None:
    """Lock classes and route templates are labels; names of locks and orders are not."""
    stage.traffic.days(2)
    before = len(stage.metrics("order").splitlines()), len(stage.metrics("invoice").splitlines())

    stage.traffic.days(10)

    after = len(stage.metrics("order").splitlines()), len(stage.metrics("invoice").splitlines())
    # Another status may have come by in between, but not a series for each of the orders.
    assert after[0] - before[0] < 40
    assert after[1] - before[1] < 40


def test_a_thousand_locks_of_one_class_are_one_series_and_classes_are_bounded() -> None:
    registry = CollectorRegistry()
    metrics = PrometheusInstrumentation(registry=registry, max_classes=5)

    def series() -> int:
        return sum(len(family.samples) for family in registry.collect())

    def take(lock_class: str, key: int) -> None:
        observation = metrics.observe(Subject(lock_class, (f"{lock_class}:{key}",)))
        observation.acquired(key + 1, 0.001)
        observation.released(0.002)

    take("order", 0)
    of_one_lock = series()
    for key in range(1_000):
        take("order", key)
    assert series() == of_one_lock

    for number in range(1_000):
        take(f"class{number}", 0)
    assert series() <= 6 * of_one_lock
