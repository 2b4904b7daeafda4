"""Clients that change orders all the time, and what they were told."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise

import httpx
from tests.together.shop import Shop, new_order, now


class Load:
    """Clients that create, update and delete orders until they are told to stop."""

    def __init__(self, shop: Shop) -> None:
        self.acknowledged: dict[str, int] = {}
        self.answers: Counter[int] = Counter()
        self._acknowledged_at: list[float] = []
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

    @property
    def changes(self) -> int:
        """How many were acknowledged."""
        return len(self._acknowledged_at)

    def longest_gap_seconds(self) -> float:
        """For how long no change was acknowledged, from the first of them to the last."""
        with self._lock:
            moments = list(self._acknowledged_at)
        return max(after - before for before, after in pairwise(moments))

    def lost(self) -> dict[str, tuple[int, int, int]]:
        """Acknowledged changes that a side does not have: the version, and those of both sides."""
        orders = {str(key): row["version"] for key, row in self._shop.orders().items()}
        invoices = {str(key): row["version"] for key, row in self._shop.invoices().items()}
        found = {
            order: (version, orders.get(order, 0), invoices.get(order, 0))
            for order, version in self.acknowledged.items()
        }
        return {order: seen for order, seen in found.items() if min(seen) < seen[0]}

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
                self._acknowledged_at.append(time.monotonic())
        return answer
