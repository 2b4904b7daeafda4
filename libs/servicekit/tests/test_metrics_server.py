"""Metrics on their own port."""

import socket

import httpx
import pytest
from prometheus_client import CollectorRegistry

from servicekit.metrics_server import MetricsServer
from servicekit.ports import PortInUse, listen
from servicekit.request_metrics import RequestMetrics
from servicekit.testing import spans


def test_who_asks_for_openmetrics_gets_exemplars() -> None:
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry)
    with (
        spans.recorded() as (telemetry, _),
        telemetry.tracer("t").start_as_current_span("s") as span,
    ):
        metrics.observe(method="GET", route="/x", status=200, seconds=0.02)
    with MetricsServer(registry, host="127.0.0.1", port=0) as server:
        url = f"http://127.0.0.1:{server.port}/metrics"
        openmetrics = httpx.get(url, headers={"Accept": "application/openmetrics-text"})
        plain = httpx.get(url)
    assert f'trace_id="{span.get_span_context().trace_id:032x}"' in openmetrics.text
    assert openmetrics.text.endswith("# EOF\n")
    assert 'http_server_request_duration_seconds_count{method="GET"' in plain.text


def test_an_unknown_method_is_one_series() -> None:
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry)
    for method in ("BREW", "WHEN"):
        metrics.observe(method=method, route="unmatched", status=405, seconds=0)
    labels = {"method": "_OTHER", "route": "unmatched", "status": "405"}
    name = "http_server_request_duration_seconds_count"
    assert registry.get_sample_value(name, labels) == 2


def test_a_port_in_use_is_named() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(PortInUse, match=str(port)),
            MetricsServer(CollectorRegistry(), host="127.0.0.1", port=port),
        ):
            raise AssertionError("it listens on a port in use")


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HT", b"GET /metrics HTTP/1.1\r\nX: y\r\n"])
def test_a_connection_that_does_not_ask_is_ended_and_others_are_answered(sent: bytes) -> None:
    with MetricsServer(CollectorRegistry(), host="127.0.0.1", port=0, limit_seconds=0.2) as server:
        address = ("127.0.0.1", server.port)
        with socket.create_connection(address, timeout=60) as silent:
            silent.sendall(sent)
            answer = httpx.get(f"http://127.0.0.1:{server.port}/metrics", timeout=60)
            assert answer.status_code == 200
            assert b"200 OK" not in silent.recv(1024)
