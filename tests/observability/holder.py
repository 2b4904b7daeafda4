"""Somebody beside the services who holds an order's locks, in a trace of its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from tests.e2e.harness.waiting import eventually
from tests.observability.otlp import Receiver
from tests.observability.stage import Stage, traceparent

from devkit.shop import Shop
from fencelock import LockClient
from fencelock.contrib.otel import OpenTelemetryInstrumentation

WAITING_SECONDS = 5.0


def contended(stage: Stage, receiver: Receiver) -> tuple[str, str]:
    """Let a change wait for somebody who holds its order; the traces of both."""
    order_id = stage.traffic.create().json()["id"]
    waiter_trace, headers = traceparent()
    with ThreadPoolExecutor(1) as pool:
        with holding(stage.shop, order_id, receiver) as holder_trace:
            change = pool.submit(stage.traffic.update, order_id, headers=headers)
            eventually(
                lambda: stage.value("order", 'fencelock_waiters{lock="order"}'),
                what="a change that waits for the order's lock",
                timeout_seconds=WAITING_SECONDS,
                every_seconds=0.05,
            )
        assert change.result().status_code == 204
    return waiter_trace, holder_trace


@contextmanager
def holding(shop: Shop, order_id: str, receiver: Receiver) -> Iterator[str]:
    """Hold both locks of an order inside the ``with``; gives the id of the holder's trace.

    One process lets the changes of an order in one after the other, so two requests need not
    meet at the lock. Who waits for this holder does.
    """
    provider = TracerProvider(resource=Resource({"service.name": "maintenance"}))
    exporter = OTLPSpanExporter(endpoint=f"{receiver.url}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    names = f"order:{{{order_id}}}", f"invoice:{{{order_id}}}"
    try:
        with (
            LockClient.from_url(
                shop.redis.url, instrumentation=[OpenTelemetryInstrumentation(provider)]
            ) as client,
            provider.get_tracer(__name__).start_as_current_span("maintenance") as span,
            client.lock(*names),
        ):
            yield f"{span.get_span_context().trace_id:032x}"
    finally:
        provider.shutdown()
