"""The box office and the hall as processes, and a look at what is in their databases."""

import asyncio
import itertools
import os
import re
import signal
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg
from examples.box_office import seats, tickets
from examples.box_office.shared import driver_url
from psycopg.rows import dict_row
from sqlalchemy import NullPool, Row
from sqlalchemy.ext.asyncio import create_async_engine
from tests.together.processes import POLL_SECONDS, Nursery

from devkit.ports import HOST, free_port
from devkit.servers import PostgresServer, RedisServer
from tandem.audit.comparison import Comparison
from tandem.audit.databases import HereInDatabase, ThereInDatabase
from tandem.audit.facts import Fact, Findings, Nouns
from tandem.testing.crashes import within

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
        # One client, since each reads the system's certificates; no connection outlives a process.
        self._http = httpx.Client(
            base_url=self.url,
            timeout=30.0,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

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

    def log_size(self) -> int:
        return self._log.stat().st_size

    def has_hit(self, point: str, *, since: int) -> bool:
        """Whether a failpoint has acted since the log had this size."""
        logged = self._log.read_bytes()[since:].decode(errors="replace")
        return f"failpoint={point}" in plain(logged)

    def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self._http.request(method, path, **more)

    def _answers(self) -> bool:
        try:
            self.send("GET", "/")
        except httpx.TransportError:
            return False
        return True

    def close(self) -> None:
        self.kill()
        self._http.close()


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
            program.close()

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
        """Sell a ticket and return its id; on a slow machine that takes several answers."""
        body = {"seat": seat or new_seat(), "holder": "Ada"}
        key = {"Idempotency-Key": str(uuid.uuid4())}
        answers: list[httpx.Response] = []

        def sold() -> bool:
            answers.append(self.survivor.send("POST", "/tickets", json=body, headers=key))
            return answers[-1].status_code == httpx.codes.CREATED

        assert within(SECONDS, sold), answers[-1].text
        return str(answers[-1].json()["id"])

    def pending(self) -> int:
        return len(self.rows(self._tickets, "SELECT 1 FROM operations WHERE state = 'pending'"))

    def states(self, key: str) -> list[str]:
        """The states of the operations that a key has led to."""
        statement = (
            "SELECT state FROM operations JOIN idempotency_keys USING (op_id)"
            f" WHERE idempotency_key = '{key}'"
        )
        return [row["state"] for row in self.rows(self._tickets, statement)]

    def differences(self, *, histories: bool = False) -> list[str]:
        """Where the box office and the hall disagree, and where their operations do."""
        found = asyncio.run(self._audit(histories=histories))
        return [f"{each.subject_id}: {each.detail}" for each in found.differences]

    async def _audit(self, *, histories: bool) -> Findings:
        engines = [
            create_async_engine(driver_url(url), poolclass=NullPool)
            for url in (self._tickets, self._seats)
        ]
        here = HereInDatabase(engines[0], tickets.SCHEMA, fact_of=sold_as)
        there = ThereInDatabase(
            engines[1],
            seats.seats,
            subject_id="id",
            fact_of=taken_as,
            decisions=[seats.decisions],
            own_id="ticket_id",
        )
        comparison = Comparison(
            here,
            there,
            nouns=Nouns("ticket", "seat"),
            outcomes=there if histories else None,
            pending_at_most=timedelta(seconds=SECONDS),
        )
        return await comparison.run()

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


def sold_as(ticket: Row[Any]) -> Fact:
    """What the box office says of a ticket."""
    return fact_of(ticket, free=ticket.returned)


def taken_as(seat: Row[Any]) -> Fact:
    """What the hall says of it."""
    return fact_of(seat, free=seat.status == "deleted")


def fact_of(row: Row[Any], *, free: bool) -> Fact:
    content = {"seat": row.seat, "holder": row.holder}
    return Fact(row.version, "free" if free else "taken", content)


def new_seat() -> str:
    """The name of a seat that is not taken."""
    return f"S{next(_names)}"


def plain(text: str) -> str:
    """A log without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
