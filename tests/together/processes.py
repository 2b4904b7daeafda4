"""Services as processes: started in a moment, ready before they are used, killed when wanted."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from devkit.ports import HOST, free_port

READY_SECONDS = 60.0
POLL_SECONDS = 0.02
NURSERY = Path(__file__).with_name("nursery.py")


class Nursery:
    """The process that all services are forked from."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, str(NURSERY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def start(
        self,
        program: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        descriptors: int | None = None,
    ) -> int:
        return int(
            self._ask(
                {
                    "do": "start",
                    "program": program,
                    "arguments": list(arguments),
                    "environment": dict(environment),
                    "log": str(log),
                    "descriptors": descriptors,
                }
            )
        )

    def wait(self, pid: int, *, timeout_seconds: float = 30.0) -> int:
        deadline = time.monotonic() + timeout_seconds
        while (status := self.exit_status(pid)) is None:
            if time.monotonic() >= deadline:
                raise AssertionError(f"process {pid} still runs")
            time.sleep(POLL_SECONDS)
        return status

    def exit_status(self, pid: int) -> int | None:
        status: int | None = self._ask({"do": "poll", "pid": pid})
        return status

    def _ask(self, request: dict[str, Any]) -> Any:
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


@dataclass
class Service:
    """One service process; it keeps its port over restarts."""

    nursery: Nursery
    name: str
    environment: dict[str, str]
    log: Path
    port: int = field(default_factory=free_port)
    pid: int = 0
    status: int | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def running(self) -> bool:
        if self.pid and self.status is None:
            self.status = self.nursery.exit_status(self.pid)
        return bool(self.pid) and self.status is None

    def start(
        self,
        *,
        failpoints: str = "",
        ready: bool = True,
        descriptors: int | None = None,
        **more: str,
    ) -> Self:
        """Start it, with settings on top of its own, by their names in the environment.

        ``descriptors`` is how many files the system lets it have open.
        """
        prefix = self.name.upper()
        environment = {
            **self.environment,
            f"{prefix}_HOST": HOST,
            f"{prefix}_PORT": str(self.port),
            f"{prefix}_METRICS_PORT": "0",
            f"{prefix}_LOG_FORMAT": "json",
            f"{prefix}_FAILPOINTS": failpoints,
            **more,
        }
        self.status = None
        self.pid = self.nursery.start(
            self.name, ["serve"], environment, self.log, descriptors=descriptors
        )
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        with httpx.Client(base_url=self.url, trust_env=False, timeout=5.0) as client:
            while not _answers(client):
                if not self.running or time.monotonic() >= deadline:
                    said = self.log.read_text(errors="replace")[-3000:]
                    raise AssertionError(f"{self.name} is not ready ({self.status}):\n{said}")
                time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wait_ended(self, *, timeout_seconds: float = 30.0) -> int:
        deadline = time.monotonic() + timeout_seconds
        while self.running:
            if time.monotonic() >= deadline:
                raise AssertionError(f"{self.name} still runs")
            time.sleep(POLL_SECONDS)
        assert self.status is not None
        return self.status

    def log_size(self) -> int:
        """How many bytes it has logged."""
        return self.log.stat().st_size if self.log.exists() else 0

    def events(self, *, since: int = 0) -> list[dict[str, Any]]:
        """What it has logged since its log had a size."""
        if not self.log.exists():
            return []
        with self.log.open("rb") as log:
            log.seek(since)
            return [
                json.loads(line) for line in log if line.startswith(b"{") and line.endswith(b"}\n")
            ]

    def _end(self, number: signal.Signals) -> None:
        if self.running:
            os.kill(self.pid, number)
            self.wait_ended()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
