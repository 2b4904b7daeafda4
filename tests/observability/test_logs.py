"""Logs: one JSON line an event, which leads to its trace and never shows a secret."""

from __future__ import annotations

import re
import uuid
from typing import Any

import httpx
import pytest
from tests.e2e.harness.waiting import eventually
from tests.observability.stage import Stage, traceparent

import fencelock
from devkit.services import SERVICES

pytestmark = pytest.mark.timeout(300)

OURS = ("order.", "invoice.", "servicekit.", "tandem.", "fencelock.")
LOG_SECONDS = 30.0
MARKER = "marker-that-nobody-may-see"


@pytest.mark.parametrize("service", SERVICES)
def test_every_line_is_one_json_object_with_the_same_keys(stage: Stage, service: str) -> None:
    events = stage.events(service)

    assert len(events) > 10
    for event in events:
        assert {"event", "severity", "service", "timestamp", "logger"} <= event.keys()
        assert event["service"] == service


@pytest.mark.parametrize("service", SERVICES)
def test_our_events_have_constant_names(stage: Stage, service: str) -> None:
    names = {event["event"] for event in stage.events(service) if event["logger"].startswith(OURS)}

    assert "request" in names
    assert all(re.fullmatch(r"[a-z][a-z_]+", name) for name in names), names


def test_one_line_a_request_leads_to_its_trace_in_both_services(stage: Stage) -> None:
    trace_id, headers = traceparent()
    stage.traffic.create(headers=headers)

    def requests() -> list[dict[str, Any]]:
        return [
            event
            for service in SERVICES
            for event in stage.events(service)
            if event["event"] == "request" and event.get("trace_id") == trace_id
        ]

    lines = eventually(
        requests,
        until=lambda found: len(found) == 2,
        what="the line of each service",
        timeout_seconds=LOG_SECONDS,
    )

    assert sorted((line["service"], line["route"]) for line in lines) == [
        ("invoice", "/invoices"),
        ("order", "/orders"),
    ]
    assert len({line["operation_id"] for line in lines}) == 1
    for line in lines:
        assert re.fullmatch(r"[0-9a-f]{16}", line["span_id"])
        assert line["status"] == 201
        assert line["duration_ms"] > 0


def test_a_recovered_operation_is_logged_with_the_trace_of_its_recovery(stage: Stage) -> None:
    def recovered() -> list[dict[str, Any]]:
        return [event for event in stage.events("order") if event["event"] == "operation_recovered"]

    line = eventually(recovered, what="the recovery", timeout_seconds=LOG_SECONDS)[0]

    assert str(uuid.UUID(line["operation_id"])) == line["operation_id"]
    assert re.fullmatch(r"[0-9a-f]{32}", line["trace_id"])


def test_probes_are_not_logged_while_they_succeed(stage: Stage) -> None:
    with httpx.Client(base_url=stage.shop.layout.order_url, trust_env=False) as client:
        for path in ("/ping", "/livez", "/readyz"):
            assert client.get(path).is_success
    trace_id, headers = traceparent()
    stage.traffic.create(headers=headers)
    eventually(lambda: trace_id in stage.log("order"), what="a line", timeout_seconds=LOG_SECONDS)

    paths = {event.get("path") for event in stage.events("order") if event["event"] == "request"}
    assert not paths & {"/ping", "/livez", "/readyz"}


async def test_no_secret_is_in_any_log_span_or_metric(stage: Stage) -> None:
    receiver = stage.receiver
    assert receiver is not None
    proof = await change_an_invoice_directly(stage)
    trace_id = send_markers(stage)
    eventually(lambda: trace_id in stage.log("invoice"), what="a line", timeout_seconds=LOG_SECONDS)
    eventually(lambda: receiver.trace(trace_id), what="a span", timeout_seconds=LOG_SECONDS)

    secrets = {
        "the password of Postgres": stage.shop.postgres.password,
        "the password of Redis": stage.shop.redis.password,
        "a lock's proof": proof,
        "what a header said": MARKER,
    }
    assert all(len(secret) > 15 for secret in secrets.values())
    for what, secret in secrets.items():
        for service in SERVICES:
            assert secret not in stage.log(service), f"the log of {service} shows {what}"
            assert secret not in stage.metrics(service), f"the metrics of {service} show {what}"
        assert not receiver.holds(secret), f"a span shows {what}"


async def change_an_invoice_directly(stage: Stage) -> str:
    """Change an invoice under a lock of our own; the lock's proof."""
    body = {"user_id": str(uuid.uuid4()), "total": "3.00"}
    async with (
        httpx.AsyncClient(base_url=stage.shop.layout.invoice_url, trust_env=False) as client,
        fencelock.AsyncLockClient.from_url(stage.shop.redis.url) as locks,
    ):
        path = (await client.post("/invoices", json=body)).headers["Location"]
        async with locks.lock(f"invoice:{{{path.rsplit('/')[-1]}}}") as lease:
            proof = lease.proof()
            headers = {"Lock-Token": proof}
            changed = await client.patch(path, json={"total": "4.00"}, headers=headers)
    assert changed.status_code == 204
    return proof


def send_markers(stage: Stage) -> str:
    """Send headers that nobody may keep, to a route that refuses them; the request's trace."""
    trace_id, headers = traceparent()
    with httpx.Client(base_url=stage.shop.layout.invoice_url, trust_env=False) as client:
        (invoice,) = client.get("/invoices?limit=1").json()["items"]
        refused = client.patch(
            f"/invoices/{invoice['id']}",
            json={"total": "4.00"},
            headers={
                **headers,
                "Lock-Token": MARKER,
                "Authorization": f"Bearer {MARKER}",
                "Cookie": f"session={MARKER}",
            },
        )
    assert refused.is_client_error
    return trace_id
