"""Exit codes, and which error leads to which. Where sysexits.h has a code for it, it is that."""

from enum import IntEnum

from redis.exceptions import (
    AuthenticationError,
    ConnectionError,  # noqa: A004 (redis-py's name)
    NoPermissionError,
    RedisError,
    TimeoutError,  # noqa: A004 (redis-py's name)
)

from fencelock._errors import (
    ConfigurationError,
    CrossSlot,
    FencelockError,
    InvalidName,
    LeaseLost,
    LockNotAcquired,
    RedisUnavailable,
)


class Exit(IntEnum):
    """What the command says to whoever started it."""

    OK = 0
    NOT_FOUND = 1
    """`show`, `break`: nobody holds the name. `doctor`: something has to be changed."""
    USAGE = 2
    UNAVAILABLE = 69
    UNWRITTEN = 74
    NOT_ACQUIRED = 75
    LEASE_LOST = 76
    CONFIGURATION = 78
    CANNOT_EXECUTE = 126
    NO_SUCH_COMMAND = 127
    SIGNALLED = 128
    """Plus the number of the signal."""


# The most specific first.
_OF_ERROR: tuple[tuple[type[Exception], Exit], ...] = (
    (InvalidName, Exit.USAGE),
    (CrossSlot, Exit.USAGE),
    (LockNotAcquired, Exit.NOT_ACQUIRED),
    (LeaseLost, Exit.LEASE_LOST),
    (ConfigurationError, Exit.CONFIGURATION),
    (RedisUnavailable, Exit.UNAVAILABLE),
    (FencelockError, Exit.UNAVAILABLE),
    (AuthenticationError, Exit.CONFIGURATION),
    (NoPermissionError, Exit.CONFIGURATION),
    (ConnectionError, Exit.UNAVAILABLE),
    (TimeoutError, Exit.UNAVAILABLE),
    (RedisError, Exit.UNAVAILABLE),
)
EXPECTED = (FencelockError, RedisError)
UNREACHED = (ConnectionError, TimeoutError)


def code_of(error: Exception) -> Exit:
    """The exit code for one of the :data:`EXPECTED` errors."""
    return next(code for kind, code in _OF_ERROR if isinstance(error, kind))
