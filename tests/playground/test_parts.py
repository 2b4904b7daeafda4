"""A part that somebody else has ended is seen, and comes back."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from tools.playground.parts import Database, Part, State
from tools.playground.wires import Wire, WireLoop
from tools.playground.world import keep_all

from devkit.servers import PostgresServer


async def test_a_database_whose_server_was_killed_comes_back(
    tmp_path: Path, until: Callable[[Callable[[], bool]], None]
) -> None:
    with (
        PostgresServer(tmp_path) as server,
        WireLoop() as loop,
        Wire(loop, port=server.port) as wire,
    ):
        starting = threading.Lock()
        names = ("orders-db", "invoices-db")
        first, second = (
            Database(name, name, wire=wire, server=server, starting=starting) for name in names
        )
        assert first.state is State.UP
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: first.state is State.DOWN)
        await first.heal()
        await second.heal()
        assert (first.state, second.state) == (State.UP, State.UP)
        psycopg.connect(server.url(), connect_timeout=10).close()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells it")
async def test_a_database_whose_server_was_stopped_goes_on(
    postgres_server: PostgresServer, until: Callable[[Callable[[], bool]], None]
) -> None:
    with WireLoop() as loop, Wire(loop, port=postgres_server.port) as wire:
        database = Database(
            "orders-db", "Orders", wire=wire, server=postgres_server, starting=threading.Lock()
        )
        try:
            os.kill(postgres_server.pid, signal.SIGSTOP)
            until(lambda: database.state is State.PAUSED)
            await database.heal()
            until(lambda: database.state is State.UP)
        finally:
            os.kill(postgres_server.pid, signal.SIGCONT)


class Leaning(Part):
    """A part that comes back only when another one has."""

    def __init__(self, name: str, *, needs: "Leaning | None" = None) -> None:
        super().__init__(name, name)
        self.up = threading.Event()
        self.needs = needs
        self._heals_at = 0.0

    @property
    def state(self) -> State:
        return State.UP if self.up.is_set() else State.DOWN

    def _mend(self) -> None:
        if self.needs is not None:
            assert self.needs.up.wait(30.0)
        self.up.set()


async def test_a_part_that_waits_for_another_holds_nothing_up() -> None:
    database = Leaning("database")
    service = Leaning("service", needs=database)
    database._heals_at = asyncio.get_running_loop().time() + 0.5  # later than the service
    keeping = asyncio.create_task(keep_all([service, database]))
    assert await asyncio.to_thread(service.up.wait, 30.0)
    assert database.state is State.UP
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
