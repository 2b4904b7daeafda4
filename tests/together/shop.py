"""Both services with databases of their own, and a look at what is in them."""

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg
import redis
from psycopg.rows import dict_row
from tests.together.processes import Nursery, Service

from devkit.servers import PostgresServer, RedisServer
from invoice.schema import MIGRATIONS as INVOICE_MIGRATIONS
from order.schema import MIGRATIONS as ORDER_MIGRATIONS

# Short, so that what a crash leaves behind is over soon.
ORDER_SETTINGS = {
    "ORDER_LOCK_TTL_SECONDS": "1.5",
    "ORDER_INVOICE_TIMEOUT_SECONDS": "1",
    "ORDER_RECONCILE_INTERVAL_SECONDS": "0.2",
}
_names = itertools.count(1)


@dataclass(frozen=True)
class Templates:
    """Migrated empty databases that others are copied from."""

    order: str
    invoice: str

    @classmethod
    def create(cls, postgres: PostgresServer) -> Self:
        made = cls(f"order_template_{uuid.uuid4().hex}", f"invoice_template_{uuid.uuid4().hex}")
        ORDER_MIGRATIONS.upgrade(postgres.create_database(made.order))
        INVOICE_MIGRATIONS.upgrade(postgres.create_database(made.invoice))
        return made


class Shop:
    """One invoice service and any number of replicas of the order service."""

    def __init__(
        self,
        folder: Path,
        *,
        nursery: Nursery,
        postgres: PostgresServer,
        redis_server: RedisServer,
        templates: Templates,
        settings: Mapping[str, str] | None = None,
        locks: str | None = None,
    ) -> None:
        """Describe it; ``locks`` is the URL of other servers than the one for its locks."""
        self.folder = folder
        self.nursery = nursery
        self.redis = redis_server
        self._locks = locks
        self._settings = {**ORDER_SETTINGS, **(settings or {})}
        run = f"{uuid.uuid4().hex[:8]}_{next(_names)}"
        self.order_database = postgres.create_database(f"order_{run}", template=templates.order)
        self.invoice_database = postgres.create_database(
            f"invoice_{run}", template=templates.invoice
        )
        self.order_look = Look(self.order_database)
        self.invoice_look = Look(self.invoice_database)
        self.services: list[Service] = []
        self.invoice = self.another_invoice_service()
        self.order = self.replica()

    def __enter__(self) -> Self:
        self.invoice.start(ready=False)
        self.order.start()
        self.invoice.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        for service in self.services:
            service.kill()
        self.order_look.close()
        self.invoice_look.close()

    @property
    def redis_url(self) -> str:
        """Where its locks are."""
        return self._locks or self.redis.url

    def replica(self) -> Service:
        """One more order service on the same database, not started."""
        return self._service(
            "order",
            {
                "ORDER_DATABASE_URL": self.order_database,
                "ORDER_REDIS_URL": self.redis_url,
                "ORDER_INVOICE_URL": self.invoice.url,
                **self._settings,
            },
        )

    def another_invoice_service(self) -> Service:
        """One more invoice service on the same database, not started."""
        return self._service(
            "invoice",
            {
                "INVOICE_DATABASE_URL": self.invoice_database,
                "INVOICE_REDIS_URL": self.redis_url,
                "INVOICE_DATABASE_POOL_SIZE": "10",
            },
        )

    def _service(self, name: str, environment: dict[str, str]) -> Service:
        log = self.folder / f"{name}-{next(_names)}.log"
        service = Service(self.nursery, name, environment, log)
        self.services.append(service)
        return service

    # What is in the databases.

    def orders(self) -> dict[uuid.UUID, dict[str, Any]]:
        """Committed orders by id."""
        rows = self.order_look.rows("SELECT * FROM orders WHERE version > 0")
        return {row["id"]: row for row in rows}

    def invoices(self) -> dict[uuid.UUID, dict[str, Any]]:
        """Invoices of orders, by the order's id."""
        rows = self.invoice_look.rows("SELECT * FROM invoices WHERE order_id IS NOT NULL")
        return {row["order_id"]: row for row in rows}

    def operations(self) -> list[dict[str, Any]]:
        return self.order_look.rows("SELECT * FROM operations ORDER BY created_at")

    def recorded(self) -> dict[tuple[uuid.UUID, uuid.UUID], dict[str, Any]]:
        """What the invoice service has recorded, by operation and invoice, as it tells them apart.

        A direct client may use the id of an order's operation as its key.
        """
        rows = self.invoice_look.rows("SELECT * FROM applied_operations")
        return {(row["op_id"], row["invoice_id"]): row for row in rows}

    def pending(self) -> list[dict[str, Any]]:
        return self.order_look.rows("SELECT * FROM operations WHERE state = 'pending'")

    def lock_keys(self) -> list[str]:
        """Keys of leases; fencelock keeps nothing else that is named after an order."""
        with redis.Redis.from_url(self.redis.url, decode_responses=True) as client:
            return sorted(client.scan_iter("*{*}*"))

    def differences(self) -> list[str]:
        """Where orders and invoices disagree, and where an operation's two ends do."""
        found = _compare(self.orders(), self.invoices())
        recorded = self.recorded()
        expected = {"committed": {"applied"}, "rejected": {"rejected", "aborted"}}
        for row in self.operations():
            if row["state"] == "pending":
                continue
            record = recorded.get((row["op_id"], row["invoice_id"]), {})
            outcome = record.get("outcome", "nothing")
            if outcome not in expected[row["state"]]:
                found.append(f"operation {row['op_id']} {row['state']} but {outcome}")
        return found + _gaps(self.operations())

    def wait_settled(self, *, timeout_seconds: float = 60.0) -> None:
        """Wait until no operation is pending."""
        wait_for(lambda: not self.pending(), timeout_seconds=timeout_seconds)

    def assert_true(self) -> None:
        """Nothing pending, nothing different."""
        self.wait_settled()
        assert self.differences() == []


def _compare(
    orders: dict[uuid.UUID, dict[str, Any]], invoices: dict[uuid.UUID, dict[str, Any]]
) -> list[str]:
    found = []
    for order_id in sorted(orders.keys() | invoices.keys()):
        here, there = orders.get(order_id), invoices.get(order_id)
        if here is None or there is None:
            found.append(f"order {order_id}: {'no order' if here is None else 'no invoice'}")
            continue
        found += [
            f"order {order_id}: {name} {here[name]} but {there[name]}"
            for name in ("version", "status", "total", "user_id")
            if here[name] != there[name]
        ]
    return found


def _gaps(operations: list[dict[str, Any]]) -> list[str]:
    versions: dict[uuid.UUID, list[int]] = {}
    for row in operations:
        if row["state"] == "committed":
            versions.setdefault(row["order_id"], []).append(row["version"])
    return [
        f"order {order_id}: versions {sorted(made)}"
        for order_id, made in versions.items()
        if sorted(made) != list(range(1, len(made) + 1))
    ]


class Look:
    """A way into one database that stays open: looking often must cost little."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[dict[str, Any]] | None = None

    def rows(self, statement: str) -> list[dict[str, Any]]:
        with self._lock:
            try:
                return self._execute(statement)
            except psycopg.OperationalError:  # the server was restarted meanwhile
                self.close()
                return self._execute(statement)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _execute(self, statement: str) -> list[dict[str, Any]]:
        if self._connection is None:
            self._connection = psycopg.connect(
                self._url, autocommit=True, row_factory=dict_row, connect_timeout=10
            )
        return self._connection.execute(statement).fetchall()


def wait_for(holds: Callable[[], object], *, timeout_seconds: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not holds():
        if time.monotonic() >= deadline:
            raise AssertionError(f"it did not happen within {timeout_seconds} s")
        time.sleep(0.05)


def now() -> str:
    return datetime.now(UTC).isoformat()


def new_order(*, quantity: int = 2, value: str = "9.50") -> dict[str, Any]:
    return {
        "user_id": str(uuid.uuid4()),
        "item_id": str(uuid.uuid4()),
        "quantity": quantity,
        "value": value,
    }


def create(service: Service, **members: Any) -> str:
    """Create an order and return its id."""
    answer = httpx.post(
        f"{service.url}/orders", json=new_order(**members), timeout=20.0, trust_env=False
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])
