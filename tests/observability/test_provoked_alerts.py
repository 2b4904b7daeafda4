"""What goes wrong for real makes the right alert fire on a real Prometheus, and healing ends it.

The rules are the charts' own, with seconds for minutes. All the while the trace exporter hangs: it
must not cost a request anything, nor hold up the stop.
"""

from __future__ import annotations

import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import psycopg
import pytest
import redis
from tests.e2e.harness.waiting import eventually
from tests.observability.holder import held
from tests.observability.rule_files import RULE_FILES, alerts
from tests.observability.stage import Stage, missing, quick, staged, without

import fencelock
from devkit.observability.programs import PROMETHEUS
from devkit.observability.servers import PrometheusServer
from devkit.shop import wait_ready

pytestmark = pytest.mark.timeout(300)

FIRE_SECONDS = 90.0
STOP_SECONDS = 60.0
GRACE_SECONDS = 30.0
"""What Kubernetes gives a pod by default before it kills it."""
CONTENDERS = 8
PROVOKED = {
    "lost": {"LeasesLost"},
    "fenced": {"FencesRejecting"},
    "contended": {"LockWaitTooLong", "LockTimeouts", "LockHeldTooLong"},
    "invoice gone": {
        "InvoiceDown",
        "InvoiceUnreachable",
        "OperationsPendingTooLong",
        "ErrorBudgetBurnFast",
        "ErrorBudgetBurnSlow",
    },
    "redis gone": {"LockRedisUnreachable"},
    "redis refuses": {"LocksMisconfigured"},
    "order gone": {"OrderDown"},
}


@pytest.fixture(scope="module")
def black_hole() -> Iterator[socket.socket]:
    """Takes connections and never says a word."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as server:
        yield server


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, black_hole: socket.socket) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("provoked")
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{black_hole.getsockname()[1]}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    rules = [quick(path, folder / "rules") for path in RULE_FILES]
    with staged(
        folder,
        settings=settings,
        rules=rules,
        receiver=None,
        jaeger=None,
        prometheus=missing(PROMETHEUS) is None,
    ) as made:
        yield made


@pytest.fixture
def prometheus(stage: Stage) -> PrometheusServer:
    if stage.prometheus is None:
        without(PROMETHEUS)
    return stage.prometheus


def restart(stage: Stage, service: str, *, failpoints: str = "") -> None:
    """Stop a service if it runs, and start it with these failpoints."""
    shop = stage.shop
    shop.services[service].stop(timeout_seconds=STOP_SECONDS)
    settings = shop.environment(service) | {f"{service.upper()}_FAILPOINTS": failpoints}
    shop.services[service] = shop.service(service, settings)
    shop.services[service].start()
    url = shop.layout.order_url if service == "order" else shop.layout.invoice_url
    wait_ready(service, shop.services[service], url)


def until_scraped(prometheus: PrometheusServer, expr: str) -> None:
    """Wait until Prometheus has seen a state, so that it can see the next one as a change."""
    eventually(lambda: prometheus.query(expr), what=expr, timeout_seconds=FIRE_SECONDS)


def firing(prometheus: PrometheusServer) -> set[str]:
    found = prometheus.get("/api/v1/alerts")["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}


def until_fired(
    prometheus: PrometheusServer, what: str, *, meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Wait until each alert that a provocation must raise has fired at some moment."""
    seen: set[str] = set()

    def look() -> set[str]:
        meanwhile()
        seen.update(firing(prometheus))
        return PROVOKED[what] - seen

    eventually(
        look,
        until=lambda silent: not silent,
        what=f"firing of {sorted(PROVOKED[what])}; what has not fired",
        timeout_seconds=FIRE_SECONDS,
    )


def until_quiet(prometheus: PrometheusServer, what: str) -> None:
    eventually(
        lambda: firing(prometheus) & PROVOKED[what],
        until=lambda loud: not loud,
        what=f"end of {sorted(PROVOKED[what])}; what still fires",
        timeout_seconds=FIRE_SECONDS,
    )


def test_every_alert_is_provoked_below() -> None:
    assert set().union(*PROVOKED.values()) == {alert.name for alert in alerts()}


def test_a_lost_lease_raises_its_alert(stage: Stage, prometheus: PrometheusServer) -> None:
    restart(stage, "order", failpoints="order.before_send=delay:6*1")

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stage.traffic.create)
        until_scraped(prometheus, "fencelock_held == 1")
        with redis.Redis.from_url(stage.shop.redis.url) as server:
            server.flushall()
        until_fired(prometheus, "lost")
        assert answer.result(timeout=FIRE_SECONDS).status_code in {201, 202, 503}
    until_quiet(prometheus, "lost")


async def test_a_lock_older_than_the_last_write_raises_its_alert(
    stage: Stage, prometheus: PrometheusServer
) -> None:
    until_scraped(prometheus, 'fencelock_fence_rejections_total{resource="invoice"} == 0')

    refused = await write_under_an_older_lock(stage)

    assert refused.status_code == 409
    assert refused.json()["type"] == "/problems/stale-lock"
    until_fired(prometheus, "fenced")
    until_quiet(prometheus, "fenced")


async def write_under_an_older_lock(stage: Stage) -> httpx.Response:
    """Change an invoice that was last written by a lock of tomorrow.

    That is what a Redis whose clock has gone back by a day, after it lost its data, would bring
    about: it grants locks with fences that are too low.
    """
    a_day_us = 86_400 * 1_000_000
    async with (
        httpx.AsyncClient(base_url=stage.shop.layout.invoice_url, trust_env=False) as client,
        fencelock.AsyncLockClient.from_url(stage.shop.redis.url) as locks,
    ):
        body = {"user_id": str(uuid.uuid4()), "total": "3.00"}
        path = (await client.post("/invoices", json=body)).headers["Location"]
        invoice = path.rsplit("/")[-1]
        async with locks.lock(f"invoice:{{{invoice}}}") as lease:
            with psycopg.connect(stage.shop.postgres.url("invoices")) as database:
                fence = lease.fence + a_day_us
                database.execute("UPDATE invoices SET fence = %s WHERE id = %s", (fence, invoice))
            headers = {"Lock-Token": lease.proof()}
            return await client.patch(path, json={"total": "4.00"}, headers=headers)


def test_a_slow_holder_raises_the_alerts_of_those_who_wait(
    stage: Stage, prometheus: PrometheusServer
) -> None:
    restart(stage, "order", failpoints="order.before_send=delay:2.5")
    order = stage.traffic.create().json()["id"]

    statuses: set[int] = set()

    def contend() -> None:
        """Wait for somebody else in vain, and then for one another."""
        with held(stage.shop, order):
            statuses.update(stage.traffic.rush(order, CONTENDERS))
        statuses.update(stage.traffic.rush(order, CONTENDERS))

    until_fired(prometheus, "contended", meanwhile=contend)

    assert {204, 423} <= statuses
    restart(stage, "order")
    until_quiet(prometheus, "contended")


def test_an_invoice_service_that_is_gone_raises_the_alerts_of_what_is_stuck(
    stage: Stage, prometheus: PrometheusServer
) -> None:
    assert stage.traffic.create().status_code == 201
    stage.shop.services["invoice"].kill()

    until_fired(prometheus, "invoice gone", meanwhile=stage.traffic.create)

    assert stage.traffic.answers[202] > 0
    restart(stage, "invoice")
    until_quiet(prometheus, "invoice gone")
    with httpx.Client(base_url=stage.shop.layout.order_url, trust_env=False) as client:
        assert client.get("/operations?state=pending").json()["items"] == []


def test_a_redis_that_is_gone_raises_its_alert(stage: Stage, prometheus: PrometheusServer) -> None:
    assert stage.traffic.create().status_code == 201
    stage.shop.redis.stop()

    until_fired(prometheus, "redis gone", meanwhile=stage.traffic.create)

    stage.shop.redis.start()
    until_quiet(prometheus, "redis gone")
    assert stage.traffic.create().status_code == 201


def test_a_redis_that_wants_another_password_raises_its_alert(
    stage: Stage, prometheus: PrometheusServer
) -> None:
    assert stage.traffic.create().status_code == 201
    with redis.Redis.from_url(stage.shop.redis.url) as server:
        server.config_set("requirepass", "changed")
        try:
            for kind in ("normal", "pubsub"):
                server.client_kill_filter(_type=kind, skipme=True)
            until_fired(prometheus, "redis refuses", meanwhile=stage.traffic.create)
        finally:
            server.config_set("requirepass", "")
    until_quiet(prometheus, "redis refuses")
    assert stage.traffic.create().status_code == 201


def test_an_order_service_that_is_gone_raises_its_alert(
    stage: Stage, prometheus: PrometheusServer
) -> None:
    stage.shop.services["order"].kill()

    until_fired(prometheus, "order gone")

    restart(stage, "order")
    until_quiet(prometheus, "order gone")


@pytest.mark.observed  # it has been hanging while the alerts were provoked
def test_an_exporter_that_hangs_costs_no_request_and_does_not_hold_up_the_stop(
    stage: Stage, black_hole: socket.socket
) -> None:
    stage.traffic.days(3)
    assert stage.traffic.create().status_code == 201
    black_hole.settimeout(STOP_SECONDS)
    black_hole.accept()[0].close()  # somebody did try to export

    for service in ("order", "invoice"):
        process = stage.shop.services[service]
        process.signal(signal.SIGTERM)
        assert process.wait(timeout_seconds=GRACE_SECONDS) == 0
        assert "server_stopped" in stage.log(service)
        restart(stage, service)
