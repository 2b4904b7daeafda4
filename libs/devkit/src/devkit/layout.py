"""Where the parts of one running shop are: ports of the services, URLs of their servers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from devkit.errors import DevkitError, PortInUse, Unreachable
from devkit.ports import HOST, free_port, is_free

PORTS: Final = range(1, 65536)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The ports the services take, and the servers to use instead of starting some."""

    ports: Mapping[str, int]
    order_database_url: str | None = None
    invoice_database_url: str | None = None
    redis_url: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The layout of `make up`: fixed ports, each of which a variable can change."""
        defaults = {
            "ORDER_PORT": 3000,
            "INVOICE_PORT": 3001,
            "ORDER_METRICS_PORT": 9100,
            "INVOICE_METRICS_PORT": 9101,
        }
        return cls(
            ports={name: _port(environment, name, port) for name, port in defaults.items()},
            order_database_url=_postgres(environment.get("ORDER_DATABASE_URL")),
            invoice_database_url=_postgres(environment.get("INVOICE_DATABASE_URL")),
            redis_url=environment.get("REDIS_URL") or None,
        )

    @classmethod
    def on_free_ports(cls) -> Self:
        """A layout that disturbs nothing: servers of its own, ports nobody uses."""
        names = ("ORDER_PORT", "INVOICE_PORT", "ORDER_METRICS_PORT", "INVOICE_METRICS_PORT")
        ports: set[int] = set()
        while len(ports) < len(names):
            ports.add(free_port())
        return cls(ports=dict(zip(names, ports, strict=True)))

    @property
    def order_url(self) -> str:
        """The order service's base URL."""
        return f"http://{HOST}:{self.ports['ORDER_PORT']}"

    @property
    def invoice_url(self) -> str:
        """The invoice service's base URL."""
        return f"http://{HOST}:{self.ports['INVOICE_PORT']}"

    def check(self, *, timeout_seconds: int = 5) -> None:
        """See that the services could be started.

        Raises:
            PortInUse: One of the ports is taken.
            Unreachable: A server whose URL is given does not answer.
        """
        for name, port in self.ports.items():
            if not is_free(port):
                raise PortInUse(
                    f"Port {port} on {HOST} is in use. Stop what listens there, or choose another: "
                    f"make up {name}={port + 100}"
                )
        _check_postgres("ORDER_DATABASE_URL", self.order_database_url, timeout_seconds)
        _check_postgres("INVOICE_DATABASE_URL", self.invoice_database_url, timeout_seconds)
        _check_redis("REDIS_URL", self.redis_url, timeout_seconds)


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or int(text) not in PORTS:
        raise DevkitError(f"{name} must be a port number from 1 to 65535, not {text!r}.")
    return int(text)


def _postgres(url: str | None) -> str | None:
    """A URL as libpq takes it: without the driver that SQLAlchemy's may name."""
    return re.sub(r"^postgres(ql)?(\+\w+)?:", "postgresql:", url) if url else None


def _check_postgres(name: str, url: str | None, timeout_seconds: int) -> None:
    if url is None:
        return
    try:
        psycopg.connect(url, connect_timeout=timeout_seconds).close()
    except psycopg.Error as failure:
        reason = str(failure).strip().splitlines()[0]
        raise Unreachable(f"{name} is set, but no database answers there: {reason}") from None


def _check_redis(name: str, url: str | None, timeout_seconds: int) -> None:
    if url is None:
        return
    try:
        with redis.Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            client.ping()
    except (redis.RedisError, ValueError) as failure:
        raise Unreachable(f"{name} is set, but no Redis answers there: {failure}") from None
