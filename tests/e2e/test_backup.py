"""Backup and restore of both databases, as docs/kubernetes.md says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e.harness.installation import Shop
from tests.e2e.harness.programs import ROOT
from tests.e2e.harness.settled import assert_settled
from tests.e2e.harness.shop import change, new_order

pytestmark = pytest.mark.e2e

JOB_SECONDS = 180


def run_job(shop: Shop, name: str, *, of: str) -> None:
    """Make a Job of a CronJob, and wait for its end."""
    shop.namespace.kubectl("create", "job", f"--from=cronjob/shop-{of}", name)
    shop.namespace.kubectl(
        "wait",
        f"job/{name}",
        "--for=condition=complete",
        f"--timeout={JOB_SECONDS}s",
        timeout_seconds=JOB_SECONDS + 10,
    )


@pytest.fixture
def place(shop: Shop) -> Iterator[None]:
    """Where backups are kept; gone afterwards, with the Jobs that used it."""
    shop.namespace.kubectl("apply", f"--filename={ROOT}/k8s/backup-claim.yaml")
    yield
    shop.namespace.kubectl("delete", "job", "backup-now", "restore-now", "--ignore-not-found")
    shop.namespace.kubectl("delete", f"--filename={ROOT}/k8s/backup-claim.yaml", "--wait=false")


@pytest.mark.usefixtures("place")
def test_a_restore_brings_back_what_was_there_and_the_audit_says_equal(shop: Shop) -> None:
    shop.upgrade("--set=backup.enabled=true")
    with shop.orders() as orders:
        kept = orders.http.post("/orders", json=new_order(quantity=2)).headers["Location"]
        before = orders.one(kept)
        run_job(shop, "backup-now", of="backup")
        assert orders.http.patch(kept, json=change(quantity=7)).status_code == 204
        later = orders.http.post("/orders", json=new_order()).headers["Location"]
        assert orders.one(later)["version"] == 1

    shop.scale(0)
    run_job(shop, "restore-now", of="restore")
    shop.scale(2)

    with shop.orders() as orders:
        assert orders.one(kept) == before
        assert orders.http.get(later).status_code == 404
        # A node may not know yet where the new pods of the invoice service are: that is 202.
        assert orders.http.patch(kept, json=change(quantity=3)).status_code in {202, 204}
    assert_settled(shop, {})
    with shop.orders() as orders:
        assert orders.one(kept)["quantity"] == 3
