"""What can go wrong, as one tree.

FencelockError
├── LockNotAcquired      the lock was not granted; nothing is held
│   ├── Contended        somebody holds it and ``wait`` was 0
│   └── AcquireTimeout   waited for ``wait`` seconds in vain
├── LeaseLost            it was held, and ended before it was released
├── StaleFence           a later holder has written the row: see fencelock.guard
├── NotOwner             a release or a proof of something that is not held
├── RedisUnavailable     no answer, or a refusal, from the server in time
├── ConfigurationError   the client or the server is set up in a way that is not safe
├── InvalidName          a lock name outside the rules
└── CrossSlot            names that a Redis Cluster would keep on different nodes
"""

__all__ = [
    "AcquireTimeout",
    "ConfigurationError",
    "Contended",
    "CrossSlot",
    "FencelockError",
    "InvalidName",
    "LeaseLost",
    "LockNotAcquired",
    "NotOwner",
    "RedisUnavailable",
    "StaleFence",
]


class FencelockError(Exception):
    """Root of every error that this library raises on purpose."""


class LockNotAcquired(FencelockError):
    """The lock was not granted; nothing is held and nothing is queued."""


class Contended(LockNotAcquired):
    """Somebody else holds the lock, or is queued for it, and ``wait`` was 0."""


class AcquireTimeout(LockNotAcquired):
    """The lock did not become free within ``wait`` seconds."""


class LeaseLost(FencelockError):
    """The lease ended before it was released: what ran under it may not be alone."""


class StaleFence(FencelockError):
    """A guarded write was refused: somebody with a newer fence has written the row."""


class NotOwner(FencelockError):
    """The lease is not, or no longer, the holder; or the proof is malformed or has expired."""


class RedisUnavailable(FencelockError):
    """The server could not be reached, did not answer in time, or refused the command."""

    reached: bool = True
    """Whether a request may have reached the server, so that something may need to be undone."""


class ConfigurationError(FencelockError):
    """The client or the server is configured in a way that cannot be safe."""

    reached: bool = True
    """Whether a request may have reached the server, so that something may need to be undone."""


class InvalidName(FencelockError, ValueError):
    """The lock name is empty, too long, or has characters that are not allowed."""


class CrossSlot(FencelockError, ValueError):
    """The names live in different Redis Cluster slots, so no single script can take them all."""
