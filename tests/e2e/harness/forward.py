"""Ports of this machine that lead into the cluster."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from devkit.processes import Process, tail

LISTENING: Final = re.compile(r"^Forwarding from 127\.0\.0\.1:(\d+) ->", re.MULTILINE)
LOOK_SECONDS: Final = 0.05
PAUSE_SECONDS: Final = 0.5


class ForwardFailed(Exception):
    """``kubectl port-forward`` did not listen in time; carries what it said."""


class PortForward:
    """``kubectl port-forward``, kept up for as long as this object is open.

    kubectl chooses the local port and this reads it from the output. When the way drops, as it
    does with the pod at its other end, it is opened again on the same local port. The program is
    stopped when the object is closed and when this process ends, in whatever manner.
    """

    def __init__(
        self,
        target: str,
        port: int,
        *,
        kubectl: Sequence[str],
        log: Path,
        ready_seconds: float = 60.0,
    ) -> None:
        """Describe the way; nothing runs yet.

        Args:
            target: What kubectl forwards to, such as ``pod/order-0`` or ``service/order``.
            port: The port there.
            kubectl: The program and what it needs to find the cluster and the namespace.
            log: File for its output.
            ready_seconds: How long one start may take until the port is open.
        """
        self._target, self._remote_port = target, port
        self._kubectl, self._log, self._ready_seconds = tuple(kubectl), log, ready_seconds
        self._port = 0
        self._ready, self._closing = threading.Event(), threading.Event()
        self._failure: ForwardFailed | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Open it."""
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def address(self) -> str:
        """Where to reach it, as host:port; the same for as long as it is open."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The same as the URL of a service."""
        return f"http://{self.address}"

    def open(self) -> None:
        """Start it, and return once the port is open.

        Raises:
            ForwardFailed: It was not in time.
        """
        self._thread = threading.Thread(target=self._keep_up, daemon=True)
        self._thread.start()
        try:
            self.wait_ready(timeout_seconds=self._ready_seconds + 5)
        except ForwardFailed:
            self.close()
            raise

    def wait_ready(self, *, timeout_seconds: float) -> None:
        """Return once the port is open (again).

        Raises:
            ForwardFailed: It was not in time.
        """
        if not self._ready.wait(timeout_seconds) or self._failure is not None:
            raise self._failure or self._failed(f"not ready in {timeout_seconds} s")

    def close(self) -> None:
        """End the program; does nothing when it has ended already."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _keep_up(self) -> None:
        while not self._closing.is_set():
            seen = self._log.stat().st_size if self._log.exists() else 0
            with Process(self._command(), log=self._log) as process:
                self._attend(process, seen)
                process.kill()
            self._ready.clear()
            if self._port == 0 and not self._closing.is_set():
                self._failure = self._failed("ended before its port was open")
                self._ready.set()
                return
            self._closing.wait(PAUSE_SECONDS)

    def _command(self) -> list[str]:
        ports = f"{self._port or ''}:{self._remote_port}"
        address = ("--address", "127.0.0.1")
        return [*self._kubectl, "port-forward", *address, self._target, ports]

    def _attend(self, process: Process, seen: int) -> None:
        """Announce the port of a started program, and return when the program is over."""
        deadline = time.monotonic() + self._ready_seconds
        while process.running and not self._closing.wait(LOOK_SECONDS):
            if self._ready.is_set():
                continue
            if listening := LISTENING.search(self._said(seen)):
                self._port = int(listening[1])
                self._ready.set()
            elif time.monotonic() >= deadline:
                return

    def _said(self, start: int) -> str:
        with contextlib.suppress(FileNotFoundError), self._log.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")
        return ""

    def _failed(self, reason: str) -> ForwardFailed:
        return ForwardFailed(f"{' '.join(self._command())}: {reason}\n{tail(self._log)}")
