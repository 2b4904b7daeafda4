"""Any part of the shop can be killed and started again at any moment: it heals by itself."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from tests.together.shop import Shop, new_order, now, wait_for

from devkit.servers import PostgresServer

HEAL_SECONDS = 60.0


class Load:
    """Clients that create, update and delete orders until they are told to stop."""

    def __init__(self, shop: Shop) -> None:
        self.acknowledged: dict[str, int] = {}
        self.answers: Counter[int] = Counter()
        self._shop = shop
        self._stop = threading.Event()
        self._lock = threading.Lock()

    @contextmanager
    def running(self, *, clients: int = 3) -> Iterator[None]:
        with ThreadPoolExecutor(clients) as pool:
            running = [pool.submit(self._work) for _ in range(clients)]
            try:
                yield
            finally:
                self._stop.set()
            for each in running:
                each.result()

    def _work(self) -> None:
        with httpx.Client(base_url=self._shop.order.url, timeout=30.0, trust_env=False) as client:
            while not self._stop.is_set():
                self._one_order(client)

    def _one_order(self, client: httpx.Client) -> None:
        created = self._send(client, "POST", "/orders", new_order())
        if created is None or created.status_code != 201:
            time.sleep(0.02)
            return
        path = created.headers["location"]
        for quantity in (3, 4):
            self._send(client, "PATCH", path, {"update_time": now(), "quantity": quantity})
        self._send(client, "DELETE", path, None)

    def _send(
        self, client: httpx.Client, method: str, path: str, body: object
    ) -> httpx.Response | None:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        try:
            answer = client.request(method, path, json=body, headers=headers)
        except httpx.TransportError:
            return None
        with self._lock:
            self.answers[answer.status_code] += 1
            if answer.status_code in {201, 204}:
                version = int(answer.headers["etag"].strip('"'))
                order = answer.json()["id"] if method == "POST" else path.rpartition("/")[2]
                self.acknowledged[order] = max(version, self.acknowledged.get(order, 0))
        return answer


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
    orders = {str(order_id): row["version"] for order_id, row in shop.orders().items()}
    lost = {
        order: (version, orders.get(order))
        for order, version in load.acknowledged.items()
        if orders.get(order, 0) < version
    }
    assert lost == {}
    assert set(load.answers) <= {201, 202, 204, 409, 423, 503}, load.answers
    wait_for(lambda: not shop.lock_keys(), timeout_seconds=HEAL_SECONDS)
