import asyncio
from typing import Any

import pytest
from libs.lock.tests.clients import Clients
from libs.lock.tests.eventually import eventually
from libs.lock.tests.server_view import queue_length, record
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from redis.asyncio import Redis

from fencelock import AsyncLockClient, Contended
from fencelock.contrib.otel import OpenTelemetryInstrumentation


class Recorded:
    """Spans that ended, and clients that make them."""

    def __init__(self, clients: Clients) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")
        self._clients = clients

    def client(self, **options: Any) -> AsyncLockClient:
        observed = [OpenTelemetryInstrumentation(self.provider)]
        return self._clients.make(instrumentation=observed, **options)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def recorded(clients: Clients) -> Recorded:
    return Recorded(clients)


async def test_waiting_and_holding_are_spans_of_the_request(recorded: Recorded) -> None:
    with recorded.tracer.start_as_current_span("request") as request:
        async with recorded.client().lock("order:{1}", "invoice:{1}") as lease:
            assert len(recorded.spans("lock.acquire order")) == 1
            assert recorded.spans("lock.hold order") == []
    acquire, hold = recorded.spans("lock.acquire order") + recorded.spans("lock.hold order")
    for span in (acquire, hold):
        assert span.parent is not None
        assert span.parent.span_id == request.get_span_context().span_id
        assert span.attributes is not None
        assert span.attributes["lock.fence"] == lease.fence
        assert span.attributes["lock.names"] == ("invoice:{1}", "order:{1}")
    assert acquire.attributes is not None
    assert hold.attributes is not None
    assert acquire.attributes["lock.outcome"] == "acquired"
    assert hold.attributes["lock.outcome"] == "released"


async def test_the_holders_context_is_kept_beside_the_lease(
    recorded: Recorded, admin: Redis
) -> None:
    async with recorded.client().lock("order:{1}"):
        found = await record(admin, "order:{1}")
    assert found is not None
    context = recorded.spans("lock.acquire order")[0].context
    assert context is not None
    expected = f"00-{context.trace_id:032x}-{context.span_id:016x}-"
    assert found.split()[2].startswith(expected)


async def test_a_waiter_links_to_the_trace_that_made_it_wait(
    recorded: Recorded, admin: Redis
) -> None:
    holding, waiting = recorded.client(), recorded.client()
    with recorded.tracer.start_as_current_span("holder's request") as holder:
        lease = await holding.acquire("order:{1}")

    async def wait_in_a_request_of_its_own() -> None:
        with recorded.tracer.start_as_current_span("waiter's request"):
            await (await waiting.acquire("order:{1}")).release()

    task = asyncio.create_task(wait_in_a_request_of_its_own())

    async def in_line() -> bool:
        return await queue_length(admin, "order:{1}") == 1

    await eventually(in_line, "one in line")
    await lease.release()
    await task
    waited = recorded.spans("lock.acquire order")[1]
    assert [link.context.trace_id for link in waited.links] == [holder.get_span_context().trace_id]
    assert [event.name for event in waited.events] == ["lock.waiting"]


async def test_a_refused_attempt_links_and_says_so(recorded: Recorded) -> None:
    client = recorded.client()
    async with client.lock("order:{1}"):
        with pytest.raises(Contended):
            await client.acquire("order:{1}", wait=0)
    refused = recorded.spans("lock.acquire order")[1]
    assert refused.attributes is not None
    assert refused.attributes["lock.outcome"] == "contended"
    assert refused.status.status_code is StatusCode.ERROR
    assert len(refused.links) == 1


async def test_a_loss_marks_the_hold(recorded: Recorded, clients: Clients, admin: Redis) -> None:
    client = recorded.client(ttl=1.0)
    await client.acquire("order:{1}")
    await admin.flushall()

    async def ended() -> bool:
        return len(recorded.spans("lock.hold order")) == 1

    await eventually(ended, "the hold ended")
    hold = recorded.spans("lock.hold order")[0]
    assert hold.attributes is not None
    assert hold.attributes["lock.outcome"] == "lost (taken)"
    assert hold.status.status_code is StatusCode.ERROR


async def test_an_annotation_that_is_no_trace_makes_no_link(
    recorded: Recorded, admin: Redis
) -> None:
    await admin.set("fencelock:l:order:{1}", "somebody.else 1 nonsense", px=60_000)
    with pytest.raises(Contended):
        await recorded.client().acquire("order:{1}", wait=0)
    assert recorded.spans("lock.acquire order")[0].links == ()
