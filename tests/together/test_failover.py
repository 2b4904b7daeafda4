"""The shop's locks are on a master that crashes, and Sentinels replace: `make test-topologies`."""

import json
import shutil
import sys
from collections.abc import Iterator

import pytest
from libs.lock.tests.topologies.servers import Replicated
from tests.together.conftest import ShopFactory
from tests.together.load import Load
from tests.together.shop import Shop, wait_for

from order.__main__ import main

# From the last change that was acknowledged before the crash to the first one after it.
SERVED_AGAIN_SECONDS = 15.0
# What Sentinels often are given: long enough for a slow moment not to be a crash.
DOWN_AFTER_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
# As the service has them unless it is told otherwise; the other tests are impatient.
DEFAULTS = {
    "ORDER_LOCK_TTL_SECONDS": "10",
    "ORDER_INVOICE_TIMEOUT_SECONDS": "3",
    "ORDER_RECONCILE_INTERVAL_SECONDS": "1",
}

pytestmark = [pytest.mark.topologies, pytest.mark.timeout(240)]


@pytest.fixture
def locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    """A master, a replica and three Sentinels."""
    folder = tmp_path_factory.mktemp("locks")
    with Replicated(folder, down_after_seconds=DOWN_AFTER_SECONDS) as servers:
        yield servers
    shutil.rmtree(folder)


def audited(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, bool]:
    """What `order audit` says: its exit status, and whether both sides are equal."""
    monkeypatch.setenv("ORDER_DATABASE_URL", shop.order_database)
    monkeypatch.setenv("ORDER_REDIS_URL", shop.redis_url)
    databases = ["--order-dsn", shop.order_database, "--invoice-dsn", shop.invoice_database]
    capsys.readouterr()
    status = main(["audit", "--json", "--pending-after", "0", *databases])
    return status, json.loads(capsys.readouterr().out)["equal"]


def test_a_failover_under_load_loses_nothing_and_is_over_in_time(
    shop_of: ShopFactory,
    locks: Replicated,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with shop_of(locks=locks.url, **DEFAULTS) as shop:
        load = Load(shop)
        former = locks.master
        with load.running(clients=4):
            wait_for(lambda: len(load.acknowledged) >= 20, timeout_seconds=PATIENCE_SECONDS)
            former.kill()
            crashed = load.changes
            wait_for(lambda: load.changes >= crashed + 100, timeout_seconds=PATIENCE_SECONDS)
            # Back as a replica of the one that took its place.
            former.start()
            wait_for(lambda: load.changes >= crashed + 200, timeout_seconds=PATIENCE_SECONDS)
        shop.wait_settled(timeout_seconds=PATIENCE_SECONDS)
        assert shop.differences() == []
        assert load.lost() == {}
        assert audited(shop, monkeypatch, capsys) == (0, True)
        assert locks.master is not former
        assert set(load.answers) <= {201, 202, 204, 409, 423, 503}, load.answers
        gap = load.longest_gap_seconds()
    told = f"{load.changes} changes acknowledged, with a gap of {gap:.1f} s; {dict(load.answers)}"
    sys.stdout.write(f"{told}\n")
    # Before another master was there nothing was acknowledged: the crash was felt at all.
    assert DOWN_AFTER_SECONDS / 2 < gap <= SERVED_AGAIN_SECONDS
