"""Runs the matrix's failures against the lock-only control and counts the orders it loses."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import psycopg
from tests.crash.lock_only import POINTS, PRICE, TABLES
from tests.crash.matrix import LEASE_SECONDS, armed_action
from tests.crash.table import Row
from tests.together.processes import Nursery
from tests.together.shop import Look, wait_for

from devkit.servers import PostgresServer, RedisServer
from tandem.testing.crashes import ACTIONS, KINDS, Case

PROGRAM = "tests.crash.lock_only"


@dataclass(frozen=True)
class Loss:
    """What one failure left behind."""

    case: Case
    order: dict[str, Any] | None
    invoice: dict[str, Any] | None

    @property
    def lost(self) -> bool:
        return self.order != self.invoice

    def row(self) -> Row:
        return Row(
            protocol=False,
            point=self.case.point,
            action=self.case.action,
            hit=True,
            healed_seconds=0.0,
            lost=self.lost,
        )


class Control:
    """Two databases and one Redis, used with the lock alone."""

    def __init__(
        self, folder: Path, *, nursery: Nursery, postgres: PostgresServer, redis: RedisServer
    ) -> None:
        self._folder = folder
        self._nursery = nursery
        self._redis = redis
        self._urls = {
            side: postgres.create_database(f"lock_only_{side}_{uuid.uuid4().hex[:8]}")
            for side in TABLES
        }
        self._looks = {side: Look(url) for side, url in self._urls.items()}
        for side, statement in TABLES.items():
            self._execute(side, statement)

    def run(self, case: Case) -> Loss:
        """Make one failure happen and look at what is left once all locks are gone."""
        order_id = uuid.uuid4()
        if case.kind != "create":
            for side in TABLES:
                total = 2 * PRICE
                values = f"'{order_id}', {total}, 'created'"
                self._execute(side, f"INSERT INTO lock_only_{side}s VALUES ({values})")
        stalls = case.action == "stall"
        log = self._folder / f"{order_id}.log"
        pid = self._start(case.kind, order_id, 7, f"{case.point}={armed_action(case)}", log)
        if stalls and case.kind != "create":  # as in the matrix, somebody else comes meanwhile
            wait_for(lambda: "failpoint_hit" in log.read_text(), timeout_seconds=60)
            other = self._start("update", order_id, 3, "", self._folder / f"{order_id}-2.log")
            self._nursery.wait(other, timeout_seconds=60)
        self._nursery.wait(pid, timeout_seconds=60)
        return Loss(case, self._row("order", order_id), self._row("invoice", order_id))

    def _start(
        self, kind: str, order_id: uuid.UUID, quantity: int, failpoints: str, log: Path
    ) -> int:
        arguments = {
            "order-url": self._urls["order"],
            "invoice-url": self._urls["invoice"],
            "redis-url": self._redis.url,
            "kind": kind,
            "failpoints": failpoints,
            "order-id": order_id,
            "quantity": quantity,
            "lease": LEASE_SECONDS,
        }
        options = [f"--{name}={value}" for name, value in arguments.items()]
        log.touch()
        return self._nursery.start(PROGRAM, options, {}, log)

    def _row(self, side: str, order_id: uuid.UUID) -> dict[str, Any] | None:
        rows = self._looks[side].rows(f"SELECT * FROM lock_only_{side}s WHERE id = '{order_id}'")
        return rows[0] if rows else None

    def close(self) -> None:
        for look in self._looks.values():
            look.close()

    def _execute(self, side: str, statement: str) -> None:
        with psycopg.connect(self._urls[side], connect_timeout=10) as connection:
            connection.execute(statement)


def run_all(control: Control, *, workers: int = 4) -> list[Loss]:
    """Run every failure; they do not touch each other."""
    cases = [
        Case("lock_only", point, action, kind)
        for point, action, kind in product(POINTS, ACTIONS, KINDS)
    ]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(control.run, cases))
