"""The lock without the shop: three people, each a client of fencelock, and a few names."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import fencelock
from tools.playground import locks
from tools.playground.world import World

LEASE_SECONDS: Final = 5.0
WAIT_SECONDS: Final = 45.0
HOLD_SECONDS: Final = 60.0
CLOSE_SECONDS: Final = 3.0
COMMAND_SECONDS: Final = 20.0
REASON: Final = "broken on the playground's page"
GRANTS_KEPT: Final = 12
PEOPLE: Final = ("Ann", "Ben", "Cleo")
PRINTER: Final = "{office}:printer"
SCANNER: Final = "{office}:scanner"
DOCUMENT: Final = "{office}:document"
PHONES: Final = "{office}:phones"


@dataclass(frozen=True)
class Choice:
    """Something that a person can ask for."""

    names: tuple[str, ...]
    words: str
    """The same as a reader is told."""
    kind: fencelock.Kind = fencelock.Kind.EXCLUSIVE


CHOICES: Final[dict[str, Choice]] = {
    "printer": Choice((PRINTER,), "the printer"),
    "scanner": Choice((SCANNER,), "the scanner"),
    "both": Choice((PRINTER, SCANNER), "both"),
    "read": Choice((DOCUMENT,), "the document, to read", fencelock.Kind.SHARED),
    "write": Choice((DOCUMENT,), "the document, to write"),
    "phone": Choice((PHONES,), "one of two phones", fencelock.Kind.permits(2)),
}
THINGS: Final = {
    "printer": (PRINTER, "Printer", "One holder at a time."),
    "scanner": (SCANNER, "Scanner", "One holder at a time."),
    "document": (DOCUMENT, "Document", "Many may read it together; who writes it is alone."),
    "phones": (PHONES, "Two phones", "Two holders at a time."),
}
"""The locks themselves: name, label, and what kind each is."""


class NotNow(Exception):
    """What was asked for makes no sense in the person's state."""


@dataclass(frozen=True)
class Grant:
    """One time that somebody got a lock."""

    who: str
    what: str
    fence: int


@dataclass
class Person:
    """One client of the lock."""

    name: str
    client: fencelock.AsyncLockClient | None = None
    lease: fencelock.AsyncLease | None = None
    wanting: asyncio.Task[None] | None = None
    what: str = ""
    since: float = field(default_factory=time.monotonic)
    last: str = ""
    """What happened last, as a sentence."""

    @property
    def state(self) -> str:
        """Idle, waiting or holding."""
        if self.lease is not None:
            return "holding"
        return "waiting" if self.wanting is not None and not self.wanting.done() else "idle"


class People:
    """Hold, wait, let go and break."""

    def __init__(self, world: World, learn: Callable[[str, set[str]], None]) -> None:
        """Describe them.

        Args:
            world: Whose Redis they use.
            learn: Told who is behind which client ids.
        """
        self._world = world
        self._learn = learn
        self.people = {name: Person(name) for name in PEOPLE}
        self.grants: deque[Grant] = deque(maxlen=GRANTS_KEPT)
        self._breaking = asyncio.Lock()

    async def open(self) -> None:
        """Connect everybody, one after the other, so that each one's client id is known.

        Raises:
            fencelock.FencelockError: Redis cannot be reached.
        """
        async with self._world.redis_client() as redis:
            for person in self.people.values():
                before = await locks.clients(redis)
                person.client = fencelock.AsyncLockClient.from_url(
                    self._world.redis_url, ttl=LEASE_SECONDS, max_hold=HOLD_SECONDS
                )
                await person.client.start()
                self._learn(person.name, await locks.clients(redis) - before)

    async def close(self) -> None:
        """Let go of everything and disconnect."""
        await self.let_all_go()
        for person in self.people.values():
            if person.client is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(person.client.aclose(), CLOSE_SECONDS)

    def want(self, name: str, what: str, *, wait: bool) -> None:
        """Let a person ask for the lock, and stand in line for it or not.

        Raises:
            KeyError: There is no such person or thing.
            NotNow: They hold or want something already.
        """
        person, choice = self.people[name], CHOICES[what]
        if person.state != "idle":
            raise NotNow(f"{name} is {person.state} already.")
        person.what = what
        person.wanting = asyncio.create_task(self._take(person, choice, wait=wait))

    async def let_go(self, name: str) -> None:
        """Let a person release what they hold, or leave the line.

        Raises:
            KeyError: There is no such person.
        """
        person = self.people[name]
        if person.lease is not None:
            lease, person.lease = person.lease, None
            try:
                await lease.release()
                person.last = "let go."
            except fencelock.FencelockError as error:
                person.last = _sentence(error)
        elif person.wanting is not None:
            person.wanting.cancel()
            await asyncio.gather(person.wanting, return_exceptions=True)
            person.last = "left the line."

    async def let_all_go(self) -> None:
        """Let everybody release everything."""
        await asyncio.gather(*(self.let_go(name) for name in self.people))

    async def break_lock(self, thing: str) -> bool:
        """Take a lock away from whoever holds it, as an operator does: by ``fencelock break``.

        Returns:
            Whether somebody held it.

        Raises:
            KeyError: There is no such thing.
            NotNow: The command failed, or did not end in time.
        """
        if self._breaking.locked():
            raise NotNow("fencelock runs already. Wait a moment.")
        name, _, _ = THINGS[thing]
        async with self._breaking:
            return await self._fencelock("break", name, "--reason", REASON) == 0

    async def _fencelock(self, *arguments: str) -> int:
        """Run the lock's own command; 0, or 1 when nobody holds the name."""
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fencelock", *arguments),
            env={**os.environ, "FENCELOCK_URL": self._world.redis_url},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                _, complaint = await command.communicate()
        except TimeoutError as error:
            raise NotNow("fencelock did not end in time.") from error
        finally:
            if command.returncode is None:
                command.kill()
                await command.wait()
        if command.returncode not in {0, 1}:
            raise NotNow(complaint.decode(errors="replace").strip()[-300:])
        return command.returncode

    async def _take(self, person: Person, choice: Choice, *, wait: bool) -> None:
        assert person.client is not None  # noqa: S101  (opened before anybody can ask)
        person.last = "asks."
        try:
            lease = await person.client.acquire(
                *choice.names, wait=WAIT_SECONDS if wait else 0.0, kind=choice.kind
            )
        except fencelock.FencelockError as error:
            person.last = _sentence(error)
            return
        lease.on_lost(lambda reason: self._lost(person, lease, reason))
        person.lease = lease
        person.last = "got it."
        self.grants.append(Grant(person.name, person.what, lease.fence))

    def _lost(self, person: Person, lease: fencelock.AsyncLease, reason: str) -> None:
        if person.lease is lease:
            person.lease = None
            person.last = {
                "taken": "lost it: somebody broke the lock, or Redis forgot it.",
                "expired": "lost it: it could not be renewed in time.",
                "max_hold": "lost it: nobody holds for longer than a minute here.",
            }.get(reason, "lost it.")


def _sentence(error: fencelock.FencelockError) -> str:
    if isinstance(error, fencelock.Contended):
        return "did not get it: somebody else holds it."
    if isinstance(error, fencelock.AcquireTimeout):
        return "waited in vain."
    if isinstance(error, fencelock.RedisUnavailable):
        return "cannot reach Redis."
    return "lost it."
