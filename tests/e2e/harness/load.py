"""Load on the order service that counts whatever goes wrong; nothing is retried.

Also a program of its own, with httpx as its only need, so that it can run in a pod: a port-forward
ends at one pod and breaks with it, and would blame the service for that. It writes a line of JSON
each second and, once it was asked to end with SIGTERM, one for each order and a final one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import httpx

REQUEST_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.05
SHOWN_FAILURES: Final = 20
REFUSALS: Final = {202: "undecided", 409: "conflict", 423: "locked", 503: "unavailable"}
WITHOUT_EFFECT: Final = ("refused", "conflict", "locked", "unavailable", "no connection")


@dataclasses.dataclass
class Acknowledged:
    """What the service has confirmed about an order, or said nothing certain about."""

    quantity: int
    deleted: bool = False
    certain: bool = True


@dataclasses.dataclass
class Tally:
    """What became of the requests, and of the orders."""

    sent: int = 0
    kept_alive: int = 0
    """Of those sent, by customers who keep their connection."""
    outcomes: Counter[str] = dataclasses.field(default_factory=Counter)
    failures: list[str] = dataclasses.field(default_factory=list)
    orders: dict[str, Acknowledged] = dataclasses.field(default_factory=dict)
    slowest_seconds: float = 0.0
    longest_gap_seconds: float = 0.0
    """The longest time in which nothing succeeded: how long an outage was for its customers."""
    _last_success: float | None = None

    @property
    def failed(self) -> int:
        """Requests that did not end with the success that was asked for."""
        return self.sent - self.outcomes["ok"]

    def count(self, outcome: str, detail: str, *, seconds: float) -> None:
        """Record one finished request; a failure also with its detail, up to a limit."""
        self.sent += 1
        self.outcomes[outcome] += 1
        self.slowest_seconds = max(self.slowest_seconds, seconds)
        if outcome == "ok":
            now = time.monotonic()
            if self._last_success is not None:
                gap = now - self._last_success
                self.longest_gap_seconds = max(self.longest_gap_seconds, gap)
            self._last_success = now
        if outcome != "ok" and len(self.failures) < SHOWN_FAILURES:
            moment = datetime.now(UTC).isoformat(timespec="milliseconds")
            self.failures.append(f"{moment} {outcome} after {seconds:.3f} s: {detail}")

    def as_json(self, *, done: bool) -> str:
        """One line of the program's output."""
        return json.dumps(
            {
                "done": done,
                "sent": self.sent,
                "kept_alive": self.kept_alive,
                "failed": self.failed,
                "outcomes": self.outcomes,
                "failures": self.failures,
                "slowest_seconds": round(self.slowest_seconds, 3),
                "longest_gap_seconds": round(self.longest_gap_seconds, 3),
            }
        )

    def final_lines(self) -> Iterator[str]:
        """The end of the output: a line an order, since container logs split lines over 16 KiB."""
        for name, known in self.orders.items():
            yield json.dumps({"order": name, "known": dataclasses.asdict(known)})
        yield self.as_json(done=True)


def read_final(lines: Sequence[str]) -> dict[str, Any] | None:
    """Put the end of the output together: the count, with all ``orders``; None before the end."""
    found = [json.loads(line) for line in lines]
    if not found or not found[-1].get("done", False):
        return None
    orders = {each["order"]: each["known"] for each in found if "order" in each}
    return {**found[-1], "orders": orders}


def outcome_of_status(status: int, wanted: int) -> str:
    """The kind of answer that a status is, when ``wanted`` was the success."""
    if status == wanted:
        return "ok"
    return REFUSALS.get(status, "server error" if status >= 500 else "refused")


def outcome_of_error(error: httpx.HTTPError) -> str:
    """The kind of failure to get an answer at all."""
    if isinstance(error, httpx.TimeoutException):
        return "timeout"
    return "no connection" if isinstance(error, httpx.ConnectError) else "broken connection"


class Worker:
    """One customer: makes orders of its own, changes them, and gives up every other one."""

    def __init__(self, url: str, tally: Tally, *, keep_alive: bool) -> None:
        """Describe the customer.

        Args:
            url: The order service.
            tally: Where the outcomes are counted.
            keep_alive: Reuse connections, as programs do; otherwise each request makes its own and
                may reach another replica.
        """
        self._tally = tally
        self._keep_alive = keep_alive
        limits = httpx.Limits(max_keepalive_connections=1 if keep_alive else 0)
        self._client = httpx.AsyncClient(base_url=url, timeout=REQUEST_SECONDS, limits=limits)

    async def work(self, stop: asyncio.Event) -> None:
        """Go on until ``stop`` is set; the request in flight is finished."""
        async with self._client:
            turn = 0
            while not stop.is_set():
                turn += 1
                await self._one_order(stop, give_up=turn % 2 == 0)

    async def _one_order(self, stop: asyncio.Event, *, give_up: bool) -> None:
        wanted = {"user_id": str(uuid.uuid4()), "item_id": str(uuid.uuid4()), "value": "2.50"}
        _, created = await self._send("POST", "/orders", wanted=201, body={**wanted, "quantity": 1})
        if created is None:
            await asyncio.sleep(PAUSE_SECONDS)
            return
        order_id = created.json()["id"]
        order = self._tally.orders[order_id] = Acknowledged(quantity=1)
        for quantity in (2, 3):
            if stop.is_set():
                return
            moment = datetime.now(UTC).isoformat()
            body: dict[str, object] = {"update_time": moment, "quantity": quantity}
            await self._change(order, "PATCH", order_id, body=body, quantity=quantity)
            await self._send("GET", f"/orders/{order_id}", wanted=200)
        if give_up:
            await self._change(order, "DELETE", order_id, deleted=True)

    async def _change(
        self,
        order: Acknowledged,
        method: str,
        order_id: str,
        *,
        body: dict[str, object] | None = None,
        **then: Any,
    ) -> None:
        """Change an order once, and note what is known about it after that."""
        outcome, _ = await self._send(method, f"/orders/{order_id}", wanted=204, body=body)
        if outcome == "ok":
            order.certain = order.certain or "quantity" in then
            for field, value in then.items():
                setattr(order, field, value)
            return
        order.certain = order.certain and outcome in WITHOUT_EFFECT
        await asyncio.sleep(PAUSE_SECONDS)

    async def _send(
        self, method: str, path: str, *, wanted: int, body: dict[str, object] | None = None
    ) -> tuple[str, httpx.Response | None]:
        """Send one request once; its outcome, and the answer if it is the success wanted."""
        begun = time.monotonic()
        headers = {} if method == "GET" else {"Idempotency-Key": str(uuid.uuid4())}
        answer = None
        try:
            answer = await self._client.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            outcome, detail = outcome_of_error(error), repr(error)
        else:
            outcome = outcome_of_status(answer.status_code, wanted)
            detail = f"{answer.status_code} {answer.text}"
        seconds = time.monotonic() - begun
        self._tally.kept_alive += self._keep_alive
        self._tally.count(outcome, f"{method} {path} {detail}", seconds=seconds)
        return outcome, answer if outcome == "ok" else None


async def generate(
    url: str, *, workers: int, stop: asyncio.Event, tally: Tally, limit_seconds: float
) -> None:
    """Let ``workers`` customers work, every fourth with fresh connections, until ``stop``.

    Args:
        url: The order service.
        workers: How many work at once.
        stop: Ends it.
        tally: Where the outcomes are counted.
        limit_seconds: Ends it as well.
    """
    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            worker = Worker(url, tally, keep_alive=number % 4 != 3)
            group.create_task(worker.work(stop))
        try:
            await asyncio.wait_for(stop.wait(), limit_seconds)
        except TimeoutError:
            stop.set()


async def report(tally: Tally, stop: asyncio.Event) -> None:
    """Write the tally each second until ``stop`` is set."""
    while not stop.is_set():
        sys.stdout.write(tally.as_json(done=False) + "\n")
        sys.stdout.flush()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 1)


async def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--limit-seconds", type=float, required=True)
    given = parser.parse_args()
    stop, tally = asyncio.Event(), Tally()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with asyncio.TaskGroup() as group:
        group.create_task(report(tally, stop))
        group.create_task(
            generate(
                given.url,
                workers=given.workers,
                stop=stop,
                tally=tally,
                limit_seconds=given.limit_seconds,
            )
        )
    sys.stdout.writelines(line + "\n" for line in tally.final_lines())


if __name__ == "__main__":
    asyncio.run(main())
