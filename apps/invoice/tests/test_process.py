"""The service as a process: it starts, drains, stops, and dies without leaving half a change."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
from apps.invoice.tests.shop import USER, Query, Shop

import fencelock
from invoice import failpoints
from invoice.domain import invoice_id_for_order
from invoice.settings import Settings
from servicekit.ports import listen
from servicekit.testing.polling import eventually

START_SECONDS = 60


@dataclass
class Service:
    process: asyncio.subprocess.Process
    url: str
    metrics_url: str

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=60)


async def run(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "invoice",
        *arguments,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def announced_ports(process: asyncio.subprocess.Process) -> dict[str, int]:
    """Read the log until both listeners have said where they are."""
    assert process.stdout is not None
    ports: dict[str, int] = {}
    async with asyncio.timeout(START_SECONDS):
        while len(ports) < 2:
            line = await process.stdout.readline()
            assert line, "the service ended before it started"
            event = json.loads(line)
            if event["event"] in {"server_started", "metrics_started"}:
                ports[event["event"]] = event["port"]
    return ports


@asynccontextmanager
async def serving(settings: Settings, **more: str) -> AsyncIterator[Service]:
    process = await run(
        "serve",
        INVOICE_PORT="0",
        INVOICE_METRICS_PORT="0",
        INVOICE_DATABASE_URL=settings.database_url.get_secret_value(),
        INVOICE_REDIS_URL=settings.redis_url.get_secret_value(),
        INVOICE_REQUEST_TIMEOUT_SECONDS="60",
        INVOICE_LOCK_CHECK_TIMEOUT_SECONDS="10",
        **more,
    )
    try:
        ports = await announced_ports(process)
        yield Service(
            process,
            url=f"http://127.0.0.1:{ports['server_started']}",
            metrics_url=f"http://127.0.0.1:{ports['metrics_started']}/metrics",
        )
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_it_serves_its_metrics_on_their_own_port(settings: Settings) -> None:
    async with serving(settings) as service, service.client() as client:
        await client.post("/invoices", json={"user_id": str(USER), "total": 1})
        metrics = (await client.get(service.metrics_url)).text
        assert (await client.get("/metrics")).status_code == 404
    assert 'shop_invoice_operations_total{kind="create",outcome="applied"} 1.0' in metrics
    series = 'http_server_request_duration_seconds_count{method="POST",route="/invoices"'
    assert series in metrics


async def test_told_to_stop_it_drains_finishes_what_it_began_and_ends_with_0(
    settings: Settings,
) -> None:
    more = {
        "INVOICE_DRAIN_SECONDS": "2",
        "INVOICE_FAILPOINTS": f"{failpoints.BEFORE_REPLY}=delay:4",
    }
    async with serving(settings, **more) as service, service.client() as client:

        async def draining() -> bool:
            ready = await client.get("/readyz")
            return ready.status_code == 503 and ready.json()["checks"]["draining"] == "draining"

        async def in_flight() -> bool:
            items = (await client.get("/invoices")).json()["items"]
            return len(items) == 1

        request = asyncio.create_task(
            client.post("/invoices", json={"user_id": str(USER), "total": 1})
        )
        await eventually(in_flight)
        service.process.send_signal(signal.SIGTERM)
        await eventually(draining)
        assert (await client.get("/livez")).status_code == 200
        assert (await request).status_code == 201
        out, _ = await service.process.communicate()
    assert service.process.returncode == 0
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert events[-1] == "server_stopped"


async def attempt(
    shop: Shop, kind: str, order_id: uuid.UUID, op_id: uuid.UUID, proof: str
) -> httpx.Response:
    invoice_id = invoice_id_for_order(order_id)
    if kind == "create":
        return await shop.create(order_id, proof=proof, op_id=op_id)
    if kind == "update":
        return await shop.update(invoice_id, base=1, proof=proof, op_id=op_id)
    return await shop.delete(invoice_id, base=1, proof=proof, op_id=op_id)


@pytest.mark.parametrize(
    "fault",
    [
        ("create", failpoints.BEFORE_T2),
        ("update", failpoints.AFTER_LOCK_CHECK),
        ("delete", failpoints.AFTER_T2),
    ],
)
async def test_killed_at_any_step_of_the_decision_it_leaves_all_or_nothing(
    settings: Settings,
    locks: fencelock.AsyncLockClient,
    shop: Shop,
    query: Query,
    fault: tuple[str, str],
) -> None:
    kind, point = fault
    order_id, op_id = uuid.uuid4(), uuid.uuid4()
    if kind != "create":
        await shop.created(order_id)
    async with serving(settings, INVOICE_FAILPOINTS=f"{point}=kill") as service:
        async with service.client() as client, shop.locked(order_id) as lease:
            doomed = attempt(Shop(client, locks), kind, order_id, op_id, lease.proof())
            with pytest.raises(httpx.TransportError):
                await doomed
        assert await service.process.wait() == -signal.SIGKILL
    decided = point == failpoints.AFTER_T2
    recorded = await shop.client.get(f"/operations/{op_id}")
    assert recorded.status_code == (200 if decided else 404)
    versions = [row["version"] for row in await query("SELECT version FROM invoices")]
    before = [] if kind == "create" else [1]
    after = [1] if kind == "create" else [2]
    assert versions == (after if decided else before)


async def test_a_port_in_use_gives_one_line_and_status_1(settings: Settings) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        process = await run(
            "serve",
            INVOICE_PORT=str(port),
            INVOICE_METRICS_PORT="0",
            INVOICE_DATABASE_URL=settings.database_url.get_secret_value(),
            INVOICE_REDIS_URL=settings.redis_url.get_secret_value(),
        )
        _, err = await process.communicate()
    assert process.returncode == 1
    (line,) = err.decode().splitlines()
    assert f"port {port}" in line
    assert "in use" in line


async def test_wrong_settings_give_one_line_that_names_them_but_no_value() -> None:
    process = await run(
        "serve", INVOICE_PORT="many", INVOICE_DATABASE_URL="postgresql://u:secret@h/d"
    )
    _, err = await process.communicate()
    assert process.returncode == 2
    (line,) = err.decode().splitlines()
    assert "INVOICE_PORT" in line
    assert "INVOICE_REDIS_URL" in line
    assert "secret" not in line


async def test_migrating_an_unreachable_database_gives_one_event_and_status_1() -> None:
    process = await run("migrate", INVOICE_DATABASE_URL="postgresql://u:secret@127.0.0.1:1/d")
    out, err = await process.communicate()
    assert (process.returncode, err) == (1, b"")
    (event,) = (json.loads(line) for line in out.splitlines())
    assert event["event"] == "migration_failed"
    assert b"secret" not in out
