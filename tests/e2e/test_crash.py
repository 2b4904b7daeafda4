"""Pods that die without a warning: what was begun is finished or never happened."""

from __future__ import annotations

import pytest
from tests.e2e.harness.installation import ORDER_URL, PYTHON_IMAGE, Shop
from tests.e2e.harness.loading import under_load
from tests.e2e.harness.settled import assert_settled

pytestmark = pytest.mark.e2e

KILLS = 3


@pytest.mark.parametrize("name", ["order", "invoice"])
def test_both_sides_agree_after_pods_were_killed_in_the_middle_of_operations(
    shop: Shop, name: str
) -> None:
    with under_load(shop.namespace, url=ORDER_URL, image=PYTHON_IMAGE, workers=6) as load:
        for _ in range(KILLS):
            victim = shop.wait_serving(name, pods=2, timeout_seconds=120)[0]
            shop.namespace.kubectl("delete", "pod", victim.name, "--grace-period=0", "--force")
            shop.namespace.wait_gone(victim, timeout_seconds=60)
            shop.wait_serving(name, pods=2, timeout_seconds=120)
            load.wait_more(20, timeout_seconds=120)
    assert_settled(shop, load.result["orders"])
