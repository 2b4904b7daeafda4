"""What each connection to a database starts with, whatever the server's or the role's defaults are.

The protocol rests on it: a decision that is told has to be on the disk, a look after a conflict has
to see what the other has committed, no wait lasts for ever, and whoever was cut off in the middle
of a transaction leaves no row locked.
"""

from typing import Any, Final

_CONNECT_SECONDS: Final = 5
_STATEMENT_SECONDS: Final = 5.0
_LOCK_SECONDS: Final = 2.0


def parameters(
    *,
    statement_timeout_seconds: float = _STATEMENT_SECONDS,
    lock_timeout_seconds: float = _LOCK_SECONDS,
) -> dict[str, Any]:
    """Return the parameters of libpq that every connection is to be made with.

    Args:
        statement_timeout_seconds: limit for one statement, enforced by the server; an open
            transaction that sends none for twice as long is ended.
        lock_timeout_seconds: limit for one wait for a row's lock.
    """
    settings = {
        "statement_timeout": f"{round(statement_timeout_seconds * 1000)}ms",
        "lock_timeout": f"{round(lock_timeout_seconds * 1000)}ms",
        "idle_in_transaction_session_timeout": f"{round(statement_timeout_seconds * 2000)}ms",
        "synchronous_commit": "on",
        "default_transaction_isolation": r"read\ committed",
    }
    return {
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        "connect_timeout": _CONNECT_SECONDS,
        # A network that is gone says nothing: after half a minute a connection is.
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
    }
