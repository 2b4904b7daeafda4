"""Traces: one request is one tree over both services, and a waiter leads to its holder."""

from __future__ import annotations

from typing import Any

import pytest
from tests.e2e.harness.waiting import eventually
from tests.observability.holder import contended
from tests.observability.otlp import Receiver, Span
from tests.observability.stage import Stage, traceparent

from devkit.observability.servers import JaegerServer

pytestmark = pytest.mark.timeout(300)

EXPORT_SECONDS = 60.0
SERVICES = {"order", "invoice"}
SERVER_KIND = 2
CLIENT_KIND = 3


@pytest.fixture
def receiver(stage: Stage) -> Receiver:
    assert stage.receiver is not None
    return stage.receiver


def complete(receiver: Receiver, trace_id: str) -> list[Span]:
    """The spans of a trace once its server span, which ends last, is there and all have parents."""

    def whole(spans: list[Span]) -> bool:
        known = {span.span_id for span in spans}
        orphans = [span for span in spans if span.parent_id not in known]
        return [(span.service, span.kind) for span in orphans] == [("order", SERVER_KIND)]

    return eventually(
        lambda: receiver.trace(trace_id),
        until=whole,
        what="one tree with the order service's request at its root",
        timeout_seconds=EXPORT_SECONDS,
    )


def ancestors(span: Span, spans: list[Span]) -> list[str]:
    """The names on the way from a span to the root."""
    by_id = {each.span_id: each for each in spans}
    names: list[str] = []
    while (parent := by_id.get(span.parent_id)) is not None:
        names.append(parent.name)
        span = parent
    return names


def test_a_create_is_one_trace_over_both_services_both_databases_and_the_lock(
    stage: Stage, receiver: Receiver
) -> None:
    trace_id, headers = traceparent()

    assert stage.traffic.create(headers=headers).status_code == 201

    spans = complete(receiver, trace_id)
    requests = [span for span in spans if span.kind == SERVER_KIND]
    assert sorted((span.service, span.name) for span in requests) == [
        ("invoice", "POST /invoices"),
        ("order", "POST /orders"),
    ]
    (invoice_request,) = (span for span in requests if span.service == "invoice")
    assert ancestors(invoice_request, spans)[-1] == "POST /orders"
    statements = [span for span in spans if span.attributes.get("db.system.name") == "postgresql"]
    assert {span.service for span in statements} == {"order", "invoice"}
    names = {(span.service, span.name) for span in statements}
    # Intent, decision and completion are one statement each, which is its own commit.
    assert {
        ("order", "INSERT orders"),
        ("order", "UPDATE orders"),
        ("invoice", "INSERT invoices"),
    } <= names
    assert not {name for _, name in names} & {"", ";", "INSERT", "UPDATE", "DELETE"}
    locks = {span.name: span for span in spans if span.name.startswith("lock.")}
    assert locks.keys() == {"lock.acquire order", "lock.hold order", "lock.verify invoice"}
    acquire, hold = locks["lock.acquire order"], locks["lock.hold order"]
    verify = locks["lock.verify invoice"]
    assert (verify.service, verify.attributes["lock.outcome"]) == ("invoice", "held")
    assert verify.attributes["lock.fence"] == hold.attributes["lock.fence"]
    assert acquire.attributes["lock.outcome"] == "acquired"
    assert hold.attributes["lock.outcome"] == "released"
    assert acquire.attributes["lock.fence"] == hold.attributes["lock.fence"] > 0
    assert acquire.attributes["lock.wait_seconds"] >= 0


def test_a_waiter_links_to_the_trace_of_the_holder_that_made_it_wait(
    stage: Stage, receiver: Receiver
) -> None:
    waiter_trace, holder_trace = contended(stage, receiver)

    spans = complete(receiver, waiter_trace)

    (waiter,) = (span for span in spans if span.name == "lock.acquire order")
    assert [link.trace_id for link in waiter.links] == [holder_trace]
    assert waiter.attributes["lock.outcome"] == "acquired"
    assert waiter.attributes["lock.wait_seconds"] > 0
    holder = [span for span in receiver.trace(holder_trace) if span.name == "lock.hold order"]
    assert [span.attributes["lock.outcome"] for span in holder] == ["released"]


def test_recovery_links_to_the_request_that_it_finishes(receiver: Receiver) -> None:
    """The first create of the known load never got its reply."""

    def recovered() -> list[Span]:
        return receiver.spans(
            lambda span: (
                span.name == "operation.recover"
                and span.attributes.get("operation.result") == "finished"
            )
        )

    recovery = eventually(recovered, what="a recovered operation", timeout_seconds=EXPORT_SECONDS)[
        0
    ]

    (link,) = recovery.links
    assert link.trace_id != recovery.trace_id
    origin = receiver.trace(link.trace_id)
    assert "POST /orders" in {span.name for span in origin}


def test_a_trace_that_is_not_sampled_is_not_exported(stage: Stage, receiver: Receiver) -> None:
    unsampled, unsampled_headers = traceparent(sampled=False)
    sampled, sampled_headers = traceparent()

    stage.traffic.create(headers=unsampled_headers)
    stage.traffic.create(headers=sampled_headers)

    complete(receiver, sampled)
    assert receiver.trace(unsampled) == []


def test_probes_and_metrics_are_not_traced(receiver: Receiver) -> None:
    paths = {
        str(span.attributes.get("url.path", span.attributes.get("http.target", "")))
        for span in receiver.spans(lambda span: span.kind == SERVER_KIND)
    }

    assert any(path.startswith("/orders") for path in paths)
    assert not paths & {"/livez", "/readyz", "/ping", "/metrics", "/docs"}


def test_every_trace_begins_with_a_request_or_a_recovery(stage: Stage, receiver: Receiver) -> None:
    """Statements of probes and of recovery's regular look would bury everything else."""
    trace_id, headers = traceparent()
    stage.traffic.create(headers=headers)
    complete(receiver, trace_id)

    roots = receiver.spans(lambda span: not span.parent_id and span.service in SERVICES)

    assert roots
    assert {span.name for span in roots if span.kind != SERVER_KIND} <= {"operation.recover"}


def test_spans_carry_the_semantic_conventions(stage: Stage, receiver: Receiver) -> None:
    trace_id, headers = traceparent()
    stage.traffic.create(headers=headers)

    spans = complete(receiver, trace_id)

    for span in spans:
        assert span.resource["service.name"] == span.service
        assert span.resource["service.version"]
        assert span.resource["service.instance.id"]
    for request in (span for span in spans if span.kind == SERVER_KIND):
        assert request.attributes["http.request.method"] == "POST"
        assert request.attributes["http.route"] in {"/orders", "/invoices"}
        assert request.attributes["http.response.status_code"] == 201
    before = {"http.method", "http.url", "http.status_code", "net.peer.name", "net.peer.port"}
    before |= {"db.name", "db.system", "db.statement", "db.user"}
    for span in spans:
        assert not span.attributes.keys() & before, span


def test_jaeger_shows_the_create_as_one_trace(stage: Stage, jaeger: JaegerServer) -> None:
    trace_id, headers = traceparent()
    assert stage.traffic.create(headers=headers).status_code == 201

    trace = eventually(
        lambda: of_jaeger(jaeger, trace_id),
        until=lambda found: (
            found is not None and {"POST /orders", "POST /invoices"} <= operations(found)
        ),
        what="the whole create in Jaeger",
        timeout_seconds=EXPORT_SECONDS,
    )

    assert trace is not None
    services = {process["serviceName"] for process in trace["processes"].values()}
    assert services == {"order", "invoice"}
    assert {"lock.acquire order", "lock.hold order"} <= operations(trace)
    databases = {
        trace["processes"][span["processID"]]["serviceName"]
        for span in trace["spans"]
        if tag(span, "db.system.name") == "postgresql"
    }
    assert databases == {"order", "invoice"}


def test_jaeger_leads_from_a_waiter_to_its_holder(
    stage: Stage, receiver: Receiver, jaeger: JaegerServer
) -> None:
    waiter_trace, holder_trace = contended(stage, receiver)

    def followed() -> set[tuple[str, str]]:
        return {
            (span["operationName"], reference["traceID"])
            for span in (of_jaeger(jaeger, waiter_trace) or {"spans": ()})["spans"]
            for reference in span["references"]
            if reference["refType"] == "FOLLOWS_FROM"
        }

    eventually(
        followed,
        until=lambda links: ("lock.acquire order", holder_trace) in links,
        what="a waiter's link in Jaeger",
        timeout_seconds=EXPORT_SECONDS,
    )
    found = eventually(
        lambda: of_jaeger(jaeger, holder_trace), what="the holder", timeout_seconds=EXPORT_SECONDS
    )
    assert found is not None
    assert "lock.hold order" in operations(found)


def of_jaeger(jaeger: JaegerServer, trace_id: str) -> dict[str, Any] | None:
    """A trace as Jaeger's query API answers it; None while it has none."""
    answer = jaeger.find(f"/api/traces/{trace_id}")
    found: dict[str, Any] | None = answer["data"][0] if answer else None
    return found


def operations(trace: dict[str, Any]) -> set[str]:
    return {span["operationName"] for span in trace["spans"]}


def tag(span: dict[str, Any], key: str) -> object:
    return next((each["value"] for each in span["tags"] if each["key"] == key), None)
