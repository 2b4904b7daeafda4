"""The server in memory, with the faces that the contract tests know."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from fencelock import Kind
from fencelock.testing import Clock, FakeLockClient, FakeServer


class FakeClients:
    """Makes clients of one fake server, whose clock runs."""

    def __init__(self) -> None:
        self.server = FakeServer(Clock(runs=True))
        self.kind = Kind.EXCLUSIVE

    def make(self, **options: Any) -> FakeLockClient:
        known = {name: options[name] for name in ("ttl", "wait", "max_hold") if name in options}
        made = self.server.client(**{"ttl": 30.0, "wait": 60.0, **known})
        if self.kind != Kind.EXCLUSIVE:
            made.acquire = partial(made.acquire, kind=self.kind)  # type: ignore[method-assign]
            made.lock = partial(made.lock, kind=self.kind)  # type: ignore[method-assign]
        return made


class FakeAdmin:
    """Looks at the fake server as a plain client looks at a real one, and disturbs it."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server

    async def get(self, key: str) -> bytes | None:
        lease = self._server.holder(_name(key))
        return None if lease is None else f"{lease.request.owner} {lease.fence} -".encode()

    async def llen(self, key: str) -> int:
        return self._server.waiting(_name(key))

    async def delete(self, key: str) -> None:
        self._server.take_away(_name(key))

    async def flushall(self) -> None:
        self._server.lose_data()

    async def scan_iter(self, _: str) -> AsyncIterator[bytes]:
        for body in self._server._held:
            yield f"fencelock:l:{body}".encode()
        for ticket in self._server._line:
            yield f"fencelock:q:{ticket.request.names}".encode()


def _name(key: str) -> str:
    return key.split(":", 2)[2]
