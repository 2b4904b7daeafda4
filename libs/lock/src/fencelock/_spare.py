"""A connection that blocks whoever uses it: one command at a time, in the thread that wants it."""

import contextlib
import os
import socket

import hiredis

from fencelock._clock import now
from fencelock._link import Link, Reply, discard_unsent

_READ_BYTES = 65536


class Spare:
    """An open connection beside that of the event loop, to the same server as the same user."""

    def __init__(self, sock: socket.socket, identity: tuple[int, str], beside: Link) -> None:
        self.identity = identity
        """Under which id and address the server knows it."""
        self.beside = beside
        self._sock = sock
        self._seconds: float | None = None
        self._reader = hiredis.Reader()

    def ask(self, packed: bytes, seconds: float) -> Reply:
        """Send one command, packed, and wait for what the server says next.

        That may be an error; or news, that it dropped its data, after which no reply is awaited.

        Raises:
            OSError: none came within ``seconds``, or the connection broke.
            hiredis.HiredisError: it makes no sense.
        """
        end = now() + seconds
        if seconds != self._seconds:
            self._sock.settimeout(seconds)
            self._seconds = seconds
        self._sock.sendall(packed)
        while (reply := self._reader.gets()) is False:
            data = self._sock.recv(_READ_BYTES)
            if not data:
                raise ConnectionResetError("the server closed the connection")
            self._reader.feed(data)
            if now() >= end:
                raise TimeoutError("the reply came too late")
        return reply

    def __del__(self) -> None:
        """Who was interrupted may have lost it."""
        self._sock.close()

    def discard(self) -> None:
        """Drop the connection at once: what the system has not sent yet is never sent."""
        discard_unsent(self._sock)
        self._sock.close()

    def interrupt(self) -> None:
        """Let whoever waits for a reply fail now (called from another thread)."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def forsake(self) -> None:
        """Close only this process's descriptor: the connection is that of its parent."""
        with contextlib.suppress(OSError):
            os.close(self._sock.detach())
