"""Asks whether replicas have what was granted, where the URL wants that (``?replicas=1``).

WAIT holds up whatever its connection is told next, so it has one of its own, and those that are
granted something while it waits share the next question.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from fencelock import _protocol
from fencelock._clock import now
from fencelock._connection import Connection
from fencelock._errors import RedisUnavailable
from fencelock._protocol import Request, Term
from fencelock._scripts import Scripts

# Of the time for a reply: what WAIT may take, so that its answer comes in time.
WAIT_FRACTION = 0.8
# Why there was no answer is better to know than that there was none.
ANSWER_SECONDS = 0.02


class _Asked(NamedTuple):
    request: Request
    term: Term
    until: float
    done: "asyncio.Future[None]"


class Replication:
    """Says when replicas know of a lease."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: Connection,
        scripts: Scripts,
        replicas: int,
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._scripts = scripts
        self._replicas = replicas
        self._asked: list[_Asked] = []
        self._asking: asyncio.Task[None] | None = None

    async def confirm(self, request: Request, term: Term, limit: float) -> None:
        """Return when enough replicas know of a new lease, within ``limit`` seconds.

        Raises:
            RedisUnavailable: they did not say so in time, or the lease is gone; it is to be given
                back.
            ConfigurationError: the server does not let us ask.
        """
        until = min(now() + limit, term.deadline)
        done: asyncio.Future[None] = self._loop.create_future()
        self._asked.append(_Asked(request, term, until, done))
        if self._asking is None:
            task = self._loop.create_task(self._run(), name="fencelock-replication")
            self._asking = None if task.done() else task
        try:
            async with asyncio.timeout(max(0.0, until - now()) + ANSWER_SECONDS):
                await done
        except TimeoutError:
            names = ", ".join(request.names)
            raise RedisUnavailable(f"{names}: no replica confirmed the grant in time") from None

    async def close(self) -> None:
        """Ask no further, and disconnect."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        await self._connection.close()

    async def _run(self) -> None:
        batch: list[_Asked] = []
        try:
            while batch := self._next():
                try:
                    await self._ask(batch)
                except Exception as error:  # noqa: BLE001 (those who asked get it)
                    _fail(batch, error)
        finally:
            self._asking = None
            _fail([*batch, *self._asked], RedisUnavailable("the client was closed"))
            self._asked.clear()

    def _next(self) -> list[_Asked]:
        # Some have given up meanwhile.
        waiting = [each for each in self._asked if not each.done.done()]
        batch = next(_protocol.batches(waiting), [])
        self._asked = waiting[len(batch) :]
        return batch

    async def _ask(self, batch: Sequence[_Asked]) -> None:
        # The question writes what was granted once more, and WAIT counts who has seen that.
        moment = now()
        leases = [(each.request, each.term.next_ttl(moment)) for each in batch]
        # Who has less time than others gives up by itself, and takes nothing from them.
        until = max(each.until for each in batch)
        command = _protocol.renew(self._scripts, leases)
        limit = max(0.001, until - moment)
        answer, seen = await self._connection.witness(
            command, self._replicas, seconds=limit * WAIT_FRACTION, deadline=until
        )
        extended = _protocol.read_renew(answer.reply, len(leases))
        for each, (_, ttl), held in zip(batch, leases, extended, strict=True):
            if each.done.done():
                continue
            names = ", ".join(each.request.names)
            if not held:
                each.done.set_exception(RedisUnavailable(f"{names}: the grant did not last"))
            elif seen < self._replicas:
                each.done.set_exception(
                    RedisUnavailable(
                        f"{names}: {seen} of {self._replicas} replicas confirmed the grant in time"
                    )
                )
            else:
                each.term.start(answer.sent, ttl)
                each.done.set_result(None)


def _fail(batch: Sequence[_Asked], error: Exception) -> None:
    for each in batch:
        if not each.done.done():
            each.done.set_exception(error)
