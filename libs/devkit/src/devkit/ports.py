"""TCP ports on the loopback interface."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

HOST: Final = "127.0.0.1"
# Below the range that Linux (32768) and macOS (49152) take for outgoing connections: a port found
# free here is not taken by somebody's client a moment later, nor while its server is restarted.
RANGE: Final = range(15000, 32000)
ATTEMPTS: Final = 100


def is_free(port: int, *, host: str = HOST) -> bool:
    """Whether a server could listen on ``port`` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody listens on, chosen at random so that parallel runs rarely meet.

    Raises:
        OSError: None was found.
    """
    for _ in range(ATTEMPTS):
        port = random.choice(RANGE)  # noqa: S311  (nothing secret about it)
        if is_free(port):
            return port
    raise OSError(f"no free port among {ATTEMPTS} tried in {RANGE.start}-{RANGE.stop - 1}")


@contextmanager
def silent_port(host: str, port: int) -> Iterator[None]:
    """A port at which nobody is let in, and nobody is told so, until the body ends."""
    with socket.create_server((host, port), backlog=0), closing(socket.socket()) as first:
        first.connect((host, port))
        with closing(socket.socket()) as second:
            second.settimeout(0.0)
            second.connect_ex((host, port))
            yield
