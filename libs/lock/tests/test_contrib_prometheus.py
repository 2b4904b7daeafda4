import asyncio
from typing import Any

import pytest
from libs.lock.tests.clients import Clients
from libs.lock.tests.eventually import eventually
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from redis.asyncio import Redis

from fencelock import AcquireTimeout, Contended, LeaseLost
from fencelock._clock import now
from fencelock._engine import SETTLE_SECONDS, Engine
from fencelock._protocol import Granted
from fencelock.contrib.prometheus import FenceRejections, PrometheusInstrumentation


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> PrometheusInstrumentation:
    return PrometheusInstrumentation(registry=registry)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


async def test_acquisitions_are_timed_by_outcome(
    clients: Clients, metrics: PrometheusInstrumentation, registry: CollectorRegistry
) -> None:
    client = clients.make(instrumentation=[metrics])
    async with client.lock("order:{1}", "invoice:{1}"):
        assert value(registry, "fencelock_held", lock="order") == 1
        with pytest.raises(Contended):
            await client.acquire("order:{1}", wait=0)
        with pytest.raises(AcquireTimeout):
            await client.acquire("order:{1}", wait=0.05)
    assert value(registry, "fencelock_held", lock="order") == 0
    count = "fencelock_acquire_duration_seconds_count"
    for outcome in ("acquired", "contended", "timeout"):
        assert value(registry, count, lock="order", outcome=outcome) == 1
    assert value(registry, "fencelock_contended_total", lock="order") == 2
    assert (
        value(registry, "fencelock_hold_duration_seconds_count", lock="order", outcome="released")
        == 1
    )


async def test_waiters_are_counted_while_they_wait(
    clients: Clients, metrics: PrometheusInstrumentation, registry: CollectorRegistry
) -> None:
    client = clients.make(instrumentation=[metrics])

    async def waiters(count: int) -> bool:
        return value(registry, "fencelock_waiters", lock="order") == count

    async with client.lock("order:{1}"):
        tasks = [asyncio.create_task(client.acquire("order:{1}")) for _ in range(3)]
        await eventually(lambda: waiters(3), "three waiters")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await eventually(lambda: waiters(0), "no waiter")


async def test_whoever_has_to_wait_anew_is_one_waiter(
    clients: Clients,
    admin: Redis,
    metrics: PrometheusInstrumentation,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it was granted was for nothing: the server lost its data, and others were quicker."""
    client, others = clients.make(instrumentation=[metrics]), clients.make()
    first, granted = await others.acquire("order:{1}"), asyncio.Event()
    waiting = asyncio.create_task(client.acquire("order:{1}"))

    async def in_line() -> bool:
        return value(registry, "fencelock_waiters", lock="order") == 1

    await eventually(in_line, "a waiter")
    accept = Engine._accept_push

    def accept_too_late(engine: Engine, *push: Any) -> Granted | None:
        found = accept(engine, *push)
        engine._settled_at = now() + SETTLE_SECONDS
        granted.set()
        return found

    monkeypatch.setattr(Engine, "_accept_push", accept_too_late)
    await first.release()
    await granted.wait()
    await admin.set("fencelock:l:order:{1}", "o.x 1 -", px=500)
    lease = await waiting
    await lease.release()
    assert value(registry, "fencelock_waiters", lock="order") == 0
    assert value(registry, "fencelock_contended_total", lock="order") == 1


async def test_renewals_and_losses_are_counted(
    clients: Clients,
    admin: Redis,
    metrics: PrometheusInstrumentation,
    registry: CollectorRegistry,
) -> None:
    client = clients.make(instrumentation=[metrics], ttl=1.0)
    lease = await client.acquire("order:{1}")

    async def renewed() -> bool:
        return value(registry, "fencelock_renewals_total", lock="order", outcome="extended") >= 1

    await eventually(renewed, "a renewal")
    await admin.flushall()

    async def lost() -> bool:
        return value(registry, "fencelock_lost_total", lock="order", reason="taken") == 1

    await eventually(lost, "a loss")
    assert value(registry, "fencelock_held", lock="order") == 0
    with pytest.raises(LeaseLost):
        lease.check()


def test_a_service_without_locks_counts_fence_rejections_from_zero(
    registry: CollectorRegistry,
) -> None:
    rejections = FenceRejections(registry=registry, max_resources=1)
    rejections.show("invoices")
    assert value(registry, "fencelock_fence_rejections_total", resource="invoices") == 0
    rejections.rejected("invoices")
    rejections.rejected("one too many")
    assert value(registry, "fencelock_fence_rejections_total", resource="invoices") == 1
    assert value(registry, "fencelock_fence_rejections_total", resource="other") == 1


def test_fence_rejections_are_counted_by_resource(
    metrics: PrometheusInstrumentation, registry: CollectorRegistry
) -> None:
    metrics.fence_rejected("invoices")
    assert value(registry, "fencelock_fence_rejections_total", resource="invoices") == 1


async def test_a_thousand_names_make_a_bounded_number_of_series(
    clients: Clients, metrics: PrometheusInstrumentation, registry: CollectorRegistry
) -> None:
    client = clients.make(instrumentation=[metrics])

    async def take(name: str) -> None:
        async with client.lock(name):
            pass

    await asyncio.gather(*[take(f"order:{{{index}}}") for index in range(1000)])
    of_one_class = _series(registry)
    assert of_one_class < 150
    await asyncio.gather(*[take(f"class{index}:1") for index in range(1000)])
    assert _series(registry) <= of_one_class * 51
    other = value(
        registry, "fencelock_acquire_duration_seconds_count", lock="other", outcome="acquired"
    )
    assert other == 951


@pytest.mark.parametrize("trace_id", ["x" * 200, 5, None])
async def test_a_trace_id_that_is_no_exemplar_costs_no_measurement(
    clients: Clients, registry: CollectorRegistry, trace_id: Any
) -> None:
    metrics = PrometheusInstrumentation(registry=registry, trace_id=lambda: trace_id)
    async with clients.make(instrumentation=[metrics]).lock("order:{1}"):
        assert value(registry, "fencelock_held", lock="order") == 1
    assert value(registry, "fencelock_held", lock="order") == 0


async def test_only_sampled_spans_become_exemplars(
    clients: Clients, metrics: PrometheusInstrumentation, registry: CollectorRegistry
) -> None:
    client = clients.make(instrumentation=[metrics])
    unsampled = TracerProvider(sampler=ALWAYS_OFF).get_tracer("test")
    with unsampled.start_as_current_span("request"):
        async with client.lock("order:{1}"):
            pass
    assert "trace_id" not in _exposition(registry)
    with TracerProvider().get_tracer("test").start_as_current_span("request") as span:
        async with client.lock("order:{1}"):
            pass
        trace_id = f"{span.get_span_context().trace_id:032x}"
    exposition = _exposition(registry)
    assert exposition.count(f'trace_id="{trace_id}"') == 2


def _series(registry: CollectorRegistry) -> int:
    return sum(len(metric.samples) for metric in registry.collect())


def _exposition(registry: CollectorRegistry) -> str:
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]  # it has no types
    return text.decode()
