"""A client that asks for anything, waits as long as it likes, and notes what it hears."""

import asyncio
import itertools
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from tests.together.shop import now

_HOSTILE: Final[list[dict[str, str]]] = [
    {"If-Match": '"' + "9" * 3000 + '"'},
    {"If-Match": '"0"'},
    {"If-Match": '"1", W/"2", *'},
    {"If-None-Match": "*"},
    {"Idempotency-Key": '"'},
    {"Idempotency-Key": "x" * 300},
    {"Request-Timeout-Ms": "0"},
    {"Request-Timeout-Ms": "-1"},
    {"Request-Timeout-Ms": "1e3"},
    {"Content-Type": "text/plain"},
    {"Lock-Token": "f1.AAAAAAAAAAA.AAAAAAAAAAAAAAAA.1"},
    {"Order-Id": "not-a-uuid"},
    {"traceparent": "00-zz-zz-01"},
    {"X-Filler": "y" * 6000},
]


@dataclass
class Attempt:
    """One request, what would show that it was carried out, and its answer."""

    kind: str
    mark: str
    """The user of what it creates, or the order and the quantity that nobody else gives it."""
    status: int | None = None
    slug: str = ""
    operation: str | None = None
    """The page that the answer named."""
    page: int | None = None
    """The status of that page right after the answer."""
    said: str = ""
    """The operation's state by then, as the page has it."""


@dataclass
class Client:
    """Makes requests on orders of its own, one after the other.

    Attributes:
        order_url: the order service.
        invoice_url: the invoice service.
        dice: what it decides by.
    """

    order_url: str
    invoice_url: str
    dice: random.Random
    attempts: list[Attempt] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    _quantities: "itertools.count[int]" = field(default_factory=lambda: itertools.count(2))

    async def run(self, requests: int) -> None:
        """Make ``requests`` requests."""
        choices = (
            (self._create, 5),
            (self._patch, 6),
            (self._delete, 1),
            (self._invoice, 6),
            (self._occupied, 2),
            (self._unlocked, 2),
            (self._cancel, 1),
            (self._malformed, 3),
        )
        makers = [maker for maker, weight in choices for _ in range(weight)]
        async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
            for _ in range(requests):
                await self.dice.choice(makers)(http)

    async def _create(self, http: httpx.AsyncClient) -> None:
        attempt = self._new("create", str(uuid.uuid4()))
        body = {
            "user_id": attempt.mark,
            "item_id": str(uuid.uuid4()),
            "quantity": self.dice.randint(1, 9),
            "value": "9.50",
        }
        answer = await self._send(http, attempt, "POST", f"{self.order_url}/orders", body)
        if answer is not None and answer.status_code == httpx.codes.CREATED:
            self.orders.append(answer.json()["id"])

    async def _patch(self, http: httpx.AsyncClient) -> None:
        if not self.orders:
            return await self._create(http)
        order_id, quantity = self.dice.choice(self.orders), next(self._quantities)
        attempt = self._new("patch", f"{order_id} {quantity}")
        body = {"update_time": now(), "quantity": quantity}
        await self._send(http, attempt, "PATCH", f"{self.order_url}/orders/{order_id}", body)
        return None

    async def _delete(self, http: httpx.AsyncClient) -> None:
        if len(self.orders) < 2:
            return await self._create(http)
        order_id = self.orders.pop(self.dice.randrange(len(self.orders)))
        attempt = self._new("delete", order_id)
        await self._send(http, attempt, "DELETE", f"{self.order_url}/orders/{order_id}", None)
        return None

    async def _invoice(self, http: httpx.AsyncClient) -> None:
        attempt = self._new("invoice", str(uuid.uuid4()))
        body = {"user_id": attempt.mark, "total": "3.00"}
        await self._send(http, attempt, "POST", f"{self.invoice_url}/invoices", body)

    async def _occupied(self, http: httpx.AsyncClient) -> None:
        """Create an invoice under a key that is the id of an order's operation."""
        if not self.operations:
            return await self._invoice(http)
        attempt = self._new("invoice", str(uuid.uuid4()))
        body = {"user_id": attempt.mark, "total": "4.00"}
        key = {"Idempotency-Key": self.operations.pop().rsplit("/", 1)[1]}
        await self._send(http, attempt, "POST", f"{self.invoice_url}/invoices", body, key)
        return None

    async def _unlocked(self, http: httpx.AsyncClient) -> None:
        """Change, abort or delete an invoice without any right to."""
        attempt = self._new("refused", str(uuid.uuid4()))
        url = f"{self.invoice_url}/invoices/{attempt.mark}"
        headers = {"Idempotency-Key": str(uuid.uuid4()), "If-Match": '"1"'}
        if self.operations:
            headers["Idempotency-Key"] = self.operations[-1].rsplit("/", 1)[1]
        await self._send(http, attempt, "PATCH", url, {"total": "5.00"}, headers)

    async def _cancel(self, http: httpx.AsyncClient) -> None:
        if not self.operations:
            return await self._create(http)
        page = self.operations[-1]
        attempt = self._new("cancel", page.rsplit("/", 1)[1])
        await self._send(http, attempt, "POST", f"{self.order_url}{page}/cancel", None)
        return None

    async def _malformed(self, http: httpx.AsyncClient) -> None:
        attempt = self._new("malformed", str(uuid.uuid4()))
        body = {"user_id": attempt.mark, "item_id": attempt.mark, "quantity": 1, "value": "-1"}
        await self._send(http, attempt, "POST", f"{self.order_url}/orders", body)

    def _new(self, kind: str, mark: str) -> Attempt:
        attempt = Attempt(kind, mark)
        self.attempts.append(attempt)
        return attempt

    async def _send(  # noqa: PLR0917 - what a request is made of
        self,
        http: httpx.AsyncClient,
        attempt: Attempt,
        method: str,
        url: str,
        body: dict[str, Any] | None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response | None:
        """Send it, with or without patience, and note the answer if one comes."""
        sent = {**self._headers(), **(headers or {})}
        patience = self.dice.choice([None] * 7 + [self.dice.uniform(0.001, 0.2)])
        try:
            async with asyncio.timeout(patience):
                answer = await http.request(method, url, json=body, headers=sent)
        except (TimeoutError, httpx.TransportError):
            return None  # the connection is cut; the service goes on or does not
        attempt.status = answer.status_code
        if answer.headers.get("content-type", "").startswith("application/problem"):
            attempt.slug = answer.json()["type"].rsplit("/", 1)[1]
        if (op_id := answer.headers.get("operation-id")) is not None:
            self.operations.append(f"/operations/{op_id}")
        if answer.status_code == httpx.codes.ACCEPTED:
            attempt.operation = answer.headers["location"]
            page = await self._page(http, attempt.operation)
            attempt.page = page.status_code
            attempt.said = page.json().get("state", "")
        return answer

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self.dice.random() < 0.5:
            headers["Request-Timeout-Ms"] = str(int(10 ** self.dice.uniform(1, 3.5)))
        if self.dice.random() < 0.4:
            headers["Idempotency-Key"] = str(uuid.uuid4())
        if self.dice.random() < 0.15:
            headers.update(self.dice.choice(_HOSTILE))
        return headers

    async def _page(self, http: httpx.AsyncClient, location: str) -> httpx.Response:
        """Return an operation's page, as soon as its database can be read."""
        while True:
            page = await http.get(f"{self.order_url}{location}")
            if page.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return page
            await asyncio.sleep(0.05)


def counted(attempts: list[Attempt]) -> Counter[str]:
    """Return how many answers of each kind there were."""
    return Counter(f"{attempt.status or 'none'} {attempt.slug}".strip() for attempt in attempts)
