"""Looks at everything several times a second, while somebody watches."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

import redis

from tools.playground import locks
from tools.playground.control import Books, Control, Pair
from tools.playground.crowd import Crowd
from tools.playground.customers import Customers
from tools.playground.parts import Service, State
from tools.playground.people import CHOICES, THINGS, People
from tools.playground.people import LEASE_SECONDS as PERSON_LEASE_SECONDS
from tools.playground.scenes import Director, Run
from tools.playground.steps import LEASE_SECONDS
from tools.playground.tables import ORDERS_SHOWN, VERSIONS_SHOWN, Row, Stored, Tables, Unreadable
from tools.playground.world import World

LOOK_SECONDS: Final = 0.15
LEARN_SECONDS: Final = 0.5
KEEP_ALIVE_SECONDS: Final = 5.0
MAXIMUM_STREAMS: Final = 16

Snapshot = dict[str, Any]


class TooManyWatching(Exception):
    """No more streams can be opened."""


class Holders:
    """Who is behind the ids of fencelock's clients.

    A client's id is not in anybody's settings. It is learnt when a process has just started: the
    one id that is new then is its own.
    """

    def __init__(self, world: World) -> None:
        """Describe it; it knows nobody yet."""
        self._world = world
        self._labels: dict[str, str] = {}
        self._pids: dict[str, int] = {}
        self.present: set[str] = set()

    def learn(self, label: str, ids: set[str]) -> None:
        """Take note of whose ids these are."""
        self._labels |= dict.fromkeys(ids, label)

    def label(self, client: str, lock: str) -> str:
        """Who it is, as a person reads it."""
        known = self._labels.get(client)
        if known is None:
            known = "a lock-alone process" if lock.startswith("control-") else "an order service"
        if self.present and client not in self.present:
            return f"{known} (its process is gone)"
        return known

    async def look(self, client: redis.asyncio.Redis) -> None:
        """See who is new, and whose it must be.

        Raises:
            redis.RedisError: There was no answer.
        """
        self.present = await locks.clients(client)
        unknown = {each for each in self.present if each not in self._labels}
        fresh = [service for service in self._services() if self._is_fresh(service)]
        if len(unknown) == 1 and len(fresh) == 1:
            self.learn(fresh[0].label, unknown)
            self._pids[fresh[0].name] = fresh[0].process.pid

    async def begin(self, client: redis.asyncio.Redis, *, first: set[str]) -> None:
        """Learn who is there at the start; ``first`` were there before the second service."""
        self.present = await locks.clients(client)
        self.learn(self._world.order_a.label, first)  # the invoice service takes no lock
        self.learn(self._world.order_b.label, self.present - first)
        self._pids = {service.name: service.process.pid for service in self._services()}

    def _services(self) -> tuple[Service, ...]:
        return self._world.order_a, self._world.order_b

    def _is_fresh(self, service: Service) -> bool:
        return service.state is State.UP and self._pids.get(service.name) != service.process.pid


class Observer:
    """Makes a picture of everything, and hands it to whoever watches."""

    def __init__(
        self,
        *,
        world: World,
        tables: Tables,
        customers: Customers,
        control: Control,
        director: Director,
        people: People,
        holders: Holders,
        crowd: Crowd,
        since: datetime,
    ) -> None:
        """Take everything that is looked at; ``since`` is when the page was opened first."""
        self._world = world
        self._tables = tables
        self._customers = customers
        self._control = control
        self._director = director
        self._people = people
        self._holders = holders
        self._crowd = crowd
        self._since = since
        self._redis = world.redis_client()
        self._changed = asyncio.Condition()
        self._watching = 0
        self._stored: Stored | None = None
        self._books: Books | None = None
        self.snapshot: Snapshot = {}
        self._number = 0
        self._ended = False

    async def close(self) -> None:
        """Close the connection to Redis."""
        await self._redis.aclose()

    async def end(self) -> None:
        """End every stream."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def look(self) -> None:
        """Look again and again while somebody watches, until cancelled."""
        while True:
            if self._watching:
                await self._take()
                await asyncio.sleep(LOOK_SECONDS)
            else:
                await self._learn()
                await asyncio.sleep(LEARN_SECONDS)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Be counted as somebody who watches.

        Raises:
            TooManyWatching: Sixteen do already.
        """
        if self._watching >= MAXIMUM_STREAMS:
            raise TooManyWatching(f"{MAXIMUM_STREAMS} pages are open already. Close one.")
        self._watching += 1
        try:
            yield
        finally:
            self._watching -= 1

    async def events(self) -> AsyncIterator[bytes]:
        """Pictures as server-sent events: one at once, and one whenever something has changed."""
        seen = 0
        if self.snapshot:
            seen = self._number
            yield _event(self.snapshot)
        while not self._is_over():
            try:
                async with asyncio.timeout(KEEP_ALIVE_SECONDS), self._changed:
                    while not self._is_over() and self._number == seen:
                        await self._changed.wait()
            except TimeoutError:
                yield b"event: still\ndata: here\n\n"
                continue
            seen = self._number
            yield _event(self.snapshot)

    def _is_over(self) -> bool:
        return self._ended

    async def _learn(self) -> None:
        try:
            await self._holders.look(self._redis)
        except redis.RedisError:
            self._holders.present = set()

    async def _take(self) -> None:
        snapshot = await self._picture()
        if _lasting(snapshot) == _lasting(self.snapshot) and not snapshot["locks"]["held"]:
            return
        async with self._changed:
            self._number += 1
            self.snapshot = snapshot
            self._changed.notify_all()

    async def _picture(self) -> Snapshot:
        await self._learn()
        locked, _ = await asyncio.gather(self._locks(), self._read())
        return {
            "at": round(time.time() * 1000),
            "pace": "slow" if self._world.slow else "full",
            "parts": self._parts(),
            "shop": self._shop(),
            "locks": locked,
            "operations": self._operations(),
            "counts": vars(self._customers.counts).copy(),
            "answers": self._answers(),
            "control": self._control_view(),
            "tour": self._tour(),
            "people": self._people_view(),
            "crowd": dict(self._crowd.view()),
        }

    async def _read(self) -> None:
        try:
            toured = self._director.order_ids
            self._stored = await self._tables.read(self._since, also=toured)
            self._books = await self._control.books()
            self._customers.settle(await self._tables.outcomes(list(self._customers.open)))
        except Unreadable:
            self._stored = None  # the page says that it cannot see

    async def _locks(self) -> dict[str, Any]:
        try:
            held = await locks.read(self._redis)
            fence = await locks.last_fence(self._redis)
        except redis.RedisError:
            return {"readable": False, "held": [], "fence": None}
        return {
            "readable": True,
            "fence": None if fence is None else str(fence),
            "held": [self._lock(lock) for lock in held],
        }

    def _lock(self, lock: locks.Lock) -> dict[str, Any]:
        ours = any(lock.name == name for name, _, _ in THINGS.values())
        return {
            "name": lock.name,
            "kind": lock.kind,
            "holders": [
                {
                    "who": self._holders.label(holder.client, lock.name),
                    "fence": str(holder.fence),
                    "remaining_ms": holder.remaining_ms,
                }
                for holder in lock.holders
            ],
            "lease_ms": round((PERSON_LEASE_SECONDS if ours else LEASE_SECONDS) * 1000),
            "waiters": [self._holders.label(waiter, lock.name) for waiter in lock.waiters],
        }

    def _parts(self) -> list[dict[str, Any]]:
        return [
            {
                "name": part.name,
                "label": part.label,
                "state": part.state.value,
                "actions": list(part.actions),
                "heals_in": None if (left := part.heals_in_seconds) is None else round(left),
            }
            for part in self._world.parts.values()
        ]

    def _shop(self) -> dict[str, Any]:
        stored = self._stored
        if stored is None:
            empty: Snapshot = {"orders": [], "toured": [], "order_count": 0, "invoice_count": 0}
            return {"readable": False, **empty}
        invoices = {row["order_id"]: row for row in stored.invoices}
        toured = set(self._director.order_ids)
        return {
            "readable": True,
            "order_count": stored.order_count,
            "invoice_count": stored.invoice_count,
            "orders": [
                _order(row, invoices.get(row["id"]), stored) for row in stored.orders[:ORDERS_SHOWN]
            ],
            "toured": [
                _toured(row, invoices.get(row["id"]))
                for row in stored.orders
                if row["id"] in toured
            ],
        }

    def _operations(self) -> list[dict[str, Any]]:
        if self._stored is None:
            return []
        decided = {row["op_id"]: row for row in self._stored.decided}
        return [self._operation(row, decided.get(row["op_id"])) for row in self._stored.operations]

    def _operation(self, row: Row, decision: Row | None) -> dict[str, Any]:
        key = row["idempotency_key"]
        trace_id = self._customers.traces.get(key or "") or _trace_of(row["traceparent"])
        return {
            "id": str(row["op_id"]),
            "order_id": str(row["order_id"]),
            "kind": row["kind"],
            "version": row["version"],
            "state": row["state"],
            "recovered": self._was_recovered(row),
            "intent": _milliseconds(row["created_at"]),
            "decision": None if decision is None else _milliseconds(decision["created_at"]),
            "outcome": None if decision is None else decision["outcome"],
            "completion": _milliseconds(row["finished_at"]),
            "trace_id": trace_id,
        }

    def _was_recovered(self, row: Row) -> bool:
        """Whether somebody else has completed it: of our own requests their answers tell."""
        key = row["idempotency_key"]
        if row["finished_at"] is None:
            return False
        return (
            key in self._customers.healed if key in self._customers.traces else row["attempts"] > 0
        )

    def _answers(self) -> list[dict[str, Any]]:
        return [
            {
                "number": answer.number,
                "at": round(answer.at * 1000),
                "who": answer.who,
                "what": answer.what,
                "status": answer.status,
                "detail": answer.detail,
                "repeated": answer.repeated,
                "milliseconds": answer.milliseconds,
                "trace_id": answer.trace_id,
            }
            for answer in reversed(self._customers.answers)
        ]

    def _control_view(self) -> dict[str, Any]:
        books = self._books
        if books is None:
            return {"changes": 0, "lost": 0, "made_twice": 0, "orders": 0, "pairs": []}
        toured = set(self._director.control_ids)
        return {
            "changes": books.changes,
            "orders": len(books.pairs),
            "lost": books.lost,
            "made_twice": books.made_twice,
            "pairs": [_pair(pair) for pair in books.pairs if pair.order_id in toured],
        }

    def _tour(self) -> dict[str, Any]:
        director = self._director
        last = director.run
        return {
            "scene": None if last is None else last.scene,
            "playing": None if last is None or last.over else last.scene,
            "results": {name: vars(result) for name, result in director.results.items()},
            "runs": {name: _run(run) for name, run in director.runs.items()},
        }

    def _people_view(self) -> dict[str, Any]:
        return {
            "people": [
                {
                    "name": person.name,
                    "state": person.state,
                    "what": CHOICES[person.what].words if person.what else "",
                    "last": person.last,
                    "fence": None if person.lease is None else str(person.lease.fence),
                }
                for person in self._people.people.values()
            ],
            "grants": [
                {"who": grant.who, "what": CHOICES[grant.what].words, "fence": str(grant.fence)}
                for grant in reversed(self._people.grants)
            ],
        }


def _run(run: Run) -> dict[str, Any]:
    return {
        "lines": [{"side": side, "text": text} for side, text in run.lines],
        "failure": run.failure,
        "order_ids": run.order_ids,
        "control_ids": run.control_ids,
    }


def _toured(row: Row, invoice: Row | None) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "order": None if row["version"] == 0 else str(row["total"]),
        "invoice": None if invoice is None else str(invoice["total"]),
        "differs": _differs(row, invoice),
        "moving": row["pending_op"] is not None,
    }


def _order(row: Row, invoice: Row | None, stored: Stored) -> dict[str, Any]:
    made = {each["version"]: each for each in stored.versions if each["order_id"] == row["id"]}
    applied = {each["version"]: each for each in stored.applied if each["order_id"] == row["id"]}
    known = sorted(made.keys() | applied.keys())[-VERSIONS_SHOWN:]
    order = None if row["version"] == 0 else _side(row)
    return {
        "id": str(row["id"]),
        "order": None
        if order is None
        else {**order, "quantity": row["quantity"], "value": str(row["value"])},
        "invoice": None if invoice is None else _side(invoice),
        "pending": None if row["pending_op"] is None else str(row["pending_op"]),
        "differs": _differs(row, invoice),
        "versions": [_version(each, made.get(each), applied.get(each)) for each in known],
    }


def _side(row: Row) -> dict[str, Any]:
    return {"total": str(row["total"]), "status": row["status"], "version": row["version"]}


def _differs(row: Row, invoice: Row | None) -> bool:
    if invoice is None:
        return int(row["version"]) > 0
    return any(row[name] != invoice[name] for name in ("version", "total", "status"))


def _version(number: int, made: Row | None, applied: Row | None) -> dict[str, Any]:
    done = made is not None and made["state"] == "committed"
    same = made is not None and applied is not None and made["op_id"] == applied["op_id"]
    return {
        "version": number,
        "total": None if made is None else made["total"],
        "order": "done" if done else "pending" if made is not None else "missing",
        "invoice": "done" if applied is not None else "missing",
        "differs": not (done and same),
    }


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "id": str(pair.order_id),
        "order": None if pair.order is None else str(pair.order["total"]),
        "invoice": None if pair.invoice is None else str(pair.invoice["total"]),
        "wish": None if pair.order is None else str(pair.order["wish"]),
        "differs": pair.differs,
    }


def _trace_of(traceparent: str | None) -> str | None:
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) > 1 else None


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def _event(snapshot: Snapshot) -> bytes:
    return f"data: {json.dumps(snapshot, separators=(',', ':'))}\n\n".encode()


def _lasting(snapshot: Snapshot) -> Snapshot:
    """What of a picture is worth sending it for."""
    return {name: value for name, value in snapshot.items() if name != "at"}
