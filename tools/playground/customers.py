"""The page's clients: they send changes to the shop, and remember every answer."""

from __future__ import annotations

import secrets
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, TypeVar
from uuid import UUID

import httpx

from tools.playground.tables import Outcome, Unreadable

TIMEOUT_SECONDS: Final = 25.0
ANSWERS_KEPT: Final = 40
KEYS_KEPT: Final = 2_000
OPEN_KEPT: Final = 500
SUCCESS: Final = frozenset({200, 201, 204})
UNKNOWN: Final = frozenset({None, 202})

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What came back for one request."""

    number: int
    at: float
    """Seconds since 1970."""
    who: str
    what: str
    status: int | None
    """None when there was no answer."""
    detail: str
    order_id: str | None
    key: str
    trace_id: str
    milliseconds: int
    repeated: bool
    """Whether it is the answer to a repeat, under a key that was used before."""

    @property
    def done(self) -> bool:
        """Whether it acknowledges the change."""
        return self.status in SUCCESS


@dataclass
class Counts:
    """What the page's own requests were answered."""

    acknowledged: int = 0
    refused: int = 0
    unanswered: int = 0
    replayed: int = 0
    """Answers to repeats of what had been done already."""
    healed: int = 0
    """Changes that somebody else than the request that asked for them has completed."""


class Customers:
    """Sends requests, each under an idempotency key and with a trace id of its own."""

    def __init__(
        self,
        urls: Mapping[str, str],
        *,
        outcomes: Callable[[Sequence[str]], Awaitable[Mapping[str, Outcome]]],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Describe them.

        Args:
            urls: Where each order service answers, by the name of the part.
            outcomes: Says what became of requests, by their keys.
            transport: What sends requests; real connections by default.
        """
        # Whoever starts them keeps them few: one that waits here would count as unanswered.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx.AsyncClient(
            trust_env=False, timeout=TIMEOUT_SECONDS, limits=limits, transport=transport
        )
        self._urls = urls
        self._numbers = 0
        self.counts = Counts()
        self.answers: deque[Answer] = deque(maxlen=ANSWERS_KEPT)
        self.traces: dict[str, str] = {}
        """The trace id of each key."""
        self.open: dict[str, Answer] = {}
        """By key, requests without a final answer, until their operations have ended."""
        self.healed: dict[str, None] = {}
        """Keys whose operations somebody else has completed."""
        self._outcomes = outcomes

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def create(
        self,
        *,
        quantity: int,
        value: str,
        to: str = "order-a",
        who: str = "You",
        user_id: UUID | None = None,
        key: str | None = None,
        item_id: UUID | None = None,
    ) -> Answer:
        """Ask for an order; see :meth:`send`."""
        body = {
            "user_id": str(user_id or uuid.uuid4()),
            "item_id": str(item_id or uuid.uuid4()),
            "quantity": quantity,
            "value": value,
        }
        what = f"create {quantity} at {value}"
        return await self.send("POST", "/orders", body, what=what, to=to, who=who, key=key)

    async def update(
        self,
        order_id: str,
        *,
        quantity: int,
        to: str = "order-a",
        who: str = "You",
        key: str | None = None,
        update_time: str | None = None,
    ) -> Answer:
        """Ask for another quantity; see :meth:`send`."""
        body = {"update_time": update_time or now(), "quantity": quantity}
        what = f"change {order_id[:4]} to {quantity}"
        return await self.send(
            "PATCH", f"/orders/{order_id}", body, what=what, to=to, who=who, key=key
        )

    async def delete(self, order_id: str, *, to: str = "order-a", who: str = "You") -> Answer:
        """Ask for an order to be deleted; see :meth:`send`."""
        what = f"delete {order_id[:4]}"
        return await self.send(
            "DELETE", f"/orders/{order_id}", None, what=what, to=to, who=who, key=None
        )

    async def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        *,
        what: str,
        to: str,
        who: str,
        key: str | None,
    ) -> Answer:
        """Send one request and remember what came of it; no answer is one, too."""
        repeated = key is not None and key in self.traces
        replayed = key is not None and repeated and await self._has_ended(key)
        key = key or str(uuid.uuid4())
        trace_id = self._trace(key)
        started = time.monotonic()
        try:
            reply = await self._http.request(
                method,
                self._urls[to] + path,
                json=body,
                headers={
                    "Idempotency-Key": key,
                    "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01",
                },
            )
        except httpx.TransportError as failure:
            status, detail, order_id = None, _reason(failure), _order_in(path)
            arrived = not isinstance(failure, httpx.ConnectError)
        else:
            status, detail, order_id = reply.status_code, _detail(reply), _order_of(reply, path)
            arrived = True
        answer = Answer(
            number=self._next(),
            at=time.time(),
            who=who,
            what=what,
            status=status,
            detail=detail,
            order_id=order_id,
            key=key,
            trace_id=trace_id,
            milliseconds=round((time.monotonic() - started) * 1000),
            repeated=repeated,
        )
        self._count(answer, arrived=arrived, replayed=replayed)
        self.answers.append(answer)
        return answer

    def settle(self, outcomes: Mapping[str, Outcome]) -> None:
        """Learn what became of requests without a final answer, by their keys."""
        for key, outcome in outcomes.items():
            if key not in self.open or outcome.finished_at is None:
                continue
            answer = self.open.pop(key)
            # A request that completed its operation before its answer was lost healed nothing.
            if answer.status is not None or outcome.finished_at > answer.at:
                _remember(self.healed, key, None, most=KEYS_KEPT)
                self.counts.healed += 1

    async def _has_ended(self, key: str) -> bool:
        try:
            outcomes = await self._outcomes([key])
        except Unreadable:
            return False
        self.settle(outcomes)
        return key in outcomes and outcomes[key].finished_at is not None

    def _trace(self, key: str) -> str:
        if key not in self.traces:
            _remember(self.traces, key, secrets.token_hex(16), most=KEYS_KEPT)
        return self.traces[key]

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers

    def _count(self, answer: Answer, *, arrived: bool, replayed: bool) -> None:
        if answer.status in UNKNOWN:
            self.counts.unanswered += not answer.repeated
            if arrived and answer.key not in self.open:
                _remember(self.open, answer.key, answer, most=OPEN_KEPT)
            return
        self.open.pop(answer.key, None)
        if answer.done and replayed:
            self.counts.replayed += 1
        elif answer.done:
            self.counts.acknowledged += 1
        else:
            self.counts.refused += 1


def _remember(kept: dict[str, T], key: str, value: T, *, most: int) -> None:
    """Put something into a dictionary that forgets what is oldest."""
    kept[key] = value
    while len(kept) > most:
        kept.pop(next(iter(kept)))


def now() -> str:
    """This moment, as ``update_time`` wants it."""
    return datetime.now(UTC).isoformat()


def total(quantity: int, value: str) -> Decimal:
    """What an order comes to."""
    return quantity * Decimal(value)


def ids(answers: Sequence[Answer]) -> set[str]:
    """The orders that answers are about."""
    return {answer.order_id for answer in answers if answer.order_id}


def _reason(failure: httpx.TransportError) -> str:
    if isinstance(failure, httpx.ConnectError):
        return "nobody listens there"
    if isinstance(failure, httpx.TimeoutException):
        return "no answer in time"
    return "the connection ended without an answer"


def _detail(reply: httpx.Response) -> str:
    if reply.headers.get("content-type", "").startswith("application/problem+json"):
        problem = reply.json()
        return str(problem.get("detail") or problem.get("title") or "")
    return ""


def _order_of(reply: httpx.Response, path: str) -> str | None:
    if reply.status_code == httpx.codes.CREATED:
        return str(reply.json()["id"])
    if reply.status_code == httpx.codes.ACCEPTED:
        return str(reply.json().get("order_id") or "") or _order_in(path)
    return _order_in(path)


def _order_in(path: str) -> str | None:
    return path.removeprefix("/orders/") if path.startswith("/orders/") else None
