"""The whole shop on one machine: its servers, migrations and both services."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

import httpx

from devkit.errors import DidNotStart
from devkit.layout import Layout
from devkit.ports import HOST
from devkit.processes import Process, tail
from devkit.progress import Progress
from devkit.servers import PostgresServer, RedisServer
from devkit.services import SERVICES

READY_SECONDS: Final = 180.0
MIGRATE_SECONDS: Final = 180.0
STOP_SECONDS: Final = 25.0
POLL_SECONDS: Final = 0.05


class Shop:
    """Both services, running on real servers, with all data and logs in one folder."""

    def __init__(
        self,
        folder: Path,
        layout: Layout,
        *,
        progress: Progress,
        durable: bool = False,
        inherit: Sequence[int] = (),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describe the shop; nothing runs yet.

        Args:
            folder: Where the servers' data and all logs are kept.
            layout: The ports, and the servers to use instead of our own.
            progress: Told about each step.
            durable: Whether the data shall survive the machine.
            inherit: File descriptors of ours that stay open until every process has ended.
            settings: More environment variables for both services.
        """
        self.folder = folder.resolve()
        self.layout = layout
        self._progress = progress
        self._inherit = inherit
        self._settings = dict(settings or {})
        self.postgres = PostgresServer(folder / "postgres", durable=durable, inherit=inherit)
        self.redis = RedisServer(folder / "redis", durable=durable, inherit=inherit)
        self.services: dict[str, Process] = {}
        self._urls: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Start everything; return when both services are ready."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything."""
        self.stop()

    def start(self) -> None:
        """Start everything; return when both services are ready.

        Raises:
            DevkitError: Something is missing or did not start.
        """
        self.layout.check()
        self._start_servers()
        with self._progress.step("Migrations applied"):
            self._migrate()
        self.services = {name: self.service(name, self.environment(name)) for name in SERVICES}
        for process in self.services.values():
            process.start()
        for name, url in (("invoice", self.layout.invoice_url), ("order", self.layout.order_url)):
            with self._progress.step(f"{name.capitalize()} service on {url}"):
                wait_ready(f"The {name} service", self.services[name], url)

    def stop(self) -> None:
        """Stop everything: first the service that calls the other, then what both need."""
        for name in reversed(SERVICES):
            if name in self.services:
                self.services[name].stop(timeout_seconds=STOP_SECONDS)
        self.redis.stop()
        self.postgres.stop()

    def ended(self) -> DidNotStart | None:
        """What has ended although nobody asked it to."""
        parts = [(f"The {name} service", process) for name, process in self.services.items()]
        for name, process in parts:
            if not process.running:
                reason = f"ended ({process.returncode})"
                return DidNotStart(name, reason, log=process.log, tail=tail(process.log))
        for server in (self.postgres, self.redis):
            if server.port_known and not server.running:
                return DidNotStart(server.name, "ended", log=server.log, tail=tail(server.log))
        return None

    def environment(self, service: str) -> dict[str, str]:
        """The settings a service runs with, on top of ours."""
        upper = service.upper()
        settings = {
            f"{upper}_HOST": HOST,
            f"{upper}_PORT": str(self.layout.ports[f"{upper}_PORT"]),
            f"{upper}_METRICS_PORT": str(self.layout.ports[f"{upper}_METRICS_PORT"]),
            f"{upper}_DATABASE_URL": self._urls[service],
            f"{upper}_REDIS_URL": self._urls["redis"],
        }
        if service == "order":
            settings["ORDER_INVOICE_URL"] = self.layout.invoice_url
        return settings | self._settings

    def service(
        self, name: str, settings: Mapping[str, str], *, command: str = "serve", log: str = ""
    ) -> Process:
        """A service's process with these settings, not started yet; its log starts empty."""
        path = self.folder / f"{log or name}.log"
        path.unlink(missing_ok=True)
        return Process(
            [sys.executable, "-m", name, command],
            log=path,
            folder=self.folder,
            environment={**os.environ, **settings},
            inherit=self._inherit,
        )

    def _start_servers(self) -> None:
        given = self.layout
        self._urls = {}
        if given.order_database_url is None or given.invoice_database_url is None:
            with self._progress.step("PostgreSQL") as step:
                self.postgres.start()
                step.name = f"PostgreSQL on {HOST}:{self.postgres.port}"
                for database in {"orders", "invoices"} - self.postgres.databases():
                    self.postgres.create_database(database)
                self._urls = {
                    "order": self.postgres.url("orders"),
                    "invoice": self.postgres.url("invoices"),
                }
        if given.redis_url is None:
            with self._progress.step("Redis") as step:
                self.redis.start()
                step.name = f"Redis on {HOST}:{self.redis.port}"
        self._urls |= {
            name: url
            for name, url in (
                ("order", given.order_database_url),
                ("invoice", given.invoice_database_url),
                ("redis", given.redis_url or self.redis.url),
            )
            if url is not None
        }

    def _migrate(self) -> None:
        with ThreadPoolExecutor(len(SERVICES)) as pool:
            list(pool.map(self._migrate_one, SERVICES))

    def _migrate_one(self, name: str) -> None:
        settings = self.environment(name)
        with self.service(name, settings, command="migrate", log=f"{name}-migrate") as process:
            code = process.wait(timeout_seconds=MIGRATE_SECONDS)
        if code != 0:
            raise DidNotStart(
                f"The migration of the {name} database",
                f"failed ({code})",
                log=process.log,
                tail=tail(process.log),
            )


def wait_ready(
    name: str, process: Process, url: str, *, timeout_seconds: float = READY_SECONDS
) -> None:
    """Wait until a service says that it is ready.

    Raises:
        DidNotStart: It ended, or was not ready within ``timeout_seconds``.
    """
    deadline = time.monotonic() + timeout_seconds
    with httpx.Client(base_url=url, trust_env=False, timeout=5.0) as client:
        while not _ready(client):
            if not process.running:
                reason = f"ended ({process.returncode})"
            elif time.monotonic() >= deadline:
                reason = f"was not ready within {timeout_seconds:.0f} seconds"
            else:
                time.sleep(POLL_SECONDS)
                continue
            raise DidNotStart(name, reason, log=process.log, tail=tail(process.log))


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
