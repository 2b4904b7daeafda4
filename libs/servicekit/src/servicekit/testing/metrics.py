"""What a registry would tell Prometheus."""

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest


def exposition(registry: CollectorRegistry) -> str:
    """Return the metrics in the OpenMetrics format, exemplars included."""
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return text.decode()
