"""The parts of the shop: each can be broken, and comes back by itself or when asked."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from devkit.errors import DevkitError
from devkit.processes import Process
from devkit.servers import PostgresServer, RedisServer
from devkit.shop import wait_ready
from tools.playground.wires import Wire

HEAL_SECONDS: Final = 12.0
"""How long a broken part stays broken unless somebody brings it back earlier."""
PAUSE_SECONDS: Final = 8.0


class State(StrEnum):
    """How a part is."""

    UP = "up"
    PAUSED = "paused"
    DOWN = "down"
    STARTING = "starting"


class Part:
    """One part of the shop. Its methods are for one event loop and exclude each other."""

    actions: tuple[str, ...] = ()
    """What can be done to break it."""

    def __init__(self, name: str, label: str) -> None:
        self.name = name
        self.label = label
        self._heals_at: float | None = None
        self._exclusive = asyncio.Lock()

    @property
    def state(self) -> State:
        """How it is now."""
        raise NotImplementedError

    @property
    def heals_in_seconds(self) -> float | None:
        """When it will come back by itself; None while it is up."""
        return None if self._heals_at is None else max(0.0, self._heals_at - time.monotonic())

    @property
    def busy(self) -> bool:
        """Whether it is being broken, started or brought back."""
        return self._exclusive.locked()

    async def do(self, action: str, *, heals_in_seconds: float | None = None) -> None:
        """Break it in one of the ways it offers.

        Args:
            action: What to do to it.
            heals_in_seconds: When it comes back by itself; a usual time by default.

        Raises:
            KeyError: It does not offer that.
        """
        if action not in self.actions:
            raise KeyError(action)
        async with self._exclusive:
            if self.state is State.UP:
                await asyncio.to_thread(self._break, action)
                self._note()
                if heals_in_seconds is not None:
                    self._heals_at = time.monotonic() + heals_in_seconds

    async def heal(self) -> None:
        """Bring it back; nothing happens when it is up.

        Raises:
            DevkitError: It did not come back.
        """
        async with self._exclusive:
            if self.state in {State.PAUSED, State.DOWN}:
                await asyncio.to_thread(self._mend)
            self._heals_at = None

    async def keep(self) -> None:
        """Notice that it has ended, and bring it back when it is time."""
        if self._exclusive.locked():
            return
        self._note()
        if self._heals_at is not None and time.monotonic() >= self._heals_at:
            try:
                await self.heal()
            except (DevkitError, OSError):  # tried again: the page shows that it is down
                self._heals_at = time.monotonic() + HEAL_SECONDS

    def interrupt(self) -> None:
        """End a start that is under way: everything is being stopped."""

    def _note(self) -> None:
        state = self.state
        if state in {State.UP, State.STARTING}:
            self._heals_at = None
        elif self._heals_at is None:
            pause = PAUSE_SECONDS if state is State.PAUSED else HEAL_SECONDS
            self._heals_at = time.monotonic() + pause

    def _break(self, action: str) -> None:
        raise NotImplementedError

    def _mend(self) -> None:
        raise NotImplementedError


class Service(Part):
    """A service process; it is started anew with other failpoints at will."""

    actions = ("kill", "pause")

    def __init__(
        self,
        name: str,
        label: str,
        *,
        url: str,
        make: Callable[[str], Process],
        process: Process,
    ) -> None:
        """Take over a service that runs.

        Args:
            name: What the page calls it in its requests.
            label: What a person reads.
            url: Where it answers.
            make: Makes its process with failpoints; it is not started.
            process: The one that runs now.
        """
        super().__init__(name, label)
        self.url = url
        self._make = make
        self.process = process
        self._paused = False
        self._starting = False
        self.usual_failpoints = ""
        """What it is started with when it comes back."""

    @property
    def state(self) -> State:
        """How it is now."""
        if self._starting:
            return State.STARTING
        if not self.process.running:
            return State.DOWN
        return State.PAUSED if self._paused or self.process.paused else State.UP

    async def restart(self, failpoints: str | None = None) -> None:
        """Start it anew, with these failpoints or the usual ones; return when it is ready.

        Raises:
            DidNotStart: It is not ready.
        """
        async with self._exclusive:
            chosen = self.usual_failpoints if failpoints is None else failpoints
            await asyncio.to_thread(self._start, chosen)
            self._heals_at = None

    def has_hit(self, point: str) -> bool:
        """Whether a failpoint has acted since the last start; the log, which starts anew, says."""
        if not self.process.log.exists():
            return False
        log = self.process.log.read_text(errors="replace")
        return any("failpoint_hit" in line and point in line for line in log.splitlines())

    def interrupt(self) -> None:
        """End a start that is under way."""
        if self._starting:
            self.process.kill()

    def _break(self, action: str) -> None:
        if action == "kill":
            self.process.kill()
        else:
            self.process.signal(signal.SIGSTOP)
            self._paused = True

    def _mend(self) -> None:
        if self.state is State.PAUSED:
            self.process.signal(signal.SIGCONT)
            self._paused = False
        else:
            self._start(self.usual_failpoints)

    def _start(self, failpoints: str) -> None:
        self._starting = True
        try:
            self.process.kill()
            self.process = self._make(failpoints)
            self._paused = False
            self.process.start()
            wait_ready(self.label, self.process, self.url)
        finally:
            self._starting = False


class Redis(Part):
    """The server that keeps the locks."""

    actions = ("stop", "pause")

    def __init__(self, server: RedisServer) -> None:
        super().__init__("redis", "Redis")
        self._server = server
        self._paused = False

    @property
    def state(self) -> State:
        """How it is now."""
        if not self._server.running:
            return State.DOWN
        return State.PAUSED if self._paused or self._server.paused else State.UP

    def _break(self, action: str) -> None:
        if action == "stop":
            self._server.stop()
        else:
            self._server.pause()
            self._paused = True

    def _mend(self) -> None:
        self._server.resume()
        self._paused = False
        self._server.start()


class Database(Part):
    """One service's database, behind the wire that its service uses."""

    actions = ("cut",)

    def __init__(
        self,
        name: str,
        label: str,
        *,
        wire: Wire,
        server: PostgresServer,
        starting: threading.Lock,
    ) -> None:
        """Take over a database; ``starting`` is for all databases of the same server."""
        super().__init__(name, label)
        self._wire = wire
        self._server = server
        self._starting = starting

    @property
    def state(self) -> State:
        """How it is, as its service sees it."""
        if not self._wire.whole or not self._server.running:
            return State.DOWN
        return State.PAUSED if self._server.paused else State.UP

    def _break(self, action: str) -> None:
        del action
        self._wire.cut()

    def _mend(self) -> None:
        with self._starting:
            self._server.resume()
            self._server.start()  # nothing of ours ends it, but somebody may have
        self._wire.mend()
