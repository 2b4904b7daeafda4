"""For the tests of programs that lock: the same clients, on a server in memory.

::

    server = FakeServer()
    client = server.client()
    async with client.lock("order:{42}") as lease:
        server.clock.advance(60.0)  # the process was stopped for longer than its lease
        lease.check()  # raises LeaseLost

It keeps the contracts of a real server that can be seen from a client; the contract tests of this
library run against it, too. Nothing happens by itself: time stands still until it is turned.
"""

from fencelock.testing._client import FakeLease, FakeLockClient
from fencelock.testing._clock import Clock
from fencelock.testing._server import FakeServer

__all__ = ["Clock", "FakeLease", "FakeLockClient", "FakeServer"]
