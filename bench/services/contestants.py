"""The contestants: pairs of services, all on the same PostgreSQL and the same Redis."""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final, Self

import httpx
import psutil
import psycopg
from rich.console import Console

from bench.services import bare, floor
from devkit.layout import Layout
from devkit.ports import HOST, free_port
from devkit.processes import Process, tail
from devkit.progress import Progress
from devkit.servers import PostgresServer, RedisServer
from devkit.shop import Shop

READY_SECONDS: Final = 30.0
CONNECTIONS: Final = "400"


class Contestant(ABC):
    """One pair of services."""

    name: str

    @abstractmethod
    def __enter__(self) -> Self:
        """Start it; return when it answers."""

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """Stop it."""

    @property
    @abstractmethod
    def port(self) -> int:
        """Where its order service listens."""

    @abstractmethod
    def pids(self) -> Mapping[str, int]:
        """Its processes by name."""


class Pair(Contestant):
    """Two small services, written for this benchmark."""

    def __init__(self, module: ModuleType, servers: Servers) -> None:
        self.name = module.__name__.rsplit(".", 1)[-1]
        self._module = module
        self._servers = servers
        self._ports = {"order": free_port(), "invoice": free_port()}
        self._processes: dict[str, Process] = {}

    def __enter__(self) -> Self:
        """Make its databases and start both services."""
        for service, tables in (("invoice", self._module.INVOICES), ("order", self._module.ORDERS)):
            url = self._servers.postgres.create_database(f"{self.name}_{service}")
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(tables)
            self._processes[service] = self._process(service, url)
            self._processes[service].start()
        for service, process in self._processes.items():
            _wait_ready(self._ports[service], process)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop both services."""
        for process in reversed(self._processes.values()):
            process.stop()

    @property
    def port(self) -> int:
        """Where its order service listens."""
        return self._ports["order"]

    def pids(self) -> Mapping[str, int]:
        """Its processes by name."""
        return {service: process.pid for service, process in self._processes.items()}

    def _process(self, service: str, url: str) -> Process:
        return Process(
            [sys.executable, "-m", self._module.__name__, service],
            log=self._servers.folder / f"{self.name}-{service}.log",
            environment={
                **os.environ,
                "BENCH_PORT": str(self._ports[service]),
                "BENCH_DATABASE_URL": url,
                "BENCH_REDIS_URL": self._servers.redis.url,
                "BENCH_INVOICE_URL": f"http://{HOST}:{self._ports['invoice']}",
            },
        )


class TheShop(Contestant):
    """The shop itself, as ``make up`` runs it."""

    def __init__(
        self, servers: Servers, *, name: str = "shop", settings: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._servers = servers
        self._settings = settings or {}
        self._layout = Layout.on_free_ports()

    def __enter__(self) -> Self:
        """Migrate its databases and start both services."""
        postgres = self._servers.postgres
        layout = Layout(
            ports=self._layout.ports,
            order_database_url=postgres.create_database(f"{self.name}_order"),
            invoice_database_url=postgres.create_database(f"{self.name}_invoice"),
            redis_url=self._servers.redis.url,
        )
        self._shop = Shop(
            self._servers.folder / self.name,
            layout,
            progress=Progress(Console(quiet=True)),
            settings=self._settings,
        )
        self._shop.folder.mkdir(parents=True, exist_ok=True)
        self._shop.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop both services."""
        self._shop.stop()

    @property
    def port(self) -> int:
        """Where its order service listens."""
        return self._layout.ports["ORDER_PORT"]

    def pids(self) -> Mapping[str, int]:
        """Its processes by name."""
        return {service: process.pid for service, process in self._shop.services.items()}


class Null(Contestant):
    """The server that does nothing."""

    name = "null"

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._process = Process(
            [sys.executable, "-m", "bench.services.null", str(self._port)], log=folder / "null.log"
        )

    def __enter__(self) -> Self:
        """Start it."""
        self._process.start()
        _wait_ready(self._port, self._process)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self._process.stop()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def pids(self) -> Mapping[str, int]:
        """Its process."""
        return {"null": self._process.pid}


class Servers:
    """The one PostgreSQL and the one Redis that everybody uses."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.folder = folder
        self.postgres = PostgresServer(
            folder / "postgres", durable=durable, settings={"max_connections": CONNECTIONS}
        )
        self.redis = RedisServer(folder / "redis")

    def cpu(self, contestant: Contestant) -> dict[str, float]:
        """The CPU seconds that each process has used so far."""
        found = {name: used_seconds(pid) for name, pid in contestant.pids().items()}
        found["redis"] = used_seconds(self.redis.pid)
        found["postgres"] = used_seconds(self.postgres.pid, *_children(self.postgres.pid))
        return found


@contextmanager
def everybody(
    folder: Path, names: list[str], *, durable: bool
) -> Iterator[tuple[Servers, dict[str, Contestant]]]:
    """Start the servers and the contestants of these names, ``null`` included."""
    servers = Servers(folder, durable=durable)
    null = Null(folder)
    made: dict[str, Contestant] = {
        "shop": TheShop(servers),
        "traced": TheShop(servers, name="traced", settings=_tracing(null)),
        "floor": Pair(floor, servers),
        "bare": Pair(bare, servers),
        "null": null,
    }
    with ExitStack() as stack:
        for server in (servers.postgres, servers.redis):
            stack.enter_context(server)
        chosen = {name: made[name] for name in ["null", *names]}
        for contestant in chosen.values():
            stack.enter_context(contestant)
        yield servers, chosen


def _tracing(null: Null) -> dict[str, str]:
    """Every request sampled and sent, to somebody who throws it away."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{null.port}",
        "OTEL_TRACES_SAMPLER": "always_on",
    }


def _wait_ready(port: int, process: Process) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            httpx.get(f"http://{HOST}:{port}/docs", trust_env=False)
        except httpx.TransportError:
            if not process.running or time.monotonic() >= deadline:
                raise RuntimeError(f"a contestant did not start:\n{tail(process.log)}") from None
            time.sleep(0.05)
        else:
            return


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def used_seconds(*pids: int) -> float:
    """CPU seconds of processes; one that has ended counts no more."""
    seconds = 0.0
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds += times.user + times.system
    return seconds
