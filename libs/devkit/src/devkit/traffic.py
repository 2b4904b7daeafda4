"""Work for a running shop: what its clients do on an ordinary day, and what makes them wait."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import httpx

from devkit.client import now

TIMEOUT_SECONDS: Final = 20.0
KNOWN_ORDERS: Final = 200


@dataclass
class Traffic:
    """Clients of both services; each step is one request, and ``answers`` counts their statuses."""

    order_url: str
    invoice_url: str
    clients: int = 8
    answers: Counter[int] = field(default_factory=Counter)
    orders: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Open the connections."""
        limits = httpx.Limits(max_connections=self.clients * 4)
        self._http = httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False, limits=limits)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def create(self, *, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Create an order; later steps use it."""
        body = {
            "user_id": str(uuid.uuid4()),
            "item_id": str(uuid.uuid4()),
            "quantity": random.randint(1, 9),  # noqa: S311  (nothing secret about it)
            "value": "9.50",
        }
        answer = self._send("POST", "/orders", json=body, headers=headers)
        if answer.status_code == httpx.codes.CREATED:
            self.orders.append(answer.json()["id"])
            del self.orders[:-KNOWN_ORDERS]
        return answer

    def update(self, order: str, *, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Change an order's quantity."""
        quantity = random.randint(1, 9)  # noqa: S311  (nothing secret about it)
        body = {"update_time": now(), "quantity": quantity}
        return self._send("PATCH", f"/orders/{order}", json=body, headers=headers)

    def delete(self, order: str) -> httpx.Response:
        """Delete an order."""
        return self._send("DELETE", f"/orders/{order}")

    def read(self) -> None:
        """Read an order and its invoice, and a page of each."""
        self._send("GET", "/orders?limit=5")
        self._send("GET", "/invoices?limit=5", base=self.invoice_url)
        if self.orders:
            order = random.choice(self.orders)  # noqa: S311  (nothing secret about it)
            answer = self._send("GET", f"/orders/{order}")
            if answer.is_success:
                invoice = answer.json()["invoice_id"]
                self._send("GET", f"/invoices/{invoice}", base=self.invoice_url)

    def mistakes(self) -> None:
        """What is refused: an unknown order, a body without sense, an invoice without its lock."""
        self._send("GET", f"/orders/{uuid.uuid4()}")
        self._send("POST", "/orders", json={"quantity": 0})
        page = self._send("GET", "/invoices?limit=1", base=self.invoice_url)
        if page.is_success and page.json()["items"]:
            path = f"/invoices/{page.json()['items'][0]['id']}"
            self._send("PATCH", path, json={"total": "1.00"}, base=self.invoice_url)

    def day(self) -> None:
        """One round of everything, on an order of its own."""
        self.create()
        self.read()
        if self.orders:
            order = random.choice(self.orders)  # noqa: S311  (nothing secret about it)
            self.update(order)
        if len(self.orders) > 1:
            self.delete(self.orders.pop(0))
        self.mistakes()

    def days(self, rounds: int) -> None:
        """Several rounds at once."""
        self.together([self.day] * rounds)

    def rush(self, order: str, changes: int) -> list[int]:
        """Many changes of one order at once; the statuses they are answered with."""
        answers = self.together([lambda: self.update(order).status_code] * changes, width=changes)
        return [int(status) for status in answers if isinstance(status, int)]

    def together(
        self, steps: Sequence[Callable[[], object]], *, width: int | None = None
    ) -> list[object]:
        """Take several steps at once, as many as there are clients."""
        with ThreadPoolExecutor(width or self.clients) as pool:
            return list(pool.map(lambda step: step(), steps))

    def _send(
        self,
        method: str,
        path: str,
        *,
        base: str | None = None,
        json: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        url = (base or self.order_url) + path
        answer = self._http.request(method, url, json=json, headers=headers)
        self.answers[answer.status_code] += 1
        return answer
