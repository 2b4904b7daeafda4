"""A TCP proxy in front of Postgres that loses what a network can lose, right around a COMMIT."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit, urlunsplit

_CHUNK: Final = 65_536
# With its end, since a BEGIN may say READ COMMITTED.
_COMMIT: Final = b"COMMIT\0"
# The server is ready for the next request: idle, or inside a transaction.
_READY: Final = re.compile(rb"Z\x00\x00\x00\x05([ITE])")
# A statement that writes is a transaction by itself where none was begun. It comes as a message
# that parses it under a name or none, or as one that names what was parsed.
_PARSED: Final = re.compile(rb"P.{4}(\w*)\0(?:WITH|INSERT INTO|UPDATE|DELETE FROM) ", re.DOTALL)
_BOUND: Final = re.compile(rb"B.{4}\0(\w+)\0", re.DOTALL)


class Loss(StrEnum):
    """What happens to the next COMMIT, or to the next statement that is a transaction by itself."""

    REPLY_CUT = "reply_cut"
    """The server commits; the connection breaks before the client hears of it."""
    REQUEST_CUT = "request_cut"
    """The connection breaks before the server hears of it."""
    REPLY_SILENT = "reply_silent"
    """The server commits; the client hears nothing, on a connection that stays open."""
    REQUEST_LATE = "request_late"
    """The server hears of it only when ``deliver`` says so, though the client be gone by then."""


class DatabaseProxy:
    """Forwards bytes to one server, except for those that it is told to lose.

    Args:
        url: the server, as ``postgresql://...``.
    """

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._target = (self._parts.hostname or "127.0.0.1", self._parts.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._guard = threading.Lock()
        self._losses: list[Loss] = []
        self._after = b""
        self._dark_then = False
        self._sockets: set[socket.socket] = set()
        self._dark = threading.Event()
        self._delivered = threading.Event()
        self.lost = 0
        """How many COMMITs came to grief so far."""
        self.delivered = 0
        """How many requests that were held back the server has answered by now."""
        self.round_trips = 0
        """How often the server has said that it is ready for the next request."""
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The way to the same database through this proxy."""
        port = self._listener.getsockname()[1]
        credentials = self._parts.netloc.rpartition("@")[0]
        at = f"{credentials}@" if credentials else ""
        return urlunsplit(self._parts._replace(netloc=f"{at}127.0.0.1:{port}"))

    def lose(self, *losses: Loss, after: str = "", then_dark: bool = False) -> None:
        """Do this to the next COMMITs, one after the other.

        Args:
            losses: what to do.
            after: only in transactions that have sent this text.
            then_dark: go dark with the last of them.
        """
        with self._guard:
            self._losses.extend(losses)
            self._after = after.encode()
            self._dark_then = then_dark

    def forget(self) -> None:
        """Lose nothing more."""
        with self._guard:
            self._losses.clear()

    def deliver(self) -> None:
        """Let the server have every request that is held back by now."""
        delivered, self._delivered = self._delivered, threading.Event()
        delivered.set()

    def wait_for_delivery(self) -> None:
        """Return when the next delivery lets a request go on."""
        self._delivered.wait()

    def go_dark(self, *, dark: bool = True) -> None:
        """Keep connections open and forward nothing until told otherwise."""
        (self._dark.set if dark else self._dark.clear)()

    def close(self) -> None:
        """Break every connection and take no more."""
        self._listener.close()
        with self._guard:
            sockets = list(self._sockets)
        for each in sockets:
            _break(each)
        self.deliver()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, timeout=10)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self._guard:
            self._sockets |= {client, server}
        connection = _Connection(self, client, server)
        threading.Thread(target=connection.requests, daemon=True).start()
        connection.replies()
        with self._guard:
            self._sockets -= {client, server}

    def next_loss(self, sent: bytes) -> Loss | None:
        """Return what happens to the COMMIT that comes by now, after all that was ``sent``."""
        with self._guard:
            if not self._losses or self._after not in sent:
                return None
            self.lost += 1
            loss = self._losses.pop(0)
            if self._dark_then and not self._losses:
                self._dark.set()
            return loss

    def wait_for_light(self) -> None:
        """Return when bytes are forwarded."""
        while self._dark.is_set():
            threading.Event().wait(0.01)


class _Connection:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy: DatabaseProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._loss: Loss | None = None
        self._sent = b""
        self._writing: set[bytes] = set()
        self._in_transaction = False

    def requests(self) -> None:
        """Forward what the client sends."""
        with suppress(OSError):
            while data := self._client.recv(_CHUNK):
                self._proxy.wait_for_light()
                self._sent += data
                if self._commits(data):
                    self._loss = self._proxy.next_loss(self._sent)
                    self._sent = b""
                if self._loss is Loss.REQUEST_CUT:
                    break
                if self._loss is Loss.REQUEST_LATE:
                    self._proxy.wait_for_delivery()
                    self._server.sendall(data)
                    return  # The connection ends with the server's reply.
                self._server.sendall(data)
        self._end()

    def _commits(self, data: bytes) -> bool:
        if _COMMIT in data:
            return True
        parsed = _PARSED.findall(data)
        self._writing.update(filter(None, parsed))
        writes = bool(parsed) or any(name in self._writing for name in _BOUND.findall(data))
        return writes and not self._in_transaction

    def replies(self) -> None:
        """Forward what the server answers."""
        with suppress(OSError):
            while data := self._server.recv(_CHUNK):
                self._proxy.wait_for_light()
                states = _READY.findall(data)
                self._proxy.round_trips += len(states)
                if states:
                    self._in_transaction = states[-1] != b"I"
                if self._loss is Loss.REQUEST_LATE:
                    self._proxy.delivered += 1
                    break
                if self._loss is Loss.REPLY_CUT:
                    break
                if self._loss is None:
                    self._client.sendall(data)
        if self._loss is not Loss.REPLY_SILENT:
            self._end()

    def _end(self) -> None:
        _break(self._client)
        _break(self._server)


def _break(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def database_proxy(url: str) -> Iterator[DatabaseProxy]:
    """Yield a proxy in front of a database, and break what is left of it at the end."""
    proxy = DatabaseProxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
