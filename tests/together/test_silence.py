"""A database connection that stays open and silent costs a while, never recovery."""

import httpx
import pytest
from tests.together.shop import Shop, create, wait_for

from devkit.database_proxy import Loss, database_proxy


def test_recovery_outlives_connections_that_go_silent(shop: Shop) -> None:
    order_id = create(shop.order)
    shop.order.kill()
    with database_proxy(shop.order_database) as proxy:
        shop.order.environment["ORDER_DATABASE_URL"] = proxy.url
        shop.order.start(failpoints="order.after_t1=kill", ORDER_RECONCILE_INTERVAL_SECONDS="3600")
        with pytest.raises(httpx.TransportError):
            httpx.delete(f"{shop.order.url}/orders/{order_id}", trust_env=False)
        shop.order.wait_ended()
        proxy.lose(Loss.REPLY_SILENT, after="next_attempt_at")
        shop.order.start(
            ORDER_REQUEST_TIMEOUT_SECONDS="2.5",
            ORDER_STATEMENT_TIMEOUT_SECONDS="2",
            ORDER_LOCK_WAIT_SECONDS="1",
        )
        wait_for(lambda: not shop.pending(), timeout_seconds=90)
        assert proxy.lost == 1
    shop.assert_true()
