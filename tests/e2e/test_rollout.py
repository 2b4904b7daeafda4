"""Restarts, upgrades and scaling under load: nobody who uses the shop may notice.

The load keeps its connections, as programs do, and comes from inside, through the Service.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.e2e.harness.installation import (
    INSTALL_SECONDS,
    ORDER_URL,
    PYTHON_IMAGE,
    STORES,
    Shop,
)
from tests.e2e.harness.loading import under_load
from tests.e2e.harness.settled import assert_settled
from tests.e2e.harness.shop import new_order

from devkit.services import SERVICES

pytestmark = pytest.mark.e2e

WORKERS = 6
# Each of the four changes sees so many: 3,000 in all.
KEPT_ALIVE = 750
AUTOSCALED = ("enabled=true", "minReplicas=2", "maxReplicas=3")


@contextmanager
def unnoticed(shop: Shop) -> Iterator[None]:
    """What happens in the context fails no request, leaves no lock, and loses nothing."""
    with under_load(shop.namespace, url=ORDER_URL, image=PYTHON_IMAGE, workers=WORKERS) as load:
        yield
        load.wait_kept_alive(KEPT_ALIVE)
    assert load.result["failed"] == 0, load.result["failures"]
    assert_settled(shop, load.result["orders"])


def test_a_rolling_restart_of_both_services_fails_no_request(shop: Shop) -> None:
    before = shop.uids(*SERVICES)
    with unnoticed(shop):
        shop.restart(*SERVICES)
        for name in SERVICES:
            after = shop.wait_serving(name, pods=2, timeout_seconds=120)
            assert not before & {pod.uid for pod in after}


def test_scaling_up_and_down_fails_no_request(shop: Shop) -> None:
    with unnoticed(shop):
        for pods in (3, 1, 2):
            shop.scale(pods)


def test_an_upgrade_and_its_rollback_fail_no_request_and_keep_what_is_stored(shop: Shop) -> None:
    with shop.orders() as orders:
        answer = orders.http.post("/orders", json=new_order())
        assert answer.status_code == 201, answer.text
        path = answer.headers["Location"]
        order = orders.one(path)
    secrets = shop.namespace.secrets()
    stores = [pod for name in STORES for pod in shop.pods(name)]
    before = shop.uids("order")
    with unnoticed(shop):
        shop.upgrade("--set=order.config.logLevel=debug", "--set=invoice.config.logLevel=debug")
        between = {pod.uid for pod in shop.wait_serving("order", pods=2, timeout_seconds=120)}
        upgraded = shop.namespace.secrets()
        shop.release.rollback(timeout_seconds=INSTALL_SECONDS)
        after = {pod.uid for pod in shop.wait_serving("order", pods=2, timeout_seconds=120)}
    assert not before & between
    assert not between & after
    assert shop.release.revision()["status"] == "deployed"
    assert len(secrets) >= len(STORES)
    assert upgraded == secrets
    assert shop.namespace.secrets() == secrets
    assert [pod for name in STORES for pod in shop.pods(name)] == stores
    with shop.orders() as orders:
        assert orders.one(path) == order


def test_switching_the_autoscalers_on_and_off_fails_no_request(shop: Shop) -> None:
    before = shop.uids(*SERVICES)
    with unnoticed(shop):
        shop.upgrade(
            *(f"--set={name}.autoscaling.{each}" for name in SERVICES for each in AUTOSCALED)
        )
        assert shop.namespace.kubectl("get", "hpa", "--output=name").split() == [
            f"horizontalpodautoscaler.autoscaling/shop-{name}" for name in ("invoice", "order")
        ]
        assert shop.uids(*SERVICES) == before
        shop.upgrade()
    assert shop.uids(*SERVICES) == before
