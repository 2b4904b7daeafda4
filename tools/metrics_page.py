"""``docs/metrics.md``: every metric that the services export, read from the objects that make them.

``python -m tools.metrics_page`` writes it anew; a test fails while it differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from fencelock.contrib.prometheus import PrometheusInstrumentation
from invoice.metrics import InvoiceMetrics
from order.metrics import Metrics
from servicekit.admission import AdmissionMiddleware
from servicekit.breaker import BreakerState
from servicekit.connections import Connections
from servicekit.request_metrics import RequestMetrics

PAGE: Final = "docs/metrics.md"
HEAD: Final = """\
# Metrics

Both services export their metrics at `/metrics` on a port of its own (9100 order, 9101 invoice),
in the formats of Prometheus and OpenMetrics. Histograms carry exemplars in OpenMetrics: the label
`trace_id` of a sampled trace. There is one process a pod, so nothing is summed over workers.

Labels are few and bounded: `lock` is the class of a lock, the part of its name before the first
colon, never its key; `route` is a route's template, never a path. Counters and lock classes begin
at 0, so that `increase` sees the first event.

This page is generated from the registries: `make generated`.
"""
TAIL: Final = """
Both export `process_*` and `python_info` as well, as every Prometheus client in Python does.
"""


@dataclass(frozen=True, order=True)
class Described:
    """What a metric's ``HELP`` and ``TYPE`` say, with its labels."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


class _Catalogue(CollectorRegistry):
    """A registry that remembers what was registered."""

    def __init__(self) -> None:
        super().__init__()
        self._registered: list[MetricWrapperBase] = []

    def register(self, collector: Collector) -> None:
        """Register a metric, and remember it."""
        super().register(collector)
        if isinstance(collector, MetricWrapperBase):
            self._registered.append(collector)

    def described(self) -> Iterator[Described]:
        """What is registered."""
        for each in self._registered:
            (family,) = each.describe()
            suffix = "_total" if family.type == "counter" else ""
            labels = tuple(each._labelnames)  # noqa: SLF001  (nothing public tells it)
            yield Described(family.name + suffix, family.type, labels, family.documentation)


def order_metrics() -> list[Described]:
    """What the order service exports."""
    registry = _Catalogue()
    _front_metrics(registry)
    PrometheusInstrumentation(registry=registry)
    Metrics(registry).watch_breaker(lambda: BreakerState.CLOSED)
    return sorted(registry.described())


def invoice_metrics() -> list[Described]:
    """What the invoice service exports."""
    registry = _Catalogue()
    _front_metrics(registry)
    InvoiceMetrics(registry)
    return sorted(registry.described())


def _front_metrics(registry: CollectorRegistry) -> None:
    """What both export about requests and connections."""
    RequestMetrics(registry)
    Connections(maximum=1, registry=registry)

    async def nothing(_scope: object, _receive: object, _send: object) -> None:
        """Serve nothing: only the metrics are wanted."""

    AdmissionMiddleware(nothing, maximum_requests=1, registry=registry, limit_seconds=1.0)


def page() -> str:
    """The whole page, in Markdown."""
    return "".join(
        (
            HEAD,
            *_table("The order service", order_metrics()),
            *_table("The invoice service", invoice_metrics()),
            TAIL,
        )
    )


def _table(title: str, metrics: list[Described]) -> Iterator[str]:
    yield f"\n## {title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n"
    for each in metrics:
        labels = ", ".join(f"`{label}`" for label in each.labels) or "none"
        yield f"| `{each.name}` | {each.kind} | {labels} | {each.meaning.rstrip('.')} |\n"


def main() -> None:
    """Write the page into the repository that is the working directory."""
    path = Path.cwd() / PAGE
    path.write_text(page())
    print(PAGE)


if __name__ == "__main__":
    main()
