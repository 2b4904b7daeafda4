"""What the servers have in common: a folder, a port and one process."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

from devkit.errors import DevkitError, DidNotStart, PortInUse
from devkit.ports import HOST, free_port, is_free
from devkit.processes import Process, tail

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.05
PORT_ATTEMPTS: Final = 5


class Server:
    """What both servers have in common: a folder, a port and one process."""

    name: str
    stop_signal: signal.Signals

    def __init__(self, folder: Path, *, port: int | None, inherit: Sequence[int] = ()) -> None:
        self.folder = folder.resolve()
        self.log = self.folder / "log"
        self._data = self.folder
        self._port = port
        self._fixed = port is not None
        self._inherit = inherit
        self._process: Process | None = None
        self._password = ""

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def host(self) -> str:
        """The address it listens on."""
        return HOST

    @property
    def port(self) -> int:
        """The port it listens on: the same from the first start on."""
        if self._port is None:
            raise DevkitError(f"{self.name} has no port before its first start.")
        return self._port

    @property
    def port_known(self) -> bool:
        """Whether it has been started, or was given a port."""
        return self._port is not None

    @property
    def password(self) -> str:
        """What its clients have to know; made once and kept in the folder."""
        return self._password

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.running

    @property
    def paused(self) -> bool:
        """Whether its process stands still, whoever stopped it; false where none can say."""
        return self._process is not None and self._process.paused

    @property
    def pid(self) -> int:
        """The process id of the server while it runs."""
        return 0 if self._process is None else self._process.pid

    def start(self, *, timeout_seconds: float = START_SECONDS) -> None:
        """Start it and return when it answers; on the same port as before.

        Raises:
            PortInUse: Something else listens on the port.
            DidNotStart: It ended, or gave no answer within ``timeout_seconds``.
            MissingTool: The program is not on this machine.
        """
        if self.running:
            return
        self.stop()  # gives back what an ended one has left open
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._password = _secret(self.folder / "password")
        deadline = time.monotonic() + timeout_seconds
        self._prepare(timeout_seconds)
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                self._launch(deadline)
            except PortInUse:
                if self._fixed or attempt == PORT_ATTEMPTS:
                    raise
                self._port = None  # somebody was quicker; another port is as good
            else:
                self._fixed = True
                return

    def stop(self, *, timeout_seconds: float = STOP_SECONDS) -> None:
        """Stop it in good order; it is killed when that takes too long."""
        if self._process is not None:
            self._process.stop(timeout_seconds=timeout_seconds)

    def kill(self) -> None:
        """Kill it as a crash would, with SIGKILL; returns when it is gone."""
        if self._process is not None:
            self._process.kill()

    def restart(self, *, timeout_seconds: float = START_SECONDS) -> None:
        """Stop it and start it again on the same port, with its data."""
        self.stop()
        self.start(timeout_seconds=timeout_seconds)

    def pause(self) -> None:
        """Freeze the server's main process with SIGSTOP."""
        if self._process is not None:
            self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        if self._process is not None:
            self._process.signal(signal.SIGCONT)

    def _prepare(self, timeout_seconds: float) -> None:
        """Write what the server needs to find before it starts."""

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def _user(self) -> tuple[int, int] | None:
        """Whom to run as: root works on a normal user's data as that user."""
        if os.geteuid() != 0:
            return None
        owner = self._data.stat() if self._data.exists() else self.folder.stat()
        return (owner.st_uid, owner.st_gid) if owner.st_uid != 0 else None

    def _launch(self, deadline: float) -> None:
        if self._port is None:
            self._port = free_port()
        if not is_free(self._port):
            raise PortInUse(f"Port {self._port} on {HOST} is in use, so {self.name} cannot start.")
        process = Process(
            self._command(),
            log=self.log,
            folder=self.folder,
            environment={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            user=self._user(),
            stop_signal=self.stop_signal,
            inherit=self._inherit,
        )
        self._process = process
        start_of_log = self.log.stat().st_size if self.log.exists() else 0
        process.start()
        if wait_until(lambda: not process.running or self._answers(), deadline) and process.running:
            return
        process.kill()
        with self.log.open(errors="replace") as log:
            log.seek(start_of_log)
            said = log.read()
        if "Address already in use" in said:
            raise PortInUse(f"Port {self._port} on {HOST} is in use, so {self.name} cannot start.")
        code = process.returncode
        reason = "gave no answer in time" if code == 128 + signal.SIGKILL else f"ended ({code})"
        raise DidNotStart(self.name, reason, log=self.log, tail=tail(self.log))


def wait_until(holds: Callable[[], bool], deadline: float) -> bool:
    """Poll until ``holds()``; False when the ``time.monotonic()`` deadline comes first."""
    while not holds():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _secret(path: Path) -> str:
    """The password kept in ``path``, made up if there is none."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(16))
    return path.read_text()
