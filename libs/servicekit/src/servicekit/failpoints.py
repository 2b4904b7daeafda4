"""Failpoints: named places where a test makes the service fail on purpose.

A service lists its names in one module. They are armed by a setting or by a test, in the form
``name=action[:argument][*count]`` separated by semicolons, for example
``invoice.after_t2=drop*1;invoice.before_t2=delay:0.5``. Actions:

- ``kill``: SIGKILL to the own process;
- ``error``: raise ``FailpointError``;
- ``delay:<seconds>``: sleep, while the rest of the process goes on;
- ``stall:<seconds>``: sleep with the whole event loop, as a paused process or machine does: leases
  are not renewed meanwhile;
- ``drop``: close the client's connection without a reply (raises ``ConnectionDropped``).

With none armed a hit is one look into an empty dictionary.
"""

import asyncio
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ENTRY = re.compile(
    r"(?P<name>[a-z0-9_.]+)=(?P<action>kill|error|drop|(delay|stall):(?P<seconds>\d+(\.\d+)?))"
    r"(\*(?P<count>\d+))?"
)
_log = structlog.stdlib.get_logger(__name__)


class FailpointError(Exception):
    """What the action ``error`` raises."""


class ConnectionDropped(Exception):
    """What the action ``drop`` raises, once the connection is closed."""


class _Closable(Protocol):
    def close(self) -> None: ...


@dataclass
class _Connection:
    """The connection of the request that the current task works for."""

    transport: _Closable | None
    dropped: bool = False

    def drop(self) -> None:
        self.dropped = True
        if self.transport is not None:
            self.transport.close()


_connection: ContextVar[_Connection | None] = ContextVar("servicekit_connection", default=None)


@dataclass
class _Armed:
    action: str
    seconds: float
    left: int | None


class Failpoints:
    """The failpoints of one service.

    Args:
        names: every name that exists.
        armed: which are armed from the start, in the form of this module's docstring.

    Raises:
        ValueError: the form is wrong or a name does not exist.
    """

    def __init__(self, names: Iterable[str], *, armed: str = "") -> None:
        self.names = frozenset(names)
        self.hits: Counter[str] = Counter()
        """How often each armed failpoint acted."""
        self._armed: dict[str, _Armed] = {}
        self.arm(armed)

    @property
    def active(self) -> bool:
        """Whether any is armed."""
        return bool(self._armed)

    def arm(self, text: str) -> None:
        """Arm further failpoints.

        Raises:
            ValueError: the form is wrong or a name does not exist.
        """
        for entry in filter(None, (part.strip() for part in text.split(";"))):
            match = _ENTRY.fullmatch(entry)
            if match is None:
                raise ValueError(f"not a failpoint: {entry!r} (name=action[:argument][*count])")
            if match["name"] not in self.names:
                raise ValueError(f"no such failpoint: {match['name']!r}")
            self._armed[match["name"]] = _Armed(
                action=match["action"].partition(":")[0],
                seconds=float(match["seconds"] or 0),
                left=int(match["count"]) if match["count"] else None,
            )

    def disarm(self) -> None:
        """Disarm them all."""
        self._armed.clear()

    async def hit(self, name: str) -> None:
        """Do what the failpoint is armed with, if it is.

        Raises:
            FailpointError: armed with ``error``.
            ConnectionDropped: armed with ``drop``.
        """
        if name not in self._armed:
            return
        await self._act(name, self._armed[name])

    async def _act(self, name: str, armed: _Armed) -> None:
        if armed.left is not None:
            armed.left -= 1
            if armed.left <= 0:
                del self._armed[name]
        self.hits[name] += 1
        _log.warning("failpoint_hit", failpoint=name, action=armed.action)
        if armed.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif armed.action == "delay":
            await asyncio.sleep(armed.seconds)
        elif armed.action == "stall":
            time.sleep(armed.seconds)  # noqa: ASYNC251 - blocking is what it is for
        elif armed.action == "drop":
            if (connection := _connection.get()) is not None:
                connection.drop()
            raise ConnectionDropped(name)
        else:
            raise FailpointError(name)


class DroppableConnectionMiddleware:
    """Lets the action ``drop`` close the connection; stands outside of the whole application.

    Under uvicorn ``send`` is a method of the object that holds the transport. Without one (an
    in-process test client) the client sees the exception instead.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        transport = getattr(getattr(send, "__self__", None), "transport", None)
        connection = _Connection(transport)
        token = _connection.set(connection)

        async def muted_send(message: Message) -> None:
            if not connection.dropped:
                await send(message)

        try:
            await self.app(scope, receive, muted_send)
        except Exception:
            if not connection.dropped:
                raise
        finally:
            _connection.reset(token)
        if connection.dropped and transport is None:
            raise ConnectionDropped("no reply")
