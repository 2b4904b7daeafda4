"""The shop as a stage of failures, which ``tandem.testing.crashes`` makes and judges."""

import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.crash.table import Row
from tests.together.processes import Nursery, Service
from tests.together.shop import Shop, Templates, create, new_order, now

from devkit.servers import PostgresServer, RedisServer
from tandem.testing.crashes import Case, Lane, Reply, Result

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


class ShopStage:
    """A shop with a second order service, which fails; see ``Stage``."""

    initiator = "order"

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self._survivor = shop.order
        self._victim = shop.replica()
        self._logged = 0

    def prepare(self, kind: str) -> Request:
        key = str(uuid.uuid4())
        if kind == "create":
            return Request("POST", "/orders", new_order(), key, None)
        order_id = create(self._survivor)
        if kind == "delete":
            return Request("DELETE", f"/orders/{order_id}", None, key, order_id)
        body = {"update_time": now(), "quantity": 7}
        return Request("PATCH", f"/orders/{order_id}", body, key, order_id)

    def arm(self, case: Case) -> None:
        self._logged = self._failing(case).log_size()
        armed = f"{case.point}={armed_action(case)}"
        if case.service == self.initiator:
            self._victim.start(failpoints=armed, ORDER_RECONCILE_INTERVAL_SECONDS="3600")
        else:
            self.shop.invoice.kill()
            self.shop.invoice.start(failpoints=armed)

    def disarm(self, case: Case) -> None:
        self._failing(case).kill()
        if case.service != self.initiator:
            self.shop.invoice.start()

    def has_hit(self, case: Case) -> bool:
        return any(
            event.get("event") == "failpoint_hit" and event.get("failpoint") == case.point
            for event in self._failing(case).events(since=self._logged)
        )

    def send(self, request: Request, case: Case | None = None, /) -> Reply | None:
        fails = case is not None and case.service == self.initiator
        service = self._victim if fails else self._survivor
        try:
            answer = httpx.request(
                request.method,
                f"{service.url}{request.path}",
                json=request.body,
                headers={"Idempotency-Key": request.key},
                timeout=30.0,
                trust_env=False,
            )
        except httpx.TransportError:
            return None
        final = answer.status_code in FINAL and not _is_running(answer)
        return Reply(answer.status_code, answer.content, final)

    def compete(self, request: Request) -> int | None:
        if request.order_id is None:
            return None
        answer = httpx.patch(
            f"{self._survivor.url}/orders/{request.order_id}",
            json={"update_time": now(), "quantity": 3},
            timeout=30.0,
            trust_env=False,
        )
        return answer.status_code

    def states(self, key: str) -> list[str]:
        rows = self.shop.order_look.rows(
            "SELECT state FROM operations JOIN idempotency_keys USING (op_id)"
            f" WHERE idempotency_key = '{key}'"
        )
        return [row["state"] for row in rows]

    def pending(self) -> int:
        return len(self.shop.pending())

    def differences(self) -> list[str]:
        return self.shop.differences()

    def _failing(self, case: Case) -> Service:
        return self._victim if case.service == self.initiator else self.shop.invoice


def armed_action(case: Case) -> str:
    """The action as a failpoint takes it."""
    return f"stall:{STALL_SECONDS}*1" if case.action == "stall" else case.action


def row_of(result: Result) -> Row:
    """A failure as the tables show it."""
    return Row(
        protocol=True,
        point=result.case.point,
        action=result.case.action,
        hit=result.hit,
        healed_seconds=result.healed_seconds,
        lost=bool(result.faults),
    )


def open_stages(
    stack: ExitStack,
    folders: Sequence[Path],
    *,
    nursery: Nursery,
    postgres: PostgresServer,
    redis_server: RedisServer,
    templates: Templates,
) -> list[ShopStage]:
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
    return [ShopStage(stack.enter_context(shop)) for shop in shops]


def lanes_on(stages: Sequence[ShopStage]) -> list[Lane[Request]]:
    """One lane a stage."""
    return [Lane(stage) for stage in stages]


def _is_running(answer: httpx.Response) -> bool:
    return answer.status_code == 409 and answer.json()["type"] == "/problems/operation-running"
