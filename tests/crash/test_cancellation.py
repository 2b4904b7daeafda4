"""A cancellation that fails in the middle decides nothing by itself either."""

import uuid

import httpx
import pytest
from tests.crash.cases import ABORT_POINTS
from tests.crash.matrix import ShopStage
from tests.together.shop import new_order, wait_for

from tandem.testing.crashes import ACTIONS, HEAL_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("action", [action for action in ACTIONS if action != "stall"])
@pytest.mark.parametrize("point", ABORT_POINTS)
def test_a_failed_cancellation_ends_in_one_outcome(
    stages: list[ShopStage], point: str, action: str
) -> None:
    shop = stages[0].shop
    shop.invoice.kill()
    shop.invoice.start(failpoints=f"{point}={action};invoice.before_t2=error")
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    with httpx.Client(base_url=shop.order.url, timeout=30.0, trust_env=False) as client:
        body = new_order()
        answer = client.post("/orders", json=body, headers=headers)
        assert answer.status_code == 202
        cancelled = client.post(f"{answer.headers['location']}/cancel")
        assert cancelled.status_code in {200, 202}
        events = shop.invoice.events()
        assert any(event.get("failpoint") == point for event in events)
        shop.invoice.kill()
        shop.invoice.start()
        operation = answer.headers["location"]
        wait_for(
            lambda: client.get(operation).json()["state"] != "pending",
            timeout_seconds=HEAL_SECONDS,
        )
        final = client.post("/orders", json=body, headers=headers)
        state = client.get(operation).json()["state"]
        assert (final.status_code, state) in {(201, "committed"), (409, "rejected")}
    shop.assert_true()
