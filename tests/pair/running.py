"""The box office and the hall as processes, and a look at what is in their databases."""

import itertools
import os
import re
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg
from psycopg.rows import dict_row
from tests.together.processes import POLL_SECONDS, Nursery

from devkit.ports import HOST, free_port
from devkit.servers import PostgresServer, RedisServer

SECONDS = 60.0
# Short, so that what a crash leaves behind is over soon.
LEASE_SECONDS = "2"
RECOVERY_SECONDS = "0.2"
NEVER = "3600"
_names = itertools.count(1)


class Program:
    """One service process; it keeps its port over restarts."""

    def __init__(
        self, nursery: Nursery, module: str, environment: dict[str, str], log: Path
    ) -> None:
        self._nursery = nursery
        self._module = module
        self._environment = environment
        self._log = log
        self._pid = 0
        self._status: int | None = 0
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"

    def start(self, **more: str) -> Self:
        environment = {**self._environment, **more}
        self._pid = self._nursery.start(self._module, [str(self.port)], environment, self._log)
        self._status = None
        deadline = time.monotonic() + SECONDS
        while not self._answers():
            if self.ended() or time.monotonic() > deadline:
                raise AssertionError(f"{self._module} is not ready:\n{self._log.read_text()}")
            time.sleep(POLL_SECONDS)
        return self

    def kill(self) -> None:
        if not self.ended():
            os.kill(self._pid, signal.SIGKILL)
            self._status = self._nursery.wait(self._pid)

    def ended(self) -> bool:
        if self._status is None:
            self._status = self._nursery.exit_status(self._pid)
        return self._status is not None

    def has_hit(self, point: str) -> bool:
        """Whether a failpoint has acted."""
        return f"failpoint={point}" in plain(self._log.read_text(errors="replace"))

    def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        return httpx.request(method, self.url + path, timeout=30.0, trust_env=False, **more)

    def _answers(self) -> bool:
        try:
            return self.send("GET", "/openapi.json").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


class Pair:
    """One hall and any number of box offices."""

    def __init__(
        self,
        folder: Path,
        *,
        nursery: Nursery,
        postgres: PostgresServer,
        redis: RedisServer,
        box_office: str = "examples.box_office.tickets",
    ) -> None:
        self._folder = folder
        self._nursery = nursery
        self._redis = redis.url
        self._box_office = box_office
        run = uuid.uuid4().hex[:8]
        self._tickets = postgres.create_database(f"tickets_{run}")
        self._seats = postgres.create_database(f"seats_{run}")
        self._programs: list[Program] = []
        self.hall = self._program("examples.box_office.seats", SEATS_DATABASE_URL=self._seats)
        self.survivor = self.office()

    def __enter__(self) -> Self:
        self.hall.start()
        self.survivor.start()
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._programs:
            program.kill()

    def office(self) -> Program:
        """One more box office, not started."""
        return self._program(
            self._box_office,
            TICKETS_DATABASE_URL=self._tickets,
            SEATS_URL=self.hall.url,
            LOCK_TTL_SECONDS=LEASE_SECONDS,
            RECOVERY_SECONDS=RECOVERY_SECONDS,
        )

    def sold(self, seat: str | None = None) -> str:
        """Sell a ticket and return its id."""
        body = {"seat": seat or f"S{next(_names)}", "holder": "Ada"}
        answer = self.survivor.send("POST", "/tickets", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def pending(self) -> int:
        return len(self.rows(self._tickets, "SELECT 1 FROM operations WHERE state = 'pending'"))

    def effects(self, key: str) -> int:
        """How many committed operations a key has led to."""
        statement = (
            "SELECT 1 FROM operations JOIN idempotency_keys USING (op_id)"
            f" WHERE idempotency_key = '{key}' AND state = 'committed'"
        )
        return len(self.rows(self._tickets, statement))

    def differences(self) -> list[str]:
        """Where the box office and the hall disagree."""
        ours = self.rows(
            self._tickets,
            "SELECT id, version, seat, CASE WHEN returned THEN NULL ELSE holder END AS holder"
            " FROM tickets WHERE version > 0",
        )
        theirs = self.rows(
            self._seats,
            "SELECT id, version, seat, CASE status WHEN 'deleted' THEN NULL ELSE holder END"
            " AS holder FROM seats",
        )
        return sorted(
            {str(sorted(row.items())) for row in ours}
            ^ {str(sorted(row.items())) for row in theirs}
        )

    def wait_settled(self) -> None:
        wait_for(lambda: not self.pending())

    def rows(self, url: str, statement: str) -> list[dict[str, Any]]:
        with psycopg.connect(url, row_factory=dict_row, connect_timeout=30) as connection:
            return connection.execute(statement.encode()).fetchall()

    def _program(self, module: str, **environment: str) -> Program:
        log = self._folder / f"{module}-{next(_names)}.log"
        log.touch()
        environment["REDIS_URL"] = self._redis
        program = Program(self._nursery, module, environment, log)
        self._programs.append(program)
        return program


def plain(text: str) -> str:
    """A log without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(POLL_SECONDS)
