"""What this client owes the server: releases that are not confirmed yet.

Each is sent at once if there is a connection, and again on the next one, before anything else,
until the server has answered. So a lock that nobody wants, or a ticket of somebody who gave up,
does not outlive an outage.

A replica that takes over may not know of the last ones that its master confirmed: those are sent
once more.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import hiredis

from fencelock import _protocol
from fencelock._clock import now
from fencelock._cluster import ClusterConnection
from fencelock._connection import Connection
from fencelock._errors import ConfigurationError, RedisUnavailable
from fencelock._link import Link, Reply
from fencelock._protocol import Command

logger = logging.getLogger("fencelock")

# A ticket may stay for as long as others keep its line alive; give up some time.
TICKET_SECONDS = 3600.0
RETRY_SECONDS_FIRST = 0.05
RETRY_SECONDS_MAX = 1.0
MAX_DEBTS = 100_000
# Sentinels tell of a replica that takes over a second or two after they promoted it. Not more
# releases are remembered, since they go ahead of everything else on a new connection.
RECALLED_SECONDS = 5.0
RECALLED_MAX = 2000


@dataclass(slots=True)
class _Debt:
    command: Command
    until: float
    """The moment at which the server will have forgotten it by itself."""
    in_flight: bool = False


class _Paid(NamedTuple):
    owner: str
    command: Command
    at: float
    until: float


class Debts:
    """Releases that have to be made."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: Callable[[], Connection | ClusterConnection],
        on_paid: Callable[[], None],
        *,
        replicated: bool = False,
    ) -> None:
        """Owe nothing yet; ``replicated`` if another server may take over from the one there is."""
        self._loop = loop
        self._connection = connection
        self._on_paid = on_paid
        self._owed: dict[str, _Debt] = {}
        self._replicated = replicated
        self._paid: deque[_Paid] = deque(maxlen=RECALLED_MAX)
        self._retrying = False
        self._retrier: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._owed)

    def owe(self, owner: str, command: Command, seconds: float) -> None:
        """Make this release happen, ahead of whatever is sent later, within ``seconds``."""
        if self._closed:
            return
        if len(self._owed) >= MAX_DEBTS:
            self._owed.pop(next(iter(self._owed)))
        debt = self._owed[owner] = _Debt(command, now() + seconds)
        sent = self._connection().send_now(command)
        if sent is None:
            self._retry()
        else:
            self._await(owner, debt, sent)

    def forgive(self, owner: str) -> None:
        """Nothing of this owner can have reached the server: there is nothing to release."""
        debt = self._owed.get(owner)
        if debt is not None and not debt.in_flight:
            del self._owed[owner]
            self._on_paid()

    def paid(self, owner: str, command: Command, seconds: float) -> None:
        """A release was made of what otherwise ends within ``seconds``."""
        if self._replicated:
            moment = now()
            self._paid.append(_Paid(owner, command, moment, moment + seconds))

    def recall(self) -> None:
        """The server is gone: make the last releases again, at whichever comes next."""
        if self._closed:
            return
        moment = now()
        for each in self._paid:
            if moment < min(each.at + RECALLED_SECONDS, each.until):
                self._owed.setdefault(each.owner, _Debt(each.command, each.until))
        self._paid.clear()
        if self._owed:
            self._retry()

    async def pay(self, link: Link) -> None:
        """A new connection is there: send everything before anybody else sends anything."""
        futures = []
        for owner, debt in self._current():
            if not debt.in_flight and self._connection().serves(link, debt.command):
                sent = asyncio.ensure_future(self._connection().evaluate(link, debt.command))
                self._await(owner, debt, sent)
                futures.append(sent)
        if futures:
            await asyncio.wait(futures)

    async def close(self) -> None:
        """Try no further."""
        self._closed = True
        if self._retrier is not None:
            self._retrier.cancel()
            await asyncio.wait([self._retrier])

    def _await(self, owner: str, debt: _Debt, sent: asyncio.Future[Reply]) -> None:
        debt.in_flight = True

        def answered(future: asyncio.Future[Reply]) -> None:
            debt.in_flight = False
            if _settled(future):
                if self._owed.get(owner) is debt:
                    del self._owed[owner]
                    self._on_paid()
            else:
                self._retry()

        sent.add_done_callback(answered)

    def _current(self) -> Iterator[tuple[str, _Debt]]:
        moment = now()
        for owner, debt in list(self._owed.items()):
            if moment < debt.until:
                yield owner, debt
            else:
                del self._owed[owner]
                self._on_paid()

    def _retry(self) -> None:
        if self._retrying or self._closed:
            return
        self._retrying = True
        task = self._loop.create_task(self._persist(), name="fencelock-undo")
        self._retrier = None if task.done() else task

    async def _persist(self) -> None:
        pause = RETRY_SECONDS_FIRST
        connection = self._connection()
        try:
            while self._owed:
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_SECONDS_MAX)
                try:
                    # On a new connection everything is paid before this returns.
                    links = await connection.links(deadline=now() + RETRY_SECONDS_MAX)
                except (RedisUnavailable, ConfigurationError) as error:
                    logger.debug("%d releases wait for the server: %s", len(self._owed), error)
                    continue
                for link in links:
                    await self.pay(link)
        finally:
            self._retrying = False
            self._retrier = None


def _settled(future: asyncio.Future[Reply]) -> bool:
    if future.cancelled() or future.exception() is not None:
        return False
    reply = future.result()
    if isinstance(reply, hiredis.ReplyError):
        return False
    try:
        return _protocol.read_release(reply)[1]
    except RedisUnavailable:
        return False
