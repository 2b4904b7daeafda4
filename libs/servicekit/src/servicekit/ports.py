"""Listening sockets, and one clear line when a port cannot be had."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager


class PortInUse(Exception):
    """A port cannot be listened on; the message says which and what to do."""


@contextmanager
def port_in_use(host: str, port: int) -> Iterator[None]:
    """Turn the operating system's refusal to listen into ``PortInUse``."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = (
                f"port {port} on {host} is in use: stop the program that listens there, "
                "or choose another port"
            )
        else:
            message = f"cannot listen on {host} port {port}: {error.strerror}"
        raise PortInUse(message) from error


def listen(host: str, port: int, *, backlog: int = 2048) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises:
        PortInUse: the port cannot be had.
    """
    with port_in_use(host, port):
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(backlog)
        except OSError:
            listener.close()
            raise
    listener.settimeout(0)
    return listener
