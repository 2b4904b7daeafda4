"""Stores of one's own: TLS with certificates on both sides, and Sentinels that replace a master."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import Final

import pytest
from tests.e2e.conftest import keep
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.installation import ORDER_URL, PYTHON_IMAGE
from tests.e2e.harness.loading import under_load
from tests.e2e.harness.namespace import Namespace
from tests.e2e.harness.own_stores import OwnStores
from tests.e2e.harness.settled import assert_settled
from tests.e2e.harness.waiting import eventually

pytestmark = pytest.mark.e2e

ELECTED_SECONDS: Final = 60
SERVED_AGAIN_SECONDS: Final = 15


@pytest.fixture(scope="module")
def own(
    kind_cluster: Cluster, images: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnStores]:
    """The shop on stores that want certificates, in a namespace beside the other one's."""
    name = f"e2e-own-{secrets.token_hex(3)}"
    with Namespace(kind_cluster, name, logs=tmp_path_factory.mktemp("own")) as namespace:
        namespace.create()
        installed = OwnStores(namespace, folder=tmp_path_factory.mktemp("stores"))
        installed.install_beside(installed.bring_stores())
        yield installed
        if "E2E_CLUSTER" in os.environ and not keep():
            namespace.delete(timeout_seconds=180)


def test_a_failover_under_load_loses_nothing_and_is_over_in_time(own: OwnStores) -> None:
    with under_load(own.namespace, url=ORDER_URL, image=PYTHON_IMAGE, workers=4) as load:
        former = own.master().name
        own.crash(own.master())
        eventually(
            lambda: own.master().name,
            until=lambda name: name != former,
            what="another master",
            timeout_seconds=ELECTED_SECONDS,
        )
        load.wait_more(50)
    # Undecided: the invoice service could not check the lock any more, so nobody knows yet.
    allowed = {"ok", "unavailable", "locked", "undecided"}
    assert load.result["outcomes"].keys() <= allowed, load.result["failures"]
    assert_settled(own, load.result["orders"])
    assert load.result["longest_gap_seconds"] <= SERVED_AGAIN_SECONDS
