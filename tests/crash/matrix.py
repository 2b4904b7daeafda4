"""Makes each failure happen in a running shop, waits until it heals, looks at both databases."""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
from tests.crash.cases import Case
from tests.crash.table import Row
from tests.together.processes import Nursery, Service
from tests.together.shop import Shop, Templates, create, new_order, now, wait_for

from devkit.servers import PostgresServer, RedisServer

HEAL_SECONDS = 60.0
ATTEMPTS = 5
# The lease is 1.2 s long; a stall must outlast it.
LEASE_SECONDS = 1.2
STALL_SECONDS = 1.7
FINAL = {201, 204, 404, 409, 412, 422}
SETTINGS = {
    "ORDER_LOCK_TTL_SECONDS": str(LEASE_SECONDS),
    "ORDER_LOCK_WAIT_SECONDS": "5",
    "ORDER_INVOICE_TIMEOUT_SECONDS": "2",
    "ORDER_RECONCILE_INTERVAL_SECONDS": "0.2",
    "ORDER_DATABASE_POOL_SIZE": "3",
}


@dataclass(frozen=True)
class Request:
    """One change, under a key of its own, and the order it is about if that is known."""

    method: str
    path: str
    body: dict[str, Any] | None
    key: str
    order_id: str | None

    def send(self, service: Service, *, timeout_seconds: float = 30.0) -> httpx.Response:
        return httpx.request(
            self.method,
            f"{service.url}{self.path}",
            json=self.body,
            headers={"Idempotency-Key": self.key},
            timeout=timeout_seconds,
            trust_env=False,
        )


@dataclass
class Result:
    """What one failure led to."""

    case: Case
    hit: bool
    first: int | None
    """Status of the first answer; None if there was none."""
    final: int
    """Status of the answer to the same request once everything was well again."""
    healed_seconds: float
    faults: list[str] = field(default_factory=list)

    def row(self) -> Row:
        return Row(
            protocol=True,
            point=self.case.point,
            action=self.case.action,
            hit=self.hit,
            healed_seconds=self.healed_seconds,
            lost=bool(self.faults),
        )


class Lane:
    """One shop in which failures happen one after the other; lanes do not touch each other."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.survivor = shop.order
        self.victim = shop.replica()

    def run(self, case: Case) -> Result:
        """Make one failure happen; once more if the request was refused before it got there."""
        result = self._once(case)
        for _ in range(ATTEMPTS):
            if result.hit or result.faults:
                break
            result = self._once(case)
        return result

    def _once(self, case: Case) -> Result:
        request = self._prepare(case.kind)
        target = self._arm(case)
        before = target.log_size()
        competing = self._compete(case, request, lambda: _has_hit(target, case.point, before))
        first = self._send(request, self.victim if case.service == "order" else self.survivor)
        competing()
        hit = _has_hit(target, case.point, before)
        healing_since = time.monotonic()
        self._disarm(case)
        faults = self._judge_first(request, first)
        faults += self._wait_healed()
        healed = time.monotonic() - healing_since
        final = self._repeat(request)
        faults += self._judge_final(request, first, final)
        return Result(
            case,
            hit=hit,
            first=None if first is None else first.status_code,
            final=final.status_code,
            healed_seconds=healed,
            faults=faults,
        )

    def _prepare(self, kind: str) -> Request:
        key = str(uuid.uuid4())
        if kind == "create":
            return Request("POST", "/orders", new_order(), key, None)
        order_id = create(self.survivor)
        if kind == "delete":
            return Request("DELETE", f"/orders/{order_id}", None, key, order_id)
        body = {"update_time": now(), "quantity": 7}
        return Request("PATCH", f"/orders/{order_id}", body, key, order_id)

    def _arm(self, case: Case) -> Service:
        action = case.action
        if action == "stall":
            action = f"stall:{STALL_SECONDS}*1"
        armed = f"{case.point}={action}"
        if case.service == "order":
            # Its own recovery sleeps: what it leaves behind is for the survivor.
            return self.victim.start(failpoints=armed, ORDER_RECONCILE_INTERVAL_SECONDS="3600")
        self.shop.invoice.kill()
        return self.shop.invoice.start(failpoints=armed)

    def _disarm(self, case: Case) -> None:
        if case.service == "order":
            self.victim.kill()
        else:
            self.shop.invoice.kill()
            self.shop.invoice.start()

    def _compete(
        self, case: Case, request: Request, stands_still: Callable[[], bool]
    ) -> Callable[[], None]:
        """While a service stands still with the order locked, let somebody else change it."""
        if case.action != "stall" or request.order_id is None or case.service != "order":
            return lambda: None
        path = f"{self.survivor.url}/orders/{request.order_id}"
        pool = ThreadPoolExecutor(1)
        answered = threading.Event()

        def compete() -> int | None:
            wait_for(lambda: stands_still() or answered.is_set(), timeout_seconds=HEAL_SECONDS)
            if answered.is_set():
                return None
            answer = httpx.patch(
                path,
                json={"update_time": now(), "quantity": 3},
                timeout=30.0,
                trust_env=False,
            )
            return answer.status_code

        competitor = pool.submit(compete)

        def wait() -> None:
            answered.set()
            pool.shutdown()
            assert competitor.result() in {None, 202, 204, 409, 422, 423, 503}

        return wait

    def _send(self, request: Request, service: Service) -> httpx.Response | None:
        try:
            return request.send(service)
        except httpx.TransportError:
            return None

    def _judge_first(self, request: Request, first: httpx.Response | None) -> list[str]:
        """The promises that the first answer made, checked at once."""
        if first is None or first.status_code in {202, 409}:
            return []
        recorded = self.shop.order_look.rows(
            f"SELECT state FROM operations JOIN idempotency_keys USING (op_id)"
            f" WHERE idempotency_key = '{request.key}'",
        )
        states = [row["state"] for row in recorded]
        if first.status_code < 300 and states != ["committed"]:
            return [f"answered {first.status_code} but {states}"]
        if first.status_code >= 500 and states:
            return [f"answered {first.status_code} although recorded"]
        return []

    def _wait_healed(self) -> list[str]:
        try:
            self.shop.wait_settled(timeout_seconds=HEAL_SECONDS)
        except AssertionError:
            return [f"not healed: {self.shop.pending()}"]
        return self.shop.differences()

    def _repeat(self, request: Request) -> httpx.Response:
        """Send it again, with the same key, until there is a final answer."""
        deadline = time.monotonic() + HEAL_SECONDS
        while True:
            answer = self._send(request, self.survivor)
            if answer is not None and answer.status_code in FINAL and not _is_running(answer):
                return answer
            if time.monotonic() >= deadline:
                raise AssertionError(f"no final answer: {answer}")
            time.sleep(0.05)

    def _judge_final(
        self, request: Request, first: httpx.Response | None, final: httpx.Response
    ) -> list[str]:
        faults = []
        if first is not None and first.status_code in FINAL and not _is_running(first):
            if (first.status_code, first.content) != (final.status_code, final.content):
                faults.append(f"answered {first.status_code}, then {final.status_code}")
        elif final.status_code not in {201, 204, 409, 412, 422}:
            faults.append(f"finally answered {final.status_code}")
        effects = self.shop.order_look.rows(
            f"SELECT op_id FROM operations JOIN idempotency_keys USING (op_id)"
            f" WHERE idempotency_key = '{request.key}' AND state = 'committed'",
        )
        if len(effects) != (final.status_code < 300):
            faults.append(f"answered {final.status_code} with {len(effects)} effects")
        return faults + self._wait_healed()


def open_lanes(
    stack: ExitStack,
    folders: Sequence[Path],
    *,
    nursery: Nursery,
    postgres: PostgresServer,
    redis_server: RedisServer,
    templates: Templates,
) -> list[Lane]:
    """Start one shop a folder; they are stopped with the stack."""
    shops = []
    for folder in folders:
        folder.mkdir(exist_ok=True)
        shops.append(
            Shop(
                folder,
                nursery=nursery,
                postgres=postgres,
                redis_server=redis_server,
                templates=templates,
                settings=SETTINGS,
            )
        )
    return [Lane(stack.enter_context(shop)) for shop in shops]


def run_all(lanes: Sequence[Lane], cases: Sequence[Case]) -> list[Result]:
    """Run the cases, each in the next free lane."""
    free: SimpleQueue[Lane] = SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def run(case: Case) -> Result:
        lane = free.get()
        try:
            return lane.run(case)
        finally:
            free.put(lane)

    with ThreadPoolExecutor(len(lanes)) as pool:
        return list(pool.map(run, cases))


def _has_hit(service: Service, point: str, since: int) -> bool:
    """Whether the point has acted since the log had this size."""
    return any(
        event.get("event") == "failpoint_hit" and event.get("failpoint") == point
        for event in service.events(since=since)
    )


def _is_running(answer: httpx.Response) -> bool:
    return answer.status_code == 409 and answer.json()["type"] == "/problems/operation-running"
