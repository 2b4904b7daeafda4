"""Any part of the shop can be killed and started again at any moment: it heals by itself."""

from collections.abc import Callable

import pytest
from tests.together.load import Load
from tests.together.shop import Shop, wait_for

from devkit.servers import PostgresServer

HEAL_SECONDS = 60.0


def restart_of(name: str, shop: Shop, postgres: PostgresServer) -> Callable[[], None]:
    def service() -> None:
        part = shop.order if name == "order" else shop.invoice
        part.kill()
        part.start()

    def server() -> None:
        part = shop.redis if name == "redis" else postgres
        part.kill()
        part.start()

    return service if name in {"order", "invoice"} else server


@pytest.mark.slow
@pytest.mark.parametrize("name", ["order", "invoice", "redis", "postgres"])
def test_a_restart_under_load_loses_nothing_and_leaves_nothing_pending(
    shop: Shop, postgres_server: PostgresServer, name: str
) -> None:
    load = Load(shop)
    restart = restart_of(name, shop, postgres_server)
    with load.running():
        for enough in (5, 10):
            wait_for(lambda: len(load.acknowledged) >= enough, timeout_seconds=HEAL_SECONDS)  # noqa: B023
            restart()
        seen = len(load.acknowledged)
        wait_for(lambda: len(load.acknowledged) >= seen + 3, timeout_seconds=HEAL_SECONDS)
    shop.wait_settled(timeout_seconds=HEAL_SECONDS)
    assert shop.differences() == []
    assert load.lost() == {}
    assert set(load.answers) <= {201, 202, 204, 409, 423, 503}, load.answers
    wait_for(lambda: not shop.lock_keys(), timeout_seconds=HEAL_SECONDS)
