"""Somebody beside the services who holds an order's locks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from fencelock import Instrumentation, LockClient
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
def held(
    shop: Shop, order_id: str, instrumentation: Sequence[Instrumentation] = ()
) -> Iterator[None]:
    """Hold both locks of an order inside the ``with``, as another process would.

    One process lets the changes of an order in one after the other, so two requests need not
    meet at the lock. Who waits for this holder does.
    """
    names = f"order:{{{order_id}}}", f"invoice:{{{order_id}}}"
    with (
        LockClient.from_url(shop.redis.url, instrumentation=instrumentation) as client,
        client.lock(*names),
    ):
        yield


@contextmanager
def holding(shop: Shop, order_id: str, receiver: Receiver) -> Iterator[str]:
    """Hold them in a trace of its own; gives the trace's id."""
    provider = TracerProvider(resource=Resource({"service.name": "maintenance"}))
    exporter = OTLPSpanExporter(endpoint=f"{receiver.url}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    try:
        with (
            provider.get_tracer(__name__).start_as_current_span("maintenance") as span,
            held(shop, order_id, [OpenTelemetryInstrumentation(provider)]),
        ):
            yield f"{span.get_span_context().trace_id:032x}"
    finally:
        provider.shutdown()
