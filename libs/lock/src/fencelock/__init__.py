"""A distributed lock on Redis with a fence on every grant.

::

    client = fencelock.AsyncLockClient.from_url("redis://localhost")
    async with client.lock("order:{42}", "invoice:{42}", ttl=10.0, wait=2.0) as lease:
        await storage.write(row, fence=lease.fence)

Threads have the same in :class:`LockClient`, without ``async`` and ``await``.

The errors are one tree:

::

    FencelockError
    ├── LockNotAcquired      the lock was not granted; nothing is held
    │   ├── Contended        somebody holds it and ``wait`` was 0
    │   └── AcquireTimeout   waited for ``wait`` seconds in vain
    ├── LeaseLost            it was held, and ended before it was released
    ├── StaleFence           a later holder has written the row: see :mod:`fencelock.guard`
    ├── NotOwner             a release or a proof of something that is not held
    ├── RedisUnavailable     no answer, or a refusal, from the server in time
    ├── ConfigurationError   the client or the server is set up in a way that is not safe
    ├── InvalidName          a lock name outside the rules
    └── CrossSlot            names that a Redis Cluster would keep on different nodes
"""

from fencelock._blocking_client import LockClient
from fencelock._blocking_lease import Lease, Lock
from fencelock._client import AsyncLockClient
from fencelock._engine import Verified
from fencelock._errors import (
    AcquireTimeout,
    ConfigurationError,
    Contended,
    CrossSlot,
    FencelockError,
    InvalidName,
    LeaseLost,
    LockNotAcquired,
    NotOwner,
    RedisUnavailable,
    StaleFence,
)
from fencelock._instrumentation import Instrumentation, Observation, Subject
from fencelock._kinds import Kind
from fencelock._lease import AsyncLease
from fencelock._lock import AsyncLock

__all__ = [
    "AcquireTimeout",
    "AsyncLease",
    "AsyncLock",
    "AsyncLockClient",
    "ConfigurationError",
    "Contended",
    "CrossSlot",
    "FencelockError",
    "Instrumentation",
    "InvalidName",
    "Kind",
    "Lease",
    "LeaseLost",
    "Lock",
    "LockClient",
    "LockNotAcquired",
    "NotOwner",
    "Observation",
    "RedisUnavailable",
    "StaleFence",
    "Subject",
    "Verified",
]
