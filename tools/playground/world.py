"""The shop of the playground: its servers, the wires before them, and a second order service."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, Self

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from devkit.errors import DevkitError
from devkit.layout import Layout
from devkit.ports import HOST, free_port
from devkit.processes import Process
from devkit.progress import Progress
from devkit.servers import PostgresServer, RedisServer
from devkit.shop import Shop, wait_ready
from tools.playground import locks
from tools.playground.parts import Database, Part, Redis, Service
from tools.playground.steps import LEASE_SECONDS, slow_motion
from tools.playground.wires import Wire, WireLoop

KEEP_SECONDS: Final = 0.25
DATABASES: Final = ("orders", "invoices", "control_orders", "control_invoices")
SETTINGS: Final = {
    "ORDER_LOCK_TTL_SECONDS": str(LEASE_SECONDS),
    "ORDER_LOCK_WAIT_SECONDS": "5",
    "ORDER_INVOICE_TIMEOUT_SECONDS": "2",
    "ORDER_RECONCILE_INTERVAL_SECONDS": "0.5",
}
REDIS_SECONDS: Final = 0.5


async def keep_all(parts: Iterable[Part]) -> None:
    """Keep each part on its own: a service that starts may wait for a database to come back."""
    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(_keep(part))


async def _keep(part: Part) -> None:
    while True:
        await part.keep()
        await asyncio.sleep(KEEP_SECONDS)


class World:
    """Everything that runs beside the page, started by it and stopped with it."""

    def __init__(
        self,
        folder: Path,
        layout: Layout,
        *,
        progress: Progress,
        durable: bool = False,
        inherit: Sequence[int] = (),
        settings: Mapping[str, str] | None = None,
        traces_url: str = "",
    ) -> None:
        """Describe it; nothing runs yet.

        Args:
            folder: Where the servers' data and all logs are kept.
            layout: The ports of the services.
            progress: Told about each step.
            durable: Whether the data shall survive the machine.
            inherit: File descriptors of ours that stay open until every process has ended.
            settings: More environment variables for the services.
            traces_url: Where a trace is shown, up to its id; empty for nowhere.

        Raises:
            DevkitError: The layout names servers that somebody else started.
        """
        if layout.order_database_url or layout.invoice_database_url or layout.redis_url:
            raise DevkitError(
                "The playground breaks only what it started itself: unset ORDER_DATABASE_URL, "
                "INVOICE_DATABASE_URL and REDIS_URL."
            )
        self._folder = folder.resolve()
        self.layout = layout
        self._progress = progress
        self._inherit = inherit
        self._settings = dict(settings or {})
        self.traces_url = traces_url
        self._durable = durable
        self._postgres = PostgresServer(folder / "postgres", durable=durable, inherit=inherit)
        self._redis = RedisServer(folder / "redis", durable=durable, inherit=inherit)
        self._programs = itertools.count(1)
        self._running = ExitStack()
        self.slow = True
        """Whether the order services rest at some steps, so that a person can follow."""
        self.first_clients: set[str] = set()
        """Ids of the lock's clients that were there before the second order service."""

    def __enter__(self) -> Self:
        """Start everything; return when all services are ready.

        Raises:
            DevkitError: Something is missing or did not start.
        """
        with ExitStack() as stack:
            self._start_servers(stack)
            self._start_shop(stack)
            self.first_clients = asyncio.run(self._clients())
            self._start_replica(stack)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything."""
        self._running.close()

    @property
    def parts(self) -> Mapping[str, Part]:
        """Every part that can be broken, by name."""
        parts = (
            self.order_a,
            self.order_b,
            self.invoice,
            self.redis,
            self.orders_database,
            self.invoices_database,
        )
        return {part.name: part for part in parts}

    @property
    def order_environment(self) -> dict[str, str]:
        """The settings that the first order service runs with, for others that join it."""
        return {**self._shop.environment("order"), "ORDER_FAILPOINTS": ""}

    def database_url(self, name: str) -> str:
        """How to reach a database past the wires."""
        return self._postgres.url(name)

    @property
    def redis_url(self) -> str:
        """How to reach the Redis that keeps the locks."""
        return self._redis.url

    def redis_client(self) -> redis.asyncio.Redis:
        """A client for looking and wiping: it gives up after half a second."""
        return redis.asyncio.Redis.from_url(
            self._redis.url,
            decode_responses=True,
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    def process(
        self, module: str, arguments: Sequence[str], settings: Mapping[str, str]
    ) -> Process:
        """A program of ours in the world's folder, not started; it ends with the world."""
        log = self._folder / f"{module.rpartition('.')[2]}-{next(self._programs)}.log"
        log.unlink(missing_ok=True)
        return Process(
            [sys.executable, "-m", module, *arguments],
            log=log,
            environment={**os.environ, **settings},
            inherit=self._inherit,
        )

    async def keep(self) -> None:
        """Bring broken parts back in time, until cancelled."""
        await keep_all(self.parts.values())

    async def mend(self) -> None:
        """Bring everything back now, databases and Redis first.

        Raises:
            DevkitError: Something did not come back.
        """
        await asyncio.gather(
            self.redis.heal(), self.orders_database.heal(), self.invoices_database.heal()
        )
        await asyncio.gather(self.invoice.heal(), self.order_a.heal(), self.order_b.heal())

    async def set_pace(self, *, slow: bool) -> None:
        """Let the order services rest at some steps, or not; both are started anew.

        Raises:
            DidNotStart: One did not come back.
        """
        if slow == self.slow:
            return
        self.slow = slow
        for service in (self.order_a, self.order_b):
            service.usual_failpoints = self._usual()
            await service.restart()

    def interrupt(self) -> None:
        """End starts that are under way, so that stopping need not wait for them."""
        for part in self.parts.values():
            part.interrupt()

    async def _clients(self) -> set[str]:
        async with self.redis_client() as client:
            return await locks.clients(client)

    def _usual(self) -> str:
        return slow_motion() if self.slow else ""

    def _start_servers(self, stack: ExitStack) -> None:
        self.layout.check()
        with self._progress.step("PostgreSQL") as step:
            stack.enter_context(self._postgres)
            step.name = f"PostgreSQL on {HOST}:{self._postgres.port}"
            for database in set(DATABASES) - self._postgres.databases():
                self._postgres.create_database(database)
        with self._progress.step("Redis") as step:
            stack.enter_context(self._redis)
            step.name = f"Redis on {HOST}:{self._redis.port}"
        self.redis = Redis(self._redis)
        wires = stack.enter_context(WireLoop())
        self._order_wire = stack.enter_context(Wire(wires, port=self._postgres.port))
        self._invoice_wire = stack.enter_context(Wire(wires, port=self._postgres.port))
        of_server = partial(Database, server=self._postgres, starting=threading.Lock())
        self.orders_database = of_server("orders-db", "Orders database", wire=self._order_wire)
        self.invoices_database = of_server(
            "invoices-db", "Invoices database", wire=self._invoice_wire
        )

    def _start_shop(self, stack: ExitStack) -> None:
        wired = replace(
            self.layout,
            order_database_url=self._wired("orders", self._order_wire),
            invoice_database_url=self._wired("invoices", self._invoice_wire),
            redis_url=self._redis.url,
        )
        self._shop = Shop(
            self._folder,
            wired,
            progress=self._progress,
            durable=self._durable,
            inherit=self._inherit,
            settings={**self._settings, **SETTINGS, "ORDER_FAILPOINTS": self._usual()},
        )
        stack.enter_context(self._shop)
        self.order_a = self._service("order-a", "order", "Order service A", self.layout.order_url)
        self.invoice = self._service(
            "invoice", "invoice", "Invoice service", self.layout.invoice_url
        )
        self.order_a.usual_failpoints = self._usual()

    def _service(self, name: str, service: str, label: str, url: str) -> Service:
        """A service that the shop started, and will stop whichever process is the last."""

        def make(failpoints: str) -> Process:
            variable = f"{service.upper()}_FAILPOINTS"
            settings = {**self._shop.environment(service), variable: failpoints}
            self._shop.services[service] = self._shop.service(service, settings)
            return self._shop.services[service]

        return Service(name, label, url=url, make=make, process=self._shop.services[service])

    def _start_replica(self, stack: ExitStack) -> None:
        port, metrics_port = free_port(), free_port()
        url = f"http://{HOST}:{port}"

        def make(failpoints: str) -> Process:
            settings = {
                **self._shop.environment("order"),
                "ORDER_PORT": str(port),
                "ORDER_METRICS_PORT": str(metrics_port),
                "ORDER_FAILPOINTS": failpoints,
            }
            return self._shop.service("order", settings, log="order-b")

        with self._progress.step(f"A second order service on {url}"):
            self.order_b = Service(
                "order-b", "Order service B", url=url, make=make, process=make(self._usual())
            )
            stack.callback(lambda: self.order_b.process.stop())  # noqa: PLW0108  (the last one)
            self.order_b.usual_failpoints = self._usual()
            self.order_b.process.start()
            wait_ready(self.order_b.label, self.order_b.process, url)

    def _wired(self, database: str, wire: Wire) -> str:
        direct = self._postgres.url(database)
        return direct.replace(f":{self._postgres.port}/", f":{wire.port}/")


@contextmanager
def stopping(world: World) -> Iterator[None]:
    """Whatever ends the body, starts that are under way are ended with it."""
    try:
        yield
    finally:
        world.interrupt()
